"""Says which packages of a lock an interpreter would have to build although the index has wheels of them for others."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from runner.base.foreign_text import parse_toml
from runner.environments.declare.indexes import index_options
from runner.environments.interpreters.interpreters import Interpreter
from runner.environments.model import EnvironmentRequest, Lock
from runner.environments.resolve.uv_command import clean_cwd, find_uv


def better_interpreters(
    request: EnvironmentRequest, lock: Lock, others: Sequence[Interpreter]
) -> tuple[Interpreter, ...]:
    """Return those of the other interpreters that have wheels for most of what the lock's own one would build.

    They keep their order. There is none where the lock's own has wheels for all that has wheels at all, and where uv
    is too old to tell.
    """
    built = _pins(request, lock, lock.interpreter, lock.text, with_wheels=False)
    if not built:
        return ()
    text = "\n".join(built)
    had = {other.path: len(_pins(request, lock, other, text, with_wheels=True)) for other in others}
    most = max(had.values(), default=0)
    return tuple(other for other in others if most and had[other.path] == most)


def _pins(
    request: EnvironmentRequest, lock: Lock, interpreter: Interpreter, text: str, *, with_wheels: bool
) -> tuple[str, ...]:
    """Return those of the pins of a text that have wheels for an interpreter, or those that have only a source."""
    uv = find_uv(request.home, index_options(request.spec.options, request.environ), request.environ)
    cut = ("--exclude-newer", lock.as_of) if lock.as_of and not lock.undated else ()
    with TemporaryDirectory(prefix="proj-") as room:
        asked, answer = Path(room) / "requirements.in", Path(room) / "pylock.toml"
        asked.write_text("\n".join([*uv.index.lines, text]), encoding="utf-8")
        uv.run(
            *("pip", "compile", asked, "--no-deps", "--quiet", "--format", "pylock.toml", "--output-file", answer),
            *("--python", interpreter.path, *cut, *uv.index.words),
            cwd=clean_cwd(request.home),
        )
        found: Mapping[str, Any] = parse_toml(answer.read_bytes()) if answer.is_file() else {}
    return tuple(
        f"{package['name']}=={package['version']}"
        for package in found.get("packages", ())
        if "version" in package and bool(package.get("wheels")) is with_wheels
    )
