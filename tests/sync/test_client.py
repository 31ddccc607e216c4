"""Tests the client of tracking servers: its requests, its parsing of responses, and its errors."""

import base64
import json
import math
import secrets
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.errors import RemoteError, UnreachableError, UsageError
from runner.model import RunStatus
from runner.store.entities import (
    Dataset,
    DatasetInput,
    Metric,
    ModelOutput,
    ModelStatus,
    NewModel,
    NewRun,
    RunInputs,
)
from runner.sync.access import is_remote, read_access
from runner.sync.artifact_locations import walk
from runner.sync.client import RemoteServer
from runner.sync.transport import Patience
from tests.conftest import RunProj
from tests.support.faulty_servers import Answer, Odd, Seen, hanging, json_error, odd_server
from tests.support.standalone_server import standalone_server

HASTY = Patience(connect=2, read=1, retries=1)


@contextmanager
def speaking(
    answer: Callable[[Seen], Answer | None], environ: Mapping[str, str] | None = None, patience: Patience = HASTY
) -> Iterator[tuple[RemoteServer, Odd]]:
    with odd_server(answer) as odd, RemoteServer(odd.url, environ or {}, patience=patience) as server:
        yield server, odd


@pytest.fixture
def remote(tmp_path: Path, proj: RunProj) -> Iterator[RemoteServer]:
    """Return a client of a `proj server` that requires a token."""
    home = {"PROJ_HOME": str(tmp_path / "theirs")}
    token = proj("token", "add", "alice", "--scope", "write", **home).out.strip().splitlines()[-1]
    with (
        standalone_server(tmp_path, **home) as standalone,
        RemoteServer(standalone.url, {"MLFLOW_TRACKING_TOKEN": token}) as server,
    ):
        yield server


def test_runs_go_there_and_come_back(remote: RemoteServer) -> None:
    assert remote.experiment_by_name("iris") is None
    experiment_id = remote.create_experiment("iris", {"team": "a"})
    found = remote.experiment_by_name("iris")
    assert found == remote.experiment(experiment_id)
    assert found is not None
    assert found.tags == {"team": "a"}
    assert "iris" in [one.name for one in remote.experiments()]
    made = remote.create_run(NewRun(experiment_id=experiment_id, name="one", user="me", started_at=5, tags={"t": "1"}))
    points = [
        Metric(key="m", value=value, timestamp=7, step=step) for step, value in enumerate((0.1, math.inf, -1e300))
    ]
    remote.log_batch(made.run_id, metrics=points, params={"p": "x"}, tags={"t2": "ü"})
    remote.log_batch(made.run_id, metrics=[Metric(key="nan", value=math.nan, timestamp=1)])
    data = DatasetInput(dataset=Dataset(name="d", digest="abc", source_type="local", source="{}"), tags={"a": "b"})
    remote.log_inputs(made.run_id, RunInputs(datasets=(data,)))
    remote.update_run(made.run_id, RunStatus.FINISHED, 99)
    run = remote.run(made.run_id)
    assert (run.name, run.user, run.status, run.started_at, run.ended_at) == ("one", "me", RunStatus.FINISHED, 5, 99)
    assert run.params == {"p": "x"}
    assert {"t": "1", "t2": "ü"}.items() <= run.tags.items()
    assert run.metrics["m"].value == -1e300
    assert math.isnan(run.metrics["nan"].value)
    assert run.inputs.datasets == (data,)
    assert list(remote.metric_history(made.run_id, "m")) == points
    assert [one.run_id for one in remote.search_runs([experiment_id], "params.p = 'x'")] == [made.run_id]
    assert list(remote.search_runs([experiment_id], "params.p = 'y'")) == []
    remote.delete_tag(made.run_id, "t")
    remote.delete_tag(made.run_id, "t")
    assert "t" not in remote.run(made.run_id).tags


def test_searches_read_all_pages_and_stop_at_a_limit(remote: RemoteServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.sync.client._PAGE", 2)
    made = [remote.create_run(NewRun(name=f"r{number}", started_at=1 + number)).run_id for number in range(5)]
    assert [one.run_id for one in remote.search_runs(["0"])] == made[::-1]
    assert [one.name for one in remote.search_runs(["0"], order_by=["attributes.start_time ASC"], limit=3)] == [
        "r0",
        "r1",
        "r2",
    ]


def test_logged_models(remote: RemoteServer) -> None:
    run = remote.create_run(NewRun(name="r"))
    model = remote.create_logged_model(NewModel(name="net", source_run_id=run.run_id, params={"a": "1"}))
    remote.finalize_logged_model(model.model_id, ModelStatus.READY)
    remote.set_logged_model_tags(model.model_id, {"k": "v"})
    remote.log_outputs(run.run_id, [ModelOutput(model_id=model.model_id, step=3)])
    found = remote.logged_model(model.model_id)
    assert (found.name, found.status, found.params, found.tags) == ("net", ModelStatus.READY, {"a": "1"}, {"k": "v"})
    assert [one.model_id for one in remote.search_logged_models(["0"], "name = 'net'")] == [model.model_id]
    assert remote.run(run.run_id).outputs == (ModelOutput(model_id=model.model_id, step=3),)


def test_artifacts_go_through_the_proxy(remote: RemoteServer, tmp_path: Path) -> None:
    run = remote.create_run(NewRun(name="r"))
    assert run.artifact_uri.startswith("mlflow-artifacts:/")
    place = remote.location(run.artifact_uri)
    assert place is not None
    assert place.entries() == ()
    content = secrets.token_bytes(3_000_000)
    (tmp_path / "big").write_bytes(content)
    for path in ("a b/ü%20.bin", "a b/deep/x", "top"):
        with (tmp_path / "big").open("rb") as file:
            place.put(path, file)
    assert [(info.path, info.is_dir, info.size) for info in place.entries()] == [
        ("a b", True, None),
        ("top", False, 3_000_000),
    ]
    assert sorted(info.path for info in walk(place)) == ["a b/deep/x", "a b/ü%20.bin", "top"]
    assert b"".join(place.pieces("a b/ü%20.bin")) == content
    with pytest.raises(RemoteError):
        next(place.pieces("absent"))


def test_places_that_are_reached_and_that_are_not(tmp_path: Path) -> None:
    with RemoteServer("http://u:p@127.0.0.1:5000/base/", {}) as server:
        shared = server.location((tmp_path / "0" / "r" / "artifacts").as_uri())
        assert shared is not None
        (tmp_path / "f").write_text("x")
        with (tmp_path / "f").open("rb") as file:
            shared.put("d/f", file)
        assert (tmp_path / "0/r/artifacts/d/f").read_text() == "x"
        assert b"".join(shared.pieces("d/f")) == b"x"
        assert server.location("mlflow-artifacts://127.0.0.1:5000/1/r/artifacts") is not None
        for elsewhere in ("s3://bucket/1/r", "gs://b/x", "file:///no/such/place/at/all", "mlflow-artifacts://evil/1/r"):
            assert server.location(elsewhere) is None


def test_credentials_come_as_for_clients_of_mlflow(tmp_path: Path) -> None:
    def header(uri: str, **environ: str) -> str:
        return read_access(uri, environ).authorization

    def basic(text: str) -> str:
        return f"Basic {base64.b64encode(text.encode()).decode()}"

    pair = {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "pw"}
    assert header("http://h") == ""
    assert header("http://h", MLFLOW_TRACKING_TOKEN="tok") == "Bearer tok"
    assert header("http://h", **pair, MLFLOW_TRACKING_TOKEN="tok") == basic("ann:pw")
    assert header("http://bob:se%40cret@h", **pair) == basic("bob:se@cret")
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text(
        "[mlflow]\nmlflow_tracking_username = eve\nmlflow_tracking_password = 50%\n"
    )
    assert header("http://h", HOME=str(tmp_path)) == basic("eve:50%")
    access = read_access("https://bob:secret-word@Host:8443/mlflow/", {})
    assert access.url == "https://host:8443/mlflow"
    assert "secret-word" not in repr(access)
    assert access.masker.text("it is secret-word") == "it is ***"
    assert read_access("http://[::1]:5000", {}).url == "http://[::1]:5000"


@pytest.mark.parametrize("uri", ["databricks", "http://", "http://h:x", "ftp://h", "http://[::1", "sqlite:///x.db"])
def test_an_invalid_address_is_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="not the address"):
        RemoteServer(uri, {})


def test_settings_that_can_not_work_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="MLFLOW_TRACKING_SERVER_CERT_PATH"):
        RemoteServer("https://h", {"MLFLOW_TRACKING_SERVER_CERT_PATH": str(tmp_path / "absent")})
    with pytest.raises(UsageError, match="MLFLOW_TRACKING_TOKEN") as caught:
        RemoteServer("https://h", {"MLFLOW_TRACKING_TOKEN": "very\nsecret"})
    assert "secret" not in str(caught.value)


def test_only_some_uris_are_remote() -> None:
    assert is_remote("HTTPS://h")
    assert not any(is_remote(uri) for uri in ("", "file:///x", "sqlite:///x", "./mlruns", "databricks"))


def test_an_unreachable_server_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    word = secrets.token_hex(12)
    server = RemoteServer(f"http://u:{word}@127.0.0.1:{port}", {}, patience=HASTY)
    with server, pytest.raises(UnreachableError, match="can't be reached") as caught:
        server.experiment("0")
    assert word not in f"{caught.value} {caught.value.context} {caught.value.hint}"
    assert "HTTPConnection" not in str(caught.value.context)
    assert "refused" in str(caught.value.context)
    assert caught.value.is_transient


def test_a_server_that_hangs_is_not_waited_for_for_ever() -> None:
    impatient = Patience(read=0.2, retries=0)
    with speaking(hanging(5), patience=impatient) as (server, _), pytest.raises(UnreachableError, match="in time"):
        server.experiment("0")


def test_only_idempotent_requests_are_retried_after_a_disconnect() -> None:
    with speaking(lambda _seen: None) as (server, odd):
        for _ in range(2):
            with pytest.raises(UnreachableError):
                server.create_run(NewRun())
        assert len(odd.seen) == 2
        with pytest.raises(UnreachableError):
            server.experiment("0")
        assert len(odd.seen) == 4


def test_a_server_with_too_much_to_do_is_asked_once_more() -> None:
    requested: list[Seen] = []

    def answer(seen: Seen) -> Answer:
        requested.append(seen)
        return (429, "text/plain", b"") if len(requested) == 1 else (200, "application/json", b'{"experiment_id": "7"}')

    with speaking(answer) as (server, _):
        assert server.create_experiment("x") == "7"
    assert len(requested) == 2
    assert requested[0].body == requested[1].body


def test_faults_of_the_server() -> None:
    with speaking(lambda _seen: (503, "text/html", b"<h1>tea time</h1>")) as (server, odd):
        with pytest.raises(RemoteError, match="fails with HTTP 503") as caught:
            server.experiment("0")
        assert caught.value.is_transient
        assert len(odd.seen) == 2


@pytest.mark.parametrize("status", [200, 404])
def test_another_kind_of_server(status: int) -> None:
    page = b"<html>\x1b[31mPlease log in</html>"
    words = r"endpoint|does not respond like a tracking server"
    with (
        speaking(lambda _seen: (status, "text/html", page)) as (server, _),
        pytest.raises(RemoteError, match=words) as e,
    ):
        server.experiment("0")
    assert "Please log in" in (e.value.context or "")
    assert "\x1b" not in (e.value.context or "")
    assert e.value.is_unknown_endpoint == (status == 404)
    assert not e.value.is_transient


def test_json_of_another_kind() -> None:
    reported = (200, "application/json", b'{"hello": 1}')
    with speaking(lambda _seen: reported) as (server, _), pytest.raises(RemoteError, match="does not respond like"):
        server.run("a" * 32)


def test_words_of_the_server_do_not_carry_the_token_back() -> None:
    word = secrets.token_hex(12)
    reported = json_error(400, "INVALID_PARAMETER_VALUE", f"bad {word}")
    environ = {"MLFLOW_TRACKING_TOKEN": word}
    with speaking(lambda _seen: reported, environ) as (server, odd), pytest.raises(RemoteError) as caught:
        server.create_experiment("x")
    assert odd.seen[0].headers["authorization"] == f"Bearer {word}"
    assert caught.value.code == "INVALID_PARAMETER_VALUE"
    assert "bad ***" in caught.value.message
    assert word not in caught.value.message


@pytest.mark.parametrize(("status", "words"), [(401, "requires valid credentials"), (403, "denies permission")])
def test_rights(status: int, words: str) -> None:
    reported = (status, "text/plain", b"no")
    with speaking(lambda _seen: reported) as (server, _), pytest.raises(RemoteError, match=words) as caught:
        server.experiment("0")
    assert caught.value.hint


def test_a_wrong_token(tmp_path: Path, proj: RunProj) -> None:
    home = {"PROJ_HOME": str(tmp_path / "theirs")}
    assert proj("token", "add", "alice", "--scope", "write", **home).code == 0
    with standalone_server(tmp_path, **home) as standalone:
        server = RemoteServer(standalone.url, {"MLFLOW_TRACKING_TOKEN": "x"})
        with server, pytest.raises(RemoteError, match="requires valid credentials") as caught:
            server.experiment("0")
    assert "MLFLOW_TRACKING_TOKEN" in (caught.value.hint or "")


def test_redirects_are_not_followed() -> None:
    with speaking(lambda _seen: (302, "text/html", b"")) as (server, odd):
        with pytest.raises(RemoteError, match="redirects to"):
            server.experiment("0")
        assert len(odd.seen) == 1


def test_numbers_may_come_as_text() -> None:
    info = {"run_id": "r", "start_time": "5", "extra": [1]}
    reported = {"run": {"info": info, "data": {"metrics": [{"key": "m", "value": "NaN", "step": "3"}]}}}
    with speaking(lambda _seen: (200, "application/json", json.dumps(reported).encode())) as (server, _):
        run = server.run("r")
    assert run.started_at == 5
    assert run.metrics["m"].step == 3
    assert math.isnan(run.metrics["m"].value)


def test_a_download_that_ends_too_early_is_noticed() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")

    thread = threading.Thread(target=answer)
    thread.start()
    with RemoteServer(f"http://127.0.0.1:{listener.getsockname()[1]}", {}, patience=HASTY) as server, listener:
        place = server.location("mlflow-artifacts:/0/r/artifacts")
        assert place is not None
        with pytest.raises(UnreachableError):
            list(place.pieces("f"))
    thread.join()


def test_tls(tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not there to make a certificate")
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-nodes")
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-keyout", "k.pem", "-out", "c.pem", *names]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    certificate = str(tmp_path / "c.pem")
    with standalone_server(tmp_path, "--tls-cert", "c.pem", "--tls-key", "k.pem") as standalone:
        for environ in (
            {"MLFLOW_TRACKING_SERVER_CERT_PATH": certificate},
            {"REQUESTS_CA_BUNDLE": certificate},
            {"MLFLOW_TRACKING_INSECURE_TLS": "true"},
        ):
            with RemoteServer(standalone.url, environ) as server:
                assert server.experiment("0").name == "Default"
        unknown = RemoteServer(standalone.url, {}, patience=HASTY)
        with unknown, pytest.raises(RemoteError, match=r"certificate of .* is not accepted") as caught:
            unknown.experiment("0")
    assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in (caught.value.hint or "")


def test_a_proxy_is_asked_where_the_user_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    reported = {"experiment": {"experiment_id": "0", "name": "by proxy"}}
    with odd_server(lambda _seen: (200, "application/json", json.dumps(reported).encode())) as odd:
        monkeypatch.setenv("http_proxy", odd.url.replace("http://", "http://ann:word@"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with RemoteServer("http://mlflow.example.invalid:5000", {}, patience=HASTY) as server:
            assert server.experiment("0").name == "by proxy"
        assert odd.seen[0].path.startswith("http://mlflow.example.invalid:5000/api/2.0/mlflow/experiments/get")
        assert odd.seen[0].headers["proxy-authorization"].startswith("Basic ")
        with RemoteServer(odd.url, {}, patience=HASTY) as server:
            server.experiment("0")
        assert odd.seen[1].path.startswith("/api/2.0")
