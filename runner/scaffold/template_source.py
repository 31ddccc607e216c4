"""Resolves a template: the name of a built-in one, a folder, or a git URL."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from runner.base.suggestions import nearest
from runner.errors import ScaffoldError
from runner.scaffold.releases import SCHEME, Templates, known_versions, publish
from runner.settings import Home

SHORT_URL = re.compile(r"g[hl]:[\w.-]+/[\w./-]+")
SCP_URL = re.compile(r"[\w.-]+@[\w.-]+:[\w~./-]+")
SCHEMES = ("https", "ssh", "file")


class TemplateSource(Struct, frozen=True):
    """The location of a template for copier; with ``version`` None, copier uses the latest tag."""

    place: str
    version: str | None = None


def find_template(reference: str, templates: Templates, home: Home) -> TemplateSource:
    """Return where the template is that the user named: a built-in one, a folder, or a git URL.

    Raises:
        ScaffoldError: there is no such template, or the URL is of a refused kind.
    """
    if reference in templates.names:
        return TemplateSource(f"{SCHEME}{reference}.git", publish(templates, reference, home))
    folder = Path(reference).expanduser()
    if folder.is_dir():
        return TemplateSource(str(folder.absolute()))
    if SHORT_URL.fullmatch(reference) or SCP_URL.fullmatch(reference):
        return TemplateSource(reference)
    if "://" in reference:
        return TemplateSource(_checked_url(reference))
    near = nearest(reference, templates.names)
    raise ScaffoldError(
        f"there is no template {reference!r}",
        context=f"built-in templates: {', '.join(templates.names)}",
        hint=f"did you mean {near}?" if near else "a folder or a git URL will do as well",
    )


def recorded_template(place: str, made_from: str, templates: Templates, home: Home) -> TemplateSource:
    """Return where the template is that a project was made from.

    Raises:
        ScaffoldError: it is unknown here, or its place is of a refused kind.
    """
    if not place.startswith(SCHEME):
        return find_template(place, Templates(templates.folder / "none", templates.version), home)
    name = place.removeprefix(SCHEME).removesuffix(".git")
    if name not in templates.names:
        raise ScaffoldError(
            f"this proj has no template {name!r}",
            context=f"the project was made from it; built-in templates: {', '.join(templates.names)}",
            hint="the proj that made the project, or a later one, has it",
        )
    source = find_template(name, templates, home)
    known = known_versions(name, home)
    if made_from not in known:
        raise ScaffoldError(
            f"version {made_from} of the template {name!r} is unknown here",
            context=f"known versions: {', '.join(known)}; an update merges what changed since the version used last",
            hint="install the proj that made the project once, or a later one, and run `proj update` with it",
        )
    return source


def _checked_url(reference: str) -> str:
    url = reference.removeprefix("git+")
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ScaffoldError(
            f"templates don't come by {parts.scheme or 'such URLs'}",
            context=reference,
            hint=f"use {', '.join(SCHEMES)}",
        )
    if parts.password is not None or (parts.username is not None and parts.scheme == "https"):
        raise ScaffoldError(
            "the template's URL holds credentials",
            context=f"it would be written into the project: {parts.scheme}://…@{parts.hostname}{parts.path}",
            hint="leave them out; git asks its credential helper, or use ssh",
        )
    return f"git+{url}"
