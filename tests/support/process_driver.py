"""A program that runs one command through `runner.process.run`, to be looked at and killed from outside.

``python process_driver.py REPORT REQUEST``: the request and the report are JSON; `Driver` starts it.
"""

import os
import resource
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from runner import process
from runner.process import Outcome, ProcessRequest

ROOT = Path(process.__file__).parents[2]
MARK = "PROCESS_TEST_MARK"


class DriverReport(Struct):
    """How the command ended, and by how much the program's peak memory grew meanwhile, in bytes."""

    outcome: Outcome
    growth: int


class Driver:
    """The program while it runs."""

    def __init__(
        self,
        folder: Path,
        *argv: str,
        popen: dict[str, Any] | None = None,
        before: tuple[str, ...] = (),
        **request: object,
    ) -> None:
        self.mark = uuid.uuid4().hex
        self.log = folder / "log.txt"
        self._report = folder / "report.json"
        env = {**os.environ, MARK: self.mark}
        words = {"argv": argv, "cwd": str(folder), "env": env, "log": str(self.log), **request}
        settings = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "start_new_session": True}
        self.process = subprocess.Popen(
            [sys.executable, *before, __file__, str(self._report), msgspec.json.encode(words).decode()],
            env={**env, "PYTHONPATH": str(ROOT)},
            **{**settings, **(popen or {})},
        )

    def report(self) -> DriverReport:
        """Wait for the end and return how it ended."""
        assert self.process.wait(60) == 0
        return msgspec.json.decode(self._report.read_bytes(), type=DriverReport)

    def outcome(self) -> Outcome:
        """Wait for the end and return how the command ended."""
        return self.report().outcome

    def family(self) -> list[str]:
        """Return the command lines of all living processes that come from the program, itself included."""
        members = [entry for entry in Path("/proc").iterdir() if self.mark.encode() in _read(entry / "environ")]
        return [_read(entry / "cmdline").replace(b"\0", b" ").decode(errors="replace") for entry in members]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # another user's, no process, or one that has just ended


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait until a condition holds; fail when it does not within the time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def peak_memory() -> int:
    """Return the peak memory of this process in bytes; the unit of getrusage(2) differs."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Run the command that was asked for."""
    words = msgspec.json.decode(sys.argv[2])
    in_thread = words.pop("in_thread", False)
    request = msgspec.convert(words, ProcessRequest, dec_hook=lambda kind, value: kind(value))
    outcomes: list[Outcome] = []
    before = peak_memory()
    if in_thread:
        thread = threading.Thread(target=lambda: outcomes.append(process.run(request)))
        thread.start()
        thread.join()
    else:
        outcomes.append(process.run(request))
    report = DriverReport(outcomes[0], peak_memory() - before)
    Path(sys.argv[1]).write_bytes(msgspec.json.encode(report))


if __name__ == "__main__":
    main()
