"""Tests the removal of files abandoned by killed processes and clients."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from runner.cli.main import run_command
from runner.model import RunStatus
from runner.settings import Home
from runner.store import runs, uploads
from runner.store.artifacts import ArtifactWriter, open_artifact, survey, write_artifact
from runner.store.database import Database
from runner.store.entities import NewRun
from runner.store.staging import collect_abandoned, collect_everywhere
from tests.conftest import ROOT
from tests.support.standalone_server import standalone_server

pytestmark = pytest.mark.slow

RUN = "c" * 32
MODEL = "m-" + "d" * 32
HOUR = 3600.0
DAY = 24 * HOUR

KILLED = """
import os, signal, sys
from pathlib import Path
from runner.store.artifacts import ArtifactWriter
writer = ArtifactWriter(Path(sys.argv[1]), "d/f")
writer.write(b"half")
print("half", flush=True)
sys.stdin.read()
"""


def left(root: Path) -> list[Path]:
    return sorted((root.parent.parent / ".proj-partial").iterdir())


@pytest.fixture(params=[RUN, f"models/{MODEL}"])
def root(request: pytest.FixtureRequest, home: Home) -> Path:
    return home.run(request.param) / "artifacts"


def start_writer(root: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, root],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    return process


def test_a_file_is_removed_when_its_writer_was_killed_and_not_before(root: Path, home: Home) -> None:
    write_artifact(root, "d/f", [b"whole"])
    with start_writer(root) as process:
        assert len(left(root)) == 1
        for moment in (time.time(), time.time() + HOUR / 2, time.time() + 300 * DAY):
            assert collect_abandoned(root, moment) == 0  # it is locked
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert collect_everywhere(home) == 0  # it is young, and locks are not known everywhere
    assert collect_abandoned(root, time.time() + HOUR + 60) == 1
    assert left(root) == []
    with open_artifact(root, "d/f") as file:
        assert file.read() == b"whole"


def test_an_upload_is_removed_a_day_after_its_last_part(root: Path) -> None:
    abandoned, other = uploads.begin(root, "a"), uploads.begin(root, "b")
    part = uploads.PartWriter(root, abandoned, 1)
    part.write(b"part")
    part.finish()
    now = time.time()
    for path in left(root):
        if path.name.endswith(abandoned):
            os.utime(path, (now - DAY - 60, now - DAY - 60))
        else:
            os.utime(path, (now - DAY + 600, now - DAY + 600))
    assert collect_abandoned(root, now) == 1
    assert [path.name.endswith(other) for path in left(root)] == [True]
    (first,) = left(root)
    os.utime(first, (now - 2 * DAY, now - 2 * DAY))
    # A part that comes makes the upload young again.
    late = uploads.PartWriter(root, other, 1)
    late.write(b"late")
    tag = late.finish()
    assert collect_abandoned(root, now) == 0
    uploads.finish(root, "b", other, {1: tag})
    assert [file.path for file in survey(root).files] == ["b"]
    assert left(root) == []


def test_other_things_in_the_folder_stay(root: Path) -> None:
    ArtifactWriter(root, "x").discard()
    folder = root.parent.parent / ".proj-partial"
    (folder / "mine").write_text("mine")
    (folder / ".proj-partial-link").symlink_to(root)
    assert collect_abandoned(root, time.time() + 300 * DAY) == 1
    assert [path.name for path in folder.iterdir()] == ["mine"]


def make_old(home: Home) -> Path:
    """Create the files of a process that was killed a day ago."""
    root = home.run(RUN) / "artifacts"
    ArtifactWriter(root, "x").discard()
    place = root.parent.parent / ".proj-partial" / ".proj-partial-0123456789abcdef"
    place.write_bytes(b"half")
    os.utime(place, (0, 0))
    return place


def test_a_server_collects_at_its_start(home: Home, tmp_path: Path) -> None:
    place = make_old(home)
    with standalone_server(tmp_path):
        deadline = time.monotonic() + 30
        while place.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert not place.exists()


@pytest.mark.parametrize("command", ["rm", "import", "get"])
def test_writing_commands_collect(home: Home, tmp_path: Path, command: str) -> None:
    place = make_old(home)
    with closing(Database.open(home.database)) as db:
        run_id = runs.create(db, NewRun()).run_id
        runs.update(db, run_id, status=RunStatus.FINISHED)
    if command == "get":
        write_artifact(home.artifacts(run_id), "f", [b"x"])
        place = tmp_path / ".proj-partial-0123456789abcdef"
        place.write_bytes(b"half")
        os.utime(place, (0, 0))
    (tmp_path / "mlruns" / "0").mkdir(parents=True)
    (tmp_path / "mlruns" / "0" / "meta.yaml").write_text("experiment_id: '0'\nname: Default\nlifecycle_stage: active\n")
    words = {
        "rm": ["rm", "-y", "--permanently", run_id],
        "import": ["import", str(tmp_path / "mlruns")],
        "get": ["get", run_id, "--to", str(tmp_path)],
    }
    assert run_command(words[command]) == 0
    assert not place.exists()


def test_a_run_with_very_deep_folders_is_removed(home: Home) -> None:
    with closing(Database.open(home.database)) as db:
        run_id = runs.create(db, NewRun()).run_id
        runs.update(db, run_id, status=RunStatus.FINISHED)
    write_artifact(home.artifacts(run_id), "f", [b"x" * 1000])
    folder = os.open(home.artifacts(run_id), os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deep", 0o500 if os.geteuid() == 0 else 0o700, dir_fd=folder)
        below = os.open("deep", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    assert run_command(["rm", "-y", "--permanently", run_id]) == 0
    assert not home.run(run_id).exists()
