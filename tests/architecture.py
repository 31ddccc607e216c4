"""The map in ARCHITECTURE.md, made from the first line of each module; ``python tests/architecture.py`` writes it."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "ARCHITECTURE.md"
MAP = re.compile(r"(?<=<!-- map -->\n).*?(?=<!-- end of the map -->)", re.DOTALL)
FLOORS = (
    "cli",
    "scaffold",
    "",
    "verification",
    "manifest",
    "source",
    "environments",
    "executors",
    "provenance",
    "server",
    "store",
    "process",
    "base",
)


def first_line(module: Path) -> str:
    """Return the first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def make_map() -> str:
    """Return the map: each part with its modules, in the order of the floors."""
    lines = []
    for floor in FLOORS:
        folder = ROOT / "runner" / floor
        lines += [f"\n### `runner/{floor}{'/' if floor else ''}`: {first_line(folder / '__init__.py')}\n"]
        modules = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
        lines += [f"- `{path.relative_to(ROOT).as_posix()}`: {first_line(path)}" for path in modules]
    return "\n".join(lines).lstrip("\n") + "\n\n"


def written_map() -> str:
    """Return the map as the page has it."""
    found = MAP.search(PAGE.read_text(encoding="utf-8"))
    if not found:
        raise LookupError("ARCHITECTURE.md has no map")
    return found[0]


if __name__ == "__main__":
    PAGE.write_text(MAP.sub(lambda _: make_map(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
