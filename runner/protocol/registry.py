"""What clients send and are told of the registry; names of fields are those of MLflow's ``model_registry.proto``."""

from collections.abc import Callable

from msgspec import Struct

from runner.protocol import responses
from runner.protocol.requests import Limit, Request, Tag, Text
from runner.store import entities


class ModelName(Request, frozen=True, kw_only=True):
    """Name a registered model."""

    name: str


class CreateRegistered(ModelName, frozen=True, kw_only=True):
    """Ask for a new registered model."""

    tags: tuple[Tag, ...] = ()
    description: str | None = None


class RenameRegistered(ModelName, frozen=True, kw_only=True):
    """Ask for another name of a registered model."""

    new_name: str = ""


class DescribeRegistered(ModelName, frozen=True, kw_only=True):
    """Tell the description of a registered model."""

    description: str | None = None


class SetRegisteredTag(ModelName, frozen=True, kw_only=True):
    """Tell a tag of a registered model."""

    key: str
    value: str = ""


class DeleteRegisteredTag(ModelName, frozen=True, kw_only=True):
    """Ask for a tag of a registered model to go."""

    key: str


class SearchRegistry(Request, frozen=True, kw_only=True):
    """Ask for registered models or model versions."""

    filter: str | None = None
    max_results: Limit = 1000
    order_by: tuple[str, ...] = ()
    page_token: str | None = None


class LatestVersions(ModelName, frozen=True, kw_only=True):
    """Ask for the latest version of each stage."""

    stages: tuple[str, ...] = ()


class NameAlias(ModelName, frozen=True, kw_only=True):
    """Name a model version by an alias."""

    alias: str


class SetAlias(NameAlias, frozen=True, kw_only=True):
    """Tell which version an alias names."""

    version: Text


class CreateVersion(ModelName, frozen=True, kw_only=True):
    """Ask for a new model version."""

    source: str = ""
    run_id: str | None = None
    run_link: str | None = None
    model_id: str | None = None
    description: str | None = None
    tags: tuple[Tag, ...] = ()


class VersionName(ModelName, frozen=True, kw_only=True):
    """Name a model version."""

    version: Text


class DescribeVersion(VersionName, frozen=True, kw_only=True):
    """Tell the description of a model version."""

    description: str | None = None


class MoveVersion(VersionName, frozen=True, kw_only=True):
    """Ask for another stage of a model version."""

    stage: str
    archive_existing_versions: bool = False


class SetVersionTag(VersionName, frozen=True, kw_only=True):
    """Tell a tag of a model version."""

    key: str
    value: str = ""


class DeleteVersionTag(VersionName, frozen=True, kw_only=True):
    """Ask for a tag of a model version to go."""

    key: str


class AliasShape(Struct, frozen=True, kw_only=True):
    """An alias as it travels."""

    alias: str
    version: str


class VersionShape(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model version as it travels."""

    name: str
    version: str
    creation_timestamp: int
    last_updated_timestamp: int
    current_stage: str
    source: str
    status: str
    description: str | None = None
    run_id: str | None = None
    run_link: str | None = None
    model_id: str | None = None
    tags: tuple[Tag, ...] = ()
    aliases: tuple[str, ...] = ()


class RegisteredShape(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A registered model as it travels."""

    name: str
    creation_timestamp: int
    last_updated_timestamp: int
    description: str | None = None
    latest_versions: tuple[VersionShape, ...] = ()
    tags: tuple[Tag, ...] = ()
    aliases: tuple[AliasShape, ...] = ()


def version_response(found: entities.ModelVersion, uri_for_client: Callable[[str], str]) -> VersionShape:
    """Return the response for a model version; its status is READY at once, because its files stay where they were."""
    return VersionShape(
        name=found.name,
        version=str(found.version),
        creation_timestamp=found.created_at,
        last_updated_timestamp=found.updated_at,
        current_stage=found.stage.value,
        source=uri_for_client(found.source),
        status="READY",
        description=found.description,
        run_id=found.run_id,
        run_link=found.run_link,
        model_id=found.model_id,
        tags=responses.tags(found.tags),
        aliases=found.aliases,
    )


def model_response(found: entities.RegisteredModel, uri_for_client: Callable[[str], str]) -> RegisteredShape:
    """Return the response for a registered model."""
    return RegisteredShape(
        name=found.name,
        creation_timestamp=found.created_at,
        last_updated_timestamp=found.updated_at,
        description=found.description,
        latest_versions=tuple(version_response(version, uri_for_client) for version in found.latest),
        tags=responses.tags(found.tags),
        aliases=tuple(AliasShape(alias=alias, version=str(version)) for alias, version in found.aliases.items()),
    )
