"""Reads the user's git repositories: their location, HEAD, commits and remotes. Never writes to them."""

import os
import re
from pathlib import Path

from msgspec import Struct

from runner.source.credentials import address_without_credentials
from runner.source.gitcommand import GitDirectory, run_concurrently, run_git

_COMMITTER = re.compile(rb"^committer .*> (\d{1,20}) [+-]\d{1,9}$", re.MULTILINE)
_REMOTES = ("config", "-z", "--get-regexp", r"^(remote\..*\.url|branch\..*\.remote)$")
_TREE = re.compile(rb"^tree ([0-9a-f]+)$", re.MULTILINE)


class Checkout(Struct, frozen=True, kw_only=True):
    """A work tree with its git directory; see gitrepository-layout(5)."""

    root: Path
    git_dir: Path
    common: Path

    @property
    def git_directory(self) -> GitDirectory:
        """The git directory together with this work tree."""
        return GitDirectory(git_dir=self.git_dir, work_tree=self.root)

    @property
    def objects(self) -> Path:
        """The folder of git objects."""
        return self.common / "objects"


class Commit(Struct, frozen=True, kw_only=True):
    """A commit: its id, its tree and its time in seconds since 1970, 0 if it can't be read."""

    identity: str
    tree: str
    time: int


class Head(Struct, frozen=True, kw_only=True):
    """The state of HEAD. ``commit`` is None before the first commit, ``branch`` when HEAD is detached."""

    commit: Commit | None
    branch: str | None
    remote: str | None


def find_checkout(folder: Path) -> Checkout | None:
    """Return the work tree that contains a folder; None if there is none or its git directory is missing."""
    for root in (folder, *folder.parents):
        mark = root / ".git"
        if os.path.lexists(mark):
            return checkout_at(root)
    return None


def checkout_at(root: Path) -> Checkout | None:
    """Return the work tree whose top is this folder; None if it has no valid ``.git``."""
    git_dir = root / ".git"
    if git_dir.is_file():
        try:
            text = git_dir.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None
        if not text.startswith("gitdir:"):
            return None
        git_dir = Path(os.path.normpath(root / text.removeprefix("gitdir:").strip()))
    if not (git_dir / "HEAD").is_file():
        return None
    common = git_dir
    if (git_dir / "commondir").is_file():
        text = (git_dir / "commondir").read_text(encoding="utf-8", errors="surrogateescape")
        common = Path(os.path.normpath(git_dir / text.strip()))
    return Checkout(root=root, git_dir=git_dir, common=common) if (common / "objects").is_dir() else None


def is_bare(folder: Path) -> bool:
    """Tell whether a folder is a bare repository."""
    return (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir()


def read_head(git_directory: GitDirectory) -> Head:
    """Return the state of HEAD of a repository."""
    batch, settings = run_concurrently(
        lambda: run_git(git_directory, "cat-file", "--batch", stdin=b"HEAD\n"),
        lambda: run_git(git_directory, *_REMOTES),
    )
    branch = _branch(git_directory)
    return Head(
        commit=parse_commit(batch.stdout),
        branch=branch,
        remote=_remote(settings.stdout.decode("utf-8", "replace"), branch),
    )


def read_remote(git_directory: GitDirectory) -> str | None:
    """Return the URL of the remote of the current branch, without credentials; see `Head`."""
    settings = run_git(git_directory, *_REMOTES).stdout.decode("utf-8", "replace")
    return _remote(settings, _branch(git_directory))


def parse_commit(batch: bytes) -> Commit | None:
    """Return the commit that ``git cat-file --batch`` printed, or None."""
    first, _, body = batch.partition(b"\n")
    fields = first.split()
    tree, time = _TREE.search(body), _COMMITTER.search(body)
    if len(fields) != 3 or fields[1] != b"commit" or not tree:  # noqa: PLR2004
        return None
    return Commit(identity=fields[0].decode(), tree=tree[1].decode(), time=int(time[1]) if time else 0)


def read_commit(git_directory: GitDirectory, name: str) -> Commit | None:
    """Return the commit that a name resolves to, through tags; None if it resolves to no commit."""
    if not name or name.startswith("-") or "\n" in name:
        return None
    return parse_commit(run_git(git_directory, "cat-file", "--batch", stdin=f"{name}^{{commit}}\n".encode()).stdout)


def _branch(git_directory: GitDirectory) -> str | None:
    try:
        text = (git_directory.git_dir / "HEAD").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
    if text == "ref: refs/heads/.invalid":  # a repository that keeps its refs in reftables
        text = f"ref: {run_git(git_directory, 'symbolic-ref', '--quiet', 'HEAD').text}"
    return text.removeprefix("ref: refs/heads/") if text.startswith("ref: refs/heads/") else None


def _remote(settings: str, branch: str | None) -> str | None:
    """Return the remote of the branch, else ``origin``, else the first remote."""
    pairs = [entry.split("\n", 1) for entry in settings.split("\0") if "\n" in entry]
    urls = {
        key.removeprefix("remote.").removesuffix(".url"): url for key, url in reversed(pairs) if key.endswith(".url")
    }
    upstream = next((value for key, value in pairs if key == f"branch.{branch}.remote"), None)
    names = (upstream, "origin", *reversed(urls))
    url = next((urls[name] for name in names if name in urls), None)
    return address_without_credentials(url) if url else None
