"""Charts of characters: what is drawn where, for any numbers and any size."""

import math

from hypothesis import given
from hypothesis import strategies as st

from runner.reporting.chart import Chart, ChartOptions, make_chart
from runner.reporting.series import Point, Series
from runner.reporting.terminal import GLYPHS, Style, draw


def series(values: list[float], name: str = "run") -> Series:
    points = tuple(Point(step=x, time=x, x=x, value=y, shown=y) for x, y in enumerate(values))
    numbers = [value for value in values if not math.isnan(value)]
    least, most = min(numbers, default=None), max(numbers, default=None)
    return Series(
        run_id="0" * 32, run_name=name, metric="loss", points=points, count=len(values), minimum=least, maximum=most
    )


def chart_of(*curves: list[float], **options: bool) -> Chart:
    found = make_chart([series(values) for values in curves], ChartOptions(**options))
    assert found is not None
    return found


def style(width: int = 60, height: int = 12, *, unicode: bool = True, colour: bool = False) -> Style:
    return Style(width=width, height=height, unicode=unicode, colour=colour)


def lines_of(chart: Chart, how: Style) -> list[str]:
    return ["".join(text for text, _ in pieces) for pieces in draw(chart, how)]


def test_a_falling_line() -> None:
    assert lines_of(chart_of([4, 3, 2, 1, 0]), style(24, 10, unicode=False)) == [
        "4 +**",
        "  |  **",
        "  |    ****",
        "2 +        *****",
        "  |             ****",
        "  |                 **",
        "0 +                   **",
        "  ++---------+---------+",
        "   0         2         4",
        "          step",
    ]


def test_a_gap_where_a_value_is_no_number() -> None:
    rows = lines_of(chart_of([1, 1, math.nan, math.inf, 1, 1, -math.inf, 1]), style(42, 9, unicode=False))
    (drawn,) = [row for row in rows if "*" in row]
    parts = [part for part in drawn[5:].split(" ") if part]
    assert len(parts) == 3
    assert len(parts[-1]) == 1
    assert chart_of([1, math.nan, 2, math.inf]).missing == 2


def test_curves_are_told_apart_without_colour() -> None:
    chart = chart_of([0, 0], [1, 1], [2, 2])
    plain = "\n".join(lines_of(chart, style()))
    assert all(letter * 20 in plain for letter in "abc")
    assert plain.index("c" * 20) < plain.index("b" * 20) < plain.index("a" * 20)
    coloured = draw(chart, style(colour=True))
    assert {index for pieces in coloured for _, index in pieces} == {None, 0, 1, 2}
    assert not any(letter in "".join(lines_of(chart, style(colour=True))) for letter in "abc")
    many = [[float(number)] * 2 for number in range(len(GLYPHS) + 1)]
    assert "g" * 20 in "\n".join(lines_of(chart_of(*many), style(colour=True)))


def test_a_log_axis_leaves_out_what_is_not_above_zero() -> None:
    chart = chart_of([100, 10, 1, 0, -5], log_y=True)
    assert chart.missing == 2
    assert [row.split()[0] for row in lines_of(chart, style(40, 14)) if "┤" in row] == ["100", "10", "1"]
    assert make_chart([series([0, -1])], ChartOptions(log_y=True)) is None
    assert make_chart([series([math.nan, math.inf])], ChartOptions()) is None


FLOATS = st.floats(allow_subnormal=True)


@given(
    st.lists(st.lists(FLOATS, min_size=1, max_size=20), min_size=1, max_size=8),
    st.integers(16, 90),
    st.integers(5, 30),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_any_curve_fits_its_space(
    curves: list[list[float]], width: int, height: int, unicode: bool, colour: bool, log: bool
) -> None:
    found = make_chart([series(values) for values in curves], ChartOptions(log_y=log))
    drawable = [y for values in curves for y in values if math.isfinite(y) and (y > 0 or not log)]
    if found is None:
        assert not drawable
        return
    assert found.missing == sum(map(len, curves)) - len(drawable)
    rows = lines_of(found, style(width, height, unicode=unicode, colour=colour))
    assert len(rows) == max(height, 5)
    # Labels of numbers with many digits leave at least four columns for the curve.
    assert all(len(row) <= max(width, 4 + 2 + 25) for row in rows)
    assert unicode or all(row.isascii() for row in rows)
