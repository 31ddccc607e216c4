"""Variables of the caller and of files: what the manifest may say, what a file may hold, what is secret."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import ManifestError, ProjError
from runner.manifest import FolderFiles, read_variables
from runner.manifest.parser import read_manifest
from runner.manifest.variables import PassedVariables, parse_variables
from runner.model import EntryPoint, Severity
from tests.conftest import write_tree

NAME = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True)
VALUE = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="'\\$"), max_size=20)


def entry_of(root: Path, lines: str) -> EntryPoint:
    write_tree(root, {"MLproject": f"entry_points:\n  main:\n    command: python a.py\n    {lines}\n"})
    return read_manifest(FolderFiles(root)).entry_points["main"]


def read(root: Path, lines: str, **environ: str) -> PassedVariables:
    return read_variables(entry_of(root, lines), environ, FolderFiles(root), root, lambda _: None)


@pytest.mark.parametrize(
    ("text", "given", "passed"),
    [
        ("{A: 1, B: }", {"A": "1", "B": ""}, ()),
        ("[A]", {}, ("A",)),
        ("[A, B=x=y, {C: 2}]", {"B": "x=y", "C": "2"}, ("A",)),
        ("[A, {A: 1}]", {"A": "1"}, ()),
        ("[]", {}, ()),
    ],
)
def test_env_is_a_mapping_or_a_list(tmp_path: Path, text: str, given: dict[str, str], passed: tuple[str, ...]) -> None:
    entry = entry_of(tmp_path, f"env: {text}")
    assert (entry.env, entry.passed, entry.faults) == (given, passed, ())


@pytest.mark.parametrize("text", ["HF_TOKEN", "5", "[[A]]", "[5]", "{A: [1]}", "[{A: {B: 1}}]"])
def test_env_of_another_type_is_warned_of(tmp_path: Path, text: str) -> None:
    entry = entry_of(tmp_path, f"env: {text}")
    assert (entry.env, entry.passed) == ({}, ())
    assert len(entry.faults) == 1


@pytest.mark.parametrize("text", ['["A B ", ""]', '["=x"]', '{"A=B": 1}', '["A\\0"]'])
def test_names_that_no_environment_can_hold_are_errors(tmp_path: Path, text: str) -> None:
    assert entry_of(tmp_path, f"env: {text}").faults[0].severity is Severity.ERROR


def test_the_caller_overrides_files_and_later_files_override_earlier_ones(tmp_path: Path) -> None:
    write_tree(
        tmp_path, {".env": "A=file\nB=file\nexport C='of $A' # why\n", "more.env": "B=more\nD=${B}-${A}-${HOME}\n"}
    )
    found = read(tmp_path, "env_file: [.env, more.env]\n    env: [A]", A="caller", HOME="h")
    assert found.values == {"A": "caller", "B": "more", "C": "of $A", "D": "more-caller-h"}


def test_a_variable_that_is_not_set_is_named_and_not_made_empty(tmp_path: Path) -> None:
    found = read(tmp_path, "env: [HF_TOKEN, EMPTY]", EMPTY="")
    assert found.values == {"EMPTY": ""}
    assert found.notices == ("the variable HF_TOKEN, which 'main' passes on, is not set",)


@pytest.mark.parametrize(
    ("files", "hint"),
    [
        ({".env.example": "A=\n"}, "copy '.env.example' to '.env'"),
        ({"env": "A=1\n"}, "env"),
        ({}, "NAME=VALUE"),
    ],
)
def test_an_absent_file_is_an_error_with_a_way_out(tmp_path: Path, files: dict[str, str], hint: str) -> None:
    write_tree(tmp_path, dict(files))
    with pytest.raises(ManifestError) as caught:
        read(tmp_path, "env_file: .env")
    assert "'.env' does not exist" in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("path", ["../.env", "/secrets/.env"])
def test_a_file_outside_the_project_is_not_read(tmp_path: Path, path: str) -> None:
    write_tree(tmp_path, {".env": "A=1\n"})
    folder = tmp_path / "project"
    folder.mkdir()
    assert entry_of(folder, f"env_file: {path}").env_files == ()


@pytest.mark.parametrize("line", ["A='open", 'A="open', "= qwertz", "A B=qwertz", "A='qw' ertz"])
def test_an_invalid_line_is_named_without_its_content(line: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_variables(f"# comment\nGOOD=1\n{line}\n", ".env", {})
    assert caught.value.context == ".env:3"
    assert "qwertz" not in f"{caught.value.message}{caught.value.context}{caught.value.hint}"


@given(st.dictionaries(NAME, VALUE))
def test_quoted_values_come_back_as_they_were_written(values: dict[str, str]) -> None:
    text = "".join(f"{name}='{value}'\n" for name, value in values.items())
    assert parse_variables(text, ".env", {}) == values


@given(st.text())
def test_no_text_is_a_traceback(text: str) -> None:
    try:
        found = parse_variables(text, ".env", {"A": "1"})
    except ProjError:
        return
    assert all("\0" not in name + value and "=" not in name for name, value in found.items())


def test_what_is_secret(tmp_path: Path) -> None:
    values = {"URL": "qwertz/1", "HF_TOKEN": "12345", "WORKERS": "12345", "DEBUG": "true", "DATA": str(tmp_path)}
    assert PassedVariables(values).secrets == ("qwertz/1", "12345")
