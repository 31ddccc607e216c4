"""A bar appears for long work only, and nothing of it is left behind."""

import hashlib
from pathlib import Path

import pytest

from runner.base import progress
from runner.base.files import sha256_of
from runner.cli import progress_line
from runner.cli.progress_line import ProgressLine, draw_bar
from runner.model import Event, EventKind


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


def test_bars() -> None:
    assert draw_bar(0, 10) == "[------------------------]   0%  0 B of 10 B"
    assert draw_bar(20, 10).startswith("[########################] 100%"), "a file that grew meanwhile"
    assert draw_bar(1500, None) == "1.5 kB"
