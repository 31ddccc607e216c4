"""Reads one requirement line: its name and rule where it has the plain form, else only the name that it installs.

The forms are those of https://pip.pypa.io/en/stable/reference/requirements-file-format/.
"""

import posixpath
import re
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from runner.environments.repair.import_names import normalise

_NAME = r"(?P<name>[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)\s*(?P<extras>\[[\w\s.,-]*\])?"
_VERSIONS = r"(?:(?:\(?\s*[=<>!~]|\(\s*\d)[^;@/$]*)?"
PLAIN = re.compile(rf"{_NAME}\s*(?P<rest>(?:{_VERSIONS}|(?<=\s)\d[\w.*+!-]*\s*)(?:;[^@$]*)?)", re.ASCII)
"""A name with versions and a marker. A URL, a path, an option or a variable is none of these."""
DIRECT = re.compile(rf"{_NAME}\s*@\s*(?:[\w.+-]+://|file:|\$|\.{{0,2}}/)", re.ASCII)
OPTION = re.compile(r"\s--?[A-Za-z]")
EGG = re.compile(r"[#&]egg=(?P<name>[\w.-]+)")
VERSION_CONTROL = ("git", "hg", "svn", "bzr")
ARCHIVE_OF_REPOSITORY = re.compile(r"/(?P<name>[^/]+?)(?:\.git)?/(?:-/)?(?:archive|tarball|zipball|get)(?:/|\.)")
SOURCE_ARCHIVE = re.compile(r"(?P<name>.+?)-\d[^/]*\.(?:tar\.\w+|tgz|zip)", re.IGNORECASE)


class Requirement(Struct, frozen=True):
    """A requirement line of the plain form: name, extras with brackets, and the rest."""

    name: str
    extras: str
    rest: str


def parse_line(line: str) -> Requirement | None:
    """Return a plain requirement; None for a URL, a path, a line with options and one with ``${VARIABLE}``."""
    match = PLAIN.fullmatch(line.strip())
    if not match or OPTION.search(line):
        return None
    return Requirement(match["name"], match["extras"] or "", match["rest"].strip())


def name_of(line: str) -> str | None:
    """Return the normalised name of the package that a line of any form most likely installs, None if none is told."""
    text = line.strip()
    match = EGG.search(text) or DIRECT.match(text) or re.match(rf"{_NAME}\s*(?=$|[=<>!~;(\s])", text, re.ASCII)
    if match:
        return normalise(match["name"])
    place = re.split(r"\s", text, maxsplit=1)[0]
    found = _name_of_place(place)
    return normalise(found) if found else None


def _name_of_place(place: str) -> str | None:
    """Return the name that the last part of a URL or path tells."""
    try:
        path = unquote(urlsplit(place).path)
    except ValueError:
        return None
    last = posixpath.basename(path.rstrip("/"))
    if last.endswith(".whl"):
        return last.partition("-")[0]
    if place.partition("+")[0] in VERSION_CONTROL:
        return last.partition("@")[0].removesuffix(".git") or None
    match = ARCHIVE_OF_REPOSITORY.search(path) or SOURCE_ARCHIVE.fullmatch(last)
    return match["name"] if match else None
