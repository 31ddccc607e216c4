"""Removes containers of killed runs: a note is written before each start and read by the next command."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from runner.base.locks import try_lock
from runner.engine import Engine, EngineKind
from runner.errors import ExecutionError
from runner.process import capture
from runner.settings import Home

_REMOVAL_TIMEOUT = 60.0
"""Seconds for an engine to kill and remove a container."""
_GONE = ("no such container", "no container with name or id")


class _Note(Struct, frozen=True):
    kind: EngineKind
    program: str
    container: str


@contextmanager
def container_note(home: Home, engine: Engine, container: str) -> Iterator[Path]:
    """Write a note about a container and keep it locked during the block; the caller removes it with the container.

    The system releases the lock when this process ends, even when it is killed.
    """
    folder = home.root / "containers"
    folder.mkdir(parents=True, exist_ok=True)
    path, temporary = folder / f"{container}.json", folder / f"{container}.new"
    with temporary.open("wb") as file:
        try_lock(file.fileno())
        file.write(msgspec.json.encode(_Note(engine.kind, engine.program, container)))
        file.flush()
        temporary.rename(path)
        yield path


def remove_container(kind: EngineKind, program: str, container: str) -> bool:
    """Kill and remove a container; return whether it is gone."""
    at_once = ("--time", "0", "--ignore") if kind is EngineKind.PODMAN else ()
    try:
        done = capture([program, "rm", "--force", *at_once, container], timeout=_REMOVAL_TIMEOUT)
    except ExecutionError:
        return False  # the engine was uninstalled, or hangs
    return done.exit_code == 0 or any(text in done.error_text.lower() for text in _GONE)


def remove_orphaned_containers(home: Home) -> None:
    """Remove the containers whose proj process has ended; the next command tries again what can't be removed now."""
    try:
        notes = [entry.path for entry in os.scandir(home.root / "containers") if entry.name.endswith(".json")]
    except FileNotFoundError:
        return
    for path in notes:
        with suppress(FileNotFoundError, msgspec.DecodeError), Path(path).open("rb") as file:
            if not try_lock(file.fileno()):
                continue
            note = msgspec.json.decode(file.read(), type=_Note)
            if remove_container(note.kind, note.program, note.container):
                Path(path).unlink(missing_ok=True)
