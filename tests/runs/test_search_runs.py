"""Tests `runner.search_runs` as a notebook calls it."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

import runner
from runner.errors import InvalidValueError, NotFoundError, UsageError
from runner.model import Code, RunDetails, RunStatus
from runner.store import experiments, runs, values
from runner.store.database import Database
from runner.store.entities import Metric, NewRun
from tests.conftest import ROOT
from tests.support.standalone_server import standalone_server

CODE = Code(tree="1" * 40, swhid="swh:1:dir:1", commit="a" * 40, dirty=True)


@pytest.fixture
def two(db: Database) -> tuple[str, str]:
    number = experiments.create(db, "churn")
    one = runs.create(db, NewRun(name="one", started_at=1_700_000_000_000, details=RunDetails(code=CODE))).run_id
    two = runs.create(db, NewRun(name="two", started_at=1_700_000_100_000, experiment_id=number)).run_id
    values.log_params(db, one, [("alpha", "0.5")])
    values.log_metrics(db, one, [Metric(key="rmse", value=0.5, timestamp=1)])
    values.log_metrics(db, two, [Metric(key="rmse", value=math.nan, timestamp=1)])
    runs.update(db, one, status=RunStatus.FINISHED, ended_at=1_700_000_002_500)
    return one, two


def test_records(two: tuple[str, str]) -> None:
    found = runner.search_runs()
    assert [record.run_id for record in found] == [two[1], two[0]]
    assert (found[1].metrics, found[1].code) == ({"rmse": 0.5}, CODE)
    assert [record.run_id for record in runner.search_runs("metrics.rmse < 1")] == [two[0]]
    assert [record.run_id for record in runner.search_runs(order_by=["start_time ASC"], max_results=1)] == [two[0]]
    assert [record.run_id for record in runner.search_runs(order_by="start_time ASC")] == list(two)
    assert [record.run_id for record in runner.search_runs(experiment="churn")] == [two[1]]
    assert len(runner.search_runs(order_by=None)) == 2  # type: ignore[call-overload]  # as MLflow has it


def test_invalid_arguments_are_refused(two: tuple[str, str]) -> None:  # noqa: ARG001
    with pytest.raises(InvalidValueError, match="character"):
        runner.search_runs("rmse is nice")
    with pytest.raises(NotFoundError, match="nothing"):
        runner.search_runs(experiment="nothing")
    with pytest.raises(InvalidValueError):
        runner.search_runs(max_results=0)
    with pytest.raises(TypeError, match="max_results"):
        runner.search_runs(max_results="many")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="not the address of a server"):
        runner.search_runs(tracking_uri="mlruns")


def test_a_frame(two: tuple[str, str]) -> None:
    pandas = pytest.importorskip("pandas")
    frame = runner.search_runs(as_frame=True, order_by=["start_time ASC"])
    assert list(frame["run_id"]) == list(two)
    assert frame["metrics.rmse"].dtype == "float64"
    assert (frame["metrics.rmse"][0], math.isnan(frame["metrics.rmse"][1])) == (0.5, True)
    assert frame["params.alpha"][0] == "0.5"
    assert pandas.isna(frame["params.alpha"][1])
    assert list(frame["tags.mlflow.runName"]) == ["one", "two"]
    assert (frame["commit"][0], frame["dirty"][0]) == ("a" * 40, True)
    assert frame["started_at"][0] == pandas.Timestamp("2023-11-14T22:13:20Z")
    assert str((frame["ended_at"] - frame["started_at"])[0]) == "0 days 00:00:02.500000"
    assert pandas.isna(frame["ended_at"][1])


def test_an_empty_frame_has_the_columns(db: Database) -> None:  # noqa: ARG001
    pytest.importorskip("pandas")
    frame = runner.search_runs(as_frame=True)
    assert len(frame) == 0
    assert {"run_id", "status", "started_at", "commit"} <= set(frame.columns)


def test_without_pandas(two: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert len(runner.search_runs()) == len(two)
    with pytest.raises(ImportError, match=r"needs pandas, which is not installed: pip install pandas"):
        runner.search_runs(as_frame=True)


def test_pandas_is_not_loaded_for_a_list(two: tuple[str, str]) -> None:  # noqa: ARG001
    code = "import runner, sys\nprint(len(runner.search_runs()), 'pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "2 False\n"


def test_a_server(two: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_room: Path) -> None:
    with standalone_server(tmp_path) as standalone:
        monkeypatch.setenv("PROJ_HOME", str(clean_room / "mine"))
        assert runner.search_runs() == []
        assert [record.run_id for record in runner.search_runs(tracking_uri=standalone.url)] == [two[1], two[0]]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", standalone.url)
        assert len(runner.search_runs()) == 2
        assert runner.search_runs(tracking_uri="") == []
