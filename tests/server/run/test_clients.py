"""Real clients of MLflow, old and new, log to a run through its socket; what they did is in the store."""

import json
import math
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runner.model import Event, RunDetails, RunStatus
from runner.server.run.socket import REMOVED_VARIABLES, ChildSocket
from runner.settings import Home
from runner.store import experiments, lineage, models, runs, values
from runner.store.artifacts import survey
from runner.store.database import Database
from runner.store.entities import LifecycleStage, ModelStatus, NewRun
from runner.store.process_identity import this_process
from tests.support.mlflow_clients import CLIENTS, FEWER, NEWEST, OLDEST, VERSIONS, client_python

pytestmark = [pytest.mark.mlflow, pytest.mark.env, pytest.mark.slow]

OPENED = ("alpha", "0.00001")


class ClientSetup:
    """A store with a run that is open, and the socket's ways to it."""

    def __init__(self, home: Home, database: Database) -> None:
        self.home = home
        self.database = database
        self.run_id = runs.create(database, NewRun()).run_id
        self.events: list[Event] = []

    def socket(self, *, experiment_is_fixed: bool = False) -> ChildSocket:
        return ChildSocket(self.home, self.run_id, "0", self.events.append, experiment_is_fixed=experiment_is_fixed)

    def run(self, python: Path, *words: str | Path, socket: ChildSocket, **variables: str) -> None:
        environ = {name: value for name, value in os.environ.items() if name not in REMOVED_VARIABLES}
        done = subprocess.run(
            [python, *words],
            env={**environ, **socket.variables(), "MPLCONFIGDIR": str(self.home.root / "mpl"), **variables},
            cwd=self.home.root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def client_setup(home: Home) -> Iterator[ClientSetup]:
    with closing(Database.open(home.database)) as database:
        yield ClientSetup(home, database)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_client_did_is_in_the_store(client_setup: ClientSetup, version: str) -> None:
    python = client_python(version)
    db = client_setup.database
    foreign = runs.create(db, NewRun(owner=this_process())).run_id
    db.execute(
        "INSERT INTO params (run, key, value, source) SELECT id, ?, ?, 'default' FROM runs WHERE run_id = ?",
        *OPENED,
        client_setup.run_id,
    )
    result = client_setup.home.root / "seen.json"
    with client_setup.socket() as socket:
        client_setup.run(python, CLIENTS / "everything.py", result, socket=socket, FOREIGN_RUN=foreign)
    seen = json.loads(result.read_text(encoding="utf-8"))
    assert version.endswith(seen["version"])
    assert socket.final_status is RunStatus.FINISHED
    check_own_run(client_setup, seen)
    check_artifacts(client_setup, seen)
    check_models(client_setup, seen)
    check_other_runs(client_setup, seen)
    check_experiments(client_setup, seen)
    assert runs.get(db, foreign).tags.keys() == {"mlflow.runName"}
    assert seen["refusals"] == {
        "unknown run": "RESOURCE_DOES_NOT_EXIST",
        "foreign run": "PERMISSION_DENIED",
        "changed param": "INVALID_PARAMETER_VALUE",
        "bad filter": "INVALID_PARAMETER_VALUE",
    }


def check_own_run(client_setup: ClientSetup, seen: dict[str, Any]) -> None:
    run = runs.get(client_setup.database, client_setup.run_id)
    assert seen["run_id"] == seen["run_id_given"] == client_setup.run_id
    assert experiments.get(client_setup.database, run.experiment_id).name == "chosen by the script"
    assert seen["experiment_id"] == run.experiment_id
    assert [event.message for event in client_setup.events] == [
        "The run is in the experiment 'chosen by the script', which its script selects"
    ]
    assert run.status is RunStatus.RUNNING
    assert run.ended_at is None
    assert run.params == {
        **dict([OPENED]),
        "text": "naïve 'quoted' = $HOME\n",
        "from batch": "x",
        **{f"p{number}": str(number) for number in range(99)},
    }
    assert seen["params"] == run.params
    numbers = {key: metric.value for key, metric in run.metrics.items()}
    assert math.isnan(numbers.pop("nan"))
    assert numbers == {
        "loss": 0.2,
        "late": 2.0,
        "folder/with space": 0.25,
        "plus": math.inf,
        "minus": -math.inf,
        "m1": 1.5,
        "m2": 2.0,
        "zero": 0.0,
        "batched": 499.5,
    }
    assert seen["metrics"] == {**numbers, "nan": "nan", "plus": "inf", "minus": "-inf"}
    assert run.tags["plain"] == "value"
    assert run.tags["a"] == "1"
    assert run.tags["batch tag"] == "y"
    assert "gone" not in run.tags
    assert seen["tags"] == run.tags
    late = values.metric_history(client_setup.database, client_setup.run_id, "late").items
    assert [(point.step, point.value) for point in late] == [(3, 9.0), (7, 2.0)]
    batched = values.metric_history(client_setup.database, client_setup.run_id, "batched").items
    assert [(p.step, p.value, p.timestamp) for p in batched] == [
        (number, number * 0.5, 1700000000000 + number) for number in range(1000)
    ]
    assert seen["batched"] == [1000, 499.5, 999, 1700000000999]


def check_artifacts(client_setup: ClientSetup, seen: dict[str, Any]) -> None:
    root = client_setup.home.artifacts(client_setup.run_id)
    assert seen["artifact_uri"] == str(root), "a local folder is sent as a plain path"
    assert (root / "notes" / "hello.txt").read_text(encoding="utf-8") == "hello ✓"
    assert json.loads((root / "data.json").read_text()) == {"a": [1, 2]}
    assert (root / "plots" / "line.png").read_bytes().startswith(b"\x89PNG")
    assert (root / "one.bin").read_bytes() == b"one.bin" * 100
    assert (root / "many" / "sub" / "two.bin").read_bytes() == b"sub/two.bin" * 100
    assert {"data.json", "many", "notes", "one.bin", "plots"} <= set(seen["artifacts"])
    assert seen["many"] == [["many/one.bin", False], ["many/sub", True]]


def check_models(client_setup: ClientSetup, seen: dict[str, Any]) -> None:
    assert seen["model_agrees"]
    assert seen["model_by_run_agrees"]
    run = runs.get(client_setup.database, client_setup.run_id)
    model_id = seen["model_id"] if seen["version"].startswith("3") else None
    if model_id is None:
        root = client_setup.home.artifacts(client_setup.run_id) / "model"
        history = json.loads(run.tags["mlflow.log-model.history"])
        assert [entry["artifact_path"] for entry in history] == ["model"]
    else:
        model = models.get(client_setup.database, model_id)
        assert (model.name, model.source_run_id) == ("model", client_setup.run_id)
        assert model.status is ModelStatus.READY
        assert model_id in {one.model_id for one in lineage.outputs(client_setup.database, client_setup.run_id)}
        root = client_setup.home.run("models") / model_id / "artifacts"
    assert "MLmodel" in {info.path for info in survey(root).files}


def check_other_runs(client_setup: ClientSetup, seen: dict[str, Any]) -> None:
    db = client_setup.database
    automatic = runs.get(db, seen["autolog"]["run_id"])
    assert automatic.name == "automatic"
    assert automatic.params["alpha"] == seen["autolog"]["alpha"] == "0.25"
    assert sorted(automatic.metrics) == seen["autolog"]["metrics"]
    assert any(name.startswith("training_") for name in automatic.metrics)
    outer, inner = (runs.get(db, run_id) for run_id in seen["nested"])
    assert inner.tags["mlflow.parentRunId"] == outer.run_id
    assert outer.tags["mlflow.parentRunId"] == automatic.tags["mlflow.parentRunId"] == client_setup.run_id
    assert (inner.metrics["inside"].value, outer.metrics["outside"].value) == (3.0, 4.0)
    assert (inner.status, outer.status) == (RunStatus.FINISHED, RunStatus.FINISHED)
    doomed = runs.get(db, seen["failed"])
    assert doomed.status is RunStatus.FAILED
    assert seen["failed_status"] == "FAILED"
    assert doomed.ended_at is not None
    assert doomed.ended_at >= doomed.started_at


def check_experiments(client_setup: ClientSetup, seen: dict[str, Any]) -> None:
    made = experiments.get(client_setup.database, seen["made"])
    assert (made.name, made.tags) == ("made", {"kind": "test"})
    assert seen["by_name"] == made.id
    assert seen["missing"]
    assert seen["twice"] == "RESOURCE_ALREADY_EXISTS"
    assert seen["experiments"] == ["Default", "chosen by the script", "made"]
    assert seen["search"] == [0.75]
    assert runs.get(client_setup.database, seen["deleted"]).lifecycle_stage is LifecycleStage.DELETED


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("mlflow.end_run('FAILED')", RunStatus.FAILED),
        ("mlflow.end_run('KILLED')", RunStatus.KILLED),
        ("", RunStatus.FINISHED),
        ("import os; os._exit(0)", None),
    ],
)
def test_a_status_that_the_script_sets_is_known_and_the_record_stays_open(
    client_setup: ClientSetup, version: str, ending: str, status: RunStatus | None
) -> None:
    """Probe 20: whoever runs the command decides with the exit code and this status together."""
    python = client_python(version)
    with client_setup.socket() as socket:
        client_setup.run(python, "-c", f"import mlflow\nmlflow.log_metric('m', 1)\n{ending}", socket=socket)
    assert socket.final_status is status
    run = runs.get(client_setup.database, client_setup.run_id)
    assert (run.status, run.ended_at, run.metrics["m"].value) == (RunStatus.RUNNING, None, 1.0)


CHOOSING = """
import sys
import mlflow
mlflow.set_experiment(sys.argv[1])
with mlflow.start_run() as run:
    assert run.info.run_id == sys.argv[2], run.info
    mlflow.log_metric(sys.argv[1], 1)
    assert mlflow.get_run(run.info.run_id).info.experiment_id == run.info.experiment_id
with mlflow.start_run() as run:
    assert mlflow.get_experiment(run.info.experiment_id).name == sys.argv[1]
"""


@pytest.mark.parametrize("version", FEWER)
@pytest.mark.parametrize("is_fixed", [False, True])
def test_each_part_of_a_command_may_choose_an_experiment(
    client_setup: ClientSetup, version: str, is_fixed: bool
) -> None:
    """Probe 23: MLflow's client refuses to attach to a run of another experiment than the one that is set."""
    python = client_python(version)
    experiments.create(client_setup.database, "second")
    with client_setup.socket(experiment_is_fixed=is_fixed) as socket:
        for name in ("first", "second"):
            client_setup.run(python, "-c", CHOOSING, name, client_setup.run_id, socket=socket)
    run = runs.get(client_setup.database, client_setup.run_id)
    assert run.metrics.keys() == {"first", "second"}
    assert experiments.get(client_setup.database, run.experiment_id).name == ("Default" if is_fixed else "first")
    assert len(client_setup.events) == 1
    assert len(socket.created_runs) == 2


INNER = """
import mlflow
mlflow.set_experiment("of the inner project")
with mlflow.start_run():
    mlflow.log_param("alpha", 0.5)
    mlflow.log_metric("inside", 1)
"""


@pytest.mark.parametrize("version", FEWER)
def test_a_project_run_inside_is_a_run_of_its_own_below_its_parent(client_setup: ClientSetup, version: str) -> None:
    """Probe 23: ``mlflow.run`` in a script, without any active run of the client."""
    python = client_python(version)
    project = client_setup.home.root / "inner"
    project.mkdir()
    (project / "MLproject").write_text(
        "name: inner\nentry_points:\n  main:\n    parameters: {alpha: {type: float, default: 0.5}}\n"
        f"    command: '{python} train.py --alpha {{alpha}}'\n",
        encoding="utf-8",
    )
    (project / "train.py").write_text(INNER, encoding="utf-8")
    local = "use_conda=False" if version.startswith("1.") else "env_manager='local'"
    script = f"import mlflow\nmlflow.run({str(project)!r}, {local})\nmlflow.log_metric('outside', 2)\n"
    with client_setup.socket() as socket:
        client_setup.run(python, "-c", script, socket=socket)
    (inner,) = (runs.get(client_setup.database, run_id) for run_id in socket.created_runs)
    assert inner.tags["mlflow.parentRunId"] == client_setup.run_id
    assert inner.status is RunStatus.FINISHED
    assert (inner.params, inner.metrics["inside"].value) == ({"alpha": "0.5"}, 1.0)
    assert experiments.get(client_setup.database, inner.experiment_id).name == "of the inner project"
    outer = runs.get(client_setup.database, client_setup.run_id)
    assert outer.metrics.keys() == {"outside"}
    assert outer.experiment_id == "0"


@pytest.mark.parametrize("version", FEWER)
def test_clients_send_and_fetch_artifacts_through_the_proxy(client_setup: ClientSetup, version: str) -> None:
    """Clients that share no disk with the store name artifacts by ``mlflow-artifacts:`` URIs."""
    python = client_python(version)
    script = """
import sys
from pathlib import Path
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
repository = get_artifact_repository(sys.argv[1])
Path("big.bin").write_bytes(bytes(range(256)) * 20000)
repository.log_artifact("big.bin", "deep/folder")
repository.log_artifact("big.bin")
assert [(i.path, i.is_dir, i.file_size) for i in repository.list_artifacts()] == [
    ("big.bin", False, 5120000), ("deep", True, None)], repository.list_artifacts()
assert [i.path for i in repository.list_artifacts("deep/folder")] == ["deep/folder/big.bin"]
assert Path(repository.download_artifacts("deep/folder/big.bin")).read_bytes() == Path("big.bin").read_bytes()
assert Path(repository.download_artifacts("deep"), "folder", "big.bin").stat().st_size == 5120000
repository.delete_artifacts("big.bin")
assert repository.list_artifacts("nothing here") == []
"""
    uri = f"mlflow-artifacts:/0/{client_setup.run_id}/artifacts"
    with client_setup.socket() as socket:
        client_setup.run(python, "-c", script, uri, socket=socket)
    found = survey(client_setup.home.artifacts(client_setup.run_id)).files
    assert [(info.path, info.size) for info in found] == [("deep/folder/big.bin", 5120000)]


EVALUATE = """
import sys
import mlflow
with mlflow.start_run(run_id=sys.argv[1]) as run:
    assert run.info.run_id == sys.argv[1]
    mlflow.log_metric("auc", 0.75)
    mlflow.log_text("good", "report.txt")
    mlflow.set_tag("evaluated", "yes")
assert mlflow.get_run(sys.argv[1]).info.status == "FINISHED"
"""


@pytest.mark.parametrize("version", FEWER)
def test_a_second_step_logs_to_the_run_of_the_first(client_setup: ClientSetup, version: str) -> None:
    """``mlflow.start_run(run_id=…)`` with the id that an earlier ``proj run`` printed."""
    db = client_setup.database
    trained = runs.create(db, NewRun(details=RunDetails(command="python train.py"))).run_id
    runs.update(db, trained, status=RunStatus.FINISHED, ended_at=17)
    with client_setup.socket() as socket:
        client_setup.run(client_python(version), "-c", EVALUATE, trained, socket=socket, MLFLOW_RUN_ID="")
    run = runs.get(db, trained)
    assert (run.metrics["auc"].value, run.tags["evaluated"], run.tags["proj.written_by"]) == (
        0.75,
        "yes",
        client_setup.run_id,
    )
    assert (client_setup.home.artifacts(trained) / "report.txt").read_text() == "good"
    assert (run.status, run.ended_at) == (RunStatus.FINISHED, 17)
    assert [event.message for event in client_setup.events] == [f"The command wrote to another run, {trained}"]
