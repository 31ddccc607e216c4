"""Runs a command of proj in a session of its own, so that it survives the terminal and a logout."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from msgspec import Struct

from runner.cli.text import print_message
from runner.model import Event, Report
from runner.settings import Home

_ID_LENGTH = 32


class DetachedStart(Struct, frozen=True):
    """How the start of a detached run ended: the id of the run, or the exit code if no run was recorded."""

    run_id: str | None
    exit_code: int = 0


def start_detached(work: Callable[[Callable[[Report, Home], Report]], int]) -> DetachedStart:
    """Call ``work`` in a new process in a session of its own, and return as soon as its run is recorded.

    ``work`` gets a function that wraps its reporter. Until the record is open, messages go to this terminal; then to a
    file of the run, and the terminal is released. An interruption before that stops the new process.
    """
    readable, writable = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    # No thread is running yet, so a fork is safe. It keeps the options, the working directory and the environment.
    child = os.fork()
    if child == 0:
        os.close(readable)
        os.setsid()
        _redirect(Path(os.devnull), 0)
        _end_with(lambda: work(lambda report, home: _announcing(report, home, writable)))
    os.close(writable)
    try:
        run_id = _read_all(readable)
    except KeyboardInterrupt:
        os.kill(child, signal.SIGTERM)
        _read_all(readable)
        os.waitpid(child, 0)
        raise
    finally:
        os.close(readable)
    if len(run_id) == _ID_LENGTH:
        return DetachedStart(run_id)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return DetachedStart(None, code if code >= 0 else 128 - code)


def _end_with(work: Callable[[], int]) -> NoReturn:
    """Call ``work`` and end this process with the exit code that it returns; a bug of proj shows its traceback."""
    code = 1
    try:
        code = work()
    except BaseException as error:  # noqa: BLE001  the caller's stack belongs to the other process
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _announcing(report: Report, home: Home, writable: int) -> Report:
    """Return a reporter that tells the waiting process the id of the run and releases the terminal."""
    waiting = [writable]

    def passed(event: Event) -> None:
        if event.run_id is None:
            report(event)
            return
        _redirect(home.messages(event.run_id), 1, 2)
        report(event)
        for descriptor in waiting:
            os.write(descriptor, event.run_id.encode())
            os.close(descriptor)
        waiting.clear()

    return passed


def _redirect(file: Path, *descriptors: int) -> None:
    """Replace standard descriptors by a file; if it can't be created, as on a full disk, by /dev/null."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        print_message(f"! {file} can't be written: {error.strerror}")
        opened = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(opened, descriptor)
    os.close(opened)


def _read_all(descriptor: int) -> str:
    """Return what is written to a pipe until its other end is closed, at most the id of a run."""
    data = b""
    while len(data) < _ID_LENGTH and (piece := os.read(descriptor, _ID_LENGTH)):
        data += piece
    return data.decode()
