"""Curves of runs: horizontal axes, smoothing, downsampling, metrics that are missing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import NotFoundError, UsageError
from runner.reporting.series import RELATIVE, TIME, CurveRequest, Series, find_records, is_curve, read_curves, smooth
from runner.runs.local import LocalReader
from runner.store import values
from runner.store.database import Database
from runner.store.entities import Metric
from tests.reporting.conftest import START, MakeRun


def curves(reader: LocalReader, *words: str, x: str = "step", limit: int = 1000, smoothing: float = 0) -> list[Series]:
    request = CurveRequest(metrics=("loss",), x=x, limit=limit, smoothing=smoothing)
    return list(read_curves(reader, find_records(reader, words), request).series)


def test_points_are_placed_on_the_chosen_axis(reader: LocalReader, make_run: MakeRun) -> None:
    make_run("one", {"loss": [3, 2, 1], "epoch": [0.5, 1, 1.5]})
    for x, expected in (
        ("step", [0, 1, 2]),
        (TIME, [START / 1000 + number for number in range(3)]),
        (RELATIVE, [0, 1, 2]),
        ("epoch", [0.5, 1, 1.5]),
    ):
        (series,) = curves(reader, "one", x=x)
        assert [point.x for point in series.points] == expected
        assert [point.value for point in series.points] == [3, 2, 1]


def test_points_by_time_are_in_the_order_of_time(reader: LocalReader, make_run: MakeRun, db: Database) -> None:
    run_id = make_run("one", {})
    times = {0: 5000, 1: 1000, 2: 3000}
    values.log_metrics(db, run_id, [Metric(key="loss", value=s, timestamp=t, step=s) for s, t in times.items()])
    (series,) = curves(reader, "one", x=RELATIVE)
    assert [(point.x, point.value) for point in series.points] == [(0, 1), (2, 2), (4, 0)]


@pytest.mark.parametrize(("every", "other"), [(1, 100), (100, 1)])
def test_two_metrics_meet_at_the_steps_that_both_have(
    reader: LocalReader, make_run: MakeRun, db: Database, every: int, other: int
) -> None:
    run_id = make_run("one", {})
    for name, stride, factor in (("loss", every, 1), ("epoch", other, 10)):
        points = [Metric(key=name, value=step * factor, timestamp=1, step=step) for step in range(0, 2000, stride)]
        values.log_metrics(db, run_id, points)
    (series,) = curves(reader, "one", x="epoch", limit=10)
    assert len(series.points) == 10
    assert all(point.x == 10 * point.value and point.step % 100 == 0 for point in series.points)
    assert series.count == 2000 // every


def test_the_last_value_of_a_step_counts_over_another_metric(
    reader: LocalReader, make_run: MakeRun, db: Database
) -> None:
    run_id = make_run("one", {"epoch": [7]})
    values.log_metrics(db, run_id, [Metric(key="loss", value=v, timestamp=v, step=0) for v in (1, 2, 3)])
    (series,) = curves(reader, "one", x="epoch")
    assert [(point.x, point.value) for point in series.points] == [(7, 3)]


def test_long_curves_are_downsampled_with_totals_of_all_points(reader: LocalReader, make_run: MakeRun) -> None:
    make_run("one", {"loss": [float(step) for step in range(5000)]})
    (series,) = curves(reader, "one", limit=50)
    assert len(series.points) <= 50
    assert (series.points[0].step, series.last) == (0, 4999)
    assert (series.count, series.minimum, series.maximum) == (5000, 0, 4999)


def test_runs_without_the_metric_are_named(reader: LocalReader, make_run: MakeRun) -> None:
    make_run("one", {"loss": [1, 2]})
    other = make_run("two", {"rmse": [1]})
    third = make_run("three", {"loss": [1], "epoch": [1]})
    request = CurveRequest(metrics=("loss",))
    found = read_curves(reader, find_records(reader, ["one", "two", "one"]), request)
    assert [series.run_name for series in found.series] == ["one"]
    assert found.notices == (f"run {other[:8]} has no metric 'loss'",)
    request = CurveRequest(metrics=("loss",), x="epoch")
    found = read_curves(reader, find_records(reader, ["one", "three"]), request)
    assert [series.run_id for series in found.series] == [third]
    assert "no metric 'epoch'" in found.notices[0]


@pytest.mark.parametrize(
    ("metrics", "x", "expected"),
    [
        (("los",), "step", ("has no metric 'los'", "did you mean 'loss'?")),
        (("loss",), "epohc", ("has no metric 'epohc'", "did you mean 'epoch'?")),
        (("quite different",), "step", ("has no metric", "Their metrics are epoch, loss.")),
        (("loss",), "loss", ("can't be drawn over itself", None)),
        (("loss", "epoch"), "late", ("nothing to draw", None)),
    ],
)
def test_names_that_are_wrong(
    reader: LocalReader,
    make_run: MakeRun,
    db: Database,
    metrics: tuple[str, ...],
    x: str,
    expected: tuple[str, str | None],
) -> None:
    run_id = make_run("one", {"loss": [1, 2], "epoch": [1, 2]})
    if x == "late":
        values.log_metrics(db, run_id, [Metric(key="late", value=1, timestamp=1, step=99)])
    with pytest.raises((NotFoundError, UsageError), match=expected[0]) as error:
        read_curves(reader, find_records(reader, ["one"]), CurveRequest(metrics=metrics, x=x))
    assert error.value.hint == expected[1]


def test_a_run_without_metrics(reader: LocalReader, make_run: MakeRun) -> None:
    make_run("one", {})
    with pytest.raises(NotFoundError, match="have no metrics"):
        curves(reader, "one")


@given(st.lists(st.floats()), st.floats(0, 0.99))
def test_smoothing_stays_within_what_was_logged(logged: list[float], weight: float) -> None:
    found = list(smooth(logged, weight))
    finite = [value for value in logged if math.isfinite(value)]
    for before, after in zip(logged, found, strict=True):
        if math.isfinite(before):
            slack = 1e-6 * max(map(abs, finite)) + 1e-300
            assert min(finite) - slack <= after <= max(finite) + slack
        else:
            assert repr(before) == repr(after)


def test_smoothing_is_corrected_for_its_start(reader: LocalReader, make_run: MakeRun) -> None:
    make_run("one", {"loss": [5, 5, math.nan, 5, 9]})
    (series,) = curves(reader, "one", smoothing=0.5)
    shown = [point.shown for point in series.points]
    assert shown[:2] == [5, 5]
    assert math.isnan(shown[2])
    assert 5 < shown[4] < 9
    assert series.last == 9
    assert is_curve(series)
