"""Validates the URIs that clients send for model versions, artifacts and run links; the server never opens them."""

import re
from urllib.parse import unquote, urlsplit

from runner.protocol.errors import ErrorCode, RefusedError
from runner.urls import without_credentials

_LONGEST = 5000
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]+):", re.ASCII)
"""A single letter is a drive of Windows, not a scheme."""

_WITHOUT_HOST = frozenset(("runs", "models", "mlflow-artifacts", "dbfs", "hdfs", "viewfs", "file"))
"""Schemes that may be followed by one slash, or by two slashes and a host."""

_NEVER = frozenset(("javascript", "vbscript", "data", "jar", "blob", "about", "view-source", "netdoc", "filesystem"))
"""Schemes that make a browser or a client execute or unpack content."""

_WEB = frozenset(("http", "https"))


def check_source(uri: str) -> None:
    """Refuse a source of a model version that is empty, or whose path leaves its root, also when it is encoded.

    A source with a password is refused, too: everybody who reads the registry would read it.

    Raises:
        RefusedError: the source is refused.
    """
    if not is_address(uri) or _has_password(uri):
        raise refused_source(uri)
    if scheme_of(uri) in ("runs", "models") and urlsplit(uri).netloc:
        raise refused_source(uri)


def check_location(uri: str) -> None:
    """Refuse an artifact location that is not a URI of files, or that has a fragment or parameters.

    Raises:
        RefusedError: the location is refused.
    """
    if not is_address(uri) or _has_password(uri) or "#" in uri or ";" in uri:
        raise refused_location(uri)


def check_link(uri: str) -> None:
    """Refuse a link to a run that is not an HTTP or HTTPS URL.

    Raises:
        RefusedError: the link is refused.
    """
    if uri and (not is_address(uri) or scheme_of(uri) not in _WEB or _has_password(uri)):
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, f"Invalid run link: '{_shown(uri)}'.")


def is_address(uri: str) -> bool:
    """Check whether a text can be the URI of files: a plain path, or a URI with a scheme that fetches files."""
    plain = _decoded(uri)
    parts = plain.replace("\\", "/").split("/")
    if not uri or len(uri) > _LONGEST or ".." in parts or not plain.isprintable():
        return False
    scheme = scheme_of(plain)
    if scheme_of(uri) != scheme or scheme in _NEVER:
        return False
    rest = plain.partition(":")[2] if scheme else plain
    if scheme and not rest.startswith("/" if scheme in _WITHOUT_HOST else "//"):
        return False
    if re.search("file:", rest, re.IGNORECASE):
        return False
    return scheme != "file" or re.match(r"/(?!/)|//(localhost)?/", rest, re.IGNORECASE) is not None


def scheme_of(uri: str) -> str:
    """Return the scheme of a URI in lower case; empty when it has none."""
    found = _SCHEME.match(uri)
    return found[1].lower() if found else ""


def refused_source(uri: str) -> RefusedError:
    """Build the error for an invalid source."""
    return RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, f"Invalid model version source: '{_shown(uri)}'.")


def _has_password(uri: str) -> bool:
    """Check for ``user:password@``; a name without password is a container in the URIs of Azure."""
    try:
        return urlsplit(uri).password is not None
    except ValueError:
        return True


def refused_location(uri: str) -> RefusedError:
    """Build the error for an invalid artifact location."""
    return RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, f"Invalid artifact location: '{_shown(uri)}'.")


def _decoded(uri: str) -> str:
    """Remove percent encoding, also when it was applied several times."""
    plain = uri[: _LONGEST + 1]
    while (decoded := unquote(plain)) != plain:
        plain = decoded
    return plain


def _shown(uri: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in without_credentials(uri[:200]))
