"""Who may speak to the server: the holder of the token, from this machine, and no page in a browser."""

import hmac
from collections.abc import Iterable

from msgspec import Struct

from runner.server.answers import ErrorCode, RefusedError

OPEN_PATHS = frozenset(("/health", "/version"))
"""Paths that tell nothing about the store, so they need no token."""

MAX_BODY = 32 * 2**20
"""Bytes of a JSON body; artifacts are streamed and have no limit."""


class Guard(Struct, frozen=True, kw_only=True):
    """What a request must bring along: a Host header that names the server, and the token."""

    token: str
    hosts: frozenset[str]

    def check(self, path: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Refuse a request of a stranger.

        A page of another site can reach a loopback address, by its number or by a name that it lets point there (DNS
        rebinding): such requests carry an Origin, or a Host that is not ours.

        Raises:
            RefusedError: the request is not for this server, comes from a web page, or has no valid token.
        """
        found = {b"host": b"", b"authorization": b"", b"origin": None}
        hosts = 0
        for name, value in headers:
            hosts += name == b"host"
            if name in found:
                found[name] = value
        if hosts != 1 or (found[b"host"] or b"").decode("latin-1").lower() not in self.hosts:
            raise RefusedError(ErrorCode.PERMISSION_DENIED, "The Host header does not name this server.")
        if found[b"origin"] is not None:
            raise RefusedError(ErrorCode.PERMISSION_DENIED, "Web pages may not use this server.")
        if path not in OPEN_PATHS:
            self._check_token(found[b"authorization"] or b"")

    def _check_token(self, authorization: bytes) -> None:
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self.token.encode()):
            raise RefusedError(
                ErrorCode.CUSTOMER_UNAUTHORIZED,
                "This server belongs to one run; its token is in MLFLOW_TRACKING_TOKEN.",
            )


def loopback_guard(token: str, port: int) -> Guard:
    """Make the guard of a server on the loopback address."""
    return Guard(token=token, hosts=frozenset((f"127.0.0.1:{port}", f"localhost:{port}")))


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
