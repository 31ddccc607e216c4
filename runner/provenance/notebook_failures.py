"""Finds the cell of a notebook in which a command failed, from the end of its output."""

import posixpath
import re
from pathlib import Path

from msgspec import Struct

from runner.analysis.notebooks import Cell, Notebook, NotebookRun, notebook_runs, read_notebook
from runner.model import ProjectFiles

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
HEAD = re.compile(r"^(?P<name>[A-Za-z_][\w.]*) +Traceback \(most recent call last\)$", re.MULTILINE)
"""The first line of IPython's traceback; errors of syntax have none."""
CELL = re.compile(r"Cell In ?\[(?P<new>\d+)\]|Input In \[(?P<middle>\d+)\]|<ipython-input-(?P<old>\d+)-\w+>")
"""A frame in a cell: IPython from 8.7 on, from 8.0 on, and before."""
PAPERMILL_CELL = re.compile(r'^Exception encountered at "In \[(?P<count>\d+)\]":$', re.MULTILINE)
NAMED_LINE = re.compile(r", line (\d+)")
ARROW = re.compile(r"^ *-+> *(?P<line>\d+)(?: (?P<text>.*))?$", re.MULTILINE)
"""The failing line in the excerpt of a frame."""
MAX_SHOWN = 60
"""Characters of the failing line that are shown."""
MAX_ERROR = 200


class _Place(Struct, frozen=True):
    """A place in a cell: the number of its execution, the line in it and the text there, and the error."""

    count: int
    line: int | None
    text: str | None
    error: str


def find_failed_cell(output: str, command: str, project: Path, files: ProjectFiles) -> str | None:
    """Return the cell, the line in it and the error, ``train.ipynb, cell 4, line 2 'f(x)': ValueError: bad``, or None.

    The cell is counted from 1 in the notebook of the project, with text cells and without the cells that papermill
    adds; the line is counted in the cell. ``output`` is the end of the command's output, ``project`` the folder in
    which the command ran.
    """
    place = _find_place(COLOURS.sub("", output))
    if place is None:
        return None
    for run in notebook_runs(command):
        path = posixpath.normpath(run.path)
        notebook = read_notebook(files.read(path) or b"")
        number = _position(place.count, notebook, _executed(run, project)) if notebook else None
        if notebook is None or number is None:
            continue
        line = _line(notebook.cells[number], place.line)
        # The count alone does not tell which of several notebooks failed.
        if place.text is None or line == place.text:
            shown = line if len(line) <= MAX_SHOWN else f"{line[: MAX_SHOWN - 1]}…"
            where = f", line {place.line} '{shown}'" if line else ""
            return f"{path}, cell {number + 1}{where}: {place.error}"
    return None


def _find_place(output: str) -> _Place | None:
    heads = list(HEAD.finditer(output))
    start = heads[-1].start() if heads else 0
    marks = list(PAPERMILL_CELL.finditer(output))
    frame = CELL.search(output, start) if heads else next(iter(list(CELL.finditer(output))[-1:]), None)
    if frame is None and not marks:
        return None
    after = frame.end() if frame else marks[-1].end()
    arrow = ARROW.search(output, after)
    line = int(arrow["line"]) if arrow else None
    if frame and (named := NAMED_LINE.match(output, frame.end())):
        line = int(named[1])
    text = (arrow["text"] or "").strip() if arrow and line == int(arrow["line"]) else None
    counts = [int(found) for found in (frame.groups() if frame else ()) if found]
    return _Place(int(marks[-1]["count"]) if marks else counts[0], line, text, _error(output[start:], heads[-1:]))


def _error(text: str, heads: list[re.Match[str]]) -> str:
    """Return the message of the error: the last line that begins with its name."""
    name = re.escape(heads[0]["name"].rpartition(".")[2]) if heads else r"(?:Syntax|Indentation|Tab)Error"
    found = re.findall(rf"^(?:[\w.]+\.)?{name}(?::.*)?$", text, re.MULTILINE)
    return found[-1][:MAX_ERROR] if found else "an error"


def _executed(run: NotebookRun, project: Path) -> Notebook | None:
    """Return the notebook that papermill wrote; it has the number of each execution."""
    try:
        return read_notebook((project / run.output).read_bytes()) if run.output else None
    except (OSError, ValueError):
        return None


def _position(count: int, notebook: Notebook, executed: Notebook | None) -> int | None:
    """Return the position in the project's notebook of the cell that was executed as number ``count``."""
    position = -1
    for cell in executed.cells if executed else ():
        position += not cell.is_added
        if cell.execution_count == count and not cell.is_added:
            return position if position < len(notebook.cells) else None
    code = [number for number, cell in enumerate(notebook.cells) if cell.is_code]
    return code[count - 1] if executed is None and 0 < count <= len(code) else None


def _line(cell: Cell, line: int | None) -> str:
    """Return the text of a line of a cell; empty if there is no such line."""
    lines = cell.text.splitlines()
    return lines[line - 1].strip() if line is not None and 0 < line <= len(lines) else ""
