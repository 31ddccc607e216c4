"""Metadata of old releases that uv can't read, restated as their authors meant it."""

import re
from pathlib import Path

_DATEUTIL_2, _DATEUTIL_25 = "python-dateutil>=2", "python-dateutil>=2.5.0"
RESTATED = {
    **{("pandas", f"0.20.{patch}"): (_DATEUTIL_2, "pytz>=2011", "numpy>=1.7.0") for patch in range(4)},
    **{("pandas", f"0.21.{patch}"): (_DATEUTIL_2, "pytz>=2011", "numpy>=1.9.0") for patch in range(2)},
    ("pandas", "0.22.0"): (_DATEUTIL_2, "pytz>=2011", "numpy>=1.9.0"),
    **{("pandas", f"0.23.{patch}"): (_DATEUTIL_25, "pytz>=2011", "numpy>=1.9.0") for patch in range(5)},
    **{("pandas", f"0.24.{patch}"): (_DATEUTIL_25, "pytz>=2011", "numpy>=1.12.0") for patch in range(3)},
}
"""Requirements by name and version. These say ``pytz (>=2011k)``, which is no version since PEP 440."""


def restated_tables(place: str = "") -> str:
    """Return the tables of uv's configuration; ``place`` is what comes before their name in a ``pyproject.toml``."""
    return "".join(
        f'[[{place}dependency-metadata]]\nname = "{name}"\nversion = "{version}"\nrequires-dist = {list(requires)}\n\n'
        for (name, version), requires in RESTATED.items()
    )


def write_restated(folder: Path) -> None:
    """Write the configuration that uv reads in a folder, unless it is there."""
    text = restated_tables()
    path = folder / "uv.toml"
    if not path.is_file() or path.read_text("utf-8") != text:
        path.write_text(text, encoding="utf-8")


def restated_in(lock: str) -> tuple[str, ...]:
    """Name the packages of a lock whose metadata is restated."""
    pinned = re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", lock)
    return tuple(f"{name} {version}" for name, version in pinned if (name, version) in RESTATED)
