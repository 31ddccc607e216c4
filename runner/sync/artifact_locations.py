"""Where a server keeps artifacts, as far as we can reach it: behind its proxy, or in a folder of this machine."""

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
"""Folders without a file that are looked into one after the other."""
_LONGEST = 3600.0
"""Seconds that looking through the folders of one place may take."""
_FOLDERS = 100_000
"""Folders looked into below one place at most: a server may answer without end."""


class ArtifactLocation(Protocol):
    """A folder of artifacts on a server. Paths are POSIX and relative to it; they are checked before use."""

    def entries(self, path: str = "") -> tuple[ArtifactInfo, ...]:
        """Return what is directly in a folder, by name; empty where there is no such folder."""
        ...

    def pieces(self, path: str, size: int | None = None) -> Iterator[bytes]:
        """Yield the content of a file, of which that size was listed, piece by piece."""
        ...

    def put(self, path: str, source: BinaryIO) -> None:
        """Store a file, from its beginning."""
        ...


def find_location(uri: str, transport: Transport) -> ArtifactLocation | None:
    """Return the place that a URI of artifacts names, or None where only clients with other means can go."""
    parts = urlsplit(uri)
    if parts.scheme == "mlflow-artifacts":
        ours = urlsplit(transport.access.url).netloc
        # Credentials go to no other host than the user's own.
        return ProxiedLocation(transport, parts.path) if parts.netloc in ("", ours) else None
    if parts.scheme in ("http", "https"):
        base = f"{transport.access.url}{PROXY}"
        return ProxiedLocation(transport, uri.removeprefix(base)) if uri.startswith(f"{base}/") else None
    folder = local_folder(uri) if parts.scheme == "file" else Path(uri) if uri.startswith("/") else None
    return LocalLocation(folder) if folder is not None and _is_reachable(folder) else None


class ProxiedLocation:
    """Artifacts that the server sends and takes itself."""

    def __init__(self, transport: Transport, path: str) -> None:
        self._transport = transport
        self._root = unquote(path).strip("/")

    def entries(self, path: str = "") -> tuple[ArtifactInfo, ...]:
        """Return what is directly in a folder, by name; empty where there is no such folder."""
        folder = "/".join(part for part in (self._root, check_path(path) if path else "") if part)
        content = self._transport.ask("GET", PROXY, query={"path": folder})
        found = decode(content, Files, self._transport.access.url).files
        infos = (_info(path, one) for one in found)
        return tuple(sorted(infos, key=lambda info: info.path))

    def pieces(self, path: str, size: int | None = None) -> Iterator[bytes]:
        """Yield the content of a file, of which that size was listed, piece by piece.

        Raises:
            RemoteError: the server does not have it, the connection ends too early, or far more comes than was listed.
        """
        return self._transport.pieces(self._url(path), size)

    def put(self, path: str, source: BinaryIO) -> None:
        """Send a file, from its beginning.

        Raises:
            RemoteError: the server does not take it.
            OSError: it can't be read.
        """
        size = source.seek(0, 2)
        source.seek(0)
        self._transport.send_file(self._url(path), _Exactly(source, size), size)  # type: ignore[arg-type]

    def _url(self, path: str) -> str:
        return f"{PROXY}/{quote(f'{self._root}/{check_path(path)}')}"


class LocalLocation:
    """Artifacts in a folder that server and user share, to which MLflow's clients write by themselves too."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def entries(self, path: str = "") -> tuple[ArtifactInfo, ...]:
        """Return what is directly in a folder, by name; empty where there is no such folder."""
        return list_artifacts(self._root, path)

    def pieces(self, path: str, size: int | None = None) -> Iterator[bytes]:  # noqa: ARG002  a folder tells no lies
        """Yield the content of a file piece by piece."""
        with open_artifact(self._root, path) as file:
            while piece := file.read(PIECE):
                yield piece

    def put(self, path: str, source: BinaryIO) -> None:
        """Copy a file, from its beginning."""
        source.seek(0)
        write_artifact(self._root, path, iter(lambda: source.read(PIECE), b""))


class _Exactly:
    """A file that gives just as much as was announced, also when it grows meanwhile."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(piece)
        return piece


def walk(place: ArtifactLocation, path: str = "") -> Iterator[ArtifactInfo]:
    """Yield every file below a folder of a place, and with a fault what can't be looked into.

    Raises:
        RemoteError: the server tells of more folders than there can be.
    """
    folders = [path]
    without_files = 0
    end = time.monotonic() + _LONGEST
    for _ in range(_FOLDERS):
        if not folders:
            return
        if time.monotonic() > end:
            raise RemoteError(f"The server has not told all artifacts in {_LONGEST / 60:.0f} minutes")
        without_files += 1
        if without_files > _EMPTY_FOLDERS:
            raise RemoteError(f"The server tells of more than {_EMPTY_FOLDERS} folders of artifacts without a file")
        for info in place.entries(folders.pop()):
            without_files *= info.is_dir
            if not info.is_dir or info.fault is not None:
                yield info
            elif info.path.count("/") >= _DEEPEST:
                yield structs.replace(info, fault=f"It is in more than {_DEEPEST} folders in one another")
            else:
                folders.append(info.path)
    raise RemoteError(f"The server tells of more than {_FOLDERS} folders of artifacts")


def _info(folder: str, listed: FileResponse) -> ArtifactInfo:
    """Return what a server lists in a folder; a name that leads elsewhere is no path of ours."""
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
    """Say whether a folder of a server is one of this machine: the folder of a run is made when it is needed."""
    return any(place.is_dir() for place in (folder, *list(folder.parents)[:3]) if place != Path("/"))
