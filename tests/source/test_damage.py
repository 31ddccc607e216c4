"""Damage to the snapshot store: each kind of it, against each kind of project and each moment of a run."""

import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from runner.base.files import Stamp, partial_path, remove_tree
from runner.base.findings import Finding
from runner.errors import SnapshotError
from runner.settings import Home
from runner.source.cleaning import collect_garbage
from runner.source.freezing import State
from runner.source.opening import open_source
from runner.source.restoring import checkout, difference
from runner.source.run_folder import check_out
from runner.source.snapshot import keep_snapshot, retake_snapshot, take_snapshot
from runner.source.snapshot_store import has_run_commit, read_run_commit, release_snapshot, run_commits
from runner.source.tree import TreeFiles
from runner.source.verification import verify_snapshots
from tests.conftest import MakeRepository, git, write_tree
from tests.support.sources import Said

pytestmark = pytest.mark.slow

FILES: dict[str, str | bytes] = {
    "MLproject": "name: x\n",
    "a.py": "print(1)\n",
    "sub/b.py": "print(2)\n",
    "sub/deep/c.bin": bytes(range(256)),
}


def rewrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def noise(path: Path) -> bytes:
    return random.Random(path.name).randbytes(max(path.stat().st_size, 1))


def swap(path: Path) -> bytes:
    """Return the content of another object: sound in itself, and not what the name says."""
    others = (other for other in sorted(path.parent.parent.glob("??/*")) if other != path)
    return next(content for content in (other.read_bytes() for other in others) if content)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "emptied": lambda path: rewrite(path, b""),
    "cut off": lambda path: rewrite(path, path.read_bytes()[: path.stat().st_size // 2]),
    "zeros": lambda path: rewrite(path, bytes(path.stat().st_size)),
    "noise": lambda path: rewrite(path, noise(path)),
    "another": lambda path: rewrite(path, swap(path)),
    "one bit": lambda path: rewrite(path, path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
    "longer": lambda path: rewrite(path, path.read_bytes() + b"tail"),
    "missing": lambda path: path.unlink(),
}


def objects_of(home: Home) -> list[Path]:
    return sorted((home.snapshot_store / "objects").glob("[0-9a-f][0-9a-f]/*"))


@pytest.fixture(params=["clean", "dirty", "plain", "submodule", "version"])
def project(request: pytest.FixtureRequest, make_repository: MakeRepository, tmp_path: Path) -> tuple[Path, str | None]:
    """Return a project of each kind, with the version to run of it."""
    kind = request.param
    if kind == "plain":
        return write_tree(tmp_path / "plain", FILES), None
    root = make_repository(FILES)
    if kind == "dirty":
        write_tree(root, {"a.py": "print(3)\n", "new.py": "4"})
    if kind == "submodule":
        inner = make_repository({"inner.py": "5"}, name="inner")
        git(root, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "module")
        git(root, "commit", "--quiet", "--message=with a submodule")
    return root, "HEAD" if kind == "version" else None


def run(address: Path, version: str | None, home: Home, run_id: str) -> tuple[str, dict[str, bytes], Said]:
    """Do what a run does with its code: freeze, read, keep, lay out; return tree, files and what was said."""
    said = Said()
    source = open_source(str(address), version, home, said)
    snapshot = take_snapshot(source, home, said)
    files = TreeFiles(home, snapshot, lambda: retake_snapshot(snapshot, source, home, said))
    assert files.read("MLproject") == b"name: x\n"
    keep_snapshot(snapshot, run_id, home)
    folder = check_out(snapshot, source, run_id, home, said)
    found = {str(path.relative_to(folder.top)): path.read_bytes() for path in folder.top.rglob("*") if path.is_file()}
    folder.release(keep=True)
    return snapshot.code.tree, found, said


def verify(home: Home, *, repair: bool = False) -> list[Finding]:
    return list(verify_snapshots(home, repair=repair, progress=lambda _done, _total: None))


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_objects_are_frozen_again_and_said(
    project: tuple[Path, str | None], home: Home, damage: str, tmp_path: Path
) -> None:
    address, version = project
    before = run(address, version, home, "run1")
    for path in objects_of(home):
        DAMAGES[damage](path)
    after = run(address, version, home, "run2")
    assert after[:2] == before[:2]
    # Of objects that are gone without a trace nothing is known where all files are read again anyway.
    assert damage == "missing" or "snapshot store was damaged" in after[2].text
    checkout("run2", tmp_path / "out", home, Said())
    assert [finding for finding in verify(home) if finding.name == "run2"] == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damaged_object_is_found_and_healed(
    make_repository: MakeRepository, home: Home, damage: str, tmp_path: Path
) -> None:
    root = make_repository(FILES)
    write_tree(root, {"a.py": "print(3)\n"})
    before = run(root, None, home, "run1")
    assert verify(home) == []
    for number, path in enumerate(objects_of(home)):
        content = path.read_bytes()
        commit = (home.snapshot_store / "refs/runs/run1").read_bytes()
        DAMAGES[damage](path)
        assert "run1" in {finding.name for finding in verify(home)}
        # Some versions of git read an object and ignore what follows it in the file.
        with suppress(SnapshotError) if damage == "longer" else pytest.raises(SnapshotError, match="run1"):
            get_back("run1", tmp_path / f"out{number}", home)
        verify(home, repair=True)
        assert not path.exists()
        again = run(root, None, home, f"again{number}")
        assert again[:2] == before[:2]
        if not path.exists():  # the commit of the run itself, which no other run makes
            assert not has_run_commit(home, "run1")
            path.write_bytes(content)
            (home.snapshot_store / "refs/runs/run1").write_bytes(commit)
        assert verify(home, repair=True) == []
        checkout("run1", tmp_path / f"whole{number}", home, Said())


def test_a_folder_that_contains_itself_is_found(make_repository: MakeRepository, home: Home, tmp_path: Path) -> None:
    tree = run(make_repository(FILES), None, home, "run1")[0]
    folder = git(home.snapshot_store, "rev-parse", f"{tree}:sub")
    paths = {path.parent.name + path.name: path for path in objects_of(home)}
    rewrite(paths[folder], paths[tree].read_bytes())
    with pytest.raises(SnapshotError, match="run1") as caught:
        checkout("run1", tmp_path / "out", home, Said())
    assert folder in str(caught.value.context)


def get_back(run_id: str, target: Path, home: Home) -> bytes:
    """Read all that is kept of a run."""
    checkout(run_id, target, home, Said())
    return difference(run_id, home)


def packed(root: Path, home: Home) -> Path:
    """Run a project with enough files for a pack, and return that pack."""
    write_tree(root, {f"many/{number}.txt": f"{number}\n" * 50 for number in range(200)})
    run(root, None, home, "run1")
    (pack,) = (home.snapshot_store / "objects" / "pack").glob("*.pack")
    return pack


@pytest.mark.parametrize("suffix", [".pack", ".idx"])
@pytest.mark.parametrize("damage", DAMAGES.keys() - {"another"})
def test_a_damaged_pack_is_found_and_what_it_still_holds_is_kept(
    make_repository: MakeRepository, home: Home, damage: str, suffix: str, tmp_path: Path
) -> None:
    root = make_repository(FILES)
    pack = packed(root, home)
    tree = run(root, None, home, "run2")[0]
    DAMAGES[damage](pack.with_suffix(suffix))
    assert any(finding.name.endswith(pack.name) for finding in verify(home))
    repaired = verify(home, repair=True)
    assert any(finding.repair and finding.name.endswith(pack.name) for finding in repaired)
    if suffix == ".idx" or damage in ("one bit", "longer"):  # all objects are still there
        assert verify(home, repair=True) == []
        checkout("run1", tmp_path / "kept", home, Said())
    assert run(root, None, home, "run3")[0] == tree
    assert verify(home, repair=True) == []
    checkout("run1", tmp_path / "healed", home, Said())


@pytest.mark.parametrize("suffix", [".pack", ".idx"])
@pytest.mark.parametrize("damage", DAMAGES.keys() - {"another"})
def test_a_run_survives_a_damaged_pack(make_repository: MakeRepository, home: Home, damage: str, suffix: str) -> None:
    root = make_repository(FILES)
    pack = packed(root, home)
    before = run(root, None, home, "run2")
    DAMAGES[damage](pack.with_suffix(suffix))
    assert run(root, None, home, "run3")[:2] == before[:2]


def test_an_object_in_the_middle_of_a_pack_costs_only_itself(
    make_repository: MakeRepository, home: Home, tmp_path: Path
) -> None:
    root = make_repository(FILES)
    pack = packed(root, home)
    content = bytearray(pack.read_bytes())
    place = content.index(b"100\n100\n") + 10
    content[place] ^= 1
    rewrite(pack, bytes(content))
    shutil.rmtree(root)  # nothing can be frozen again
    findings = verify(home, repair=True)
    assert [finding.problem for finding in findings if finding.name == "run1"] != []
    assert any(" 1 of 20" in finding.problem for finding in findings), findings
    assert "many/100.txt" in next(finding.problem for finding in findings if finding.name == "run1")
    with pytest.raises(SnapshotError, match="run1"):
        checkout("run1", tmp_path / "out", home, Said())


@pytest.mark.parametrize("damage", ["emptied", "cut off", "zeros", "noise", "missing"])
def test_what_is_known_of_a_project_may_be_damaged(make_repository: MakeRepository, home: Home, damage: str) -> None:
    root = make_repository(FILES)
    for name in ("index", "state", "lock", "root"):
        write_tree(root, {"a.py": f"print('{name}')\n"})
        before = run(root, None, home, f"{name}1")
        (path,) = home.indexes.glob(f"*/{name}")
        DAMAGES[damage](path)
        assert run(root, None, home, f"{name}2")[:2] == before[:2]
        write_tree(root, {f"sub/{name}.py": "9"})
        assert f"sub/{name}.py" in run(root, None, home, f"{name}3")[1]


def test_an_index_that_was_damaged_behind_our_back_is_made_anew(make_repository: MakeRepository, home: Home) -> None:
    """The state beside it matches, as it would after a loss of power in which only the content did not arrive."""
    root = make_repository(FILES)
    for number, (head, filler) in enumerate(((b"", b"\0"), (b"", b"\xff"), (b"DIRC", b"\0"))):
        run(root, None, home, f"run{number}")
        (index,) = home.indexes.glob("*/index")
        with index.open("r+b") as file:
            file.write(head + filler * (index.stat().st_size - len(head)))
        stamp_again(index)
        write_tree(root, {"a.py": f"print({number} + 10)\n"})
        assert run(root, None, home, f"again{number}")[1]["a.py"] == f"print({number} + 10)\n".encode()


def stamp_again(index: Path) -> None:
    """Write down the present stamp of an index in the state beside it."""
    state = msgspec.msgpack.decode((index.parent / "state").read_bytes(), type=State)
    fresh = msgspec.structs.replace(state, index=Stamp.of(index.stat()))
    (index.parent / "state").write_bytes(msgspec.msgpack.encode(fresh))


LEFT = (
    "packed-refs.lock",
    "HEAD.lock",
    "refs/runs/run1.lock",
    f"refs/runs/{partial_path(Path('run1')).name}",
    "incoming/index-00.lock",
    "objects/pack/tmp_pack_x",
)


@pytest.mark.parametrize("mode", [0o644, 0])
def test_what_a_kill_leaves_stops_nothing(make_repository: MakeRepository, home: Home, mode: int) -> None:
    root = make_repository(FILES)
    run(root, None, home, "run1")
    (index,) = home.indexes.glob("*/index")
    for path in (*(home.snapshot_store / name for name in LEFT), index.with_name("index.lock")):
        path.write_bytes(b"half")
        path.chmod(mode)
    write_tree(root, {"a.py": "print(7)\n"})
    assert run(root, None, home, "run2")[1]["a.py"] == b"print(7)\n"
    collect_garbage(home)
    release_snapshot("run1", home)
    collect_garbage(home)
    assert (has_run_commit(home, "run1"), has_run_commit(home, "run2")) == (False, True)
    assert verify(home) == []


@pytest.mark.parametrize("content", [b"", b"\0" * 41, b"0" * 40 + b"\n", b"ref: refs/runs/nowhere\n", b"\xff\xfe"])
@pytest.mark.parametrize("is_packed", [False, True])
def test_a_ref_that_leads_nowhere_is_named_and_removed(
    make_repository: MakeRepository, home: Home, tmp_path: Path, content: bytes, is_packed: bool
) -> None:
    root = make_repository(FILES)
    run(root, None, home, "run1")
    run(root, None, home, "run2")
    if is_packed:
        collect_garbage(home)
    (home.snapshot_store / "refs/runs").mkdir(exist_ok=True)
    (home.snapshot_store / "refs/runs/run1").write_bytes(content)
    assert [finding.name for finding in verify(home)] == ["run1"]
    with pytest.raises(SnapshotError, match="run1"):
        checkout("run1", tmp_path / "out", home, Said())
    run(root, None, home, "run3")
    assert [finding.name for finding in verify(home, repair=True)] == ["run1"]
    assert verify(home) == []
    collect_garbage(home)
    checkout("run2", tmp_path / "whole", home, Said())


def test_damage_during_a_run_does_not_reach_it(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository(FILES)
    source = open_source(str(root), None, home, Said())
    snapshot = take_snapshot(source, home, Said())
    keep_snapshot(snapshot, "run1", home)
    folder = check_out(snapshot, source, "run1", home, Said())
    for path in objects_of(home):
        rewrite(path, b"")
    write_tree(folder.project, {"out.txt": "made", "a.py": "print(8)"})
    assert folder.changes() == ("a.py", "out.txt")
    folder.release(keep=False)
    said = run(root, None, home, "run2")[2]
    assert "snapshot store was damaged" in said.text


def test_a_snapshot_that_changed_while_it_was_damaged_is_refused(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository(FILES)
    source = open_source(str(root), None, home, Said())
    snapshot = take_snapshot(source, home, Said())
    for path in objects_of(home):
        rewrite(path, b"")
    write_tree(root, {"a.py": "print(9)\n"})
    with pytest.raises(SnapshotError, match="changed"):
        retake_snapshot(snapshot, source, home, Said())


def test_damage_that_can_not_be_healed_is_an_error_that_names_the_object(
    make_repository: MakeRepository, home: Home
) -> None:
    root = make_repository(FILES)
    _, snapshot = (source := open_source(str(root), None, home, Said())), take_snapshot(source, home, Said())
    for path in objects_of(home):
        rewrite(path, b"")
    with pytest.raises(SnapshotError, match=snapshot.code.tree) as caught:
        TreeFiles(home, snapshot).read("MLproject")
    assert "proj verify" in (caught.value.hint or "")


def test_a_home_without_snapshots_is_whole(home: Home) -> None:
    assert verify(home, repair=True) == []
    assert not home.snapshot_store.exists()


def test_the_check_says_how_far_it_is(make_repository: MakeRepository, home: Home) -> None:
    packed(make_repository(FILES), home)
    seen: list[tuple[int, int]] = []
    list(verify_snapshots(home, repair=False, progress=lambda done, total: seen.append((done, total))))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] >= 200


PARTS = ("", "HEAD", "config", "info", "objects", "objects/pack", "refs", "refs/runs", "refs/runs/run1", "packed-refs")


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_the_store_of_another_kind_stops_nothing(
    make_repository: MakeRepository, home: Home, part: str
) -> None:
    """A repair of the file system can leave a file in the place of a folder, and the other way round."""
    root = make_repository(FILES)
    before = run(root, None, home, "run1")
    path = home.snapshot_store / part
    was_folder = path.is_dir()
    remove_tree(path)
    path.write_text("x") if was_folder else path.mkdir()
    is_there = part not in ("", "refs", "refs/runs", "refs/runs/run1")
    assert has_run_commit(home, "run1") == is_there
    assert ("run1" in run_commits(home)) == is_there
    found = verify(home)
    if part == "objects":
        assert "run1" in {finding.name for finding in found}
    verify(home, repair=True)
    assert run(root, None, home, "run2")[:2] == before[:2]
    release_snapshot("run1", home)
    collect_garbage(home)
    assert not has_run_commit(home, "run1")
    assert verify(home, repair=True) == []
    kept = [path for path in home.root.glob("*.damaged-*") if path.is_dir() != was_folder]
    assert len(kept) == (part != "refs/runs/run1")


@pytest.mark.parametrize("content", [b"\0" * 200, b"\xff\xfe" * 50, b"half of a li", b"0" * 40 + b"\n", b"[core]\n"])
@pytest.mark.parametrize("place", ["instead", "after"])
@pytest.mark.parametrize("by", ["verify", "run"])
def test_damaged_packed_refs_are_named_and_mended(
    make_repository: MakeRepository, home: Home, content: bytes, place: str, by: str
) -> None:
    root = make_repository(FILES)
    before = run(root, None, home, "run1")
    collect_garbage(home)
    packed = home.snapshot_store / "packed-refs"
    whole = packed.read_bytes()
    assert b"refs/runs/run1" in whole
    packed.write_bytes(content if place == "instead" else whole + content)
    assert "packed-refs" in {finding.name for finding in verify(home)}
    if by == "verify":
        verify(home, repair=True)
        assert verify(home) == []
    write_tree(root, {"a.py": "print(12)\n"})
    assert run(root, None, home, "run2")[1]["a.py"] == b"print(12)\n"
    assert has_run_commit(home, "run1") == (place == "after")
    assert verify(home, repair=True) == []
    if place == "after":
        assert read_run_commit(home, "run1").tree == before[0]
