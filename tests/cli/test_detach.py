"""Runs in the background: they survive their terminal, are listed, followed and stopped, and never half-started."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from runner.model import RunStatus
from runner.settings import Home
from runner.store import lost_runs, runs
from runner.store.database import Database
from runner.store.entities import NewRun, ProcessIdentity
from tests.conftest import ROOT, MakeRepository, RunProj, git, start_proj, write_tree
from tests.support.standalone_server import standalone_server

pytestmark = pytest.mark.slow

MANIFEST = """
name: t
entry_points:
  main: {command: python work.py}
  slow: {command: python work.py, timeout: 1}
"""
WORK = """
import os, time
print('output of the command', flush=True)
open('made.txt', 'w').write('x')
until = time.time() + float(os.environ.get('TAKES', '60'))
while time.time() < until: time.sleep(0.05)
"""


def wait_until(condition: Callable[[], object], what: str = "") -> None:
    end = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < end, f"it did not happen: {what}"
        time.sleep(0.05)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "p", {"MLproject": MANIFEST, "work.py": WORK})


@pytest.fixture(autouse=True)
def end_all(home: Home) -> Iterator[None]:
    """End what a failing test leaves running."""
    yield
    if home.database.exists():
        with closing(Database.open_to_read(home.database)) as database:
            for _, owner in lost_runs.live_runs(database):
                os.kill(owner.pid, signal.SIGKILL)


def status_of(home: Home, run_id: str) -> RunStatus:
    with closing(Database.open(home.database)) as database:
        lost_runs.mark_lost(database)
        return runs.get(database, run_id).status


def owner_of(home: Home, run_id: str) -> int:
    with closing(Database.open_to_read(home.database)) as database:
        owner = runs.get(database, run_id).owner
        assert owner is not None
        return owner.pid


def detached(proj: RunProj, project: Path, *words: str, **variables: str) -> str:
    done = proj("run", "--detach", "--env-manager", "local", *words, str(project), **variables)
    assert done.code == 0, done.err
    return done.out.strip()


def test_a_detached_run_is_listed_followed_and_stopped(proj: RunProj, project: Path, home: Home) -> None:
    run_id = detached(proj, project)
    listed = proj("ps", "--json").json
    assert [(one["run_id"], one["status"]) for one in listed] == [(run_id, "RUNNING")]
    assert run_id[:8] in proj("ps").out
    wait_until(lambda: "output of the command" in proj("log", run_id).out, "output")
    assert os.getsid(owner_of(home, run_id)) == owner_of(home, run_id) != os.getsid(0), "a logout does not reach it"
    stopped = proj("stop", run_id[:8])
    assert stopped.code == 0
    assert "KILLED" in stopped.err
    shown = proj("show", run_id, "--json").json
    assert (shown["status"], shown["reason"]) == ("KILLED", "stopped by SIGTERM")
    assert [one["path"] for one in shown["outputs"]] == ["made.txt"]
    assert proj("ps", "--json").json == []
    again = proj("stop", run_id)
    assert again.code == 0
    assert "has ended already" in again.err


def test_following_ends_with_the_run_and_tells_what_proj_does(proj: RunProj, project: Path) -> None:
    run_id = detached(proj, project, TAKES="0.5")
    followed = proj("log", "-f", run_id)
    assert followed.out == "output of the command\n"
    assert "Checking out the code" in followed.err
    wait_until(lambda: not proj("ps", "--json").json)
    assert proj("show", run_id, "--json").json["status"] == "FINISHED"


def test_json_is_the_record_at_the_start(proj: RunProj, project: Path) -> None:
    done = proj("run", "--detach", "--json", "--env-manager", "local", str(project), TAKES="0")
    assert done.json["status"] in ("RUNNING", "FINISHED")


def test_what_fails_before_the_record_is_told_at_once(proj: RunProj, tmp_path: Path) -> None:
    done = proj("run", "--detach", str(tmp_path / "none"))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error[source]")
    wrong = proj("run", "--detach", "-P", "x", str(tmp_path))
    assert wrong.code == 2


def test_a_time_limit_counts_in_the_background(proj: RunProj, project: Path, home: Home) -> None:
    run_id = detached(proj, project, "-e", "slow")
    wait_until(lambda: status_of(home, run_id).is_over, "timeout")
    assert "time limit" in proj("show", run_id, "--json").json["reason"]


def test_a_killed_owner_leaves_a_lost_run_and_no_process(proj: RunProj, project: Path, home: Home) -> None:
    run_id = detached(proj, project)
    wait_until(lambda: home.log(run_id).exists() and home.log(run_id).stat().st_size, "output")
    marker = project / "marker"
    marker.touch()
    os.kill(owner_of(home, run_id), signal.SIGKILL)
    wait_until(lambda: status_of(home, run_id) is RunStatus.LOST, "lost")
    assert proj("ps", "--json").json == []
    folder = json.loads(proj("show", run_id, "--json").out)["cwd"]
    wait_until(lambda: not _processes_in(folder), "the command ends with its owner")


def _processes_in(folder: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if str((entry / "cwd").readlink()) == folder:
                    found.append(entry.name)
            except OSError:
                continue
    return found


def test_ctrl_c_before_the_record_leaves_nothing(home: Home, tmp_path: Path) -> None:
    """The source is a server that accepts and never answers, so no record is opened."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/x.git"
        process = start_proj("run", "--detach", url, cwd=tmp_path)
        silent.settimeout(60)
        connection, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        connection.close()
    assert process.returncode == 130
    assert "interrupted" in err
    with closing(Database.open(home.database)) as database:
        assert not lost_runs.live_runs(database)


def test_the_terminal_is_released(project: Path, home: Home, tmp_path: Path) -> None:
    """A caller that waits for the end of stdout and stderr, as ssh does, gets it while the run goes on."""
    script = f"{sys.executable} -m runner.cli.main run --detach --env-manager local {project}"
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", script], env=environ, capture_output=True, text=True, timeout=90, check=True, cwd=tmp_path
    )
    assert status_of(home, done.stdout.strip()) is RunStatus.RUNNING


ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp("sh", ["sh", "-c", sys.argv[1]])
"""
"""Gives a session its terminal, as a terminal program does for the shell in its window."""


def close_terminal(until: Callable[[], object], words: list[str], folder: Path, **variables: str) -> None:
    """Start proj in the shell of a terminal, and close the terminal as soon as a condition holds."""
    ours, theirs = os.openpty()
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
    script = shlex.join([sys.executable, "-m", "runner.cli.main", "run", "--detach", *words]) + "; touch returned; cat"
    command = [sys.executable, "-c", ON_A_TERMINAL, script]
    shell = subprocess.Popen(
        command, cwd=folder, env=environ, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    wait_until(until, "the terminal can be closed")
    os.close(ours)
    assert shell.wait(timeout=60) != 0, "the shell ends with its terminal"


def only_run(home: Home) -> str | None:
    if not home.database.exists():
        return None
    with closing(Database.open_to_read(home.database)) as database:
        rows = database.query("SELECT run_id FROM runs")
        return str(rows[0]["run_id"]) if rows else None


def test_a_run_survives_its_terminal(proj: RunProj, project: Path, home: Home, tmp_path: Path) -> None:
    returned = tmp_path / "returned"
    close_terminal(returned.exists, ["--env-manager", "local", str(project)], tmp_path)
    run_id = only_run(home)
    assert run_id is not None
    wait_until(lambda: "output of the command" in proj("log", run_id).out, "output")
    assert status_of(home, run_id) is RunStatus.RUNNING
    assert "KILLED" in proj("stop", run_id).err
    assert proj("show", run_id, "--json").json["status"] == "KILLED"


SSH = """#!/bin/sh
touch asked
while [ ! -e go ]; do sleep 0.05; done
for last; do :; done
eval "exec $last"
"""


def test_a_terminal_may_be_closed_before_the_run_has_an_id(
    proj: RunProj, make_repository: MakeRepository, home: Home, tmp_path: Path
) -> None:
    """The source is a git server that answers only after the terminal is gone."""
    repository = make_repository({"MLproject": MANIFEST, "work.py": WORK}, "served")
    (tmp_path / "ssh").write_text(SSH)
    (tmp_path / "ssh").chmod(0o755)
    url = f"ssh://somewhere{repository}"
    variables = {"GIT_SSH_COMMAND": f"cd {tmp_path} && ./ssh", "TAKES": "0"}
    (tmp_path / "go").touch()
    assert proj("run", "--dry-run", "--env-manager", "local", url, **variables).code == 0
    # A second fetch is announced, on the terminal that is gone by then.
    git(repository, "commit", "--quiet", "--allow-empty", "--message=second")
    for name in ("asked", "go"):
        (tmp_path / name).unlink()
    close_terminal((tmp_path / "asked").exists, ["--env-manager", "local", url], tmp_path, **variables)
    (tmp_path / "go").touch()
    wait_until(lambda: only_run(home), "the run is recorded")
    run_id = only_run(home)
    assert run_id is not None
    wait_until(lambda: status_of(home, run_id).is_over, "the run ends")
    assert status_of(home, run_id) is RunStatus.FINISHED, home.messages(run_id).read_text()
    assert proj("log", run_id).out == "output of the command\n"


LOGGING = """
import os, time
with open(os.environ["PROJ_METRICS"], "a") as file:
    file.write("score=0.5\\n")
print("output of the command", flush=True)
open("made.txt", "w").write("x")
until = time.time() + float(os.environ.get("TAKES", "60"))
while time.time() < until: time.sleep(0.05)
"""


@pytest.mark.parametrize(("takes", "status"), [("0", "FINISHED"), ("60", "KILLED")])
def test_a_detached_run_is_complete_on_its_tracking_server(
    proj: RunProj, project: Path, home: Home, tmp_path: Path, takes: str, status: str
) -> None:
    (project / "work.py").write_text(LOGGING)
    theirs = {"PROJ_HOME": str(tmp_path / "theirs")}
    with standalone_server(tmp_path, **theirs) as server:
        returned = tmp_path / "returned"
        words = ["--env-manager", "local", "--tracking-uri", server.url, str(project)]
        close_terminal(returned.exists, words, tmp_path, TAKES=takes)
        run_id = only_run(home)
        assert run_id is not None
        wait_until(lambda: "output of the command" in proj("log", run_id).out, "output")
        if status == "KILLED":
            there = server.get("runs/get", run_id=run_id)["run"]["info"]
            assert (there["run_id"], there["status"]) == (run_id, "RUNNING")
            assert proj("stop", run_id).code == 0
        wait_until(lambda: status_of(home, run_id).is_over, "the run ends")
        wait_until(lambda: proj("sync", "--dry-run").out == "", "everything is sent")
        shown = proj("show", run_id, "--json", **theirs).json
    assert shown["status"] == status
    assert shown["metrics"] == {"score": 0.5}
    assert (tmp_path / "theirs" / "runs" / run_id / "artifacts" / "proj" / "log.txt").read_text()
    assert list((tmp_path / "theirs" / "runs" / run_id / "artifacts").rglob("made.txt"))


def test_stop_names_what_it_can_not_stop(proj: RunProj, home: Home) -> None:
    home.ensure()
    with closing(Database.open(home.database)) as database:
        far = ProcessIdentity(pid=1, started="1", boot="b", host="elsewhere")
        away = runs.create(database, NewRun(experiment_id="0", owner=far)).run_id
        logged = runs.create(database, NewRun(experiment_id="0")).run_id
    assert "ssh elsewhere proj stop" in proj("stop", away).err
    assert "was not started by `proj run`" in proj("stop", logged).err
    assert proj("stop", "nosuch").code == 1


def test_an_end_is_announced(proj: RunProj, project: Path, tmp_path: Path) -> None:
    note = tmp_path / "note"
    command = f'echo "$PROJ_RUN_NAME $PROJ_RUN_STATUS $PROJ_RUN_EXIT_CODE" > {note}'
    proj("run", "--env-manager", "local", "--run-name", "r", str(project), TAKES="0", PROJ_NOTIFY=command)
    assert note.read_text() == "r FINISHED 0\n"
    failed = proj("run", "--env-manager", "local", str(project), TAKES="0", PROJ_NOTIFY="echo no >&2; exit 3")
    assert failed.code == 0, "the notification does not change the outcome"
    assert "! PROJ_NOTIFY failed: no" in failed.err
    note.unlink()
    proj("run", "--env-manager", "local", str(project), TAKES="0", PROJ_NOTIFY=command, PROJ_RUN_ID="0" * 32)
    assert not note.exists(), "a run inside another one is not announced"
