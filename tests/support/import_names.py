"""Writes the evidence for the tables of import names: ``python -m tests.support.import_names WHEEL…``.

The evidence of an entry is, in this order: the files of a package that is installed beside the tests; the files of a
given wheel; the list in a given wheel of pigar, which its authors made from the archives of the Python index (from
``top_level.txt`` or the folders of an archive; the name of the package itself if an archive has neither).
"""

import re
import sqlite3
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from runner.base.package_names import canonical_name
from runner.environments.repair import import_names

EVIDENCE = Path(__file__).parents[1] / "environments" / "repair" / "import_names.txt"
"""One line for each entry: module, package, the kind of evidence, and the version that was read."""
_LIST = "pigar/.db.sqlite3"


def entries() -> list[tuple[str, str]]:
    """Return the pairs of module and package in the tables, without those that say that no package is right."""
    further = {(module, name) for module, names in import_names._ALSO.items() for name in names.split()}
    return sorted({(module, name) for module, name in import_names._modules().items() if name} | further)


def modules_of(paths: Iterable[str]) -> set[str]:
    """Return the modules and packages in the files of a package."""
    found = [re.sub(r"(/__init__)?\.[^/]*$", "", path) for path in paths if path.endswith((".py", ".so", ".pyd"))]
    return {".".join(path.split("/")[:length]) for path in found for length in range(1, path.count("/") + 2)}


def installed(package: str) -> tuple[str, set[str]]:
    """Return the version and the modules of an installed package, empty if it is not installed."""
    try:
        found = distribution(package)
    except PackageNotFoundError:
        return "", set()
    return found.version, modules_of(map(str, found.files or ()))


def _read_wheels(paths: Iterable[Path]) -> tuple[dict[str, tuple[str, set[str]]], dict[str, set[str]]]:
    """Return version and modules of each package in the wheels, and the modules of each package in pigar's list."""
    wheels: dict[str, tuple[str, set[str]]] = {}
    listed: dict[str, set[str]] = {}
    for path in paths:
        name, version = path.name.split("-")[:2]
        with zipfile.ZipFile(path) as archive:
            wheels[canonical_name(name)] = version, modules_of(archive.namelist())
            if _LIST in archive.namelist():
                with tempfile.TemporaryDirectory() as folder:
                    listed = _read_list(Path(archive.extract(_LIST, folder)))
    return wheels, listed


def _read_list(path: Path) -> dict[str, set[str]]:
    wanted = {canonical_name(name) for _, name in entries()}
    found: dict[str, set[str]] = {}
    with sqlite3.connect(path) as db:
        for package, module in db.execute(
            "SELECT d.name, m.name FROM distributions d JOIN top_level_module_names m ON m.distribution_id = d.id"
        ):
            if canonical_name(package) in wanted:
                found.setdefault(canonical_name(package), set()).add(module)
    return found


def _evidence(
    module: str, package: str, wheels: Mapping[str, tuple[str, set[str]]], listed: Mapping[str, set[str]]
) -> str | None:
    """Return the kind and the version of the evidence for an entry, or None."""
    name = canonical_name(package)
    for kind, (version, modules) in (("installed", installed(package)), ("wheel", wheels.get(name, ("", set())))):
        if module in modules:
            return f"{kind} {version}"
    return f"pigar {wheels['pigar'][0]}" if module in listed.get(name, ()) else None


def main(paths: list[str]) -> int:
    """Write the evidence, and print the entries that have none."""
    wheels, listed = _read_wheels(map(Path, paths))
    found = {entry: _evidence(*entry, wheels, listed) for entry in entries()}
    lines = (f"{module} {package} {evidence}\n" for (module, package), evidence in found.items() if evidence)
    EVIDENCE.write_text("".join(lines), encoding="utf-8")
    missing = [f"{module}={package}" for (module, package), evidence in found.items() if not evidence]
    print(*missing, sep="\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
