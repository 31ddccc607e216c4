"""Parses and formats durations such as ``1h30m``."""

import re

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_LONGEST = 100
_PART = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([smhdw])"


def seconds_of(text: str) -> float | None:
    """Return the seconds of a duration such as ``1h30m``, or None if the text is not a duration."""
    if len(text) > _LONGEST:
        return None
    parts = re.findall(_PART, text.lower())
    rest = re.sub(_PART, "", text.lower()).strip()
    return sum(float(number) * UNITS[unit] for number, unit in parts) if parts and not rest else None


def format_duration(seconds: float) -> str:
    """Format a duration for people: ``4.2 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if round(seconds, 1) < UNITS["m"]:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(max(int(seconds), 60), 60)
    return f"{minutes} min {rest} s" if seconds < UNITS["h"] else f"{minutes // 60} h {minutes % 60} min"
