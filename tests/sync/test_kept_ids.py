"""A run has the same id in every home of proj, however it travels; another run with its id is never touched."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from runner.base.tags import TREE_TAG
from runner.model import RunStatus
from runner.settings import Home
from runner.store import runs, values
from runner.store.database import Database
from runner.store.entities import Run
from tests.conftest import RunProj
from tests.support import filled_runs
from tests.support.faulty_servers import Answer, Seen, odd_server
from tests.support.standalone_server import RunningServer, standalone_server

pytestmark = pytest.mark.slow

TREE = "1" * 40


@pytest.fixture
def database(home: Home) -> Iterator[Database]:
    with closing(Database.open(home.database)) as opened:
        yield opened


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with standalone_server(tmp_path, PROJ_HOME=str(tmp_path / "server")) as running:
        yield running


def ended_run(database: Database, home: Home, parent: str | None = None) -> str:
    run_id = filled_runs.make_run(database, home)
    values.set_tags(database, run_id, {"mlflow.parentRunId": parent} if parent else {})
    runs.update(database, run_id, status=RunStatus.FINISHED)
    return run_id


def runs_of(home: Path) -> dict[str, Run]:
    with closing(Database.open(home / "proj.db")) as opened:
        return {row["run_id"]: runs.get(opened, row["run_id"]) for row in opened.query("SELECT run_id FROM runs")}


def create(server: RunningServer, **fields: object) -> tuple[int, str]:
    reply = server.post("runs/create", experiment_id="0", **fields)
    return reply.status, reply.json["run"]["info"]["run_id"] if reply.status == 200 else reply.json["error_code"]


def test_parents_and_children_have_the_same_ids_in_three_homes(
    proj: RunProj, database: Database, home: Home, server: RunningServer, tmp_path: Path
) -> None:
    parent = ended_run(database, home)
    child = ended_run(database, home, parent)
    ids = {parent, child}
    assert proj("push", child, "--to", server.url).code == 0  # before its parent
    for _ in range(2):
        done = proj("push", parent, "--to", server.url, "--json")
        assert {one["remote_run_id"] for one in done.json} == ids, done.err
    there = runs_of(tmp_path / "server")
    assert set(there) == ids
    assert there[child].tags["mlflow.parentRunId"] == parent
    assert all(run.tags["proj.run_id"] == run_id for run_id, run in there.items())

    third = {"PROJ_HOME": str(tmp_path / "third")}
    for _ in range(2):
        assert proj("pull", parent, "--from", server.url, **third).code == 0
    assert set(runs_of(tmp_path / "third")) == ids
    assert proj("tag", child, "seen=yes", **third).code == 0
    back = proj("push", parent, "--to", server.url, "--json", **third)
    assert {one["remote_run_id"] for one in back.json} == ids, back.err
    there = runs_of(tmp_path / "server")
    assert set(there) == ids
    assert there[child].tags["seen"] == "yes"
    points = "SELECT count(*) FROM points p JOIN runs r ON r.id = p.run WHERE r.run_id = ?"
    with closing(Database.open(tmp_path / "server" / "proj.db")) as opened:
        assert [tuple(row) for row in opened.query(points, parent)] == [
            tuple(row) for row in database.query(points, parent)
        ]


@pytest.mark.parametrize("is_pulled", [False, True])
def test_an_id_stays_through_the_trash_and_a_removal_on_the_server(
    proj: RunProj, database: Database, home: Home, server: RunningServer, tmp_path: Path, is_pulled: bool
) -> None:
    run_id = ended_run(database, home)
    assert proj("push", run_id, "--to", server.url).code == 0
    pushing = {"PROJ_HOME": str(tmp_path / "third")} if is_pulled else {}
    if is_pulled:
        assert proj("pull", run_id, "--from", server.url, **pushing).code == 0
    theirs = {"PROJ_HOME": str(tmp_path / "server")}
    assert proj("rm", run_id, "--yes", **theirs).code == 0
    refused = proj("push", run_id, "--to", server.url, **pushing)
    assert refused.code != 0
    assert "is deleted on" in refused.err
    assert proj("restore", run_id, **theirs).code == 0
    assert proj("push", run_id, "--to", server.url, **pushing).code == 0
    assert proj("rm", run_id, "--permanently", "--yes", **theirs).code == 0
    again = proj("push", run_id, "--to", server.url, "--json", **pushing)
    assert [one["remote_run_id"] for one in again.json] == [run_id], again.err
    assert set(runs_of(tmp_path / "server")) == {run_id}


@pytest.mark.parametrize("differs", ["start_time", "tree"])
def test_another_run_with_the_id_is_refused_and_left_as_it_is(
    proj: RunProj, database: Database, home: Home, server: RunningServer, tmp_path: Path, differs: str
) -> None:
    run_id = ended_run(database, home)
    values.set_tags(database, run_id, {TREE_TAG: TREE})
    started = runs.get(database, run_id).started_at + (differs == "start_time")
    tags = {"proj.run_id": run_id, TREE_TAG: TREE if differs != "tree" else "2" * 40}
    pairs = [{"key": key, "value": value} for key, value in tags.items()]
    assert create(server, start_time=started, tags=pairs, proj_run_id=run_id) == (200, run_id)
    before = runs_of(tmp_path / "server")
    refused = proj("push", run_id, "--to", server.url)
    assert refused.code != 0
    assert f"has another run with the id {run_id}" in refused.err
    assert runs_of(tmp_path / "server") == before


def test_only_a_push_chooses_an_id_and_only_a_free_one(server: RunningServer) -> None:
    run_id = "ab" * 16
    tag = [{"key": "proj.run_id", "value": run_id}]
    assert create(server, proj_run_id=run_id) == (400, "INVALID_PARAMETER_VALUE")
    assert create(server, proj_run_id="cd" * 16, tags=tag) == (400, "INVALID_PARAMETER_VALUE")
    for bad in ("", "../../x", run_id.upper(), run_id + "\n"):
        bad_tag = [{"key": "proj.run_id", "value": bad}]
        assert create(server, proj_run_id=bad, tags=bad_tag) == (400, "INVALID_PARAMETER_VALUE")
    assert create(server, proj_run_id=run_id, tags=tag) == (200, run_id)
    assert create(server, proj_run_id=run_id, tags=tag) == (400, "RESOURCE_ALREADY_EXISTS")
    status, other = create(server, tags=tag)
    assert (status, other == run_id) == (200, False)


def test_an_older_server_gives_another_id_and_the_push_says_so(
    proj: RunProj, database: Database, home: Home, server: RunningServer, tmp_path: Path
) -> None:
    run_id = ended_run(database, home)

    def older(seen: Seen) -> Answer:
        """Answer as a server does that does not know the field."""
        body = seen.body
        if seen.path.endswith("runs/create"):
            fields = json.loads(body)
            assert fields.pop("proj_run_id") == run_id
            body = json.dumps(fields).encode()
        reply = server.send(seen.method, seen.path, body)
        return reply.status, reply.headers["content-type"], reply.body

    with odd_server(older) as odd:
        first = proj("push", run_id, "--to", odd.url, "--json")
        there = first.json[0]["remote_run_id"]
        assert there != run_id
        assert f"gives the run {run_id[:8]} the id {there[:8]}" in first.err
        assert "older proj server" in first.err
        assert proj("push", run_id, "--to", odd.url, "--json").json[0]["remote_run_id"] == there
    # The server is newer now, and has the run already.
    assert proj("push", run_id, "--to", server.url, "--json").json[0]["remote_run_id"] == there
    assert set(runs_of(tmp_path / "server")) == {there}
    third = {"PROJ_HOME": str(tmp_path / "third")}
    assert proj("pull", there, "--from", server.url, **third).code == 0
    assert set(runs_of(tmp_path / "third")) == {run_id}


def test_the_command_of_a_run_can_not_choose_an_id(proj: RunProj, home: Home, tmp_path: Path) -> None:
    wanted = "ab" * 16
    script = """\
import json, os, urllib.request
uri = os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/runs/create"
wanted = "%s"
body = {"proj_run_id": wanted, "tags": [{"key": "proj.run_id", "value": wanted}]}
headers = {"Content-Type": "application/json", "Authorization": "Bearer " + os.environ["MLFLOW_TRACKING_TOKEN"]}
request = urllib.request.Request(uri, json.dumps(body).encode(), headers)
made = json.load(urllib.request.urlopen(request))["run"]["info"]["run_id"]
assert made != wanted, made
"""
    root = tmp_path / "project"
    root.mkdir()
    (root / "MLproject").write_text("entry_points: {main: {command: python x.py}}\n")
    (root / "x.py").write_text(script % wanted)
    done = proj("run", ".", "--env-manager", "local", cwd=root)
    assert done.code == 0, done.err
    assert wanted not in {path.name for path in (home.root / "runs").iterdir()}
    assert wanted not in runs_of(home.root)
