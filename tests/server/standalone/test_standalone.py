"""``proj server``: who gets in, what they may do, artifacts through the proxy, the log, the end."""

import base64
import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import pytest
from msgspec import structs

from runner.model import RunDetails, RunStatus
from runner.server.peers import can_tell_users, find_user
from runner.server.standalone.rights import TokenSession
from runner.settings import Home
from runner.store import runs, tokens
from runner.store.database import Database
from runner.store.entities import NewRun
from runner.store.process_identity import this_process
from runner.store.tokens import Scope
from tests.conftest import RunProj
from tests.support.protocol import API
from tests.support.standalone_server import RunningServer, standalone_server

PROXY = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Return the home of the server that most tests share."""
    return Home(tmp_path_factory.mktemp("team") / "home")


@pytest.fixture(scope="module")
def standalone(place: Home) -> Iterator[RunningServer]:
    with standalone_server(place.root.parent, PROJ_HOME=str(place.root)) as server:
        yield server


@pytest.fixture
def standalone_db(place: Home) -> Iterator[Database]:
    with closing(Database.open(place.database)) as database:
        yield database


def test_a_script_on_this_machine_needs_no_token(standalone: RunningServer, standalone_db: Database) -> None:
    run = standalone.post("runs/create", experiment_id="0", run_name="r").json["run"]["info"]
    assert standalone.post("runs/log-metric", run_id=run["run_id"], key="m", value=0.5).json == {}
    assert runs.get(standalone_db, run["run_id"]).metrics["m"].value == 0.5
    assert "No token is required: your own processes can read and write" in standalone.log or not can_tell_users()
    assert standalone.send("GET", "/health").body == b"OK"


def test_artifacts_go_through_the_proxy(standalone: RunningServer, place: Home) -> None:
    run = standalone.post("runs/create", experiment_id="0").json["run"]["info"]
    uri = run["artifact_uri"]
    assert uri == f"mlflow-artifacts:/runs/{run['run_id']}/artifacts"
    path = f"{PROXY}/{uri.partition(':/')[2]}/a/b%20c.bin"
    content = os.urandom(2**20)
    assert standalone.send("PUT", path, content).json == {}
    assert (place.artifacts(run["run_id"]) / "a" / "b c.bin").read_bytes() == content
    assert standalone.send("GET", path).body == content
    listed = standalone.get("artifacts/list", run_id=run["run_id"], path="a")
    assert (listed["root_uri"], listed["files"][0]["path"]) == (uri, "a/b c.bin")
    assert (
        standalone.get("experiments/get", experiment_id="0")["experiment"]["artifact_location"]
        == "mlflow-artifacts:/runs"
    )
    model = standalone.post("logged-models", experiment_id="0", name="m").json["model"]["info"]
    assert model["artifact_uri"] == f"mlflow-artifacts:/runs/models/{model['model_id']}/artifacts"
    assert standalone.send("PUT", f"{PROXY}/{model['artifact_uri'].partition(':/')[2]}/MLmodel", b"x").json == {}
    standalone.post("registered-models/create", name="proxied")
    source = f"{uri}/my model"
    made = standalone.post("model-versions/create", name="proxied", source=source, run_id=run["run_id"]).json[
        "model_version"
    ]
    assert made["source"] == source
    assert standalone.get("model-versions/get-download-uri", name="proxied", version="1") == {"artifact_uri": source}


def test_a_place_for_artifacts_behind_the_proxy_is_the_usual_one(standalone: RunningServer) -> None:
    made = standalone.post("experiments/create", name="e", artifact_location="mlflow-artifacts:/mine").json[
        "experiment_id"
    ]
    info = standalone.post("runs/create", experiment_id=made).json["run"]["info"]
    assert info["artifact_uri"].startswith("mlflow-artifacts:/runs/")


@pytest.mark.parametrize(
    "source", ["file:///etc", "/etc/passwd", "etc", "file://host/x", "mlflow-artifacts:/x", "mlflow-artifacts://h/0/x"]
)
def test_files_of_the_server_are_no_models(standalone: RunningServer, source: str) -> None:
    standalone.post("registered-models/create", name="m")
    assert standalone.post("model-versions/create", name="m", source=source).error == (400, "INVALID_PARAMETER_VALUE")


def test_artifact_uris_are_translated_in_both_directions(home: Home) -> None:
    session = TokenSession(home)
    for uri in (home.artifacts("0" * 32).as_uri() + "/m%20%C3%A9", "s3://bucket/x", "http://h/x"):
        assert session.uri_of_source(session.uri_for_client(uri)) == uri


def test_what_proj_recorded_stays(standalone: RunningServer, standalone_db: Database) -> None:
    run_id = runs.create(standalone_db, NewRun(tags={"proj.tree": "t"}, details=RunDetails(command="c"))).run_id
    runs.update(standalone_db, run_id, status=RunStatus.FINISHED, ended_at=5)
    assert standalone.post("runs/set-tag", run_id=run_id, key="proj.tree", value="x").error == (
        403,
        "PERMISSION_DENIED",
    )
    assert standalone.post("runs/update", run_id=run_id, status="FAILED").json["run_info"]["status"] == "FINISHED"
    assert standalone.post("runs/set-tag", run_id=run_id, key="mine", value="x").json == {}
    run = runs.get(standalone_db, run_id)
    assert (run.status, run.ended_at, run.tags["proj.tree"], run.tags["mine"]) == (RunStatus.FINISHED, 5, "t", "x")


def test_tokens_with_scopes(tmp_path: Path, db: Database) -> None:
    reader, writer = tokens.add(db, "reader", Scope.READ), tokens.add(db, "writer", Scope.WRITE)
    assert reader not in str([tuple(row) for row in db.query("SELECT * FROM tokens")])
    with standalone_server(tmp_path) as standalone:
        assert standalone.post("runs/create", experiment_id="0").error == (401, "CUSTOMER_UNAUTHORIZED")
        assert standalone.post("runs/create", "wrong", experiment_id="0").error == (401, "CUSTOMER_UNAUTHORIZED")
        made = standalone.post("runs/create", writer, experiment_id="0").json["run"]["info"]["run_id"]
        for endpoint in ("runs/search", "experiments/search", "logged-models/search"):
            assert standalone.post(endpoint, reader, experiment_ids=["0"]).status == 200, endpoint
        assert standalone.get("runs/get", reader, run_id=made)["run"]["info"]["run_id"] == made
        denied = (403, "PERMISSION_DENIED")
        assert standalone.post("runs/create", reader, experiment_id="0").error == denied
        assert standalone.send("PUT", f"{PROXY}/runs/{made}/artifacts/x", b"x", reader).error == denied
        assert standalone.send("DELETE", f"{PROXY}/runs/{made}/artifacts/x", None, reader).error == denied
        assert standalone.send("DELETE", f"{API}registered-models/delete", b'{"name": "m"}', reader).error == denied
        password = base64.b64encode(f"anyone:{writer}".encode()).decode()
        assert standalone.send("GET", f"{API}experiments/search", Authorization=f"Basic {password}").status == 200
        for broken in ("Basic !", "Basic", f"Basic {base64.b64encode(b'x').decode()}", writer, f"Bearer {writer}x"):
            assert standalone.send("GET", f"{API}experiments/search", Authorization=broken).status == 401, broken
        tokens.revoke(db, "writer")
        assert standalone.post("runs/create", writer, experiment_id="0").error == (401, "CUSTOMER_UNAUTHORIZED")
        assert standalone.send("GET", "/health").status == standalone.send("GET", "/version").status == 200
        log = standalone.log
    assert " reader POST /api/2.0/mlflow/runs/search 200 " in log
    assert reader not in log
    assert writer not in log
    assert password not in log


def test_the_first_token_closes_a_server_that_runs(tmp_path: Path, db: Database) -> None:
    with standalone_server(tmp_path) as standalone:
        assert standalone.post("runs/create", experiment_id="0").status == 200
        reader = tokens.add(db, "reader", Scope.READ)
        for given in ("", "wrong"):
            assert standalone.post("experiments/search", given).error == (401, "CUSTOMER_UNAUTHORIZED")
        assert standalone.post("experiments/search", reader).status == 200
        assert standalone.post("runs/create", reader, experiment_id="0").error == (403, "PERMISSION_DENIED")
        tokens.revoke(db, "reader")
        for given in ("", reader):  # it does not open again while it runs
            assert standalone.post("experiments/search", given).error == (401, "CUSTOMER_UNAUTHORIZED")


def test_the_log_has_one_clean_line_for_each_request_and_no_query(standalone: RunningServer) -> None:
    standalone.send("GET", f"{API}runs/get?run_id=s3cret")
    standalone.send("GET", f"{API}%1b%5bline%0aFAKE")
    deadline = time.monotonic() + 5
    while "FAKE" not in standalone.log and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "s3cret" not in standalone.log
    assert "\x1b" not in standalone.log
    (line,) = (line for line in standalone.log.splitlines() if "FAKE" in line)
    assert line.split()[1:5] == ["127.0.0.1", "owner", "GET", f"{API}\\x1b[line\\nFAKE"]
    assert line.endswith(" ms")


def test_the_log_can_be_left_out(tmp_path: Path) -> None:
    with standalone_server(tmp_path, "--quiet") as standalone:
        assert standalone.send("GET", "/health").status == 200
        assert " GET " not in standalone.log


@pytest.mark.parametrize(
    "name", ["evil.example", "evil.example:{port}", "", "10.0.0.1:{port}", "localhost.evil.example"]
)
def test_a_rebound_name_is_refused(standalone: RunningServer, name: str) -> None:
    reply = standalone.send("GET", "/health", Host=name.format(port=standalone.port))
    assert reply.error == (403, "PERMISSION_DENIED")


def test_pages_of_other_sites_are_refused(standalone: RunningServer) -> None:
    for origin in ("https://evil.example", "null", f"http://127.0.0.1:{standalone.port + 1}", ""):
        assert standalone.send("POST", f"{API}runs/search", b"{}", Origin=origin).error == (403, "PERMISSION_DENIED")
    own = f"http://127.0.0.1:{standalone.port}"
    assert standalone.send("POST", f"{API}runs/search", b"{}", Origin=own).status == 200


def test_other_names_are_allowed_on_demand(tmp_path: Path) -> None:
    with standalone_server(tmp_path, "--allow-host", "Models.example.org") as standalone:
        for name in ("models.example.org", "models.example.org:8443"):
            assert standalone.send("GET", "/health", Host=name).status == 200


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.skipif(not can_tell_users(), reason="this kernel does not tell whose a connection is")
def test_another_user_of_this_machine_is_refused(standalone: RunningServer) -> None:
    """A second user's process without a token must not write."""
    code = f"""
import encodings.idna, http.client, os
os.setuid(65534)
connection = http.client.HTTPConnection("127.0.0.1", {standalone.port}, timeout=20)
connection.request("POST", "{API}runs/create", b'{{"experiment_id": "0"}}')
print(connection.getresponse().status)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "401"


@pytest.mark.skipif(not can_tell_users(), reason="this kernel does not tell whose a connection is")
def test_the_user_of_a_connection_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with socket.create_connection(address) as near, closing(listener.accept()[0]):
            assert find_user(near.getsockname(), address) == os.geteuid()
            assert find_user((address[0], 1), address) is None


@pytest.mark.parametrize("words", [[], ["--no-token"]])
def test_no_other_address_without_tokens(proj: RunProj, words: list[str]) -> None:
    done = proj("server", "--host", "0.0.0.0", "--port", "0", *words)
    assert done.code == 1
    assert "token" in done.err


def test_another_address_with_tokens(tmp_path: Path, db: Database) -> None:
    secret = tokens.add(db, "me", Scope.WRITE)
    with standalone_server(tmp_path, "--host", "0.0.0.0") as standalone:
        assert "Without TLS" in standalone.log
        assert standalone.post("runs/create", experiment_id="0").status == 401
        assert standalone.post("runs/create", secret, experiment_id="0").status == 200
        assert standalone.send("GET", "/health", Host="10.1.2.3:80").status == 200
        assert standalone.send("GET", "/health", Host="evil.example").status == 403
    with standalone_server(tmp_path, "--no-token") as standalone:
        assert standalone.post("runs/create", experiment_id="0").status == 200


def test_an_address_that_is_taken(proj: RunProj) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = proj("server", "--port", str(taken.getsockname()[1]))
    assert done.code == 1
    assert "can't listen" in done.err


def test_tls(tmp_path: Path, proj: RunProj) -> None:
    if subprocess.run(["openssl", "version"], capture_output=True, check=False).returncode:
        pytest.skip("openssl is not there to make a certificate")
    words = "req -x509 -newkey rsa:2048 -nodes -keyout k.pem -out c.pem -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(["openssl", *words.split(), *names], cwd=tmp_path, check=True, capture_output=True)
    with standalone_server(tmp_path, "--tls-cert", "c.pem", "--tls-key", "k.pem") as standalone:
        assert standalone.url.startswith("https://")
        trusting = ssl.create_default_context(cafile=tmp_path / "c.pem")
        with urlopen(f"{standalone.url}/health", context=trusting, timeout=20) as reply:
            assert reply.read() == b"OK"
    assert proj("server", "--tls-cert", "c.pem").code == 2
    assert proj("server", "--port", "0", "--tls-cert", "k.pem", "--tls-key", "k.pem", cwd=tmp_path).code == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_when_told_and_answers_what_has_begun(tmp_path: Path, home: Home, number: int) -> None:
    with standalone_server(tmp_path) as standalone:
        stop_while_sending(standalone, home, number)


def stop_while_sending(standalone: RunningServer, home: Home, number: int) -> None:
    run = standalone.post("runs/create", experiment_id="0").json["run"]["info"]["run_id"]
    fields = f"Host: 127.0.0.1:{standalone.port}\r\nContent-Length: 6\r\n"
    head = f"PUT {PROXY}/runs/{run}/artifacts/big HTTP/1.1\r\n{fields}\r\n"
    with socket.create_connection(("127.0.0.1", standalone.port)) as raw:
        raw.sendall(head.encode() + b"abc")
        time.sleep(0.3)
        stopping = threading.Thread(target=standalone.stop, args=(number,))
        stopping.start()
        time.sleep(0.3)
        raw.sendall(b"def")
        assert b" 200 " in raw.recv(1000)
    stopping.join()
    assert standalone.process.returncode == 0
    assert (home.artifacts(run) / "big").read_bytes() == b"abcdef"
    assert standalone.log.endswith("stopped\n")


@pytest.mark.slow
def test_a_run_whose_process_is_gone_is_marked_while_the_server_runs(
    standalone: RunningServer, standalone_db: Database
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    owner = structs.replace(this_process(), pid=ended.pid, started="1")
    ended.wait()
    run_id = runs.create(standalone_db, NewRun(owner=owner)).run_id
    deadline = time.monotonic() + 60
    while runs.get(standalone_db, run_id).status is RunStatus.RUNNING and time.monotonic() < deadline:
        time.sleep(0.1)
    assert standalone.get("runs/get", run_id=run_id)["run"]["info"]["status"] == "FAILED"
    assert runs.get(standalone_db, run_id).status is RunStatus.LOST


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_large_files_pass_through_without_being_held(tmp_path: Path) -> None:
    size = 400 * 2**20
    with standalone_server(tmp_path) as standalone:
        run_id = standalone.post("runs/create", experiment_id="0").json["run"]["info"]["run_id"]
        path = f"{PROXY}/runs/{run_id}/artifacts/large"
        before = most_memory(standalone)
        with closing(http.client.HTTPConnection("127.0.0.1", standalone.port, timeout=120)) as connection:
            pieces = (bytes([number]) * 2**20 for number in (n % 256 for n in range(size // 2**20)))
            connection.request("PUT", path, pieces, {"Content-Length": str(size)})
            assert connection.getresponse().read() == b"{}"
            connection.request("GET", path)
            reply = connection.getresponse()
            # Whoever is slow to take it does not make the server hold it.
            time.sleep(0.5)
            assert reply.length == size
            for number in range(size // 2**20):
                assert reply.read(2**20) == bytes([number % 256]) * 2**20
        assert most_memory(standalone) - before < 20_000


def most_memory(standalone: RunningServer) -> int:
    """Return the most memory that a server has had, in kilobytes."""
    status = Path(f"/proc/{standalone.process.pid}/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0])


def test_a_body_that_is_too_large_is_refused(standalone: RunningServer) -> None:
    reply = standalone.send("POST", f"{API}runs/log-batch", b"", **{"Content-Length": str(2**40)})
    assert reply.error == (413, "RESOURCE_LIMIT_EXCEEDED")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_it_is_small(tmp_path: Path) -> None:
    """The budget is 100 MB."""
    with standalone_server(tmp_path) as standalone:
        assert standalone.send("GET", "/health").status == 200
        status = Path(f"/proc/{standalone.process.pid}/status").read_text(encoding="ascii")
        assert int(status.split("VmRSS:")[1].split()[0]) < 100_000


def test_tokens_on_the_command_line(proj: RunProj) -> None:
    made = proj("token", "add", "alice", "--scope", "read")
    assert made.code == 0
    assert made.out.startswith("proj_")
    assert [(row["name"], row["scope"]) for row in proj("token", "list", "--json").json] == [("alice", "read")]
    assert made.out.strip() not in proj("token", "list").out
    assert proj("token", "add", "alice").code == 1
    assert proj("token", "add", "a b").code == 1
    assert proj("token", "revoke", "alice").code == 0
    assert proj("token", "revoke", "alice").code == 1
    assert "no tokens" in proj("token", "list").err
