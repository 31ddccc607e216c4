"""A ``proj server`` in a process of its own, for tests."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.conftest import start_proj
from tests.support.protocol import API, Reply, fetch


class RunningServer:
    """A running server, and requests to it."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path, url: str) -> None:
        self.process = process
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def send(self, method: str, path: str, body: bytes | None = None, token: str = "", **headers: str) -> Reply:
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        return fetch(self.port, method, path, body, {**bearer, **headers})

    def post(self, endpoint: str, token: str = "", **fields: object) -> Reply:
        return self.send("POST", API + endpoint, json.dumps(fields).encode(), token)

    def get(self, endpoint: str, token: str = "", **fields: object) -> Any:
        return self.send("GET", f"{API}{endpoint}?{urlencode(fields)}", token=token).json

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


@contextmanager
def standalone_server(folder: Path, *words: str, **variables: str) -> Iterator[RunningServer]:
    """Start a server at a free port and stop it at the end; its log is in ``folder``."""
    log = folder / "server.log"
    with log.open("w", encoding="utf-8") as file:
        process = start_proj("server", "--port", "0", *words, cwd=folder, stderr=file, **variables)
    try:
        yield RunningServer(process, log, _url(process, log))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout:
            process.stdout.close()


def _url(process: "subprocess.Popen[str]", log: Path) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"Serving at (\S+)", log.read_text(encoding="utf-8"))
        if found:
            return found[1]
        time.sleep(0.01)
    raise AssertionError(log.read_text(encoding="utf-8"))
