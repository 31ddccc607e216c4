"""Do with a real client of MLflow, of any version since 1.30, what scripts do; write what it saw to a JSON file."""

import json
import math
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import mlflow
import numpy as np
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient
from sklearn.linear_model import ElasticNet

MAJOR = int(mlflow.__version__.split(".")[0])
seen = {"version": mlflow.__version__}
X = np.arange(40, dtype=float).reshape(20, 2)
y = X @ np.array([0.5, -0.25]) + 1.0


def attach_and_log() -> None:
    seen["run_id_given"] = os.environ["MLFLOW_RUN_ID"]
    mlflow.set_experiment("chosen by the script")
    with mlflow.start_run() as run:
        seen["run_id"] = run.info.run_id
        seen["experiment_id"] = run.info.experiment_id
        seen["artifact_uri"] = mlflow.get_artifact_uri()
        mlflow.log_param("alpha", "1e-05")
        mlflow.log_param("text", "naïve 'quoted' = $HOME\n")
        mlflow.log_params({f"p{number}": number for number in range(99)})
        for step in range(5):
            mlflow.log_metric("loss", 1.0 / (step + 1), step=step)
        mlflow.log_metric("late", 2.0, step=7)
        mlflow.log_metric("late", 9.0, step=3)
        mlflow.log_metric("folder/with space", 0.25)
        mlflow.log_metric("nan", float("nan"))
        mlflow.log_metric("plus", float("inf"))
        mlflow.log_metric("minus", float("-inf"))
        mlflow.log_metrics({"m1": 1.5, "m2": 2, "zero": 0.0}, step=3)
        mlflow.set_tag("plain", "value")
        mlflow.set_tags({"a": 1, "gone": "soon"})
        mlflow.delete_tag("gone")
        log_artifacts()
        log_model(run.info.run_id)
        batches(run.info.run_id)
        read_back(run.info.run_id)


def log_artifacts() -> None:
    mlflow.log_text("hello ✓", "notes/hello.txt")
    mlflow.log_dict({"a": [1, 2]}, "data.json")
    figure, axes = plt.subplots()
    axes.plot([1, 2, 3])
    mlflow.log_figure(figure, "plots/line.png")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("one.bin", "sub/two.bin"):
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(name.encode() * 100)
        mlflow.log_artifact(str(Path(folder, "one.bin")))
        mlflow.log_artifacts(folder, artifact_path="many")


def log_model(run_id: str) -> None:
    model = ElasticNet(alpha=0.001).fit(X, y)
    options = {"name": "model"} if MAJOR > 2 else {"artifact_path": "model"}
    info = mlflow.sklearn.log_model(model, pip_requirements=["scikit-learn"], input_example=X[:2], **options)
    loaded = mlflow.sklearn.load_model(info.model_uri)
    seen["model_agrees"] = bool(np.allclose(loaded.predict(X), model.predict(X)))
    by_run = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
    seen["model_by_run_agrees"] = bool(np.allclose(by_run.predict(X), model.predict(X)))
    seen["model_id"] = getattr(info, "model_id", None)


def batches(run_id: str) -> None:
    client = MlflowClient()
    client.log_batch(
        run_id,
        metrics=[Metric("batched", number * 0.5, 1700000000000 + number, number) for number in range(1000)],
    )
    client.log_batch(run_id, params=[Param("from batch", "x")], tags=[RunTag("batch tag", "y")])
    history = client.get_metric_history(run_id, "batched")
    seen["batched"] = [len(history), history[-1].value, history[-1].step, history[-1].timestamp]


def read_back(run_id: str) -> None:
    run = mlflow.get_run(run_id)
    seen["params"] = dict(run.data.params)
    seen["metrics"] = {key: value if math.isfinite(value) else repr(value) for key, value in run.data.metrics.items()}
    seen["tags"] = dict(run.data.tags)
    client = MlflowClient()
    seen["artifacts"] = sorted(info.path for info in client.list_artifacts(run_id))
    seen["many"] = sorted((info.path, info.is_dir) for info in client.list_artifacts(run_id, "many"))


def autolog() -> None:
    mlflow.sklearn.autolog()
    with mlflow.start_run(run_name="automatic") as run:
        ElasticNet(alpha=0.25, l1_ratio=0.5).fit(X, y)
    mlflow.sklearn.autolog(disable=True)
    found = mlflow.get_run(run.info.run_id)
    seen["autolog"] = {"run_id": run.info.run_id, "alpha": found.data.params["alpha"]}
    seen["autolog"]["metrics"] = sorted(found.data.metrics)


def nested() -> None:
    with mlflow.start_run(run_name="outer") as outer:
        with mlflow.start_run(run_name="inner", nested=True) as inner:
            mlflow.log_metric("inside", 3.0)
        mlflow.log_metric("outside", 4.0)
    seen["nested"] = [outer.info.run_id, inner.info.run_id]


def fail_on_purpose() -> None:
    try:
        with mlflow.start_run(run_name="doomed") as run:
            seen["failed"] = run.info.run_id
            seen["doom"] = 1 / 0
    except ZeroDivisionError:
        seen["failed_status"] = mlflow.get_run(run.info.run_id).info.status


def experiments() -> None:
    client = MlflowClient()
    made = mlflow.create_experiment("made")
    seen["made"] = made
    client.set_experiment_tag(made, "kind", "test")
    seen["by_name"] = mlflow.get_experiment_by_name("made").experiment_id
    seen["missing"] = mlflow.get_experiment_by_name("never made") is None
    try:
        mlflow.create_experiment("made")
    except mlflow.exceptions.MlflowException as error:
        seen["twice"] = error.error_code
    listed = client.list_experiments() if MAJOR < 2 else client.search_experiments()
    seen["experiments"] = sorted(experiment.name for experiment in listed)
    mlflow.set_experiment("made")
    with mlflow.start_run() as run:
        mlflow.log_metric("score", 0.5)
    with mlflow.start_run():
        mlflow.log_metric("score", 0.75)
    client.delete_run(run.info.run_id)
    seen["deleted"] = run.info.run_id
    frame = mlflow.search_runs([made], filter_string="metrics.score > 0.1", order_by=["metrics.score DESC"])
    seen["search"] = [float(value) for value in frame["metrics.score"]]


def refusals() -> None:
    client = MlflowClient()
    seen["refusals"] = {}
    attempts = {
        "unknown run": lambda: client.get_run("0" * 32),
        "foreign run": lambda: client.set_tag(os.environ["FOREIGN_RUN"], "x", "y"),
        "changed param": lambda: client.log_param(seen["run_id"], "text", "another"),
        "bad filter": lambda: client.search_runs([seen["experiment_id"]], "metrics.m1 >> 2"),
    }
    for name, attempt in attempts.items():
        seen["refusals"][name] = error_of(attempt)


def error_of(attempt: Callable[[], object]) -> object:
    try:
        attempt()
    except mlflow.exceptions.MlflowException as error:
        return error.error_code
    return None


for part in (attach_and_log, autolog, nested, fail_on_purpose, experiments, refusals):
    part()
Path(sys.argv[1]).write_text(json.dumps(seen), encoding="utf-8")
