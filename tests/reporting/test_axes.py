"""Axes: round ticks within the range, labels that differ, for any numbers."""

import math
from datetime import timedelta, timezone

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from runner.reporting.axes import Axis, Scale, make_axis, time_of

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(1, 30)


@given(st.lists(NUMBERS, min_size=1, max_size=5), st.sampled_from([Scale.LINEAR, Scale.WHOLE, Scale.TIME]), COUNTS)
def test_every_number_has_a_place_between_ticks_in_order(found: list[float], scale: Scale, count: int) -> None:
    axis = make_axis("x", found, scale)
    assert axis.low < axis.high
    assert all(0 <= axis.share(value) <= 1 for value in found)
    check_ticks(axis, count)


@given(st.lists(st.floats(5e-324, 1.7e308), min_size=1, max_size=5), COUNTS)
def test_every_positive_number_has_a_place_on_a_log_axis(found: list[float], count: int) -> None:
    axis = make_axis("x", found, Scale.LOG)
    assert 0 < axis.low < axis.high
    assert all(-1e-9 <= axis.share(value) <= 1 + 1e-9 for value in found)
    check_ticks(axis, count)


def check_ticks(axis: Axis, count: int) -> None:
    values = [value for value, _ in axis.ticks(count)]
    assert len(values) >= 2
    assert values == sorted(values)
    slack = 1e-9 * max(abs(axis.low), abs(axis.high))
    assert all(axis.low - slack <= value <= axis.high + slack for value in values)
    assert len(values) <= 4 * count + 4


@given(NUMBERS, NUMBERS, COUNTS)
def test_labels_of_a_linear_axis_differ(one: float, other: float, count: int) -> None:
    assume(abs(one - other) > 1e-9 * max(abs(one), abs(other)) and math.isfinite(one - other))
    labels = [label for _, label in make_axis("x", [one, other]).ticks(count)]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("low", "high", "scale", "expected"),
    [
        (0, 1, Scale.LINEAR, "0.0 0.2 0.4 0.6 0.8 1.0"),
        (-3, 7, Scale.LINEAR, "-2 0 2 4 6"),
        (0, 2e9, Scale.LINEAR, "0 5e+08 1e+09 1.5e+09 2e+09"),
        (0, 3, Scale.WHOLE, "0 1 2 3"),
        (0.01, 1000, Scale.LOG, "0.01 0.1 1 10 100 1000"),
        (0.3, 4, Scale.LOG, "0.5 1 2"),
        (1.0, 1.1, Scale.LOG, "1.00 1.05 1.10"),
        (1e-12, 1e12, Scale.LOG, "1e-10 1e-05 1 100000 1e+10"),
        (1_700_000_000, 1_700_000_600, Scale.TIME, "22:14 22:16 22:18 22:20 22:22"),
        (1_700_000_000, 1_700_000_004, Scale.TIME, "22:13:20 22:13:21 22:13:22 22:13:23 22:13:24"),
        (1_700_000_000, 1_700_400_000, Scale.TIME, "2023-11-15 2023-11-16 2023-11-17 2023-11-18 2023-11-19"),
    ],
)
def test_ticks(low: float, high: float, scale: Scale, expected: str) -> None:
    assert " ".join(label for _, label in Axis(title="", low=low, high=high, scale=scale).ticks(5)) == expected


def test_times_are_labelled_in_the_zone_of_the_axis() -> None:
    zone = timezone(timedelta(hours=5, minutes=45))
    ticks = Axis(title="", low=1_700_000_000, high=1_700_040_000, scale=Scale.TIME, zone=zone).ticks(4)
    assert [label for _, label in ticks] == ["06:00", "09:00", "12:00", "15:00"]
    assert time_of(1e300, timezone.utc) is None
