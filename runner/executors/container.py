"""Runs commands in a container image, with podman or docker."""

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
from runner.executors.local import outcome_notices
from runner.executors.mounts import mount_options
from runner.executors.orphaned_containers import container_note, remove_container
from runner.model import EnvironmentDeclaration, EnvironmentKind, Report
from runner.process import Outcome, ProcessRequest, Stdin, SupervisorHandle, run

RESERVED_OPTIONS = ("name", "rm", "d", "detach", "cidfile", "restart", "sig-proxy")
"""Options of the engine that only proj sets: it starts, names and removes the container."""
_NETWORK = ("network", "net")
_REFUSED_BY_ENGINE = 125
_REFUSAL = r"^(Error: |docker: |unknown (shorthand )?flag: |.*Error response from daemon|(See|Run) '.* --help')"
_NOT_STARTED = r"^(Error: (setting up CDI devices|(\w+: )?OCI runtime|crun: |runc: )|docker: )"
"""How engines refuse with an exit code that a shell has for a command that it can't start."""
_NO_GPU = r"CDI device|could not select device driver|nvidia"
# Variables that the client of an engine reads itself. A different value for the container goes on its command line.
_CLIENT_VARIABLES = (
    *("PATH", "HOME", "TMPDIR", "LD_*", "DYLD_*", "XDG_*", "DBUS_*", "SSH_*", "SSL_*", "GODEBUG"),
    *("DOCKER_*", "CONTAINER*", "PODMAN_*", "BUILDAH_*", "STORAGE_*", "REGISTR*", "*_PROXY", "*_proxy"),
)


class ContainerExecutor:
    """Runs a command in an image, with the run folder, the artifacts and the network of this machine."""

    name = "container"
    capabilities = Capabilities(runs_images=True)

    def why_not(self, environment: EnvironmentDeclaration) -> str | None:
        """Return the reason why a command can't run in a container, None if it can."""
        if environment.kind is not EnvironmentKind.DOCKER_ENV:
            return "the project declares no docker_env"
        try:
            find_engine()
        except ExecutionError as error:
            return f"{error.message}: {error.context}"
        return None

    def execute(self, request: ExecutionRequest, report: Report) -> Outcome:
        """Run the command to its end and remove its container.

        Raises:
            ExecutionError: the container can't be started.
        """
        container, sharing = request.container, request.sharing
        if container is None or sharing is None:
            raise ExecutionError("a command can't run in a container without an image")
        engine = find_engine()
        name = f"proj-{sharing.run_id}"
        user_home = None if engine.is_root_inside else sharing.home.run(sharing.run_id) / "container-home"
        arguments, values = variable_options(container_variables(request, user_home), os.environ)
        argv = (*engine_argv(engine, name, request, os.environ), *arguments, *image_arguments(container, request.argv))
        if user_home:
            user_home.mkdir(parents=True, exist_ok=True)
        try:
            with container_note(sharing.home, engine, name) as note:
                process = _process(request, argv, {**os.environ, **values})
                outcome = _run(engine, name, process, note, request.prepared)
        finally:
            if user_home:
                remove_tree(user_home)
        _raise_if_refused(outcome, request, container)
        for notice in outcome_notices(outcome, request):
            report(notice)
        return outcome if engine.runs_below_us else _without_usage(outcome)


def engine_argv(engine: Engine, name: str, request: ExecutionRequest, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the command line of the engine up to the variables and the image.

    Raises:
        ExecutionError: the folder of a volume does not exist.
    """
    container, sharing = request.container, request.sharing
    if container is None or sharing is None:
        raise ExecutionError("a command can't run in a container without an image")
    options = dict(sharing.options)
    network = [] if options.keys() & set(_NETWORK) or not engine.shares_loopback else ["--network", "host"]
    gpus = gpu_options(engine, options.get("gpus") or container.gpus)
    return (
        *(engine.program, "run", "--rm", "--name", name, "--label", f"proj.run={sharing.run_id}"),
        # The engine's own log of the output would contain secrets.
        *("--log-driver", "none", *engine.init_options, *engine.user_options, *network, *_security()),
        *(("--interactive",) if _has_input(request) else ()),
        *("--workdir", str(request.cwd), *mount_options(sharing, request.cwd, container.volumes, environ)),
        *(*gpus, *custom_options(sharing.options)),
    )


def image_arguments(container: ContainerRun, argv: tuple[str, ...]) -> tuple[str, ...]:
    """Return the image and the command; an ENTRYPOINT that does not run its arguments is disabled."""
    return (*(() if container.keeps_entrypoint else ("--entrypoint", "")), container.image, *argv)


def check_options(options: tuple[tuple[str, str | None], ...]) -> None:
    """Check that the user sets no engine option of `RESERVED_OPTIONS`.

    Raises:
        UsageError: the user does.
    """
    taken = [name for name, _ in options if name in RESERVED_OPTIONS]
    if taken:
        raise UsageError(f"-A {taken[0]} is not allowed: proj itself starts, names and removes the container")


def custom_options(options: tuple[tuple[str, str | None], ...]) -> tuple[str, ...]:
    """Return the user's options as the engine takes them: ``-x`` for one letter, else ``--name``, as MLflow does."""
    arguments: list[str] = []
    for name, value in options:
        if name == "gpus":
            continue
        if len(name) == 1:
            arguments += [f"-{name}"] if value is None else [f"-{name}", value]
        else:
            arguments.append(f"--{name}" if value is None else f"--{name}={value}")
    return tuple(arguments)


def gpu_options(engine: Engine, gpus: str | None) -> tuple[str, ...]:
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


def container_variables(request: ExecutionRequest, user_home: Path | None) -> dict[str, str]:
    """Return the variables of the container: those of the command, without a PATH that is only the system's default.

    A user that the image does not know has no home in it; ``user_home`` becomes its home.
    """
    variables = dict(request.variables)
    if variables.get("PATH") == os.defpath:
        del variables["PATH"]
    if user_home:
        user = os.environ.get("USER") or str(os.geteuid())
        variables = {"HOME": str(user_home), "USER": user, "LOGNAME": user, **variables}
    return variables


def variable_options(
    variables: Mapping[str, str], environ: Mapping[str, str]
) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """Return the options that set variables, and the values that must be in the client's environment for that.

    The command line, which every user can read, has only names. The exception are variables that the client reads too.
    """
    arguments: list[str] = []
    values = {}
    for name, value in variables.items():
        if environ.get(name) != value and any(fnmatchcase(name, pattern) for pattern in _CLIENT_VARIABLES):
            arguments += ["--env", f"{name}={value}"]
        else:
            arguments += ["--env", name]
            values[name] = value
    return tuple(arguments), values


def _security() -> tuple[str, ...]:
    """Return the option that lets SELinux show mounted folders; relabelling would change the user's files."""
    return ("--security-opt", "label=disable") if Path("/sys/fs/selinux/enforce").exists() else ()


def _has_input(request: ExecutionRequest) -> bool:
    """Return whether stdin is something other than a terminal; the engine would take a terminal from proj."""
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
        dead_addresses=request.dead_addresses,
    )


def _run(engine: Engine, name: str, process: ProcessRequest, note: Path, prepared: SupervisorHandle | None) -> Outcome:
    """Run the client of the engine, then make sure that the container is removed."""
    is_gone = False
    try:
        outcome = run(process, prepared)
        # After a normal end the engine itself has removed it (--rm).
        is_gone = outcome.stopped_by is None and outcome.signal is None
    finally:
        if is_gone or remove_container(engine.kind, engine.program, name):
            note.unlink(missing_ok=True)
    return outcome


def _raise_if_refused(outcome: Outcome, request: ExecutionRequest, container: ContainerRun) -> None:
    """Check by the log whether the engine refused to start the container; a command may end with the same exit code.

    Raises:
        ExecutionError: the container was not started.
    """
    pattern = {_REFUSED_BY_ENGINE: _REFUSAL, 126: _NOT_STARTED, 127: _NOT_STARTED}.get(outcome.exit_code)
    if pattern is None or outcome.stopped_by or request.log is None:
        return
    try:
        last = request.log.read_text(encoding="utf-8", errors="replace")[-4000:].strip()
    except OSError:  # no log, as on a full disk: treat the exit code as the command's
        return
    if re.search(pattern, last, re.MULTILINE):
        hint = "Check the -A options, and `volumes` and `gpus` of docker_env."
        if container.gpus and re.search(_NO_GPU, last):
            hint = "The engine has no such GPU: leave `gpus` out of docker_env, or set up the engine for GPUs."
        raise ExecutionError(f"the container of '{container.name}' can't be started", context=last, hint=hint)


def _without_usage(outcome: Outcome) -> Outcome:
    """Remove the measured usage: it is that of the client, and the container runs below a daemon."""
    return structs.replace(outcome, user_seconds=0.0, system_seconds=0.0, peak_memory=None)
