"""Where the files of a model version may be: places that a client names, and that the server never opens by itself."""

from urllib.parse import unquote, urlsplit

from runner.server.answers import ErrorCode, RefusedError

_LONGEST = 5000


def check_source(uri: str) -> None:
    """Refuse a source of a model version whose path leads upwards or hides something, however often it is encoded.

    Raises:
        RefusedError: it does, or names nothing.
    """
    plain = uri
    while (decoded := unquote(plain)) != plain:
        plain = decoded
    parts = plain.replace("\\", "/").split("/")
    if not uri or len(uri) > _LONGEST or ".." in parts or any(ord(letter) < ord(" ") for letter in plain):
        raise refused_source(uri)
    if urlsplit(uri).scheme in ("runs", "models") and urlsplit(uri).netloc:
        raise refused_source(uri)


def refused_source(uri: str) -> RefusedError:
    """Make the refusal of a source."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in uri[:200])
    return RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, f"Invalid model version source: '{shown}'.")
