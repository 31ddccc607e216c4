"""What a frozen tree holds, and when it is called clean: probes 2 to 6, 10a and 10b."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runner.errors import SnapshotError
from runner.settings import Home
from runner.source.snapshot import take_snapshot
from runner.source.snapshot_store import store_git_directory
from runner.source.tree import TreeFiles
from tests.conftest import MakeRepository, git, write_tree
from tests.support.sources import Said, fingerprint, freeze


def in_store(home: Home, tree: str) -> dict[str, str]:
    """Return mode and content of every file of a tree; only the snapshot store's own objects are used."""
    found = {}
    listed = subprocess.run(
        ["git", f"--git-dir={home.snapshot_store}", "ls-tree", "-r", "-z", tree], check=True, capture_output=True
    ).stdout
    for line in filter(None, listed.split(b"\0")):
        description, _, path = line.partition(b"\t")
        mode, _, identity = description.decode().split(" ")
        blob = subprocess.run(
            ["git", f"--git-dir={home.snapshot_store}", "cat-file", "blob", identity], check=True, capture_output=True
        ).stdout
        found[os.fsdecode(path)] = f"{mode} {os.fsdecode(blob)}"
    return found


def test_a_clean_tree_is_the_commits(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1", "b/c.py": "2"})
    source, snapshot = freeze(root, home)
    assert snapshot.code.tree == git(root, "rev-parse", "HEAD^{tree}")
    assert snapshot.code.swhid == f"swh:1:dir:{snapshot.code.tree}"
    assert (snapshot.code.dirty, snapshot.code.changed_files) == (False, ())
    assert (snapshot.code.branch, source.tree) == ("main", snapshot.code.tree)
    assert snapshot.committed_at is not None
    assert int(snapshot.committed_at.timestamp()) == int(git(root, "log", "-1", "--format=%ct"))


def test_everything_that_git_does_not_ignore_is_frozen(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({".gitignore": "*.log\n", "a.py": "1", "tool": "x", "pic.bin": b"\0\1", "gone.py": ""})
    names = {"with space.py": "3", 'quo"te.py': "4", "größe.py": "5", "tab\there.py": "6", "new\nline.py": "7"}
    write_tree(root, {**names, "sub/new.py": "8", "pic.bin": b"\0\2\xff", "debug.log": "no"})
    (root / "tool").chmod(0o755)
    (root / "link").symlink_to("a.py")
    (root / "nowhere").symlink_to("../absent")
    (root / "gone.py").unlink()
    write_tree(root, {"a.py": "staged"})
    git(root, "add", "a.py")
    write_tree(root, {"a.py": "edited after"})
    before = fingerprint(root)
    _, snapshot = freeze(root, home)
    assert fingerprint(root) == before
    found = in_store(home, snapshot.code.tree)
    assert found == {
        ".gitignore": "100644 *.log\n",
        "a.py": "100644 edited after",
        "tool": "100755 x",
        "pic.bin": "100644 \0\2\udcff",
        "link": "120000 a.py",
        "nowhere": "120000 ../absent",
        "sub/new.py": "100644 8",
        **{name: f"100644 {content}" for name, content in names.items()},
    }
    changed = ("a.py", "tool", "link", "nowhere", "pic.bin", "gone.py", "sub/new.py")
    assert snapshot.code.dirty
    assert set(snapshot.code.changed_files) == {*names, *changed}


def test_what_changes_later_is_seen_even_with_the_same_size_and_time(
    make_repository: MakeRepository, home: Home
) -> None:
    root = make_repository({"a.py": "1", "b.py": "1"})
    first = freeze(root, home)[1].code
    times = (root / "a.py").stat()
    write_tree(root, {"a.py": "2"})
    os.utime(root / "a.py", ns=(times.st_atime_ns, times.st_mtime_ns))
    second = freeze(root, home)[1].code
    assert second.changed_files == ("a.py",)
    write_tree(root, {"a.py": "1"})
    third = freeze(root, home)[1].code
    assert (third.tree, third.dirty) == (first.tree, False)


def test_a_file_becomes_a_folder_and_a_folder_a_file(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"x": "1", "y/z": "2"})
    freeze(root, home)
    (root / "x").unlink()
    (root / "y" / "z").unlink()
    (root / "y").rmdir()
    write_tree(root, {"x/new": "3", "y": "4"})
    _, snapshot = freeze(root, home)
    assert in_store(home, snapshot.code.tree) == {"x/new": "100644 3", "y": "100644 4"}


def test_a_committed_file_goes_and_comes_back(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1", "b.py": "2"})
    whole = freeze(root, home)[1].code.tree
    (root / "b.py").unlink()
    _, snapshot = freeze(root, home)
    assert snapshot.code.changed_files == ("b.py",)
    assert freeze(root, home)[1].code.tree == snapshot.code.tree
    write_tree(root, {"b.py": "2"})
    assert freeze(root, home)[1].code.tree == whole


def test_ignore_rules_are_gits_and_may_change(make_repository: MakeRepository, home: Home, clean_room: Path) -> None:
    root = make_repository({"a.py": "", "data/forced.csv": "tracked"})
    write_tree(root, {"scratch.txt": "", "secret.key": "", "data/raw.csv": "", "keep.tmp": ""})
    _, snapshot = freeze(root, home)
    assert "scratch.txt" in in_store(home, snapshot.code.tree)
    (root / ".git" / "info").mkdir(exist_ok=True)
    (root / ".git" / "info" / "exclude").write_text("scratch.txt\n", encoding="utf-8")
    (clean_room / "ignore").write_text("*.key\n", encoding="utf-8")
    git(root, "config", "--global", "core.excludesFile", str(clean_room / "ignore"))
    write_tree(root, {".gitignore": "data/\n"})
    _, snapshot = freeze(root, home)
    assert set(in_store(home, snapshot.code.tree)) == {"a.py", ".gitignore", "data/forced.csv", "keep.tmp"}
    git(root, "rm", "-q", "--cached", "data/forced.csv")
    _, snapshot = freeze(root, home)
    assert "data/forced.csv" not in in_store(home, snapshot.code.tree)


def test_environments_caches_and_run_stores_are_no_part_of_a_project(
    make_repository: MakeRepository, home: Home
) -> None:
    root = make_repository({"a.py": ""})
    tree = freeze(root, home)[1].code.tree
    write_tree(
        root,
        {
            "env/pyvenv.cfg": "",
            "env/lib/x.py": "",
            "conda/conda-meta/history": "",
            "conda/bin/python": "",
            "__pycache__/a.pyc": "",
            "mlruns/0/meta.yaml": "",
            "mlflow.db": "",
        },
    )
    _, snapshot = freeze(root, home)
    assert (snapshot.code.tree, snapshot.code.dirty) == (tree, False)
    assert any("env/" in text and "conda/" in text for text in snapshot.notices)


def test_a_plain_folder_is_frozen_by_the_same_rules(tmp_path: Path, home: Home) -> None:
    root = write_tree(tmp_path / "plain", {"a.py": "1", ".gitignore": "big/\n", "big/x": "", "deep/b.py": "2"})
    _, snapshot = freeze(root, home)
    assert set(in_store(home, snapshot.code.tree)) == {"a.py", ".gitignore", "deep/b.py"}
    assert (snapshot.code.commit, snapshot.code.dirty) == (None, False)
    assert not (root / ".git").exists()
    write_tree(root, {"a.py": "2"})
    assert freeze(root, home)[1].code.tree != snapshot.code.tree


def test_an_empty_folder_is_the_empty_tree(tmp_path: Path, home: Home) -> None:
    (tmp_path / "empty").mkdir()
    assert freeze(tmp_path / "empty", home)[1].code.tree == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


def test_an_unborn_branch(tmp_path: Path, home: Home) -> None:
    root = write_tree(tmp_path / "new", {"a.py": "1"})
    git(root, "init", "-q", "-b", "trunk")
    code = freeze(root, home)[1].code
    assert (code.commit, code.branch, code.dirty, code.changed_files) == (None, "trunk", True, ("a.py",))


def test_a_detached_head(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    git(root, "checkout", "-q", "--detach")
    code = freeze(root, home)[1].code
    assert (code.branch, code.dirty, code.commit) == (None, False, git(root, "rev-parse", "HEAD"))


def test_a_linked_worktree(make_repository: MakeRepository, tmp_path: Path, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    git(root, "worktree", "add", "-q", "-b", "other", str(tmp_path / "linked"))
    write_tree(tmp_path / "linked", {"a.py": "2"})
    before = fingerprint(root)
    code = freeze(tmp_path / "linked", home)[1].code
    assert (code.branch, code.changed_files) == ("other", ("a.py",))
    assert fingerprint(root) == before


def test_a_shallow_clone(make_repository: MakeRepository, tmp_path: Path, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    write_tree(root, {"a.py": "2"})
    git(root, "commit", "-qam", "two")
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{root}", "shallow")
    code = freeze(tmp_path / "shallow", home)[1].code
    assert (code.dirty, code.tree) == (False, git(root, "rev-parse", "HEAD^{tree}"))
    assert freeze(tmp_path / "shallow", home, "HEAD")[1].code.tree == code.tree


def test_a_partial_clone_is_compared_without_fetching(
    make_repository: MakeRepository, tmp_path: Path, home: Home
) -> None:
    root = make_repository({"a.py": "1", "b.py": "2"})
    git(root, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--filter=blob:none", "--no-checkout", f"file://{root}", "partial")
    write_tree(tmp_path / "partial", {"a.py": "1", "b.py": "changed"})
    git(tmp_path / "partial", "read-tree", "HEAD")
    before = fingerprint(tmp_path / "partial")
    code = freeze(tmp_path / "partial", home)[1].code
    assert fingerprint(tmp_path / "partial") == before
    assert code.changed_files == ("b.py",)


def test_a_sparse_checkout_is_clean(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"in/a.py": "1", "out/b.py": "2", "top.py": "3"})
    git(root, "sparse-checkout", "set", "--cone", "in")
    assert not (root / "out").exists()
    _, snapshot = freeze(root, home)
    assert not snapshot.code.dirty
    assert any("Sparse checkout: the project folder lacks 1 file " in text for text in snapshot.notices)
    write_tree(root, {"in/a.py": "9"})
    assert freeze(root, home)[1].code.changed_files == ("in/a.py",)


def test_line_ends_by_attributes_are_clean_and_laid_out_as_they_lie(
    make_repository: MakeRepository, home: Home
) -> None:
    root = make_repository({".gitattributes": "*.txt text eol=crlf\n", "a.txt": "one\r\ntwo\r\n", "b.py": "1"})
    assert git(root, "cat-file", "blob", "HEAD:a.txt") == "one\ntwo"
    _, snapshot = freeze(root, home)
    assert not snapshot.code.dirty
    assert in_store(home, snapshot.code.tree)["a.txt"] == "100644 one\r\ntwo\r\n"
    write_tree(root, {"a.txt": "one\r\nthree\r\n"})
    assert freeze(root, home)[1].code.changed_files == ("a.txt",)


def test_a_filter_of_the_users_is_clean(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    git(root, "config", "filter.upper.clean", "tr a-z A-Z")
    git(root, "config", "filter.upper.smudge", "tr A-Z a-z")
    write_tree(root, {".gitattributes": "*.dat filter=upper\n", "x.dat": "content"})
    git(root, "add", ".")
    git(root, "commit", "-qm", "filtered")
    assert git(root, "cat-file", "blob", "HEAD:x.dat") == "CONTENT"
    before = fingerprint(root)
    _, snapshot = freeze(root, home)
    assert (snapshot.code.dirty, in_store(home, snapshot.code.tree)["x.dat"]) == (False, "100644 content")
    assert fingerprint(root) == before


def test_a_pointer_of_git_lfs_is_named(make_repository: MakeRepository, home: Home) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"
    root = make_repository({".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "m.bin": pointer})
    _, snapshot = freeze(root, home)
    assert not snapshot.code.dirty
    assert any("Git LFS" in text and "m.bin" in text for text in snapshot.notices)
    assert freeze(root, home)[1].notices == snapshot.notices


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_a_change_that_git_was_told_to_overlook_is_dirty(
    make_repository: MakeRepository, home: Home, flag: str
) -> None:
    root = make_repository({"config.py": "1"})
    git(root, "update-index", flag, "config.py")
    write_tree(root, {"config.py": "2"})
    assert git(root, "status", "--porcelain") == ""
    assert freeze(root, home)[1].code.changed_files == ("config.py",)


def test_a_mode_that_git_was_told_not_to_trust_is_clean(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    git(root, "config", "core.fileMode", "false")
    (root / "a.py").chmod(0o755)
    assert not freeze(root, home)[1].code.dirty


def make_submodules(make_repository: MakeRepository, tmp_path: Path) -> Path:
    git(tmp_path, "config", "--global", "protocol.file.allow", "always")
    make_repository({"deep.py": "1"}, "deepest")
    middle = make_repository({"mid.py": "1"}, "middle")
    git(middle, "submodule", "add", "-q", "../deepest", "deep")
    git(middle, "commit", "-qm", "deep")
    root = make_repository({"a.py": "1"})
    git(root, "submodule", "add", "-q", "../middle", "lib/mid")
    git(root, "submodule", "update", "-q", "--init", "--recursive")
    git(root, "commit", "-qm", "middle")
    return root


def test_submodules_are_frozen_with_their_content(make_repository: MakeRepository, tmp_path: Path, home: Home) -> None:
    root = make_submodules(make_repository, tmp_path)
    before = fingerprint(root)
    _, snapshot = freeze(root, home)
    found = in_store(home, snapshot.code.tree)
    assert set(found) == {"a.py", ".gitmodules", "lib/mid/mid.py", "lib/mid/.gitmodules", "lib/mid/deep/deep.py"}
    assert not snapshot.code.dirty
    assert freeze(root, home, "HEAD")[1].code.tree == snapshot.code.tree
    write_tree(root, {"lib/mid/mid.py": "2", "lib/mid/deep/new.py": "3"})
    _, dirty = freeze(root, home)
    assert dirty.code.changed_files == ("lib/mid/deep/new.py", "lib/mid/mid.py")
    assert in_store(home, dirty.code.tree)["lib/mid/deep/new.py"] == "100644 3"
    (root / "lib/mid/deep/new.py").unlink()
    write_tree(root, {"lib/mid/mid.py": "1"})
    assert fingerprint(root) == before


def test_a_submodule_at_another_commit_is_dirty(make_repository: MakeRepository, tmp_path: Path, home: Home) -> None:
    root = make_submodules(make_repository, tmp_path)
    write_tree(root, {"lib/mid/mid.py": "2"})
    git(root / "lib/mid", "commit", "-qam", "moved on")
    assert freeze(root, home)[1].code.changed_files == ("lib/mid/mid.py",)


def test_a_submodule_that_is_not_checked_out_is_named(
    make_repository: MakeRepository, tmp_path: Path, home: Home
) -> None:
    root = make_submodules(make_repository, tmp_path)
    git(tmp_path, "clone", "-q", str(root), "clone")
    _, snapshot = freeze(tmp_path / "clone", home)
    assert not snapshot.code.dirty
    assert any("lib/mid" in text for text in snapshot.notices)
    git(tmp_path / "clone", "submodule", "update", "-q", "--init", "--recursive")
    _, snapshot = freeze(tmp_path / "clone", home)
    assert "lib/mid/deep/deep.py" in in_store(home, snapshot.code.tree)
    assert (snapshot.code.dirty, snapshot.notices) == (False, ())


def test_a_repository_inside_another_one_that_does_not_know_it(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    inner = write_tree(root / "vendor" / "tool", {"t.py": "2", ".gitignore": "*.log\n", "x.log": "", "n.tmp": ""})
    git(inner, "init", "-q")
    (inner / ".git/info/exclude").write_text("*.tmp\n", encoding="utf-8")
    for _ in range(2):
        _, snapshot = freeze(root, home)
        assert set(in_store(home, snapshot.code.tree)) == {"a.py", "vendor/tool/t.py", "vendor/tool/.gitignore"}
    write_tree(inner, {"more.py": "3"})
    assert "vendor/tool/more.py" in in_store(home, freeze(root, home)[1].code.tree)


def test_a_project_in_an_ignored_folder_is_its_own(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({".gitignore": "work/\n", "a.py": ""})
    plain = write_tree(root / "work" / "plain", {"p.py": "1"})
    source, snapshot = freeze(plain, home)
    assert (source.root, snapshot.code.commit) == (plain, None)
    assert set(in_store(home, snapshot.code.tree)) == {"p.py"}
    repository = write_tree(root / "work" / "repository", {"r.py": "1"})
    git(repository, "init", "-q")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "r")
    code = freeze(repository, home)[1].code
    assert (code.commit, code.dirty) == (git(repository, "rev-parse", "HEAD"), False)


def test_a_git_that_leads_nowhere_is_reported(tmp_path: Path, home: Home) -> None:
    root = write_tree(tmp_path / "broken", {"a.py": "", ".git": "gitdir: /nowhere\n"})
    printed = Said()
    from runner.source.opening import open_source

    source = open_source(str(root), None, home, printed)
    assert "is broken" in printed.text
    assert set(in_store(home, take_snapshot(source, home, printed).code.tree)) == {"a.py"}


def test_git_variables_of_the_caller_lead_nowhere_else(
    make_repository: MakeRepository, tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_repository({"a.py": "1"})
    other = make_repository({"b.py": "1"}, "other")
    with monkeypatch.context() as astray:
        astray.setenv("GIT_DIR", str(other / ".git"))
        astray.setenv("GIT_WORK_TREE", str(other))
        astray.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
        astray.setenv("GIT_OBJECT_DIRECTORY", str(tmp_path / "objects"))
        _, snapshot = freeze(root, home)
    assert (set(in_store(home, snapshot.code.tree)), snapshot.code.dirty) == ({"a.py"}, False)
    assert not (tmp_path / "objects").exists()


def test_nothing_of_a_repository_starts(make_repository: MakeRepository, tmp_path: Path, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n", encoding="utf-8")
    trap.chmod(0o755)
    hooks = root / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("post-checkout", "post-index-change", "pre-commit", "reference-transaction"):
        (hooks / name).symlink_to(trap)
    git(root, "config", "core.fsmonitor", str(trap))
    git(root, "config", "--global", "core.hooksPath", str(hooks))
    (tmp_path / "sprung").unlink(missing_ok=True)
    write_tree(root, {"a.py": "2", "b.py": "3"})
    freeze(root, home)
    freeze(root, home, "HEAD")
    assert not (tmp_path / "sprung").exists()


def test_another_users_repository_is_read_and_its_filters_are_not_run(
    make_repository: MakeRepository, tmp_path: Path, home: Home
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    root = make_repository({".gitattributes": "*.dat filter=evil\n", "x.dat": "1", "a.py": "1"})
    git(root, "config", "filter.evil.clean", f"touch {tmp_path}/sprung; cat")
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            os.lchown(Path(folder, name), 12345, 12345)
    os.chown(root, 12345, 12345)
    write_tree(root, {"x.dat": "2"})
    code = freeze(root, home)[1].code
    assert code.changed_files == ("x.dat",)
    assert not (tmp_path / "sprung").exists()


def test_large_files_are_recorded_by_digest_and_never_hashed_by_git(
    make_repository: MakeRepository, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_repository({"a.py": "1"})
    size = 500 * 10**9  # git would take hours
    with (root / "huge.bin").open("wb") as file:
        file.truncate(size)
    os.utime(root / "huge.bin", (1, 1))
    time.sleep(0.05)
    read: list[Path] = []

    def digest(path: Path) -> str:
        read.append(path)
        return "0" * 64

    monkeypatch.setattr("runner.base.files.sha256_of", digest)
    _, snapshot = freeze(root, home)
    assert [(one.path, one.size, one.sha256) for one in snapshot.large] == [("huge.bin", size, "0" * 64)]
    assert set(in_store(home, snapshot.code.tree)) == {"a.py"}
    assert any("huge.bin" in text for text in snapshot.notices)
    assert snapshot.code.dirty
    again = freeze(root, home)[1]
    assert (again.large, again.notices) == (snapshot.large, snapshot.notices)
    assert read == [root / "huge.bin"]


def test_a_file_grows_over_the_limit_and_shrinks_again(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1", "data.csv": "12345"})
    assert freeze(root, home, limit=10)[1].large == ()
    write_tree(root, {"data.csv": "1234567890123"})
    _, snapshot = freeze(root, home, limit=10)
    assert [one.path for one in snapshot.large] == ["data.csv"]
    assert snapshot.code.changed_files == ("data.csv",)
    write_tree(root, {"data.csv": "12345"})
    _, snapshot = freeze(root, home, limit=10)
    assert (snapshot.large, snapshot.code.dirty) == ((), False)


def test_a_large_file_that_is_committed_is_clean(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1", "data.csv": "1234567890123"})
    _, snapshot = freeze(root, home, limit=10)
    assert ([one.path for one in snapshot.large], snapshot.code.dirty) == (["data.csv"], False)


def test_pipes_sockets_and_links_in_circles_do_not_hang(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1", "was_file": "x", "sub/b.py": ""})
    os.mkfifo(root / "pipe")
    os.mkfifo(root / "sub" / "inner")
    (root / "was_file").unlink()
    os.mkfifo(root / "was_file")
    here = Path.cwd()
    os.chdir(root)
    try:
        server = socket.socket(socket.AF_UNIX)
        server.bind("sock")
    finally:
        os.chdir(here)
    (root / "circle").symlink_to("circle")
    with server:
        _, snapshot = freeze(root, home)
        assert set(in_store(home, snapshot.code.tree)) == {"a.py", "sub/b.py", "circle"}
        text = " ".join(snapshot.notices)
        assert all(name in text for name in ("pipe", "sub/inner", "was_file", "sock"))
        assert freeze(root, home)[1].notices == snapshot.notices


def test_unreadable_files_are_named(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    write_tree(root, {"closed.txt": "x", "locked/inside.txt": "y"})
    (root / "closed.txt").chmod(0)
    (root / "locked").chmod(0)
    if os.access(root / "closed.txt", os.R_OK):
        pytest.skip("this user reads everything")
    try:
        _, snapshot = freeze(root, home)
    finally:
        (root / "locked").chmod(0o755)
    assert set(in_store(home, snapshot.code.tree)) == {"a.py"}
    text = " ".join(snapshot.notices)
    assert "closed.txt" in text
    assert "locked" in text


def test_files_that_come_and_go_while_they_are_read(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    stop = threading.Event()

    def churn() -> None:
        number = 0
        while not stop.is_set():
            path = root / f"tmp{number % 50}.txt"
            path.write_bytes(os.urandom(50_000))
            (root / f"tmp{(number + 25) % 50}.txt").unlink(missing_ok=True)
            number += 1

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(5):
            _, snapshot = freeze(root, home)
            assert "a.py" in in_store(home, snapshot.code.tree)
    finally:
        stop.set()
        thread.join()


def test_two_snapshots_at_once_of_one_checkout(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({f"d{n % 20}/f{n}.py": str(n) for n in range(400)})
    code = (
        "import sys; from pathlib import Path; from runner.settings import Home; "
        "from tests.support.sources import freeze;"
        "print(freeze(sys.argv[1], Home(Path(sys.argv[2])))[1].code.tree)"
    )
    top = Path(__file__).parents[2]
    children = [
        subprocess.Popen([sys.executable, "-c", code, root, home.root], cwd=top, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    trees = {child.communicate()[0].strip() for child in children}
    assert trees == {git(root, "rev-parse", "HEAD^{tree}")}


def test_a_lock_left_by_a_killed_git_does_not_stop_the_next(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    freeze(root, home)
    (index,) = home.indexes.glob("*/index")
    index.with_name("index.lock").write_bytes(b"")
    write_tree(root, {"a.py": "2"})
    assert freeze(root, home)[1].code.dirty


def test_a_damaged_state_is_made_anew(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    tree = freeze(root, home)[1].code.tree
    (state,) = home.indexes.glob("*/state")
    state.write_bytes(b"\xff not a state")
    assert freeze(root, home)[1].code.tree == tree


def test_the_home_inside_the_project_is_no_part_of_it(make_repository: MakeRepository) -> None:
    root = make_repository({"a.py": "1"})
    inside = Home(root / ".proj")
    for _ in range(2):
        assert not freeze(root, inside)[1].code.dirty


@pytest.mark.parametrize("version", [None, "HEAD"])
def test_the_tree_is_read_for_a_manifest(make_repository: MakeRepository, home: Home, version: str | None) -> None:
    root = make_repository({"top.txt": "t", "sub/MLproject": "name: x\n", "sub/folder/a.py": "1", "sub/z": ""})
    (root / "sub" / "inner").symlink_to("folder")
    (root / "sub" / "up.txt").symlink_to("../top.txt")
    (root / "sub" / "out").symlink_to("../../elsewhere")
    git(root, "add", ".")
    git(root, "commit", "-qm", "links")
    source, snapshot = freeze(root / "sub", home, version)
    write_tree(root, {"sub/MLproject": "changed meanwhile"})
    files = TreeFiles(home, snapshot)
    assert files.names() == ("MLproject", "folder/", "inner/", "out", "up.txt", "z")
    assert files.read("MLproject") == b"name: x\n"
    assert files.read("inner/a.py") == b"1"
    assert files.read("up.txt") == files.read("../top.txt") == b"t"
    assert files.names("..") == ("sub/", "top.txt")
    assert [files.read(path) for path in ("none", "folder", "../../x", "/etc/passwd", "out", "", "z/x")] == [None] * 7
    assert (files.names("none"), files.names("../.."), source.subdirectory) == ((), (), "sub")


def test_the_snapshot_store_needs_nothing_but_itself(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    freeze(root, home)
    assert not (home.snapshot_store / "objects/info/alternates").exists()
    assert store_git_directory(home).alternates == ()
    assert git(home.snapshot_store, "fsck", "--connectivity-only", "--no-dangling") == ""


def test_hidden_files_and_folders_are_read_by_their_names(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({".python-version": "3.9\n", ".hidden/deep/.a": "1", "hidden/b": "2"})
    (root / "link").symlink_to(".hidden/deep")
    _, snapshot = freeze(root, home)
    files = TreeFiles(home, snapshot)
    assert (files.read(".python-version"), files.read(".hidden/deep/.a")) == (b"3.9\n", b"1")
    assert (files.read("./link/.a"), files.names(".hidden"), files.names(".")) == (b"1", ("deep/",), files.names())
    assert files.read("python-version") is None


@pytest.mark.parametrize("count", [1, 150])
def test_a_manifest_is_read_from_a_pack_as_well(make_repository: MakeRepository, home: Home, count: int) -> None:
    files = {f"deep/er/data/f{number}.csv": str(number) for number in range(count)}
    root = make_repository({**files, "deep/er/MLproject": "name: x\n", "deep/er/new\nline.yaml": "1"})
    _, snapshot = freeze(root / "deep" / "er", home)
    files_of_tree = TreeFiles(home, snapshot)
    assert files_of_tree.names() == ("MLproject", "data/", "new\nline.yaml")
    assert files_of_tree.read("MLproject") == b"name: x\n"
    assert files_of_tree.read("new\nline.yaml") == b"1"
    assert files_of_tree.read("data/f0.csv") == b"0"
    assert files_of_tree.read("../er/data/none") is None


def test_files_that_a_repository_lacks_are_named(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1", "data/large file.bin": "2"})
    blob = git(root, "rev-parse", "HEAD:data/large file.bin")
    (root / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(SnapshotError, match=r"of the commit: data/large file\.bin$"):
        freeze(root, home, "HEAD")


@pytest.mark.parametrize("damage", ["emptied", "missing", "cut off"])
def test_a_commit_that_cannot_be_read_is_reported(make_repository: MakeRepository, home: Home, damage: str) -> None:
    root = make_repository({"a.py": "1"})
    commit = git(root, "rev-parse", "HEAD")
    path = root / ".git" / "objects" / commit[:2] / commit[2:]
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(b"" if damage == "emptied" else content[:20])
    printed = Said()
    from runner.source.opening import open_source

    assert open_source(str(root), None, home, printed).commit is None
    assert f"commit {commit[:12]} of HEAD can't be read" in printed.text


def test_a_repository_without_commits_is_no_damage(tmp_path: Path, home: Home) -> None:
    root = write_tree(tmp_path / "new", {"a.py": "1"})
    git(root, "init", "--quiet")
    printed = Said()
    from runner.source.opening import open_source

    assert open_source(str(root), None, home, printed).commit is None
    assert printed.text == ""
