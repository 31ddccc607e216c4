"""The endpoints for registered models and their versions."""

from runner.protocol.registry import (
    CreateRegistered,
    CreateVersion,
    DeleteRegisteredTag,
    DeleteVersionTag,
    DescribeRegistered,
    DescribeVersion,
    LatestVersions,
    ModelName,
    MoveVersion,
    NameAlias,
    RenameRegistered,
    SearchRegistry,
    SetAlias,
    SetRegisteredTag,
    SetVersionTag,
    VersionName,
    model_response,
    version_response,
)
from runner.server.api.sources import check_link
from runner.server.api.tracking import Route, Tracking
from runner.store import registry, registry_search, versions
from runner.store.entities import ModelVersion, NewVersion, RegisteredModel
from runner.store.registry_search import RegistryQuery


def create(tracking: Tracking, asked: CreateRegistered) -> object:
    """Make a registered model."""
    tags = {tag.key: tag.value for tag in asked.tags}
    return _model(tracking, registry.create(tracking.database, asked.name, asked.description, tags))


def get(tracking: Tracking, asked: ModelName) -> object:
    """Tell of a registered model."""
    return _model(tracking, registry.get(tracking.database, asked.name))


def rename(tracking: Tracking, asked: RenameRegistered) -> object:
    """Give a registered model another name."""
    return _model(tracking, registry.rename(tracking.database, asked.name, asked.new_name))


def describe(tracking: Tracking, asked: DescribeRegistered) -> object:
    """Replace the description of a registered model."""
    return _model(tracking, registry.describe(tracking.database, asked.name, asked.description))


def delete(tracking: Tracking, asked: ModelName) -> object:
    """Remove a registered model with its versions."""
    registry.delete(tracking.database, asked.name)
    tracking.session.removed(f"the registered model '{asked.name}'")
    return {}


def search(tracking: Tracking, asked: SearchRegistry) -> object:
    """Tell which registered models there are, a page at a time."""
    page = registry_search.search_models(tracking.database, _query(asked))
    found = [model_response(model, tracking.session.uri_told) for model in page.items]
    return {"registered_models": found, **_next(page.next_page_token)}


def latest_versions(tracking: Tracking, asked: LatestVersions) -> object:
    """Tell the latest version of each stage."""
    found = registry.latest_versions(tracking.database, asked.name, asked.stages)
    return {"model_versions": [version_response(version, tracking.session.uri_told) for version in found]}


def set_tag(tracking: Tracking, asked: SetRegisteredTag) -> object:
    """Set a tag of a registered model."""
    registry.set_tag(tracking.database, asked.name, asked.key, asked.value)
    return {}


def delete_tag(tracking: Tracking, asked: DeleteRegisteredTag) -> object:
    """Remove a tag of a registered model."""
    registry.delete_tag(tracking.database, asked.name, asked.key)
    return {}


def set_alias(tracking: Tracking, asked: SetAlias) -> object:
    """Let an alias name a version."""
    registry.set_alias(tracking.database, asked.name, asked.alias, asked.version)
    return {}


def delete_alias(tracking: Tracking, asked: NameAlias) -> object:
    """Remove an alias."""
    registry.delete_alias(tracking.database, asked.name, asked.alias)
    return {}


def get_by_alias(tracking: Tracking, asked: NameAlias) -> object:
    """Tell of the version that an alias names."""
    return _version(tracking, registry.get_by_alias(tracking.database, asked.name, asked.alias))


def create_version(tracking: Tracking, asked: CreateVersion) -> object:
    """Register a model version."""
    check_link(asked.run_link or "")
    new = NewVersion(
        name=asked.name,
        source=tracking.session.uri_of_source(asked.source),
        run_id=asked.run_id,
        run_link=asked.run_link,
        model_id=asked.model_id,
        description=asked.description,
        tags={tag.key: tag.value for tag in asked.tags},
    )
    return _version(tracking, versions.create(tracking.database, new))


def get_version(tracking: Tracking, asked: VersionName) -> object:
    """Tell of a model version."""
    return _version(tracking, versions.get(tracking.database, asked.name, asked.version))


def describe_version(tracking: Tracking, asked: DescribeVersion) -> object:
    """Replace the description of a model version."""
    found = versions.describe(tracking.database, asked.name, asked.version, asked.description)
    return _version(tracking, found)


def move_version(tracking: Tracking, asked: MoveVersion) -> object:
    """Move a model version to a stage."""
    archive = asked.archive_existing_versions
    found = versions.set_stage(tracking.database, asked.name, asked.version, asked.stage, archive_existing=archive)
    return _version(tracking, found)


def delete_version(tracking: Tracking, asked: VersionName) -> object:
    """Remove a model version."""
    versions.delete(tracking.database, asked.name, asked.version)
    tracking.session.removed(f"version {asked.version} of the registered model '{asked.name}'")
    return {}


def search_versions(tracking: Tracking, asked: SearchRegistry) -> object:
    """Tell which model versions there are, a page at a time."""
    page = registry_search.search_versions(tracking.database, _query(asked))
    found = [version_response(version, tracking.session.uri_told) for version in page.items]
    return {"model_versions": found, **_next(page.next_page_token)}


def download_uri(tracking: Tracking, asked: VersionName) -> object:
    """Tell where the files of a model version are."""
    found = versions.get(tracking.database, asked.name, asked.version)
    return {"artifact_uri": tracking.session.uri_told(found.location)}


def set_version_tag(tracking: Tracking, asked: SetVersionTag) -> object:
    """Set a tag of a model version."""
    versions.set_tag(tracking.database, asked.name, asked.version, asked.key, asked.value)
    return {}


def delete_version_tag(tracking: Tracking, asked: DeleteVersionTag) -> object:
    """Remove a tag of a model version."""
    versions.delete_tag(tracking.database, asked.name, asked.version, asked.key)
    return {}


def _model(tracking: Tracking, found: RegisteredModel) -> object:
    return {"registered_model": model_response(found, tracking.session.uri_told)}


def _version(tracking: Tracking, found: ModelVersion) -> object:
    return {"model_version": version_response(found, tracking.session.uri_told)}


def _query(asked: SearchRegistry) -> RegistryQuery:
    return RegistryQuery(
        filter=asked.filter or "",
        order_by=asked.order_by,
        limit=asked.max_results,
        page_token=asked.page_token or None,
    )


def _next(token: str | None) -> dict[str, str]:
    return {"next_page_token": token} if token else {}


ROUTES = (
    Route("POST", "registered-models/create", CreateRegistered, create),
    Route("GET", "registered-models/get", ModelName, get),
    Route("POST", "registered-models/rename", RenameRegistered, rename),
    Route("PATCH", "registered-models/update", DescribeRegistered, describe),
    Route("DELETE", "registered-models/delete", ModelName, delete),
    Route("GET", "registered-models/search", SearchRegistry, search),
    # What clients before 2.0 ask.
    Route("GET", "registered-models/list", SearchRegistry, search),
    Route("GET", "registered-models/get-latest-versions", LatestVersions, latest_versions),
    Route("POST", "registered-models/get-latest-versions", LatestVersions, latest_versions, writes=False),
    Route("POST", "registered-models/set-tag", SetRegisteredTag, set_tag),
    Route("DELETE", "registered-models/delete-tag", DeleteRegisteredTag, delete_tag),
    Route("POST", "registered-models/alias", SetAlias, set_alias),
    Route("DELETE", "registered-models/alias", NameAlias, delete_alias),
    Route("GET", "registered-models/alias", NameAlias, get_by_alias),
    Route("POST", "model-versions/create", CreateVersion, create_version),
    Route("GET", "model-versions/get", VersionName, get_version),
    Route("PATCH", "model-versions/update", DescribeVersion, describe_version),
    Route("POST", "model-versions/transition-stage", MoveVersion, move_version),
    Route("DELETE", "model-versions/delete", VersionName, delete_version),
    Route("GET", "model-versions/search", SearchRegistry, search_versions),
    Route("GET", "model-versions/get-download-uri", VersionName, download_uri),
    Route("POST", "model-versions/set-tag", SetVersionTag, set_version_tag),
    Route("DELETE", "model-versions/delete-tag", DeleteVersionTag, delete_version_tag),
)
