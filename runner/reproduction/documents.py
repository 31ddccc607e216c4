"""Compares the content of two files by its meaning: values of JSON and YAML, cells of tables, arrays, pixels, archives.

Nothing is loaded that could run code: pickles and models are compared by their bytes only.
"""

import csv
import io
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

from runner.base.foreign_text import LARGE, ForeignTextError, decode_text, parse_json, parse_yaml
from runner.base.masking import is_number
from runner.reproduction.array_files import ARRAY_FORMATS, compare_array_files
from runner.reproduction.leaves import Rules, UnreadableError, compare_leaves, leaves
from runner.reproduction.model_files import compare_mlmodel, compare_skops, members_of
from runner.reproduction.verdict import Finding, Verdict

_VOLATILE_CELL = ("execution_count", "id")
_TABLES = {".csv": ",", ".tsv": "\t"}


def compare_content(name: str, original: bytes, reproduced: bytes, rules: Rules) -> Finding | None:
    """Compare two files with different bytes by their meaning.

    Returns None if their format is not known, or if one of them does not have the format that its name says.
    """
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    if suffix in ARRAY_FORMATS:
        found = compare_array_files(suffix, original, reproduced, rules)
        if found is not None:
            return found
    compare = compare_mlmodel if path.name == "MLmodel" else _COMPARERS.get(suffix)
    if compare is None:
        return None
    try:
        return compare(original, reproduced, rules)
    except (UnreadableError, ForeignTextError, ValueError, csv.Error, zipfile.BadZipFile, NotImplementedError, OSError):
        return None


def _json(original: bytes, reproduced: bytes, rules: Rules) -> Finding:
    documents = [dict(leaves(parse_json(content, LARGE))) for content in (original, reproduced)]
    return compare_leaves("JSON values", documents[0], documents[1], rules)


def _yaml(original: bytes, reproduced: bytes, rules: Rules) -> Finding:
    documents = [dict(leaves(parse_yaml(content, LARGE))) for content in (original, reproduced)]
    return compare_leaves("YAML values", documents[0], documents[1], rules)


def _notebook(original: bytes, reproduced: bytes, rules: Rules) -> Finding:
    first, second = (dict(leaves(_without_metadata(parse_json(one, LARGE)))) for one in (original, reproduced))
    return compare_leaves("cells and outputs of notebooks, without metadata and counters", first, second, rules)


def _without_metadata(notebook: object) -> object:
    """Return a notebook without what each execution changes; see nbformat 4."""
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise UnreadableError
    cells = []
    for cell in notebook["cells"]:
        if not isinstance(cell, dict):
            raise UnreadableError
        kept = {key: value for key, value in cell.items() if key != "metadata" and key not in _VOLATILE_CELL}
        if isinstance(kept.get("outputs"), list):
            kept["outputs"] = [
                {key: value for key, value in output.items() if key not in ("metadata", *_VOLATILE_CELL)}
                for output in kept["outputs"]
                if isinstance(output, dict)
            ]
        cells.append(kept)
    return {"cells": cells}


def _table(delimiter: str) -> Callable[[bytes, bytes, Rules], Finding]:
    def compare(original: bytes, reproduced: bytes, rules: Rules) -> Finding:
        first, second = (_cells(content, delimiter) for content in (original, reproduced))
        return compare_leaves("cells of tables", first, second, rules)

    return compare


def _cells(content: bytes, delimiter: str) -> dict[str, object]:
    rows = list(csv.reader(io.StringIO(decode_text(content)), delimiter=delimiter))
    header = rows[0] if rows else []
    cells: dict[str, object] = {f"header {number}": name for number, name in enumerate(header)}
    for line, row in enumerate(rows[1:], start=2):
        for number, cell in enumerate(row):
            column = header[number] if number < len(header) else str(number)
            cells[f"column {number} ({column}), line {line}"] = _cell(cell)
    return cells


def _cell(text: str) -> object:
    if not is_number(text) or re.fullmatch(r"0\d+", text.strip()):
        return text  # a text with leading zeros is an identifier
    return float(text)


def _archive(original: bytes, reproduced: bytes, rules: Rules) -> Finding:
    del rules
    digests = [members_of(content) for content in (original, reproduced)]
    found = compare_leaves("members of archives", digests[0], digests[1], ())
    if found.verdict is Verdict.IDENTICAL:
        return found
    names = sorted(name for name in {*digests[0], *digests[1]} if digests[0].get(name) != digests[1].get(name))
    detail = f"bytes differ in {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"  # noqa: PLR2004
    return Finding(verdict=Verdict.DIFFERENT, how=found.how, detail=detail)


_COMPARERS: Mapping[str, Callable[[bytes, bytes, Rules], Finding]] = {
    ".json": _json,
    ".yaml": _yaml,
    ".yml": _yaml,
    ".ipynb": _notebook,
    ".skops": compare_skops,
    ".zip": _archive,
    ".npz": _archive,  # with pickled objects, which are never loaded
    ".pt": _archive,
    ".keras": _archive,
    **{suffix: _table(delimiter) for suffix, delimiter in _TABLES.items()},
}
