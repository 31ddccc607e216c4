"""Tracking places of the code that become the run itself: how its client is led there, and what that led to."""

import re
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from runner.errors import UsageError
from runner.urls import without_credentials

CLIENT_SHIM = Path(__file__).parent / "client_shim"
"""The folder that is imported from first: what is in it stands before MLflow's client."""
CLIENTS = frozenset({"mlflow", "mlflow-skinny", "mlflow-tracing"})
PORTS = {"http": 80, "https": 443}
LOOPBACK = r"localhost|::1|127(?:\.\d{1,3}){3}"
ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104  what a user wrote


_MOST_READ = 4 << 20
"""Bytes of a command's notes that are read."""
_MOST_SHOWN = 200
"""Characters that are shown of a place."""


class _Redirect(Struct, frozen=True):
    place: str
    where: str = ""


def copy_client_shim(folder: Path) -> Path:
    """Copy what stands before the client into a folder that a container sees, and return the copy."""
    copy = folder / CLIENT_SHIM.name
    for source in CLIENT_SHIM.rglob("*.py"):
        target = copy / source.relative_to(CLIENT_SHIM)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    return copy


def has_client(packages: Iterable[tuple[str, str]]) -> bool:
    """Say whether a client of MLflow is among installed packages."""
    return any(re.sub(r"[-_.]+", "-", name).lower() in CLIENTS for name, _ in packages)


def redirecting_variables(uri: str, notes: Path, hosts: Iterable[str], *, places: bool) -> dict[str, str]:
    """Return the variables that lead a client to ``uri``, from hosts (``HOST:PORT``) and with ``places`` from disk."""
    return {
        "PROJ_TRACKING_URI": uri,
        "PROJ_TRACKING_NOTES": str(notes),
        "PROJ_TRACKING_HOSTS": " ".join(hosts),
        "PROJ_TRACKING_PLACES": "yes" if places else "",
    }


def read_redirects(notes: Path, most: int) -> tuple[str, ...]:
    """Return which tracking places became the run itself, each once, in words for a person.

    Those beyond ``most`` are only counted. What a command notes beyond `_MOST_READ` bytes is left out.
    """
    if not notes.is_file():
        return ()
    with notes.open("rb") as file:
        lines = file.read(_MOST_READ).splitlines()
    found: dict[str, list[str]] = {}
    for redirect in filter(None, map(_decode, lines)):
        places = found.setdefault(without_credentials(redirect.place), [])
        if redirect.where and redirect.where not in places:
            places.append(redirect.where)
    told = [_describe(place, where) for place, where in list(found.items())[:most]]
    more = [f"{len(found) - most} more places where the code logs are this run"] if len(found) > most else []
    return (*told, *more)


def _decode(line: bytes) -> _Redirect | None:
    try:
        return msgspec.json.decode(line, type=_Redirect)
    except (msgspec.DecodeError, UnicodeDecodeError):  # two processes wrote at once, or one was killed
        return None


def _describe(place: str, where: list[str]) -> str:
    place = place if len(place) <= _MOST_SHOWN else f"{place[:_MOST_SHOWN]}…"
    others = f" and {len(where) - 1} other lines" if len(where) > 1 else ""
    named = f" ({where[0][:_MOST_SHOWN]}{others})" if where else ""
    return f"'{place}', where the code logs{named}, is this run"


def is_loopback(address: str) -> bool:
    """Say whether ``HOST:PORT`` is of this machine alone."""
    return bool(re.fullmatch(LOOPBACK, address.rpartition(":")[0].strip("[]")))


def read_served(word: str) -> str:
    """Return the ``HOST:PORT`` for which a run is to answer, as a user writes it: with or without scheme and path.

    Raises:
        UsageError: it is none.
    """
    from urllib.parse import urlsplit

    parts = urlsplit(word if "://" in word else f"//{word}")
    try:
        host, port = (parts.hostname or "").lower(), parts.port or PORTS.get(parts.scheme)
    except ValueError:
        host, port = "", None
    if not host or not port or host in ANY_ADDRESS:
        raise UsageError(
            f"--serve-as takes HOST:PORT, not {without_credentials(word)!r}",
            hint="as the code has it: 127.0.0.1:5000 on this machine, where only this machine is answered, or "
            "another machine's, in whose stead the run answers its own code",
        )
    host = "127.0.0.1" if host == "localhost" else host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
