"""Downloads the wheels of a run's lock, so that its environment can be built without a package index."""

import os
import re
from contextlib import closing
from pathlib import Path

from runner.base.masking import Masker
from runner.bundles.layout import PACKAGES, Part, file_part
from runner.environments.interpreters.interpreters import discover
from runner.environments.resolve.uv_command import DROPPED
from runner.errors import BundleError
from runner.model import Event, EventKind, Report
from runner.process import capture
from runner.settings import Home, is_offline
from runner.store import runs
from runner.store.database import Database

_NAMES = {
    "UV_DEFAULT_INDEX": "PIP_INDEX_URL",
    "UV_INDEX_URL": "PIP_INDEX_URL",
    "UV_EXTRA_INDEX_URL": "PIP_EXTRA_INDEX_URL",
}
_OLDEST = (3, 8)
"""The oldest Python for which a pip that downloads wheels is at hand."""
_URL = re.compile(r"(?m)^[A-Za-z0-9][\w.-]*(?:\[[^]]*\])? @ \S+")


def download_packages(run_id: str, home: Home, folder: Path, report: Report) -> list[Part]:
    """Download the wheels of a run's lock to a folder, each checked by its hash in the lock.

    Raises:
        BundleError: the run has no lock of Python packages, a package has no wheel, or the index can't be reached.
    """
    if home.packages(run_id).is_dir():
        return []  # an imported run has them already
    lock = home.lock(run_id)
    if lock is None or lock.name != "lock.txt":
        what = "conda packages" if lock else "no lock"
        raise BundleError(f"The run {run_id[:8]} has {what}, so its packages can't be put in the bundle")
    text = lock.read_text("utf-8")
    if _URL.search(text):
        names = ", ".join(match[0].split(" ")[0] for match in _URL.finditer(text))
        raise BundleError(f"These packages come from an address, not from an index, and have no wheels: {names}")
    if is_offline():
        raise BundleError("The packages must be downloaded, but the network is disabled (--offline)")
    target = folder / PACKAGES
    target.mkdir()
    if text.strip():
        report(Event(kind=EventKind.STEP, message="Downloading the packages of the environment"))
        _download(lock, _interpreter(run_id, home), target)
    return [file_part(f"{PACKAGES}/{path.name}", path) for path in sorted(target.iterdir())]


def _interpreter(run_id: str, home: Home) -> tuple[str, str]:
    """Return an interpreter of the run's release line, with its version.

    Raises:
        BundleError: there is none, or it is too old.
    """
    with closing(Database.open_to_read(home.database)) as database:
        environment = runs.get(database, run_id).details.environment
    version = (environment.python if environment else None) or ""
    line = ".".join(version.split(".")[:2])
    prefix = Path(environment.prefix or "") / "bin" / "python" if environment else Path()
    found = [one.path for one in discover(home.root / "interpreters.json") if one.version.startswith(f"{line}.")]
    path = str(prefix) if environment and environment.prefix and prefix.exists() else next(iter(found), None)
    if path is None:
        raise BundleError(f"Python {line} is not installed, so the wheels for it can't be chosen")
    if tuple(map(int, line.split("."))) < _OLDEST:
        raise BundleError(f"Wheels for Python {line} can't be downloaded, it is too old")
    return path, line


def _download(lock: Path, python: tuple[str, str], target: Path) -> None:
    from virtualenv.seed.wheels.embed import get_embed_wheel

    pip = get_embed_wheel("pip", python[1])
    words = ("download", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--dest", target, "-r", lock)
    plain = ("--disable-pip-version-check", "--no-input", "--quiet")
    done = capture([python[0], f"{pip.path}/pip", *plain, *words], cwd=target, env=_variables())
    if done.exit_code:
        hint = "A package without a wheel can't be put in a bundle; export without --with-packages."
        raise BundleError("The packages can't be downloaded", context=Masker().text(done.error_text), hint=hint)


def _variables() -> dict[str, str]:
    """Return the variables for pip; an index that only uv knows is passed on."""
    found = {name: value for name, value in os.environ.items() if name not in DROPPED}
    for theirs, ours in _NAMES.items():
        if found.get(theirs):
            found.setdefault(ours, found[theirs])
    return found
