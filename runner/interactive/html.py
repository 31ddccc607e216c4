"""Formats runs for notebooks and prompts: short texts, and HTML without scripts."""

import re
from collections.abc import Mapping, Sequence

from runner.model import RunRecord
from runner.reporting.html import Html, element, visible

MAX_ROWS = 20
MAX_COLUMNS = 12
MAX_ITEMS = 30
"""Parameters or metrics of one run that are shown."""
_IN_TEXT = 3
_COLOURS = {"FINISHED": "#2e7d32", "FAILED": "#c62828", "KILLED": "#c62828", "LOST": "#c62828"}
_ZONE = re.compile(r"(\.\d+)?(Z|\+00:00)$")


def short_text(run: RunRecord) -> str:
    """Return a run in one line."""
    metrics = [f"{name}={value:g}" for name, value in list(run.metrics.items())[:_IN_TEXT]]
    more = ["…"] if len(run.metrics) > _IN_TEXT else []
    words = [(run.run_id or "plan")[:8], run.run_name or "", run.status or "", *metrics, *more]
    return f"<Run {visible(' '.join(' '.join(words).split()))}>"


def list_text(runs: Sequence[RunRecord]) -> str:
    """Return a line for each of the first runs."""
    more = [f"… and {len(runs) - MAX_ROWS} more"] if len(runs) > MAX_ROWS else []
    shown = [*(short_text(run) for run in runs[:MAX_ROWS]), *more]
    return "[" + ",\n ".join(shown) + "]"


def run_html(run: RunRecord) -> str:
    """Return a run as HTML."""
    code = run.code
    where = f"{(code.commit or code.tree)[:12]}{', with changes' if code.dirty else ''}" if code else None
    facts = {
        "started": _time(run.started_at),
        "experiment": run.experiment,
        "entry point": run.entry_point,
        "code": where,
        "failed at": run.failed_at,
        "reason": run.reason,
    }
    title = element("p", element("b", run.run_name or "run"), " ", element("code", run.run_id), " ", _status(run))
    tables = [
        _pairs({name: value for name, value in facts.items() if value}),
        _group("parameters", {one.name: one.value for one in run.parameters}),
        _group("metrics", {name: f"{value:g}" for name, value in run.metrics.items()}),
    ]
    return str(element("div", title, tables))


def list_html(runs: Sequence[RunRecord]) -> str:
    """Return a table of runs: parameters that differ, and metrics."""
    shown = runs[:MAX_ROWS]
    params = [{one.name: one.value for one in run.parameters} for run in shown]
    names = sorted({name for one in params for name in one if len({other.get(name) for other in params}) > 1})
    metrics = sorted({name for run in shown for name in run.metrics})
    columns = [*((True, name) for name in names), *((False, name) for name in metrics)]
    head = [element("th", text) for text in ("run", "name", "status", "started")]
    head += [element("th", name) for _, name in columns[:MAX_COLUMNS]]
    rows = []
    for run, values in zip(shown, params, strict=True):
        cells = [element("code", (run.run_id or "")[:8]), run.run_name, _status(run), _time(run.started_at)]
        for is_param, name in columns[:MAX_COLUMNS]:
            number = run.metrics.get(name)
            cells.append(values.get(name) if is_param else None if number is None else f"{number:g}")
        rows.append(element("tr", [element("td", cell) for cell in cells]))
    table = element("table", element("thead", element("tr", head)), element("tbody", rows))
    return str(element("div", table, element("p", _summary(len(runs), len(columns)))))


def _summary(count: int, columns: int) -> str:
    rows = f"{count} run{'s' * (count != 1)}" if count <= MAX_ROWS else f"{MAX_ROWS} of {count} runs"
    return rows if columns <= MAX_COLUMNS else f"{rows}, {MAX_COLUMNS} of {columns} columns"


def _status(run: RunRecord) -> Html:
    status = run.status or "planned"
    return element("span", status, style=f"color: {_COLOURS.get(status, '#1565c0')}")


def _time(moment: str | None) -> str:
    return _ZONE.sub("", moment or "").replace("T", " ") + (" UTC" if moment else "")


def _group(title: str, values: Mapping[str, str]) -> Html | None:
    if not values:
        return None
    more = f", the first {MAX_ITEMS} of {len(values)}" if len(values) > MAX_ITEMS else ""
    return element("div", element("p", element("b", title), more), _pairs(values))


def _pairs(values: Mapping[str, str]) -> Html:
    rows = [
        element("tr", element("th", name, style="text-align: left"), element("td", value, style="text-align: left"))
        for name, value in list(values.items())[:MAX_ITEMS]
    ]
    return element("table", element("tbody", rows))
