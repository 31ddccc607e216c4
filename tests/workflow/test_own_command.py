"""`proj run . -- COMMAND`: any command is recorded, and its words arrive as they were given."""

import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.base.masking import STARS, Masker
from runner.errors import ProjError
from runner.manifest import FolderFiles, entry_point_of, recorded_arguments, require_own_files
from runner.manifest.template import fill_template
from tests.conftest import MakeRepository, Result, RunProj, write_tree

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


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))), min_size=1))
def test_the_words_of_a_record_are_those_that_were_given(words: list[str]) -> None:
    if not words[0]:
        return
    entry = entry_point_of(words, FolderFiles(Path("/nonexistent")))
    masked = Masker().command(entry.command)
    if masked == entry.command and STARS not in masked:
        assert recorded_arguments(entry.name, masked) == tuple(words)
    else:
        found = recorded_arguments(entry.name, masked)
        assert found is None or any(STARS in word for word in found)


@pytest.mark.parametrize(
    ("entry_point", "template"),
    [
        ("main", "python x.py"),
        ("x.py", "python x.py"),
        ("python x.py", "python 'python x.py'"),  # the script has this name
        ("python x.py", "python x.py {alpha}"),
        ("python x.py", "python x.py > log"),
        ("python x.py", "python 'x.py"),
        ("python x.py", None),
        (None, "python x.py"),
        ("", ""),
    ],
)
def test_commands_of_entry_points_have_no_words(entry_point: str | None, template: str | None) -> None:
    assert recorded_arguments(entry_point, template) is None


AGAIN = """\
import json, os, sys
with open(os.environ["PROJ_METRICS"], "a") as file:
    file.write(f"words={len(sys.argv)}\\n")
print(json.dumps(sys.argv[1:]), flush=True)
sys.exit(3 if os.environ.get("FAILING") and not os.environ.get("PROJ_RESUMED_FROM") else 0)
"""


def printed(result: Result) -> list[str]:
    return list(json.loads(next(line for line in result.err.splitlines() if line.startswith("["))))


@pytest.mark.slow
@pytest.mark.parametrize("manifest", [{"MLproject": "entry_points: {main: {command: 'false'}}\n"}, {}])
def test_a_command_is_run_again_resumed_and_reproduced(
    proj: RunProj, make_repository: MakeRepository, manifest: dict[str, str]
) -> None:
    root = make_repository({**manifest, "x.py": AGAIN})
    words = [*ODD, "x.py"]
    given = ("-P", "depth=a b")
    first = proj("run", *LOCAL, *given, "--json", "--", "python", "x.py", *words, cwd=root, FAILING="1")
    assert first.json["status"] == "FAILED"
    (root / "x.py").write_text("this is no Python")
    run_id = first.json["run_id"]
    resumed = proj("run", "--resume", run_id, "--json", cwd=root, FAILING="1")
    assert (resumed.json["status"], printed(resumed)) == ("FINISHED", [*words, "--depth", "a b"]), resumed.err
    again = proj("rerun", resumed.json["run_id"], "-P", "depth=7", "--json")
    assert (again.json["entry_point"], printed(again)) == ("python x.py", [*words, "--depth", "7"])
    assert again.json["code"] == first.json["code"]
    other = proj("rerun", again.json["run_id"], "--json", "--", "python", "x.py", "one")
    assert printed(other) == ["one", "--depth", "7"]
    assert printed(proj("rerun", other.json["run_id"], "--json")) == ["one", "--depth", "7"]
    proved = proj("reproduce", again.json["run_id"], "--json")
    assert proved.json["verdict"] == "identical", proved.err


@pytest.mark.slow
def test_a_secret_of_a_command_is_given_again(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"x.py": AGAIN, "MLproject": "entry_points: {main: {command: python x.py}}\n"})
    command = ["python", "x.py", "--password", "qwertz-17", "it's"]
    first = proj("run", *LOCAL, "--json", "--", *command, cwd=root, FAILING="1").json["run_id"]
    for words in (("rerun", first), ("run", "--resume", first), ("reproduce", first)):
        refused = proj(*words, cwd=root)
        assert refused.code == 2
        assert "has a secret, which is not recorded" in refused.err
        assert "qwertz" not in refused.err
    assert proj("rerun", first, "--json", "--", *command, cwd=root).json["status"] == "FINISHED"
    other = proj("run", "--resume", first, "--", *command[:-1], "its", cwd=root)
    assert (other.code, "--resume takes the command of the run" in other.err) == (2, True)
    resumed = proj("run", "--resume", first, "--json", "--", *command, cwd=root)
    assert resumed.json["status"] == "FINISHED", resumed.err
    assert "qwertz" not in json.dumps(resumed.json)
    main = proj("run", *LOCAL, "--json", cwd=root).json["run_id"]
    refused = proj("rerun", main, "--", *command, cwd=root)
    assert (refused.code, "had the entry point 'main'" in refused.err) == (2, True)


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
