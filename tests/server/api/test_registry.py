"""The registry over REST, under every prefix that clients use, and attacks through the places that versions name."""

import json
from typing import Any

import pytest

from tests.support.protocol import Client, Reply

PREFIXES = ["/api/2.0/mlflow/", "/api/2.0/preview/mlflow/", "/ajax-api/2.0/mlflow/"]


class Registry:
    """The endpoints of the registry below one prefix."""

    def __init__(self, client: Client, prefix: str = PREFIXES[0]) -> None:
        self.client = client
        self.prefix = prefix

    def send(self, method: str, endpoint: str, **fields: object) -> Reply:
        return self.client.send(method, self.prefix + endpoint, json.dumps(fields).encode())

    def get(self, endpoint: str, query: str = "") -> Any:
        return self.client.send("GET", f"{self.prefix}{endpoint}?{query}").json


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_life_of_a_registered_model(client: Client, prefix: str) -> None:
    api = Registry(client, prefix)
    made = api.send("POST", "registered-models/create", name="m", description="d", tags=[{"key": "k", "value": "v"}])
    model = made.json["registered_model"]
    assert (model["name"], model["description"], model["tags"]) == ("m", "d", [{"key": "k", "value": "v"}])
    version = api.send("POST", "model-versions/create", name="m", source="s3://b/1").json["model_version"]
    assert (version["version"], version["current_stage"], version["status"]) == ("1", "None", "READY")
    api.send("POST", "model-versions/create", name="m", source="s3://b/2", run_id="")
    redirected = api.send(
        "POST",
        "model-versions/transition-stage",
        name="m",
        version="2",
        stage="staging",
        archive_existing_versions="true",
    ).json["model_version"]
    assert redirected["current_stage"] == "Staging"
    latest = api.send("POST", "registered-models/get-latest-versions", name="m").json["model_versions"]
    assert {one["version"] for one in latest} == {"1", "2"}
    latest = api.send("POST", "registered-models/get-latest-versions", name="m", stages=["Staging"])
    assert [one["version"] for one in latest.json["model_versions"]] == ["2"]
    assert api.get("registered-models/get-latest-versions", "name=m&stages=None")["model_versions"][0]["version"] == "1"
    api.send("PATCH", "model-versions/update", name="m", version="1", description="first")
    api.send("POST", "model-versions/set-tag", name="m", version="1", key="t", value="1")
    assert api.send("POST", "registered-models/alias", name="m", alias="champion", version="1").json == {}
    version = api.get("registered-models/alias", "name=m&alias=champion")["model_version"]
    assert (version["description"], version["tags"], version["aliases"]) == (
        "first",
        [{"key": "t", "value": "1"}],
        ["champion"],
    )
    assert api.get("registered-models/get", "name=m")["registered_model"]["aliases"] == [
        {"alias": "champion", "version": "1"}
    ]
    assert api.get("model-versions/get-download-uri", "name=m&version=2") == {"artifact_uri": "s3://b/2"}
    assert len(api.get("model-versions/search", "filter=name%3D'm'")["model_versions"]) == 2
    for endpoint in ("registered-models/search", "registered-models/list"):
        assert [one["name"] for one in api.get(endpoint)["registered_models"]] == ["m"]
    renamed = api.send("POST", "registered-models/rename", name="m", new_name="n").json["registered_model"]
    assert (renamed["name"], {one["name"] for one in renamed["latest_versions"]}) == ("n", {"n"})
    api.send("PATCH", "registered-models/update", name="n", description="")
    api.send("POST", "registered-models/set-tag", name="n", key="k", value="w")
    for endpoint, fields in (
        ("registered-models/delete-tag", {"key": "k"}),
        ("registered-models/alias", {"alias": "champion"}),
        ("model-versions/delete-tag", {"version": "1", "key": "t"}),
        ("model-versions/delete", {"version": "1"}),
        ("registered-models/delete", {}),
    ):
        assert api.send("DELETE", endpoint, name="n", **fields).json == {}, endpoint
    assert (
        "registered_models" not in api.get("registered-models/search")
        or not api.get("registered-models/search")["registered_models"]
    )


def test_errors_are_those_of_mlflow(client: Client) -> None:
    api = Registry(client)
    api.send("POST", "registered-models/create", name="m")
    missing, invalid = (404, "RESOURCE_DOES_NOT_EXIST"), (400, "INVALID_PARAMETER_VALUE")
    for method, endpoint, fields, error in (
        ("POST", "registered-models/create", {"name": "m"}, (400, "RESOURCE_ALREADY_EXISTS")),
        ("POST", "registered-models/create", {"name": "a/b"}, invalid),
        ("POST", "registered-models/create", {}, invalid),
        ("POST", "registered-models/rename", {"name": "m", "new_name": ""}, invalid),
        ("PATCH", "registered-models/update", {"name": "x"}, missing),
        ("DELETE", "registered-models/delete", {"name": "x"}, missing),
        ("POST", "registered-models/alias", {"name": "m", "alias": "latest", "version": "1"}, invalid),
        ("POST", "registered-models/alias", {"name": "m", "alias": "a", "version": "1"}, missing),
        ("POST", "model-versions/create", {"name": "x", "source": "s3://b"}, missing),
        ("POST", "model-versions/create", {"name": "m"}, invalid),
        ("POST", "model-versions/transition-stage", {"name": "m", "version": "1", "stage": "None"}, missing),
        ("POST", "model-versions/set-tag", {"name": "m", "version": "x", "key": "k"}, invalid),
    ):
        assert api.send(method, endpoint, **fields).error == error, (endpoint, fields)
    for path, error in (
        ("registered-models/get?name=x", missing),
        ("registered-models/get", invalid),
        ("registered-models/alias?name=m&alias=none", invalid),
        ("registered-models/search?filter=name%3D", invalid),
        ("registered-models/search?max_results=0", invalid),
        ("registered-models/search?page_token=x", invalid),
        ("model-versions/get?name=m&version=1", missing),
        ("model-versions/search?order_by=colour", invalid),
    ):
        assert client.send("GET", PREFIXES[0] + path).error == error, path


@pytest.mark.parametrize(
    "source",
    [
        "file:///tmp/../etc/passwd",
        "s3://bucket/a/../../b",
        "mlflow-artifacts:/0/x/%2e%2e/%2e%2e/y",
        "http://h/api/2.0/mlflow-artifacts/artifacts/%252e%252e/x",
        "file:///tmp/a%00b",
        "..\\x",
        "runs://host/" + "0" * 32 + "/model",
        "models://host/m/1",
        "x" * 6000,
    ],
)
def test_sources_that_hide_where_they_lead_are_refused(client: Client, source: str) -> None:
    api = Registry(client)
    api.send("POST", "registered-models/create", name="m")
    assert api.send("POST", "model-versions/create", name="m", source=source).error == (400, "INVALID_PARAMETER_VALUE")


def test_no_source_is_ever_opened(client: Client) -> None:
    """Whatever a version names, the server neither reads nor fetches it."""
    api = Registry(client)
    api.send("POST", "registered-models/create", name="m")
    for number, source in enumerate(("http://127.0.0.1:9/x", "file:///etc", "ftp://h/x", "/etc/passwd"), start=1):
        assert api.send("POST", "model-versions/create", name="m", source=source).status == 200
        assert api.get("model-versions/get-download-uri", f"name=m&version={number}") == {
            "artifact_uri": source.removeprefix("file://")
        }
    for path in (
        "/model-versions/get-artifact?name=m&version=2&path=passwd",
        "/api/2.0/mlflow/model-versions/get-artifact?name=m&version=2&path=passwd",
        "/get-artifact?run_uuid=x&path=passwd",
    ):
        assert client.send("GET", path).error == (404, "ENDPOINT_NOT_FOUND")
