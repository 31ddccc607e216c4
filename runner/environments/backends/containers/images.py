"""Finds, fetches and inspects container images."""

import os
from collections.abc import Sequence
from pathlib import Path
from signal import Signals

import msgspec
from msgspec import Struct

from runner.base.files import write_atomically
from runner.engine import Engine, EngineKind
from runner.environments.model import AnyRequest
from runner.errors import AbsentImageError, EnvironmentSetupError
from runner.model import Event, EventKind, Report
from runner.process import Completed, Echo, Interrupted, Outcome, ProcessRequest, Stdin, run

USUAL_REGISTRY = "docker.io"
"""The registry that docker uses for image names without one; podman asks the user or refuses."""
_NOT_THERE = ("no such image", "image not known", "no such object")
_MARK = "proj-shell:"
_PREFIX = "proj-python:"
_START_TIMEOUT = 600.0
"""Seconds for a first container: without overlays that map ids, podman copies the whole image for a new user."""
_LINES_SHOWN = 15
_NO_PROGRAM = (126, 127)
"""Exit codes of an engine whose container could not start its program."""

_QUERIES = r"""printf 'proj-shell:%s\n' "$(command -v bash || command -v sh)"
for name in python python3; do command -v "$name" >/dev/null 2>&1 && exec "$name" -c "$1"; done; exit 0
"""
_PYTHON = r"""
import json, os, platform, re, sys
found = set()
for folder in sys.path:
    for name in os.listdir(folder) if folder and os.path.isdir(folder) else ():
        match = re.match(r"(.+?)-(\d[^-]*?)(?:-py[\d.]+)?\.(?:dist-info|egg-info)$", name)
        if match:
            found.add(match.groups())
print("proj-python:" + json.dumps({"version": platform.python_version(), "packages": sorted(found),
                                    "import_path": os.environ.get("PYTHONPATH", "")}))
"""


class Image(Struct, frozen=True, kw_only=True):
    """An image on this machine: its id, its digests in registries, and its platform."""

    identity: str
    digests: tuple[str, ...] = ()
    platform: str | None = None
    has_entrypoint: bool = False

    @property
    def digest(self) -> str | None:
        """The first digest of the image in a registry."""
        return self.digests[0] if self.digests else None


class ImageContents(Struct, frozen=True, kw_only=True):
    """Facts about an image, found by running a command in it."""

    shell: str
    keeps_entrypoint: bool
    python: str | None = None
    packages: tuple[tuple[str, str], ...] = ()
    import_path: str = ""


class _Config(Struct, rename="pascal"):
    entrypoint: tuple[str, ...] | str | None = None


class _Inspected(Struct, rename="pascal"):
    id: str
    repo_digests: tuple[str, ...] | None = None
    digest: str | None = None
    os: str = "linux"
    architecture: str = ""
    config: _Config | None = None


class _Python(Struct):
    version: str
    packages: tuple[tuple[str, str], ...]
    import_path: str = ""


def find_image(engine: Engine, name: str) -> Image | None:
    """Return the image on this machine with a name or id, None if there is none.

    Raises:
        EnvironmentSetupError: the engine does not work.
    """
    done = engine.run("image", "inspect", name)
    if done.exit_code:
        if any(text in done.error_text.lower() for text in _NOT_THERE):
            return None
        raise EnvironmentSetupError(f"{engine.kind.value} can't inspect its images", context=done.error_text)
    found = msgspec.json.decode(done.stdout, type=list[_Inspected])[0]
    digests = [digest.rpartition("@")[2] for digest in found.repo_digests or ()]
    return Image(
        identity=f"sha256:{found.id.removeprefix('sha256:')}",
        digests=tuple(dict.fromkeys([*digests, *([found.digest] if found.digest else [])])),
        platform=f"{found.os}/{found.architecture}",
        has_entrypoint=bool(found.config and found.config.entrypoint),
    )


def get_image(engine: Engine, name: str, request: AnyRequest, report: Report) -> Image:
    """Return the image with a name, fetched from its registry if it is missing here.

    Raises:
        EnvironmentSetupError: it can't be fetched, or it does not have the digest in its name.
    """
    reference = without_tag(name)
    image = find_image(engine, reference) or _pull(engine, reference, request, report)
    pinned = pinned_digest(name)
    if pinned and pinned not in image.digests:
        raise EnvironmentSetupError(
            f"The image '{name}' does not have the digest in its name",
            context=f"its digests are {', '.join(image.digests) or 'unknown'}",
            hint=f"Remove it with `{engine.kind.value} image rm` and run again.",
        )
    return image


def pinned_digest(name: str) -> str | None:
    """Return the digest in the name of an image, as in ``python@sha256:…``."""
    digest = name.rpartition("@")[2]
    return digest if "@" in name and ":" in digest else None


def without_tag(name: str) -> str:
    """Return a name without the tag if it has a digest; podman refuses names with both."""
    if pinned_digest(name) is None:
        return name
    repository, _, digest = name.rpartition("@")
    folder, slash, last = repository.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}@{digest}"


def with_registry(name: str) -> str:
    """Return a name as docker completes it: ``python:3.11`` is ``docker.io/library/python:3.11``."""
    first, slash, _ = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"{USUAL_REGISTRY}/{name}" if slash else f"{USUAL_REGISTRY}/library/{name}"


def _pull(engine: Engine, name: str, request: AnyRequest, report: Report) -> Image:
    report(Event(kind=EventKind.STEP, message=f"Fetching the image {name}"))
    log = request.home.root / "images" / "pull.log"
    full_name = with_registry(name) if engine.kind is EngineKind.PODMAN else name
    outcome = run_tool([engine.program, "pull", full_name], request, log)
    image = find_image(engine, full_name) if outcome.exit_code == 0 else None
    if image is None:
        kind = EnvironmentSetupError if pinned_digest(name) else AbsentImageError
        raise kind(
            f"The image '{name}' is not on this machine and can't be fetched",
            context=last_lines(log),
            hint=f"Build it with `{engine.kind.value} build -t {name} FOLDER`, or set `build: FOLDER` in docker_env. "
            f"For a private registry, run `{engine.kind.value} login` first.",
        )
    return image


def run_tool(argv: Sequence[str], request: AnyRequest, log: Path) -> Outcome:
    """Run a long command of the engine, show its output as progress and write it to ``log``.

    Raises:
        Interrupted: a signal to proj stopped it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    outcome = run(
        ProcessRequest(
            argv=tuple(argv), cwd=log.parent, env=dict(request.environ), log=log, echo=Echo.STDERR, stdin=Stdin.NOTHING
        )
    )
    if outcome.stopped_by:
        raise Interrupted(Signals[outcome.stopped_by])
    return outcome


def last_lines(log: Path) -> str:
    """Return the last lines of a log, which usually have the error."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return "it output nothing"
    return "\n".join(line.rpartition("\r")[2] for line in lines[-_LINES_SHOWN:]) or "it output nothing"


def inspect_image(engine: Engine, image: Image, name: str, request: AnyRequest) -> ImageContents:
    """Return the shell and the Python of an image; the result is cached because an image never changes.

    Raises:
        EnvironmentSetupError: no command can run in it.
    """
    owner = f"{os.geteuid()}-{engine.kind.value}"
    cache = request.home.root / "images" / "inside" / f"{image.identity.partition(':')[2]}-{owner}.json"
    try:
        return msgspec.json.decode(cache.read_bytes(), type=ImageContents)
    except (OSError, msgspec.DecodeError):
        contents = _query_image(engine, image, name)
    write_atomically(cache, msgspec.json.encode(contents))
    return contents


def _query_image(engine: Engine, image: Image, name: str) -> ImageContents:
    done = _run_queries(engine, image)
    contents = _read_contents(done, keeps_entrypoint=True)
    if contents is None and image.has_entrypoint:
        done = _run_queries(engine, image, "--entrypoint", "")
        contents = _read_contents(done, keeps_entrypoint=False)
    if contents is None:
        raise _command_error(engine, name, done)
    return contents


def _command_error(engine: Engine, name: str, done: Completed) -> EnvironmentSetupError:
    context = done.error_text or f"exit code {done.exit_code}"
    if done.exit_code in _NO_PROGRAM:
        return EnvironmentSetupError(
            f"The image '{name}' can't run commands of projects: it has no shell",
            context=context,
            hint="Use an image that has bash or sh.",
        )
    return EnvironmentSetupError(
        f"No container can be started from the image '{name}'",
        context=context,
        hint=f"Try: {engine.kind.value} run --rm {name} sh -c 'echo it works'",
    )


def _run_queries(engine: Engine, image: Image, *options: str) -> Completed:
    return engine.run(
        *("run", "--rm", *engine.init_options, *engine.user_options, "--network", "none", *options),
        *(image.identity.partition(":")[2], "sh", "-c", _QUERIES, "sh", _PYTHON),
        timeout=_START_TIMEOUT,
    )


def _read_contents(done: Completed, *, keeps_entrypoint: bool) -> ImageContents | None:
    """Parse the output of the queries; an ENTRYPOINT may have printed lines before."""
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    output = {mark: line.removeprefix(mark) for line in lines for mark in (_MARK, _PREFIX) if line.startswith(mark)}
    shell = output.get(_MARK)
    if not shell:
        return None
    try:
        python = msgspec.json.decode(output.get(_PREFIX, ""), type=_Python)
    except msgspec.DecodeError:
        python = None
    return ImageContents(
        shell=shell.rpartition("/")[2],
        keeps_entrypoint=keeps_entrypoint,
        python=python.version if python else None,
        packages=python.packages if python else (),
        import_path=python.import_path if python else "",
    )
