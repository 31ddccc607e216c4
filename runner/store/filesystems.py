"""Detects network file systems, which lack the shared memory that SQLite's write-ahead log needs."""

from pathlib import Path

from runner.process import capture

NETWORK = ("nfs", "cifs", "smb", "afpfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "fuse.sshfs")
"""Prefixes of the types of network file systems. https://www.sqlite.org/wal.html, "Overview"."""


_MOUNTS = Path("/proc/self/mountinfo")


def is_on_network(folder: Path) -> bool:
    """Return whether an existing folder is on a network file system; False if unknown."""
    mounts = _linux_mounts() if _MOUNTS.exists() else _listed_mounts()
    path = folder.resolve()
    places = [(len(mount.parts), kind) for mount, kind in mounts if path == mount or mount in path.parents]
    return bool(places) and max(places)[1].startswith(NETWORK)


def _linux_mounts() -> list[tuple[Path, str]]:
    """Return mount point and type of each mount, from proc(5), "/proc/[pid]/mountinfo"."""
    try:
        text = _MOUNTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    mounts = []
    for line in text.splitlines():
        place, _, rest = line.partition(" - ")
        words = place.split()
        if len(words) > 4 and rest:  # noqa: PLR2004
            mounts.append((Path(words[4].replace("\\040", " ")), rest.split()[0]))
    return mounts


def _listed_mounts() -> list[tuple[Path, str]]:
    """Return mount point and type of each mount, from the output of `mount` on BSD: ``what on /place (type, …)``."""
    mounts = []
    for line in capture(["mount"], timeout=10).text.splitlines():
        _, _, rest = line.partition(" on ")
        place, _, kind = rest.rpartition(" (")
        if place:
            mounts.append((Path(place), kind.split(",")[0].rstrip(")")))
    return mounts
