"""Every way in which an error can arise ends in one shape: a word of MLflow, a message, a status, nothing else."""

import ast
import inspect
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

import runner
from runner import errors
from runner.protocol.errors import ErrorCode, RefusedError, error_response, response_for
from runner.server.api.tracking import Route
from runner.server.app import _ROUTES
from runner.settings import Home
from runner.store.database import Database
from tests.support.protocol import API, Client, Stage

WORDS = {code.value for code in ErrorCode}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    home = Home(tmp_path_factory.mktemp("shapes"))
    with closing(Database.open(home.database)) as database:
        stage = Stage(home, database)
        with stage.socket as socket:
            yield Client(socket)


def kinds() -> list[type[errors.ProjError]]:
    found = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.ProjError)]
    assert len(found) > 10
    return found


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_every_error_for_the_user_has_an_answer(kind: type[errors.ProjError]) -> None:
    answer = response_for(kind("what", context="where", hint="do this"))
    body = json.loads(answer.body)
    assert set(body) == {"error_code", "message"}
    assert body["error_code"] in WORDS
    assert "what" in body["message"]
    assert answer.status == ErrorCode(body["error_code"]).http_status


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_word_has_a_status(code: ErrorCode) -> None:
    answer = response_for(RefusedError(code, "no"))
    assert answer == error_response(code, "no")
    assert 400 <= answer.status < 600


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyError("x"), OSError(5, "broken")])
def test_faults_of_ours_have_the_shape_too(error: Exception) -> None:
    answer = response_for(error)
    assert (answer.status, set(json.loads(answer.body))) == (500, {"error_code", "message"})


def test_error_bodies_are_made_in_one_place() -> None:
    folder = Path(runner.__file__).parent
    makers = [
        module.name
        for package in ("protocol", "server")
        for module in sorted((folder / package).rglob("*.py"))
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Constant) and node.value == "error_code")
        or (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ErrorBody")
    ]
    assert makers == ["errors.py"]


def path_of(route: Route) -> str:
    """Return a path of a route's form, whose fields name nothing that is there."""
    return API + "/".join("nothing" if part is None else part for part in route.parts)


def values_for(kind: Any) -> list[object]:
    """Return values of every wrong type for a field."""
    return [value for value in (5, "text", True, [5], {"a": 1}, [[]], 1.5) if not fits(value, kind)]


def fits(value: object, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize("route", _ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_endpoint_says_what_is_wrong_with_a_request(client: Client, route: Route) -> None:
    fields = [field for field in msgspec.structs.fields(route.schema) if f"{{{field.name}}}" not in route.path]
    bodies: list[bytes] = [b"{", b"[]", b"\xff", b'"text"', b"5"]
    bodies += [json.dumps({one.name: value}).encode() for one in fields for value in values_for(one.type)]
    if route.method == "GET":
        required = [one for one in fields if one.required]
        if required:
            assert client.send("GET", path_of(route)).error[0] in (400, 404)
        return
    for body in bodies:
        status, word = client.send(route.method, path_of(route), body).error
        assert status in (400, 404), body
        assert word in WORDS


@pytest.mark.parametrize("route", _ROUTES, ids=lambda route: f"{route.method} {route.path}")
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_wrong_method_is_no_endpoint(client: Client, route: Route, method: str) -> None:
    path = path_of(route)
    if any(other.method == method and path_of(other) == path for other in _ROUTES):
        return
    if any(
        other.method == method and len(other.parts) == len(route.parts) and None in other.parts for other in _ROUTES
    ):
        return
    assert client.send(method, path, b"{}").error == (404, "ENDPOINT_NOT_FOUND")


OUT_OF_SCOPE = [
    ("POST", "/api/3.0/mlflow/traces"),
    ("GET", "/api/2.0/mlflow/traces"),
    ("POST", "/api/3.0/mlflow/traces/search"),
    ("GET", "/api/3.0/mlflow/traces/batchGet"),
    ("POST", "/v1/traces"),
    ("POST", "/api/2.0/mlflow/webhooks"),
    ("GET", "/api/3.0/mlflow/datasets/search"),
    ("POST", "/api/3.0/mlflow/scorers/register"),
    ("GET", "/api/2.0/mlflow/gateway-proxy"),
    ("POST", "/api/3.0/mlflow/prompt-optimization/jobs"),
]


@pytest.mark.parametrize(("method", "path"), OUT_OF_SCOPE)
def test_endpoints_out_of_scope_are_refused(client: Client, method: str, path: str) -> None:
    """Traces, prompts' optimization, evaluations, gateway and webhooks are not served."""
    reply = client.send(method, path, b"{}")
    assert reply.error == (501, "NOT_IMPLEMENTED")
    assert "proj" in reply.json["message"]
