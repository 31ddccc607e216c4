"""Do with the registry, by a real client of MLflow of any version since 1.30, what scripts do; write what it saw."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
from mlflow.tracking import MlflowClient
from sklearn.linear_model import LinearRegression

VERSION = tuple(int(part) for part in mlflow.__version__.split(".")[:2])
HAS_ALIASES = VERSION >= (2, 3)
seen = {"version": mlflow.__version__}
client = MlflowClient()
X = np.arange(20, dtype=float).reshape(10, 2)
models = [LinearRegression().fit(X, X @ np.array(weights)) for weights in ([1.0, 2.0], [3.0, 4.0], [5.0, 6.0])]


def log(model: LinearRegression, **options: str) -> object:
    place = {"name": "my model"} if VERSION[0] > 2 else {"artifact_path": "my model"}
    return mlflow.sklearn.log_model(model, pip_requirements=["scikit-learn"], **place, **options)


def agrees(uri: str, number: int) -> bool:
    loaded = mlflow.pyfunc.load_model(uri)
    return bool(np.allclose(loaded.predict(X), models[number].predict(X)))


def register() -> None:
    with mlflow.start_run() as run:
        seen["run_id"] = run.info.run_id
        info = log(models[0], registered_model_name="churn")
    with mlflow.start_run() as run:
        log(models[1])
        uri = f"runs:/{run.info.run_id}/my model" if VERSION[0] < 3 else info.model_uri
        second = mlflow.register_model(f"runs:/{run.info.run_id}/my model", "churn")
        seen["second"] = [second.name, second.version, second.status, second.run_id == run.info.run_id]
    third = mlflow.register_model(uri, "churn")
    seen["third"] = str(third.version)
    seen["by_number"] = [agrees("models:/churn/1", 0), agrees("models:/churn/2", 1)]
    seen["latest"] = agrees("models:/churn/latest", 0 if VERSION[0] > 2 else 1)
    seen["download_uri_ends"] = client.get_model_version_download_uri("churn", "2").split("/")[-1]


def stages() -> None:
    client.transition_model_version_stage("churn", "1", "Production")
    seen["production"] = agrees("models:/churn/Production", 0)
    moved = client.transition_model_version_stage("churn", "2", "production", archive_existing_versions=True)
    seen["moved"] = [moved.version, moved.current_stage]
    seen["production_now"] = agrees("models:/churn/Production", 1)
    found = client.get_latest_versions("churn", ["Production", "Archived"])
    seen["latest_versions"] = sorted((one.current_stage, str(one.version)) for one in found)


def aliases() -> None:
    if not HAS_ALIASES:
        return
    client.set_registered_model_alias("churn", "champion", "1")
    seen["alias"] = [
        agrees("models:/churn@champion", 0),
        client.get_model_version_by_alias("churn", "champion").version,
    ]
    seen["aliases"] = dict(client.get_registered_model("churn").aliases)
    seen["aliases_of_version"] = list(client.get_model_version("churn", "1").aliases)
    client.delete_registered_model_alias("churn", "champion")
    seen["alias_gone"] = error_of(lambda: client.get_model_version_by_alias("churn", "champion"))


def words() -> None:
    client.update_registered_model("churn", description="who leaves")
    client.update_model_version("churn", "1", description="the first")
    client.set_registered_model_tag("churn", "team", "blue")
    client.set_model_version_tag("churn", "1", "checked", "yes")
    client.set_model_version_tag("churn", "1", "gone", "soon")
    client.delete_model_version_tag("churn", "1", "gone")
    model, version = client.get_registered_model("churn"), client.get_model_version("churn", "1")
    seen["words"] = [model.description, dict(model.tags), version.description, dict(version.tags)]
    client.delete_registered_model_tag("churn", "team")


def search() -> None:
    client.create_registered_model("empty", tags={"a": "1"}, description="nothing yet")
    find = client.search_registered_models
    seen["models"] = sorted(model.name for model in find())
    seen["models_like"] = [model.name for model in find(filter_string="name LIKE 'chu%'")]
    seen["pages"] = [model.name for model in find(max_results=1, order_by=["name DESC"])]
    page = find(max_results=1)
    seen["pages"] += [model.name for model in find(max_results=1, page_token=page.token)]
    found = client.search_model_versions(
        f"run_id = '{seen['run_id']}' and name = 'churn'" if VERSION[0] > 1 else "name='churn'"
    )
    seen["versions"] = sorted({str(one.version) for one in found})
    if VERSION[0] > 1:
        seen["models_by_tag"] = [model.name for model in find(filter_string="tags.a = '1'")]
        found = client.search_model_versions("tags.checked = 'yes'")
        seen["versions_by_tag"] = [str(one.version) for one in found]
    if VERSION[0] == 1:
        seen["listed"] = sorted(model.name for model in client.list_registered_models())


def end() -> None:
    client.rename_registered_model("churn", "left")
    seen["renamed"] = [client.get_registered_model("left").name, agrees("models:/left/1", 0)]
    client.delete_model_version("left", "1")
    seen["refusals"] = {
        "deleted version": error_of(lambda: client.get_model_version("left", "1")),
        "old name": error_of(lambda: client.get_registered_model("churn")),
        "taken name": error_of(lambda: client.create_registered_model("left")),
        "bad name": error_of(lambda: client.create_registered_model("a/b")),
        "bad stage": error_of(lambda: client.transition_model_version_stage("left", "2", "Live")),
    }
    client.delete_registered_model("left")
    seen["left"] = sorted(model.name for model in client.search_registered_models())


def error_of(attempt: Callable[[], object]) -> object:
    try:
        attempt()
    except mlflow.exceptions.MlflowException as error:
        return error.error_code
    return None


for part in (register, stages, aliases, words, search, end):
    part()
Path(sys.argv[1]).write_text(json.dumps(seen), encoding="utf-8")
