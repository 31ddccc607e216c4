"""Finds, removes and restores credentials in URLs.

Secret parts of a URL are user and password (but the user of an ssh URL stays), the values of query parameters with
names such as ``token``, and the token in the path of a conda channel.
"""

import re
from collections.abc import Callable, Iterable, Iterator

URL = r"[A-Za-z][A-Za-z0-9+.-]{0,30}:/{1,2}[^\s'\"<>`]+"
USER = (
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,30}://)(?:"
    r"(?P<info>[^\s'\"<>`/?#]*)@"
    # A password with a slash that should have been quoted; a port is followed by one as well.
    r"|(?P<odd>[^\s'\"<>`/?#:@\[]+:(?!\d*(?:[/?#\s]|\Z))[^\s'\"<>`@]{0,300}(?:@[^\s'\"<>`/?#@]{0,300}(?=@)){0,9})@)"
)
COLLAPSED = r"(?i)(?P<scheme>(?<![a-z0-9])(?:[a-z]{1,9}\+)?(?:https?|ftps?|sftp|ssh|git|s3):/)(?!/)[^\s'\"<>`/?#]*@"
"""A URL that was taken for a path, in which two slashes became one."""
QUERY = r"(?P<start>[?&])(?P<name>[^\s'\"<>`=&#?]+)=(?P<value>[^\s'\"<>`&#]*)"
TELLING = (
    r"(?i)(?:.*[-_.])?(?:token|secret|password|passwd|passphrase|pwd|pass|auth|authorization|signature|sig|credentials?"
    r"|api[-_.]?key|access[-_.]?key|access[-_.]?key[-_.]?id|private[-_.]?key|key|jwt|sas)"
)
CHANNEL = r"(?P<before>://[^\s'\"<>`]*?/)t/(?P<token>[^/\s'\"<>`]+)/"
"""The token of a conda channel: https://docs.anaconda.com/anacondaorg/user-guide/tasks/work-with-accounts/."""
REFERENCE = r"\$\{?\w+\}?"


def without_credentials(text: str) -> str:
    """Remove the credentials of all URLs in a text."""
    if ":/" not in text:
        return text
    return re.sub(URL, lambda match: _clean(match[0]), _without_users(text))


def without_channel_tokens(text: str) -> str:
    """Remove the tokens of conda channels in a text."""
    return re.sub(CHANNEL, lambda match: match["before"], text)


def without_channel_credentials(text: str) -> str:
    """Remove users, passwords and channel tokens from the URLs in a text."""
    return without_channel_tokens(without_credentials(text))


def has_credentials(text: str) -> bool:
    """Return whether a URL in a text contains credentials; a variable reference (``${TOKEN}``) does not count."""
    if ":/" not in text:
        return False
    plain = re.sub(REFERENCE, "", text)
    return _without_users(plain, bare=_is_empty) != plain or bool(re.search(CHANNEL, plain)) or has_secret_query(plain)


def has_secret_query(text: str) -> bool:
    """Return whether a URL in a text has a secret in its query."""
    queries = (match for url in re.findall(URL, text) for match in re.finditer(QUERY, url))
    return any(match["value"] and re.fullmatch(TELLING, match["name"]) for match in queries)


def with_credentials(text: str, urls: Iterable[str]) -> str:
    """Restore credentials in a text from which they were removed; ``urls`` are URLs, or lines that contain them."""
    for url in sorted({one for line in urls for one in _urls(line)}, key=len, reverse=True):
        base = _without_ref(url.partition("#")[0])
        clean = without_credentials(base)
        if clean != base:
            bare, secret = clean.partition("://")[2], base.partition("://")[2]
            text = re.sub(rf"(?<=://){re.escape(bare)}(?=[@#\s;?&]|\Z)", lambda _, to=secret: to, text)  # type: ignore[misc]
    return text


def _urls(line: str) -> Iterator[str]:
    """Yield the complete URLs of a line; an unquoted password may contain characters that usually end a URL."""
    yield from (match[0] for match in re.finditer(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://\S+", line))


def _without_ref(url: str) -> str:
    """Remove the version at the end of the URL of a repository."""
    scheme, separator, rest = url.partition("://")
    found = re.match(USER, url)
    start = len(found[0]) - len(scheme) - len(separator) if found else 0
    return f"{scheme}{separator}{rest[:start]}{rest[start:].partition('@')[0]}" if "+" in scheme else url


def _without_users(text: str, bare: "Callable[[re.Match[str]], str] | None" = None) -> str:
    before = None
    while text != before:  # behind an empty user there may be another one
        before, text = text, re.sub(COLLAPSED, lambda match: match["scheme"], re.sub(USER, bare or _bare, text))
    return text


def _bare(match: re.Match[str]) -> str:
    """Return the start of a URL without user and password; the user of an ssh URL is kept."""
    info = match["info"] if match["info"] is not None else match["odd"]
    user = info.partition(":")[0]
    is_name = match["scheme"].lower().rpartition("+")[2] in ("ssh://", "sftp://")
    return f"{match['scheme']}{user}@" if is_name and user else match["scheme"]


def _is_empty(match: re.Match[str]) -> str:
    """Return the start of a URL without user and password, or unchanged if both are empty."""
    info = match["info"] if match["info"] is not None else match["odd"]
    return match[0] if not info.strip(":") else _bare(match)


def _clean(url: str) -> str:
    kept = re.sub(QUERY, lambda match: match["start"] if re.fullmatch(TELLING, match["name"]) else match[0], url)
    if kept == url:
        return url
    kept = re.sub(r"&{2,}", "&", kept).replace("?&", "?")
    return re.sub(r"[?&](?=#|\Z)", "", kept)
