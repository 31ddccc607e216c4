"""Reads the marked code blocks of a page: tests and ``.ci/run`` execute them.

``python tests/support/readme.py NAME`` prints the code block of the README that follows the comment ``<!-- NAME -->``.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def block(name: str, page: Path = README) -> str:
    """Return the fenced code block that follows the comment ``<!-- name -->`` on a page.

    Raises:
        LookupError: the page has no such block.
    """
    found = re.search(rf"<!-- {re.escape(name)} -->\n+```\w*\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    if not found:
        raise LookupError(f"{page.name} has no block named {name!r}")
    return found[1]


if __name__ == "__main__":
    print(block(sys.argv[1]), end="")
