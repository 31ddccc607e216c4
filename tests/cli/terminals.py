"""Runs the command line on a terminal."""

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

from tests.conftest import ROOT


def on_a_terminal(width: int, folder: Path, *words: str, **variables: str) -> str:
    """Return what the command line shows on a terminal of so many columns, colours included."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    around = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": str(width), **variables}
    command = [sys.executable, "-m", "runner.cli.main", *words]
    with subprocess.Popen(command, cwd=folder, env=around, stdin=theirs, stdout=theirs) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # Linux's word for the end of what a terminal shows
            while piece := os.read(ours, 10_000):
                shown += piece
        os.close(ours)
        assert process.wait() == 0
    return shown.decode()


def uncoloured(width: int, folder: Path, *words: str, **variables: str) -> str:
    """Return what the command line shows on a terminal of so many columns, without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal(width, folder, *words, **variables))
