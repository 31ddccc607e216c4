"""Opens bundles that somebody sent: unpacks them to an empty folder and checks everything before anything is used.

Nothing of a bundle is executed here, and nothing outside the empty folder is written.
"""

import hashlib
import re
import stat
from pathlib import Path
from zipfile import BadZipFile, ZipFile, ZipInfo, is_zipfile
from zlib import error as ZlibError  # noqa: N812  # it is an exception

from msgspec import Struct

from runner.bundles import layout
from runner.bundles.layout import BundleFile, BundleManifest, Logged, check_member
from runner.bundles.locks import check_lock
from runner.bundles.records import check_record, read_json
from runner.errors import BundleError, ProjError, SourceError
from runner.model import RunRecord
from runner.settings import LOCK_NAMES, Home
from runner.source.archive import check_directory, check_entries
from runner.source.code_bundle import unbundle
from runner.source.snapshot_store import RunCommit

_PIECE = 1 << 20
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_TREE = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FAULTS = (BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, LookupError, ZlibError)
"""What zipfile raises for damaged archives."""


class CheckedBundle(Struct, frozen=True, kw_only=True):
    """A bundle whose files are in a folder and have the digests that the manifest lists.

    ``code`` is the code of the run, whose objects are in ``objects``. ``signature`` is the name of the file with the
    signature, None without one; it is not checked yet.
    """

    name: str
    folder: Path
    manifest: BundleManifest
    record: RunRecord
    logged: Logged
    code: RunCommit
    objects: Path
    signature: str | None = None
    addresses: tuple[str, ...] = ()
    """What the lock names outside the package index."""

    @property
    def manifest_bytes(self) -> bytes:
        """The manifest as it was signed."""
        return (self.folder / layout.MANIFEST).read_bytes()

    @property
    def signature_bytes(self) -> bytes:
        """The signature; empty without one."""
        return (self.folder / self.signature).read_bytes() if self.signature else b""


def is_bundle(path: Path) -> bool:
    """Return whether a file is a zip with the manifest of a bundle."""
    try:
        if not path.is_file() or not is_zipfile(path):
            return False
        check_directory(path)
        with ZipFile(path) as archive:
            return layout.MANIFEST in archive.NameToInfo
    except (OSError, SourceError, *_FAULTS):
        return False


def open_bundle(path: Path, folder: Path) -> CheckedBundle:
    """Unpack a bundle to an empty folder and check it completely, except its signature.

    Raises:
        BundleError: it is damaged, incomplete or hostile; the message names the file and the reason.
    """
    files = folder / "files"
    files.mkdir()
    try:
        present = _unpack(path, files)
    except SourceError as error:
        raise BundleError(error.message, context=error.context) from error
    except OSError as error:
        raise BundleError(f"{path} can't be read", context=error.strerror) from error
    except _FAULTS as error:
        raise BundleError(f"{path} is damaged", context=str(error)) from error
    manifest = read_manifest(files, str(path))
    check_files(files, manifest, present, str(path))
    empty = Home(folder / "code")
    code = _read_code(files / layout.CODE, manifest, empty, path)
    return checked_bundle(str(path), files, manifest, (code, empty.snapshot_store / "objects"))


def checked_bundle(name: str, files: Path, manifest: BundleManifest, code: tuple[RunCommit, Path]) -> CheckedBundle:
    """Check record and lock of unpacked files, and return the bundle; ``code`` has its objects with it.

    Raises:
        BundleError: the record or the lock is hostile, or they do not belong together.
    """
    record = read_json(files / layout.RECORD, RunRecord, name)
    check_record(record, manifest, code[0], name)
    logged = read_json(files / layout.LOGGED, Logged, name) if manifest.has(layout.LOGGED) else Logged()
    lock = next((files / one for one in LOCK_NAMES if manifest.has(one)), None)
    signature = next((one for one in layout.SIGNATURES if (files / one).is_file()), None)
    return CheckedBundle(
        name=name,
        folder=files,
        manifest=manifest,
        record=record,
        logged=logged,
        code=code[0],
        objects=code[1],
        signature=signature,
        addresses=check_lock(lock, record, name) if lock else (),
    )


def _unpack(path: Path, folder: Path) -> frozenset[str]:
    """Write the files of a bundle to a folder, up to the sizes that the archive declares, and return their names."""
    check_directory(path)
    with ZipFile(path) as archive:
        entries = archive.infolist()
        check_entries(entries, path, layout.LARGEST)
        for entry in entries:
            _check_entry(entry, path)
        if layout.MANIFEST not in archive.NameToInfo:
            raise BundleError(f"{path} is no bundle of a run: it has no {layout.MANIFEST}")
        for entry in entries:
            _write(archive, entry, folder / entry.filename, path)
    return frozenset(entry.filename for entry in entries)


def _check_entry(entry: ZipInfo, path: Path) -> None:
    check_member(entry.filename, str(path))
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG) or entry.is_dir():
        raise BundleError(f"{path} has something else than a file: {entry.filename[:120]!r}")


def _write(archive: ZipFile, entry: ZipInfo, target: Path, path: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, target.open("xb") as file:
            size = 0
            while piece := source.read(_PIECE):
                size += len(piece)
                if size > entry.file_size:
                    raise BundleError(f"{path} is damaged: {entry.filename!r} is larger than it says")
                file.write(piece)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise BundleError(f"{path} has a file in the place of a folder: {entry.filename[:120]!r}") from error


def read_manifest(folder: Path, name: str) -> BundleManifest:
    """Return the manifest of an unpacked bundle.

    Raises:
        BundleError: it is not valid, or of a newer format.
    """
    manifest = read_json(folder / layout.MANIFEST, BundleManifest, name)
    if manifest.format != layout.FORMAT:
        raise BundleError(f"{name} is no bundle of a run: its format is {manifest.format[:40]!r}")
    if manifest.version != layout.VERSION:
        hint = "Install a newer proj." if manifest.version > layout.VERSION else None
        raise BundleError(f"{name} has version {manifest.version} of the format, this proj reads 1", hint=hint)
    if not _RUN_ID.fullmatch(manifest.run_id) or not _TREE.fullmatch(manifest.tree):
        raise BundleError(f"{name} is damaged: its manifest names no valid run or tree")
    names = [one.path for one in manifest.files]
    if len(set(names)) != len(names):
        raise BundleError(f"{name} is damaged: its manifest lists a file twice")
    lacking = sorted(layout.REQUIRED - set(names))
    if lacking:
        raise BundleError(f"{name} is incomplete: it has no {', '.join(lacking)}")
    digests = [*(one.sha256 for one in manifest.files), *(one.sha256 for one in manifest.inputs)]
    if not all(map(_SHA256.fullmatch, digests)):
        raise BundleError(f"{name} is damaged: its manifest has an invalid SHA-256")
    missing = [one.path for one in manifest.inputs if one.included and one.member not in names]
    if missing:
        raise BundleError(f"{name} is incomplete: it has no content of the input {missing[0][:120]!r}")
    return manifest


def check_files(folder: Path, manifest: BundleManifest, present: frozenset[str], name: str) -> None:
    """Compare unpacked files with the manifest: names, sizes and digests.

    Raises:
        BundleError: a file is missing, not listed, or differs from its digest.
    """
    listed = {one.path: one for one in manifest.files}
    unlisted = sorted(present - listed.keys() - {layout.MANIFEST, *layout.SIGNATURES})
    if unlisted:
        raise BundleError(f"{name} has a file that its manifest does not list: {unlisted[0][:120]!r}")
    for one in manifest.files:
        check_member(one.path, name)
        if one.path not in present:
            raise BundleError(f"{name} is incomplete: it has no {one.path[:120]!r}")
        problem = _problem_of(folder / one.path, one)
        if problem:
            raise BundleError(f"{name} is damaged: {one.path[:120]!r} {problem}")
        if one.path.startswith(f"{layout.INPUTS}/") and one.path != f"{layout.INPUTS}/{one.sha256}":
            raise BundleError(f"{name} is damaged: the input {one.path[:120]!r} has another content than its name says")
    if len(present & set(layout.SIGNATURES)) > 1:
        raise BundleError(f"{name} has two signatures")


def _problem_of(path: Path, expected: BundleFile) -> str | None:
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            size += len(piece)
    if size != expected.size:
        return f"has {size} bytes, its manifest says {expected.size}"
    return None if digest.hexdigest() == expected.sha256 else "differs from its digest in the manifest"


def _read_code(bundle: Path, manifest: BundleManifest, empty: Home, path: Path) -> RunCommit:
    if not bundle.is_file():
        raise BundleError(f"{path} is incomplete: it has no {layout.CODE}")
    try:
        return unbundle(bundle, manifest.run_id, manifest.tree, empty)
    except ProjError as error:
        raise BundleError(f"The code in {path} is refused: {error.message}", context=error.context) from error
