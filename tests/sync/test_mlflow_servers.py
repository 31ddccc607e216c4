"""Tests pushing runs to MLflow's own servers, of MLflow 3 and of MLflow 2."""

import io
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from runner.settings import Home
from runner.store import runs, values
from runner.store.database import Database
from runner.store.entities import Metric, ModelStatus, NewRun
from runner.sync.artifact_locations import walk
from runner.sync.client import RemoteServer
from runner.sync.push import Destination, push
from tests.conftest import MakeRepository, RunProj
from tests.server.test_mlflow_comparison import mlflow_server
from tests.support.filled_runs import close_run, make_model, make_run
from tests.support.mlflow_clients import CLIENTS, NEWEST, OLDEST, SERVER_OF_2, client_python

pytestmark = [pytest.mark.mlflow, pytest.mark.env, pytest.mark.slow, pytest.mark.timeout(900)]


class Other(NamedTuple):
    """An MLflow server."""

    url: str
    has_logged_models: bool


@pytest.fixture(scope="module", params=[NEWEST, SERVER_OF_2])
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Other]:
    with mlflow_server(tmp_path_factory.mktemp("server"), request.param) as url:
        yield Other(url, has_logged_models=request.param == NEWEST)


def test_everything_arrives_once(other: Other, home: Home) -> None:
    reported: list[str] = []
    with closing(Database.open(home.database)) as database, RemoteServer(other.url, {}) as server:
        run_id = make_run(database, home, "everything")
        model_id = make_model(database, home, run_id)
        close_run(database, run_id)
        to = Destination(
            database=database, home=home, server=server, report=lambda event: reported.append(event.hint or "")
        )
        pushed = push(to, run_id)
        assert push(to, run_id).sent.total == 0
        run, ours = server.run(pushed.remote_run_id), runs.get(database, run_id)
        assert (run.name, run.status, run.ended_at) == (ours.name, ours.status, ours.ended_at)
        assert run.params == ours.params
        assert ours.tags.items() <= run.tags.items()
        assert [one.dataset.name for one in run.inputs.datasets] == ["d"]
        there = sorted((one.step, one.value) for one in server.metric_history(run.run_id, "loss"))
        here = values.metric_history(database, run_id, "loss").items
        assert there == [(one.step, one.value) for one in here]
        assert len(list(server.metric_history(run.run_id, "odd"))) == 3
        files = {"plots/a b.txt", "big.bin", "proj/record.json", "proj/log.txt"}
        place = server.location(run.artifact_uri)
        assert place is not None
        assert b"".join(place.pieces("big.bin")) == (home.artifacts(run_id) / "big.bin").read_bytes()
        if other.has_logged_models:
            assert pushed.left_out == ()
            model = server.logged_model(run.outputs[0].model_id)
            assert (model.status, model.params, model.tags["proj.model_id"]) == (
                ModelStatus.READY,
                {"depth": "3"},
                model_id,
            )
            assert [point.key for point in model.metrics] == ["acc"]
        else:
            assert ["logged models" in one for one in pushed.left_out] == [True]
            files |= {"net/MLmodel", "net/weights/w.bin"}
        assert {one.path for one in walk(place)} == files
        values.log_metrics(database, run_id, [Metric(key="loss", value=1, timestamp=5, step=-5)])
        assert push(to, run_id).sent.points == 1
        found = list(server.search_runs([run.experiment_id], f"tags.`proj.run_id` = '{run_id}'"))
        assert [one.run_id for one in found] == [run.run_id]


def test_reading_commands_follow_the_server(other: Other, home: Home, proj: RunProj, tmp_path: Path) -> None:
    with closing(Database.open(home.database)) as database:
        run_id = make_run(database, home, "followed")
        values.set_tags(database, run_id, {"followed": "yes"})
        close_run(database, run_id)
    pushed = proj("push", "--filter", "tags.followed = 'yes'", "--all", "--to", other.url, "--json")
    assert pushed.code == 0, pushed.err
    there = pushed.json[0]["remote_run_id"]
    assert there != run_id, "an MLflow server gives ids of its own"
    with RemoteServer(other.url, {}) as server:
        server.send("POST", "registered-models/create", {"name": "followed"})
        version = {"name": "followed", "source": f"runs:/{there}/plots", "run_id": there}
        server.send("POST", "model-versions/create", version)
    reading = {"PROJ_HOME": str(tmp_path / "reading"), "MLFLOW_TRACKING_URI": other.url}
    assert "followed" in {one["name"] for one in proj("experiments", "list", "--json", **reading).json}
    assert "followed" in {one["name"] for one in proj("models", "list", "--json", **reading).json}
    shown = proj("models", "show", "followed", "--json", **reading).json
    assert [one["run_id"] for one in shown["versions"]] == [there]
    for reference in (there, run_id, "@followed=yes"):
        assert proj("log", reference, **reading).out == "hello\n"
    assert "no models" in proj("models", "list", "--local", **reading).err
    assert proj("log", there, "--local", **reading).code == 1

    found = ("--filter", "tags.followed = 'yes'", "--all")
    copied = proj("get", *found, "plots", **reading)
    assert (copied.code, [one.read_bytes() for one in tmp_path.rglob("a b.txt")]) == (0, [b"plot"]), copied.err
    pulled = proj("pull", *found, **reading)
    assert pulled.code == 0, pulled.err
    local = proj("list", *found, "--local", "--json", **reading).json
    assert [one["run_id"] for one in local] == [run_id], "the pulled run has the id that it has at home"
    assert proj("rm", *found, "--yes", **reading).code == 0
    assert proj("list", *found, "--local", "--json", **reading).json == []


def test_a_script_with_a_client_logs_to_both(other: Other, proj: RunProj, make_repository: MakeRepository) -> None:
    script = (
        "import mlflow\n"
        "mlflow.set_experiment('by the script')\n"
        "with mlflow.start_run():\n"
        "    mlflow.log_param('own', 1)\n"
        "    mlflow.log_metric('m', 0.5)\n"
        "    mlflow.log_text('hello', 'a/t.txt')\n"
        "    with mlflow.start_run(nested=True, run_name='inner'):\n"
        "        mlflow.log_metric('n', 2)\n"
    )
    root = make_repository({"MLproject": "entry_points:\n  main:\n    command: python t.py\n", "t.py": script})
    path = f"{client_python('2.22.5').parent}:/usr/local/bin:/usr/bin:/bin"
    words = ("run", ".", "--json", "--env-manager", "local", "--tracking-uri", other.url)
    done = proj(*words, "--experiment", "chosen", cwd=root, PATH=path)
    assert done.code == 0, done.err
    with RemoteServer(other.url, {}) as server:
        run = server.run(done.json["run_id"])
        assert (run.status.value, run.params, run.metrics["m"].value) == ("FINISHED", {"own": "1"}, 0.5)
        assert server.experiment(run.experiment_id).name == "chosen"
        place = server.location(run.artifact_uri)
        assert place is not None
        assert b"".join(place.pieces("a/t.txt")) == b"hello"
        experiments = [one.id for one in server.experiments()]
        inner = list(server.search_runs(experiments, f"tags.mlflow.parentRunId = '{run.run_id}'"))
        assert [(one.name, one.metrics["n"].value, one.status.value) for one in inner] == [("inner", 2.0, "FINISHED")]
    assert Path(done.json["log"]).is_file()


REGISTRY = """
import os, pathlib, mlflow, mlflow.pyfunc
from mlflow import MlflowClient
client = MlflowClient()
pathlib.Path("twice.py").write_text(
    "class Twice:\\n    def predict(self, x): return 2 * x\\ndef _load_pyfunc(path): return Twice()\\n")

with mlflow.start_run() as run:
    mlflow.log_metric("m", 0.5)
    mlflow.log_text("plain", "plain/MLmodel")
    version = mlflow.register_model(f"runs:/{run.info.run_id}/plain", "bought")
    print("version", version.version, version.source)
    client.transition_model_version_stage("bought", version.version, "Production")
    found = client.get_latest_versions("bought", ["Production"])
    print("production", found[0].version)
    path = mlflow.artifacts.download_artifacts("models:/bought/Production")
    print("files", open(path + "/MLmodel").read())
    called = "name" if mlflow.__version__.startswith("3") else "artifact_path"
    mlflow.pyfunc.log_model(loader_module="twice", code_paths=["twice.py"], registered_model_name="net",
        pip_requirements=[], **{called: "net"})
    latest = max(int(each.version) for each in client.search_model_versions("name = 'net'"))
    print("loaded", mlflow.pyfunc.load_model(f"models:/net/{latest}").predict(21))
    print("searched", [each.info.run_id == run.info.run_id for each in mlflow.search_runs(output_format="list")])
    other = os.environ["OTHER_RUN"]
    told = mlflow.get_run(other)
    print("other", told.data.metrics, told.info.status)
    print("history", [p.value for p in client.get_metric_history(other, "theirs")])
    print("listed", [each.path for each in client.list_artifacts(other)])
    path = mlflow.artifacts.download_artifacts(f"runs:/{other}/note.txt")
    print("note", open(path).read())
    shared = client.get_experiment_by_name(os.environ["OTHER_EXPERIMENT"])
    print("theirs", [each.info.run_name for each in client.search_runs([shared.experiment_id])])
    try:
        client.get_run("f" * 32)
    except mlflow.exceptions.MlflowException as error:
        print("absent", error.error_code)
"""


@pytest.mark.parametrize("version", ["2.22.5", "3.17.2"])
def test_a_script_uses_the_registry_and_other_runs_on_the_server(
    other: Other, proj: RunProj, make_repository: MakeRepository, version: str
) -> None:
    with RemoteServer(other.url, {}) as server:
        name = f"registry-{version}"
        theirs = server.create_run(NewRun(experiment_id=server.create_experiment(f"theirs-{version}"), name="theirs"))
        server.log_batch(theirs.run_id, metrics=[Metric(key="theirs", value=7, timestamp=1)])
        place = server.location(theirs.artifact_uri)
        assert place is not None
        place.put("note.txt", io.BytesIO(b"from another"))
        files = {"MLproject": "entry_points:\n  main:\n    command: python t.py\n", "t.py": REGISTRY}
        root = make_repository(files)
        path = f"{client_python(version).parent}:/usr/local/bin:/usr/bin:/bin"
        words = ("run", ".", "--env-manager", "local", "--tracking-uri", other.url, "--experiment", name)
        variables = {"PATH": path, "OTHER_RUN": theirs.run_id, "OTHER_EXPERIMENT": f"theirs-{version}"}
        done = proj(*words, cwd=root, **variables)
        assert done.code == 0, done.err
        run = next(server.search_runs([experiment.id for experiment in server.experiments()], "metrics.m = 0.5"))
    printed = dict(line.split(" ", 1) for line in done.out.splitlines() if " " in line)
    number, source = printed["version"].split()
    assert source == f"{run.artifact_uri}/plain"
    assert printed["production"] == number
    assert printed["files"] == "plain"
    assert printed["loaded"] == "42"
    assert printed["theirs"] == "['theirs']"
    assert printed["searched"] == "[True]"
    assert printed["other"] == "{'theirs': 7.0} RUNNING"
    assert printed["history"] == "[7.0]"
    assert printed["listed"] == "['note.txt']"
    assert printed["note"] == "from another"
    assert printed["absent"] == "RESOURCE_DOES_NOT_EXIST"
    assert proj("models", "list", "--json").json == []


@pytest.mark.parametrize("script", ["registry.py", "everything.py"])
def test_long_scripts_of_an_old_client_run_to_their_end(
    other: Other, proj: RunProj, make_repository: MakeRepository, script: str
) -> None:
    manifest = f"entry_points:\n  main:\n    command: python {script} seen.json\n"
    root = make_repository({"MLproject": manifest, script: (CLIENTS / script).read_bytes()})
    path = f"{client_python(OLDEST).parent}:/usr/local/bin:/usr/bin:/bin"
    words = ("run", ".", "--env-manager", "local", "--tracking-uri", other.url)
    done = proj(*words, cwd=root, PATH=path, FOREIGN_RUN="f" * 32)
    assert done.code == 0, done.err
