"""Large responses: complete, limited in memory, and in nobody's way."""

import os
import socket as sockets
import time
from collections.abc import Iterator

import pytest

from runner.server import budgets, sending
from runner.store import runs, values
from runner.store.entities import NewRun
from tests.support.protocol import API, Client, Stage

PROXY = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture
def client(stage: Stage) -> Iterator[Client]:
    """Return a client of a server with runs whose search has 8 MB, which no buffer of the system takes."""
    for _ in range(10):
        run_id = runs.create(stage.database, NewRun()).run_id
        values.set_tags(stage.database, run_id, {f"k{number}": "x" * 8000 for number in range(100)})
    with stage.socket as socket:
        yield Client(socket)


def search_without_reading(client: Client) -> sockets.socket:
    raw = sockets.socket()
    raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    raw.settimeout(20)
    raw.connect(("127.0.0.1", client.socket.port))
    body = '{"experiment_ids": ["0"]}'
    lines = (
        f"POST {API}runs/search HTTP/1.1",
        f"Host: 127.0.0.1:{client.socket.port}",
        f"Authorization: Bearer {client.socket.token}",
        f"Content-Length: {len(body)}",
    )
    raw.sendall("\r\n".join((*lines, "", body)).encode())
    assert raw.recv(12) == b"HTTP/1.1 200"
    return raw


def until_status(client: Client, status: int) -> None:
    deadline = time.monotonic() + 20
    while client.post("runs/search", experiment_ids=["0"]).status != status:
        assert time.monotonic() < deadline


def test_clients_that_do_not_take_their_responses_hold_a_limited_amount(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets.RESPONSES, "_most", 20_000_000)
    monkeypatch.setattr(budgets.RESPONSES, "left", 20_000_000)
    waiting = [search_without_reading(client) for _ in range(2)]
    until_status(client, 503)
    refused = client.post("runs/search", experiment_ids=["0"])
    assert refused.error == (503, "TEMPORARILY_UNAVAILABLE")
    assert client.get("runs/get", run_id=client_run(client)).status == 200
    for raw in waiting:
        raw.close()
    until_status(client, 200)
    assert budgets.RESPONSES.left == 20_000_000


def client_run(client: Client) -> str:
    """Return the id of a small run."""
    return str(client.post("runs/create", experiment_id="0").json["run"]["info"]["run_id"])


def test_one_response_may_exceed_the_limit(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets.RESPONSES, "_most", 1000)
    monkeypatch.setattr(budgets.RESPONSES, "left", 1000)
    for _ in range(2):
        found = client.post("runs/search", experiment_ids=["0"]).json["runs"]
        assert sum(len(run["data"].get("tags", ())) >= 100 for run in found) == 10
    assert budgets.RESPONSES.left == 1000


@pytest.mark.parametrize("rest", [-1, 0, 1])
@pytest.mark.parametrize("pieces", [0, 1, 2])
def test_every_length_arrives_whole(client: Client, monkeypatch: pytest.MonkeyPatch, pieces: int, rest: int) -> None:
    plain = client.send("GET", "/openapi.json")
    length = int(plain.headers["content-length"])
    size = length - rest if pieces < 2 else (length - rest) // pieces
    monkeypatch.setattr(sending, "PIECE", max(1, size) if pieces else length * 2 + rest)
    assert client.send("GET", "/openapi.json").json == plain.json


def test_a_folder_with_many_files_is_listed_and_removed(client: Client, stage: Stage) -> None:
    root = stage.home.artifacts(stage.run_id) / "many"
    root.mkdir(parents=True)
    for number in range(3000):
        os.close(os.open(root / f"{number:05d}-{'n' * 100}", os.O_CREAT))
    found = client.get("artifacts/list", run_id=stage.run_id, path="many").json["files"]
    assert [one["path"] for one in found] == [f"many/{number:05d}-{'n' * 100}" for number in range(3000)]
    assert client.send("DELETE", f"{PROXY}/0/{stage.run_id}/artifacts/many").status == 200
    assert not root.exists()
    assert client.get("artifacts/list", run_id=stage.run_id).json.get("files", []) == []
