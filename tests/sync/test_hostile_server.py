"""Tests a malicious tracking server: commands end soon, use little memory, and report the reason."""

import gzip
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from runner.model import RunStatus
from runner.settings import Home
from runner.store import runs
from runner.store.artifacts import write_artifact
from runner.store.database import Database
from runner.store.entities import NewRun
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

RUN = "e" * 32
OTHERS = count(1)
TOKENS = count(1)
MOST_MEMORY = 450
"""Megabytes that a command may take; importing all that it needs takes 60."""

Answer = Iterator[bytes]
Behaviour = Callable[[Any], Answer]


def run_told(run_id: str = RUN) -> dict[str, Any]:
    info = {"run_id": run_id, "experiment_id": "7", "run_name": "evil", "status": "FINISHED", "start_time": 1}
    uri = f"mlflow-artifacts:/7/{run_id}/artifacts"
    metric = {"key": "loss", "value": 1.0, "timestamp": 1, "step": 1}
    return {"info": {**info, "artifact_uri": uri}, "data": {"metrics": [metric], "params": [], "tags": []}}


EXPERIMENT = {
    "experiment_id": "7",
    "name": "evil",
    "artifact_location": "mlflow-artifacts:/7",
    "lifecycle_stage": "active",
}
GOOD: dict[str, Any] = {
    "experiments/search": {"experiments": [EXPERIMENT]},
    "experiments/get": {"experiment": EXPERIMENT},
    "experiments/get-by-name": {"experiment": EXPERIMENT},
    "runs/search": {"runs": [run_told()]},
    "runs/get": {"run": run_told()},
    "runs/create": {"run": run_told()},
    "metrics/get-history": {"metrics": run_told()["data"]["metrics"]},
    "logged-models/search": {"models": []},
    "artifacts": {"files": [{"path": "f", "is_dir": False, "file_size": 4}]},
}


def plain(body: bytes, *more: str) -> Answer:
    lines = ["HTTP/1.1 200 OK", "Content-Type: application/json", f"Content-Length: {len(body)}", *more, "", ""]
    yield "\r\n".join(lines).encode() + body


def with_token(good: Any, token: str) -> Answer:
    return plain(json.dumps({**good, "next_page_token": token}).encode())


def many(good: Any) -> Any:
    """Return a response with a thousand new items instead of one."""
    reported = json.loads(json.dumps(good))
    for name, things in reported.items():
        if not isinstance(things, list) or not things:
            continue
        reported[name] = [json.loads(json.dumps(things[0])) for _ in range(1000)]
        for thing in reported[name]:
            number = next(OTHERS)
            if name == "runs":
                thing["info"]["run_id"] = f"{number:032x}"
            elif name == "experiments":
                thing["experiment_id"] = str(number)
            elif name == "metrics":
                thing["step"] = number
            else:
                thing.update(path=f"d{number}", is_dir=True)
    return reported


@cache
def bomb(times: int, form: int) -> bytes:
    """Return 300 MB of spaces, compressed ``times`` times."""
    packer = zlib.compressobj(1, zlib.DEFLATED, form)
    packed = b"".join(packer.compress(b" " * (1 << 20)) for _ in range(300)) + packer.flush()
    return packed if times == 1 else gzip.compress(packed)


def bombing(kind: str, times: int = 1, form: int = 31) -> Behaviour:
    return lambda _good: plain(bomb(times, form), f"Content-Encoding: {kind}")


def drip(*beginning: bytes, piece: bytes) -> Behaviour:
    def answer(_good: Any) -> Answer:
        yield b"".join(beginning)
        while True:
            time.sleep(0.2)
            yield piece

    return answer


def endless(head: bytes, piece: bytes) -> Behaviour:
    def answer(_good: Any) -> Answer:
        yield head
        while True:
            yield piece

    return answer


def itself(_good: Any) -> Answer:
    return plain(json.dumps({"files": [{"path": name, "is_dir": True} for name in ("f", "g")]}).encode())


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BEHAVIOURS: dict[str, Behaviour] = {
    "new things for ever": lambda good: with_token(many(good), f"t{next(TOKENS)}"),
    "the same page again": lambda good: with_token(good, "same"),
    "a circle of pages": lambda good: with_token(good, f"t{next(TOKENS) % 3}"),
    "empty pages": lambda _good: with_token({}, f"t{next(TOKENS)}"),
    "a folder in itself": itself,
    "gzip bomb": bombing("gzip"),
    "deflate bomb": bombing("deflate", form=15),
    "bomb in a bomb": bombing("gzip, gzip", 2),
    "no such packing": lambda _good: plain(b"x" * 100, "Content-Encoding: gzip"),
    "redirect": lambda _good: iter([b"HTTP/1.1 302 Found\r\nLocation: /api\r\nContent-Length: 0\r\n\r\n"]),
    "dripping head": drip(b"HTTP/1.1 200 OK\r\n", piece=b"x"),
    "dripping headers": drip(b"HTTP/1.1 200 OK\r\n", piece=b"X-A: b\r\n"),
    "dripping body": drip(OK, b"Content-Length: 1000000\r\n\r\n{", piece=b" "),
    "dripping chunks": drip(OK, b"Transfer-Encoding: chunked\r\n\r\n", piece=b"1\r\n \r\n"),
    "dripping size of a chunk": drip(OK, b"Transfer-Encoding: chunked\r\n\r\n", piece=b"0"),
    "silence": drip(b"", piece=b""),
    "go on for ever": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "endless header": endless(b"HTTP/1.1 200 OK\r\nX-A: ", b"a" * 65536),
    "endless headers": endless(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 1000),
    "endless body": endless(OK + b"\r\n{", b" " * 65536),
    "endless chunks": endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"),
    "more than announced": lambda _good: iter([OK + b"Content-Length: 2\r\n\r\n{}" + b"x" * 5000]),
    "less than announced": lambda _good: iter([OK + b"Content-Length: 20000000000\r\n\r\n{}"]),
    "negative length": lambda _good: iter([OK + b"Content-Length: -1\r\n\r\n{}"]),
    "two lengths": lambda _good: iter([OK + b"Content-Length: 2\r\nContent-Length: 900\r\n\r\n{}"]),
    "deep JSON": lambda _good: plain(b'{"x":' * 200_000),
    "deep lists": lambda _good: plain(b"[" * 1_000_000),
    "wrong JSON": lambda _good: plain(b'{"runs": 7, "experiments": "x", "files": {}, "run": [], "metrics": 1}'),
    "null": lambda _good: plain(b'{"runs": [null], "experiments": [null], "files": [null], "metrics": [null]}'),
    "large numbers": lambda _good: plain(
        b'{"metrics": [{"key": "loss", "value": 1, "step": 1e400}], "x": ' + b"9" * 5000 + b"}"
    ),
    "noise": lambda _good: iter([os.urandom(3000)]),
    "nothing": lambda _good: iter([]),
    "server error": lambda _good: iter([b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"]),
    "steering the terminal": lambda _good: plain(
        json.dumps({"error_code": "\x1b[2J\x07", "message": "\x1b]0;x\x07"}).encode()
    ),
}


class Hostile:
    """A server that behaves correctly except at one endpoint."""

    def __init__(self, behaviours: dict[str, str]) -> None:
        self.behaviours = behaviours
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(60)
            file = connection.makefile("rb")
            while head := self._head(file):
                method, path = head[0].split(" ")[:2]
                length = next(
                    (int(line.split(":")[1]) for line in head if line.lower().startswith("content-length")), 0
                )
                file.read(length)
                for piece in self._answer(method, path.partition("?")[0]):
                    connection.sendall(piece)

    @staticmethod
    def _head(file: Any) -> list[str]:
        lines = []
        while (line := file.readline().decode("latin-1").strip()) != "":
            lines.append(line)
        return lines

    def _answer(self, method: str, path: str) -> Answer:
        name = re.sub(r"^/api/2.0/(mlflow/|mlflow-artifacts/)", "", path)
        good = GOOD.get(name, {})
        endpoint = "file" if name.startswith("artifacts/") else name
        behaviour = self.behaviours.get(endpoint)
        if behaviour is not None:
            return BEHAVIOURS[behaviour](good)
        return plain(b"evil" if endpoint == "file" and method == "GET" else json.dumps(good).encode())


@contextmanager
def hostile(behaviours: dict[str, str]) -> Iterator[Hostile]:
    for behaviour in behaviours.values():
        if "bomb" in behaviour:
            BEHAVIOURS[behaviour]({})  # it takes a while to make
    server = Hostile(behaviours)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        with suppress(OSError):
            server.listener.shutdown(socket.SHUT_RDWR)
        server.listener.close()
        thread.join()


COMMANDS = {
    "list": ["list", "--json"],
    "show": ["show", RUN],
    "get": ["get", RUN, "--force", "--to", "got"],
    "pull": ["pull", RUN],
    "push": ["push", "latest"],
    "metrics": ["metrics", RUN, "loss"],
}
USED_BY = {
    "experiments/search": "list",
    "runs/search": "list",
    "experiments/get": "show",
    "runs/get": "get",
    "artifacts": "get",
    "file": "get",
    "metrics/get-history": "pull",
    "logged-models/search": "pull",
    "experiments/get-by-name": "push",
    "runs/create": "push",
    "runs/log-batch": "push",
}

RUNNER = """
import re, sys
from pathlib import Path
from runner.cli.main import run_command
code = run_command(sys.argv[1:])
peak = re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]
print(f"\\nPEAK {int(peak) // 1024}", file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture
def ours(home: Home) -> Home:
    with closing(Database.open(home.database)) as db:
        run_id = runs.create(db, NewRun(name="mine")).run_id
        write_artifact(home.artifacts(run_id), "f", [b"mine"])
        runs.update(db, run_id, status=RunStatus.FINISHED)
    return home


def call(url: str, command: str, folder: Path) -> tuple[int, str]:
    """Run a command against a server; it must end, without a traceback, and in little memory."""
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, *COMMANDS[command]],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "MLFLOW_TRACKING_URI": url,
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "2",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        },
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    peak = int(done.stderr.rpartition("PEAK ")[2])
    assert peak < MOST_MEMORY, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    return done.returncode, done.stderr


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_commands_end_for_any_server_response(tmp_path: Path, behaviour: str) -> None:
    choose = random.Random(behaviour)
    for endpoint in choose.sample(sorted(USED_BY), 3):
        with hostile({endpoint: behaviour}) as server:
            code, printed = call(server.url, USED_BY[endpoint], tmp_path)
        assert code in (0, 1)
        assert code == 0 or any(word in printed for word in ("error[", "skipped", "not copied")), (endpoint, printed)


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize(
    ("endpoint", "behaviour", "word"),
    [
        ("experiments/search", "new things for ever", "more than 100,000 experiments"),
        ("runs/search", "empty pages", "repeatedly"),
        ("runs/search", "the same page again", "repeatedly"),
        ("metrics/get-history", "new things for ever", "more than 1,000 pages"),
        ("metrics/get-history", "the same page again", "repeatedly"),
        ("metrics/get-history", "a circle of pages", "repeatedly"),
        ("logged-models/search", "empty pages", "repeatedly"),
        ("artifacts", "a folder in itself", "folders"),
        ("experiments/search", "gzip bomb", "more than 65,536 kB"),
        ("file", "gzip bomb", "more than"),
        ("file", "endless body", "more than"),
        ("experiments/search", "redirect", "redirects to"),
        ("experiments/search", "dripping head", ""),
        ("runs/get", "dripping body", "too slowly"),
        ("file", "dripping chunks", "too slowly"),
        ("experiments/search", "less than announced", ""),
        ("experiments/search", "deep JSON", "does not respond like a tracking server"),
    ],
)
def test_the_reason_is_reported(tmp_path: Path, endpoint: str, behaviour: str, word: str) -> None:
    with hostile({endpoint: behaviour}) as server:
        code, printed = call(server.url, USED_BY[endpoint], tmp_path)
    assert code == 1, printed
    assert word in printed


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("seed", range(8))
def test_faults_may_come_together(tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    chosen = {endpoint: choose.choice(sorted(BEHAVIOURS)) for endpoint in choose.sample(sorted(USED_BY), 4)}
    with hostile(chosen) as server:
        for command in choose.sample(sorted(COMMANDS), 2):
            assert call(server.url, command, tmp_path)[0] in (0, 1), chosen
