"""Flags on the command line, and one spelling of equal numbers in records."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import ParameterError
from runner.manifest import PathRules, bind_parameters, render_command, spell_numbers
from runner.model import EntryPoint, Parameter, ParameterSpec

NOWHERE = PathRules(caller=Path("/nowhere"), mapped=Path("/run"), storage=Path("/storage"))


def spelled(kind: str, value: str) -> str:
    return spell_numbers((Parameter(name="a", value=value, type=kind),))[0].value


def command(given: dict[str, str], default: str | None = None) -> str:
    spec = ParameterSpec(name="dry-run", type="flag", default=default)
    entry = EntryPoint(name="main", command="echo {dry-run} end", parameters=(spec,))
    return render_command(entry, bind_parameters(entry, given, {}), NOWHERE)


@pytest.mark.parametrize(
    ("kind", "texts", "expected"),
    [
        ("float", ["1", "1.0", "1e0", "+1", "01.00", "1_0e-1"], "1.0"),
        ("number", ["0.00001", "1e-5", "1E-05"], "1e-05"),
        ("float", ["-0.0", "-0"], "-0.0"),
        ("int", ["1000", "1_000", "+1000", "01000"], "1000"),
        ("FLOAT", ["3"], "3.0"),
    ],
)
def test_equal_numbers_have_one_spelling(kind: str, texts: list[str], expected: str) -> None:
    assert {spelled(kind, text) for text in texts} == {expected}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("string", "1.0"),
        ("float", "None"),
        ("float", ""),
        ("int", "1.0"),
        ("float", "1e999"),
        ("bool", "1"),
        ("path", "007"),
    ],
)
def test_other_values_stay(kind: str, text: str) -> None:
    assert spelled(kind, text) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_spelling_is_the_same_number(number: float) -> None:
    for text in (repr(number), f"{number:.20e}"):
        assert spelled("float", text) == repr(number)
        assert math.copysign(1, float(spelled("float", text))) == math.copysign(1, number)


@given(st.text(), st.sampled_from(["float", "int", "number", "integer", "bool", "string"]))
def test_any_text_has_a_spelling_that_does_not_change_again(text: str, kind: str) -> None:
    assert spelled(kind, spelled(kind, text)) == spelled(kind, text)


@pytest.mark.parametrize("value", ["true", "True", "yes", "1", "on"])
def test_a_true_flag_is_its_name(value: str) -> None:
    assert command({"dry-run": value}) == "echo --dry-run end"


@pytest.mark.parametrize("value", ["false", "No", "0", "off"])
def test_a_false_flag_is_nothing(value: str) -> None:
    assert command({"dry-run": value}, default="true") == "echo  end"


def test_defaults_of_flags() -> None:
    assert (command({}), command({}, "true"), command({}, "false")) == ("echo  end", "echo --dry-run end", "echo  end")


def test_a_flag_takes_a_truth_value() -> None:
    with pytest.raises(ParameterError, match="true or false"):
        command({"dry-run": "maybe"})
