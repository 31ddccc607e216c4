"""Endpoints for registered models and their versions."""

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


def create(tracking: Tracking, request: CreateRegistered) -> object:
    """Create a registered model."""
    tags = {tag.key: tag.value for tag in request.tags}
    return _model(tracking, registry.create(tracking.database, request.name, request.description, tags))


def get(tracking: Tracking, request: ModelName) -> object:
    """Get a registered model."""
    return _model(tracking, registry.get(tracking.database, request.name))


def rename(tracking: Tracking, request: RenameRegistered) -> object:
    """Rename a registered model."""
    return _model(tracking, registry.rename(tracking.database, request.name, request.new_name))


def describe(tracking: Tracking, request: DescribeRegistered) -> object:
    """Replace the description of a registered model."""
    return _model(tracking, registry.describe(tracking.database, request.name, request.description))


def delete(tracking: Tracking, request: ModelName) -> object:
    """Remove a registered model with its versions."""
    registry.delete(tracking.database, request.name)
    tracking.session.removed(f"the registered model '{request.name}'")
    return {}


def search(tracking: Tracking, request: SearchRegistry) -> object:
    """Search registered models; return one page."""
    page = registry_search.search_models(tracking.database, _query(request))
    found = [model_response(model, tracking.session.uri_for_client) for model in page.items]
    return {"registered_models": found, **_next(page.next_page_token)}


def latest_versions(tracking: Tracking, request: LatestVersions) -> object:
    """Get the latest version of each stage."""
    found = registry.latest_versions(tracking.database, request.name, request.stages)
    return {"model_versions": [version_response(version, tracking.session.uri_for_client) for version in found]}


def set_tag(tracking: Tracking, request: SetRegisteredTag) -> object:
    """Set a tag of a registered model."""
    registry.set_tag(tracking.database, request.name, request.key, request.value)
    return {}


def delete_tag(tracking: Tracking, request: DeleteRegisteredTag) -> object:
    """Remove a tag of a registered model."""
    registry.delete_tag(tracking.database, request.name, request.key)
    return {}


def set_alias(tracking: Tracking, request: SetAlias) -> object:
    """Set the version that an alias refers to."""
    registry.set_alias(tracking.database, request.name, request.alias, request.version)
    return {}


def delete_alias(tracking: Tracking, request: NameAlias) -> object:
    """Remove an alias."""
    registry.delete_alias(tracking.database, request.name, request.alias)
    return {}


def get_by_alias(tracking: Tracking, request: NameAlias) -> object:
    """Get the version that an alias refers to."""
    return _version(tracking, registry.get_by_alias(tracking.database, request.name, request.alias))


def create_version(tracking: Tracking, request: CreateVersion) -> object:
    """Create a model version."""
    check_link(request.run_link or "")
    new = NewVersion(
        name=request.name,
        source=tracking.session.uri_of_source(request.source),
        run_id=request.run_id,
        run_link=request.run_link,
        model_id=request.model_id,
        description=request.description,
        tags={tag.key: tag.value for tag in request.tags},
    )
    return _version(tracking, versions.create(tracking.database, new))


def get_version(tracking: Tracking, request: VersionName) -> object:
    """Get a model version."""
    return _version(tracking, versions.get(tracking.database, request.name, request.version))


def describe_version(tracking: Tracking, request: DescribeVersion) -> object:
    """Replace the description of a model version."""
    found = versions.describe(tracking.database, request.name, request.version, request.description)
    return _version(tracking, found)


def move_version(tracking: Tracking, request: MoveVersion) -> object:
    """Move a model version to a stage."""
    archive = request.archive_existing_versions
    found = versions.set_stage(
        tracking.database, request.name, request.version, request.stage, archive_existing=archive
    )
    return _version(tracking, found)


def delete_version(tracking: Tracking, request: VersionName) -> object:
    """Remove a model version."""
    versions.delete(tracking.database, request.name, request.version)
    tracking.session.removed(f"version {request.version} of the registered model '{request.name}'")
    return {}


def search_versions(tracking: Tracking, request: SearchRegistry) -> object:
    """Search model versions; return one page."""
    page = registry_search.search_versions(tracking.database, _query(request))
    found = [version_response(version, tracking.session.uri_for_client) for version in page.items]
    return {"model_versions": found, **_next(page.next_page_token)}


def download_uri(tracking: Tracking, request: VersionName) -> object:
    """Get the location of the files of a model version."""
    found = versions.get(tracking.database, request.name, request.version)
    return {"artifact_uri": tracking.session.uri_for_client(found.location)}


def set_version_tag(tracking: Tracking, request: SetVersionTag) -> object:
    """Set a tag of a model version."""
    versions.set_tag(tracking.database, request.name, request.version, request.key, request.value)
    return {}


def delete_version_tag(tracking: Tracking, request: DeleteVersionTag) -> object:
    """Remove a tag of a model version."""
    versions.delete_tag(tracking.database, request.name, request.version, request.key)
    return {}


def _model(tracking: Tracking, found: RegisteredModel) -> object:
    return {"registered_model": model_response(found, tracking.session.uri_for_client)}


def _version(tracking: Tracking, found: ModelVersion) -> object:
    return {"model_version": version_response(found, tracking.session.uri_for_client)}


def _query(request: SearchRegistry) -> RegistryQuery:
    return RegistryQuery(
        filter=request.filter or "",
        order_by=request.order_by,
        limit=request.max_results,
        page_token=request.page_token or None,
    )


def _next(token: str | None) -> dict[str, str]:
    return {"next_page_token": token} if token else {}


ROUTES = (
    Route("POST", "registered-models/create", CreateRegistered, create),
    Route("GET", "registered-models/get", ModelName, get),
    Route("POST", "registered-models/rename", RenameRegistered, rename),
    Route("PATCH", "registered-models/update", DescribeRegistered, describe),
    Route("DELETE", "registered-models/delete", ModelName, delete),
    Route("GET", "registered-models/search", SearchRegistry, search, is_search=True),
    # Clients before MLflow 2.0 call this endpoint.
    Route("GET", "registered-models/list", SearchRegistry, search, is_search=True),
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
    Route("GET", "model-versions/search", SearchRegistry, search_versions, is_search=True),
    Route("GET", "model-versions/get-download-uri", VersionName, download_uri),
    Route("POST", "model-versions/set-tag", SetVersionTag, set_version_tag),
    Route("DELETE", "model-versions/delete-tag", DeleteVersionTag, delete_version_tag),
)
