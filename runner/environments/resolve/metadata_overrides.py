"""Metadata overrides for old releases whose metadata uv can't parse or that lack requirements."""

import re
from pathlib import Path

_DATEUTIL_2, _DATEUTIL_25 = "python-dateutil>=2", "python-dateutil>=2.5.0"
OVERRIDES = {
    **{("pandas", f"0.20.{patch}"): (_DATEUTIL_2, "pytz>=2011", "numpy>=1.7.0") for patch in range(4)},
    **{("pandas", f"0.21.{patch}"): (_DATEUTIL_2, "pytz>=2011", "numpy>=1.9.0") for patch in range(2)},
    ("pandas", "0.22.0"): (_DATEUTIL_2, "pytz>=2011", "numpy>=1.9.0"),
    **{("pandas", f"0.23.{patch}"): (_DATEUTIL_25, "pytz>=2011", "numpy>=1.9.0") for patch in range(5)},
    **{("pandas", f"0.24.{patch}"): (_DATEUTIL_25, "pytz>=2011", "numpy>=1.12.0") for patch in range(3)},
}
"""Requirements by name and version. The original metadata has ``pytz (>=2011k)``, which PEP 440 does not allow."""


_OF_0_14 = ("numpy>=1.3", "scipy>=0.7")
_OF_0_16 = ("numpy>=1.6.1", "scipy>=0.9")
_OF_0_19 = ("numpy>=1.8.2", "scipy>=0.13.3")
COMPLETED = {
    **{("scikit-learn", version): _OF_0_14 for version in ("0.14", "0.14.1", "0.15.0", "0.15.1", "0.15.2")},
    **{("scikit-learn", version): _OF_0_16 for version in ("0.16.0", "0.16.1", "0.17", "0.17.1")},
    **{("scikit-learn", version): _OF_0_16 for version in ("0.18", "0.18.1", "0.18.2")},
    **{("scikit-learn", f"0.19.{patch}"): _OF_0_19 for patch in range(3)},
}
"""Requirements of releases without any in their metadata, by name and version. Source: their installation guides."""


def override_tables(table: str = "", *, completed: bool = False) -> str:
    """Return the overrides as tables of uv's configuration; ``place`` is a prefix for the table name.

    With ``completed``, missing requirements are added too.
    """
    tables = {**OVERRIDES, **(COMPLETED if completed else {})}
    return "".join(
        f'[[{table}dependency-metadata]]\nname = "{name}"\nversion = "{version}"\nrequires-dist = {list(requires)}\n\n'
        for (name, version), requires in tables.items()
    )


def write_overrides(folder: Path, *, completed: bool = False) -> None:
    """Write the overrides to the ``uv.toml`` of a folder, unless it is up to date."""
    text = override_tables(completed=completed)
    path = folder / "uv.toml"
    if not path.is_file() or path.read_text("utf-8") != text:
        path.write_text(text, encoding="utf-8")


def overrides_in(lock: str) -> tuple[str, ...]:
    """Return the packages of a lock whose metadata is overridden."""
    return tuple(f"{name} {version}" for name, version in _pins(lock) if (name, version) in OVERRIDES)


def completed_in(lock: str) -> tuple[str, ...]:
    """Return texts about the packages of a lock whose missing requirements were added."""
    return tuple(
        f"{' and '.join(re.split('[<>=]', one)[0] for one in COMPLETED[name, version])} are installed for "
        f"{name} {version}, whose metadata does not declare them"
        for name, version in _pins(lock)
        if (name, version) in COMPLETED
    )


def _pins(lock: str) -> list[tuple[str, str]]:
    return re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", lock)
