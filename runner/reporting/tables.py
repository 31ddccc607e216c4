"""Writes the tables of a page: runs, compared values, legends of charts."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from msgspec import Struct

from runner.model import Code, RunRecord
from runner.reporting.html import Html, Parts, element, join
from runner.reporting.series import Series
from runner.reporting.svg import swatch
from runner.runs.comparison import Line

_WIDE = 6
"""Runs that are columns of a table; more runs are rows."""
_SHORT = 30
"""Rows of equal values up to which they are shown at once."""
_LONGEST = 2000
"""Characters shown of a value."""
_BAD = ("FAILED", "KILLED", "LOST")


class Wording(Struct, frozen=True, kw_only=True):
    """The command line's own texts for sizes in bytes, durations and code, so that a page says the same."""

    size: Callable[[int], str]
    duration: Callable[[RunRecord], str]
    code: Callable[[Code | None], str]


def table(caption: str, titles: Sequence[Parts], rows: Iterable[Html], class_: str | None = None) -> Html:
    """Return a table that scrolls sideways, by touch and by keyboard, where the page is too narrow for it."""
    head = element("tr", [element("th", title, scope="col") for title in titles])
    body = element(
        "table", element("caption", caption), element("thead", head), element("tbody", list(rows)), class_=class_
    )
    return element("div", body, class_="scroll", role="group", aria_label=caption, tabindex=0)


def row(head: Parts, cells: Iterable[Html], class_: str | None = None) -> Html:
    """Return a row with its header."""
    return element("tr", element("th", head, scope="row"), list(cells), class_=class_)


def run_head(record: RunRecord, *, linked: bool = True) -> Html:
    """Return the short id of a run and its name."""
    identity = (record.run_id or "")[:8]
    text = element("a", identity, href=f"#run-{record.run_id}") if linked else identity
    return join(element("span", text, class_="run"), element("span", record.run_name, class_="soft"))


def runs_table(records: Sequence[RunRecord], wording: Wording) -> Html:
    """Return the table of the runs: state, times, code."""
    titles = ("run", "status", "started (UTC)", "took", "experiment", "entry point", "code")
    rows = [
        element(
            "tr",
            element("th", run_head(record, linked=False), scope="row", id=f"run-{record.run_id}"),
            element("td", _status(record), class_="status"),
            element("td", (record.started_at or "").partition(".")[0].replace("T", " ")),
            [element("td", text) for text in (wording.duration(record), record.experiment, record.entry_point)],
            element("td", wording.code(record.code) or "not recorded"),
        )
        for record in records
    ]
    return table("A star after a commit marks code with uncommitted changes.", titles, rows)


def _status(record: RunRecord) -> Html:
    exit_code = f", exit code {record.exit_code}" if record.exit_code else ""
    return element("span", f"{record.status}{exit_code}", class_="bad" if record.status in _BAD else None)


def value_tables(subject: str, lines: Sequence[Line], records: Sequence[RunRecord]) -> Html:
    """Return the values of runs: first those that differ, marked, then those that are equal in all runs."""
    lines = [line for line in lines if any(value is not None for value in line.values)]
    if not lines:
        return Html("")
    different = [line for line in lines if line.differs]
    equal = [line for line in lines if not line.differs]
    return join(
        _different(f"{subject}: {len(different)} of {len(lines)} differ", different, records) if different else None,
        _equal(subject, equal, is_open=not different, is_one=len(records) == 1) if equal else None,
    )


def _equal(subject: str, lines: Sequence[Line], *, is_open: bool, is_one: bool) -> Html:
    """Return the values that all runs share; long tables open on a click."""
    if is_one and len(lines) <= _SHORT:
        return _equal_table(subject, lines)
    title = f"{subject}: {len(lines)}" if is_one else f"{subject}: {len(lines)} equal in all runs"
    shown = _equal_table(subject if is_one else f"{subject}, equal in all runs", lines)
    return element("details", element("summary", title), shown, open=is_open and len(lines) <= _SHORT)


def _equal_table(caption: str, lines: Sequence[Line]) -> Html:
    return table(caption, ("name", "value"), [row(line.name, [_cell(line.values[0])]) for line in lines])


def _different(caption: str, lines: Sequence[Line], records: Sequence[RunRecord]) -> Html:
    if len(records) <= _WIDE:
        mark = element("span", " (differs)", class_="hidden")
        rows = [row([line.name, mark], map(_cell, line.values), "differs") for line in lines]
        return table(caption, ("name", *map(run_head, records)), rows)
    titles = ("run", *(line.name for line in lines))
    rows = [
        row(run_head(record), [_cell(line.values[number]) for line in lines]) for number, record in enumerate(records)
    ]
    return table(caption, titles, rows)


def _cell(value: str | float | None) -> Html:
    if value is None:
        return element("td", "none", class_="absent")
    if isinstance(value, float):
        return element("td", number(value), class_="number")
    return element("td", value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…")


def number(value: float | None) -> str:
    """Return the text of a metric's value."""
    return "none" if value is None else f"{value:.10g}"


def legend(series: Sequence[Series], caption: str) -> Html:
    """Return the legend of a chart with the last value and the range of each curve."""
    is_one = len({one.metric for one in series}) == 1
    rows = [
        row(
            [swatch(index), f"{one.run_id[:8]} {one.run_name}", None if is_one else f": {one.metric}"],
            [
                *(
                    element("td", f"{value:.6g}" if value is not None else "none", class_="number")
                    for value in _facts(one)
                ),
                element("td", str(one.count), class_="number"),
            ],
        )
        for index, one in enumerate(series)
    ]
    return table(caption, ("curve", "last", "smallest", "largest", "points"), rows, "counts")


def _facts(series: Series) -> tuple[float | None, ...]:
    last = series.last
    return (math.nan if math.isnan(last) else last, series.minimum, series.maximum)


def sections(lines: Iterable[Line]) -> dict[str, tuple[Line, ...]]:
    """Return compared items by section."""
    return {name: tuple(some) for name, some in groupby(lines, lambda line: line.section)}
