"""Trees without holes: where a commit only points at a submodule's commit, that commit's files take the place."""

import re
from collections.abc import Callable
from pathlib import Path
from posixpath import normpath
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct, structs

from runner.errors import SourceError
from runner.settings import Home
from runner.source.gitcommand import GitDirectory, git, run_git
from runner.source.snapshot_store import has_object, new_objects, snapshot_store_git_directory, temporary_index
from runner.source.transfer import bring_tree

_LINK = rb"(?s)^160000 commit ([0-9a-f]+)\t(.+)$"
_KEY = r"(?s)^submodule\.(?P<name>.+)\.(?P<key>path|url)$"


class Part(Struct, frozen=True, kw_only=True):
    """A submodule's tree, the objects to copy it from, and how to find the submodules in it."""

    tree: str
    objects: Path
    find: "Callable[[bytes, str, str], Part | None]"


Find = Callable[[bytes, str, str], Part | None]
"""From the path of a submodule, the commit that it is at and the tree that it stands in, to what is to be put there."""


def whole_tree(home: Home, tree: str, objects: Path, find: Find) -> str:
    """Bring a commit's tree into the vault and return the tree in which submodules are replaced by their files.

    Where ``find`` has nothing to offer, nothing is put in the place.

    Raises:
        SnapshotError: something is missing in a repository.
        SourceError: a submodule can't be had.
    """
    bring_tree(home, tree, objects)
    links = _links(home, tree)
    if not links:
        return tree
    parts: dict[bytes, str] = {}
    for path, commit in links.items():
        part = find(path, commit, tree)
        if part:
            parts[path] = whole_tree(home, part.tree, part.objects, part.find)
    return _replaced(home, tree, tuple(links), parts)


def _links(home: Home, tree: str) -> dict[bytes, str]:
    lines = git(snapshot_store_git_directory(home), "ls-tree", "-r", "-z", tree).split(b"\0")
    matches = (re.match(_LINK, line) for line in lines if line.startswith(b"160000 "))
    return {match[2]: match[1].decode() for match in matches if match}


def _replaced(home: Home, tree: str, links: tuple[bytes, ...], parts: dict[bytes, str]) -> str:
    index = temporary_index(home)
    try:
        with new_objects(home, index=index) as staged:
            # `read-tree --prefix` asks for a work tree, and writes nothing to it.
            place = structs.replace(staged, work_tree=index.parent)
            git(place, "read-tree", tree)
            removed = b"".join(b"0 " + b"0" * 40 + b"\t" + path + b"\0" for path in links)
            git(place, "update-index", "-z", "--index-info", stdin=removed)
            for path, part in parts.items():
                git(place, "read-tree", f"--prefix={path.decode('utf-8', 'surrogateescape')}/", part)
            return git(place, "write-tree").decode().strip()
    finally:
        index.unlink(missing_ok=True)


def declared(home: Home, tree: str) -> dict[bytes, str]:
    """Return the URL of each submodule by path, as the ``.gitmodules`` of a tree in the vault says."""
    if not has_object(home, f"{tree}:.gitmodules"):
        return {}
    blob = f"--blob={tree}:.gitmodules"
    done = run_git(
        snapshot_store_git_directory(home), "config", "--null", blob, "--get-regexp", r"^submodule\..*\.(path|url)$"
    )
    found: dict[str, dict[str, str]] = {}
    for entry in done.text.split("\0"):
        key, _, value = entry.partition("\n")
        match = re.match(_KEY, key)
        if match:
            found.setdefault(match["name"], {})[match["key"]] = value
    pairs = ((names.get("path"), names.get("url")) for names in found.values())
    return {path.encode("utf-8", "surrogateescape"): url for path, url in pairs if path and url}


def resolve_url(url: str, parent: str) -> str:
    """Return the address of a submodule; one that begins with ``./`` or ``../`` is relative to its parent's.

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


def objects_place(objects: Path) -> GitDirectory:
    """Return where git reads commits, given a repository's folder of objects."""
    return GitDirectory(git_dir=objects.parent)
