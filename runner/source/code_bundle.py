"""Moves the code of runs between homes as git bundles; see https://git-scm.com/docs/gitformat-bundle."""

import os
import tempfile
from pathlib import Path

import msgspec

from runner.errors import GitError, SnapshotError
from runner.settings import Home
from runner.source.durable import write_durably
from runner.source.gitcommand import git
from runner.source.snapshot import read_run_metadata
from runner.source.snapshot_store import RunCommit, keep_commit, read_run_commit, run_ref, store_git_directory
from runner.source.sound_objects import require_sound_objects
from runner.source.transfer import copy_tree


def write_code(run_id: str, home: Home, bundle: Path) -> None:
    """Write the code of a run, and that of the commit that it is compared with, to a new git bundle.

    Raises:
        SnapshotError: the snapshot store does not have the code, or it is damaged.
        GitError: the bundle can't be written.
    """
    stored = read_run_commit(home, run_id)
    require_sound_objects(home, run_id, *filter(None, (stored.tree, stored.base)))
    git(store_git_directory(home), "bundle", "create", "--quiet", bundle, run_ref(run_id))


def take_code(bundle: Path, run_id: str, tree: str, home: Home) -> None:
    """Store the code of a run from a git bundle of another home; the content of all objects is checked.

    Raises:
        SnapshotError: the bundle is damaged, or has another tree than ``tree``.
    """
    with tempfile.TemporaryDirectory(prefix="proj-", dir=home.root) as temporary:
        other = Home(Path(temporary))
        directory = store_git_directory(other)
        try:
            tips = git(directory, "bundle", "unbundle", bundle).decode("utf-8", "replace").split("\n")
            commit = next((tip.split(" ")[0] for tip in tips if tip.endswith(f" {run_ref(run_id)}")), None)
            if commit is None:
                raise SnapshotError(f"The bundle does not have the code of the run {run_id}")
            # Names of files such as `.git` could do harm in a checkout.
            git(directory, "fsck", "--no-dangling", "--no-progress")
        except GitError as error:
            raise SnapshotError("The bundle with the code is damaged", context=error.context) from error
        write_durably(other.snapshot_store / run_ref(run_id), f"{commit}\n".encode())
        stored = read_run_commit(other, run_id)
        if stored.tree != tree:
            raise SnapshotError(f"The bundle has the tree {stored.tree}, not {tree}, which the run has")
        for each in filter(None, (stored.tree, stored.base)):
            copy_tree(home, each, other.snapshot_store / "objects")
        keep_commit(home, run_id, RunCommit(tree=stored.tree, base=stored.base, message=_message(run_id, stored)))


def _message(run_id: str, stored: RunCommit) -> str:
    """Return the message of a run's commit without the project's folder, which is that of another machine."""
    try:
        about = msgspec.structs.replace(read_run_metadata(stored), root=None)
    except msgspec.DecodeError as error:
        raise SnapshotError("The bundle has no description of the code") from error
    large = tuple(one for one in about.large if _is_inside(os.fsdecode(one[0])))
    about = msgspec.structs.replace(about, large=large)
    return f"run {run_id}\n\n{msgspec.json.encode(about).decode()}"


def _is_inside(path: str) -> bool:
    """Return whether a path stays in the folder that it is relative to."""
    normal = os.path.normpath(path)
    return not normal.startswith("/") and normal.split("/")[0] != ".."
