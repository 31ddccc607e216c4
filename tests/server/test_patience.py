"""How long a server waits for whoever is to send something, and how much of a head it takes."""

import socket as sockets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from runner.server import transport
from runner.settings import Home
from runner.store.artifacts import write_artifact
from runner.store.database import Database
from tests.support.protocol import API, Client, Stage

WINDOW = 0.2


@pytest.fixture
def client(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(transport, "WINDOW", WINDOW)
    with closing(Database.open(home.database)) as database, Stage(home, database).socket as socket:
        yield Client(socket)


def head(client: Client, length: int) -> bytes:
    lines = (
        f"POST {API}runs/search HTTP/1.1",
        f"Host: 127.0.0.1:{client.socket.port}",
        f"Authorization: Bearer {client.socket.token}",
        f"Content-Length: {length}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def trickle(client: Client, first: bytes) -> float:
    """Send something, then a byte now and then; return how long the server bore with it."""
    begin = time.monotonic()
    with sockets.create_connection(("127.0.0.1", client.socket.port), timeout=20) as raw:
        raw.sendall(first)
        try:
            while time.monotonic() - begin < 20:
                raw.sendall(b"x")
                time.sleep(WINDOW / 10)
        except OSError:
            return time.monotonic() - begin
    raise AssertionError("the server is still waiting")


def test_a_head_that_comes_byte_by_byte_is_given_up(client: Client) -> None:
    assert trickle(client, b"POST / HTTP/1.1\r\nHost: ") >= WINDOW
    assert client.send("GET", "/health").status == 200


def test_a_body_that_comes_byte_by_byte_is_given_up(client: Client) -> None:
    assert trickle(client, head(client, 10**6)) >= WINDOW
    assert client.send("GET", "/health").status == 200


def test_a_connection_on_which_nothing_comes_is_given_up(client: Client) -> None:
    with (
        sockets.create_connection(("127.0.0.1", client.socket.port), timeout=20) as raw,
        suppress(ConnectionResetError),
    ):
        assert raw.recv(1) == b""
    assert client.send("GET", "/health").status == 200


def test_a_slow_but_steady_upload_is_taken(client: Client) -> None:
    length = 40 * transport.MIN_BYTES
    with sockets.create_connection(("127.0.0.1", client.socket.port), timeout=20) as raw:
        raw.sendall(head(client, length))
        body = b"{" + b" " * (length - 2) + b"}"
        for start in range(0, length, 2 * transport.MIN_BYTES):
            raw.sendall(body[start : start + 2 * transport.MIN_BYTES])
            time.sleep(WINDOW / 2)
        assert b" 200 " in raw.recv(100)


def test_a_client_may_be_silent_between_two_requests(client: Client) -> None:
    with sockets.create_connection(("127.0.0.1", client.socket.port), timeout=20) as raw:
        for _ in range(2):
            raw.sendall(head(client, 2) + b"{}")
            assert b" 200 " in raw.recv(10_000)
            time.sleep(4 * WINDOW)


def test_a_head_without_end_is_refused(client: Client) -> None:
    with sockets.create_connection(("127.0.0.1", client.socket.port), timeout=20) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n")
        # The answer may be lost with the connection, which the server closes while we send.
        with suppress(ConnectionError):
            for number in range(200):
                raw.sendall(f"X-{number}: {'x' * 4000}\r\n".encode())
            assert b" 400 " in raw.recv(1000)
    assert client.send("GET", "/health").status == 200


@pytest.fixture
def four(client: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[sockets.socket]]:
    """Fill a server that has room for four with connections on which a request with the token was answered."""
    monkeypatch.setattr(transport, "WINDOW", 60)
    monkeypatch.setattr(transport, "MAX_CONNECTIONS", 4)
    monkeypatch.setattr(transport, "MAX_PER_ADDRESS", 4)
    with ExitStack() as opened:
        known = [opened.enter_context(connect(client)) for _ in range(4)]
        for raw in known:
            assert answers(raw, head(client, 2) + b"{}")
        yield known


def connect(client: Client) -> sockets.socket:
    return sockets.create_connection(("127.0.0.1", client.socket.port), timeout=20)


def answers(raw: sockets.socket, request: bytes) -> bool:
    """Say whether a request is answered; False where the server has closed the connection."""
    with suppress(ConnectionError):
        raw.sendall(request)
        return b" 200 " in raw.recv(10_000)
    return False


def test_strangers_take_the_place_of_strangers_when_a_server_is_full(
    client: Client, four: list[sockets.socket]
) -> None:
    with ExitStack() as opened:
        strangers = [opened.enter_context(connect(client)) for _ in range(10)]
        for stranger in strangers[:-1]:
            with suppress(ConnectionResetError):
                assert stranger.recv(1) == b""
        assert answers(strangers[-1], head(client, 2) + b"{}")
        # The first of them took the place of the one that had been there longest, none of the others did.
        assert [answers(raw, head(client, 2) + b"{}") for raw in four] == [False, True, True, True]


def test_a_connection_with_a_request_under_way_is_not_closed(client: Client, four: list[sockets.socket]) -> None:
    for raw in four:
        raw.sendall(head(client, 2) + b"{")
    assert_soon(lambda: not answers_at_once(client))
    for raw in four:
        assert answers(raw, b"}")


def answers_at_once(client: Client) -> bool:
    with connect(client) as newcomer:
        return answers(newcomer, head(client, 2) + b"{}")


def assert_soon(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline


@pytest.mark.usefixtures("four")
def test_one_peer_does_not_get_all_connections(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another address of this machine stands for another machine."""
    monkeypatch.setattr(transport, "MAX_PER_ADDRESS", 2)
    with sockets.socket() as other:
        other.bind(("127.0.0.2", 0))
        other.connect(("127.0.0.1", client.socket.port))
        assert answers(other, head(client, 2) + b"{}")
        with ExitStack() as opened:
            for _ in range(10):
                opened.enter_context(connect(client))
            assert answers(opened.enter_context(connect(client)), head(client, 2) + b"{}")
            assert answers(other, head(client, 2) + b"{}")


def test_a_client_that_does_not_take_its_answers_is_given_up(client: Client) -> None:
    request = f"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1:{client.socket.port}\r\n\r\n".encode()
    begin = time.monotonic()
    with connect(client) as raw, suppress(ConnectionError):
        while time.monotonic() - begin < 20:
            raw.sendall(request)
            time.sleep(WINDOW / 50)
        raise AssertionError("the server is still waiting")
    assert time.monotonic() - begin >= WINDOW
    assert client.send("GET", "/health").status == 200


def get_file(client: Client, run_id: str) -> tuple[sockets.socket, bytes]:
    """Request the file ``big`` with a small receive buffer, and return the connection with the first bytes."""
    raw = sockets.socket()
    raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    raw.settimeout(20)
    raw.connect(("127.0.0.1", client.socket.port))
    request = f"GET /api/2.0/mlflow-artifacts/artifacts/0/{run_id}/artifacts/big HTTP/1.1"
    lines = (request, f"Host: 127.0.0.1:{client.socket.port}", f"Authorization: Bearer {client.socket.token}")
    raw.sendall("\r\n".join((*lines, "", "")).encode())
    return raw, raw.recv(100)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are listed on Linux")
def test_a_client_that_does_not_take_a_file_is_given_up(client: Client, home: Home) -> None:
    run_id = runs_of(home)
    write_artifact(home.artifacts(run_id), "big", [bytes(30_000_000)])
    with closing(get_file(client, run_id)[0]) as raw:
        place = str(home.artifacts(run_id) / "big")
        assert_soon(lambda: place in open_files())
        assert_soon(lambda: place not in open_files())
        with suppress(ConnectionError):
            while raw.recv(1 << 20):
                pass
    assert client.send("GET", "/health").status == 200


def test_a_client_that_takes_a_file_slowly_gets_all_of_it(client: Client, home: Home) -> None:
    run_id = runs_of(home)
    write_artifact(home.artifacts(run_id), "big", [bytes(20_000_000)])
    raw, got = get_file(client, run_id)
    begin = time.monotonic()
    size = len(got)
    with closing(raw):
        while piece := raw.recv(1 << 20 if time.monotonic() - begin > 5 * WINDOW else 65536):
            size += len(piece)
            if time.monotonic() - begin < 5 * WINDOW:
                time.sleep(WINDOW / 20)
            if size > 20_000_000:
                break
    assert size > 20_000_000


def runs_of(home: Home) -> str:
    """Return the id of the run of the server."""
    with closing(Database.open(home.database)) as database:
        return str(database.query("SELECT run_id FROM runs ORDER BY id LIMIT 1")[0]["run_id"])


def open_files() -> set[str]:
    found = set()
    for one in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add(str(one.readlink()))
    return found
