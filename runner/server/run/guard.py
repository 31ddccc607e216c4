"""Authenticates the requests to the loopback server of a run."""

import hmac
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from runner.protocol.errors import ErrorCode, RefusedError
from runner.server.guards import OPEN_PATHS, Caller, admit, read_headers


class ChildGuard(Struct, frozen=True, kw_only=True):
    """Requires a Host header that names the server, and the token of the run."""

    token: str
    hosts: frozenset[str]

    def check(self, path: str, scope: Mapping[str, Any]) -> Caller:
        """Authenticate a request.

        A page of another site can reach a loopback address, by its number or by a name that resolves to it (DNS
        rebinding); such requests have an Origin header, or a Host header that does not name this server.

        Raises:
            RefusedError: the Host header is wrong, the request is from a web page, or the token is not valid.
        """
        headers = read_headers(scope["headers"])
        if headers.host not in self.hosts:
            raise RefusedError(ErrorCode.PERMISSION_DENIED, "The Host header does not name this server.")
        if headers.origin is not None or headers.site not in ("", "none"):
            raise RefusedError(ErrorCode.PERMISSION_DENIED, "Web pages may not use the server of a run.")
        if path not in OPEN_PATHS:
            self._check_token(headers.authorization)
            admit(scope)
        return Caller(name="command", may_write=True)

    def _check_token(self, authorization: str) -> None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), self.token.encode()):
            raise RefusedError(
                ErrorCode.CUSTOMER_UNAUTHORIZED,
                "This server belongs to one run; send the token from MLFLOW_TRACKING_TOKEN.",
            )


def loopback_guard(token: str, port: int, others: Iterable[str] = ()) -> ChildGuard:
    """Build the guard of the loopback server of a run; ``others`` are further addresses as ``host:port``.

    Clients leave the default port 80 out of the Host header.
    """
    named = {f"127.0.0.1:{port}", f"localhost:{port}"}
    for address in others:
        number = address.rpartition(":")[2]
        named |= {address, *(f"{host}:{number}" for host in ("127.0.0.1", "localhost", "0.0.0.0"))}  # noqa: S104
    return ChildGuard(token=token, hosts=frozenset(named | {name.removesuffix(":80") for name in named}))
