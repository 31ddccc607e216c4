"""Artifacts that arrive through ``proj server`` get a digest, so that damage is noticed later."""

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from runner.model import RunStatus
from runner.server.upload_digests import UploadDigests
from runner.settings import Home
from runner.store import artifact_digests, models, runs
from runner.store.artifacts import write_artifact
from runner.store.database import Database
from runner.store.entities import NewModel, NewRun
from tests.conftest import RunProj
from tests.support.process_driver import wait_until
from tests.support.standalone_server import RunningServer, standalone_server

PROXY = "/api/2.0/mlflow-artifacts"
LARGE = os.urandom(700_000)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def standalone(home: Home, tmp_path: Path) -> Iterator[RunningServer]:
    with standalone_server(tmp_path, PROJ_HOME=str(home.root)) as server:
        yield server


def put(standalone: RunningServer, path: str, content: bytes) -> None:
    reply = standalone.send("PUT", f"{PROXY}/artifacts/runs/{path}", content)
    assert reply.status == 200, reply.json


def put_parts(standalone: RunningServer, folder: str, name: str, parts: list[bytes]) -> None:
    body = json.dumps({"path": name, "num_parts": len(parts)}).encode()
    created = standalone.send("POST", f"{PROXY}/mpu/create/runs/{folder}", body).json
    sent = []
    for one, part in zip(created["credentials"], parts, strict=True):
        tag = standalone.send("PUT", one["url"].partition(str(standalone.port))[2], part).headers["etag"]
        sent.append({"part_number": one["part_number"], "etag": tag})
    body = json.dumps({"path": name, "upload_id": created["upload_id"], "parts": sent}).encode()
    assert standalone.send("POST", f"{PROXY}/mpu/complete/runs/{folder}", body).status == 200


def digests(db: Database, owner: str) -> dict[str, str]:
    return {one.path: one.sha256 for one in artifact_digests.read(db, owner)}


def make_run(db: Database) -> str:
    return runs.create(db, NewRun(experiment_id="0")).run_id


def test_every_kind_of_upload_gets_a_digest(home: Home, standalone: RunningServer, db: Database, proj: RunProj) -> None:
    run_id = make_run(db)
    model_id = models.create(db, NewModel(experiment_id="0", name="net", source_run_id=run_id)).model_id
    root = f"{run_id}/artifacts"
    put(standalone, f"{root}/small.txt", b"small")
    put(standalone, f"{root}/d/large.bin", LARGE)
    put(standalone, f"{root}/slash/", b"slash")
    put(standalone, f"{root}/{quote('.proj-name=a=0Ab')}", b"odd")
    put(standalone, f"models/{model_id}/artifacts/MLmodel", b"flavors: {}")
    put_parts(standalone, root, "parts.bin", [LARGE[:300_000], LARGE[300_000:]])
    expected = {
        "small.txt": sha(b"small"),
        "d/large.bin": sha(LARGE),
        "slash": sha(b"slash"),
        "a\nb": sha(b"odd"),
        "parts.bin": sha(LARGE),
    }
    wait_until(lambda: digests(db, run_id) == expected and digests(db, model_id))
    assert digests(db, model_id) == {"MLmodel": sha(b"flavors: {}")}
    runs.update(db, run_id, status=RunStatus.FINISHED)
    assert proj("get", run_id, "--to", "whole").code == 0
    (home.artifacts(run_id) / "d" / "large.bin").write_bytes(LARGE[:-1] + b"?")
    got = proj("get", run_id, "--to", "copy")
    assert (got.code, "damaged" in got.err) == (1, True)
    found = proj("verify")
    assert (found.code, "large.bin" in found.out + found.err) == (1, True)


@pytest.mark.parametrize("path", ["a.txt", "a.txt/", ".proj-name=a=0Ab"])
def test_a_replaced_file_has_the_digest_of_its_new_content(standalone: RunningServer, db: Database, path: str) -> None:
    run_id = make_run(db)
    for number in range(20):
        put(standalone, f"{run_id}/artifacts/{quote(path)}", b"%d" % number * 50_000)
    standalone.stop()
    assert list(digests(db, run_id).values()) == [sha(b"19" * 50_000)]


def test_a_removed_file_has_no_digest(home: Home, standalone: RunningServer, db: Database) -> None:
    run_id = make_run(db)
    put(standalone, f"{run_id}/artifacts/d/a", b"1")
    put(standalone, f"{run_id}/artifacts/b", b"2")
    wait_until(lambda: len(digests(db, run_id)) == 2)
    assert standalone.send("DELETE", f"{PROXY}/artifacts/runs/{run_id}/artifacts/d/").status == 200
    standalone.stop()
    assert digests(db, run_id) == {"b": sha(b"2")}
    assert not list((home.root / "runs" / ".proj-partial").iterdir())


def test_the_next_server_records_what_a_killed_one_left(home: Home, tmp_path: Path, db: Database) -> None:
    run_id = make_run(db)
    put_before = home.artifacts(run_id) / "early"
    with standalone_server(tmp_path, PROJ_HOME=str(home.root)) as standalone:
        put(standalone, f"{run_id}/artifacts/a", b"1")
        put(standalone, f"{run_id}/artifacts/b", LARGE)
        standalone.process.send_signal(signal.SIGKILL)
        standalone.process.wait()
    put_before.write_bytes(b"written without a server")
    with standalone_server(tmp_path, PROJ_HOME=str(home.root)) as standalone:
        wait_until(lambda: len(digests(db, run_id)) == 3)
    assert digests(db, run_id) == {"a": sha(b"1"), "b": sha(LARGE), "early": sha(b"written without a server")}


def test_a_killed_server_that_only_got_a_model_left_a_mark(home: Home, tmp_path: Path, db: Database) -> None:
    model_id = models.create(db, NewModel(experiment_id="0", name="net")).model_id
    with standalone_server(tmp_path, PROJ_HOME=str(home.root)) as standalone:
        put(standalone, f"models/{model_id}/artifacts/a", b"1")
        standalone.process.send_signal(signal.SIGKILL)
        standalone.process.wait()
    with UploadDigests(db, home, lambda _event: None):
        pass
    assert digests(db, model_id) == {"a": sha(b"1")}


def test_files_that_vanish_or_become_links_are_passed_over(home: Home, db: Database, tmp_path: Path) -> None:
    run_id = make_run(db)
    root = home.artifacts(run_id)
    (tmp_path / "secret").write_bytes(b"secret")
    for name in ("gone", "link", "there"):
        write_artifact(root, name, [name.encode()])
    events: list[object] = []
    with UploadDigests(db, home, events.append) as uploads:
        for name in ("gone", "link", "there"):
            uploads.add(run_id, root, (name,))
        (root / "gone").unlink()
        (root / "link").unlink()
        (root / "link").symlink_to(tmp_path / "secret")
    assert digests(db, run_id) == {"there": sha(b"there")}
    assert events == []


def test_a_mark_that_names_no_run_is_dropped(home: Home, db: Database) -> None:
    marks = home.root / "runs" / ".proj-partial"
    marks.mkdir(parents=True)
    for name in (f"undigested-{'0' * 32}", f"undigested-m-{'0' * 32}", "undigested-..", "undigested-"):
        (marks / name).touch()
    events: list[object] = []
    with UploadDigests(db, home, events.append):
        pass
    assert sorted(one.name for one in marks.iterdir()) == ["undigested-", "undigested-.."]
    assert events == []
