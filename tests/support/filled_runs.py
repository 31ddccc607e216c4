"""Runs with something of every kind, for tests that move runs about."""

import math
import secrets

from runner.model import RunDetails, RunStatus
from runner.settings import Home
from runner.store import experiments, lineage, models, runs, values
from runner.store.artifacts import write_artifact
from runner.store.database import Database
from runner.store.entities import Dataset, DatasetInput, Metric, ModelOutput, ModelStatus, NewModel, NewRun


def make_run(db: Database, home: Home, experiment: str = "iris") -> str:
    """Make a run that has something of every kind but a model, and goes on."""
    experiment_id = experiments.ensure(db, experiment)
    run_id = runs.create(db, NewRun(experiment_id=experiment_id, name="one", user="me", tags={"team": "ü"})).run_id
    values.log_params(db, run_id, [("alpha", "0.5"), ("long", "x" * 400)])
    points = [Metric(key="loss", value=1 / (1 + step), timestamp=100 + step, step=step) for step in range(2500)]
    odd = [Metric(key="odd", value=value, timestamp=1) for value in (math.nan, math.inf, -math.inf)]
    values.log_metrics(db, run_id, [*points, *odd])
    data = DatasetInput(dataset=Dataset(name="d", digest="abc", source_type="local", source="{}"), tags={"a": "b"})
    lineage.log_inputs(db, run_id, [data])
    root = home.artifacts(run_id)
    write_artifact(root, "plots/a b.txt", [b"plot"])
    write_artifact(root, "big.bin", [secrets.token_bytes(2_000_000)])
    runs.set_details(db, run_id, RunDetails(command="python train.py", entry_point="main"))
    home.log(run_id).write_bytes(b"hello\n")
    return run_id


def make_model(db: Database, home: Home, run_id: str, name: str = "net") -> str:
    """Make a logged model of a run."""
    experiment_id = runs.get(db, run_id).experiment_id
    new = NewModel(experiment_id=experiment_id, name=name, source_run_id=run_id, params={"depth": "3"}, tags={"k": "v"})
    model = models.create(db, new)
    text = f"model_id: {model.model_id}\nrun_id: {run_id}\n".encode()
    root = home.root / "runs" / "models" / model.model_id / "artifacts"
    write_artifact(root, "MLmodel", [text])
    write_artifact(root, "weights/w.bin", [b"123"])
    lineage.log_outputs(db, run_id, [ModelOutput(model_id=model.model_id, step=2)])
    measured = Metric(key="acc", value=0.9, timestamp=5, step=2, model_id=model.model_id, dataset_name="d")
    values.log_metrics(db, run_id, [measured])
    models.finalize(db, model.model_id, ModelStatus.READY)
    return model.model_id


def close_run(db: Database, run_id: str) -> None:
    """End a run well."""
    runs.update(db, run_id, status=RunStatus.FINISHED)
