"""Reads Jupyter notebooks, and finds those that a command executes."""

import codecs
import re
import shlex
from collections.abc import Iterator, Sequence

from msgspec import Struct

from runner.base.foreign_text import NOTEBOOK, ForeignTextError, parse_json_as

SUFFIX = ".ipynb"
PAPERMILL = "papermill"
NBCONVERT = "nbconvert"
KERNEL = "ipykernel"
PARAMETERS_TAG = "parameters"
"""The tag of the cell after which papermill puts the parameters."""
ADDED_TAGS = frozenset({"injected-parameters", "papermill-error-cell-tag"})
"""Tags of the cells that papermill adds to an executed notebook."""
_SEPARATORS = frozenset({";", "&&", "||", "|", "&", "(", ")"})
_BEFORE_PROGRAM = re.compile(r"[A-Za-z_]\w*=|(.*/)?(exec|env|time|nice)$")


class _CellMetadata(Struct, frozen=True):
    tags: list[str] = []


class Cell(Struct, frozen=True):
    """A cell, as in the format of notebooks: https://nbformat.readthedocs.io/en/latest/format_description.html."""

    cell_type: str = ""
    source: str | list[str] = ""
    metadata: _CellMetadata = _CellMetadata()
    execution_count: int | None = None

    @property
    def text(self) -> str:
        """The source as one text."""
        return "".join(self.source)

    @property
    def is_code(self) -> bool:
        """Whether the kernel executes the cell; clients skip cells without text."""
        return self.cell_type == "code" and bool(self.text.strip())

    @property
    def is_added(self) -> bool:
        """Whether papermill added the cell."""
        return not ADDED_TAGS.isdisjoint(self.metadata.tags)


class _Kernel(Struct, frozen=True):
    name: str = ""
    language: str = ""


class _Language(Struct, frozen=True):
    name: str = ""


class _Metadata(Struct, frozen=True):
    kernelspec: _Kernel = _Kernel()
    language_info: _Language = _Language()


class Notebook(Struct, frozen=True):
    """The parts of a notebook that proj uses."""

    cells: list[Cell] = []
    metadata: _Metadata = _Metadata()

    @property
    def is_python(self) -> bool:
        """Whether its code is Python, also if it does not say."""
        language = self.metadata.kernelspec.language or self.metadata.language_info.name or "python"
        return language.lower() in ("python", "python3", "ipython")

    @property
    def has_parameters(self) -> bool:
        """Whether it has a cell for parameters."""
        return any(PARAMETERS_TAG in cell.metadata.tags for cell in self.cells)


class NotebookRun(Struct, frozen=True):
    """The execution of a notebook: the program, the path of the notebook, and the one that papermill writes."""

    tool: str
    path: str
    output: str | None = None


def read_notebook(content: bytes) -> Notebook | None:
    """Return a notebook, None if the content is not one."""
    try:
        return parse_json_as(content.removeprefix(codecs.BOM_UTF8), Notebook, NOTEBOOK)
    except ForeignTextError:
        return None


def notebook_runs(command: str) -> tuple[NotebookRun, ...]:
    """Return the notebooks that a command executes with papermill or ``nbconvert --execute``."""
    found = (_run_of(words) for words in _commands(command))
    return tuple(dict.fromkeys(run for run in found if run is not None))


def notebook_words(command: str) -> tuple[str, ...]:
    """Return the words of a command that are paths of notebooks."""
    return tuple(dict.fromkeys(word for words in _commands(command) for word in words if word.endswith(SUFFIX)))


def _commands(command: str) -> Iterator[list[str]]:
    """Yield the words of each simple command; nothing if the quotes do not match."""
    try:
        lexer = shlex.shlex(command.replace("\\\n", " ").replace("\n", " ; "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        tokens = list(lexer)
    except ValueError:
        return
    words: list[str] = []
    for token in [*tokens, ";"]:
        if token in _SEPARATORS:
            if words:
                yield words
            words = []
        else:
            words.append(token)


def _run_of(words: Sequence[str]) -> NotebookRun | None:
    """Return the notebook that a simple command executes, or None."""
    for number, word in enumerate(words):
        name = word.rpartition("/")[2]
        after = words[number + 1 :]
        paths = [one for one in after if one.endswith(SUFFIX) and not one.startswith("-")]
        if not paths:
            return None
        if name == PAPERMILL and _is_program(words, number):
            return NotebookRun(PAPERMILL, *paths[:2])
        is_converter = name == "jupyter-nbconvert" or (name == NBCONVERT and _is_program(words, number))
        if is_converter and "--execute" in after:
            return NotebookRun(NBCONVERT, paths[0])
    return None


def _is_program(words: Sequence[str], number: int) -> bool:
    """Return whether a word is the program: the first one, after assignments, after ``-m``, or of ``jupyter``."""
    before = words[number - 1] if number else ""
    return (
        not number
        or before in ("-m", "jupyter")
        or bool(re.match(r"[A-Za-z_]\w*=|(.*/)?(exec|env|time|nice)$", before))
    )
