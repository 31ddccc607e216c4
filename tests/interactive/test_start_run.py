"""`runner.start_run`: the record of a run that a program opens by itself, and each way in which it can end."""

import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import runner
from runner.errors import InvalidValueError, NotFoundError, UsageError
from runner.interactive.active_run import ActiveRun
from runner.interactive.process_end import OPEN_RUNS
from runner.settings import Home
from tests.conftest import ROOT, MakeRepository, RunProj, git, write_tree
from tests.support.standalone_server import standalone_server

VARIABLES = ("PROJ_RUN_ID", "MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN", "MLFLOW_EXPERIMENT_ID")


@pytest.fixture
def root(make_repository: MakeRepository, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_repository({"MLproject": "name: own\nmetric: {name: rmse, goal: min}\n", "sub/lib.py": "x = 1\n"})
    monkeypatch.chdir(root / "sub")
    return root


@pytest.fixture(autouse=True)
def clean_process() -> Iterator[None]:
    hooks = (sys.excepthook, sys.exit, signal.getsignal(signal.SIGTERM))
    before = {name: os.environ.get(name) for name in VARIABLES}
    yield
    assert OPEN_RUNS._runs == []
    assert (sys.excepthook, sys.exit, signal.getsignal(signal.SIGTERM)) == hooks
    assert {name: os.environ.get(name) for name in VARIABLES} == before


def test_the_record_is_that_of_a_run(root: Path, tmp_path: Path) -> None:
    (root / "sub" / "lib.py").write_text("x = 2\n")
    artifact = write_tree(tmp_path / "model", {"a.txt": "a", "deep/b.txt": "b"})
    with runner.start_run("first", experiment="tries", tags={"team": "x"}) as run:
        run.log_param("alpha", 0.5)
        run.log_params({"api_token": "hunter2hunter2", "n": 3})
        run.log_metric("rmse", 2.0, 1)
        run.log_metrics({"rmse": 0.5, "r2": 1}, step=2)
        run.log_artifact(artifact / "a.txt", "texts/one")
        run.log_artifact(artifact)
        run.set_tag("late", 7)
        assert run.record.status == "RUNNING"
        assert repr(run) == f"<ActiveRun {run.run_id[:8]} open>"
        assert "first" in run._repr_html_()
    found = runner.get_run(run.run_id)
    assert (found.status, found.exit_code, found.experiment, found.run_name) == ("FINISHED", 0, "tries", "first")
    assert found.params == {"alpha": "0.5", "api_token": "***", "n": "3"}
    assert found.metrics == {"rmse": 0.5, "r2": 1.0}
    assert found.code is not None
    assert (found.code.commit, found.code.dirty) == (git(root, "rev-parse", "HEAD"), True)
    assert found.code.changed_files == ("sub/lib.py",)
    assert (found.code.subdirectory, found.cwd) == ("", str(root / "sub"))
    assert found.environment is not None
    assert (found.environment.manager, found.environment.python) == ("local", platform.python_version())
    assert found.environment.prefix == sys.prefix
    assert "pytest" in dict(found.environment.packages)
    assert found.machine is not None
    assert found.resources is not None
    names = {one.path for one in found.artifacts}
    assert names == {"texts/one/a.txt", "model/a.txt", "model/deep/b.txt"}
    assert (found.tags["team"], found.tags["late"], found.tags["proj.metric"]) == ("x", "7", "rmse")
    assert found.log is None


@pytest.mark.slow
def test_a_run_that_proj_shows_verifies_and_checks_out(root: Path, proj: RunProj, tmp_path: Path) -> None:
    with runner.start_run() as run:
        run.log_metric("m", 1)
    (root / "sub" / "lib.py").write_text("changed since\n")
    assert proj("verify", cwd=root).code == 0
    got = proj("checkout", run.run_id, str(tmp_path / "code"), cwd=root)
    assert got.code == 0, got.err
    assert (tmp_path / "code" / "sub" / "lib.py").read_text() == "x = 1\n"


@pytest.mark.usefixtures("root")
def test_endings_of_a_block() -> None:
    with pytest.raises(ZeroDivisionError), runner.start_run("failed") as failed:
        _divide()
    with pytest.raises(KeyboardInterrupt), runner.start_run("killed"):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), runner.start_run("stopped"):
        _stop_this_process()
    with pytest.raises(SystemExit), runner.start_run("exit"):
        sys.exit(3)
    with pytest.raises(SystemExit), runner.start_run("well"):
        sys.exit()
    found = {run.run_name: (run.status, run.exit_code, run.reason) for run in runner.search_runs()}
    assert found == {
        "failed": ("FAILED", 1, "ZeroDivisionError: division by zero"),
        "killed": ("KILLED", 130, "stopped by SIGINT"),
        "stopped": ("KILLED", 143, "stopped by SIGTERM"),
        "exit": ("FAILED", 3, "the program ended with 3"),
        "well": ("FINISHED", 0, None),
    }
    with pytest.raises(UsageError, match="has ended"):
        failed.log_metric("late", 1)
    assert failed.record.status == "FAILED"


def _divide() -> float:
    return 1 / 0


def _stop_this_process() -> None:
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL, "else it would end the tests"
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(60)


def _divide_inside(opened: list[ActiveRun]) -> float:
    opened.append(runner.start_run())
    return _divide()


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("status", ["FINISHED", "failed", "KILLED"])
def test_ending_an_object(status: str) -> None:
    run = runner.start_run()
    run.end(status)
    run.end("FINISHED" if status != "FINISHED" else "FAILED")
    assert runner.get_run(run.run_id).status == status.upper()


@pytest.mark.usefixtures("root")
def test_nested_runs_and_two_in_a_row() -> None:
    with runner.start_run("outer", experiment="e") as outer:
        address = os.environ["MLFLOW_TRACKING_URI"]
        with runner.start_run("inner") as inner:
            assert os.environ["MLFLOW_RUN_ID"] == inner.run_id
            inner.log_metric("x", 1)
        assert (os.environ["MLFLOW_RUN_ID"], os.environ["MLFLOW_TRACKING_URI"]) == (outer.run_id, address)
        left = runner.start_run("left open")
    with runner.start_run("second") as second:
        second.log_metric("x", 2)
    found = runner.get_run(outer.run_id)
    assert {child.run_id for child in found.children} == {inner.run_id, left.run_id}
    assert found.metrics == {}
    assert runner.get_run(inner.run_id).experiment == "e"
    assert runner.get_run(left.run_id).status == "FINISHED"
    assert runner.get_run(second.run_id).parent is None
    opened: list[ActiveRun] = []
    with pytest.raises(ZeroDivisionError), runner.start_run():
        _divide_inside(opened)
    assert runner.get_run(opened[0].run_id).status == "FAILED"


@pytest.mark.usefixtures("root")
def test_threads_and_forks_log_to_the_run() -> None:
    with runner.start_run() as run:
        threads = [threading.Thread(target=run.log_metric, args=(f"t{number}", number)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        fork = multiprocessing.get_context("fork").Process(target=_work_in_fork, args=(run,))
        fork.start()
        fork.join(120)
        assert fork.exitcode == 0
        for _ in range(10):  # a signal may arrive before Python runs in the fork
            ended = multiprocessing.get_context("fork").Process(target=threading.Event().wait, args=(120,))
            ended.start()
            ended.terminate()
            ended.join()
            assert ended.exitcode == -signal.SIGTERM
        assert run.record.status == "RUNNING"
        run.log_metric("after", 1)
    found = runner.get_run(run.run_id)
    assert found.metrics == {"t0": 0.0, "t1": 1.0, "t2": 2.0, "t3": 3.0, "fork": 1.0, "after": 1.0}
    assert [(child.run_name, child.status) for child in found.children] == [("of the fork", "FINISHED")]


def _work_in_fork(run: ActiveRun) -> None:
    run.log_metric("fork", 1)
    with runner.start_run("of the fork"):
        run.end("FAILED")


@pytest.mark.usefixtures("root")
def test_invalid_values_change_nothing(tmp_path: Path) -> None:
    with runner.start_run() as run:
        run.log_param("a", 1)
        with pytest.raises(InvalidValueError):
            run.log_param("a", 2)
        with pytest.raises(InvalidValueError):
            run.log_metric("<>", 1)
        with pytest.raises(InvalidValueError):
            run.log_artifact(tmp_path, "../up")
        with pytest.raises(NotFoundError, match="no file or folder"):
            run.log_artifact(tmp_path / "absent")
        with pytest.raises(UsageError, match="no status"):
            run.end("DONE")
    assert (runner.get_run(run.run_id).params, runner.get_run(run.run_id).artifacts) == ({"a": "1"}, ())
    with pytest.raises(TypeError, match=r"start_run\(\)"):
        runner.start_run(7)  # type: ignore[arg-type]


def test_the_home_folder_is_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = tmp_path / "user"
    (user / "work").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(user))
    for folder in (user, tmp_path):
        monkeypatch.chdir(folder)
        with pytest.raises(UsageError, match="is not a project"):
            runner.start_run()
    assert not runner.search_runs()
    with runner.start_run(folder="../user/work" if Path.cwd() == user else str(user / "work")) as run:
        pass
    assert runner.get_run(run.run_id).project == str(user / "work")


def test_a_folder_that_changes_is_marked(root: Path) -> None:
    with runner.start_run() as run:
        (root / "new.py").write_text("y = 1\n")
    assert runner.get_run(run.run_id).tags["proj.tree.changed"] == "true"


def test_a_broken_manifest_is_a_warning(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "MLproject").write_text("entry_points: [\n")
    with runner.start_run() as run:
        pass
    assert "The manifest is not used" in caplog.text
    assert runner.get_run(run.run_id).status == "FINISHED"


PROGRAM = """\
import os, signal, sys, time
sys.path.insert(0, {root!r})
import runner
run = runner.start_run(sys.argv[1])
if sys.argv[1] == "interrupt":
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
if sys.argv[1] == "terminate":
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
if sys.argv[1] == "_exit":
    os._exit(3)
if sys.argv[1] == "raise":
    raise LookupError("lost it")
if sys.argv[1] == "exit":
    sys.exit(4)
if sys.argv[1] == "caught":
    try:
        sys.exit(4)
    except SystemExit:
        run.log_metric("went on", 1)
if sys.argv[1] == "fork" and os.fork() == 0:
    sys.exit(5)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        ("interrupt", "KILLED", "stopped by SIGINT"),
        ("terminate", "KILLED", "stopped by SIGTERM"),
        ("_exit", "LOST", "ended without recording the outcome"),
        ("raise", "FAILED", "LookupError: lost it"),
        ("exit", "FAILED", "the program ended with 4"),
        ("caught", "FINISHED", None),
        ("fork", "FINISHED", None),
        ("end", "FINISHED", None),
    ],
)
def test_endings_of_a_program(root: Path, how: str, status: str, reason: str | None) -> None:
    program = root / "own.py"
    program.write_text(PROGRAM.format(root=str(ROOT)))
    subprocess.run([sys.executable, program, how], check=False, capture_output=True, timeout=240)
    run = runner.get_run(how)
    assert run.status == status
    assert (run.reason is None) if reason is None else (reason in (run.reason or ""))
    assert run.entry_point == "python own.py …"
    assert (run.failed_at or "") == ("own.py:14: LookupError: lost it" if how == "raise" else "")


@pytest.mark.slow
def test_a_program_runs_again(root: Path, proj: RunProj) -> None:
    program = root / "own.py"
    program.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import runner\n"
        "with runner.start_run() as run: run.log_metric('m', len(sys.argv))\n"
    )
    for words in ((), ("argument",)):
        subprocess.run([sys.executable, program, *words], check=True, capture_output=True, timeout=240)
        program.with_name("later.txt").write_text("this file is none of the run's\n")
        again = proj("rerun", "latest", "--json", cwd=root)
        if words:
            assert again.code == 1
            assert "no entry point 'python own.py …'" in again.err
        else:
            assert (again.code, again.json["metrics"]) == (0, {"m": 1.0}), again.err
            assert again.json["entry_point"] == "own.py"


@pytest.mark.slow
def test_a_run_on_a_tracking_server(root: Path, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del root
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with standalone_server(elsewhere, PROJ_HOME=str(elsewhere / "home")) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        with runner.start_run("both") as run:
            run.log_metric("m", 1)
            with runner.start_run("inner") as inner:
                inner.log_metric("m", 2)
            assert runner.get_run(run.run_id, tracking_uri="").status == "RUNNING"
        assert os.environ["MLFLOW_TRACKING_URI"] == server.url
        there = {one.run_name: (one.status, one.metrics) for one in runner.search_runs(tracking_uri=server.url)}
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert there == {"both": ("FINISHED", {"m": 1.0}), "inner": ("FINISHED", {"m": 2.0})}
    assert {one.run_name: (one.status, one.metrics) for one in runner.search_runs()} == there
    assert home.root != elsewhere / "home"


@pytest.mark.slow
def test_the_command_of_a_run_logs_to_that_run(root: Path, proj: RunProj, home: Home) -> None:
    lines = [
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import runner",
        "with runner.start_run('ignored') as run: run.log_metric('own', 1); run.log_artifact('own.py')",
        "with runner.start_run('second') as run: run.log_metric('own', 2)",
        "raise SystemExit(9)",
    ]
    (root / "own.py").write_text("\n".join(lines))
    done = proj("run", ".", "-e", "own.py", "--env-manager", "local", "--json", cwd=root, PROJ_HOME=str(home.root))
    assert (done.code, done.json["status"], done.json["metrics"]) == (9, "FAILED", {"own": 1.0}), done.err
    found = runner.get_run(done.json["run_id"])
    assert [(child.run_name, child.status) for child in found.children] == [("second", "FINISHED")]
    assert "own.py" in {one.path for one in found.artifacts}


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "status"), [("run.end('KILLED')", "KILLED"), ("run.end()", "FINISHED")])
def test_the_command_of_a_run_sets_its_status(root: Path, proj: RunProj, ending: str, status: str) -> None:
    (root / "own.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import runner\nrun = runner.start_run()\n{ending}\n"
    )
    done = proj("run", ".", "-e", "own.py", "--env-manager", "local", "--json", cwd=root)
    assert done.json["status"] == status, done.err


@pytest.mark.slow
def test_proj_stops_a_run(root: Path, proj: RunProj) -> None:
    program = root / "own.py"
    waiting = "print(run.run_id, flush=True)\nsys.stdin.read()\n"
    program.write_text(PROGRAM.format(root=str(ROOT)) + waiting)
    started = [sys.executable, program, "waiting"]
    with subprocess.Popen(started, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        run_id = process.stdout.readline().decode().strip()
        done = proj("stop", run_id, cwd=root)
        assert done.code == 0, done.err
        process.wait(120)
    assert runner.get_run(run_id).status == "KILLED"
