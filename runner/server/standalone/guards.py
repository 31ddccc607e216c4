"""Who may speak to the server of a run: the holder of the token, from this machine, and no page in a browser."""

import hmac
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from runner.protocol.errors import ErrorCode, RefusedError
from runner.server.standalone.peers import Connection

OPEN_PATHS = frozenset(("/", "/health", "/version", "/openapi.json"))
"""Paths that tell nothing about the store, so they need no token."""

_LOOKED_AT = (
    *(b"host", b"origin", b"authorization", b"content-type"),
    *(b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest"),
)
_MAX_HOST = 300
_MAX_TOKEN = 1024
"""Characters of an Authorization header; answers repeat it."""

_OF_FORMS = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data")
"""The types of a body that a page may send to another site without being asked by its browser to wait for leave."""

MAX_BODY = 32 * 2**20
"""Bytes of a JSON body; artifacts are streamed and have no limit."""

_RECHECK = 1.0
"""Seconds between two checks of the sender of a long body."""


class Caller(Struct, frozen=True, kw_only=True):
    """Who asks; ``name`` is for the log."""

    name: str
    may_write: bool


class Guard(Protocol):
    """Whoever decides which requests are answered."""

    def check(self, path: str, scope: Mapping[str, Any]) -> Caller:
        """Return who asks.

        Raises:
            RefusedError: the request is a stranger's.
        """
        ...


class Headers(Struct, frozen=True, kw_only=True):
    """What is looked at of the head of a request; ``host`` is None where there is not exactly one of a usual length.

    The fields that a browser sets (``Sec-Fetch-*``) are empty for every other client.
    """

    host: str | None
    origin: str | None
    authorization: str
    content_type: str = ""
    site: str = ""
    mode: str = ""
    destination: str = ""


class ChildGuard(Struct, frozen=True, kw_only=True):
    """What a request must bring along: a Host header that names the server, and the token."""

    token: str
    hosts: frozenset[str]

    def check(self, path: str, scope: Mapping[str, Any]) -> Caller:
        """Refuse a request of a stranger.

        A page of another site can reach a loopback address, by its number or by a name that it lets point there (DNS
        rebinding): such requests carry an Origin, or a Host that is not ours.

        Raises:
            RefusedError: the request is not for this server, comes from a web page, or has no valid token.
        """
        headers = read_headers(scope["headers"])
        if headers.host not in self.hosts:
            raise RefusedError(ErrorCode.PERMISSION_DENIED, "The Host header does not name this server.")
        if headers.origin is not None or headers.site not in ("", "none"):
            raise RefusedError(ErrorCode.PERMISSION_DENIED, "Web pages may not use this server.")
        if path not in OPEN_PATHS:
            self._check_token(headers.authorization)
            admit(scope)
        return Caller(name="command", may_write=True)

    def _check_token(self, authorization: str) -> None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), self.token.encode()):
            raise RefusedError(
                ErrorCode.CUSTOMER_UNAUTHORIZED,
                "This server belongs to one run; its token is in MLFLOW_TRACKING_TOKEN.",
            )


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


def loopback_guard(token: str, port: int, others: Iterable[str] = ()) -> ChildGuard:
    """Make the guard of a run's server on the loopback address; ``others`` are further addresses as ``host:port``.

    A client names an address without its port where that is the usual one.
    """
    named = {f"127.0.0.1:{port}", f"localhost:{port}"}
    for address in others:
        number = address.rpartition(":")[2]
        named |= {address, *(f"{host}:{number}" for host in ("127.0.0.1", "localhost", "0.0.0.0"))}  # noqa: S104
    return ChildGuard(token=token, hosts=frozenset(named | {name.removesuffix(":80") for name in named}))


def connection_of(scope: Mapping[str, Any]) -> Connection:
    """Return the connection of a request; one without a socket has an unknown user."""
    found: Connection | None = scope.get("state", {}).get("connection")
    return Connection(None, None, None) if found is None else found


def admit(scope: Mapping[str, Any]) -> None:
    """Note that the connection of a request belongs to somebody who may use the server."""
    connection_of(scope).is_admitted = True


def read_headers(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Read the head of a request; ASGI gives names in lower case."""
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
    """Refuse a request that a page of another site makes its reader's browser send.

    Pages of this server may use it, and links from elsewhere may lead to it. A browser that says nothing of the site
    (an old one) can't set the type of a JSON body, nor a token, without asking this server first.

    Raises:
        RefusedError: it is such a request.
    """
    if headers.origin is not None and headers.origin.lower() not in (
        f"http://{headers.host}",
        f"https://{headers.host}",
    ):
        raise RefusedError(ErrorCode.PERMISSION_DENIED, "Pages of other sites may not use this server.")
    is_link = method == "GET" and headers.mode == "navigate" and headers.destination == "document"
    if headers.site not in ("", "none", "same-origin") and not is_link:
        raise RefusedError(ErrorCode.PERMISSION_DENIED, "Pages of other sites may not use this server.")
    is_proven = bool(headers.authorization) or headers.origin is not None or headers.site == "same-origin"
    if method == "POST" and headers.content_type in _OF_FORMS and not is_proven:
        raise RefusedError(
            ErrorCode.BAD_REQUEST,
            f"The body is JSON; send 'Content-Type: application/json', not '{headers.content_type}'.",
        )


def check_length(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse a JSON body that is announced as too large.

    Raises:
        RefusedError: it is.
    """
    for name, value in headers:
        if name == b"content-length" and int(value) > MAX_BODY:
            raise too_large()


def too_large() -> RefusedError:
    """Make the refusal of a body that is too large."""
    return RefusedError(ErrorCode.RESOURCE_LIMIT_EXCEEDED, f"The body of a request can have {MAX_BODY} bytes.")
