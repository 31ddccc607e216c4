"""What differs between the code of two runs: files, counts of lines, patches within limits."""

import pytest

from runner.errors import SnapshotError
from runner.settings import Home
from runner.source.tree_changes import PatchLimits, changes_between, changes_since_commit
from tests.conftest import MakeRepository, write_tree
from tests.support.sources import kept

LIMITS = PatchLimits()
ODD = 'odd "name"\n\tü.txt'


def test_changed_files_of_two_runs(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": "1\n2\n3\n", "gone.py": "x\n", "same.py": "y\n", ODD: "1\n", "sub/*.py": "1\n"})
    kept(root, home, "one")
    write_tree(root, {"a.py": "1\n-- two\n3\n4\n", "blob": b"\0\1", ODD: "2\n", "sub/*.py": "2\n", "sub/b.py": "new\n"})
    (root / "gone.py").unlink()
    kept(root, home, "two")
    found = changes_between(home, "one", "two", LIMITS)
    counts = {one.path: (one.added, one.removed) for one in found}
    assert counts == {
        "a.py": (2, 1),
        "blob": (None, None),
        "gone.py": (0, 1),
        ODD: (1, 1),
        "sub/*.py": (1, 1),
        "sub/b.py": (1, 0),
    }
    patches = {one.path: one.patch or "" for one in found}
    assert "\n+-- two\n" in patches["a.py"]
    assert "\n-x\n" in patches["gone.py"]
    assert patches[ODD].endswith("-1\n+2\n")
    assert patches["sub/*.py"].endswith("-1\n+2\n")
    assert changes_between(home, "one", "one", LIMITS) == ()
    assert {one.path for one in changes_since_commit(home, "two", LIMITS)} == set(counts)
    assert changes_since_commit(home, "one", LIMITS) == ()


def test_patches_beyond_the_limits_are_left_out(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"README": "x"})
    kept(root, home, "one")
    write_tree(root, {"a.txt": "1\n" * 50, "b.txt": "1\n" * 60, "c.txt": "1\n" * 40, "d.txt": "1\n" * 5})
    write_tree(root, {"large.txt": "line\n" * 200_000})
    kept(root, home, "two")
    found = {one.path: one for one in changes_between(home, "one", "two", PatchLimits(lines=100, files=3))}
    assert [name for name, one in found.items() if one.patch is not None] == ["a.txt", "c.txt"]
    assert found["b.txt"].added == 60
    assert found["large.txt"].added is None


def test_code_that_is_not_stored(make_repository: MakeRepository, home: Home) -> None:
    kept(make_repository({"a": "1"}), home, "one")
    with pytest.raises(SnapshotError, match="does not have the code of the run two"):
        changes_between(home, "one", "two", LIMITS)
    with pytest.raises(SnapshotError, match="is not the id of a run"):
        changes_since_commit(home, "../one", LIMITS)


def test_damaged_code_is_an_error(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a": "1"})
    kept(root, home, "one")
    write_tree(root, {"a": "2"})
    kept(root, home, "two")
    for path in (home.snapshot_store / "objects").glob("??/*"):
        path.chmod(0o600)
        path.write_bytes(b"")
    with pytest.raises(SnapshotError, match="damaged"):
        changes_between(home, "one", "two", LIMITS)
