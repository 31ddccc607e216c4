"""Records the inputs of a run: declared files outside the frozen tree, and files that the run opened."""

import errno
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from posixpath import normpath
from typing import TYPE_CHECKING

from runner.base.files import DigestCache, walk_files
from runner.base.foreign_text import ForeignTextError
from runner.model import FileRecord
from runner.provenance.dvc import SUFFIX, differs, md5_of, pointer_md5

if TYPE_CHECKING:
    from ctypes import CDLL

MOST_WATCHED = 4096
"""Files that are watched. Each gives at most two events, so that the kernel's queue of 16,384 never overflows."""
MOST_DECLARED = 10_000
"""Largest number of digested files in one declared folder."""

LARGE_FILE = 8 << 20
"""Bytes from which files are digested several at once."""
MOST_THREADS = 8

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
        self.unseen: list[Path] = []
        """The files that were not watched."""
        self._descriptor = _start() if paths else None
        for number, path in enumerate(paths):
            if self._descriptor is None or number >= MOST_WATCHED or not self._add(path):
                self.unseen.append(path)

    def _add(self, path: Path) -> bool:
        watch = _library().inotify_add_watch(self._descriptor, os.fsencode(path), _IN_OPEN | _IN_ONESHOT)
        if watch < 0:
            import ctypes

            return ctypes.get_errno() == errno.ENOENT  # a broken link can't be opened either
        self._watches.setdefault(watch, []).append(path)  # two names of one file share one watch
        return True

    def stop(self) -> tuple[Path, ...]:
        """Stop watching and return the opened files and the files that were not watched."""
        opened = list(self.unseen)
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


def find_files(named: Iterable[tuple[str, Path]]) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Return the files of inputs by the name to record; the notices name folders that have too many files.

    ``named`` are a name and a path of each input, a file or a folder. A pointer of DVC beside an input belongs to it.
    """
    files: dict[str, Path] = {}
    notices: list[str] = []
    for name, path in named:
        plain = name.rstrip("/")
        pointer = path.with_name(path.name + SUFFIX) if path.name else path
        if pointer != path and pointer.is_file():
            files[plain + SUFFIX] = pointer
        if not path.is_dir():
            files[name] = path
            continue
        found = list(islice(walk_files(path), MOST_DECLARED + 1))
        below = found[:MOST_DECLARED]
        files.update((normpath(f"{plain}/{one.relative_to(path).as_posix()}"), one) for one in below)
        if len(found) > MOST_DECLARED:
            message = f"The input '{as_text(name)}' has more than {MOST_DECLARED:,} files; the first ones are recorded"
            notices.append(message)
    return files, tuple(notices)


def digest_inputs(
    files: Mapping[str, Path], cache: Path, progress: Callable[[int], None] = lambda _size: None
) -> tuple[tuple[FileRecord, ...], tuple[str, ...]]:
    """Digest the inputs of a run; the notices name those that could not be digested.

    ``files`` are the files by the name to record. Digests are cached in ``cache``. ``progress`` gets the size of each
    file before it is read.
    """
    digests = DigestCache(cache)
    records: list[FileRecord] = []
    notices: list[str] = []
    _digest_large(files.values(), digests, progress)

    def add(name: str, path: Path) -> None:
        try:
            size = path.stat().st_size
            progress(0 if digests.knows(path) else size)
            sha256 = digests.digest(path)
        except OSError as error:
            notices.append(f"The input '{as_text(name)}' can't be read: {error.strerror}")
        else:
            records.append(FileRecord(path=as_text(name), size=size, sha256=sha256, md5=pointer_md5(path)))

    for name, path in sorted(files.items()):
        add(name, path)
    with suppress(OSError):  # the next run reads the files again
        digests.save()
    return tuple(records), tuple(notices)


def _digest_large(paths: Iterable[Path], digests: DigestCache, progress: Callable[[int], None]) -> None:
    """Put the digests of large files into the cache, several at once: SHA-256 is computed outside Python's lock."""
    large = []
    for path in dict.fromkeys(paths):
        with suppress(OSError):  # reported when all files are digested
            if (size := path.stat().st_size) >= LARGE_FILE and not digests.knows(path):
                large.append((path, size))
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if len(large) < 2 or processors < 2:  # noqa: PLR2004  several
        return
    from concurrent.futures import ThreadPoolExecutor

    progress(sum(size for _, size in large))

    def digest(path: Path) -> None:
        with suppress(OSError):
            digests.digest(path)

    with ThreadPoolExecutor(min(processors, MOST_THREADS, len(large))) as pool:
        list(pool.map(digest, (path for path, _ in large)))


def compare_with_pointers(files: Iterable[Path], cache: Path) -> tuple[str, ...]:
    """Return a text for each pointer of DVC among the files whose data is something else."""
    digests = DigestCache(cache, md5_of)
    found = []
    for path in files:
        if path.suffix == SUFFIX:
            with suppress(OSError, ForeignTextError):  # no pointer, or data that can't be read, which is reported
                found.append(differs(path, digests))
    with suppress(OSError):  # the next run reads the files again
        digests.save()
    return tuple(text for text in found if text)


def as_text(path: str) -> str:
    """Return a path as text that can be stored, also if it is not UTF-8."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
