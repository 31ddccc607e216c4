"""Pointers of DVC: what they stand for, and data that is something else."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.provenance.dvc import pointer_md5, read_pointer
from runner.provenance.inputs import compare_with_pointers, digest_inputs, find_files
from tests.conftest import write_tree

FOLDER_MD5 = "01807e56284a93c46798548553cb794a.dir"


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def pointer(digest: str, path: str = "data.csv", kind: str = "  hash: md5\n") -> str:
    return f"outs:\n- md5: {digest}\n  size: 1\n{kind}  path: {path}\n"


def test_the_pointer_beside_an_input_is_recorded_with_what_it_stands_for(tmp_path: Path) -> None:
    write_tree(tmp_path, {"data.csv": "1", "data.csv.dvc": pointer(md5("1")), "other.csv": "2"})
    files, _ = find_files((("data.csv", tmp_path / "data.csv"), ("other.csv", tmp_path / "other.csv")))
    records, notices = digest_inputs(files, tmp_path / "cache")
    assert [(one.path, one.md5) for one in records] == [
        ("data.csv", None),
        ("data.csv.dvc", md5("1")),
        ("other.csv", None),
    ]
    assert notices == ()


def test_a_pointer_alone_can_be_the_input(tmp_path: Path) -> None:
    write_tree(tmp_path, {"data.dvc": pointer(FOLDER_MD5, "data")})
    files, _ = find_files((("data.dvc", tmp_path / "data.dvc"),))
    records, _ = digest_inputs(files, tmp_path / "cache")
    assert [(one.path, one.md5) for one in records] == [("data.dvc", FOLDER_MD5)]
    assert compare_with_pointers(files.values(), tmp_path / "md5") == ()


@pytest.mark.parametrize(("text", "differs"), [("1", False), ("2", True)])
def test_data_that_differs_from_its_pointer_is_named(tmp_path: Path, text: str, differs: bool) -> None:
    write_tree(tmp_path, {"data.csv": text, "data.csv.dvc": pointer(md5("1"))})
    found = compare_with_pointers([tmp_path / "data.csv.dvc"], tmp_path / "md5")
    assert [f"its MD5 is {md5(text)}, not {md5('1')}" in one for one in found] == ([True] if differs else [])


def test_a_digest_with_normalized_line_ends_is_not_compared(tmp_path: Path) -> None:
    write_tree(tmp_path, {"data.csv": "1\r\n", "data.csv.dvc": pointer(md5("1\n"), kind="")})
    assert compare_with_pointers([tmp_path / "data.csv.dvc"], tmp_path / "md5") == ()


def test_a_folder_is_compared_as_dvc_lists_it(tmp_path: Path) -> None:
    write_tree(tmp_path, {"data/b.txt": "two\n", "data/a.txt": "one\n", "data/c/d.txt": "three\n"})
    write_tree(tmp_path, {"data.dvc": pointer(FOLDER_MD5, "data")})
    assert compare_with_pointers([tmp_path / "data.dvc"], tmp_path / "md5") == ()
    write_tree(tmp_path, {"data/c/e.txt": "more"})
    assert len(compare_with_pointers([tmp_path / "data.dvc"], tmp_path / "md5")) == 1


@given(st.text(max_size=60) | st.sampled_from(["outs: 1", "outs: [1]", "outs: [{md5: 1}]", "[]", "outs: [{path: a}]"]))
def test_other_files_with_this_ending_are_files_like_others(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.dvc"
        path.write_text(text, encoding="utf-8")
        assert pointer_md5(path) is None
        assert compare_with_pointers([path], Path(folder) / "md5") == ()


def test_several_outputs_are_read(tmp_path: Path) -> None:
    text = "outs:\n- {md5: aa, path: x, size: 3, hash: md5}\n- {path: y}\n- {md5: bb.dir, path: z, nfiles: 2}\n"
    write_tree(tmp_path, {"x.dvc": text})
    assert [(one.path, one.md5, one.size, one.is_exact) for one in read_pointer(tmp_path / "x.dvc")] == [
        ("x", "aa", 3, True),
        ("z", "bb.dir", None, False),
    ]
