"""Tests `proj run` with a tracking server: opening, forwarding, and failures of the server."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.store.entities import Metric, NewRun
from runner.sync.artifact_locations import walk
from runner.sync.client import RemoteServer, ServerRun
from tests.conftest import ROOT, MakeRepository, Result, RunProj, start_proj
from tests.support.faulty_servers import Answer, Seen, hanging, json_error, odd_server
from tests.support.standalone_server import RunningServer, standalone_server

pytestmark = pytest.mark.slow

SCRIPT = """
import json, os, pathlib, sys, time, urllib.error, urllib.parse, urllib.request

def post(endpoint, **fields):
    url = os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/" + endpoint
    headers = {"Authorization": "Bearer " + os.environ["MLFLOW_TRACKING_TOKEN"], "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(fields).encode(), headers)) as reply:
        return json.loads(reply.read())

def get(place, **fields):
    url = os.environ["MLFLOW_TRACKING_URI"] + place + "?" + urllib.parse.urlencode(fields)
    headers = {"Authorization": "Bearer " + os.environ["MLFLOW_TRACKING_TOKEN"]}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as reply:
        return reply.read()

def api(endpoint, **fields):
    return json.loads(get("/api/2.0/mlflow/" + endpoint, **fields))

def refusal(ask, *words, **fields):
    try:
        ask(*words, **fields)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())

def metric(key, value, step=0):
    post("runs/log-metric", run_id=RUN, key=key, value=value, timestamp=int(time.time() * 1000), step=step)

RUN = os.environ["MLFLOW_RUN_ID"]
print("tracking at", os.environ["MLFLOW_TRACKING_URI"])
"""


class Stage:
    """A project, a server with a token, and access to both stores."""

    def __init__(self, root: Path, standalone: RunningServer, token: str, proj: RunProj) -> None:
        self.root = root
        self.standalone = standalone
        self.token = token
        self.server = RemoteServer(standalone.url, {"MLFLOW_TRACKING_TOKEN": token})
        self._proj = proj

    @property
    def variables(self) -> dict[str, str]:
        return {"MLFLOW_TRACKING_URI": self.standalone.url, "MLFLOW_TRACKING_TOKEN": self.token}

    def write(self, script: str) -> None:
        (self.root / "t.py").write_text(SCRIPT + script, encoding="utf-8")

    def run(self, script: str, *words: str, **variables: str) -> Result:
        self.write(script)
        words = ("run", ".", "--json", "--env-manager", "local", *words)
        return self._proj(*words, cwd=self.root, **{**self.variables, **variables})

    def there(self) -> list[ServerRun]:
        return list(self.server.search_runs([one.id for one in self.server.experiments()]))


@pytest.fixture
def stage(tmp_path: Path, proj: RunProj, make_repository: MakeRepository) -> Iterator[Stage]:
    theirs = {"PROJ_HOME": str(tmp_path / "theirs")}
    token = proj("token", "add", "alice", "--scope", "write", **theirs).out.strip().splitlines()[-1]
    parameters = "{alpha: {type: float, default: 0.5}}"
    manifest = f"entry_points:\n  main:\n    parameters: {parameters}\n    command: python t.py {{alpha}}\n"
    root = make_repository({"MLproject": manifest, "t.py": ""})
    with standalone_server(tmp_path, **theirs) as standalone:
        yield Stage(root, standalone, token, proj)


def test_a_run_is_on_both_sides_under_one_id(stage: Stage, proj: RunProj) -> None:
    script = (
        "metric('loss', 0.5, 1)\nmetric('loss', 0.25, 2)\n"
        "child = post('runs/create', experiment_id=os.environ['MLFLOW_EXPERIMENT_ID'], run_name='inner')\n"
        "post('runs/update', run_id=child['run']['info']['run_id'], status='FINISHED')\n"
        "pathlib.Path('out.txt').write_text('made')\n"
    )
    done = stage.run(script, "--experiment", "iris", "--run-name", "first")
    assert done.code == 0, done.err
    record = done.json
    run = stage.server.run(record["run_id"])
    assert (run.name, run.status.value) == ("first", "FINISHED")
    assert stage.server.experiment(run.experiment_id).name == record["experiment"] == "iris"
    assert run.params == {"alpha": "0.5"}
    assert run.metrics["loss"].value == 0.25
    assert len(list(stage.server.metric_history(run.run_id, "loss"))) == 2
    assert record["tags"].items() <= run.tags.items()
    assert "probe.of.proj" not in run.tags
    place = stage.server.location(run.artifact_uri)
    assert place is not None
    assert {"out.txt", "proj/record.json", "proj/log.txt"} <= {one.path for one in walk(place)}
    inner = next(one for one in stage.there() if one.name == "inner")
    assert inner.tags["mlflow.parentRunId"] == run.run_id
    assert stage.standalone.url in done.err
    assert "no runs are waiting" in proj("sync").err
    again = proj("push", run.run_id, **stage.variables)
    assert "nothing new" in again.err
    assert len(stage.there()) == 2


def test_the_servers_own_machine_reads_the_whole_record(
    stage: Stage, proj: RunProj, tmp_path: Path, make_repository: MakeRepository
) -> None:
    done = stage.run("print('hello')\n", "-P", "alpha=2")
    assert done.code == 0, done.err
    record = done.json
    theirs = {"PROJ_HOME": str(tmp_path / "theirs")}
    shown = proj("show", record["run_id"], "--json", **theirs)
    for name in ("entry_point", "command", "code", "environment", "parameters", "machine", "exit_code", "outputs"):
        assert shown.json[name] == record[name], name
    assert (shown.json["folder"], shown.json["log"]) == (None, None)
    assert proj("list", "--json", **theirs).json[0]["entry_point"] == "main"
    assert "command" in proj("show", record["run_id"], **theirs).out

    left = next((tmp_path / "theirs").rglob("proj/record.json"))
    strange = {**record, "project": str(make_repository({"a": ""}, "other")), "code": {**record["code"], "dirty": True}}
    left.write_text(json.dumps(strange), encoding="utf-8")
    assert proj("show", record["run_id"], **theirs).code == 0, "no repository that it names is opened"
    for content in ('{"run_id": 7}', "[" * 100_000, "x", " " * (17 << 20)):
        left.write_text(content, encoding="utf-8")
        poor = proj("show", record["run_id"], "--json", **theirs)
        assert (poor.code, poor.json["command"], poor.json["entry_point"]) == (0, None, "main"), poor.err
    left.unlink()
    left.symlink_to(tmp_path / "elsewhere.json")
    (tmp_path / "elsewhere.json").write_text(json.dumps(record), encoding="utf-8")
    assert proj("show", record["run_id"], "--json", **theirs).json["command"] is None


@pytest.mark.slow
def test_values_are_forwarded_while_the_run_is_running(stage: Stage) -> None:
    stage.write(
        "metric('loss', 0.5)\npathlib.Path('ready').touch()\nwhile not os.path.exists('go'): time.sleep(0.05)\n"
    )
    words = ("run", ".", "--in-place", "--env-manager", "local")
    process = start_proj(*words, cwd=stage.root, **stage.variables)
    deadline = time.monotonic() + 60
    found: list[ServerRun] = []
    while time.monotonic() < deadline and not (found and "loss" in found[0].metrics):
        found = stage.there()
        time.sleep(0.1)
    assert found[0].status.value == "RUNNING"
    assert found[0].metrics["loss"].value == 0.5
    assert found[0].params == {"alpha": "0.5"}
    (stage.root / "go").touch()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert stage.there()[0].status.value == "FINISHED"


def test_the_status_of_a_failed_run_is_forwarded(stage: Stage) -> None:
    done = stage.run("metric('loss', 1)\nsys.exit(3)\n")
    assert done.code == 3
    assert stage.server.run(done.json["run_id"]).status.value == "FAILED"


def test_credentials_reach_neither_the_command_nor_a_record(stage: Stage, clean_room: Path) -> None:
    script = "print(sorted(os.environ.items()))\n"
    address = stage.standalone.url.replace("http://", f"http://ann:{stage.token}@")
    variables = {
        "MLFLOW_TRACKING_URI": address,
        "MLFLOW_TRACKING_USERNAME": "ann",
        "MLFLOW_TRACKING_PASSWORD": stage.token,
    }
    done = stage.run(script, **variables)
    assert done.code == 0, done.err
    assert len(stage.there()) == 1
    assert stage.token not in done.out + done.err
    home = clean_room / "home"
    assert [path for path in home.rglob("*") if path.is_file() and stage.token.encode() in path.read_bytes()] == []


def test_an_unreachable_server_is_refused_at_the_start(stage: Stage, proj: RunProj) -> None:
    stage.standalone.stop()
    done = stage.run("metric('loss', 1)\n")
    assert (done.code, done.out) == (1, "")
    assert "can't be reached" in done.err
    assert "unset MLFLOW_TRACKING_URI" in done.err
    asked = proj("run", ".", "--env-manager", "local", "--tracking-uri", stage.standalone.url, cwd=stage.root)
    assert asked.code == 1
    assert "remove --tracking-uri" in asked.err
    assert "unset" not in asked.err
    assert proj("list", "--json").json == []


def test_a_wrong_token_is_refused_at_the_start(stage: Stage, proj: RunProj) -> None:
    done = stage.run("metric('loss', 1)\n", MLFLOW_TRACKING_TOKEN="wrong")
    assert done.code == 1
    assert "requires valid credentials" in done.err
    assert proj("list", "--json").json == []


def test_offline_the_run_waits_for_its_server(stage: Stage, proj: RunProj) -> None:
    done = stage.run("metric('loss', 1)\n", "--offline")
    assert done.code == 0, done.err
    assert "the run is recorded locally" in done.err
    assert stage.there() == []
    assert proj("sync", **stage.variables).code == 0
    assert [one.tags["proj.run_id"] for one in stage.there()] == [done.json["run_id"]]


def test_the_server_of_our_own_store_records_once(stage: Stage, proj: RunProj, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    with standalone_server(folder) as own:
        done = stage.run("metric('loss', 1)\n", MLFLOW_TRACKING_URI=own.url, MLFLOW_TRACKING_TOKEN="")
        assert done.code == 0, done.err
        assert "serves the local store" in done.err
        assert [one["run_id"] for one in proj("list", "--json").json] == [done.json["run_id"]]


def test_a_server_that_tells_the_id_of_a_run_of_ours_does_no_harm(stage: Stage, proj: RunProj) -> None:
    first = stage.run("metric('loss', 1)\n", MLFLOW_TRACKING_URI="")
    run_id = first.json["run_id"]

    def made(seen: Seen) -> bool:
        return seen.path.endswith("runs/create")

    def lie(seen: Seen) -> Answer:
        reply = stage.standalone.send(seen.method, seen.path, seen.body, stage.token)
        told = reply.json
        told["run"]["info"]["run_id"] = run_id
        return 200, "application/json", json.dumps(told).encode()

    with passing(stage, made, lie) as odd:
        second = stage.run("metric('loss', 2)\n", MLFLOW_TRACKING_URI=odd.url)
    assert second.code == 0, second.err
    assert second.json["run_id"] != run_id
    assert proj("show", run_id, "--json").json["metrics"] == {"loss": 1.0}


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "sqlite:///mlflow.db", "./mlruns"])
def test_stores_of_mlflow_on_disk_get_a_notice(stage: Stage, uri: str) -> None:
    done = stage.run("metric('loss', 1)\n", MLFLOW_TRACKING_URI=uri)
    assert done.code == 0
    assert "log to proj's own store" in done.err


def test_a_run_inside_a_run_is_forwarded_with_it(stage: Stage) -> None:
    (stage.root / "inner").mkdir()
    (stage.root / "inner" / "MLproject").write_text("entry_points:\n  main:\n    command: 'true'\n")
    words = "[sys.executable, '-m', 'runner.cli.main', 'run', 'inner', '--env-manager', 'local']"
    script = f"import subprocess\nos.environ['PYTHONPATH'] = {str(ROOT)!r}\nsubprocess.run({words}, check=True)\n"
    done = stage.run(script)
    assert done.code == 0, done.err
    outer = done.json["run_id"]
    assert {one.run_id: one.tags.get("mlflow.parentRunId") for one in stage.there()}[outer] is None
    assert sorted(str(one.tags.get("mlflow.parentRunId")) for one in stage.there()) == sorted(["None", outer])


def passing(stage: Stage, fails: Callable[[Seen], bool], told: Callable[[Seen], Answer | None]) -> Any:
    """Return a server that forwards the requests that do not fail."""

    def answer(seen: Seen) -> Answer | None:
        if fails(seen):
            return told(seen)
        reply = stage.standalone.send(seen.method, seen.path, seen.body, stage.token)
        return reply.status, reply.headers["content-type"], reply.body

    return odd_server(answer)


FAULTS = {
    "down": lambda _seen: None,
    "500": lambda _seen: (500, "text/plain", b"oh"),
    "html": lambda _seen: (200, "text/html", b"<html>sign in</html>"),
    "revoked": lambda _seen: json_error(401, "CUSTOMER_UNAUTHORIZED", "no"),
}


@pytest.mark.parametrize(
    "fault", [*(name for name in FAULTS if name != "hangs"), pytest.param("hangs", marks=pytest.mark.slow)]
)
def test_a_server_that_fails_during_the_run_costs_the_run_nothing(stage: Stage, proj: RunProj, fault: str) -> None:
    broken = [False]

    def fails(seen: Seen) -> bool:
        broken[0] = broken[0] or (seen.path.endswith("runs/create") and False)
        return broken[0]

    def opened(seen: Seen) -> bool:
        if broken[0]:
            return True
        broken[0] = seen.path.endswith("runs/create")
        return False

    with passing(stage, opened, FAULTS.get(fault) or hanging(20)) as odd:
        done = stage.run(
            "for step in range(5): metric('loss', 1 / (1 + step), step)\n",
            MLFLOW_TRACKING_URI=odd.url,
            MLFLOW_HTTP_REQUEST_TIMEOUT="2",
        )
        assert done.code == 0, done.err
        assert done.json["status"] == "FINISHED"
        assert done.json["metrics"] == {"loss": 0.2}
        assert done.err.count("send the rest with `proj sync`") == 1
        assert len(proj("sync", "--dry-run").out.splitlines()) == 1
        assert stage.there()[0].status.value == "RUNNING"
        broken[0] = False
        sent = proj("sync", "--to", odd.url)
        assert sent.code == 0, sent.err
    run = stage.server.run(done.json["run_id"])
    assert run.status.value == "FINISHED"
    assert len(list(stage.server.metric_history(run.run_id, "loss"))) == 5
    assert len(stage.there()) == 1


def test_a_server_killed_in_the_middle_gets_the_rest_later(stage: Stage, proj: RunProj, tmp_path: Path) -> None:
    script = (
        "metric('loss', 0.5, 1)\npathlib.Path('ready').touch()\n"
        "while not os.path.exists('go'): time.sleep(0.05)\nmetric('loss', 0.25, 2)\n"
    )
    stage.write(script)
    process = start_proj("run", ".", "--in-place", "--env-manager", "local", cwd=stage.root, **stage.variables)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (stage.root / "ready").exists():
        time.sleep(0.05)
    stage.standalone.stop(signal.SIGKILL)
    (stage.root / "go").touch()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "send the rest with `proj sync`" in err
    run_id = proj("list", "--json").json[0]["run_id"]
    with standalone_server(tmp_path, "--port", str(stage.standalone.port), PROJ_HOME=str(tmp_path / "theirs")):
        sent = proj("sync", MLFLOW_TRACKING_TOKEN=stage.token)
        assert sent.code == 0, sent.err
        run = stage.server.run(run_id)
        assert [point.value for point in stage.server.metric_history(run_id, "loss")] == [0.5, 0.25]
        assert run.status.value == "FINISHED"


def test_sync_sends_a_run_whose_proj_was_killed(stage: Stage, proj: RunProj) -> None:
    stage.write("metric('loss', 0.5, 1)\npathlib.Path('ready').touch()\ntime.sleep(60)\n")
    process = start_proj("run", ".", "--in-place", "--env-manager", "local", cwd=stage.root, **stage.variables)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (stage.root / "ready").exists():
        time.sleep(0.05)
    process.kill()
    process.communicate(timeout=30)
    assert proj("list", "--json").json[0]["status"] == "LOST"
    sent = proj("sync", **stage.variables)
    assert sent.code == 0, sent.err
    assert stage.there()[0].status.value == "FAILED"
    assert stage.there()[0].metrics["loss"].value == 0.5


def test_an_interruption_while_the_rest_is_sent_is_no_loss(stage: Stage, proj: RunProj) -> None:
    slow = [False]

    def fails(seen: Seen) -> bool:
        slow[0] = slow[0] or seen.method == "PUT"
        return slow[0]

    with passing(stage, fails, hanging(30)) as odd:
        stage.write("pathlib.Path('out.txt').write_text('made')\n")
        variables = {"MLFLOW_TRACKING_URI": odd.url}
        process = start_proj("run", ".", "--env-manager", "local", cwd=stage.root, **variables)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not slow[0]:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert proj("list", "--json").json[0]["status"] == "FINISHED"
    assert "send the rest with `proj sync`" in err


def test_the_experiment_that_the_script_sets_is_the_one_on_the_server(stage: Stage) -> None:
    done = stage.run("NAME = 'of the script'\ndef main(mlflow):\n    mlflow.set_experiment(NAME)\n")
    assert done.json["experiment"] == "of the script"
    run = stage.server.run(done.json["run_id"])
    assert stage.server.experiment(run.experiment_id).name == "of the script"
    assert stage.run("def main(m): m.set_experiment('a')\n", "--experiment", "b").json["experiment"] == "b"


def test_the_name_of_the_project_is_the_default_experiment(stage: Stage) -> None:
    done = stage.run("")
    run = stage.server.run(done.json["run_id"])
    assert done.json["experiment"] == stage.server.experiment(run.experiment_id).name == stage.root.name
    experiment_id = stage.server.create_experiment("by id")
    done = stage.run("", "--experiment-id", experiment_id)
    assert done.json["experiment"] == "by id"
    assert stage.server.run(done.json["run_id"]).experiment_id == experiment_id
    refused = stage.run("", "--experiment-id", "4711")
    assert (refused.code, refused.out) == (1, "")


def test_the_registry_is_the_one_of_the_server(stage: Stage, proj: RunProj) -> None:
    script = """
pathlib.Path(os.environ["ARTIFACTS"], "net").mkdir(parents=True)
pathlib.Path(os.environ["ARTIFACTS"], "net", "MLmodel").write_text("run_id: " + RUN)
uri = api("runs/get", run_id=RUN)["run"]["info"]["artifact_uri"]
post("registered-models/create", name="churn")
version = post("model-versions/create", name="churn", source=uri + "/net", run_id=RUN)["model_version"]
print("source", version["source"], version["run_id"] == RUN)
there = api("model-versions/get-download-uri", name="churn", version=version["version"])["artifact_uri"]
path = there.removeprefix("mlflow-artifacts:/")
print("files", get("/api/2.0/mlflow-artifacts/artifacts", path=path).decode())
print("content", get("/api/2.0/mlflow-artifacts/artifacts/" + path + "/MLmodel") == b"run_id: " + RUN.encode())
print("searched", [v["version"] for v in api("model-versions/search", filter="name = 'churn'")["model_versions"]])
print("again", refusal(post, "registered-models/create", name="churn")[1]["error_code"])
print("absent", refusal(api, "registered-models/get", name="nobody")[0])
print("listed", [m["name"] for m in api("registered-models/list")["registered_models"]])
print("outside", refusal(post, "model-versions/create", name="churn", source="file:///etc", run_id=RUN)[0])
"""
    script = script.replace('os.environ["ARTIFACTS"]', "urllib.parse.urlparse(URI).path")
    script = 'URI = api("runs/get", run_id=RUN)["run"]["info"]["artifact_uri"]\n' + script
    done = stage.run(script)
    assert done.code == 0, done.err
    said = dict(line.split(" ", 1) for line in done.err.splitlines() if " " in line)
    run = stage.server.run(done.json["run_id"])
    assert said["source"] == f"{run.artifact_uri}/net True"
    assert '"MLmodel"' in said["files"]
    assert (said["content"], said["searched"]) == ("True", "['1']")
    assert said["listed"] == "['churn']"
    assert (said["again"], said["absent"], said["outside"]) == ("RESOURCE_ALREADY_EXISTS", "404", "400")
    assert proj("models", "list", "--json").json == []


def test_a_command_reads_other_runs_on_the_server(stage: Stage, tmp_path: Path) -> None:
    experiment_id = stage.server.create_experiment("theirs")
    theirs = stage.server.create_run(NewRun(experiment_id=experiment_id, name="other"))
    stage.server.log_batch(theirs.run_id, metrics=[Metric(key="acc", value=7, timestamp=1)], params={"p": "1"})
    (tmp_path / "note").write_bytes(b"x" * 3_000_000)
    place = stage.server.location(theirs.artifact_uri)
    assert place is not None
    with (tmp_path / "note").open("rb") as file:
        place.put("a b/note", file)
    script = f"""
other = {theirs.run_id!r}
run = api("runs/get", run_id=other)["run"]
print("told", run["info"]["run_name"], run["data"]["metrics"][0]["value"])
print("history", [p["value"] for p in api("metrics/get-history", run_id=other, metric_key="acc")["metrics"]])
print("files", [f["path"] for f in api("artifacts/list", run_id=other)["files"]])
path = run["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
print("note", len(get("/api/2.0/mlflow-artifacts/artifacts/" + path + "/a%20b/note")))
found = api("experiments/get-by-name", experiment_name="theirs")["experiment"]["experiment_id"]
print("same", found == run["info"]["experiment_id"])
print("searched", [r["info"]["run_id"] == other for r in post("runs/search", experiment_ids=[found])["runs"]])
metric("loss", 0.5)
own = post("runs/search", experiment_ids=[os.environ["MLFLOW_EXPERIMENT_ID"]], filter="metrics.loss = 0.5")["runs"]
print("own", [r["info"]["run_id"] == RUN for r in own])
print("absent", refusal(api, "runs/get", run_id="f" * 32)[0])
status, told = refusal(post, "runs/log-metric", run_id=other, key="m", value=1, timestamp=1)
print("write", status, told["message"])
"""
    done = stage.run(script, "--experiment", "mine")
    assert done.code == 0, done.err
    said = dict(line.split(" ", 1) for line in done.err.splitlines() if " " in line)
    assert (said["told"], said["history"], said["files"]) == ("other 7.0", "[7.0]", "['a b']")
    assert (said["note"], said["same"], said["searched"], said["own"]) == ("3000000", "True", "[True]", "[True]")
    assert said["absent"] == "404"
    assert said["write"].startswith("404 There is no run")
    assert "the command can read runs of the tracking server, but not change them" in said["write"]


def test_a_server_that_is_gone_refuses_its_registry_and_searches_are_ours(stage: Stage) -> None:
    broken = [False]

    def opened(seen: Seen) -> bool:
        if broken[0]:
            return True
        broken[0] = seen.path.endswith("runs/create")
        return False

    script = """
status, told = refusal(api, "registered-models/get", name="churn")
print("registry", status, told["error_code"])
metric("loss", 0.5)
found = post("runs/search", experiment_ids=[os.environ["MLFLOW_EXPERIMENT_ID"]])["runs"]
print("own", [r["info"]["run_id"] == RUN for r in found])
"""
    with passing(stage, opened, FAULTS["down"]) as odd:
        done = stage.run(script, MLFLOW_TRACKING_URI=odd.url)
    assert done.code == 0, done.err
    said = dict(line.split(" ", 1) for line in done.err.splitlines() if " " in line)
    assert (said["registry"], said["own"]) == ("500 INTERNAL_ERROR", "[True]")
