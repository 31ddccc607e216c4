"""Finds damaged objects in the snapshot store and removes them, so that the next run writes them again."""

import hashlib
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from runner.base.files import remove_tree
from runner.base.findings import Progress
from runner.base.locks import locked
from runner.settings import Home
from runner.source.durable import write_durably
from runner.source.gitcommand import run_git
from runner.source.packed_refs import PACKED_REFS, problem_of_packed_refs, repair_packed_refs
from runner.source.packing import PackWriter, read_index
from runner.source.snapshot_store import drop_ref, object_id, open_snapshot_store, store_git_directory

_CHUNK = 1 << 20
_FOLDER = re.compile(r"^[0-9a-f]{2}$")
_NAME = re.compile(r"^[0-9a-f]{38}$")


class Damage(Struct, frozen=True, kw_only=True):
    """A damaged file: its path in the snapshot store, the problem, and the ids of the lost objects."""

    path: str
    problem: str
    identities: tuple[str, ...]


def find_damage(home: Home, progress: Progress | None = None) -> Iterator[Damage]:
    """Read every object and yield each damaged file. Nothing is changed."""
    if problem := problem_of_packed_refs(home.snapshot_store):
        yield Damage(path=PACKED_REFS, problem=problem, identities=())
    objects = home.snapshot_store / "objects"
    packs = sorted((objects / "pack").glob("pack-*.pack")) + _indexes_without_pack(objects)
    counts = {pack: _count(pack) for pack in packs}
    loose = list(_loose_files(objects))
    total = len(loose) + sum(counts.values())
    done = 0
    for path in loose:
        problem = problem_of_loose(path)
        if problem:
            identity = path.parent.name + path.name
            yield Damage(path=str(path.relative_to(home.snapshot_store)), problem=problem, identities=(identity,))
        done += 1
        if progress:
            progress(done, total)
    for pack in packs:
        found = _damage_of_pack(home, pack)
        if found:
            yield found
        done += counts[pack]
        if progress:
            progress(done, total)


def remove_damage(home: Home, progress: Progress | None = None) -> list[Damage]:
    """Find and remove damaged objects, and discard all project indexes, so that the next runs read all files again.

    The readable objects of a damaged pack are written to a new pack.

    Raises:
        SnapshotError: git can't be run.
    """
    store = open_snapshot_store(home)
    with locked(home.root / "vault.lock"):
        found: list[Damage] = []
        for damage in find_damage(home, progress):
            if not found:
                mark_incomplete(home)
                _discard_indexes(home)
            found.append(damage)
            _remove_file(home, store / damage.path)
    return found


def mark_incomplete(home: Home) -> None:
    """Mark the store as incomplete: a tree object no longer proves that its content exists.

    `verify_snapshots` removes the mark.
    """
    write_durably(home.snapshot_store / "incomplete", b"Objects were damaged or missing.\n")


def _discard_indexes(home: Home) -> None:
    """Discard the index of every project, so that its next run reads all files."""
    for folder in home.indexes.iterdir() if home.indexes.is_dir() else ():
        if folder.is_dir():
            with locked(folder / "lock"):
                discard_index(folder)
            drop_ref(home, f"refs/projects/{folder.name}")


def discard_index(folder: Path) -> bool:
    """Remove the index of one project, and return whether there was one."""
    found = False
    for name in ("index", "state", "index.lock"):
        with suppress(FileNotFoundError):
            (folder / name).unlink()
            found = True
    return found


def _loose_files(objects: Path) -> Iterator[Path]:
    for folder in sorted(objects.iterdir()) if objects.is_dir() else ():
        if _FOLDER.match(folder.name) and folder.is_dir():
            yield from (path for path in sorted(folder.iterdir()) if _NAME.match(path.name))


def _indexes_without_pack(objects: Path) -> list[Path]:
    indexes = sorted((objects / "pack").glob("pack-*.idx"))
    return [path.with_suffix(".pack") for path in indexes if not path.with_suffix(".pack").exists()]


def _count(pack: Path) -> int:
    try:
        with pack.open("rb") as file:
            return int.from_bytes(file.read(12)[8:], "big")
    except OSError:
        return 1


def problem_of_loose(path: Path) -> str | None:
    """Return the problem of a loose object, or None; the object is read in chunks."""
    inflater = zlib.decompressobj()
    digest = hashlib.sha1(usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                data = inflater.decompress(chunk, _CHUNK)
                while data:
                    digest.update(data)
                    data = inflater.decompress(inflater.unconsumed_tail, _CHUNK)
        if path.stat().st_size == 0:
            return "is empty"
    except zlib.error:
        return "can't be decompressed"
    except OSError as error:
        return f"can't be read: {error.strerror}"
    if not inflater.eof:
        return "is truncated"
    if inflater.unused_data or digest.hexdigest() != path.parent.name + path.name:
        return "has content that does not match its id"
    return None


def _damage_of_pack(home: Home, pack: Path) -> Damage | None:
    index = pack.with_suffix(".idx")
    if not index.exists():
        return _pack_damage(home, pack, "has no index", ())
    done = run_git(store_git_directory(home), "verify-pack", "--", index)
    if done.exit_code == 0 and pack.exists():
        return None
    good, bad = _sort_objects(pack)
    if not pack.exists():
        return _pack_damage(home, pack, "is missing", bad)
    problem = f"is damaged: {len(bad)} of {len(good) + len(bad)} objects can't be read" if good or bad else "is damaged"
    return _pack_damage(home, pack, problem, bad)


def _pack_damage(home: Home, pack: Path, problem: str, bad: tuple[str, ...]) -> Damage:
    return Damage(path=str(pack.relative_to(home.snapshot_store)), problem=problem, identities=bad)


def _sort_objects(pack: Path, writer: PackWriter | None = None) -> tuple[list[str], tuple[str, ...]]:
    """Return the readable and the unreadable objects of a damaged pack; pass the readable ones to ``writer``."""
    good: list[str] = []
    bad: list[str] = []
    try:
        identities = read_index(pack.with_suffix(".idx"))
    except (OSError, ValueError):
        return good, ()
    reader = _open_pack(pack)
    for identity in identities:
        try:
            stream = reader.stream(bytes.fromhex(identity))
            kind, data = stream.type.decode(), stream.read()
            is_good = object_id(kind, data) == identity
        except Exception:  # noqa: BLE001  # damaged data can make the parser raise any error
            is_good = False
        (good if is_good else bad).append(identity)
        if is_good and writer:
            writer.add(kind, identity, data)
    return good, tuple(bad)


def _open_pack(pack: Path):  # type: ignore[no-untyped-def]  # noqa: ANN202  # gitdb has no types
    # gitdb comes with GitPython and starts no program. Its import takes 50 ms, so only damaged packs load it.
    from gitdb.pack import PackEntity

    return PackEntity(os.fspath(pack))


def _remove_file(home: Home, path: Path) -> None:
    if path.name == PACKED_REFS:
        repair_packed_refs(home.snapshot_store)
        return
    if path.suffix != ".pack":
        remove_tree(path)
        return
    if path.exists() and _rebuild_index(home, path):
        return
    with PackWriter(home.snapshot_store / "objects") as writer:
        _sort_objects(path, writer)
    quarantine = home.snapshot_store / "damaged"  # `collect_garbage` removes it later
    quarantine.mkdir(exist_ok=True)
    for suffix in (".idx", ".rev", ".bitmap", ".pack"):
        with suppress(FileNotFoundError):
            path.with_suffix(suffix).replace(quarantine / path.with_suffix(suffix).name)


def _rebuild_index(home: Home, pack: Path) -> bool:
    """Rebuild the index of a pack, and return whether the pack itself is undamaged."""
    fresh = pack.with_name(f"tmp_idx_{os.urandom(8).hex()}.idx")
    try:
        done = run_git(store_git_directory(home), "index-pack", "-o", fresh, pack)
        if done.exit_code:
            return False
        fresh.chmod(0o444)
        fresh.replace(pack.with_suffix(".idx"))
    finally:
        fresh.unlink(missing_ok=True)
    return True
