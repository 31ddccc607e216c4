"""Tests links, pipes and devices among artifacts, also swapped in during access: no access leaves the run's folder."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from runner.cli.main import run_command
from runner.errors import InvalidValueError, NotFoundError, ProjError
from runner.importing.copying import copy_artifacts
from runner.provenance.outputs import OutputFolder, collect_outputs
from runner.settings import Home
from runner.store import runs, tokens, uploads
from runner.store.artifacts import (
    ArtifactWriter,
    delete,
    list_artifacts,
    open_artifact,
    survey,
    write_artifact,
)
from runner.store.database import Database
from runner.store.entities import NewRun
from runner.store.tokens import Scope
from runner.sync.client import RemoteServer
from runner.sync.push import Destination, push
from tests.support import filled_runs
from tests.support.standalone_server import RunningServer, standalone_server

pytestmark = pytest.mark.slow

RUN = "a" * 32
FILES = "/api/2.0/mlflow-artifacts/artifacts/runs"

SWAP = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
one, two = (os.fsencode(name) for name in sys.argv[1:3])
print("ready", flush=True)
while True:
    if libc.renameat2(-100, one, -100, two, 2) and ctypes.get_errno() != 2:  # it may just have been removed
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
"""


@contextmanager
def swapping(one: Path, two: Path) -> Iterator[None]:
    """Exchange two names in another process as fast as possible."""
    process = subprocess.Popen([sys.executable, "-c", SWAP, one, two], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
        assert process.poll() is None, "it could not exchange them"
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a folder outside of all runs."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file").write_text("secret")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the artifact folder of a run, with a file in a subfolder."""
    folder = tmp_path / "runs" / RUN / "artifacts"
    write_artifact(folder, "d/file", [b"public"])
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read(root: Path, path: str) -> bytes:
    with open_artifact(root, path) as file:
        return file.read()


USES: dict[str, Callable[[Path, str], object]] = {
    "read": read,
    "write": lambda root, path: write_artifact(root, path, [b"written"]),
    "list": lambda root, path: list_artifacts(root, path.rpartition("/")[0]),
    "survey": lambda root, path: survey(root, path.rpartition("/")[0]),
    "delete": delete,
}


@pytest.mark.parametrize("where", ["folder", "artifacts", "run", "file"])
@pytest.mark.parametrize("use", USES)
def test_nothing_gets_out_while_a_link_is_swapped_in(
    root: Path, outside: Path, tmp_path: Path, use: str, where: str
) -> None:
    inside = outside
    if where in ("artifacts", "run"):
        below = "d" if where == "artifacts" else "artifacts/d"
        inside = outside / below
        inside.mkdir(parents=True)
        (inside / "file").write_text("secret")
    swapped = {"folder": root / "d", "artifacts": root, "run": root.parent, "file": root / "d" / "file"}[where]
    link = tmp_path / "link"
    link.symlink_to(outside / "file" if where == "file" else outside)
    before = contents(outside)
    went_well = 0
    with swapping(swapped, link):
        for _ in range(1500):
            with suppress(InvalidValueError, NotFoundError):
                result = USES[use](root, "d/file")
                assert result != b"secret"
                went_well += 1
    assert contents(outside) == before
    assert went_well or use == "delete"


def test_a_writer_stays_inside_when_its_folder_becomes_a_link_meanwhile(root: Path, outside: Path) -> None:
    writer = ArtifactWriter(root, "d/new")
    writer.write(b"x")
    (root / "d").rename(root / "e")
    (root / "d").symlink_to(outside)
    with pytest.raises(InvalidValueError):
        writer.finish()
    writer.discard()
    assert contents(outside) == {"file": b"secret"}
    assert [file.path for file in survey(root).files] == ["e/file"]
    assert not list((root.parent.parent / ".proj-partial").iterdir())


@pytest.mark.parametrize("level", ["artifacts", "run"])
def test_a_run_whose_own_folder_is_a_link_has_no_artifacts(tmp_path: Path, outside: Path, level: str) -> None:
    (outside / "artifacts").mkdir()
    (outside / "artifacts" / "file").write_text("secret")
    run = tmp_path / "runs" / RUN
    run.parent.mkdir()
    if level == "run":
        run.symlink_to(outside)
    else:
        run.mkdir()
        (run / "artifacts").symlink_to(outside / "artifacts")
    root = run / "artifacts"
    uses = (
        lambda: list_artifacts(root),
        lambda: survey(root),
        lambda: read(root, "file"),
        lambda: write_artifact(root, "new", [b"x"]),
        lambda: delete(root, "file"),
        lambda: uploads.finish(root, "new", uploads.begin(root, "new"), {1: "00000000-0"}),
    )
    for use in uses:
        with pytest.raises(InvalidValueError):
            use()
    assert contents(outside) == {"artifacts/file": b"secret", "file": b"secret"}


def test_a_home_that_its_user_put_behind_a_link_works(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    root = tmp_path / "runs" / RUN / "artifacts"
    write_artifact(root, "a/b", [b"x"])
    assert read(root, "a/b") == b"x"
    assert (tmp_path / "disk" / RUN / "artifacts" / "a" / "b").exists()


def test_a_hard_link_is_read_and_replaced_but_never_written(root: Path, outside: Path) -> None:
    os.link(outside / "file", root / "hard")
    assert read(root, "hard") == b"secret"
    write_artifact(root, "hard", [b"new"])
    assert (outside / "file").read_text() == "secret"
    assert read(root, "hard") == b"new"
    delete(root, "d")
    assert (outside / "file").read_text() == "secret"


@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "link", "loop", "dangling"])
def test_special_files_are_neither_read_nor_waited_for(root: Path, outside: Path, kind: str) -> None:
    place = root / "odd"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        if os.geteuid():
            pytest.skip("only root makes devices")
        os.mknod(place, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    elif kind == "socket":
        os.mknod(place, 0o600 | stat.S_IFSOCK)
    else:
        place.symlink_to({"link": outside / "file", "loop": place, "dangling": root / "nowhere"}[kind])
    with pytest.raises((NotFoundError, InvalidValueError)):
        read(root, "odd")
    found = survey(root)
    assert [file.path for file in found.files] == ["d/file"]
    assert [one.path for one in found.omissions] == ["odd"]
    assert [info.path for info in list_artifacts(root)] == ["d"]
    delete(root, "odd")
    assert not os.path.lexists(place)
    assert contents(outside) == {"file": b"secret"}


def test_outputs_are_not_kept_through_links_that_the_run_planted(root: Path, outside: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name in ("d/new", "linked/new", "file"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("output")
    (root / "linked").symlink_to(outside)
    (root / "file").symlink_to(outside / "file")
    kept = collect_outputs(
        OutputFolder(project=project, top=project, is_given_up=True), ["d/new", "linked/new", "file"], root
    )
    records, notices = kept.records, kept.notices
    assert [record.path for record in records] == ["d/new", "linked/new", "file"]
    assert "linked" in " ".join(notices)
    assert "file" in " ".join(notices)
    assert contents(outside) == {"file": b"secret"}
    assert read(root, "d/new") == b"output"


def test_an_import_takes_nothing_through_links(root: Path, outside: Path, tmp_path: Path) -> None:
    source = tmp_path / "mlruns" / "0" / RUN / "artifacts"
    source.mkdir(parents=True)
    (source / "fine").write_text("fine")
    (source / "link").symlink_to(outside)
    (root / "fine").symlink_to(outside / "file")
    told: list[str] = []
    copied = copy_artifacts(source, root, told.append, {})
    assert (copied.files, copied.left_out, len(told)) == (0, 2, 2)
    assert contents(outside) == {"file": b"secret"}
    copied = copy_artifacts(source, tmp_path / "runs" / ("b" * 32) / "artifacts", told.append, {})
    assert (copied.files, copied.left_out) == (1, 1)


def test_deep_folders_are_listed_to_the_limit_and_removed_completely(root: Path) -> None:
    folder = os.open(root, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deep", dir_fd=folder)
        below = os.open("deep", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    found = survey(root)
    assert [file.path for file in found.files] == ["d/file"]
    assert len(found.omissions) == 1
    assert "it is nested in more than" in found.omissions[0].reason
    delete(root)
    assert not root.exists()


@pytest.fixture
def standalone(tmp_path: Path, home: Home) -> Iterator[tuple[RunningServer, str, str, str]]:
    """Yield a server, the id of a run, a token to write and a token to read."""
    with closing(Database.open(home.database)) as db:
        run_id = runs.create(db, NewRun()).run_id
        write, look = tokens.add(db, "writer", Scope.WRITE), tokens.add(db, "reader", Scope.READ)
    write_artifact(home.artifacts(run_id), "d/file", [b"public"])
    with standalone_server(tmp_path) as server:
        yield server, run_id, write, look


@pytest.mark.parametrize("where", ["d", ""])
def test_tokens_of_a_server_reach_nothing_outside(
    standalone: tuple[RunningServer, str, str, str], home: Home, outside: Path, tmp_path: Path, where: str
) -> None:
    server, run_id, write, look = standalone
    (outside / "d").mkdir()
    (outside / "d" / "file").write_text("secret")
    before = contents(outside)
    link = tmp_path / "link"
    link.symlink_to(outside)
    base = f"{FILES}/{run_id}/artifacts"
    seen: set[int] = set()
    with swapping(home.artifacts(run_id) / where, link):
        for number in range(150):
            reply = server.send("GET", f"{base}/d/file", token=look)
            assert b"secret" not in reply.body
            seen.add(reply.status)
            seen.add(server.send("PUT", f"{base}/d/new{number}", b"x", write).status)
            server.send("DELETE", f"{base}/d/new{number}", token=write)
            reply = server.send("GET", f"{FILES.removesuffix('/runs')}?path=runs/{run_id}/artifacts/d", token=look)
            assert reply.status == 400 or set(reply.json) <= {"files"}
    assert contents(outside) == before
    assert 200 in seen
    assert seen <= {200, 400, 404}


def test_commands_refuse_a_run_whose_artifacts_are_a_link(
    home: Home, outside: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(Database.open(home.database)) as db:
        run_id = runs.create(db, NewRun()).run_id
    home.run(run_id).mkdir(parents=True)
    home.artifacts(run_id).symlink_to(outside)
    assert run_command(["get", run_id, "--to", str(tmp_path / "got")]) == 1
    assert "symbolic link" in capsys.readouterr().err
    assert not (tmp_path / "got").exists()


def test_a_push_sends_no_file_behind_a_link(
    standalone: tuple[RunningServer, str, str, str], home: Home, outside: Path, tmp_path: Path
) -> None:
    server, _, write, _ = standalone
    ours = Home(tmp_path / "ours")
    told: list[str] = []
    with closing(Database.open(ours.database)) as db, RemoteServer(server.url, {"MLFLOW_TRACKING_TOKEN": write}) as to:
        run_id = filled_runs.make_run(db, ours)
        filled_runs.close_run(db, run_id)
        (ours.artifacts(run_id) / "link").symlink_to(outside / "file")
        ours.log(run_id).unlink()
        ours.log(run_id).symlink_to(outside / "file")
        pushed = push(
            Destination(database=db, home=ours, server=to, report=lambda event: told.append(event.message)), run_id
        )
        assert any("link" in one for one in pushed.left_out)
    assert b"secret" not in b"".join(contents(home.root / "runs").values())


def test_get_does_not_write_through_links_in_the_target(
    home: Home, outside: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(Database.open(home.database)) as db:
        run_id = runs.create(db, NewRun()).run_id
    write_artifact(home.artifacts(run_id), "d/file", [b"public"])
    write_artifact(home.artifacts(run_id), "fine", [b"fine"])
    target = tmp_path / "got"
    target.mkdir()
    (target / "d").symlink_to(outside)
    with suppress(ProjError):
        assert run_command(["get", run_id, "--force", "--to", str(target)]) == 1
    assert "d/file" in capsys.readouterr().err
    assert contents(outside) == {"file": b"secret"}
    assert (target / "fine").read_bytes() == b"fine"
