"""`proj list`: the columns that fit, the primary metric, nested runs, and CSV as data."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.cli.main import run_command
from runner.cli.tables import is_number
from runner.model import Parameter, ParameterRecord, RunDetails, RunStatus
from runner.runs.primary_metric import PrimaryMetric, best_runs, declared_metrics, usual_goal
from runner.settings import Home
from runner.store import runs, values
from runner.store.database import Database
from runner.store.entities import Metric, NewRun
from runner.store.search import SearchQuery, search_records
from tests.cli.terminals import uncoloured

Capture = pytest.CaptureFixture[str]
Tags = Mapping[str, str]

NAMES = (
    "lr",
    "depth",
    "batch",
    "dropout",
    "optimizer",
    "seed",
    "decay",
    "augment",
    "hidden",
    "warmup",
    "data",
    "epochs",
)
START = 1_700_000_000_000


def make(db: Database, number: int, params: Tags, metrics: Mapping[str, float], tags: Tags | None = None) -> str:
    known = tuple(ParameterRecord(name=name, value=value) for name, value in params.items())
    new = NewRun(
        name=f"experimental-run {number}",
        started_at=START + number * 60_000,
        tags=tags or {},
        details=RunDetails(parameters=known),
    )
    run = runs.create(db, new)
    values.record_parameters(db, run.run_id, [Parameter(name=name, value=value) for name, value in params.items()])
    for moment, (name, value) in enumerate(metrics.items()):
        values.log_metrics(db, run.run_id, [Metric(key=name, value=value, timestamp=START + moment)])
    runs.update(db, run.run_id, status=RunStatus.FINISHED, ended_at=START + number * 60_000 + 1500)
    return run.run_id


def make_many(db: Database) -> list[str]:
    made = []
    for number in range(30):
        params = {name: str((number * place) % 13) for place, name in enumerate(NAMES, 1)}
        params |= {
            "epochs": "50",
            "optimizer": ("adam", "sgd")[number % 2],
            "data": f"data/processed/{'x' * 20}{number}.csv",
        }
        made.append(
            make(db, number, params, {"val_acc": number / 31, "train_loss": 1 / (number + 3), "auc": 0.123456789})
        )
    return made


def table(text: str) -> tuple[list[str], list[str]]:
    """Return the titles and the lines of the rows."""
    lines = text.splitlines()
    ruler = next(number for number, line in enumerate(lines) if "─" in line)
    return lines[ruler - 1].split(), [line for line in lines[ruler + 1 :] if line]


@pytest.mark.parametrize(
    ("width", "first", "absent"),
    [
        (60, ["run", "status", "val_acc", "lr"], {"epochs", "name", "took"}),
        (100, ["run", "name", "status", "val_acc", "lr", "depth", "batch"], {"epochs", "took", "experiment"}),
        (240, ["run", "name", "status", "val_acc", "lr", "depth", "batch", "dropout", "optimizer"], {"epochs"}),
    ],
)
def test_what_differs_is_shown_as_far_as_it_fits(
    db: Database, tmp_path: Path, width: int, first: list[str], absent: set[str]
) -> None:
    made = make_many(db)
    shown = uncoloured(width, tmp_path, "list", "-n", "30")
    titles, rows = table(shown)
    assert titles[: len(first)] == first
    assert not absent & set(titles)
    assert max(map(len, shown.splitlines())) <= width
    assert [row.split()[0] for row in rows] == [run_id[:8] for run_id in reversed(made)]
    assert all("FINISHED" in row for row in rows)


def test_a_pipe_gets_all_columns(db: Database, capsys: Capture) -> None:
    make_many(db)
    assert run_command(["list"]) == 0
    titles, rows = table(capsys.readouterr().out)
    assert titles[:4] == ["run", "name", "status", "val_acc"]
    assert set(titles) >= {*NAMES, "auc", "train_loss", "started", "took", "code"} - {"epochs"}
    assert "data/processed/xxxxxxxxxxxxxxxxxxxx29.csv" in rows[0]
    assert len(rows) == 20


def test_left_out_columns_are_named(db: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_many(db)
    uncoloured(80, tmp_path, "list")
    said = capfd.readouterr().err
    assert said.startswith("not shown: ")
    assert "--csv" in said


@pytest.mark.parametrize(
    ("tags", "first", "marked"),
    [
        ({}, "val_acc", 29),  # the first logged, and its usual goal
        ({"proj.metric": "train_loss"}, "train_loss", 29),
        ({"proj.metric": "train_loss", "proj.goal": "max"}, "train_loss", 27),
        ({"proj.metric": "odd", "proj.goal": "min"}, "odd", 27),
        ({"proj.metric": "odd"}, "odd", None),
        ({"proj.metric": "absent", "proj.goal": "max"}, "val_acc", 29),
    ],
)
def test_the_primary_metric_is_first_and_its_best_marked(
    db: Database, capsys: Capture, tags: Tags, first: str, marked: int | None
) -> None:
    for number in (27, 28, 29):
        make(db, number, {}, {"val_acc": number / 31, "train_loss": 1 / number, "odd": float(number)}, tags)
    make(db, 30, {}, {"val_acc": float("nan"), "odd": float("nan")}, tags)
    make(db, 31, {}, {}, tags)
    run_command(["list"])
    titles, rows = table(capsys.readouterr().out)
    assert next(title for title in titles if title in ("val_acc", "train_loss", "odd")) == first
    with_mark = [row for row in rows if "▲" in row or "▼" in row]
    assert [row.split()[2] for row in with_mark] == ([] if marked is None else [str(marked)])


@pytest.mark.parametrize(
    ("name", "goal"),
    [
        *(
            ("loss", "min"),
            ("val_loss", "min"),
            ("train/logloss", "min"),
            ("rmse", "min"),
            ("mae", "min"),
            ("WER", "min"),
        ),
        *(
            ("val_acc", "max"),
            ("accuracy", "max"),
            ("roc_auc", "max"),
            ("f1", "max"),
            ("f1_score", "max"),
            ("r2", "max"),
        ),
        *(("epoch", None), ("lr", None), ("glossary", None), ("account", None), ("mapping", None), ("terror x", None)),
    ],
)
def test_usual_goals(name: str, goal: str | None) -> None:
    assert usual_goal(name) == goal


def test_equal_values_have_no_best(db: Database, home: Home) -> None:
    for number in range(2):
        make(db, number, {}, {"acc": 0.5})
    records = search_records(db, SearchQuery(), home).records
    assert best_runs(records, PrimaryMetric(name="acc", goal="max")) == frozenset()
    assert declared_metrics(records) == ()


class TestNested:
    @pytest.fixture
    def family(self, db: Database) -> dict[str, str]:
        """Return a sweep with two trials, the first of which has a run of its own, an orphan and another run."""
        made = {"sweep": make(db, 0, {}, {})}
        for number, (name, parent) in enumerate((("one", "sweep"), ("two", "sweep"), ("inner", "one")), 1):
            made[name] = make(db, number, {}, {"acc": number / 10}, {"mlflow.parentRunId": made[parent]})
        made["orphan"] = make(db, 4, {}, {}, {"mlflow.parentRunId": "f" * 32})
        made["other"] = make(db, 5, {}, {})
        return made

    def test_they_are_counted_at_their_parents(self, family: dict[str, str], capsys: Capture) -> None:
        run_command(["list"])
        titles, rows = table(capsys.readouterr().out)
        assert titles[:3] == ["run", "name", "nested"]
        assert [row.split()[0] for row in rows] == [family[name][:8] for name in ("other", "orphan", "sweep")]
        assert "+2" in rows[2]

    def test_a_tree_has_all(self, family: dict[str, str], capsys: Capture) -> None:
        run_command(["list", "--tree"])
        _, rows = table(capsys.readouterr().out)
        shown = [(row.index(family[name][:8]), name) for row, name in zip(rows, list_order(), strict=True)]
        assert shown == [(1, "other"), (1, "orphan"), (1, "sweep"), (3, "one"), (5, "inner"), (3, "two")]

    @pytest.mark.parametrize(
        "words", [("--filter", "metrics.acc > 0"), ("--order-by", "metrics.acc DESC"), ("--json",), ("--csv",)]
    )
    def test_searches_and_data_have_all(self, family: dict[str, str], capsys: Capture, words: tuple[str, ...]) -> None:
        run_command(["list", *words])
        out = capsys.readouterr().out
        assert all(family[name][:8] in out for name in ("one", "two", "inner"))

    def test_a_circle_ends(self, db: Database, capsys: Capture) -> None:
        first = make(db, 0, {}, {})
        second = make(db, 1, {}, {}, {"mlflow.parentRunId": first})
        values.set_tags(db, first, {"mlflow.parentRunId": second})
        top = make(db, 2, {}, {})
        values.set_tags(db, second, {"mlflow.parentRunId": top})
        values.set_tags(db, first, {"mlflow.parentRunId": second})
        values.set_tags(db, top, {"mlflow.parentRunId": first})
        assert run_command(["list", "--tree", "--filter", "name = 'experimental-run 2'"]) == 0
        out = capsys.readouterr().out
        assert [out.count(run_id[:8]) for run_id in (first, second, top)] == [1, 1, 1]


def list_order() -> tuple[str, ...]:
    return ("other", "orphan", "sweep", "one", "inner", "two")


class TestColumns:
    def test_patterns(self, db: Database, capsys: Capture) -> None:
        make(
            db,
            0,
            {"lr": "0.1", "lr_decay": "2", "depth": "3"},
            {"val/loss": 0.25, "val/acc": 0.5},
            {"team": "a", "x y": "1"},
        )
        make(db, 1, {"seed": "7"}, {})

        def header(columns: str) -> str:
            assert run_command(["list", "--csv", "--columns", columns]) == 0
            return capsys.readouterr().out.splitlines()[0]

        assert header("name,params.*") == "name,params.seed,params.lr,params.lr_decay,params.depth"
        assert header("params.lr*,metrics.*,tags.*") == (
            "params.lr,params.lr_decay,metrics.val/acc,metrics.val/loss,tags.team,tags.x y"
        )
        assert header("tags.x y,params.absent,params.lr,params.*") == (
            "tags.x y,params.absent,params.lr,params.seed,params.lr_decay,params.depth"
        )
        run_command(["list", "--columns", "name,params,metrics,tags"])
        out = capsys.readouterr().out
        assert "lr=0.1, lr_decay=2, depth=3" in out
        assert "val/acc=0.5, val/loss=0.25" in out

    @pytest.mark.parametrize("columns", ["alpha", "param.x", "params.", "runs"])
    def test_what_is_no_column(self, capsys: Capture, columns: str) -> None:
        assert run_command(["list", "--columns", columns]) == 2
        said = capsys.readouterr().err
        assert "There is no column" in said
        assert "params.*" in said

    def test_numbers_are_never_cut(self, db: Database, tmp_path: Path) -> None:
        make(db, 0, {"text": "word " * 30}, {"long": 0.1234567891, "small": 1.5e-17, "big": -123456789012.0})
        shown = uncoloured(60, tmp_path, "list", "--columns", "run,params.text,metrics.long,metrics.small,metrics.big")
        assert all(number in shown.split() for number in ("0.1234567891", "1.5e-17", "-1.23456789e+11"))


def test_csv_is_data(db: Database, capsys: Capture) -> None:
    run_id = make(db, 0, {"a,b": 'x"y', "n": "1"}, {"third": 1 / 3, "nan": float("nan")})
    child = make(db, 1, {}, {"big": 1e300}, {"mlflow.parentRunId": run_id})
    runs.create(db, NewRun(name="running", started_at=START + 120_000))
    assert run_command(["list", "--csv"]) == 0
    _, second, first = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (first["run"], second["run"], second["parent"]) == (run_id, child, run_id)
    assert (first["started"], first["ended"]) == ("2023-11-14T22:13:20.000Z", "2023-11-14T22:13:21.500Z")
    assert (first["seconds"], float(first["metrics.third"]), first["metrics.nan"]) == ("1.5", 1 / 3, "nan")
    assert (first["params.a,b"], first["params.n"], second["params.n"]) == ('x"y', "1", "")
    assert float(second["metrics.big"]) == 1e300


def test_csv_without_runs_has_titles(capsys: Capture) -> None:
    assert run_command(["list", "--csv"]) == 0
    assert capsys.readouterr().out.startswith("run,name,experiment,")


def test_a_parameter_and_a_metric_of_one_name(db: Database, capsys: Capture) -> None:
    make(db, 0, {"name": "p", "loss": "1"}, {"loss": 0.5})
    make(db, 1, {"name": "q", "loss": "2"}, {"loss": 0.25})
    run_command(["list"])
    titles, rows = table(capsys.readouterr().out)
    assert {"name", "params.name", "params.loss", "metrics.loss"} <= set(titles)
    assert "run 1" in rows[0]


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_what_is_printed_of_a_number_is_a_number(value: float) -> None:
    assert is_number(f"{value:.5g}")
    assert is_number(repr(value))


def test_json_keeps_its_keys(db: Database, capsys: Capture) -> None:
    make(db, 0, {"a": "1"}, {"m": 1.0})
    run_command(["list", "--json"])
    (record,) = json.loads(capsys.readouterr().out)
    assert {"run_id", "parameters", "metrics", "tags", "command", "template"} <= set(record)
