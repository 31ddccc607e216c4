"""Containers without an engine: what is asked of one, which one is found, and what declares an image."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec import structs

from runner.engine import ContainerRun, Engine, EngineKind, find_engine
from runner.environments.backends.containers.images import pinned_digest, with_registry, without_tag
from runner.environments.backends.registry import choose_backend
from runner.environments.declare.containers.spec import find_devcontainer, read_container, without_comments
from runner.environments.declare.spec import read_spec
from runner.environments.specs import EnvironmentSpec, ImageSpec, PythonSpec
from runner.errors import EnvironmentSetupError, ExecutionError, UsageError
from runner.executors import ExecutionRequest, Sharing
from runner.executors.container import (
    check_options,
    custom_options,
    engine_argv,
    gpu_options,
    image_arguments,
    variable_options,
)
from runner.executors.mounts import MLFLOW_CODE_PATH, mount_options
from runner.manifest import FolderFiles
from runner.manifest.parser import read_manifest
from runner.model import ContainerSpec, EnvironmentDeclaration, EnvironmentKind, ImageBuild
from runner.process import Stdin
from runner.settings import Home
from tests.conftest import MakeRepository, RunProj, write_tree

PODMAN = Engine(kind=EngineKind.PODMAN, program="/usr/bin/podman")
DOCKER = Engine(kind=EngineKind.DOCKER, program="/usr/bin/docker")
DIGEST = "sha256:" + "1" * 64


@pytest.fixture
def sharing(tmp_path: Path) -> Sharing:
    for name in ("folders/r1/p", "home/runs", "mine/data"):
        (tmp_path / name).mkdir(parents=True)
    home = Home(tmp_path / "home")
    folders = (tmp_path / "folders/r1", home.root / "runs")
    return Sharing(run_id="r1", home=home, folders=folders, repository=folders[0] / "p", project=tmp_path / "mine")


def request(sharing: Sharing, container: ContainerRun, **more: object) -> ExecutionRequest:
    words = {"argv": ("bash", "-c", "true"), "cwd": sharing.folders[0] / "p", "variables": {}, **more}
    return ExecutionRequest(container=container, sharing=sharing, stdin=Stdin.NOTHING, **words)  # type: ignore[arg-type]


def mounts(sharing: Sharing, *volumes: str, **environ: str) -> list[str]:
    return mount_options(sharing, sharing.folders[0] / "p", volumes, environ)[: 2 * len(volumes)]


def test_the_command_of_the_engine_is_a_list_of_words(sharing: Sharing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.executors.container._security", tuple)
    container = ContainerRun(image="abc", name="some:1", gpus="all", volumes=("cache:/cache",))
    folder, runs = sharing.folders
    argv = engine_argv(DOCKER, "proj-r1", request(sharing, container), {})
    assert argv == (
        *("/usr/bin/docker", "run", "--rm", "--name", "proj-r1", "--label", "proj.run=r1", "--log-driver", "none"),
        *("--init", "--user", f"{os.geteuid()}:{os.getegid()}", "--network", "host", "--workdir", f"{folder}/p"),
        *("--volume", "cache:/cache", "--mount", f"type=bind,source={folder},target={folder}"),
        *("--mount", f"type=bind,source={runs},target={runs}"),
        *("--mount", f"type=bind,source={folder}/p,target={MLFLOW_CODE_PATH}", "--gpus", "all"),
    )


def test_a_command_stays_one_word_whatever_is_in_it() -> None:
    argv = ("bash", "-c", "a | b && c; $(d) 'e")
    assert image_arguments(ContainerRun(image="abc", name="n"), argv) == ("abc", *argv)
    own = ContainerRun(image="abc", name="n", keeps_entrypoint=False)
    assert image_arguments(own, argv) == ("--entrypoint", "", "abc", *argv)


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (DOCKER, ("--user", "{own}")),
        (PODMAN, ("--user", "{own}")),
        (Engine(kind=EngineKind.PODMAN, program="p", is_rootless=True), ("--userns", "keep-id", "--user", "{own}")),
        (Engine(kind=EngineKind.DOCKER, program="d", is_rootless=True), ("--user", "0:0")),
        (Engine(kind=EngineKind.DOCKER, program="d", is_remapped=True), ("--userns", "host", "--user", "{own}")),
    ],
)
def test_files_belong_to_the_caller(engine: Engine, words: tuple[str, ...]) -> None:
    own = f"{os.geteuid()}:{os.getegid()}"
    assert engine.user_options == tuple(word.format(own=own) for word in words)


def test_only_linux_engines_with_our_network_reach_our_loopback(sharing: Sharing) -> None:
    assert PODMAN.shares_loopback
    away = Engine(kind=EngineKind.DOCKER, program="d", is_here=False)
    assert not away.shares_loopback
    assert not Engine(kind=EngineKind.DOCKER, program="d", is_rootless=True).shares_loopback
    assert "--network" not in engine_argv(away, "n", request(sharing, ContainerRun(image="a", name="n")), {})


@pytest.mark.parametrize(
    ("gpus", "docker", "podman"),
    [
        (None, (), ()),
        ("all", ("--gpus", "all"), ("--device", "nvidia.com/gpu=all")),
        ("2", ("--gpus", "2"), ("--device", "nvidia.com/gpu=0", "--device", "nvidia.com/gpu=1")),
        ("device=1", ("--gpus", "device=1"), ("--device", "nvidia.com/gpu=1")),
        ('"device=0,3"', ("--gpus", '"device=0,3"'), ("--device", "nvidia.com/gpu=0", "--device", "nvidia.com/gpu=3")),
    ],
)
def test_gpus_are_named_as_each_engine_does(gpus: str | None, docker: tuple[str, ...], podman: tuple[str, ...]) -> None:
    assert gpu_options(DOCKER, gpus) == docker
    assert gpu_options(PODMAN, gpus) == podman


def test_options_are_those_of_mlflow() -> None:
    options = (("t", None), ("m", "2g"), ("shm-size", "8g"), ("privileged", None), ("e", "A=1"), ("e", "B=2"))
    assert custom_options(options) == ("-t", "-m", "2g", "--shm-size=8g", "--privileged", "-e", "A=1", "-e", "B=2")
    with pytest.raises(UsageError, match="-A detach is not allowed"):
        check_options((("t", None), ("detach", None)))


def test_gpus_and_network_of_the_user_win(sharing: Sharing) -> None:
    chosen = structs.replace(sharing, options=(("gpus", "1"), ("network", "none")))
    argv = engine_argv(DOCKER, "n", request(chosen, ContainerRun(image="a", name="n", gpus="all")), {})
    assert argv.count("--gpus") == 1
    assert argv[argv.index("--gpus") + 1] == "1"
    assert "--network" not in argv
    assert "--network=none" in argv


def test_values_of_variables_are_not_on_the_command_line() -> None:
    environ = {"HOME": "/home/me", "HTTP_PROXY": "http://u:secret@proxy"}
    variables = {"TOKEN": "hunter2", "HOME": "/elsewhere", "HTTP_PROXY": "http://u:secret@proxy"}
    words, values = variable_options(variables, environ)
    assert words == ("--env", "TOKEN", "--env", "HOME=/elsewhere", "--env", "HTTP_PROXY")
    assert values == {"TOKEN": "hunter2", "HTTP_PROXY": "http://u:secret@proxy"}


def test_volumes_inside_the_project_are_those_of_the_run(sharing: Sharing) -> None:
    folder = sharing.folders[0] / "p"
    assert mounts(sharing, "./out:/out") == ["--volume", f"{folder}/out:/out"]
    assert (folder / "out").is_dir()
    for text in ("$PWD/out:/out:ro", "${PWD}/out:/out:ro", "$(pwd)/out:/out:ro", "`pwd`/out:/out:ro"):
        assert mounts(sharing, text) == ["--volume", f"{folder}/out:/out:ro"]
    assert mounts(sharing, ".:/work") == ["--volume", f"{folder}:/work"]


def test_other_volumes_are_the_users_own(sharing: Sharing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert mounts(sharing, "../beside:/b") == ["--volume", f"{tmp_path}/beside:/b"]
    assert mounts(sharing, "$PWD/../beside:/b") == ["--volume", f"{tmp_path}/beside:/b"]
    assert mounts(sharing, f"{tmp_path}/beside:/b:ro") == ["--volume", f"{tmp_path}/beside:/b:ro"]
    assert mounts(sharing, "~/beside:/b") == ["--volume", f"{tmp_path}/beside:/b"]
    assert mounts(sharing, "$D/beside:/b", D=str(tmp_path)) == ["--volume", f"{tmp_path}/beside:/b"]
    assert mounts(sharing, "named:/b") == ["--volume", "named:/b"]
    assert mounts(sharing, "/only/inside") == ["--volume", "/only/inside"]


def test_a_missing_volume_is_reported_before_the_start(sharing: Sharing) -> None:
    with pytest.raises(ExecutionError, match="'/no/such:/x' does not exist"):
        mounts(sharing, "/no/such:/x")
    with pytest.raises(ExecutionError, match="names the variable NOWHERE"):
        mounts(sharing, "$NOWHERE/a:/x")


def test_a_place_is_mounted_once(sharing: Sharing) -> None:
    inner = sharing.folders[0] / "p" / "x"
    more = structs.replace(sharing, folders=(*sharing.folders, inner))
    words = mount_options(more, sharing.folders[0] / "p", [f"named:{MLFLOW_CODE_PATH}"], {})
    assert words[:2] == ["--volume", f"named:{MLFLOW_CODE_PATH}"]
    assert len(words) == 2 * 3


def test_paths_with_commas_are_quoted(tmp_path: Path) -> None:
    folder = tmp_path / 'a,"b'
    words = mount_options(
        Sharing(run_id="r", home=Home(tmp_path), folders=(folder,), repository=folder), folder, [], {}
    )
    quoted = str(folder).replace('"', '""')
    assert words[1] == f'type=bind,"source={quoted}","target={quoted}"'


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


def test_podman_is_taken_before_docker_and_the_user_decides(tmp_path: Path) -> None:
    info = '{"ServerVersion": "28", "OperatingSystem": "Linux", "SecurityOptions": ["name=seccomp", "name=rootless"]}'
    program(tmp_path, "docker", f"case $1 in --version) echo Docker version 28;; *) echo '{info}';; esac")
    environ = {"PATH": str(tmp_path)}
    found = find_engine(environ)
    assert (found.kind, found.is_rootless) == (EngineKind.DOCKER, True)
    program(tmp_path / "both", "podman", "echo podman version 5")
    shutil.copy(tmp_path / "docker", tmp_path / "both")
    environ = {"PATH": str(tmp_path / "both")}
    assert find_engine(environ).kind is EngineKind.PODMAN
    assert find_engine({**environ, "PROJ_CONTAINER_ENGINE": "docker"}).kind is EngineKind.DOCKER
    assert find_engine({**environ, "PROJ_CONTAINER_ENGINE": str(tmp_path / "docker")}).kind is EngineKind.DOCKER


def test_podman_under_dockers_name_is_podman(tmp_path: Path) -> None:
    program(tmp_path, "docker", "echo podman version 4.3.1")
    assert find_engine({"PATH": str(tmp_path)}).kind is EngineKind.PODMAN


def test_without_an_engine_the_error_names_what_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = '{"ServerErrors": ["Cannot connect to the daemon"]}'
    program(tmp_path, "docker", f"case $1 in --version) echo Docker version 28;; *) echo '{refusal}'; exit 1;; esac")
    with pytest.raises(ExecutionError) as caught:
        find_engine({"PATH": str(tmp_path)})
    assert caught.value.context == (
        "'podman' was not found on PATH; docker has no running daemon: Cannot connect to the daemon"
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    spec = ImageSpec(container=ContainerSpec(image="some:1"))
    with pytest.raises(EnvironmentSetupError, match=r"No container engine was found.*Install podman") as refused:
        choose_backend(None, spec)
    assert refused.value.hint is not None
    assert "local" in refused.value.hint


def test_an_engine_on_another_machine_is_refused(tmp_path: Path) -> None:
    program(tmp_path, "docker", "echo Docker version 28")
    program(tmp_path, "podman", "echo podman version 5")
    environ = {"PATH": str(tmp_path), "DOCKER_HOST": "tcp://far:2375", "CONTAINER_HOST": "ssh://far/podman.sock"}
    with pytest.raises(ExecutionError) as caught:
        find_engine(environ)
    assert (caught.value.context or "").count("another machine") == 2


def test_names_of_images() -> None:
    assert with_registry("python:3.11") == "docker.io/library/python:3.11"
    assert with_registry("me/forest") == "docker.io/me/forest"
    assert with_registry("localhost/forest:2") == "localhost/forest:2"
    assert with_registry("quay.io/a/b") == "quay.io/a/b"
    assert with_registry("registry:5000/b") == "registry:5000/b"
    assert pinned_digest("python:3.11") is None
    assert pinned_digest(f"python:3.11@{DIGEST}") == DIGEST
    assert without_tag(f"registry:5000/python:3.11@{DIGEST}") == f"registry:5000/python@{DIGEST}"


def declared(tmp_path: Path, docker_env: str, files: Mapping[str, str] | None = None) -> EnvironmentSpec:
    manifest = f"docker_env: {docker_env}\nentry_points: {{main: {{command: 'true'}}}}\n"
    root = write_tree(tmp_path / "project", {"MLproject": manifest, **(files or {})})
    return read_spec(read_manifest(FolderFiles(root)).environment, FolderFiles(root))


def test_a_build_is_a_folder_or_what_compose_files_have(tmp_path: Path) -> None:
    files = {"Dockerfile": "FROM scratch", "docker/gpu/Containerfile": "FROM scratch", "docker/Dockerfile.x": "FROM a"}
    assert declared(tmp_path, "{build: .}", files).container == ContainerSpec(build=ImageBuild(file="Dockerfile"))
    inner = declared(tmp_path, "{image: x, build: ./docker/gpu/, gpus: all}").container
    build = ImageBuild(context="docker/gpu", file="docker/gpu/Containerfile")
    assert inner == ContainerSpec(image="x", build=build, gpus="all")
    full = "{build: {context: docker, dockerfile: Dockerfile.x, args: {A: 1}, target: t}, gpus: 2}"
    build = ImageBuild(context="docker", file="docker/Dockerfile.x", arguments=(("A", "1"),), target="t")
    assert declared(tmp_path, full).container == ContainerSpec(build=build, gpus="2")


def test_a_build_without_its_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentSetupError, match="the project has no Containerfile or Dockerfile"):
        declared(tmp_path, "{build: .}")


def test_a_docker_env_is_a_container_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "podman", "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    spec = declared(tmp_path, "{image: 'some:1'}")
    assert choose_backend(None, spec).name == "container"
    assert choose_backend("local", spec).name == "local"
    with pytest.raises(EnvironmentSetupError, match="docker_env needs a container"):
        choose_backend("uv", spec)


DEVCONTAINER = """
// made by an editor
{
  "image": "mcr.example.org/python:1-3.11", /* the // one */
  "features": {"x": {}},
  "containerEnv": {"MODE": "dev", "TOKEN": "${localEnv:TOKEN}", "W": "${containerWorkspaceFolder}/a"},
  "postCreateCommand": "pip install -r requirements.txt",
}
"""


def test_a_devcontainer_is_a_spec_where_the_manifest_names_it(tmp_path: Path) -> None:
    path = ".devcontainer/devcontainer.json"
    spec = declared(tmp_path, f"{{devcontainer: {path}, environment: [[MODE, train]]}}", {path: DEVCONTAINER})
    assert spec.container is not None
    assert spec.container.image == "mcr.example.org/python:1-3.11"
    assert spec.container.environment == (("TOKEN", None), ("MODE", "train"))
    assert spec.notices == (f"Not used of {path}: features, postCreateCommand, W",)
    spec = read_spec(
        EnvironmentDeclaration(kind=EnvironmentKind.DOCKER_ENV, path=path), FolderFiles(tmp_path / "project")
    )
    assert spec.container is not None
    assert spec.container.image == "mcr.example.org/python:1-3.11"


def test_a_devcontainers_dockerfile_lies_beside_it(tmp_path: Path) -> None:
    text = '{"build": {"dockerfile": "Dockerfile", "context": "..", "args": {"V": "3"}}}'
    files = {".devcontainer/devcontainer.json": text, ".devcontainer/Dockerfile": "FROM scratch"}
    spec = declared(tmp_path, "{devcontainer: .devcontainer/devcontainer.json}", files)
    assert spec.container is not None
    build = ImageBuild(context=".", file=".devcontainer/Dockerfile", arguments=(("V", "3"),))
    assert spec.container.build == build


def test_a_devcontainer_that_nobody_names_can_be_requested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "podman", "exit 1")
    files = FolderFiles(write_tree(tmp_path / "p", {".devcontainer/devcontainer.json": DEVCONTAINER}))
    assert find_devcontainer(FolderFiles(tmp_path)) is None
    spec = read_spec(EnvironmentDeclaration(), files)
    assert (spec.kind, choose_backend(None, spec).name) == (EnvironmentKind.NONE, "uv")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert choose_backend("container", spec).name == "container"
    with pytest.raises(EnvironmentSetupError, match="the project declares no image"):
        choose_backend("container", PythonSpec())


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "can't be read"), ('{"dockerComposeFile": "c.yml"}', "compose file"), ("{}", "neither `image` nor `build`")],
)
def test_a_devcontainer_without_an_image_is_refused(tmp_path: Path, text: str, says: str) -> None:
    files = FolderFiles(write_tree(tmp_path, {"devcontainer.json": text}))
    declaration = EnvironmentDeclaration(kind=EnvironmentKind.DOCKER_ENV, path="devcontainer.json")
    with pytest.raises(EnvironmentSetupError, match=says):
        read_container(declaration, files)


def test_comments_go_and_texts_stay() -> None:
    text = '{"a": "x // y, } /* z", // c\n "b": [1, /* 2, */ ], }'
    assert json.loads(without_comments(text)) == {"a": "x // y, } /* z", "b": [1]}


def test_a_run_without_a_container_takes_no_options(make_repository: MakeRepository, proj: RunProj) -> None:
    root = make_repository({"MLproject": "entry_points: {main: {command: 'true'}}"})
    result = proj("run", ".", "--env-manager", "local", "-A", "gpus=all", cwd=root)
    assert (result.code, "-A sets options of a container" in result.err) == (2, True)
    assert proj("run", ".", "-A", "=x", cwd=root).code == 2
