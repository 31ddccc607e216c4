"""How long a server waits for whoever is to send something, and how much of a head it takes."""

import socket as sockets
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from runner.server import transport
from runner.settings import Home
from runner.store.database import Database
from tests.protocol import API, Client, Stage

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
    length = 40 * transport.LEAST
    with sockets.create_connection(("127.0.0.1", client.socket.port), timeout=20) as raw:
        raw.sendall(head(client, length))
        body = b"{" + b" " * (length - 2) + b"}"
        for start in range(0, length, 2 * transport.LEAST):
            raw.sendall(body[start : start + 2 * transport.LEAST])
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


def test_more_connections_than_there_are_files_for_are_closed(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "WINDOW", 60)
    monkeypatch.setattr(transport, "MOST_CONNECTIONS", 4)
    address = ("127.0.0.1", client.socket.port)
    with ExitStack() as opened:
        for _ in range(4):
            raw = opened.enter_context(sockets.create_connection(address, timeout=20))
            raw.sendall(head(client, 2) + b"{}")
            assert b" 200 " in raw.recv(10_000)
        for _ in range(10):
            with sockets.create_connection(address, timeout=20) as refused, suppress(ConnectionResetError):
                assert refused.recv(1) == b""
        raw.sendall(head(client, 2) + b"{}")
        assert b" 200 " in raw.recv(10_000)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(ConnectionError):
            assert client.send("GET", "/health").status == 200
            return
    raise AssertionError("the server takes no connection any more")
