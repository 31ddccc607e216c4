"""Records the digests of artifacts at the end of a run, to detect files that change or disappear later."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path

import msgspec
from msgspec import Struct

from runner.base.files import PARTIAL, Stamp, sha256_from
from runner.base.findings import Finding, Progress
from runner.errors import InvalidValueError, NotFoundError
from runner.settings import Home
from runner.store.artifacts import local_folder, open_found, status_of
from runner.store.database import Database, Row
from runner.store.disk import sync
from runner.store.row_helpers import chunks

MOST_BYTES = 64 << 30
"""Maximum number of bytes read for the digests of one run; the largest artifacts beyond it get no digest."""
_CHUNK = 500


class ArtifactDigest(Struct, frozen=True, kw_only=True):
    """The state of an artifact at the end of its run: path relative to the root, size in bytes, SHA-256 in hex."""

    path: str
    size: int
    sha256: str


class _File(Struct, frozen=True):
    """A file below a root folder; ``path`` is relative to the root, as bytes."""

    path: bytes
    stamp: Stamp


def record(
    db: Database,
    owner: str,
    root: Path,
    known: Mapping[str, str] | None = None,
    *,
    since: int = 0,
    progress: Callable[[int], None] = lambda _size: None,
) -> int:
    """Sync the files below an artifact folder to the disk and record their digests; return the number without digest.

    Files that did not change since their digest was recorded are not read again.

    Args:
        db: the store.
        owner: the id of the run or logged model that the artifacts belong to.
        root: the folder.
        known: digests already computed, by path relative to the root.
        since: only files modified after this time (ns) are examined; with 0 all are, and digests of missing files
            are removed.
        progress: called with the size of each file before it is read.

    Raises:
        StoreError: the store can't be written.
    """
    known = known or {}
    left_out, budget = 0, MOST_BYTES
    files = (file for file in _walk(root) if file.stamp.changed >= since)
    present: set[bytes] = set()
    while batch := list(islice(files, _CHUNK)):
        if not since:
            present.update(file.path for file in batch)
        stamps = _stamps(db, owner, [file.path for file in batch])
        new = [file for file in batch if stamps.get(file.path) != _encode(file.stamp)]
        sync([os.fsencode(root) + b"/" + file.path for file in new], root)
        rows = []
        for file in new:
            digest = known.get(os.fsdecode(file.path))
            budget -= 0 if digest else file.stamp.size
            progress(0 if digest else file.stamp.size)
            digest = digest or (_digest(root, file) if budget >= 0 else None)
            if digest is None:
                left_out += 1
                continue
            rows.append((owner, file.path, file.stamp.size, digest, _encode(file.stamp)))
        db.execute_many("INSERT OR REPLACE INTO artifact_digests VALUES (?, ?, ?, ?, ?)", rows)
    if not since:
        _forget_absent(db, owner, present)
    return left_out


def record_files(db: Database, owner: str, root: Path, files: Sequence[tuple[str, ...]]) -> None:
    """Sync some files below an artifact folder to the disk and record their digests.

    Args:
        db: the store.
        owner: the id of the run or logged model that the files belong to.
        root: the folder.
        files: the path components of each file; a file that is missing, or changes meanwhile, gets no digest.

    Raises:
        StoreError: the store can't be written.
        OSError: the disk reports an error.
    """
    for start in range(0, len(files), _CHUNK):
        _record_new(db, owner, root, [file for names in files[start : start + _CHUNK] if (file := _find(root, names))])


def record_missing(db: Database, owner: str, root: Path) -> None:
    """Sync the files without a digest below an artifact folder to the disk, and record their digests.

    Raises:
        StoreError: the store can't be written.
        OSError: the disk reports an error.
    """
    files = _walk(root)
    while batch := list(islice(files, _CHUNK)):
        known = _stamps(db, owner, [file.path for file in batch])
        _record_new(db, owner, root, [file for file in batch if file.path not in known])


def read(db: Database, owner: str) -> tuple[ArtifactDigest, ...]:
    """Return the artifact digests of a run or logged model, by path; empty if none are recorded."""
    rows = db.query("SELECT path, size, sha256 FROM artifact_digests WHERE owner = ? ORDER BY path", owner)
    return tuple(map(_digest_of_row, rows))


def delete_digests(db: Database, owner: str, names: Sequence[str]) -> None:
    """Delete the digests of a file, or of all files in a folder, that a client replaced or removed.

    ``names`` are the path components on disk: the path that a client sends can have another form.
    """
    prefix = os.fsencode("/".join(names))
    condition = "owner = ? AND (path = ? OR (path >= ? AND path < ?))"
    bounds = (owner, prefix, prefix + b"/", prefix + b"0")  # 0 is the character after the slash
    if db.query(f"SELECT 1 FROM artifact_digests WHERE {condition} LIMIT 1", *bounds):
        db.execute(f"DELETE FROM artifact_digests WHERE {condition}", *bounds)


def verify_artifacts(home: Home, *, repair: bool, progress: Progress) -> Iterator[Finding]:
    """Yield a finding for each missing or damaged artifact, and one for each run with unrecorded artifacts.

    A run without any digest is not a fault: it predates digests, or was logged through a server. ``repair`` records all
    missing digests; missing or damaged files can't be restored. Every file with a digest is read. Running runs are
    skipped.
    """
    if not home.database.exists():
        return
    with closing((Database.open if repair else Database.open_to_read)(home.database)) as db:
        total = db.query("SELECT (SELECT count(*) FROM runs) + (SELECT count(*) FROM models) AS number")[0]["number"]
        for number, (owner, uri) in enumerate(_owners(db), start=1):
            root = local_folder(uri)
            if root is not None and root.is_relative_to(home.root / "runs"):
                yield from _verify(db, owner, root, repair=repair)
            progress(number, total)


def _owners(db: Database) -> Iterator[tuple[str, str]]:
    """Yield id and artifact location of all ended runs and of all logged models."""
    over = "NOT (owner IS NOT NULL AND status IN ('RUNNING', 'SCHEDULED'))"
    for table, column, condition in (("runs", "run_id", over), ("models", "model_id", "1")):
        last = -1
        while rows := db.query(
            f"SELECT id, {column} AS name, artifact_uri FROM {table} WHERE id > ? AND {condition} ORDER BY id LIMIT ?",
            last,
            _CHUNK,
        ):
            yield from ((row["name"], row["artifact_uri"]) for row in rows)
            last = rows[-1]["id"]


def _verify(db: Database, owner: str, root: Path, *, repair: bool) -> Iterator[Finding]:
    after = b""
    statement = "SELECT path, size, sha256 FROM artifact_digests WHERE owner = ? AND path > ? ORDER BY path LIMIT ?"
    while rows := db.query(statement, owner, after, _CHUNK):
        for row in rows:
            problem = problem_of(root, _digest_of_row(row))
            if problem:
                yield Finding(part="artifact", name=f"{owner}/{_as_text(row['path'])}", problem=problem)
        after = rows[-1]["path"]
    unrecorded = _count_unrecorded(db, owner, root)
    repaired = _repair(db, owner, root) if unrecorded and repair else None
    if unrecorded and after:
        problem = f"{unrecorded} artifact{'s have' if unrecorded > 1 else ' has'} no recorded digest"
        yield Finding(part="artifact", name=owner, problem=problem, repair=repaired)


def problem_of(root: Path, expected: ArtifactDigest) -> str | None:
    """Return how an artifact differs from its recorded state, or None if it does not."""
    names = expected.path.split("/")
    try:
        with open_found(root, names) as file:
            size = os.fstat(file.fileno()).st_size
            if size != expected.size:
                return f"is damaged: it has {size} bytes, and {expected.size} were recorded"
            if sha256_from(file) != expected.sha256:
                return "is damaged: its content differs from the recorded digest"
    except NotFoundError:
        return "is no longer a file" if os.path.lexists(root.joinpath(*names)) else "is missing"
    except InvalidValueError:  # a link, or one on the way
        return "is no longer a file"
    except OSError as error:
        return f"can't be read: {error.strerror}"
    return None


def _repair(db: Database, owner: str, root: Path) -> str:
    """Record digests for files without one; recorded digests stay unchanged."""
    record_missing(db, owner, root)
    return "recorded their digests"


def _record_new(db: Database, owner: str, root: Path, files: Sequence[_File]) -> None:
    sync([os.fsencode(root) + b"/" + file.path for file in files], root)
    rows = [
        (owner, file.path, file.stamp.size, digest, _encode(file.stamp))
        for file in files
        if file.stamp.size <= MOST_BYTES and (digest := _digest(root, file))
    ]
    # A client may have replaced a file since; its digest follows.
    names = {row[1]: tuple(os.fsdecode(row[1]).split("/")) for row in rows}
    current = [row for row in rows if (found := _find(root, names[row[1]])) and _encode(found.stamp) == row[4]]
    db.execute_many("INSERT OR REPLACE INTO artifact_digests VALUES (?, ?, ?, ?, ?)", current)


def _find(root: Path, names: tuple[str, ...]) -> _File | None:
    with suppress(InvalidValueError, OSError):
        found = status_of(root, names)
        return None if found is None else _File(os.fsencode("/".join(names)), Stamp.of(found))
    return None


def _count_unrecorded(db: Database, owner: str, root: Path) -> int:
    files, count = _walk(root), 0
    while batch := [file.path for file in islice(files, _CHUNK)]:
        count += len(batch) - len(_stamps(db, owner, batch))
    return count


def _forget_absent(db: Database, owner: str, present: set[bytes]) -> None:
    rows = db.query("SELECT path FROM artifact_digests WHERE owner = ?", owner)
    absent = [(owner, row["path"]) for row in rows if row["path"] not in present]
    if absent:
        db.execute_many("DELETE FROM artifact_digests WHERE owner = ? AND path = ?", absent)


def _stamps(db: Database, owner: str, paths: list[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for piece, marks in chunks(paths):
        rows = db.query(
            f"SELECT path, stamp FROM artifact_digests WHERE owner = ? AND path IN ({marks})", owner, *piece
        )
        found.update((row["path"], row["stamp"]) for row in rows)
    return found


def _walk(root: Path) -> Iterator[_File]:
    """Yield the files below a folder; skips links and files that are still being written."""
    if root.is_symlink():
        return
    folders = [os.fsencode(root)]
    start = len(folders[0]) + 1
    while folders:
        try:
            entries = list(os.scandir(folders.pop()))
        except OSError:  # the folder does not exist or is not readable
            continue
        for entry in entries:
            if entry.name.startswith(PARTIAL.encode()):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    yield _File(entry.path[start:], Stamp.of(entry.stat(follow_symlinks=False)))


def _digest(root: Path, file: _File) -> str | None:
    try:
        with open_found(root, os.fsdecode(file.path).split("/")) as opened:
            return sha256_from(opened)
    except (OSError, NotFoundError, InvalidValueError):  # the file was removed or is not readable: no digest
        return None


def _encode(stamp: Stamp) -> bytes:
    return msgspec.msgpack.encode(stamp)


def _digest_of_row(row: Row) -> ArtifactDigest:
    return ArtifactDigest(path=os.fsdecode(row["path"]), size=row["size"], sha256=row["sha256"])


def _as_text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
