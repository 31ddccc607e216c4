"""Do with a real client of MLflow 3 all that scripts do with experiments and runs, right and wrong."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import mlflow
import requests
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.tracking import MlflowClient

client = MlflowClient()


def attempt(action: Callable[[], object]) -> None:
    try:
        action()
    except mlflow.exceptions.MlflowException:
        return


def experiments() -> None:
    mlflow.set_experiment("one")
    made = client.create_experiment("two", tags={"a": "b"})
    attempt(lambda: client.create_experiment("two"))
    attempt(lambda: client.create_experiment(""))
    client.set_experiment_tag(made, "k", "v")
    client.delete_experiment_tag(made, "k")
    client.rename_experiment(made, "three")
    client.delete_experiment(made)
    client.get_experiment(made)
    attempt(lambda: client.create_run(made))
    client.restore_experiment(made)
    client.search_experiments(order_by=["name ASC"])
    client.search_experiments(filter_string="name LIKE 't%'", view_type=ViewType.ALL)
    client.search_experiments(max_results=1)
    attempt(lambda: client.search_experiments(filter_string="colour = 'red'"))
    attempt(lambda: client.get_experiment("777777"))


def runs() -> None:
    with mlflow.start_run(run_name="named", description="words", tags={"t": "1"}) as run:
        run_id = run.info.run_id
        mlflow.log_param("p", 1)
        mlflow.log_params({"q": "x", "empty": ""})
        mlflow.log_metric("m", 0.5, step=3, timestamp=1700000000000)
        mlflow.log_metric("m", 0.25, step=1, timestamp=1700000000001)
        mlflow.log_metrics({"nan": float("nan"), "inf": float("inf"), "minus": float("-inf")})
        mlflow.set_tag("x", "y")
        mlflow.delete_tag("x")
        mlflow.log_text("hello", "notes/a.txt")
        with tempfile.TemporaryDirectory() as folder:
            for name in ("one.bin", "two words.bin"):
                Path(folder, name).write_bytes(name.encode() * 100)
            mlflow.log_artifacts(folder, "many")
        source = resolve_dataset_source("https://example.invalid/d.csv")
        mlflow.log_input(MetaDataset(source, name="d", digest="abc"), context="training", tags={"k": "v"})
        with mlflow.start_run(run_name="inner", nested=True):
            mlflow.log_metric("inside", 1, timestamp=1700000000000)
    client.get_run(run_id)
    client.get_metric_history(run_id, "m")
    client.get_metric_history(run_id, "none")
    client.list_artifacts(run_id)
    client.list_artifacts(run_id, "many")
    client.list_artifacts(run_id, "nothing")
    mlflow.artifacts.download_artifacts(f"runs:/{run_id}/many")
    client.log_batch(run_id, [Metric("b", 1.0, 5, 1)], [Param("r", "s")], [RunTag("u", "v")])
    curves(run_id)
    client.update_run(run_id, name="renamed")
    wrong(run_id)
    search(run_id)
    client.delete_run(run_id)
    client.get_run(run_id)
    attempt(lambda: client.log_metric(run_id, "late", 1))
    client.restore_run(run_id)
    client.set_terminated(run_id, "FAILED", 1700000000009)
    client.get_run(run_id)


def curves(run_id: str) -> None:
    """Ask what MLflow's pages ask; the client itself has no call for it."""
    client.log_batch(run_id, [Metric("curve", step / 10, 1700000000000 + step, step) for step in range(20)])
    interval = f"{mlflow.get_tracking_uri()}/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval"
    for more in ({}, {"start_step": 3, "end_step": 5}, {"max_results": 1}, {"start_step": 3}, {"max_results": 9999}):
        requests.get(interval, {"run_ids": [run_id], "metric_key": "curve", **more}, timeout=60)
    bulk = f"{mlflow.get_tracking_uri()}/ajax-api/2.0/mlflow/metrics/get-history-bulk"
    for more in ({}, {"max_results": 5}):
        requests.get(bulk, {"run_id": [run_id], "metric_key": "curve", **more}, timeout=60)


def wrong(run_id: str) -> None:
    attempt(lambda: client.log_param(run_id, "p", "2"))
    attempt(lambda: client.log_metric(run_id, "../m", 1))
    attempt(lambda: client.set_tag(run_id, "k" * 300, "x"))
    attempt(lambda: client.delete_tag(run_id, "nothing"))
    attempt(lambda: client.get_run("0" * 32))
    attempt(lambda: client.delete_run("0" * 32))
    attempt(lambda: client.log_batch(run_id, params=[Param("p", "changed")]))
    attempt(lambda: client.create_run("777777"))
    attempt(lambda: mlflow.artifacts.download_artifacts(f"runs:/{run_id}/nothing"))


def search(run_id: str) -> None:
    every = [experiment.experiment_id for experiment in client.search_experiments()]
    for condition in ("", "metrics.m < 1", "params.q = 'x' and tags.t = '1'", f"attributes.run_id = '{run_id}'"):
        client.search_runs(every, condition, order_by=["metrics.m DESC", "attributes.start_time ASC"])
    client.search_runs(every, "dataset.name = 'd'")
    client.search_runs(every, run_view_type=ViewType.DELETED_ONLY)
    attempt(lambda: client.search_runs(every, "metrics.m ="))
    attempt(lambda: client.search_runs(every, "colour = 'red'"))
    attempt(lambda: client.search_runs(every, order_by=["colour DESC"]))
    attempt(lambda: client.search_runs(every, max_results=60_000))
    attempt(lambda: client.search_runs(every, page_token="x"))


def logged_models() -> None:
    model = client.create_logged_model("1", name="lm", params={"a": "1"}, tags={"t": "1"}, model_type="agent")
    client.finalize_logged_model(model.model_id, "READY")
    client.set_logged_model_tags(model.model_id, {"u": "2"})
    client.delete_logged_model_tag(model.model_id, "u")
    client.log_model_params(model.model_id, {"b": "2"})
    client.get_logged_model(model.model_id)
    client.search_logged_models(["1"], filter_string="name = 'lm'")
    client.search_logged_models(["1"], order_by=[{"field_name": "creation_timestamp", "ascending": False}])
    attempt(lambda: client.create_logged_model("1", name="a/b"))
    attempt(lambda: client.get_logged_model("m-" + "0" * 32))
    client.delete_logged_model(model.model_id)


for part in (experiments, runs, logged_models):
    part()
