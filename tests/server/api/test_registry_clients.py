"""Real clients of MLflow, old and new, register models, load them by number, stage and alias, search and tidy up."""

import json
import os
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runner.model import Event
from runner.server.run.socket import REMOVED_VARIABLES, ChildSocket
from runner.settings import Home
from runner.store import registry, runs
from runner.store.database import Database
from runner.store.entities import NewRun
from tests.support.mlflow_clients import CLIENTS, VERSIONS, client_python

pytestmark = [pytest.mark.mlflow, pytest.mark.env, pytest.mark.slow]


def expected(version: str) -> dict[str, Any]:
    """Return what the script sees with MLflow's own server."""
    major, minor = (int(part) for part in version.rpartition("-")[2].split(".")[:2])
    found: dict[str, Any] = {
        "second": ["churn", "2", "READY", True],
        "third": "3",
        "by_number": [True, True],
        "latest": True,
        "download_uri_ends": "my model" if major < 3 else "artifacts",
        "production": True,
        "moved": ["2", "Production"],
        "production_now": True,
        "latest_versions": [["Archived", "1"], ["Production", "2"]],
        "words": ["who leaves", {"team": "blue"}, "the first", {"checked": "yes"}],
        "models": ["churn", "empty"],
        "models_like": ["churn"],
        "pages": ["empty", "empty"],
        "versions": ["1", "2", "3"] if major == 1 else ["1", "3"] if major > 2 else ["1"],
        "renamed": ["left", True],
        "refusals": {
            "deleted version": "RESOURCE_DOES_NOT_EXIST",
            "old name": "RESOURCE_DOES_NOT_EXIST",
            "taken name": "RESOURCE_ALREADY_EXISTS",
            "bad name": "INVALID_PARAMETER_VALUE",
            "bad stage": "INVALID_PARAMETER_VALUE",
        },
        "left": ["empty"],
    }
    if major > 1:
        found |= {"models_by_tag": ["empty"], "versions_by_tag": ["1"]}
    else:
        found["listed"] = ["churn", "empty"]
    if (major, minor) >= (2, 3):
        found |= {
            "alias": [True, "1"],
            "aliases": {"champion": "1"},
            "aliases_of_version": ["champion"],
            "alias_gone": "INVALID_PARAMETER_VALUE",
        }
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_client_does_with_the_registry(home: Home, version: str) -> None:
    python = client_python(version)
    events: list[Event] = []
    result = home.root / "seen.json"
    with closing(Database.open(home.database)) as database:
        run_id = runs.create(database, NewRun()).run_id
        with ChildSocket(home, run_id, "0", events.append) as socket:
            run_script(python, result, {**os.environ, **socket.variables()})
        left = registry.get(database, "empty")
    seen = json.loads(result.read_text(encoding="utf-8"))
    assert {key: seen[key] for key in expected(version)} == expected(version)
    assert left.tags == {"a": "1"}
    assert [event.message for event in events] == [
        "The command removed version 1 of the registered model 'left'",
        "The command removed the registered model 'left'",
    ]


def run_script(python: Path, result: Path, environ: dict[str, str]) -> None:
    done = subprocess.run(
        [python, CLIENTS / "registry.py", result],
        env={name: value for name, value in environ.items() if name not in REMOVED_VARIABLES},
        cwd=result.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
