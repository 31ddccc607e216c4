"""Tests imports of MLflow folders and databases, valid and damaged."""

import contextlib
import json
import math
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.cli.main import run_command
from runner.errors import TransferError
from runner.importing.artifact_locations import find_folder
from runner.importing.folder_lines import metric_points
from runner.settings import Home
from runner.store import experiments, lineage, models, registry, runs, values, versions
from runner.store.artifacts import survey
from runner.store.database import Database
from runner.store.downsampling import all_points
from runner.store.entities import LifecycleStage, NewRun, View
from runner.store.search import ExperimentQuery, SearchQuery, search_experiments, search_runs
from tests.conftest import ROOT, Result, RunProj, start_proj, write_tree
from tests.support.mlflow_databases import OLD, make_database

ONE, TWO, THREE = "a1" * 16, "b2" * 16, "c3" * 16
MODEL = f"m-{'a' * 32}"
DATASET = "893a6294dfda04930968af2e821da1be"

RUN_META = """\
artifact_uri: {uri}
end_time: {end}
entry_point_name: ''
experiment_id: '7'
lifecycle_stage: active
run_id: {run}
run_name: 'first: run'
run_uuid: {run}
source_type: 4
start_time: 1700000000000
status: {status}
tags: []
user_id: ann
"""


def run_meta(run: str, uri: str = "", end: str = "1700000005000", status: str = "3") -> str:
    return RUN_META.format(run=run, uri=uri, end=end, status=status)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a file store with every kind of content."""
    root = tmp_path / "mlruns"
    uri = f"file://{root}/7/{ONE}/artifacts"
    return write_tree(
        root,
        {
            "0/meta.yaml": "artifact_location: ''\nexperiment_id: '0'\nlifecycle_stage: active\nname: Default\n",
            "7/meta.yaml": "experiment_id: '7'\nlifecycle_stage: active\nname: churn ü/x\ncreation_time: 5\n"
            "last_update_time: 6\n",
            "7/tags/team": "blue\nand red",
            f"7/{ONE}/meta.yaml": run_meta(ONE, uri),
            f"7/{ONE}/params/alpha": "1e-05",
            f"7/{ONE}/params/empty": "",
            f"7/{ONE}/params/opt/lr": "0.1",
            f"7/{ONE}/metrics/val/loss": "1700000000001 1.0 0\n1700000000002 0.5 1\n1700000000003 0.25 2\n",
            f"7/{ONE}/metrics/late": "5 2.0 7\n6 9.0 3\n6 9.0 3\n",
            f"7/{ONE}/metrics/odd": "1 nan 0\n2 inf 1\n3 -inf 2\n",
            f"7/{ONE}/metrics/old": "1 0.5\n",
            f"7/{ONE}/metrics/with data": "4 0.5 3 frame 2981c147\n",
            f"7/{ONE}/tags/mlflow.note.content": "several\nlines\n",
            f"7/{ONE}/tags/mlflow.source.name": "train.py",
            f"7/{ONE}/tags/mlflow.project.entryPoint": "main",
            f"7/{ONE}/artifacts/many/x ü.txt": "x",
            f"7/{ONE}/artifacts/y%20.bin": b"y" * 100,
            f"7/{ONE}/inputs/b4529f/meta.yaml": f"source_id: {DATASET}\nsource_type: DATASET\ndestination_id: {ONE}\n"
            "destination_type: RUN\ntags:\n  mlflow.data.context: training\n",
            f"7/{ONE}/outputs/{MODEL}/meta.yaml": f"source_id: {MODEL}\nsource_type: RUN_OUTPUT\nstep: 4\ntags: {{}}\n",
            f"7/datasets/{DATASET}/meta.yaml": "name: frame\ndigest: 2981c147\nsource: '{}'\nsource_type: code\n"
            "schema: null\nprofile: '{\"rows\": 2}'\n",
            f"7/models/{MODEL}/meta.yaml": f"name: net\nmodel_id: {MODEL}\nstatus: 2\nsource_run_id: {ONE}\n"
            "model_type: null\ncreation_timestamp: 10\nlast_updated_timestamp: 11\nexperiment_id: '7'\n",
            f"7/models/{MODEL}/params/depth": "3",
            f"7/models/{MODEL}/metrics/acc": f"8 0.9 1 {ONE}\n9 0.95 2 {ONE} my frame 2981c147\n",
            f"7/models/{MODEL}/artifacts/MLmodel": "flavors: {}\n",
            f"7/{TWO}/meta.yaml": run_meta(TWO, "s3://bucket/7/artifacts", "null", "1"),
            ".trash/9/meta.yaml": "experiment_id: '9'\nlifecycle_stage: active\nname: gone\nlast_update_time: 50\n",
            f".trash/9/{THREE}/meta.yaml": run_meta(THREE),
            "models/churner/meta.yaml": "name: churner\ndescription: what it does\ncreation_timestamp: 1\n"
            "last_updated_timestamp: 2\n",
            "models/churner/tags/owner": "ann",
            "models/churner/aliases/champion": "3",
            "models/churner/version-1/meta.yaml": "version: 1\ncurrent_stage: Production\nname: churner\n"
            f"source: {uri}/many\nrun_id: '{ONE}'\ndescription: the first\n",
            "models/churner/version-2/meta.yaml": "version: 2\ncurrent_stage: Deleted_Internal\nname: churner\n",
            "models/churner/version-3/meta.yaml": f"version: 3\ncurrent_stage: None\nsource: models:/{MODEL}\n",
            "models/churner/version-3/tags/tested": "yes",
        },
    )


Capture = pytest.CaptureFixture[str]


def bring(capsys: Capture, *words: object) -> Result:
    code = run_command(["import", *map(str, words)])
    printed = capsys.readouterr()
    return Result(code, printed.out, printed.err)


class TestFolder:
    def test_a_run_is_copied_completely(self, folder: Path, db: Database, home: Home, capsys: Capture) -> None:
        assert bring(capsys, folder).code == 0
        run = runs.get(db, ONE)
        assert (run.name, run.user, run.status.value) == ("first: run", "ann", "FINISHED")
        assert (run.started_at, run.ended_at) == (1_700_000_000_000, 1_700_000_005_000)
        assert run.params == {"alpha": "1e-05", "empty": "", "opt/lr": "0.1"}
        assert run.tags["mlflow.note.content"] == "several\nlines\n"
        assert run.tags["mlflow.runName"] == "first: run"
        assert run.tags["proj.origin"] == folder.as_uri()
        assert (run.details.project, run.details.entry_point) == ("train.py", "main")
        found = experiments.get(db, run.experiment_id)
        assert (found.name, found.created_at, found.updated_at) == ("churn ü/x", 5, 6)
        assert found.tags == {"team": "blue\nand red"}
        kept = {file.path: file.size for file in survey(home.artifacts(ONE)).files}
        assert kept == {"many/x ü.txt": 1, "y%20.bin": 100}
        assert run.artifact_uri == home.artifacts(ONE).as_uri()

    def test_histories_are_imported_completely(self, folder: Path, db: Database, capsys: Capture) -> None:
        assert "10 new points" in bring(capsys, folder).out
        points = [(p.step, p.timestamp, p.value) for p in all_points(db, ONE, "val/loss")]
        assert points == [(0, 1_700_000_000_001, 1.0), (1, 1_700_000_000_002, 0.5), (2, 1_700_000_000_003, 0.25)]
        last = {name: metric.value for name, metric in runs.get(db, ONE).metrics.items()}
        assert last == {"val/loss": 0.25, "late": 2.0, "odd": -math.inf, "old": 0.5, "with data": 0.5}
        odd = [p.value for p in all_points(db, ONE, "odd")]
        assert math.isnan(odd[0])
        assert odd[1:] == [math.inf, -math.inf]
        assert next(all_points(db, ONE, "with data")).step == 3

    def test_data_and_models(self, folder: Path, db: Database, home: Home, capsys: Capture) -> None:
        bring(capsys, folder)
        (read,) = lineage.inputs(db, ONE).datasets
        assert (read.dataset.name, read.dataset.digest, read.dataset.profile) == ("frame", "2981c147", '{"rows": 2}')
        assert read.tags == {"mlflow.data.context": "training"}
        (made,) = lineage.outputs(db, ONE)
        assert (made.model_id, made.step) == (MODEL, 4)
        model = models.get(db, MODEL)
        assert (model.name, model.status.value, model.source_run_id) == ("net", "LOGGED_MODEL_READY", ONE)
        assert (model.created_at, model.updated_at, model.params) == (10, 11, {"depth": "3"})
        assert {(p.value, p.step, p.dataset_name) for p in model.metrics} == {(0.9, 1, None), (0.95, 2, "my frame")}
        assert (home.root / "runs" / "models" / MODEL / "artifacts" / "MLmodel").read_text() == "flavors: {}\n"

    def test_the_registry(self, folder: Path, db: Database, home: Home, capsys: Capture) -> None:
        bring(capsys, folder)
        model = registry.get(db, "churner")
        assert (model.description, model.tags, model.aliases) == ("what it does", {"owner": "ann"}, {"champion": 3})
        first, third = versions.get(db, "churner", 1), versions.get(db, "churner", 3)
        assert (first.stage.value, first.run_id, first.description) == ("Production", ONE, "the first")
        assert first.location == f"{home.artifacts(ONE).as_uri()}/many"
        assert third.location == models.get(db, MODEL).artifact_uri
        assert third.tags == {"tested": "yes"}
        assert registry.get_by_alias(db, "churner", "champion").version == 3
        assert [version.version for version in registry.latest_versions(db, "churner")] == [1, 3]

    def test_deleted_items_are_imported_as_deleted(self, folder: Path, db: Database, capsys: Capture) -> None:
        bring(capsys, folder)
        gone = experiments.find(db, "gone")
        assert gone is not None
        assert gone.lifecycle_stage is LifecycleStage.DELETED
        assert runs.get(db, THREE).lifecycle_stage is LifecycleStage.DELETED
        experiments.restore(db, gone.id)
        assert runs.get(db, THREE).lifecycle_stage is LifecycleStage.ACTIVE

    def test_artifacts_elsewhere_are_reported(self, folder: Path, db: Database, capsys: Capture) -> None:
        printed = bring(capsys, folder)
        assert (
            "artifacts of runs and models (1) are not on this machine and were not copied: s3://bucket" in printed.out
        )
        assert runs.get(db, TWO).artifact_uri == "s3://bucket/7/artifacts"

    def test_artifacts_behind_a_server_can_be_found_by_its_folder(self, folder: Path, capsys: Capture) -> None:
        (folder / f"7/{TWO}/meta.yaml").write_text(run_meta(TWO, "mlflow-artifacts:/7/artifacts", "null", "1"))
        assert "--artifacts-destination DIR sets" in bring(capsys, folder).out

    def test_a_moved_store_brings_its_own_artifacts(
        self, folder: Path, tmp_path: Path, home: Home, capsys: Capture
    ) -> None:
        moved = folder.rename(tmp_path / "moved")
        assert bring(capsys, moved).code == 0
        assert (home.artifacts(ONE) / "many" / "x ü.txt").read_text() == "x"

    def test_the_folder_above_and_uris(self, folder: Path, tmp_path: Path, db: Database, capsys: Capture) -> None:
        for word in (tmp_path, folder.as_uri(), f"file:{folder}"):
            assert bring(capsys, word).out.splitlines()[0] == f"from {folder.as_uri()}"
        assert runs.get(db, ONE).name == "first: run"


class TestAgain:
    def test_importing_twice_adds_nothing(self, folder: Path, capsys: Capture) -> None:
        bring(capsys, folder)
        again = bring(capsys, folder, "--json").json
        for kind in ("experiments", "runs", "models", "registered_models", "model_versions"):
            counts = again[kind]
            assert (counts["added"], counts["updated"], counts["failed"]) == (0, 0, 0), kind
            assert counts["unchanged"] > 0, kind
        assert (again["points"], again["artifacts"]["files"], again["warnings"], again["errors"]) == (0, 0, [], [])
        assert "everything had been imported before" in bring(capsys, folder).out

    def test_a_run_that_went_on_is_brought_up_to_date(self, folder: Path, db: Database, capsys: Capture) -> None:
        bring(capsys, folder)
        assert runs.get(db, TWO).status.value == "RUNNING"
        write_tree(
            folder,
            {
                f"7/{TWO}/meta.yaml": run_meta(TWO, "s3://bucket/7/artifacts", "1700000009000", "4"),
                f"7/{TWO}/metrics/loss": "1 0.5 0\n",
                f"7/{TWO}/params/late": "1",
            },
        )
        with (folder / "7" / ONE / "metrics" / "val" / "loss").open("a") as file:
            file.write("9 0.1 3\n")
        printed = bring(capsys, folder, "--json").json
        assert printed["runs"] == {"added": 0, "updated": 2, "unchanged": 1, "own": 0, "failed": 0}
        assert printed["points"] == 2
        run = runs.get(db, TWO)
        assert (run.status.value, run.ended_at, run.params) == ("FAILED", 1_700_000_009_000, {"late": "1"})
        assert runs.get(db, ONE).metrics["val/loss"].value == 0.1
        assert bring(capsys, folder, "--json").json["runs"]["unchanged"] == 3

    def test_a_run_restored_in_the_source_is_restored_here(self, folder: Path, db: Database, capsys: Capture) -> None:
        meta = run_meta(TWO).replace("active", "deleted") + "deleted_time: 1700000006000\n"
        write_tree(folder, {f"7/{TWO}/meta.yaml": meta})
        bring(capsys, folder)
        assert runs.get(db, TWO).lifecycle_stage is LifecycleStage.DELETED
        assert "everything had been imported before" in bring(capsys, folder).out
        write_tree(folder, {f"7/{TWO}/meta.yaml": run_meta(TWO)})
        bring(capsys, folder)
        assert runs.get(db, TWO).lifecycle_stage is LifecycleStage.ACTIVE

    def test_an_experiment_that_was_renamed(self, folder: Path, db: Database, capsys: Capture) -> None:
        bring(capsys, folder)
        number = runs.get(db, ONE).experiment_id
        experiments.rename(db, number, "another name")
        write_tree(folder, {f"7/{'d4' * 16}/meta.yaml": run_meta("d4" * 16)})
        assert "runs: 1 added" in bring(capsys, folder).out
        assert runs.get(db, "d4" * 16).experiment_id == number
        assert experiments.find(db, "churn ü/x") is None

    def test_local_changes_stay(self, folder: Path, db: Database, capsys: Capture) -> None:
        bring(capsys, folder)
        values.set_tags(db, ONE, {"mlflow.note.content": "mine", "mlflow.runName": "my name"})
        number = experiments.create(db, "mine")
        db.execute("UPDATE runs SET experiment = ? WHERE run_id = ?", int(number), ONE)
        runs.delete(db, TWO)
        versions.set_stage(db, "churner", 1, "Archived")
        assert "everything had been imported before" in bring(capsys, folder).out
        run = runs.get(db, ONE)
        assert (run.tags["mlflow.note.content"], run.name, run.experiment_id) == ("mine", "my name", number)
        assert runs.get(db, TWO).lifecycle_stage is LifecycleStage.DELETED
        assert versions.get(db, "churner", 1).stage.value == "Archived"

    def test_a_database_beside_the_folder_is_named(self, folder: Path, capsys: Capture) -> None:
        above = folder.parent / "above"
        above.mkdir()
        folder.rename(above / "mlruns")
        (above / "mlflow.db").write_bytes(b"SQLite format 3\0")
        (above / "notes.db").write_text("no database")
        printed = bring(capsys, above)
        assert printed.code == 0
        assert f"proj import sqlite:///{above.resolve() / 'mlflow.db'}" in printed.err
        assert "notes.db" not in printed.err
        assert "mlflow.db" not in bring(capsys, above / "mlruns").err

    def test_a_run_of_our_own_is_left_alone(self, folder: Path, db: Database, capsys: Capture) -> None:
        runs.create(db, NewRun(run_id=ONE, name="ours"))
        printed = bring(capsys, folder)
        assert "1 not changed, because they were not imported" in printed.out
        run = runs.get(db, ONE)
        assert (run.name, run.params) == ("ours", {})

    def test_an_artifact_that_changed_is_copied_again(self, folder: Path, home: Home, capsys: Capture) -> None:
        bring(capsys, folder)
        write_tree(folder, {f"7/{ONE}/artifacts/y%20.bin": b"other", f"7/{ONE}/artifacts/new": b"new"})
        assert "2 new artifacts" in bring(capsys, folder).out
        assert (home.artifacts(ONE) / "y%20.bin").read_bytes() == b"other"

    def test_numbers_of_versions_that_are_taken_here(self, folder: Path, db: Database, capsys: Capture) -> None:
        run_id = runs.create(db, NewRun()).run_id
        registry.create(db, "churner")
        versions.create(db, versions.NewVersion(name="churner", source=f"runs:/{run_id}/model"))
        registry.set_alias(db, "churner", "champion", 1)
        printed = bring(capsys, folder)
        assert printed.code == 0
        assert "Version 1 of 'churner' is skipped: it exists here with other content" in printed.err
        assert "left out, because other versions have their numbers" in printed.out
        way = re.search(r"hint: Import it as a new version: proj (models register churner .+)", printed.err)
        assert way is not None
        assert "everything had been imported before" not in bring(capsys, folder).out
        assert "The alias churner@champion refers to another version here" in printed.err
        assert versions.get(db, "churner", 1).run_id == run_id
        assert versions.get(db, "churner", 3).location == models.get(db, MODEL).artifact_uri
        new = versions.create(db, versions.NewVersion(name="churner", source=f"runs:/{run_id}/model"))
        assert new.version == 4
        assert run_command(way[1].split()) == 0
        assert versions.get(db, "churner", 5).run_id == ONE

    def test_an_experiment_that_is_deleted_here(self, folder: Path, db: Database, capsys: Capture) -> None:
        number = experiments.create(db, "churn ü/x")
        experiments.delete(db, number)
        printed = bring(capsys, folder)
        assert printed.code == 1
        assert f"proj experiments restore {number}" in printed.err
        assert search_runs(db, SearchQuery(experiment_ids=(number,), view=View.ALL)).items == ()


class TestChoice:
    def test_one_experiment_by_name_or_id(self, folder: Path, db: Database, capsys: Capture) -> None:
        printed = bring(capsys, folder, "--experiment", "gone", "--json").json
        assert (printed["experiments"]["added"], printed["runs"]["added"], printed["registered_models"]["added"]) == (
            1,
            1,
            0,
        )
        names = {one.name for one in search_experiments(db, ExperimentQuery(view=View.ALL)).items}
        assert names == {"Default", "gone"}
        printed = bring(capsys, folder, "--experiment", "7", "--json").json
        assert (printed["runs"]["added"], printed["model_versions"]["added"]) == (2, 2)

    def test_an_unknown_one(self, folder: Path, capsys: Capture) -> None:
        printed = bring(capsys, folder, "--experiment", "churm")
        assert printed.code == 1
        assert "The store has no experiment 'churm'" in printed.err
        assert "'churn ü/x'" in printed.err


class TestFaults:
    """A run that can't be read is skipped as a whole with its location; the others are imported."""

    @pytest.mark.parametrize(
        ("path", "content", "place"),
        [
            ("metrics/bad", "1 0.5 0\n1 half 1\n2 0.5 2\n", "metrics/bad:2: 1 half 1"),
            ("metrics/bad", "1 0.5 0\n\n7\n2 0.5 2\n", "metrics/bad:3: 7"),
            ("metrics/bad", f"1 0.5 {2**63}\n2 0.5 1\n", "metrics/bad:1:"),
            ("metrics/bad", "1 0.5 0 " + "x" * 5000 + "\n", "metrics/bad:1:"),
            ("params/alpha", b"\n\xff\xfe", "params/alpha:2: invalid start byte"),
            ("tags/large", b"x" * 4_000_001, "tags/large has more than 4000000 bytes"),
            ("meta.yaml", "status: 3\nstart_time: soon\n", "meta.yaml:2: Expected `int | null`"),
            ("meta.yaml", "status: 99\n", "status 99"),
            ("meta.yaml", "a: b: c\n", "meta.yaml:1:5:"),
            ("meta.yaml", "- no mapping\n", "meta.yaml: Expected `object`, got `array`"),
            (
                "meta.yaml",
                "!!python/object/apply:os.system ['touch {}']\n",
                "meta.yaml:1:1: it is not YAML",
            ),
            ("meta.yaml", "[" * 100_000, "meta.yaml"),
            ("meta.yaml", f"start_time: {2**63}\n", "meta.yaml:1: Expected `int`"),
            ("meta.yaml", f"start_time: {10**30}\n", "meta.yaml:1: "),
            ("meta.yaml", 'run_name: "\\ud800"\n', "meta.yaml"),
            ("meta.yaml", "a: &a {x: 1}\nb: {<<: [*a, *a]}\n", "has a YAML merge key"),
            (
                "inputs/x/meta.yaml",
                "source_type: DATASET\nsource_id: ../../../etc\n",
                "inputs/x/meta.yaml: ../../../etc",
            ),
        ],
    )
    def test_the_location_is_reported(
        self, folder: Path, db: Database, capsys: Capture, path: str, content: str | bytes, place: str
    ) -> None:
        write_tree(folder, {f"7/{TWO}/{path}": content})
        printed = bring(capsys, folder)
        assert printed.code == 1
        assert f"The run {TWO} is skipped" in printed.err
        assert f"{folder}/7/{TWO}/{place}" in printed.err or place in printed.err
        assert "runs: 2 added, 1 left out" in printed.out
        assert db.query("SELECT count(*) FROM runs WHERE run_id = ?", TWO)[0][0] == 0
        assert (
            db.query("SELECT count(*) FROM points p WHERE NOT EXISTS (SELECT 1 FROM runs WHERE id = p.run)")[0][0] == 0
        )

    def test_a_line_that_was_never_finished(self, folder: Path, db: Database, capsys: Capture) -> None:
        write_tree(folder, {f"7/{TWO}/metrics/loss": "1 0.5 0\n2 0.25 1\n3 0.1"})
        printed = bring(capsys, folder)
        assert printed.code == 0
        assert "loss, line 3, is incomplete" in printed.err
        assert runs.get(db, TWO).metrics["loss"].value == 0.25

    def test_values_that_we_can_not_have(self, folder: Path, db: Database, capsys: Capture) -> None:
        write_tree(folder, {f"7/{TWO}/params/a,b": "1", f"7/{TWO}/tags/long": "x" * 70_000, f"7/{TWO}/params/ok": "1"})
        printed = bring(capsys, folder)
        assert printed.code == 0
        assert "Skipped: Invalid name of a parameter: 'a,b'" in printed.err
        assert f"{folder}/7/{TWO}/tags" in printed.err
        assert runs.get(db, TWO).params == {"ok": "1"}

    def test_a_registered_model_and_an_experiment(self, folder: Path, db: Database, capsys: Capture) -> None:
        write_tree(
            folder,
            {
                "models/broken/meta.yaml": "name: broken\n",
                "models/broken/version-1/meta.yaml": "version: one\n",
                "8/meta.yaml": "other: name\n",
                f"7/models/{MODEL}/metrics/acc": "8 0.9\n",
            },
        )
        printed = bring(capsys, folder)
        assert printed.code == 1
        assert "version-1/meta.yaml:1: Expected `int`, got `str`" in printed.err
        assert "8/meta.yaml: Object missing required field `name`" in printed.err
        assert "acc:1: 8 0.9" in printed.err
        assert registry.get(db, "churner").name == "churner"

    @pytest.mark.parametrize(
        ("path", "content", "words"),
        [
            ("models/churner/version-0/meta.yaml", "version: 0\n", "0 is not a valid version number of a model"),
            ("models/churner/version-5/meta.yaml", "version: -5\n", "-5 is not a valid version number of a model"),
            ("models/churner/aliases/a b", "1", "Invalid alias: 'a b'"),
            ("models/churner/aliases/word", "one", "aliases/word:1: one"),
            ("models/churner/meta.yaml", "name: a/b\n", "Invalid model name: 'a/b'"),
            (f"7/models/{MODEL}/meta.yaml", "name: ../evil\nlast_updated_timestamp: 99\n", "Invalid name of a model"),
            ("7/models/m-1/meta.yaml", "name: net\n", "'m-1' is not a valid id of a logged model"),
        ],
    )
    def test_models_that_can_not_be(self, folder: Path, capsys: Capture, path: str, content: str, words: str) -> None:
        write_tree(folder, {path: content})
        printed = bring(capsys, folder)
        assert printed.code == 1
        assert words in printed.err
        assert "runs: 3 added" in printed.out

    def test_many_warnings_are_cut(self, folder: Path, capsys: Capture) -> None:
        write_tree(folder, {f"7/{TWO}/params/a,{number}": "1" for number in range(50)})
        printed = bring(capsys, folder)
        assert printed.err.count("Skipped") == 20
        assert "and 30 more such messages" in printed.err
        assert len(bring(capsys, folder, "--json").json["warnings"]) == 50

    @pytest.mark.parametrize(
        ("word", "message"),
        [
            ("nothing", "There is no 'nothing'"),
            ("sqlite:///nothing.db", "There is no 'nothing.db'"),
            ("postgresql://me:hunter22@db/mlflow", "proj can't read a store of the kind 'postgresql'"),
            ("https://mlflow.example.org", "proj pull RUN --from"),
            (".", "is not an mlruns folder"),
            ("text", "neither a folder nor an SQLite database"),
        ],
    )
    def test_no_store(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, word: str, message: str
    ) -> None:
        write_tree(tmp_path, {"text": "SQLite? no"})
        monkeypatch.chdir(tmp_path)
        printed = bring(capsys, word)
        assert printed.code in (1, 2)
        assert message in printed.err
        assert "hunter22" not in printed.err

    def test_a_part_of_a_store(self, folder: Path, capsys: Capture) -> None:
        assert f"Pass the whole store: {folder}" in bring(capsys, folder / "7").err

    def test_a_folder_with_a_database(self, tmp_path: Path, capsys: Capture) -> None:
        with closing(sqlite3.connect(tmp_path / "mlflow.db")) as file:
            file.execute("CREATE TABLE a (b)")
        assert f"sqlite:///{tmp_path}/mlflow.db" in bring(capsys, tmp_path).err


class TestAttacks:
    def test_links_are_not_followed(
        self, folder: Path, tmp_path: Path, db: Database, home: Home, capsys: Capture
    ) -> None:
        secret = write_tree(tmp_path / "private", {"key": "geheim"})
        run = folder / "7" / TWO
        (run / "artifacts").mkdir(parents=True)
        (run / "artifacts" / "file").symlink_to(secret / "key")
        (run / "artifacts" / "folder").symlink_to(secret)
        write_tree(run, {"artifacts/fine": "fine", "tags/fine": "fine", "meta.yaml": run_meta(TWO)})
        (run / "tags" / "stolen").symlink_to(secret / "key")
        (run / "params").symlink_to(secret)
        (folder / "7" / "datasets").rename(tmp_path / "datasets")
        (folder / "7" / "datasets").symlink_to(tmp_path / "datasets")
        (run / "metrics").symlink_to(secret)
        os.mkfifo(run / "artifacts" / "pipe")
        os.mkfifo(run / "tags" / "pipe")
        printed = bring(capsys, folder)
        assert "artifacts/file: it is a symbolic link" in printed.err
        assert "artifacts/folder: it is a symbolic link" in printed.err
        assert [file.path for file in survey(home.artifacts(TWO)).files] == ["fine"]
        found = runs.get(db, TWO)
        assert "stolen" not in found.tags
        assert found.params == {}
        assert f"meta.yaml names is not in {folder}/7/datasets" in printed.err
        assert "geheim" not in printed.out + printed.err

    @pytest.mark.parametrize("where", ["artifacts", ""])
    def test_a_folder_of_artifacts_is_no_link(
        self, folder: Path, tmp_path: Path, home: Home, capsys: Capture, where: str
    ) -> None:
        secret = write_tree(tmp_path / "private", {"key": "geheim", "artifacts/key": "geheim"})
        link = tmp_path / "links" / TWO / where
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(secret)
        write_tree(folder, {f"7/{TWO}/meta.yaml": run_meta(TWO, f"file://{tmp_path}/links/{TWO}/artifacts")})
        (folder / "7" / TWO / "artifacts").symlink_to(secret)
        bring(capsys, folder)
        assert survey(home.artifacts(TWO)).files == ()

    def test_a_store_names_no_folder_of_ours(self, folder: Path, tmp_path: Path, home: Home, capsys: Capture) -> None:
        secret = write_tree(tmp_path / "private", {"key": "geheim"})
        write_tree(folder, {f"7/{TWO}/meta.yaml": run_meta(TWO, secret.as_uri())})
        bring(capsys, folder)
        assert survey(home.artifacts(TWO)).files == ()

    def test_dots_lead_nowhere(self, tmp_path: Path) -> None:
        write_tree(tmp_path, {f"a/{ONE}/artifacts/x": "x", "private/key": "geheim"})
        there = f"{tmp_path}/a/{ONE}/artifacts"
        assert find_folder(there, ONE, ()) == Path(there)
        for uri in (f"{there}/../../../private", f"file://{there}/%2e%2e/%2e%2e/%2e%2e/private", f"{tmp_path}/private"):
            assert find_folder(uri, ONE, ()) is None
        assert find_folder(f"./{ONE}/artifacts", ONE, (tmp_path / "a",)) == Path(there)
        assert find_folder(f"file://elsewhere{there}", ONE, ()) is None

    def test_credentials_are_not_kept(self, folder: Path, db: Database, home: Home, capsys: Capture) -> None:
        token = f"hf_{os.urandom(20).hex()}"
        write_tree(
            folder,
            {
                f"7/{TWO}/tags/mlflow.source.name": f"https://me:{token}@git.example.org/x.git",
                f"7/{TWO}/params/api_key": "abcd-efgh",
                f"7/{TWO}/meta.yaml": run_meta(TWO, f"ftp://me:{token}@files.example.org/{TWO}/artifacts"),
            },
        )
        printed = bring(capsys, folder)
        run = runs.get(db, TWO)
        assert run.tags["mlflow.source.name"] == "https://***@git.example.org/x.git"
        assert run.params == {"api_key": "***"}
        assert token not in printed.out + printed.err + run.artifact_uri
        assert token.encode() not in home.database.read_bytes()

    def test_names_do_not_steer_the_terminal(self, folder: Path, capsys: Capture) -> None:
        write_tree(folder, {f"7/{TWO}/params/\x1b[31mred": "1", f"7/{TWO}/params/a,b": "1"})
        with (folder / "7" / TWO / "params" / os.fsdecode(b"\xff,")).open("w") as file:
            file.write("1")
        printed = bring(capsys, folder)
        assert "\x1b" not in printed.err
        assert printed.err.count("Skipped") == 3
        bring(capsys, folder, "--json")

    def test_links_to_runs_and_experiments_are_reported(self, folder: Path, tmp_path: Path, capsys: Capture) -> None:
        elsewhere = (folder / "7" / ONE).rename(tmp_path / "elsewhere")
        (folder / "7" / ONE).symlink_to(elsewhere)
        (folder / "8").symlink_to(folder / "7")
        printed = bring(capsys, folder)
        assert f"{folder}/7/{ONE} is a link, which is not followed" in printed.err
        assert f"{folder}/8 is a link" in printed.err
        assert "runs: 2 added" in printed.out

    def test_pickles_are_not_opened(self, folder: Path, tmp_path: Path, home: Home, capsys: Capture) -> None:
        marker = tmp_path / "ran"
        payload = f"cos\nsystem\n(S'touch {marker}'\ntR.".encode()
        write_tree(folder, {f"7/{ONE}/artifacts/model/model.pkl": payload})
        assert bring(capsys, folder).code == 0
        assert (home.artifacts(ONE) / "model" / "model.pkl").read_bytes() == payload
        assert not marker.exists()


def test_several_imports_at_once(folder: Path, db: Database, tmp_path: Path) -> None:
    processes = [start_proj("import", str(folder), cwd=tmp_path) for _ in range(4)]
    ends = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, ends
    assert db.query("SELECT count(*) FROM runs")[0][0] == 3
    assert db.query("SELECT count(*) FROM experiments")[0][0] == 3
    assert sum(1 for _ in all_points(db, ONE, "val/loss")) == 3


@given(st.binary(max_size=200))
def test_any_bytes_are_points_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("lines") / "metric"
    path.write_bytes(data)
    points = []
    with contextlib.suppress(TransferError):
        points += metric_points("m", path, lambda _: None)
    assert len(points) <= data.count(b"\n") + 1


class TestLarge:
    """A million points need no more memory than a few."""

    def test_memory_stays_small(self, tmp_path: Path, home: Home) -> None:
        root = write_tree(
            tmp_path / "mlruns",
            {"7/meta.yaml": "name: large\n", f"7/{ONE}/meta.yaml": run_meta(ONE), f"7/{ONE}/metrics/x": ""},
        )
        with (root / "7" / ONE / "metrics" / "x").open("w") as file:
            file.writelines(f"{number} {number / 7} {number}\n" for number in range(200_000))
        code = (
            "import resource, sys\nfrom runner.cli.main import run_command\n"
            "run_command(['list'])\nbefore = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "assert run_command(['import', sys.argv[1]]) == 0\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
        )
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PROJ_HOME": str(home.root)}
        done = subprocess.run([sys.executable, "-c", code, root], env=env, capture_output=True, text=True, check=True)
        unit = 1 if sys.platform == "darwin" else 1024
        assert int(done.stdout.split()[-1]) * unit < 30_000_000
        with closing(Database.open(home.database)) as database:
            assert database.query("SELECT count(*) FROM points")[0][0] == 200_000

    @pytest.mark.slow
    def test_a_killed_import_leaves_complete_runs(self, tmp_path: Path, home: Home, proj: RunProj) -> None:
        files = {"7/meta.yaml": "name: large\n"}
        for number in range(30):
            run_id = f"{number:032x}"
            files[f"7/{run_id}/meta.yaml"] = run_meta(run_id)
            files[f"7/{run_id}/metrics/x"] = "".join(f"{step} 0.5 {step}\n" for step in range(2_000))
            files[f"7/{run_id}/artifacts/a"] = "a" * 100_000
        root = write_tree(tmp_path / "mlruns", files)
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        for delay in (0.3, 0.5, 0.7, 0.9, 1.1):
            process = subprocess.Popen([sys.executable, "-m", "runner.cli.main", "import", root], env=env)
            try:
                process.wait(delay)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if home.database.exists():
                with closing(Database.open(home.database)) as database:
                    counts = database.query("SELECT (SELECT count(*) FROM points WHERE run = r.id) FROM runs r")
                    assert {row[0] for row in counts} <= {2_000}
                    assert database.query("PRAGMA integrity_check")[0][0] == "ok"
        assert proj("import", str(root)).code == 0
        assert json.loads(proj("import", str(root), "--json").out)["runs"]["unchanged"] == 30


ENDLESS = """
CREATE VIEW metrics AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
    SELECT 'x' AS key, i AS value, i AS timestamp, 'a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1' AS run_uuid FROM n;
INSERT INTO experiments VALUES (1, 'old', '', 'active');
"""


def old_run(run_id: str, experiment: int = 1, status: object = "FINISHED", uri: str = "") -> tuple[object, ...]:
    return (run_id, "", "LOCAL", "", "", "ann", status, 1_000, 2_000, "", "active", uri, experiment)


class TestDatabase:
    """The newest schema is tested with a real server in test_clients.py."""

    def test_the_oldest_schema(self, tmp_path: Path, db: Database, home: Home, capsys: Capture) -> None:
        write_tree(tmp_path / "mlruns" / "1" / ONE / "artifacts", {"plot.png": "plot"})
        path = make_database(
            tmp_path / "mlflow.db",
            experiments=[(0, "Default", "./mlruns/0", "active"), (1, "old", "./mlruns/1", "active")],
            runs=[old_run(ONE, uri=f"./mlruns/1/{ONE}/artifacts")],
            params=[("alpha", "0.5", ONE)],
            tags=[("mlflow.runName", "named", ONE)],
            metrics=[("rmse", 0.5, 10, ONE), ("rmse", 0.25, 11, ONE), ("top", sys.float_info.max, 12, ONE)],
        )
        before = path.read_bytes()
        assert bring(capsys, f"sqlite:///{path}").code == 0
        run = runs.get(db, ONE)
        assert (run.name, run.user, run.params, run.metrics["rmse"].value) == ("named", "ann", {"alpha": "0.5"}, 0.25)
        assert run.metrics["top"].value == math.inf
        assert [file.path for file in survey(home.artifacts(ONE)).files] == ["plot.png"]
        assert "everything had been imported before" in bring(capsys, path).out
        assert path.read_bytes() == before
        assert {file.name for file in tmp_path.iterdir()} == {"mlflow.db", "mlruns"}

    def test_a_row_that_can_not_be(self, tmp_path: Path, db: Database, capsys: Capture) -> None:
        path = make_database(
            tmp_path / "mlflow.db",
            experiments=[(1, "old", "", "active")],
            runs=[old_run(ONE, status="NEVER"), old_run(TWO), old_run("../../etc"), old_run(THREE)],
            metrics=[("rmse", "much", 10, TWO), ("rmse", 0.5, 1, THREE)],
        )
        printed = bring(capsys, path)
        assert printed.code == 1
        assert f"{path}: runs, the run {ONE}: status NEVER" in printed.err
        assert f"{path}: metrics, the run {TWO}, rmse: value 'much'" in printed.err
        assert "'../../etc' is not a valid run id" in printed.err
        assert "runs: 1 added, 3 left out" in printed.out
        assert [run.run_id for run in search_runs(db, SearchQuery()).items] == [THREE]

    def test_the_database_can_be_written_to_meanwhile(self, tmp_path: Path, capsys: Capture) -> None:
        path = make_database(tmp_path / "mlflow.db", experiments=[(1, "old", "", "active")], runs=[old_run(ONE)])
        with closing(sqlite3.connect(path)) as server:
            server.execute("PRAGMA journal_mode = WAL")
            server.execute("INSERT INTO params VALUES ('late', '1', ?)", (ONE,))
            server.commit()
            assert "runs: 1 added" in bring(capsys, path).out
            server.execute("INSERT INTO params VALUES ('later', '2', ?)", (ONE,))
            server.commit()
            assert "runs: 1 updated" in bring(capsys, path).out

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_that_may_not_be_written_to(self, tmp_path: Path, capsys: Capture) -> None:
        folder = tmp_path / "read only"
        folder.mkdir()
        path = make_database(folder / "mlflow.db", "PRAGMA journal_mode = WAL;" + OLD, runs=[old_run(ONE)])
        folder.chmod(0o500)
        try:
            assert bring(capsys, path).code == 0
        finally:
            folder.chmod(0o700)

    def test_words_about_damage_that_are_no_text(self, tmp_path: Path, capsys: Capture) -> None:
        path = make_database(tmp_path / "mlflow.db")
        path.write_bytes(path.read_bytes().replace(b"CREATE TABLE params", b"CREATE TABLE \xa4\xa4rams"))
        printed = bring(capsys, path)
        assert printed.code == 1
        assert "The database can't be read" in printed.err

    def test_a_damaged_one(self, tmp_path: Path, capsys: Capture) -> None:
        path = make_database(tmp_path / "mlflow.db", experiments=[(1, "old", "", "active")])
        data = path.read_bytes()
        path.write_bytes(data[:4096] + os.urandom(len(data) - 4096))
        printed = bring(capsys, path)
        assert printed.code == 1
        assert f"The database can't be read\n  {path}" in printed.err

    @pytest.mark.parametrize(
        ("sql", "words"),
        [
            ("CREATE TABLE runs (id, experiment); CREATE TABLE experiments (id, name)", "is not an MLflow database"),
            (OLD.replace("CREATE TABLE metrics", "CREATE TABLE others") + ENDLESS, ""),
            (OLD + "INSERT INTO experiments VALUES (1, x'ff', '', 'active');", ""),
            (OLD + "INSERT INTO experiments VALUES (1, 'a', '', 'active'), (2, 'a', '', 'active');", ""),
            (OLD + "INSERT INTO experiments VALUES (1, '', '', 'active');", "The name of the experiment is empty"),
        ],
    )
    def test_odd_ones(self, tmp_path: Path, capsys: Capture, sql: str, words: str) -> None:
        path = make_database(tmp_path / "odd.db", sql)
        if "user_id" in sql:
            with closing(sqlite3.connect(path)) as file:
                file.execute(f"INSERT INTO runs VALUES ({', '.join('?' * 13)})", old_run(ONE))
                file.commit()
        printed = bring(capsys, path)
        assert words in printed.err
        assert printed.code == (1 if words else 0)

    def test_our_own_store(self, db: Database, home: Home, capsys: Capture) -> None:  # noqa: ARG002
        assert "is not an MLflow database" in bring(capsys, home.database).err

    def test_names_of_metrics_that_can_not_be(self, tmp_path: Path, db: Database, capsys: Capture) -> None:
        path = make_database(
            tmp_path / "mlflow.db",
            experiments=[(1, "old", "", "active")],
            runs=[old_run(ONE)],
            metrics=[("a,b", 0.5, 10, ONE), ("fine", 0.5, 10, ONE), ("a,b", 0.25, 11, ONE)],
        )
        printed = bring(capsys, path)
        assert printed.err.count("Invalid name of a metric: 'a,b'") == 1
        assert list(runs.get(db, ONE).metrics) == ["fine"]

    def test_another_database(self, tmp_path: Path, capsys: Capture) -> None:
        path = make_database(tmp_path / "other.db", "CREATE TABLE songs (name TEXT);")
        printed = bring(capsys, path)
        assert printed.code == 1
        assert "is not an MLflow database" in printed.err
