"""Limits of the one module that parses what somebody else wrote."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.base.foreign_text import (
    LARGE,
    SMALL,
    ForeignTextError,
    Limits,
    decode_text,
    parse_json,
    parse_json_as,
    parse_python,
    parse_toml,
    parse_yaml,
    read_limited,
)
from runner.base.yaml_document import Node, read_document, text_of


def bomb(first: str, rest: str, levels: int = 12) -> str:
    """Return YAML whose aliases double ten times or more with each level."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{n}: &a{n} " + rest.format(", ".join([f"*a{n - 1}"] * 9)) for n in range(1, levels)]
    return "\n".join(lines)


DEEP = [
    "[" * 50_000,
    "{a: " * 50_000,
    "- " * 50_000,
    "? " * 50_000,
    "[{a: " * 20_000,
    "\n".join(" " * level + "a:" for level in range(1_000)),
    "[" * 50_000 + "]" * 50_000,
    "a: " + "[" * 101 + "]" * 101,
    "&a [" * 20_000,
    "!!seq [" * 20_000,
]


@pytest.mark.parametrize("text", DEEP, ids=lambda text: text[:12])
@pytest.mark.parametrize("read", [parse_yaml, read_document, lambda text: read_document(text, like_mlflow=True)])
def test_deep_yaml_is_refused_with_its_position(text: str, read: Callable[[str], object]) -> None:
    with pytest.raises(ForeignTextError, match="nested too deeply") as caught:
        read(text)
    assert caught.value.line
    assert caught.value.column


@pytest.mark.parametrize(
    "text",
    [
        bomb("[x]", "[{}]"),
        bomb("{k: v}", "{{<<: [{}]}}"),
        bomb("'text that is not short'", "{{a: [{}]}}"),
        "x: &x [" + "1, " * 1000 + "]\ny: [" + "*x, " * 10_000 + "]",
    ],
    ids=["lists", "merges", "texts", "wide"],
)
@pytest.mark.parametrize("read", [parse_yaml, read_document])
def test_aliases_may_not_expand_without_end(text: str, read: Callable[[str], object]) -> None:
    with pytest.raises(ForeignTextError, match="too large when its aliases"):
        read(text)


def test_aliases_as_people_use_them_are_read() -> None:
    text = "base: &base {a: 1, b: 2}\none:\n  <<: *base\n  b: 3\nagain: *base\n"
    assert parse_yaml(text) == {"base": {"a": 1, "b": 2}, "one": {"a": 1, "b": 3}, "again": {"a": 1, "b": 2}}


@pytest.mark.parametrize("text", ["&a [*a]", "a: &x {b: *x}", "&a {? *a : 1}"])
def test_a_value_in_itself_is_refused_where_plain_data_is_wanted(text: str) -> None:
    with pytest.raises(ForeignTextError):
        parse_yaml(text)
    with pytest.raises(ForeignTextError):
        read_document(text, cycles=False)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system [ls]",
        "!!int abc",
        "!!int ''",
        "!!float [1]",
        "!!timestamp nonsense",
        "2020-99-99",
        "!!binary 'é'",
        "!!omap 5",
        "!!set [1]",
        "{[a]: b}",
        "{{a: b}: c}",
        "1" * 5000,
        "0x" + "f" * 500_000,
        "59:" * 100_000 + "59",
        "!!int '" + "59:" * 100_000 + "59'",
        "<<: 5",
        "\0",
        "'\\ud800",
        '"\\UFFFFFFFF"',
        "%YAML 9.9\n---\na",
        "---\na\n---\nb",
        "a: *b",
    ],
)
def test_yaml_that_makes_no_sense_is_one_error(text: str) -> None:
    with pytest.raises(ForeignTextError):
        parse_yaml(text)


def test_what_is_larger_than_agreed_is_refused(tmp_path: Path) -> None:
    small = Limits(size=100, nodes=10)
    for parse in (parse_yaml, parse_json, parse_toml):
        with pytest.raises(ForeignTextError, match="too large"):
            parse("1" * 101, small)
    for parse in (parse_yaml, parse_json):
        with pytest.raises(ForeignTextError, match="more than 10 values"):
            parse("[" + "1," * 20 + "1]", small)
    (tmp_path / "file").write_bytes(b"x" * 101)
    with pytest.raises(ForeignTextError, match="too large"):
        read_limited(tmp_path / "file", small)
    with pytest.raises(ForeignTextError, match="too large"):
        read_limited(Path("/dev/zero"), small)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * 101 + "]" * 101, "[" * 990 + "]" * 990])
def test_deep_json_is_refused(text: str) -> None:
    with pytest.raises(ForeignTextError, match=r"nested too deeply|not valid JSON"):
        parse_json(text)
    with pytest.raises(ForeignTextError):
        parse_json_as(text, dict[str, str])


def test_json_has_pythons_numbers() -> None:
    assert parse_json('{"a": 1e400, "b": -Infinity}') == {"a": float("inf"), "b": float("-inf")}
    with pytest.raises(ForeignTextError):
        parse_json("1" * 5000)


@pytest.mark.parametrize(
    "text",
    [
        "a" + ".a" * 20_000 + " = 1",
        "[a" + ".a" * 20_000 + "]",
        "x = {a" + ".a" * 20_000 + " = 1}",
        "\n".join(f"a{n}" + ".a" * 1000 + " = 1" for n in range(100)),
        "a = " + "[" * 50_000,
        "a = " + "{a = " * 50_000,
        "a = " + "[" * 101 + "]" * 101,
    ],
    ids=["key", "table", "inline", "many", "lists", "tables", "closed"],
)
def test_toml_that_takes_long_is_refused(text: str) -> None:
    with pytest.raises(ForeignTextError, match=r"too many parts|nested too deeply"):
        parse_toml(text)


def test_toml_of_tools_is_read() -> None:
    lines = [
        f'[[package]]\nname = "p{n}"\nwheels = [{{url = "https://h.example/a.b.c.whl", size = 1}}]' for n in range(500)
    ]
    assert len(parse_toml("\n".join(lines))["package"]) == 500


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000,
        "x = " + "-" * 100_000 + "1",
        "x = " + "+".join(["a"] * 100_000),
        "x = a" + ".a" * 100_000,
        "x" * 1_000_001,
        "\0",
        "def f(:",
        "\n".join(" " * level + "if x:" for level in range(500)),
    ],
    ids=["parens", "minus", "sum", "attributes", "large", "nul", "syntax", "blocks"],
)
def test_python_that_cannot_be_parsed_is_one_error(text: str) -> None:
    with pytest.raises(ForeignTextError):
        parse_python(text)


@pytest.mark.filterwarnings("error")
def test_odd_escapes_in_a_script_warn_nobody() -> None:
    assert parse_python('x = "\\d"\nassert (x, 1)\n').body


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_text_of_any_machine_is_decoded(encoding: str) -> None:
    assert decode_text("name: é and more words\n".encode(encoding)) == "name: é and more words\n"
    assert decode_text("é".encode("latin-1")) == "é"
    assert decode_text(b"\0") == "\0"
    assert decode_text(b"a\0bcdefgh") == "a\0bcdefgh"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(VALUES)
def test_ordinary_yaml_is_what_pyyaml_reads(value: object) -> None:
    for text in (yaml.safe_dump(value), yaml.safe_dump(value, default_flow_style=True, allow_unicode=True)):
        assert parse_yaml(text) == yaml.safe_load(text)
        read_document(text)


@pytest.mark.parametrize("read", [parse_yaml, read_document])
@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet="[]{}?:,-&*!a1<|>'\"\\#%@ \n\t\u2028é", max_size=60))
def test_any_yaml_is_a_value_or_an_error(read: Callable[[str], object], text: str) -> None:
    try:
        value = read(text)
    except ForeignTextError as error:
        error.location.encode()
    else:
        assert not isinstance(value, Node) or isinstance(text_of(value), str)


def test_limits_are_larger_for_what_programs_write() -> None:
    text = "\n".join(f"- {{name: p{n}, version: '1.{n}'}}" for n in range(60_000))
    assert len(parse_yaml(text, LARGE)) == 60_000
    with pytest.raises(ForeignTextError):
        parse_yaml(text, SMALL)
