"""The commands that look at what runs logged: list, compare, metrics, experiments, models."""

import csv
import io
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import pytest

from runner.cli.main import run_command
from runner.cli.metrics import sparkline
from runner.cli.tables import Layout, print_table
from runner.model import Code, EnvironmentRecord, FileRecord, RunDetails, RunStatus
from runner.runs.comparison import compare_runs
from runner.settings import Home
from runner.store import models, registry, runs, values, versions
from runner.store.artifacts import write_artifact
from runner.store.database import Database
from runner.store.downsampling import downsampled
from runner.store.entities import Metric, NewModel, NewRun, NewVersion
from runner.store.search import SearchQuery, search_records


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Said]


@pytest.fixture
def proj(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command line in this process."""

    def run(*words: str) -> Said:
        capsys.readouterr()
        code = run_command(words)
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture
def two(db: Database) -> list[str]:
    """Return two runs that differ in some ways."""
    made = []
    for number, alpha in enumerate(("0.5", "0.9")):
        code = Code(tree=f"{number}" * 40, swhid="swh", commit="c" * 40, dirty=bool(number))
        packages = (("numpy", "2.0"), ("scipy", f"1.{number}"))
        details = RunDetails(
            command="python train.py",
            code=code,
            environment=EnvironmentRecord(manager="uv", python="3.11.7", packages=packages),
            inputs=(FileRecord(path="data.csv", size=1, sha256=f"{number}" * 64),),
        )
        run_id = runs.create(
            db, NewRun(name=f"r{number}", details=details, started_at=number, tags={"team": "a"})
        ).run_id
        values.log_params(db, run_id, [("alpha", alpha), ("seed", "1")])
        points = [Metric(key="loss", value=1 / (step + 1 + number), timestamp=step, step=step) for step in range(100)]
        values.log_metrics(db, run_id, [*points, Metric(key="same", value=float("nan"), timestamp=0)])
        runs.update(db, run_id, status=RunStatus.FINISHED, ended_at=1000)
        made.append(run_id)
    return made


def test_only_what_differs_is_compared(proj: Command, two: list[str]) -> None:
    found = proj("compare", *two, "--json").json
    assert found["runs"] == two
    differences = found["differences"]
    assert differences["parameters"] == {"alpha": ["0.5", "0.9"]}
    assert list(differences["metrics"]) == ["loss"]
    assert differences["code"] == {"tree": ["0" * 40, "1" * 40], "state": ["clean", "dirty"]}
    assert differences["packages"] == {"scipy": ["1.0", "1.1"]}
    assert differences["inputs"] == {"data.csv": [f"sha256 {'0' * 64}", f"sha256 {'1' * 64}"]}
    assert "environment" not in differences
    whole = proj("compare", *two, "--json", "--all").json["differences"]
    assert whole["parameters"]["seed"] == ["1", "1"]
    assert whole["packages"]["numpy"] == ["2.0", "2.0"]
    text = proj("compare", "r0", "r1").out
    assert "alpha" in text
    assert "seed" not in text
    assert proj("compare", two[0], two[0]).err == "no differences\n"
    assert proj("compare", two[0]).code == 2


def test_long_values_and_many_packages_are_compared(proj: Command, db: Database) -> None:
    made = []
    for number in range(2):
        packages = tuple((f"package-{index}", f"{number}.{index}") for index in range(66))
        details = RunDetails(
            command=f"python train.py {'--quiet ' * 9}--alpha 0.{number}",
            entry_point=f"{'x' * 3000}{number}{'y' * 3000}",
            environment=EnvironmentRecord(manager="uv", python="3.11.7", packages=packages),
        )
        made.append(runs.create(db, NewRun(name=f"r{number}", details=details)).run_id)
    text = proj("compare", *made).out
    assert "--alpha 0.0" in text
    assert "--alpha 0.1" in text
    assert "x0y" in text
    assert "x1y" in text
    assert "x" * 300 not in text
    assert "66 differ; --all shows them" in text
    assert "package-3" not in text
    assert "package-3" in proj("compare", *made, "--all").out
    assert len(proj("compare", *made, "--json").json["differences"]["packages"]) == 66


def test_a_folded_table_loses_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    value = "abcdefghij" * 10
    print_table(("", "", "one", "two"), [("run", "command", value, value[::-1])], layout=Layout(fixed=2))
    shown = capsys.readouterr().out
    assert [shown.count(letter) for letter in "bfghij"] == [20] * 6


def test_what_one_run_lacks_differs(proj: Command, two: list[str], db: Database) -> None:
    values.log_params(db, two[1], [("only here", "x")])
    assert proj("compare", *two, "--json").json["differences"]["parameters"]["only here"] == [None, "x"]
    page = search_records(db, SearchQuery(), Home(db.path.parent))
    assert all(line.differs for line in compare_runs(page.records))


def test_the_history_of_a_metric(proj: Command, two: list[str]) -> None:
    rows = proj("metrics", two[0], "loss", "--json").json
    assert [(row["step"], row["value"]) for row in rows] == [(step, 1 / (step + 1)) for step in range(100)]
    table = list(csv.DictReader(io.StringIO(proj("metrics", "r0", "loss", "--csv").out)))
    assert [float(row["value"]) for row in table] == [row["value"] for row in rows]
    line, last, words = proj("metrics", "r0", "loss", "--width", "20").out.splitlines()
    assert (len(line), line[0], line[-1]) == (20, "█", "▁")
    assert last.startswith("loss: last 0.01 at step 99")
    assert words == "100 points from step 0, smallest 0.01, largest 1"
    assert proj("metrics", "r0", "same", "--json").json[0]["value"] == "nan"
    assert list(proj("metrics", "r0", "--json").json) == ["loss", "same"]
    assert proj("metrics", "r0", "none").code == 1


@pytest.mark.parametrize(("count", "limit"), [(1, 10), (2, 10), (10, 10), (11, 10), (1000, 10), (1000, 999), (5, 1)])
def test_a_course_is_thinned_evenly_and_keeps_its_ends(db: Database, count: int, limit: int) -> None:
    run_id = runs.create(db, NewRun()).run_id
    values.log_metrics(db, run_id, [Metric(key="m", value=n, timestamp=0, step=n) for n in range(count)])
    curve = downsampled(db, run_id, "m", limit)
    steps = [point.step for point in curve.points]
    assert (curve.count, curve.minimum, curve.maximum) == (count, 0, count - 1)
    assert (steps[0], steps[-1]) == (0, count - 1)
    assert len(steps) == max(min(count, limit), min(count, 2))
    gaps = [after - before for before, after in pairwise(steps)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_a_line_of_odd_numbers(db: Database) -> None:
    run_id = runs.create(db, NewRun()).run_id
    odd = [float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 0.0]
    values.log_metrics(db, run_id, [Metric(key="m", value=v, timestamp=0, step=n) for n, v in enumerate(odd)])
    assert sparkline(downsampled(db, run_id, "m", 60)) == "·█▁█▁▅"


def test_experiments(proj: Command, two: list[str]) -> None:
    made = proj("experiments", "create", "churn").out.strip()
    assert proj("experiments", "create", "churn").code == 1
    assert proj("experiments", "rename", "churn", "left").code == 0
    rows = proj("experiments", "list", "--json").json
    assert {row["name"]: row["runs"] for row in rows} == {"Default": len(two), "left": 0}
    assert "left" in proj("experiments", "list", "--filter", "name LIKE 'l%'").out
    assert proj("experiments", "delete", "left").err.strip().endswith(f"restore {made}")
    assert [row["name"] for row in proj("experiments", "list", "--json").json] == ["Default"]
    assert len(proj("experiments", "list", "--all", "--json").json) == 2
    assert proj("experiments", "restore", made).code == 0
    assert len(proj("experiments", "list", "--json").json) == 2
    assert proj("experiments", "delete", "nothing").code == 1
    assert proj("experiments", "delete", "Default").code == 1


def test_models(proj: Command, two: list[str], db: Database, home: Home) -> None:
    write_artifact(home.artifacts(two[0]), "model/MLmodel", [b"x"])
    logged = models.create(db, NewModel(name="m3", source_run_id=two[1])).model_id
    assert proj("models", "list").err == "no models\n"
    first = proj("models", "register", "it's", two[0])
    assert (first.out, first.err) == ("1\n", "version 1 of it's\n")
    assert proj("models", "register", "it's", "r1", "m3", "--description", "newer").out == "2\n"
    assert proj("models", "register", "it's", "r1", "none").code == 2
    assert versions.get(db, "it's", 1).location == (home.artifacts(two[0]) / "model").as_uri()
    assert versions.get(db, "it's", 2).source == f"models:/{logged}"
    assert proj("models", "stage", "it's", "2", "production").code == 0
    assert proj("models", "alias", "it's", "champion", "latest").code == 0
    shown = proj("models", "show", "it's", "--json").json
    assert shown["aliases"] == {"champion": 2}
    assert [(row["version"], row["stage"]) for row in shown["versions"]] == [(2, "Production"), (1, "None")]
    assert "champion=2" in proj("models", "list").out
    assert [row["name"] for row in proj("models", "list", "--json").json] == ["it's"]
    assert "Production" in proj("models", "show", "it's").out
    assert proj("models", "stage", "it's", "1", "Production", "--archive-existing").code == 0
    assert versions.get(db, "it's", 2).stage.value == "Archived"
    assert proj("models", "delete", "it's", "champion").code == 0
    assert proj("models", "alias", "it's", "champion", "1").code == 0
    assert proj("models", "alias", "it's", "champion", "--remove").code == 0
    assert registry.get(db, "it's").aliases == {}
    assert proj("models", "alias", "it's", "champion").code == proj("models", "delete", "it's").code == 2
    assert proj("models", "delete", "it's", "--all").code == 0
    gone = proj("models", "show", "it's")
    assert gone.code == 1
    assert "proj models list" in gone.err


def test_a_failed_registration_makes_no_model(proj: Command, two: list[str], db: Database) -> None:
    assert proj("models", "register", "new", two[0]).code == 2
    assert proj("models", "list", "--json").json == []
    versions_before = db.query("SELECT count(*) FROM model_versions")[0][0]
    registry.create(db, "new")
    versions.create(db, NewVersion(name="new", source="s3://x"))
    assert db.query("SELECT count(*) FROM model_versions")[0][0] == versions_before + 1


def test_columns_of_the_list(proj: Command, two: list[str]) -> None:
    columns = "id, params.alpha,metrics.loss,tags.team,metrics.none,status"
    rows = list(csv.DictReader(io.StringIO(proj("list", "--columns", columns, "--csv").out)))
    assert [row["id"] for row in rows] == two[::-1]
    assert (rows[1]["params.alpha"], rows[1]["metrics.loss"], rows[1]["tags.team"], rows[1]["metrics.none"]) == (
        "0.5",
        "0.01",
        "a",
        "",
    )
    assert "params.alpha" in proj("list", "--columns", "run,params.alpha").out
    assert proj("list", "--columns", "colour").code == 2
    assert proj("list", "--csv", "--experiment", "Default", "--status", "finished").out.count("\n") == 3


@pytest.mark.parametrize(("typed", "meant"), [("rnu", "mean run"), ("modles", "mean models"), ("x", "")])
def test_a_mistyped_command_gets_a_suggestion(proj: Command, typed: str, meant: str) -> None:
    said = proj(typed)
    assert said.code == 2
    assert f"`proj` has no command '{typed}'" in said.err
    assert meant in said.err
    assert ("Did you mean" in said.err) is bool(meant)


def test_the_limit_has_a_short_form(proj: Command, two: list[str]) -> None:
    assert [row["run_id"] for row in proj("list", "-n", "1", "--json").json] == two[1:]
