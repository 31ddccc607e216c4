"""The commands that change tags, note and name of a run, and the options of ``proj run`` for them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.base.tags import NOTE_TAG, RUN_NAME_TAG
from runner.cli.main import run_command
from runner.cli.options import read_tags
from runner.errors import ProjError
from runner.store import runs, values
from runner.store.database import Database
from runner.store.entities import NewRun
from runner.store.rules import check_name
from runner.sync import sync_state
from tests.conftest import RunProj, write_tree

PROJECT = {"MLproject": "name: x\nentry_points:\n  main:\n    command: echo hi\n"}


@pytest.fixture
def run_id(db: Database) -> str:
    return runs.create(db, NewRun(experiment_id="0", name="first", tags={"team": "blue", "proj.tree": "1" * 40})).run_id


def tags(db: Database, run_id: str) -> dict[str, str]:
    return dict(runs.get(db, run_id).tags)


def test_tags_are_set_changed_and_removed(db: Database, run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["tag", "first", "best", "team=red", "note=a=b", "empty="]) == 0
    assert {"best": "true", "team": "red", "note": "a=b", "empty": ""}.items() <= tags(db, run_id).items()
    assert run_command(["tag", "@best", "--remove", "team", "--remove", "empty", "stage=review"]) == 0
    assert {"team", "empty"}.isdisjoint(tags(db, run_id))
    capsys.readouterr()
    assert run_command(["tag", run_id[:6], "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == tags(db, run_id)
    assert run_command(["tag", run_id[:6]]) == 0
    assert "stage = review\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("proj.tree=2",), 2, "'proj.tree' is reserved"),
        (("--remove", "proj.tree"), 2, "'proj.tree' is reserved"),
        (("mlflow.runName=x",), 2, "`proj rename`"),
        (("mlflow.note.content=x",), 2, "`proj note`"),
        (("a=1", "a=2"), 2, "'a' is given twice"),
        (("=1",), 1, "The name of the tag is empty"),
        (("../a=1",), 1, "normalized relative path"),
        (("--remove", "absent", "new=1"), 1, "has no tag 'absent'"),
        (("a=" + "x" * 70_000,), 1, "the limit is 65536"),
        (("a=\udcff",), 2, "not valid UTF-8"),
    ],
)
def test_what_can_not_be_a_tag_is_refused_and_nothing_is_changed(
    db: Database, run_id: str, words: tuple[str, ...], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tags(db, run_id)
    assert run_command(["tag", run_id, *words]) == code
    assert message in capsys.readouterr().err
    assert tags(db, run_id) == before


@given(st.lists(st.text(max_size=20), max_size=4))
def test_every_assignment_is_read_or_refused_with_a_message(assignments: list[str]) -> None:
    try:
        found = read_tags(assignments)
    except ProjError:
        return
    assert len(found) == len(assignments)
    for name in found:
        assert check_name("tag", name) == name
        assert not name.startswith(("proj.", "mlflow."))


def test_a_deleted_run_is_not_changed(db: Database, run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    runs.delete(db, run_id)
    for words in (("tag", run_id, "a=1"), ("note", run_id, "text"), ("rename", run_id, "other")):
        assert run_command([*words]) == 1
        assert "is deleted" in capsys.readouterr().err
    assert runs.get(db, run_id).name == "first"


def test_the_note_is_set_appended_shown_and_removed(
    db: Database, run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["note", "first"]) == 0
    assert "no note" in capsys.readouterr().err
    assert run_command(["note", "first", "good"]) == 0
    assert run_command(["note", "first", "--append", "very\ngood"]) == 0
    assert tags(db, run_id)[NOTE_TAG] == "good\n\nvery\ngood"
    capsys.readouterr()
    assert run_command(["note", "first"]) == 0
    assert capsys.readouterr().out == "good\n\nvery\ngood\n"
    assert run_command(["note", "first", "text", "--remove"]) == 2
    assert run_command(["note", "first", "--append"]) == 2
    assert run_command(["note", "first", "--remove"]) == 0
    assert NOTE_TAG not in tags(db, run_id)
    assert run_command(["note", "first", "--remove"]) == 0


def test_the_note_is_written_in_an_editor(
    db: Database, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho "and more" >> "$1"\n', encoding="utf-8")
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    values.set_tags(db, run_id, {NOTE_TAG: "before\n"})
    assert run_command(["note", "first", "--edit"]) == 0
    assert tags(db, run_id)[NOTE_TAG] == "before\nand more"


def test_a_run_is_renamed_for_all_clients(db: Database, run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["rename", "first", "the best"]) == 0
    assert "'first'" in capsys.readouterr().err
    assert (runs.get(db, run_id).name, tags(db, run_id)[RUN_NAME_TAG]) == ("the best", "the best")
    assert run_command(["rename", "the best", " "]) == 2
    assert run_command(["rename", "first", "x"]) == 1


def test_a_credential_is_masked_in_tags_notes_and_names(db: Database, run_id: str) -> None:
    token = "ghp_" + "a1B2c3D4e5" * 4
    assert run_command(["tag", run_id, f"source={token}", "api_key=hunter22"]) == 0
    assert run_command(["note", run_id, f"see {token}"]) == 0
    assert run_command(["rename", run_id, f"with {token}"]) == 0
    found = tags(db, run_id)
    assert (found["source"], found["api_key"], found[NOTE_TAG], found[RUN_NAME_TAG]) == (
        "***",
        "***",
        "see ***",
        "with ***",
    )


def test_a_run_that_was_sent_names_the_command_that_sends_the_change(
    db: Database, run_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sync_state.open_remote_run(db, run_id, "https://mlflow.example.org")
    assert run_command(["tag", run_id, "a=1"]) == 0
    assert f"`proj push {run_id[:8]} --to https://mlflow.example.org`" in capsys.readouterr().err


def test_a_run_starts_with_tags_and_a_note(db: Database, tmp_path: Path, proj: RunProj) -> None:
    write_tree(tmp_path / "project", PROJECT)
    words = ("run", "project", "--env-manager", "local", "--json")
    done = proj(*words, "--tag", "team=blue", "--tag", "best", "--note", "first try", "--tag", "token=hunter22")
    assert done.code == 0, done.err
    found = tags(db, done.json["run_id"])
    assert (found["team"], found["best"], found[NOTE_TAG], found["token"]) == ("blue", "true", "first try", "***")
    assert proj("show", "@team=blue", "--json").json["note"] == "first try"
    planned = proj("run", "project", "--env-manager", "local", "--dry-run", "--json", "--tag", "a=1").json
    assert planned["tags"]["a"] == "1"
    for wrong in (("proj.tree=1",), ("a=1", "a=2"), ("a\tb=1",)):
        refused = proj("run", "project", *(word for one in wrong for word in ("--tag", one)))
        assert refused.code in (1, 2), refused.err
    assert len(json.loads(proj("list", "--all", "--json").out)) == 1
