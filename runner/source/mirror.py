"""Keeps a bare mirror for each URL; fetches missing commits, and uses the mirror as it is when offline."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from runner.base import progress
from runner.base.files import new_folder, remove_tree
from runner.base.locks import locked
from runner.errors import SourceError
from runner.model import Event, EventKind, Report
from runner.process import Completed
from runner.settings import Home, is_offline
from runner.source.address import is_loopback
from runner.source.checkouts import Commit, read_commit
from runner.source.credentials import Credentials
from runner.source.fetch_progress import FetchProgress, without_progress
from runner.source.freezing import project_key
from runner.source.gitcommand import GitDirectory, run_git
from runner.source.refs import default_commit, find_commit, split_tail
from runner.source.snapshot_store import open_snapshot_store
from runner.urls import without_credentials

_FULL_SHA = re.compile(r"^([0-9a-f]{40}|[0-9a-f]{64})$")
_REFS = ("refs/heads/*", "refs/tags/*")
_SLOW = (("http.lowSpeedLimit", "1000"), ("http.lowSpeedTime", "60"))
"""A connection is closed if it transfers less than one kilobyte a second for one minute."""

_PROTOCOLS = "https:ssh:file"
"""proj checks the address before git uses it; the user's ``url.….insteadOf`` may map one of these to another."""


class Found(Struct, frozen=True, kw_only=True):
    """The resolved commit, the ref that the user gave, and the folder of a browser URL."""

    commit: Commit
    ref: str | None
    folder: str = ""


class Mirror(Struct, frozen=True, kw_only=True):
    """A remote repository and its local mirror. The URL that git stores or prints contains no credentials."""

    url: str
    home: Home
    git_dir: Path
    credentials: Credentials | None
    report: Report

    @property
    def git_directory(self) -> GitDirectory:
        """The git directory of the mirror."""
        return GitDirectory(git_dir=self.git_dir)

    def find(self, version: str | None, tail: str | None = None) -> Found:
        """Return the commit of a version; fetch first, unless it is a full commit id that the mirror has.

        Raises:
            SourceError: the repository can't be reached and has no mirror, or it has no such version.
        """
        with locked(self.git_dir.with_suffix(".lock"), waiting=self._waiting):
            here = self.git_dir.exists()
            commit = read_commit(self.git_directory, version) if version and here and _FULL_SHA.match(version) else None
            if commit and not tail:
                return Found(commit=commit, ref=version)
            self._update()
            ref, folder = split_tail(self.git_directory, tail, version)
            if ref and not read_commit(self.git_directory, ref) and (_FULL_SHA.match(ref) or ref.startswith("refs/")):
                self._git("fetch", *_FETCH, self.url, f"+{ref}:refs/proj/{ref.removeprefix('refs/')}")
                named = ref if _FULL_SHA.match(ref) else f"refs/proj/{ref.removeprefix('refs/')}"
                return Found(commit=find_commit(self.git_directory, named, self.url), ref=ref)
            commit = (
                find_commit(self.git_directory, ref, self.url) if ref else default_commit(self.git_directory, self.url)
            )
            return Found(commit=commit, ref=ref, folder=folder)

    def _waiting(self) -> None:
        self.report(Event(kind=EventKind.STEP, message=f"Waiting for another run to fetch {self.url}"))

    def _update(self) -> None:
        """Fetch branches, tags and the default branch; warn if only the existing mirror can be used."""
        if is_offline():
            if not self.git_dir.exists():
                raise SourceError(
                    f"{self.url} was never fetched, and proj is offline",
                    hint="Unset --offline and PROJ_OFFLINE.",
                )
            self._use_what_is_here()
            return
        done = self._git("ls-remote", "--symref", self.url, "HEAD", *_REFS)
        if done.exit_code:
            if not self.git_dir.exists():
                raise self._unreachable(done)
            self._use_what_is_here()
            return
        head, refs = _read_remote(done.lines)
        if not self.git_dir.exists():
            self._create()
        if refs != self._own_refs():
            self.report(Event(kind=EventKind.STEP, message=f"Fetching {self.url}"))
            specs = (f"+{pattern}:{pattern}" for pattern in _REFS)
            done = self._git("fetch", "--prune", *_FETCH, self.url, *specs)
            if done.exit_code:
                raise self._unreachable(done)
        if head:
            run_git(self.git_directory, "symbolic-ref", "HEAD", head)
        (self.git_dir / "fetched").touch()

    def _own_refs(self) -> dict[str, str]:
        listed = run_git(
            self.git_directory, "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags"
        )
        return {name: identity for identity, name in (line.split(" ", 1) for line in listed.lines)}

    def _create(self) -> None:
        """Create the mirror in a temporary folder and rename it, so that a killed fetch leaves no partial mirror."""
        staging = new_folder(self.git_dir.parent, ".new-")
        try:
            run_git(GitDirectory(git_dir=staging), "init", "--quiet", "--bare", "--template=")
            done = self._git_at(staging, "fetch", *_FETCH, self.url, *(f"+{pattern}:{pattern}" for pattern in _REFS))
            if done.exit_code:
                raise self._unreachable(done)
            staging.rename(self.git_dir)
        finally:
            remove_tree(staging)

    def _git(self, *arguments: str) -> Completed:
        # git needs a repository: until the mirror exists it is the snapshot store, never the user's current folder.
        return self._git_at(self.git_dir if self.git_dir.exists() else open_snapshot_store(self.home), *arguments)

    def _git_at(self, git_dir: Path, *arguments: str) -> Completed:
        plain = self.url.startswith("http://")
        if plain and not is_loopback(urlsplit(self.url).hostname or ""):
            raise SourceError(f"proj can't fetch code over 'http://': {self.url}")
        is_shown = arguments[0] == "fetch" and progress.is_observed()
        secret = self.credentials.settings() if self.credentials else ()
        variables = self.credentials.variables() if self.credentials else {}
        return run_git(
            GitDirectory(git_dir=git_dir),
            *(_shown(arguments) if is_shown else arguments),
            watch=FetchProgress() if is_shown else None,
            settings=(*_SLOW, *secret),
            variables={**variables, "GIT_ALLOW_PROTOCOL": _allowed(plain=plain)},
        )

    def _use_what_is_here(self) -> None:
        try:
            then = time.strftime("%Y-%m-%d %H:%M", time.localtime((self.git_dir / "fetched").stat().st_mtime))
        except OSError:
            then = "an earlier time"
        self.report(
            Event(kind=EventKind.WARNING, message=f"{self.url} can't be reached; proj uses its state of {then}")
        )

    def _unreachable(self, done: Completed) -> SourceError:
        error_output = without_credentials(without_progress(done.error_text))
        error_output = self.credentials.redact(error_output) if self.credentials else error_output
        hint = "Check the address and your access rights with `git ls-remote ADDRESS`."
        return SourceError(f"{self.url} can't be fetched", context=error_output, hint=hint)


def _shown(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments of a fetch that prints its progress; ``--quiet`` would win over ``--progress``."""
    return (arguments[0], "--progress", *(word for word in arguments[1:] if word != "--quiet"))


def _allowed(*, plain: bool) -> str:
    return "none" if is_offline() else _PROTOCOLS + (":http" if plain else "")


_FETCH = (
    "--quiet",
    "--no-tags",
    "--no-write-fetch-head",
    "--no-auto-maintenance",
    "--no-recurse-submodules",
    "--force",
)


def open_mirror(url: str, credentials: Credentials | None, home: Home, report: Report) -> Mirror:
    """Return the mirror of a repository; `Mirror.find` fetches."""
    git_dir = home.mirrors / f"{project_key(url)}.git"
    return Mirror(url=url, home=home, git_dir=git_dir, credentials=credentials, report=report)


def _read_remote(lines: list[str]) -> tuple[str | None, dict[str, str]]:
    """Return the default branch and the refs in what ``git ls-remote --symref`` prints."""
    head = None
    refs: dict[str, str] = {}
    for line in lines:
        value, _, name = line.partition("\t")
        if value.startswith("ref: ") and name == "HEAD":
            head = value.removeprefix("ref: ")
        elif name.startswith("refs/") and not name.endswith("^{}"):
            refs[name] = value
    return head, refs
