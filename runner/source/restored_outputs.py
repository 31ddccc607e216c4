"""Restores the outputs of an interrupted run in the run folder of the run that continues it."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from runner.base.files import clone_at, copy_at, open_regular, sha256_of
from runner.base.safe_paths import LinkError, folder_at, remove_at
from runner.source.checkout import Table, scan
from runner.source.run_folder import RunFolder, without_environments
from runner.source.unwanted import CACHES


class RestoredOutputs(Struct, frozen=True, kw_only=True):
    """The files that were restored, relative to the repository's folder, and notices about those that were not."""

    files: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def restore_outputs(old: Path, folder: RunFolder, recorded: Iterable[str]) -> RestoredOutputs:
    """Copy what an interrupted run wrote from its run folder, ``old`` being the repository's folder in it.

    ``recorded`` are the recorded outputs, relative to the repository's folder. A file that was provided to the run and
    now has other content is only taken if it is one of them: else the user changed it, not the run.

    Raises:
        OSError: the old folder can't be read.
    """
    found = scan(old, CACHES | {b".git"})
    provided = {os.path.relpath(path, folder.top) for path, _ in folder.provided}
    known = frozenset(recorded)
    files, notices = [], []
    for name in sorted(map(os.fsdecode, without_environments(found, Table()))):
        source, target = old / name, folder.top / name
        try:
            if _is_same(source, target):
                continue
            if name in provided and name not in known:
                if not source.is_symlink():
                    notices.append(f"{name} differs from the interrupted run's; the project's present file is used")
                continue
            if _copy(source, target, (old, folder.top)):
                files.append(name)
            else:
                notices.append(f"{name} is neither a file nor a link, so it was not restored")
        except (OSError, LinkError) as error:
            notices.append(f"{name} could not be restored: {error}")
    return RestoredOutputs(files=tuple(files), notices=tuple(notices))


def _is_same(source: Path, target: Path) -> bool:
    """Return whether a path of the old folder has the same content in the new one."""
    if not os.path.lexists(target):
        return False
    one, other = source.lstat(), target.lstat()
    if stat.S_IFMT(one.st_mode) != stat.S_IFMT(other.st_mode):
        return False
    if stat.S_ISLNK(one.st_mode):
        return source.readlink() == target.readlink()
    return one.st_size == other.st_size and (not stat.S_ISREG(one.st_mode) or sha256_of(source) == sha256_of(target))


def _copy(source: Path, target: Path, tops: tuple[Path, Path]) -> bool:
    """Copy a file or a link; return False for anything else. A link into the old folder leads into the new one."""
    old, new = tops
    mode = source.lstat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        return False
    parts = target.relative_to(new).parts
    with folder_at(new, parts[:-1], create=True) as inside:  # refuses to go through a link
        if os.path.lexists(target):
            remove_at(inside, parts[-1])
        if stat.S_ISLNK(mode):
            text = os.fspath(source.readlink())
            leads = f"{new}{text.removeprefix(str(old))}" if text.startswith(f"{old}/") else text
            os.symlink(leads, parts[-1], dir_fd=inside)
            return True
        with open_regular(source) as file:
            if not clone_at(file.fileno(), inside, parts[-1]):
                copy_at(file, inside, parts[-1])
            found = os.fstat(file.fileno())
        os.chmod(parts[-1], stat.S_IMODE(mode) | stat.S_IWUSR, dir_fd=inside)
        os.utime(parts[-1], ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=inside)
    return True
