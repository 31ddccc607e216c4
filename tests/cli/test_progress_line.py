"""A bar appears for long work only, and nothing of it is left behind."""

import hashlib
import os
import re
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from runner.base import progress
from runner.base.files import sha256_of
from runner.cli import progress_line
from runner.cli.progress_line import ProgressLine, draw_bar, showing_progress
from runner.cli.text import print_message
from runner.model import Event, EventKind
from tests.conftest import ROOT, MakeRepository


class Clock:
    """A clock that goes on by so many seconds at each look."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def monotonic(self) -> float:
        self.now += self.step
        return self.now


def shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: Path, step: float, *, quiet: bool = False
) -> str:
    monkeypatch.setattr(progress_line, "time", Clock(step))
    line = ProgressLine()
    with progress.observing(line):
        if quiet:
            with progress.suspended():
                digest = sha256_of(file)
        else:
            digest = sha256_of(file)
        line.reporting(lambda event: print(event.message))(Event(kind=EventKind.STEP, message="next step"))
    assert digest == hashlib.sha256(file.read_bytes()).hexdigest()
    return capsys.readouterr().err


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(b"x" * (5 << 20))
    return path


def test_long_work_has_a_bar_that_is_removed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    err = shown(monkeypatch, capsys, file, 1.0)
    assert "40%  2.1 MB of 5.2 MB" in err
    assert "[########################] 100%" in err
    assert err.endswith("\r\x1b[K")


def test_short_work_and_work_beside_a_command_have_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    assert shown(monkeypatch, capsys, file, 0.01) == ""
    assert shown(monkeypatch, capsys, file, 1.0, quiet=True) == ""


def test_work_that_says_nothing_shows_its_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_line, "time", Clock(0.75))
    line = ProgressLine()
    line.tick()
    assert capsys.readouterr().err == "", "less than a second"
    line.tick()
    line.suspend()
    for _ in range(9):
        line.tick()
        line.advance(5)
    line.resume()
    assert capsys.readouterr().err == "\r\x1b[K  1.5 s\r\x1b[K", "a command has the screen"
    line.tick()
    line.tick()
    assert capsys.readouterr().err.startswith("\r\x1b[K  1.5 s"), "the time counts from the command's end"


def test_the_parts_of_a_whole_have_no_bar_of_their_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: Path
) -> None:
    monkeypatch.setattr(progress_line, "time", Clock(1.0))
    with progress.observing(ProgressLine()), progress.whole(4, "files") as done:
        sha256_of(file)
        assert capsys.readouterr().err == ""
        done(1)
        with progress.whole(9) as inner:
            inner(9)
        done(2)
    assert " 75%  3 of 4 files" in capsys.readouterr().err


def test_a_message_takes_the_place_of_the_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_line, "time", Clock(1.0))
    with progress.observing(ProgressLine()):
        progress.advance(5)
        print_message("next")
    assert capsys.readouterr().err.endswith("5 B  1.0 s\r\x1b[Knext\n")


def test_without_a_terminal_there_is_no_thread_and_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    before = threading.active_count()
    with showing_progress():
        assert (threading.active_count(), progress.is_observed()) == (before, False)
    assert capsys.readouterr().err == ""


WAITING = """#!/bin/sh
while [ ! -e {go} ]; do sleep 0.05; done
for last; do :; done
eval "exec $last"
"""


@pytest.mark.slow
def test_a_server_that_takes_long_is_seen_on_a_terminal(make_repository: MakeRepository, tmp_path: Path) -> None:
    """The server answers when the line has appeared, so nothing depends on the speed of this machine."""
    repository = make_repository({"MLproject": "entry_points: {main: {command: echo done}}\n"})
    go, ssh = tmp_path / "go", tmp_path / "ssh"
    ssh.write_text(WAITING.format(go=go))
    ssh.chmod(0o755)
    ours, theirs = os.openpty()
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "GIT_SSH_COMMAND": str(ssh), "TERM": "xterm"}
    words = ["run", "--env-manager", "local", f"ssh://somewhere{repository}"]
    shown = b""
    with subprocess.Popen(
        [sys.executable, "-m", "runner.cli.main", *words], env=environ, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        with suppress(OSError):  # the end of what a terminal shows
            while piece := os.read(ours, 10_000):
                shown += piece
                if re.search(rb"\r\x1b\[K  [\d.]+ s", shown):
                    go.touch()
        assert process.wait(timeout=60) == 0
    os.close(ours)
    assert go.exists()
    assert re.search(rb" s\r\x1b\[K", shown), "the line is removed"
    assert b"done" in shown


def test_bars() -> None:
    assert draw_bar(5, 10, "objects") == "[############------------]  50%  5 of 10 objects"
    assert draw_bar(1500, None, "objects") == "1,500 objects"
    assert draw_bar(0, 10) == "[------------------------]   0%  0 B of 10 B"
    assert draw_bar(20, 10).startswith("[########################] 100%"), "a file that grew meanwhile"
    assert draw_bar(1500, None) == "1.5 kB"
