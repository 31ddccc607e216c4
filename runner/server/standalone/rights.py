"""Authentication of the standalone server: tokens with scopes, host names, and artifacts through the proxy."""

import base64
import binascii
import hmac
import ipaddress
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from msgspec import Struct

from runner.base.tags import RUN_ID_TAG
from runner.protocol.errors import ErrorCode, RefusedError
from runner.server.api.session import Session
from runner.server.api.sources import check_source, refused_location, refused_source, scheme_of
from runner.server.guards import OPEN_PATHS, Caller, admit, check_page, connection_of, read_headers
from runner.settings import Home
from runner.store import tokens
from runner.store.database import Database

OWNER = Caller(name="owner", may_write=True)

_PROXIED = re.compile(r"mlflow-artifacts:/+[^/]+/((?:[0-9a-f]{32}|models/m-[0-9a-f]{32})/artifacts(?:/.*)?)", re.DOTALL)


class TokenSession(Session):
    """A session of clients on other machines, which fetch and send artifacts through the server."""

    def __init__(self, home: Home) -> None:
        self._files = f"{(home.root / 'runs').absolute().as_uri()}/"

    def uri_for_client(self, uri: str) -> str:
        """Convert the URI of a file of the store to one of the proxy; return other URIs unchanged."""
        if uri.rstrip("/") == self._files.rstrip("/"):
            return "mlflow-artifacts:/runs"
        return f"mlflow-artifacts:/runs/{unquote(uri[len(self._files) :])}" if uri.startswith(self._files) else uri

    def uri_of_source(self, uri: str) -> str:
        """Convert a URI of the proxy to the one of the file in the store; return remote URIs unchanged.

        Raises:
            RefusedError: the URI is invalid, or refers to the server's disk outside the artifacts.
        """
        check_source(uri)
        proxied = _PROXIED.fullmatch(uri)
        if proxied is not None:
            return self._files + quote(proxied[1])
        if scheme_of(uri) in ("", "file", "mlflow-artifacts"):
            raise refused_source(uri)
        return uri

    def location_of(self, uri: str) -> str | None:
        """Return the artifact location of a new experiment: None for the proxy, or a remote URI.

        Raises:
            RefusedError: the location is on the server's disk.
        """
        location = super().location_of(uri)
        if location is not None and scheme_of(location) in ("", "file", "mlflow-artifacts"):
            raise refused_location(uri)
        return location

    def id_of_new_run(self, run_id: str | None, tags: Mapping[str, str]) -> str | None:
        """Return the id of a run that `proj push` sends, which also names it in the tag of pushed runs.

        Raises:
            RefusedError: the tag is absent or names another run.
        """
        if run_id is not None and tags.get(RUN_ID_TAG) != run_id:
            raise RefusedError(
                ErrorCode.INVALID_PARAMETER_VALUE,
                f"Only `proj push` chooses the id of a run: 'proj_run_id' is not the id in the tag '{RUN_ID_TAG}'.",
            )
        return run_id


class Admission:
    """Decides whether callers need a token: always, never, or (None) as soon as the first token exists."""

    def __init__(self, database: Database, needs_token: bool | None) -> None:
        self._database = database
        self._needs_token = needs_token

    def needs_token(self) -> bool:
        """Check whether callers need a token now."""
        if self._needs_token is None and tokens.any_exist(self._database):
            self._needs_token = True
        return bool(self._needs_token)


class TokenGuard(Struct, frozen=True, kw_only=True):
    """Requires a Host header that names the server, and a token when one is needed.

    ``hosts`` are names, with or without a port; with ``takes_addresses`` any IP address is accepted, because DNS
    rebinding needs a name. While no token is needed, the server is on a loopback address and serves only connections of
    the user ids ``users``; None means all users. A request with ``key`` is authenticated as the owner, because only the
    owner can read the file of the key.
    """

    database: Database
    hosts: frozenset[str]
    takes_addresses: bool
    admission: Admission
    users: frozenset[int] | None = frozenset()
    key: str = ""

    def check(self, path: str, scope: Mapping[str, Any]) -> Caller:
        """Authenticate a request, and return its sender.

        Raises:
            RefusedError: the Host header is wrong, the request is cross-site, or it has no valid token.
        """
        headers = read_headers(scope["headers"])
        host = headers.host
        if not self._is_ours(host):
            raise RefusedError(
                ErrorCode.PERMISSION_DENIED,
                "The Host header does not name this server; allow its name with `proj server --allow-host NAME`.",
            )
        check_page(scope["method"], headers)
        if path in OPEN_PATHS:
            return OWNER
        caller = self._known(headers.authorization, scope)
        admit(scope)
        return caller

    def _known(self, authorization: str, scope: Mapping[str, Any]) -> Caller:
        if self.key and authorization and hmac.compare_digest(_token_of(authorization).encode(), self.key.encode()):
            return OWNER
        if self.admission.needs_token():
            return self._holder(authorization)
        if self.users is None or connection_of(scope).user in self.users:
            return OWNER
        raise RefusedError(
            ErrorCode.CUSTOMER_UNAUTHORIZED,
            "This server has no tokens, so it serves only its own user; create a token with `proj token add NAME`.",
        )

    def _is_ours(self, host: str | None) -> bool:
        if not host:
            return False
        name = host.rsplit(":", 1)[0] if re.search(r":\d+$", host) else host
        if host in self.hosts or name in self.hosts:
            return True
        return self.takes_addresses and _is_address(name.strip("[]"))

    def _holder(self, authorization: str) -> Caller:
        text = _token_of(authorization)
        token = tokens.find(self.database, text) if text else None
        if token is None:
            raise RefusedError(
                ErrorCode.CUSTOMER_UNAUTHORIZED, "This server requires a token; set MLFLOW_TRACKING_TOKEN."
            )
        return Caller(name=token.name, may_write=token.scope is tokens.Scope.WRITE)


def _token_of(authorization: str) -> str:
    """Return the token: a bearer token, or the password of HTTP Basic, for which MLflow clients have settings."""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
