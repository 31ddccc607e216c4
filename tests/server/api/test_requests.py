"""What a server refuses, and in which words: addresses, pages of other sites, searches, bodies, full disks."""

import errno
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.protocol import errors
from runner.protocol.errors import response_for
from runner.server import guards, zero_copy
from runner.server.api import parts
from runner.server.api.sources import is_address
from runner.settings import Home
from runner.store import database, runs, tokens, uploads
from runner.store.database import Database
from runner.store.entities import NewRun
from runner.store.filters import MAX_LENGTH, parse_filter
from runner.store.search import RUNS
from runner.store.tokens import Scope
from tests.support.protocol import API, Client, Stage
from tests.support.standalone_server import RunningServer, standalone_server

PROXY = "/api/2.0/mlflow-artifacts/artifacts"
MPU = "/api/2.0/mlflow-artifacts/mpu"
INVALID = (400, "INVALID_PARAMETER_VALUE")
DENIED = (403, "PERMISSION_DENIED")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("requests") / "home")


@pytest.fixture(scope="module")
def standalone(place: Home) -> Iterator[RunningServer]:
    with standalone_server(place.root.parent, PROJ_HOME=str(place.root)) as server:
        server.post("registered-models/create", name="m")
        yield server


NO_ADDRESSES = [
    "javascript:alert(1)",
    "JavaScript://%0aalert(1)",
    "java%73cript:alert(1)",
    " javascript:alert(1)",
    "java\tscript:alert(1)",
    "vbscript:x",
    "data:text/html,x",
    "jar:file:/etc/x.jar!/a",
    "JAR:FILE:///etc/x.jar!/",
    "jar://x/file:/etc",
    "view-source:http://x",
    "zip://a::file:///etc/passwd",
    "s3://bucket/File:/etc",
    "filecache::FILE:///etc",
    "blob:http://x/y",
    "mailto:someone",
    "s3:/bucket",
    "file:relative",
    "file:",
    "FILE:relative/x",
    "File://127.0.0.1/etc",
    "file://example.org/etc",
    "%66ile:///etc",
    "file%3a///etc",
    "fi%256ce:///etc",
    "s3://bucket/\u202egpj.exe",
    "s3://bucket/%E2%80%AE",
    "s3://bucket/%0d%0aX: y",
    "s3://bucket/%252e%252e/other",
    "s3://bucket/..%5cother",
    "https://user:secret@example.org/m",
    "HTTPS://:secret@example.org",
    "s3://key:secret@bucket/x",
    "https://user:@example.org/m",
    "https://[::1/m",
    "",
]
OF_THIS_DISK = [
    "file:///etc",
    "FILE:///etc",
    "File:/etc",
    "file://localhost/etc",
    "file://LOCALHOST/etc",
    "/etc/passwd",
    "etc",
    "C:\\Windows",
    "c:/Windows",
    "\\\\host\\share",
    "//host/share",
]
ADDRESSES = [
    "s3://bucket/a b/é",
    "S3://bucket/x",
    "gs://bucket/x",
    "abfss://a@b.dfs.core.windows.net/x",
    "https://example.org/m?version=3",
    "dbfs:/models/x",
    "hdfs://host:9000/x",
    "hdfs:/x",
    "oss://bucket/x",
]


@pytest.mark.parametrize("uri", [*NO_ADDRESSES, *OF_THIS_DISK])
def test_a_server_takes_no_address_of_its_disk_or_that_runs_something(standalone: RunningServer, uri: str) -> None:
    assert standalone.post("model-versions/create", name="m", source=uri).error == INVALID
    if uri:
        assert standalone.post("experiments/create", name=f"at {uri!r}"[:400], artifact_location=uri).error == INVALID


@pytest.mark.parametrize("uri", ADDRESSES)
def test_a_server_takes_addresses_of_other_stores(standalone: RunningServer, uri: str) -> None:
    made = standalone.post("model-versions/create", name="m", source=uri).json["model_version"]
    assert made["source"] == uri
    made = standalone.post("experiments/create", name=f"at {uri}", artifact_location=uri).json["experiment_id"]
    assert standalone.get("experiments/get", experiment_id=made)["experiment"]["artifact_location"] == uri


@pytest.mark.parametrize("uri", NO_ADDRESSES)
def test_a_command_names_no_address_that_runs_something(client: Client, uri: str) -> None:
    client.post("registered-models/create", name="m")
    assert client.post("model-versions/create", name="m", source=uri).error == INVALID
    if uri:
        assert client.post("experiments/create", name="e", artifact_location=uri).error == INVALID


def test_a_command_may_name_places_on_its_own_disk(client: Client, tmp_path: Path) -> None:
    client.post("registered-models/create", name="m")
    for number, uri in enumerate((tmp_path.as_uri(), str(tmp_path), "file://localhost/tmp", "FILE:/tmp")):
        assert client.post("model-versions/create", name="m", source=uri).status == 200, uri
        assert client.post("experiments/create", name=f"e{number}", artifact_location=uri).status == 200, uri


@pytest.mark.parametrize("uri", ["s3://bucket/x#y", "s3://bucket/x;y"])
def test_a_place_for_artifacts_has_no_fragment(standalone: RunningServer, uri: str) -> None:
    assert standalone.post("experiments/create", name="f", artifact_location=uri).error == INVALID


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", "data:text/html,x", "file:///etc", "JaVaScRiPt:alert(1)", "x", "https://u:p@h"]
)
def test_a_link_to_a_run_leads_to_a_page(standalone: RunningServer, link: str) -> None:
    fields = {"name": "m", "source": "s3://bucket/x"}
    assert standalone.post("model-versions/create", **fields, run_link=link).error == INVALID
    assert standalone.post("model-versions/create", **fields, run_link="https://example.org/#/runs/1").status == 200


@given(
    st.sampled_from(["file", "FILE", "jar", "javascript", "data", "fIlE"]),
    st.sampled_from([":", "%3a", "%253A", ":%2f", ":/", "://", ":///"]),
    st.text(st.characters(codec="utf-8"), max_size=10),
    st.integers(0, 3),
)
def test_no_spelling_hides_a_scheme(scheme: str, sign: str, rest: str, coded: int) -> None:
    spelled = "".join(f"%{ord(letter):02x}" if index < coded else letter for index, letter in enumerate(scheme))
    uri = spelled + sign + rest
    if is_address(uri):
        assert scheme.lower() == "file"
        assert not coded
        assert sign.startswith(":")


# Pages of other sites


PAGES: list[dict[str, str]] = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "Cross-Site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
]
SIMPLE = ["text/plain", "text/plain;charset=UTF-8", "Text/Plain", "application/x-www-form-urlencoded"]
SIMPLE += ["multipart/form-data; boundary=x"]


def count_experiments(standalone: RunningServer) -> int:
    return len(standalone.post("experiments/search", max_results=1000).json["experiments"])


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_page_of_another_site_reads_and_writes_nothing(standalone: RunningServer, page: dict[str, str]) -> None:
    before = count_experiments(standalone)
    body = json.dumps({"name": f"by {page}"}).encode()
    for method in ("POST", "GET"):
        assert standalone.send(method, f"{API}experiments/create", body, **page).error == DENIED
    assert standalone.send("GET", f"{API}experiments/get?experiment_id=0", **page).error == DENIED
    assert (
        standalone.send("POST", f"{API}runs/search", b"{}", **page, **{"Content-Type": "application/json"}).error
        == DENIED
    )
    assert count_experiments(standalone) == before


@pytest.mark.parametrize("kind", SIMPLE)
def test_a_form_of_an_old_browser_writes_nothing(standalone: RunningServer, kind: str) -> None:
    """Such a browser sends neither Origin nor Sec-Fetch-Site, and these types without asking."""
    before = count_experiments(standalone)
    body = json.dumps({"name": f"by {kind}"}).encode()
    assert standalone.send("POST", f"{API}experiments/create", body, **{"Content-Type": kind}).error == (
        400,
        "BAD_REQUEST",
    )
    assert count_experiments(standalone) == before


def test_own_pages_and_links_to_them_work(standalone: RunningServer) -> None:
    own = {
        "Origin": standalone.url,
        "Sec-Fetch-Site": "same-origin",
        "Sec-Fetch-Mode": "cors",
        "Sec-Fetch-Dest": "empty",
    }
    for kind in ("application/json", "text/plain"):
        assert standalone.send("POST", f"{API}experiments/search", b"{}", **own, **{"Content-Type": kind}).status == 200
    assert (
        standalone.send("GET", f"{API}experiments/get?experiment_id=0", **{"Sec-Fetch-Site": "same-origin"}).status
        == 200
    )
    typed = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    link = {**typed, "Sec-Fetch-Site": "cross-site"}
    for headers in (typed, link):
        assert standalone.send("GET", "/", **headers).status == 200


def test_a_client_that_is_no_browser_may_leave_the_type_out_or_send_a_file_of_any(standalone: RunningServer) -> None:
    assert standalone.send("POST", f"{API}experiments/search", b"{}").status == 200
    run = standalone.post("runs/create", experiment_id="0").json["run"]["info"]["run_id"]
    path = f"{PROXY}/runs/{run}/artifacts/a.txt"
    assert standalone.send("PUT", path, b"x", **{"Content-Type": "text/plain"}).status == 200


def test_no_page_uses_the_socket_of_a_run(client: Client) -> None:
    for site in ("cross-site", "same-site", "same-origin"):
        assert client.send("POST", f"{API}runs/search", b"{}", **{"Sec-Fetch-Site": site}).error == DENIED


# Tokens that are revoked


@pytest.mark.parametrize("size", [zero_copy.MIN_SIZE - 1000, 1_000_000], ids=["pieces", "spliced"])
@pytest.mark.parametrize("way", ["artifacts", "part"])
def test_a_revoked_token_ends_an_upload_that_is_under_way(tmp_path: Path, home: Home, way: str, size: int) -> None:
    with closing(Database.open(home.database)) as db:
        secret = tokens.add(db, "leaver", Scope.WRITE)
        tokens.add(db, "other", Scope.WRITE)
        run_id = runs.create(db, NewRun()).run_id
        with standalone_server(tmp_path) as standalone:
            path = f"{PROXY}/runs/{run_id}/artifacts/big"
            if way == "part":
                asked = json.dumps({"path": "big", "num_parts": 1}).encode()
                made = standalone.send("POST", f"{MPU}/create/runs/{run_id}/artifacts", asked, secret).json
                path = made["credentials"][0]["url"].removeprefix(standalone.url)
            head = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n"
            with socket.create_connection(("127.0.0.1", standalone.port), timeout=30) as raw:
                raw.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % size + b"x" * 1000)
                wait_for_partial(home)
                tokens.revoke(db, "leaver")
                answer = b""
                with suppress(ConnectionError):
                    for sent in range(1000, size, 1000):
                        raw.sendall(b"x" * min(1000, size - sent))
                        time.sleep(3_000 / size)
                    answer = raw.recv(1000)
            assert b" 200 " not in answer
    assert not (home.artifacts(run_id) / "big").exists()
    assert staged_files(home) == []


def staged_files(home: Home) -> list[Path]:
    """Return the files that hold the content of uploads; the note of an upload in parts is none."""
    staging = home.root / "runs" / ".proj-partial"
    return [file for file in staging.rglob("*") if file.is_file() and file.name != "target"]


def wait_for_partial(home: Home) -> None:
    deadline = time.monotonic() + 20
    while not staged_files(home):
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Parts of a file


def test_the_answer_about_parts_is_bounded(standalone: RunningServer) -> None:
    run = standalone.post("runs/create", experiment_id="0").json["run"]["info"]["run_id"]
    body = json.dumps({"path": "big", "num_parts": uploads.MAX_PARTS}).encode()
    deep = "/".join(["d" * 200] * 20)
    for folder, headers in (
        (f"runs/{run}/artifacts/{deep}", {}),
        (f"runs/{run}/artifacts", {"Host": f"127.0.0.1:{'0' * 60_000}"}),
        (f"runs/{run}/artifacts", {"Authorization": f"Bearer {'x' * 60_000}"}),
        (f"runs/{run}/artifacts", {"Authorization": f"Basic {'x' * 60_000}"}),
    ):
        reply = standalone.send("POST", f"{MPU}/create/{folder}", body, **headers)
        assert len(reply.body) < parts._MAX_RESPONSE
        assert reply.status in (200, 400, 403, 501)
    usual = standalone.send(
        "POST", f"{MPU}/create/runs/{run}/artifacts/model", body, Authorization="Bearer " + "x" * 60
    )
    assert len(usual.json["credentials"]) == uploads.MAX_PARTS
    for number in (uploads.MAX_PARTS + 1, 0, -1, 10**30):
        body = json.dumps({"path": "big", "num_parts": number}).encode()
        assert standalone.send("POST", f"{MPU}/create/runs/{run}/artifacts", body).error == INVALID


# Searches and bodies


def search(standalone: RunningServer, endpoint: str, **fields: object) -> tuple[int, str] | int:
    reply = standalone.post(endpoint, **fields)
    return reply.status if reply.status == 200 else reply.error


SEARCHES = ("runs/search", "experiments/search", "logged-models/search")


def test_a_search_has_limits_that_are_said(standalone: RunningServer) -> None:
    def ask(condition: str, *order: str) -> Any:
        return search(standalone, "runs/search", experiment_ids=["0"], filter=condition, order_by=order)

    def joined(one: str, count: int) -> str:
        return " AND ".join(one.format(number) for number in range(count))

    assert ask(joined("metrics.m{} > 1", 50)) == 200
    assert ask(joined("tags.t{} = 'x'", 25), *(f"metrics.m{number} DESC" for number in range(25))) == 200
    assert ask(joined("attributes.start_time > {}", 200)) == 200
    ids = ", ".join(f"'{number:032x}'" for number in range(2000))
    assert ask(f"attributes.run_id IN ({ids})") == 200
    for condition in (
        joined("metrics.m{} > 1", 64),
        joined("params.p{} IS NOT NULL", 70),
        joined("tags.t{} = 'x'", 500),
        joined("metrics.m > {}", 1000),
        joined("attributes.start_time > {}", 5000),
        joined("params.p{} IS NULL", 1000),
        f"params.p LIKE '{'%a' * 30_000}'",
        f"params.p = '{'x' * MAX_LENGTH}'",
    ):
        assert ask(condition) == INVALID, condition[:60]
    assert ask("", *(f"metrics.m{number}" for number in range(70))) == INVALID
    assert ask("", *["start_time"] * 2000) == INVALID


@pytest.mark.parametrize("endpoint", SEARCHES)
@pytest.mark.parametrize("count", [70, 1100])
def test_every_search_has_them(standalone: RunningServer, endpoint: str, count: int) -> None:
    condition = " AND ".join(f"tags.t{number} = 'x'" for number in range(count))
    assert search(standalone, endpoint, experiment_ids=["0"], filter=condition) == INVALID


@pytest.mark.parametrize("endpoint", ["registered-models/search", "model-versions/search"])
def test_so_do_searches_of_the_registry(standalone: RunningServer, endpoint: str) -> None:
    condition = "%20AND%20".join(f"tags.t{number}='x'" for number in range(70))
    assert standalone.send("GET", f"{API}{endpoint}?filter={condition}").error == INVALID


HARD = [
    "1" * MAX_LENGTH,
    "1" * (MAX_LENGTH - 1) + "x",
    "'" * (MAX_LENGTH - 1),
    "a." * (MAX_LENGTH // 2),
    " " * MAX_LENGTH,
]
HARD += ["-" * MAX_LENGTH, "(" * MAX_LENGTH, '"' * (MAX_LENGTH - 1), "`" * (MAX_LENGTH - 1), "1e" * (MAX_LENGTH // 2)]


@pytest.mark.parametrize("text", HARD, ids=lambda text: text[-3:])
@pytest.mark.timeout(10)
def test_no_filter_is_long_to_read(text: str) -> None:
    with suppress(database.StoreError):
        parse_filter(text, RUNS.vocabulary)


DEEP = 100_000


@pytest.mark.parametrize(
    "body", [b"[" * DEEP, b'{"a":' * DEEP, b'{"tags":' + b"[" * DEEP, b'{"a":null,"b":' + b"[" * DEEP]
)
@pytest.mark.parametrize("endpoint", ["runs/create", "runs/log-batch", "experiments/search", "logged-models"])
def test_deep_json_is_a_bad_request(standalone: RunningServer, endpoint: str, body: bytes) -> None:
    before = len(standalone.log)
    for text in (body, body + (b"]" if body.endswith(b"[") else b"}") * DEEP):
        assert standalone.send("POST", API + endpoint, text).status == 400
    assert "A request failed" not in standalone.log[before:]


def test_deep_json_inside_a_field_is_a_bad_request(client: Client, stage: Stage) -> None:
    deep = "[" * DEEP + "]" * DEEP
    for text in (deep, json.dumps({"utc_time_created": "x"})[:-1] + f', "flavors": {deep}}}'):
        assert client.post("runs/log-model", run_id=stage.run_id, model_json=text).status in (200, 400)
    assert not stage.events


# The disk and the store


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_called_so(client: Client, monkeypatch: pytest.MonkeyPatch, number: int, stage: Stage) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, "full", str(stage.home.root / "somewhere"))

    monkeypatch.setattr("runner.server.api.artifacts.artifacts.ArtifactWriter", refuse)
    reply = client.send("PUT", f"{PROXY}/0/{stage.run_id}/artifacts/x", b"x")
    assert reply.error == (507, "IO_ERROR")
    assert str(stage.home.root) not in reply.body.decode()


def test_a_full_store_is_called_so(client: Client, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite itself refuses to let the file grow."""
    connect = Database._connect

    def limited(self: Database) -> sqlite3.Connection:
        connection = connect(self)
        connection.execute("PRAGMA max_page_count = 1")
        return connection

    monkeypatch.setattr(Database, "_connect", limited)
    for _ in range(100):
        reply = client.post("runs/set-tag", run_id=stage.run_id, key="k", value="x" * 60_000)
        if reply.status != 200:
            break
        client.post("runs/create", experiment_id="0", tags=[{"key": "a", "value": "y" * 60_000}])
    assert reply.error == (507, "IO_ERROR")
    assert str(stage.home.root) not in reply.body.decode()


def test_a_store_that_another_process_holds_is_busy(
    client: Client, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    assert client.get("runs/get", run_id=stage.run_id).status == 200
    with closing(sqlite3.connect(stage.home.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        reply = client.post("runs/set-tag", run_id=stage.run_id, key="k", value="v")
        assert reply.error == (503, "TEMPORARILY_UNAVAILABLE")
        assert str(stage.home.root) not in reply.body.decode()
    assert client.post("runs/set-tag", run_id=stage.run_id, key="k", value="v").json == {}


ODD: list[Exception] = [
    OSError(errno.EACCES, "no", "/srv/proj/home/x"),
    OSError(errno.EIO, "no", "/srv/proj/home/x"),
    RuntimeError("/srv/proj/home/x"),
    database.StoreError("The store is damaged", context="/srv/proj/home/proj.db: malformed", hint="see /srv/proj/home"),
    errors.NotFoundError("nothing", context="[Errno 2] No such file: '/srv/proj/home/runs/x'"),
    errors.InvalidValueError("no", hint="see /srv/proj/home"),
]


@pytest.mark.parametrize("error", ODD, ids=repr)
def test_no_answer_tells_of_folders_of_the_server(error: Exception) -> None:
    assert b"/srv/proj/home" not in response_for(error, "/srv/proj/home").body


def test_artifacts_that_cannot_be_read_tell_of_no_folder(standalone: RunningServer, place: Home) -> None:
    run = standalone.post("runs/create", experiment_id="0").json["run"]["info"]["run_id"]
    folder = f"{PROXY}/runs/{run}/artifacts"
    assert standalone.send("PUT", f"{folder}/a/b", b"x").status == 200
    for method, path in (("GET", "a"), ("GET", "none"), ("PUT", "a"), ("PUT", "a/b/c"), ("GET", "a/b/c")):
        reply = standalone.send(method, f"{folder}/{path}", b"x" if method == "PUT" else None)
        assert reply.status < 500 or reply.status == 507, (method, path, reply.body)
        assert str(place.root) not in reply.body.decode()


def test_a_body_is_looked_at_again_only_when_it_takes_long(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "_RECHECK", 0.0)
    threads = [threading.Thread(target=client.post, args=("runs/search",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert client.post("runs/search").status == 200


@pytest.mark.parametrize("body", [b'{"run_id": "\xff"}', b"\xff", b'{"key": "\xed\xa0\x80"}', b'{"a\xc3": null}'])
def test_a_body_that_is_not_utf_8_is_refused(client: Client, body: bytes) -> None:
    for path in ("runs/log-metric", "runs/set-tag", "runs/search", "runs/log-batch", "experiments/create"):
        reply = client.send("POST", API + path, body)
        assert reply.error == (400, "BAD_REQUEST"), path
