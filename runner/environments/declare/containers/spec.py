"""Reads the declaration of a container: ``docker_env`` and the devcontainer.json that it may name.

The format: https://containers.dev/implementors/json_reference/
"""

import posixpath
import re

from msgspec import Struct, structs

from runner.base.foreign_text import SMALL, ForeignTextError, decode_text, parse_json_as
from runner.environments.specs import ImageSpec
from runner.errors import EnvironmentSetupError
from runner.model import ContainerSpec, EnvironmentDeclaration, ImageBuild, ProjectFiles

DEVCONTAINERS = (".devcontainer/devcontainer.json", ".devcontainer.json")
"""The paths where a devcontainer.json is searched."""
BUILD_FILES = ("Containerfile", "Dockerfile")
"""The file names that are tried in the context, in this order, as by podman."""
_TEXT = r'("(?:\\.|[^"\\])*(?:"|\Z))'
_FROM_CALLER = re.compile(r"\$\{localEnv:(\w+)\}")


class _Build(Struct, rename="camel"):
    dockerfile: str | None = None
    context: str | None = None
    args: dict[str, str] = {}
    target: str | None = None


class _Devcontainer(Struct, rename="camel"):
    image: str | None = None
    build: _Build | None = None
    docker_file: str | None = None
    context: str | None = None
    docker_compose_file: object = None
    container_env: dict[str, str] = {}
    remote_env: dict[str, str | None] = {}
    features: object = None
    run_args: object = None
    mounts: object = None
    on_create_command: object = None
    post_create_command: object = None
    post_start_command: object = None


_NOT_USED = ("features", "run_args", "mounts", "on_create_command", "post_create_command", "post_start_command")


def read_container(declaration: EnvironmentDeclaration, files: ProjectFiles) -> ImageSpec:
    """Return the spec of a ``docker_env``, completed from the devcontainer.json that it names.

    Raises:
        EnvironmentSetupError: a file that it names does not exist or is invalid.
    """
    container = declaration.container
    notices: tuple[str, ...] = ()
    path = declaration.path or (container.devcontainer if container else None)
    if path:
        container, notices = read_devcontainer(path, files, container)
    if container and container.build:
        file = build_file(container.build, files)
        container = structs.replace(container, build=structs.replace(container.build, file=file))
    return ImageSpec(file=path, container=container or ContainerSpec(), notices=notices)


def build_file(build: ImageBuild, files: ProjectFiles) -> str:
    """Return the path of the Dockerfile or Containerfile.

    Raises:
        EnvironmentSetupError: the project has none.
    """
    names = [build.file] if build.file else [posixpath.join(build.context, name) for name in BUILD_FILES]
    names = [posixpath.normpath(name) for name in names]
    found = next((name for name in names if files.read(name) is not None), None)
    if found is None:
        raise EnvironmentSetupError(
            f"docker_env builds an image, and the project has no {' or '.join(names)}",
            hint="`build` is a folder with a Dockerfile, or a mapping of `context` and `dockerfile`; the file must not "
            "be ignored by git.",
        )
    return found


def find_devcontainer(files: ProjectFiles) -> ContainerSpec | None:
    """Return the development container of a project. It is used only on request, never by default."""
    names = files.names()
    for path in DEVCONTAINERS:
        folder, _, name = path.rpartition("/")
        if (f"{folder}/" if folder else name) in names and files.read(path) is not None:
            return ContainerSpec(devcontainer=path)
    return None


def read_devcontainer(
    path: str, files: ProjectFiles, declared: ContainerSpec | None = None
) -> tuple[ContainerSpec, tuple[str, ...]]:
    """Return the container in a devcontainer.json and notices about unused keys; ``declared`` takes precedence.

    Raises:
        EnvironmentSetupError: the file does not exist, can't be read, or names neither image nor Dockerfile.
    """
    content = files.read(path)
    if content is None:
        raise EnvironmentSetupError(f"the file '{path}' does not exist")
    try:
        found = parse_json_as(without_comments(decode_text(content)[: SMALL.size + 1]), _Devcontainer)
    except ForeignTextError as error:
        raise EnvironmentSetupError(f"'{path}' can't be read", context=str(error)) from None
    declared = declared or ContainerSpec()
    build = declared.build or _build_of(found, posixpath.dirname(path))
    image = declared.image or found.image or ""
    if not image and build is None:
        why = "a compose file, which can't be used" if found.docker_compose_file else "neither `image` nor `build`"
        raise EnvironmentSetupError(f"'{path}' names {why}", hint="Name an image in docker_env.")
    environment, left_out = _variables({**found.container_env, **found.remote_env})
    unused = [*(name for name in _NOT_USED if getattr(found, name)), *left_out]
    notices = (f"Not used of {path}: {', '.join(_camel(name) for name in unused)}",) if unused else ()
    own = {name for name, _ in declared.environment}
    environment = tuple(pair for pair in environment if pair[0] not in own)
    return structs.replace(
        declared, image=image, build=None if image else build, environment=(*environment, *declared.environment)
    ), notices


def without_comments(text: str) -> str:
    """Convert JSON with comments and trailing commas to plain JSON."""
    text = re.sub(rf"{_TEXT}|//[^\n]*|/\*.*?(?:\*/|\Z)", lambda match: match[1] or " ", text, flags=re.DOTALL)
    return re.sub(rf"{_TEXT}|,(?=\s*[}}\]])", lambda match: match[1] or "", text)


def _build_of(found: _Devcontainer, folder: str) -> ImageBuild | None:
    build = found.build or _Build()
    file = build.dockerfile or found.docker_file
    if file is None:
        return None
    context = build.context or found.context or "."
    return ImageBuild(
        context=posixpath.normpath(posixpath.join(folder, context)),
        file=posixpath.normpath(posixpath.join(folder, file)),
        arguments=tuple(build.args.items()),
        target=build.target,
    )


def _variables(found: dict[str, str | None]) -> tuple[tuple[tuple[str, str | None], ...], list[str]]:
    """Return the variables that can be set, and the names of those whose values only an editor can provide."""
    environment: list[tuple[str, str | None]] = []
    left_out = []
    for name, value in found.items():
        copied = _FROM_CALLER.fullmatch(value or "")
        if copied and copied[1] == name:
            environment.append((name, None))
        elif value is None or "${" in value:
            left_out.append(name)
        else:
            environment.append((name, value))
    return tuple(environment), left_out


def _camel(name: str) -> str:
    if name.isupper():
        return name
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
