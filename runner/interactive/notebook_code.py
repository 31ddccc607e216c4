"""Finds the code of the notebook that this process executes: what was executed, and the file of the notebook."""

import os
import sys
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, cast

from msgspec import Struct

from runner.base.foreign_text import LARGE, ForeignTextError, parse_json_as

HISTORY = "history.py"
"""The artifact with the executed cells."""
_PATIENCE = 2.0
"""Seconds for the answer of a Jupyter server on this machine."""
_MOST = 4_000_000


class _Server(Struct, frozen=True):
    """The description of a running Jupyter server, ``jpserver-PID.json`` in the folder of the connection files."""

    url: str = ""
    token: str = ""
    root_dir: str = ""


class _Kernel(Struct, frozen=True):
    id: str = ""


class _Session(Struct, frozen=True):
    """A session of a Jupyter server: https://jupyter-server.readthedocs.io/en/latest/developers/rest-api.html."""

    path: str = ""
    kernel: _Kernel = _Kernel()


class _History(Protocol):
    def get_range(self, session: int, *, raw: bool) -> Iterable[tuple[int, int, str]]:
        """Yield session, number and code of the executed cells."""
        ...


class Shell(Protocol):
    """The parts of IPython's shell that are used."""

    history_manager: _History | None
    user_ns: Mapping[str, object]
    config: Mapping[str, Mapping[str, object]]


def shell() -> Shell | None:
    """Return IPython's shell if this process is one, as the kernel of a notebook is."""
    module = sys.modules.get("IPython")
    return cast("Shell | None", module.get_ipython()) if module is not None else None


def cell_number(file: str) -> int | None:
    """Return the number of the executed cell whose frames have this file name; None for other files."""
    names = getattr(getattr(shell(), "compile", None), "_filename_map", {})
    number = names.get(file)
    return number if isinstance(number, int) else None


def executed_cells() -> str | None:
    """Return the code that IPython executed, a comment with its number before each cell; None without IPython."""
    ipython = shell()
    if ipython is None or ipython.history_manager is None:
        return None
    cells = [(number, text) for _, number, text in ipython.history_manager.get_range(0, raw=True) if number > 0]
    return "\n".join(f"# In [{number}]:\n{text.rstrip()}\n" for number, text in cells)


def notebook_file() -> Path | None:
    """Return the saved file of the notebook that this process is the kernel of; None if it is unknown.

    Visual Studio Code names it in a variable, Jupyter's server in JPY_SESSION_NAME (from version 2 on) or in its
    list of sessions, where the kernel has the name of its connection file.
    """
    for text in _candidates():
        path = Path(text)
        if path.suffix == ".ipynb" and path.is_absolute() and path.is_file():
            return path
    return None


def _candidates() -> Iterator[str]:
    ipython = shell()
    if ipython is None:
        return
    yield str(ipython.user_ns.get("__vsc_ipynb_file__", ""))
    named = os.environ.get("JPY_SESSION_NAME", "")
    yield named
    yield str(Path(named).absolute()) if named else ""
    connection = ipython.config.get("IPKernelApp", {}).get("connection_file")
    if isinstance(connection, str) and connection:
        yield from _from_servers(Path(connection))


def _from_servers(connection: Path) -> Iterator[str]:
    """Yield the notebooks that running servers connect with the kernel of a connection file."""
    identity = connection.stem.removeprefix("kernel-")
    for file in sorted(connection.parent.glob("jpserver-*.json")):
        try:
            server = parse_json_as(file.read_bytes(), _Server)
            sessions = _sessions(server)
        except (OSError, ValueError, ForeignTextError):  # an old file of a server that has ended
            continue
        for session in sessions:
            if session.kernel.id == identity:
                yield str(Path(server.root_dir) / session.path)


def _sessions(server: _Server) -> list[_Session]:
    if not server.url.startswith(("http://", "https://")):
        return []
    request = urllib.request.Request(  # noqa: S310  checked above
        f"{server.url}api/sessions", headers={"Authorization": f"token {server.token}"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_PATIENCE) as answer:
        return parse_json_as(answer.read(_MOST), list[_Session], LARGE)
