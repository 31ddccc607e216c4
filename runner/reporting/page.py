"""Writes charts and reports as static HTML pages, which need no script and no network."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from runner.base.plurals import counted
from runner.model import RunRecord
from runner.reporting import svg
from runner.reporting.chart import Chart, ChartOptions, make_chart
from runner.reporting.html import Html, Parts, element, join
from runner.reporting.images import Image
from runner.reporting.patches import code_change
from runner.reporting.report import Report, files_beside_images
from runner.reporting.series import Series
from runner.reporting.tables import Wording, legend, row, runs_table, sections, table, value_tables
from runner.runs.comparison import Line

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_FILES = 300
"""Files that the page lists."""
_MACHINE_TAGS = ("mlflow.", "proj.")

Section = tuple[str, str, Html]
"""Id, title and content of a section."""


def chart_page(chart: Chart, notices: Sequence[str]) -> bytes:
    """Return a page with one chart."""
    body = join(
        element("header", element("h1", chart.title)),
        element("main", _figure(chart, "chart", None), [element("p", text) for text in notices]),
    )
    return _document(chart.title, body)


def report_page(report: Report, wording: Wording) -> bytes:
    """Return the page of a report."""
    parts = [one for one in _sections(report, wording) if one[2]]
    links = [element("li", element("a", title, href=f"#{identity}")) for identity, title, _ in parts]
    header = element(
        "header",
        element("h1", report.title),
        element("p", _summary(report), class_="soft"),
        element("nav", element("ul", links), aria_label="Sections"),
    )
    main = [
        element(
            "section",
            element("h2", title, id=f"{identity}-title"),
            content,
            id=identity,
            aria_labelledby=f"{identity}-title",
        )
        for identity, title, content in parts
    ]
    footer = element("footer", element("p", "Written by proj report. Times are in UTC."))
    return _document(report.title, join(header, element("main", main), footer))


def _document(title: str, body: Html) -> bytes:
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html((Path(__file__).parent / "page.css").read_text(encoding="utf-8"))),
    )
    page = element("html", head, element("body", body), lang="en")
    return f"<!DOCTYPE html>\n{page}\n".encode()


def _summary(report: Report) -> str:
    count = len(report.records)
    starts = sorted(record.started_at for record in report.records if record.started_at)
    when = f", started {_day(starts[0])}" if starts else ""
    until = f" to {_day(starts[-1])}" if starts and _day(starts[0]) != _day(starts[-1]) else ""
    return f"{counted(count, 'run')}{when}{until}"


def _day(moment: str) -> str:
    return moment.partition("T")[0]


def _sections(report: Report, wording: Wording) -> Iterator[Section]:
    lines = sections(report.lines)

    def values(name: str, subject: str) -> Html | None:
        return value_tables(subject, lines[name], report.records) if lines.get(name) else None

    yield "runs", "Runs", join(runs_table(report.records, wording), _reasons(report.records))
    yield "parameters", "Parameters", join(values("parameters", "Parameters"))
    yield "metrics", "Metrics", join(values("metrics", "Last values of metrics"))
    yield "curves", "Curves", _curves(report)
    yield "images", "Images", _images(report, wording)
    yield "code", "Code", join(values("code", "Code"), map(code_change, report.changes))
    yield "environment", "Environment", join(values("environment", "Environment"), values("packages", "Packages"))
    yield "data", "Inputs", join(values("inputs", "Inputs"))
    yield "files", "Files", _files(report, wording)
    yield "more", "Run details", join(values("run", "Details"), _tags(report))
    yield "notices", "Notices", _notices(report)


def _reasons(records: Sequence[RunRecord]) -> Html:
    return join([element("p", f"{(one.run_id or '')[:8]}: {one.reason}") for one in records if one.reason])


def _curves(report: Report) -> Html:
    if not report.curves:
        return Html("")
    charts = [_metric_figure(series, number) for number, series in enumerate(report.curves)]
    more = f"Not drawn: {', '.join(report.more_curves)}" if report.more_curves else None
    return join(element("div", charts, class_="charts"), element("p", more, class_="soft") if more else None)


def _metric_figure(series: Sequence[Series], number: int) -> Html:
    chart = make_chart(series, ChartOptions())
    name = series[0].metric
    if chart is None:
        caption = element("figcaption", name)
        return element("figure", caption, element("p", "All points are NaN or infinite."), legend(series, name))
    return _figure(chart, f"chart-{number}", name)


def _figure(chart: Chart, identity: str, name: str | None) -> Html:
    """Return a chart with its legend; a name is its heading."""
    missing = (
        f"Left out, as NaN, infinite or outside a logarithmic axis: {counted(chart.missing, 'point')}."
        if chart.missing
        else None
    )
    return element(
        "figure",
        element("figcaption", name) if name else None,
        svg.draw(chart, identity),
        element("p", missing, class_="soft") if missing else None,
        legend([line.series for line in chart.lines], f"Curves of {chart.title}"),
    )


def _images(report: Report, wording: Wording) -> Html:
    shown = [_image(one, wording) for one in report.images if one.data]
    left_out = [
        element("li", f"{one.run_id[:8]} {one.name}{_of_size(one, wording)}: {one.reason}")
        for one in report.images
        if not one.data
    ]
    return join(
        element("div", shown, class_="images") if shown else None,
        element("details", element("summary", f"Left out: {counted(len(left_out), 'image')}"), element("ul", left_out))
        if left_out
        else None,
    )


def _image(image: Image, wording: Wording) -> Html:
    caption = f"{image.run_id[:8]} {image.name}{_of_size(image, wording)}"
    picture = element("img", src=image.data, alt=f"{image.name} of run {image.run_id[:8]}")
    return element("figure", element("figcaption", caption), picture)


def _of_size(image: Image, wording: Wording) -> str:
    return "" if image.size is None else f" ({wording.size(image.size)})"


def _files(report: Report, wording: Wording) -> Html:
    shown = frozenset(one.name for one in report.images if one.data)
    listed = {run_id: files_beside_images(kept, shown) for run_id, kept in report.files.items()}
    texts = {
        run_id: {one.name: _file_text(one.size, one.sha256, wording) for one in files}
        for run_id, files in listed.items()
    }
    names = sorted({name for files in texts.values() for name in files})
    lines = [
        Line(
            section="files",
            name=name,
            values=tuple(texts.get(one.run_id or "", {}).get(name) for one in report.records),
        )
        for name in names[:_FILES]
    ]
    more = f"Not listed: {counted(len(names) - _FILES, 'more file')}." if len(names) > _FILES else None
    return join(value_tables("Files", lines, report.records) if lines else None, element("p", more) if more else None)


def _file_text(size: int | None, sha256: str | None, wording: Wording) -> str:
    texts = (wording.size(size) if size is not None else "", f"sha256 {sha256[:12]}" if sha256 else "")
    return ", ".join(filter(None, texts)) or "unknown size"


def _tags(report: Report) -> Html:
    names = sorted({name for one in report.records for name in one.tags if not name.startswith(_MACHINE_TAGS)})
    lines = [
        Line(section="tags", name=name, values=tuple(one.tags.get(name) for one in report.records)) for name in names
    ]
    return value_tables("Tags", lines, report.records) if lines else Html("")


def _notices(report: Report) -> Html:
    own = [(one.run_id or "", text) for one in report.records for text in one.notices]
    rows = [row(run_id[:8], [element("td", text)]) for run_id, text in own]
    others: Parts = [element("p", text) for text in report.notices]
    return join(table("Notices of the runs", ("run", "notice"), rows) if rows else None, others)
