"""Parses the metric files of the file store: one file per metric, with time, value and step per line."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from runner.errors import InvalidValueError, TransferError
from runner.importing.files import open_regular
from runner.store.entities import Metric
from runner.store.rules import check_name

_MAX_LINE = 2000
_INT64 = 2**63
_RUN_ID = re.compile(rb"[0-9a-f]{32}")

Warn = Callable[[str], None]


def metric_points(name: str, path: Path, warn: Warn) -> Iterator[Metric]:
    """Yield the points in a metric file of a run.

    An incomplete last line, as a killed process leaves it, is skipped with a warning.

    Raises:
        TransferError: a line is not a valid point.
    """
    try:
        check_name("metric", name)
    except InvalidValueError as error:
        warn(f"Skipped: {error.message} ({path})")
        return
    fields = 0
    for number, line in _lines(path):
        parts = line.split()
        torn = not line.endswith(b"\n") and len(parts) < fields
        point = None if torn else _point(name, parts)
        if point is None:
            if not line.endswith(b"\n"):
                warn(f"Skipped: the last line of {path}, line {number}, is incomplete")
                return
            raise _malformed(path, number, line)
        fields = len(parts)
        yield point


def model_points(name: str, path: Path) -> Iterator[Metric]:
    """Yield the points in a metric file of a logged model; each names its run and may name a dataset.

    Raises:
        TransferError: a line is not a valid point.
    """
    for number, line in _lines(path):
        parts = line.split(b" ")
        point = _point(name, parts)
        if point is None or len(parts) < 4 or not _RUN_ID.fullmatch(parts[3].strip()):  # noqa: PLR2004
            raise _malformed(path, number, line)
        fields = [part.decode("utf-8", "replace").strip() for part in parts]
        named = len(fields) > 5  # noqa: PLR2004
        yield Metric(
            key=name,
            value=point.value,
            timestamp=point.timestamp,
            step=point.step,
            run_id=fields[3],
            dataset_name=" ".join(fields[4:-1]) if named else None,
            dataset_digest=fields[-1] if named else None,
        )


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with open_regular(path) as file:
        number = 0
        while line := file.readline(_MAX_LINE):
            number += 1
            if len(line) == _MAX_LINE and not line.endswith(b"\n"):
                raise _malformed(path, number, line)
            if not line.isspace():
                yield number, line


def _point(name: str, parts: list[bytes]) -> Metric | None:
    """Return the point in the fields of a line, or None if they are invalid. The oldest versions write no step."""
    try:
        timestamp, value = int(parts[0]), float(parts[1])
        step = int(parts[2]) if len(parts) > 2 else 0  # noqa: PLR2004
    except (ValueError, IndexError):
        return None
    if not (-_INT64 <= timestamp < _INT64 and -_INT64 <= step < _INT64):
        return None
    return Metric(key=name, value=value, timestamp=timestamp, step=step)


def _malformed(path: Path, number: int, line: bytes) -> TransferError:
    shown = line[:60].decode("utf-8", "replace").strip()
    return TransferError(
        "A line is not a metric point",
        context=f"{path}:{number}: {shown}",
        hint="A line must have a time, a value and a step. Correct or remove the line, then import again.",
    )
