"""Parameters with `default: null`: what of a command can be left out, and what can't."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.manifest.null_defaults import omit_null_defaults
from runner.model import EntryPoint, ParameterSpec


def left(command: str, *names: str, given: tuple[str, ...] = ()) -> tuple[str, list[str]]:
    """Return the command without the parameters that can be left out, and the names of those that stay."""
    parameters = tuple(ParameterSpec(name=name, is_null=True) for name in names)
    omission = omit_null_defaults(EntryPoint(name="main", command=command, parameters=parameters), given)
    assert len(omission.repairs) == len(names) - len(omission.entry_point.parameters)
    return omission.entry_point.command, [one.name for one in omission.entry_point.parameters]


@pytest.mark.parametrize(
    ("command", "after"),
    [
        ("python t.py --a {a} --b 1", "python t.py --b 1"),
        ("python t.py --b 1 --a {a}", "python t.py --b 1 "),
        ("python t.py --a={a} --b 1", "python t.py --b 1"),
        ("python t.py -a{a} --b 1", "python t.py --b 1"),
        ("python t.py --a '{a}' --b 1", "python t.py --b 1"),
        ('python t.py --a "{a}" --b 1', "python t.py --b 1"),
        ('python t.py --a="{a}" --b 1', "python t.py --b 1"),
        ("python t.py --long-name {a}; echo x", "python t.py ; echo x"),
        ("python t.py model.a={a} +b={a} c=1", "python t.py c=1"),
        ("python t.py --b 1 \\\n  --a {a} \\\n  --c 2", "python t.py --b 1 \\\n \\\n  --c 2"),
        ("python t.py x {a}", "python t.py x "),
        ("python t.py x {a} > log.txt", "python t.py x > log.txt"),
        ("python t.py --a {a} && python u.py --a {a}", "python t.py && python u.py "),
        ("python t.py --a ${a}", "python t.py "),
        ("python t.py", "python t.py"),
        ("python t.py {{a}}", "python t.py {{a}}"),
    ],
)
def test_it_is_left_out_with_its_flag(command: str, after: str) -> None:
    assert left(command, "a") == (after, [])


@pytest.mark.parametrize(
    "command",
    [
        "python t.py {a} x",
        "python t.py --dir out/{a}",
        "python t.py --dir {a}.csv",
        "python t.py --list 1,{a}",
        "python {a}",
        "{a} t.py",
        "python t.py > {a}",
        "python -m {a} -x",
        "python t.py --a {a:>5}",
        "python t.py --a {a} --b x{a}",
        "python t.py $(cat {a}/x)",
    ],
)
def test_it_stays_where_its_words_can_not_be_told(command: str) -> None:
    assert left(command, "a") == (command, ["a"])


def test_words_at_the_end_are_left_out_from_the_last_one_on() -> None:
    assert left("python t.py {a} {b}", "a", "b") == ("python t.py ", [])
    assert left("python t.py {a} {b}", "b") == ("python t.py {a} ", [])
    assert left("python t.py {a} {b}", "a") == ("python t.py {a} {b}", ["a"])


def test_what_has_a_value_or_is_not_null_stays() -> None:
    assert left("python t.py --a {a}", "a", given=("a",)) == ("python t.py --a {a}", ["a"])
    point = EntryPoint(name="main", command="t --a {a}", parameters=(ParameterSpec(name="a"),))
    assert omit_null_defaults(point, ()).entry_point == point


WORDS = st.sampled_from(
    ["python t.py", "--a {a}", "--b {b}", "{a}", "{b}", "--a={a}", "x", "\\\n", "&&", "> {b}", "'{a}'", "${a}", "{{a}}"]
)


@given(st.lists(WORDS, max_size=8))
def test_no_placeholder_is_left_behind(words: list[str]) -> None:
    command, stay = left(" ".join(words), "a", "b")
    plain = command.replace("{{a}}", "")
    for name in ("a", "b"):
        assert (f"{{{name}}}" in plain) <= (name in stay)
    if stay == ["a", "b"]:
        assert command == " ".join(words)
