"""The `container` backend: fetches or builds an image in which the command runs."""

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
from runner.environments.backends.contract import EnvironmentBackend
from runner.environments.declare.containers.spec import read_container
from runner.environments.model import AnyRequest, BackendCapabilities, Lock, Prepared
from runner.environments.specs import EnvironmentSpec
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
    "Containers of this engine can't reach the tracking server of the run, as they have their own network: tracking "
    "clients fail; PROJ_METRICS and the files under `metrics:` work"
)


class ContainerBackend(EnvironmentBackend):
    """Images of docker_env, provided by podman or docker."""

    name: ClassVar[str] = "container"
    capabilities: ClassVar = BackendCapabilities(provides_images=True)

    def why_not(self, spec: EnvironmentSpec) -> str | None:
        """Return the reason why there is no image for a spec: none is declared, or no engine works."""
        if spec.container in (None, ContainerSpec()):
            return "the project declares no image: set `image` or `build` of `docker_env` in the manifest"
        try:
            find_engine()
        except ExecutionError as error:
            return f"{error.message}: {error.context}. {error.hint}"
        return None

    def plan(self, request: AnyRequest) -> EnvironmentRecord:
        """Return the record of the image, as far as known without fetching or building it."""
        (container, _), engine = _container(request), find_engine(request.environ)
        if container.build:
            name = known_tag(engine, container.build, request) or f"built from {container.build.file}"
        else:
            name = container.image
        image = find_image(engine, without_tag(name)) if " " not in name else None
        return _record(self.name, name, image, None)

    def lock(self, request: AnyRequest, report: Report) -> Lock | None:
        """Return None: the id of an image identifies it."""
        del request, report
        return None

    def prepare(self, request: AnyRequest, lock: Lock | None, report: Report) -> Prepared:
        """Return the image and its contents; the command runs in this image even if its name is reused later."""
        del lock
        (container, notices), engine = _container(request), find_engine(request.environ)
        for notice in notices:
            report(Event(kind=EventKind.NOTICE, message=notice))
        name, image = _get(engine, container, request, report)
        contents = inspect_image(engine, image, name, request)
        _warn_of_limits(engine, container, contents, request, report)
        return Prepared(
            record=_record(self.name, name, image, contents),
            variables={variable: value for variable, value in container.environment if value is not None},
            container=ContainerRun(
                image=image.identity.partition(":")[2],
                name=name,
                shell=contents.shell,
                keeps_entrypoint=contents.keeps_entrypoint,
                volumes=container.volumes,
                gpus=container.gpus,
                copied=tuple(variable for variable, value in container.environment if value is None),
                import_path=contents.import_path,
            ),
        )


def _container(request: AnyRequest) -> tuple[ContainerSpec, tuple[str, ...]]:
    """Return the declared container, and notices about unused keys of a devcontainer.json that was not read before."""
    container = request.spec.container
    if container is None or request.files is None:
        raise EnvironmentSetupError("the project declares no image")
    if container.image or container.build:
        return container, ()
    spec = read_container(EnvironmentDeclaration(kind=EnvironmentKind.DOCKER_ENV, container=container), request.files)
    return spec.container, spec.notices


def _get(engine: Engine, container: ContainerSpec, request: AnyRequest, report: Report) -> tuple[str, Image]:
    if container.build:
        return get_built(engine, container.build, request, report)
    return container.image, get_image(engine, container.image, request, report)


def _record(manager: str, name: str, image: Image | None, contents: ImageContents | None) -> EnvironmentRecord:
    return EnvironmentRecord(
        manager=manager,
        python=contents.python if contents else None,
        digest=image.identity if image else None,
        platform=image.platform if image else None,
        packages=contents.packages if contents else (),
        image=name,
        image_digest=pinned_digest(name) or (image.digest if image else None),
    )


def _warn_of_limits(
    engine: Engine, container: ContainerSpec, contents: ImageContents, request: AnyRequest, report: Report
) -> None:
    """Report where the container behaves differently from what the manifest suggests."""
    absent = [name for name, value in container.environment if value is None and name not in request.environ]
    if absent:
        _warn(report, f"Variables of docker_env that are not set and not passed to the container: {', '.join(absent)}")
    if contents.shell != "bash":
        _warn(report, f"The image has no bash; its {contents.shell} runs the command")
    if not contents.keeps_entrypoint:
        _warn(report, "The ENTRYPOINT of the image does not run its arguments, so it is disabled")
    if not engine.has_init:
        _warn(
            report,
            "No init program for containers (catatonit) is installed: a command without a SIGTERM handler is killed",
        )
    if not engine.runs_below_us:
        message = f"Processor time and memory are not measured: {engine.kind.value} runs containers in a daemon or VM"
        report(Event(kind=EventKind.NOTICE, message=message))
    if not engine.shares_loopback:
        _warn(report, _UNREACHABLE)


def _warn(report: Report, message: str) -> None:
    report(Event(kind=EventKind.WARNING, message=message))
