"""Containers of runs that were killed: each is noted down before it starts, and removed by the next command."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from runner.engine import Engine, EngineKind
from runner.errors import ExecutionError
from runner.process import capture
from runner.settings import Home

_REMOVAL_TIME = 60.0
"""Seconds that an engine may take to kill and remove a container."""
_GONE = ("no such container", "no container with name or id")


class _Note(Struct, frozen=True):
    kind: EngineKind
    program: str
    container: str


@contextmanager
def noted(home: Home, engine: Engine, container: str) -> Iterator[Path]:
    """Keep a note of a container, to be removed when that is gone; the lock on it goes with us, however we end."""
    folder = home.root / "containers"
    folder.mkdir(parents=True, exist_ok=True)
    path, aside = folder / f"{container}.json", folder / f"{container}.new"
    with aside.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(msgspec.json.encode(_Note(engine.kind, engine.program, container)))
        file.flush()
        aside.rename(path)
        yield path


def remove_container(kind: EngineKind, program: str, container: str) -> bool:
    """Kill and remove a container; say whether it is gone."""
    at_once = ("--time", "0", "--ignore") if kind is EngineKind.PODMAN else ()
    try:
        done = capture([program, "rm", "--force", *at_once, container], timeout=_REMOVAL_TIME)
    except ExecutionError:
        return False  # the engine is not there any more, or hangs
    return done.exit_code == 0 or any(words in done.error_text.lower() for words in _GONE)


def remove_orphaned_containers(home: Home) -> None:
    """Remove the containers whose proj is gone; what can't be removed now is tried again by the next command."""
    try:
        notes = [entry.path for entry in os.scandir(home.root / "containers") if entry.name.endswith(".json")]
    except FileNotFoundError:
        return
    for path in notes:
        with suppress(FileNotFoundError, BlockingIOError, msgspec.DecodeError), Path(path).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            note = msgspec.json.decode(file.read(), type=_Note)
            if remove_container(note.kind, note.program, note.container):
                Path(path).unlink(missing_ok=True)
