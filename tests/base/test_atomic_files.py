"""Atomic writes: permissions, failures and what is left behind."""

import os
import stat
from pathlib import Path

import pytest

from runner.base.files import replacing, write_atomically


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize(("mode", "expected"), [(None, 0o640), (0o600, 0o600), (0o444, 0o444), (0o644, 0o644)])
def test_the_content_and_the_mode_are_those_requested(
    tmp_path: Path, mode: int | None, expected: int, durable: bool
) -> None:
    path = tmp_path / "a" / "b" / "file"
    before = os.umask(0o027)
    try:
        for data in (b"first", b""):
            write_atomically(path, data, durable=durable, mode=mode)
            assert path.read_bytes() == data
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == expected
    assert list(path.parent.iterdir()) == [path]


def fail_to_write(path: Path, partial: Path | None) -> None:
    with replacing(path, partial) as new:
        new.write_text("new")
        raise KeyboardInterrupt


def test_a_block_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    for named in (None, tmp_path / "partial"):
        with pytest.raises(KeyboardInterrupt):
            fail_to_write(path, named)
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == {"file": "old"}


def test_a_target_that_cannot_be_replaced_leaves_no_partial_file(tmp_path: Path) -> None:
    (tmp_path / "file" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="file"):
        write_atomically(tmp_path / "file", b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
