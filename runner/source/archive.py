"""Downloads and unpacks zip archives, with limits on size and paths."""

import hashlib
import os
import stat
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from runner.base import progress
from runner.base.files import new_folder, remove_tree, sha256_of
from runner.base.locks import locked
from runner.errors import SourceError
from runner.model import Event, EventKind, Report
from runner.settings import Home, is_offline
from runner.source.address import is_loopback
from runner.source.credentials import Credentials

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

LARGEST_DOWNLOAD = 2 << 30
LARGEST_CONTENT = 8 << 30
MOST_FILES = 200_000

LARGEST_DIRECTORY = 24 << 20
"""Bytes of the central directory: 200,000 entries with names of 80 characters."""
LONGEST_LINK = 4096
UNSUSPICIOUS = 200 << 20
"""Unpacked bytes that are allowed for an archive of any size."""
MOST_RATIO = 250

_CHUNK = 1 << 20
_LONGEST_TAIL = 65_535 + 22 + 20
_IN_64_BITS = 0xFFFFFFFF
_TIMEOUT = 60.0


def fetch_archive(url: str, credentials: Credentials | None, home: Home, report: Report) -> Path:
    """Download a zip and return its path in proj's home, which is named by the SHA-256 of the content.

    Raises:
        SourceError: the download fails, redirects to a URL that is not https, or is larger than 2 GiB.
    """
    shown = url.partition("?")[0]
    folder = home.mirrors / "zips"
    if is_offline():
        raise SourceError(f"{shown} must be downloaded, but proj is offline", hint="Unset --offline and PROJ_OFFLINE.")
    report(Event(kind=EventKind.STEP, message=f"Fetching {shown}"))
    staging = new_folder(folder, ".new-")
    try:
        with (staging / "part").open("wb") as partial:
            digest = _download(url, credentials, partial)
        (staging / "part").replace(folder / f"{digest}.zip")
    except (OSError, ValueError) as error:
        reason = credentials.redact(str(error)) if credentials else str(error).replace(url, shown)
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
        response = build_opener(OnlyHttps).open(request, timeout=_TIMEOUT)
    except HTTPError as error:
        with error:  # the error is also the response
            raise OSError(f"{error.code} {error.reason}") from None
    with response:
        length = response.headers.get("Content-Length") or ""
        progress.begin(int(length) if length.isdecimal() else None)
        while chunk := response.read(_CHUNK):
            size += len(chunk)
            if size > LARGEST_DOWNLOAD:
                raise SourceError(f"The zip is larger than {LARGEST_DOWNLOAD >> 30} GiB; the download was stopped")
            digest.update(chunk)
            target.write(chunk)
            progress.advance(len(chunk))
    return digest.hexdigest()


def _refuse_plain(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise SourceError("The zip is not served over https", context=f"{parts.scheme}://{parts.hostname}")


def unpack(archive: Path, home: Home) -> Path:
    """Unpack a zip into a folder of proj's home, once for each content, and return that folder.

    Raises:
        SourceError: the file is not a zip, has names or links that lead out of it, or exceeds a limit.
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
        except FileExistsError as error:
            raise SourceError(f"{archive} has names that are equal on this file system", context=str(error)) from error
        except SourceError:
            raise
        except (BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError, LookupError) as error:
            raise SourceError(f"{archive} can't be unpacked", context=str(error)) from error
        except Exception as error:
            # Decompressors raise their own error types, some from modules that are not imported here.
            raise SourceError(f"{archive} is damaged", context=f"{type(error).__name__}: {error}") from error
        finally:
            if staging.exists():
                remove_tree(staging)
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    from zipfile import ZipFile

    check_directory(archive)
    with ZipFile(archive) as content:
        entries = content.infolist()
        check_entries(entries, archive)
        remaining = LARGEST_CONTENT
        links = []
        progress.begin(sum(entry.file_size for entry in entries))
        for entry in entries:
            name = _safe_name(entry.filename, archive)
            target = folder / name
            if ".git" in (part.lower() for part in name.parts):
                continue  # its configuration could start programs
            if entry.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif stat.S_ISLNK(entry.external_attr >> 16):
                links.append((target, _read_link(content, entry, archive)))
            else:
                remaining = _write(content, entry, target, remaining)
        for target, pointing in links:  # last, so that nothing is written through one
            _link(folder, target, pointing, archive)


def check_directory(archive: Path) -> None:
    """Refuse a zip whose central directory is too large to be read into memory.

    https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.14 to 4.3.16.
    """
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LONGEST_TAIL))
        tail = file.read()
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or len(tail) < at + 22:
            raise SourceError(
                f"{archive} can't be unpacked",
                context="it has no central directory: it is no zip, or it is truncated",
            )
        length = int.from_bytes(tail[at + 12 : at + 16], "little")
        if tail[max(0, at - 20) :].startswith(b"PK\x06\x07"):
            file.seek(min(size, int.from_bytes(tail[at - 12 : at - 4], "little")))
            record = file.read(56)
            length = max(length if length != _IN_64_BITS else 0, int.from_bytes(record[40:48], "little"))
    if length > LARGEST_DIRECTORY:
        raise SourceError(f"{archive} has too many files; proj unpacks at most {MOST_FILES:,}")


def check_entries(entries: "list[ZipInfo]", archive: Path, largest: int = LARGEST_CONTENT) -> None:
    """Check the declared entries of a zip; the real sizes are counted while the files are written.

    Raises:
        SourceError: there are too many files or bytes, a duplicate name, or an entry that can't be read.
    """
    from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_STORED

    if len(entries) > MOST_FILES:
        raise SourceError(f"{archive} has {len(entries):,} files; proj unpacks at most {MOST_FILES:,}")
    names: set[str] = set()
    for entry in entries:
        shown = repr(entry.filename[:200])
        if not entry.filename:
            raise SourceError(f"{archive} has a file without a name; nothing was unpacked")
        if entry.flag_bits & 1:
            raise SourceError(f"{archive} is encrypted: {shown}", hint="Unpack it and give the folder.")
        if entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED, ZIP_BZIP2):
            raise SourceError(f"{archive} uses an unsupported compression for {shown}; create it with deflate")
        if entry.filename in names:
            raise SourceError(f"{archive} has the name {shown} twice; nothing was unpacked")
        names.add(entry.filename)
    total = sum(entry.file_size for entry in entries)
    if total > largest:
        raise SourceError(f"The zip unpacks to more than {largest >> 30} GiB; nothing was unpacked")
    if total > UNSUSPICIOUS and total > MOST_RATIO * archive.stat().st_size:
        raise SourceError(f"{archive} unpacks to more than {MOST_RATIO} times its size; nothing was unpacked")


def _read_link(content: "ZipFile", entry: "ZipInfo", archive: Path) -> bytes:
    with content.open(entry) as origin:
        pointing = origin.read(LONGEST_LINK + 1)
    if not pointing or len(pointing) > LONGEST_LINK or b"\0" in pointing:
        raise SourceError(f"{archive} has a link without a target: {entry.filename[:200]!r}; nothing was unpacked")
    return pointing


def _safe_name(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name or (path.parts and path.parts[0][1:2] == ":"):
        raise SourceError(f"{archive} has a name that leads out of it: {name!r}; nothing was unpacked")
    return path


def _write(content: "ZipFile", entry: "ZipInfo", target: Path, remaining: int) -> int:
    target.parent.mkdir(parents=True, exist_ok=True)
    with content.open(entry) as origin, target.open("xb") as file:
        while chunk := origin.read(_CHUNK):
            remaining -= len(chunk)
            if remaining < 0:
                raise SourceError(f"The zip unpacks to more than {LARGEST_CONTENT >> 30} GiB; nothing was unpacked")
            file.write(chunk)
            progress.advance(len(chunk))
    if entry.external_attr >> 16 & stat.S_IXUSR:
        target.chmod(0o755)
    return remaining


def _link(folder: Path, target: Path, pointing: bytes, archive: Path) -> None:
    text = os.fsdecode(pointing)
    goal = Path(os.path.normpath(target.parent / text))
    if Path(text).is_absolute() or not goal.is_relative_to(folder):
        raise SourceError(f"{archive} has a link that leads out of it: {target.name!r}; nothing was unpacked")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(text)
