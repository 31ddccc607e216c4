"""The documents as tests see them: pages, the code blocks in them, and the command lines in those.

A block of shell commands is executed by a test when the comment ``<!-- run -->`` precedes it; all such blocks of a page
are one session, from top to bottom, in a copy of the repository's examples. With ``<!-- run project -->`` the session
starts in a small project of its own that has two runs, see ``test_docs.py``. What else a page needs is in
``setups.py``. Every other block is only parsed.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = tuple(sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("example_projects/**/*.md")]))
SHELL = ("sh", "bash", "console")
_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^>]*?) -->\n+)?^(?P<fence>```+)(?P<kind>[\w{}-]*)\n(?P<text>.*?)^(?P=fence)$",
    re.DOTALL | re.MULTILINE,
)
_ASSIGNMENT = re.compile(r"\w+=")
_SUBSTITUTION = re.compile(r"<\([^()]*\)")


class Block(NamedTuple):
    """A fenced block of a page; ``line`` is that of its first line."""

    page: Path
    line: int
    kind: str
    mark: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start("text")) + 1, found["kind"], found["mark"] or "", found["text"])
        for found in _BLOCK.finditer(text)
    ]


def shell_lines(block: Block) -> Iterator[str]:
    """Yield the command lines of a block of shell, without prompts; lines that end in a backslash are joined."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.kind == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    yield from (line for line in lines if line.strip() and not line.lstrip().startswith("#"))


def proj_commands(line: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of ``proj`` in a command line."""
    lexer = shlex.shlex(_SUBSTITUTION.sub("/dev/stdin", line), posix=True, punctuation_chars="|&;()<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word and set(word) <= set("|&;()<>"):
            while words and (_ASSIGNMENT.match(words[0]) or words[0] in {"eval", "$"}):
                words = words[1:]
            if words and Path(words[0]).name == "proj":
                yield words[1:]
            words = []
        else:
            words.append(word)
