"""What strangers send a server costs it little memory, and others get their answers meanwhile."""

import re
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.server import transport
from runner.settings import Home
from runner.store import runs, tokens
from runner.store.database import Database
from runner.store.entities import NewRun
from runner.store.tokens import Scope
from tests.support.protocol import API
from tests.support.standalone_server import RunningServer, standalone_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks of memory are Linux's"),
]

SENT = 40 * 2**20
GROWTH = 30 * 1024
"""Kilobytes by which the server may grow for 40 MB that strangers send over a hundred connections."""


class Guarded(RunningServer):
    """A server that wants tokens, and one of them."""

    token = ""

    def peak(self) -> int:
        """Return the largest size of the process so far, in kilobytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(re.findall(r"VmHWM:\s+(\d+)", status)[0])

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="ascii")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("floods")
    home = Home(folder / "home")
    with closing(Database.open(home.database)) as database:
        secret = tokens.add(database, "me", Scope.WRITE)
    with standalone_server(folder, "--quiet", PROJ_HOME=str(home.root)) as plain:
        guarded = Guarded(plain.process, folder / "server.log", plain.url)
        guarded.token = secret
        assert guarded.post("experiments/search", secret).status == 200
        yield guarded


HEAD = b"POST " + API.encode() + b"runs/create HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
MUCH = 400_000

FLOODS: dict[str, bytes] = {
    "trailers": CHUNKED + b"2\r\n{}\r\n0\r\n" + b"a:b\r\n" * (MUCH // 5),
    "one trailer": CHUNKED + b"2\r\n{}\r\n0\r\nx: " + b"y" * MUCH,
    "trailer name": CHUNKED + b"2\r\n{}\r\n0\r\n" + b"y" * MUCH,
    "trailers of many": (CHUNKED + b"0\r\n" + b"a:b\r\n" * 100 + b"\r\n") * (MUCH // 600),
    "headers": HEAD + b"a:b\r\n" * (MUCH // 5),
    "one header": HEAD + b"x: " + b"y" * MUCH,
    "empty headers": HEAD + b"a:\r\n" * (MUCH // 4),
    "just enough headers": HEAD + b"a: " + b"b" * 60_000 + b"\r\n",
    "line": b"GET /" + b"x" * MUCH,
    "query": b"GET /health?" + b"a=b&" * (MUCH // 4),
    "method": b"X" * MUCH,
    "extensions": CHUNKED + b"1;" + b"x" * MUCH,
    "many extensions": CHUNKED + (b"1;" + b"x" * 1000 + b"\r\n{\r\n") * (MUCH // 1000),
    "small chunks": CHUNKED + b"1\r\n{\r\n" * (MUCH // 6),
    "padded chunks": CHUNKED + (b"0" * 15 + b"1\r\n{\r\n") * (MUCH // 20),
    "pipelined": GET % b"health" * (MUCH // 40),
    "pipelined long answers": GET % b"openapi.json" * (MUCH // 40),
    "pipelined writes": (HEAD + b"Content-Length: 2\r\n\r\n{}") * (MUCH // 90),
    "pipelined HTTP/1.0": b"GET /health HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n" * (MUCH // 70),
    "empty lines": b"\r\n" * (MUCH // 2),
    "body": HEAD + b"Content-Length: 99999999\r\n\r\n" + b"x" * MUCH,
    "upgrades": (HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}") * (MUCH // 120),
    "expectations": (HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n") * (MUCH // 100),
}


def send_to_all(opened: list[socket.socket], text: bytes, each: int, seconds: float) -> None:
    """Send as much of a text to all as they take, without reading anything; at most so many bytes to each."""
    left = dict.fromkeys(opened, text[:each])
    deadline = time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        writable = select.select([], list(left), [], 2)[1]
        if not writable:
            return  # those that are left are not read any more
        for one in writable:
            try:
                left[one] = left[one][one.send(left[one][:65536]) :]
            except OSError:
                left[one] = b""
            if not left[one]:
                del left[one]


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_strangers_takes_little_memory(standalone: Guarded, name: str) -> None:
    with ExitStack() as stack:
        opened = [stack.enter_context(standalone.connect()) for _ in range(100)]
        for one in opened:
            one.setblocking(False)
        standalone.forget_peak()
        before = standalone.peak()
        send_to_all(opened, FLOODS[name], SENT // 100, 10)
        assert standalone.post("experiments/search", standalone.token).status == 200
        grown = standalone.peak() - before
        assert grown < GROWTH, f"{grown} kB"


def test_trailers_are_no_headers(standalone: Guarded) -> None:
    """A trailer must not say who asks, also when it arrives together with the head."""
    bearer = f"Authorization: Bearer {standalone.token}\r\n".encode()
    body = b'17\r\n{"experiment_id": "0"}   \r\n'.replace(b"17", b"19")
    for extra in (bearer, b"Host: localhost\r\n" + bearer):
        with standalone.connect() as raw:
            raw.sendall(CHUNKED + body + b"0\r\n" + extra + b"\r\n")
            assert b" 401 " in raw.recv(1000)
    with standalone.connect() as raw:
        raw.sendall(CHUNKED.replace(b"\r\n\r\n", b"\r\n" + bearer + b"\r\n") + body + b"0\r\nX-Sum: 5\r\n\r\n")
        assert b" 200 " in raw.recv(1000)


def test_a_body_of_a_request_that_asks_for_another_protocol_is_not_lost(standalone: Guarded) -> None:
    """The parser would take it for data of the other protocol, or for the next request."""
    head = HEAD + f"Authorization: Bearer {standalone.token}\r\n".encode()
    body = b'{"experiment_id": "0", "run_name": "upgraded"}'
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    for framing in (
        b"Content-Length: %d\r\n\r\n" % len(body) + body,
        b"Transfer-Encoding: chunked\r\n\r\n2e\r\n" + body,
    ):
        with standalone.connect() as raw:
            raw.sendall(head + upgrade + framing)
            assert b" 400 " in raw.recv(1000)
    with standalone.connect() as raw:
        raw.sendall((GET % b"health").replace(b"\r\n\r\n", b"\r\n" + upgrade + b"\r\n") + head + framing)
        answers = b""
        with suppress(ConnectionResetError):
            while piece := raw.recv(1000):
                answers += piece
        assert answers.startswith(b"HTTP/1.1 200 ")
        assert answers.count(b"HTTP/1.1") == 1
    found = standalone.post("runs/search", standalone.token, experiment_ids=["0"], filter="run_name = 'upgraded'").json
    assert not found.get("runs")


def test_a_refused_upload_that_waits_for_leave_to_go_on_ends_its_connection(standalone: Guarded) -> None:
    with standalone.connect() as raw:
        raw.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 90\r\n\r\n")
        answer = b""
        while piece := raw.recv(1000):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in answer


def test_an_upload_that_waits_for_leave_gets_it(standalone: Guarded) -> None:
    bearer = f"Authorization: Bearer {standalone.token}\r\n".encode()
    body = b'{"experiment_id": "0"}'
    with standalone.connect() as raw:
        raw.sendall(HEAD + bearer + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert raw.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(body)
        assert b" 200 " in raw.recv(1000)


def test_what_clients_send_is_within_the_limits(standalone: Guarded) -> None:
    """Long queries, many headers, chunks of a few bytes, trailers, a few pipelined requests."""
    bearer = f"Authorization: Bearer {standalone.token}\r\n".encode()
    head = HEAD.replace(b"runs/create", b"runs/search") + bearer
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [b"{", *[b" "] * 20_000, b"}"])
    query = b"a=" + b"x" * 30_000
    many = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 300) for number in range(90))
    for text, count in (
        (head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nX-Sum: 1\r\n\r\n", 1),
        (GET.replace(b"/%s", b"/health?" + query), 1),
        (head + many + b"Content-Length: 2\r\n\r\n{}", 1),
        ((head + b"Content-Length: 2\r\n\r\n{}") * 20, 20),
    ):
        with standalone.connect() as raw:
            raw.sendall(text)
            answers = b""
            deadline = time.monotonic() + 20
            while answers.count(b"HTTP/1.1 200 ") < count and time.monotonic() < deadline:
                answers += raw.recv(65536)
            assert answers.count(b"HTTP/1.1 ") == count, text[:100]


PIECES = st.sampled_from(
    [
        *(text[:300] for text in FLOODS.values()),
        HEAD,
        CHUNKED,
        GET % b"health",
        b"\r\n",
        b"0\r\n",
        b"0\r\n\r\n",
        b"5;a=b\r\nhello\r\n",
        b"\0" * 10,
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]
)


@pytest.mark.parametrize("examples", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_no_mixture_of_pieces_breaks_the_server(standalone: Guarded, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, database=None)
    @given(st.lists(st.one_of(PIECES, st.binary(max_size=40)), max_size=12), st.booleans())
    def send(pieces: list[bytes], apart: bool) -> None:
        with standalone.connect() as raw, suppress(OSError):  # the server may end the connection at any moment
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for text in pieces if apart else [b"".join(pieces)]:
                raw.sendall(text)
            raw.shutdown(socket.SHUT_WR)
            raw.settimeout(0.02)
            with suppress(TimeoutError):
                while raw.recv(65536):
                    pass

    send()
    assert standalone.post("experiments/search", standalone.token).status == 200
    assert "Traceback" not in standalone.log


def until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def few_files() -> Iterator[None]:
    """Let what is started have as many open files as most systems give."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("this machine allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_files")
def test_thousands_of_connections_do_not_keep_others_out(tmp_path: Path, home: Home) -> None:
    """Strangers take the place of strangers; who is known keeps its own."""
    with closing(Database.open(home.database)) as database:
        secret = tokens.add(database, "me", Scope.WRITE)
    request = (
        HEAD + f"Authorization: Bearer {secret}\r\nContent-Length: 22\r\n\r\n".encode() + b'{"experiment_id": "0"}'
    )
    with standalone_server(tmp_path, "--quiet") as standalone, ExitStack() as stack:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
        address = ("127.0.0.1", standalone.port)
        known = stack.enter_context(socket.create_connection(address, timeout=20))
        known.sendall(request)
        assert b" 200 " in known.recv(10_000)
        for number in range(2000):
            raw = stack.enter_context(socket.create_connection(address, timeout=20))
            if number % 3:
                raw.sendall(HEAD if number % 2 else b"GET")
            if number % 200 == 0:
                assert standalone.post("experiments/search", secret).status == 200, number
        files = Path(f"/proc/{standalone.process.pid}/fd")
        assert until(lambda: len(list(files.iterdir())) <= 1024 - 64)
        known.sendall(request)
        assert b" 200 " in known.recv(10_000)
        assert standalone.post("experiments/search", secret).status == 200
        assert "Too many open files" not in standalone.log


@pytest.mark.usefixtures("few_files")
@pytest.mark.parametrize("kind", ["upload", "part"])
def test_hundreds_of_stalled_uploads_leave_files_for_others(tmp_path: Path, home: Home, kind: str) -> None:
    with closing(Database.open(home.database)) as database:
        secret = tokens.add(database, "me", Scope.WRITE)
        run_id = runs.create(database, NewRun(experiment_id="0")).run_id
    proxy, folder = "/api/2.0/mlflow-artifacts", f"runs/{run_id}/artifacts"
    with standalone_server(tmp_path, "--quiet") as standalone, ExitStack() as stack:
        body = b'{"path": "x", "num_parts": 1}'
        upload = standalone.send("POST", f"{proxy}/mpu/create/{folder}", body, secret).json["upload_id"]
        for number in range(400):
            path = f"artifacts/{folder}/{number}" if kind == "upload" else f"mpu/part/{upload}/1/{folder}"
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", standalone.port), timeout=20))
            lines = (f"PUT {proxy}/{path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {secret}")
            raw.sendall("\r\n".join((*lines, "Content-Length: 500000", "", "x")).encode())
        files = Path(f"/proc/{standalone.process.pid}/fd")
        assert until(lambda: len(list(files.iterdir())) > 600)
        assert standalone.post("experiments/search", secret).status == 200
        refused = standalone.send("PUT", f"{proxy}/artifacts/{folder}/a", b"1", secret)
        assert refused.error == (503, "TEMPORARILY_UNAVAILABLE")
        assert len(list(files.iterdir())) <= 1024 - 64
        stack.close()
        assert until(lambda: standalone.send("PUT", f"{proxy}/artifacts/{folder}/a", b"1", secret).status == 200)
        assert "Too many open files" not in standalone.log


def test_the_limit_leaves_files_for_the_store() -> None:
    assert transport.MAX_CONNECTIONS >= 16
    assert transport._RESERVED_FILES > 2 * transport.ACCEPT_BATCH
