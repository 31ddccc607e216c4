"""Defines the requests and responses of the registry; field names are those of MLflow's ``model_registry.proto``."""

from collections.abc import Callable

from msgspec import Struct

from runner.protocol import responses
from runner.protocol.requests import Limit, Request, Tag, Text
from runner.store import entities


class ModelName(Request, frozen=True, kw_only=True):
    """Identify a registered model by its name."""

    name: str


class CreateRegistered(ModelName, frozen=True, kw_only=True):
    """Create a registered model."""

    tags: tuple[Tag, ...] = ()
    description: str | None = None


class RenameRegistered(ModelName, frozen=True, kw_only=True):
    """Rename a registered model."""

    new_name: str = ""


class DescribeRegistered(ModelName, frozen=True, kw_only=True):
    """Replace the description of a registered model."""

    description: str | None = None


class SetRegisteredTag(ModelName, frozen=True, kw_only=True):
    """Set a tag of a registered model."""

    key: str
    value: str = ""


class DeleteRegisteredTag(ModelName, frozen=True, kw_only=True):
    """Remove a tag of a registered model."""

    key: str


class SearchRegistry(Request, frozen=True, kw_only=True):
    """Search registered models or model versions."""

    filter: str | None = None
    max_results: Limit = 1000
    order_by: tuple[str, ...] = ()
    page_token: str | None = None


class LatestVersions(ModelName, frozen=True, kw_only=True):
    """Get the latest version of each stage."""

    stages: tuple[str, ...] = ()


class NameAlias(ModelName, frozen=True, kw_only=True):
    """Identify a model version by an alias."""

    alias: str


class SetAlias(NameAlias, frozen=True, kw_only=True):
    """Set the version that an alias refers to."""

    version: Text


class CreateVersion(ModelName, frozen=True, kw_only=True):
    """Create a model version."""

    source: str = ""
    run_id: str | None = None
    run_link: str | None = None
    model_id: str | None = None
    description: str | None = None
    tags: tuple[Tag, ...] = ()


class VersionName(ModelName, frozen=True, kw_only=True):
    """Identify a model version by its number."""

    version: Text


class DescribeVersion(VersionName, frozen=True, kw_only=True):
    """Replace the description of a model version."""

    description: str | None = None


class MoveVersion(VersionName, frozen=True, kw_only=True):
    """Move a model version to another stage."""

    stage: str
    archive_existing_versions: bool = False


class SetVersionTag(VersionName, frozen=True, kw_only=True):
    """Set a tag of a model version."""

    key: str
    value: str = ""


class DeleteVersionTag(VersionName, frozen=True, kw_only=True):
    """Remove a tag of a model version."""

    key: str


class AliasSchema(Struct, frozen=True, kw_only=True):
    """An alias in a response."""

    alias: str
    version: str


class VersionSchema(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model version in a response."""

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


class RegisteredSchema(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A registered model in a response."""

    name: str
    creation_timestamp: int
    last_updated_timestamp: int
    description: str | None = None
    latest_versions: tuple[VersionSchema, ...] = ()
    tags: tuple[Tag, ...] = ()
    aliases: tuple[AliasSchema, ...] = ()


def version_response(found: entities.ModelVersion, uri_for_client: Callable[[str], str]) -> VersionSchema:
    """Return the response for a model version; its status is always READY, because its files are not copied."""
    return VersionSchema(
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


def model_response(found: entities.RegisteredModel, uri_for_client: Callable[[str], str]) -> RegisteredSchema:
    """Return the response for a registered model."""
    return RegisteredSchema(
        name=found.name,
        creation_timestamp=found.created_at,
        last_updated_timestamp=found.updated_at,
        description=found.description,
        latest_versions=tuple(version_response(version, uri_for_client) for version in found.latest),
        tags=responses.tags(found.tags),
        aliases=tuple(AliasSchema(alias=alias, version=str(version)) for alias, version in found.aliases.items()),
    )
