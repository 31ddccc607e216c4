"""Servers and writers are killed 200 times at random points: what was acknowledged is there, and the store is sound.

The numbers of kills are those of KILLS; PROJ_TEST_KILLS multiplies them, PROJ_TEST_SEED moves the random points.
"""

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runner.settings import Home
from runner.store import runs
from runner.store.database import Database
from runner.store.downsampling import all_points
from tests.conftest import ROOT
from tests.support.protocol import API

pytestmark = pytest.mark.slow

KILLS = {"team": 70, "socket": 50, "writer": 40, "client": 40}
TIMES = int(os.environ.get("PROJ_TEST_KILLS", "1"))
SEED = int(os.environ.get("PROJ_TEST_SEED", "0"))
WRITERS = 3
MOST = 24
"""Writes that are acknowledged before the kill, at most; a busy machine takes longer for them."""


class Moment:
    """A random point at which something is killed: after some acknowledged writes, and a little later."""

    def __init__(self, name: str) -> None:
        numbers = random.Random(f"{SEED} {name}")
        self._writes = numbers.randrange(MOST)
        self._later = numbers.uniform(0, 0.004)

    def wait(self, count: Callable[[], int]) -> None:
        """Wait for it; ``count`` says how many writes are acknowledged."""
        deadline = time.monotonic() + 10
        while count() < self._writes and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(self._later)


class Nursery:
    """The process that forks those which are to be killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.killable"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def bear(self, kind: str, *words: object) -> dict[str, Any]:
        """Start one, and return what it says about itself."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([kind, *(str(word) for word in words)]) + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        self._process.communicate(timeout=30)


def kill(pid: int) -> None:
    """Kill a process, and return when it is gone."""
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists() if Path("/proc").exists() else is_there(pid):
        time.sleep(0.001)


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with closing(Nursery()) as found:
        yield found


class Writer(threading.Thread):
    """A client that writes until the server is gone, and remembers what was acknowledged and what was under way."""

    def __init__(self, server: dict[str, Any]) -> None:
        super().__init__()
        self._port = server["port"]
        self._headers = {"Authorization": f"Bearer {server['token']}"} if "token" in server else {}
        self.run_id = ""
        self.acknowledged: list[int] = []
        self.under_way = -1
        self.fault: object = None

    def run(self) -> None:
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)) as connection:
                made = self._send(connection, "POST", f"{API}runs/create", b'{"experiment_id": "0"}')
                self.run_id = made["run"]["info"]["run_id"]
                while True:
                    self._write(connection, self.under_way + 1)
        except (OSError, http.client.HTTPException):
            return
        except BaseException as fault:  # noqa: BLE001  told by the test's own thread
            self.fault = fault

    def _write(self, connection: http.client.HTTPConnection, step: int) -> None:
        self.under_way = step
        if step % 4 == 3:
            path = f"/api/2.0/mlflow-artifacts/artifacts/runs/{self.run_id}/artifacts/{step}"
            self._send(connection, "PUT", path, content(step))
        elif step % 4 == 2:
            single = {"run_id": self.run_id, "key": "m", "value": step, "timestamp": step, "step": step}
            self._send(connection, "POST", f"{API}runs/log-metric", json.dumps(single).encode())
        else:
            self._send(connection, "POST", f"{API}runs/log-batch", json.dumps(batch(self.run_id, step)).encode())
        self.acknowledged.append(step)

    def _send(self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes) -> Any:
        connection.request(method, path, body, self._headers)
        response = connection.getresponse()
        text = response.read()
        assert response.status == 200, text
        return json.loads(text)


def batch(run_id: str, step: int) -> dict[str, Any]:
    points = [{"key": f"b{number}", "value": step, "timestamp": step, "step": step} for number in range(5)]
    return {
        "run_id": run_id,
        "metrics": [{"key": "m", "value": step, "timestamp": step, "step": step}, *points],
        "params": [{"key": f"p{step}", "value": str(step)}],
        "tags": [{"key": f"t{step}", "value": str(step)}],
    }


def content(step: int) -> bytes:
    return b"%d," % step * 20_000


def check(home: Home, db: Database, writer: Writer) -> None:
    """Check that all confirmed writes are stored, and that an unfinished one is stored completely or not at all."""
    assert writer.fault is None
    if not writer.run_id:
        return
    run = runs.get(db, writer.run_id)
    points = {key: {point.step for point in all_points(db, run.run_id, key)} for key in ("m", "b0", "b4")}
    for step in (*writer.acknowledged, writer.under_way):
        found = present(home, run, points, step)
        if step == writer.under_way and step not in writer.acknowledged:
            assert len(found) == 1
        else:
            assert found == {True}


def present(home: Home, run: Any, points: dict[str, set[int]], step: int) -> set[bool]:
    if step % 4 == 3:
        path = home.artifacts(run.run_id) / str(step)
        return {path.read_bytes() == content(step)} if path.exists() else {False}
    if step % 4 == 2:
        return {step in points["m"]}
    named = {run.params.get(f"p{step}") == str(step), run.tags.get(f"t{step}") == str(step)}
    return {step in steps for steps in points.values()} | named


def check_sound(db: Database) -> None:
    assert [row[0] for row in db.query("PRAGMA integrity_check")] == ["ok"]
    assert not db.query("PRAGMA foreign_key_check")


@pytest.mark.parametrize("kind", ["team", "socket"])
def test_what_a_killed_server_acknowledged_is_there(home: Home, db: Database, nursery: Nursery, kind: str) -> None:
    count = 0
    for number in range(KILLS[kind] * TIMES):
        server = nursery.bear(kind, home.root)
        writers = [Writer(server) for _ in range(WRITERS)]
        for writer in writers:
            writer.start()
        Moment(f"{kind} {number}").wait(lambda writers=writers: sum(len(writer.acknowledged) for writer in writers))
        kill(server["pid"])
        for writer in writers:
            writer.join()
            check(home, db, writer)
            count += len(writer.acknowledged)
        check_sound(db)
    assert count > KILLS[kind]


@pytest.mark.parametrize("kind", ["writer", "client"])
def test_what_a_killed_writer_was_told_to_be_safe_is_there(
    tmp_path: Path, home: Home, db: Database, nursery: Nursery, kind: str
) -> None:
    server = nursery.bear("team", home.root) if kind == "client" else {}
    count = 0
    try:
        for number in range(KILLS[kind] * TIMES):
            printed = tmp_path / f"{number}.txt"
            writer = nursery.bear(kind, server["port"] if server else home.root, printed)
            Moment(f"{kind} {number}").wait(lambda printed=printed: printed.read_bytes().count(b"\n") - 1)
            kill(writer["pid"])
            count += check_steps(db, printed.read_text(encoding="ascii"))
            check_sound(db)
    finally:
        if server:
            kill(server["pid"])
    assert count > KILLS[kind]


def check_steps(db: Database, printed: str) -> int:
    """Check that the steps of a writer are there without a gap, and return how many it knows to be safe."""
    run_id, _, lines = printed.partition("\n")
    safe = lines.count("\n")
    if not run_id or not safe:
        return 0
    # As it is at one moment: a server that lives may still answer the last request of a client that does not.
    with db.transaction():
        run = runs.get(db, run_id)
        steps = [point.step for point in all_points(db, run_id, "m")]
    # One more may be there, of which the writer did not learn any more.
    assert steps in (list(range(safe)), list(range(safe + 1)))
    assert run.tags["at"] == str(steps[-1])
    return safe
