"""Compares two files of arrays, tables or pixels in a process of its own: their readers are C code, and files lie.

``python -m runner.reproduction.array_worker FORMAT FIRST SECOND`` reads rules as JSON from standard input, and prints
the finding as JSON, or nothing if a file does not have the format. Nothing that could run code is loaded: no pickles.
"""

import resource
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from runner.base.lazy import LazyModule
from runner.reproduction.tolerance import Allowance
from runner.reproduction.verdict import Finding, Verdict, worst

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL import Image
    from pyarrow import feather, parquet
else:
    pa, Image = LazyModule("pyarrow"), LazyModule("PIL.Image")
    feather, parquet = LazyModule("pyarrow.feather"), LazyModule("pyarrow.parquet")

MEMORY = 4 << 30
"""Bytes of address space that the process may use."""
_MOST_PIXELS = 100_000_000
_MOST_FRAMES = 1000
_LARGEST_MEMBER = 1 << 30

Array = np.ndarray[Any, np.dtype[Any]]
Rules = tuple[Allowance, ...]


def compare_arrays(name: str, first: Array, second: Array, rules: Rules) -> Finding:
    """Compare two arrays; each number may differ as any of the rules allows, and NaN equals NaN."""
    if first.dtype != second.dtype or first.shape != second.shape:
        texts = [f"{one.dtype} {'x'.join(map(str, one.shape)) or 'number'}" for one in (first, second)]
        return Finding(verdict=Verdict.DIFFERENT, how="", detail=f"{name}: {texts[1]} instead of {texts[0]}")
    if first.tobytes() == second.tobytes():
        return Finding(verdict=Verdict.IDENTICAL, how="")
    if first.dtype.kind not in "iufc":
        differ = first != second
        verdict = Verdict.DIFFERENT if np.any(differ) else Verdict.IDENTICAL
        return Finding(verdict=verdict, how="", detail=_counted(name, differ) if np.any(differ) else None)
    return _compare_numbers(name, first, second, rules)


def _compare_numbers(name: str, first: Array, second: Array, rules: Rules) -> Finding:
    # long double has more bits than any integer type, so no difference is lost
    wide = np.clongdouble if first.dtype.kind == "c" else np.longdouble
    one, other = first.astype(wide), second.astype(wide)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(one - other)
    # ``0.0`` and ``-0.0`` are different to the bit and equal as numbers, as in `compare_numbers`
    same_bits = _words(first) == _words(second)
    both_nan = np.isnan(one) & np.isnan(other)
    differ = ~(same_bits | both_nan)
    if not np.any(differ):
        return Finding(verdict=Verdict.IDENTICAL, how="", difference=0.0, rule="NaN equals NaN")
    finite = np.isfinite(one) & np.isfinite(other)
    allowed = ~differ
    used = []
    for rule in rules:
        admitted = finite & (distance <= rule.atol + rule.rtol * np.abs(one)) & ~allowed
        if np.any(admitted):
            used.append(rule.source)
        allowed |= admitted
    comparable = differ & finite
    difference = float(np.max(distance[comparable])) if np.any(comparable) else None
    verdict = Verdict.WITHIN_TOLERANCE if np.all(allowed) else Verdict.DIFFERENT
    return Finding(
        verdict=verdict,
        how="",
        difference=difference,
        rule=", ".join(used) or None,
        detail=_counted(name, differ),
    )


def _words(array: Array) -> Array:
    """Return the bytes of each value as one value."""
    flat = np.ascontiguousarray(array)
    return flat.view(np.dtype((np.void, flat.dtype.itemsize))).reshape(array.shape) if flat.size else flat


def _counted(name: str, differ: Array) -> str:
    first = np.unravel_index(int(np.argmax(differ)), differ.shape) if differ.shape else ()
    place = f"[{', '.join(str(int(number)) for number in first)}]" if first else ""
    return f"{int(np.count_nonzero(differ))} of {differ.size} values differ, the first is {name}{place}"


def joined(how: str, findings: Mapping[str, Finding]) -> Finding:
    """Return the finding of a file from those of its parts."""
    verdict = worst(one.verdict for one in findings.values()) if findings else Verdict.IDENTICAL
    bad = [one for one in findings.values() if one.verdict is not Verdict.IDENTICAL]
    details = [one.detail for one in bad if one.verdict is verdict and one.detail]
    return Finding(
        verdict=verdict,
        how=how,
        difference=max((one.difference for one in findings.values() if one.difference is not None), default=None),
        rule=next((one.rule for one in (*bad, *findings.values()) if one.rule), None),
        detail=details[0] + (f"; also {len(details) - 1} more" if details[1:] else "") if details else None,
    )


def _alone(how: str, first: Mapping[str, object], second: Mapping[str, object]) -> Finding | None:
    alone = sorted(first.keys() ^ second.keys())
    detail = f"{len(alone)} parts are in one file only, the first is {alone[0]}" if alone else None
    return Finding(verdict=Verdict.DIFFERENT, how=how, detail=detail) if alone else None


def _npy(first: Path, second: Path, rules: Rules) -> Finding:
    arrays = [np.load(path, allow_pickle=False) for path in (first, second)]
    return joined("values of arrays", {"": compare_arrays("array", arrays[0], arrays[1], rules)})


def _npz(first: Path, second: Path, rules: Rules) -> Finding:
    how = "values of arrays"
    arrays = [_members(path) for path in (first, second)]
    pairs = {
        name: compare_arrays(name, arrays[0][name], arrays[1][name], rules) for name in arrays[0] if name in arrays[1]
    }
    return _alone(how, arrays[0], arrays[1]) or joined(how, pairs)


def _members(path: Path) -> dict[str, Array]:
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > _LARGEST_MEMBER:
            raise ValueError("the archive is too large")
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _table(read: "Callable[[Path], pa.Table]") -> Callable[[Path, Path, Rules], Finding]:
    def compare(first: Path, second: Path, rules: Rules) -> Finding:
        how = "columns of tables"
        tables = [read(path) for path in (first, second)]
        schemas = [{field.name: str(field.type) for field in table.schema} for table in tables]
        if len(schemas[0]) != tables[0].num_columns:
            raise ValueError("two columns have the same name")
        if list(schemas[0].items()) != list(schemas[1].items()) or tables[0].num_rows != tables[1].num_rows:
            texts = [f"{table.num_rows} rows of {table.num_columns} columns" for table in tables]
            shapes = f"{texts[1]} instead of {texts[0]}"
            detail = shapes if texts[0] != texts[1] else "the columns have other names or types"
            return Finding(verdict=Verdict.DIFFERENT, how=how, detail=detail)
        return joined(how, {name: _column(name, tables, rules) for name in schemas[0]})

    return compare


def _column(name: str, tables: "list[pa.Table]", rules: Rules) -> Finding:
    columns = [table.column(name).combine_chunks() for table in tables]
    kind = columns[0].type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        is_same = columns[0].equals(columns[1])
        verdict = Verdict.IDENTICAL if is_same else Verdict.DIFFERENT
        return Finding(verdict=verdict, how="", detail=None if is_same else f"the column {name} differs")
    if not columns[0].is_null().equals(columns[1].is_null()):
        return Finding(verdict=Verdict.DIFFERENT, how="", detail=f"other values are missing in the column {name}")
    arrays = [column.drop_null().to_numpy(zero_copy_only=False) for column in columns]
    return compare_arrays(name, arrays[0], arrays[1], rules)


def _image(first: Path, second: Path, rules: Rules) -> Finding:
    del rules  # they are for results, not for colours
    how = "pixels"
    frames = [_frames(path) for path in (first, second)]
    if len(frames[0]) != len(frames[1]):
        detail = f"{len(frames[1])} frames instead of {len(frames[0])}"
        return Finding(verdict=Verdict.DIFFERENT, how=how, detail=detail)
    names = [f"frame {number}" if frames[0][1:] else "image" for number in range(len(frames[0]))]
    pairs = zip(names, frames[0], frames[1], strict=True)
    return joined(how, {name: compare_arrays(name, one, other, ()) for name, one, other in pairs})


def _frames(path: Path) -> list[Array]:
    with Image.open(path, formats=("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP")) as image:
        count = getattr(image, "n_frames", 1)
        if count > _MOST_FRAMES or image.width * image.height * count > _MOST_PIXELS:
            raise ValueError("the image is too large")
        found = []
        for number in range(count):
            image.seek(number)
            found.append(np.asarray(image.convert("RGBA")))
        return found


FORMATS: Mapping[str, Callable[[Path, Path, Rules], Finding]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".parquet": _table(lambda path: parquet.read_table(path, memory_map=False)),
    ".feather": _table(lambda path: feather.read_table(path, memory_map=False)),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".bmp", ".webp"), _image),
}


def main(suffix: str, first: str, second: str) -> int:
    """Compare two files, print the finding, and return the exit code: 3 if a library is missing."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("error")  # Pillow warns of an image that unpacks to very much
    rules = msgspec.json.decode(sys.stdin.buffer.read(), type=Rules)
    try:
        found = FORMATS[suffix](Path(first), Path(second), rules)
    except ImportError:
        return 3
    sys.stdout.buffer.write(msgspec.json.encode(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
