"""Tests pushing runs to a server: complete, without duplicates, also after interruptions."""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from runner.errors import RemoteError, UnreachableError
from runner.importing.summary import ImportSummary
from runner.model import RunStatus
from runner.settings import Home
from runner.store import artifact_digests, runs, values
from runner.store.artifacts import write_artifact
from runner.store.database import Database
from runner.store.entities import (
    Metric,
    ModelStatus,
    NewRun,
)
from runner.sync import sync_state
from runner.sync.artifact_locations import walk
from runner.sync.client import RemoteServer, ServerRun
from runner.sync.pull import Origin, pull
from runner.sync.push import Destination, Pushed, push
from tests.conftest import RunProj, start_proj
from tests.support import filled_runs
from tests.support.faulty_servers import Answer, Odd, Seen, json_error, odd_server
from tests.support.standalone_server import RunningServer, standalone_server

pytestmark = pytest.mark.slow


class Both:
    """The local store, and a `proj server` with its own store."""

    def __init__(
        self, home: Home, database: Database, standalone: RunningServer, server: RemoteServer, token: str
    ) -> None:
        self.home = home
        self.database = database
        self.standalone = standalone
        self.server = server
        self.token = token
        self.events: list[str] = []

    @property
    def variables(self) -> dict[str, str]:
        return {"MLFLOW_TRACKING_URI": self.standalone.url, "MLFLOW_TRACKING_TOKEN": self.token}

    def to(self, server: RemoteServer | None = None) -> Destination:
        def report(event: object) -> None:
            self.events.append(str(event))

        return Destination(database=self.database, home=self.home, server=server or self.server, report=report)

    def push(self, run_id: str, *, whole: bool = True) -> Pushed:
        return push(self.to(), run_id, whole=whole)

    def there(self, pushed: Pushed) -> ServerRun:
        return self.server.run(pushed.remote_run_id)

    def all_there(self) -> list[ServerRun]:
        return list(self.server.search_runs([one.id for one in self.server.experiments()]))

    def close_run(self, run_id: str) -> None:
        runs.update(self.database, run_id, status=RunStatus.FINISHED)


@pytest.fixture
def both(home: Home, tmp_path: Path, proj: RunProj) -> Iterator[Both]:
    theirs = {"PROJ_HOME": str(tmp_path / "theirs")}
    token = proj("token", "add", "alice", "--scope", "write", **theirs).out.strip().splitlines()[-1]
    environ = {"MLFLOW_TRACKING_TOKEN": token}
    with (
        standalone_server(tmp_path, **theirs) as standalone,
        RemoteServer(standalone.url, environ) as server,
        closing(Database.open(home.database)) as database,
    ):
        yield Both(home, database, standalone, server, token)


def make_run(both: Both, experiment: str = "iris") -> str:
    return filled_runs.make_run(both.database, both.home, experiment)


def make_model(both: Both, run_id: str) -> str:
    return filled_runs.make_model(both.database, both.home, run_id)


def test_everything_arrives(both: Both) -> None:
    run_id = make_run(both)
    runs.update(both.database, run_id, status=RunStatus.FAILED, ended_at=123_456)
    pushed = both.push(run_id)
    run, ours = both.there(pushed), runs.get(both.database, run_id)
    assert both.server.experiment(run.experiment_id).name == "iris"
    assert (run.name, run.user, run.status, run.ended_at) == ("one", "me", RunStatus.FAILED, 123_456)
    assert run.started_at == ours.started_at
    assert run.params == ours.params
    assert run.run_id == run_id
    assert run.tags == {**ours.tags, "proj.run_id": run_id, "mlflow.user": "me"}
    history = list(both.server.metric_history(run.run_id, "loss"))
    assert history == list(values.metric_history(both.database, run_id, "loss").items)
    assert [str(one.value) for one in both.server.metric_history(run.run_id, "odd")] == ["-inf", "nan", "inf"]
    assert [one.dataset.name for one in run.inputs.datasets] == ["d"]
    place = both.server.location(run.artifact_uri)
    assert place is not None
    assert {one.path for one in walk(place)} == {"plots/a b.txt", "big.bin", "proj/record.json", "proj/log.txt"}
    assert b"".join(place.pieces("big.bin")) == (both.home.artifacts(run_id) / "big.bin").read_bytes()
    assert b"".join(place.pieces("proj/log.txt")) == b"hello\n"
    assert json.loads(b"".join(place.pieces("proj/record.json")))["run_id"] == run_id
    assert (pushed.sent.parameters, pushed.sent.points, pushed.sent.datasets, pushed.sent.files) == (2, 2503, 1, 4)
    assert pushed.left_out == ()
    assert pushed.url.startswith(both.standalone.url)


def test_a_second_push_sends_nothing_and_a_third_the_new_content(both: Both) -> None:
    run_id = make_run(both)
    both.close_run(run_id)
    first = both.push(run_id)
    second = both.push(run_id)
    assert second.remote_run_id == first.remote_run_id
    assert second.sent.total == 0
    values.log_metrics(both.database, run_id, [Metric(key="loss", value=0.0, timestamp=9, step=9000)])
    values.log_metrics(both.database, run_id, [Metric(key="loss", value=7.0, timestamp=9, step=-1)])
    values.set_tags(both.database, run_id, {"new": "1", "team": "b"})
    write_artifact(both.home.artifacts(run_id), "plots/a b.txt", [b"other"])
    write_artifact(both.home.artifacts(run_id), "more", [b"x"])
    (both.home.artifacts(run_id) / "big.bin").touch()
    third = both.push(run_id)
    assert (third.sent.points, third.sent.tags, third.sent.files, third.sent.parameters) == (2, 2, 3, 0)
    assert len(list(both.server.metric_history(first.remote_run_id, "loss"))) == 2502
    values.delete_tag(both.database, run_id, "new")
    runs.update(both.database, run_id, name="renamed")
    both.push(run_id)
    run = both.there(first)
    assert (run.name, run.tags["team"], "new" in run.tags) == ("renamed", "b", False)
    assert len(both.all_there()) == 1


def test_logged_models_arrive_with_the_names_of_the_server(both: Both) -> None:
    run_id = make_run(both)
    model_id = make_model(both, run_id)
    values.set_tags(both.database, run_id, {"history": f"{run_id} made {model_id}"})
    both.close_run(run_id)
    pushed = both.push(run_id)
    run = both.there(pushed)
    assert len(run.outputs) == 1
    model = both.server.logged_model(run.outputs[0].model_id)
    assert (model.name, model.status, model.params, run.outputs[0].step) == (
        "net",
        ModelStatus.READY,
        {"depth": "3"},
        2,
    )
    assert model.source_run_id == run.run_id
    assert model.tags == {"k": "v", "proj.model_id": model_id}
    assert [(point.key, point.value) for point in model.metrics] == [("acc", 0.9)]
    assert run.tags["history"] == f"{run.run_id} made {model.model_id}"
    place = both.server.location(model.artifact_uri)
    assert place is not None
    assert b"".join(place.pieces("MLmodel")).decode() == f"model_id: {model.model_id}\nrun_id: {run.run_id}\n"
    assert b"".join(place.pieces("weights/w.bin")) == b"123"
    assert both.push(run_id).sent.total == 0


def test_nested_runs_are_linked_as_here(both: Both, proj: RunProj) -> None:
    parent = make_run(both)
    child = make_run(both)
    values.set_tags(both.database, child, {"mlflow.parentRunId": parent})
    for run_id in (parent, child):
        both.close_run(run_id)
    alone = both.push(child)
    assert "mlflow.parentRunId" not in both.there(alone).tags
    done = proj("push", parent, "--json", **both.variables)
    assert done.code == 0, done.err
    assert [one["run_id"] for one in done.json] == [parent, child]
    assert both.there(alone).tags["mlflow.parentRunId"] == done.json[0]["remote_run_id"]
    assert len(both.all_there()) == 2


def test_a_running_run_is_sent_incrementally(both: Both) -> None:
    run_id = make_run(both)
    first = both.push(run_id, whole=False)
    assert both.there(first).status is RunStatus.RUNNING
    assert (first.sent.points, first.sent.files) == (2503, 0)
    values.log_metrics(both.database, run_id, [Metric(key="loss", value=3, timestamp=3, step=5000)])
    assert both.push(run_id, whole=False).sent.points == 1
    assert sync_state.waiting_runs(both.database)
    both.close_run(run_id)
    last = both.push(run_id)
    assert (last.sent.points, last.sent.files) == (0, 4)
    assert both.there(first).status is RunStatus.FINISHED
    assert not sync_state.waiting_runs(both.database)


Say = Callable[[Seen], Answer | None]


def let_pass(_seen: Seen) -> Answer:
    return PASS


def relay(both: Both, after: Say = let_pass, before: Say = let_pass) -> Say:
    """Return a response function that forwards requests unless ``after`` or ``before`` returns another response."""

    def answer(seen: Seen) -> Answer | None:
        told = before(seen)
        if told != PASS:
            return told
        reply = both.standalone.send(seen.method, seen.path, seen.body, both.token)
        told = after(seen)
        return (reply.status, reply.headers["content-type"], reply.body) if told == PASS else told

    return answer


PASS = (0, "", b"")


def points_that_came(odd: Odd) -> list[tuple[object, ...]]:
    batches = [json.loads(seen.body) for seen in odd.seen if seen.path.endswith("log-batch")]
    return [tuple(sorted(point.items())) for batch in batches for point in batch["metrics"]]


@pytest.mark.parametrize("arrives", [True, False])
def test_no_point_is_sent_twice_when_answers_are_lost(both: Both, arrives: bool) -> None:
    run_id = make_run(both)
    both.close_run(run_id)
    batches = 0

    def fail(seen: Seen) -> Answer | None:
        nonlocal batches
        batches += seen.path.endswith("log-batch") and bool(json.loads(seen.body)["metrics"])
        return None if seen.path.endswith("log-batch") and batches in (2, 3) else PASS

    def push_once(server: RemoteServer, moment: int) -> bool:
        """Push; if that fails, log a point that sorts before others."""
        try:
            push(both.to(server), run_id)
        except UnreachableError:
            values.log_metrics(both.database, run_id, [Metric(key="loss", value=-1, timestamp=1, step=moment)])
            return False
        return True

    answer = relay(both, after=fail) if arrives else relay(both, before=fail)
    with odd_server(answer) as odd, RemoteServer(odd.url, {}) as server:
        outcomes = [push_once(server, moment) for moment in range(3)]
        remote = sync_state.find_remote_run(both.database, run_id, server.url)
        came = points_that_came(odd)
    assert outcomes == [False, False, True]
    assert remote is not None
    history = list(both.server.metric_history(remote.remote_run_id or "", "loss"))
    assert history == list(values.metric_history(both.database, run_id, "loss").items)
    if arrives:
        assert len(came) == len(set(came)) == 2505


def test_a_second_push_only_checks_that_the_run_exists(both: Both) -> None:
    run_id = make_run(both)
    make_model(both, run_id)
    both.close_run(run_id)
    with odd_server(relay(both)) as odd, RemoteServer(odd.url, {}) as server:
        push(both.to(server), run_id)
        before = len(odd.seen)
        push(both.to(server), run_id)
        assert [seen.method for seen in odd.seen[before:]] == ["GET"]


def test_a_run_is_made_once_when_the_answer_is_lost(both: Both) -> None:
    run_id = make_run(both)
    make_model(both, run_id)
    both.close_run(run_id)
    seen_once: set[str] = set()

    def fail(seen: Seen) -> Answer | None:
        what = seen.path.rpartition("mlflow/")[2]
        if what in ("runs/create", "experiments/create", "logged-models") and what not in seen_once:
            seen_once.add(what)
            return None
        return PASS

    with odd_server(relay(both, after=fail)) as odd, RemoteServer(odd.url, {}) as server:
        for _ in range(4):
            try:
                push(both.to(server), run_id)
            except UnreachableError:
                continue
            break
    assert seen_once == {"runs/create", "experiments/create", "logged-models"}
    assert len(both.all_there()) == 1
    assert len(list(both.server.search_logged_models([both.all_there()[0].experiment_id]))) == 1


def test_refused_content_is_skipped_and_reported_once(both: Both) -> None:
    run_id = make_run(both)
    values.log_params(both.database, run_id, [(f"p{number}", "1") for number in range(150)])
    values.log_metrics(
        both.database, run_id, [Metric(key="bad", value=1, timestamp=step, step=step) for step in range(5)]
    )
    both.close_run(run_id)

    def refuse(seen: Seen) -> Answer | None:
        if seen.path.endswith("log-batch"):
            body = json.loads(seen.body)
            named = [one["key"] for kind in ("metrics", "params", "tags") for one in body[kind]]
            if {"bad", "p7", "team"} & set(named):
                return json_error(400, "INVALID_PARAMETER_VALUE", "no such names here")
        return PASS

    with odd_server(relay(both, before=refuse)) as odd, RemoteServer(odd.url, {}) as server:
        pushed = push(both.to(server), run_id)
        assert sorted(one.partition(":")[0] for one in pushed.left_out) == [
            "metric 'bad'",
            "parameter 'p7'",
            "tag 'team'",
        ]
        assert (pushed.sent.parameters, pushed.sent.points) == (151, 2503)
        again = push(both.to(server), run_id)
        assert (again.left_out, again.sent.total) == ((), 0)


def test_files_of_models_go_to_the_run_on_a_server_of_mlflow_2(both: Both) -> None:
    run_id = make_run(both)
    make_model(both, run_id)
    both.close_run(run_id)

    def none(seen: Seen) -> Answer | None:
        missing = "logged-models" in seen.path or seen.path.endswith("runs/outputs")
        return (404, "text/html", b"<h1>Not Found</h1>") if missing else PASS

    with odd_server(relay(both, before=none)) as odd, RemoteServer(odd.url, {}) as server:
        pushed = push(both.to(server), run_id)
        assert len(pushed.left_out) == 1
        assert "logged models" in pushed.left_out[0]
        assert push(both.to(server), run_id).sent.total == 0
        run = server.run(pushed.remote_run_id)
        place = server.location(run.artifact_uri)
        assert place is not None
        assert b"".join(place.pieces("net/weights/w.bin")) == b"123"
        assert f"run_id: {run.run_id}".encode() in b"".join(place.pieces("net/MLmodel"))


def keeping_files_at(both: Both, uri: str) -> Say:
    """Return the responses of a server with the artifacts of its runs at a URI, in which RUN is the run."""

    def moved(seen: Seen) -> Answer | None:
        if not seen.path.endswith("runs/create"):
            return PASS
        told = both.standalone.send(seen.method, seen.path, seen.body, both.token).json
        told["run"]["info"]["artifact_uri"] = uri.replace("RUN", told["run"]["info"]["run_id"])
        return 200, "application/json", json.dumps(told).encode()

    return relay(both, before=moved)


@pytest.mark.parametrize(
    ("uri", "kind"), [("s3://bucket/1/RUN/artifacts", "s3: storage"), ("file://HERE/1/other", "file: storage")]
)
def test_files_for_inaccessible_storage_are_named_each_time(both: Both, tmp_path: Path, uri: str, kind: str) -> None:
    run_id = make_run(both)
    both.close_run(run_id)
    answer = keeping_files_at(both, uri.replace("HERE", str(tmp_path)))
    with odd_server(answer) as odd, RemoteServer(odd.url, {}) as server:
        pushed = push(both.to(server), run_id)
        assert (pushed.sent.files, len(pushed.left_out)) == (0, 1)
        assert kind in pushed.left_out[0]
        again = push(both.to(server), run_id)
        assert again.left_out == again.files_left_out == pushed.files_left_out == pushed.left_out
    assert not sync_state.waiting_runs(both.database)
    assert not (tmp_path / "1").exists()


def test_files_go_to_a_folder_that_the_server_shares_with_us(both: Both, tmp_path: Path) -> None:
    run_id = make_run(both)
    both.close_run(run_id)
    answer = keeping_files_at(both, f"file://{tmp_path}/1/RUN/artifacts")
    with odd_server(answer) as odd, RemoteServer(odd.url, {}) as server:
        pushed = push(both.to(server), run_id)
    assert pushed.left_out == ()
    assert (tmp_path / "1" / pushed.remote_run_id / "artifacts" / "plots" / "a b.txt").read_bytes() == b"plot"


def test_a_deleted_experiment_is_refused_clearly(both: Both) -> None:
    run_id = make_run(both, experiment="gone")
    both.close_run(run_id)
    experiment_id = both.server.create_experiment("gone")
    both.server.send("POST", "experiments/delete", {"experiment_id": experiment_id})
    with pytest.raises(RemoteError, match="is deleted on"):
        both.push(run_id)


def push_and_kill(both: Both, run_id: str, request: int) -> bool:
    """Push in a process that is killed after its n-th request; return whether it was killed."""
    process: list[int] = []
    started = threading.Event()
    left = [request]

    def kill(_seen: Seen) -> Answer | None:
        left[0] -= 1
        if left[0] == 0 and started.wait(10):
            os.kill(process[0], signal.SIGKILL)
        return PASS

    with odd_server(relay(both, after=kill)) as odd:
        # Each time the server has another port, and would be another server.
        both.database.execute("UPDATE copies SET server = ?", odd.url)
        pushing = start_proj("push", run_id, "--to", odd.url, cwd=both.home.root)
        process.append(pushing.pid)
        started.set()
        pushing.communicate(timeout=60)
    return pushing.returncode == -signal.SIGKILL


def test_a_pulled_run_is_pushed_to_its_original(both: Both, proj: RunProj) -> None:
    experiment_id = both.server.create_experiment("theirs")
    theirs = both.server.create_run(NewRun(experiment_id=experiment_id, name="other"))
    both.server.update_run(theirs.run_id, RunStatus.FINISHED, 5)
    assert proj("pull", theirs.run_id, **both.variables).code == 0
    values.set_tags(both.database, theirs.run_id, {"seen": "1"})
    pushed = both.push(theirs.run_id)
    assert pushed.remote_run_id == theirs.run_id
    assert both.there(pushed).tags["seen"] == "1"
    assert "probe.of.proj" not in both.there(pushed).tags
    assert len(both.all_there()) == 1


def test_points_that_a_server_has_are_not_sent_again_under_another_address(both: Both) -> None:
    run_id = make_run(both)
    both.close_run(run_id)
    first = both.push(run_id)
    values.log_metrics(both.database, run_id, [Metric(key="loss", value=0, timestamp=1, step=7777)])
    with odd_server(relay(both)) as odd, RemoteServer(odd.url, {}) as server:
        second = push(both.to(server), run_id)
        assert second.remote_run_id == first.remote_run_id
        assert second.sent.points == 1
        assert len(points_that_came(odd)) == 1


def test_a_run_that_the_server_lost_is_sent_anew(both: Both, proj: RunProj, tmp_path: Path) -> None:
    run_id = make_run(both)
    both.close_run(run_id)
    first = both.push(run_id)
    both.server.send("POST", "runs/delete", {"run_id": first.remote_run_id})
    with pytest.raises(RemoteError, match="is deleted on"):
        both.push(run_id)
    home = {"PROJ_HOME": str(tmp_path / "theirs")}
    assert proj("rm", first.remote_run_id, "--permanently", "--yes", **home).code == 0
    again = both.push(run_id)
    assert again.remote_run_id == first.remote_run_id == run_id
    assert again.sent.points == 2503
    assert "it is sent again" in "".join(both.events)


def test_a_run_is_not_pushed_into_its_own_store(both: Both, proj: RunProj, tmp_path: Path) -> None:
    run_id = make_run(both)
    both.close_run(run_id)
    before = runs.get(both.database, run_id)
    (tmp_path / "own").mkdir()
    with standalone_server(tmp_path / "own") as own:
        done = proj("push", run_id, "--to", own.url)
    assert done.code == 2
    assert "serves this store, which has the run already" in done.err
    assert runs.get(both.database, run_id) == before
    assert proj("sync", "--dry-run").out == ""


def test_kill_in_the_middle_and_push_again(both: Both) -> None:
    run_id = make_run(both)
    make_model(both, run_id)
    both.close_run(run_id)
    killed = [push_and_kill(both, run_id, request) for request in (3, 4, 6, 8, 9, 7)]
    assert sum(killed) >= 4
    both.database.execute("UPDATE copies SET server = ?", both.standalone.url)
    pushed = both.push(run_id)
    assert both.push(run_id).sent.total == 0
    assert [one.run_id for one in both.all_there()] == [pushed.remote_run_id]
    assert len(list(both.server.search_logged_models([both.there(pushed).experiment_id]))) == 1
    history = list(both.server.metric_history(pushed.remote_run_id, "loss"))
    assert history == list(values.metric_history(both.database, run_id, "loss").items)
    place = both.server.location(both.there(pushed).artifact_uri)
    assert place is not None
    assert {one.path for one in walk(place)} == {"plots/a b.txt", "big.bin", "proj/record.json", "proj/log.txt"}


def in_order(points: Iterable[Metric]) -> list[tuple[int, int, str]]:
    return sorted((point.step, point.timestamp, str(point.value)) for point in points)


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing_and_make_no_second_run(both: Both) -> None:
    chance = random.Random(7)
    chosen = [make_run(both) for _ in range(2)]
    for run_id in chosen:
        make_model(both, run_id)
        both.close_run(run_id)
    for moment in range(15):
        for run_id in chosen:
            keys = ("loss", "odd", f"new {moment}")
            steps = [chance.randrange(-50, 3000) for _ in range(chance.randrange(1500))]
            points = [Metric(key=chance.choice(keys), value=chance.random(), timestamp=moment, step=n) for n in steps]
            values.log_metrics(both.database, run_id, points)
        pushing = start_proj("push", *chosen, cwd=both.home.root, **both.variables)
        time.sleep(chance.uniform(0.3, 1.0))
        pushing.kill()
        pushing.communicate(timeout=30)
    for run_id in chosen:
        there = both.push(run_id).remote_run_id
        assert both.push(run_id).sent.total == 0
        for key in runs.get(both.database, run_id).metrics:
            ours = values.metric_history(both.database, run_id, key).items
            assert in_order(both.server.metric_history(there, key)) == in_order(ours)
    assert len(both.all_there()) == 2
    assert len(list(both.server.search_logged_models([both.all_there()[0].experiment_id]))) == 2


def test_push_reports_the_sent_items_and_sync_continues(both: Both, proj: RunProj) -> None:
    run_id = make_run(both)
    both.close_run(run_id)
    assert proj("sync").err.strip() == "no runs are waiting"
    refused = proj("push", run_id, MLFLOW_TRACKING_URI=both.standalone.url, MLFLOW_TRACKING_TOKEN="wrong")
    assert refused.code == 1
    assert "requires valid credentials" in refused.err
    listed = proj("sync", "--dry-run", "--json").json
    assert listed == [{"run_id": run_id, "server": both.standalone.url, "remote_run_id": None}]
    assert run_id[:8] in proj("sync", "--dry-run").out
    failed = proj("sync")
    assert failed.code == 1
    assert "requires valid credentials" in failed.err
    assert f"{both.standalone.url} (incomplete; complete it with proj sync)" in proj("show", run_id).out
    done = proj("sync", "--json", MLFLOW_TRACKING_TOKEN=both.token)
    assert done.code == 0, done.err
    assert done.json[0]["sent"]["points"] == 2503
    assert proj("sync").err.strip() == "no runs are waiting"
    assert done.json[0]["url"] in proj("show", run_id).out
    again = proj("push", run_id, **both.variables)
    assert again.code == 0
    assert "nothing new" in again.err
    assert proj("push", run_id).code == 2
    assert proj("push", run_id, PROJ_OFFLINE="1", **both.variables).code == 2


def test_pulled_files_are_synced_and_have_digests(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = make_run(both)
    model_id = make_model(both, run_id)
    values.set_tags(both.database, run_id, [("proj.tree", "0" * 40)])
    both.close_run(run_id)
    both.push(run_id)
    synced: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    home = Home(both.home.root.parent / "pulled")
    home.ensure()
    with closing(Database.open(home.database)) as database:
        summary = ImportSummary(lambda _event: None)
        pull(Origin(server=both.server, database=database, home=home, summary=summary), both.all_there()[0])
        assert runs.get(database, run_id).params
        for owner, root in (
            (run_id, home.artifacts(run_id)),
            (model_id, home.run("models") / model_id / "artifacts"),
        ):
            there = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
            assert {one.path for one in artifact_digests.read(database, owner)} == there
            assert len(there) == 2
            assert {str(root / name) for name in there} <= set(synced)
            for one in artifact_digests.read(database, owner):
                assert artifact_digests.problem_of(root, one) is None
    assert str(home.log(run_id)) in synced


def make_link(root: Path) -> None:
    (root / "odd").symlink_to("big.bin")


def make_pipe(root: Path) -> None:
    os.mkfifo(root / "odd")


def make_long_name(root: Path) -> None:
    (root / ("odd" + "\n" * 90)).write_bytes(b"1")


def damage(root: Path) -> None:
    (root / "big.bin").write_bytes((root / "big.bin").read_bytes()[:-1] + b"?")


def remove(root: Path) -> None:
    (root / "big.bin").unlink()


@pytest.mark.parametrize(
    ("harm", "name"),
    [(make_link, "odd"), (make_pipe, "odd"), (make_long_name, "odd"), (damage, "big.bin"), (remove, "big.bin")],
)
def test_a_file_that_is_not_sent_is_named_each_time(
    both: Both, proj: RunProj, harm: Callable[[Path], None], name: str
) -> None:
    run_id = make_run(both)
    both.close_run(run_id)
    root = both.home.artifacts(run_id)
    artifact_digests.record(both.database, run_id, root)
    harm(root)
    for _ in range(2):
        pushed = proj("push", run_id, "--json", **both.variables)
        assert pushed.code == 1
        assert [name in one for one in pushed.json[0]["files_left_out"]] == [True]
        assert "! not sent: file '" in pushed.err
        assert name in pushed.err
    place = both.server.location(both.all_there()[0].artifact_uri)
    assert place is not None
    sent = {one.path for one in walk(place)}
    assert sent == {"plots/a b.txt", "big.bin", "proj/record.json", "proj/log.txt"} - {name}


def test_no_secret_reaches_the_home(both: Both, proj: RunProj) -> None:
    run_id = make_run(both)
    both.close_run(run_id)
    address = both.standalone.url.replace("http://", f"http://ann:{both.token}@")
    assert proj("push", run_id, "--to", address).code == 0
    assert proj("push", run_id, "--to", f"http://ann:{both.token}@127.0.0.1:1").code == 1
    assert proj("sync", "--dry-run").out.split() == [run_id[:8], "http://127.0.0.1:1"]
    found = [path for path in both.home.root.rglob("*") if path.is_file() and both.token.encode() in path.read_bytes()]
    assert found == []
