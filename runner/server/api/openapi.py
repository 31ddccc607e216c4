"""Builds the OpenAPI document of the server from the schemas that validate requests."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from runner.protocol.errors import ErrorBody
from runner.protocol.requests import Request
from runner.server.api.parts import AbortUpload, CompleteUpload, CreateUpload
from runner.server.api.tracking import Route

_JSON = "application/json"
_FILE = "application/octet-stream"
_PROXY = "/api/2.0/mlflow-artifacts/artifacts"
_UPLOADS: dict[str, type[Request]] = {"create": CreateUpload, "complete": CompleteUpload, "abort": AbortUpload}
_REFERENCE = "#/components/schemas/{name}"


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """Build the document; ``version`` is the version of the protocol."""
    known = list(routes)
    schemas = sorted({route.schema for route in known if route.method != "GET"}, key=lambda one: one.__name__)
    _, components = msgspec.json.schema_components([*schemas, *_UPLOADS.values(), ErrorBody], ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for route in known:
        paths.setdefault(f"/api/2.0/mlflow/{route.path}", {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "proj server", "version": version},
        "paths": {
            **paths,
            **_files(),
            **_uploads(),
            "/": _text("greeting"),
            "/health": _text("health"),
            "/version": _text("version"),
        },
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _operation(route: Route) -> dict[str, Any]:
    fields = re.findall(r"{(\w+)}", route.path)
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{route.method}_{route.path}").lower().strip("_"),
        "summary": (route.handler.__doc__ or "").partition("\n")[0],
        "parameters": [_in_path(name) for name in fields],
        "responses": _responses(_JSON, {"type": "object"}),
    }
    if route.method == "GET":
        operation["parameters"] += _in_query(route.schema, fields)
        return operation
    schema: dict[str, Any] = {"$ref": _REFERENCE.format(name=route.schema.__name__)}
    if fields:
        # What travels in the path need not be in the body.
        schema = {"type": "object", "properties": _properties(route.schema, fields)}
    return operation | {"requestBody": {"content": {_JSON: {"schema": schema}}}}


def _properties(schema: type[Request], without: Iterable[str]) -> dict[str, Any]:
    _, components = msgspec.json.schema_components([schema], ref_template=_REFERENCE)
    properties: dict[str, Any] = components[schema.__name__]["properties"]
    return {name: schema for name, schema in properties.items() if name not in without}


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[^/]+$"}}


def _in_query(schema: type[Request], without: list[str]) -> list[dict[str, Any]]:
    _, components = msgspec.json.schema_components([schema], ref_template=_REFERENCE)
    required = components[schema.__name__].get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": schema}
        for name, schema in _properties(schema, without).items()
    ]


def _responses(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    error = {"schema": {"$ref": _REFERENCE.format(name=ErrorBody.__name__)}}
    return {
        "200": {"description": "It is done.", "content": {kind: {"schema": schema}}},
        "default": {"description": "Why it is not.", "content": {_JSON: error}},
    }


def _files() -> dict[str, Any]:
    place = [_in_path("path")]
    content = {"requestBody": {"content": {_FILE: {"schema": {"type": "string", "format": "binary"}}}}}
    done = _responses(_JSON, {"type": "object"})
    folder = {"name": "path", "in": "query", "schema": {"type": "string"}}
    return {
        _PROXY: {"get": {"operationId": "list_files", "parameters": [folder], "responses": done}},
        f"{_PROXY}/{{path}}": {
            "get": {
                "operationId": "get_file",
                "parameters": place,
                "responses": _responses(_FILE, {"type": "string", "format": "binary"}),
            },
            "put": {"operationId": "put_file", "parameters": place, **content, "responses": done},
            "delete": {"operationId": "delete_file", "parameters": place, "responses": done},
        },
    }


def _uploads() -> dict[str, Any]:
    return {
        f"/api/2.0/mlflow-artifacts/mpu/{action}/{{path}}": {
            "post": {
                "operationId": f"{action}_upload",
                "parameters": [_in_path("path")],
                "requestBody": {"content": {_JSON: {"schema": {"$ref": _REFERENCE.format(name=schema.__name__)}}}},
                "responses": _responses(_JSON, {"type": "object"}),
            }
        }
        for action, schema in _UPLOADS.items()
    }


def _text(name: str) -> dict[str, Any]:
    response = {"description": "What it says.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {"get": {"operationId": name, "security": [{}], "responses": {"200": response}}}
