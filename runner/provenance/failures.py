"""Finds the place in the project's code at which a command failed, from the end of its output."""

import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

FRAME = r'^[ \t|]*File "(?P<file>[^"\n]+)", line (?P<line>\d+)'
"""A line of Python's traceback: https://docs.python.org/3/library/traceback.html."""
SHELL = r"^(?P<file>[^\s:][^:\n]*): line (?P<line>\d+): (?P<error>[^\n]+)$"
"""An error message of bash."""
FILE_AND_LINE = r"(?P<file>/[^\s:'\"()]+):(?P<line>\d+)"
"""A place in the form of compilers, as Node.js, Julia and R with srcref print it."""
MAX_AFTER = 4_000
"""Characters of output after an error; an earlier error did not end the command."""
MAX_ERROR = 200
"""Characters of an error message that the record keeps."""
_NO_ERROR = ("Traceback (", "During handling of", "The above exception")


def find_failure(output: str, project: Path, top: Path) -> str | None:
    """Return place and error of a failure in the form of compilers, ``train.py:7: ValueError: bad``, or None.

    ``output`` is the end of the command's output, ``project`` the folder that the path is relative to, ``top`` the
    repository's folder. Frames of libraries outside ``top`` are skipped.
    """
    roots = tuple(dict.fromkeys((str(top), str(top.resolve()))))
    for line, file, error in _candidates(output):
        found = _own_path(file, project, roots)
        if found is not None:
            return f"{found}:{line}: {error}" if error else f"{found}:{line}"
    return None


def _candidates(output: str) -> Iterator[tuple[str, str, str]]:
    """Yield line, file and error of the places in an output, the most likely first."""
    frames = list(re.finditer(FRAME, output, re.MULTILINE))
    for match in reversed(frames):
        error, end = _error_after(output, match.end())
        if len(output) - end > MAX_AFTER:
            break
        yield match["line"], match["file"], error
    tail = output[-MAX_AFTER:]
    for match in reversed(list(re.finditer(SHELL, tail, re.MULTILINE))):
        yield match["line"], match["file"], match["error"][:MAX_ERROR]
    for match in re.finditer(FILE_AND_LINE, tail):
        yield match["line"], match["file"], ""


def _error_after(output: str, start: int) -> tuple[str, int]:
    """Return the message that ends the traceback of a frame, and the position after it."""
    position = start
    for line in output[start:].splitlines(keepends=True):
        text = line.rstrip().lstrip("| ")
        is_message = bool(text) and not line.lstrip("|").startswith((" ", "\t", "\n", "\r"))
        position += len(line)
        if is_message and position > start + len(line):
            return ("" if text.startswith(_NO_ERROR) else text[:MAX_ERROR]), position
    return "", position


def _own_path(file: str, project: Path, roots: Iterable[str]) -> str | None:
    """Return the path of a file of the project relative to the project folder, None for any other file."""
    absolute = posixpath.normpath(file if file.startswith("/") else f"{project}/{file}")
    for root in roots:
        if absolute.startswith(f"{root}/") and os.path.isfile(absolute):  # noqa: PTH113  # also for text of no path
            base = project if absolute.startswith(f"{project}/") else project.resolve()
            return os.path.relpath(absolute, base)
    return None
