"""Large files through a server: they go between socket and disk by the system, and every byte arrives."""

import http.client
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.protocol.errors import ErrorCode, RefusedError
from runner.server import guards, transport, zero_copy
from runner.server.guards import MAX_BODY
from runner.server.run.guard import ChildGuard
from runner.server.transport import JoiningProtocol
from runner.settings import Home
from runner.store.artifacts import survey
from runner.store.database import Database
from tests.support.protocol import API, Client, Stage

SIZE = 3 * zero_copy.MIN_SIZE + 17


@pytest.fixture
def stage(home: Home) -> Iterator[Stage]:
    with closing(Database.open(home.database)) as database:
        found = Stage(home, database)
        with found.socket:
            yield found


@pytest.fixture
def client(stage: Stage) -> Client:
    return Client(stage.socket)


@pytest.fixture
def spliced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the sizes of bodies that went from the socket to a file, as they come."""
    sizes: list[int] = []
    receive = zero_copy.receive_file

    async def noted(scope: Mapping[str, Any], target: int, size: int, check: Callable[[bool], None]) -> None:
        sizes.append(size)
        await receive(scope, target, size, check)

    monkeypatch.setattr(zero_copy, "receive_file", noted)
    return sizes


def address(stage: Stage, name: str) -> str:
    return f"/api/2.0/mlflow-artifacts/artifacts/0/{stage.run_id}/artifacts/{name}"


def content(size: int) -> bytes:
    return os.urandom(size)


@pytest.mark.parametrize("size", [0, 1, zero_copy.MIN_SIZE - 1, zero_copy.MIN_SIZE, SIZE, 30 << 20])
def test_files_of_every_size_go_up_and_down(stage: Stage, client: Client, spliced: list[int], size: int) -> None:
    data = content(size)
    assert client.send("PUT", address(stage, "d/f"), data).json == {}
    assert (stage.home.artifacts(stage.run_id) / "d" / "f").read_bytes() == data
    assert spliced == ([size] if size >= zero_copy.MIN_SIZE else [])
    reply = client.send("GET", address(stage, "d/f"))
    assert reply.body == data
    assert reply.headers["content-length"] == str(size)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 2 * SIZE), min_size=1, max_size=6))
def test_a_connection_goes_on_after_large_bodies(stage: Stage, client: Client, sizes: list[int]) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", stage.socket.port, timeout=60)) as connection:
        for number, size in enumerate(sizes):
            data = content(size)
            connection.request("PUT", address(stage, f"f{number}"), data, client.headers)
            assert connection.getresponse().read() == b"{}"
            connection.request("GET", address(stage, f"f{number}"), headers=client.headers)
            assert connection.getresponse().read() == data


def head(stage: Stage, client: Client, size: int, *more: str) -> bytes:
    lines = [
        f"PUT {address(stage, 'f')} HTTP/1.1",
        f"Host: 127.0.0.1:{stage.socket.port}",
        f"Authorization: {client.headers['Authorization']}",
        f"Content-Length: {size}",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def read_answer(connection: socket.socket) -> bytes:
    connection.settimeout(60)
    answer = b""
    while not answer.endswith((b"{}", b"}")):
        piece = connection.recv(65536)
        if not piece:
            break
        answer += piece
    return answer


@pytest.mark.parametrize("pieces", [[1], [SIZE - 1], [1000] * 200, [zero_copy.MIN_SIZE, 5]])
def test_bodies_may_come_in_any_pieces(stage: Stage, client: Client, pieces: list[int]) -> None:
    data = content(SIZE)
    with socket.create_connection(("127.0.0.1", stage.socket.port)) as connection:
        connection.sendall(head(stage, client, SIZE))
        left = memoryview(data)
        for piece in pieces:
            connection.sendall(left[:piece])
            left = left[piece:]
            time.sleep(0.001)
        connection.sendall(left)
        assert read_answer(connection).endswith(b"{}")
    assert (stage.home.artifacts(stage.run_id) / "f").read_bytes() == data


def test_a_client_may_wait_for_the_word_to_go_on(stage: Stage, client: Client) -> None:
    data = content(SIZE)
    with socket.create_connection(("127.0.0.1", stage.socket.port)) as connection:
        connection.sendall(head(stage, client, SIZE, "Expect: 100-continue"))
        connection.settimeout(60)
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(data)
        assert read_answer(connection).endswith(b"{}")
    assert (stage.home.artifacts(stage.run_id) / "f").read_bytes() == data


def test_a_request_that_follows_at_once_is_answered(stage: Stage, client: Client) -> None:
    data = content(SIZE)
    again = head(stage, client, SIZE).replace(b"/f HTTP", b"/g HTTP")
    with socket.create_connection(("127.0.0.1", stage.socket.port)) as connection:
        connection.sendall(head(stage, client, SIZE) + data + again + data)
        answer = read_answer(connection)
        while answer.count(b"HTTP/1.1 200") < 2:
            answer += read_answer(connection)
    assert [file.path for file in survey(stage.home.artifacts(stage.run_id)).files] == ["f", "g"]
    assert (stage.home.artifacts(stage.run_id) / "g").read_bytes() == data


def test_a_client_that_goes_away_leaves_nothing(stage: Stage, client: Client) -> None:
    with socket.create_connection(("127.0.0.1", stage.socket.port)) as connection:
        connection.sendall(head(stage, client, SIZE) + content(SIZE - 1))
    staging = stage.home.root / "runs" / ".proj-partial"
    deadline = time.monotonic() + 30
    while (not staging.exists() or any(staging.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list(staging.iterdir()) == []
    assert survey(stage.home.artifacts(stage.run_id)).files == ()


def is_given_up(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.fixture
def short_window(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(transport, "WINDOW", 0.2)
    return 0.2


def staged_files(stage: Stage) -> list[Path]:
    staging = stage.home.root / "runs" / ".proj-partial"
    return list(staging.iterdir()) if staging.exists() else []


def assert_nothing_is_stored(stage: Stage) -> None:
    deadline = time.monotonic() + 30
    while staged_files(stage) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert staged_files(stage) == []
    assert survey(stage.home.artifacts(stage.run_id)).files == ()


@pytest.mark.usefixtures("short_window")
def test_a_client_that_stops_sending_is_disconnected(stage: Stage, client: Client, spliced: list[int]) -> None:
    with socket.create_connection(("127.0.0.1", stage.socket.port)) as connection:
        connection.sendall(head(stage, client, SIZE) + content(1000))
        connection.settimeout(60)
        assert is_given_up(connection)
    assert spliced == [SIZE]
    assert_nothing_is_stored(stage)


def test_a_client_that_sends_byte_by_byte_is_disconnected(
    stage: Stage, client: Client, spliced: list[int], short_window: float
) -> None:
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", stage.socket.port)) as connection:
        connection.sendall(head(stage, client, SIZE) + content(1000))
        with suppress(OSError):
            while time.monotonic() - begin < 20:
                connection.sendall(b"x")
                time.sleep(short_window / 10)
    assert short_window <= time.monotonic() - begin < 20
    assert spliced == [SIZE]
    assert_nothing_is_stored(stage)
    assert client.send("GET", "/health").status == 200


def test_a_slow_but_steady_client_is_served(
    stage: Stage, client: Client, spliced: list[int], short_window: float
) -> None:
    data = content(SIZE)
    step = SIZE // 16
    assert step > transport.MIN_BYTES
    with socket.create_connection(("127.0.0.1", stage.socket.port)) as connection:
        connection.sendall(head(stage, client, SIZE))
        for start in range(0, SIZE, step):
            connection.sendall(data[start : start + step])
            time.sleep(short_window / 2)
        assert read_answer(connection).endswith(b"{}")
    assert spliced == [SIZE]
    assert (stage.home.artifacts(stage.run_id) / "f").read_bytes() == data


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_sender_that_loses_its_permission_is_refused(
    stage: Stage, client: Client, spliced: list[int], monkeypatch: pytest.MonkeyPatch, is_silent: bool
) -> None:
    """The token is checked while the client sends, and while it sends nothing."""
    monkeypatch.setattr(zero_copy, "_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(guards, "_RECHECK", 0.05)
    with socket.create_connection(("127.0.0.1", stage.socket.port)) as connection:
        connection.sendall(head(stage, client, SIZE) + content(1000))
        deadline = time.monotonic() + 20
        while not staged_files(stage) and time.monotonic() < deadline:
            time.sleep(0.01)
        monkeypatch.setattr(ChildGuard, "_check_token", refuse)
        connection.settimeout(20)
        with suppress(ConnectionError):
            if not is_silent:
                for _ in range(SIZE // 1000):
                    connection.sendall(b"x" * 1000)
                    time.sleep(0.005)
            assert read_answer(connection).startswith((b"HTTP/1.1 401 ", b""))
    assert spliced == [SIZE]
    assert_nothing_is_stored(stage)


def refuse(guard: object, authorization: str) -> None:
    raise RefusedError(ErrorCode.CUSTOMER_UNAUTHORIZED, f"{guard}: {bool(authorization)}")


def test_the_bytes_of_a_spliced_body_are_counted(stage: Stage, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    count = JoiningProtocol.count_spliced

    def noted(connection: JoiningProtocol, size: int) -> None:
        counted.append(size)
        count(connection, size)

    monkeypatch.setattr(JoiningProtocol, "count_spliced", noted)
    with socket.create_connection(("127.0.0.1", stage.socket.port)) as connection:
        connection.sendall(head(stage, client, SIZE, "Expect: 100-continue"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(content(SIZE))
        assert read_answer(connection).endswith(b"{}")
    assert sum(counted) == SIZE


def test_a_json_body_is_not_spliced_and_has_a_limit(stage: Stage, client: Client, spliced: list[int]) -> None:
    with socket.create_connection(("127.0.0.1", stage.socket.port)) as connection:
        request = head(stage, client, MAX_BODY + 1).replace(b"PUT " + address(stage, "f").encode(), b"POST /api")
        connection.sendall(request.replace(b"/api", API.encode() + b"runs/search"))
        connection.settimeout(60)
        assert b"RESOURCE_LIMIT_EXCEEDED" in read_answer(connection)
    assert spliced == []


def test_a_file_that_can_not_be_written_is_answered(stage: Stage, client: Client) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE - 1000, hard))
    try:
        reply = client.send("PUT", address(stage, "f"), content(SIZE))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert reply.status >= 500
    assert survey(stage.home.artifacts(stage.run_id)).files == ()
    assert list((stage.home.root / "runs" / ".proj-partial").iterdir()) == []


def test_a_file_that_shrinks_on_its_way_ends_the_connection(stage: Stage, client: Client) -> None:
    data = content(40 << 20)
    client.send("PUT", address(stage, "f"), data)
    place = stage.home.artifacts(stage.run_id) / "f"
    with closing(http.client.HTTPConnection("127.0.0.1", stage.socket.port, timeout=60)) as connection:
        connection.connect()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.request("GET", address(stage, "f"), headers=client.headers)
        reply = connection.getresponse()
        assert reply.read(1000) == data[:1000]
        os.truncate(place, 1000)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            reply.read()
    assert client.send("GET", address(stage, "f")).body == data[:1000]
