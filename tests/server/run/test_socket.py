"""The child's socket without a client of MLflow: guards, errors, shapes, beginning and end."""

import http.client
import json
import os
import socket as sockets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from runner.model import EventKind, RunStatus
from runner.protocol.errors import ErrorCode
from runner.server.app import _ROUTES
from runner.server.guards import MAX_BODY
from runner.server.run.socket import REMOVED_VARIABLES, ChildSocket
from runner.settings import Home
from runner.store import experiments, lineage, runs, values
from runner.store.database import Database
from runner.store.entities import LifecycleStage
from tests.support.protocol import API, Client, Reply, Stage

WORDS_OF_MLFLOW_1_30 = {
    *("BAD_REQUEST", "CUSTOMER_UNAUTHORIZED", "ENDPOINT_NOT_FOUND", "INTERNAL_ERROR", "INVALID_PARAMETER_VALUE"),
    *("IO_ERROR", "PERMISSION_DENIED", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_LIMIT_EXCEEDED"),
    "TEMPORARILY_UNAVAILABLE",
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, Client]]:
    """One stage for all requests that must change nothing."""
    home = Home(tmp_path_factory.mktemp("shared"))
    with closing(Database.open(home.database)) as database:
        stage = Stage(home, database)
        with stage.socket as socket:
            yield stage, Client(socket)


@pytest.fixture
def refusing(shared: tuple[Stage, Client]) -> Iterator[Client]:
    """Return a client whose requests must change nothing in the store."""
    stage, client = shared
    before = list(stage.database.query("SELECT * FROM runs")), experiments.get(stage.database, "0")
    yield client
    assert (list(stage.database.query("SELECT * FROM runs")), experiments.get(stage.database, "0")) == before


def test_nobody_connects_nothing_is_loaded_and_nothing_runs(stage: Stage) -> None:
    code = """
import sys
from pathlib import Path
from runner.server.run.socket import ChildSocket
from runner.settings import Home
with ChildSocket(Home(Path(sys.argv[1])), "0" * 32, "0", print) as socket:
    pass
loaded = {"uvicorn", "starlette", "asyncio", "h11", "runner.server.app"} & set(sys.modules)
assert not loaded, loaded
assert (socket.final_status, socket.created_runs) == (None, ())
"""
    subprocess.run([sys.executable, "-c", code, stage.home.root], check=True)


def test_the_variables_lead_any_client_to_the_run(stage: Stage) -> None:
    user = {"no_proxy": "example.org", "NO_PROXY": "*", "MLFLOW_HTTP_REQUEST_TIMEOUT": "7", "HTTP_PROXY": "http://p:1"}
    with stage.socket as socket:
        variables = socket.variables(user)
        assert variables["MLFLOW_TRACKING_URI"] == f"http://127.0.0.1:{socket.port}"
    assert variables["MLFLOW_RUN_ID"] == stage.run_id
    assert variables["MLFLOW_EXPERIMENT_ID"] == "0"
    assert variables["MLFLOW_TRACKING_TOKEN"] == socket.token
    assert variables["no_proxy"] == "example.org,127.0.0.1,localhost"
    assert variables["NO_PROXY"] == "*"
    assert variables["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"
    assert variables["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"
    assert variables["DO_NOT_TRACK"] == "true"
    assert "MLFLOW_EXPERIMENT_NAME" in REMOVED_VARIABLES
    assert not set(REMOVED_VARIABLES) & set(variables)


def test_each_socket_has_a_token_of_its_own(stage: Stage) -> None:
    others = [ChildSocket(stage.home, stage.run_id, "0", print) for _ in range(3)]
    assert len({socket.token for socket in [stage.socket, *others]}) == 4
    assert all(len(socket.token) >= 43 for socket in others)


def test_only_the_loopback_address_listens(refusing: Client) -> None:
    with pytest.raises(OSError):  # noqa: PT011  refused or, where there is no such address, something else
        sockets.create_connection(("127.0.0.2", refusing.socket.port), timeout=1)


# Guards


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer wrong", "Basic {token}", "Bearer {token}x", "{token}"])
@pytest.mark.parametrize("path", [f"{API}runs/get", "/api/2.0/mlflow-artifacts/artifacts", "/anything"])
def test_another_process_without_the_token_is_refused(refusing: Client, authorization: str, path: str) -> None:
    """Probe 35."""
    header = authorization.format(token=refusing.socket.token)
    assert refusing.send("GET", path, Authorization=header).error == (401, "CUSTOMER_UNAUTHORIZED")


@pytest.mark.parametrize(
    "name", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "0.0.0.0:{port}"]
)
@pytest.mark.parametrize("path", [f"{API}runs/search", "/health"])
def test_a_rebound_name_is_refused(refusing: Client, name: str, path: str) -> None:
    """Probe 35: a page whose name was let point at the loopback address says that name in its Host header."""
    reply = refusing.send("GET", path, Host=name.format(port=refusing.socket.port))
    assert reply.error == (403, "PERMISSION_DENIED")


def test_the_server_may_be_called_localhost(refusing: Client) -> None:
    assert refusing.send("GET", "/health", Host=f"LOCALHOST:{refusing.socket.port}").body == b"OK"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1", ""])
def test_a_web_page_is_refused_even_with_the_token(refusing: Client, origin: str) -> None:
    """Probe 35."""
    assert refusing.send("GET", f"{API}runs/search", Origin=origin).error == (403, "PERMISSION_DENIED")
    assert refusing.send("OPTIONS", f"{API}runs/search", Origin=origin).error == (403, "PERMISSION_DENIED")


def test_two_host_headers_are_refused(refusing: Client) -> None:
    port = refusing.socket.port
    lines = f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    with sockets.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(lines.encode())
        assert b" 403 " in raw.recv(1000)


def test_health_and_version_need_no_token(client: Client) -> None:
    client.headers = {}
    assert client.send("GET", "/health").body == b"OK"
    assert b"no web pages" in client.send("GET", "/").body
    assert client.send("GET", "/version").body.count(b".") == 2
    assert client.send("POST", "/health").error == (404, "ENDPOINT_NOT_FOUND")


def test_a_head_without_end_is_refused(refusing: Client) -> None:
    with sockets.create_connection(("127.0.0.1", refusing.socket.port), timeout=30) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
        with suppress(ConnectionError):  # it stops listening before all is sent
            for _ in range(100):
                connection.sendall(b"x" * 10_000)
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


def test_a_body_that_is_too_large_is_refused(refusing: Client) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", refusing.socket.port, timeout=20)
    with closing(connection):
        connection.putrequest("POST", f"{API}runs/log-batch")
        for name, value in {**refusing.headers, "Content-Length": str(MAX_BODY + 1)}.items():
            connection.putheader(name, value)
        connection.endheaders()
        assert Reply(connection.getresponse()).error == (413, "RESOURCE_LIMIT_EXCEEDED")


def test_a_body_that_grows_too_large_is_refused(refusing: Client) -> None:
    """A body in chunks does not say how long it will be."""
    connection = http.client.HTTPConnection("127.0.0.1", refusing.socket.port, timeout=20)
    pieces = (b" " * 2**20 for _ in range(MAX_BODY // 2**20 + 8))
    with closing(connection):
        try:
            connection.request("POST", f"{API}runs/log-batch", pieces, refusing.headers, encode_chunked=True)
        except (BrokenPipeError, ConnectionResetError):
            return
        assert Reply(connection.getresponse()).error == (413, "RESOURCE_LIMIT_EXCEEDED")


# Rights


def test_the_whole_store_can_be_read(stage: Stage, client: Client) -> None:
    assert client.get("runs/get", run_id=stage.foreign).json["run"]["info"]["run_name"] == "foreign"
    found = client.post("runs/search", experiment_ids=["0"]).json["runs"]
    assert {run["info"]["run_name"] for run in found} == {"own", "foreign"}


def test_a_run_changes_itself_and_what_it_made(stage: Stage, client: Client) -> None:
    made = client.post("runs/create", experiment_id="0", tags=[{"key": "a", "value": "b"}]).json["run"]
    run_id = made["info"]["run_id"]
    assert {"key": "mlflow.parentRunId", "value": stage.run_id} in made["data"]["tags"]
    for each in (stage.run_id, run_id):
        assert client.post("runs/log-metric", run_id=each, key="m", value=1, timestamp=1).json == {}
        assert client.post("runs/set-tag", run_uuid=each, key="t", value="1").json == {}
    assert client.post("runs/delete", run_id=run_id).json == {}
    assert runs.get(stage.database, run_id).lifecycle_stage is LifecycleStage.DELETED
    experiment = client.post("experiments/create", name="new").json["experiment_id"]
    for each in ("0", experiment):
        tag = client.post("experiments/set-experiment-tag", experiment_id=each, key="k", value="v")
        assert tag.json == {}
    assert client.post("experiments/update", experiment_id=experiment, new_name="newer").json == {}
    assert experiments.get(stage.database, experiment).name == "newer"


def test_a_parent_that_the_client_names_is_kept(stage: Stage, client: Client) -> None:
    tags = [{"key": "mlflow.parentRunId", "value": stage.foreign}]
    run_id = client.post("runs/create", experiment_id="0", tags=tags).json["run"]["info"]["run_id"]
    assert runs.get(stage.database, run_id).tags["mlflow.parentRunId"] == stage.foreign


# Errors


def test_only_words_that_the_oldest_client_knows_are_used() -> None:
    assert {code.value for code in ErrorCode} - WORDS_OF_MLFLOW_1_30 == {"NOT_IMPLEMENTED"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/"),
        ("GET", "/nothing"),
        ("GET", "/docs"),
        ("GET", f"{API}nothing"),
        ("POST", f"{API}runs/get"),
        ("PUT", f"{API}runs/create"),
        ("PUT", f"{API}registered-models/create"),
        ("POST", "/api/2.0/preview/mlflow/registered-models/nothing"),
        ("GET", f"{API}logged-models/a/b/c/d"),
        ("GET", f"{API}logged-models//tags"),
        ("PATCH", "/api/2.0/mlflow-artifacts/artifacts/x"),
    ],
)
def test_an_unknown_endpoint_gets_the_error_of_mlflow(refusing: Client, method: str, path: str) -> None:
    assert refusing.send(method, path, b"{}").error == (404, "ENDPOINT_NOT_FOUND")


@pytest.mark.parametrize(
    ("endpoint", "body", "error"),
    [
        ("runs/create", b"{", (400, "BAD_REQUEST")),
        ("runs/create", b"\xff\xfe", (400, "BAD_REQUEST")),
        ("runs/create", b"[]", (400, "INVALID_PARAMETER_VALUE")),
        ("runs/create", b"null", (400, "INVALID_PARAMETER_VALUE")),
        ("runs/create", b'{"tags": 3}', (400, "INVALID_PARAMETER_VALUE")),
        ("runs/create", b'{"experiment_id": "999"}', (404, "RESOURCE_DOES_NOT_EXIST")),
        ("runs/create", b'{"experiment_id": "x"}', (404, "RESOURCE_DOES_NOT_EXIST")),
        ("runs/create", b'{"start_time": 9223372036854775808}', (400, "INVALID_PARAMETER_VALUE")),
        ("runs/create", b'{"experiment_id": "0", "run_name": {"a": 1}}', (400, "INVALID_PARAMETER_VALUE")),
        ("runs/delete", b"{}", (400, "INVALID_PARAMETER_VALUE")),
        ("experiments/create", b"{}", (400, "INVALID_PARAMETER_VALUE")),
        ("experiments/create", b'{"name": ""}', (400, "INVALID_PARAMETER_VALUE")),
        ("experiments/create", b'{"name": "Default"}', (400, "RESOURCE_ALREADY_EXISTS")),
        ("runs/search", b'{"filter": "metrics.a >> 1"}', (400, "INVALID_PARAMETER_VALUE")),
        ("runs/search", b'{"max_results": 0}', (400, "INVALID_PARAMETER_VALUE")),
        ("runs/search", b'{"run_view_type": "SOME"}', (400, "INVALID_PARAMETER_VALUE")),
        ("runs/search", b'{"page_token": "x"}', (400, "INVALID_PARAMETER_VALUE")),
        ("logged-models/search", b'{"filter": "=="}', (400, "INVALID_PARAMETER_VALUE")),
    ],
)
def test_wrong_requests_are_answered_in_the_protocols_shape(
    refusing: Client, endpoint: str, body: bytes, error: tuple[int, str]
) -> None:
    assert refusing.send("POST", API + endpoint, body).error == error


def test_wrong_values_of_the_own_run_are_refused(stage: Stage, client: Client) -> None:
    invalid = (400, "INVALID_PARAMETER_VALUE")
    own = {"run_id": stage.run_id}
    assert client.post("runs/update", **own, status="LOST").error == invalid
    assert client.post("runs/update", **own, status=9).error == invalid
    assert client.post("runs/log-metric", **own, key="m", value="abc").error == invalid
    assert client.post("runs/log-metric", **own, key="../m", value=1).error == invalid
    assert client.post("runs/log-metric", **own, key="m", value=1, step=2**63).error == invalid
    assert client.post("runs/log-model", **own, model_json="no json").error == (400, "BAD_REQUEST")
    assert client.post("runs/delete-tag", **own, key="none").error == (404, "RESOURCE_DOES_NOT_EXIST")
    too_many = [{"key": f"p{number}", "value": "1"} for number in range(101)]
    assert client.post("runs/log-batch", **own, params=too_many).error == invalid
    assert client.get("metrics/get-history", run_id="0" * 32, metric_key="m").error == (404, "RESOURCE_DOES_NOT_EXIST")
    assert client.get("runs/get").error == invalid
    assert client.get("logged-models/m-1").error == (404, "RESOURCE_DOES_NOT_EXIST")


def test_of_a_logged_model_the_tag_has_what_mlflow_keeps(stage: Stage, client: Client) -> None:
    described = {"run_id": stage.run_id, "artifact_path": "m", "signature": {"inputs": "x"}, "flavors": {}}
    for secret in ("one", "two"):
        described["flavors"] = {"python_function": {"config": {"key": secret}, "code": None}, "odd": 1}
        assert client.post("runs/log-model", run_id=stage.run_id, model_json=json.dumps(described)).json == {}
    assert client.post("runs/log-model", run_id=stage.run_id, model_json='{"flavors": 5}').json == {}
    flavors = {"python_function": {"code": None}, "odd": 1}
    short = {"run_id": stage.run_id, "artifact_path": "m", "flavors": flavors}
    tag = runs.get(stage.database, stage.run_id).tags["mlflow.log-model.history"]
    assert json.loads(tag) == [short, short, {"flavors": {}}]


def test_a_batch_is_kept_whole_or_not_at_all(stage: Stage, client: Client) -> None:
    values.log_params(stage.database, stage.run_id, [("p", "1")])
    reply = client.post(
        "runs/log-batch",
        run_id=stage.run_id,
        metrics=[{"key": "m", "value": 1, "timestamp": 1, "step": 1}],
        params=[{"key": "p", "value": "2"}],
        tags=[{"key": "t", "value": "1"}],
    )
    assert reply.error == (400, "INVALID_PARAMETER_VALUE")
    run = runs.get(stage.database, stage.run_id)
    assert (dict(run.metrics), run.params, run.tags.get("t")) == ({}, {"p": "1"}, None)


def test_a_fault_of_ours_is_an_internal_error_and_told_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(values, "set_tags", fail)
    with stage.socket as socket:
        client = Client(socket)
        for _ in range(3):
            reply = client.post("runs/set-tag", run_id=stage.run_id, key="t", value="1")
            assert reply.error == (500, "INTERNAL_ERROR")
    (event,) = stage.events
    assert event.kind is EventKind.WARNING
    assert event.hint == "RuntimeError: broken"


# Shapes


@pytest.mark.parametrize("prefix", ["/api/2.0/mlflow/", "/ajax-api/2.0/mlflow/", "/api/2.0/preview/mlflow/"])
def test_every_prefix_that_clients_use_leads_here(stage: Stage, client: Client, prefix: str) -> None:
    reply = client.send("GET", f"{prefix}runs/get?run_uuid={stage.run_id}&run_id={stage.run_id}")
    assert reply.json["run"]["info"]["run_id"] == stage.run_id
    assert client.send("GET", "/api/3.0/mlflow/server-info").json["workspaces_enabled"] is False


def test_a_run_has_the_shape_of_mlflow(stage: Stage, client: Client) -> None:
    client.post("runs/log-batch", run_id=stage.run_id, metrics=[{"key": "m", "value": "NaN", "timestamp": "5"}])
    client.post("runs/log-metric", run_id=stage.run_id, key="i", value="-Infinity", timestamp=6, step=None)
    reported = client.get("runs/get", run_id=stage.run_id).json["run"]
    # An empty list and none mean the same; msgspec before 0.19 says empty ones.
    run = {part: {key: value for key, value in fields.items() if value != []} for part, fields in reported.items()}
    started = run["info"].pop("start_time")
    assert run == {
        "info": {
            "run_id": stage.run_id,
            "run_uuid": stage.run_id,
            "run_name": "own",
            "experiment_id": "0",
            "user_id": "",
            "status": "RUNNING",
            "artifact_uri": str(stage.home.artifacts(stage.run_id)),
            "lifecycle_stage": "active",
        },
        "data": {
            "metrics": [
                {"key": "i", "value": "-Infinity", "timestamp": 6, "step": 0},
                {"key": "m", "value": "NaN", "timestamp": 5, "step": 0},
            ],
            "tags": [{"key": "mlflow.runName", "value": "own"}],
        },
        "inputs": {},
        "outputs": {},
    }
    assert isinstance(started, int)


def test_old_clients_send_numbers_for_ids_and_words(stage: Stage, client: Client) -> None:
    run = client.post("runs/create", experiment_id=0, start_time="17", tags=None, source_type="LOCAL").json["run"]
    assert (run["info"]["experiment_id"], run["info"]["start_time"]) == ("0", 17)
    assert client.post("runs/update", run_uuid=run["info"]["run_id"], status=4, end_time=20).json["run_info"][
        "status"
    ] == ("FAILED")
    assert runs.get(stage.database, run["info"]["run_id"]).ended_at == 20


def test_histories_of_metrics(stage: Stage, client: Client) -> None:
    points = [{"key": "m", "value": number, "timestamp": number, "step": number} for number in range(5)]
    client.post("runs/log-batch", run_id=stage.run_id, metrics=points)
    question = {"run_id": stage.run_id, "metric_key": "m"}
    assert [point["step"] for point in client.get("metrics/get-history", **question).json["metrics"]] == [0, 1, 2, 3, 4]
    page = client.get("metrics/get-history", **question, max_results=3).json
    rest = client.get("metrics/get-history", **question, max_results=3, page_token=page["next_page_token"]).json
    assert [point["value"] for point in (*page["metrics"], *rest["metrics"])] == [0, 1, 2, 3, 4]
    assert "next_page_token" not in rest
    interval = {"run_ids": [stage.run_id, stage.foreign], "metric_key": "m"}
    for more, steps in (
        ({}, [0, 1, 2, 3, 4]),
        ({"max_results": 1}, [4]),
        ({"max_results": 3}, [0, 2, 4]),
        ({"max_results": 2, "start_step": 1, "end_step": 3}, [1, 3]),
        ({"start_step": 9, "end_step": 9}, []),
    ):
        several = client.get("metrics/get-history-bulk-interval", **interval, **more).json["metrics"]
        assert [(point["run_id"], point["step"]) for point in several] == [(stage.run_id, step) for step in steps]
    bulk = client.get("metrics/get-history-bulk", run_id=[stage.foreign, stage.run_id], metric_key="m", max_results=2)
    assert [point["step"] for point in bulk.json["metrics"]] == [0, 1]


@pytest.mark.parametrize(
    "fields",
    [
        {"run_ids": []},
        {"run_ids": ["0" * 32] * 101},
        {"run_ids": ["0" * 32], "max_results": 2501},
        {"run_ids": ["0" * 32], "start_step": 1},
        {"run_ids": ["0" * 32], "start_step": 2, "end_step": 1},
    ],
)
def test_wrong_questions_for_histories(client: Client, fields: dict[str, object]) -> None:
    invalid = (400, "INVALID_PARAMETER_VALUE")
    assert client.get("metrics/get-history-bulk-interval", metric_key="m", **fields).error == invalid


def test_a_history_of_a_run_that_is_not_there(client: Client) -> None:
    none = (404, "RESOURCE_DOES_NOT_EXIST")
    assert client.get("metrics/get-history-bulk-interval", metric_key="m", run_ids="0" * 32).error == none
    assert client.get("metrics/get-history-bulk", metric_key="m", run_id="0" * 32).error == none


def test_datasets_and_models_of_a_run(stage: Stage, client: Client) -> None:
    model = client.post(
        "logged-models", experiment_id="0", name="model", source_run_id=stage.run_id, tags=[{"key": "a", "value": "b"}]
    ).json["model"]["info"]
    model_id = model["model_id"]
    dataset = {"name": "d", "digest": "x1", "source_type": "local", "source": "{}", "schema": "{}"}
    tags = [{"key": "mlflow.data.context", "value": "training"}]
    client.post(
        "runs/log-inputs",
        run_id=stage.run_id,
        datasets=[{"dataset": dataset, "tags": tags}],
        models=[{"model_id": model_id}],
    )
    client.post("runs/outputs", run_id=stage.run_id, models=[{"model_id": model_id, "step": 3}])
    run = client.get("runs/get", run_id=stage.run_id).json["run"]
    assert run["inputs"]["dataset_inputs"] == [{"dataset": dataset, "tags": tags}]
    assert run["inputs"]["model_inputs"] == [{"model_id": model_id}]
    assert run["outputs"] == {"model_outputs": [{"model_id": model_id, "step": 3}]}
    assert lineage.outputs(stage.database, stage.run_id)[0].step == 3
    found = {one["info"]["run_id"]: one for one in client.post("runs/search", experiment_ids=["0"]).json["runs"]}
    assert found[stage.run_id]["inputs"] == run["inputs"]
    assert found[stage.foreign]["inputs"] == found[stage.foreign]["outputs"] == {}
    ready = client.send("PATCH", f"{API}logged-models/{model_id}", b'{"status": "LOGGED_MODEL_READY"}').json
    assert ready["model"]["info"]["status"] == "LOGGED_MODEL_READY"
    client.post(f"logged-models/{model_id}/params", params=[{"key": "depth", "value": "3"}])
    client.send("PATCH", f"{API}logged-models/{model_id}/tags", b'{"tags": [{"key": "c", "value": "d"}]}')
    assert client.send("DELETE", f"{API}logged-models/{model_id}/tags/a").json == {}
    found = client.post("logged-models/search", experiment_ids=["0"], filter="name = 'model'").json["models"]
    assert [one["info"]["model_id"] for one in found] == [model_id]
    assert found[0]["data"]["params"] == [{"key": "depth", "value": "3"}]
    assert found[0]["info"]["tags"] == [{"key": "c", "value": "d"}]
    assert client.send("DELETE", f"{API}logged-models/{model_id}").json == {}
    assert client.get(f"logged-models/{model_id}").error == (404, "RESOURCE_DOES_NOT_EXIST")


def test_every_endpoint_for_this_release_is_there() -> None:
    there = {f"{route.method} {route.path}" for route in _ROUTES}
    experiment = ("create", "update", "delete", "restore", "search", "set-experiment-tag", "delete-experiment-tag")
    run = ("create", "update", "delete", "restore", "search", "log-metric", "log-parameter", "log-batch", "set-tag")
    more = ("delete-tag", "log-model", "log-inputs", "outputs")
    wanted = {f"POST experiments/{word}" for word in experiment} | {f"POST runs/{word}" for word in (*run, *more)}
    wanted |= {f"GET experiments/{word}" for word in ("get", "get-by-name", "list", "search")}
    wanted |= {"GET runs/get", "GET metrics/get-history", "GET artifacts/list"}
    assert wanted <= there


# Beginning and end


def test_what_the_command_sent_before_it_ended_is_kept(stage: Stage) -> None:
    """The last requests may wait in the kernel, unread, when their sender is gone."""
    with stage.socket as socket:
        client = Client(socket)
        client.get("runs/get", run_id=stage.run_id)
        for number in range(20):
            body = json.dumps({"run_id": stage.run_id, "key": "m", "value": 1, "step": number, "timestamp": 1}).encode()
            raw = sockets.create_connection(("127.0.0.1", socket.port))
            head = f"POST {API}runs/log-metric HTTP/1.1\r\nHost: 127.0.0.1:{socket.port}\r\n"
            head += f"Authorization: Bearer {socket.token}\r\nContent-Length: {len(body)}\r\n\r\n"
            raw.sendall(head.encode() + body)
            raw.close()
    assert len(values.metric_history(stage.database, stage.run_id, "m").items) == 20


def test_a_first_connection_just_before_the_end_is_answered(stage: Stage) -> None:
    """The command may connect and be gone before anything of the server is loaded."""
    body = json.dumps({"run_id": stage.run_id, "key": "t", "value": "1"}).encode()
    with stage.socket as socket, sockets.create_connection(("127.0.0.1", socket.port)) as raw:
        head = f"POST {API}runs/set-tag HTTP/1.1\r\nHost: 127.0.0.1:{socket.port}\r\n"
        head += f"Authorization: Bearer {socket.token}\r\nContent-Length: {len(body)}\r\n\r\n"
        raw.sendall(head.encode() + body)
    assert runs.get(stage.database, stage.run_id).tags["t"] == "1"


def test_a_client_that_stays_connected_does_not_hold_up_the_end(stage: Stage) -> None:
    with stage.socket as socket:
        assert Client(socket).send("GET", "/health").status == 200
        idle = sockets.create_connection(("127.0.0.1", socket.port))
        begun = sockets.create_connection(("127.0.0.1", socket.port))
        begun.sendall(b"POST /api/2.0/mlflow/runs/set-tag HTTP/1.1\r\nHost:")
    assert idle.recv(1) == b""
    idle.close()
    begun.close()


def test_after_the_end_nobody_answers(stage: Stage) -> None:
    before = set(threading.enumerate())
    with stage.socket as socket:
        port = socket.port
        assert Client(socket).send("GET", "/health").status == 200
    with pytest.raises(ConnectionRefusedError):
        sockets.create_connection(("127.0.0.1", port))
    assert set(threading.enumerate()) <= before


def test_runs_that_the_command_left_running_are_closed(stage: Stage) -> None:
    with stage.socket as socket:
        client = Client(socket)
        ids = [client.post("runs/create", experiment_id="0").json["run"]["info"]["run_id"] for _ in range(2)]
        client.post("runs/update", run_id=ids[0], status="FINISHED", end_time=7)
    assert [runs.get(stage.database, run_id).status for run_id in ids] == [RunStatus.FINISHED, RunStatus.LOST]
    assert socket.created_runs == tuple(ids)
    assert runs.get(stage.database, stage.run_id).status is RunStatus.RUNNING


def test_a_client_receives_the_status_that_it_set(stage: Stage) -> None:
    with stage.socket as socket:
        client = Client(socket)
        reported = client.post("runs/update", run_id=stage.run_id, status="FAILED", end_time=12).json["run_info"]
        assert (reported["status"], reported["end_time"]) == ("FAILED", 12)
        assert client.get("runs/get", run_id=stage.run_id).json["run"]["info"]["status"] == "FAILED"
        client.post("runs/update", run_id=stage.run_id, status="RUNNING")
        assert "end_time" not in client.get("runs/get", run_id=stage.run_id).json["run"]["info"]
        client.post("runs/update", run_id=stage.run_id, status="KILLED", run_name="renamed")
    run = runs.get(stage.database, stage.run_id)
    assert (run.status, run.ended_at, run.name) == (RunStatus.RUNNING, None, "renamed")
    assert socket.final_status is RunStatus.KILLED


@pytest.mark.parametrize("is_fixed", [False, True])
def test_the_record_follows_the_script_unless_the_user_chose(stage: Stage, is_fixed: bool) -> None:
    chosen = experiments.create(stage.database, "chosen")
    with ChildSocket(stage.home, stage.run_id, "0", stage.events.append, experiment_is_fixed=is_fixed) as socket:
        client = Client(socket)
        client.get("experiments/get-by-name", experiment_name="chosen")
        assert client.get("runs/get", run_id=stage.run_id).json["run"]["info"]["experiment_id"] == chosen
        assert runs.get(stage.database, stage.run_id).experiment_id == "0"
        client.post("runs/update", run_id=stage.run_id, status="RUNNING")
        # Whoever is attached may look at other experiments.
        client.get("experiments/get", experiment_id="0")
        assert client.get("runs/get", run_id=stage.run_id).json["run"]["info"]["experiment_id"] == chosen
    assert runs.get(stage.database, stage.run_id).experiment_id == ("0" if is_fixed else chosen)
    assert [event.kind for event in stage.events] == [EventKind.NOTICE]


def test_the_own_run_without_a_choice_stays_where_it_is(stage: Stage, client: Client) -> None:
    experiments.create(stage.database, "read")
    client.post("runs/update", run_id=stage.run_id, status="RUNNING")
    client.get("experiments/get-by-name", experiment_name="read")
    assert client.get("runs/get", run_id=stage.run_id).json["run"]["info"]["experiment_id"] == "0"
    assert not stage.events


def test_the_experiment_of_a_project_inside_is_not_the_own_one(stage: Stage, client: Client) -> None:
    """``mlflow.run(…, experiment_name="inner")`` before the script logs anything itself."""
    inner = client.post("experiments/create", name="inner").json["experiment_id"]
    tags = [{"key": "mlflow.source.type", "value": "PROJECT"}]
    run_id = client.post("runs/create", experiment_id=inner, tags=tags).json["run"]["info"]["run_id"]
    other = client.post("experiments/create", name="asked inside").json["experiment_id"]
    assert client.get("runs/get", run_id=run_id).json["run"]["info"]["experiment_id"] == other
    for each in (run_id, stage.run_id):
        client.post("runs/update", run_id=each, status="RUNNING")
    assert runs.get(stage.database, run_id).experiment_id == other
    assert runs.get(stage.database, stage.run_id).experiment_id == "0"


# Artifacts


PROXY = "/api/2.0/mlflow-artifacts/artifacts"


def place(stage: Stage, path: str, run_id: str | None = None) -> str:
    return f"{PROXY}/0/{run_id or stage.run_id}/artifacts/{path}"


def test_artifacts_travel_through_the_proxy(stage: Stage, client: Client) -> None:
    content = os.urandom(3 * 2**20)
    assert client.send("PUT", place(stage, "a/b%20c.bin"), content).json == {}
    assert (stage.home.artifacts(stage.run_id) / "a" / "b c.bin").read_bytes() == content
    reply = client.send("GET", place(stage, "a/b%20c.bin"))
    assert reply.body == content
    assert reply.headers["content-disposition"] == "attachment"
    assert reply.headers["x-content-type-options"] == "nosniff"
    folder = f"{PROXY}?path=0/{stage.run_id}/artifacts"
    assert client.send("GET", folder).json == {"files": [{"path": "a", "is_dir": True}]}
    listed = {"files": [{"path": "b c.bin", "is_dir": False, "file_size": len(content)}]}
    assert client.send("GET", f"{folder}/a").json == listed
    assert client.send("GET", f"{folder}/a/b%20c.bin").json == client.send("GET", f"{folder}/none").json == {}
    named = client.get("artifacts/list", run_id=stage.run_id, path="a").json
    assert named["root_uri"] == str(stage.home.artifacts(stage.run_id))
    assert [file["path"] for file in named["files"]] == ["a/b c.bin"]
    assert client.send("DELETE", place(stage, "a/b%20c.bin")).json == {}
    assert client.send("GET", place(stage, "a/b%20c.bin")).error == (404, "RESOURCE_DOES_NOT_EXIST")
    assert client.send("GET", place(stage, "a")).error == (404, "RESOURCE_DOES_NOT_EXIST")


BAD_PATHS = [
    "../x",
    "a/../../x",
    "%2e%2e/x",
    "%252e%252e/x",
    "..%2fx",
    "a%00b",
    "a%0ab",
    "%2fetc%2fpasswd",
    "/etc/passwd",
    "a\\..\\x",
    "c:/x",
    "./x",
    "",
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_paths_that_lead_out_are_refused(stage: Stage, client: Client, path: str) -> None:
    """Probe 34."""
    before = sorted(stage.home.root.rglob("*"))
    for method in ("PUT", "GET", "DELETE"):
        status, code = client.send(method, place(stage, path), b"x" if method == "PUT" else None).error
        assert (status, code) in {(400, "INVALID_PARAMETER_VALUE"), (404, "RESOURCE_DOES_NOT_EXIST")}
        assert method == "GET" or status == 400
    if path:
        assert client.get("artifacts/list", run_id=stage.run_id, path=path).status in (200, 400)
    assert sorted(stage.home.root.rglob("*")) == before


@pytest.mark.parametrize("place_of", ["0/{run}/x", "0/../{run}/artifacts/x", "x", "0/" + "0" * 32 + "/artifacts/x"])
def test_only_artifacts_are_behind_the_proxy(stage: Stage, client: Client, place_of: str) -> None:
    (stage.home.run(stage.run_id)).mkdir(parents=True)
    (stage.home.run(stage.run_id) / "x").write_text("log")
    for method in ("PUT", "GET", "DELETE"):
        path = f"{PROXY}/{place_of.format(run=stage.run_id)}"
        assert client.send(method, path, b"x" if method == "PUT" else None).status in (400, 404)
    assert (stage.home.run(stage.run_id) / "x").read_text() == "log"


def test_links_out_of_the_store_are_not_followed(stage: Stage, client: Client, tmp_path: Path) -> None:
    """Probe 34."""
    (tmp_path / "secret").write_text("secret")
    root = stage.home.artifacts(stage.run_id)
    root.mkdir(parents=True)
    (root / "file").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    for path in ("file", "folder/secret"):
        assert client.send("GET", place(stage, path)).status in (400, 404)
        assert client.send("PUT", place(stage, path), b"changed").status == 400
    assert client.send("GET", f"{PROXY}?path=0/{stage.run_id}/artifacts").json == {}
    assert (tmp_path / "secret").read_text() == "secret"


def test_a_location_that_a_client_chose_is_not_served(stage: Stage, client: Client, tmp_path: Path) -> None:
    """A run in an experiment whose artifacts are in ``file:///etc`` must not make the server read there."""
    (tmp_path / "secret").write_text("secret")
    location = tmp_path.as_uri()
    experiment = client.post("experiments/create", name="elsewhere", artifact_location=location).json["experiment_id"]
    info = client.post("runs/create", experiment_id=experiment).json["run"]["info"]
    assert info["artifact_uri"].startswith(str(tmp_path))
    assert client.get("artifacts/list", run_id=info["run_id"]).error == (404, "RESOURCE_DOES_NOT_EXIST")
    assert client.send("GET", place(stage, "x", info["run_id"])).error == (404, "RESOURCE_DOES_NOT_EXIST")


def test_an_upload_that_breaks_off_leaves_nothing(stage: Stage, client: Client) -> None:
    head = f"PUT {place(stage, 'half')} HTTP/1.1\r\nHost: 127.0.0.1:{client.socket.port}\r\n"
    head += f"Authorization: Bearer {client.socket.token}\r\nContent-Length: 1000\r\n\r\n"
    with sockets.create_connection(("127.0.0.1", client.socket.port)) as raw:
        raw.sendall(head.encode() + b"x" * 500)
    deadline = time.monotonic() + 5
    root = stage.home.artifacts(stage.run_id)
    while time.monotonic() < deadline and (not root.exists() or list(root.iterdir())):
        time.sleep(0.01)
    assert list(root.iterdir()) == []


def test_presigned_downloads_are_declined_so_that_clients_ask_the_server(refusing: Client) -> None:
    reply = refusing.send("GET", "/api/2.0/mlflow-artifacts/presigned/0/x/artifacts/y")
    assert reply.error == (501, "NOT_IMPLEMENTED")
    assert reply.json["message"].startswith("Presigned download is not supported")


def test_memory_does_not_grow_with_what_is_sent(stage: Stage, client: Client) -> None:
    """64 MB go in and out; what the process uses at its peak may grow by some pieces only."""
    resource = pytest.importorskip("resource")
    size = 64 * 2**20
    client.send("PUT", place(stage, "warm"), b"x" * 2**20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    connection = http.client.HTTPConnection("127.0.0.1", client.socket.port, timeout=60)
    with closing(connection):
        headers = {**client.headers, "Content-Length": str(size)}
        pieces = (b"x" * 2**20 for _ in range(size // 2**20))
        connection.request("PUT", place(stage, "big"), pieces, headers)
        assert Reply(connection.getresponse()).json == {}
        connection.request("GET", place(stage, "big"), headers=client.headers)
        response = connection.getresponse()
        received = 0
        while piece := response.read(2**20):
            received += len(piece)
    assert received == size
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 24 * 2**20
