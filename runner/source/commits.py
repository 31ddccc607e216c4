"""Copies the tree of a commit, with the files of its submodules, into the snapshot store."""

import os
from pathlib import Path

from runner.errors import SourceError
from runner.model import Report
from runner.settings import Home
from runner.source.address import parse_address
from runner.source.checkouts import checkout_at, is_bare, read_commit
from runner.source.credentials import Credentials, address_without_credentials
from runner.source.gitcommand import GitDirectory
from runner.source.mirror import open_mirror
from runner.source.opening import Source
from runner.source.submodules import SubmoduleFinder, SubmoduleTree, resolve_url, submodule_urls, tree_with_submodules
from runner.urls import without_credentials


def tree_of_commit(source: Source, home: Home, report: Report) -> str:
    """Copy the tree of a source's commit into the snapshot store and return its id.

    Raises:
        SnapshotError: the repository does not have all files of the commit.
        SourceError: a submodule's commit can't be fetched, or its address is refused.
    """
    if source.tree is None or source.objects is None:
        raise SourceError(f"{source.name} has no commit")
    parent = str(source.address.path or source.address.url)
    fetcher = _Fetcher(home, report, source.credentials)
    modules = source.objects.parent / "modules"
    return tree_with_submodules(home, source.tree, source.objects, fetcher.finder(parent, source.root, modules))


class _Fetcher:
    """Finds the commits of submodules, first in the user's repositories, then in mirrors."""

    def __init__(self, home: Home, report: Report, credentials: Credentials | None) -> None:
        self._home = home
        self._report = report
        self._credentials = credentials

    def finder(self, parent: str, root: Path | None, modules: Path | None) -> SubmoduleFinder:
        """Return a finder for the submodules of the repository with the address ``parent``."""

        def find(path: bytes, commit: str, tree: str) -> SubmoduleTree:
            name = os.fsdecode(path)
            here = self._here(name, commit, root, modules)
            if here:
                return here
            url = submodule_urls(self._home, tree).get(path)
            if not url:
                raise SourceError(f"The submodule '{name}' has no URL in .gitmodules, and its commit is not here")
            return self._fetched(name, commit, resolve_url(url, parent), parent if url.startswith("..") else None)

        return find

    def _here(self, name: str, commit: str, root: Path | None, modules: Path | None) -> SubmoduleTree | None:
        folders: list[tuple[Path, Path | None]] = []
        checkout = checkout_at(root / name) if root else None
        if checkout:
            folders.append((checkout.common, root / name if root else None))
        if modules and (modules / name / "objects").is_dir():
            folders.append((modules / name, None))
        for common, top in folders:
            found = read_commit(GitDirectory(git_dir=common), commit)
            if found:
                inner = self.finder(str(common), top, common / "modules")
                return SubmoduleTree(tree=found.tree, objects=common / "objects", find=inner)
        return None

    def _fetched(self, name: str, commit: str, url: str, parent: str | None) -> SubmoduleTree:
        where = Path(url)
        if parent and where.is_absolute() and is_bare(where):  # relative to a repository that the user gave as a path
            found = read_commit(GitDirectory(git_dir=where), commit)
            if found:
                return SubmoduleTree(tree=found.tree, objects=where / "objects", find=self.finder(url, None, None))
        try:
            address = parse_address(url)
        except SourceError as error:
            raise self._refused(name, url, error.message) from None
        if address.path or not address.url:
            raise self._refused(name, url, "a submodule address may not be a folder on this machine")
        credentials = self._credentials if parent else address.credentials
        try:
            fetched = open_mirror(address.url, credentials, self._home, self._report).find(commit)
        except SourceError as error:
            message = f"The submodule '{name}' can't be fetched: {error.message}"
            raise SourceError(message, context=error.context, hint=error.hint) from error
        objects = open_mirror(address.url, None, self._home, self._report).git_dir / "objects"
        return SubmoduleTree(tree=fetched.commit.tree, objects=objects, find=self.finder(address.url, None, None))

    def _refused(self, name: str, url: str, reason: str) -> SourceError:
        shown = address_without_credentials(without_credentials(url))
        return SourceError(
            f"proj refuses the address of the submodule '{name}': {shown}",
            context=reason,
            hint="proj fetches submodules from https:// and ssh:// addresses only. Clone it and run the clone.",
        )
