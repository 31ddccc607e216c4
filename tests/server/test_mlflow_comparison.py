"""The answers of `proj server` and of MLflow's own newest server to one long script, field by field.

The server is that of the newest client's environment, or the program that PROJ_TEST_MLFLOW_SERVER names. What differs,
and why, is in the table DIFFERENCES: a difference that no line of it explains fails the test, and so does a line that
explains none.
"""

import itertools
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

from runner.server.run.socket import REMOVED_VARIABLES
from tests.conftest import ROOT, unavailable
from tests.support.mlflow_clients import CLIENTS, FEWER, NEWEST, OLDEST, VERSIONS, client_python
from tests.support.standalone_server import standalone_server

# Two servers and a client that import much, on a machine that may do other things as well.
pytestmark = [pytest.mark.mlflow, pytest.mark.env, pytest.mark.slow, pytest.mark.timeout(900)]

SERVER = os.environ.get("PROJ_TEST_MLFLOW_SERVER")
SCRIPTS = ("tracking.py", "registry.py", "conformance.py")

DIFFERENCES = {
    r".*: error_class null ": "error_class and sqlstate: MLflow repeats an error in the terms of Databricks",
    r".*: sqlstate null ": "error_class and sqlstate: MLflow repeats an error in the terms of Databricks",
    r".*: message ": "message: proj also names a solution; clients read error_code only",
    r".*: (experiment|experiments\[\])\.workspace null ": "workspace: proj has no workspaces",
    r".*artifact_location \"mlflow-artifacts:/runs\" ": "artifact_location: proj stores files with their run",
    r".*: next_page_token ": "next_page_token: the token of proj stays valid while other clients write",
    r".*metrics\[\]\.value \"-?Infinity\" ": "Infinity: MLflow's database returns the largest number instead",
    r"GET metrics/get-history: metrics\[\]\.(step|value) ": "histories: proj orders points by step, MLflow by arrival",
    r"PUT /api/2.0/mlflow-artifacts/artifacts/PATH:  \{\} \| null": "uploads: `{}` and an empty body mean the same",
    r".*(run_name|run\.data\.tags\[\]\.value) \"[a-z]+-[a-z]+-\d+\" ": "run_name: generated if the client gives none",
    r".*\.model_id \"id\d+\" \| null": "model_id: MLflow's database does not store the logged model of a version",
    r".*(latest|model)_versions\[\]\.aliases ": "aliases: MLflow omits them in lists of versions",
    r".*models?(\[\])?\.info\.tags": "mlflow.modelVersions: MLflow's server adds to a tag that its client sets anyway",
    r"GET .*artifacts: files\[\]\.file_size ": "file_size: the file MLmodel contains its own location, which differs",
}
"""What differs, as the beginning of ``METHOD endpoint: field ours | theirs``, with the reason.

docs/reference/protocol.md lists the same reasons.
"""

_IDS = re.compile(r"m-[0-9a-f]{32}|[0-9a-f]{32}")
_PLACES = re.compile(r"mlflow-artifacts:/(?:\d+|runs)/")
_PROXIED = re.compile(r"artifacts/(?:\d+|runs)/")
_MOMENTS = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?")
_TIMES = 10**12


@contextmanager
def mlflow_server(folder: Path, version: str = NEWEST) -> Iterator[str]:
    """Start MLflow's own server and stop it, with all that it starts, at the end."""
    named = SERVER if version == NEWEST else None
    program = named or client_python(version).with_name("mlflow")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["--backend-store-uri", f"sqlite:///{folder}/db.sqlite", "--artifacts-destination", str(folder / "files")]
    log = (folder / "mlflow.log").open("w", encoding="utf-8")
    process = subprocess.Popen(
        [program, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *words],
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
    raise unavailable(f"MLflow's server does not start: {log.read_text()[-500:]}")


def is_up(url: str) -> bool:
    try:
        with urlopen(f"{url}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except (URLError, OSError):
        return False


def record(python: Path, url: str, out: Path, *scripts: str) -> list[dict[str, Any]]:
    """Run scripts against a server and return its answers; what the scripts saw is in ``out`` with ``.seen``."""
    environ = {key: value for key, value in os.environ.items() if key not in REMOVED_VARIABLES}
    folder = out.parent
    # The client looks for a git repository around a script, and names its commit.
    places = [shutil.copy(CLIENTS / script, folder) for script in scripts]
    quiet = {"DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true", "MPLCONFIGDIR": str(folder / "mpl")}
    done = subprocess.run(
        [python, CLIENTS / "recorder.py", out, *places],
        env={**environ, **quiet, "MLFLOW_TRACKING_URI": url, "PREFIX": f"{python.parent.parent.name} "},
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
        if key == "experiment_id":
            return known.setdefault(f"experiment {value}", f"id{len(known)}")
        if isinstance(value, dict):
            return {name: plain(inner, name) for name, inner in sorted(value.items())}
        if isinstance(value, list):
            return [plain(inner, key) for inner in value]
        if isinstance(value, str):
            # The tag where a run's models are listed is JSON.
            parts = json.loads(value) if value.startswith("[{") else None
            text = _MOMENTS.sub("a time", _PLACES.sub("mlflow-artifacts:/", value))
            return (
                plain(parts) if parts else _IDS.sub(lambda match: known.setdefault(match[0], f"id{len(known)}"), text)
            )
        if isinstance(value, int) and value > _TIMES and not isinstance(value, bool):
            return "a time"
        return value

    # Asked once and remembered, at a moment that depends on the server.
    requested = (answer for answer in answers if not answer["path"].endswith("/server-info"))
    found = [plain({**answer, "path": _PROXIED.sub("artifacts/", answer["path"])}) for answer in requested]
    # The files of a model are sent and fetched by several threads at once.
    groups = itertools.groupby(found, key=lambda answer: "/mlflow-artifacts/artifacts/" in answer["path"])
    return [one for proxied, group in groups for one in (sorted(group, key=place_of) if proxied else group)]


def place_of(answer: dict[str, Any]) -> tuple[str, str]:
    return answer["method"], answer["path"]


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


def unexplained(found: list[str]) -> list[str]:
    return [line for line in found if not any(re.match(pattern, line) for pattern in DIFFERENCES)]


def seen_by(out: Path) -> dict[str, Any]:
    return dict(json.loads(out.with_name(f"{out.name}.seen").read_text(encoding="utf-8")))


def test_the_answers_are_those_of_mlflows_own_server(tmp_path: Path) -> None:
    python = client_python(NEWEST)
    (tmp_path / "theirs").mkdir()
    with mlflow_server(tmp_path / "theirs") as url:
        theirs = record(python, url, tmp_path / "theirs.json", *SCRIPTS)
    with standalone_server(tmp_path) as standalone:
        ours = record(python, standalone.url, tmp_path / "ours.json", *SCRIPTS)
    found = list(dict.fromkeys(differences(ours, theirs)))
    assert not unexplained(found), "\n".join(unexplained(found))
    assert [pattern for pattern in DIFFERENCES if not any(re.match(pattern, line) for line in found)] == []
    assert seen_by(tmp_path / "ours.json") == seen_by(tmp_path / "theirs.json")


def test_each_difference_is_documented() -> None:
    text = (ROOT / "docs" / "reference" / "protocol.md").read_text(encoding="utf-8")
    section = text.partition("These differ:")[2].partition("\n## ")[0]
    documented = {" ".join(line.split()) for line in section.split("\n- ")[1:]}
    assert documented == set(DIFFERENCES.values())


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("theirs")) as url:
        yield url


@pytest.mark.parametrize("version", [version for version in VERSIONS if version not in (OLDEST, NEWEST)])
def test_a_client_gets_the_answers_of_mlflows_own_server(tmp_path: Path, theirs: str, version: str) -> None:
    """One long script with every call of the fluent interface, models, a registry and a folder of 1,000 files."""
    python = client_python(version)
    with standalone_server(tmp_path) as standalone:
        ours = record(python, standalone.url, tmp_path / "ours.json", "conformance.py")
    found = list(dict.fromkeys(differences(ours, record(python, theirs, tmp_path / "theirs.json", "conformance.py"))))
    assert not unexplained(found), "\n".join(unexplained(found))
    assert seen_by(tmp_path / "ours.json") == seen_by(tmp_path / "theirs.json")
    assert version.endswith(seen_by(tmp_path / "ours.json")["version"])


def test_the_oldest_client_sees_what_the_next_one_sees(tmp_path: Path) -> None:
    """MLflow's newest server has no registry for it any more."""
    following = VERSIONS[VERSIONS.index(OLDEST) + 1]
    with standalone_server(tmp_path) as standalone:
        for version in (OLDEST, following):
            record(client_python(version), standalone.url, tmp_path / f"{version}.json", "conformance.py")
    found, expected = (seen_by(tmp_path / f"{version}.json") for version in (OLDEST, following))
    assert found.pop("version") == OLDEST
    assert len(found) > 40
    assert found == {key: expected[key] for key in found}


@pytest.mark.parametrize("version", FEWER)
def test_the_registry_works_for_clients_of_a_team(tmp_path: Path, version: str) -> None:
    """Models go through the artifact proxy here, with every version of the client."""
    python = client_python(version)
    result = tmp_path / "seen.json"
    environ = {name: value for name, value in os.environ.items() if name not in REMOVED_VARIABLES}
    with standalone_server(tmp_path) as standalone:
        done = subprocess.run(
            [python, CLIENTS / "registry.py", result],
            env={**environ, "MLFLOW_TRACKING_URI": standalone.url},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(result.read_text(encoding="utf-8"))
    assert seen["by_number"] == [True, True]
    assert seen["renamed"] == ["left", True]
