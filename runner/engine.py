"""Finds the container engine of this machine: podman, else docker with a running daemon."""

import os
import sys
from collections.abc import Mapping
from enum import Enum
from functools import cache
from pathlib import Path

import msgspec
from msgspec import Struct

from runner.errors import ExecutionError
from runner.process import Completed, capture, find_program

ENGINE_VARIABLE = "PROJ_CONTAINER_ENGINE"
"""The environment variable with the engine: the name of a program, or its path."""

_DAEMON_TIMEOUT = 20.0
"""Seconds for a daemon to answer."""

INSTALL = (
    "Install podman (Debian and Ubuntu: `apt-get install podman catatonit uidmap slirp4netns fuse-overlayfs`; "
    "macOS: `brew install podman`, then `podman machine init --now`), or docker, and start its daemon."
)


class EngineKind(str, Enum):
    """The supported engines."""

    PODMAN = "podman"
    DOCKER = "docker"


class Engine(Struct, frozen=True, kw_only=True):
    """A container engine that works."""

    kind: EngineKind
    program: str
    is_rootless: bool = False
    """Whether it runs as the user: root in a container is the user outside."""
    is_remapped: bool = False
    """Whether the daemon maps user ids of containers to others unless an option turns that off."""
    is_here: bool = True
    """Whether containers share this machine's kernel and so can use its network; false if the engine runs in a VM."""

    @property
    def shares_loopback(self) -> bool:
        """Whether a container on the host's network reaches a server on this machine's loopback address."""
        return self.is_here and not (self.kind is EngineKind.DOCKER and self.is_rootless)

    @property
    def runs_below_us(self) -> bool:
        """Whether containers are descendants of the client, so that proj measures and kills them with it."""
        return self.kind is EngineKind.PODMAN and self.is_here

    @property
    def has_init(self) -> bool:
        """Whether an init program for containers is installed: docker includes one, podman searches for catatonit."""
        if self.kind is EngineKind.DOCKER or not self.is_here:
            return True
        folders = ("/usr/local/libexec/podman", "/usr/local/lib/podman", "/usr/libexec/podman", "/usr/lib/podman")
        return find_program("catatonit") is not None or any(Path(folder, "catatonit").exists() for folder in folders)

    @property
    def user_options(self) -> tuple[str, ...]:
        """The options that make the calling user the owner of the files that a container writes."""
        if self.is_rootless and self.kind is EngineKind.DOCKER:
            return ("--user", "0:0")
        own = ("--user", f"{os.geteuid()}:{os.getegid()}")
        if self.is_rootless:
            return ("--userns", "keep-id", *own)
        return ("--userns", "host", *own) if self.is_remapped else own

    @property
    def is_root_inside(self) -> bool:
        """Whether a command with `user_options` is root in its container; images have a home folder for root."""
        return os.geteuid() == 0 or (self.is_rootless and self.kind is EngineKind.DOCKER)

    @property
    def init_options(self) -> tuple[str, ...]:
        """The option for an init that forwards signals to the command and reaps its orphans, if one is installed."""
        return ("--init",) if self.has_init else ()

    def run(self, *arguments: str, timeout: float | None = 60.0) -> Completed:
        """Run a short command of the engine to its end, whatever its exit code.

        Raises:
            ExecutionError: it can't be started or takes longer than ``timeout`` seconds.
        """
        return capture([self.program, *arguments], timeout=timeout)


class ContainerRun(Struct, frozen=True, kw_only=True):
    """An image on this machine, and how a command runs in it.

    ``image`` is its id, which no later tag or pull changes; ``name`` is its name in the project. ``shell`` is the shell
    of the image. If ``keeps_entrypoint`` is false, the image's ENTRYPOINT does not run its arguments and is disabled.
    ``copied`` are the names of the variables that are copied from the caller.
    """

    image: str
    name: str
    shell: str = "bash"
    keeps_entrypoint: bool = True
    volumes: tuple[str, ...] = ()
    gpus: str | None = None
    copied: tuple[str, ...] = ()
    import_path: str = ""
    """The PYTHONPATH that the image sets."""


def find_engine(environ: Mapping[str, str] = os.environ) -> Engine:
    """Return the engine that `ENGINE_VARIABLE` names, else podman, else docker.

    Raises:
        ExecutionError: none of them works; the message has the reason for each.
    """
    return _find(*(environ.get(name, "") for name in (ENGINE_VARIABLE, "PATH", "DOCKER_HOST", "CONTAINER_HOST")))


@cache
def _find(named: str, path: str, docker_host: str, podman_host: str) -> Engine:
    """Return the engine; the result is cached because docker answers slowly."""
    environ = {"PATH": path, "DOCKER_HOST": docker_host, "CONTAINER_HOST": podman_host}
    names = (named,) if named else (EngineKind.PODMAN.value, EngineKind.DOCKER.value)
    reasons = []
    for name in names:
        found = _probe(name, environ)
        if isinstance(found, Engine):
            return found
        reasons.append(found)
    where = f" ({ENGINE_VARIABLE} names it)" if named else ""
    raise ExecutionError(f"No container engine was found{where}", context="; ".join(reasons), hint=INSTALL)


def _probe(name: str, environ: Mapping[str, str]) -> Engine | str:
    """Return the engine with a name, or the reason why it does not work."""
    program = find_program(name, environ.get("PATH"))
    if program is None:
        return f"'{name}' was not found on PATH"
    try:
        kind = _kind_of(program)
        if kind is None:
            return f"'{name}' is neither podman nor docker"
        return _probe_podman(program, environ) if kind is EngineKind.PODMAN else _probe_docker(program, environ)
    except ExecutionError as error:
        return error.message


def _kind_of(program: str) -> EngineKind | None:
    """Return the kind of a program, None if unknown; podman is often installed under docker's name."""
    name = Path(program).name
    if name == EngineKind.PODMAN.value:
        return EngineKind.PODMAN
    version = capture([program, "--version"], timeout=_DAEMON_TIMEOUT).text.lower()
    return next((kind for kind in EngineKind if version.startswith(kind.value)), None)


def _probe_podman(program: str, environ: Mapping[str, str]) -> Engine | str:
    address = environ.get("CONTAINER_HOST", "")
    if address and not address.startswith("unix:"):
        return f"CONTAINER_HOST={address} makes podman use another machine, which can't read this machine's files"
    is_here = sys.platform == "linux" and not address
    if not is_here:
        done = capture([program, "info", "--format", "json"], timeout=_DAEMON_TIMEOUT)
        if done.exit_code:
            return f"podman does not work: {_last_line(done.error_text)}"
    return Engine(kind=EngineKind.PODMAN, program=program, is_rootless=os.geteuid() != 0, is_here=is_here)


class _DockerInfo(Struct, rename="pascal"):
    """The output of ``docker info``; without a daemon it has only ``ServerErrors``."""

    server_version: str = ""
    operating_system: str = ""
    security_options: tuple[str, ...] | None = None
    server_errors: tuple[str, ...] | None = None


def _probe_docker(program: str, environ: Mapping[str, str]) -> Engine | str:
    address = environ.get("DOCKER_HOST", "")
    if address and not address.startswith("unix:"):
        return f"DOCKER_HOST={address} makes docker use another machine, which can't read this machine's files"
    done = capture([program, "info", "--format", "{{json .}}"], timeout=_DAEMON_TIMEOUT)
    try:
        info = msgspec.json.decode(done.stdout, type=_DockerInfo)
    except msgspec.DecodeError:
        return f"docker does not work: {_last_line(done.error_text)}"
    if not info.server_version:
        return f"docker has no running daemon: {'; '.join(info.server_errors or ()) or _last_line(done.error_text)}"
    options = info.security_options or ()
    return Engine(
        kind=EngineKind.DOCKER,
        program=program,
        is_rootless=any("name=rootless" in option for option in options),
        is_remapped=any("name=userns" in option for option in options),
        is_here=sys.platform == "linux" and "Docker Desktop" not in info.operating_system,
    )


def _last_line(text: str) -> str:
    lines = text.splitlines()
    return lines[-1].strip() if lines else "it printed nothing"
