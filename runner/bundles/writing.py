"""Writes bundles: one zip file that is the same, to the byte, for the same run."""

import hashlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from msgspec import Struct

from runner.base.files import replacing, sha256_of
from runner.bundles import layout
from runner.bundles.content import Choice, Content, as_json, collect
from runner.bundles.crate import describe_crate
from runner.bundles.layout import BundleFile, BundleManifest, Part, bytes_part, file_part
from runner.bundles.readme import make_readme
from runner.errors import BundleError
from runner.settings import Home
from runner.source.code_bundle import write_code

_DATE = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644 << 16
_UNIX = 3
_SAMPLE = 1 << 20
"""Bytes by which a file is judged: one that hardly shrinks, or so much that a reader would suspect it, is stored."""
_LITTLE, _MUCH = 1.05, 100
_MANY = 2 << 30
"""Bytes from which on a file needs the 64-bit fields of the format."""

Sign = Callable[[bytes], tuple[str, bytes]]
"""Signs the manifest; returns the name of the file with the signature, and its content."""


class BundleRequest(Struct, frozen=True, kw_only=True):
    """What is exported; ``packages`` writes the packages of a lock to a folder and returns them."""

    run_id: str
    choice: Choice
    packages: Callable[[Path], list[Part]] | None = None
    sign: Sign | None = None


class WrittenBundle(Struct, frozen=True, kw_only=True):
    """The result of an export: the JSON of ``proj export --json``."""

    run_id: str
    path: str
    size: int
    files: int
    sha256: str
    signed: bool
    left_out: tuple[str, ...] = ()


def write_bundle(request: BundleRequest, home: Home, target: Path) -> WrittenBundle:
    """Write the bundle of a run to a file, which appears when it is complete.

    Raises:
        BundleError: the run can't be exported, or is too large.
        SnapshotError: the snapshot store does not have its code, or it is damaged.
    """
    with TemporaryDirectory(prefix="proj-") as temporary, replacing(target) as partial:
        count, content = _write(request, home, Path(temporary), partial)
        size, digest = partial.stat().st_size, sha256_of(partial)
    return WrittenBundle(
        run_id=request.run_id,
        path=str(target),
        size=size,
        files=count,
        sha256=digest,
        signed=request.sign is not None,
        left_out=content.left_out,
    )


def _write(request: BundleRequest, home: Home, folder: Path, target: Path) -> tuple[int, Content]:
    content = collect(request.run_id, home, folder, request.choice)
    code = folder / layout.CODE
    write_code(request.run_id, home, code)
    parts = {one.path: one for one in (*content.parts, file_part(layout.CODE, code))}
    for one in request.packages(folder) if request.packages else ():
        parts[one.path] = one
    total = sum(one.size for one in parts.values())
    if total > layout.LARGEST:
        raise BundleError(f"The run has {total >> 30} GB; a bundle has at most {layout.LARGEST >> 30} GB")
    with ZipFile(target, "w", allowZip64=True) as archive:
        files = [_add(archive, parts[name]) for name in sorted(parts)]
        readme = bytes_part(layout.README, make_readme(content, files).encode("utf-8", "backslashreplace"))
        files.append(_add(archive, readme))
        files.append(_add(archive, bytes_part(layout.CRATE, as_json(describe_crate(content, files)))))
        manifest = as_json(manifest_of(content, files))
        _add(archive, bytes_part(layout.MANIFEST, manifest))
        if request.sign:
            name, signature = request.sign(manifest)
            _add(archive, bytes_part(name, signature))
    return len(files), content


def manifest_of(content: Content, files: list[BundleFile]) -> BundleManifest:
    """Return the manifest of a bundle with these files."""
    code = content.record.code
    return BundleManifest(
        format=layout.FORMAT,
        version=layout.VERSION,
        run_id=content.record.run_id or "",
        tree=code.tree if code else "",
        files=tuple(sorted(files, key=lambda one: one.path)),
        inputs=content.inputs,
        left_out=content.left_out,
    )


def _add(archive: ZipFile, part: Part) -> BundleFile:
    """Write a file to the archive, and return its entry of the manifest."""
    pieces = part.pieces()
    first = next(pieces, b"")
    entry = ZipInfo(part.path, _DATE)
    entry.external_attr, entry.create_system, entry.compress_type = _MODE, _UNIX, _method(first)
    digest = hashlib.sha256()
    size = 0
    with archive.open(entry, "w", force_zip64=part.size >= _MANY) as file:
        for piece in _chain(first, pieces):
            digest.update(piece)
            size += len(piece)
            file.write(piece)
    return BundleFile(path=part.path, size=size, sha256=digest.hexdigest())


def digest_part(part: Part) -> BundleFile:
    """Return the entry of the manifest for a file."""
    digest = hashlib.sha256()
    size = 0
    for piece in part.pieces():
        digest.update(piece)
        size += len(piece)
    return BundleFile(path=part.path, size=size, sha256=digest.hexdigest())


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _method(first: bytes) -> int:
    sample = first[:_SAMPLE]
    if not sample:
        return ZIP_STORED
    ratio = len(sample) / len(zlib.compress(sample, 1))
    return ZIP_DEFLATED if ratio > _LITTLE and (ratio < _MUCH or len(sample) < _SAMPLE) else ZIP_STORED
