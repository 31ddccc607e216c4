"""Downloads files that parameters name by URL."""

from pathlib import Path
from typing import TYPE_CHECKING

from runner.base import progress
from runner.base.files import replacing
from runner.errors import ExecutionError
from runner.settings import is_offline
from runner.urls import without_credentials

if TYPE_CHECKING:
    from urllib.request import Request

_PIECE = 1 << 18
TIMEOUT = 60.0
"""Seconds without data after which a download fails."""


def fetch(url: str, path: Path) -> None:
    """Download a file to ``path``, which appears when the download is complete; user and password of the URL are sent.

    Raises:
        ExecutionError: it can't be downloaded.
    """
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    shown = without_credentials(url)
    if is_offline():
        raise ExecutionError(
            f"'{shown}' is needed, and the network is off", hint="Leave --offline or PROJ_OFFLINE out."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            replacing(path, path.with_name(f".{path.name}.partial")) as partial,
            urlopen(_request(url), timeout=TIMEOUT) as answer,  # noqa: S310  http(s) only: PathRules
            partial.open("wb") as file,
        ):
            length = answer.headers.get("Content-Length") or ""
            progress.begin(int(length) if length.isdecimal() else None)
            while piece := answer.read(_PIECE):
                file.write(piece)
                progress.advance(len(piece))
    except (OSError, ValueError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        reason = str(error) or type(error).__name__
        raise ExecutionError(f"'{shown}' can't be downloaded", context=without_credentials(reason)) from None


def _request(url: str) -> "Request":
    """Return the request for a URL; redirects to other places do not get user and password."""
    from base64 import b64encode
    from urllib.parse import unquote, urlsplit, urlunsplit
    from urllib.request import Request

    parts = urlsplit(url)
    user, is_given, host = parts.netloc.rpartition("@")
    request = Request(urlunsplit(parts._replace(netloc=host)))  # noqa: S310  http(s) only: PathRules
    if is_given:
        request.add_unredirected_header("Authorization", f"Basic {b64encode(unquote(user).encode()).decode()}")
    return request
