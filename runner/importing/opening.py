"""Opens the foreign store that the user names."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from runner.base.masking import Masker
from runner.errors import TransferError, UsageError
from runner.importing.database_store import DatabaseStore
from runner.importing.folder_store import META, REGISTRY, TRASH, FolderStore
from runner.importing.foreign import ForeignStore
from runner.model import Event, EventKind, Report

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_HEADER = b"SQLite format 3\0"


def open_foreign(uri: str, report: Report, proxied: Path | None = None) -> ForeignStore:
    """Open the store in a folder, a database file, or at a URI, without changing it.

    Args:
        uri: the path or URI given by the user.
        report: receives a warning for each skipped item.
        proxied: the folder behind the artifact proxy of the server that used the database.

    Raises:
        UsageError: proj does not read this kind of store.
        TransferError: there is no store.
    """
    location = _path(uri)
    if location.is_dir():
        root = _store_folder(location)
        if root != location.resolve():
            _warn_of_databases(location.resolve(), report)
        return FolderStore(root, report)
    if not location.exists():
        raise TransferError(
            f"There is no '{location}'", hint="Pass an mlruns folder or a database, for example sqlite:///mlflow.db"
        )
    if not _is_database(location):
        raise TransferError(f"'{location}' is neither a folder nor an SQLite database")
    return DatabaseStore(location.resolve(), report, proxied)


def _path(uri: str) -> Path:
    scheme = _SCHEME.match(uri)
    if scheme is None:
        return Path(uri.removeprefix("file:")).expanduser()
    kind = scheme[1].lower().partition("+")[0]
    if kind == "sqlite":
        # SQLAlchemy's rule: three slashes begin a relative path, four an absolute one.
        return Path(unquote(uri[scheme.end() + 1 :].partition("?")[0]))
    if kind == "file":
        return Path(unquote(urlsplit(uri).path))
    shown = Masker().text(uri)
    if kind in ("http", "https"):
        raise UsageError(f"'{shown}' is a server", hint=f"Copy its runs with: proj pull RUN --from {shown}")
    raise UsageError(
        f"proj can't read a store of the kind '{kind}'",
        context=shown,
        hint="Start `mlflow server` on it and copy runs with `proj pull RUN --from URL`.",
    )


def _store_folder(location: Path) -> Path:
    """Return the root of the file store at or in a folder.

    Raises:
        TransferError: there is no file store.
    """
    folder = location.resolve()
    if (folder / META).is_file():
        raise TransferError(
            f"'{location}' is part of a store",
            hint=f"Pass the whole store: {folder.parent}; select experiments with --experiment.",
        )
    if _is_store(folder):
        return folder
    if _is_store(folder / "mlruns"):
        return folder / "mlruns"
    databases = _databases(folder)
    raise TransferError(
        f"'{location}' is not an mlruns folder",
        hint=f"There is a database in it: sqlite:///{databases[0]}"
        if databases
        else f"An mlruns folder has one folder with a {META} per experiment.",
    )


def _databases(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.db") if _is_database(path))


def _warn_of_databases(folder: Path, report: Report) -> None:
    for path in _databases(folder):
        message = f"Only {folder / 'mlruns'} is read; the database '{path.name}' beside it is not"
        report(
            Event(
                kind=EventKind.WARNING,
                message=message,
                hint=f"If it is an MLflow database: proj import sqlite:///{path}",
            )
        )


def _is_store(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    return (folder / TRASH).is_dir() or any(
        (below / META).is_file() or (below.name == REGISTRY and any(below.glob(f"*/{META}")))
        for below in folder.iterdir()
        if below.is_dir()
    )


def _is_database(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_HEADER)) == _HEADER
    except OSError:
        return False
