"""Generates docs/explanation/map.md from the first line of each module; `python tests/support/architecture.py`."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "map.md"
MAP = re.compile(r"(?<=<!-- map -->\n).*?(?=<!-- end of the map -->)", re.DOTALL)
LAYERS = (
    "cli",
    "reporting",
    "reproduction",
    "scaffold",
    "verification",
    "runs",
    "",
    "sync",
    "manifest",
    "source",
    "environments",
    "executors",
    "provenance",
    "server",
    "importing",
    "protocol",
    "store",
    "analysis",
    "process",
    "base",
)


def first_line(module: Path) -> str:
    """Return the first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def make_map() -> str:
    """Return the map: each package with its modules, from the highest layer to the lowest."""
    lines = []
    for layer in LAYERS:
        top = ROOT / "runner" / layer
        packages = sorted(path.parent for path in top.rglob("__init__.py")) if layer else [top]
        for folder in packages:
            name = folder.relative_to(ROOT).as_posix()
            lines += [f"\n## `{name}/`\n\n{first_line(folder / '__init__.py')}\n"]
            modules = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
            lines += [f"- `{path.relative_to(ROOT).as_posix()}`: {first_line(path)}" for path in modules]
    return "\n".join(lines).lstrip("\n") + "\n\n"


def written_map() -> str:
    """Return the map that the page contains.

    Raises:
        LookupError: the page has no marks for the map.
    """
    found = MAP.search(PAGE.read_text(encoding="utf-8"))
    if not found:
        raise LookupError(f"{PAGE.name} has no map")
    return found[0]


if __name__ == "__main__":
    PAGE.write_text(MAP.sub(lambda _: make_map(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
