"""Defines the axes of a chart: scale, positions of values, and ticks with labels."""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone, tzinfo
from enum import Enum

from msgspec import Struct

Tick = tuple[float, str]

_STEPS = (1.0, 2.0, 5.0, 10.0)
_LEAST, _LARGEST = 5e-324, 1.7976931348623157e308
_EXACT = 2.0**52
"""Below this number a difference of 1 can be seen."""
_MANY_DIGITS = 17
_PLAIN_FROM, _PLAIN_TO = 1e-4, 1e6
"""Numbers between these are written without an exponent."""
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_TIME_STEPS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0),
    *(count * _MINUTE for count in (1, 2, 5, 10, 15, 30)),
    *(count * _HOUR for count in (1, 2, 3, 6, 12)),
    *(count * _DAY for count in (1, 2, 7, 14, 30, 90, 365, 3650, 36500)),
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Scale(str, Enum):
    """How the values of an axis are placed and labelled."""

    LINEAR = "linear"
    WHOLE = "whole"
    """Linear, with ticks at whole numbers only."""
    LOG = "log"
    TIME = "time"
    """Seconds since 1970, labelled as times of day and dates."""


class Axis(Struct, frozen=True, kw_only=True):
    """An axis from ``low`` to ``high``, which differ and are finite; positive on a logarithmic scale."""

    title: str
    low: float
    high: float
    scale: Scale = Scale.LINEAR
    zone: tzinfo | None = timezone.utc
    """Time zone of the labels of a time axis; None is the zone of this machine."""

    def share(self, value: float) -> float:
        """Return the position of a value: 0 at the low end, 1 at the high end."""
        if self.scale is Scale.LOG:
            low, high, value = math.log10(self.low), math.log10(self.high), math.log10(value)
        else:
            # Halving avoids an overflow in the difference of very large numbers.
            low, high, value = self.low / 2, self.high / 2, value / 2
        return (value - low) / (high - low) if high > low else 0.5

    def ticks(self, count: int) -> tuple[Tick, ...]:
        """Return about ``count`` ticks at round values, at least two."""
        if self.scale is Scale.TIME:
            return _time_ticks(self.low, self.high, count, self.zone)
        if self.scale is Scale.LOG:
            found = _log_values(self.low, self.high, count)
            if len(found) > 1:
                return tuple((value, f"{value:g}") for value in found)
        values, step = _linear_values(self.low, self.high, count, is_whole=self.scale is Scale.WHOLE)
        return tuple(zip(values, number_labels(values, step), strict=True))


def make_axis(
    title: str, values: Iterable[float], scale: Scale = Scale.LINEAR, zone: tzinfo | None = timezone.utc
) -> Axis:
    """Return the axis that spans some finite values; a single value gets space on both sides.

    Raises:
        ValueError: there are no values.
    """
    found = list(values)
    low, high = min(found), max(found)
    if scale is Scale.LOG:
        if not math.log10(high) > math.log10(low):
            low, high = max(low / 2, _LEAST), min(high * 2, _LARGEST)
    elif not high / 2 - low / 2 > 0:
        margin = 1.0 if scale in (Scale.WHOLE, Scale.TIME) and abs(low) < _EXACT else max(0.5, abs(low) * 0.05)
        low, high = max(low - margin, -_LARGEST), min(high + margin, _LARGEST)
    return Axis(title=title, low=low, high=high, scale=scale, zone=zone)


def number_labels(values: Sequence[float], step: float) -> tuple[str, ...]:
    """Return the texts of numbers that are multiples of a step, with as many digits as tell them apart."""
    largest = max((abs(value) for value in values), default=0.0)
    if largest == 0 or step <= 0 or not math.isfinite(step):
        return tuple(f"{value + 0.0:.4g}" for value in values)
    exponent = math.floor(math.log10(step) + 1e-9)
    if largest < _PLAIN_TO and step >= _PLAIN_FROM:
        return tuple(f"{value + 0.0:.{max(0, -exponent)}f}" for value in values)
    digits = min(_MANY_DIGITS, max(1, math.floor(math.log10(largest)) - exponent + 1))
    return tuple(f"{value + 0.0:.{digits}g}" for value in values)


def _linear_values(low: float, high: float, count: int, *, is_whole: bool) -> tuple[list[float], float]:
    """Return multiples of a round step within a range, at least two, else its ends; and the step."""
    step = (high / 2 - low / 2) / max(1, count) * 2
    if math.isfinite(step) and step > 0 and math.isfinite(high - low):
        step = _round_up(step)
        step = max(1.0, step) if is_whole else step
        values = [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)] if step else []
        if len(values) > 1:
            return values, step
    return [low, high], 1.0 if is_whole else (high / 2 - low / 2) / 100


def _round_up(step: float) -> float:
    magnitude = 10.0 ** math.floor(math.log10(step))
    return next((factor * magnitude for factor in _STEPS if factor * magnitude >= step), 10 * magnitude)


def _log_values(low: float, high: float, count: int) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max(1, math.ceil((last - first) / max(1, count)))
    powers = range(math.ceil(first / stride) * stride, last + 1, stride)
    found: list[float] = []
    for factors in ((1,), (1, 2, 5)):
        values = [float(f"{factor}e{power}") for power in powers for factor in factors]
        found = [value for value in values if low <= value <= high]
        if len(found) > 2:  # noqa: PLR2004  enough to show that the scale is logarithmic
            break
    return found


def _time_ticks(low: float, high: float, count: int, zone: tzinfo | None) -> tuple[Tick, ...]:
    wanted = (high - low) / max(1, count)
    step = next((one for one in _TIME_STEPS if one >= wanted), 0.0)
    start = time_of(low, zone)
    if not step or start is None or time_of(high, zone) is None:
        values, width = _linear_values(low, high, count, is_whole=False)
        return tuple(zip(values, number_labels(values, width), strict=True))
    offset = (start.utcoffset() or timedelta()).total_seconds()
    numbers = range(math.ceil((low + offset) / step), math.floor((high + offset) / step) + 1)
    moments = [number * step - offset for number in numbers]
    moments = moments if len(moments) > 1 else [low, high]
    return tuple((moment, _time_label(moment, step, zone)) for moment in moments)


def _time_label(moment: float, step: float, zone: tzinfo | None) -> str:
    found = time_of(moment, zone)
    if found is None:
        return f"{moment:g}"
    if step >= _DAY:
        return found.strftime("%Y-%m-%d")
    if step >= _MINUTE:
        return found.strftime("%H:%M")
    return found.strftime("%H:%M:%S") if step >= 1 else found.strftime("%H:%M:%S.%f")[:-3]


def time_of(seconds: float, zone: tzinfo | None) -> datetime | None:
    """Return a time given in seconds since 1970; None if it is out of range, as clients may log any number."""
    try:
        return (_EPOCH + timedelta(seconds=seconds)).astimezone(zone)
    except (OverflowError, ValueError, OSError):
        return None
