"""Parses durations such as ``1h30m``."""

import re

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST = 100


def seconds_of(text: str) -> float | None:
    """Return the seconds of a duration such as ``1h30m``, or None if the text is not a duration."""
    if len(text) > LONGEST:
        return None
    parts = re.findall(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smhd])", text.lower())
    rest = re.sub(r"\d{1,9}(?:\.\d{1,9})?\s*[smhd]", "", text.lower()).strip()
    return sum(float(number) * UNITS[unit] for number, unit in parts) if parts and not rest else None
