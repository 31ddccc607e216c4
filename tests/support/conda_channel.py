"""Makes small conda channels by hand: packages, honest or hostile, and the index over them.

The formats: https://docs.conda.io/projects/conda-build/en/stable/resources/package-spec.html and
https://conda.org/learn/ceps/cep-0016 for what an index of plain JSON looks like.
"""

import base64
import hashlib
import io
import json
import struct
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

PLACEHOLDER = "/placehold" + "_placehold" * 24
"""What stands for the prefix in files until they are installed, long as in packages of conda-build."""
A_DAY_OF_2020 = 1_590_969_600_000
"""Milliseconds, as the index has it."""


class Link(NamedTuple):
    """A symbolic link in a package."""

    target: str


Content = str | bytes | Link


class Package(NamedTuple):
    """What a package is made of; ``members`` are put into the archive beside what is listed."""

    name: str
    version: str = "1.0"
    build: str = "0"
    number: int = 0
    depends: tuple[str, ...] = ()
    files: Mapping[str, Content] = {}
    members: Mapping[str, Content] = {}
    info: Mapping[str, str] = {}
    more: Mapping[str, Any] = {}
    noarch: str | None = None
    subdir: str = "noarch"
    timestamp: int | None = A_DAY_OF_2020
    kind: str = ".tar.bz2"

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.version}-{self.build}{self.kind}"

    @property
    def record(self) -> dict[str, Any]:
        record = {
            "name": self.name,
            "version": self.version,
            "build": self.build,
            "build_number": self.number,
            "depends": list(self.depends),
            "subdir": self.subdir,
            "timestamp": self.timestamp,
            "noarch": self.noarch,
            **self.more,
        }
        return {key: value for key, value in record.items() if value is not None}


def python_package(name: str, files: Mapping[str, Content], **more: Any) -> Package:
    """Return a package of Python modules that fits every Python; paths are relative to site-packages."""
    inside = {f"site-packages/{path}": content for path, content in files.items()}
    depends = ("python", *more.pop("depends", ()))
    return Package(name=name, files=inside, noarch="python", depends=depends, **more)


def archive(package: Package) -> bytes:
    """Return the bytes of a package."""
    paths = [_path_entry(path, content) for path, content in package.files.items()]
    info = {
        "info/index.json": json.dumps(package.record),
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}),
        "info/files": "".join(f"{path}\n" for path in package.files),
        **(
            {"info/link.json": json.dumps({"noarch": {"type": "python"}, "package_metadata_version": 1})}
            if package.noarch == "python"
            else {}
        ),
        **package.info,
    }
    content = {**package.files, **package.members}
    if package.kind == ".tar.bz2":
        return _tar({**info, **content}, "w:bz2")
    stem = package.file_name.removesuffix(".conda")
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as file:
        file.writestr("metadata.json", json.dumps({"conda_pkg_format_version": 2}))
        file.writestr(f"pkg-{stem}.tar.zst", _zstd(_tar(content, "w")))
        file.writestr(f"info-{stem}.tar.zst", _zstd(_tar(info, "w")))
    return whole.getvalue()


def _path_entry(path: str, content: Content) -> dict[str, Any]:
    data = b"" if isinstance(content, Link) else _bytes(content)
    entry = {
        "_path": path,
        "path_type": "softlink" if isinstance(content, Link) else "hardlink",
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_in_bytes": len(data),
    }
    if PLACEHOLDER.encode() in data:
        entry |= {"prefix_placeholder": PLACEHOLDER, "file_mode": "text"}
    return entry


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _tar(files: Mapping[str, Content], mode: Any) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode=mode) as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.mode = 0o755 if path.startswith("bin/") else 0o644
            if isinstance(content, Link):
                member.type, member.linkname = tarfile.SYMTYPE, content.target
                tar.addfile(member)
            else:
                data = _bytes(content)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return whole.getvalue()


def _zstd(data: bytes) -> bytes:
    """Frame data for Zstandard without compressing it: RFC 8878, raw blocks of at most 128 KiB."""
    frame = [struct.pack("<IBB", 0xFD2FB528, 0x00, 0x58)]
    pieces = [data[start : start + 131072] for start in range(0, len(data), 131072)] or [b""]
    for number, piece in enumerate(pieces):
        header = (len(piece) << 3) | (number == len(pieces) - 1)
        frame += [header.to_bytes(3, "little"), piece]
    return b"".join(frame)


def make_channel(root: Path, *packages: Package, index: Mapping[str, Any] | None = None) -> Path:
    """Write packages and their index; what ``index`` has of a file name replaces what is true of it."""
    tables: dict[str, dict[str, Any]] = {"noarch": {}, platform(): {}}
    for package in packages:
        data = archive(package)
        folder = root / package.subdir
        folder.mkdir(parents=True, exist_ok=True)
        (folder / package.file_name).write_bytes(data)
        digests = {"md5": hashlib.md5(data).hexdigest(), "sha256": hashlib.sha256(data).hexdigest()}
        record = {**package.record, **digests, "size": len(data), **(index or {}).get(package.file_name, {})}
        tables.setdefault(package.subdir, {})[package.file_name] = record
    for subdir, table in tables.items():
        parts = {"packages": ".tar.bz2", "packages.conda": ".conda"}
        whole: dict[str, Any] = {"info": {"subdir": subdir}, "repodata_version": 1}
        for part, kind in parts.items():
            whole[part] = {name: record for name, record in table.items() if name.endswith(kind)}
        (root / subdir).mkdir(parents=True, exist_ok=True)
        (root / subdir / "repodata.json").write_text(json.dumps(whole))
    return root


def platform() -> str:
    """Return the platform of this machine in conda's words."""
    import platform as machine

    arch = machine.machine().lower()
    if sys.platform == "darwin":
        return "osx-arm64" if arch == "arm64" else "osx-64"
    return f"linux-{ {'x86_64': '64', 'amd64': '64'}.get(arch, arch) }"


def interpreter(version: str | None = None, program: Path | None = None) -> Package:
    """Return a package that is a Python, by default this one: a copy of its program, which finds the rest."""
    base = program or Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    version = version or "{}.{}.{}".format(*sys.version_info)
    line = ".".join(version.split(".")[:2])
    return Package(
        name="python",
        version=version,
        subdir=platform(),
        kind=".conda",
        files={
            f"bin/python{line}": base.read_bytes(),
            "bin/python": Link(f"python{line}"),
            "bin/python3": Link(f"python{line}"),
            "pyvenv.cfg": f"home = {base.parent}\ninclude-system-site-packages = false\nversion = {line}\n",
            f"lib/python{line}/site-packages/README.txt": "Packages come here.\n",
        },
    )


class Visits(ThreadingHTTPServer):
    """A server on the loopback interface that notes what it is asked for."""

    def __init__(self, root: Path) -> None:
        self.seen: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.strip = ""
        """A part of the path that clients must give, and that is not part of the path."""
        self.password: tuple[str, str] | None = None
        """A user and a password that clients must give."""
        super().__init__(("127.0.0.1", 0), partial(_Quiet, directory=str(root)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Quiet(SimpleHTTPRequestHandler):
    server: Visits

    def log_message(self, *_words: Any) -> None:
        self.server.seen.append(self.path)
        self.server.headers.append(dict(self.headers))

    def do_GET(self) -> None:
        self._answer(super().do_GET)

    def do_HEAD(self) -> None:
        self._answer(super().do_HEAD)

    def _answer(self, answer: Callable[[], None]) -> None:
        user, password = self.server.password or ("", "")
        expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        wrong = self.server.password and self.headers.get("Authorization") != expected
        if wrong or not self.path.startswith(self.server.strip):
            self.send_error(401)
            return
        answer()

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.removeprefix(self.server.strip))


@contextmanager
def served(root: Path) -> Iterator[Visits]:
    """Serve a folder over HTTP while the block runs."""
    server = Visits(root)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
