"""Reads the address and the credentials of a tracking server, with the rules of MLflow's clients."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from msgspec import Struct

from runner.base.masking import Masker
from runner.errors import UsageError
from runner.settings import open_home
from runner.store import server_keys

URI_VARIABLE = "MLFLOW_TRACKING_URI"
_USERNAME = "MLFLOW_TRACKING_USERNAME"
_PASSWORD = "MLFLOW_TRACKING_PASSWORD"  # noqa: S105  the name of a variable
_TOKEN = "MLFLOW_TRACKING_TOKEN"  # noqa: S105  likewise
_TRUE = ("1", "true", "yes", "on")
_SCHEMES = ("http", "https")
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d{1,5}(/[\w./-]*)?")


class Access(Struct, frozen=True, kw_only=True):
    """The address of a server without credentials, and how to connect to it; `authorization` is a header value."""

    url: str
    authorization: str = ""
    secrets: tuple[str, ...] = ()
    """The secrets to mask, in every form in which they may appear."""
    insecure: bool = False
    server_certificates: str | None = None
    client_certificate: str | None = None
    environ: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"Access({self.url!r})"

    @property
    def masker(self) -> Masker:
        """Return a masker for the credentials."""
        return Masker(self.secrets)


def is_remote(uri: str) -> bool:
    """Return whether a tracking URI names a server."""
    return uri.strip().lower().startswith(("http://", "https://"))


def read_access(uri: str, environ: Mapping[str, str] = os.environ) -> Access:
    """Return the access to the server at a URI; credentials in the URI override the environment, as in MLflow.

    Raises:
        UsageError: the URI is not a server address, or a named file does not exist.
    """
    parts = _split(uri.strip())
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    name = f"[{host}]" if ":" in host else host
    authorization, secrets = _credentials(parts, environ)
    return Access(
        url=f"{parts.scheme.lower()}://{name}{port}{parts.path.rstrip('/')}",
        authorization=authorization,
        secrets=secrets,
        insecure=environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in _TRUE,
        server_certificates=_file("MLFLOW_TRACKING_SERVER_CERT_PATH", environ) or _file("REQUESTS_CA_BUNDLE", environ),
        client_certificate=_file("MLFLOW_TRACKING_CLIENT_CERT_PATH", environ),
        environ={name: value for name, value in environ.items() if name.startswith("MLFLOW_HTTP_REQUEST_")},
    )


def _split(uri: str) -> SplitResult:
    try:
        parts = urlsplit(uri)
        usable = parts.scheme.lower() in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port or an incomplete IPv6 address
        usable = False
    if not usable:
        shown = Masker().text(uri)
        if _HOST_AND_PORT.fullmatch(uri):
            raise UsageError(f"'{shown}' has no protocol", hint=f"Did you mean http://{shown} or https://{shown}?")
        raise UsageError(
            f"'{shown}' is not the address of a tracking server",
            hint="Example: https://mlflow.example.org or http://127.0.0.1:5000. Databricks: its https address and "
            "MLFLOW_TRACKING_TOKEN",
        )
    return parts


def _credentials(parts: SplitResult, environ: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Return the authorization header, and the secrets in it.

    Raises:
        UsageError: the token has invalid characters.
    """
    if parts.username is not None:
        return _basic(unquote(parts.username), unquote(parts.password or ""))
    file = _file_credentials(environ)
    username = environ.get(_USERNAME) or file.get(_USERNAME.lower(), "")
    password = environ.get(_PASSWORD) or file.get(_PASSWORD.lower(), "")
    token = environ.get(_TOKEN, "")
    if username and password:
        return _basic(username, password)
    if token and not (token.isascii() and token.isprintable()):
        raise UsageError(f"{_TOKEN} has characters that are not valid in a token", hint="check it for a line break")
    token = token or _own_key(parts, environ)
    return (f"Bearer {token}", (token,)) if token else ("", ())


def _own_key(parts: SplitResult, environ: Mapping[str, str]) -> str:
    """Return the key of this user's own `proj server` at an address, or an empty string."""
    port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
    return server_keys.find(open_home(environ), parts.hostname or "", port) or ""


def _basic(username: str, password: str) -> tuple[str, tuple[str, ...]]:
    from base64 import b64encode

    encoded = b64encode(f"{username}:{password}".encode()).decode()
    # A user without a password is a token: many proxies accept this form.
    return f"Basic {encoded}", tuple(secret for secret in (password or username, encoded) if secret)


def _file_credentials(environ: Mapping[str, str]) -> dict[str, str]:
    """Read ``~/.mlflow/credentials``, which MLflow's clients use if the variables are not set."""
    if not environ.get("HOME") or (environ.get(_USERNAME) and environ.get(_PASSWORD)):
        return {}
    credentials_file = Path(environ["HOME"]) / ".mlflow" / "credentials"
    if not credentials_file.is_file():
        return {}
    from configparser import ConfigParser, Error

    parser = ConfigParser(interpolation=None)
    try:
        parser.read(credentials_file, encoding="utf-8")
    except (Error, UnicodeDecodeError):
        return {}
    return dict(parser["mlflow"]) if parser.has_section("mlflow") else {}


def _file(variable: str, environ: Mapping[str, str]) -> str | None:
    """Return the file path in an environment variable.

    Raises:
        UsageError: the file does not exist.
    """
    path = environ.get(variable)
    if path and not Path(path).exists():
        raise UsageError(f"{variable} names '{path}', which does not exist", hint="correct it, or unset it")
    return path or None
