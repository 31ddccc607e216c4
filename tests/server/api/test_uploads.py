"""Files that clients send in parts."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from runner.server.run.socket import REMOVED_VARIABLES
from runner.settings import Home
from runner.store import tokens
from runner.store.artifacts import survey
from runner.store.database import Database
from runner.store.tokens import Scope
from tests.support.mlflow_clients import NEWEST, client_python
from tests.support.protocol import Client, Reply, Stage
from tests.support.standalone_server import standalone_server

MPU = "/api/2.0/mlflow-artifacts/mpu"
FILE = "C:\\data\\large file.bin"


@pytest.fixture
def stage(home: Home) -> Iterator[Stage]:
    with closing(Database.open(home.database)) as database:
        found = Stage(home, database)
        with found.socket:
            yield found


@pytest.fixture
def client(stage: Stage) -> Client:
    return Client(stage.socket)


def folder(run_id: str) -> str:
    return f"0/{run_id}/artifacts/some%20folder"


def tell(client: Client, action: str, run_id: str, **fields: object) -> Reply:
    body = {"path": FILE, **fields}
    return client.send("POST", f"{MPU}/{action}/{folder(run_id)}", json.dumps(body).encode())


def send(client: Client, credential: dict[str, Any], content: bytes) -> dict[str, Any]:
    """Send a part as clients do: to the address and with only the headers of the response."""
    address = urlsplit(credential["url"])
    assert (address.scheme, address.netloc) == ("http", f"127.0.0.1:{client.socket.port}")
    reply = client.send("PUT", address.path, content, **{"Authorization": "", **credential["headers"]})
    assert reply.status == 200, reply.body
    return {"part_number": credential["part_number"], "etag": reply.headers["ETag"], "url": credential["url"]}


def begin(stage: Stage, client: Client, count: int) -> tuple[str, list[dict[str, Any]]]:
    made = tell(client, "create", stage.run_id, num_parts=count).json
    assert [one["part_number"] for one in made["credentials"]] == list(range(1, count + 1))
    return made["upload_id"], made["credentials"]


def test_parts_may_come_in_any_order(stage: Stage, client: Client) -> None:
    upload, credentials = begin(stage, client, 3)
    contents = [bytes([number]) * 1000 * (number + 1) for number in range(3)]
    parts = [send(client, credentials[number], contents[number]) for number in (2, 0, 1)]
    root = stage.home.artifacts(stage.run_id)
    assert survey(root).files == ()
    assert tell(client, "complete", stage.run_id, upload_id=upload, parts=parts).json == {}
    assert (root / "some folder" / "large file.bin").read_bytes() == b"".join(contents)
    assert [path.name for path in root.iterdir()] == ["some folder"]


def test_a_part_may_be_sent_again(stage: Stage, client: Client) -> None:
    upload, (only,) = begin(stage, client, 1)
    send(client, only, b"first")
    part = send(client, only, b"second")
    tell(client, "complete", stage.run_id, upload_id=upload, parts=[part])
    root = stage.home.artifacts(stage.run_id)
    assert (root / "some folder" / "large file.bin").read_bytes() == b"second"


def test_an_upload_can_be_given_up(stage: Stage, client: Client) -> None:
    upload, credentials = begin(stage, client, 2)
    send(client, credentials[0], b"x")
    assert tell(client, "abort", stage.run_id, upload_id=upload).json == {}
    assert [path.name for path in (stage.home.root / "runs").rglob("*")] == [".proj-partial"]
    assert tell(client, "abort", stage.run_id, upload_id=upload).error == (404, "RESOURCE_DOES_NOT_EXIST")
    assert client.send("PUT", urlsplit(credentials[1]["url"]).path, b"x").error == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_file_is_not_put_together_of_less_than_all(stage: Stage, client: Client) -> None:
    invalid, none = (400, "INVALID_PARAMETER_VALUE"), (404, "RESOURCE_DOES_NOT_EXIST")
    upload, credentials = begin(stage, client, 2)
    part = send(client, credentials[0], b"x")
    other = {"part_number": 2, "etag": part["etag"]}
    for parts in ([], [other], [part, other], [{"part_number": 1, "etag": "../../target"}]):
        assert tell(client, "complete", stage.run_id, upload_id=upload, parts=parts).error == invalid
    for wrong in ("0" * 32, "../" + upload, "", upload + "/.."):
        assert tell(client, "complete", stage.run_id, upload_id=wrong, parts=[part]).error == none
    assert tell(client, "complete", stage.run_id, upload_id=upload, parts=[part], path="other").error == invalid
    assert survey(stage.home.artifacts(stage.run_id)).files == ()


@pytest.mark.parametrize(
    "fields",
    [{"num_parts": 0}, {"num_parts": 10_001}, {}, {"num_parts": 1, "path": ".."}, {"num_parts": 1, "path": "a/"}],
)
def test_wrong_uploads_are_refused(stage: Stage, client: Client, fields: dict[str, object]) -> None:
    assert tell(client, "create", stage.run_id, **fields).error == (400, "INVALID_PARAMETER_VALUE")


def test_a_client_that_names_no_run_must_send_one_piece(client: Client) -> None:
    reply = client.send("POST", f"{MPU}/create/some%20folder", json.dumps({"path": FILE, "num_parts": 2}).encode())
    assert reply.error == (501, "NOT_IMPLEMENTED")
    assert reply.json["message"].startswith("Multipart upload is not supported")


@pytest.mark.parametrize("place", ["0/x/artifacts", "../..", "0/{run}/artifacts/../../x", "0/{run}/artifacts/%2e%2e/x"])
def test_uploads_stay_among_artifacts(stage: Stage, client: Client, place: str) -> None:
    body = json.dumps({"path": "f", "num_parts": 1}).encode()
    reply = client.send("POST", f"{MPU}/create/{place.format(run=stage.run_id)}", body)
    assert reply.error[0] in (400, 404, 501)
    assert [path.name for path in stage.home.root.rglob("*") if path.name == "target"] == []


def test_parts_of_a_number_that_there_is_not(stage: Stage, client: Client) -> None:
    upload, _ = begin(stage, client, 1)
    for number in ("0", "10001"):
        path = f"{MPU}/part/{upload}/{number}/{folder(stage.run_id)}"
        assert client.send("PUT", path, b"x").error == (400, "INVALID_PARAMETER_VALUE")
    assert client.send("PUT", f"{MPU}/part/{upload}/x/{folder(stage.run_id)}", b"x").error[0] == 404
    assert client.send("GET", f"{MPU}/part/{upload}/1/{folder(stage.run_id)}").error[0] == 404


def test_who_may_only_read_sends_no_parts(tmp_path: Path, home: Home) -> None:
    with closing(Database.open(home.database)) as db:
        reader, writer = tokens.add(db, "reader", Scope.READ), tokens.add(db, "writer", Scope.WRITE)
    with standalone_server(tmp_path) as standalone:
        run_id = standalone.post("runs/create", writer, experiment_id="0").json["run"]["info"]["run_id"]
        body = json.dumps({"path": "f", "num_parts": 1}).encode()
        path = f"{MPU}/create/runs/{run_id}/artifacts"
        assert standalone.send("POST", path, body, reader).error == (403, "PERMISSION_DENIED")
        (reported,) = standalone.send("POST", path, body, writer).json["credentials"]
        assert reported["headers"] == {"Authorization": f"Bearer {writer}"}
        assert standalone.send("PUT", urlsplit(reported["url"]).path, b"x").error == (401, "CUSTOMER_UNAUTHORIZED")
        assert standalone.send("PUT", urlsplit(reported["url"]).path, b"x", reader).error == (403, "PERMISSION_DENIED")
        assert writer not in standalone.log


UPLOAD = """
import sys
from pathlib import Path
import mlflow
Path("large file.bin").write_bytes(bytes(range(256)) * 2**16)
with mlflow.start_run() as run:
    mlflow.log_artifact("large file.bin", "some folder")
    found = mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/some folder/large file.bin")
assert Path(found).read_bytes() == Path("large file.bin").read_bytes()
"""


@pytest.mark.slow
@pytest.mark.mlflow
@pytest.mark.env
@pytest.mark.parametrize("version", ["2.9.2", NEWEST])
def test_a_client_may_send_a_large_file_in_parts(tmp_path: Path, home: Home, version: str) -> None:
    """An older one does not say which run the parts are for, so it sends the file in one piece."""
    with closing(Database.open(home.database)) as db:
        token = tokens.add(db, "me", Scope.WRITE)
    environ = {name: value for name, value in os.environ.items() if name not in REMOVED_VARIABLES}
    parts = {
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true",
        "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": "1000000",
        "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": str(5 * 2**20),
    }
    with standalone_server(tmp_path) as standalone:
        done = subprocess.run(
            [client_python(version), "-c", UPLOAD],
            env={**environ, **parts, "MLFLOW_TRACKING_URI": standalone.url, "MLFLOW_TRACKING_TOKEN": token},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        in_parts = 0 if version == "2.9.2" else 1
        assert standalone.log.count("/mpu/part/") == 4 * in_parts
        assert standalone.log.count("/mpu/complete/") == in_parts
        assert standalone.log.count("PUT /api/2.0/mlflow-artifacts/artifacts/") == 1 - in_parts
