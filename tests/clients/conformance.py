"""Do with a server, by a real client of MLflow of any version since 1.30, all that scripts do; write what it saw.

``conformance.py OUT``: names of experiments and models begin with the environment's PREFIX, so that several clients can
use one server. What is written depends neither on the server nor on the time.
"""

import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.models import infer_signature
from mlflow.tracking import MlflowClient
from sklearn.linear_model import ElasticNet

VERSION = tuple(int(part) for part in mlflow.__version__.split(".")[:2])
PREFIX = os.environ.get("PREFIX", "")
FILES = 1000
START = 1_700_000_000_000
seen: dict[str, Any] = {"version": mlflow.__version__}
client = MlflowClient()
X = np.arange(40, dtype=float).reshape(20, 2)
y = X @ np.array([0.5, -0.25]) + 1.0


def error_of(attempt: Callable[[], object]) -> object:
    try:
        attempt()
    except mlflow.exceptions.MlflowException as error:
        return error.error_code
    return None


@contextmanager
def unrecorded() -> Iterator[None]:
    """Tell the recorder to look away while several threads of the client speak to the server in any order."""
    os.environ["UNRECORDED"] = "1"
    yield
    del os.environ["UNRECORDED"]


def plain(values: dict[str, float]) -> dict[str, object]:
    return {key: value if math.isfinite(value) else repr(value) for key, value in sorted(values.items())}


def experiments() -> None:
    chosen = mlflow.set_experiment(f"{PREFIX}main")
    made = mlflow.create_experiment(f"{PREFIX}made", tags={"a": "b"})
    client.set_experiment_tag(made, "kind", "test")
    client.rename_experiment(made, f"{PREFIX}renamed")
    found = mlflow.get_experiment(made)
    seen["experiment"] = [found.name.removeprefix(PREFIX), dict(found.tags), found.lifecycle_stage]
    seen["by name"] = mlflow.get_experiment_by_name(f"{PREFIX}main").experiment_id == chosen.experiment_id
    seen["no experiment"] = mlflow.get_experiment_by_name(f"{PREFIX}never made") is None
    client.delete_experiment(made)
    seen["in a deleted one"] = error_of(lambda: client.create_run(made))
    mine = f"name LIKE '{PREFIX}%'"
    for view in (ViewType.ACTIVE_ONLY, ViewType.DELETED_ONLY, ViewType.ALL):
        page = mlflow.search_experiments(view_type=view, filter_string=mine, order_by=["name ASC"])
        seen[f"experiments {view}"] = [one.name.removeprefix(PREFIX) for one in page]
    client.restore_experiment(made)
    seen["taken"] = error_of(lambda: mlflow.create_experiment(f"{PREFIX}main"))
    if VERSION >= (2, 0):
        mlflow.set_experiment_tags({"x": 1, "y": "2"})
        seen["tags"] = dict(sorted(mlflow.get_experiment(chosen.experiment_id).tags.items()))


def log() -> None:
    with mlflow.start_run(run_name="first", description="in words", tags={"given": "1"}) as run:
        seen["active"] = mlflow.active_run().info.run_id == run.info.run_id
        mlflow.log_param("alpha", 1e-05)
        mlflow.log_params({"text": "naïve 'quoted' = $HOME", "empty": "", "none": None})
        for step in range(5):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_metrics({"a/b c": 0.25, "nan": math.nan, "zero": 0, "big": 2**60}, step=3)
        mlflow.set_tag("plain", "value")
        mlflow.set_tags({"one": 1, "gone": "soon"})
        mlflow.delete_tag("gone")
        newer_calls()
        files(run.info.run_id)
    run_id = run.info.run_id
    client.log_batch(
        run_id,
        metrics=[Metric("batched", number * 0.5, START + number, number) for number in range(1000)],
    )
    client.log_batch(run_id, params=[Param("p", "x")], tags=[RunTag("t", "y")])
    client.log_metric(run_id, "late", 2.0, timestamp=START, step=7)
    client.log_metric(run_id, "late", 9.0, timestamp=START + 1, step=3)
    read_back(run_id)


def newer_calls() -> None:
    if VERSION >= (2, 4):
        data = mlflow.data.from_numpy(X, targets=y, name="grid")
        mlflow.log_input(data, context="training")
    if VERSION >= (2, 8):
        mlflow.log_metric("async", 1.5, step=1, synchronous=False).wait()
        mlflow.log_params({"async p": "v"}, synchronous=False).wait()
        mlflow.set_tags({"async t": "w"}, synchronous=False).wait()
    if VERSION >= (3, 0):
        mlflow.log_metric("with a dataset", 0.5, dataset=data)


def read_back(run_id: str) -> None:
    run = mlflow.get_run(run_id)
    seen["params"] = dict(sorted(run.data.params.items()))
    seen["metrics"] = plain(run.data.metrics)
    ours = ("plain", "one", "gone", "t", "given", "mlflow.note.content", "mlflow.runName", "async t")
    seen["run tags"] = {key: value for key, value in sorted(run.data.tags.items()) if key in ours}
    seen["status"] = [run.info.status, run.info.lifecycle_stage, run.info.end_time is not None]
    history = client.get_metric_history(run_id, "batched")
    seen["history"] = sorted((one.step, one.value, one.timestamp) for one in history)[::250]
    seen["late"] = sorted((one.step, one.value) for one in client.get_metric_history(run_id, "late"))
    inputs = getattr(run, "inputs", None)
    seen["inputs"] = [[one.dataset.name, one.dataset.source_type] for one in inputs.dataset_inputs] if inputs else []


def files(run_id: str) -> None:
    mlflow.log_text("hello ✓", "notes/hello.txt")
    mlflow.log_dict({"a": [1, 2]}, "data.json")
    mlflow.log_dict({"b": 3}, "data.yaml")
    mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), "black.png")
    figure, axes = plt.subplots()
    axes.plot([1, 2, 3])
    mlflow.log_figure(figure, "plots/line.png")
    plt.close(figure)
    if VERSION >= (2, 4):
        mlflow.log_table({"q": ["one", "two"], "n": [1, 2]}, "table.json")
        mlflow.log_table(pd.DataFrame({"q": ["three"], "n": [3]}), "table.json")
        seen["table"] = mlflow.load_table("table.json", run_ids=[run_id]).to_dict("list")
    seen["text"] = mlflow.artifacts.load_text(f"runs:/{run_id}/notes/hello.txt")
    seen["dict"] = mlflow.artifacts.load_dict(f"runs:/{run_id}/data.json")
    seen["image"] = mlflow.artifacts.load_image(f"runs:/{run_id}/black.png").size
    many(run_id)
    seen["artifacts"] = sorted((one.path, one.is_dir) for one in client.list_artifacts(run_id))
    seen["no artifacts"] = client.list_artifacts(run_id, "nothing")


def many(run_id: str) -> None:
    """Send a folder of a thousand files, and fetch it again."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(FILES):
            path = Path(folder, f"part {number // 100}", f"{number}.bin")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"%d," % number)
        with unrecorded():
            mlflow.log_artifacts(folder, "many")
        mlflow.log_artifact(str(path), "alone")
    seen["folders"] = sorted((one.path, one.is_dir) for one in client.list_artifacts(run_id, "many"))
    part = client.list_artifacts(run_id, "many/part 3")
    seen["one folder"] = sorted((one.path, one.is_dir, one.file_size) for one in part)[:5]
    with tempfile.TemporaryDirectory() as folder:
        with unrecorded():
            fetched = Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id}/many", dst_path=folder))
        found = sorted(path for path in fetched.rglob("*") if path.is_file())
        seen["fetched"] = [len(found), sum(int(path.read_bytes().strip(b",")) for path in found)]


def autolog() -> None:
    mlflow.sklearn.autolog(log_models=False)
    with unrecorded(), mlflow.start_run(run_name="automatic") as run:
        ElasticNet(alpha=0.25, l1_ratio=0.5).fit(X, y)
    mlflow.sklearn.autolog(disable=True)
    found = mlflow.get_run(run.info.run_id)
    seen["autolog"] = [
        dict(sorted(found.data.params.items())),
        {key: round(value, 6) for key, value in sorted(found.data.metrics.items())},
        found.data.tags["estimator_name"],
    ]


def nested() -> None:
    with mlflow.start_run(run_name="outer") as outer:
        with mlflow.start_run(run_name="inner", nested=True) as inner:
            mlflow.log_metric("inside", 3.0)
        mlflow.log_metric("outside", 4.0)
    found = mlflow.get_run(inner.info.run_id)
    seen["nested"] = [found.data.tags["mlflow.parentRunId"] == outer.info.run_id, plain(found.data.metrics)]
    if VERSION >= (2, 3):
        seen["parent"] = mlflow.get_parent_run(inner.info.run_id).info.run_name
    try:
        with mlflow.start_run(run_name="doomed") as doomed:
            seen["doom"] = 1 / 0
    except ZeroDivisionError:
        seen["failed"] = mlflow.get_run(doomed.info.run_id).info.status


def models() -> None:
    name = f"{PREFIX}model"
    model = ElasticNet(alpha=0.001).fit(X, y)
    place = {"name": "model"} if VERSION >= (3, 0) else {"artifact_path": "model"}
    options = {"pip_requirements": ["scikit-learn"], "input_example": X[:2], "signature": infer_signature(X, y)}
    with mlflow.start_run(run_name="model") as run:
        info = mlflow.sklearn.log_model(model, registered_model_name=name, **options, **place)
    loaded = mlflow.sklearn.load_model(info.model_uri)
    seen["model"] = bool(np.allclose(loaded.predict(X), model.predict(X)))
    by_run = f"runs:/{run.info.run_id}/model"
    version = mlflow.register_model(by_run, name, **({"tags": {"by": "hand"}} if VERSION >= (2, 0) else {}))
    seen["registered"] = [version.name == name, str(version.version), version.status]
    uris = [by_run, f"models:/{name}/1", f"models:/{name}/2", f"models:/{name}/latest"]
    client.transition_model_version_stage(name, "1", "Production")
    uris.append(f"models:/{name}/Production")
    if VERSION >= (2, 3):
        client.set_registered_model_alias(name, "best", "2")
        uris.append(f"models:/{name}@best")
    seen["loaded"] = [bool(np.allclose(mlflow.pyfunc.load_model(uri).predict(X), model.predict(X))) for uri in uris]
    seen["signature"] = mlflow.models.get_model_info(by_run).signature is not None
    versions = client.search_model_versions(f"name = '{name}'")
    seen["versions"] = sorted((str(one.version), one.current_stage, one.run_id == run.info.run_id) for one in versions)
    found = client.search_registered_models(filter_string=f"name = '{name}'")
    seen["models"] = [[one.name == name, len(one.latest_versions)] for one in found]
    if VERSION >= (3, 0):
        logged_models(name)


def logged_models(name: str) -> None:
    """Do what only MLflow 3 has: models that are logged apart from their run."""
    mine = mlflow.get_experiment_by_name(f"{PREFIX}main").experiment_id
    found = mlflow.search_logged_models([mine], filter_string="name = 'model'", output_format="list")
    seen["logged models"] = [[one.name, str(one.status), str(one.model_type)] for one in found]
    seen["logged frame"] = len(mlflow.search_logged_models([mine]))
    mlflow.set_logged_model_tags(found[0].model_id, {"k": "v"})
    seen["logged model"] = dict(mlflow.get_logged_model(found[0].model_id).tags).get("k")
    outside = mlflow.create_external_model(name="elsewhere", params={"depth": "3"}, tags={"where": "there"})
    seen["external"] = [outside.name, dict(outside.params), outside.tags["where"]]
    mlflow.set_model_version_tag(name, "1", "checked", "yes")
    seen["checked"] = client.get_model_version(name, "1").tags["checked"]


def search() -> None:
    mine = mlflow.get_experiment_by_name(f"{PREFIX}main").experiment_id
    with mlflow.start_run(run_name="deleted") as run:
        mlflow.log_metric("loss", 0.1)
    mlflow.delete_run(run.info.run_id)
    frame = mlflow.search_runs([mine], order_by=["attributes.start_time ASC"])
    wanted = ("params.alpha", "metrics.loss", "metrics.inside", "tags.plain", "tags.mlflow.runName", "status")
    seen["columns"] = [name for name in wanted if name in frame.columns]
    seen["frame"] = sorted(str(name) for name in frame["tags.mlflow.runName"])
    seen["kinds"] = {name: str(frame[name].dtype) for name in ("metrics.loss", "start_time") if name in frame}
    filters = {
        "metric": "metrics.loss < 0.5",
        "param": "params.text LIKE 'na%'",
        "both": "metrics.loss < 0.5 AND tags.plain = 'value'",
        "status": "attributes.status = 'FAILED'",
        "quoted": 'metrics."a/b c" = 0.25',
        "ticks": "metrics.`a/b c` > 0",
        "none": "params.text = 'other'",
        "ilike": "params.text ILIKE 'NA%'",
    }
    if VERSION >= (2, 0):
        filters["name"] = "attributes.run_name = 'inner'"
    for name, condition in filters.items():
        found = mlflow.search_runs([mine], condition, output_format="list")
        seen[f"search {name}"] = sorted(one.data.tags["mlflow.runName"] for one in found)
    deleted = client.search_runs([mine], "", run_view_type=ViewType.DELETED_ONLY)
    seen["deleted"] = [one.data.tags["mlflow.runName"] for one in deleted]
    order = client.search_runs([mine], "metrics.loss > 0", order_by=["metrics.loss DESC"])
    seen["ordered"] = [one.data.tags["mlflow.runName"] for one in order]
    names, token = [], None
    while token != "":
        page = client.search_runs([mine], max_results=2, order_by=["attributes.start_time ASC"], page_token=token)
        names += [one.data.tags["mlflow.runName"] for one in page]
        token = page.token or ""
    seen["paged"] = names
    seen["refused"] = [
        error_of(lambda: client.search_runs([mine], "metrics.loss >>= 1")),
        error_of(lambda: client.get_run("0" * 32)),
        error_of(lambda: client.log_param(seen_run(mine), "alpha", "another")),
        error_of(lambda: client.log_metric(seen_run(mine), "../x", 1)),
    ]


def seen_run(experiment_id: str) -> str:
    return client.search_runs([experiment_id], "tags.plain = 'value'")[0].info.run_id


for part in (experiments, log, autolog, nested, models, search):
    part()
Path(sys.argv[1]).write_text(json.dumps(seen, indent=1), encoding="utf-8")
