"""The document that says what the server answers to, and what happens when somebody goes through it at random."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec.structs import fields

from runner.protocol.errors import ErrorCode
from runner.server.api.openapi import document
from runner.server.api.tracking import Route
from runner.server.app import _ROUTES, VERSION
from runner.settings import Home
from runner.store.database import Database
from tests.support.protocol import API, Client, Reply, Stage
from tests.support.standalone_server import standalone_server

WORDS = {code.value for code in ErrorCode}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    home = Home(tmp_path_factory.mktemp("openapi"))
    with closing(Database.open(home.database)) as database:
        found = Stage(home, database)
        with found.socket:
            yield found


@pytest.fixture(scope="module")
def client(stage: Stage) -> Client:
    return Client(stage.socket)


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            yield from (value,) if key == "$ref" else references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_every_endpoint_is_in_the_document() -> None:
    found = document(_ROUTES, VERSION)
    for route in _ROUTES:
        assert route.method.lower() in found["paths"][API + route.path]
    names = [one["operationId"] for path in found["paths"].values() for one in path.values()]
    assert len(names) == len(set(names)) > len(_ROUTES)


def test_the_document_holds_together() -> None:
    found = document(_ROUTES, VERSION)
    schemas = found["components"]["schemas"]
    assert {one.rpartition("/")[2] for one in references(found)} <= schemas.keys()
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    assert schemas["LogMetric"]["required"] == ["key", "value"]


def test_the_document_is_served_to_everybody(client: Client) -> None:
    reply = client.send("GET", "/openapi.json", Authorization="")
    assert reply.headers["content-type"] == "application/json"
    assert reply.json == json.loads(json.dumps(document(_ROUTES, VERSION)))


@pytest.mark.slow
def test_nothing_that_fits_the_document_breaks_the_server(tmp_path: Path) -> None:
    """Schemathesis sends what the document allows, and what it just does not."""
    checks = (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    )
    # 501 says there to old clients that they must send a file in one piece.
    declining = "--exclude-path-regex=mpu/create"
    options = [
        declining,
        "--max-examples=5",
        "--max-time=60",
        "--no-color",
        "--warnings=off",
        "--generation-database=none",
    ]
    with standalone_server(tmp_path) as standalone:
        words = ["run", f"{standalone.url}/openapi.json", f"--checks={','.join(checks)}", *options]
        seed = ["--seed", os.environ.get("PROJ_TEST_SEED", "1")]
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", *words, *seed],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
        assert "Tested: " in done.stdout
        assert "A request failed" not in standalone.log


# Texts that JSON can carry and others stumble over: half a surrogate pair, control characters, long ones.
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ("", "0", "nan", "1e999", "\ud800", "\0", "a" * 300, "../x", "m-" + "0" * 32, "ACTIVE_ONLY", "READY")
    ),
    st.text(alphabet=st.characters(codec=None), max_size=5),
)
NUMBERS = st.one_of(st.integers(), st.sampled_from((2**63, -(2**63) - 1, 2**64, 10**400, 0)), st.floats())
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
KEYS = ("key", "value", "model_id", "step", "timestamp", "dataset", "name", "digest", "tags", "field_name", "ascending")
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.sampled_from(KEYS), TEXTS), inner, max_size=4)
    ),
    max_leaves=8,
)
IDS = ("run_id", "run_uuid", "run_ids", "source_run_id")


def values_of(name: str, kind: Any, run_id: str) -> st.SearchStrategy[Any]:
    """Return what is sent for a field: mostly something of its type, so that it gets past the first check."""
    if name in IDS:
        return st.one_of(st.just(run_id), ANYTHING)
    if name in ("experiment_id", "experiment_ids"):
        return st.one_of(st.just("0"), st.just(["0"]), ANYTHING)
    if "tuple" in str(kind):
        pairs = st.fixed_dictionaries({"key": TEXTS, "value": st.one_of(TEXTS, NUMBERS)})
        return st.one_of(st.lists(pairs, max_size=3), st.lists(TEXTS, max_size=3), ANYTHING)
    return st.one_of(TEXTS, NUMBERS, ANYTHING)


@st.composite
def requests(draw: st.DrawFn, run_id: str) -> tuple[Route, bytes]:
    route = draw(st.sampled_from([route for route in _ROUTES if route.method != "GET"]))
    body = {
        field.name: draw(values_of(field.name, field.type, run_id))
        for field in fields(route.schema)
        if field.required or draw(st.booleans())
    }
    text = json.dumps(body).encode()
    return route, draw(st.one_of(st.just(text), st.just(text[:-1]), st.just(b"[" * 2000), st.binary(max_size=20)))


def check(reply: Reply) -> None:
    if reply.status == 200:
        assert isinstance(reply.json, dict)
        return
    status, word = reply.error
    assert word in WORDS
    assert status < 500


@pytest.mark.parametrize("examples", [100, pytest.param(1500, marks=pytest.mark.slow)])
def test_no_body_breaks_the_server(stage: Stage, client: Client, examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example, HealthCheck.data_too_large],
    )
    @given(requests(stage.run_id))
    def send(request: tuple[Route, bytes]) -> None:
        route, body = request
        path = API + "/".join("0" if part is None else part for part in route.parts)
        check(client.send(route.method, path, body))

    send()
    assert client.get("experiments/get", experiment_id="0").status == 200


@pytest.mark.parametrize("examples", [50, pytest.param(500, marks=pytest.mark.slow)])
def test_no_query_breaks_the_server(client: Client, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, database=None)
    @given(st.data())
    def send(data: st.DataObject) -> None:
        route = data.draw(st.sampled_from([route for route in _ROUTES if route.method == "GET" and route.path]))
        requested = {
            field.name: data.draw(st.one_of(st.text(st.characters(codec="utf-8"), max_size=8), st.just("0"), NUMBERS))
            for field in fields(route.schema)
            if field.required or data.draw(st.booleans())
        }
        path = "/".join("0" if part is None else part for part in route.parts)
        check(client.get(path, **requested))

    send()
