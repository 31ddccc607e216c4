"""Defines the guard of a server, which authenticates requests, and the checks that all guards share."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from runner.protocol.errors import ErrorCode, RefusedError
from runner.server.peers import Connection

OPEN_PATHS = frozenset(("/", "/health", "/version", "/openapi.json"))
"""Paths that reveal nothing about the store and need no token."""

_LOOKED_AT = (
    *(b"host", b"origin", b"authorization", b"content-type"),
    *(b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest"),
)
_MAX_HOST = 300
_MAX_TOKEN = 1024
"""Maximum characters of an Authorization header; some responses repeat it."""

_OF_FORMS = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data")
"""Content types that a page may send to another site without a CORS preflight request."""

MAX_BODY = 32 * 2**20
"""Maximum bytes of a JSON body; artifacts are streamed and have no limit."""

_RECHECK = 1.0
"""Seconds between two checks of the sender of a long body."""


class Caller(Struct, frozen=True, kw_only=True):
    """The sender of a request; ``name`` is for the log."""

    name: str
    may_write: bool


class Guard(Protocol):
    """Decides which requests are served."""

    def check(self, path: str, scope: Mapping[str, Any]) -> Caller:
        """Authenticate a request, and return its sender.

        Raises:
            RefusedError: the request is not authenticated or not allowed.
        """
        ...


class Headers(Struct, frozen=True, kw_only=True):
    """The headers that guards check; ``host`` is None unless there is exactly one Host header of a usual length.

    The fields that a browser sets (``Sec-Fetch-*``) are empty for other clients.
    """

    host: str | None
    origin: str | None
    authorization: str
    content_type: str = ""
    site: str = ""
    mode: str = ""
    destination: str = ""


def periodic_check(check: Callable[[], object] | None) -> Callable[[bool], None]:
    """Return a function that checks the sender of a long body again, at most once a second.

    Call it with True while more of the body is expected, and with False before the body is accepted. It raises
    RefusedError when the sender may not use the server any more.
    """
    checked = time.monotonic()

    def check_again(more: bool) -> None:
        nonlocal checked
        if check is not None and time.monotonic() - checked > (_RECHECK if more else _RECHECK / 10):
            check()
            checked = time.monotonic()

    return check_again


def connection_of(scope: Mapping[str, Any]) -> Connection:
    """Return the connection of a request; without a socket, its user is unknown."""
    found: Connection | None = scope.get("state", {}).get("connection")
    return Connection(None, None, None) if found is None else found


def admit(scope: Mapping[str, Any]) -> None:
    """Mark the connection of a request as authenticated."""
    connection_of(scope).is_admitted = True


def read_headers(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Read the headers that guards check; ASGI header names are in lower case."""
    found: dict[bytes, list[str]] = {name: [] for name in _LOOKED_AT}
    for name, value in headers:
        if name in found:
            found[name].append(value.decode("latin-1"))
    host, origin, authorization, content_type, *fetch = (found[name] for name in _LOOKED_AT)
    site, mode, destination = (",".join(values).lower() for values in fetch)
    return Headers(
        host=host[0].lower() if len(host) == 1 and len(host[0]) <= _MAX_HOST else None,
        origin=",".join(origin) if origin else None,
        authorization=authorization[0] if len(authorization) == 1 and len(authorization[0]) <= _MAX_TOKEN else "",
        content_type=content_type[0].partition(";")[0].strip().lower() if content_type else "",
        site=site,
        mode=mode,
        destination=destination,
    )


def check_page(method: str, headers: Headers) -> None:
    """Refuse a cross-site request of a browser (CSRF).

    Pages of this server, and links from other sites, are allowed. Old browsers without ``Sec-Fetch-Site`` can't send a
    JSON content type or a token to another site without a CORS preflight request.

    Raises:
        RefusedError: the request is a cross-site request.
    """
    if headers.origin is not None and headers.origin.lower() not in (
        f"http://{headers.host}",
        f"https://{headers.host}",
    ):
        raise RefusedError(ErrorCode.PERMISSION_DENIED, "Web pages of other sites may not use this server.")
    is_link = method == "GET" and headers.mode == "navigate" and headers.destination == "document"
    if headers.site not in ("", "none", "same-origin") and not is_link:
        raise RefusedError(ErrorCode.PERMISSION_DENIED, "Web pages of other sites may not use this server.")
    is_proven = bool(headers.authorization) or headers.origin is not None or headers.site == "same-origin"
    if method == "POST" and headers.content_type in _OF_FORMS and not is_proven:
        raise RefusedError(
            ErrorCode.BAD_REQUEST,
            f"The body is JSON; send 'Content-Type: application/json', not '{headers.content_type}'.",
        )


def check_length(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse a JSON body whose Content-Length exceeds `MAX_BODY`.

    Raises:
        RefusedError: the body is too large.
    """
    for name, value in headers:
        if name == b"content-length" and int(value) > MAX_BODY:
            raise too_large()


def too_large() -> RefusedError:
    """Build the error for a body that is too large."""
    return RefusedError(ErrorCode.RESOURCE_LIMIT_EXCEEDED, f"The body of a request can have at most {MAX_BODY} bytes.")
