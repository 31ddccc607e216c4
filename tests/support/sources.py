"""What the tests of sources share: a whole tree as one digest, and the steps of a run up to its folder."""

import hashlib
import os
import stat
from pathlib import Path

from runner.model import Event
from runner.settings import Home
from runner.source.opening import Source, open_source
from runner.source.snapshot import Snapshot, keep_snapshot, take_snapshot


def fingerprint(root: Path) -> dict[str, str]:
    """Say what every file below a folder is, those of ``.git`` as well: content, mode, link."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                text = str(path.readlink())
            elif stat.S_ISREG(status.st_mode):
                text = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                text = ""
            found[str(path.relative_to(root))] = f"{status.st_mode:o} {text}"
    return found


class Said(list[Event]):
    """What parts reported."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    @property
    def text(self) -> str:
        return "\n".join(f"{event.message} {event.hint or ''}" for event in self)


def freeze(address: Path | str, home: Home, version: str | None = None, **options: int) -> tuple[Source, Snapshot]:
    source = open_source(str(address), version, home, Said())
    return source, take_snapshot(source, home, Said(), **options)


def kept(address: Path | str, home: Home, run_id: str, version: str | None = None) -> Snapshot:
    _, snapshot = freeze(address, home, version)
    keep_snapshot(snapshot, run_id, home)
    return snapshot
