"""Tests the recording of artifact digests and the detection of changed and missing artifacts."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import pytest
from msgspec import structs

from runner.base.findings import Finding
from runner.settings import Home
from runner.store import artifact_digests, disk, removal, runs
from runner.store.artifact_paths import names_of
from runner.store.database import Database
from runner.store.entities import NewRun
from tests.conftest import MakeRepository, RunProj, write_tree

LOCAL = ("--env-manager", "local")
ODD = b"caf\xe9 \n.bin"


def manifest(command: str) -> str:
    return f"name: t\nentry_points:\n  main:\n    command: {json.dumps(command)}\n"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def verify(home: Home, *, repair: bool = False) -> list[Finding]:
    seen: list[tuple[int, int]] = []
    found = list(artifact_digests.verify_artifacts(home, repair=repair, progress=lambda *numbers: seen.append(numbers)))
    assert all(number <= total for number, total in seen)
    return found


def new_run(home: Home, db: Database, files: dict[str, str | bytes], run_id: str = "0" * 32) -> Path:
    runs.create(db, NewRun(run_id=run_id, artifact_uri=home.artifacts(run_id).as_uri()))
    return write_tree(home.artifacts(run_id), files)


def test_digests_are_of_all_files_and_read_once(home: Home, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    root = new_run(home, db, {"a": b"1", "deep/b": b"22", ".proj-partial-1": b"x", "known": b"3"})
    (root / "link").symlink_to("a")
    Path(os.fsdecode(os.fsencode(root) + b"/" + ODD)).write_bytes(b"odd")
    read: list[str] = []
    real = artifact_digests.open_found

    def noting(root: Path, names: Sequence[str]) -> BinaryIO:
        read.append(names[-1])
        return real(root, names)

    monkeypatch.setattr(artifact_digests, "open_found", noting)
    assert artifact_digests.record(db, "0" * 32, root, {"known": "f" * 64}) == 0
    found = {one.path: (one.size, one.sha256) for one in artifact_digests.read(db, "0" * 32)}
    assert found == {
        "a": (1, sha(b"1")),
        "deep/b": (2, sha(b"22")),
        "known": (1, "f" * 64),
        os.fsdecode(ODD): (3, sha(b"odd")),
    }
    assert sorted(read) == sorted(["a", "b", os.fsdecode(ODD)])
    (root / "a").unlink()
    write_tree(root, {"deep/b": b"new"})
    read.clear()
    artifact_digests.record(db, "0" * 32, root)
    assert read == ["b"]
    assert [one.path for one in artifact_digests.read(db, "0" * 32)] == [os.fsdecode(ODD), "deep/b", "known"]


@pytest.mark.parametrize("count", [disk.MOST_SYNCED, disk.MOST_SYNCED + 1, 1201])
def test_many_files_are_recorded_in_pieces(home: Home, db: Database, count: int) -> None:
    root = new_run(home, db, {f"{n % 7}/{n}": str(n) for n in range(count)})
    artifact_digests.record(db, "0" * 32, root)
    assert len(artifact_digests.read(db, "0" * 32)) == count
    assert verify(home) == []
    (root / "0/0").unlink()
    write_tree(root, {f"{(count - 1) % 7}/{count - 1}": "damaged", "1/1": "x"})
    assert sorted(one.problem.partition(":")[0] for one in verify(home)) == [
        "is damaged",
        "is damaged",
        "is missing",
    ]


def test_files_beyond_the_limit_have_no_digest(home: Home, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact_digests, "MOST_BYTES", 10)
    root = new_run(home, db, {"a/big": b"x" * 11})
    assert artifact_digests.record(db, "0" * 32, root, {}) == 1
    assert artifact_digests.read(db, "0" * 32) == ()


Harm = Callable[[Path], object]
HARMS: dict[str, tuple[Harm, str]] = {
    "emptied": (lambda path: path.write_bytes(b""), "is damaged: it has 0 bytes, and 5 were recorded"),
    "bit": (lambda path: path.write_bytes(b"whol3"), "is damaged: its content differs from the recorded digest"),
    "gone": (lambda path: path.unlink(), "is missing"),
    "folder": (lambda path: (path.unlink(), path.mkdir()), "is no longer a file"),
    "link": (lambda path: (path.unlink(), path.symlink_to("/etc/passwd")), "is no longer a file"),
    "fifo": (lambda path: (path.unlink(), os.mkfifo(path)), "is no longer a file"),
    "no folder": (lambda path: shutil.rmtree(path.parent), "is missing"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_verify_names_each_damage(home: Home, db: Database, harm: str) -> None:
    root = new_run(home, db, {"deep/model.bin": b"whole", "other": b"fine"})
    artifact_digests.record(db, "0" * 32, root)
    do, problem = HARMS[harm]
    do(root / "deep/model.bin")
    expected = [Finding(part="artifact", name=f"{'0' * 32}/deep/model.bin", problem=problem)]
    assert verify(home) == expected
    assert verify(home, repair=True) == expected


def test_verify_repair_records_missing_digests(home: Home, db: Database) -> None:
    root, name = new_run(home, db, {"a": b"1"}), "0" * 32
    artifact_digests.record(db, name, root)
    write_tree(root, {"b": b"2", "c/d": b"3"})
    told = Finding(part="artifact", name=name, problem="2 artifacts have no recorded digest")
    assert verify(home) == [told]
    assert verify(home, repair=True) == [structs.replace(told, repair="recorded their digests")]
    assert verify(home) == []
    assert len(artifact_digests.read(db, name)) == 3


def test_runs_from_before_there_were_digests_are_no_fault(home: Home, db: Database) -> None:
    new_run(home, db, {"a": b"1", "b": b"2"})
    assert verify(home) == []
    assert artifact_digests.read(db, "0" * 32) == ()
    assert verify(home, repair=True) == []
    assert len(artifact_digests.read(db, "0" * 32)) == 2


def test_a_removed_run_takes_its_digests_along(home: Home, db: Database) -> None:
    root = new_run(home, db, {"a": b"1"})
    artifact_digests.record(db, "0" * 32, root)
    removal.remove_run(db, "0" * 32, home)
    assert db.query("SELECT * FROM artifact_digests") == []


@pytest.mark.parametrize("path", ["a", "d", "d/x"])
def test_a_replaced_artifact_loses_its_digest(home: Home, db: Database, path: str) -> None:
    root = new_run(home, db, {"a": b"1", "d/x": b"2", "d/y": b"3", "d0": b"4", "dd": b"5"})
    artifact_digests.record(db, "0" * 32, root)
    artifact_digests.delete_digests(db, "0" * 32, names_of(path))
    left = {one.path for one in artifact_digests.read(db, "0" * 32)}
    assert left == {one for one in ("a", "d/x", "d/y", "d0", "dd") if one != path and not one.startswith(f"{path}/")}


LOGS = (
    "import os\n"
    "folder = os.environ['KEPT'] + '/runs/' + os.environ['PROJ_RUN_ID'] + '/artifacts'\n"
    "os.makedirs(folder + '/model')\n"
    "open(folder + '/model/weights.bin', 'w').write('weights')\n"
    "open(folder + '/out.txt', 'w').write('logged')\n"
    "open('out.txt', 'w').write('an output of the same name')\n"
    "open('made.txt', 'w').write('made')\n"
    "open('second.txt', 'w').write('second')\n"
)


@pytest.fixture
def ended(home: Home, proj: RunProj, make_repository: MakeRepository) -> Path:
    """Return the artifact folder of a run with logged artifacts and outputs."""
    root = make_repository({"MLproject": manifest(f"{sys.executable} t.py"), "t.py": LOGS})
    done = proj("run", ".", "--json", *LOCAL, cwd=root, KEPT=str(home.root))
    assert done.code == 0, done.err
    return home.artifacts(done.json["run_id"])


def test_a_run_records_the_digests_of_its_artifacts_and_outputs(home: Home, ended: Path) -> None:
    with closing(Database.open(home.database)) as db:
        found = {one.path: one.sha256 for one in artifact_digests.read(db, ended.parent.name)}
        assert verify(home) == []
    assert found == {
        "made.txt": sha(b"made"),
        "model/weights.bin": sha(b"weights"),
        "out.txt": sha(b"logged"),
        "second.txt": sha(b"second"),
    }


@pytest.mark.parametrize("name", ["made.txt", "model/weights.bin", "out.txt"])
@pytest.mark.parametrize("harm", ["emptied", "bit", "gone"])
def test_get_reports_changed_artifacts_and_copies_the_rest(
    proj: RunProj, ended: Path, tmp_path: Path, name: str, harm: str
) -> None:
    HARMS[harm][0](ended / name)
    got = proj("get", "latest", "--to", "got", cwd=tmp_path)
    assert got.code == 1
    assert name in got.err
    assert ("is missing" if harm == "gone" else "is damaged") in got.err
    assert "Traceback" not in got.err
    rest = {"made.txt", "model/weights.bin", "out.txt", "second.txt"} - {name}
    there = {str(path.relative_to(tmp_path / "got")) for path in (tmp_path / "got").rglob("*") if path.is_file()}
    assert there == rest
    assert {str(Path(line).relative_to("got")) for line in got.out.splitlines()} == rest
    again = proj("get", "latest", "second.txt", "--to", "got", cwd=tmp_path)
    assert (again.code, "1 already existed" in again.err) == (0, True)


def test_get_keeps_a_good_copy_although_the_store_is_damaged(proj: RunProj, ended: Path, tmp_path: Path) -> None:
    assert proj("get", "latest", "--to", "got", cwd=tmp_path).code == 0
    (ended / "made.txt").write_text("dama")
    again = proj("get", "latest", "--to", "got", cwd=tmp_path)
    assert again.code == 0
    assert "4 already existed" in again.err


def test_outputs_of_runs_before_the_digests_are_compared_too(
    proj: RunProj, home: Home, make_repository: MakeRepository, tmp_path: Path
) -> None:
    root = make_repository({"MLproject": manifest("echo made > made.txt; echo 2 > ../second.txt")})
    done = proj("run", ".", "--json", *LOCAL, cwd=root).json
    with closing(Database.open(home.database)) as db:
        db.execute("DELETE FROM artifact_digests")
    (home.artifacts(done["run_id"]) / "made.txt").write_text("evil\n")
    got = proj("get", "latest", "--to", "got", cwd=tmp_path)
    assert got.code == 1
    assert "made.txt: it is damaged" in got.err


NESTED = (
    "import json, os, pathlib, urllib.parse, urllib.request\n"
    "def send(path, body):\n"
    "    token = os.environ['MLFLOW_TRACKING_TOKEN']\n"
    "    head = {'Authorization': 'Bearer ' + token, 'Content-Type': 'application/json'}\n"
    "    place = os.environ['MLFLOW_TRACKING_URI'] + '/api/2.0/mlflow/' + path\n"
    "    return json.load(urllib.request.urlopen(urllib.request.Request(place, json.dumps(body).encode(), head)))\n"
    "info = send('runs/create', {'experiment_id': '0'})['run']['info']\n"
    "folder = pathlib.Path(urllib.parse.urlsplit(info['artifact_uri']).path)\n"
    "folder.mkdir(parents=True)\n"
    "(folder / 'nested.bin').write_text('nested')\n"
    "send('runs/update', {'run_id': info['run_id'], 'status': 'FINISHED'})\n"
    "print(info['run_id'])\n"
)


def test_artifacts_of_nested_runs_are_recorded_too(home: Home, proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": manifest(f"{sys.executable} t.py"), "t.py": NESTED})
    done = proj("run", ".", "--json", *LOCAL, cwd=root)
    assert done.code == 0, done.err
    nested = Path(done.json["log"]).read_text().strip()
    with closing(Database.open(home.database)) as db:
        assert [one.path for one in artifact_digests.read(db, nested)] == ["nested.bin"]
        assert verify(home) == []
