"""Parses the source address that a user types, before any part of it reaches git."""

import os
import re
import shlex
from pathlib import Path
from posixpath import normpath
from urllib.parse import unquote, urlsplit, urlunsplit

from msgspec import Struct

from runner.base.suggestions import near_words
from runner.errors import SourceError
from runner.model import SourceKind
from runner.source.checkouts import is_bare
from runner.source.credentials import Credentials, address_without_credentials, split_credentials
from runner.urls import without_credentials

_BROWSER = re.compile(r"^(?P<base>.+?)(?:/-)?/tree/(?P<tail>.+)$")
_SCP_LIKE = r"^[A-Za-z0-9_][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9._-]*:(?!//).+$"
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)(://|::)")
_SHORTHAND = r"^[\w.-]+/[\w.-]+$"

_SCRIPTS = (".py", ".sh", ".R", ".ipynb")
_LONGEST = 4096
"""Characters of an address: PATH_MAX of Linux."""
_HINT = "Give a folder, a .zip file, or a git address that begins with https://, ssh:// or git@."


class Address(Struct, frozen=True, kw_only=True):
    """A parsed source address.

    ``path`` is set for a local source, ``url`` (without credentials) for a remote one. ``tail`` is the part after
    ``/tree/`` of a browser URL: a ref, which may contain slashes, and an optional folder.
    """

    kind: SourceKind
    typed: str
    path: Path | None = None
    url: str | None = None
    credentials: Credentials | None = None
    subdirectory: str = ""
    tail: str | None = None

    @property
    def is_ignoring(self) -> bool:
        """Whether git's ignore rules apply. Every file of an archive is part of the project."""
        return self.kind is not SourceKind.ZIP

    @property
    def where(self) -> str:
        """The path or URL without credentials and without the query, which may contain secrets."""
        return str(self.path) if self.path else (self.url or "").partition("?")[0]

    def __repr__(self) -> str:
        return f"Address({self.where!r})"


def parse_address(text: str) -> Address:
    """Parse the address that a user typed.

    Raises:
        SourceError: the text is not an address, its protocol is refused, or the path does not exist.
    """
    if len(text) > _LONGEST:
        raise SourceError(f"The address has {len(text):,} characters; no path or URL has more than {_LONGEST:,}")
    typed = _unquoted(text.strip())
    _check_text(typed)
    try:
        return _parse(typed)
    except (OSError, RuntimeError) as error:  # a name that is too long, the home folder of an unknown user
        shown = without_credentials(typed)[:200]
        raise SourceError(f"'{shown}' can't be read", context=getattr(error, "strerror", None)) from error


def _parse(typed: str) -> Address:
    if os.path.lexists(Path(typed).expanduser()):
        return _local(Path(typed).expanduser(), typed, "")
    base, mark, subdirectory = typed.partition("#")
    folder = normalize_subdirectory(subdirectory) if mark else ""
    scheme = _SCHEME.match(base)
    if scheme:
        return _with_scheme(base, scheme[1].lower(), typed, folder)
    if base.lower().startswith("file:/"):
        return _local(Path(unquote(base[len("file:") :])), typed, folder)
    if re.match(_SCP_LIKE, base):
        return Address(kind=SourceKind.GIT, typed=typed, url=base, subdirectory=folder)
    return _local(Path(base).expanduser(), typed, folder)


def normalize_subdirectory(text: str) -> str:
    """Return a folder inside a repository as a normalized relative path.

    Raises:
        SourceError: the path leads out of the repository.
    """
    tidy = normpath(text.strip("/")) if text.strip("/") else "."
    if tidy == ".." or tidy.startswith("../") or ".git" in tidy.lower().split("/"):
        raise SourceError(f"The folder '{text}' after '#' leads out of the project's files")
    return "" if tidy == "." else tidy


def is_loopback(host: str) -> bool:
    """Tell whether a host name or IP address is the loopback address."""
    from ipaddress import ip_address

    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _unquoted(text: str) -> str:
    for quote in "'\"":
        if len(text) > 1 and text[0] == text[-1] == quote:
            return text[1:-1]
    return text


def _check_text(text: str) -> None:
    shown = without_credentials(text)
    if not text:
        raise SourceError("The address is empty, so there is nothing to run", hint="`proj run .` runs this folder.")
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):  # noqa: PLR2004
        raise SourceError(f"The address contains control characters: {shown!r}")
    if text.startswith("-"):
        raise SourceError(f"'{shown}' looks like an option, not like an address", hint=f"A folder? Write ./{shown}")


def _with_scheme(base: str, scheme: str, typed: str, folder: str) -> Address:
    if base[len(scheme) :].startswith("::"):
        raise SourceError(f"proj refuses '{scheme}::' addresses, because they start other programs", hint=_HINT)
    if scheme == "file":
        return _local(_path_of_file_url(base), typed, folder)
    try:
        url, credentials = split_credentials(base)
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:  # the text is not shown: an invalid port is often a password
        hint = "Write special characters of a password as %XX."
        raise SourceError("The address is not a valid URL: its host or port can't be parsed", hint=hint) from None
    if not host or host.startswith("-"):
        raise SourceError(f"'{without_credentials(typed)}' has no host name", hint=_HINT)
    if scheme not in ("https", "ssh") and not (scheme == "http" and is_loopback(host)):
        raise SourceError(f"proj can't fetch code over '{scheme}://'", context=without_credentials(typed), hint=_HINT)
    shown = without_credentials(typed).partition("?")[0] if "?" in url else without_credentials(typed)
    kind = SourceKind.ZIP if parts.path.lower().endswith(".zip") and scheme != "ssh" else SourceKind.GIT
    browser = _BROWSER.match(parts.path) if kind is SourceKind.GIT and scheme != "ssh" else None
    if kind is SourceKind.GIT:
        parts = parts._replace(path=browser["base"] if browser else parts.path.rstrip("/"), query="")
    return Address(
        kind=kind,
        typed=shown,
        url=urlunsplit(parts),
        credentials=credentials,
        subdirectory=folder,
        tail=unquote(browser["tail"]).strip("/") if browser else None,
    )


def _path_of_file_url(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        meant = f"/{parts.netloc}{parts.path}" if "@" not in parts.netloc else ""
        raise SourceError(
            f"'{without_credentials(url)}' names the host '{parts.netloc.rpartition('@')[2]}'; "
            "file:// means this machine",
            hint=f"A local path follows three slashes. Did you mean file://{meant}?" if meant else None,
        )
    return Path(unquote(parts.path))


def _local(path: Path, typed: str, folder: str) -> Address:
    shown = address_without_credentials(without_credentials(typed))
    full = Path(os.path.abspath(path))  # noqa: PTH100  # symbolic links stay as the user typed them
    if full.is_dir():
        kind = SourceKind.GIT if is_bare(full) else SourceKind.FOLDER
        return Address(kind=kind, typed=typed, path=full, subdirectory=folder)
    if full.suffix.lower() == ".zip" and full.is_file():
        return Address(kind=SourceKind.ZIP, typed=typed, path=full, subdirectory=folder)
    browser = _BROWSER.match(str(full))
    if browser and Path(browser["base"]).is_dir() and not full.exists():
        base = Path(browser["base"])
        kind = SourceKind.GIT if is_bare(base) else SourceKind.FOLDER
        return Address(kind=kind, typed=typed, path=base, subdirectory=folder, tail=browser["tail"])
    if full.exists():
        raise SourceError(
            f"'{shown}' is a file; a project is a folder, a git repository or a zip",
            hint=f"Run its folder: proj run {path.parent} -e {path.name}",
        )
    context = str(full) if shown == typed else None
    if typed.lower().startswith("file:"):
        shown, context = str(full), shown
    raise SourceError(f"There is no folder '{shown}'", context=context, hint=_near_miss(full, shown))


def _near_miss(full: Path, typed: str) -> str:
    """Suggest names like the first part of the path that does not exist; a script is no project."""
    if full.suffix in _SCRIPTS:
        return f"A script runs with -e: proj run {shlex.quote(os.path.relpath(full.parent))} -e {full.name}"
    missing = next(part for part in (*reversed(full.parents), full) if not part.exists())
    try:
        names = [entry.name for entry in missing.parent.iterdir()]
    except OSError:
        names = []
    close = near_words(missing.name, names)
    if close:
        return "Did you mean " + " or ".join(str(missing.parent / name) for name in close) + "?"
    if re.match(_SHORTHAND, typed):
        return f"A repository on GitHub? Write https://github.com/{typed}"
    return _HINT
