"""How objects enter the snapshot store: our own packs, files that change meanwhile, damaged repositories."""

import hashlib
import os
import subprocess
import threading
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import SnapshotError
from runner.settings import Home
from runner.source.durable import publish
from runner.source.intake import store_files
from runner.source.packing import PackWriter, read_index
from runner.source.restoring import checkout
from runner.source.snapshot_store import EMPTY_TREE, object_id, open_snapshot_store
from runner.source.verification import verify_snapshots
from tests.conftest import MakeRepository, git, write_tree
from tests.support.sources import Said, fingerprint, freeze, kept

pytestmark = pytest.mark.slow

MANY: dict[str, str | bytes] = {f"d{number % 7}/f{number}.txt": f"{number}\n" * number for number in range(150)}


def store_git(home: Home, *words: str) -> str:
    return subprocess.run(
        ["git", f"--git-dir={home.snapshot_store}", *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def packs(home: Home) -> list[Path]:
    return sorted((home.snapshot_store / "objects" / "pack").glob("*.pack"))


def is_sound(home: Home) -> bool:
    store_git(home, "fsck", "--full", "--strict", "--no-dangling")
    return list(verify_snapshots(home, repair=False, progress=lambda _done, _total: None)) == []


@settings(max_examples=30, deadline=None)
@given(st.sets(st.binary(max_size=300) | st.integers(0, 200_000).map(bytes), min_size=1, max_size=40))
def test_git_finds_a_pack_of_ours_whole(tmp_path_factory: pytest.TempPathFactory, contents: set[bytes]) -> None:
    folder = tmp_path_factory.mktemp("pack")
    subprocess.run(["git", "init", "--quiet", "--bare", str(folder)], check=True)
    with PackWriter(folder / "objects") as writer:
        for content in contents:
            writer.add("blob", object_id("blob", content), content)
    (pack,) = (folder / "objects" / "pack").glob("*.pack")
    subprocess.run(["git", "verify-pack", str(pack.with_suffix(".idx"))], check=True)
    assert read_index(pack.with_suffix(".idx")) == sorted(object_id("blob", content) for content in contents)
    assert sorted(path.suffix for path in pack.parent.iterdir()) == [".idx", ".pack"]
    assert pack.stat().st_mode & 0o777 == 0o444


def test_a_pack_that_is_not_finished_is_not_there(tmp_path: Path) -> None:
    def write() -> None:
        with PackWriter(tmp_path) as writer:
            writer.add("blob", object_id("blob", b"x"), b"x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    with PackWriter(tmp_path):
        pass
    assert list((tmp_path / "pack").iterdir()) == []


def test_many_files_become_one_pack_and_nothing_is_read_again(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository(MANY)
    before = fingerprint(root)
    _, snapshot = freeze(root, home)
    assert snapshot.code.tree == git(root, "rev-parse", "HEAD^{tree}")
    assert (len(packs(home)), fingerprint(root)) == (1, before)
    write_tree(root, {"d1/new.txt": "new"})
    freeze(root, home)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=second")
    assert freeze(root, home)[1].code.tree == git(root, "rev-parse", "HEAD^{tree}")
    assert len(packs(home)) == 1
    assert is_sound(home)


def test_content_that_is_there_is_not_written_again(make_repository: MakeRepository, home: Home) -> None:
    freeze(make_repository(MANY), home)
    size = sum(path.stat().st_size for path in packs(home))
    freeze(make_repository({**MANY, "one.txt": "more"}, name="copy"), home)
    assert sum(path.stat().st_size for path in packs(home)) < size * 1.1
    assert is_sound(home)


def test_a_snapshot_outlives_its_repository(make_repository: MakeRepository, home: Home, tmp_path: Path) -> None:
    """The snapshot store shares no file with a repository, so that nothing that happens to that one reaches it."""
    root = make_repository(MANY)
    write_tree(root, {"d1/f1.txt": "changed"})
    kept(root, home, "run1")
    kept(root, home, "run2", "HEAD")
    assert all(path.stat().st_nlink == 1 for path in home.snapshot_store.rglob("*") if path.is_file())
    for path in (root / ".git").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_bytes(b"")
    for run_id in ("run1", "run2"):
        checkout(run_id, tmp_path / run_id, home, Said())
    assert (tmp_path / "run1/d1/f1.txt").read_text() == "changed"
    assert (tmp_path / "run2/d1/f1.txt").read_text() == "1\n"


@pytest.mark.parametrize("version", [None, "HEAD"])
@pytest.mark.parametrize("form", ["packed", "alternates", "shallow", "bitmaps", "sha256", "stranger"])
def test_every_form_of_a_repository_is_frozen(
    make_repository: MakeRepository, home: Home, tmp_path: Path, form: str, version: str | None
) -> None:
    origin = make_repository(MANY, name="origin")
    root = tmp_path / "clone"
    if form == "sha256":
        write_tree(root, MANY)
        git(root, "init", "--quiet", "--object-format=sha256")
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "--message=first")
    else:
        words = {"alternates": ("--shared",), "shallow": ("--depth=1",)}.get(form, ())
        git(tmp_path, "clone", "--quiet", *words, f"file://{origin}" if form == "shallow" else str(origin), str(root))
    if form in ("packed", "bitmaps"):
        git(root, "repack", "-a", "-d", "-q", *(("-b", "--write-midx") if form == "bitmaps" else ()))
        git(root, "commit-graph", "write", "--reachable")
    if form == "stranger":
        if os.geteuid() != 0:
            pytest.skip("only root can give files away")
        for path in (root, *root.rglob("*")):
            os.lchown(path, 12345, 12345)
    before = fingerprint(root)
    if form == "sha256" and version:
        with pytest.raises(SnapshotError):
            freeze(root, home, version)
        return
    snapshot = kept(root, home, "run1", version)
    assert (snapshot.code.dirty, fingerprint(root)) == (False, before)
    assert snapshot.code.tree == git(origin, "rev-parse", "HEAD^{tree}")
    assert is_sound(home)


@pytest.mark.parametrize("is_many", [False, True])
def test_a_forged_object_of_a_repository_does_not_enter(
    make_repository: MakeRepository, home: Home, *, is_many: bool
) -> None:
    """Another project with the true file of that id would be given the forged one otherwise."""
    root = make_repository({**(MANY if is_many else {}), "model.py": "good = True\n"})
    identity = git(root, "rev-parse", "HEAD:model.py")
    place = root / ".git/objects" / identity[:2] / identity[2:]
    place.chmod(0o644)
    place.write_bytes(zlib.compress(b"blob 12\0good = Fals\n"))
    with pytest.raises(SnapshotError, match=r"model\.py"):
        freeze(root, home, "HEAD")
    other = make_repository({"model.py": "good = True\n"}, name="other")
    kept(other, home, "run1")
    assert store_git(home, "cat-file", "blob", identity) == "good = True"


@pytest.mark.parametrize("damage", [b"", b"noise", None])
def test_a_damaged_repository_is_frozen_from_its_files(
    make_repository: MakeRepository, home: Home, damage: bytes | None
) -> None:
    root = make_repository(MANY)
    tree = git(root, "rev-parse", "HEAD^{tree}")
    git(root, "repack", "-a", "-d", "-q")
    (pack,) = (root / ".git/objects/pack").glob("*.pack")
    content = pack.read_bytes()
    pack.chmod(0o644)
    pack.write_bytes(
        content[: len(content) // 3] + bytes(50) + content[len(content) // 3 + 50 :] if damage is None else damage
    )
    try:
        snapshot = kept(root, home, "run1")
    except SnapshotError:
        assert damage is not None  # not even the commit can be read
        return
    assert snapshot.code.tree == tree
    assert is_sound(home)


def test_files_that_grow_shrink_and_turn_into_links_are_read_as_they_are_at_some_moment(
    tmp_path: Path, home: Home
) -> None:
    open_snapshot_store(home)
    names = [b"grows", b"shrinks", b"turns"]
    stop = threading.Event()

    def change() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            (tmp_path / "grows").write_bytes(b"x" * (number % 5000))
            (tmp_path / "shrinks").write_bytes(b"y" * (5000 - number % 5000))
            (tmp_path / "turns").unlink(missing_ok=True)
            (tmp_path / "turns").symlink_to("grows") if number % 2 else (tmp_path / "turns").write_bytes(b"z")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(20):
            found = store_files(home, os.fsencode(tmp_path), dict.fromkeys(names, 10), 10**6)
            assert found.taken.keys() | found.refused.keys() <= set(names)
    finally:
        stop.set()
        thread.join()
    store_git(home, "fsck", "--full", "--no-dangling")


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path: Path, home: Home) -> None:
    os.mkfifo(tmp_path / "pipe")
    write_tree(tmp_path, {"large": "x" * 100, "whole": "y"})
    found = store_files(home, os.fsencode(tmp_path), {b"pipe": 1, b"large": 1, b"gone": 1, b"whole": 1}, 50)
    assert found.refused == {b"pipe": "special", b"large": "large", b"gone": "vanished"}
    assert found.taken[b"whole"].identity == hashlib.sha1(b"blob 1\0y").hexdigest()


def test_a_folder_that_became_a_link_hides_what_was_below_it(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({f"old/{number}.py": "1" for number in range(60)} | {"new/0.py": "2"})
    for path in (root / "old").iterdir():
        path.unlink()
    (root / "old").rmdir()
    (root / "old").symlink_to("new")
    _, snapshot = freeze(root, home)
    assert store_git(home, "ls-tree", "-r", "--name-only", snapshot.code.tree).splitlines() == ["new/0.py", "old"]


def test_objects_are_on_disk_before_they_are_found(
    make_repository: MakeRepository, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    real = os.fsync

    def note(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    root = make_repository({**MANY, "a.py": "1"})
    kept(root, home, "run1")
    write_tree(root, {"a.py": "2", "d1/b.py": "3"})
    kept(root, home, "run2")
    kept(root, home, "run3", "HEAD")
    files = [path for path in (home.snapshot_store / "objects").rglob("*") if path.is_file()]
    files += list((home.snapshot_store / "refs/runs").iterdir())
    assert {path for path in files if path.stat().st_ino not in synced} == set()


def test_nothing_is_published_before_all_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path, {"a": "1", "b": "2"})

    def fail(_descriptor: int) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        publish([(tmp_path / name, tmp_path / "target" / name) for name in ("a", "b")])
    assert not (tmp_path / "target").exists()
    assert object_id("tree", b"") == EMPTY_TREE
