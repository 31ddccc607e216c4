"""Addresses that a client names and that the server never opens by itself: of model versions, artifacts and runs."""

import re
from urllib.parse import unquote, urlsplit

from runner.protocol.errors import ErrorCode, RefusedError

_LONGEST = 5000
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]+):", re.ASCII)
"""One letter is a drive of Windows."""

_WITHOUT_HOST = frozenset(("runs", "models", "mlflow-artifacts", "dbfs", "hdfs", "viewfs", "file"))
"""Schemes whose addresses may go on with one slash, or with a host after two."""

_NEVER = frozenset(("javascript", "vbscript", "data", "jar", "blob", "about", "view-source", "netdoc", "filesystem"))
"""Schemes that a browser or a client runs or unpacks instead of fetching something."""

_WEB = frozenset(("http", "https"))


def check_source(uri: str) -> None:
    """Refuse a source of a model version whose path leads upwards or hides something, however often it is encoded.

    Raises:
        RefusedError: it does, or names nothing.
    """
    if not is_address(uri):
        raise refused_source(uri)
    if scheme_of(uri) in ("runs", "models") and urlsplit(uri).netloc:
        raise refused_source(uri)


def check_location(uri: str) -> None:
    """Refuse a place for the artifacts of an experiment that is no address, or that has more parts than a path.

    Raises:
        RefusedError: it is none, or has a fragment or parameters.
    """
    if not is_address(uri) or "#" in uri or ";" in uri:
        raise refused_location(uri)


def check_link(uri: str) -> None:
    """Refuse a link to a run that is not one to a page.

    Raises:
        RefusedError: it leads elsewhere, or runs something.
    """
    if uri and (not is_address(uri) or scheme_of(uri) not in _WEB):
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, f"Invalid run link: '{_shown(uri)}'.")


def is_address(uri: str) -> bool:
    """Say whether a text may be the address of files: a plain path, or of a scheme that fetches them."""
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
    """Return the scheme of an address in lower case, empty where it has none."""
    found = _SCHEME.match(uri)
    return found[1].lower() if found else ""


def refused_source(uri: str) -> RefusedError:
    """Make the refusal of a source."""
    return RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, f"Invalid model version source: '{_shown(uri)}'.")


def refused_location(uri: str) -> RefusedError:
    """Make the refusal of a place for artifacts."""
    return RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, f"Invalid artifact location: '{_shown(uri)}'.")


def _decoded(uri: str) -> str:
    """Return a text without percent encoding, however often it was applied."""
    plain = uri[: _LONGEST + 1]
    while (decoded := unquote(plain)) != plain:
        plain = decoded
    return plain


def _shown(uri: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in uri[:200])
