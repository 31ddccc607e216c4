"""Moves the code of runs between homes as git bundles; see https://git-scm.com/docs/gitformat-bundle."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import structs

from runner.errors import GitError, SnapshotError
from runner.settings import Home
from runner.source.archive import LARGEST_CONTENT, MOST_RATIO, UNSUSPICIOUS
from runner.source.durable import write_durably
from runner.source.gitcommand import GitDirectory, git
from runner.source.snapshot import read_run_metadata
from runner.source.snapshot_store import RunCommit, keep_commit, read_run_commit, run_ref, store_git_directory
from runner.source.sound_objects import require_sound_objects
from runner.source.transfer import copy_tree


def write_code(run_id: str, home: Home, bundle: Path) -> None:
    """Write the code of a run, and that of the commit that it is compared with, to a new git bundle.

    The same code gives the same bytes, in every home. Temporary files lie beside the bundle.

    Raises:
        SnapshotError: the snapshot store does not have the code, or it is damaged.
        GitError: the bundle can't be written.
    """
    stored = read_run_commit(home, run_id)
    require_sound_objects(home, run_id, *filter(None, (stored.tree, stored.base)))
    with tempfile.TemporaryDirectory(prefix="proj-", dir=bundle.parent) as temporary:
        store = store_git_directory(home)
        directory = structs.replace(store, objects=Path(temporary), alternates=(store.git_dir / "objects",))
        commit = write_run_commit(directory, run_id, stored)
        git(directory, "pack-objects", *_PACKING, Path(temporary) / "code", stdin=f"{commit}\n".encode())
        (pack,) = Path(temporary).glob("code-*.pack")
        with bundle.open("wb") as target, pack.open("rb") as packed:
            target.write(f"# v2 git bundle\n{commit} {run_ref(run_id)}\n\n".encode())
            shutil.copyfileobj(packed, target)


_PACKING = (
    *("--quiet", "--revs", "--no-reuse-delta", "--no-reuse-object", "--threads=1", "--compression=6"),
    *("--window=10", "--depth=50", "--window-memory=0"),
)
"""Nothing of a pack depends on the packs that are there already, on the machine, or on the user's settings."""


def write_run_commit(directory: GitDirectory, run_id: str, stored: RunCommit) -> str:
    """Write the commit of a run for other homes, and return its id; the same code gives the same commit."""
    parents = (_write_commit(directory, stored.base, (), "base"),) if stored.base else ()
    return _write_commit(directory, stored.tree, parents, portable_message(run_id, stored))


def _write_commit(directory: GitDirectory, tree: str, parents: Sequence[str], message: str) -> str:
    lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
    lines += [f"{role} proj <proj@localhost> 0 +0000" for role in ("author", "committer")]
    content = "\n".join((*lines, "", message, "")).encode("utf-8", "backslashreplace")
    return git(directory, "hash-object", "-t", "commit", "-w", "--stdin", stdin=content).decode().strip()


def take_code(bundle: Path, run_id: str, tree: str, home: Home) -> None:
    """Store the code of a run from a git bundle of another home; the content of all objects is checked.

    Raises:
        SnapshotError: the bundle is damaged, or has another tree than ``tree``.
    """
    with tempfile.TemporaryDirectory(prefix="proj-", dir=home.root) as temporary:
        other = Home(Path(temporary))
        keep_code(run_id, unbundle(bundle, run_id, tree, other), other.snapshot_store / "objects", home)


def unbundle(bundle: Path, run_id: str, tree: str, empty: Home) -> RunCommit:
    """Unpack the code of a run into the snapshot store of an empty home, and check the content of all objects.

    Raises:
        SnapshotError: the bundle is damaged, unpacks to too much, or has another tree than ``tree``.
    """
    directory = store_git_directory(empty)
    try:
        tips = git(directory, "bundle", "unbundle", bundle).decode("utf-8", "replace").split("\n")
        commit = next((tip.split(" ")[0] for tip in tips if tip.endswith(f" {run_ref(run_id)}")), None)
        if commit is None:
            raise SnapshotError(f"The bundle does not have the code of the run {run_id}")
        check_objects(directory, bundle.stat().st_size)
    except GitError as error:
        raise SnapshotError("The bundle with the code is damaged", context=error.context) from error
    write_durably(empty.snapshot_store / run_ref(run_id), f"{commit}\n".encode())
    stored = read_run_commit(empty, run_id)
    if stored.tree != tree:
        raise SnapshotError(f"The bundle has the tree {stored.tree}, not {tree}, which the run has")
    return stored


def check_objects(directory: GitDirectory, packed: int) -> None:
    """Check all objects that were taken from another repository; ``packed`` is how many bytes they had.

    Raises:
        GitError: an object is damaged, or a tree has names such as ``.git``, which could do harm in a checkout.
        SnapshotError: the objects unpack to too much.
    """
    listed = git(directory, "cat-file", "--batch-all-objects", "--batch-check=%(objectsize)", "--buffer")
    total = sum(map(int, listed.split()))
    if total > LARGEST_CONTENT or (total > UNSUSPICIOUS and total > MOST_RATIO * packed):
        raise SnapshotError(f"The code unpacks to {total >> 20} MB, which is suspiciously much; it is not taken")
    git(directory, "fsck", "--no-dangling", "--no-progress", settings=_STRICT)


_STRICT = tuple(
    (f"fsck.{name}", "error")
    for name in ("hasDot", "hasDotdot", "hasDotgit", "fullPathname", "emptyName", "nullSha1", "gitmodulesSymlink")
)
"""Names that git only warns of, because a work tree of git refuses them itself."""


def keep_code(run_id: str, stored: RunCommit, objects: Path, home: Home) -> None:
    """Copy checked code of a run from another repository's folder of objects to the snapshot store."""
    message = portable_message(run_id, stored)
    for each in filter(None, (stored.tree, stored.base)):
        copy_tree(home, each, objects)
    keep_commit(home, run_id, RunCommit(tree=stored.tree, base=stored.base, message=message))


def portable_message(run_id: str, stored: RunCommit) -> str:
    """Return the message of a run's commit without the project's folder, which is that of another machine."""
    try:
        about = structs.replace(read_run_metadata(stored), root=None)
    except msgspec.DecodeError as error:
        raise SnapshotError("The bundle has no description of the code") from error
    large = tuple(one for one in about.large if _is_inside(os.fsdecode(one[0])))
    about = structs.replace(about, large=large)
    return f"run {run_id}\n\n{msgspec.json.encode(about).decode()}"


def _is_inside(path: str) -> bool:
    """Return whether a path stays in the folder that it is relative to."""
    normal = os.path.normpath(path)
    return not normal.startswith("/") and normal.split("/")[0] != ".."
