"""Observes which files, databases and hosts the command of a run uses, and records them with their role."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct

from runner.environments.model import Prepared
from runner.provenance.inputs import Watch
from runner.provenance.tracing import SYSTEM, TRACE_HOOK, TRACE_HOOK_BY_PATH, TRACE_VARIABLE
from runner.record import RunRecorder
from runner.source.run_folder import RunFolder

_READ_BY_HOOK = (".py", ".ipynb", ".sh", ".R")
"""Ends of the names of scripts, which their own interpreter reads."""
_WORD = r"'[^']*'|\"[^\"]*\"|[^\s'\";|&<>()]+"


class Watched(Struct):
    """The files that were seen to be opened while the command ran, by any process."""

    provided: dict[str, bool]
    """Files outside the tree, relative to the project folder, and whether they were seen or could not be watched."""
    named: frozenset[Path]
    """Files that the command or a parameter names."""
    is_limited: bool = False
    """Whether there were files that could not be watched."""


def is_observed(recorder: RunRecorder) -> bool:
    """Return whether the inputs of a run are observed: unless the user does not want that."""
    return recorder.plan.request.trace is not False


def with_trace_hook(recorder: RunRecorder, environment: Prepared) -> Prepared:
    """Return an environment whose Pythons load the trace hook."""
    if not is_observed(recorder):
        return environment
    if environment.prefix is not None:
        return environment.importing(TRACE_HOOK)
    if environment.container is None:
        return environment.importing(TRACE_HOOK_BY_PATH)
    copy = recorder.folder / TRACE_HOOK.name
    for source in TRACE_HOOK.rglob("*.py"):
        target = copy / source.relative_to(TRACE_HOOK)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    return environment.importing(copy / TRACE_HOOK_BY_PATH.name)


def trace_variables(recorder: RunRecorder) -> Mapping[str, str]:
    """Return the variables that switch the hook on."""
    return {TRACE_VARIABLE: str(trace_file(recorder))} if is_observed(recorder) else {}


def trace_file(recorder: RunRecorder) -> Path:
    """Return the file to which the hook writes."""
    return recorder.folder / "opened.txt"


def tracer_file(recorder: RunRecorder) -> Path | None:
    """Return the file to which the tracer writes, None if the kernel does not report opened files."""
    return recorder.folder / "traced.txt" if recorder.plan.request.trace else None


@contextmanager
def watch_opened_files(recorder: RunRecorder, folder: RunFolder, command: str) -> Iterator[Watched]:
    """Watch the files outside the tree, and those that the command names; the result is filled after the block."""
    provided = tuple(path for path, _ in folder.provided)
    named = frozenset(_named_files(recorder, folder, command)) if is_observed(recorder) else frozenset[Path]()
    watch = Watch((*provided, *sorted(named.difference(provided))))
    watched = Watched({}, frozenset())
    try:
        yield watched
    finally:
        opened, unseen = watch.stop(), frozenset(watch.unseen)
        known = frozenset(provided)
        watched.provided = {
            os.path.relpath(path, folder.project): path not in unseen for path in opened if path in known
        }
        watched.named = frozenset(path for path in opened if path in named and path not in unseen)
        watched.is_limited = bool(unseen)


def _named_files(recorder: RunRecorder, folder: RunFolder, command: str) -> Iterator[Path]:
    """Yield the files that the command names, and the declared inputs outside the repository."""
    words = re.findall(_WORD, command)
    values = [part for word in words for part in (word.strip("'\""), word.partition("=")[2]) if part]
    for text in (*values, *recorder.plan.entry_point.inputs, *(one.value for one in recorder.plan.parameters)):
        if "\0" in text or len(text) > 4096 or text.endswith(_READ_BY_HOOK):  # noqa: PLR2004  PATH_MAX
            continue
        path = Path(os.path.normpath(folder.project / text))
        with suppress(OSError):
            if path.is_file() and not str(path).startswith(SYSTEM):
                yield path


def is_plain_python(command: str) -> bool:
    """Return whether a command starts one Python and nothing else."""
    return re.match(r"\s*(?:exec\s+)?python[\d.]*(?:\s|$)", command) is not None and not re.search(
        r"[;&|<>`$()\n]", command
    )
