"""The answers of `proj server` and of MLflow's own newest server to one long script, field by field.

The server is the program that PROJ_TEST_MLFLOW_SERVER names, or the ``mlflow`` on PATH. What differs, and why, is in
the table DIFFERENCES: a difference that no line of it explains fails the test, and so does a line that explains none.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from runner.server.socket import REMOVED_VARIABLES
from tests.mlflow_clients import CLIENTS, VERSIONS, client_python
from tests.teamserver import team_server

pytestmark = [pytest.mark.mlflow, pytest.mark.env, pytest.mark.slow]

SERVER = os.environ.get("PROJ_TEST_MLFLOW_SERVER") or shutil.which("mlflow")
SCRIPTS = ("tracking.py", "registry.py")

DIFFERENCES = {
    r".*: error_class null ": "MLflow says the error twice; clients read error_code",
    r".*: sqlstate null ": "likewise",
    r".*: message ": "our words, which say what to do",
    r".*: (experiment|experiments\[\])\.workspace null ": "proj has no workspaces",
    r".*artifact_location \"mlflow-artifacts:/runs\" ": "artifacts lie with their run, not with its experiment",
    r".*: next_page_token ": "the token is ours: pages stay right while others write",
    r".*metrics\[\]\.value \"-?Infinity\" ": "MLflow's database has no infinities; it gives the largest number",
    r"GET metrics/get-history: metrics\[\]\.(step|value) ": "ours come by step, MLflow's as they arrived",
    r"PUT /api/2.0/mlflow-artifacts/artifacts/PATH:  \{\} \| null": "both bodies mean nothing",
    r".*(run_name|run\.data\.tags\[\]\.value) \"[a-z]+-[a-z]+-\d+\" ": "names made up for runs that nobody named",
    r".*\.model_id \"id\d+\" \| null": "MLflow's database forgets the logged model of a version",
    r".*latest_versions\[\]\.aliases ": "MLflow leaves aliases out here",
    r".*models?(\[\])?\.info\.tags": "MLflow's server repeats the tag mlflow.modelVersions that its client sets",
    r"GET .*artifacts: files\[\]\.file_size ": "the file MLmodel names its own place, which is ours",
}
"""What differs, as the beginning of ``METHOD endpoint: field ours | theirs``, with the reason."""

_IDS = re.compile(r"m-[0-9a-f]{32}|[0-9a-f]{32}")
_PLACES = re.compile(r"mlflow-artifacts:/(?:\d+|runs)/")
_PROXIED = re.compile(r"artifacts/(?:\d+|runs)/")
_TIMES = 10**12


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Start MLflow's own server and stop it, with all that it starts, at the end."""
    if not SERVER:
        pytest.skip("there is no MLflow server; name one in PROJ_TEST_MLFLOW_SERVER")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["--backend-store-uri", f"sqlite:///{folder}/db.sqlite", "--artifacts-destination", str(folder / "files")]
    log = (folder / "mlflow.log").open("w", encoding="utf-8")
    process = subprocess.Popen(
        [SERVER, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *words],
        cwd=folder,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield wait_for(process, f"http://127.0.0.1:{port}", folder / "mlflow.log")
    finally:
        os.killpg(process.pid, 15)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
        log.close()


def wait_for(process: "subprocess.Popen[bytes]", url: str, log: Path) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if is_up(url):
            return url
        time.sleep(0.2)
    pytest.skip(f"MLflow's server does not start: {log.read_text()[-500:]}")


def is_up(url: str) -> bool:
    try:
        with urlopen(f"{url}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except (URLError, OSError):
        return False


def record(python: Path, url: str, folder: Path, name: str) -> list[dict[str, Any]]:
    """Run the scripts against a server and return its answers, made comparable."""
    out = folder / f"{name}.json"
    environ = {key: value for key, value in os.environ.items() if key not in REMOVED_VARIABLES}
    # The client looks for a git repository around a script, and names its commit.
    scripts = [shutil.copy(CLIENTS / script, folder) for script in SCRIPTS]
    done = subprocess.run(
        [python, CLIENTS / "recorder.py", out, *scripts],
        env={**environ, "MLFLOW_TRACKING_URI": url, "DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return comparable(json.loads(out.read_text(encoding="utf-8")))


def comparable(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Name ids by their order, and take out what no two servers have in common: times, ports, made-up names."""
    known: dict[str, str] = {}

    def plain(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: plain(inner, name) for name, inner in sorted(value.items())}
        if isinstance(value, list):
            return [plain(inner, key) for inner in value]
        if isinstance(value, str):
            text = _PLACES.sub("mlflow-artifacts:/", value)
            return _IDS.sub(lambda match: known.setdefault(match[0], f"id{len(known)}"), text)
        if isinstance(value, int) and value > _TIMES and not isinstance(value, bool):
            return "a time"
        return value

    # Asked once and remembered, at a moment that depends on the server.
    asked = (answer for answer in answers if not answer["path"].endswith("/server-info"))
    return [plain({**answer, "path": _PROXIED.sub("artifacts/", answer["path"])}) for answer in asked]


def differences(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> Iterator[str]:
    """Yield each difference as ``METHOD endpoint: field ours | theirs``."""
    assert [call_of(one) for one in ours] == [call_of(one) for one in theirs]
    for our, their in zip(ours, theirs, strict=True):
        for words in compare(our["body"], their["body"], ""):
            yield f"{call_of(our)}: {words}"
        if our["status"] != their["status"]:
            yield f"{call_of(our)}: status {our['status']} | {their['status']}"


def call_of(answer: dict[str, Any]) -> str:
    path = re.sub(r"/api/[23]\.0/mlflow/", "", answer["path"])
    path = re.sub(r"(mlflow-artifacts/artifacts)/.*", r"\1/PATH", path)
    return f"{answer['method']} {re.sub(r'id[0-9]+', 'ID', path)}"


def compare(our: Any, their: Any, place: str) -> Iterator[str]:
    if isinstance(our, dict) and isinstance(their, dict):
        for key in sorted({*our, *their}):
            inner = f"{place}.{key}" if place else key
            # An empty list and none mean the same to every client.
            yield from compare(our.get(key) or None, their.get(key) or None, inner)
    elif isinstance(our, list) and isinstance(their, list) and len(our) == len(their):
        for key in ("key", "version"):
            if all(isinstance(one, dict) and key in one for one in (*our, *their)):
                our, their = (sorted(each, key=lambda one: str(one[key])) for each in (our, their))
        for one, other in zip(our, their, strict=True):
            yield from compare(one, other, f"{place}[]")
    elif our != their:
        yield f"{place} {json.dumps(our)} | {json.dumps(their)}"


def test_the_answers_are_those_of_mlflows_own_server(tmp_path: Path) -> None:
    python = client_python(VERSIONS[-1])
    (tmp_path / "theirs").mkdir()
    with mlflow_server(tmp_path / "theirs") as url:
        theirs = record(python, url, tmp_path, "theirs")
    with team_server(tmp_path) as team:
        ours = record(python, team.url, tmp_path, "ours")
    found = list(dict.fromkeys(differences(ours, theirs)))
    unexplained = [line for line in found if not any(re.match(pattern, line) for pattern in DIFFERENCES)]
    assert not unexplained, "\n".join(unexplained)
    assert [pattern for pattern in DIFFERENCES if not any(re.match(pattern, line) for line in found)] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_registry_works_for_clients_of_a_team(tmp_path: Path, version: str) -> None:
    """Models go through the artifact proxy here, with every version of the client."""
    python = client_python(version)
    result = tmp_path / "seen.json"
    environ = {name: value for name, value in os.environ.items() if name not in REMOVED_VARIABLES}
    with team_server(tmp_path) as team:
        done = subprocess.run(
            [python, CLIENTS / "registry.py", result],
            env={**environ, "MLFLOW_TRACKING_URI": team.url},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(result.read_text(encoding="utf-8"))
    assert seen["by_number"] == [True, True]
    assert seen["renamed"] == ["left", True]
