"""What the command of one run may change of other runs, experiments and models, and the messages about it."""

import json

import pytest

from runner.model import EventKind, RunDetails, RunStatus
from runner.store import experiments, models, runs, values
from runner.store.entities import LifecycleStage, NewModel, NewRun
from runner.store.process_identity import this_process
from tests.support.protocol import API, Client, Stage

PROXY = "/api/2.0/mlflow-artifacts/artifacts"


def recorded_run(stage: Stage) -> str:
    """Return a run that proj ran to its end."""
    tags = {"proj.tree": "t", "mlflow.source.git.commit": "c", "mlflow.project.entryPoint": "main"}
    new = NewRun(tags=tags, details=RunDetails(command="python train.py", exit_code=0))
    run_id = runs.create(stage.database, new).run_id
    runs.update(stage.database, run_id, status=RunStatus.FINISHED, ended_at=17)
    return run_id


def test_a_script_that_evaluates_writes_to_the_run_that_trained(stage: Stage) -> None:
    """``with mlflow.start_run(run_id=…)`` in a second step; both runs say it, and how the first ended stays."""
    trained = recorded_run(stage)
    with stage.socket as socket:
        client = Client(socket)
        reported = client.post("runs/update", run_id=trained, status="RUNNING").json["run_info"]
        assert reported["status"] == "RUNNING"
        assert client.get("runs/get", run_id=trained).json["run"]["info"]["status"] == "RUNNING"
        client.post("runs/log-metric", run_id=trained, key="auc", value=0.9, timestamp=1)
        client.post("runs/log-parameter", run_id=trained, key="threshold", value="0.5")
        client.post("runs/set-tag", run_id=trained, key="evaluated", value="yes")
        assert client.send("PUT", f"{PROXY}/0/{trained}/artifacts/report.txt", b"good").json == {}
        reported = client.post("runs/update", run_id=trained, status="FINISHED", end_time=99).json["run_info"]
        assert (reported["status"], reported["end_time"]) == ("FINISHED", 99)
    run = runs.get(stage.database, trained)
    assert (run.status, run.ended_at, run.details.exit_code) == (RunStatus.FINISHED, 17, 0)
    assert (run.metrics["auc"].value, run.params, run.tags["evaluated"]) == (0.9, {"threshold": "0.5"}, "yes")
    assert run.tags["proj.written_by"] == stage.run_id
    assert (stage.home.artifacts(trained) / "report.txt").read_bytes() == b"good"
    assert [(event.kind, trained in event.message) for event in stage.events] == [(EventKind.NOTICE, True)]


def test_all_who_wrote_to_a_run_are_named(stage: Stage) -> None:
    trained = recorded_run(stage)
    values.set_tags(stage.database, trained, {"proj.written_by": "0" * 32})
    with stage.socket as socket:
        for number in range(2):
            Client(socket).post("runs/log-metric", run_id=trained, key="m", value=number)
    assert runs.get(stage.database, trained).tags["proj.written_by"] == f"{'0' * 32} {stage.run_id}"


@pytest.mark.parametrize("which", ["own", "other"])
def test_what_proj_recorded_of_the_code_stays(stage: Stage, which: str) -> None:
    other = recorded_run(stage)
    run_id = stage.run_id if which == "own" else other
    values.set_tags(stage.database, run_id, {"proj.tree": "t", "mlflow.source.git.commit": "c"})
    with stage.socket as socket:
        client = Client(socket)
        tags = [{"key": "proj.tree", "value": "forged"}, {"key": "mine", "value": "1"}]
        for reply in (
            client.post("runs/set-tag", run_id=run_id, key="mlflow.source.git.commit", value="forged"),
            client.post("runs/delete-tag", run_id=run_id, key="proj.tree"),
            client.post("runs/log-batch", run_id=run_id, tags=tags),
            client.post("runs/set-tag", run_id=run_id, key="proj.new", value="forged"),
        ):
            assert reply.json == {}
    found = runs.get(stage.database, run_id).tags
    assert (found["proj.tree"], found["mlflow.source.git.commit"], found["mine"]) == ("t", "c", "1")
    assert "proj.new" not in found
    messages = [event.message for event in stage.events]
    assert sum("is kept" in message for message in messages) == 3


def test_a_run_that_goes_on_elsewhere_is_left_alone(stage: Stage, client: Client) -> None:
    live = runs.create(stage.database, NewRun(owner=this_process())).run_id
    experiment = experiments.create(stage.database, "busy")
    runs.create(stage.database, NewRun(owner=this_process(), experiment_id=experiment))
    runs.set_owner(stage.database, stage.run_id, this_process())
    before = runs.get(stage.database, live)
    model = models.create(stage.database, NewModel(source_run_id=live)).model_id
    for endpoint, fields in (
        ("runs/update", {"status": "FAILED"}),
        ("runs/delete", {}),
        ("runs/log-metric", {"key": "m", "value": 1}),
        ("runs/log-parameter", {"key": "p", "value": "1"}),
        ("runs/set-tag", {"key": "t", "value": "1"}),
        ("runs/delete-tag", {"key": "t"}),
        ("runs/log-batch", {"tags": [{"key": "t", "value": "1"}]}),
        ("runs/log-model", {"model_json": "{}"}),
        ("runs/log-inputs", {"models": [{"model_id": model}]}),
        ("runs/outputs", {"models": [{"model_id": model, "step": 0}]}),
    ):
        assert client.post(endpoint, run_id=live, **fields).error == (403, "PERMISSION_DENIED"), endpoint
    path = f"{PROXY}/0/{live}/artifacts/x"
    assert client.send("PUT", path, b"mine").error == client.send("DELETE", path).error == (403, "PERMISSION_DENIED")
    assert client.post("logged-models", experiment_id="0", source_run_id=live).error[0] == 403
    assert client.post("experiments/delete", experiment_id=experiment).error == (403, "PERMISSION_DENIED")
    assert client.post("runs/delete", run_id=stage.run_id).error == (403, "PERMISSION_DENIED")
    assert runs.get(stage.database, live) == before


def test_runs_and_experiments_of_others_can_be_deleted_and_brought_back(stage: Stage) -> None:
    """Some scripts tidy up what earlier ones left."""
    experiment = experiments.create(stage.database, "old")
    old = runs.create(stage.database, NewRun(experiment_id=experiment)).run_id
    with stage.socket as socket:
        client = Client(socket)
        assert client.post("runs/delete", run_id=old).json == {}
        assert runs.get(stage.database, old).lifecycle_stage is LifecycleStage.DELETED
        assert client.post("runs/log-metric", run_id=old, key="m", value=1).error == (400, "INVALID_PARAMETER_VALUE")
        assert client.post("runs/restore", run_id=old).json == {}
        assert client.post("experiments/update", experiment_id=experiment, new_name="older").json == {}
        assert client.post("experiments/delete", experiment_id=experiment).json == {}
        assert client.post("experiments/restore", experiment_id=experiment).json == {}
        tag = {"experiment_id": experiment, "key": "k", "value": "v"}
        assert client.post("experiments/set-experiment-tag", **tag).json == {}
    assert runs.get(stage.database, old).lifecycle_stage is LifecycleStage.ACTIVE
    assert [event.message.split(" the experiment")[0] for event in stage.events] == [
        f"The command deleted or restored another run, {old}",
        "The command renamed",
        "The command deleted",
        "The command restored",
    ]


def test_logged_models_of_others_can_be_tagged_and_registered(stage: Stage) -> None:
    model = models.create(stage.database, NewModel(name="m", source_run_id=stage.foreign))
    with stage.socket as socket:
        client = Client(socket)
        tags = {"tags": [{"key": "mlflow.modelVersions", "value": "[]"}]}
        path = f"{API}logged-models/{model.model_id}"
        assert client.send("PATCH", f"{path}/tags", json.dumps(tags).encode()).status == 200
        client.post("registered-models/create", name="m")
        made = client.post(
            "model-versions/create", name="m", source=f"models:/{model.model_id}", model_id=model.model_id
        ).json["model_version"]
        assert (made["run_id"], made["version"]) == (stage.foreign, "1")
        assert client.get("model-versions/get-download-uri", name="m", version=1).json == {
            "artifact_uri": model.artifact_uri.removeprefix("file://")
        }
        assert not stage.events
        client.send("DELETE", f"{API}model-versions/delete", json.dumps({"name": "m", "version": "1"}).encode())
        assert client.send("DELETE", path).status == 200
    assert [event.message.split(" ", 3)[2] for event in stage.events] == ["removed", "deleted"]


def test_a_run_that_another_client_left_running_is_closed_for_good_by_whoever_ends_it(
    stage: Stage, client: Client
) -> None:
    client.post("runs/update", run_id=stage.foreign, status="FAILED", end_time=5)
    assert runs.get(stage.database, stage.foreign).status is RunStatus.FAILED
    client.post("runs/update", run_id=stage.foreign, status="RUNNING")
    assert runs.get(stage.database, stage.foreign).status is RunStatus.FAILED
