"""Every change of a prefix that affects what a run imports or starts is detected, also without a newer file."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.environments.cache import file_manifest
from runner.environments.cache.file_manifest import FileManifest, build_manifest, compare, measure
from runner.errors import EnvironmentSetupError
from tests.conftest import write_tree

SITE = "lib/python3.11/site-packages"
FILES = {
    "bin/tool": "#!python\n",
    "lib64/note": "x",
    f"{SITE}/one/__init__.py": "1\n",
    f"{SITE}/one/deep/data.txt": "2\n",
    f"{SITE}/two/__init__.py": "3\n",
    f"{SITE}/one-1.dist-info/METADATA": "Name: one\nVersion: 1\n",
}


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    root = write_tree(tmp_path / "prefix", FILES)
    (root / "bin/tool").chmod(0o755)
    (root / "bin/python").symlink_to("/usr/bin/python3")
    return root


def swap(root: Path) -> None:
    site = root / SITE
    (site / "one").rename(site / "aside")
    (site / "two").rename(site / "one")
    (site / "aside").rename(site / "two")


def link_a_package(root: Path) -> None:
    outside = write_tree(root.parent / "outside", {"__init__.py": "9\n"})
    (root / SITE / "three").symlink_to(outside)


def replace_by_link(root: Path) -> None:
    (root / SITE / "two").rename(root.parent / "moved")
    (root / SITE / "two").symlink_to(root.parent / "moved")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a renamed folder": lambda root: (root / SITE / "one").rename(root / SITE / "six"),
    "a folder moved deeper": lambda root: (root / SITE / "one/deep").rename(root / SITE / "two/deep"),
    "swapped folders": swap,
    "a link to a package": link_a_package,
    "a broken link": lambda root: (root / SITE / "later").symlink_to("/nowhere"),
    "a package behind a link": replace_by_link,
    "a link led elsewhere": lambda root: (
        (root / "bin/python").unlink(),
        (root / "bin/python").symlink_to("/usr/bin/pythonX"),
    ),
    "an added program": lambda root: (root / "bin/ls").write_text("#!/bin/sh\n"),
    "a program that can't start": lambda root: (root / "bin/tool").chmod(0o644),
    "an added module": lambda root: (root / SITE / "new.py").write_text(""),
    "an added path file": lambda root: (root / SITE / "new.pth").write_text(""),
    "a removed file": lambda root: (root / SITE / "one/deep/data.txt").unlink(),
    "a file instead of a link": lambda root: (
        (root / "bin/python").unlink(),
        (root / "bin/python").write_text("/usr/bin/python3"),
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_are_detected(prefix: Path, change: Callable[[Path], object]) -> None:
    manifest = build_manifest(prefix)
    assert measure(prefix) == manifest.measure
    change(prefix)
    assert measure(prefix) != manifest.measure
    assert compare(prefix, manifest)[0]


def test_additions_without_effect_are_no_damage(prefix: Path) -> None:
    manifest = build_manifest(prefix)
    write_tree(prefix, {f"{SITE}/one/cache.json": "{}", "share/x.txt": "", f"{SITE}/one/__pycache__/x.pyc": ""})
    (prefix / "bin/tool").chmod(0o700)
    damage, renewed = compare(prefix, manifest)
    assert not damage
    assert measure(prefix) == renewed.measure


def at(status: os.stat_result, ctime_ns: int) -> os.stat_result:
    names = ("st_atime_ns", "st_mtime_ns")
    return os.stat_result(tuple(status), {**{name: getattr(status, name) for name in names}, "st_ctime_ns": ctime_ns})


@pytest.mark.parametrize("step", [-(10**15), -1, 1])
def test_an_edit_while_the_clock_is_behind_is_detected(prefix: Path, step: int) -> None:
    states = dict(file_manifest._walk(prefix))
    newest = max(states, key=lambda path: states[path].st_ctime_ns)
    states[newest] = at(states[newest], states[newest].st_ctime_ns + 10**16)
    edited = next(path for path in states if path != newest)
    before = file_manifest._measure_of(states.items())
    states[edited] = at(states[edited], states[edited].st_ctime_ns + step)
    after = file_manifest._measure_of(states.items())
    assert (before.newest_ns, before.size, before.count) == (after.newest_ns, after.size, after.count)
    assert before != after


names = st.text("ab", min_size=1, max_size=2)


@given(st.dictionaries(st.lists(names, min_size=1, max_size=3).map("/".join), st.binary(max_size=3), max_size=6))
def test_both_ways_to_measure_agree(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    root = tmp_path_factory.mktemp("prefix")
    for path, content in files.items():
        if any(other.startswith(f"{path}/") or path.startswith(f"{other}/") for other in files):
            continue
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    assert build_manifest(root).measure == measure(root)


def test_records_of_earlier_versions_are_read_and_renewed(prefix: Path) -> None:
    manifest = build_manifest(prefix)
    old = msgspec.to_builtins(manifest)
    old["files"] = [file[:-1] for file in old["files"]]
    del old["measure"]["shape"]
    before = msgspec.convert(old, FileManifest)
    assert measure(prefix) != before.measure
    damage, renewed = compare(prefix, before)
    assert not damage
    assert renewed.measure == measure(prefix)


def test_a_name_that_is_no_text_is_refused(prefix: Path) -> None:
    (prefix / os.fsdecode(b"\xff.py")).write_text("")
    with pytest.raises(EnvironmentSetupError, match="not UTF-8"):
        build_manifest(prefix)


RECORDS: dict[str, bytes] = {
    "no UTF-8": b"\xe9.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\n",
    "half a digest": b"one/__init__.py,sha256=x,2\n",
    "a digest of other letters": "one/__init__.py,sha256=é,2\n".encode(),
    "a long field": b'"' + b"a" * 200_000 + b'",sha256=x,1\n',
    "a file elsewhere": b"../../../../etc/passwd,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\n",
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_record_that_can_not_be_read_makes_its_package_wrong(prefix: Path, record: bytes) -> None:
    (prefix / SITE / "one-1.dist-info/RECORD").write_bytes(record)
    assert build_manifest(prefix).wrong == ("one",)


@pytest.mark.parametrize("name", ["METADATA", "RECORD", "WHEEL"])
def test_odd_metadata_is_no_failure(prefix: Path, name: str) -> None:
    write_tree(prefix / SITE, {f"odd-2.dist-info/{name}/x": "", "file-3.dist-info": "x"})
    (prefix / SITE / "one-1.dist-info/METADATA").write_bytes(b"Name: \xe9\nVersion: 1\n")
    found = {(item.name, item.version) for item in build_manifest(prefix).distributions}
    assert found == {("\ufffd", "1"), ("odd", "2")}
