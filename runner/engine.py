"""The container engine of this machine: podman, else docker with a running daemon."""

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

CHOICE = "PROJ_CONTAINER_ENGINE"
"""The variable that names the engine: a program, or its path."""

_PATIENCE = 20.0
"""Seconds that a daemon may take to say what it is."""

INSTALL = (
    "Install podman (Debian and Ubuntu: `apt-get install podman catatonit uidmap slirp4netns fuse-overlayfs`; "
    "macOS: `brew install podman`, then `podman machine init --now`), or docker, and start its daemon."
)


class EngineKind(str, Enum):
    """The engines whose command line we speak."""

    PODMAN = "podman"
    DOCKER = "docker"


class Engine(Struct, frozen=True, kw_only=True):
    """A container engine that can be used."""

    kind: EngineKind
    program: str
    is_rootless: bool = False
    """It runs as the user: the root of a container is the user outside."""
    is_remapped: bool = False
    """The daemon gives containers other user ids unless they are told to have those of this machine."""
    is_here: bool = True
    """Containers share this machine's kernel, so they can have its network; not so where the engine has its own VM."""

    @property
    def shares_loopback(self) -> bool:
        """Say whether a container on the host's network reaches a server on our loopback address."""
        return self.is_here and not (self.kind is EngineKind.DOCKER and self.is_rootless)

    @property
    def runs_below_us(self) -> bool:
        """Say whether containers are descendants of the client, so that they are measured, and killed, with it."""
        return self.kind is EngineKind.PODMAN and self.is_here

    @property
    def has_init(self) -> bool:
        """Say whether there is an init for containers: docker brings one along, podman looks for catatonit."""
        if self.kind is EngineKind.DOCKER or not self.is_here:
            return True
        places = ("/usr/local/libexec/podman", "/usr/local/lib/podman", "/usr/libexec/podman", "/usr/lib/podman")
        return find_program("catatonit") is not None or any(Path(place, "catatonit").exists() for place in places)

    @property
    def user_words(self) -> tuple[str, ...]:
        """The options with which what a container writes belongs to the calling user."""
        if self.is_rootless and self.kind is EngineKind.DOCKER:
            return ("--user", "0:0")
        own = ("--user", f"{os.geteuid()}:{os.getegid()}")
        if self.is_rootless:
            return ("--userns", "keep-id", *own)
        return ("--userns", "host", *own) if self.is_remapped else own

    @property
    def is_root_inside(self) -> bool:
        """Say whether `user_words` make a command the root of its container, for whom images have a home."""
        return os.geteuid() == 0 or (self.is_rootless and self.kind is EngineKind.DOCKER)

    @property
    def init_words(self) -> tuple[str, ...]:
        """The option that passes signals on to the command and collects its orphans, where there is an init."""
        return ("--init",) if self.has_init else ()

    def ask(self, *words: str, timeout: float | None = 60.0) -> Completed:
        """Run a short command of the engine to its end; the exit code is the caller's to judge.

        Raises:
            ExecutionError: it can't be started or takes longer than ``timeout`` seconds.
        """
        return capture([self.program, *words], timeout=timeout)


class ContainerRun(Struct, frozen=True, kw_only=True):
    """An image that is there, and how a command runs in it.

    ``image`` is its id, which no later tag or pull changes; ``name`` is what the project calls it. ``shell`` is the one
    that the image has. Without ``keeps_entrypoint`` the image's ENTRYPOINT runs no command that is given to it, and is
    left out. ``copied`` are the variables that come from the caller.
    """

    image: str
    name: str
    shell: str = "bash"
    keeps_entrypoint: bool = True
    volumes: tuple[str, ...] = ()
    gpus: str | None = None
    copied: tuple[str, ...] = ()
    import_path: str = ""
    """The PYTHONPATH that the image itself sets."""


def find_engine(environ: Mapping[str, str] = os.environ) -> Engine:
    """Return the engine that the user names, else podman, else docker.

    Raises:
        ExecutionError: there is none that can be used; the text says what was looked for.
    """
    return _find(*(environ.get(name, "") for name in (CHOICE, "PATH", "DOCKER_HOST", "CONTAINER_HOST")))


@cache
def _find(named: str, path: str, docker_host: str, podman_host: str) -> Engine:
    """Return the engine; it is looked for once, as docker takes its time to answer."""
    environ = {"PATH": path, "DOCKER_HOST": docker_host, "CONTAINER_HOST": podman_host}
    names = (named,) if named else (EngineKind.PODMAN.value, EngineKind.DOCKER.value)
    reasons = []
    for name in names:
        found = _try(name, environ)
        if isinstance(found, Engine):
            return found
        reasons.append(found)
    where = f" ({CHOICE} names it)" if named else ""
    raise ExecutionError(f"There is no container engine{where}", context="; ".join(reasons), hint=INSTALL)


def _try(name: str, environ: Mapping[str, str]) -> Engine | str:
    """Return the engine of a name, or the reason why it can't be used."""
    program = find_program(name, environ.get("PATH"))
    if program is None:
        return f"'{name}' was not found on PATH"
    try:
        kind = _kind_of(program)
        if kind is None:
            return f"'{name}' is neither podman nor docker"
        return _look_at_podman(program, environ) if kind is EngineKind.PODMAN else _look_at_docker(program, environ)
    except ExecutionError as error:
        return error.message


def _kind_of(program: str) -> EngineKind | None:
    """Return what a program is: podman is often installed under docker's name, so a name is not enough."""
    name = Path(program).name
    if name == EngineKind.PODMAN.value:
        return EngineKind.PODMAN
    said = capture([program, "--version"], timeout=_PATIENCE).text.lower()
    return next((kind for kind in EngineKind if said.startswith(kind.value)), None)


def _look_at_podman(program: str, environ: Mapping[str, str]) -> Engine | str:
    address = environ.get("CONTAINER_HOST", "")
    if address and not address.startswith("unix:"):
        return f"podman is told to use another machine (CONTAINER_HOST={address}), which does not see our files"
    is_here = sys.platform == "linux" and not address
    if not is_here:
        done = capture([program, "info", "--format", "json"], timeout=_PATIENCE)
        if done.exit_code:
            return f"podman does not work: {_last_line(done.error_text)}"
    return Engine(kind=EngineKind.PODMAN, program=program, is_rootless=os.geteuid() != 0, is_here=is_here)


class _DockerInfo(Struct, rename="pascal"):
    """What ``docker info`` says; a client without a daemon leaves all of it out but ``ServerErrors``."""

    server_version: str = ""
    operating_system: str = ""
    security_options: tuple[str, ...] | None = None
    server_errors: tuple[str, ...] | None = None


def _look_at_docker(program: str, environ: Mapping[str, str]) -> Engine | str:
    address = environ.get("DOCKER_HOST", "")
    if address and not address.startswith(("unix:", "npipe:")):
        return f"docker is told to use another machine (DOCKER_HOST={address}), which does not see our files"
    done = capture([program, "info", "--format", "{{json .}}"], timeout=_PATIENCE)
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
    return lines[-1].strip() if lines else "it says nothing"
