"""Read the README: its commands and its examples are run and compared by tests and by ``.ci/run``.

``python tests/support/readme.py NAME`` prints the code block that follows the comment ``<!-- NAME -->``;
``python -m tests.support.readme`` writes the help texts in it anew.
"""

import re
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def _pattern(name: str) -> "re.Pattern[str]":
    return re.compile(rf"(<!-- {re.escape(name)} -->\n+```\w*\n)(.*?)(```)", re.DOTALL)


def block(name: str) -> str:
    """Return the fenced code block that follows the comment ``<!-- name -->``."""
    found = _pattern(name).search(README.read_text(encoding="utf-8"))
    if not found:
        raise LookupError(f"README.md has no block named {name!r}")
    return found[2]


def help_of(*words: str) -> str:
    """Return what ``proj … --help`` prints in a terminal of 100 columns."""
    from click.testing import CliRunner

    from runner.cli.main import cli

    return CliRunner().invoke(cli, [*words, "--help"], prog_name="proj", terminal_width=100).output


def write_help() -> None:
    """Write the help texts into the README."""
    text = README.read_text(encoding="utf-8")
    for name in re.findall(r"<!-- help of proj ?([\w ]*) -->", text):
        pattern = _pattern(f"help of proj {name}".strip())
        text = pattern.sub(lambda found, name=name: found[1] + help_of(*name.split()) + found[3], text)
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:]:
        print(block(sys.argv[1]), end="")
    else:
        write_help()
