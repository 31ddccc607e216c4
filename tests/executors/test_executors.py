"""Executors: the contract that each keeps, and the variables that a command sees."""

import os
import shutil
from pathlib import Path

import pytest

from runner.executors import EXECUTORS, Capabilities, ExecutionRequest, Executor, child_environment
from runner.executors.local import LocalExecutor
from runner.model import EnvironmentDeclaration, EnvironmentKind, Event
from runner.process import Echo, Stdin


class ExecutorContract:
    """What every executor does; a test class of each one inherits it."""

    executor: Executor

    @pytest.fixture
    def events(self) -> list[Event]:
        return []

    def request(self, folder: Path, command: str, **more: object) -> ExecutionRequest:
        words = {
            "argv": ("bash", "-c", command),
            "cwd": folder,
            "variables": child_environment(os.environ, cwd=folder),
            "log": folder / "log.txt",
            "echo": Echo.NONE,
            "stdin": Stdin.NOTHING,
            **more,
        }
        return ExecutionRequest(**words)  # type: ignore[arg-type]

    def test_it_is_listed_by_its_name(self) -> None:
        assert EXECUTORS[self.executor.name].name == self.executor.name
        assert isinstance(self.executor.capabilities, Capabilities)

    def test_it_runs_a_command_and_keeps_its_output(self, tmp_path: Path, events: list[Event]) -> None:
        outcome = self.executor.execute(self.request(tmp_path, "echo out; echo err >&2; exit 3"), events.append)
        assert (outcome.exit_code, outcome.stopped_by, events) == (3, None, [])
        assert sorted((tmp_path / "log.txt").read_text().split()) == ["err", "out"]

    def test_it_reports_why_a_command_was_stopped(self, tmp_path: Path, events: list[Event]) -> None:
        outcome = self.executor.execute(self.request(tmp_path, "sleep 60", timeout=0.2), events.append)
        assert outcome.stopped_by == "timeout"
        assert [event.message for event in events] == ["the command was stopped: it took longer than 0.2 s"]

    @pytest.mark.skipif(shutil.which("setsid") is None, reason="makes a daemon with setsid(1)")
    def test_it_reports_processes_that_were_left_running(self, tmp_path: Path, events: list[Event]) -> None:
        self.executor.execute(self.request(tmp_path, "setsid sleep 60 & exit 0"), events.append)
        assert [event.message for event in events] == [
            "processes that the command left running were ended: sleep",
        ]

    def test_it_masks_secrets(self, tmp_path: Path, events: list[Event]) -> None:
        self.executor.execute(self.request(tmp_path, "echo hunter2", masks=(b"hunter2",)), events.append)
        assert (tmp_path / "log.txt").read_text() == "***\n"

    def test_it_runs_commands_without_a_declared_environment(self) -> None:
        assert self.executor.why_not(EnvironmentDeclaration()) is None


class TestLocal(ExecutorContract):
    executor: Executor = LocalExecutor()

    def test_it_cannot_run_images(self) -> None:
        reason = self.executor.why_not(EnvironmentDeclaration(kind=EnvironmentKind.DOCKER_ENV))
        assert reason is not None
        assert "container" in reason


def test_the_environment_is_the_users_without_what_leads_away(tmp_path: Path) -> None:
    stays = {"HOME": "/h", "TMPDIR": "/t", "LANG": "C", "OMP_NUM_THREADS": "2", "EDITOR": "vi", "HTTPS_PROXY": "p"}
    stays |= {"UV_DEFAULT_INDEX": "i", "PIP_INDEX_URL": "i", "MLFLOW_S3_ENDPOINT_URL": "e"}
    goes = (
        "PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONUSERBASE __PYVENV_LAUNCHER__ VIRTUAL_ENV CONDA_PREFIX CONDA_SHLVL"
        " UV_PROJECT_ENVIRONMENT UV_INTERNAL__PARENT_INTERPRETER GIT_DIR GIT_INDEX_FILE BASH_ENV CDPATH OLDPWD PWD"
        " MLFLOW_EXPERIMENT_NAME MLFLOW_RUN_ID PROJ_METRICS"
    )
    base = {**stays, **dict.fromkeys(goes.split(), "x"), "PATH": "/usr/bin"}
    found = child_environment(base, cwd=tmp_path, path_entries=[Path("/p/bin"), Path("/q")])
    assert found == {
        **stays,
        "PATH": os.pathsep.join(["/p/bin", "/q", "/usr/bin"]),
        "PWD": str(tmp_path),
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def test_what_the_user_and_the_entry_point_choose_wins(tmp_path: Path) -> None:
    base = {"PYTHONHASHSEED": "7", "PYTHONUNBUFFERED": "", "A": "user", "B": "user"}
    found = child_environment(base, cwd=tmp_path, variables={"B": "tracking", "C": "tracking"}, own={"C": "own"})
    assert (found["PYTHONHASHSEED"], found["PYTHONUNBUFFERED"]) == ("7", "")
    assert (found["A"], found["B"], found["C"]) == ("user", "tracking", "own")
    assert found["PATH"] == os.defpath


def test_credentials_go_only_to_the_server_they_are_for(tmp_path: Path) -> None:
    base = {"MLFLOW_TRACKING_URI": "https://a", "MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "x"}
    same = child_environment(base, cwd=tmp_path, variables={"MLFLOW_TRACKING_URI": "https://a"})
    other = child_environment(base, cwd=tmp_path, variables={"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"})
    assert same["MLFLOW_TRACKING_PASSWORD"] == "x"
    assert {name for name in other if name.startswith("MLFLOW_")} == {"MLFLOW_TRACKING_URI"}
