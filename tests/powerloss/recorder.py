"""A file system that passes everything on to a folder and writes down each change, in order.

``python -m tests.powerloss.recorder FOLDER MOUNTPOINT LOG`` serves until it is unmounted. The log is a sequence of
msgpack arrays: the name of the change, then its arguments. Files are named by numbers that are never used again.
"""

import errno
import os
import sys
import threading
from pathlib import Path
from typing import Any

import mfusepy  # type: ignore[import-not-found, import-untyped, unused-ignore]
import msgspec


class Recorder(mfusepy.Operations):  # type: ignore[misc, unused-ignore]
    """The operations of libfuse, on a folder."""

    use_ns = True

    def __init__(self, root: str, log: str) -> None:
        self._root = root
        self._lock = threading.RLock()
        self._log = Path(log).open("wb", buffering=0)  # noqa: SIM115  it lasts as long as the file system
        self._numbers: dict[int, int] = {}
        self._next = 0
        self._files: dict[int, int] = {}

    def _note(self, *change: Any) -> None:
        content = msgspec.msgpack.encode(change)
        self._log.write(len(content).to_bytes(4, "big") + content)

    def _new(self, inode: int) -> int:
        self._next += 1
        self._numbers[inode] = self._next
        return self._next

    def _place(self, path: str) -> str:
        return self._root + path

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        found = os.fstat(fh) if fh is not None else os.lstat(self._place(path))
        names = ("st_mode", "st_ino", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks")
        times = {f"st_{kind}time": getattr(found, f"st_{kind}time_ns") for kind in "amc"}
        return {**{name: getattr(found, name) for name in names}, **times}

    def readdir(self, path: str, fh: int) -> list[str]:  # noqa: ARG002
        return [".", "..", *os.listdir(self._place(path))]  # noqa: PTH208

    def readlink(self, path: str) -> str:
        return os.readlink(self._place(path))  # noqa: PTH115

    def access(self, path: str, amode: int) -> int:
        if not os.access(self._place(path), amode):
            raise mfusepy.FuseOSError(errno.EACCES)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self._place(path))
        return {name: getattr(found, name) for name in dir(found) if name.startswith("f_") and name != "f_fsid"}

    def chmod(self, path: str, mode: int) -> int:
        with self._lock:
            Path(self._place(path)).chmod(mode)
            self._note("chmod", path, mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        os.lchown(self._place(path), uid, gid)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        os.utime(self._place(path), ns=times, follow_symlinks=False)
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        with self._lock:
            Path(self._place(path)).mkdir(mode)
            self._note("mkdir", path, mode)
        return 0

    def rmdir(self, path: str) -> int:
        with self._lock:
            Path(self._place(path)).rmdir()
            self._note("unlink", path)
        return 0

    def unlink(self, path: str) -> int:
        with self._lock:
            Path(self._place(path)).unlink()
            self._note("unlink", path)
        return 0

    def symlink(self, target: str, source: str) -> int:
        with self._lock:
            Path(self._place(target)).symlink_to(source)
            self._note("symlink", target, source)
        return 0

    def rename(self, old: str, new: str) -> int:
        with self._lock:
            Path(self._place(old)).rename(self._place(new))
            self._note("rename", old, new)
        return 0

    def link(self, target: str, source: str) -> int:
        with self._lock:
            os.link(self._place(source), self._place(target), follow_symlinks=False)
            self._note("link", target, source)
        return 0

    def create(self, path: str, mode: int, fi: Any = None) -> int:  # noqa: ARG002
        with self._lock:
            descriptor = os.open(self._place(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
            self._files[descriptor] = self._new(os.fstat(descriptor).st_ino)
            self._note("create", path, self._files[descriptor], mode)
        return descriptor

    def open(self, path: str, flags: int) -> int:
        with self._lock:
            # The kernel says where to write, and reads back what it writes in part.
            access = os.O_RDONLY if flags & os.O_ACCMODE == os.O_RDONLY else os.O_RDWR
            descriptor = os.open(self._place(path), access | (flags & os.O_TRUNC))
            self._files[descriptor] = self._numbers[os.fstat(descriptor).st_ino]
            if flags & os.O_TRUNC:
                self._note("truncate", self._files[descriptor], 0)
        return descriptor

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:  # noqa: ARG002
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:  # noqa: ARG002
        with self._lock:
            count = os.pwrite(fh, data, offset)
            self._note("write", self._files[fh], offset, data[:count])
        return count

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:  # noqa: ARG002
        with self._lock:
            os.truncate(self._place(path), length)
            self._note("truncate", self._numbers[os.lstat(self._place(path)).st_ino], length)
        return 0

    def flush(self, path: str, fh: int) -> int:  # noqa: ARG002  closing a file syncs nothing
        return 0

    def release(self, path: str, fh: int) -> int:  # noqa: ARG002
        with self._lock:
            self._files.pop(fh, None)
            os.close(fh)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:  # noqa: ARG002
        with self._lock:
            self._note("fsync", self._files[fh])
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:  # noqa: ARG002
        with self._lock:
            self._note("fsyncdir", path)
        return 0


if __name__ == "__main__":
    mfusepy.FUSE(
        Recorder(sys.argv[1], sys.argv[3]), sys.argv[2], foreground=True, fsname="powerloss", default_permissions=True
    )
