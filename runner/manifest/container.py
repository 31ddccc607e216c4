"""Parses ``docker_env``: MLflow's keys, and ``build``, ``devcontainer`` and ``gpus``, which MLflow ignores."""

from posixpath import join, normpath

from runner.manifest.document import Kind, Node, text_of
from runner.manifest.faults import Faults
from runner.model import ContainerSpec, ImageBuild

PAIR = 2


def read_docker_env(node: Node, faults: Faults) -> ContainerSpec | None:
    """Return the container that a ``docker_env`` declares, or None if the declaration is invalid."""
    if node.kind is not Kind.MAPPING:
        faults.error(node.position, "'docker_env' must be a mapping with an 'image'")
        return None
    image, build = node.field("image"), _build(node.field("build"), faults)
    devcontainer = _text("devcontainer", node.field("devcontainer"), faults)
    has_image = image is not None and not is_empty(image) and image.kind is Kind.SCALAR
    if not (has_image or build or devcontainer):
        hint = "for example image: python:3.11, or build: . for the Dockerfile of the project"
        faults.error(node.position, "'docker_env' needs an 'image'", hint)
        return None
    return ContainerSpec(
        image=text_of(image) if image is not None and has_image else "",
        volumes=_volumes(node.field("volumes"), faults),
        environment=_variables(node.field("environment"), faults),
        build=build,
        devcontainer=devcontainer and normpath(devcontainer),
        gpus=_text("gpus", node.field("gpus"), faults),
    )


def is_empty(node: Node) -> bool:
    """Return whether MLflow treats a key with this value as absent: any value that is false in Python."""
    if node.kind is Kind.SCALAR:
        return not node.value and node.problem is None
    return not (node.items or node.fields)


def _text(name: str, node: Node | None, faults: Faults) -> str | None:
    if node is None or is_empty(node):
        return None
    if node.kind is not Kind.SCALAR:
        faults.warning(node.position, f"'{name}' of 'docker_env' is not a text, so it is not used")
        return None
    return text_of(node)


def _build(node: Node | None, faults: Faults) -> ImageBuild | None:
    """Parse a build in the form of compose files: the context folder, or a mapping."""
    if node is None or is_empty(node):
        return None
    if node.is_text:
        return ImageBuild(context=normpath(node.source))
    if node.kind is not Kind.MAPPING:
        hint = "it is a folder with a Dockerfile, or a mapping of context, dockerfile, args and target"
        faults.warning(
            node.position, "'build' of 'docker_env' is neither a folder nor a mapping, so it is not used", hint
        )
        return None
    context = normpath(_text("context", node.field("context"), faults) or ".")
    file = _text("dockerfile", node.field("dockerfile"), faults)
    return ImageBuild(
        context=context,
        file=normpath(join(context, file)) if file else None,
        arguments=_arguments(node.field("args"), faults),
        target=_text("target", node.field("target"), faults),
    )


def _arguments(node: Node | None, faults: Faults) -> tuple[tuple[str, str], ...]:
    if node is None or is_empty(node):
        return ()
    if node.kind is not Kind.MAPPING or not all(field.value.kind is Kind.SCALAR for field in node.fields.values()):
        faults.warning(node.position, "'args' of 'build' is not a mapping of texts, so it is not used")
        return ()
    return tuple((name, text_of(field.value)) for name, field in node.fields.items())


def _volumes(node: Node | None, faults: Faults) -> tuple[str, ...]:
    if node is None:
        return ()
    if node.kind is not Kind.LIST or not all(item.is_text for item in node.items):
        faults.error(
            node.position, "'volumes' of 'docker_env' must be a list of texts", 'for example ["/data:/data:ro"]'
        )
        return ()
    return tuple(item.source for item in node.items)


def _variables(node: Node | None, faults: Faults) -> tuple[tuple[str, str | None], ...]:
    if node is None:
        return ()
    if node.kind is not Kind.LIST or not all(_is_variable(item) for item in node.items):
        faults.error(
            node.position,
            "'environment' of 'docker_env' must be a list of names to copy and of [name, value] pairs",
            'for example ["HOME", ["MODE", "train"]]',
        )
        return ()
    return tuple(
        (item.source, None) if item.is_text else (text_of(item.items[0]), text_of(item.items[1])) for item in node.items
    )


def _is_variable(node: Node) -> bool:
    pair = node.kind is Kind.LIST and len(node.items) == PAIR
    return node.is_text or (pair and all(item.kind is Kind.SCALAR for item in node.items))
