"""`runner.run(..., wait=False)`: a run in the background, as a program or a notebook uses it."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import runner
from runner.errors import ManifestError, ParameterError
from runner.model import RunStatus
from tests.conftest import ROOT, write_tree

pytestmark = pytest.mark.slow

MANIFEST = """\
entry_points:
  main:
    parameters: {text: {type: string, default: hello}}
    command: "echo {text}; echo score=3 >> $PROJ_METRICS"
  bad:
    command: "exit 7"
  long:
    command: "touch started; sleep 600"
"""


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(write_tree(tmp_path / "p", {"MLproject": MANIFEST, "runner.py": "raise SystemExit('not this one')\n"}))


@pytest.fixture(autouse=True)
def here(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)


def test_a_run_to_its_end(root: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "proj")
    handle = runner.run(root, parameters={"text": "loud"}, wait=False, environment_manager="local")
    assert len(handle.run_id) == 32
    run = handle.wait(120)
    assert (run.run_id, run.status, run.exit_code, run.metrics) == (handle.run_id, "FINISHED", 0, {"score": 3.0})
    assert (handle.poll(), handle.wait(0)) == (run, run)
    assert "loud" not in capfd.readouterr().out, "the output is in the log only"
    assert run.log is not None
    assert Path(run.log).read_text() == "loud\n"
    assert any(f"run {run.run_id[:8]}" in message for message in caplog.messages)
    assert "ended" in handle._repr_html_()
    handle.stop()


def test_a_command_that_fails_raises_nothing(root: str) -> None:
    run = runner.run(root, entry_point="bad", wait=False, environment_manager="local").wait(120)
    assert (run.status, run.exit_code) == ("FAILED", 7)


def test_a_run_that_is_stopped(root: str) -> None:
    handle = runner.run(root, entry_point="long", wait=False, environment_manager="local")
    assert handle.poll() is None
    with pytest.raises(TimeoutError, match="has not ended after 0 seconds"):
        handle.wait(0)
    handle.stop()
    run = handle.wait(120)
    assert run.status == "KILLED"
    assert runner.get_run(handle.run_id).status == "KILLED"


def test_what_can_not_be_started_raises_at_once(root: str) -> None:
    with pytest.raises(ManifestError, match="no entry point 'nothing'"):
        runner.run(root, entry_point="nothing", wait=False)
    with pytest.raises(ParameterError):
        runner.run(root, parameters={"text": ""}, parameters_file="absent.yaml", wait=False)
    with pytest.raises(TypeError, match="no option 'speed'"):
        runner.run(root, wait=False, speed=3)
    assert not runner.search_runs()


def test_the_process_of_a_run_is_killed(root: str) -> None:
    handle = runner.run(root, entry_point="long", wait=False, environment_manager="local")
    os.kill(handle._process.pid, signal.SIGKILL)
    assert handle.wait(120).status == "LOST"


def test_the_run_survives_its_program(root: str) -> None:
    code = (
        "import runner, os, sys; "
        f"h = runner.run({root!r}, wait=False, environment_manager='local'); print(h.run_id, flush=True); os._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
        check=True,
        capture_output=True,
        text=True,
    )
    run_id = done.stdout.strip()
    deadline = time.monotonic() + 120
    while not RunStatus(runner.get_run(run_id).status or "").is_over and time.monotonic() < deadline:
        time.sleep(0.1)
    assert runner.get_run(run_id).status == "FINISHED"
