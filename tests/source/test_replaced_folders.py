"""Whatever a run puts in the place of its folders and files, nothing of the user's is moved, removed or changed."""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from runner.base.files import PARTIAL
from runner.base.masking import Masker
from runner.base.safe_paths import LinkError, open_tree
from runner.errors import InvalidValueError, SnapshotError
from runner.provenance.outputs import OutputFolder, collect_outputs
from runner.settings import Home
from runner.source import providing
from runner.source.run_folder import RunFolder, check_out
from runner.store.artifacts import write_file
from runner.store.staging import FOLDER, collect_everywhere
from tests.conftest import MakeRepository, write_tree
from tests.support.sources import Said, fingerprint, freeze

FILES = ("made.txt", "deep/made.txt", "deep/er/made.txt", "x.py")
ROUNDS = 25


def start_run(make_repository: MakeRepository, home: Home, run_id: str = "run1") -> RunFolder:
    root = make_repository({"x.py": "1", "deep/x.py": "2", "deep/er/x.py": "3"})
    source, snapshot = freeze(root, home)
    return check_out(snapshot, source, run_id, home, Said())


def make_victim(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "theirs", dict.fromkeys((*FILES, "er/made.txt", "er/x.py", "table"), "precious"))


def collect(folder: RunFolder, destination: Path, files: tuple[str, ...]) -> tuple[str, ...]:
    source = OutputFolder(project=folder.project, top=folder.top, is_given_up=True)
    return collect_outputs(source, files, destination).notices


@pytest.mark.parametrize("swapped", ["deep", "deep/er"])
@pytest.mark.parametrize("moment", ["before the collection", "before the release"])
def test_a_folder_in_the_project_that_becomes_a_link(
    make_repository: MakeRepository, home: Home, tmp_path: Path, swapped: str, moment: str
) -> None:
    folder = start_run(make_repository, home)
    theirs = make_victim(tmp_path)
    before = fingerprint(theirs)
    write_tree(folder.project, dict.fromkeys(FILES[:3], "made"))
    files = folder.changes()
    assert files == ("deep/er/made.txt", "deep/made.txt", "made.txt")
    if moment == "before the release":
        assert collect(folder, tmp_path / "artifacts", files) == ()
    (folder.project / swapped).rename(tmp_path / "aside")
    (folder.project / swapped).symlink_to(theirs)
    if moment == "before the collection":
        (notice,) = collect(folder, tmp_path / "artifacts", files)
        assert "folders that are links" in notice
    folder.release(keep=False)
    assert fingerprint(theirs) == before
    kept = {path.read_text() for path in (tmp_path / "artifacts").rglob("*.txt")}
    assert kept == {"made"}


SWAP = """
import os, sys, time
end = time.monotonic() + 60
parent, starter = sys.argv[1:]
print("ready", flush=True)
while time.monotonic() < end and os.getppid() == int(starter):
    for old, new in (("deep", "aside"), ("link", "deep"), ("deep", "link"), ("aside", "deep")):
        try:
            os.rename(f"{parent}/{old}", f"{parent}/{new}")
        except OSError:
            pass
"""


@pytest.mark.slow
def test_folders_that_are_swapped_all_the_time(make_repository: MakeRepository, home: Home, tmp_path: Path) -> None:
    """A process exchanges a folder and a link to the user's files as fast as it can, while proj works."""
    theirs = make_victim(tmp_path)
    before = fingerprint(theirs)
    source, snapshot = freeze(make_repository({"x.py": "1", "deep/x.py": "2", "deep/er/x.py": "3"}), home)
    for number in range(ROUNDS):
        folder = check_out(snapshot, source, f"run{number}", home, Said())
        assert (folder.project / "deep" / "x.py").read_text() == "2"
        write_tree(folder.project, dict.fromkeys(FILES[:3], "made"))
        (folder.project / "link").symlink_to(theirs)
        arguments = (sys.executable, "-c", SWAP, folder.project, str(os.getpid()))
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as swapper:
            assert swapper.stdout is not None
            assert swapper.stdout.readline() == b"ready\n"
            try:
                for attempt in range(10):
                    with suppress(SnapshotError):
                        collect(folder, tmp_path / f"artifacts{number}-{attempt}", folder.changes())
                folder.release(keep=False)
            finally:
                swapper.kill()
        assert fingerprint(theirs) == before
    kept = [path for path in tmp_path.glob("artifacts*/**/*") if path.is_file()]
    assert {path.read_text() for path in kept} <= {"made", "1", "2", "3"}


@pytest.mark.parametrize("name", ["table", "key", "deep"])
def test_links_beside_the_project_are_replaced(
    make_repository: MakeRepository, home: Home, tmp_path: Path, name: str
) -> None:
    source, snapshot = freeze(make_repository({"x.py": "1"}), home)
    folder = check_out(snapshot, source, "run1", home, Said())
    theirs = make_victim(tmp_path)
    before = fingerprint(theirs)
    (folder.root / name).symlink_to(theirs / "table")
    folder.release(keep=False)
    again = check_out(snapshot, source, "run2", home, Said())
    assert fingerprint(theirs) == before
    assert (again.project / "x.py").read_text() == "1"
    assert not (again.root / name).is_symlink()


def test_a_hard_link_to_a_file_of_the_user_is_copied(
    make_repository: MakeRepository, home: Home, tmp_path: Path
) -> None:
    folder = start_run(make_repository, home)
    theirs = make_victim(tmp_path)
    os.link(theirs / "made.txt", folder.project / "out.txt")
    assert collect(folder, tmp_path / "artifacts", folder.changes()) == ()
    folder.release(keep=False)
    (theirs / "made.txt").write_text("changed later")
    assert (tmp_path / "artifacts" / "out.txt").read_text() == "precious"


def test_a_linked_folder_whose_files_are_copied_later(
    make_repository: MakeRepository, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder with too many files is linked; when it has fewer, they are copied, not over the user's."""
    root = make_repository({"x.py": "1", ".gitignore": "data/\n"})
    write_tree(root, {f"data/{number}": "precious" for number in range(10)})
    monkeypatch.setattr(providing, "MOST_FILES", 5)
    source, snapshot = freeze(root, home)
    folder = check_out(snapshot, source, "run1", home, Said())
    assert (folder.top / "data").is_symlink()
    folder.release(keep=False)
    for number in range(7):
        (root / "data" / str(number)).unlink()
    before = fingerprint(root)
    source, snapshot = freeze(root, home)
    again = check_out(snapshot, source, "run2", home, Said())
    assert fingerprint(root) == before
    assert sorted(path.name for path in (again.top / "data").iterdir()) == ["7", "8", "9"]
    assert not (again.top / "data").is_symlink()


@pytest.mark.parametrize("name", ["data", "data/inner"])
def test_a_version_with_a_link_where_the_project_has_ignored_files(
    make_repository: MakeRepository, home: Home, tmp_path: Path, name: str
) -> None:
    theirs = make_victim(tmp_path)
    root = make_repository({"x.py": "1", ".gitignore": "*.txt\n"})
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).symlink_to(theirs)
    for arguments in (("add", "-A"), ("commit", "-qm", "link")):
        subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True)
    (root / name).unlink()
    write_tree(root, {f"{name}/made.txt": "mine", f"{name}/new/made.txt": "mine"})
    before = fingerprint(theirs)
    source, snapshot = freeze(root, home, "HEAD")
    folder = check_out(snapshot, source, "run1", home, Said())
    assert (folder.top / name).readlink() == theirs
    assert fingerprint(theirs) == before
    assert (root / name / "made.txt").read_text() == "mine"


def _write_through_a_mount(folder: RunFolder, theirs: Path, before: dict[str, str], artifacts: Path) -> None:
    found = folder.inspect()
    assert found.files == ("made.txt",)
    assert "another file system" in found.notices[0]
    collect(folder, artifacts, found.files)
    with pytest.raises(SnapshotError, match=r"mounted in its folder: .*mounted"):
        folder.release(keep=False)
    assert fingerprint(theirs) == before


MOUNTED = """
import pathlib, subprocess, sys
from tests.source import test_replaced_folders as tests
from runner.base.files import remove_tree
from runner.settings import Home
home, root, theirs, artifacts = map(pathlib.Path, sys.argv[1:])
home = Home(home)
source, snapshot = tests.freeze(root, home)
folder = tests.check_out(snapshot, source, "run1", home, tests.Said())
before = tests.fingerprint(theirs)
(folder.project / "made.txt").write_text("made")
for place in (folder.project / "mounted here", folder.project / "deep" / "mounted"):
    place.mkdir()
    subprocess.run(["mount", "--bind", theirs, place], check=True)
tests._write_through_a_mount(folder, theirs, before, artifacts)
for place in (folder.project / "deep", folder.project / "mounted here", folder.root):
    try:
        remove_tree(place)
    except OSError as error:
        assert error.errno == 16, error
    else:
        raise AssertionError("the folder was removed")
    assert tests.fingerprint(theirs) == before
print("held")
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs namespaces of Linux")
def test_files_behind_a_mount_are_left_alone(make_repository: MakeRepository, home: Home, tmp_path: Path) -> None:
    """A run mounts a folder of the user, or a remote storage, in its folder, and does not unmount it."""
    enter = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*enter, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not make namespaces")
    root = make_repository({"x.py": "1", "deep/x.py": "2"})
    theirs = make_victim(tmp_path)
    arguments = [home.root, root, theirs, tmp_path / "artifacts"]
    done = subprocess.run(
        [*enter, sys.executable, "-c", MOUNTED, *arguments], check=False, capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == ("held\n", 0), done.stderr


@pytest.mark.parametrize(
    ("path", "error"),
    [("link/x", LinkError), ("a/link/x", LinkError), ("../x", InvalidValueError), ("a//x", InvalidValueError)],
)
@pytest.mark.parametrize("create", [False, True])
def test_an_open_folder_leads_only_to_what_is_below(
    tmp_path: Path, path: str, error: type[Exception], create: bool
) -> None:
    theirs = make_victim(tmp_path)
    top = write_tree(tmp_path / "top", {"a/b/file": "1", "a/other": "2"})
    for place in (top / "link", top / "a" / "link"):
        place.symlink_to(theirs)
    with open_tree(top) as tree:
        with pytest.raises(error):
            tree.parent(path, create=create)
        for name in ("a/b/file", "a/other", "a/b/file"):
            parent, last = tree.parent(name)
            assert os.stat(last, dir_fd=parent).st_ino == (top / name).stat().st_ino


@pytest.mark.parametrize("part", ["runs", "inner", "file"])
@pytest.mark.parametrize("kind", ["link", "hard link"])
def test_secrets_are_masked_in_no_file_of_the_user(tmp_path: Path, part: str, kind: str) -> None:
    theirs = write_tree(tmp_path / "theirs", {"inner/metrics.txt": "token=s3cret-value", "metrics.txt": "s3cret-value"})
    before = fingerprint(theirs)
    run = tmp_path / "runs" / ("a" * 32)
    places = {"runs": (run, theirs), "inner": (run / "inner", theirs / "inner")}
    place, target = places.get(part, (run / "inner" / "metrics.txt", theirs / "inner" / "metrics.txt"))
    place.parent.mkdir(parents=True)
    if kind == "link" or target.is_dir():
        place.symlink_to(target)
    else:
        os.link(target, place)
    Masker(["s3cret-value"]).file(run / "inner" / "metrics.txt")
    assert fingerprint(theirs) == before
    if place.is_file() and not place.is_symlink():
        assert place.read_text() == "token=***"


def test_a_link_in_the_place_of_the_pool_is_removed(
    make_repository: MakeRepository, home: Home, tmp_path: Path
) -> None:
    theirs = make_victim(tmp_path)
    before = fingerprint(theirs)
    source, snapshot = freeze(make_repository({"x.py": "1"}), home)
    folder = check_out(snapshot, source, "run1", home, Said())
    (home.folders / ".pool").symlink_to(theirs)
    folder.release(keep=False)
    assert fingerprint(theirs) == before
    assert len(list((home.folders / ".pool").iterdir())) == 1
    assert check_out(snapshot, source, "run2", home, Said()).changes() == ()


def test_a_link_in_the_place_of_partial_files_is_removed(home: Home, tmp_path: Path) -> None:
    theirs = write_tree(tmp_path / "theirs", {f"{PARTIAL}old": "precious"})
    os.utime(theirs / f"{PARTIAL}old", (0, 0))
    before = fingerprint(theirs)
    staged = home.root / "runs" / FOLDER
    staged.parent.mkdir(parents=True)
    staged.symlink_to(theirs)
    assert collect_everywhere(home) == 0
    assert fingerprint(theirs) == before
    assert not staged.is_symlink()
    artifacts = home.artifacts("a" * 32)
    assert write_file(artifacts, ("x",), [b"1"]) == 1
