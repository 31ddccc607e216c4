"""Provides a run with its declared inputs where the checkout and the ignored files do not: outside, behind links."""

import os
from collections.abc import Iterable
from pathlib import Path
from posixpath import normpath

from msgspec import Struct

from runner.base.files import Stamp, walk_files
from runner.base.safe_paths import folder_at, open_tree, remove_at, remove_in_run, status_at
from runner.model import Event, EventKind, Report
from runner.source.checkout import CheckoutEntry, Provided
from runner.source.providing import FilesToProvide, FileToProvide, origin_stamp, provide_files


class RequiredPaths(Struct, frozen=True, kw_only=True):
    """Paths relative to the project folder: inputs to provide, those to copy, and outputs to leave out."""

    inputs: tuple[str, ...] = ()
    copied: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


class Layout(Struct, frozen=True, kw_only=True):
    """A checked-out run folder: its root, the repository's folder, the project folder, and the files in them."""

    root: Path
    top: Path
    project: Path
    laid: dict[bytes, CheckoutEntry]
    provided: dict[bytes, Provided]


def parents_for(inputs: tuple[str, ...], root: Path | None, subdirectory: str) -> tuple[str, ...]:
    """Return the names of the user's folders above the top that ``..`` in declared inputs refers to."""
    if root is None:
        return ()
    below = [normpath(f"{subdirectory or '.'}/{path}") for path in inputs if not path.startswith("/")]
    climbs = max((path.split("/").count("..") for path in below), default=0)
    return root.parent.parts[1:][-(climbs - 1) :] if climbs > 1 else ()


def provide_inputs(
    layout: Layout, project: Path | None, required: RequiredPaths, report: Report
) -> tuple[tuple[str, Path], ...]:
    """Provide the inputs that are not in the run folder yet, at the same relative path.

    Returns the declared path and the path in the run folder of the inputs from outside the repository. An input behind
    a link of the tree that leads out of the repository is linked to the user's file. ``project`` is the user's folder.
    """
    outside = []
    for name in sorted(required.inputs):  # a folder comes before the files in it
        target = Path(os.path.normpath(layout.project / name))
        if project is None or Path(name).is_absolute():
            continue
        origin = Path(os.path.normpath(project / name))
        is_inside = target.is_relative_to(layout.top)
        if not is_inside:
            if not origin.exists() or not target.is_relative_to(layout.root):
                report(Event(kind=EventKind.WARNING, message=f"The input '{name}' does not exist: {origin}"))
                continue
            outside.append((name, target))
        if origin.exists() and not target.exists():
            _link(layout, target, origin)
        if name in required.copied and target.exists():
            _copy(layout, target)
    return tuple(sorted(outside, key=lambda one: required.inputs.index(one[0])))


def _link(layout: Layout, target: Path, origin: Path) -> None:
    """Link the first part of a path that is missing, or that is a link to nothing, to the user's file or folder."""
    start = layout.top if target.is_relative_to(layout.top) else layout.root
    names = target.relative_to(start).parts
    for number, _ in enumerate(names, 1):
        here = start.joinpath(*names[:number])
        there = origin.parents[len(names) - number - 1] if number < len(names) else origin
        if here.is_symlink() or number == len(names):
            _put(layout, here, there, copied=False)
            return


def _copy(layout: Layout, target: Path) -> None:
    """Replace links on the way to a declared input, and in it, by copies that the run may change."""
    start = layout.top if target.is_relative_to(layout.top) else layout.root
    here = start
    for name in target.relative_to(start).parts[:-1]:
        here /= name
        if here.is_symlink():
            _open(layout, here)
    for path in (target, *_links(target)) if target.is_dir() and not target.is_symlink() else (target,):
        if path.is_symlink():
            origin = path.resolve()
            if origin.is_dir():
                _copy_folder(layout, path, origin)
            elif origin.is_file():
                _put(layout, path, origin, copied=True)


def _links(folder: Path) -> list[Path]:
    return [
        Path(parent) / name
        for parent, folders, files in os.walk(folder)
        for name in (*folders, *files)
        if (Path(parent) / name).is_symlink()
    ]


def _open(layout: Layout, link: Path) -> None:
    """Replace a link to a folder by a folder of links."""
    origin = link.resolve()
    _forget(layout, link)
    remove_in_run(link)
    with folder_at(layout.root.parent, (layout.root.name, *link.relative_to(layout.root).parts), create=True):
        pass  # the folder may be empty
    for entry in sorted(os.listdir(origin)):  # noqa: PTH208  only the names are needed
        _put(layout, link / entry, origin / entry, copied=False)


def _copy_folder(layout: Layout, link: Path, origin: Path) -> None:
    """Replace a link to a folder by a copy of the folder and of all that links in it lead to."""
    _forget(layout, link)
    remove_in_run(link)
    for path in walk_files(origin):
        _put(layout, link / path.relative_to(origin), path, copied=True)
    with folder_at(layout.root.parent, (layout.root.name, *link.relative_to(layout.root).parts), create=True):
        pass  # the folder may be empty


def _forget(layout: Layout, path: Path) -> None:
    if path.is_relative_to(layout.top):
        name = os.fsencode(path.relative_to(layout.top))
        layout.laid.pop(name, None)
        layout.provided.pop(name, None)


def _put(layout: Layout, path: Path, origin: Path, *, copied: bool) -> None:
    """Put a file, or a link to a folder, at a path of the run folder, without following links on the way."""
    _forget(layout, path)
    name, user_file = os.fsencode(path.relative_to(layout.root)), os.fsencode(origin)
    put: Iterable[Provided]
    if not copied and (origin.is_dir() or origin.is_symlink()):
        with open_tree(layout.root.parent, (layout.root.name,)) as tree:
            parent, last = tree.parent(name, create=True)
            if status_at(parent, last) is not None:
                remove_at(parent, last)
            os.symlink(origin.resolve(), last, dir_fd=parent)
            stamp = Stamp.of(os.stat(last, dir_fd=parent, follow_symlinks=False))
        put = (Provided(user_file, "linked", origin_stamp(user_file), stamp),)
    else:
        want = FileToProvide(name, user_file, None, copied)
        put = provide_files(layout.root, FilesToProvide(files=[want], folders=[], crowded=[]), {}).values()
    if path.is_relative_to(layout.top):
        layout.provided.update((os.fsencode(path.relative_to(layout.top)), one) for one in put)
