"""Zips as sources: fetched as a stream, unpacked once, nothing outside their folder, never more than agreed."""

import hashlib
import os
import stat
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from runner.errors import SourceError
from runner.files import locked, new_folder, remove_tree, sha256_of
from runner.model import Event, EventKind, Report
from runner.settings import Home, is_offline
from runner.source.address import is_loopback
from runner.source.credentials import Credentials

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

LARGEST_DOWNLOAD = 2 << 30
LARGEST_CONTENT = 8 << 30
MOST_FILES = 200_000

_CHUNK = 1 << 20
_TIMEOUT = 60.0


def fetch_archive(url: str, credentials: Credentials | None, home: Home, report: Report) -> Path:
    """Fetch a zip and return where it lies in proj's home, by the digest of its content.

    Raises:
        SourceError: it can't be fetched, leads to an address that is not https, or is larger than 2 GiB.
    """
    shown = url.partition("?")[0]
    folder = home.mirrors / "zips"
    if is_offline():
        raise SourceError(f"{shown} is needed, and the network is off", hint="Leave --offline or PROJ_OFFLINE out.")
    report(Event(kind=EventKind.STEP, message=f"Fetching {shown}"))
    staging = new_folder(folder, ".new-")
    try:
        with (staging / "part").open("wb") as partial:
            digest = _download(url, credentials, partial)
        (staging / "part").replace(folder / f"{digest}.zip")
    except (OSError, ValueError) as error:
        reason = credentials.hidden_in(str(error)) if credentials else str(error).replace(url, shown)
        raise SourceError(f"{shown} can't be fetched", context=reason) from None
    finally:
        remove_tree(staging)
    return folder / f"{digest}.zip"


def _download(url: str, credentials: Credentials | None, target: IO[bytes]) -> str:
    import base64
    from urllib.error import HTTPError
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class OnlyHttps(HTTPRedirectHandler):
        def redirect_request(self, *given: object) -> Request | None:
            _refuse_plain(str(given[5]))
            return super().redirect_request(*given)  # type: ignore[arg-type]

    _refuse_plain(url)
    request = Request(url, headers={"User-Agent": "proj"})  # noqa: S310  # the scheme was checked
    if credentials:
        pair = f"{credentials.user}:{credentials.password}".encode()
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(pair).decode()}")
    digest, size = hashlib.sha256(), 0
    try:
        answer = build_opener(OnlyHttps).open(request, timeout=_TIMEOUT)
    except HTTPError as error:
        with error:  # it is the answer, too
            raise OSError(f"{error.code} {error.reason}") from None
    with answer:
        while chunk := answer.read(_CHUNK):
            size += len(chunk)
            if size > LARGEST_DOWNLOAD:
                raise SourceError(f"The zip is larger than {LARGEST_DOWNLOAD >> 30} GiB and was given up")
            digest.update(chunk)
            target.write(chunk)
    return digest.hexdigest()


def _refuse_plain(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise SourceError("The zip is not offered by https", context=f"{parts.scheme}://{parts.hostname}")


def unpack(archive: Path, home: Home) -> Path:
    """Unpack a zip into a folder of proj's home, once for its content, and return that folder.

    Raises:
        SourceError: it is no zip, or holds names that lead out of it, links that do, or too much.
    """
    from zipfile import BadZipFile

    try:
        digest = sha256_of(archive)
    except OSError as error:
        raise SourceError(f"{archive} can't be read", context=error.strerror) from error
    folder = home.mirrors / "zips" / digest
    if folder.is_dir():
        return folder
    with locked(folder.with_suffix(".lock")):
        if folder.is_dir():
            return folder
        staging = new_folder(folder.parent, ".new-")
        try:
            _unpack(archive, staging)
            staging.rename(folder)
        except (BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
            raise SourceError(f"{archive} can't be unpacked", context=str(error)) from error
        finally:
            if staging.exists():
                remove_tree(staging)
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    from zipfile import ZipFile

    with ZipFile(archive) as content:
        entries = content.infolist()
        if len(entries) > MOST_FILES:
            raise SourceError(f"{archive} holds {len(entries)} files; proj unpacks at most {MOST_FILES}")
        room = LARGEST_CONTENT
        links = []
        for entry in entries:
            target = folder / _safe_name(entry.filename, archive)
            if entry.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif stat.S_ISLNK(entry.external_attr >> 16):
                links.append((target, content.read(entry)[:4096]))
            else:
                room = _write(content, entry, target, room)
        for target, pointing in links:  # last, so that nothing is written through one
            _link(folder, target, pointing, archive)


def _safe_name(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name or (path.parts and path.parts[0][1:2] == ":"):
        raise SourceError(f"{archive} holds a name that leads out of it: {name!r}; nothing was unpacked")
    return path


def _write(content: "ZipFile", entry: "ZipInfo", target: Path, room: int) -> int:
    target.parent.mkdir(parents=True, exist_ok=True)
    with content.open(entry) as origin, target.open("wb") as file:
        while chunk := origin.read(_CHUNK):
            room -= len(chunk)
            if room < 0:
                raise SourceError(f"The zip unpacks to more than {LARGEST_CONTENT >> 30} GiB; nothing was unpacked")
            file.write(chunk)
    if entry.external_attr >> 16 & stat.S_IXUSR:
        target.chmod(0o755)
    return room


def _link(folder: Path, target: Path, pointing: bytes, archive: Path) -> None:
    text = os.fsdecode(pointing)
    goal = Path(os.path.normpath(target.parent / text))
    if Path(text).is_absolute() or not goal.is_relative_to(folder):
        raise SourceError(f"{archive} holds a link that leads out of it: {target.name!r}; nothing was unpacked")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(text)
