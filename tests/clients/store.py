"""Fill the store of MLFLOW_TRACKING_URI with a real client; write what the client then reads from it to a JSON file."""

from __future__ import annotations  # clients of 1.x run on Python 3.9

import json
import math
import sys
import tempfile
from pathlib import Path

import mlflow
from mlflow.entities import Run, ViewType
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

client = MlflowClient()
MAJOR = int(mlflow.__version__.split(".")[0])


def fill() -> None:
    experiment = client.create_experiment("churn ü/x")
    client.set_experiment_tag(experiment, "team", "blue\nand red")
    mlflow.set_experiment("churn ü/x")
    with mlflow.start_run(run_name="parent: one") as run:
        mlflow.log_params({"alpha": "1e-05", "text": "naïve 'quoted' = $HOME\nsecond", "empty": "", "opt/lr": 0.1})
        for step in range(5):
            mlflow.log_metric("val/loss", 1 / (step + 1), step=step)
        mlflow.log_metric("late", 2.0, step=7)
        mlflow.log_metric("late", 9.0, step=3)
        mlflow.log_metric("before", 1.0, step=-1)
        for name, value in (("nan", math.nan), ("plus", math.inf), ("minus", -math.inf)):
            mlflow.log_metric(name, value)
        mlflow.set_tag("mlflow.note.content", "several\nlines\n")
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "sub").mkdir()
            Path(folder, "sub", "x ü.txt").write_text("x")
            Path(folder, "y z.bin").write_bytes(b"y" * 100)
            mlflow.log_artifacts(folder, "many")
        with mlflow.start_run(nested=True, run_name="child"):
            mlflow.log_metric("m", 1.5)
        if MAJOR > 1:
            import pandas as pd

            frame = mlflow.data.from_pandas(pd.DataFrame({"a": [1, 2]}), name="frame")
            mlflow.log_input(frame, context="training", tags={"k": "v"})
    deleted = client.create_run("0")
    client.log_metric(deleted.info.run_id, "gone", 1.0)
    client.delete_run(deleted.info.run_id)
    client.create_run("0")
    gone = client.create_experiment("gone")
    client.log_param(client.create_run(gone).info.run_id, "a", "b")
    client.delete_experiment(gone)
    if MAJOR > 1:
        register(f"{run.info.artifact_uri}/many", run.info.run_id)


def register(source: str, run_id: str) -> None:
    client.create_registered_model("churner", tags={"owner": "ann"}, description="what it does")
    for _ in range(3):
        client.create_model_version("churner", source, run_id, tags={"tested": "yes"}, description="words")
    client.delete_model_version("churner", "2")
    client.set_registered_model_alias("churner", "champion", "3")
    client.transition_model_version_stage("churner", "1", "Production")


def read() -> dict:
    experiments = client.search_experiments(view_type=ViewType.ALL)
    found = client.search_runs([e.experiment_id for e in experiments], run_view_type=ViewType.ALL)
    names = {e.experiment_id: e.name for e in experiments}
    return {
        "experiments": {e.name: [e.lifecycle_stage, e.tags, e.creation_time] for e in experiments},
        "runs": {run.info.run_id: read_run(run, names) for run in found},
        "models": {m.name: read_model(m) for m in client.search_registered_models()} if MAJOR > 1 else {},
    }


def read_run(run: Run, names: dict) -> dict:
    info = run.info
    return {
        "experiment": names[info.experiment_id],
        "info": [info.run_name, info.user_id, info.status, info.start_time, info.end_time, info.lifecycle_stage],
        "params": run.data.params,
        "tags": {name: value for name, value in run.data.tags.items() if name != "proj.origin"},
        "metrics": {name: history(info.run_id, name) for name in run.data.metrics},
        "last": {name: repr(value) for name, value in run.data.metrics.items()},
        "files": files(info.run_id, None),
        "inputs": inputs(run),
    }


def history(run_id: str, name: str) -> list:
    return sorted([p.step, p.timestamp, repr(p.value)] for p in client.get_metric_history(run_id, name))


def files(run_id: str, folder: str | None) -> list:
    try:
        listed = client.list_artifacts(run_id, folder)
    except MlflowException:
        return []
    below = [file for info in listed if info.is_dir for file in files(run_id, info.path)]
    return sorted([[info.path, info.file_size] for info in listed if not info.is_dir] + below)


def inputs(run: Run) -> list:
    found = getattr(run, "inputs", None)
    return [
        [one.dataset.name, one.dataset.digest, one.dataset.schema, {tag.key: tag.value for tag in one.tags}]
        for one in (found.dataset_inputs if found else [])
    ]


def read_model(model: RegisteredModel) -> dict:
    versions = client.search_model_versions(f"name = '{model.name}'")
    return {
        "model": [model.description, model.tags, model.aliases, model.creation_timestamp],
        "versions": sorted(
            [int(v.version), v.current_stage, v.description, v.run_id, v.tags, v.creation_timestamp] for v in versions
        ),
    }


if sys.argv[1] == "fill":
    fill()
Path(sys.argv[2]).write_text(json.dumps(read(), sort_keys=True))
