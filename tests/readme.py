"""Read the README: its commands and its examples are run and compared by tests and by ``.ci/run``.

``python tests/readme.py NAME`` prints the code block that follows the comment ``<!-- NAME -->``.
"""

import re
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def block(name: str) -> str:
    """Return the fenced code block that follows the comment ``<!-- name -->``."""
    found = re.search(rf"<!-- {re.escape(name)} -->\n+```\w*\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    if not found:
        raise LookupError(f"README.md has no block named {name!r}")
    return found.group(1)


if __name__ == "__main__":
    print(block(sys.argv[1]), end="")
