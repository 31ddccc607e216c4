"""Outputs are digested and kept; inputs are seen and digested."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.base.files import DigestCache, clone_at, copy_at, open_regular, remove_tree, sha256_of, write_atomically
from runner.base.safe_paths import folder_at
from runner.provenance import inputs
from runner.provenance.inputs import Watch, digest_inputs, find_files
from runner.provenance.outputs import OutputFolder, OutputLimits, collect_outputs
from tests.conftest import write_tree

only_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is Linux's")


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("move", [True, False])
def test_outputs_are_digested_and_kept(tmp_path: Path, move: bool) -> None:
    project = write_tree(tmp_path / "run/p", {"a.txt": "1", "deep/b.txt": "22", "../lib/c.txt": "3"})
    (project / "a.txt").chmod(0o444)
    source = OutputFolder(project=project, top=project.parent, is_given_up=move)
    found = collect_outputs(source, ("../lib/c.txt", "a.txt", "deep/b.txt"), tmp_path / "artifacts")
    assert [(one.path, one.size, one.sha256) for one in found.records] == [
        ("../lib/c.txt", 1, sha("3")),
        ("a.txt", 1, sha("1")),
        ("deep/b.txt", 2, sha("22")),
    ]
    assert found.notices == ()
    assert found.kept == {"_above_/lib/c.txt": sha("3"), "a.txt": sha("1"), "deep/b.txt": sha("22")}
    assert (tmp_path / "artifacts/deep/b.txt").read_text(encoding="utf-8") == "22"
    assert (tmp_path / "artifacts/_above_/lib/c.txt").read_text(encoding="utf-8") == "3"
    assert all(path.stat().st_nlink == 1 for path in (tmp_path / "artifacts").rglob("*.txt"))


def test_what_is_left_out_is_reported(tmp_path: Path) -> None:
    project = write_tree(tmp_path / "p", {"big": "12345", "b": "12", "c": "12", "d": "1", "logged": "1"})
    (project / "link").symlink_to("/etc/passwd")
    os.mkfifo(project / "pipe")
    write_tree(tmp_path / "artifacts", {"logged": "by the script"})
    paths = ("b", "big", "c", "d", "link", "logged", "none", "pipe", "unseen")
    limits = OutputLimits(file_size=4, total_size=3, most_kept=2, most_listed=8)
    found = collect_outputs(OutputFolder(project=project, top=project), paths, tmp_path / "artifacts", limits)
    assert [one.path for one in found.records] == ["b", "big", "c", "d", "logged"]
    assert {path.name for path in (tmp_path / "artifacts").iterdir()} == {"b", "d", "logged"}
    assert (tmp_path / "artifacts/logged").read_text(encoding="utf-8") == "by the script"
    assert set(found.kept) == {"b", "d"}
    text = "\n".join(found.notices)
    assert all(name in text for name in ("big", "c", "link", "logged", "none", "pipe", "1 output beyond"))


@only_linux
def test_opened_files_are_seen_and_others_are_not(tmp_path: Path) -> None:
    write_tree(tmp_path, {"read.csv": "1", "untouched.csv": "2", "listed/x.csv": "3", "run": "4", "target.csv": "5"})
    (tmp_path / "link.csv").symlink_to("target.csv")
    (tmp_path / "dangling").symlink_to("nowhere")
    names = ("read.csv", "untouched.csv", "listed/x.csv", "link.csv", "dangling")
    watch = Watch([tmp_path / name for name in names])
    command = (
        "cat read.csv read.csv > /dev/null; ls -l listed > /dev/null; stat untouched.csv > /dev/null; cat link.csv"
    )
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, capture_output=True)
    assert watch.stop() == (tmp_path / "link.csv", tmp_path / "read.csv")
    assert watch.stop() == ()


def test_what_nobody_can_watch_counts_as_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path, {"a": "", "b": ""})
    monkeypatch.setattr(inputs, "MOST_WATCHED", 1)
    watch = Watch([tmp_path / "a", tmp_path / "b"])
    assert tmp_path / "b" in watch.stop()
    monkeypatch.setattr(sys, "platform", "darwin")
    watch = Watch([tmp_path / "a"])
    assert watch.stop() == (tmp_path / "a",)
    assert Watch([]).stop() == ()


def test_inputs_are_digested(tmp_path: Path) -> None:
    project = write_tree(tmp_path / "p", {"a.csv": "1", "set/x.csv": "2", "set/y/z.csv": "3", "seen.dat": "4"})
    write_tree(tmp_path, {"far/w.csv": "5"})
    (project / "set/link").symlink_to(tmp_path / "far")
    (project / "set/link/loop").symlink_to(project / "set")
    named = (*((name, project / name) for name in ("a.csv", "set/", "none.csv")), ("seen.dat", project / "seen.dat"))
    files, crowded = find_files(named)
    records, notices = digest_inputs(files, tmp_path / "cache")
    assert [(one.path, one.sha256, one.md5) for one in records] == [
        ("a.csv", sha("1"), None),
        ("seen.dat", sha("4"), None),
        ("set/link/w.csv", sha("5"), None),
        ("set/x.csv", sha("2"), None),
        ("set/y/z.csv", sha("3"), None),
    ]
    assert len(notices) == 1
    assert "none.csv" in notices[0]
    assert crowded == ()


def test_of_a_crowded_folder_the_first_files_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MOST_DECLARED", 2)
    write_tree(tmp_path, {"set/a": "", "set/b": "", "set/c": "", "two/a": "", "two/b": ""})
    files, crowded = find_files((("set", tmp_path / "set"), ("two", tmp_path / "two")))
    assert list(files) == ["set/a", "set/b", "two/a", "two/b"]
    assert len(crowded) == 1
    assert "'set' has more than 2 files" in crowded[0]


def test_a_file_that_is_moved_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path, {"folder/a": "1"})
    time.sleep(0.05)
    cache = DigestCache(tmp_path / "cache")
    cache.digest(tmp_path / "folder/a")
    cache.save()
    (tmp_path / "folder").rename(tmp_path / "other")
    monkeypatch.setattr("runner.base.files.sha256_of", lambda _path: pytest.fail("read again"))
    cache = DigestCache(tmp_path / "cache")
    assert cache.knows(tmp_path / "other/a")
    assert cache.digest(tmp_path / "other/a") == sha("1")


def test_the_cache_keeps_the_digests_that_were_used_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.base.files._MOST_DIGESTS", 2)
    write_tree(tmp_path, {name: name for name in "abc"})
    time.sleep(0.05)
    cache = DigestCache(tmp_path / "cache")
    for name in "abca":
        cache.digest(tmp_path / name)
    cache.save()
    cache = DigestCache(tmp_path / "cache")
    assert [cache.knows(tmp_path / name) for name in "abc"] == [True, False, True]


def test_digests_are_remembered_until_a_file_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path, {"a": "1"})
    os.utime(tmp_path / "a", (1, 1))
    time.sleep(0.05)
    cache = DigestCache(tmp_path / "cache")
    assert cache.digest(tmp_path / "a") == sha("1")
    cache.save()
    with monkeypatch.context() as patch:
        patch.setattr("runner.base.files.sha256_of", lambda _path: pytest.fail("read again"))
        assert DigestCache(tmp_path / "cache").digest(tmp_path / "a") == sha("1")
    write_tree(tmp_path, {"a": "2"})
    os.utime(tmp_path / "a", (1, 1))
    assert DigestCache(tmp_path / "cache").digest(tmp_path / "a") == sha("2")
    (tmp_path / "cache").write_bytes(b"damaged")
    assert DigestCache(tmp_path / "cache").digest(tmp_path / "a") == sha("2")


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="regular"):
        sha256_of(tmp_path / "pipe")


def test_copies_are_whole_and_replace_nothing(tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "link").symlink_to("a")
    with open_regular(tmp_path / "a") as source, folder_at(tmp_path) as folder:
        copy_at(source, folder, "b")
        assert (tmp_path / "b").read_bytes() == content
        assert clone_at(source.fileno(), folder, "c") == (tmp_path / "c").exists()
        for name in ("b", "link"):
            with pytest.raises(FileExistsError):
                copy_at(source, folder, name)
            with pytest.raises(FileExistsError):
                clone_at(source.fileno(), folder, name)
    assert (tmp_path / "a").read_bytes() == content


def test_a_locked_up_folder_is_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    write_tree(tmp_path, {"doomed/a/b": "", "kept/c": ""})
    (tmp_path / "doomed" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "doomed" / "a").chmod(0)
    remove_tree(tmp_path / "doomed")
    assert not (tmp_path / "doomed").exists()
    (tmp_path / "way").symlink_to(tmp_path / "kept")
    remove_tree(tmp_path / "way")
    remove_tree(tmp_path / "absent")
    assert (tmp_path / "kept" / "c").exists()


def test_a_file_is_written_whole_or_not(tmp_path: Path) -> None:
    write_atomically(tmp_path / "new" / "a", b"1")
    write_atomically(tmp_path / "new" / "a", b"2")
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "new").iterdir()] == [("a", b"2")]
