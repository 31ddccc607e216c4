"""Builds trees that contain the files of submodules instead of links to their commits."""

import re
from collections.abc import Callable
from pathlib import Path
from posixpath import normpath
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct, structs

from runner.errors import SourceError
from runner.settings import Home
from runner.source.gitcommand import git, run_git
from runner.source.snapshot_store import has_object, new_objects, store_git_directory, temporary_index
from runner.source.transfer import copy_tree

_LINK = rb"(?s)^160000 commit ([0-9a-f]+)\t(.+)$"
_KEY = r"(?s)^submodule\.(?P<name>.+)\.(?P<key>path|url)$"


class SubmoduleTree(Struct, frozen=True, kw_only=True):
    """A submodule's tree, the folder of its objects, and the finder for its own submodules."""

    tree: str
    objects: Path
    find: "Callable[[bytes, str, str], SubmoduleTree | None]"


SubmoduleFinder = Callable[[bytes, str, str], SubmoduleTree | None]
"""Maps a submodule's path, its commit and the tree that contains it to the submodule's tree."""


def tree_with_submodules(home: Home, tree: str, objects: Path, find: SubmoduleFinder) -> str:
    """Copy a commit's tree into the snapshot store and return the tree with the files of its submodules.

    A submodule for which ``find`` returns None is left out.

    Raises:
        SnapshotError: an object is missing in a repository.
        SourceError: a submodule can't be fetched.
    """
    copy_tree(home, tree, objects)
    links = _links(home, tree)
    if not links:
        return tree
    parts: dict[bytes, str] = {}
    for path, commit in links.items():
        part = find(path, commit, tree)
        if part:
            parts[path] = tree_with_submodules(home, part.tree, part.objects, part.find)
    return _replaced(home, tree, tuple(links), parts)


def _links(home: Home, tree: str) -> dict[bytes, str]:
    lines = git(store_git_directory(home), "ls-tree", "-r", "-z", tree).split(b"\0")
    matches = (re.match(_LINK, line) for line in lines if line.startswith(b"160000 "))
    return {match[2]: match[1].decode() for match in matches if match}


def _replaced(home: Home, tree: str, links: tuple[bytes, ...], parts: dict[bytes, str]) -> str:
    index = temporary_index(home)
    try:
        with new_objects(home, index=index) as staged:
            # `read-tree --prefix` requires a work tree, but does not write to it.
            git_directory = structs.replace(staged, work_tree=index.parent)
            git(git_directory, "read-tree", tree)
            removed = b"".join(b"0 " + b"0" * 40 + b"\t" + path + b"\0" for path in links)
            git(git_directory, "update-index", "-z", "--index-info", stdin=removed)
            for path, part in parts.items():
                git(git_directory, "read-tree", f"--prefix={path.decode('utf-8', 'surrogateescape')}/", part)
            return git(git_directory, "write-tree").decode().strip()
    finally:
        index.unlink(missing_ok=True)


def submodule_urls(home: Home, tree: str) -> dict[bytes, str]:
    """Return the URL of each submodule by path, from the ``.gitmodules`` of a tree in the snapshot store."""
    if not has_object(home, f"{tree}:.gitmodules"):
        return {}
    blob = f"--blob={tree}:.gitmodules"
    done = run_git(store_git_directory(home), "config", "--null", blob, "--get-regexp", r"^submodule\..*\.(path|url)$")
    found: dict[str, dict[str, str]] = {}
    for entry in done.text.split("\0"):
        key, _, value = entry.partition("\n")
        match = re.match(_KEY, key)
        if match:
            found.setdefault(match["name"], {})[match["key"]] = value
    pairs = ((names.get("path"), names.get("url")) for names in found.values())
    return {path.encode("utf-8", "surrogateescape"): url for path, url in pairs if path and url}


def resolve_url(url: str, parent: str) -> str:
    """Return the absolute URL of a submodule; ``./`` and ``../`` are relative to the parent's URL.

    See "url" in gitmodules(5).
    """
    if not url.startswith(("./", "../")):
        return url
    if "://" in parent:
        parts = urlsplit(parent)
        path = normpath(f"{parts.path}/{url}")
        if path.startswith("/.."):
            raise SourceError(f"The submodule address '{url}' leads above {parent}")
        return urlunsplit(parts._replace(path=path))
    host, colon, path = parent.partition(":") if not parent.startswith("/") else ("", "", parent)
    return host + colon + normpath(f"{path}/{url}")
