"""Talks to a git repository that runs are shared through: lists, fetches and pushes refs ``refs/proj/runs/ID``."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from runner.errors import BundleError, GitError, SourceError
from runner.process import Completed
from runner.settings import is_offline
from runner.source.address import is_loopback, parse_address
from runner.source.checkouts import find_checkout
from runner.source.code_bundle import check_objects
from runner.source.credentials import Credentials, split_credentials
from runner.source.gitcommand import GitDirectory, run_git
from runner.urls import without_credentials

REFS = "refs/proj/runs/"
_REF = re.compile(rf"{REFS}(?P<run>[0-9a-f]{{32}})")
_OBJECT = re.compile(r"[0-9a-f]{40}")
_PROTOCOLS = "https:ssh:file"
_SETTINGS = (
    *(("http.lowSpeedLimit", "1000"), ("http.lowSpeedTime", "60"), ("push.followTags", "false")),
    *(("push.gpgSign", "false"), ("push.recurseSubmodules", "no"), ("submodule.recurse", "false")),
)
"""A connection is closed if it transfers less than one kilobyte a second for a minute; a push sends one ref only."""
_HEADER = "http.extraHeader"
_REJECTED = re.compile(
    r"(?m)^!.*(rejected|remote ref|cannot lock|failed to update)|fetch first|non-fast-forward|stale info"
)
_HINT = "Check the address and your access rights with `git ls-remote ADDRESS`."


class GitRemote(Struct, frozen=True, kw_only=True):
    """A git repository elsewhere; the URL has no credentials."""

    url: str
    credentials: Credentials | None = None
    settings: tuple[tuple[str, str], ...] = ()
    """Settings of the user's repository for this address: a CI job has its token in one."""

    def tips(self, at: GitDirectory) -> tuple[dict[str, str], int]:
        """Return the commit of each run by the run's id, and how many refs are not those of a run.

        Raises:
            SourceError: the repository can't be reached.
        """
        done = self._run(at, "ls-remote", "--refs", self.url, f"{REFS}*")
        if done.exit_code:
            raise self.failure("can't be read", done)
        found, odd = {}, 0
        for line in filter(None, done.text.split("\n")):
            identity, _, name = line.partition("\t")
            match = _REF.fullmatch(name)
            if match is None or not _OBJECT.fullmatch(identity):
                odd += 1
                continue
            found[match["run"]] = identity
        return found, odd

    def fetch(self, into: GitDirectory, run_id: str, *, whole: bool = False) -> str:
        """Fetch the commit of a run into an empty repository, check all objects, and return its id.

        Only the last commit is fetched, unless ``whole``.

        Raises:
            SourceError: the repository can't be reached.
            BundleError: the objects are damaged, or are suspiciously many.
        """
        name = f"{REFS}{run_id}"
        depth = () if whole else ("--depth=1",)
        plain = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules")
        done = self._run(into, "fetch", *plain, *depth, self.url, f"+{name}:{name}")
        if done.exit_code:
            raise self.failure(f"can't be fetched: run {run_id[:8]}", done)
        packed = sum(path.stat().st_size for path in (into.git_dir / "objects").rglob("*") if path.is_file())
        try:
            check_objects(into, packed)
        except GitError as error:
            raise BundleError(f"The run {run_id[:8]} of {self.url} is refused", context=error.context) from error
        done = run_git(into, "rev-parse", "--verify", name)
        if done.exit_code or not _OBJECT.fullmatch(done.text):
            raise BundleError(f"The run {run_id[:8]} of {self.url} is no object of git")
        return done.text

    def push(self, at: GitDirectory, commit: str, run_id: str) -> bool:
        """Move the ref of a run forward to a commit; return False if somebody else has moved it meanwhile.

        Raises:
            SourceError: the repository can't be reached, or refuses the push.
        """
        done = self._run(at, "push", "--porcelain", "--no-verify", self.url, f"{commit}:{REFS}{run_id}")
        if not done.exit_code:
            return True
        if _REJECTED.search(f"{done.text}\n{done.error_text}"):
            return False
        raise self.failure("can't be written", done)

    def failure(self, what: str, done: Completed) -> SourceError:
        """Return the error for a command that failed, without credentials."""
        text = without_credentials(f"{done.error_text}\n{done.text}".strip())
        text = self.credentials.redact(text) if self.credentials else text
        return SourceError(f"{self.url} {what}", context=text, hint=_HINT)

    def _run(self, at: GitDirectory, *arguments: str) -> Completed:
        is_plain = self.url.startswith("http://") and is_loopback(urlsplit(self.url).hostname or "")
        if is_offline() and "://" in self.url:
            raise SourceError(f"{self.url} is needed, but the network is disabled (--offline)")
        secret = self.credentials.settings() if self.credentials else ()
        variables = self.credentials.variables() if self.credentials else {}
        allowed = f"{_PROTOCOLS}:http" if is_plain else _PROTOCOLS
        return run_git(
            at,
            *arguments,
            settings=(*_SETTINGS, *self.settings, *secret),
            variables={**variables, "GIT_ALLOW_PROTOCOL": allowed},
        )


def find_remote(text: str, folder: Path) -> GitRemote:
    """Return the repository that a name or an address means; a name is that of a remote of the folder's repository.

    Raises:
        SourceError: there is no such remote, and the text is no address.
    """
    checkout = find_checkout(folder)
    settings: tuple[tuple[str, str], ...] = ()
    if checkout is not None and not text.startswith("-") and "/" not in text and ":" not in text:
        done = run_git(checkout.git_directory, "remote", "get-url", "--push", text)
        text = done.text if not done.exit_code and done.text else text
        header = run_git(checkout.git_directory, "config", "--get-urlmatch", _HEADER, text)
        if text.startswith("https://") and not header.exit_code and header.text:
            settings = ((f"http.{split_credentials(text)[0]}.extraHeader", header.text),)
    address = parse_address(text)
    url = address.url or str(address.path)
    if url.startswith("http://") and not is_loopback(urlsplit(url).hostname or ""):
        raise SourceError(f"proj sends no code over 'http://': {url}")
    return GitRemote(url=url, credentials=address.credentials, settings=settings)


def empty_repository(folder: Path) -> GitDirectory:
    """Create a bare repository in a new folder."""
    folder.mkdir()
    directory = GitDirectory(git_dir=folder)
    done = run_git(directory, "init", "--quiet", "--bare", "--template=", "--object-format=sha1")
    if done.exit_code:
        raise GitError("A temporary git repository can't be made", context=done.error_text)
    return directory
