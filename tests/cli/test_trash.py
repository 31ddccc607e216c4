"""``proj rm``, ``proj restore`` and ``proj trash``, and how they meet the clients of MLflow."""

import json
from pathlib import Path

import pytest

from runner.base.tags import PARENT_TAG, SOURCE_NAME_TAG
from runner.cli.main import run_command
from runner.model import RunStatus
from runner.settings import Home
from runner.store import experiments, models, registry, runs, trash, versions
from runner.store.artifacts import write_artifact
from runner.store.database import Database
from runner.store.entities import LifecycleStage, NewModel, NewRun, NewVersion
from runner.store.process_identity import this_process
from tests.conftest import write_tree

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = write_tree(tmp_path / "project", {"MLproject": "name: p\n"})
    monkeypatch.chdir(folder)
    return folder


def make(db: Database, name: str, parent: str | None = None, source: Path | None = None, ended: int = 1000) -> str:
    tags = {PARENT_TAG: parent} if parent else {}
    tags |= {SOURCE_NAME_TAG: str(source)} if source else {}
    run_id = runs.create(db, NewRun(name=name, tags=tags, started_at=ended - 500)).run_id
    runs.update(db, run_id, status=RunStatus.FINISHED, ended_at=ended)
    return run_id


def stages(db: Database, *run_ids: str) -> list[str]:
    return [runs.get(db, run_id).lifecycle_stage.value for run_id in run_ids]


def test_a_removed_run_comes_back_with_all_that_it_has(db: Database, home: Home, capsys: Capture) -> None:
    run_id = make(db, "a")
    write_artifact(home.artifacts(run_id), "f", [b"x"])
    assert run_command(["rm", "a", "--yes"]) == 0
    assert capsys.readouterr().out == f"{run_id}\n"
    assert stages(db, run_id) == ["deleted"]
    assert run_command(["list", "--all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert run_command(["rm", run_id, "--yes"]) == 1
    assert "is in the trash already" in capsys.readouterr().err
    assert run_command(["trash", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(one["run_id"], one["can_be_restored"]) for one in listed] == [(run_id, True)]
    assert run_command(["restore", "a"]) == 0
    assert stages(db, run_id) == ["active"]
    assert (home.artifacts(run_id) / "f").read_bytes() == b"x"
    assert run_command(["restore", "a"]) == 1
    assert "no run 'a' in the trash" in capsys.readouterr().err


def test_the_trash_is_emptied_for_good(db: Database, home: Home, capsys: Capture) -> None:
    old, new, kept = make(db, "old"), make(db, "new"), make(db, "kept")
    for run_id in (old, new, kept):
        write_artifact(home.artifacts(run_id), "f", [b"x"])
    assert run_command(["rm", "old", "new", "--yes"]) == 0
    db.execute("UPDATE runs SET deleted_at = deleted_at - 7200000 WHERE run_id = ?", old)
    assert run_command(["trash", "empty", "--older-than", "1h", "--yes"]) == 0
    assert not home.run(old).exists()
    assert home.run(new).exists()
    assert run_command(["trash", "empty", "--yes"]) == 0
    assert [row["run_id"] for row in db.query("SELECT run_id FROM runs")] == [kept]
    assert not home.run(new).exists()
    assert run_command(["trash", "empty", "--yes"]) == 0
    assert "the trash is empty" in capsys.readouterr().err


def test_nested_runs_go_and_come_with_their_parent(db: Database, capsys: Capture) -> None:
    top = make(db, "top")
    child = make(db, "child", top)
    grandchild, earlier = make(db, "grandchild", child), make(db, "earlier", top)
    assert run_command(["rm", "earlier", "--yes"]) == 0
    db.execute("UPDATE runs SET deleted_at = deleted_at - 10 WHERE run_id = ?", earlier)
    assert run_command(["rm", "top", "--yes"]) == 0
    assert "3 runs moved" in capsys.readouterr().err
    assert stages(db, top, child, grandchild) == ["deleted"] * 3
    assert run_command(["restore", "top"]) == 0
    assert stages(db, top, child, grandchild, earlier) == ["active"] * 3 + ["deleted"]
    assert run_command(["rm", "child", "--yes"]) == 0
    assert stages(db, top, child, grandchild) == ["active", "deleted", "deleted"]


@pytest.mark.parametrize("how", ["run", "model", "folder"])
@pytest.mark.parametrize("words", [["rm"], ["rm", "--permanently"]])
def test_runs_that_registered_versions_need_stay(
    db: Database, home: Home, how: str, words: list[str], capsys: Capture
) -> None:
    parent = make(db, "parent")
    run_id = make(db, "r", parent)
    write_artifact(home.artifacts(run_id), "model/MLmodel", [b"x"])
    registry.create(db, "churn")
    if how == "model":
        model = models.create(db, NewModel(name="m", source_run_id=run_id))
        versions.create(db, NewVersion(name="churn", source=f"models:/{model.model_id}", model_id=model.model_id))
        db.execute("UPDATE model_versions SET run_id = NULL")
    else:
        versions.create(db, NewVersion(name="churn", source=f"runs:/{run_id}/model", run_id=run_id))
        if how == "folder":
            db.execute("UPDATE model_versions SET run_id = NULL")
    for name in ("r", "parent"):
        assert run_command([*words, name, "--yes"]) == 1
        assert f"{run_id[:8]}: churn/1" in capsys.readouterr().err
    assert stages(db, parent, run_id) == ["active", "active"]
    assert run_command([*words, "parent", "--yes", "--force"]) == 0
    if "--permanently" not in words:
        assert run_command(["trash", "empty", "--yes"]) == 1
        assert "churn/1" in capsys.readouterr().err
        assert run_command(["trash", "empty", "--yes", "--force"]) == 0
    assert db.query("SELECT 1 FROM runs") == []


def test_a_search_is_confined_to_the_project(db: Database, project: Path, tmp_path: Path, capsys: Capture) -> None:
    mine, other = make(db, "mine", source=project), make(db, "other", source=tmp_path / "elsewhere")
    young = make(db, "young", source=project, ended=4_000_000_000_000)
    assert run_command(["rm", "--status", "FAILED", "--yes"]) == 0
    assert "--all searches all projects" in capsys.readouterr().err
    assert run_command(["rm", "--filter", "attributes.run_name LIKE '%'", "--older-than", "1h", "--yes"]) == 0
    assert stages(db, mine, other, young) == ["deleted", "active", "active"]
    assert run_command(["rm", "--experiment", "Default", "--status", "finished", "--all", "--yes"]) == 0
    assert stages(db, mine, other, young) == ["deleted", "deleted", "deleted"]
    assert run_command(["rm", "--filter", "nonsense", "--yes"]) == 1


def test_a_live_run_is_refused_also_by_a_search(db: Database, project: Path, capsys: Capture) -> None:
    ended = make(db, "ended", source=project)
    live = runs.create(db, NewRun(owner=this_process(), tags={PARENT_TAG: ended})).run_id
    assert run_command(["rm", "--experiment", "Default", "--yes"]) == 1
    assert "is RUNNING" in capsys.readouterr().err
    assert stages(db, ended, live) == ["active", "active"]


def test_a_run_whose_removal_was_interrupted_is_not_restored(
    db: Database, home: Home, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = make(db, "a")
    write_artifact(home.artifacts(run_id), "f", [b"x"])

    def interrupt(_database: Database, _run_id: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("runner.store.removal.runs.purge", interrupt)
        assert run_command(["rm", "a", "--permanently", "--yes"]) == 130
    capsys.readouterr()
    assert run_command(["trash", "list"]) == 0
    assert "partly removed" in capsys.readouterr().out
    assert run_command(["restore", run_id]) == 1
    assert "the removal of its files has begun" in capsys.readouterr().err
    assert run_command(["rm", run_id, "--permanently", "--yes"]) == 0
    assert db.query("SELECT 1 FROM runs") == []


def test_runs_of_a_deleted_experiment_come_back_with_it(db: Database, capsys: Capture) -> None:
    number = experiments.create(db, "e")
    run_id = runs.create(db, NewRun(experiment_id=number, name="a")).run_id
    partly = runs.create(db, NewRun(experiment_id=number, name="b")).run_id
    experiments.delete(db, number)
    assert run_command(["restore", "a"]) == 1
    assert f"proj experiments restore {number}" in capsys.readouterr().err
    trash.begin_removal(db, partly)
    experiments.restore(db, number)
    assert stages(db, run_id, partly) == ["active", "deleted"]


def test_the_trash_is_that_of_mlflow_clients(db: Database) -> None:
    """MLflow's ``delete_run`` and ``restore_run`` call these two functions of the store."""
    run_id = make(db, "a")
    runs.delete(db, run_id)
    assert [one.run_id for one in trash.deleted_runs(db)] == [run_id]
    assert run_command(["restore", "a"]) == 0
    assert run_command(["rm", "a", "--yes"]) == 0
    runs.restore(db, run_id)
    assert runs.get(db, run_id).lifecycle_stage is LifecycleStage.ACTIVE


def test_several_runs_of_a_name_are_listed(db: Database, capsys: Capture) -> None:
    first, second = make(db, "a"), make(db, "a")
    assert run_command(["rm", first, second, "--yes"]) == 0
    assert run_command(["restore", "a"]) == 1
    assert "Several runs match 'a'" in capsys.readouterr().err
    assert run_command(["restore", first[:10]]) == 0
    assert stages(db, first, second) == ["active", "deleted"]
