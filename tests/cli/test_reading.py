"""The commands that read and remove runs, as a user calls them."""

import io
import json
import os
import subprocess
import time
from pathlib import Path
from unittest.mock import patch

import pytest

from runner.cli.get import folder_for
from runner.cli.main import run_command
from runner.model import (
    Code,
    EnvironmentRecord,
    FileRecord,
    Machine,
    Parameter,
    ParameterRecord,
    Resources,
    RunDetails,
    RunStatus,
)
from runner.settings import Home
from runner.source.snapshot_store import run_ref
from runner.store import experiments, models, process_identity, runs, values
from runner.store.artifacts import write_artifact
from runner.store.database import Database
from runner.store.entities import Metric, NewModel, NewRun, ProcessIdentity
from tests.cli.terminals import uncoloured
from tests.conftest import start_proj, write_tree

HOUR = 3_600_000

DETAILS = RunDetails(
    project="/home/me/project",
    entry_point="main",
    command="python train.py --alpha 0.5",
    argv=("bash", "-c", "python train.py --alpha 0.5"),
    exit_code=0,
    code=Code(tree="1" * 40, swhid="swh:1:dir:1", commit="a" * 40, branch="main"),
    environment=EnvironmentRecord(manager="uv", python="3.11.7", packages=(("numpy", "2.0"),)),
    parameters=(ParameterRecord(name="alpha", value="0.5", type="float", source="command line"),),
    outputs=(FileRecord(path="out/plot.png", size=1500, sha256="f" * 64),),
    resources=Resources(wall_seconds=3.25, user_seconds=2, system_seconds=0.5, peak_memory=2_500_000),
    machine=Machine(host="box", platform="Linux", cpu_count=4),
)
DIRTY = Code(tree="2" * 40, swhid="swh:1:dir:2", commit="b" * 40, dirty=True, changed_files=("a.py", "b c.py"))


def make_run(db: Database, name: str, started_at: int, details: RunDetails = DETAILS) -> str:
    run_id = runs.create(db, NewRun(name=name, started_at=started_at, details=details)).run_id
    values.record_parameters(db, run_id, [Parameter(name="alpha", value="0.5", type="float")])
    values.log_metrics(db, run_id, [Metric(key="rmse", value=0.75, timestamp=1)])
    runs.update(db, run_id, status=RunStatus.FINISHED, ended_at=started_at + 2500)
    return run_id


@pytest.fixture
def two(db: Database) -> tuple[str, str]:
    """Make a clean run, then a dirty one."""
    code = RunDetails(code=DIRTY, entry_point="main")
    return make_run(db, "clean one", 1_700_000_000_000), make_run(db, "dirty one", 1_700_000_100_000, code)


Capture = pytest.CaptureFixture[str]


class TestList:
    def test_an_empty_store(self, capsys: Capture) -> None:
        assert run_command(["list"]) == 0
        said = capsys.readouterr()
        assert said.out == ""
        assert "no runs" in said.err

    def test_newest_first_with_a_star_for_dirty_code(self, two: tuple[str, str], capsys: Capture) -> None:
        assert run_command(["list"]) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if " one" in line]
        assert "dirty one" in lines[0]
        assert "bbbbbbbbbb*" in lines[0]
        assert "clean one" in lines[1]
        assert lines[1].endswith("aaaaaaaaaa")
        assert "0.75" in lines[1]
        assert "2.5 s" in lines[1]
        assert two[0][:8] in lines[1]

    def test_a_narrow_terminal_shows_whole_ids_and_states(self, two: tuple[str, str], tmp_path: Path) -> None:
        for width in (60, 80, 200):
            lines = uncoloured(width, tmp_path, "list").splitlines()
            assert max(map(len, lines)) <= width
            assert all(any(run_id[:8] in line and "FINISHED" in line for line in lines) for run_id in two)
            assert sum("0.75" in line for line in lines) == 2
            assert "2.5 s" in "".join(lines) or width < 200
            assert "entry point" not in "".join(lines)

    def test_json_has_the_records(self, two: tuple[str, str], capsys: Capture) -> None:
        run_command(["list", "--json"])
        listed = json.loads(capsys.readouterr().out)
        assert [record["run_id"] for record in listed] == [two[1], two[0]]
        run_command(["show", two[0], "--json"])
        assert json.loads(capsys.readouterr().out).items() >= listed[1].items()

    def test_choices(self, db: Database, two: tuple[str, str], capsys: Capture) -> None:
        number = experiments.create(db, "other")
        failed = runs.create(db, NewRun(experiment_id=number, status=RunStatus.FAILED)).run_id

        def listed(*words: str) -> list[str]:
            assert run_command(["list", "--json", *words]) == 0
            return [record["run_id"] for record in json.loads(capsys.readouterr().out)]

        assert listed("--experiment", "other") == [failed]
        assert listed("--experiment", number) == [failed]
        assert listed("--status", "failed") == [failed]
        assert listed("--limit", "1") == [failed]
        assert listed("--filter", "metrics.rmse > 0.5", "--order-by", "start_time ASC") == list(two)
        assert listed("--filter", "metrics.rmse > 0.5", "--status", "FAILED") == []
        assert run_command(["list", "--experiment", "nothing"]) == 1
        assert "There is no experiment 'nothing'" in capsys.readouterr().err
        assert run_command(["list", "--filter", "rmse > 5"]) == 1
        assert "at character 1" in capsys.readouterr().err

    def test_more_than_shown_is_said(self, two: tuple[str, str], capsys: Capture) -> None:  # noqa: ARG002
        run_command(["list", "--limit", "1"])
        assert "more runs" in capsys.readouterr().err

    def test_a_run_without_owner_is_shown_as_lost(self, db: Database, capsys: Capture) -> None:
        runs.create(
            db, NewRun(owner=ProcessIdentity(pid=1, started="-", boot="-", host=process_identity.this_process().host))
        )
        run_command(["list"])
        assert "LOST" in capsys.readouterr().out

    def test_names_do_not_steer_the_terminal(self, db: Database, capsys: Capture) -> None:
        make_run(db, "\x1b[31mred\x1b]0;title\x07[bold]", 0)
        run_command(["list"])
        out = capsys.readouterr().out
        assert "\x1b[31m" not in out
        assert "\x07" not in out
        assert "[bold]" in out


class TestShow:
    def test_everything_of_a_run(self, two: tuple[str, str], home: Home, capsys: Capture) -> None:
        write_tree(home.snapshot_store, {run_ref(two[0]): "kept"})
        write_artifact(home.artifacts(two[0]), "report.txt", [b"x"])
        assert run_command(["show", two[0][:10]]) == 0
        out = capsys.readouterr().out
        for words in (
            f"run {two[0]}  clean one",
            "FINISHED, exit code 0",
            "a" * 40,
            "state         clean",
            "uv",
            "alpha = 0.5  (float, command line)",
            "rmse = 0.75",
            "out/plot.png  1.5 kB  sha256 ffffffffffff",
            "3.25 s",
            "2.5 MB",
            f"proj checkout {two[0][:8]} DIR",
            f"proj get {two[0][:8]}",
        ):
            assert words in out, words

    def test_dirty_code_is_never_shown_like_clean(self, two: tuple[str, str], home: Home, capsys: Capture) -> None:
        write_tree(home.snapshot_store, {run_ref(two[1]): "kept"})
        run_command(["show", "latest"])
        out = capsys.readouterr().out
        assert f"differs from commit bbbbbbbbbb in 2 files; proj diff {two[1][:8]}" in out
        assert "b" * 40 + "*" in out
        assert "b c.py" in out

    def test_json_is_the_stable_record(self, two: tuple[str, str], capsys: Capture) -> None:
        run_command(["show", "clean one", "--json"])
        record = json.loads(capsys.readouterr().out)
        assert record["run_id"] == two[0]
        assert record["started_at"] == "2023-11-14T22:13:20.000Z"
        assert record["parameters"] == [{"name": "alpha", "value": "0.5", "type": "float", "source": "command line"}]
        assert set(record) >= {
            *("run_id", "run_name", "experiment", "status", "exit_code", "started_at", "ended_at", "project"),
            *("entry_point", "command", "argv", "cwd", "parameters", "metrics", "tags", "code", "environment"),
            *("inputs", "outputs", "resources", "machine", "folder", "log"),
        }

    def test_what_is_not_there_and_what_is_not_clear(self, db: Database, capsys: Capture) -> None:
        for run_id in ("ab" * 16, "ac" * 16):
            runs.create(db, NewRun(run_id=run_id))
        assert run_command(["show", "zzz"]) == 1
        assert "There is no run 'zzz'" in capsys.readouterr().err
        assert run_command(["show", "a"]) == 1
        assert "abababababab" in capsys.readouterr().err


class TestLog:
    def test_bytes_are_printed_as_they_are(
        self, two: tuple[str, str], home: Home, capfdbinary: pytest.CaptureFixture[bytes]
    ) -> None:
        home.run(two[0]).mkdir(parents=True)
        home.log(two[0]).write_bytes(b"a\rb\xff\x00\x1b[1m\n" * 1000)
        assert run_command(["log", two[0]]) == 0
        assert capfdbinary.readouterr().out == b"a\rb\xff\x00\x1b[1m\n" * 1000

    def test_no_output(self, two: tuple[str, str], capsys: Capture) -> None:
        assert run_command(["log", two[0], "-f"]) == 1
        assert "has no output" in capsys.readouterr().err

    def test_following_until_the_run_ends(self, db: Database, home: Home, tmp_path: Path) -> None:
        run_id = runs.create(db, NewRun()).run_id
        process = start_proj("log", "-f", run_id, cwd=tmp_path)
        home.run(run_id).mkdir(parents=True)
        with home.log(run_id).open("w") as file:
            for number in range(3):
                print(number, file=file, flush=True)
                assert process.stdout is not None
                assert process.stdout.readline() == f"{number}\n"
        runs.update(db, run_id, status=RunStatus.FINISHED)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "", "")

    def test_a_reader_that_has_enough(self, two: tuple[str, str], home: Home, tmp_path: Path) -> None:
        home.run(two[0]).mkdir(parents=True)
        home.log(two[0]).write_bytes(b"line\n" * 1_000_000)
        process = start_proj("log", two[0], cwd=tmp_path)
        assert process.stdout is not None
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        process.stderr.close()
        assert process.wait(60) == 0


class TestGet:
    @pytest.fixture
    def run_id(self, two: tuple[str, str], home: Home) -> str:
        write_artifact(home.artifacts(two[0]), "model/MLmodel", [b"model"])
        write_artifact(home.artifacts(two[0]), "plot.png", [b"plot"])
        return two[0]

    def test_everything_and_parts(self, run_id: str, tmp_path: Path, capsys: Capture) -> None:
        assert run_command(["get", run_id, "--to", str(tmp_path / "all")]) == 0
        out = capsys.readouterr().out
        assert out.splitlines() == [str(tmp_path / "all" / "model" / "MLmodel"), str(tmp_path / "all" / "plot.png")]
        assert (tmp_path / "all" / "model" / "MLmodel").read_bytes() == b"model"
        assert run_command(["get", run_id, "model/", "--to", str(tmp_path / "part")]) == 0
        assert not (tmp_path / "part" / "plot.png").exists()
        assert (tmp_path / "part" / "model" / "MLmodel").exists()

    def test_the_default_is_a_folder_of_the_run(
        self, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert run_command(["get", run_id, "plot.png"]) == 0
        assert [path.name for path in tmp_path.iterdir()] == [f"clean one-{run_id[:8]}"]
        assert (tmp_path / f"clean one-{run_id[:8]}" / "plot.png").read_bytes() == b"plot"

    @pytest.mark.parametrize("name", ["../../up", ".hidden", "-rf", "a\x1bb", "x" * 300, "ü" * 200, ""])
    def test_a_name_that_is_no_folder(self, name: str) -> None:
        folder = folder_for(name, "ab" * 16)
        assert (len(folder.parts), folder.name[0] not in ".-", folder.name.isprintable()) == (1, True, True)
        assert folder.name.endswith("abababab")
        assert len(os.fsencode(folder)) < 256

    def test_a_listing_copies_nothing(
        self, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert run_command(["get", run_id, "--list"]) == 0
        assert capsys.readouterr().out.splitlines() == ["model/MLmodel", "plot.png"]
        assert run_command(["get", run_id, "model", "--list"]) == 0
        assert capsys.readouterr().out.splitlines() == ["model/MLmodel"]
        assert run_command(["get", run_id, "nothing", "--list"]) == 1
        shown = uncoloured(80, tmp_path, "get", run_id, "--list")
        assert [line.split() for line in shown.splitlines()] == [
            ["model/"],
            ["MLmodel", "5", "B"],
            ["plot.png", "4", "B"],
            ["2", "files,", "9", "B"],
        ]
        assert list(tmp_path.iterdir()) == []

    def test_files_that_differ_are_not_replaced(self, run_id: str, tmp_path: Path, capsys: Capture) -> None:
        (tmp_path / "plot.png").write_bytes(b"mine")
        assert run_command(["get", run_id, "--to", str(tmp_path)]) == 1
        assert "plot.png" in capsys.readouterr().err
        assert (tmp_path / "plot.png").read_bytes() == b"mine"
        assert not (tmp_path / "model").exists()
        assert run_command(["get", run_id, "--to", str(tmp_path), "--force"]) == 0
        assert (tmp_path / "plot.png").read_bytes() == b"plot"
        assert run_command(["get", run_id, "--to", str(tmp_path)]) == 0
        assert "2 already existed" in capsys.readouterr().err

    def test_what_is_not_there(self, run_id: str, two: tuple[str, str], capsys: Capture) -> None:
        assert run_command(["get", run_id, "nothing"]) == 1
        assert "model/MLmodel, plot.png" in capsys.readouterr().err
        assert run_command(["get", two[1]]) == 1
        assert "no artifacts" in capsys.readouterr().err
        assert run_command(["get", run_id, "../../x"]) == 1
        assert "has no artifact" in capsys.readouterr().err

    def test_artifacts_kept_elsewhere(self, db: Database, capsys: Capture) -> None:
        run_id = runs.create(db, NewRun(artifact_uri="s3://bucket/x")).run_id
        assert run_command(["get", run_id]) == 1
        assert "s3://bucket/x" in capsys.readouterr().err


class TestRemove:
    def test_nobody_answers(self, two: tuple[str, str], capsys: Capture) -> None:
        with patch("sys.stdin", io.StringIO("")):
            assert run_command(["rm", two[0]]) == 2
        assert "-y removes without asking" in capsys.readouterr().err
        assert run_command(["show", two[0]]) == 0

    def test_nothing_of_a_run_is_left(self, db: Database, home: Home, tmp_path: Path, capsys: Capture) -> None:
        mine = tmp_path / "mine"
        mine.mkdir()
        run_id = make_run(db, "in place", 0, RunDetails(folder=str(mine)))
        other = make_run(db, "other", 0)
        write_artifact(home.artifacts(run_id), "f", [b"x" * 2000])
        write_artifact(home.artifacts(other), "f", [b"x"])
        model = models.create(db, NewModel(name="m", source_run_id=run_id))
        write_artifact(home.root / "runs" / "models" / model.model_id / "artifacts", "f", [b"x"])
        folder = home.folders / run_id / "sub"
        folder.mkdir(parents=True)
        (folder / "read-only").write_text("x")
        folder.chmod(0o500)
        assert run_command(["rm", run_id[:12], "--yes", "--permanently"]) == 0
        said = capsys.readouterr()
        assert said.out == f"{run_id}\n"
        assert "2.0 kB freed" in said.err
        assert [path for path in home.root.rglob("*") if run_id in str(path) or model.model_id in str(path)] == []
        assert mine.is_dir()
        assert [row["run_id"] for row in db.query("SELECT run_id FROM runs")] == [other]
        assert (home.artifacts(other) / "f").exists()

    def test_it_asks_first(self, two: tuple[str, str], tmp_path: Path, db: Database) -> None:
        process = start_proj("rm", two[0], cwd=tmp_path)
        _, err = process.communicate(timeout=60)
        assert process.returncode != 0
        assert "clean one" in err
        assert "Move 1 run to the trash?" in err
        assert len(db.query("SELECT 1 FROM runs")) == 2

    def test_by_age(self, db: Database, capsys: Capture) -> None:
        now = time.time_ns() // 1_000_000
        old, new = make_run(db, "old", now - 3 * HOUR), make_run(db, "new", now - HOUR)
        assert run_command(["rm", "--older-than", "2h", "--all", "--permanently", "--yes"]) == 0
        assert capsys.readouterr().out == f"{old}\n"
        assert [row["run_id"] for row in db.query("SELECT run_id FROM runs")] == [new]
        assert run_command(["rm", "--older-than", "2h", "--all", "--permanently", "--yes"]) == 0
        assert "no runs" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "words",
        [
            [],
            ["--older-than", "soon"],
            ["--older-than", "-1d"],
            ["--all"],
            ["--filter", " "],
            ["a", "--status", "FAILED"],
        ],
    )
    def test_wrong_use(self, words: list[str]) -> None:
        assert run_command(["rm", *words]) == 2

    def test_a_run_that_goes_on_is_kept_and_nothing_else_is_removed(
        self, db: Database, two: tuple[str, str], capsys: Capture
    ) -> None:
        live = runs.create(db, NewRun(owner=process_identity.this_process())).run_id
        assert run_command(["rm", two[0], live, "--yes"]) == 1
        assert "RUNNING" in capsys.readouterr().err
        assert len(db.query("SELECT 1 FROM runs")) == 3

    def test_the_code_is_let_go(self, db: Database, home: Home) -> None:
        run_id = make_run(db, "frozen", 0)

        def git(*words: str) -> str:
            words = ("git", "--git-dir", str(home.snapshot_store), *words)
            return subprocess.run(words, check=True, capture_output=True, text=True, input="").stdout.strip()

        git("init", "--quiet", "--bare")
        commit = git("commit-tree", "-m", "x", git("mktree"))
        git("update-ref", f"refs/runs/{run_id}", commit)
        assert run_command(["rm", run_id, "--yes", "--permanently"]) == 0
        assert git("for-each-ref") == ""


class TestCodeThatIsNotHere:
    @pytest.mark.parametrize("command", [["checkout", "r", "there"], ["diff", "r"]])
    def test_what_is_known_of_it_is_said(self, db: Database, capsys: Capture, command: list[str]) -> None:
        code = Code(tree="1" * 40, swhid="swh", commit="c" * 40, dirty=True, remote="https://git.example.org/a b.git")
        runs.create(db, NewRun(name="r", details=RunDetails(code=code), tags={"proj.origin": "http://x"}))
        assert run_command(command) == 1
        said = capsys.readouterr().err
        assert "the run was copied from another store" in said
        assert "1" * 40 in said
        assert f"git clone 'https://git.example.org/a b.git' DIR && git -C DIR checkout {'c' * 40}" in said

    def test_a_run_that_a_client_logged(self, db: Database, capsys: Capture) -> None:
        runs.create(db, NewRun(name="r", tags={"mlflow.source.git.commit": "c" * 40}))
        assert run_command(["checkout", "r", "there"]) == 1
        said = capsys.readouterr().err
        assert "the run was logged by a client" in said
        assert f"commit {'c' * 40}" in said
        assert "clone" in said
        assert run_command(["show", "r"]) == 0
        assert "proj checkout" not in capsys.readouterr().out
