"""Mixed locks, trees and files: nothing chosen is the first one, everything is the second one, and parts are parts."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.explanation.differences import Difference
from runner.explanation.locks import mix_locks, packages_in
from runner.explanation.refining import changed_lines
from runner.explanation.search import Result
from runner.explanation.trees import changes_between, mix_trees
from runner.reproduction.causes import CauseKind
from runner.settings import Home
from runner.source.snapshot_store import read_objects, write_object

NAMES = st.sampled_from(["alpha", "Beta.b", "gamma_g", "delta-d", "six"])
VERSIONS = st.dictionaries(NAMES, st.sampled_from(["1.0", "2.0rc1", "3+local"]))


HEAD = "# Python 3.11 on linux\n# as of: now\n--find-links x\n"


def lock_of(versions: dict[str, str]) -> str:
    entries = (
        f"{name}=={version} ; python_version >= '3' \\\n    --hash=sha256:{'a' * 64} \\\n    --hash=sha256:{'b' * 64}\n"
        for name, version in versions.items()
    )
    return "# Python 3.11 on linux\n# as of: now\n--find-links x\n" + "".join(
        f"{one}    # via something\n" for one in entries
    )


@settings(max_examples=40)
@given(VERSIONS, VERSIONS, st.data())
def test_a_mixed_lock_has_each_package_from_one_side(
    first: dict[str, str], second: dict[str, str], data: st.DataObject
) -> None:
    locks = [lock_of(first), lock_of(second)]
    packages = [packages_in(lock) for lock in locks]
    assert [{one.version for one in found.values()} for found in packages] == [
        set(first.values()),
        set(second.values()),
    ]
    chosen = data.draw(st.sets(st.sampled_from(sorted({*packages[0], *packages[1]} or {"none"}))))
    mixed = mix_locks(*locks, chosen)
    assert mixed.startswith(HEAD)
    expected = {name: one for name, one in packages[0].items() if name not in chosen}
    expected |= {name: one for name, one in packages[1].items() if name in chosen}
    assert packages_in(mixed) == expected


def store_tree(home: Home, files: dict[str, bytes]) -> str:
    entries = (
        b"100644 " + name.encode() + b"\0" + bytes.fromhex(write_object(home, "blob", content))
        for name, content in sorted(files.items())
    )
    return write_object(home, "tree", b"".join(entries))


def test_a_mixed_tree_has_the_chosen_changes(home: Home) -> None:
    before = {"a.py": b"1", "b.py": b"1", "gone.py": b"1", "same.py": b"1"}
    after = {"a.py": b"2", "b.py": b"2", "new.py": b"1", "same.py": b"1"}
    first, second = store_tree(home, before), store_tree(home, after)
    changes = {one.path: one for one in changes_between(first, second, home)}
    assert set(changes) == {"a.py", "b.py", "gone.py", "new.py"}
    assert mix_trees(first, (), home) == first
    assert mix_trees(first, changes.values(), home) == second
    some = mix_trees(first, [changes["a.py"], changes["gone.py"]], home)
    assert some == store_tree(home, {"a.py": b"2", "b.py": b"1", "same.py": b"1"})


LINES = st.lists(st.sampled_from([b"x\n", b"y\n", b"z\n", b"\n"]), max_size=12)


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES, LINES, LINES, LINES)
def test_the_lines_that_matter_are_found_among_others(
    home: Home, head: list[bytes], tail: list[bytes], other_head: list[bytes], other_tail: list[bytes]
) -> None:
    contents = [b"".join([*head, b"value = 1\n", *tail]), b"".join([*other_head, b"value = 2\n", *other_tail])]
    trees = [store_tree(home, {"a.py": content}) for content in contents]
    (change,) = changes_between(*trees, home)
    whole = Difference(kind=CauseKind.CODE, name="a.py", changes=(change,))

    def test(chosen: frozenset[Difference]) -> Result:
        mixed = next((one.changes[0].identity for one in chosen), change.before or "")
        return Result.OTHER if b"value = 2" in read_objects(home, [mixed])[mixed].data else Result.ORIGINAL

    found = changed_lines(whole, frozenset(), test, home)
    number = len(other_head) + 1
    if found is not None:
        spans = [one.rpartition(" ")[2] for one in found.partition("are: ")[2].split(", ")]
        bounds = [tuple(map(int, one.split("-"))) for one in spans]
        assert len(spans) == 1, found
        assert bounds[0][0] <= number <= bounds[0][-1], found
