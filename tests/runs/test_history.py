"""Tests the commit summary of a run, and the later commit of a dirty run."""

from pathlib import Path

import pytest

from runner.source.summaries import summarise_commit
from tests.conftest import MakeRepository, git


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


def test_a_hooks_variables_do_not_lead_elsewhere(
    make_repository: MakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, other = make_repository({"a": "1"}), make_repository({"b": "2"}, name="other")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    commit = (root / ".git" / "refs" / "heads" / "main").read_text().strip()
    summary = summarise_commit(root / ".git", commit)
    assert summary is not None
    assert summary.subject == "first"
