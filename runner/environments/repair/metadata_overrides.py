"""Metadata of old releases that uv can't read, or that leaves out requirements, restated as their authors meant it."""

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


_OF_0_14 = ("numpy>=1.3", "scipy>=0.7")
_OF_0_16 = ("numpy>=1.6.1", "scipy>=0.9")
_OF_0_19 = ("numpy>=1.8.2", "scipy>=0.13.3")
COMPLETED = {
    **{("scikit-learn", version): _OF_0_14 for version in ("0.14", "0.14.1", "0.15.0", "0.15.1", "0.15.2")},
    **{("scikit-learn", version): _OF_0_16 for version in ("0.16.0", "0.16.1", "0.17", "0.17.1")},
    **{("scikit-learn", version): _OF_0_16 for version in ("0.18", "0.18.1", "0.18.2")},
    **{("scikit-learn", f"0.19.{patch}"): _OF_0_19 for patch in range(3)},
}
"""Requirements of releases whose metadata names none, by name and version, as their installation guides have them."""


def override_tables(place: str = "", *, completed: bool = False) -> str:
    """Return the tables of uv's configuration; ``place`` is what comes before their name in a ``pyproject.toml``.

    With ``completed`` they add the requirements that the metadata of some releases leaves out.
    """
    tables = {**RESTATED, **(COMPLETED if completed else {})}
    return "".join(
        f'[[{place}dependency-metadata]]\nname = "{name}"\nversion = "{version}"\nrequires-dist = {list(requires)}\n\n'
        for (name, version), requires in tables.items()
    )


def write_overrides(folder: Path, *, completed: bool = False) -> None:
    """Write the configuration that uv reads in a folder, unless it is there."""
    text = override_tables(completed=completed)
    path = folder / "uv.toml"
    if not path.is_file() or path.read_text("utf-8") != text:
        path.write_text(text, encoding="utf-8")


def overrides_in(lock: str) -> tuple[str, ...]:
    """Name the packages of a lock whose metadata is restated."""
    return tuple(f"{name} {version}" for name, version in _pins(lock) if (name, version) in RESTATED)


def completed_in(lock: str) -> tuple[str, ...]:
    """Say for which packages of a lock requirements were added that their metadata leaves out."""
    return tuple(
        f"{' and '.join(re.split('[<>=]', one)[0] for one in COMPLETED[name, version])} are installed for "
        f"{name} {version}, whose metadata does not ask for them"
        for name, version in _pins(lock)
        if (name, version) in COMPLETED
    )


def _pins(lock: str) -> list[tuple[str, str]]:
    return re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", lock)
