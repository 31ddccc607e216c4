"""Arrays, tables and images are compared by their values, and nothing in them is run."""

import io
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from pyarrow import feather, parquet

from runner.reproduction.array_worker import FORMATS, compare_arrays
from runner.reproduction.documents import compare_content
from runner.reproduction.tolerance import Allowance, compare_numbers
from runner.reproduction.verdict import Finding, Verdict, worst

RULE = (Allowance(rtol=1e-6, source="rule"),)
FLOATS = st.lists(st.floats(width=64), min_size=1, max_size=5)
Write = Callable[[object], bytes]


def npy(value: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(value), allow_pickle=True)
    return file.getvalue()


def npz(value: object) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, a=np.asarray(value), b=np.asarray(["x"]))
    return file.getvalue()


def table_bytes(value: object) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table({"a": value, "text": ["x"] * len(value)}), file)  # type: ignore[arg-type]
    return file.getvalue()


def feather_bytes(value: object) -> bytes:
    file = io.BytesIO()
    feather.write_feather(pa.table({"a": value}), file)
    return file.getvalue()


def png(value: object, text: str = "") -> bytes:
    file, info = io.BytesIO(), PngImagePlugin.PngInfo()
    info.add_text("Date", text)
    Image.fromarray(np.asarray(value, dtype=np.uint8).reshape(1, -1)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def compared(suffix: str, first: bytes, second: bytes, folder: Path) -> Finding:
    paths = folder / "first", folder / "second"
    for path, content in zip(paths, (first, second), strict=True):
        path.write_bytes(content)
    return FORMATS[suffix](*paths, RULE)


@given(FLOATS, FLOATS, st.booleans())
def test_arrays_are_compared_as_single_numbers_are(first: list[float], second: list[float], near: bool) -> None:
    second = [number * (1 + 1e-9) for number in first] if near else (second * len(first))[: len(first)]
    single = [compare_numbers(one, other, RULE)[0] for one, other in zip(first, second, strict=True)]
    assert compare_arrays("a", np.array(first), np.array(second), RULE).verdict is worst(single)


@pytest.mark.parametrize(
    ("suffix", "write"), [(".npy", npy), (".npz", npz), (".parquet", table_bytes), (".feather", feather_bytes)]
)
@pytest.mark.parametrize(
    ("second", "verdict"),
    [([1.0, 2.0], "identical"), ([1.0, 2.0000001], "within tolerance"), ([1.0, 2.1], "different"), ([1.0], "different"),
     ([1, 2], "different"), (["1", "2"], "different")],
)  # fmt: skip
def test_numbers_may_differ_as_a_rule_allows(
    suffix: str, write: Write, second: object, verdict: str, tmp_path: Path
) -> None:
    assert compared(suffix, write([1.0, 2.0]), write(second), tmp_path).verdict.value == verdict


def test_what_differs_is_named(tmp_path: Path) -> None:
    found = compared(".npy", npy([[1.0, 2.0], [3.0, 4.0]]), npy([[1.0, 2.5], [3.0, 9.0]]), tmp_path)
    assert (found.difference, found.detail) == (5.0, "2 of 4 values differ, the first is array[0, 1]")
    found = compared(".parquet", table_bytes([1.0, None]), table_bytes([None, 1.0]), tmp_path)
    assert found.detail == "other values are missing in the column a"
    found = compared(".npz", npz([1]), npz([1.5]), tmp_path)
    assert found.detail == "a: float64 1 instead of int64 1"


def test_an_image_is_compared_by_its_pixels_without_a_tolerance(tmp_path: Path) -> None:
    found = compared(".png", png([1, 2, 3], "yesterday"), png([1, 2, 3], "today"), tmp_path)
    assert found.verdict is Verdict.IDENTICAL
    large = (Allowance(atol=1e9, source="large"),)
    paths = tmp_path / "a", tmp_path / "b"
    for path, content in zip(paths, (png([1, 2, 3]), png([1, 2, 4])), strict=True):
        path.write_bytes(content)
    assert FORMATS[".png"](*paths, large).verdict is Verdict.DIFFERENT


@pytest.mark.slow
def test_files_are_compared_in_a_process_of_its_own() -> None:
    found = compare_content("a/b.NPY", npy([1.0]), npy([1.0 + 1e-9]), RULE)
    assert found is not None
    assert (found.verdict, found.rule, found.how) == (Verdict.WITHIN_TOLERANCE, "rule", "values of arrays")


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.slow
def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    trap = Trap(tmp_path / "loaded")
    assert compare_content("a.npy", npy(np.array([trap, 1])), npy(np.array([trap, 2])), RULE) is None
    found = compare_content("a.npz", npz(np.array([trap, 1])), npz(np.array([trap, 2])), RULE)
    assert found is not None
    assert found.verdict is Verdict.DIFFERENT
    assert compare_content("a.npy", pickle.dumps(trap), pickle.dumps([trap]), RULE) is None
    assert not trap.path.exists()


def bomb() -> bytes:
    """Return an archive with an array that says that it has 8 GB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as one:
        np.lib.format.write_array_header_1_0(one, {"descr": "<f8", "fortran_order": False, "shape": (10**9,)})
        for _ in range(20):
            one.write(bytes(1 << 20))
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npz", bomb()),
        ("a.npy", npy([1.0, 2.0]).replace(b"(2,), }        ", b"(999999999,), }")),
        ("a.parquet", b"PAR1" + bytes(100) + b"PAR1"),
        ("a.feather", b"ARROW1" + bytes(100)),
        ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(50)),
        ("a.gif", b"GIF89a\xff\xff\xff\xff" + bytes(50)),
        ("a.npy", b""),
    ],
)
def test_a_file_that_lies_is_compared_by_its_bytes(name: str, content: bytes) -> None:
    found = compare_content(name, content, content[:-1] + b"x", RULE)
    assert (found and found.how) == ("members of archives" if name == "a.npz" else None)


@pytest.mark.slow
def test_nothing_of_it_is_imported_by_the_command() -> None:
    code = "import sys; import runner.reproduction.reproducing; print('numpy' in sys.modules, 'pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]
