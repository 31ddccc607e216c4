"""Says for which Pythons the packages of a lock have wheels, by the names of the files that the index has."""

import platform
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from runner.environments.indexes import index_options
from runner.environments.interpreters import Interpreter
from runner.environments.uv_command import clean_cwd, find_uv
from runner.environments.words import EnvironmentRequest, Lock

WHEEL = re.compile(r"(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl$")
TAG = re.compile(r"cp(?P<major>\d)(?P<minor>\d+)")
SYSTEMS = {"linux": "linux", "macosx": "macosx", "win": "win"}


def lines_with_wheels(request: EnvironmentRequest, lock: Lock) -> frozenset[tuple[int, ...]] | None:
    """Return the release lines for which every package has a wheel, None where the lock's own line is one of them.

    Packages without any wheel for this platform do not count: they are built for every Python.
    """
    common: frozenset[tuple[int, ...]] | None = None
    is_lacking = False
    for package in _packages(request, lock):
        lines = _lines(package, lock.interpreter)
        if lines is None:
            continue
        is_lacking = is_lacking or lock.interpreter.line not in lines
        common = lines if common is None else common & lines
    return (common or frozenset()) if is_lacking else None


def _packages(request: EnvironmentRequest, lock: Lock) -> list[Mapping[str, Any]]:
    uv = find_uv(request.home, index_options(request.spec.options, request.environ), request.environ)
    with TemporaryDirectory(prefix="proj-") as folder:
        asked, answer = Path(folder) / "requirements.txt", Path(folder) / "pylock.toml"
        asked.write_text("\n".join([*uv.index.lines, lock.text]), encoding="utf-8")
        words = ["--exclude-newer", lock.as_of] if lock.as_of and not lock.undated else []
        uv.run(
            *("pip", "compile", asked, "--no-deps", "--format", "pylock.toml", "--output-file", answer, "--quiet"),
            *("--python", lock.interpreter.path, *words, *uv.index.words),
            cwd=clean_cwd(request.home),
        )
        # An older uv does not know the format: then nothing is known of wheels.
        found = msgspec.toml.decode(answer.read_bytes()) if answer.is_file() else {}
    packages: list[Mapping[str, Any]] = found.get("packages", [])
    return packages


def _lines(package: Mapping[str, Any], interpreter: Interpreter) -> frozenset[tuple[int, ...]] | None:
    """Return the lines that a package has wheels for on this platform, None where that does not depend on the line."""
    names = [wheel.get("name") or wheel.get("url", "").rpartition("/")[2] for wheel in package.get("wheels", ())]
    system = next((name for word, name in SYSTEMS.items() if interpreter.platform.startswith(word)), None)
    machine = platform.machine().lower()
    found: set[tuple[int, ...]] = set()
    for match in filter(None, map(WHEEL.search, names)):
        place = match["platform"]
        fits = place == "any" or (system is not None and system in place and (machine in place or "universal" in place))
        if not fits:
            continue
        if match["abi"] in ("none", "abi3"):
            return None
        found |= {(int(tag["major"]), int(tag["minor"])) for tag in TAG.finditer(match["python"])}
    return frozenset(found) if found else None
