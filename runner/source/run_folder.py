"""Prepares the run folder: checks out the frozen tree, in a pooled folder of an earlier run if there is one."""

import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from posixpath import normpath, relpath
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from runner.base.files import Stamp, sha256_of
from runner.base.lazy import LazyModule
from runner.base.mounts import mount_points
from runner.base.safe_paths import LinkError, folder_at, open_tree, remove_in_run
from runner.errors import GitError, SnapshotError
from runner.model import Event, EventKind, Report
from runner.settings import Home
from runner.source.checkout import CheckoutEntry, Contents, Table, checkout_tree, is_unchanged, scan, wait_for_tick
from runner.source.freezing import SIZE_LIMIT, SnapshotIndex, known_prefixes, project_key
from runner.source.gitcommand import run_concurrently
from runner.source.input_files import Layout, RequiredPaths, parents_for, provide_inputs
from runner.source.opening import Source
from runner.source.pool import require_own, reuse_folder, store_folder
from runner.source.providing import (
    FilesToProvide,
    FileToProvide,
    choose_ignored,
    is_below,
    list_ignored,
    origin_stamp,
    provide_files,
)
from runner.source.snapshot import Snapshot, path_text, retake_snapshot
from runner.source.unwanted import CACHES, ENVIRONMENT_MARKS

if TYPE_CHECKING:
    from runner.source import recorded_files
else:
    recorded_files = LazyModule("runner.source.recorded_files")

_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_MISSING = r"(?m)^.*No such file or directory.*$"
_OUTSIDE = r"(?:\.\./)+[^\s'\":,]+"


class Changes(Struct, frozen=True, kw_only=True):
    """The changes of a run in its folder. Paths are relative to the project folder and may begin with ``../``."""

    files: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


class RunFolder:
    """The folder of one run.

    ``root`` is removed with the run, ``top`` is the folder of the repository in it, and ``project`` is the working
    folder of the command.
    """

    def __init__(self, root: Path, top: Path, subdirectory: str, table: Table, *, in_place: bool = False) -> None:
        self.root = root
        self.top = top
        self.project = top / subdirectory
        self.in_place = in_place
        self.outside_inputs: tuple[tuple[str, Path], ...] = ()
        """Declared inputs from outside the repository: the declared path and the path in the run folder."""
        self._subdirectory = subdirectory or "."
        self._table = table
        self._new: list[bytes] = []
        self.key = ""
        """The key of the project, by which a later run finds the folder in the pool."""

    @property
    def provided(self) -> tuple[tuple[Path, Path], ...]:
        """The files that are not in the tree: the path in the run folder, and the user's file that it comes from."""
        return tuple(
            (self.top / os.fsdecode(path), Path(os.fsdecode(one.origin))) for path, one in self._table.provided.items()
        )

    def changes(self) -> tuple[str, ...]:
        """Return the sorted paths of files that the run created or changed, relative to the project folder."""
        return self.inspect().files

    def inspect(self) -> Changes:
        """Compare the folder with its state before the run.

        Raises:
            SnapshotError: a folder in it can't be read, or the folder is no longer the run's own.
        """
        if not self.in_place:
            require_own(self.root, self.project)
        try:
            mounted = () if self.in_place else mount_points(self.top)
            found = scan(self.top, CACHES | {b".git"}, mounted)
        except OSError as error:
            raise SnapshotError("The run made a part of its folder unreadable", context=str(error)) from error
        files = without_environments(found, self._table)
        known = self._table.laid.keys() | self._table.provided.keys()
        self._new = [path for path in files if path not in known]
        changed = [path for path, stamp in files.items() if path in known and self._is_changed(path, stamp)]
        deleted = [path for path in known if path not in found.files]
        return Changes(
            files=tuple(sorted(self._relative(path) for path in (*self._new, *changed))),
            deleted=tuple(sorted(self._relative(path) for path in deleted)),
            notices=tuple(map(_mount_notice, mounted)),
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

    def changed_originals(self) -> tuple[str, ...]:
        """Return the paths, relative to the project folder, of linked files of the user that changed during the run."""
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
                    found.append(self._relative(path))
        return tuple(sorted(found))

    def unchanged_source(self, path: Path) -> Path | None:
        """Return a file that has the content of ``path`` when the run began, None if no file is known to have it.

        For a copy of a user's file that is the file itself, whose digest may be cached.
        """
        is_inside = path.is_relative_to(self.top)
        one = self._table.provided.get(os.fsencode(path.relative_to(self.top))) if is_inside else None
        if one is None:
            return path
        try:
            if origin_stamp(one.origin) == one.before:
                return Path(os.fsdecode(one.origin))
            return path if one.how != "linked" and Stamp.of(path.lstat()) == one.stamp else None
        except OSError:
            return None

    def explain_missing(self, output: str, project: Path | None) -> str | None:
        """Return the reason for a missing file if the file exists outside the repository, else None."""
        lines = re.findall(_MISSING, output) if project and not self.in_place else ()
        for name in (name for line in lines for name in re.findall(_OUTSIDE, line)):
            if project and (project / name).exists():
                return (
                    f"'{name}' is outside the repository, so the run folder does not have it. Declare it under "
                    "`inputs:` of the entry point, pass it as a parameter of type path, or run with --in-place."
                )
        return None

    def release(self, *, keep: bool) -> None:
        """Keep the folder for inspection, or move it to the pool for a later run of the project.

        In a kept folder the files of the tree become read-only, so that nobody edits them instead of the project's.
        """
        if self.in_place:
            return
        if keep:
            self._protect()
            return
        require_own(self.root, self.project)  # a process that is still running may have replaced it
        _refuse_mounts(self.root)
        with open_tree(self.top.parent, (self.top.name,)) as tree:
            for path in self._new:
                with suppress(LinkError, OSError):
                    parent, name = tree.parent(path)
                    os.unlink(name, dir_fd=parent)
        store_folder(self.root, self.key, self._table)

    def _protect(self) -> None:
        """Make the files of the tree that the run did not change read-only."""
        require_own(self.root, self.project)
        start = os.fsencode(self.top) + b"/"
        for path, laid in self._table.laid.items():
            with suppress(OSError):
                status = os.lstat(start + path)
                if stat.S_ISREG(status.st_mode) and Stamp.of(status) == laid.stamp:
                    os.chmod(start + path, stat.S_IMODE(status.st_mode) & ~_WRITE)  # noqa: PTH101  # likewise


def _refuse_mounts(root: Path) -> None:
    """Refuse to change a folder in which another file system is mounted.

    Raises:
        SnapshotError: there is one.
    """
    mounted = mount_points(root)
    if mounted:
        raise SnapshotError(
            f"The run left a file system mounted in its folder: {path_text(mounted[0])}",
            context=str(root),
            hint="Nothing in the folder was removed. Unmount it, then remove the run with `proj rm --permanently`.",
        )


def _mount_notice(path: bytes) -> str:
    return f"{path_text(path)} is another file system that the run mounted; its files are not outputs"


def without_environments(found: Contents, table: Table) -> dict[bytes, Stamp]:
    """Return the files without those of environments that the run created."""
    marks = {path for path in found.files if path.endswith(b"/pyvenv.cfg") and path not in table.laid}
    marks |= {path for path in found.folders if path.endswith(b"/conda-meta")}
    tops = tuple(path.rpartition(b"/")[0] + b"/" for path in marks if path.rpartition(b"/")[2] in ENVIRONMENT_MARKS)
    return {path: stamp for path, stamp in found.files.items() if not path.startswith(tops)} if tops else found.files


def check_out(
    snapshot: Snapshot,
    source: Source,
    run_id: str,
    home: Home,
    report: Report,
    required_paths: RequiredPaths | None = None,
) -> RunFolder:
    """Check out the frozen tree in a new run folder, provide the files outside the tree, and return the folder.

    Raises:
        SnapshotError: a folder of this run exists, or the tree can't be checked out.
    """
    required_paths = required_paths or RequiredPaths()
    key = project_key(source.root or source.name)
    root = home.folders / run_id
    parents = parents_for(required_paths.inputs, snapshot.root, snapshot.code.subdirectory)
    top = root.joinpath(*parents, snapshot.label or "project")
    table = reuse_folder(home, key, snapshot.code.tree, root, top)
    if not table.tree:
        report(Event(kind=EventKind.STEP, message="Checking out the code"))
    laid: dict[bytes, CheckoutEntry] = {}
    ignored: list[bytes] = []
    run_concurrently(
        lambda: laid.update(_check_out_tree(snapshot, source, home, report, (top, table))),
        lambda: ignored.extend(_ignored(source, home)),
    )
    wanted = _files_to_provide(snapshot, source, home, required_paths, ignored)
    _report_crowded(wanted, report)
    provided = provide_files(top, _outside_tree(wanted, laid), table.provided)
    project, count = top / snapshot.code.subdirectory, len(laid)
    with folder_at(root.parent, (root.name, *project.relative_to(root).parts), create=True):
        pass  # a commit may lack the folder
    layout = Layout(root=root, top=top, project=project, laid=laid, provided=provided)
    if source.recorded:
        outside = tuple(recorded_files.provide_outside(project, (root, top), source.recorded))
    else:
        outside = provide_inputs(layout, source.project, required_paths, report)
    # A tree of which a link was replaced is not complete: the next run that gets this folder must list it.
    tree = snapshot.code.tree if len(laid) == count else ""
    folder = RunFolder(root, top, snapshot.code.subdirectory, Table(tree=tree, laid=laid, provided=provided))
    folder.key = key
    folder.outside_inputs = outside
    stamps = [*(one.stamp for one in laid.values()), *(one.stamp for one in provided.values())]
    wait_for_tick(root, max((stamp.changed for stamp in stamps), default=0))
    return folder


def _check_out_tree(
    snapshot: Snapshot, source: Source, home: Home, report: Report, prepared: tuple[Path, Table]
) -> dict[bytes, CheckoutEntry]:
    """Check out the tree; if that fails, repair the snapshot and retry with an empty folder."""
    top, table = prepared
    try:
        return checkout_tree(home, top, snapshot.code.tree, table)
    except GitError:
        if not retake_snapshot(snapshot, source, home, report):
            raise
    remove_in_run(top)
    return checkout_tree(home, top, snapshot.code.tree, Table())


def _ignored(source: Source, home: Home) -> list[bytes]:
    if source.root is None:
        return []
    snapshot_index = SnapshotIndex(root=source.root, home=home, limit=SIZE_LIMIT, ignoring=source.address.is_ignoring)
    return list_ignored(snapshot_index.lister, known_prefixes(snapshot_index))


def _files_to_provide(
    snapshot: Snapshot, source: Source, home: Home, required_paths: RequiredPaths, ignored: list[bytes]
) -> FilesToProvide:
    if source.recorded:
        return recorded_files.files_beside(source.recorded, snapshot.code.subdirectory or ".")
    if source.root is None:
        return FilesToProvide(files=[], folders=[], crowded=[])
    outputs = [os.fsencode(normpath(f"{snapshot.code.subdirectory or '.'}/{path}")) for path in required_paths.outputs]
    wanted = choose_ignored(source.root, ignored, home.root.resolve(), outputs)
    top = os.fsencode(source.root) + b"/"
    copied = tuple(
        os.fsencode(normpath(f"{snapshot.code.subdirectory or '.'}/{path}")) for path in required_paths.copied
    )
    wanted.files[:] = [structs.replace(one, copied=is_below(one.path, copied)) for one in wanted.files]
    large = ((os.fsencode(one.path), one.sha256) for one in snapshot.large)
    wanted.files.extend(FileToProvide(path, top + path, digest, is_below(path, copied)) for path, digest in large)
    return wanted


def _outside_tree(wanted: FilesToProvide, laid: dict[bytes, CheckoutEntry]) -> FilesToProvide:
    """Leave out paths of the tree: a version may track a file that the folder ignores now."""
    files = [want for want in wanted.files if want.path not in laid]
    return FilesToProvide(
        files=files, folders=[path for path in wanted.folders if path not in laid], crowded=wanted.crowded
    )


def _report_crowded(wanted: FilesToProvide, report: Report) -> None:
    for want in wanted.crowded:
        message = f"{path_text(want.path)} has too many files to copy; it is linked, so the run writes to the original"
        report(Event(kind=EventKind.WARNING, message=message))


def in_place_run_folder(snapshot: Snapshot, source: Source) -> RunFolder:
    """Return the project folder itself as the run folder; nothing is copied.

    Raises:
        SnapshotError: the source is a commit instead of the files of a folder.
    """
    if source.root is None or source.frozen:
        raise SnapshotError("--in-place runs the files of a folder, and this source is a commit", context=source.name)
    try:
        found = scan(source.root, CACHES | {b".git"})
    except OSError as error:
        raise SnapshotError("A part of the project can't be read", context=str(error)) from error
    laid = {path: CheckoutEntry(b"", "", stamp) for path, stamp in without_environments(found, Table()).items()}
    table = Table(tree=snapshot.code.tree, laid=laid)
    return RunFolder(source.root, source.root, source.subdirectory, table, in_place=True)
