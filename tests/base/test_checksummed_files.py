"""Files that prove themselves: whatever is done to their bytes is noticed, and nothing else comes of it."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.base.checksummed_files import DamagedFileError, read_checksummed, write_checksummed
from runner.base.parse_cache import ParseCache
from runner.environments.cache.lock_files import read_lock_file, read_valid_lock, report_damage, write_lock_file
from runner.model import Event

TEXT = "# Python 3.11\nsix==1.16.0 \\\n    --hash=sha256:" + "8a" * 32 + "\ntabulate==0.9.0 \\\n    --hash=sha256:aa\n"


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_damaged_lock_is_taken(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("locks") / "0123.txt"
    whole = write_lock_file(path, TEXT, 2).encode()
    kind = data.draw(st.sampled_from(["cut", "bytes", "flip", "insert", "replace"]))
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = {
        "cut": lambda: whole[:at],
        "bytes": lambda: data.draw(st.binary(max_size=400)),
        "flip": lambda: whole[:at] + bytes([whole[at] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[at + 1 :],
        "insert": lambda: whole[:at] + data.draw(st.binary(min_size=1, max_size=9)) + whole[at:],
        "replace": lambda: whole.replace(b"1.16.0", b"1.15.0"),
    }[kind]()
    path.write_bytes(damaged)
    if damaged == whole:
        assert read_valid_lock(path) == whole.decode()
        return
    told: list[Event] = []
    assert read_valid_lock(path) is None
    report_damage(path, told.append)
    assert ["damaged" in event.message for event in told] == [True]


def test_a_lock_comes_back_as_it_was_written(tmp_path: Path) -> None:
    kept = write_lock_file(tmp_path / "a.txt", TEXT, 2)
    assert read_lock_file(tmp_path / "a.txt") == kept
    assert kept.endswith(TEXT)
    assert read_lock_file(tmp_path / "b.txt") is None


def test_the_lock_of_another_name_is_not_taken(tmp_path: Path) -> None:
    write_lock_file(tmp_path / "a.txt", TEXT, 2)
    (tmp_path / "a.txt").rename(tmp_path / "b.txt")
    with pytest.raises(DamagedFileError, match=r"its content is that of the lock a\.txt"):
        read_lock_file(tmp_path / "b.txt")


def test_a_lock_that_can_not_be_read_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    assert read_valid_lock(tmp_path / "a.txt") is None


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200), damaged=st.binary(max_size=300))
def test_a_sealed_file_is_as_it_was_written_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, damaged: bytes
) -> None:
    path = tmp_path_factory.mktemp("sealed") / "file"
    write_checksummed(path, content, durable=True)
    assert read_checksummed(path) == content
    whole = path.read_bytes()
    for wrong in (damaged, whole[:-1], whole + damaged + b"!", b""):
        path.write_bytes(wrong)
        with pytest.raises(DamagedFileError):
            read_checksummed(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    memory = ParseCache(tmp_path, "tree:")
    assert memory.get_or_compute(int, "", lambda: 7) == 7
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"\x08")
    assert memory.get_or_compute(int, "", lambda: 7) == 7
    assert memory.get_or_compute(int, "", lambda: 8) == 7
