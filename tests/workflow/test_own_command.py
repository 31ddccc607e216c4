"""`proj run . -- COMMAND`: any command is recorded, and its words arrive as they were given."""

import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import ProjError
from runner.manifest import FolderFiles, entry_point_of, require_own_files
from runner.manifest.template import fill_template
from tests.conftest import MakeRepository, RunProj, write_tree

LOCAL = ("--env-manager", "local")
PRINT = "import json, sys; print(json.dumps(sys.argv[1:]))\n"
ODD = ["--any", "thing", "a b", "{x}", "${HOME}", "$HOME", "it's", '"', "", "--", "-P", "*", "\\", "é\n"]


@pytest.mark.parametrize("where", [["."], []])
def test_words_arrive_unchanged(proj: RunProj, make_repository: MakeRepository, where: list[str]) -> None:
    root = make_repository({"MLproject": "name: t\n", "x.py": PRINT})
    result = proj("run", *where, *LOCAL, "--json", "--", "python", "x.py", *ODD, cwd=root)
    assert result.code == 0, result.err
    assert json.loads(next(line for line in result.err.splitlines() if line.startswith("["))) == ODD
    assert (result.json["entry_point"], result.json["status"]) == ("python x.py", "FINISHED")
    assert result.json["code"]["commit"]


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))), min_size=1))
def test_every_word_survives_the_template_and_the_shell(words: list[str]) -> None:
    try:
        entry = entry_point_of(words, FolderFiles(Path("/nonexistent")))
    except ProjError:
        assert not words[0]
        return
    filled = fill_template(entry.command, {})
    assert (shlex.split(filled.text), filled.faults) == (words, ())


def test_a_folder_without_manifest_needs_a_file_in_the_command(proj: RunProj, tmp_path: Path) -> None:
    write_tree(tmp_path / "p", {"x.py": PRINT, "pkg/__main__.py": PRINT})
    for command in (["python", "x.py"], ["python", "-m", "pkg"]):
        assert proj("run", ".", *LOCAL, "--", *command, cwd=tmp_path / "p").code == 0
    result = proj("run", ".", *LOCAL, "--", "python", "-c", "1", cwd=tmp_path / "p")
    assert (result.code, "names no file" in result.err) == (1, True)


@pytest.mark.parametrize("words", [["ls", "-l"], ["python", "-c", "import os"], [""], ["a\0b"]])
def test_a_command_that_names_nothing_of_the_folder(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(ProjError, match="names no file"):
        require_own_files(words, tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-e", "main", "--", "python", "x.py"], "not both"),
        (["--"], "After -- comes the command"),
        (["--", "python", "x.py", "&&", "ls"], "'&&' after --"),
        (["--", ""], "empty"),
    ],
)
def test_wrong_use_is_said(proj: RunProj, make_repository: MakeRepository, words: list[str], message: str) -> None:
    root = make_repository({"MLproject": "name: t\nentry_points:\n  main: {command: ls}\n", "x.py": PRINT})
    result = proj("run", ".", *LOCAL, *words, cwd=root)
    assert (result.code, message in result.err) == (2, True), result.err


def test_a_secret_of_the_command_line_is_masked(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": "name: t\n", "x.py": "pass\n"})
    result = proj("run", ".", *LOCAL, "--json", "--", "python", "x.py", "--password", "qwertz-17", cwd=root)
    assert result.code == 0
    assert "qwertz" not in result.out + result.err
