"""The run folder: exact, one's own, taken over by the next run, and never a way to the user's files."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.base.files import remove_tree
from runner.errors import SnapshotError
from runner.settings import Home
from runner.source import providing
from runner.source.input_files import RequiredPaths
from runner.source.run_folder import RunFolder, check_out, in_place_run_folder
from runner.source.snapshot import current_tree
from tests.conftest import MakeRepository, git, write_tree
from tests.support.sources import Said, fingerprint, freeze


def laid(
    address: Path | str, home: Home, run_id: str, requirements: RequiredPaths | None = None, version: str | None = None
) -> RunFolder:
    source, snapshot = freeze(address, home, version)
    return check_out(snapshot, source, run_id, home, Said(), requirements)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_is_exactly_the_tree(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1", "sub/b.py": b"\r\n\0", "run.sh": "x", ".gitattributes": "* text eol=crlf\n"})
    (root / "run.sh").chmod(0o755)
    (root / "sub" / "link").symlink_to("../a.py")
    write_tree(root, {"größe \n.txt": "new", "c.txt": "a\nb\n"})
    folder = laid(root / "sub", home, "run1")
    assert folder.project == folder.top / "sub"
    assert folder.root.parent == home.folders
    mine, theirs = fingerprint(folder.top), fingerprint(root)
    assert mine == {name: what for name, what in theirs.items() if not name.startswith(".git/") and name != ".git"}
    assert (folder.changes(), folder.inspect().deleted, folder.changed_originals()) == ((), (), ())


def test_an_edit_after_the_start_reaches_nothing(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "old", ".gitignore": "data\n"})
    write_tree(root, {"data/x.csv": "old"})
    folder = laid(root, home, "run1")
    write_tree(root, {"a.py": "new", "data/x.csv": "new"})
    assert contents(folder.top) == {"a.py": b"old", ".gitignore": b"data\n", "data/x.csv": b"old"}


def test_outputs_are_what_is_new_or_changed(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository(
        {"p/a.py": "1", "p/same.py": "1", "p/gone.py": "1", "lib/l.py": "1", ".gitignore": "*.dat\n"}
    )
    write_tree(root, {"p/in.dat": "1", "p/kept.dat": "1"})
    folder = laid(root / "p", home, "run1")
    write_tree(folder.project, {"a.py": "2", "new/out.txt": "3", "in.dat": "22", "kept.dat": "1", "out.dat": "4"})
    write_tree(folder.project, {"same.py": "1", "../lib/l.py": "5", "__pycache__/a.pyc": "x", "env/pyvenv.cfg": ""})
    (folder.project / "gone.py").unlink()
    (folder.project / "link").symlink_to("a.py")
    found = folder.inspect()
    assert found.files == ("../lib/l.py", "a.py", "in.dat", "link", "new/out.txt", "out.dat")
    assert found.deleted == ("gone.py",)


def test_a_change_of_the_same_size_right_after_the_start_is_seen(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    for number in range(5):
        folder = laid(root, home, f"run{number}")
        (folder.project / "a.py").write_bytes(b"2")
        assert folder.changes() == ("a.py",)
        folder.release(keep=False)


def test_the_next_run_takes_the_folder_over_and_finds_it_clean(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1", "b/c.py": "2", "run.sh": "3", ".gitignore": "*.dat\n"})
    (root / "link").symlink_to("a.py")
    write_tree(root, {"x.dat": "data"})
    folder = laid(root, home, "run1")
    inode = (folder.project / "b/c.py").stat().st_ino
    write_tree(folder.project, {"a.py": "tampered", "out/deep/o.txt": "x", "__pycache__/a.pyc": "x", "x.dat": "over"})
    (folder.project / "run.sh").chmod(0o777)
    (folder.project / "link").unlink()
    (folder.project / "b" / "made").mkdir()
    folder.inspect()
    write_tree(folder.project, {"late.txt": "after the inspection"})
    folder.release(keep=False)
    assert not folder.root.exists()
    again = laid(root, home, "run2")
    assert (again.project / "b/c.py").stat().st_ino == inode
    expected = fingerprint(root)
    assert fingerprint(again.top) == {
        name: what for name, what in expected.items() if not name.startswith(".git/") and name != ".git"
    }
    assert again.changes() == ()


@pytest.mark.parametrize("how", ["same time", "hard link", "replaced", "folder"])
def test_a_tampered_file_never_reaches_the_next_run(
    make_repository: MakeRepository, home: Home, tmp_path: Path, how: str
) -> None:
    root = make_repository({"a.py": "good", "b.py": "1"})
    folder = laid(root, home, "run1")
    place = folder.project / "a.py"
    if how == "same time":
        times = place.stat()
        place.write_bytes(b"evil")
        os.utime(place, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif how == "hard link":
        os.link(place, tmp_path / "other name")
        folder.inspect()
        folder.release(keep=False)
        (tmp_path / "other name").write_bytes(b"evil")
    else:
        place.unlink()
        write_tree(folder.project, {"a.py/x": "evil"} if how == "folder" else {"a.py": "evil"})
    if how != "hard link":
        folder.release(keep=False)
    again = laid(root, home, "run2")
    assert contents(again.top) == {"a.py": b"good", "b.py": b"1"}


def test_the_next_version_is_laid_out_over_the_last(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1", "d/x": "1", "e": "1", "same.py": "1"})
    folder = laid(root, home, "run1")
    inode = (folder.project / "same.py").stat().st_ino
    folder.release(keep=False)
    (root / "d" / "x").unlink()
    (root / "d").rmdir()
    (root / "e").unlink()
    write_tree(root, {"a.py": "2", "d": "now a file", "e/y": "now a folder"})
    again = laid(root, home, "run2")
    assert contents(again.top) == {"a.py": b"2", "d": b"now a file", "e/y": b"now a folder", "same.py": b"1"}
    assert (again.project / "same.py").stat().st_ino == inode
    again.release(keep=False)
    old = laid(root, home, "run3", version="HEAD")
    assert contents(old.top) == {"a.py": b"1", "d/x": b"1", "e": b"1", "same.py": b"1"}


def test_a_folder_that_a_run_locked_up_is_made_anew(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a/b.py": "1"})
    folder = laid(root, home, "run1")
    (folder.project / "a").chmod(0)
    folder.release(keep=False)
    again = laid(root, home, "run2")
    assert contents(again.top) == {"a/b.py": b"1"}


def test_a_failed_runs_folder_stays_until_it_is_removed(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    folder = laid(root, home, "run1")
    folder.release(keep=True)
    other = laid(root, home, "run2")
    assert folder.project.exists()
    assert other.root != folder.root
    with pytest.raises(SnapshotError, match="already"):
        laid(root, home, "run1")
    (folder.project / "a.py").chmod(0)
    folder.project.chmod(0o500)
    remove_tree(folder.root)
    assert not folder.root.exists()
    assert {path.name for path in home.folders.iterdir()} == {"run2"}


def test_only_a_few_folders_wait(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    folders = [laid(root, home, f"run{number}") for number in range(5)]
    for folder in folders:
        folder.release(keep=False)
    assert len(list((home.folders / ".pool").iterdir())) == 2


def test_ignored_files_are_there_and_unwanted_ones_are_not(make_repository: MakeRepository, home: Home) -> None:
    ignored = "data/\n.venv/\nenv/\n__pycache__/\nmlruns/\nmlflow.db\n*.pkl\nnode_modules/\n.dvc/cache/\nout/\n"
    root = make_repository({"a.py": "1", ".gitignore": ignored, "pkg/b.py": ""})
    write_tree(
        root,
        {
            "data/raw/x.csv": "1",
            "data/__pycache__/y.pyc": "",
            "pkg/model.pkl": "2",
            ".venv/pyvenv.cfg": "",
            ".venv/bin/python": "",
            "env/conda-meta/history": "",
            "pkg/__pycache__/b.pyc": "",
            "mlruns/0/meta.yaml": "",
            "mlflow.db": "",
            "node_modules/x/index.js": "",
            ".dvc/cache/ab/cd": "",
            "out/old.txt": "",
            "data/empty/.keep": "",
        },
    )
    (root / "data" / "elsewhere").symlink_to("raw/x.csv")
    os.mkfifo(root / "data" / "pipe")
    folder = laid(root, home, "run1", RequiredPaths(outputs=("out",)))
    assert set(contents(folder.top)) == {
        *("a.py", ".gitignore", "pkg/b.py", "data/raw/x.csv", "pkg/model.pkl", "data/empty/.keep", "data/elsewhere"),
    }
    assert {origin.relative_to(root).as_posix() for _, origin in folder.provided} == {
        *("data/raw/x.csv", "pkg/model.pkl", "data/empty/.keep", "data/elsewhere"),
    }
    assert not any(part.is_symlink() for part in (folder.top / "data", folder.top / "data/raw"))
    assert folder.changes() == ()


def test_the_home_of_proj_is_no_part_of_a_project_that_it_lies_in(make_repository: MakeRepository) -> None:
    """Folders in it may say themselves that git is to ignore them."""
    root = make_repository({"a.py": "1"})
    write_tree(root, {"home/cache/uv/.gitignore": "*\n", "home/cache/uv/wheel.msgpack": "1", "home/proj.txt": "2"})
    folder = laid(root, Home(root / "home"), "run1")
    assert folder.provided == ()
    assert set(contents(folder.top)) == {"a.py"}


def test_what_a_run_writes_over_ignored_files_stays_in_its_folder(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1", ".gitignore": "out/\n"})
    write_tree(root, {"out/result.txt": "mine", "out/log.txt": "1"})
    before = fingerprint(root)
    one, two = laid(root, home, "run1"), laid(root, home, "run2")
    for folder, text in ((one, "first"), (two, "second")):
        (folder.project / "out/result.txt").write_text(text, encoding="utf-8")
        with (folder.project / "out/log.txt").open("a", encoding="utf-8") as file:
            file.write("more")
        (folder.project / "out/new.txt").write_text(text, encoding="utf-8")
    assert one.changes() == two.changes() == ("out/log.txt", "out/new.txt", "out/result.txt")
    assert (one.project / "out/result.txt").read_text(encoding="utf-8") == "first"
    assert fingerprint(root) == before
    one.release(keep=False)
    assert contents(laid(root, home, "run3").project / "out") == {"result.txt": b"mine", "log.txt": b"1"}


def test_a_file_too_large_to_copy_is_linked_and_watched(
    make_repository: MakeRepository, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providing, "COPY_LIMIT", 3)
    monkeypatch.setattr(providing, "clone_at", lambda *_: False)
    root = make_repository({"a.py": "1", ".gitignore": "*.dat\n"})
    write_tree(root, {"big.dat": "12345", "small.dat": "1"})
    folder = laid(root, home, "run1")
    assert (folder.project / "big.dat").readlink() == root / "big.dat"
    assert not (folder.project / "small.dat").is_symlink()
    assert folder.changed_originals() == ()
    write_tree(root, {"big.dat": "changed"})
    assert folder.changed_originals() == ("big.dat",)
    (folder.project / "big.dat").unlink()
    write_tree(folder.project, {"big.dat": "own"})
    assert folder.changes() == ("big.dat",)
    assert (root / "big.dat").read_text(encoding="utf-8") == "changed"
    folder.release(keep=False)
    assert (laid(root, home, "run2").project / "big.dat").read_text(encoding="utf-8") == "changed"


def test_ignored_files_follow_the_project(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1", ".gitignore": "*.dat\n"})
    write_tree(root, {"x.dat": "1", "y.dat": "1"})
    laid(root, home, "run1").release(keep=False)
    (root / "y.dat").unlink()
    write_tree(root, {"x.dat": "2", "z.dat": "3"})
    folder = laid(root, home, "run2")
    assert contents(folder.top) == {"a.py": b"1", ".gitignore": b"*.dat\n", "x.dat": b"2", "z.dat": b"3"}
    folder.release(keep=False)
    write_tree(root, {".gitignore": ""})
    folder = laid(root, home, "run3")
    assert (contents(folder.top)["z.dat"], folder.changes()) == (b"3", ())


def test_a_folder_with_too_many_ignored_files_is_linked_and_reported(
    make_repository: MakeRepository, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providing, "MOST_FILES", 10)
    root = make_repository({"a.py": "1", ".gitignore": "images/\n"})
    write_tree(root, {f"images/{number}.png": "x" for number in range(20)})
    source, snapshot = freeze(root, home)
    for run_id in ("run1", "run2"):
        printed = Said()
        folder = check_out(snapshot, source, run_id, home, printed)
        assert (folder.top / "images").readlink() == root / "images"
        assert "images" in printed.text
        assert folder.changes() == ()
        folder.release(keep=False)
    assert len(list((root / "images").iterdir())) == 20


def test_large_files_are_there(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    write_tree(root, {"big.bin": "x" * 100})
    source, snapshot = freeze(root, home, limit=50)
    folder = check_out(snapshot, source, "run1", home, Said())
    assert (folder.project / "big.bin").read_text(encoding="utf-8") == "x" * 100
    assert folder.changes() == ()


def test_declared_inputs_outside_the_repository_are_reached(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"p/a.py": "1"})
    write_tree(root.parent, {"shared/data.csv": "1", "far/set/x.csv": "2"})
    requirements = RequiredPaths(inputs=("../../shared/data.csv", "../../far/set", "../../none.csv", "a.py"))
    folder = laid(root / "p", home, "run1", requirements)
    assert (folder.project / "../../shared/data.csv").read_text(encoding="utf-8") == "1"
    assert (folder.project / "../../far/set/x.csv").read_text(encoding="utf-8") == "2"
    assert [name for name, _ in folder.outside_inputs] == ["../../shared/data.csv", "../../far/set"]
    (folder.project / "../../shared/data.csv").write_text("over", encoding="utf-8")
    assert (root.parent / "shared/data.csv").read_text(encoding="utf-8") == "1"
    folder.release(keep=False)
    again = laid(root / "p", home, "run2", requirements)
    assert (again.project / "../../shared/data.csv").read_text(encoding="utf-8") == "1"


def test_inputs_far_outside_are_reached_too(make_repository: MakeRepository, tmp_path: Path, home: Home) -> None:
    root = make_repository({"a.py": "1"}, "one/two/project")
    write_tree(tmp_path, {"data.csv": "1"})
    folder = laid(root, home, "run1", RequiredPaths(inputs=("../../../data.csv",)))
    assert (folder.project / "../../../data.csv").read_text(encoding="utf-8") == "1"
    assert folder.root in (folder.project / "../../../data.csv").resolve().parents


def test_a_missing_file_outside_the_repository_is_explained(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    write_tree(root.parent, {"shared/data.csv": "1"})
    folder = laid(root, home, "run1")
    text = "FileNotFoundError: [Errno 2] No such file or directory: '../shared/data.csv'\n"
    assert "inputs:" in (folder.explain_missing(text, root) or "")
    assert folder.explain_missing("cat: ../none: No such file or directory", root) is None
    assert "--in-place" in (folder.explain_missing("cat: ../shared/data.csv: No such file or directory", root) or "")


def test_in_place_the_users_folder_is_used_and_watched(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"p/a.py": "1", ".gitignore": "*.dat\n"})
    write_tree(root, {"p/old.dat": "1"})
    source, snapshot = freeze(root / "p", home)
    folder = in_place_run_folder(snapshot, source)
    assert (folder.project, folder.provided) == (root / "p", ())
    assert current_tree(source, home) == snapshot.code.tree
    write_tree(root, {"p/out.dat": "1", "p/old.dat": "22", "top.txt": "x"})
    assert folder.changes() == ("../top.txt", "old.dat", "out.dat")
    assert current_tree(source, home) != snapshot.code.tree
    folder.release(keep=False)
    assert (root / "p/out.dat").exists()
    assert list(home.folders.glob("*")) == []
    source, snapshot = freeze(root, home, "HEAD")
    with pytest.raises(SnapshotError, match="in-place"):
        in_place_run_folder(snapshot, source)


def _lay(root: Path, home: Path, number: int) -> tuple[str, dict[str, bytes]]:
    folder = laid(root, Home(home), f"run{number}")
    (folder.project / "result").write_text(str(number), encoding="utf-8")
    folder.inspect()
    found = contents(folder.top)
    folder.release(keep=False)
    return str(folder.root), found


def test_many_runs_at_once_have_their_own_folders(make_repository: MakeRepository, home: Home) -> None:
    files = {f"f{number}.py": str(number) for number in range(50)}
    root = make_repository(files)
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        results = pool.starmap(_lay, [(root, home.root, number) for number in range(12)])
    assert len({place for place, _ in results}) == 12
    for number, (_, found) in enumerate(results):
        assert found == {**{name: text.encode() for name, text in files.items()}, "result": str(number).encode()}


def test_submodules_and_ignored_files_in_them(make_repository: MakeRepository, tmp_path: Path, home: Home) -> None:
    git(tmp_path, "config", "--global", "protocol.file.allow", "always")
    make_repository({"lib.py": "1", ".gitignore": "*.so\n"}, "library")
    root = make_repository({"a.py": "1"})
    git(root, "submodule", "add", "-q", "../library", "lib")
    git(root, "commit", "-qm", "library")
    write_tree(root, {"lib/fast.so": "built"})
    folder = laid(root, home, "run1")
    found = contents(folder.top)
    assert (found["lib/lib.py"], found["lib/fast.so"]) == (b"1", b"built")
    assert not (folder.top / "lib" / ".git").exists()


def test_a_killed_run_leaves_the_repository_as_it_was(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({f"d{n % 20}/f{n}.py": str(n) * 50 for n in range(2000)})
    before = fingerprint(root)
    code = (
        "import sys; from pathlib import Path; from runner.settings import Home;"
        "from tests.source.test_run_folder import laid; laid(sys.argv[1], Home(Path(sys.argv[2])), 'killed')"
    )
    top = Path(__file__).parents[2]
    for delay in (0.3, 0.5, 0.7):
        child = subprocess.Popen([sys.executable, "-c", code, root, home.root], cwd=top)
        try:
            child.wait(delay)
        except subprocess.TimeoutExpired:
            child.kill()
        child.wait()
        remove_tree(home.folders / "killed")
    assert fingerprint(root) == before
    folder = laid(root, home, "after")
    assert len(contents(folder.top)) == 2000


@pytest.mark.parametrize("part", ["root", "middle", "top", "between", "project"])
@pytest.mark.parametrize("by", ["link", "file", "nothing"])
@pytest.mark.parametrize("moment", ["end", "release", "pool"])
def test_a_folder_that_a_run_replaces_costs_no_file_behind_it(
    make_repository: MakeRepository, home: Home, tmp_path: Path, part: str, by: str, moment: str
) -> None:
    """Whatever a run puts in the place of its folder, or of one above it, its files are not outputs and stay."""
    root = make_repository({"a/b/x.py": "1", "a/same.py": "2"})
    (tmp_path / "far").write_text("an input far outside")
    source, snapshot = freeze(root / "a/b", home)
    folder = check_out(snapshot, source, "run1", home, Said(), RequiredPaths(inputs=("../../../../far",)))
    parts = {
        "root": folder.root,
        "middle": folder.top.parent,
        "top": folder.top,
        "between": folder.top / "a",
        "project": folder.project,
    }
    theirs = write_tree(tmp_path / "theirs", dict.fromkeys(("x.py", "b/x.py", "a/b/x.py", "new/y"), "precious"))
    (theirs / "link").symlink_to("x.py")
    before = fingerprint(theirs)
    write_tree(folder.project, {"out.txt": "made"})
    if moment != "end":
        assert folder.changes() == ("out.txt",)
    if moment == "pool":
        folder.release(keep=False)
        (pooled,) = (home.folders / ".pool").iterdir()
        replace(pooled / parts[part].relative_to(folder.root), by, theirs)
    else:
        replace(parts[part], by, theirs)
        with pytest.raises(SnapshotError, match="The run re"):
            folder.changes() if moment == "end" else folder.release(keep=False)
    again = check_out(snapshot, source, "run2", home, Said(), RequiredPaths(inputs=("../../../../far",)))
    assert again.changes() == ()
    assert (again.project / "x.py").read_text() == "1"
    assert fingerprint(theirs) == before


def replace(path: Path, by: str, target: Path) -> None:
    remove_tree(path)
    if by == "link":
        path.symlink_to(target)
    if by == "file":
        path.write_text("x")
