"""Short commands: input and output of any size, and limits of time and output."""

import sys
from pathlib import Path

import pytest

from runner.errors import ExecutionError
from runner.process import Bounds, Completed, capture, short


def python(script: str, stdin: bytes = b"", **limits: float) -> Completed:
    return capture(
        [sys.executable, "-c", script],
        stdin=stdin,
        timeout=limits.get("timeout", 60),
        bounds=Bounds(output=int(limits.get("limit", 64 << 20))),
    )


@pytest.mark.parametrize("size", [0, 1, 70_000, 9_000_000])
def test_large_input_and_output_pass_at_the_same_time(size: int) -> None:
    script = (
        "import sys\nwhile piece := sys.stdin.buffer.read(99):\n sys.stdout.buffer.write(piece)\nsys.stderr.write('x')"
    )
    data = bytes(range(256)) * (size // 256) + b"\n" * (size % 256)
    done = python(script, data)
    assert (done.exit_code, done.stdout, done.stderr) == (0, data, b"x")


def test_input_that_is_not_read_is_no_error() -> None:
    done = python("import sys; sys.stdin.close(); print('ended')", b"x" * 5_000_000)
    assert (done.exit_code, done.text) == (0, "ended")


def test_a_command_that_closes_its_output_is_waited_for() -> None:
    script = "import os, time\nfor number in (0, 1, 2): os.close(number)\ntime.sleep(0.3)\nos._exit(7)"
    assert python(script).exit_code == 7
    with pytest.raises(ExecutionError, match=r"took longer than 0\.5 s"):
        python(script.replace("0.3", "60"), timeout=0.5)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_endless_output_is_stopped(stream: str) -> None:
    script = f"import sys\nwhile True: sys.{stream}.write('x' * 10000)"
    with pytest.raises(ExecutionError, match="printed more than 5,000,000 bytes"):
        python(script, limit=5_000_000)


def test_output_of_exactly_the_limit_is_returned() -> None:
    script = "import sys; sys.stdout.write('x' * 6000); sys.stderr.write('y' * 4000)"
    assert len(python(script, limit=10_000).stdout) == 6000
    with pytest.raises(ExecutionError, match="printed more"):
        python(script, limit=9_999)


def test_the_time_limit_also_holds_for_a_command_that_prints_all_the_time() -> None:
    script = "import time\nwhile True: print('x', flush=True); time.sleep(0.01)"
    with pytest.raises(ExecutionError, match="took longer than 1 s"):
        python(script, timeout=1)


def test_a_command_that_can_never_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short, "_FIRST_CHECK", 0.05)
    checks: list[int] = []

    def stalled() -> str | None:
        checks.append(1)
        return "it reads a pipe" if len(checks) == 3 else None

    with pytest.raises(ExecutionError, match="was stopped: it reads a pipe"):
        capture([sys.executable, "-c", "import time; time.sleep(60)"], cwd=tmp_path, bounds=Bounds(stalled=stalled))
