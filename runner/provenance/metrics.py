"""Reads metrics from files, for programs that log without mlflow.

The file that ``PROJ_METRICS`` names is appended to, a line for each value: ``name=value``, ``name=value step=3``,
``{"name": "loss", "value": 0.5, "step": 3}`` or ``{"loss": 0.5, "accuracy": 0.9, "step": 3}``. Without a step the
values of a name are counted from 0. The manifest's ``metrics:`` files are JSON, YAML, or CSV and TSV with names in the
first line, of which the last line counts; nested names are joined by dots.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from runner.base.foreign_text import LARGE, Limits, decode_text, parse_json, parse_yaml, read_limited
from runner.base.masking import is_number
from runner.base.plurals import counted
from runner.model import Event, EventKind, MetricsFile, Report

MetricValue = tuple[str, float, int]
"""Name, value and step."""

_LIMITS = Limits(size=64 * 1024 * 1024)
_LARGEST_STEP = 2**63
_MOST_DIGITS = 400
"""Largest number of digits of a whole number; with more than 309 it is larger than any float."""
_COMPLAINTS = 5
"""Largest number of faulty lines that are named one by one."""
_ASSIGNMENT = r"(?P<name>[^=]*[^=\s])\s*=\s*(?P<value>\S+?)[,;]?(?:\s+step\s*=\s*(?P<step>-?\d+))?"
_STEPS = ("step", "epoch", "iteration")
_TEXTS = (".csv", ".tsv")


def read_metrics_log(path: Path, report: Report) -> list[MetricValue]:
    """Read the file of ``PROJ_METRICS``; invalid lines are skipped with a warning."""
    try:
        lines = _decode_lines(_read(path) or b"")
    except (OSError, ValueError) as error:
        _warn([f"PROJ_METRICS: {error}"], report)
        return []
    counts: dict[str, int] = {}
    values: list[MetricValue] = []
    faults: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            faults_found: list[str] = []
            found = list(_read_line(line, faults_found))
        except (ValueError, RecursionError) as error:
            faults.append(f"line {number} of PROJ_METRICS is no metric: {error}")
            continue
        faults += [f"line {number} of PROJ_METRICS: {fault}" for fault in faults_found]
        for name, value, step in found:
            values.append((name, value, counts.get(name, 0) if step is None else step))
            counts[name] = min(values[-1][2] + 1, _LARGEST_STEP - 1)
    _warn(faults, report)
    return values


def read_metrics_files(
    folder: Path, files: Iterable[MetricsFile], report: Report, *, all_due: bool = True
) -> list[MetricValue]:
    """Read the ``metrics:`` files of an entry point in the folder that the command ran in.

    A file that can't be read is said, and one that is missing where they are all due: a command that failed need not
    have come so far. When two files hold a name, the later one's gets the file's name in front: ``test.rmse``.
    """
    values: dict[str, MetricValue] = {}
    faults: list[str] = []
    for file in files:
        path = folder / file.path
        if not (all_due or path.exists()):
            continue
        try:
            found, faults_found = _read_file(path)
        except (OSError, ValueError) as error:
            faults.append(f"metrics file {file.path}: {error}")
            continue
        except RecursionError:
            faults.append(f"metrics file {file.path}: it is nested too deeply")
            continue
        faults += [f"metrics file {file.path}: {fault}" for fault in faults_found]
        for name, value, step in found:
            names = (name, f"{path.stem}.{name}", f"{file.path}.{name}")
            unique = next((one for one in names if one not in values), names[-1])
            values[unique] = (unique, value, step)
    _warn(faults, report)
    return list(values.values())


def _warn(faults: list[str], report: Report) -> None:
    for fault in faults[:_COMPLAINTS]:
        report(Event(kind=EventKind.WARNING, message=fault))
    if len(faults) > _COMPLAINTS:
        report(
            Event(kind=EventKind.WARNING, message=f"and {counted(len(faults) - _COMPLAINTS, 'more fault')} like these")
        )


def _read(path: Path) -> bytes | None:
    """Return the content of a file, or None if there is no file.

    Raises:
        ValueError: it is not a file, or too large.
    """
    if not path.exists():
        return None
    if not path.is_file():
        raise ValueError("is not a file")
    return read_limited(path, _LIMITS)


def _decode_lines(content: bytes) -> list[str]:
    """Return the lines of a file to which several programs append; a line that is not UTF-8 does not change others."""
    is_wide = content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:200]
    pieces = [content] if is_wide else content.split(b"\n")
    # `str.splitlines` would also end lines at characters that names may have, such as U+2028.
    return re.split(r"\r\n|\r|\n", "\n".join(map(decode_text, pieces)))


def _read_line(line: str, faults: list[str]) -> Iterator[tuple[str, float, int | None]]:
    if line.lstrip().startswith("{"):
        yield from _read_document(parse_json(line, parse_int=_integer), faults)
        return
    # With spaces at its start, the expression would take time with the square of their number.
    found = re.fullmatch(_ASSIGNMENT, line.strip())
    if found is None:
        raise ValueError(_short(line))
    name, value, step = found.group("name", "value", "step")
    yield name, _number(value), None if step is None else _step(int(step))


def _read_document(document: object, faults: list[str]) -> Iterator[tuple[str, float, int | None]]:
    if not isinstance(document, dict):
        raise ValueError("it is not a mapping")  # noqa: TRY004 - a fault of the data, as the others
    step = _step(document.pop("step")) if document.get("step") is not None else None
    if isinstance(document.get("name"), str) and "value" in document:
        yield document["name"], _number(document["value"]), step
        return
    numbers = list(_flatten(document, faults))
    if not numbers and not faults:
        raise ValueError("there is no number in it")
    for name, value in numbers:
        yield name, value, step


def _read_file(path: Path) -> tuple[list[MetricValue], list[str]]:
    """Return the values in a file, and the faults of skipped values.

    Raises:
        OSError: it can't be read.
        ValueError: nothing in it can be used.
    """
    content = _read(path)
    if content is None:
        raise ValueError("the command did not write it")
    text = decode_text(content)
    if path.suffix.lower() in _TEXTS:
        return _read_table(text, "\t" if path.suffix.lower() == ".tsv" else ","), []
    document = _parse(text, path.suffix.lower())
    if not isinstance(document, dict | list):
        raise ValueError("it contains no names")  # noqa: TRY004 - a fault of the data, as the others
    faults: list[str] = []
    step = 0
    if isinstance(document, dict) and _is_number(document.get("step")):
        try:
            step = _step(document.pop("step"))
        except ValueError as error:
            faults.append(f"{error}, and counts as 0")
    return [(name, value, step) for name, value in _flatten(document, faults)], faults


def _parse(text: str, suffix: str) -> object:
    if suffix == ".json":
        return parse_json(text, LARGE, parse_int=_integer)
    return parse_yaml(text, LARGE)


def _read_table(text: str, delimiter: str) -> list[MetricValue]:
    import csv
    import io

    try:
        rows = [
            row
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
            if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise ValueError(f"it is not a table: {error}") from error
    if not rows or rows[0] is rows[-1]:
        return []
    cells = {name.strip(): cell.strip() for name, cell in zip(rows[0], rows[-1], strict=False) if name.strip()}
    step = next((_step(float(cells[name])) for name in _STEPS if is_number(cells.get(name, ""))), 0)
    return [(name, _number(cell), step) for name, cell in cells.items() if name not in _STEPS and is_number(cell)]


def _flatten(document: object, faults: list[str], before: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers in a document with their paths; texts and booleans are not metrics.

    A number that no metric can have is added to ``faults``.
    """
    if isinstance(document, Mapping):
        children = [(str(name), child) for name, child in document.items()]
    elif isinstance(document, list):
        children = [(str(index), child) for index, child in enumerate(document)]
    else:
        children = []
    for name, child in children:
        way = f"{before}.{name}" if before else name
        if _is_number(child):
            try:
                yield way, _number(child)
            except ValueError as error:
                faults.append(f"'{_short(way)}' is left out: {error}")
        else:
            yield from _flatten(child, faults, way)


def _integer(digits: str) -> int:
    """Return a whole number; one with more digits than Python parses becomes a number too large for a metric."""
    return int(digits) if len(digits) <= _MOST_DIGITS else 10**_MOST_DIGITS


def _is_number(value: object) -> bool:
    # YAML 1.1 reads 1e-5, without a point, as text. The sign distinguishes it from a digest such as 12e45.
    if isinstance(value, str):
        return re.fullmatch(r"[-+]?\d+(?:\.\d*)?[eE][-+]\d{1,3}", value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _step(value: object) -> int:
    try:
        step = value if isinstance(value, int) and not isinstance(value, bool) else int(_number(value))
    except (OverflowError, ValueError):
        raise ValueError(f"the step {_short(repr(value))} is not a number") from None
    if not -_LARGEST_STEP <= step < _LARGEST_STEP:
        raise ValueError(f"the step {_short(repr(step))} is no number of 64 bits")
    return step


def _number(value: object) -> float:
    with suppress(ValueError, OverflowError):
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            return float(value)
    raise ValueError(f"{_short(repr(value))} is not a number")


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"  # noqa: PLR2004 - the width of a line
