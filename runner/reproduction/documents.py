"""Compares the content of two files by its meaning: values of JSON and YAML, cells of tables, arrays, pixels, archives.

Nothing is loaded that could run code: pickles and models are compared by their bytes only.
"""

import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from runner.base.foreign_text import LARGE, ForeignTextError, decode_text, parse_json, parse_yaml
from runner.base.masking import is_number
from runner.reproduction.array_files import ARRAY_FORMATS, compare_array_files
from runner.reproduction.tolerance import Allowance, compare_numbers
from runner.reproduction.verdict import Finding, Verdict, worst

_VOLATILE_CELL = ("execution_count", "id")
_TABLES = {".csv": ",", ".tsv": "\t"}
_LARGEST_MEMBER = 256 << 20
_MOST_MEMBERS = 10_000


class UnreadableError(Exception):
    """A file does not have the format that its name says, so only its bytes can be compared."""


Rules = Sequence[Allowance]
Leaf = tuple[str, object]


def compare_content(name: str, original: bytes, reproduced: bytes, rules: Rules) -> Finding | None:
    """Compare two files with different bytes by their meaning.

    Returns None if their format is not known, or if one of them does not have the format that its name says.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in ARRAY_FORMATS:
        found = compare_array_files(suffix, original, reproduced, rules)
        if found is not None:
            return found
    compare = _COMPARERS.get(suffix)
    if compare is None:
        return None
    try:
        return compare(original, reproduced, rules)
    except (UnreadableError, ForeignTextError, ValueError, csv.Error, zipfile.BadZipFile, NotImplementedError, OSError):
        return None


def compare_leaves(how: str, original: Mapping[str, object], reproduced: Mapping[str, object], rules: Rules) -> Finding:
    """Compare the values of two documents, by their paths in them."""
    verdicts, bad, differences, used = set(), [], [], None
    for path in original.keys() & reproduced.keys():
        verdict, difference, rule = _compare_values(original[path], reproduced[path], rules)
        verdicts.add(verdict)
        used = used or rule
        if verdict is not Verdict.IDENTICAL:
            bad.append(path)
        if difference is not None:
            differences.append(difference)
    alone = sorted(original.keys() ^ reproduced.keys())
    if alone:
        verdicts.add(Verdict.DIFFERENT)
    detail = f"{len(bad)} values differ, the first is {min(bad)}" if bad else None
    if alone:
        detail = f"{len(alone)} values are in one file only, the first is {alone[0]}"
    verdict = worst(verdicts) if verdicts else Verdict.IDENTICAL
    return Finding(verdict=verdict, how=how, difference=max(differences, default=None), rule=used, detail=detail)


def _compare_values(original: object, reproduced: object, rules: Rules) -> tuple[Verdict, float | None, str | None]:
    if _is_number(original) and _is_number(reproduced):
        if type(original) is type(reproduced) and original == reproduced and isinstance(original, int):
            return Verdict.IDENTICAL, 0.0, None
        return compare_numbers(float(str(original)), float(str(reproduced)), rules)
    is_same = type(original) is type(reproduced) and original == reproduced
    return Verdict.IDENTICAL if is_same else Verdict.DIFFERENT, None, None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def leaves(document: object, path: str = "$") -> Iterator[Leaf]:
    """Yield the values of a document with their paths; an empty collection is a value itself."""
    if isinstance(document, dict) and document:
        for key, value in document.items():
            yield from leaves(value, f"{path}.{key}")
    elif isinstance(document, list) and document:
        for number, value in enumerate(document):
            yield from leaves(value, f"{path}[{number}]")
    else:
        yield path, document


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
    digests = [_members(content) for content in (original, reproduced)]
    found = compare_leaves("members of archives", digests[0], digests[1], ())
    if found.verdict is Verdict.IDENTICAL:
        return found
    names = sorted(name for name in {*digests[0], *digests[1]} if digests[0].get(name) != digests[1].get(name))
    detail = f"bytes differ in {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"  # noqa: PLR2004
    return Finding(verdict=Verdict.DIFFERENT, how=found.how, detail=detail)


def _members(content: bytes) -> dict[str, object]:
    """Return size and checksum of each member; times are left out."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        if len(entries) > _MOST_MEMBERS or sum(entry.file_size for entry in entries) > _LARGEST_MEMBER:
            raise UnreadableError
        if len({entry.filename for entry in entries}) != len(entries):
            raise UnreadableError
        return {entry.filename: archive.read(entry) for entry in entries}


_COMPARERS: Mapping[str, Callable[[bytes, bytes, Rules], Finding]] = {
    ".json": _json,
    ".yaml": _yaml,
    ".yml": _yaml,
    ".ipynb": _notebook,
    ".zip": _archive,
    ".npz": _archive,  # with pickled objects, which are never loaded
    ".pt": _archive,
    ".keras": _archive,
    **{suffix: _table(delimiter) for suffix, delimiter in _TABLES.items()},
}
