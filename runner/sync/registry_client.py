"""Reads the model registry of a tracking server."""

from runner.errors import InvalidValueError, RemoteError, UnreachableError
from runner.protocol.client_registry import ModelVersions, OneRegistered, RegisteredModels
from runner.protocol.client_responses import decode
from runner.store.entities import ModelVersion, Page, RegisteredModel
from runner.sync.client import RemoteServer

_API = "2.0/mlflow/"
_PAGE = 200
_MAX_VERSIONS = 10_000


def search_models(server: RemoteServer, condition: str, limit: int) -> Page[RegisteredModel]:
    """Return registered models by name.

    Raises:
        RemoteError: the server refuses, or its response is invalid.
    """
    found: list[RegisteredModel] = []
    token: str | None = None
    while True:
        query = {"filter": condition or None, "max_results": min(_PAGE, limit - len(found)), "page_token": token}
        content = server.forward("GET", f"{_API}registered-models/search", query=query)
        page = decode(content, RegisteredModels, server.url)
        found += [one.registered_model for one in page.registered_models]
        token = page.next_page_token
        # A server that returns empty pages for ever ends the listing as well.
        if not token or len(found) >= limit or not page.registered_models:
            return Page(items=tuple(found[:limit]), next_page_token=token or None)


def registered_model(server: RemoteServer, name: str) -> RegisteredModel:
    """Return a registered model.

    Raises:
        RemoteError: there is no such model, or the server refuses.
    """
    content = server.forward("GET", f"{_API}registered-models/get", query={"name": name})
    return decode(content, OneRegistered, server.url).registered_model.registered_model


def versions_of_model(server: RemoteServer, name: str) -> tuple[ModelVersion, ...]:
    """Return the versions of a registered model, newest first.

    Raises:
        InvalidValueError: the name has both kinds of quotes, which MLflow's search language can't express.
        RemoteError: the server refuses.
    """
    quote = "'" if "'" not in name else '"'
    if quote in name:
        raise InvalidValueError(f"The versions of '{name}' can't be searched: its name has both kinds of quotes")
    found = _search_versions(server, f"name = {quote}{name}{quote}")
    return tuple(sorted(found, key=lambda one: one.version, reverse=True))


def versions_of_run(server: RemoteServer, run_id: str) -> tuple[ModelVersion, ...]:
    """Return the model versions that were made from a run; none if the server has no registry.

    Raises:
        UnreachableError: the server does not respond.
    """
    try:
        return _search_versions(server, f"run_id = '{run_id}'")
    except UnreachableError:
        raise
    except RemoteError as error:
        if error.is_transient:
            raise
        return ()


def _search_versions(server: RemoteServer, condition: str) -> tuple[ModelVersion, ...]:
    found: list[ModelVersion] = []
    token: str | None = None
    while len(found) < _MAX_VERSIONS:
        query = {"filter": condition, "max_results": _PAGE, "page_token": token}
        content = server.forward("GET", f"{_API}model-versions/search", query=query)
        page = decode(content, ModelVersions, server.url)
        found += [one.model_version for one in page.model_versions]
        token = page.next_page_token
        if not token or not page.model_versions:
            break
    return tuple(found)
