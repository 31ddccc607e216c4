"""Redirects tracking URIs in the code of a run to its own server; reads redirects and failures from notes and log."""

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from runner.base.package_names import canonical_name
from runner.base.plurals import counted
from runner.errors import UsageError
from runner.urls import without_credentials

CLIENT_SHIM = Path(__file__).parent / "client_shim"
"""The first folder on the import path; its `mlflow` package is the import shim."""
CLIENTS = frozenset({"mlflow", "mlflow-skinny", "mlflow-tracing"})
PORTS = {"http": 80, "https": 443}
LOOPBACK = r"localhost|::1|127(?:\.\d{1,3}){3}"
ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104  what a user wrote

_MAX_READ = 4 << 20
"""Maximum bytes of the notes that are read."""
_MAX_SHOWN = 200
"""Maximum characters of a tracking URI in a message."""

_REFUSED = re.compile(
    r"HTTP(?P<secure>S?)ConnectionPool\(host='(?P<host>[^'\s]+)', port=(?P<port>\d+)\): Max retries exceeded with url: "
    r"\S*/2\.0/(?:preview/)?mlflow"
)
_FAILED = re.compile(r"API request to (?P<url>https?://[^\s'\"]+?)/(?:ajax-)?api/2\.0/(?:preview/)?mlflow\S* failed")


class _Redirect(Struct, frozen=True):
    place: str
    where: str = ""


def copy_client_shim(folder: Path) -> Path:
    """Copy the client shim into a folder that is mounted in a container, and return the copy."""
    copy = folder / CLIENT_SHIM.name
    for source in CLIENT_SHIM.rglob("*.py"):
        target = copy / source.relative_to(CLIENT_SHIM)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    return copy


def has_client(packages: Iterable[tuple[str, str]]) -> bool:
    """Check whether a client of MLflow is among the installed packages."""
    return any(canonical_name(name) in CLIENTS for name, _ in packages)


def redirecting_variables(uri: str, notes: Path, hosts: Iterable[str], *, places: bool) -> dict[str, str]:
    """Return the variables that redirect a client to ``uri``, from ``hosts`` and, with ``places``, from disk."""
    return {
        "PROJ_TRACKING_URI": uri,
        "PROJ_TRACKING_NOTES": str(notes),
        "PROJ_TRACKING_HOSTS": " ".join(hosts),
        "PROJ_TRACKING_PLACES": "yes" if places else "",
    }


def read_redirects(notes: Path, most: int) -> tuple[str, ...]:
    """Return a message for each tracking URI that was redirected to the run, without duplicates.

    After ``most`` messages the rest is only counted. Notes beyond `_MAX_READ` bytes are ignored.
    """
    if not notes.is_file():
        return ()
    with notes.open("rb") as file:
        lines = file.read(_MAX_READ).splitlines()
    found: dict[str, list[str]] = {}
    for redirect in filter(None, map(_decode, lines)):
        places = found.setdefault(without_credentials(redirect.place), [])
        if redirect.where and redirect.where not in places:
            places.append(redirect.where)
    messages = [_describe(place, where) for place, where in list(found.items())[:most]]
    more = (
        [f"{counted(len(found) - most, 'more place')} where the code logs, also recorded in this run"]
        if len(found) > most
        else []
    )
    return (*messages, *more)


def _decode(line: bytes) -> _Redirect | None:
    try:
        return msgspec.json.decode(line, type=_Redirect)
    except (msgspec.DecodeError, UnicodeDecodeError):  # two processes wrote at the same time, or one was killed
        return None


def _describe(uri: str, where: list[str]) -> str:
    # The sentence is stored in the tag `proj.redirects`, so its wording does not change.
    uri = uri if len(uri) <= _MAX_SHOWN else f"{uri[:_MAX_SHOWN]}…"
    others = f" and {len(where) - 1} other lines" if len(where) > 1 else ""
    named = f" ({where[0][:_MAX_SHOWN]}{others})" if where else ""
    return f"'{uri}', where the code logs{named}, is this run"


def is_loopback(address: str) -> bool:
    """Check whether ``HOST:PORT`` is a loopback address."""
    return bool(re.fullmatch(LOOPBACK, address.rpartition(":")[0].strip("[]")))


def read_served(word: str) -> str:
    """Parse the value of --serve-as, with or without scheme and path, and return ``HOST:PORT``.

    Raises:
        UsageError: the value has no host or no port.
    """
    parts = urlsplit(word if "://" in word else f"//{word}")
    try:
        host, port = (parts.hostname or "").lower(), parts.port or PORTS.get(parts.scheme)
    except ValueError:
        host, port = "", None
    if not host or not port or host in ANY_ADDRESS:
        raise UsageError(
            f"--serve-as takes HOST:PORT, not {without_credentials(word)!r}",
            hint="use the address in the code: one of this machine, such as 127.0.0.1:5000, or one of another machine, "
            "whose requests are redirected to the run",
        )
    host = "127.0.0.1" if host == "localhost" else host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def unreachable_servers(log: str) -> tuple[str, ...]:
    """Return the URLs of the tracking servers that the client could not reach, without duplicates."""
    found: dict[str, None] = {}
    for match in _REFUSED.finditer(log):
        host = f"[{match['host'].strip('[]')}]" if ":" in match["host"] else match["host"]
        found[f"http{match['secure'].lower()}://{host}:{match['port']}"] = None
    for match in _FAILED.finditer(log) if not found else ():
        found[match["url"]] = None
    return tuple(found)
