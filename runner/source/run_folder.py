"""The run folder: a frozen tree laid out where nobody else works, taken over from an earlier run when there is one."""

import os
import re
from contextlib import suppress
from pathlib import Path
from posixpath import normpath, relpath

import msgspec
from msgspec import Struct

from runner.base.files import Stamp, remove_tree, sha256_of
from runner.errors import GitError, SnapshotError
from runner.model import Event, EventKind, Report
from runner.settings import Home
from runner.source.checkout import CheckoutEntry, Contents, Table, checkout_tree, is_unchanged, scan, wait_for_tick
from runner.source.freezing import SIZE_LIMIT, SnapshotIndex, known_prefixes, project_key
from runner.source.gitcommand import together
from runner.source.opening import Source
from runner.source.providing import Want, Wanted, choose, list_ignored, origin_stamp, provide
from runner.source.snapshot import Snapshot, shown, take_again
from runner.source.unwanted import CACHES, ENVIRONMENT_MARKS

_POOLED = 2
"""Folders of ended runs that are kept for one project."""
_MISSING = r"(?m)^.*No such file or directory.*$"
_OUTSIDE = r"(?:\.\./)+[^\s'\":,]+"


class RequiredPaths(Struct, frozen=True, kw_only=True):
    """What a manifest says about files, relative to the project folder: inputs to have, outputs not to inherit."""

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


class Changes(Struct, frozen=True, kw_only=True):
    """What a run did to its folder, relative to the project folder; the rest of the repository begins with ``../``."""

    files: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


class RunFolder:
    """Where the command of one run works.

    ``root`` is the folder that goes away with the run, ``top`` that of the repository in it, and ``project`` the one
    that the command starts in.
    """

    def __init__(self, root: Path, top: Path, subdirectory: str, table: Table, *, in_place: bool = False) -> None:
        self.root = root
        self.top = top
        self.project = top / subdirectory
        self.in_place = in_place
        self.beyond: tuple[tuple[str, Path], ...] = ()
        """Declared inputs from outside the repository: as declared, and where they lie."""
        self._subdirectory = subdirectory or "."
        self._table = table
        self._new: list[bytes] = []

    @property
    def provided(self) -> tuple[tuple[Path, Path], ...]:
        """The files that are not in the tree: where each lies in the folder, and the user's file that it stands for."""
        return tuple(
            (self.top / os.fsdecode(path), Path(os.fsdecode(one.origin))) for path, one in self._table.provided.items()
        )

    def changes(self) -> tuple[str, ...]:
        """Return the files that the run made or changed, sorted, relative to the project folder."""
        return self.inspect().files

    def inspect(self) -> Changes:
        """Compare the folder with what was laid out.

        Raises:
            SnapshotError: a folder in it can't be read.
        """
        try:
            found = scan(self.top, CACHES | {b".git"})
        except OSError as error:
            raise SnapshotError("The run locked up a part of its folder", context=str(error)) from error
        files = _without_environments(found, self._table)
        known = self._table.laid.keys() | self._table.provided.keys()
        self._new = [path for path in files if path not in known]
        changed = [path for path, stamp in files.items() if path in known and self._is_changed(path, stamp)]
        deleted = [path for path in known if path not in found.files]
        return Changes(
            files=tuple(sorted(self._relative(path) for path in (*self._new, *changed))),
            deleted=tuple(sorted(self._relative(path) for path in deleted)),
            notices=tuple(self._touched_origins()),
        )

    def _relative(self, path: bytes) -> str:
        return relpath(os.fsdecode(path), self._subdirectory)

    def _is_changed(self, path: bytes, stamp: Stamp) -> bool:
        laid = self._table.laid.get(path)
        if laid:
            return stamp != laid.stamp and (not laid.identity or not is_unchanged(self.top, path, laid))
        provided = self._table.provided[path]
        if stamp == provided.stamp:
            return False
        origin = Path(os.fsdecode(provided.origin))
        try:
            if provided.how == "linked" or origin_stamp(provided.origin) != provided.before:
                return True
            return stamp.size != provided.stamp.size or sha256_of(origin) != sha256_of(self.top / os.fsdecode(path))
        except OSError:
            return True

    def _touched_origins(self) -> list[str]:
        """Name the user's files that changed during the run although it could only reach them by links."""
        found = []
        for path, one in self._table.provided.items():
            if one.how == "linked":
                try:
                    same = origin_stamp(one.origin) == one.before or (
                        one.sha256 is not None and sha256_of(Path(os.fsdecode(one.origin))) == one.sha256
                    )
                except OSError:
                    same = False
                if not same:
                    found.append(f"{shown(path)} changed in the project during the run; it was linked, not copied")
        return found

    def explain_missing(self, output: str, project: Path | None) -> str | None:
        """Say why a file that a command did not find is there for the user: it lies outside the repository."""
        lines = re.findall(_MISSING, output) if project and not self.in_place else ()
        for name in (name for line in lines for name in re.findall(_OUTSIDE, line)):
            if project and (project / name).exists():
                return (
                    f"'{name}' lies outside the repository, so the run folder does not have it. Declare it under "
                    "`inputs:` of the entry point, pass it as a parameter of type path, or run with --in-place."
                )
        return None

    def release(self, *, keep: bool) -> None:
        """End the use of the folder: keep it as it is, or let a later run of the project take it over."""
        if self.in_place or keep:
            return
        start = os.fsencode(self.top) + b"/"
        for path in self._new:
            with suppress(OSError):
                os.unlink(start + path)  # noqa: PTH108  # bytes have no Path
        pool, key = self.root.parent / ".pool", (self.root / "key").read_text(encoding="utf-8")
        pool.mkdir(exist_ok=True)
        (self.root / "table").write_bytes(msgspec.msgpack.encode(self._table))
        with suppress(OSError):
            self.root.rename(pool / f"{key}-{self._table.tree[:12]}-{os.urandom(4).hex()}")
        for old in _pooled(pool, key)[_POOLED:]:
            _discard(old)


def _without_environments(found: Contents, table: Table) -> dict[bytes, Stamp]:
    """Leave out environments that the run made."""
    marks = {path for path in found.files if path.endswith(b"/pyvenv.cfg") and path not in table.laid}
    marks |= {path for path in found.folders if path.endswith(b"/conda-meta")}
    tops = tuple(path.rpartition(b"/")[0] + b"/" for path in marks if path.rpartition(b"/")[2] in ENVIRONMENT_MARKS)
    return {path: stamp for path, stamp in found.files.items() if not path.startswith(tops)} if tops else found.files


def check_out(
    snapshot: Snapshot, source: Source, run_id: str, home: Home, report: Report, wishes: RequiredPaths | None = None
) -> RunFolder:
    """Lay the frozen tree out in a folder of its own, with what the project has beside it, and return that folder.

    Raises:
        SnapshotError: there is a folder of this run already, or the tree can't be laid out.
    """
    wishes = wishes or RequiredPaths()
    key = project_key(source.root or source.name)
    root = home.folders / run_id
    top = root.joinpath(*_parents_for(wishes.inputs, snapshot), snapshot.label or "project")
    table = _take_over(home, key, snapshot.code.tree, root, top)
    (root / "key").write_text(key, encoding="utf-8")
    if not table.tree:
        report(Event(kind=EventKind.STEP, message="Laying out the code"))
    laid: dict[bytes, CheckoutEntry] = {}
    ignored: list[bytes] = []
    together(
        lambda: laid.update(_lay(snapshot, source, home, report, (top, table))),
        lambda: ignored.extend(_ignored(source, home)),
    )
    wanted = _wanted(snapshot, source, home, wishes, ignored)
    _say_crowded(wanted, report)
    provided = provide(top, _beside(wanted, laid), table.provided)
    folder = RunFolder(
        root, top, snapshot.code.subdirectory, Table(tree=snapshot.code.tree, laid=laid, provided=provided)
    )
    folder.project.mkdir(parents=True, exist_ok=True)
    folder.beyond = tuple(_bring_inputs(folder, source, wishes.inputs, report))
    stamps = [*(one.stamp for one in laid.values()), *(one.stamp for one in provided.values())]
    wait_for_tick(root, max((stamp.changed for stamp in stamps), default=0))
    return folder


def _lay(
    snapshot: Snapshot, source: Source, home: Home, report: Report, place: tuple[Path, Table]
) -> dict[bytes, CheckoutEntry]:
    """Lay the tree out; where that fails, make the snapshot whole first and start over with an empty folder."""
    top, table = place
    try:
        return checkout_tree(home, top, snapshot.code.tree, table)
    except GitError:
        if not take_again(snapshot, source, home, report):
            raise
    remove_tree(top)
    return checkout_tree(home, top, snapshot.code.tree, Table())


def _take_over(home: Home, key: str, tree: str, root: Path, top: Path) -> Table:
    """Move the folder of an ended run of the same project to this run, and return what it holds."""
    if root.exists():
        raise SnapshotError(f"There is a folder of this run already: {root}")
    root.parent.mkdir(parents=True, exist_ok=True)
    pooled = _pooled(home.folders / ".pool", key)
    for folder in sorted(pooled, key=lambda one: tree[:12] not in one.name):
        try:
            folder.rename(root)  # of several runs that want it, one gets it
            table = msgspec.msgpack.decode((root / "table").read_bytes(), type=Table)
            (root / "table").unlink()
        except (OSError, msgspec.DecodeError):
            if not root.exists():
                continue
            break
        if not top.is_dir() or top.is_symlink():
            break
        for name in (one for one in root.iterdir() if one not in (top, *top.parents, root / "key")):
            remove_tree(name)
        return table
    if root.exists():
        remove_tree(root)
    root.mkdir(mode=0o700)
    return Table()


def _pooled(pool: Path, key: str) -> list[Path]:
    """Return the folders that wait for another run, the one that ended last first."""

    def ended(folder: Path) -> float:
        try:
            return (folder / "table").stat().st_mtime
        except OSError:
            return 0.0

    names = os.listdir(pool) if pool.is_dir() else []  # noqa: PTH208  # a glob would compile an expression
    return sorted((pool / name for name in names if name.startswith(f"{key}-")), key=ended, reverse=True)


def _discard(folder: Path) -> None:
    doomed = folder.with_name(f".doomed-{os.urandom(8).hex()}")
    with suppress(OSError):
        folder.rename(doomed)  # so that nobody takes it over half removed
        remove_tree(doomed)


def remove_folder(run_id: str, home: Home) -> None:
    """Remove the folder that a run left behind, if it did."""
    _discard(home.folders / run_id)


def empty_pool(home: Home) -> None:
    """Remove the folders that wait for another run."""
    remove_tree(home.folders / ".pool")


def _parents_for(inputs: tuple[str, ...], snapshot: Snapshot) -> tuple[str, ...]:
    """Return as many folders above the top as declared inputs climb, named as the user's are."""
    if snapshot.root is None:
        return ()
    below = [normpath(f"{snapshot.code.subdirectory or '.'}/{path}") for path in inputs if not path.startswith("/")]
    climbs = max((path.split("/").count("..") for path in below), default=0)
    return snapshot.root.parent.parts[1:][-(climbs - 1) :] if climbs > 1 else ()


def _ignored(source: Source, home: Home) -> list[bytes]:
    if source.root is None:
        return []
    bench = SnapshotIndex(root=source.root, home=home, limit=SIZE_LIMIT, ignoring=source.address.is_ignoring)
    return list_ignored(bench.lister, known_prefixes(bench))


def _wanted(snapshot: Snapshot, source: Source, home: Home, wishes: RequiredPaths, ignored: list[bytes]) -> Wanted:
    if source.root is None:
        return Wanted(files=[], folders=[], crowded=[])
    outputs = [os.fsencode(normpath(f"{snapshot.code.subdirectory or '.'}/{path}")) for path in wishes.outputs]
    wanted = choose(source.root, ignored, home.root.resolve(), outputs)
    top = os.fsencode(source.root) + b"/"
    large = ((os.fsencode(one.path), one.sha256) for one in snapshot.large)
    wanted.files.extend(Want(path, top + path, digest) for path, digest in large)
    return wanted


def _beside(wanted: Wanted, laid: dict[bytes, CheckoutEntry]) -> Wanted:
    """Leave out what the tree itself has: a version may track what the folder now ignores."""
    files = [want for want in wanted.files if want.path not in laid]
    return Wanted(files=files, folders=[path for path in wanted.folders if path not in laid], crowded=wanted.crowded)


def _say_crowded(wanted: Wanted, report: Report) -> None:
    for want in wanted.crowded:
        message = (
            f"{shown(want.path)} has too many files to copy; it is linked, and what the run writes there stays there"
        )
        report(Event(kind=EventKind.WARNING, message=message))


def _bring_inputs(
    folder: RunFolder, source: Source, inputs: tuple[str, ...], report: Report
) -> "list[tuple[str, Path]]":
    """Put declared inputs from outside the repository where the same relative path finds them."""
    found = []
    for name in inputs:
        place = Path(os.path.normpath(folder.project / name))
        if source.project is None or Path(name).is_absolute() or place.is_relative_to(folder.top):
            continue
        origin = Path(os.path.normpath(source.project / name))
        if not origin.exists() or not place.is_relative_to(folder.root):
            report(Event(kind=EventKind.WARNING, message=f"The input '{name}' is not there: {origin}"))
            continue
        if origin.is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(origin)
        else:
            want = Want(os.fsencode(origin.name), os.fsencode(origin))
            provide(place.parent, Wanted(files=[want], folders=[], crowded=[]), {})
        found.append((name, place))
    return found


def stay_in_place(snapshot: Snapshot, source: Source) -> RunFolder:
    """Return the project folder itself as the folder of a run; what changes in it is told, nothing is copied.

    Raises:
        SnapshotError: the source is no folder, or it is not its files that run.
    """
    if source.root is None or source.frozen:
        raise SnapshotError("--in-place runs the files of a folder, and this source is a commit", context=source.name)
    try:
        found = scan(source.root, CACHES | {b".git"})
    except OSError as error:
        raise SnapshotError("A part of the project can't be read", context=str(error)) from error
    laid = {path: CheckoutEntry(b"", "", stamp) for path, stamp in _without_environments(found, Table()).items()}
    table = Table(tree=snapshot.code.tree, laid=laid)
    return RunFolder(source.root, source.root, source.subdirectory, table, in_place=True)
