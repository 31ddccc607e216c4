"""Tests the commit summary of a run, and the later commit of a dirty run."""

import subprocess
from pathlib import Path

import pytest

from runner.source.summaries import summarise_commit
from tests.conftest import MakeRepository, RunProj, git


def test_the_summary_of_a_commit_has_its_message(make_repository: MakeRepository) -> None:
    root = make_repository({"a": "1"})
    summary = summarise_commit(root / ".git", git(root, "rev-parse", "HEAD"))
    assert summary is not None
    assert (summary.subject, summary.author) == ("first", "Tester")
    assert len(summary.day) == 10


def test_a_missing_commit_has_no_summary(make_repository: MakeRepository, tmp_path: Path) -> None:
    root = make_repository({"a": "1"})
    assert summarise_commit(root / ".git", "0" * 40) is None
    assert summarise_commit(tmp_path / "nowhere", "0" * 40) is None


@pytest.mark.parametrize(
    "time",
    [
        "99999999999999999999 +0000",
        "1600000000 +9999",
        "253402300800 +0000",
        "-5 -9999",
        "253402300799 +0000",
        f"{'9' * 5000} +0000",
        "x",
    ],
)
def test_commits_with_times_of_no_calendar_are_run(make_repository: MakeRepository, proj: RunProj, time: str) -> None:
    root = make_repository({"MLproject": "entry_points: {main: {command: echo done}}\n"})
    tree = git(root, "rev-parse", "HEAD^{tree}")
    person = f"a <a@b.invalid> {time}"
    written = subprocess.run(
        ["git", "hash-object", "-t", "commit", "-w", "--stdin", "--literally"],
        cwd=root,
        input=f"tree {tree}\nauthor {person}\ncommitter {person}\n\nodd\n".encode(),
        capture_output=True,
        check=True,
    )
    commit = written.stdout.decode().strip()
    (root / ".git/refs/heads/main").write_text(f"{commit}\n")
    summary = summarise_commit(root / ".git", commit)
    assert summary is None or summary.subject == "odd"
    done = proj("run", ".", "--env-manager", "local", "--json", cwd=root)
    assert done.code == 0, done.err
    assert done.json["code"]["commit"] == commit


def test_a_hooks_variables_do_not_lead_elsewhere(
    make_repository: MakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, other = make_repository({"a": "1"}), make_repository({"b": "2"}, name="other")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    commit = (root / ".git" / "refs" / "heads" / "main").read_text().strip()
    summary = summarise_commit(root / ".git", commit)
    assert summary is not None
    assert summary.subject == "first"
