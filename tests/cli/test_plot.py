"""`proj plot` and `proj report`, as a user calls them."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from runner.cli.main import run_command
from runner.model import RunStatus
from runner.settings import Home
from runner.store import experiments, runs, values
from runner.store.artifacts import write_artifact
from runner.store.database import Database
from runner.store.entities import Metric, NewRun
from tests.cli.terminals import on_a_terminal
from tests.conftest import Result, RunProj
from tests.support.standalone_server import standalone_server

Capture = pytest.CaptureFixture[str]
PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 10


def fill(database: Database, home: Home) -> list[str]:
    """Make two runs with curves in an experiment."""
    made = []
    experiment = experiments.ensure(database, "churn")
    for number in range(2):
        run = NewRun(experiment_id=experiment, name=f"r{number}", started_at=1_700_000_000_000 + number)
        run_id = runs.create(database, run).run_id
        points = [
            Metric(key=key, value=(step + 1) ** -0.5 + number, timestamp=1_700_000_000_000 + 1000 * step, step=step)
            for step in range(200)
            for key in ("loss", "val loss")
        ]
        values.log_metrics(database, run_id, points)
        values.log_params(database, run_id, [("alpha", str(number))])
        write_artifact(home.artifacts(run_id), "plot.png", [PNG])
        runs.update(database, run_id, status=RunStatus.FINISHED, ended_at=1_700_000_200_000)
        made.append(run_id)
    return made


@pytest.fixture
def two(home: Home) -> Iterator[list[str]]:
    with closing(Database.open(home.database)) as database:
        yield fill(database, home)


def call(capsys: Capture, *words: str) -> Result:
    code = run_command(words)
    said = capsys.readouterr()
    return Result(code, said.out, said.err)


class TestPlot:
    def test_a_chart_and_its_legend(self, two: list[str], capsys: Capture) -> None:
        said = call(capsys, "plot", "loss", "r0", "r1", "--width", "70", "--height", "12")
        assert said.code == 0
        lines = said.out.splitlines()
        assert lines[0] == "loss"
        assert max(map(len, lines[1:13])) <= 70
        assert "┤" in said.out
        assert "step" in lines[12]
        assert {"a", "b"} <= set("".join(lines[1:10]))
        legend = [line.split() for line in lines if two[0][:8] in line or two[1][:8] in line]
        assert legend == [
            ["a", two[0][:8], "r0", "0.0707107", "0.0707107", "1", "200"],
            ["b", two[1][:8], "r1", "1.07071", "1.07071", "2", "200"],
        ]

    def test_the_latest_run_and_several_metrics(self, two: list[str], capsys: Capture) -> None:
        said = call(capsys, "plot", "loss, val loss", "--log", "--smooth", "0.5")
        assert said.out.startswith("loss, val loss, log scale, smoothed 0.5\n")
        assert said.out.count(two[1][:8]) == 2
        assert two[0][:8] not in said.out

    @pytest.mark.parametrize(
        ("x", "title"), [("time", "time from 2023-11-1"), ("relative", "minutes since"), ("val loss", "val loss")]
    )
    def test_horizontal_axes(self, two: list[str], capsys: Capture, x: str, title: str) -> None:
        assert title in call(capsys, "plot", "loss", two[0], "--x", x).out

    def test_json_has_the_curves(self, two: list[str], capsys: Capture, home: Home) -> None:
        found = call(
            capsys, "plot", "loss", *two, "--json", "--points", "10", "--x", "relative", "--smooth", "0.5"
        ).json
        assert [series["run_id"] for series in found] == two
        first = found[0]
        assert (first["metric"], first["run_name"], first["count"]) == ("loss", "r0", 200)
        assert len(first["points"]) <= 10
        assert first["points"][0] == {"step": 0, "time": "2023-11-14T22:13:20.000Z", "value": 1, "x": 0, "shown": 1}
        assert first["points"][-1]["shown"] > first["points"][-1]["value"]
        with closing(Database.open(home.database)) as database:
            values.log_metrics(database, two[0], [Metric(key="odd", value=float("nan"), timestamp=1)])
        assert call(capsys, "plot", "odd", two[0], "--json").json[0]["points"][0]["value"] == "nan"

    def test_colours_and_width_of_a_terminal(self, two: list[str], tmp_path: Path) -> None:
        raw = on_a_terminal(72, tmp_path, "plot", "loss", *two)
        assert "\x1b[36m" in raw
        assert "\x1b[35m" in raw
        shown = re.sub(r"\x1b\[[0-9;]*m", "", raw)
        assert max(map(len, shown.splitlines())) <= 72
        assert re.search("[\u2801-\u28ff]", shown)
        plain = on_a_terminal(72, tmp_path, "plot", "loss", *two, NO_COLOR="1")
        assert "\x1b" not in plain
        assert not re.search("[\u2801-\u28ff]", plain)
        dumb = on_a_terminal(40, tmp_path, "plot", "loss", *two, TERM="dumb")
        assert dumb.isascii()

    def test_output_that_is_not_utf_8(self, two: list[str], proj: RunProj, home: Home) -> None:
        with closing(Database.open(home.database)) as database:
            runs.update(database, two[0], name="größe")
        said = proj("plot", "loss", two[0], PYTHONIOENCODING="ascii")
        assert said.code == 0, said.err
        assert said.out.isascii()
        assert "*" in said.out
        assert "gr\\xf6\\xdfe" in said.out

    def test_words_that_are_wrong(self, two: list[str], capsys: Capture) -> None:
        for words, code, message in (
            (("los", "r0"), 1, "did you mean 'loss'?"),
            (("r0", "loss"), 2, "hint: proj plot loss r0"),
            (("loss", "nobody"), 1, "There is no run 'nobody'"),
            (("loss", "r0", "--experiment", "churn"), 2, "not both"),
            (("loss", "--experiment", "nothing"), 1, "There is no experiment 'nothing'"),
            (("loss", "--filter", "metrics.loss > 99"), 1, "The search found no runs"),
            ((",",), 2, "The name of a metric is missing"),
            (("loss", "--png", "train.py"), 2, "must end in .png"),
            (("loss", "--html", "train.py"), 2, "must end in .html"),
            (("loss", "--smooth", "1"), 2, "--smooth"),
            (("alpha", two[0]), 1, "has no metric 'alpha'"),
        ):
            said = call(capsys, "plot", *words)
            assert said.code == code, words
            assert message in said.err, said.err
            assert said.out == ""

    def test_curves_without_a_point_to_draw(self, two: list[str], capsys: Capture, home: Home) -> None:
        with closing(Database.open(home.database)) as database:
            values.log_metrics(database, two[0], [Metric(key="odd", value=float("-inf"), timestamp=1)])
            values.log_metrics(database, two[0], [Metric(key="low", value=-1, timestamp=1)])
        assert "only NaN and infinite values" in call(capsys, "plot", "odd", two[0]).err
        assert "no point above 0" in call(capsys, "plot", "low", two[0], "--log").err
        assert call(capsys, "plot", "low", two[0]).code == 0

    def test_runs_of_an_experiment_that_lack_the_metric(self, two: list[str], capsys: Capture, home: Home) -> None:
        with closing(Database.open(home.database)) as database:
            values.log_metrics(database, two[0], [Metric(key="rmse", value=1, timestamp=1)])
        said = call(capsys, "plot", "rmse", "--experiment", "churn")
        assert said.code == 0
        assert f"run {two[1][:8]} has no metric 'rmse'" in said.err
        said = call(capsys, "plot", "loss", "--experiment", "churn", "-n", "1")
        assert two[1][:8] in said.out
        assert "the newest 1 runs" in said.err

    def test_files(self, two: list[str], capsys: Capture, tmp_path: Path) -> None:
        png, page = tmp_path / "new" / "a.png", tmp_path / "a.html"
        words = ("plot", "loss", *two, "--png", str(png), "--html", str(page), "--smooth", "0.9", "--log")
        said = call(capsys, *words)
        assert said.out.splitlines() == [str(png), str(page)]
        assert png.read_bytes().startswith(PNG[:8])
        first = png.read_bytes()
        text = page.read_text(encoding="utf-8")
        assert text.count("<svg viewBox=") == 1
        assert call(capsys, *words).code == 0
        assert png.read_bytes() == first
        assert page.read_text(encoding="utf-8") == text
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "new"]

    def test_names_in_a_png_are_text(self, two: list[str], capsys: Capture, tmp_path: Path, home: Home) -> None:
        with closing(Database.open(home.database)) as database:
            for run_id, name in zip(two, (r"$\frac{1}{$", "_漢字\x1b"), strict=True):
                runs.update(database, run_id, name=name)
        said = call(capsys, "plot", "loss", *two, "--png", str(tmp_path / "a.png"))
        assert said.code == 0, said.err

    def test_without_matplotlib(
        self, two: list[str], capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        said = call(capsys, "plot", "loss", two[0], "--png", str(tmp_path / "a.png"))
        assert said.code == 2
        assert "pip install 'proj-runner[plot]'" in said.err
        assert list(tmp_path.iterdir()) == []

    def test_only_png_loads_matplotlib(self, two: list[str], proj: RunProj) -> None:
        said = proj("plot", "loss", two[0], PYTHONPROFILEIMPORTTIME="1")
        assert said.code == 0
        assert "runner.reporting.terminal" in said.err
        assert not re.search(
            r"\| +(matplotlib|numpy|rich|yaml|asyncio|difflib|runner.manifest|runner.source|runner.reporting.page)\b",
            said.err,
        )


class TestReport:
    def test_an_experiment(self, two: list[str], capsys: Capture, tmp_path: Path) -> None:
        target = tmp_path / "r.html"
        said = call(capsys, "report", "--experiment", "churn", "-o", str(target))
        assert (said.code, said.out) == (0, f"{target}\n")
        text = target.read_text(encoding="utf-8")
        assert "<h1>Experiment churn</h1>" in text
        assert all(f'id="run-{run_id}"' in text for run_id in two)
        assert text.count("data:image/png") == 2
        assert call(capsys, "report", *reversed(two), "-o", "-").out.count("<h1>Comparison of 2 runs</h1>") == 1
        assert "<h1>Run " in call(capsys, "report", "-o", "-").out
        assert "<h1>&lt;b&gt;</h1>" in call(capsys, "report", "-o", "-", "--title", "<b>").out

    def test_images_up_to_a_size(self, two: list[str], capsys: Capture) -> None:  # noqa: ARG002
        text = call(capsys, "report", "-o", "-", "--image-limit", "0").out
        assert "data:image/png" not in text
        assert "plot.png (18 B): larger than the limit" in text

    def test_words_that_are_wrong(self, two: list[str], capsys: Capture, tmp_path: Path) -> None:  # noqa: ARG002
        script = tmp_path / "train.py"
        script.write_text("precious", encoding="utf-8")
        assert call(capsys, "report", "-o", str(script)).code == 2
        assert script.read_text(encoding="utf-8") == "precious"
        assert "-o" in call(capsys, "report").err
        assert call(capsys, "report", "nobody", "-o", str(tmp_path / "r.html")).code == 1
        assert list(tmp_path.iterdir()) == [script]

    def test_a_target_that_can_not_be_written(self, two: list[str], proj: RunProj, tmp_path: Path) -> None:
        (tmp_path / "folder.html").mkdir()
        said = proj("report", two[0], "-o", str(tmp_path / "folder.html"))
        assert said.code == 1
        assert "A folder is in the place of a file" in said.err
        assert list(tmp_path.iterdir()) == [tmp_path / "folder.html"]


def test_runs_of_a_server(clean_room: Path, tmp_path: Path, capsys: Capture) -> None:
    home = Home(clean_room / "theirs")
    with (
        closing(Database.open(home.database)) as database,
        standalone_server(tmp_path, PROJ_HOME=str(home.root)) as standalone,
    ):
        made = fill(database, home)
        remote = ("--tracking-uri", standalone.url)
        said = call(capsys, "plot", "loss", "r0", "r1", *remote)
        assert said.code == 0, said.err
        assert all(run_id[:8] in said.out for run_id in made)
        points = call(capsys, "plot", "loss", "r0", "--points", "20", "--x", "val loss", "--json", *remote).json[0][
            "points"
        ]
        assert 2 < len(points) <= 41
        assert all(point["x"] == point["value"] for point in points)
        assert "did you mean 'loss'?" in call(capsys, "plot", "los", "r0", *remote).err
        page = call(capsys, "report", "--experiment", "churn", "-o", "-", *remote).out
        assert "Parameters: 1 of 1 differ" in page
        assert page.count("data:image/png") == 2
        assert page.count("<figcaption>loss</figcaption>") == 1
        assert json.dumps(standalone.url) not in page
