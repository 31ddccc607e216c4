"""Reads, checks and mends the file of packed refs of the snapshot store.

Format: a header line that begins with ``#``, a line with id and name for each ref, and a line ``^ID`` below each tag;
see "packed-refs" in https://git-scm.com/docs/gitrepository-layout.
"""

import os
import re
from pathlib import Path

from runner.source.durable import write_durably

PACKED_REFS = "packed-refs"
_LINE = re.compile(rb"#[^\0\n]*\n|\^[0-9a-f]{40}\n|[0-9a-f]{40} refs/[^\0\n]+\n")


def read_packed_refs(store: Path) -> dict[str, str]:
    """Return the ids by ref; empty if there is no such file or it can't be read."""
    try:
        lines = (store / PACKED_REFS).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.split(" ", 1) for line in lines if " " in line and not line.startswith("#"))
    return {ref: commit for commit, ref in pairs}


def problem_of_packed_refs(store: Path) -> str | None:
    """Return the problem of the file, or None; git can't use a store with a damaged one."""
    try:
        lines = (store / PACKED_REFS).read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"can't be read: {error.strerror}"
    bad = sum(not _LINE.fullmatch(line) for line in lines)
    return f"has {bad} damaged lines of {len(lines)}" if bad else None


def repair_packed_refs(store: Path) -> None:
    """Remove the damaged lines; a folder in the place of the file is moved aside. The caller holds the store's lock."""
    path = store / PACKED_REFS
    if path.is_dir():
        path.rename(store.with_name(f"{PACKED_REFS}.damaged-{os.urandom(4).hex()}"))
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    write_durably(path, b"".join(line for line in lines if _LINE.fullmatch(line)))
