"""Durations in options and manifests: one syntax, and the way back for people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.base.durations import UNITS, format_duration, seconds_of

PARTS = st.lists(st.tuples(st.integers(0, 999_999), st.sampled_from(sorted(UNITS))), min_size=1, max_size=5)


@given(parts=PARTS, space=st.sampled_from(("", " ")), upper=st.booleans())
def test_parts_add_up_with_or_without_spaces_and_in_any_case(
    parts: list[tuple[int, str]], space: str, upper: bool
) -> None:
    text = space.join(f"{number}{space}{unit}" for number, unit in parts)
    assert seconds_of(text.upper() if upper else text) == sum(number * UNITS[unit] for number, unit in parts)


@pytest.mark.parametrize("text", ["", "h", "5", "-1d", "1h-5m", "soon", "1y", "1.h", "1e3s", "٣s", "1s" * 60, "nan s"])
def test_other_texts_are_no_durations(text: str) -> None:
    assert seconds_of(text) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.95, "1 min 0 s"),
        (59.99, "1 min 0 s"),
        (60, "1 min 0 s"),
        (3599.9, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (90061, "25 h 1 min"),
    ],
)
def test_durations_are_formatted_with_two_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
