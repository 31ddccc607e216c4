"""What is said of commits after a run: the one it had, and the one that a dirty tree became."""

from pathlib import Path

import pytest

from runner.source.summaries import summarise_commit
from tests.conftest import MakeRepository, git


def test_a_commit_is_told_in_its_authors_words(make_repository: MakeRepository) -> None:
    root = make_repository({"a": "1"})
    summary = summarise_commit(root / ".git", git(root, "rev-parse", "HEAD"))
    assert summary is not None
    assert (summary.subject, summary.author) == ("first", "Tester")
    assert len(summary.day) == 10


def test_what_is_gone_has_no_words(make_repository: MakeRepository, tmp_path: Path) -> None:
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
