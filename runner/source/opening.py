"""Opens a source: resolves an address to a folder or a commit."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from runner.base.lazy import LazyModule
from runner.errors import SourceError
from runner.model import Event, EventKind, Report, SourceKind
from runner.settings import Home
from runner.source.address import Address, parse_address
from runner.source.checkouts import Checkout, Commit, Head, find_checkout, read_head
from runner.source.credentials import Credentials
from runner.source.gitcommand import GitDirectory, run_git
from runner.source.refs import check_version, default_commit, find_commit, split_tail

if TYPE_CHECKING:
    from runner.source import archive, mirror
else:
    archive = LazyModule("runner.source.archive")
    mirror = LazyModule("runner.source.mirror")


class RecordedFiles(Struct, frozen=True, kw_only=True):
    """What a recorded run needs beside its tree; paths are relative to its project folder.

    ``inputs`` are path, the file that has the content now, and its SHA-256 if known. ``folders`` are created empty.
    """

    inputs: tuple[tuple[str, Path, str | None], ...] = ()
    folders: tuple[str, ...] = ()


class Source(Struct, frozen=True, kw_only=True):
    """The source of a run's code. Only ``credentials`` is secret, and its text form hides it.

    ``root`` is the top of the work tree or the plain folder; None for a commit of a bare repository or mirror.
    ``repository`` is the git directory of the user's repository or of the mirror. ``tree`` is the tree of ``commit``;
    with ``frozen`` the run uses it instead of the files in ``root``. ``committed_at`` is in seconds since 1970.
    """

    kind: SourceKind
    name: str
    label: str
    root: Path | None = None
    repository: Path | None = None
    objects: Path | None = None
    subdirectory: str = ""
    commit: str | None = None
    tree: str | None = None
    committed_at: int | None = None
    ref: str | None = None
    branch: str | None = None
    remote: str | None = None
    frozen: bool = False
    recorded: RecordedFiles | None = None
    """Set if the tree is that of a recorded run: then nothing is read from the user's project folder."""
    address: Address

    @property
    def project(self) -> Path | None:
        """The user's project folder, or None for a commit without a work tree."""
        return self.root / self.subdirectory if self.root else None

    @property
    def credentials(self) -> Credentials | None:
        """The credentials of the remote repository."""
        return self.address.credentials


def open_source(address: str, version: str | None, home: Home, report: Report) -> Source:
    """Open the code at an address; ``version`` is a branch, a tag or a commit of a local or remote repository.

    Raises:
        SourceError: the address does not exist, can't be fetched, or has no such version.
    """
    check_version(version)
    where = parse_address(address)
    if where.kind is SourceKind.ZIP:
        return _open_zip(where, version, home, report)
    if where.path is None:
        return _open_remote(where, version, home, report)
    if where.kind is SourceKind.GIT:
        return _open_bare(where, version)
    return _open_folder(where, version, report)


def _open_zip(where: Address, version: str | None, home: Home, report: Report) -> Source:
    if version:
        raise SourceError("A zip has no versions", context=where.where, hint="Run without --version.")
    packed = where.path or archive.fetch_archive(where.url or "", where.credentials, home, report)
    root = archive.unpack(packed, home)
    _must_exist(root, where.subdirectory, where.where)
    return Source(
        kind=SourceKind.ZIP,
        name=where.where,
        label=Path(where.where).stem,
        root=root,
        subdirectory=where.subdirectory,
        address=where,
    )


def _open_remote(where: Address, version: str | None, home: Home, report: Report) -> Source:
    url = where.url or ""
    opened = mirror.open_mirror(url, where.credentials, home, report)
    found = opened.find(version, where.tail)
    return _commit_source(
        where,
        GitDirectory(git_dir=opened.git_dir),
        found.commit,
        name=where.typed,
        remote=url,
        ref=found.ref,
        tail=found.folder,
    )


def _open_bare(where: Address, version: str | None) -> Source:
    git_directory = GitDirectory(git_dir=where.path or Path())
    ref, folder = split_tail(git_directory, where.tail, version)
    commit = find_commit(git_directory, ref, where.where) if ref else default_commit(git_directory, where.where)
    return _commit_source(where, git_directory, commit, name=where.typed, remote=where.where, ref=ref, tail=folder)


def _commit_source(  # noqa: PLR0913  # the only function that fills a Source for commits
    where: Address, git_directory: GitDirectory, commit: Commit, *, name: str, remote: str, ref: str | None, tail: str
) -> Source:
    subdirectory = where.subdirectory or tail
    if subdirectory:
        kind = run_git(git_directory, "cat-file", "-t", f"{commit.identity}:{subdirectory}").text
        if kind != "tree":
            raise SourceError(f"There is no folder '{subdirectory}' in {remote}", context=f"at {commit.identity[:12]}")
    return Source(
        kind=SourceKind.GIT,
        name=name,
        label=Path(remote).name.removesuffix(".git") or "project",
        repository=git_directory.git_dir,
        objects=git_directory.git_dir / "objects",
        subdirectory=subdirectory,
        commit=commit.identity,
        tree=commit.tree,
        committed_at=commit.time,
        ref=ref,
        branch=_branch_named(git_directory, ref),
        remote=remote,
        frozen=True,
        address=where,
    )


def _branch_named(git_directory: GitDirectory, ref: str | None) -> str | None:
    """Return the ref if it is a branch, as MLflow does for its tag; None for tags and commits."""
    if not ref:
        return run_git(git_directory, "symbolic-ref", "--quiet", "--short", "HEAD").text or None
    found = run_git(git_directory, "show-ref", "--quiet", "--verify", f"refs/heads/{ref}").exit_code == 0
    return ref if found else None


def _open_folder(where: Address, version: str | None, report: Report) -> Source:
    typed = where.path or Path()
    _must_exist(typed, where.subdirectory, where.where)
    project = (typed / where.subdirectory).resolve()
    checkout = find_checkout(project)
    if checkout is None:
        if any(os.path.lexists(folder / ".git") for folder in (project, *project.parents)):
            report(
                Event(
                    kind=EventKind.WARNING,
                    message="The .git of this project is broken, so the project is used as a folder without history",
                )
            )
        return _plain(where, project, version)
    if checkout.root != project and _is_ignored(checkout, project):
        return _plain(where, project, version)
    ref, folder = split_tail(checkout.git_directory, where.tail, version)
    subdirectory = folder or project.relative_to(checkout.root).as_posix()
    source = _in_checkout(where, checkout, "" if subdirectory == "." else subdirectory, ref)
    if source.commit is None:
        _report_lost_commit(checkout, report)
    return source


def _report_lost_commit(checkout: Checkout, report: Report) -> None:
    """Warn if HEAD names a commit that can't be read; before the first commit it names none."""
    identity = run_git(checkout.git_directory, "rev-parse", "--quiet", "--verify", "HEAD").text
    if identity:
        message = f"The commit {identity[:12]} of HEAD can't be read, so the code is recorded without its commit"
        hint = f"`git fsck` in {checkout.root} names what is missing or damaged."
        report(Event(kind=EventKind.WARNING, message=message, hint=hint))


def _in_checkout(where: Address, checkout: Checkout, subdirectory: str, ref: str | None) -> Source:
    head = read_head(checkout.git_directory)
    commit = find_commit(checkout.git_directory, ref, str(checkout.root)) if ref else head.commit
    if ref and commit and subdirectory:
        kind = run_git(checkout.git_directory, "cat-file", "-t", f"{commit.identity}:{subdirectory}").text
        if kind != "tree":
            raise SourceError(f"There is no folder '{subdirectory}' in {checkout.root} at '{ref}'")
    return Source(
        kind=SourceKind.FOLDER,
        name=f"file://{checkout.root}" + (f"#{subdirectory}" if subdirectory else ""),
        label=checkout.root.name,
        root=checkout.root,
        repository=checkout.git_dir,
        objects=checkout.objects,
        subdirectory=subdirectory,
        commit=commit.identity if commit else None,
        tree=commit.tree if commit else None,
        committed_at=commit.time if commit else None,
        ref=ref,
        branch=_branch_of(checkout.git_directory, head, ref),
        remote=head.remote,
        frozen=ref is not None,
        address=where,
    )


def _branch_of(git_directory: GitDirectory, head: Head, ref: str | None) -> str | None:
    return _branch_named(git_directory, ref) if ref else head.branch


def _plain(where: Address, project: Path, version: str | None) -> Source:
    if version or where.tail:
        raise SourceError(
            f"{project} is not in a git repository, so it has no version '{version or where.tail}'",
            hint="Run without --version, or give the address of a repository.",
        )
    return Source(kind=SourceKind.FOLDER, name=str(project), label=project.name, root=project, address=where)


def _is_ignored(checkout: Checkout, project: Path) -> bool:
    """Tell whether the repository ignores a project folder and tracks no file in it."""
    folder = project.relative_to(checkout.root).as_posix()
    if run_git(checkout.git_directory, "check-ignore", "--quiet", "--", folder).exit_code:
        return False
    return not run_git(checkout.git_directory, "ls-files", "-z", "--", f":(literal){folder}").stdout


def _must_exist(root: Path, subdirectory: str, shown: str) -> None:
    if subdirectory and not (root / subdirectory).is_dir():
        raise SourceError(f"There is no folder '{subdirectory}' in {shown}")
    if subdirectory and not (root / subdirectory).resolve().is_relative_to(root.resolve()):
        raise SourceError(f"The folder '{subdirectory}' leads out of {shown}")
