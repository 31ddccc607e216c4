"""One input for one reader, in a forked process with limits on processor time and memory."""

import os
import resource
import select
import signal
import time
import traceback
from pathlib import Path

from msgspec import Struct

from runner.base.foreign_text import ForeignTextError
from runner.errors import ProjError
from tests.fuzz.doors import DOORS, LOADED_FIRST

SECONDS = 2
"""Processor time that a reader may take."""
MEGABYTES = 200
"""Memory that a reader may take beyond that of the process before."""
PATIENCE = 60
"""Seconds after which a reader that waits for something is given up; a busy machine needs some."""


class Fault(Struct, frozen=True):
    """What was wrong with a reader's answer."""

    door: str
    problem: str


class Outcome(Struct, frozen=True):
    """How a reader took an input: processor seconds, and what was wrong, if anything."""

    seconds: float
    fault: Fault | None = None


def try_input(door: str, data: bytes) -> Outcome:
    """Give an input to a reader and say what came of it."""
    if door in LOADED_FIRST:
        LOADED_FIRST[door]()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _read_in_child(door, data, writing)
    os.close(writing)
    printed = _read_all(reading, pid)
    _, status, usage = os.wait4(pid, 0)
    os.close(reading)
    seconds = usage.ru_utime + usage.ru_stime
    problem = printed.decode("utf-8", "replace")
    if os.WIFSIGNALED(status):
        problem = f"ended by {signal.Signals(os.WTERMSIG(status)).name} after {seconds:.1f} s"
    elif not problem and os.WEXITSTATUS(status):
        problem = f"ended with {os.WEXITSTATUS(status)}"
    return Outcome(seconds, Fault(door, problem) if problem else None)


def _read_in_child(door: str, data: bytes, writing: int) -> None:
    """Read with limits; never returns."""
    code = 0
    try:
        in_use = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
        most = in_use + (MEGABYTES << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        DOORS[door](data)
    except (ProjError, ForeignTextError):
        pass
    except BaseException:  # noqa: BLE001  every other exception is what is searched for
        os.write(writing, traceback.format_exc(limit=-6).encode("utf-8", "replace")[-4000:])
        code = 1
    finally:
        os._exit(code)


def _read_all(descriptor: int, pid: int) -> bytes:
    pieces: list[bytes] = []
    until = time.monotonic() + PATIENCE
    while True:
        left = until - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            os.kill(pid, signal.SIGKILL)
            return b"".join(pieces)
        piece = os.read(descriptor, 65536)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
