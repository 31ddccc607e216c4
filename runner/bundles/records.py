"""Checks what a bundle says of its run: the record must not lead out of the run folder, and must fit to the code."""

import csv
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from runner.base.foreign_text import ForeignTextError, parse_json_as, read_limited
from runner.bundles import layout
from runner.bundles.content import COLUMNS
from runner.bundles.layout import BundleManifest
from runner.errors import BundleError, SourceError
from runner.model import RunRecord, RunStatus
from runner.source.address import normalize_subdirectory
from runner.source.snapshot_store import RunCommit
from runner.store.entities import Metric

Shape = TypeVar("Shape")

_MANAGERS = ("uv", "virtualenv", "conda", "container", "local")
_MOST_POINTS = 50_000_000
_LONGEST_LINE = 10_000
_RUN_ID = re.compile(r"[0-9a-f]{32}")


def read_json(path: Path, shape: type[Shape], name: str) -> Shape:
    """Return the content of a JSON file of a bundle.

    Raises:
        BundleError: it is missing, too large, or not of the shape.
    """
    try:
        return parse_json_as(read_limited(path, layout.TEXT), shape, layout.TEXT)
    except (ForeignTextError, OSError) as error:
        raise BundleError(f"{name} is damaged: {path.name} can't be read", context=str(error)) from error


def check_record(record: RunRecord, manifest: BundleManifest, code: RunCommit, name: str) -> None:
    """Check that a record is that of the manifest's run, and that it names nothing outside of it.

    Raises:
        BundleError: it does not fit, or is hostile.
    """
    if record.run_id != manifest.run_id:
        raise BundleError(f"{name} is damaged: its record is that of another run, {str(record.run_id)[:40]!r}")
    if record.code is None or record.code.tree != manifest.tree or code.tree != manifest.tree:
        raise BundleError(f"{name} is damaged: its record names another code than its manifest")
    if record.entry_point is None or record.status not in {one.value for one in RunStatus if one.is_over}:
        raise BundleError(f"{name} is damaged: its record is not that of a run that has ended")
    try:
        if normalize_subdirectory(record.code.subdirectory) != record.code.subdirectory:
            raise BundleError(f"{name} is damaged: its project folder is {record.code.subdirectory[:120]!r}")
    except SourceError as error:
        raise BundleError(f"{name} is refused: its project folder leads out of its code") from error
    if record.environment is not None and record.environment.manager not in _MANAGERS:
        raise BundleError(f"{name} is damaged: it names the environment manager {record.environment.manager[:40]!r}")
    texts = (record.run_name, record.experiment, record.project, record.entry_point)
    if any(text is not None and not text.isprintable() for text in texts):
        raise BundleError(f"{name} is refused: a name in its record has control characters")
    milliseconds(record.started_at, name)
    milliseconds(record.ended_at, name)


def milliseconds(moment: str | None, name: str) -> int | None:
    """Return a time of a record in milliseconds since 1970 in UTC.

    Raises:
        BundleError: it is not a time.
    """
    if moment is None:
        return None
    try:
        found = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    except ValueError as error:
        raise BundleError(f"{name} is damaged: {moment[:40]!r} is not a time") from error
    since = (found if found.tzinfo else found.replace(tzinfo=timezone.utc)) - datetime.fromtimestamp(0, timezone.utc)
    return round(since.total_seconds() * 1000)


def read_points(path: Path, name: str) -> Iterator[Metric]:
    """Yield the points of ``metrics.csv``.

    Raises:
        BundleError: a line is not valid.
    """
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        lines = csv.reader(_limited(file, name), strict=True)
        try:
            if tuple(next(lines, ())) != COLUMNS:
                raise BundleError(f"{name} is damaged: {path.name} has other columns than {', '.join(COLUMNS)}")
            for number, line in enumerate(lines, 2):
                if number > _MOST_POINTS:
                    raise BundleError(f"{name} is refused: it has more than {_MOST_POINTS:,} points of metrics")
                key, step, timestamp, value = line
                yield Metric(key=key, step=int(step), timestamp=int(timestamp), value=float(value))
        except (ValueError, csv.Error) as error:
            where = f"{path.name}:{lines.line_num}"
            raise BundleError(f"{name} is damaged: {where} is no point of a metric", context=str(error)) from error


def _limited(lines: Iterator[str], name: str) -> Iterator[str]:
    for line in lines:
        if len(line) > _LONGEST_LINE:
            raise BundleError(f"{name} is damaged: a line of metrics has {len(line):,} characters")
        yield line
