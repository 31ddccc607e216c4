"""Tests stores written by real MLflow clients: the clients read the same values before and after the import."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunProj
from tests.server.test_mlflow_comparison import mlflow_server
from tests.support.mlflow_clients import CLIENTS, client_python
from tests.support.standalone_server import standalone_server

pytestmark = [pytest.mark.mlflow, pytest.mark.env, pytest.mark.slow]

LARGEST = {"1.7976931348623157e+308": "inf", "-1.7976931348623157e+308": "-inf"}
"""MLflow's database has no infinities; it gives the largest number."""


def ask_client(version: str, uri: str, what: str, folder: Path) -> Any:
    target = folder / f"{what}.json"
    done = subprocess.run(
        [client_python(version), CLIENTS / "store.py", what, target],
        cwd=folder,
        env={**os.environ, "MLFLOW_TRACKING_URI": uri, "GIT_PYTHON_REFRESH": "quiet"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(target.read_text())


def with_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: with_infinities(one) for name, one in value.items()}
    if isinstance(value, list):
        return [with_infinities(one) for one in value]
    return LARGEST.get(value, value) if isinstance(value, str) else value


@pytest.mark.parametrize("version", ["1.30.1", "2.22.5"])
def test_a_folder_that_a_client_wrote(tmp_path: Path, proj: RunProj, version: str) -> None:
    there = ask_client(version, f"file:{tmp_path}/mlruns", "fill", tmp_path)
    compare(tmp_path, proj, version, there, ["import", str(tmp_path)])


def test_a_database_that_a_server_wrote(tmp_path: Path, proj: RunProj) -> None:
    with mlflow_server(tmp_path) as url:
        there = with_infinities(ask_client("3.17.2", url, "fill", tmp_path))
    database = f"sqlite:///{tmp_path}/db.sqlite"
    compare(tmp_path, proj, "3.17.2", there, ["import", database, "--artifacts-destination", str(tmp_path / "files")])


def _flat(value: Any, place: str = "") -> dict[str, object]:
    """Return values by path, so that a failure shows the differing ones."""
    if not isinstance(value, dict):
        return {place: value}
    return {inner: one for name, below in value.items() for inner, one in _flat(below, f"{place}/{name}").items()}


def compare(folder: Path, proj: RunProj, version: str, there: Any, words: list[str]) -> None:
    done = proj(*words, "--json")
    assert done.code == 0, done.err
    assert done.json["runs"]["added"] == 5
    with standalone_server(folder) as server:
        here = ask_client(version, server.url, "read", folder)
    # Whatever the client made up when it was first asked is not part of the store.
    assert here["experiments"].pop("Default")[0] == there["experiments"].pop("Default")[0]
    for run in there["runs"].values():
        if run["experiment"] == "gone":
            run["info"][-1] = "deleted"  # clients before 2.0 leave the runs of a deleted experiment as they are
        run["tags"].setdefault("mlflow.runName", run["info"][0])
    assert _flat(here) == _flat(there)
    again = proj(*words, "--json").json
    assert (again["runs"]["unchanged"], again["points"], again["artifacts"]["files"]) == (5, 0, 0)
