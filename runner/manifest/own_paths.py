"""Finds absolute paths into the project itself: a run reads them there instead of in its frozen copy."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from runner.analysis.scripts import Scripts
from runner.base.masking import is_secret
from runner.manifest.paths import PATH
from runner.model import EntryPoint, Fault, Parameter, Severity

MOST_NAMED = 3
_WORDS = re.compile(r"[\s'\"=]+")


def own_paths(
    entry_point: EntryPoint, parameters: Sequence[Parameter], scripts: Scripts, manifest: str, project: Path, top: Path
) -> Iterator[Fault]:
    """Yield a warning for each absolute path below ``top``, the folder of which the run gets a frozen copy.

    Parameters of the type ``path`` are left out: they are mapped to the copy.
    """
    tops = tuple(dict.fromkeys((os.path.normpath(top), os.path.realpath(top))))
    named = [(f"parameter '{one.name}'", one.value, manifest, None) for one in parameters if _is_plain(one)]
    named += [(f"the command of '{entry_point.name}'", word, manifest, None) for word in _words(entry_point.command)]
    named += [(f"the variable '{name}'", value, manifest, None) for name, value in entry_point.env.items()]
    texts = [("the code", path.text, one.path, path.line) for one in scripts.found for path in one.paths]
    found = [each for each in (*named, *texts) if _is_below(each[1], tops)]
    for what, text, file, line in found[:MOST_NAMED]:
        yield Fault(
            severity=Severity.WARNING,
            message=f"{what} names '{text}', which is in the project: the run goes around its frozen copy",
            file=file,
            line=line,
            hint=f"write '{_relative(text, tops, project)}', or give it as a parameter of type path",
        )


def _is_plain(parameter: Parameter) -> bool:
    return not is_secret(parameter) and not (parameter.declared and parameter.type == PATH)


def _words(command: str) -> list[str]:
    return _WORDS.split(command)


def _is_below(text: str, tops: tuple[str, ...]) -> bool:
    path = os.path.normpath(text) if text.startswith("/") else ""
    return any(path == top or path.startswith(f"{top}/") for top in tops if top != "/")


def _relative(text: str, tops: tuple[str, ...], project: Path) -> str:
    """Return the path relative to the project folder, written with or without its links resolved."""
    path = os.path.normpath(text)
    start = project if path.startswith(f"{tops[0]}/") or path == tops[0] else Path(os.path.realpath(project))
    return os.path.relpath(path, start)
