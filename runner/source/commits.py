"""The tree of a commit, whole: with the files of its submodules, wherever they have to be fetched from."""

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
from runner.source.submodules import Find, Part, declared, resolve_url, whole_tree
from runner.urls import without_credentials


def tree_of_commit(source: Source, home: Home, report: Report) -> str:
    """Bring the tree of a source's commit into the vault and return its id.

    Raises:
        SnapshotError: the repository lacks some of the commit's files.
        SourceError: a submodule's commit can't be had, or its address is of a refused kind.
    """
    if source.tree is None or source.objects is None:
        raise SourceError(f"{source.name} has no commit")
    parent = str(source.address.path or source.address.url)
    fetcher = _Fetcher(home, report, source.credentials)
    modules = source.objects.parent / "modules"
    return whole_tree(home, source.tree, source.objects, fetcher.finder(parent, source.root, modules))


class _Fetcher:
    """Finds the commits of submodules: in the user's own repositories first, else in mirrors."""

    def __init__(self, home: Home, report: Report, credentials: Credentials | None) -> None:
        self._home = home
        self._report = report
        self._credentials = credentials

    def finder(self, parent: str, root: Path | None, modules: Path | None) -> Find:
        """Return how to find the submodules of one repository. Its own address is ``parent``."""

        def find(path: bytes, commit: str, tree: str) -> Part:
            name = os.fsdecode(path)
            here = self._here(name, commit, root, modules)
            if here:
                return here
            url = declared(self._home, tree).get(path)
            if not url:
                raise SourceError(f"The submodule '{name}' has no address in .gitmodules, and its commit is not here")
            return self._fetched(name, commit, resolve_url(url, parent), parent if url.startswith("..") else None)

        return find

    def _here(self, name: str, commit: str, root: Path | None, modules: Path | None) -> Part | None:
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
                return Part(tree=found.tree, objects=common / "objects", find=inner)
        return None

    def _fetched(self, name: str, commit: str, url: str, parent: str | None) -> Part:
        where = Path(url)
        if parent and where.is_absolute() and is_bare(where):  # beside a repository that the user named by its path
            found = read_commit(GitDirectory(git_dir=where), commit)
            if found:
                return Part(tree=found.tree, objects=where / "objects", find=self.finder(url, None, None))
        try:
            address = parse_address(url)
        except SourceError as error:
            raise self._refused(name, url, error.message) from None
        if address.path or not address.url:
            raise self._refused(name, url, "a submodule may not name a folder of this machine")
        credentials = self._credentials if parent else address.credentials
        try:
            fetched = open_mirror(address.url, credentials, self._home, self._report).find(commit)
        except SourceError as error:
            message = f"The files of the submodule '{name}' can't be had: {error.message}"
            raise SourceError(message, context=error.context, hint=error.hint) from error
        objects = open_mirror(address.url, None, self._home, self._report).git_dir / "objects"
        return Part(tree=fetched.commit.tree, objects=objects, find=self.finder(address.url, None, None))

    def _refused(self, name: str, url: str, reason: str) -> SourceError:
        shown = address_without_credentials(without_credentials(url))
        return SourceError(
            f"The submodule '{name}' asks for an address that proj refuses: {shown}",
            context=reason,
            hint="Submodules come from https:// and ssh:// addresses only. Clone it yourself and run the folder.",
        )
