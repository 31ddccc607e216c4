"""Finds files that make git wait for ever, such as a pipe with the name ``.gitignore``."""

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_NAMES = frozenset((".gitignore", ".gitattributes", ".gitmodules"))
_OWN = (
    *("HEAD", "config", "config.worktree", "index", "packed-refs", "shallow", "commondir"),
    *("info/exclude", "info/attributes", "info/sparse-checkout", "objects/info/alternates"),
)
_PATH = r"(?mi)^[ \t]*(?:path|excludesfile|attributesfile)[ \t]*=[ \t]*(\S.*)$"
_PATIENCE = 20.0
"""Seconds for searching a work tree."""


def find_blocking_file(git_dir: Path, work_tree: Path | None) -> str | None:
    """Return an error text for the first pipe, socket or device among the files that git reads by itself, or None."""
    own = [git_dir / name for name in _OWN]
    for path in (*own, *_named(git_dir), *_candidates(work_tree)):
        if _is_special(path):
            return f"{path} is a pipe, a socket or a device instead of a file, and git waits for data from it"
    return None


def _named(git_dir: Path) -> Iterator[Path]:
    """Yield the files that a repository's configuration names for git to read."""
    for config in (git_dir / "config", git_dir / "config.worktree"):
        if config.is_file():
            for name in re.findall(_PATH, config.read_text(encoding="utf-8", errors="surrogateescape")):
                yield git_dir / Path(name.strip().strip('"')).expanduser()


def _candidates(work_tree: Path | None) -> Iterator[Path]:
    end = time.monotonic() + _PATIENCE
    waiting = [str(work_tree)] if work_tree else []
    while waiting and time.monotonic() < end:  # os.walk() calls itself, and fails in deep folders
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting += [entry.path] if entry.name != ".git" else []
                elif entry.name in _NAMES:
                    yield Path(entry.path)


def _is_special(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (stat.S_ISCHR(mode) and path.resolve() != Path(os.devnull))
