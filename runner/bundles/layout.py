"""Defines what a bundle consists of: the names of its files and the manifest that lists them."""

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from msgspec import Struct

from runner.base.foreign_text import Limits
from runner.errors import BundleError, InvalidValueError
from runner.settings import LOCK_NAMES
from runner.store.artifact_paths import check_path
from runner.store.entities import DatasetInput, LoggedModel, ModelOutput

FORMAT = "proj-bundle"
VERSION = 1
"""Version of the layout; a reader refuses a newer one."""

MANIFEST = "proj-bundle.json"
"""Lists all other files with their digests; a signature signs it."""
SSH_SIGNATURE, GPG_SIGNATURE = f"{MANIFEST}.sig", f"{MANIFEST}.asc"
SIGNATURES = (SSH_SIGNATURE, GPG_SIGNATURE)
CRATE = "ro-crate-metadata.json"
README = "README.md"
RECORD = "record.json"
LOGGED = "logged.json"
HISTORY = "metrics.csv"
VERDICTS = "verdicts.json"
CODE = "code.bundle"
LOG = "log.txt"

SINGLE = frozenset({CRATE, README, RECORD, LOGGED, HISTORY, VERDICTS, CODE, LOG, *LOCK_NAMES})
"""The files at the top of a bundle; the manifest and its signature lie beside them."""
REQUIRED = frozenset({RECORD, HISTORY})
OUTPUTS, MODELS, INPUTS, PACKAGES = "outputs", "models", "inputs", "packages"
FOLDERS = (OUTPUTS, MODELS, INPUTS, PACKAGES)
"""The folders of a bundle: artifacts, files of logged models, inputs by their SHA-256, packages of the environment."""

LARGEST = 64 << 30
"""Bytes of all files of a bundle."""
TEXT = Limits(size=64 << 20, nodes=2_000_000)
"""Limits of the JSON files in a bundle."""
LARGEST_SIGNATURE = 64 << 10


class BundleFile(Struct, frozen=True, kw_only=True):
    """A file of a bundle as its manifest lists it: name in the bundle, size in bytes, SHA-256 in hex."""

    path: str
    size: int
    sha256: str


class BundledInput(Struct, frozen=True, kw_only=True):
    """An input of the run: its recorded path, size, SHA-256, and whether the bundle has its content."""

    path: str
    size: int
    sha256: str
    included: bool = False

    @property
    def member(self) -> str:
        """The name of the file with its content."""
        return f"{INPUTS}/{self.sha256}"


class BundleManifest(Struct, frozen=True, kw_only=True):
    """The content of ``proj-bundle.json``.

    ``tree`` is the git tree of the code, ``left_out`` what the bundle does not have, and why.
    """

    format: str
    version: int
    run_id: str
    tree: str
    files: tuple[BundleFile, ...]
    inputs: tuple[BundledInput, ...] = ()
    left_out: tuple[str, ...] = ()

    def has(self, name: str) -> bool:
        """Return whether the bundle lists a file, or a file in a folder of this name."""
        return any(one.path == name or one.path.startswith(f"{name}/") for one in self.files)

    def below(self, folder: str) -> Iterator[BundleFile]:
        """Yield the files in one of the folders."""
        return (one for one in self.files if one.path.startswith(f"{folder}/"))


class Logged(Struct, frozen=True, kw_only=True):
    """What MLflow clients logged besides parameters, metrics, tags and artifacts: the content of ``logged.json``."""

    datasets: tuple[DatasetInput, ...] = ()
    outputs: tuple[ModelOutput, ...] = ()
    models: tuple[LoggedModel, ...] = ()


class BundledVerdict(Struct, frozen=True, kw_only=True):
    """A reproduction of the run, and its verdict: an item of ``verdicts.json``."""

    run_id: str
    verdict: str


class Part(Struct, frozen=True, kw_only=True):
    """A file to be put in a bundle; ``pieces`` yields its content."""

    path: str
    size: int
    pieces: Callable[[], Iterator[bytes]]


_PIECE = 1 << 20


def file_part(path: str, source: Path) -> Part:
    """Return the part for a file on disk."""
    return Part(path=path, size=source.stat().st_size, pieces=lambda: read_pieces(source))


def bytes_part(path: str, content: bytes) -> Part:
    """Return the part for a content in memory."""
    return Part(path=path, size=len(content), pieces=lambda: iter((content,)))


def read_pieces(source: Path) -> Iterator[bytes]:
    """Yield the content of a file."""
    with source.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def check_member(name: str, what: str) -> str:
    """Return the name of a file in a bundle if a bundle can have it.

    Raises:
        BundleError: it leads out of the bundle, or bundles have no such file.
    """
    try:
        check_path(name)
    except InvalidValueError as error:
        raise BundleError(f"{what} has a file whose name leads out of it: {name[:120]!r}") from error
    parts = PurePosixPath(name).parts
    depth = 2 if parts[0] in {INPUTS, PACKAGES} else len(parts)
    if name in SINGLE or name == MANIFEST or name in SIGNATURES:
        return name
    if parts[0] not in FOLDERS or len(parts) < 2 or len(parts) != depth:  # noqa: PLR2004  # a folder and a name
        raise BundleError(f"{what} has a file that does not belong in a bundle: {name[:120]!r}")
    return name
