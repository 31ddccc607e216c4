"""Parses one requirement line: name and version rule of the plain form, else only the package name.

The forms are those of https://pip.pypa.io/en/stable/reference/requirements-file-format/.
"""

import posixpath
import re
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from runner.base.package_names import canonical_name

_NAME = r"(?P<name>[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)\s*(?P<extras>\[[\w\s.,-]*\])?"
_VERSIONS = r"(?:(?:\(?\s*[=<>!~]|\(\s*\d)[^;@/$]*)?"
PLAIN = re.compile(rf"{_NAME}\s*(?P<rest>(?:{_VERSIONS}|(?<=\s)\d[\w.*+!-]*\s*)(?:;[^@$]*)?)", re.ASCII)
"""A name with versions and a marker; no URL, path, option or variable."""
DIRECT = re.compile(rf"{_NAME}\s*@\s*(?:[\w.+-]+://|file:|\$|\.{{0,2}}/)", re.ASCII)
OPTION = re.compile(r"\s--?[A-Za-z]")
EGG = re.compile(r"[#&]egg=(?P<name>[\w.-]+)")
VERSION_CONTROL = ("git", "hg", "svn", "bzr")
ARCHIVE_OF_REPOSITORY = re.compile(r"/(?P<name>[^/]+?)(?:\.git)?/(?:-/)?(?:archive|tarball|zipball|get)(?:/|\.)")
SOURCE_ARCHIVE = re.compile(r"(?P<name>.+?)-\d[^/]*\.(?:tar\.\w+|tgz|zip)", re.IGNORECASE)


class Requirement(Struct, frozen=True):
    """A requirement line of the plain form: name, extras with brackets, and the remaining text."""

    name: str
    extras: str
    rest: str


def parse_line(line: str) -> Requirement | None:
    """Parse a plain requirement. Return None for a URL, a path, or a line with options or ``${VARIABLE}``."""
    match = PLAIN.fullmatch(line.strip())
    if not match or OPTION.search(line):
        return None
    return Requirement(match["name"], match["extras"] or "", match["rest"].strip())


def name_of(line: str) -> str | None:
    """Return the canonical name of the package that a line of any form most likely installs, None if it has none."""
    text = line.strip()
    match = EGG.search(text) or DIRECT.match(text) or re.match(rf"{_NAME}\s*(?=$|[=<>!~;(\s])", text, re.ASCII)
    if match:
        return canonical_name(match["name"])
    location = re.split(r"\s", text, maxsplit=1)[0]
    found = _name_in_location(location)
    return canonical_name(found) if found else None


def _name_in_location(location: str) -> str | None:
    """Return the package name in the last part of a URL or path, None if there is none."""
    try:
        path = unquote(urlsplit(location).path)
    except ValueError:
        return None
    last = posixpath.basename(path.rstrip("/"))
    if last.endswith(".whl"):
        return last.partition("-")[0]
    if location.partition("+")[0] in VERSION_CONTROL:
        return last.partition("@")[0].removesuffix(".git") or None
    match = ARCHIVE_OF_REPOSITORY.search(path) or SOURCE_ARCHIVE.fullmatch(last)
    return match["name"] if match else None
