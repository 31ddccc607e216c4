"""Commands that run in a container image, by podman or docker."""

import os
import re
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from msgspec import structs

from runner.base.files import remove_tree
from runner.engine import ContainerRun, Engine, EngineKind, find_engine
from runner.errors import ExecutionError, UsageError
from runner.executors.contract import Capabilities, ExecutionRequest
from runner.executors.local import notices_of
from runner.executors.mounts import mount_words
from runner.executors.orphaned_containers import noted, remove_container
from runner.model import EnvironmentDeclaration, EnvironmentKind, Report
from runner.process import Outcome, ProcessRequest, Stdin, SupervisorHandle, run

OURS = ("name", "rm", "d", "detach", "cidfile", "restart", "sig-proxy")
"""Options of the engine by which proj starts, names and removes the container."""
_NETWORK = ("network", "net")
_REFUSED_BY_ENGINE = 125
_REFUSAL = r"^(Error: |docker: |unknown (shorthand )?flag: |.*Error response from daemon|(See|Run) '.* --help')"
# What a client of an engine needs for itself: a value for the container that differs is written on its command line.
_OF_CLIENT = (
    *("PATH", "HOME", "TMPDIR", "LD_*", "DYLD_*", "XDG_*", "DBUS_*", "SSH_*", "SSL_*", "GODEBUG"),
    *("DOCKER_*", "CONTAINER*", "PODMAN_*", "BUILDAH_*", "STORAGE_*", "REGISTR*", "*_PROXY", "*_proxy"),
)


class ContainerExecutor:
    """Runs a command in an image, with the run folder, artifacts and the network of this machine."""

    name = "container"
    capabilities = Capabilities(is_local=True, shares_disk=True, runs_images=True)

    def why_not(self, environment: EnvironmentDeclaration) -> str | None:
        """Return the reason why a command can't run here."""
        if environment.kind is not EnvironmentKind.DOCKER_ENV:
            return "the project asks for no container"
        try:
            find_engine()
        except ExecutionError as error:
            return f"{error.message}: {error.context}"
        return None

    def execute(self, request: ExecutionRequest, report: Report) -> Outcome:
        """Run the command to its end; no container of it is left."""
        container, sharing = request.container, request.sharing
        if container is None or sharing is None:
            raise ExecutionError("a command can't run in a container without an image")
        engine = find_engine()
        name = f"proj-{sharing.run_id}"
        own_home = None if engine.is_root_inside else sharing.home.run(sharing.run_id) / "container-home"
        words, values = variable_words(container_variables(request, own_home), os.environ)
        argv = (*engine_argv(engine, name, request, os.environ), *words, *command_words(container, request.argv))
        if own_home:
            own_home.mkdir(parents=True, exist_ok=True)
        try:
            with noted(sharing.home, engine, name) as note:
                process = _process(request, argv, {**os.environ, **values})
                outcome = _run(engine, name, process, note, request.prepared)
        finally:
            if own_home:
                remove_tree(own_home)
        _refuse(outcome, request, container)
        for notice in notices_of(outcome, request):
            report(notice)
        return outcome if engine.runs_below_us else _without_usage(outcome)


def engine_argv(engine: Engine, name: str, request: ExecutionRequest, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the command of the engine up to the variables and the image.

    Raises:
        ExecutionError: a folder of a volume is not there.
    """
    container, sharing = request.container, request.sharing
    if container is None or sharing is None:
        raise ExecutionError("a command can't run in a container without an image")
    options = dict(sharing.options)
    network = [] if options.keys() & set(_NETWORK) or not engine.shares_loopback else ["--network", "host"]
    gpus = gpu_words(engine, options.get("gpus") or container.gpus)
    return (
        *(engine.program, "run", "--rm", "--name", name, "--label", f"proj.run={sharing.run_id}"),
        # The engine's own copy of the output would be one with secrets in it.
        *("--log-driver", "none", *engine.init_words, *engine.user_words, *network, *_security()),
        *(("--interactive",) if _has_input(request) else ()),
        *("--workdir", str(request.cwd), *mount_words(sharing, request.cwd, container.volumes, environ)),
        *(*gpus, *option_words(sharing.options)),
    )


def command_words(container: ContainerRun, argv: tuple[str, ...]) -> tuple[str, ...]:
    """Return the image and the command, which the image's ENTRYPOINT is given where it starts what it is given."""
    return (*(() if container.keeps_entrypoint else ("--entrypoint", "")), container.image, *argv)


def check_options(options: tuple[tuple[str, str | None], ...]) -> None:
    """Refuse options of the engine that are not for the user to give.

    Raises:
        UsageError: one of them is ours.
    """
    taken = [name for name, _ in options if name in OURS]
    if taken:
        raise UsageError(f"-A {taken[0]} can't be given: proj starts, names and removes the container itself")


def option_words(options: tuple[tuple[str, str | None], ...]) -> tuple[str, ...]:
    """Return options by name as the engine takes them: ``-x`` for one letter, else ``--name``, as MLflow does."""
    words: list[str] = []
    for name, value in options:
        if name == "gpus":
            continue
        if len(name) == 1:
            words += [f"-{name}"] if value is None else [f"-{name}", value]
        else:
            words.append(f"--{name}" if value is None else f"--{name}={value}")
    return tuple(words)


def gpu_words(engine: Engine, gpus: str | None) -> tuple[str, ...]:
    """Return the options for GPUs as docker's ``--gpus`` names them: ``all``, a number, ``device=0,1``.

    podman takes devices of the Container Device Interface: https://github.com/cncf-tags/container-device-interface
    """
    if not gpus:
        return ()
    if engine.kind is EngineKind.DOCKER:
        return ("--gpus", gpus)
    named = gpus.strip('"').removeprefix("device=")
    is_count = named == gpus and gpus.isdecimal()
    devices = [str(number) for number in range(int(gpus))] if is_count else named.split(",")
    return tuple(word for device in devices for word in ("--device", f"nvidia.com/gpu={device}"))


def container_variables(request: ExecutionRequest, own_home: Path | None) -> dict[str, str]:
    """Return the variables of the container: those of the command but for a PATH that nobody chose.

    A user that the image does not know has no home there, so it is given one.
    """
    variables = dict(request.variables)
    if variables.get("PATH") == os.defpath:
        del variables["PATH"]
    if own_home:
        user = os.environ.get("USER") or str(os.geteuid())
        variables = {"HOME": str(own_home), "USER": user, "LOGNAME": user, **variables}
    return variables


def variable_words(
    variables: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """Return the options that set variables, and what must be in the client's environment for that.

    Only names are on the command line, which everybody can read, but for what would lead the client itself astray.
    """
    words: list[str] = []
    values = {}
    for name, value in variables.items():
        if environ.get(name) != value and any(fnmatchcase(name, pattern) for pattern in _OF_CLIENT):
            words += ["--env", f"{name}={value}"]
        else:
            words += ["--env", name]
            values[name] = value
    return tuple(words), values


def _security() -> tuple[str, ...]:
    """Return the option without which SELinux hides mounted folders; to relabel the user's files would touch them."""
    return ("--security-opt", "label=disable") if Path("/sys/fs/selinux/enforce").exists() else ()


def _has_input(request: ExecutionRequest) -> bool:
    """Say whether there is something to read that is no terminal; with one, the engine would take it away from us."""
    return request.stdin is Stdin.INHERIT and sys.stdin is not None and not sys.stdin.isatty()


def _process(request: ExecutionRequest, argv: tuple[str, ...], env: Mapping[str, str]) -> ProcessRequest:
    return ProcessRequest(
        argv=argv,
        cwd=request.cwd,
        env=env,
        log=request.log,
        echo=request.echo,
        stdin=request.stdin,
        timeout=request.timeout,
        grace=request.grace,
        masks=request.masks,
        relays=True,
    )


def _run(engine: Engine, name: str, process: ProcessRequest, note: Path, prepared: SupervisorHandle | None) -> Outcome:
    """Run the client of the engine and see to it that the container is gone."""
    is_gone = False
    try:
        outcome = run(process, prepared)
        # After an ordinary end the engine has removed it.
        is_gone = outcome.stopped_by is None and outcome.signal is None
    finally:
        if is_gone or remove_container(engine.kind, engine.program, name):
            note.unlink(missing_ok=True)
    return outcome


def _refuse(outcome: Outcome, request: ExecutionRequest, container: ContainerRun) -> None:
    """Tell the engine's refusal to start the container from a command that ends with the same code.

    Raises:
        ExecutionError: the container was not started.
    """
    if outcome.exit_code != _REFUSED_BY_ENGINE or outcome.stopped_by or request.log is None:
        return
    try:
        last = request.log.read_text(encoding="utf-8", errors="replace")[-4000:].strip()
    except OSError:  # a full disk: nothing is known of a refusal, so that the command's exit code counts
        return
    if re.search(_REFUSAL, last, re.MULTILINE):
        raise ExecutionError(
            f"the container of '{container.name}' can't be started",
            context=last,
            hint="Look at the options of -A, and at `volumes` and `gpus` of docker_env.",
        )


def _without_usage(outcome: Outcome) -> Outcome:
    """Leave out what the supervisor measured: that was only the client of a daemon that has the container."""
    return structs.replace(outcome, user_seconds=0.0, system_seconds=0.0, peak_memory=None)
