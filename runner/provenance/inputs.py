"""Records the inputs of a run: declared files outside the frozen tree, and files that the run opened."""

import errno
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from runner.base.files import DigestCache
from runner.model import FileRecord

if TYPE_CHECKING:
    from ctypes import CDLL

MOST_WATCHED = 4096
"""Files that are watched. Each gives at most two events, so that the kernel's queue of 16,384 never overflows."""
MOST_DECLARED = 10_000
"""Largest number of digested files in one declared folder."""

_IN_OPEN = 0x20
_IN_ONESHOT = 0x80000000
_EVENT_HEAD = 16
_READ_SIZE = 1 << 16


class Watch:
    """Watches which files are opened, by any process, until `stop` is called.

    It is Linux's inotify(7): one watch for each file, that ends with the first event. Elsewhere, and for files beyond
    `MOST_WATCHED`, nothing is seen; those count as opened.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._watches: dict[int, list[Path]] = {}
        self._unseen: list[Path] = []
        self._descriptor = _start() if paths else None
        for number, path in enumerate(paths):
            if self._descriptor is None or number >= MOST_WATCHED or not self._add(path):
                self._unseen.append(path)

    def _add(self, path: Path) -> bool:
        watch = _library().inotify_add_watch(self._descriptor, os.fsencode(path), _IN_OPEN | _IN_ONESHOT)
        if watch < 0:
            import ctypes

            return ctypes.get_errno() == errno.ENOENT  # a broken link can't be opened either
        self._watches.setdefault(watch, []).append(path)  # two names of one file share one watch
        return True

    def stop(self) -> tuple[Path, ...]:
        """Stop watching and return the opened files and the files that were not watched."""
        opened = list(self._unseen)
        if self._descriptor is not None:
            for watch in _events(self._descriptor):
                opened.extend(self._watches.pop(watch, ()))
            os.close(self._descriptor)
            self._descriptor = None
        return tuple(sorted(opened))


def _library() -> "CDLL":
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _start() -> int | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        descriptor = int(_library().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    except AttributeError:
        return None
    return descriptor if descriptor >= 0 else None


def _events(descriptor: int) -> Iterator[int]:
    """Return the watch of each event: int wd, three uint32 of which the last is the length of a name, the name."""
    while True:
        try:
            data = os.read(descriptor, _READ_SIZE)
        except BlockingIOError:
            return
        start = 0
        while start < len(data):
            watch = int.from_bytes(data[start : start + 4], sys.byteorder, signed=True)
            mask = int.from_bytes(data[start + 4 : start + 8], sys.byteorder)
            if mask & _IN_OPEN:
                yield watch
            start += _EVENT_HEAD + int.from_bytes(data[start + 12 : start + 16], sys.byteorder)


def digest_inputs(
    project: Path,
    declared: Iterable[str],
    opened: Iterable[tuple[str, Path]],
    cache: Path,
    progress: Callable[[int], None] = lambda _size: None,
) -> tuple[tuple[FileRecord, ...], tuple[str, ...]]:
    """Digest the inputs of a run; the notices name those that could not be digested.

    ``declared`` are paths as the manifest has them, files or folders, found from ``project``. ``opened`` are a path to
    record and the file to read for each file that was seen to be opened. Digests are remembered in ``cache``.
    ``progress`` gets the size of each file before it is read.
    """
    digests = DigestCache(cache)
    records: dict[str, FileRecord] = {}
    notices: list[str] = []
    for name, path in (*_declared(project, declared, notices), *opened):
        if name in records:
            continue
        try:
            size = path.stat().st_size
            progress(0 if digests.knows(path) else size)
            records[name] = FileRecord(path=_as_text(name), size=size, sha256=digests.sha256(path))
        except OSError as error:
            notices.append(f"The input '{_as_text(name)}' can't be read: {error.strerror}")
    with suppress(OSError):  # the next run reads the files again
        digests.save()
    return tuple(records[name] for name in sorted(records)), tuple(notices)


def _declared(project: Path, declared: Iterable[str], notices: list[str]) -> Iterator[tuple[str, Path]]:
    for name in declared:
        declared_path = project / name
        if not declared_path.is_dir():
            yield name, declared_path
            continue
        found = sorted(path for path in declared_path.rglob("*") if path.is_file())
        yield from (
            (f"{name.rstrip('/')}/{path.relative_to(declared_path).as_posix()}", path) for path in found[:MOST_DECLARED]
        )
        if len(found) > MOST_DECLARED:
            notices.append(f"The input '{name}' has {len(found)} files; the first {MOST_DECLARED} were digested")


def _as_text(path: str) -> str:
    """Return a path as text that can be stored, also if it is not UTF-8."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
