"""``proj get`` with a search: the files of each run in a folder of its own."""

from pathlib import Path

import pytest

from runner.cli.main import run_command
from runner.settings import Home
from runner.store import runs, values
from runner.store.artifacts import write_artifact
from runner.store.database import Database
from runner.store.entities import Metric, NewRun


def make(db: Database, home: Home, name: str, score: float, *files: str) -> str:
    run_id = runs.create(db, NewRun(name=name)).run_id
    values.log_metrics(db, run_id, [Metric(key="score", value=score, timestamp=1, step=0)])
    for file in files:
        write_artifact(home.artifacts(run_id), file, [name.encode()])
    return run_id


def test_the_files_of_all_found_runs_are_copied(
    db: Database, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    good = make(db, home, "good", 0.9, "plots/roc.png", "model.bin")
    better = make(db, home, "better", 0.95, "plots/roc.png")
    make(db, home, "bare", 0.99)
    make(db, home, "bad", 0.1, "plots/roc.png")
    words = ["get", "--filter", "metrics.score > 0.5", "--all"]
    assert run_command([*words, "plots", "--to", "best"]) == 0
    assert "(bare): " in capsys.readouterr().err
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*") if path.is_file()}
    assert found == {f"best/good-{good[:8]}/plots/roc.png", f"best/better-{better[:8]}/plots/roc.png"}
    assert run_command(words) == 0
    assert (tmp_path / f"good-{good[:8]}" / "model.bin").read_bytes() == b"good"


@pytest.mark.parametrize(
    "words", [(), ("--filter", ""), ("good", "plots", "--filter", "metrics.score > 0"), ("--all",)]
)
def test_a_search_and_a_name_exclude_each_other(words: tuple[str, ...], db: Database, home: Home) -> None:
    make(db, home, "good", 1)
    assert run_command(["get", *words]) == 2
