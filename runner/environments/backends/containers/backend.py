"""The member that runs in an image: a container engine has it, fetches it or builds it."""

from typing import ClassVar

from runner.engine import ContainerRun, Engine, find_engine
from runner.environments.backends.containers.build import get_built, known_tag
from runner.environments.backends.containers.images import (
    Image,
    ImageContents,
    find_image,
    get_image,
    inspect_image,
    pinned_digest,
    without_tag,
)
from runner.environments.declare.containers.spec import read_container
from runner.environments.model import EnvironmentRequest, EnvironmentSpec, Lock, Prepared
from runner.errors import EnvironmentSetupError, ExecutionError
from runner.model import (
    ContainerSpec,
    EnvironmentDeclaration,
    EnvironmentKind,
    EnvironmentRecord,
    Event,
    EventKind,
    Report,
)

_UNREACHABLE = (
    "Containers of this engine have a network of their own and can't reach the server of their run: tracking clients "
    "fail there; PROJ_METRICS and the files under `metrics:` work"
)


class ContainerBackend:
    """Images of docker_env, by podman or docker."""

    name: ClassVar[str] = "container"

    def why_not(self, spec: EnvironmentSpec) -> str | None:
        """Say why this spec can't be had: it names no image, or there is no engine."""
        if spec.container is None:
            return "the project names no image: `docker_env` with `image` or `build` in the manifest does that"
        try:
            find_engine()
        except ExecutionError as error:
            return f"{error.message}: {error.context}. {error.hint}"
        return None

    def plan(self, request: EnvironmentRequest) -> EnvironmentRecord:
        """Return what is known of the image without fetching or building it."""
        (container, _), engine = _container(request), find_engine(request.environ)
        if container.build:
            name = known_tag(engine, container.build, request) or f"built from {container.build.file}"
        else:
            name = container.image
        image = find_image(engine, without_tag(name)) if " " not in name else None
        return _record(self.name, name, image, None)

    def lock(self, request: EnvironmentRequest, report: Report) -> Lock | None:
        """Return nothing: the id of an image says all that a lock would."""
        del request, report
        return None

    def prepare(self, request: EnvironmentRequest, lock: Lock | None, report: Report) -> Prepared:
        """Return the image, with what is in it; the command runs in exactly this one, whatever its name means later."""
        del lock
        (container, notices), engine = _container(request), find_engine(request.environ)
        for notice in notices:
            report(Event(kind=EventKind.NOTICE, message=notice))
        name, image = _get(engine, container, request, report)
        inside = inspect_image(engine, image, name, request)
        _tell(engine, container, inside, request, report)
        return Prepared(
            record=_record(self.name, name, image, inside),
            variables={variable: value for variable, value in container.environment if value is not None},
            container=ContainerRun(
                image=image.identity.partition(":")[2],
                name=name,
                shell=inside.shell,
                keeps_entrypoint=inside.keeps_entrypoint,
                volumes=container.volumes,
                gpus=container.gpus,
                copied=tuple(variable for variable, value in container.environment if value is None),
                import_path=inside.import_path,
            ),
        )


def _container(request: EnvironmentRequest) -> tuple[ContainerSpec, tuple[str, ...]]:
    """Return what is asked for, and what is not used of a devcontainer.json that nobody has read so far."""
    container = request.spec.container
    if container is None or request.files is None:
        raise EnvironmentSetupError("the project names no image")
    if container.image or container.build:
        return container, ()
    spec = read_container(EnvironmentDeclaration(kind=EnvironmentKind.DOCKER_ENV, container=container), request.files)
    return spec.container or container, spec.notices


def _get(engine: Engine, container: ContainerSpec, request: EnvironmentRequest, report: Report) -> tuple[str, Image]:
    if container.build:
        return get_built(engine, container.build, request, report)
    return container.image, get_image(engine, container.image, request, report)


def _record(manager: str, name: str, image: Image | None, inside: ImageContents | None) -> EnvironmentRecord:
    return EnvironmentRecord(
        manager=manager,
        python=inside.python if inside else None,
        digest=image.identity if image else None,
        platform=image.platform if image else None,
        packages=inside.packages if inside else (),
        image=name,
        image_digest=pinned_digest(name) or (image.digest if image else None),
    )


def _tell(
    engine: Engine, container: ContainerSpec, inside: ImageContents, request: EnvironmentRequest, report: Report
) -> None:
    """Say what is not as a reader of the manifest would expect."""
    absent = [name for name, value in container.environment if value is None and name not in request.environ]
    if absent:
        _warn(report, f"Not set here, so the container does not have them: {', '.join(absent)}")
    if inside.shell != "bash":
        _warn(report, f"The image has no bash; its {inside.shell} runs the command")
    if not inside.keeps_entrypoint:
        _warn(report, "The ENTRYPOINT of the image runs no command that is given to it, so it is left out")
    if not engine.has_init:
        _warn(report, "There is no init for containers (catatonit): a command that does not handle SIGTERM is killed")
    if not engine.runs_below_us:
        message = f"Processor time and memory are not measured: {engine.kind.value} keeps its containers out of reach"
        report(Event(kind=EventKind.NOTICE, message=message))
    if not engine.shares_loopback:
        _warn(report, _UNREACHABLE)


def _warn(report: Report, message: str) -> None:
    report(Event(kind=EventKind.WARNING, message=message))
