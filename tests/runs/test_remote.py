"""Tests reading the runs of a tracking server, and copying them into the local store."""

import json
import math
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from runner.cli.main import run_command
from runner.model import Code, ParameterRecord, RunDetails, RunStatus
from runner.runs.local import LocalReader
from runner.runs.opening import server_to_read
from runner.runs.remote import RemoteReader
from runner.settings import Home
from runner.store import experiments, lineage, models, runs, values
from runner.store.artifacts import survey, write_artifact
from runner.store.database import Database
from runner.store.downsampling import all_points
from runner.store.entities import (
    Dataset,
    DatasetInput,
    Metric,
    ModelOutput,
    ModelStatus,
    NewModel,
    NewRun,
)
from runner.store.records import read_record
from runner.sync import bundle_records
from runner.sync.client import RemoteServer
from runner.sync.push import Destination, push
from tests.conftest import Result, RunProj, git, write_tree
from tests.server.test_mlflow_comparison import mlflow_server
from tests.support.faulty_servers import Answer, Seen, json_error, odd_server
from tests.support.standalone_server import RunningServer, standalone_server

Capture = pytest.CaptureFixture[str]

DETAILS = RunDetails(
    project="/home/ann/project",
    entry_point="main",
    command="python train.py",
    exit_code=0,
    code=Code(tree="1" * 40, swhid="swh:1:dir:1", commit="a" * 40, branch="main"),
    parameters=(ParameterRecord(name="alpha", value="0.5", type="float", source="command line"),),
)


class Theirs:
    """A foreign `proj server`, and its store."""

    def __init__(self, standalone: RunningServer, home: Home, database: Database) -> None:
        self.url = standalone.url
        self.home = home
        self.database = database

    def make_run(self, name: str, started_at: int = 1_700_000_000_000, **fields: Any) -> str:
        run = runs.create(self.database, NewRun(name=name, started_at=started_at, **fields))
        values.log_params(self.database, run.run_id, [("alpha", "0.5"), ("empty", "")])
        points = [Metric(key="loss", value=1 / (step + 1), step=step, timestamp=step) for step in range(300)]
        values.log_metrics(self.database, run.run_id, points)
        odd = zip(("nan", "plus", "minus"), (math.nan, math.inf, -math.inf), strict=True)
        values.log_metrics(self.database, run.run_id, [Metric(key=key, value=value, timestamp=5) for key, value in odd])
        write_artifact(self.home.artifacts(run.run_id), "plots/ü 1.txt", [b"plot"])
        write_artifact(self.home.artifacts(run.run_id), "large.bin", [b"x" * 1_000_000] * 3)
        return run.run_id

    def finish(self, run_id: str) -> None:
        runs.update(self.database, run_id, status=RunStatus.FINISHED, ended_at=1_700_000_009_000)


@pytest.fixture
def theirs(tmp_path: Path, clean_room: Path) -> Iterator[Theirs]:
    home = Home(clean_room / "theirs")
    with (
        closing(Database.open(home.database)) as database,
        standalone_server(tmp_path, PROJ_HOME=str(home.root)) as standalone,
    ):
        yield Theirs(standalone, home, database)


def call(capsys: Capture, *words: str) -> Result:
    code = run_command(words)
    said = capsys.readouterr()
    return Result(code, said.out, said.err)


class TestReading:
    def test_listing(self, theirs: Theirs, capsys: Capture) -> None:
        one = theirs.make_run("first")
        number = experiments.create(theirs.database, "other")
        two = theirs.make_run("second", 1_700_000_100_000, experiment_id=number)
        theirs.finish(two)

        def listed(*words: str) -> list[str]:
            said = call(capsys, "list", "--tracking-uri", theirs.url, "--json", *words)
            assert said.code == 0, said.err
            return [record["run_id"] for record in said.json]

        assert listed() == [two, one]
        assert listed("--experiment", "other") == [two]
        assert listed("--experiment", number) == [two]
        assert listed("--status", "running") == [one]
        assert listed("--filter", "metrics.loss < 0.1 AND params.alpha = '0.5'", "--order-by", "start_time ASC") == [
            one,
            two,
        ]
        limited = call(capsys, "list", "--tracking-uri", theirs.url, "--limit", "1")
        assert "second" in limited.out
        assert "more runs" in limited.err
        assert "first" not in limited.out
        assert call(capsys, "list", "--tracking-uri", theirs.url, "--experiment", "nothing").code == 1

    def test_a_run_by_all_its_names(self, theirs: Theirs, capsys: Capture) -> None:
        run_id = theirs.make_run("it's the first", tags={"team": "blue"})
        for word in (run_id, run_id[:10], "it's the first", "latest"):
            record = call(capsys, "show", word, "--tracking-uri", theirs.url, "--json").json
            assert record["run_id"] == run_id, word
        assert (record["experiment"], record["tags"]["team"]) == ("Default", "blue")
        shown = call(capsys, "show", run_id, "--tracking-uri", theirs.url)
        assert "alpha = 0.5" in shown.out
        assert "nan = nan" in shown.out
        assert f"proj pull {run_id[:8]} --from {theirs.url}" in shown.out

    def test_words_that_mean_none_or_several(self, theirs: Theirs, capsys: Capture) -> None:
        for run_id in ("ab" * 16, "ac" * 16):
            theirs.make_run("twin", run_id=run_id)
        said = call(capsys, "show", "a", "--tracking-uri", theirs.url)
        assert (said.code, "Several runs match" in said.err, "acacacacacac" in said.err) == (1, True, True)
        said = call(capsys, "show", "twin", "--tracking-uri", theirs.url)
        assert (said.code, said.err.count("'twin' selects 2 runs; this is the newest")) == (0, 1)
        for word in ("zzz", "f" * 32, "ffff", "'\""):
            said = call(capsys, "show", word, "--tracking-uri", theirs.url)
            assert (said.code, "There is no run" in said.err) == (1, True), word

    def test_metrics(self, theirs: Theirs, capsys: Capture) -> None:
        run_id = theirs.make_run("first")
        said = call(capsys, "metrics", run_id, "loss", "--tracking-uri", theirs.url, "--width", "20")
        line, last, count = said.out.splitlines()
        assert 15 <= len(line) <= 22
        assert line[0] == "█"
        assert "last 0.003333333333 at step 299" in last
        assert "300 points from step 0, smallest 0.00333333, largest 1" in count
        points = call(capsys, "metrics", run_id, "loss", "--tracking-uri", theirs.url, "--json").json
        assert [point["step"] for point in points] == list(range(300))
        whole = call(capsys, "metrics", run_id, "--tracking-uri", theirs.url, "--json").json
        assert {name: point["value"] for name, point in whole.items() if name != "loss"} == {
            "nan": "nan",
            "plus": "inf",
            "minus": "-inf",
        }
        nan = call(capsys, "metrics", run_id, "nan", "--tracking-uri", theirs.url)
        assert "smallest none" in nan.out
        assert "has no metric 'none'" in call(capsys, "metrics", run_id, "none", "--tracking-uri", theirs.url).err

    def test_files(self, theirs: Theirs, tmp_path: Path, capsys: Capture) -> None:
        run_id = theirs.make_run("first")
        model = models.create(theirs.database, NewModel(name="net", source_run_id=run_id))
        write_artifact(theirs.home.root / "runs" / "models" / model.model_id / "artifacts", "MLmodel", [b"model"])
        target = tmp_path / "got"
        words = ("get", run_id, "--to", str(target), "--tracking-uri", theirs.url)
        assert "3 copied (3.0 MB)" in call(capsys, *words).err
        assert (target / "plots" / "ü 1.txt").read_bytes() == b"plot"
        assert (target / "large.bin").stat().st_size == 3_000_000
        assert (target / "net" / "MLmodel").read_bytes() == b"model"
        assert "0 copied (0 B), 3 already existed" in call(capsys, *words).err
        (target / "plots" / "ü 1.txt").write_bytes(b"mine")
        assert call(capsys, *words).code == 1
        part = call(capsys, "get", run_id, "plots", "--to", str(tmp_path / "part"), "--tracking-uri", theirs.url)
        assert part.out.splitlines() == [str(tmp_path / "part" / "plots" / "ü 1.txt")]
        none = call(capsys, "get", run_id, "none", "--tracking-uri", theirs.url)
        assert "Its artifacts are large.bin, net/MLmodel, plots/ü 1.txt." in none.err

    def test_comparing(self, theirs: Theirs, capsys: Capture) -> None:
        one, two = theirs.make_run("first"), theirs.make_run("second")
        values.log_params(theirs.database, two, [("beta", "1")])
        said = call(capsys, "compare", one, two, "--tracking-uri", theirs.url, "--json").json
        assert said["differences"] == {"parameters": {"beta": [None, "1"]}}

    def test_a_server_that_tells_of_bad_paths(self, theirs: Theirs, tmp_path: Path, capsys: Capture) -> None:
        run_id = theirs.make_run("first")

        def answer(seen: Seen) -> Answer | None:
            if "mlflow-artifacts" in seen.path:
                return 200, "application/json", b'{"files": [{"path": "../../evil", "is_dir": false, "file_size": 1}]}'
            return relayed(theirs.url, seen)

        with odd_server(answer) as odd:
            said = call(capsys, "get", run_id, "--to", str(tmp_path / "got"), "--tracking-uri", odd.url)
        assert said.out.splitlines() == [str(tmp_path / "got" / "evil")]
        assert list(tmp_path.rglob("evil")) == [tmp_path / "got" / "evil"]
        assert not any((folder / "evil").exists() for folder in tmp_path.parents)

    def test_a_server_can_not_name_any_folder_of_this_machine(
        self, theirs: Theirs, tmp_path: Path, db: Database, home: Home, capsys: Capture
    ) -> None:
        run_id = theirs.make_run("first")
        secret = write_tree(tmp_path / "private", {"key": "geheim"})
        theirs.database.execute("UPDATE runs SET artifact_uri = ?", secret.as_uri())

        def answer(seen: Seen) -> Answer | None:
            status, kind, content = relayed(theirs.url, seen)
            claims = json.dumps(secret.as_uri()).encode()
            return status, kind, re.sub(rb'"artifact_uri": ?"[^"]*"', b'"artifact_uri":' + claims, content)

        with odd_server(answer) as odd:
            said = call(capsys, "get", run_id, "--to", str(tmp_path / "got"), "--tracking-uri", odd.url)
            pulled = call(capsys, "pull", run_id, "--from", odd.url)
        assert "can't be fetched through the server" in said.err
        assert not (tmp_path / "got").exists()
        assert pulled.code == 0
        assert f"not on this machine and were not copied: {secret.as_uri()}" in pulled.out
        assert survey(home.artifacts(run_id)).files == ()
        assert runs.get(db, run_id).artifact_uri == home.artifacts(run_id).as_uri()

    def test_an_unreachable_server_is_reported(self, capsys: Capture) -> None:
        said = call(capsys, "list", "--tracking-uri", "http://127.0.0.1:9")
        assert said.code == 1
        assert "127.0.0.1:9" in said.err


def relayed(url: str, seen: Seen) -> Answer:
    """Forward a request unchanged."""
    with RemoteServer(url, {}) as server:
        path, _, query = seen.path.partition("?")
        body = json.loads(seen.body) if seen.body else None
        fields = dict(pair.partition("=")[::2] for pair in query.split("&") if pair)
        return 200, "application/json", server.forward(seen.method, path.removeprefix("/api/"), fields, body)


class TestSelection:
    """The selection of the store to read."""

    def test_the_variable_selects_the_server_and_is_reported(
        self, theirs: Theirs, capsys: Capture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_id = theirs.make_run("first")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", theirs.url)
        said = call(capsys, "list", "--json")
        assert [record["run_id"] for record in said.json] == [run_id]
        assert said.err.splitlines() == [f"reading {theirs.url} (MLFLOW_TRACKING_URI); --local reads the local store"]
        own = call(capsys, "list", "--local", "--json")
        assert (own.json, own.err) == ([], "")
        monkeypatch.setenv("PROJ_OFFLINE", "1")
        assert call(capsys, "list", "--json").json == []

    def test_no_password_is_shown(self, theirs: Theirs, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", theirs.url.replace("//", "//me:hunter22@"))
        assert "hunter22" not in call(capsys, "list").err

    @pytest.mark.parametrize(
        ("variables", "server"),
        [
            ({}, None),
            ({"MLFLOW_TRACKING_URI": "http://there"}, "http://there"),
            ({"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}, None),
            ({"MLFLOW_TRACKING_URI": "file:mlruns"}, None),
            ({"MLFLOW_TRACKING_URI": "http://there", "PROJ_RUN_ID": "1"}, None),
            ({"MLFLOW_TRACKING_URI": "http://there", "PROJ_OFFLINE": "1"}, None),
        ],
    )
    def test_the_variables_of_mlflow_are_read(
        self, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], server: str | None
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert server_to_read(None) == server
        assert server_to_read(None, local=True) is None

    def test_contradictions(self, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
        assert call(capsys, "list", "--local", "--tracking-uri", "http://there").code == 2
        assert "proj import" in call(capsys, "list", "--tracking-uri", "mlruns").err
        monkeypatch.setenv("PROJ_OFFLINE", "1")
        assert "--local" in call(capsys, "list", "--tracking-uri", "http://there").err


class TestPulling:
    def test_a_run_is_copied_completely(self, theirs: Theirs, db: Database, home: Home, capsys: Capture) -> None:
        number = experiments.create(theirs.database, "churn", tags={"team": "blue"})
        run_id = theirs.make_run("first", experiment_id=number, tags={"note": "x"}, user="ann")
        frame = Dataset(name="frame", digest="2981c147", source_type="code", source="{}")
        lineage.log_inputs(
            theirs.database, run_id, [DatasetInput(dataset=frame, tags={"mlflow.data.context": "train"})]
        )
        model = models.create(theirs.database, NewModel(experiment_id=number, name="net", source_run_id=run_id))
        models.finalize(theirs.database, model.model_id, ModelStatus.READY)
        write_artifact(theirs.home.root / "runs" / "models" / model.model_id / "artifacts", "MLmodel", [b"model"])
        lineage.log_outputs(theirs.database, run_id, [ModelOutput(model_id=model.model_id, step=3)])
        theirs.finish(run_id)
        said = call(capsys, "pull", run_id[:8], "--from", theirs.url)
        assert said.code == 0, said.err
        assert "runs: 1 added" in said.out
        run = runs.get(db, run_id)
        assert (run.name, run.user, run.status.value, run.ended_at) == ("first", "ann", "FINISHED", 1_700_000_009_000)
        assert run.params == {"alpha": "0.5", "empty": ""}
        assert (run.tags["note"], run.tags["proj.origin"]) == ("x", theirs.url)
        experiment = experiments.get(db, run.experiment_id)
        assert (experiment.name, experiment.tags) == ("churn", {"team": "blue"})
        assert [point.value for point in all_points(db, run_id, "loss")] == [1 / (step + 1) for step in range(300)]
        assert math.isnan(run.metrics["nan"].value)
        assert run.metrics["minus"].value == -math.inf
        assert [file.path for file in survey(home.artifacts(run_id)).files] == ["large.bin", "plots/ü 1.txt"]
        (read,) = lineage.inputs(db, run_id).datasets
        assert (read.dataset.name, read.tags) == ("frame", {"mlflow.data.context": "train"})
        assert lineage.outputs(db, run_id)[0].step == 3
        assert models.get(db, model.model_id).status is ModelStatus.READY
        assert (home.root / "runs" / "models" / model.model_id / "artifacts" / "MLmodel").read_bytes() == b"model"

    @pytest.mark.parametrize("case", [("lock.txt", 1), ("conda-lock.yml", 1), ("lock.txt", 400_000)])
    def test_the_run_bundle_is_copied(
        self, theirs: Theirs, db: Database, home: Home, tmp_path: Path, case: tuple[str, int], proj: RunProj
    ) -> None:
        """Any lock format and any record length are copied, and the reading commands agree."""
        lock, parameters = case
        ours = Home(tmp_path / "ours")
        many = tuple(ParameterRecord(name=f"p{number}", value="x" * 10) for number in range(parameters))
        with closing(Database.open(ours.database)) as mine, RemoteServer(theirs.url) as server:
            run_id = runs.create(mine, NewRun(name="mine", tags={"proj.tree": "1" * 40})).run_id
            runs.set_details(mine, run_id, structs.replace(DETAILS, parameters=many))
            ours.run(run_id).mkdir(parents=True)
            (ours.run(run_id) / lock).write_text("the lock")
            ours.log(run_id).write_text("the log")
            runs.update(mine, run_id, status=RunStatus.FINISHED)
            there = push(
                Destination(database=mine, home=ours, server=server, report=lambda _: None), run_id
            ).remote_run_id
        size = (theirs.home.artifacts(there) / bundle_records.RECORD).stat().st_size
        assert parameters == 1 or size > 20 << 20
        assert len(LocalReader(theirs.database, theirs.home).record(there).parameters) == parameters
        with RemoteServer(theirs.url) as server:
            assert len(RemoteReader(server).record(there).parameters) == parameters
        assert proj("pull", there, "--from", theirs.url).code == 0
        kept = home.lock(run_id)
        assert kept is not None
        assert (kept.name, kept.read_text()) == (lock, "the lock")
        assert home.log(run_id).read_text() == "the log"
        assert len(read_record(db, run_id, home).parameters) == parameters

    def test_again(self, theirs: Theirs, db: Database, home: Home, capsys: Capture) -> None:
        run_id = theirs.make_run("first")
        call(capsys, "pull", run_id, "--from", theirs.url)
        again = call(capsys, "pull", run_id, "--from", theirs.url)
        assert "everything had been imported before" in again.out
        values.log_metrics(theirs.database, run_id, [Metric(key="loss", value=7, step=400, timestamp=9)])
        write_artifact(theirs.home.artifacts(run_id), "plots/ü 1.txt", [b"PLOT"])
        theirs.finish(run_id)
        more = call(capsys, "pull", run_id, "--from", theirs.url, "--json").json
        assert (more["runs"]["updated"], more["points"], more["artifacts"]["files"]) == (1, 1, 1)
        assert runs.get(db, run_id).status.value == "FINISHED"
        assert (home.artifacts(run_id) / "plots" / "ü 1.txt").read_bytes() == b"PLOT"

    def test_pushing_back_makes_no_second_run(
        self, theirs: Theirs, db: Database, capsys: Capture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_id = theirs.make_run("first")
        theirs.finish(run_id)
        call(capsys, "pull", run_id, "--from", theirs.url)
        values.set_tags(db, run_id, {"verdict": "good"})
        assert call(capsys, "push", run_id, "--to", theirs.url).code == 0
        assert theirs.database.query("SELECT count(*) FROM runs")[0][0] == 1
        there = runs.get(theirs.database, run_id)
        assert there.tags["verdict"] == "good"
        assert sum(1 for _ in all_points(theirs.database, run_id, "loss")) == 300
        assert call(capsys, "pull", run_id, "--from", theirs.url).code == 0
        assert runs.get(db, run_id).tags["verdict"] == "good"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", theirs.url)
        assert [record["run_id"] for record in call(capsys, "list", "--json").json] == [run_id]

    def test_nested_runs_come_along(self, theirs: Theirs, db: Database, capsys: Capture) -> None:
        parent = theirs.make_run("parent")
        child = theirs.make_run("child", tags={"mlflow.parentRunId": parent})
        theirs.make_run("other")
        assert "runs: 2 added" in call(capsys, "pull", "parent", "--from", theirs.url).out
        assert runs.get(db, child).tags["mlflow.parentRunId"] == parent

    def test_a_pushed_run_keeps_its_record(
        self,
        theirs: Theirs,
        home: Home,
        db: Database,
        clean_room: Path,
        capsys: Capture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        tags = {"proj.tree": "1" * 40, "mlflow.source.git.commit": "a" * 40}
        run_id = runs.create(db, NewRun(name="mine", details=DETAILS, tags=tags)).run_id
        values.log_metrics(db, run_id, [Metric(key="loss", value=0.5, timestamp=1)])
        write_artifact(home.artifacts(run_id), "plot", [b"plot"])
        write_artifact(home.run(run_id), "log.txt", [b"said\n"])
        runs.update(db, run_id, status=RunStatus.FINISHED)
        assert call(capsys, "push", run_id, "--to", theirs.url).code == 0
        shown = call(capsys, "show", run_id, "--tracking-uri", theirs.url, "--json").json
        assert shown["command"] == "python train.py"
        assert (shown["code"]["tree"], shown["parameters"][0]["source"]) == ("1" * 40, "command line")
        assert shown["log"] is None
        assert "not changed" in call(capsys, "pull", run_id, "--from", theirs.url).out
        before = read_record(db, run_id, home)
        elsewhere = Home(clean_room / "elsewhere")
        monkeypatch.setenv("PROJ_HOME", str(elsewhere.root))
        assert call(capsys, "pull", run_id[:10], "--from", theirs.url).code == 0
        with closing(Database.open(elsewhere.database)) as other:
            record = read_record(other, run_id, elsewhere)
        assert record.code == before.code
        assert record.command == before.command
        assert record.metrics == before.metrics
        assert {**record.tags, "proj.origin": ""} == {**before.tags, "proj.origin": ""}
        assert record.log == str(elsewhere.log(run_id))
        assert elsewhere.log(run_id).read_bytes() == b"said\n"
        assert [file.path for file in survey(elsewhere.artifacts(run_id)).files] == ["plot"]
        assert "everything had been imported before" in call(capsys, "pull", run_id, "--from", theirs.url).out
        assert "proj checkout" not in call(capsys, "show", run_id).out
        for words in (("checkout", run_id, str(elsewhere.root / "code")), ("diff", run_id)):
            absent = call(capsys, *words).err
            assert "is not stored: the run was copied from another store" in absent
            assert "proj rm" not in absent
            assert before.code.tree in absent

    def test_a_server_can_not_change_runs_of_ours(self, theirs: Theirs, db: Database, capsys: Capture) -> None:
        mine = runs.create(db, NewRun(name="mine")).run_id
        model = models.create(db, NewModel(name="mine", source_run_id=mine))
        claims = theirs.make_run("theirs", tags={"proj.run_id": mine})
        said = call(capsys, "pull", claims, "--from", theirs.url)
        assert "1 not changed, because they were not imported" in said.out
        other = theirs.make_run("other")
        models.create(
            theirs.database, NewModel(name="bad", source_run_id=other, tags={"proj.model_id": model.model_id})
        )
        call(capsys, "pull", other, "--from", theirs.url)
        assert runs.get(db, mine).name == "mine"
        assert models.get(db, model.model_id) == model

    def test_no_server_is_named(self, capsys: Capture) -> None:
        assert call(capsys, "pull", "latest").code == 2

    def test_a_lost_connection_leaves_no_half_run(self, theirs: Theirs, db: Database, capsys: Capture) -> None:
        run_id = theirs.make_run("first")

        def answer(seen: Seen) -> Answer | None:
            if "get-history" in seen.path:
                return json_error(400, "INTERNAL_ERROR", "no")
            return relayed(theirs.url, seen)

        with odd_server(answer) as odd:
            assert call(capsys, "pull", run_id, "--from", odd.url).code == 1
        assert db.query("SELECT count(*) FROM runs")[0][0] == 0


def test_a_real_run_recorded_on_a_server_is_read_there(theirs: Theirs, tmp_path: Path, proj: RunProj) -> None:
    root = write_tree(
        tmp_path / "project",
        {"MLproject": "entry_points:\n  main:\n    command: echo rmse=0.5 >> $PROJ_METRICS\n"},
    )
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "--all")
    git(root, "-c", "user.name=t", "-c", "user.email=t@example.invalid", "commit", "--quiet", "--message=first")
    done = proj("run", str(root), "--env-manager", "local", "--json", MLFLOW_TRACKING_URI=theirs.url)
    assert done.code == 0, done.err
    run_id = json.loads(done.out)["run_id"]
    there = proj("show", run_id, "--json", MLFLOW_TRACKING_URI=theirs.url).json
    assert there["metrics"] == {"rmse": 0.5}
    assert there["code"]["commit"] == git(root, "rev-parse", "HEAD")


@pytest.mark.slow
@pytest.mark.mlflow
def test_a_server_of_mlflow(tmp_path: Path, db: Database, home: Home, capsys: Capture) -> None:
    with mlflow_server(tmp_path) as url, RemoteServer(url, {}) as server:
        experiment = server.create_experiment("churn")
        run = server.create_run(NewRun(experiment_id=experiment, name="first", user="ann", started_at=5))
        server.log_batch(
            run.run_id,
            metrics=[Metric(key="loss", value=1 / (step + 1), step=step, timestamp=step + 1) for step in range(900)],
            params={"alpha": "0.5"},
            tags={"team": "blue"},
        )
        odd = [Metric(key="plus", value=math.inf, timestamp=1), Metric(key="nan", value=math.nan, timestamp=1)]
        server.log_batch(run.run_id, metrics=odd)
        place = server.location(run.artifact_uri)
        assert place is not None
        (tmp_path / "plot").write_bytes(b"plot")
        with (tmp_path / "plot").open("rb") as file:
            place.put("sub/plot", file)
        server.update_run(run.run_id, RunStatus.FINISHED, 9)
        listed = call(capsys, "list", "--tracking-uri", url, "--json", "--filter", "metrics.loss < 0.5").json
        assert [record["run_id"] for record in listed] == [run.run_id]
        for word in (run.run_id, run.run_id[:12], "first", "latest"):
            assert call(capsys, "show", word, "--tracking-uri", url, "--json").json["run_id"] == run.run_id
        assert "900 points" in call(capsys, "metrics", "first", "loss", "--tracking-uri", url).out
        call(capsys, "get", "first", "--to", str(tmp_path / "got"), "--tracking-uri", url)
        assert (tmp_path / "got" / "sub" / "plot").read_bytes() == b"plot"
        said = call(capsys, "pull", "first", "--from", url)
        assert said.code == 0, said.err
        assert "everything had been imported before" in call(capsys, "pull", "first", "--from", url).out
    found = runs.get(db, run.run_id)
    assert (found.metrics["plus"].value, math.isnan(found.metrics["nan"].value)) == (math.inf, True)
    assert (found.name, found.params, found.tags["team"]) == ("first", {"alpha": "0.5"}, "blue")
    assert sum(1 for _ in all_points(db, run.run_id, "loss")) == 900
    assert [file.path for file in survey(home.artifacts(run.run_id)).files] == ["sub/plot"]
