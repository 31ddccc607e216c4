"""Accesses the artifacts of a server: through its proxy, or in a folder of this machine."""

import posixpath
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import quote, unquote, urlsplit

from msgspec import structs

from runner.errors import InvalidValueError, RemoteError
from runner.protocol.client_responses import FileResponse, Files, decode
from runner.store.artifact_paths import check_path, fault_of, names_of
from runner.store.artifacts import ArtifactInfo, list_artifacts, local_folder, open_artifact, write_artifact
from runner.sync.transport import PIECE, Transport

PROXY = "/api/2.0/mlflow-artifacts/artifacts"
_DEEPEST = 100
_EMPTY_FOLDERS = 2_000
"""Maximum number of consecutive folders without a file."""
_LONGEST = 3600.0
"""Maximum time in seconds to list one location."""
_FOLDERS = 100_000
"""Maximum number of folders listed in one location, because a server may return folders without end."""


class ArtifactLocation(Protocol):
    """A folder of artifacts on a server. Paths are POSIX, relative to it, and checked before use."""

    def entries(self, path: str = "") -> tuple[ArtifactInfo, ...]:
        """Return the entries of a folder by name; empty if the folder does not exist."""
        ...

    def pieces(self, path: str, size: int | None = None) -> Iterator[bytes]:
        """Yield the content of a file in pieces; ``size`` is its listed size."""
        ...

    def put(self, path: str, source: BinaryIO) -> None:
        """Store the content of a file, from its beginning."""
        ...


def find_location(uri: str, transport: Transport) -> ArtifactLocation | None:
    """Return the location for an artifact URI, or None if proj can't access it."""
    parts = urlsplit(uri)
    if parts.scheme == "mlflow-artifacts":
        ours = urlsplit(transport.access.url).netloc
        # Credentials are sent only to the host that the user named.
        return ProxiedLocation(transport, parts.path) if parts.netloc in ("", ours) else None
    if parts.scheme in ("http", "https"):
        base = f"{transport.access.url}{PROXY}"
        return ProxiedLocation(transport, uri.removeprefix(base)) if uri.startswith(f"{base}/") else None
    folder = local_folder(uri) if parts.scheme == "file" else Path(uri) if uri.startswith("/") else None
    return LocalLocation(folder) if folder is not None and _is_reachable(folder) else None


class ProxiedLocation:
    """Artifacts that the server transfers itself."""

    def __init__(self, transport: Transport, path: str) -> None:
        self._transport = transport
        self._root = unquote(path).strip("/")

    def entries(self, path: str = "") -> tuple[ArtifactInfo, ...]:
        """Return the entries of a folder by name; empty if the folder does not exist."""
        folder = "/".join(part for part in (self._root, check_path(path) if path else "") if part)
        content = self._transport.ask("GET", PROXY, query={"path": folder})
        found = decode(content, Files, self._transport.access.url).files
        infos = (_info(path, one) for one in found)
        return tuple(sorted(infos, key=lambda info: info.path))

    def pieces(self, path: str, size: int | None = None) -> Iterator[bytes]:
        """Yield the content of a file in pieces; ``size`` is its listed size.

        Raises:
            RemoteError: the file does not exist, the connection ends early, or far more data arrives than was listed.
        """
        return self._transport.pieces(self._url(path), size)

    def put(self, path: str, source: BinaryIO) -> None:
        """Send the content of a file, from its beginning.

        Raises:
            RemoteError: the server refuses the file.
            OSError: the file can't be read.
        """
        size = source.seek(0, 2)
        source.seek(0)
        self._transport.send_file(self._url(path), _Exactly(source, size), size)  # type: ignore[arg-type]

    def _url(self, path: str) -> str:
        return f"{PROXY}/{quote(f'{self._root}/{check_path(path)}')}"


class LocalLocation:
    """Artifacts in a folder that server and user share; MLflow's clients also write there directly."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def entries(self, path: str = "") -> tuple[ArtifactInfo, ...]:
        """Return the entries of a folder by name; empty if the folder does not exist."""
        return list_artifacts(self._root, path)

    def pieces(self, path: str, size: int | None = None) -> Iterator[bytes]:  # noqa: ARG002  a folder tells no lies
        """Yield the content of a file in pieces."""
        with open_artifact(self._root, path) as file:
            while piece := file.read(PIECE):
                yield piece

    def put(self, path: str, source: BinaryIO) -> None:
        """Copy the content of a file, from its beginning."""
        source.seek(0)
        write_artifact(self._root, path, iter(lambda: source.read(PIECE), b""))


class _Exactly:
    """A file object that returns exactly the announced number of bytes, even if the file grows."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(piece)
        return piece


def walk(location: ArtifactLocation, path: str = "") -> Iterator[ArtifactInfo]:
    """Yield every file below a folder of a location, and an entry with a fault for each unreadable folder.

    Raises:
        RemoteError: the listing exceeds a limit on folders, depth or time.
    """
    folders = [path]
    without_files = 0
    end = time.monotonic() + _LONGEST
    for _ in range(_FOLDERS):
        if not folders:
            return
        if time.monotonic() > end:
            raise RemoteError(f"The server did not list all artifacts within {_LONGEST / 60:.0f} minutes")
        without_files += 1
        if without_files > _EMPTY_FOLDERS:
            raise RemoteError(f"The server lists more than {_EMPTY_FOLDERS} artifact folders without a file")
        for info in location.entries(folders.pop()):
            without_files *= info.is_dir
            if not info.is_dir or info.fault is not None:
                yield info
            elif info.path.count("/") >= _DEEPEST:
                yield structs.replace(info, fault=f"It is nested in more than {_DEEPEST} folders")
            else:
                folders.append(info.path)
    raise RemoteError(f"The server lists more than {_FOLDERS} artifact folders")


def _info(folder: str, listed: FileResponse) -> ArtifactInfo:
    """Return a listed entry; a name that leads out of the folder becomes a fault."""
    path = posixpath.join(folder, posixpath.basename(listed.path.rstrip("/")))
    size = None if listed.is_dir else listed.file_size
    fault = fault_of(path)
    if fault is None:
        try:
            names_of(path)
        except InvalidValueError as error:
            fault = error.message
    return ArtifactInfo(path=path, is_dir=listed.is_dir, size=size, fault=fault)


def _is_reachable(folder: Path) -> bool:
    """Return whether a server's folder is on this machine; the run's folder itself may not exist yet."""
    return any(above.is_dir() for above in (folder, *list(folder.parents)[:3]) if above != Path("/"))
