"""Runs in real containers, with each engine that can run one here."""

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.engine import ContainerRun, EngineKind
from runner.executors import EXECUTORS, ExecutionRequest, Executor, Sharing, child_environment
from runner.executors.container import ContainerExecutor
from runner.model import EnvironmentDeclaration, EnvironmentKind
from runner.process import Echo, Stdin
from runner.settings import Home
from tests.conftest import MakeRepository, RunProj, git, start_proj, unavailable, write_tree
from tests.executors.test_executors import ExecutorContract
from tests.support.images import EngineSetup, registry, set_up
from tests.support.standalone_server import standalone_server

pytestmark = [pytest.mark.container, pytest.mark.slow]


@pytest.fixture(scope="module", params=["podman", "docker"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineSetup | str]:
    yield from set_up(request.param, tmp_path_factory.mktemp("images"))


@pytest.fixture
def engine_setup(
    found: EngineSetup | str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> EngineSetup:
    if isinstance(found, str):
        raise unavailable(found) if request.node.callspec.params["found"] == "podman" else pytest.skip.Exception(found)
    for name, value in found.variables.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def project(engine_setup: EngineSetup, make_repository: MakeRepository) -> Callable[..., Path]:
    """Return a function that makes a project with a command that runs in an image."""

    def make(command: str, docker_env: dict[str, object] | None = None, **files: str) -> Path:
        docker_env = {"image": engine_setup.python, **(docker_env or {})}
        document = {"docker_env": docker_env, "entry_points": {"main": {"command": command}}}
        return make_repository({"MLproject": json.dumps(document), **files})

    return make


def record(proj: RunProj, folder: Path, *words: str, **variables: str) -> Any:
    result = proj("run", ".", "--json", *words, cwd=folder, **variables)
    assert result.out, result.err
    return result.json


def log(done: Any) -> str:
    return Path(done["log"]).read_text(encoding="utf-8")


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_a_run_names_its_image(
    engine_setup: EngineSetup, project: Callable[..., Path], proj: RunProj, home: Home
) -> None:
    done = record(proj, project("python -c 'import platform; print(platform.python_version())'; cat /marker; exit 3"))
    assert (done["status"], done["exit_code"], done["argv"][:2]) == ("FAILED", 3, ["bash", "-c"])
    environment = done["environment"]
    identity = engine_setup.run("image", "inspect", "--format", "{{.Id}}", engine_setup.python).removeprefix("sha256:")
    assert (environment["manager"], environment["image"]) == ("container", engine_setup.python)
    assert environment["digest"] == f"sha256:{identity}"
    assert log(done).split() == [environment["python"], "inside"]
    assert ["made_up", "1.5"] in environment["packages"]
    assert done["tags"]["mlflow.project.env"] == "docker"
    assert done["tags"]["mlflow.docker.image.uri"] == engine_setup.python
    assert done["tags"]["mlflow.docker.image.id"] == environment["digest"]
    assert engine_setup.leftovers(home) == []


def test_the_whole_command_runs_inside(project: Callable[..., Path], proj: RunProj) -> None:
    command = "cat /marker | tr a-z A-Z && cat /marker > copy.txt; (cat /marker >&2) ; cat $(echo /marker) # 'it'"
    done = record(proj, project(command))
    assert done["exit_code"] == 0
    assert sorted(log(done).split()) == ["INSIDE", "inside", "inside"]
    assert [output["path"] for output in done["outputs"]] == ["copy.txt"]


def test_the_python_inside_is_observed(project: Callable[..., Path], proj: RunProj) -> None:
    script = (
        "open('tree.txt').read()\nopen('/marker').read()\nimport sys\nprint([p for p in sys.path if 'trace' in p])\n"
    )
    done = record(proj, project("python t.py", **{"t.py": script, "tree.txt": "1"}))
    observed = done["observed"]
    assert log(done).strip() == "[]"
    assert [(one["path"], one["role"]) for one in observed["inputs"]] == [
        ("t.py", "project file"),
        ("tree.txt", "project file"),
    ]
    assert observed["reasons"][-1] == "files of the image and of its volumes are not listed"
    traced = proj("run", ".", "--trace", cwd=Path(done["project"].removeprefix("file://")))
    assert "the command runs in a container" in traced.err


def test_files_belong_to_the_caller_and_home_can_be_written(project: Callable[..., Path], proj: RunProj) -> None:
    root = project("touch out.txt; id -u; touch $HOME/cache; exit 1")  # a failure keeps the folder
    done = record(proj, root)
    assert log(done).strip() == str(os.geteuid())
    kept = next(Path(done["folder"]).rglob("out.txt"))
    assert (kept.stat().st_uid, kept.stat().st_gid) == (os.geteuid(), os.getegid())
    assert git(root, "status", "--porcelain") == ""


def test_only_chosen_variables_go_in(project: Callable[..., Path], proj: RunProj) -> None:
    docker_env = {"environment": ["COPIED", "ABSENT", ["MODE", "a b;c"], ["HTTP_PROXY", "x"]]}
    done = record(proj, project("env", docker_env), COPIED="it's", LEFT_OUT="y")
    found = dict(line.split("=", 1) for line in log(done).splitlines() if "=" in line)
    assert (found["COPIED"], found["MODE"], found["HTTP_PROXY"]) == ("it's", "a b;c", "x")
    assert found["FROM_IMAGE"] == "yes"
    assert found["PWD"] == done["cwd"]
    assert found["PROJ_RUN_ID"] == done["run_id"]
    assert not found.keys() & {"LEFT_OUT", "ABSENT", "PROJ_HOME"}
    assert "/usr/bin:/bin" in found["PATH"]
    assert "Variables of docker_env that are not set and not passed to the container: ABSENT" in done["notices"]


TRACKING = """
import json, os, urllib.request
run, uri, token = (os.environ["MLFLOW_" + name] for name in ("RUN_ID", "TRACKING_URI", "TRACKING_TOKEN"))
def ask(path, body=None):
    data = json.dumps(body).encode() if body else None
    headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
    request = urllib.request.Request(uri + "/api/2.0/mlflow/" + path, data, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)
ask("runs/log-metric", {"run_id": run, "key": "rmse", "value": 0.5, "timestamp": 1, "step": 0})
place = ask("runs/get?run_id=" + run)["run"]["info"]["artifact_uri"].removeprefix("file://")
os.makedirs(place, exist_ok=True)
open(place + "/model.txt", "w").write("weights")
open(os.environ["PROJ_METRICS"], "a").write("mae=0.25\\n")
"""


def test_the_command_reaches_the_server_of_its_run(project: Callable[..., Path], proj: RunProj, home: Home) -> None:
    done = record(proj, project("python t.py", **{"t.py": TRACKING}))
    assert done["exit_code"] == 0, log(done)
    assert done["metrics"] == {"rmse": 0.5, "mae": 0.25}
    assert (home.artifacts(done["run_id"]) / "model.txt").read_text() == "weights"


FAKE = {
    "fake/mlflow/__init__.py": "from mlflow.tracking._tracking_service.utils import *\n",
    "fake/mlflow/tracking/__init__.py": "",
    "fake/mlflow/tracking/_tracking_service/__init__.py": "",
    "fake/mlflow/tracking/_tracking_service/utils.py": (
        "import os\nuri = None\n"
        "def set_tracking_uri(uri):\n    globals()['uri'] = uri\n"
        "def get_tracking_uri():\n    return uri or os.environ['MLFLOW_TRACKING_URI']\n"
    ),
    "fake/mlflow-1.30.1.dist-info/METADATA": "Name: mlflow\nVersion: 1.30.1\n",
}


@pytest.mark.usefixtures("scraps")
def test_a_place_on_disk_that_the_code_logs_to_is_the_run(
    engine_setup: EngineSetup, make_repository: MakeRepository, proj: RunProj
) -> None:
    manifest = "docker_env: {build: .}\nentry_points: {main: {command: python t.py}}\n"
    docker = f"FROM {engine_setup.python}\nCOPY fake /fake\nENV PYTHONPATH=/fake\n"
    code = (
        "import os, mlflow\nassert mlflow.__file__.startswith('/fake')\nmlflow.set_tracking_uri('./ml' + 'runs')\n"
        "assert mlflow.get_tracking_uri() == os.environ['MLFLOW_TRACKING_URI']\n"
    )
    root = make_repository({"MLproject": manifest, "Dockerfile": docker, "t.py": code, **FAKE})
    done = record(proj, root)
    assert done["status"] == "FINISHED", log(done)
    assert done["redirects"] == ["'./mlruns', where the code logs (t.py:3), is this run"]
    assert record(proj, root, "--no-repair")["status"] == "FAILED"


def test_volumes(project: Callable[..., Path], proj: RunProj, tmp_path: Path) -> None:
    write_tree(tmp_path, {"beside/a.txt": "beside", "far/b.txt": "far"})
    volumes = ["../beside:/beside:ro", f"{tmp_path}/far:/far", "$PWD/results:/results"]
    command = "cat /beside/a.txt /far/b.txt; touch /far/new /results/r.txt; touch /beside/x 2>/dev/null || echo kept"
    root = project(command, {"volumes": volumes})
    done = record(proj, root)
    assert log(done).split() == ["besidefarkept"]
    assert (tmp_path / "far/new").stat().st_uid == os.geteuid()
    assert [output["path"] for output in done["outputs"]] == ["results/r.txt"]
    assert not (root / "results").exists()
    (tmp_path / "far").rename(tmp_path / "gone")
    result = proj("run", ".", cwd=root)
    assert result.code == 1
    assert f"the folder of the volume '{tmp_path}/far:/far' does not exist" in result.err


def test_ignored_files_and_path_parameters_are_there(
    engine_setup: EngineSetup, make_repository: MakeRepository, proj: RunProj
) -> None:
    entry = {"command": "cat data/a.txt {extra}", "parameters": {"extra": "path"}}
    manifest = json.dumps({"docker_env": {"image": engine_setup.python}, "entry_points": {"main": entry}})
    root = make_repository({"MLproject": manifest, ".gitignore": "data\n"})
    write_tree(root, {"data/a.txt": "ignored ", "../elsewhere/b.txt": "given"})
    done = record(proj, root, "-P", f"extra={root.parent}/elsewhere/b.txt")
    assert log(done) == "ignored given"


def test_options_for_the_engine(
    engine_setup: EngineSetup, project: Callable[..., Path], proj: RunProj, home: Home
) -> None:
    root = project("echo $GIVEN; touch /new 2>/dev/null || echo read-only")
    done = record(proj, root, "-A", "e=GIVEN=x y", "-A", "read-only")
    assert done["environment"]["engine_options"] == ["e=GIVEN=x y", "read-only"]
    token = os.urandom(12).hex()
    masked = record(proj, root, "-A", f"e=API_TOKEN={token}")
    assert token not in json.dumps(masked)
    assert token not in proj("show", masked["run_id"]).out
    assert log(done).splitlines() == ["x y", "read-only"]
    refused = proj("run", ".", "-A", "name=mine", cwd=root)
    assert (refused.code, "proj itself starts, names and removes" in refused.err) == (2, True)
    unknown = proj("run", ".", "-A", "no-such-option", cwd=root)
    assert unknown.code == 1
    assert "the container of" in unknown.err
    assert "no-such-option" in unknown.err
    assert engine_setup.leftovers(home) == []


STOPPABLE = """
import signal, sys, time
count = []
def stop(number, frame):
    count.append(number)
    time.sleep(0.5)
    print("stopped by", count, flush=True)
    sys.exit(5)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
open("up", "w").close()
time.sleep(100)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_reaches_the_command_once_and_nothing_is_left(
    engine_setup: EngineSetup, project: Callable[..., Path], home: Home, number: signal.Signals, code: int
) -> None:
    root = project("python t.py", **{"t.py": STOPPABLE})
    process = start_proj("run", ".", "--json", cwd=root)
    until(lambda: list(home.folders.rglob("up")))
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert json.loads(out)["status"] == "KILLED"
    assert log(json.loads(out)) == f"stopped by [{number:d}]\n"
    assert engine_setup.leftovers(home) == []


def test_a_detached_container_is_listed_followed_and_stopped(
    engine_setup: EngineSetup, project: Callable[..., Path], proj: RunProj, home: Home
) -> None:
    started = proj("run", "--detach", "--timeout", "10m", ".", cwd=project("python t.py", **{"t.py": STOPPABLE}))
    assert started.code == 0, started.err
    run_id = started.out.strip()
    until(lambda: list(home.folders.rglob("up")))
    assert [one["run_id"] for one in proj("ps", "--json").json] == [run_id]
    assert len(engine_setup.leftovers(home)) == 1
    stopped = proj("stop", run_id)
    assert "KILLED" in stopped.err
    assert proj("log", run_id).out == f"stopped by [{signal.SIGTERM:d}]\n"
    assert engine_setup.leftovers(home) == []
    assert proj("ps", "--json").json == []


def test_a_detached_container_runs_to_its_end_and_on_a_tracking_server(
    engine_setup: EngineSetup, project: Callable[..., Path], proj: RunProj, home: Home, tmp_path: Path
) -> None:
    waiting = "while [ ! -e go ]; do sleep 0.1; done"
    root = project(f"echo score=0.5 >> $PROJ_METRICS; {waiting}; cat /marker; touch made.txt")
    theirs = {"PROJ_HOME": str(tmp_path / "theirs")}
    with standalone_server(tmp_path, **theirs) as server:
        started = proj("run", "--detach", "--tracking-uri", server.url, ".", cwd=root)
        assert started.code == 0, started.err
        run_id = started.out.strip()
        until(lambda: list((home.root / "containers").iterdir()))
        folder = Path(proj("show", run_id, "--json").json["cwd"])
        until(folder.exists)
        (folder / "go").touch()
        until(lambda: proj("ps", "--json").json == [])
        until(lambda: proj("sync", "--dry-run").out == "")
        there = proj("show", run_id, "--json", **theirs).json
    assert (there["status"], there["metrics"]) == ("FINISHED", {"score": 0.5})
    assert proj("log", run_id).out == "inside\n"
    assert (tmp_path / "theirs" / "runs" / run_id / "artifacts" / "proj" / "log.txt").read_text() == "inside\n"
    assert engine_setup.leftovers(home) == []


def test_a_command_that_does_not_stop_is_killed_with_its_container(
    engine_setup: EngineSetup, project: Callable[..., Path], proj: RunProj, home: Home
) -> None:
    root = project("trap '' TERM INT; touch up; while true; do sleep 0.1; done")
    result = proj("run", ".", "--json", "--timeout", "1", cwd=root)
    assert (result.json["status"], result.code) == ("KILLED", 124)
    assert engine_setup.leftovers(home) == []


def test_a_container_of_a_killed_proj_is_removed_by_the_next_run(
    engine_setup: EngineSetup, project: Callable[..., Path], proj: RunProj, home: Home
) -> None:
    process = start_proj("run", ".", cwd=project("touch up; sleep 100"))
    until(lambda: list(home.folders.rglob("up")))
    process.kill()
    process.communicate(timeout=20)
    time.sleep(1)
    assert [run["status"] for run in proj("list", "--json").json] == ["LOST"]
    assert record(proj, project("true"))["status"] == "FINISHED"
    assert engine_setup.leftovers(home) == []
    assert list((home.root / "containers").iterdir()) == []


def test_a_secret_is_in_no_command_line(project: Callable[..., Path], home: Home) -> None:
    secret = "hunter-" + os.urandom(8).hex()
    root = project("touch up; while [ ! -e go ]; do sleep 0.1; done; echo $TOKEN", {"environment": ["TOKEN"]})
    process = start_proj("run", ".", "--json", cwd=root, TOKEN=secret)
    until(lambda: list(home.folders.rglob("up")))
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    (next(home.folders.rglob("up")).parent / "go").touch()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert secret not in lines
    assert json.loads(out)["run_id"] in lines
    assert log(json.loads(out)).strip() in (secret, "***")


def build_files(engine_setup: EngineSetup, text: str) -> dict[str, str]:
    return {
        "Dockerfile": f"FROM {engine_setup.python}\nCOPY . /project\n",
        "inside.txt": text,
        ".gitignore": "private.txt\n",
    }


@pytest.fixture
def scraps(engine_setup: EngineSetup, home: Home) -> Iterator[list[str]]:
    """Return a list of names of images that go away after the test, as do those that proj has built for it."""
    names: list[str] = []
    yield names
    names += {note.read_text(encoding="utf-8") for note in (home.root / "images" / "trees").glob("*")}
    for name in names:
        engine_setup.discard(name)


@pytest.mark.usefixtures("scraps")
def test_an_image_is_built_once_for_each_content(
    engine_setup: EngineSetup, make_repository: MakeRepository, proj: RunProj, home: Home
) -> None:
    manifest = "docker_env: {build: .}\nentry_points: {main: {command: 'cat /project/inside.txt; ls /project'}}\n"
    root = make_repository({"MLproject": manifest, **build_files(engine_setup, "one\n")})
    write_tree(root, {"private.txt": "not part of the project"})
    result = proj("run", ".", "--json", cwd=root)
    first = result.json
    assert first["exit_code"] == 0, result.err
    assert "Building the image" in result.err
    assert log(first).split() == ["one", "Dockerfile", "MLproject", "inside.txt"]
    assert first["environment"]["image"].startswith("localhost/proj:")
    again = proj("run", ".", "--json", cwd=root)
    assert "Building the image" not in again.err
    assert again.json["environment"] == first["environment"]
    (kept,) = proj("env", "list", "--json").json
    assert (kept["path"], kept["digest"]) == (first["environment"]["image"], first["environment"]["digest"])
    assert kept["runs"] == [first["run_id"], again.json["run_id"]]
    assert f"image {kept['path']}" in proj("env", "show", kept["name"][:8]).out
    write_tree(root, {"inside.txt": "two\n"})
    second = record(proj, root)
    assert log(second).startswith("two")
    assert second["environment"]["digest"] != first["environment"]["digest"]
    write_tree(root, {"inside.txt": "one\n"})
    assert record(proj, root)["environment"]["digest"] == first["environment"]["digest"]
    assert [path.name for path in (home.root / "images").iterdir() if path.name.startswith("building")] == []
    pruned = proj("env", "prune", "--older-than", "0m", "--yes")
    assert len(pruned.out.split()) == 2, pruned.err
    assert proj("env", "list", "--json").json == []


@pytest.mark.usefixtures("scraps")
def test_two_runs_at_once_have_one_image(engine_setup: EngineSetup, make_repository: MakeRepository) -> None:
    manifest = "docker_env: {build: .}\nentry_points: {main: {command: 'true'}}\n"
    root = make_repository({"MLproject": manifest, **build_files(engine_setup, os.urandom(8).hex())})
    both = [start_proj("run", ".", "--json", cwd=root) for _ in range(2)]
    ends = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert len({json.loads(out)["environment"]["digest"] for out, _ in ends}) == 1
    assert sum(err.count("COPY") > 0 for _, err in ends) == 1


def test_a_failing_build_leaves_its_log(
    engine_setup: EngineSetup, make_repository: MakeRepository, proj: RunProj
) -> None:
    manifest = "docker_env: {build: .}\nentry_points: {main: {command: 'true'}}\n"
    root = make_repository({"MLproject": manifest, "Dockerfile": f"FROM {engine_setup.python}\nCOPY no-such-file /\n"})
    result = proj("run", ".", "--json", cwd=root)
    assert (result.code, result.json["status"]) == (1, "FAILED")
    assert "The image of the project can't be built" in result.json["reason"]
    place = Path(result.json["reason"].rpartition("whole log: ")[2].strip())
    assert "no-such-file" in place.read_text()


def test_a_digest_is_held_to(engine_setup: EngineSetup, project: Callable[..., Path], proj: RunProj) -> None:
    digest = record(proj, project("true"))["environment"]["image_digest"]
    if digest is None:
        pytest.skip("docker knows digests only of what a registry has")
    name = engine_setup.python.rpartition(":")[0]
    root = project("true", {"image": f"{name}@{digest}"}, other="")
    assert record(proj, root)["environment"]["image_digest"] == digest


def test_an_image_is_fetched_and_its_digest_is_held_to(
    engine_setup: EngineSetup,
    project: Callable[..., Path],
    proj: RunProj,
    tmp_path: Path,
    scraps: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if engine_setup.engine.kind is not EngineKind.PODMAN:
        pytest.skip("docker can't write the folder that the registry serves")
    text = f"FROM {engine_setup.plain}\nENV ONLY={os.urandom(8).hex()}\n"
    own = engine_setup.build(
        f"localhost/proj-test-{os.urandom(6).hex()}:1", write_tree(tmp_path / "context", {"Dockerfile": text})
    )
    engine_setup.run("push", "--quiet", own, f"dir:{tmp_path}/pushed")
    engine_setup.discard(own)
    digest = f"sha256:{hashlib.sha256((tmp_path / 'pushed/manifest.json').read_bytes()).hexdigest()}"
    with registry(tmp_path / "pushed") as address:
        settings = tmp_path / "registries.conf"
        settings.write_text(f'[[registry]]\nlocation = "{address}"\ninsecure = true\n', encoding="utf-8")
        monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(settings))
        scraps += [f"{address}/forest:1", f"{address}/forest@{digest}"]
        root = project("true", {"image": f"{address}/forest:1"})
        first = proj("run", ".", "--json", cwd=root)
        assert "Fetching the image" in first.err
        assert first.json["environment"]["image_digest"] == digest
        assert "Fetching" not in proj("run", ".", cwd=root).err
        engine_setup.discard(f"{address}/forest:1")
        unpinned = (root / "MLproject").read_text()
        write_tree(root, {"MLproject": unpinned.replace("forest:1", f"forest:1@{digest}")})
        assert record(proj, root)["status"] == "FINISHED"
        write_tree(root, {"MLproject": unpinned.replace("forest:1", f"forest@sha256:{'1' * 64}")})
        assert record(proj, root)["status"] == "FAILED"


def test_an_image_that_can_not_be_fetched_is_reported(project: Callable[..., Path], proj: RunProj) -> None:
    root = project("true", {"image": "localhost/proj-test/no-such-image:1"})
    result = proj("run", ".", "--json", "--no-repair", cwd=root)
    assert (result.code, result.json["status"]) == (1, "FAILED")
    assert "is not on this machine and can't be fetched" in result.err


def test_only_a_commit_runs_without_an_image_that_is_gone(project: Callable[..., Path], proj: RunProj) -> None:
    root = project("python x.py", {"image": "localhost/proj-test/no-such-image:1"}, **{"x.py": "print(1)\n"})
    (root / "x.py").write_text("print(2)\n")
    refused = proj("run", ".", cwd=root)
    assert refused.code == 1
    assert "nothing takes the place of its container" in refused.err
    assert "--repair" in refused.err
    assert len(proj("list", "--json", cwd=root).json) == 1
    for words in (("--repair",), ("--version", "HEAD")):
        done = record(proj, root, *words)
        assert (done["status"], done["environment"]["manager"]) == ("FINISHED", "uv")


def test_a_gpu_that_is_not_there_is_named(
    engine_setup: EngineSetup, project: Callable[..., Path], proj: RunProj
) -> None:
    if Path("/dev/nvidia0").exists() or Path("/etc/cdi").is_dir():
        raise pytest.skip.Exception("this machine may have a GPU for containers")
    result = proj("run", ".", "--json", cwd=project("true", {"image": engine_setup.python, "gpus": "all"}))
    assert result.json["status"] == "FAILED"
    assert "can't be started" in result.err
    assert "leave `gpus` out of docker_env" in result.err


def test_an_image_without_bash_runs_commands_with_sh(
    engine_setup: EngineSetup, project: Callable[..., Path], proj: RunProj
) -> None:
    done = record(proj, project("cat MLproject > out.txt; exit 4", {"image": engine_setup.plain}))
    assert (done["exit_code"], done["argv"][:2], done["environment"]["python"]) == (4, ["sh", "-c"], None), done


@pytest.mark.parametrize("script", ['echo prepared; exec "$@"', "echo I do what I want"])
def test_an_entrypoint_that_starts_commands_is_kept(
    engine_setup: EngineSetup,
    project: Callable[..., Path],
    proj: RunProj,
    tmp_path: Path,
    scraps: list[str],
    script: str,
) -> None:
    text = f'FROM {engine_setup.python}\nCOPY start /start\nENTRYPOINT ["/start"]\n'
    context = write_tree(tmp_path / "context", {"Dockerfile": text, "start": f"#!/bin/sh\n{script}\n"})
    (context / "start").chmod(0o755)
    name = engine_setup.build(f"localhost/proj-test-{os.urandom(6).hex()}:1", context)
    scraps.append(name)
    done = record(proj, project("echo ran", {"image": name}))
    is_kept = "exec" in script
    assert log(done).split() == ([*(["prepared"] if is_kept else []), "ran"]), done
    assert any("ENTRYPOINT" in notice for notice in done["notices"]) != is_kept


def test_a_devcontainer_can_be_requested(
    engine_setup: EngineSetup, make_repository: MakeRepository, proj: RunProj
) -> None:
    files = {"MLproject": "entry_points: {main: {command: cat /marker}}"}
    root = make_repository({**files, ".devcontainer/devcontainer.json": json.dumps({"image": engine_setup.python})})
    done = record(proj, root, "--env-manager", "container")
    assert log(done) == "inside\n"


def test_a_dry_run_names_the_image_and_starts_nothing(project: Callable[..., Path], proj: RunProj, home: Home) -> None:
    plan = proj("run", ".", "--dry-run", "--json", cwd=project("true")).json
    assert plan["environment"]["manager"] == "container"
    assert plan["environment"]["digest"].startswith("sha256:")
    assert list((home.root / "images").rglob("*.log")) == []
    assert list((home.root / "containers").iterdir()) == []


class TestContainer(ExecutorContract):
    executor: Executor = ContainerExecutor()

    @pytest.fixture(autouse=True)
    def engine(self, engine_setup: EngineSetup) -> None:
        type(self).image = engine_setup.python  # type: ignore[attr-defined]

    def request(self, folder: Path, command: str, **more: object) -> ExecutionRequest:
        words = {
            "argv": ("bash", "-c", command),
            "cwd": folder,
            "variables": child_environment({}, cwd=folder),
            "log": folder / "log.txt",
            "echo": Echo.NONE,
            "stdin": Stdin.NOTHING,
            "container": ContainerRun(image=self.image, name="test"),  # type: ignore[attr-defined]
            "sharing": Sharing(
                run_id=os.urandom(8).hex(), home=Home(folder / "home"), folders=(folder,), repository=folder
            ),
            **more,
        }
        return ExecutionRequest(**words)  # type: ignore[arg-type]

    def test_it_runs_commands_without_a_declared_environment(self) -> None:
        assert self.executor.why_not(EnvironmentDeclaration()) == "the project declares no docker_env"
        assert self.executor.why_not(EnvironmentDeclaration(kind=EnvironmentKind.DOCKER_ENV)) is None

    def test_it_reports_processes_that_were_left_running(self) -> None:
        """Override: what a command leaves behind ends with its container."""
        assert EXECUTORS["container"].capabilities.runs_images
