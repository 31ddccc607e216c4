"""Reports: one file without script and network, the same for the same runs, whatever the runs are called."""

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from runner.cli.output import duration, short_code, size
from runner.model import Code, EnvironmentRecord, FileRecord, RunRecord
from runner.reporting.chart import ChartOptions, make_chart
from runner.reporting.page import chart_page, report_page
from runner.reporting.report import Report, ReportLimits, read_report
from runner.reporting.series import CurveRequest, find_records, read_curves
from runner.reporting.tables import Wording
from runner.runs.local import LocalReader
from runner.settings import Home
from runner.store.artifacts import write_artifact
from tests.conftest import MakeRepository, write_tree
from tests.reporting.conftest import MakeRun
from tests.support.sources import freeze, kept

WORDS = Wording(size=size, duration=duration, code=short_code)
HOSTILE = "</td></script><script>alert(1)</script><img src=x onerror=alert(1)> \" ' & \u202egnp \x1b[31m"
PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 10
VOID = {"img", "meta", "br"}


class Page(HTMLParser):
    """Reads a page: elements that do not close, ids, attributes, texts."""

    def __init__(self, content: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text = ""
        self.feed(content.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [str(value) for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text += data if "style" not in self.open else ""


def report_of(reader: LocalReader, home: Home, *words: str, title: str = "Report") -> Report:
    return read_report(reader, find_records(reader, words), home, title, ReportLimits())


def page_of(reader: LocalReader, home: Home, *words: str) -> Page:
    return Page(report_page(report_of(reader, home, *words), WORDS))


def environment(number: int) -> EnvironmentRecord:
    return EnvironmentRecord(manager="uv", python="3.11.7", packages=(("numpy", "2.0"), ("scipy", f"1.{number}")))


@pytest.fixture
def three(make_run: MakeRun, home: Home) -> list[str]:
    made = []
    for number in range(3):
        run_id = make_run(
            f"run {number}",
            {"loss": [3 - number, 2 - number, 1 - number], "rmse": [0.5], "same": [1.0]},
            {"alpha": f"0.{number}", "seed": "1"},
            tags={"team": "blue", "proj.secret-machine": "x"},
            environment=environment(number),
            inputs=(FileRecord(path="data.csv", size=5, sha256=f"{number}" * 64),),
        )
        write_artifact(home.artifacts(run_id), "plots/a.png", [PNG])
        write_artifact(home.artifacts(run_id), "model.bin", [b"x" * (number + 1)])
        made.append(run_id)
    return made


def test_a_report_has_it_all(reader: LocalReader, home: Home, three: list[str]) -> None:
    page = page_of(reader, home, *three)
    assert not page.open
    for text in (
        *(run_id[:8] for run_id in three),
        "Parameters: 1 of 2 differ",
        "Parameters: 1 equal in all runs",
        "Last values of metrics: 1 of 3 differ",
        "Packages: 1 of 2 differ",
        "Inputs: 1 of 1 differ",
        "Files: 1 of 1 differ",
        "alpha (differs)",
        "team",
        "2.5 s",
    ):
        assert text in page.text, text
    assert "secret-machine" not in page.text
    assert page.tags["img"] == 3
    charts = [value for tag, name, value in page.attributes if (tag, name, value) == ("svg", "role", "img")]
    assert len(charts) == 1  # the other metrics are single values
    assert max(Counter(page.ids).values()) == 1


def test_a_page_needs_no_script_and_no_network(reader: LocalReader, home: Home, three: list[str]) -> None:
    page = page_of(reader, home, *three)
    assert not {"script", "link", "iframe", "object", "form"} & page.tags.keys()
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    targets = [str(value) for _, name, value in page.attributes if name in {"src", "href", "action", "style"}]
    assert all(target.startswith(("#", "data:image/")) for target in targets)
    assert {target[1:] for target in targets if target.startswith("#")} <= set(page.ids)
    css = (Path(report_page.__code__.co_filename).parent / "page.css").read_text(encoding="utf-8")
    assert "url(" not in css
    assert "@import" not in css


def test_tables_and_charts_are_accessible(reader: LocalReader, home: Home, three: list[str]) -> None:
    content = report_page(report_of(reader, home, *three), WORDS).decode()
    page = Page(content.encode())
    assert page.tags["caption"] == page.tags["table"]
    headers = [name for tag, name, _ in page.attributes if tag == "th" and name == "scope"]
    assert len(headers) == page.tags["th"]
    for svg in re.findall(r'<svg viewBox="[^"]*" role="img".*?</svg>|<svg[^>]*role="img".*?</svg>', content):
        assert re.search(r"<title id=[^>]*>[^<]+</title><desc id=[^>]*>[^<]+</desc>", svg)
    labels = [str(value).split() for _, name, value in page.attributes if name == "aria-labelledby"]
    assert {identity for some in labels for identity in some} <= set(page.ids)
    assert sum(tag == "img" and name == "alt" and bool(value) for tag, name, value in page.attributes) == 3


def test_the_same_runs_give_the_same_page(reader: LocalReader, home: Home, three: list[str]) -> None:
    pages = {report_page(report_of(reader, home, *three), WORDS) for _ in range(2)}
    assert len(pages) == 1


def test_hostile_names_stay_text(reader: LocalReader, make_run: MakeRun, home: Home) -> None:
    made = []
    for number in range(2):
        run_id = make_run(
            HOSTILE,
            {"loss": [1, 2]},
            {"p": f"{HOSTILE}{number}"},
            tags={"odd": HOSTILE},
            experiment="<b>odd</b>",
            entry_point=HOSTILE,
            command=f"{HOSTILE}{number}",
            notices=(HOSTILE,),
            reason=HOSTILE,
        )
        write_artifact(home.artifacts(run_id), "plots/<script>.png", [PNG])
        write_artifact(home.artifacts(run_id), '"onerror=.txt', [b"x"])
        made.append(run_id)
    plain = page_of(reader, home, make_run("plain", {"loss": [1]}))
    report = report_of(reader, home, *made, title=HOSTILE)
    page = Page(report_page(report, WORDS))
    assert not page.open
    assert page.tags.keys() <= plain.tags.keys() | {
        "img",
        "details",
        "summary",
        "figure",
        "figcaption",
        "svg",
        "path",
    } | {*("g", "text", "desc", "line", "div", "p", "circle")}
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "\u202e" not in page.text
    assert "\x1b" not in page.text
    assert page.text.count("<script>alert(1)</script>") > 10


def test_many_runs_are_rows(reader: LocalReader, make_run: MakeRun, home: Home) -> None:
    made = [make_run(f"r{number}", {"loss": [number]}, {"alpha": str(number)}) for number in range(9)]
    content = report_page(report_of(reader, home, *made), WORDS).decode()
    table = next(part for part in content.split("<table") if "<caption>Parameters: 1 of 1 differ" in part)
    assert table.count("<tr") == 10
    assert '<th scope="col">alpha</th>' in table


def test_odd_curves(reader: LocalReader, make_run: MakeRun, home: Home) -> None:
    nan, inf = float("nan"), float("inf")
    run_id = make_run(
        "odd", {"gaps": [1, nan, 2, inf, 3], "nothing": [nan, nan], "flat": [7, 7], "huge": [-1e308, 1e308]}
    )
    page = page_of(reader, home, run_id)
    assert "outside a logarithmic axis: 2 points." in page.text
    assert "All points are NaN or infinite." in page.text
    assert "nan" not in " ".join(str(value) for tag, _, value in page.attributes if tag in {"path", "circle"})


def test_the_code_of_the_runs_is_compared(
    reader: LocalReader, make_run: MakeRun, make_repository: MakeRepository, home: Home
) -> None:
    root = make_repository({"train.py": "token = 1\nlast\n"})
    made: list[str] = []
    for change in ({}, {"train.py": "token = 1\n<b>new</b> ghp_" + "a1" * 20 + "\n"}):
        write_tree(root, change)
        _, frozen = freeze(root, home)
        code = Code(tree=frozen.code.tree, swhid="", commit="c" * 40, dirty=bool(change))
        made.append(make_run(f"r{len(made)}", {}, code=code))
        kept(root, home, made[-1])
    page = page_of(reader, home, *made)
    first, second = (run_id[:8] for run_id in sorted(made))
    assert f"From run {first} to run {second}" in page.text
    assert "train.py" in page.text
    assert "<b>new</b>" in page.text
    assert "ghp_" not in page.text
    dirty = page_of(reader, home, made[1])
    assert f"From its commit to run {made[1][:8]}" in dirty.text
    assert "<b>new</b>" in dirty.text
    clean = page_of(reader, home, made[0])
    assert "From its commit" not in clean.text


def test_a_tag_does_not_lend_the_code_of_another_run(
    reader: LocalReader, make_run: MakeRun, make_repository: MakeRepository, home: Home
) -> None:
    other = make_run("other", {})
    kept(make_repository({"secret.py": "1"}), home, other)
    code = Code(tree="1" * 40, swhid="", commit="c" * 40, dirty=True)
    run_id = make_run("r", {}, code=code, tags={"proj.run_id": other})
    page = page_of(reader, home, run_id)
    assert "is not stored on this machine" in page.text
    assert "secret.py" not in page.text


def test_a_page_with_one_chart(reader: LocalReader, make_run: MakeRun) -> None:
    records: tuple[RunRecord, ...] = find_records(
        reader, [make_run("a", {"loss": [3, 2, 1]}), make_run("b", {"loss": [1, 5, 1]})]
    )
    options = ChartOptions(smoothing=0.5)
    found = read_curves(reader, records, CurveRequest(metrics=("loss",), smoothing=0.5))
    chart = make_chart(found.series, options)
    assert chart is not None
    content = chart_page(chart, ["run x has no metric 'y'"])
    page = Page(content)
    assert not page.open
    assert content.count(b'class="raw"') == 2
    assert "run x has no metric" in page.text
    assert "b" in page.text
