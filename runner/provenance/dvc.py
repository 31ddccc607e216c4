"""Reads DVC's pointer files: which data a ``.dvc`` file stands for, and whether the data on disk is that.

The format is that of DVC 3: ``outs`` with ``path``, ``md5``, ``size`` and ``hash: md5``. Without ``hash`` it is
from DVC 2, whose digest normalizes line ends, and is recorded but not compared. The MD5 of a folder is that of
the JSON list of its files, sorted by path, and ends with ``.dir``.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from runner.base.files import DigestCache, open_regular, walk_files
from runner.base.foreign_text import SMALL, ForeignTextError, parse_yaml, read_limited

SUFFIX = ".dvc"
MOST_COMPARED = 10_000
"""Files of the largest folder whose content is compared with its pointer."""
_CHUNK = 1 << 20


class DvcOutput(Struct, frozen=True, kw_only=True):
    """The data that a pointer stands for; ``path`` is relative to the pointer's folder."""

    path: str
    md5: str
    size: int | None = None
    is_exact: bool = True
    """Whether the digest is of the bytes as they are."""


def read_pointer(pointer: Path) -> tuple[DvcOutput, ...]:
    """Return what a ``.dvc`` file stands for; empty if it has no digest.

    Raises:
        OSError: it can't be read.
        ForeignTextError: it is not YAML.
    """
    content = parse_yaml(read_limited(pointer, SMALL))
    outs = content.get("outs") if isinstance(content, dict) else None
    return tuple(_outputs(outs if isinstance(outs, list) else []))


def _outputs(outs: list[object]) -> Iterator[DvcOutput]:
    for out in outs:
        if not isinstance(out, dict):
            continue
        path, md5, size = out.get("path"), out.get("md5"), out.get("size")
        if isinstance(path, str) and isinstance(md5, str):
            yield DvcOutput(
                path=path, md5=md5, size=size if isinstance(size, int) else None, is_exact=out.get("hash") == "md5"
            )


def pointer_md5(pointer: Path) -> str | None:
    """Return the MD5 of the data that a file stands for; None if it is no pointer of DVC."""
    if pointer.suffix != SUFFIX:
        return None
    try:
        outputs = read_pointer(pointer)
    except (OSError, ForeignTextError):
        return None
    return outputs[0].md5 if outputs else None


def differs(pointer: Path, cache: DigestCache) -> str | None:
    """Return a text that says how the data beside a pointer differs from it; None if it does not, or is not there.

    Raises:
        OSError: the data can't be read.
        ForeignTextError: the pointer is not YAML.
    """
    for out in read_pointer(pointer):
        data = pointer.parent / out.path
        if not data.exists() or not out.is_exact:
            continue
        found = _folder_md5(data, cache) if data.is_dir() else cache.digest(data)
        if found not in (None, out.md5):
            return f"'{out.path}' is not what '{pointer.name}' stands for: its MD5 is {found}, not {out.md5}"
    return None


def _folder_md5(folder: Path, cache: DigestCache) -> str | None:
    """Return the MD5 of a folder as DVC writes it; None if it has too many files."""
    listed = []
    for path in walk_files(folder):
        listed.append({"md5": cache.digest(path), "relpath": path.relative_to(folder).as_posix()})
        if len(listed) > MOST_COMPARED:
            return None
    listed.sort(key=lambda one: one["relpath"])
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def md5_of(path: Path) -> str:
    """Return the MD5 of a file's content in hex.

    Raises:
        OSError: it can't be read, or is not a regular file.
    """
    digest = hashlib.md5(usedforsecurity=False)
    with open_regular(path, follow=True) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
