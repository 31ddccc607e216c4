"""A disk that fills during a run: how the command ended is recorded all the same. The disks are real and small."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from runner.settings import Home
from runner.store import runs, values
from runner.store.database import Database
from runner.store.disk import RESERVE_SIZE, keep_reserve, release_reserve
from runner.store.entities import NewRun
from tests.conftest import MakeRepository, Result, RunProj, unavailable

pytestmark = pytest.mark.slow

LOCAL = ("--env-manager", "local")
FILL = "cat /dev/zero > fill 2> /dev/null"
"""Takes all that the disk of the run folder has left."""

MakeDisk = Callable[[int], Path]


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[MakeDisk]:
    """Return a function that mounts a file system of some megabytes; it is unmounted after the test."""
    mounted: list[Path] = []

    def make(megabytes: int) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        if done.returncode:
            raise unavailable(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted.append(place)
        return place

    yield make
    for place in mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def manifest(command: str, more: str = "") -> str:
    return f"name: t\nentry_points:\n  main:\n    command: {json.dumps(command)}\n{more}"


def fill(place: Path) -> None:
    """Take all that is left of a disk."""
    with (place / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017  any other number of pieces may fit before


def room(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


ENDINGS = {
    "finished": ("exit 0", "FINISHED", 0),
    "failed": ("exit 3", "FAILED", 3),
    "killed": ("kill -9 $$", "FAILED", 137),
    "timeout": ("sleep 60", "KILLED", 124),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_disk_that_fills_does_not_cost_the_outcome(
    proj: RunProj, make_repository: MakeRepository, make_disk: MakeDisk, ending: str
) -> None:
    disk = make_disk(24)
    home = str(disk / "home")
    end, status, code = ENDINGS[ending]
    root = make_repository({"MLproject": manifest(f"echo begun; {FILL}; echo lost; {end}")})
    first = proj("run", ".", *LOCAL, "--timeout", "3", cwd=root, PROJ_HOME=home)
    assert first.code == code, first.err
    assert "Traceback" not in first.err
    shown = proj("show", "latest", "--json", PROJ_HOME=home).json
    assert shown["status"] == status
    assert shown["exit_code"] == code or ending == "timeout"
    assert shown["resources"]["wall_seconds"] > 0
    assert shown["ended_at"] is not None
    assert Path(shown["log"]).read_text().startswith("begun\n")


@pytest.mark.parametrize("megabytes", [8, 11])
def test_no_byte_left_at_the_end(
    proj: RunProj, make_repository: MakeRepository, make_disk: MakeDisk, megabytes: int
) -> None:
    """The command fills the disk from outside its folder, so that nothing is given back when outputs are moved."""
    disk = make_disk(megabytes)
    home = Home(disk / "home")
    root = make_repository(
        {
            "MLproject": manifest(
                f"echo a@b=1 >> $PROJ_METRICS; cat /dev/zero > {disk}/filler 2> /dev/null; "
                f"echo x >> {disk}/filler 2> /dev/null; seq 100000; exit 3",
                "  calm: {command: exit 3}\n",
            )
        }
    )
    ended = proj("run", ".", *LOCAL, cwd=root, PROJ_HOME=str(home.root))
    assert ended.code == 3, ended.err
    assert "Traceback" not in ended.err
    assert "the log is incomplete" in ended.err
    assert not (home.root / "reserve").exists()
    (disk / "filler").unlink()
    shown = proj("show", "latest", "--json", PROJ_HOME=str(home.root)).json
    assert (shown["status"], shown["exit_code"]) == ("FAILED", 3)
    assert shown["resources"] is not None
    # The next run makes the reserve again.
    assert proj("run", ".", "-e", "calm", *LOCAL, cwd=root, PROJ_HOME=str(home.root)).code == 3
    assert (home.root / "reserve").stat().st_size == RESERVE_SIZE


def test_a_claimed_status_survives_a_full_disk(
    proj: RunProj, make_repository: MakeRepository, make_disk: MakeDisk
) -> None:
    disk = make_disk(12)
    script = (
        "import json, os, urllib.request\n"
        "def send(path, body):\n"
        "    token = os.environ['MLFLOW_TRACKING_TOKEN']\n"
        "    head = {'Authorization': 'Bearer ' + token, 'Content-Type': 'application/json'}\n"
        "    place = os.environ['MLFLOW_TRACKING_URI'] + '/api/2.0/mlflow/' + path\n"
        "    return urllib.request.urlopen(urllib.request.Request(place, json.dumps(body).encode(), head)).read()\n"
        "send('runs/create', {'experiment_id': '0'})\n"
        "send('runs/update', {'run_id': os.environ['MLFLOW_RUN_ID'], 'status': 'FAILED'})\n"
        f"try:\n    with open({str(disk / 'filler')!r}, 'wb', buffering=0) as file:\n"
        "        while True: file.write(bytes(4096))\nexcept OSError: pass\n"
    )
    root = make_repository({"MLproject": manifest(f"{sys.executable} t.py"), "t.py": script})
    ended = proj("run", ".", *LOCAL, cwd=root, PROJ_HOME=str(disk / "home"))
    assert ended.code == 0, ended.err
    (disk / "filler").unlink()
    found = proj("list", "--json", PROJ_HOME=str(disk / "home")).json
    own = next(run for run in found if run["exit_code"] is not None)
    assert (own["status"], own["reason"]) == ("FAILED", "the script set the status of its run to FAILED")


def test_the_log_is_on_another_full_disk(proj: RunProj, make_repository: MakeRepository, make_disk: MakeDisk) -> None:
    """Only the folder of logs and artifacts is full; the database has room."""
    disk = make_disk(1)
    home = Home(Path(os.environ["PROJ_HOME"]))
    home.root.mkdir(parents=True)
    (home.root / "runs").symlink_to(disk)
    fill(disk)
    root = make_repository({"MLproject": manifest("seq 100000; echo done >&2; echo 1 > out.txt")})
    result: Result = proj("run", ".", "--json", *LOCAL, cwd=root)
    assert result.code == 0, result.err
    assert (result.json["status"], result.json["exit_code"]) == ("FINISHED", 0)
    assert [output["path"] for output in result.json["outputs"]] == ["out.txt"]
    assert "done" in result.err
    assert any("No space left" in notice for notice in result.json["notices"])


def test_the_reserve_is_enough_for_a_large_record(make_disk: MakeDisk) -> None:
    disk = make_disk(6)
    home = Home(disk / "home")
    with closing(Database.open(home.database)) as database:
        run = runs.create(database, NewRun())
        keep_reserve(home)
        fill(disk)
        assert room(disk) < 4096
        assert release_reserve(home)
        values.set_tags(database, run.run_id, {f"t{n}": "x" * 1000 for n in range(200)})
        assert len(runs.get(database, run.run_id).tags) == 201
