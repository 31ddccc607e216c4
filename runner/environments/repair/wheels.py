"""Finds interpreters for which the index has wheels of packages that would otherwise be built from source."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from runner.base.foreign_text import parse_toml
from runner.environments.declare.indexes import index_options
from runner.environments.model import Interpreter, Lock, PythonRequest
from runner.environments.resolve.uv_command import clean_cwd, find_uv


def better_interpreters(request: PythonRequest, lock: Lock, others: Sequence[Interpreter]) -> tuple[Interpreter, ...]:
    """Return the interpreters with the most wheels for packages that the lock's interpreter would have to build.

    The order is kept. The result is empty if no other interpreter has more wheels, or uv is too old for the query.
    """
    built = _pins(request, lock, lock.interpreter, lock.text, with_wheels=False)
    if not built:
        return ()
    text = "\n".join(built)
    counts = {other.path: len(_pins(request, lock, other, text, with_wheels=True)) for other in others}
    most = max(counts.values(), default=0)
    return tuple(other for other in others if most and counts[other.path] == most)


def _pins(
    request: PythonRequest, lock: Lock, interpreter: Interpreter, text: str, *, with_wheels: bool
) -> tuple[str, ...]:
    """Return the pins of a text that have wheels for an interpreter, or those that have a source archive only."""
    uv = find_uv(request.home, index_options(request.spec.options, request.environ), request.environ)
    cut = ("--exclude-newer", lock.as_of) if lock.as_of and not lock.undated else ()
    with TemporaryDirectory(prefix="proj-") as folder:
        requirements, result = Path(folder) / "requirements.in", Path(folder) / "pylock.toml"
        requirements.write_text("\n".join([*uv.index.lines, text]), encoding="utf-8")
        uv.run(
            *(
                "pip",
                "compile",
                requirements,
                "--no-deps",
                "--quiet",
                "--format",
                "pylock.toml",
                "--output-file",
                result,
            ),
            *("--python", interpreter.path, *cut, *uv.index.arguments),
            cwd=clean_cwd(request.home),
        )
        found: Mapping[str, Any] = parse_toml(result.read_bytes()) if result.is_file() else {}
    return tuple(
        f"{package['name']}=={package['version']}"
        for package in found.get("packages", ())
        if "version" in package and bool(package.get("wheels")) is with_wheels
    )
