"""The command has a terminal where proj has one: colours and bars on the screen, plain lines in the log."""

import fcntl
import os
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.process.plain_text import MAX_HELD, PlainLines
from tests.conftest import ROOT, RunProj, write_tree

LOOKING = r"""
import os, sys, time
sys.stderr.write("bar: " + str([os.isatty(n) for n in (1, 2)]) + "\n")
print(os.get_terminal_size(1).columns, flush=True)
for n in range(0, 101, 50):
    sys.stderr.write(f"\r\x1b[32m{n:3}%\x1b[0m|###")
    sys.stderr.flush()
print("\nProgress over", flush=True)
sys.exit(int(os.environ.get("CODE", "0")))
"""
MANIFEST = "name: t\nentry_points: {main: {command: python look.py}}\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "p", {"MLproject": MANIFEST, "look.py": LOOKING})


def on_a_terminal(folder: Path, *words: str) -> str:
    """Return what a terminal of 97 columns shows while proj runs on it."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 97, 0, 0))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "PATH": path}
    command = [sys.executable, "-m", "runner.cli.main", *words]
    with subprocess.Popen(command, cwd=folder, env=environ, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # the end of a pseudo-terminal
            while piece := os.read(ours, 10_000):
                shown += piece
        os.close(ours)
        assert process.wait() == 0, shown
    return shown.decode()


@pytest.mark.slow
def test_colours_and_bars_are_shown_and_the_log_is_plain(proj: RunProj, project: Path) -> None:
    shown = on_a_terminal(project, "run", "--env-manager", "local", ".")
    assert "bar: [True, True]" in shown
    assert "\x1b[32m 50%\x1b[0m|###" in shown
    assert "97" in shown.split()
    logged = proj("log", "latest").out
    assert logged == "bar: [True, True]\n97\n100%|###\nProgress over\n"


@pytest.mark.slow
@pytest.mark.parametrize("words", [("--no-tty",), ("--json",)])
def test_without_a_terminal_the_log_has_every_byte(proj: RunProj, project: Path, words: tuple[str, ...]) -> None:
    # get_terminal_size fails without a terminal, so the command is told not to ask.
    write_tree(project, {"look.py": LOOKING.replace("os.get_terminal_size(1).columns", "0")})
    on_a_terminal(project, "run", *words, "--env-manager", "local", ".")
    logged = proj("log", "latest").out
    assert logged.startswith("bar: [False, False]\n0\n")
    assert "\x1b[32m 50%\x1b[0m|###" in logged


def plain(*pieces: bytes) -> bytes:
    lines = PlainLines()
    return b"".join([*map(lines.feed, pieces), lines.end()])


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (b"a\nb\n", b"a\nb\n"),
        (b"no end", b"no end"),
        (b"\x1b[1;31mred\x1b[0m\n", b"red\n"),
        (b"\x1b]8;;http://x/\x1b\\link\x1b]8;;\x07\n", b"link\n"),
        (b"10%\r20%\r\x1b[K30%\n", b"30%\n"),
        (b"30%\r\r\n", b"30%\n"),
        (b"windows\r\n", b"windows\n"),
        (b"\xff\xfe\n", b"\xff\xfe\n"),
        (b"", b""),
    ],
)
def test_what_a_terminal_shows_in_the_end(output: bytes, expected: bytes) -> None:
    assert plain(output) == expected
    assert plain(*(output[n : n + 1] for n in range(len(output)))) == expected


@given(st.lists(st.binary(max_size=40), max_size=12))
def test_pieces_do_not_matter_and_nothing_controls_the_reader(pieces: list[bytes]) -> None:
    found = plain(*pieces)
    assert found == plain(b"".join(pieces))
    assert b"\r" not in found
    assert found.count(b"\n") == b"".join(pieces).count(b"\n")


def test_an_endless_line_needs_bounded_memory() -> None:
    lines = PlainLines()
    for number in range(3 * MAX_HELD // 100):
        assert lines.feed(b"\r" + f"{number:099}".encode()) == b""
    assert len(lines.end()) <= MAX_HELD
