"""What is in a prefix: each file by content, proven against the RECORD of its distribution, and checked by stat."""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from runner.environments.conda.meta import LinkedPackage, linked_packages

CACHES = "__pycache__"
IMPORTABLE = (".py", ".so", ".pyd", ".pth", ".pyc", ".egg-link", "METADATA", "RECORD")
OF_INSTALLER = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"})
"""Files in a dist-info folder that tell who installed it, not what was installed."""
METADATA_NAME = rb"(?m)^Name:\s*(\S+)"
METADATA_VERSION = rb"(?m)^Version:\s*(\S+)"
IS_WINDOWS = os.name == "nt"


class FileSeal(Struct, frozen=True, array_like=True):
    """A file as it was when its content was proven."""

    path: str
    size: int
    mtime_ns: int
    inode: int
    links: int
    sha256: str


class Distribution(Struct, frozen=True, kw_only=True):
    """An installed distribution; ``digest`` is that of its files, the same for every installer."""

    name: str
    version: str
    digest: str
    is_pure: bool = True
    top_level: tuple[str, ...] = ()


class Inventory(Struct, frozen=True, kw_only=True):
    """All files of a prefix and all distributions; ``wrong`` are distributions whose files differ from their RECORD."""

    files: tuple[FileSeal, ...]
    distributions: tuple[Distribution, ...]
    wrong: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The digest of what is installed."""
        known = sorted((item.name.lower(), item.version, item.digest) for item in self.distributions)
        return hashlib.sha256(msgspec.json.encode(known)).hexdigest()


class Measure(Struct, frozen=True):
    """A prefix by stat: number of files, bytes, time of the last change in nanoseconds."""

    count: int
    size: int
    newest_ns: int


class Damage(Struct, frozen=True):
    """What a check found: files that changed or are gone, and importable ones that were not there."""

    changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.added)

    def describe(self) -> str:
        """Name the first of them."""
        paths = self.changed + self.added
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""  # noqa: PLR2004
        return ", ".join(paths[:3]) + more


def measure(root: Path) -> Measure:
    """Walk a prefix by stat alone; the quick check before every use.

    No program can set the time at which an inode changed, so every edit, rename and new file shows. Compiled caches
    don't count. On Windows the time of modification must do.
    """
    # Written for speed: this runs before every use, over tens of thousands of files.
    count = size = newest = 0
    pending = [str(root)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != CACHES:
                        pending.append(entry.path)
                    continue
                status = entry.stat(follow_symlinks=False)
                count += 1
                size += status.st_size
                changed = status.st_mtime_ns if IS_WINDOWS else status.st_ctime_ns
                if changed > newest:  # noqa: PLR1730
                    newest = changed
    return Measure(count, size, newest)


def compare(root: Path, inventory: Inventory) -> tuple[Damage, Inventory]:
    """Compare a prefix with its inventory by content; the thorough check when the quick one sees something.

    A new prefix that shares files with this one changes their inodes; files whose number of links tells so are not
    read again, unless they look changed. Returns also the inventory as it is now.
    """
    sealed = {seal.path: seal for seal in inventory.files}
    changed, added, fresh = [], [], []
    for path, status in _walk(root):
        seal = sealed.pop(path, None)
        if seal is None:
            added += [path] if path.endswith(IMPORTABLE) else []
            continue
        now = FileSeal(path, _size(status), status.st_mtime_ns, status.st_ino, status.st_nlink, seal.sha256)
        linked = status.st_nlink != seal.links and _stamp(now) == _stamp(seal)
        if not linked and (now.size != seal.size or seal.sha256 != _content(root / path, status)):
            changed.append(path)
        fresh.append(now)
    damage = Damage(changed=tuple(sorted([*changed, *sealed])), added=tuple(sorted(added)))
    return damage, msgspec.structs.replace(inventory, files=tuple(fresh))


def take(root: Path, proofs: Path | None, *, trust: bool) -> Inventory:
    """Make the inventory of a new prefix: hash every file, and hold it against the RECORDs.

    ``proofs`` is given when files are hard links that other prefixes share: a folder that keeps what was proven of
    them, so that they are hashed once per machine, unless there is a reason not to ``trust`` it. The right to write
    is taken from such files.
    """
    (root / ".lock").unlink(missing_ok=True)  # uv's, of the installation
    recorded: dict[str, str] = {}
    owners: dict[str, str] = {}
    linked = linked_packages(root)
    for package in linked:
        recorded |= package.expected
        owners |= dict.fromkeys(package.expected, package.name)
    owned = frozenset().union(*(package.files for package in linked))
    found = [folder for site in _sites(root) for folder in sorted(site.glob("*.dist-info"))]
    folders = [folder for folder in found if (folder / "METADATA").relative_to(root).as_posix() not in owned]
    known: dict[str, FileSeal] = {}
    for folder in folders:
        entries = dict(_record(folder, root))
        recorded |= entries
        owners |= dict.fromkeys(entries, folder.name.split("-")[0])
        known |= _load_proof(proofs, folder) if trust else {}
    files: dict[str, FileSeal] = {}
    for path, status in _walk(root):
        files[path] = _seal(root, path, status, known.get(path))
        if proofs and status.st_nlink > 1 and status.st_mode & 0o222 and stat.S_ISREG(status.st_mode):
            (root / path).chmod(stat.S_IMODE(status.st_mode) & ~0o222)
    wrong = {owners[path] for path, sha in recorded.items() if path not in files or files[path].sha256 != sha}
    for folder in folders:
        _save_proof(proofs, folder, [files[path] for path in dict(_record(folder, root)) if path in files])
    conda = tuple(_linked_distribution(package, files) for package in linked)
    distributions = conda + tuple(_distribution(folder, root, files) for folder in folders)
    return Inventory(files=tuple(files.values()), distributions=distributions, wrong=tuple(sorted(wrong)))


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    pending = [("", str(root))]
    while pending:
        before, folder = pending.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != CACHES:
                        pending.append((f"{before}{entry.name}/", entry.path))
                else:
                    yield f"{before}{entry.name}", entry.stat(follow_symlinks=False)


def _sites(root: Path) -> list[Path]:
    """Return the folders of a prefix that hold distributions: site-packages, or the root of a target folder."""
    found = [
        *root.glob("lib/python*/site-packages"),
        *root.glob("lib/pypy*/site-packages"),
        *root.glob("Lib/site-packages"),
    ]
    return found or [root]


def _record(folder: Path, root: Path) -> Iterator[tuple[str, str]]:
    """Yield path and SHA-256 of the files that a distribution records, in the format of PEP 376 and 427."""
    import csv
    from base64 import urlsafe_b64decode

    try:
        text = (folder / "RECORD").read_text("utf-8")
    except FileNotFoundError:
        return
    site = os.path.relpath(folder.parent, root)
    for row in csv.reader(text.splitlines()):
        algorithm, _, value = (row[1] if len(row) > 1 else "").partition("=")
        path = os.path.normpath(os.path.join(site, row[0])).replace("\\", "/")  # noqa: PTH118
        if algorithm == "sha256" and f"/{CACHES}/" not in f"/{path}":
            yield path, urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()


def _seal(root: Path, path: str, status: os.stat_result, known: FileSeal | None) -> FileSeal:
    now = FileSeal(path, _size(status), status.st_mtime_ns, status.st_ino, status.st_nlink, "")
    proven = known is not None and _stamp(known) == _stamp(now) and status.st_nlink > 1
    return msgspec.structs.replace(now, sha256=known.sha256 if known and proven else _content(root / path, status))


def _stamp(seal: FileSeal) -> tuple[int, int, int]:
    return seal.size, seal.mtime_ns, seal.inode


def _size(status: os.stat_result) -> int:
    return 0 if stat.S_ISLNK(status.st_mode) else status.st_size


def _content(path: Path, status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        return hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()  # noqa: PTH115
    if status.st_size > 1 << 24:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _distribution(folder: Path, root: Path, files: dict[str, FileSeal]) -> Distribution:
    metadata = (folder / "METADATA").read_bytes() if (folder / "METADATA").exists() else b""
    name, version = re.search(METADATA_NAME, metadata), re.search(METADATA_VERSION, metadata)
    site = os.path.relpath(folder.parent, root).replace("\\", "/")
    own = [path for path, _ in _record(folder, root) if path in files and _is_code(path, site, folder.name)]
    digest = hashlib.sha256("".join(f"{files[path].sha256} {path}\n" for path in sorted(own)).encode()).hexdigest()
    wheel = (folder / "WHEEL").read_text("utf-8", "replace") if (folder / "WHEEL").exists() else ""
    start = 0 if site == "." else len(site) + 1
    tops = {path[start:].split("/")[0] for path in own if ".dist-info/" not in path}
    stem = folder.name.removesuffix(".dist-info").rpartition("-")
    return Distribution(
        name=name[1].decode() if name else stem[0],
        version=version[1].decode() if version else stem[2],
        digest=digest,
        is_pure="Root-Is-Purelib: true" in wheel,
        top_level=tuple(sorted(tops)),
    )


def _linked_distribution(package: LinkedPackage, files: dict[str, FileSeal]) -> Distribution:
    """Describe a conda package by its files as they were before the prefix was written into them."""
    there = [path for path in sorted(package.files) if path in files]
    lines = "".join(f"{package.original.get(path, files[path].sha256)} {path}\n" for path in there)
    return Distribution(name=package.name, version=package.version, digest=hashlib.sha256(lines.encode()).hexdigest())


def _is_code(path: str, site: str, own: str) -> bool:
    """Say whether a file is the same whoever installs it and wherever: not a script, not the installer's notes."""
    inside = site == "." or path.startswith(f"{site}/")
    scripts = path.startswith(("bin/", "Scripts/"))
    return inside and not scripts and not (f"{own}/" in path and path.rpartition("/")[2] in OF_INSTALLER)


def _proof_path(proofs: Path, folder: Path) -> Path:
    record = (folder / "RECORD").read_bytes() if (folder / "RECORD").exists() else b""
    # Scripts hold the path of their prefix; all else is the same in every prefix.
    shared = b"\n".join(line for line in record.splitlines() if not line.startswith(b".."))
    return proofs / f"{folder.name}-{hashlib.sha256(shared).hexdigest()[:16]}"


def _load_proof(proofs: Path | None, folder: Path) -> dict[str, FileSeal]:
    if proofs is None:
        return {}
    try:
        seals = msgspec.msgpack.decode(_proof_path(proofs, folder).read_bytes(), type=list[FileSeal])
    except (OSError, msgspec.DecodeError):
        return {}
    return {seal.path: seal for seal in seals}


def _save_proof(proofs: Path | None, folder: Path, seals: list[FileSeal]) -> None:
    if proofs is None:
        return
    path = _proof_path(proofs, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    aside.write_bytes(msgspec.msgpack.encode(seals))
    aside.replace(path)
