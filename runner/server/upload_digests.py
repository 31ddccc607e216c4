"""Syncs uploaded files to the disk and records their digests, in batches, a moment after they arrived.

Hashing a file before its response would take as long as receiving it. A mark in the home names the owner of files that
wait, so that the next server records what a killed one did not.
"""

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import final

from runner.errors import InvalidValueError, NotFoundError, StoreError
from runner.model import Event, EventKind, Report
from runner.settings import Home
from runner.store import artifact_digests, models, runs
from runner.store.artifacts import local_folder
from runner.store.database import Database
from runner.store.staging import FOLDER

_PAUSE = 0.5
"""Seconds in which uploads are collected for one batch."""
_GRACE = 10.0
"""Seconds that a stopping server waits for the digests of the last uploads."""
_MARK = "undigested-"
_OWNER = re.compile(r"(?:m-)?[0-9a-f]{32}")

_Owner = tuple[str, Path]
_Files = set[tuple[str, ...]]


@final
class UploadDigests:
    """Records the digests of uploads in a thread; the context ends when the digests of all uploads are recorded."""

    def __init__(self, database: Database, home: Home, report: Report) -> None:
        self._database = database
        self._report = report
        self._marks = home.root / "runs" / FOLDER
        self._runs = home.root / "runs"
        self._lock = threading.Lock()
        self._waiting: dict[_Owner, _Files] = {}
        self._marked: set[str] = set()
        self._arrived = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="proj-upload-digests", daemon=True)

    def __enter__(self) -> "UploadDigests":
        self._thread.start()
        return self

    def __exit__(self, *_about: object) -> None:
        self._ending.set()
        self._arrived.set()
        self._thread.join(_GRACE)

    def add(self, owner: str, root: Path, names: tuple[str, ...]) -> None:
        """Add a file that has arrived: the id of its run or model, the artifact folder, and its names on disk."""
        with self._lock:
            if owner not in self._marked:
                # Without a mark, only a killed server leaves the file without a digest.
                with suppress(OSError):
                    self._marks.mkdir(parents=True, exist_ok=True)
                    self._mark(owner).touch(mode=0o600)
                self._marked.add(owner)
            self._waiting.setdefault((owner, root), set()).add(names)
        self._arrived.set()

    def _work(self) -> None:
        self._guarded(self._recover)
        while True:
            self._arrived.wait()
            self._ending.wait(_PAUSE)
            self._arrived.clear()
            is_last = self._ending.is_set()
            with self._lock:
                batch, self._waiting = self._waiting, {}
            for (owner, root), files in batch.items():
                if self._guarded(partial(artifact_digests.record_files, self._database, owner, root, sorted(files))):
                    self._unmark(owner)
            if is_last:
                return

    def _guarded(self, work: Callable[[], None]) -> bool:
        """Do a part of the work; return False, and report the error, if it failed."""
        try:
            work()
        except (StoreError, OSError) as error:
            message = "The digests of uploaded artifacts could not be recorded"
            hint = f"{error}; the next start of the server, or `proj verify --repair`, records them"
            self._report(Event(kind=EventKind.WARNING, message=message, hint=hint))
            return False
        return True

    def _recover(self) -> None:
        """Record the digests of files that an earlier server did not come to."""
        with suppress(FileNotFoundError):
            for mark in sorted(self._marks.iterdir()):
                owner = mark.name.removeprefix(_MARK)
                if mark.name.startswith(_MARK) and _OWNER.fullmatch(owner):
                    root = self._root_of(owner)
                    if root is not None:
                        artifact_digests.record_missing(self._database, owner, root)
                    self._unmark(owner)

    def _root_of(self, owner: str) -> Path | None:
        with suppress(NotFoundError, InvalidValueError):
            get = models.get if owner.startswith("m-") else runs.get
            root = local_folder(get(self._database, owner).artifact_uri)
            return root if root is not None and root.is_relative_to(self._runs) else None
        return None

    def _unmark(self, owner: str) -> None:
        with self._lock:
            if all(one != owner for one, _ in self._waiting):
                self._marked.discard(owner)
                with suppress(OSError):
                    self._mark(owner).unlink(missing_ok=True)

    def _mark(self, owner: str) -> Path:
        return self._marks / f"{_MARK}{owner}"
