"""Lists the recorded differences between two runs that can change results, each as small as it can be swapped."""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from runner.base.package_names import canonical_name
from runner.explanation.locks import packages_in
from runner.explanation.trees import TreeChange, changes_between
from runner.manifest import recorded_arguments
from runner.model import RunRecord
from runner.reproduction.causes import CauseKind
from runner.reproduction.inputs import within_project
from runner.settings import Home

_ENVIRONMENT_FILE = re.compile(
    r"(?i)(?:^|/)(?:[^/]*requirements[^/]*\.(?:txt|in)|[^/]*\.lock|[^/]*lock\.(?:toml|yml|yaml|json)|pyproject\.toml|setup\.(?:py|cfg)"
    r"|(?:python_env|conda|environment)\.ya?ml|\.python-version)$"
)
ENTRY_POINT = "entry point"
THREADS = "_NUM_THREADS"
_SHORT = 12
_LOGGED = "logged"
_MACHINE = ("host", "platform", "processor", "memory", "gpus")


class Difference(Struct, frozen=True, kw_only=True):
    """One recorded difference. ``original`` and ``other`` are its values, None where a run lacks it.

    ``fixed`` is the reason why no run can be made without it on this machine; None if it can be swapped.
    """

    kind: CauseKind
    name: str
    original: str | None = None
    other: str | None = None
    fixed: str | None = None
    changes: tuple[TreeChange, ...] = ()
    """The changed files of the code that belong together."""


class Side(Struct, frozen=True, kw_only=True):
    """A run that is compared: its record, its lock if that can be installed again, its inputs and parameters."""

    record: RunRecord
    lock: str | None
    inputs: Mapping[str, str]
    """The SHA-256 of the inputs that are not in its tree, by name."""
    parameters: Mapping[str, str]

    @property
    def variables(self) -> Mapping[str, str]:
        """The recorded variables that affect results."""
        return self.record.machine.variables if self.record.machine else {}


def parameters_of(record: RunRecord, origin: Path | None) -> dict[str, str]:
    """Return the parameters of a run that reached its command; files of the project are relative to it."""
    return {
        one.name: within_project(one.value, origin) if one.type == "path" else one.text
        for one in record.parameters
        if one.source != _LOGGED
    }


def differences_between(original: Side, other: Side, files: Mapping[str, Path], home: Home) -> tuple[Difference, ...]:
    """Return all recorded differences; ``files`` are the available files by their SHA-256.

    Raises:
        SnapshotError: the code of a run can't be read.
    """
    return (
        *_code(original, other, home),
        *_packages(original, other),
        *_interpreter(original.record, other.record),
        *_parameters(original, other),
        *_inputs(original.inputs, other.inputs, files),
        *_variables(original, other),
        *_machine(original.record, other.record),
    )


def _code(original: Side, other: Side, home: Home) -> Iterator[Difference]:
    first, second = original.record.code, other.record.code
    if first is None or second is None:
        return
    if first.subdirectory != second.subdirectory:
        reason = "the runs are of different folders"
        yield Difference(
            kind=CauseKind.CODE,
            name="project folder",
            original=first.subdirectory or ".",
            other=second.subdirectory or ".",
            fixed=reason,
        )
        return
    if first.tree == second.tree:
        return
    start = f"{first.subdirectory}/" if first.subdirectory else ""
    declared = {f"{start}{one.path}" for record in (original.record, other.record) for one in record.inputs}
    changes = changes_between(first.tree, second.tree, home)
    for change in changes:
        if not _ENVIRONMENT_FILE.search(change.path):
            kind = CauseKind.INPUT if change.path in declared else CauseKind.CODE
            before, after = (identity and identity[:_SHORT] for identity in (change.before, change.after))
            yield Difference(kind=kind, name=change.path, original=before, other=after, changes=(change,))
    # A lock is refused without its declaration, so these files are swapped together; packages are swapped one by one.
    files = tuple(change for change in changes if _ENVIRONMENT_FILE.search(change.path))
    if files:
        yield Difference(kind=CauseKind.CODE, name=", ".join(change.path for change in files), changes=files)


def _packages(original: Side, other: Side) -> Iterator[Difference]:
    if original.lock is not None and other.lock is not None:
        first, second = packages_in(original.lock), packages_in(other.lock)
        for name in sorted({*first, *second}):
            before, after = first.get(name), second.get(name)
            if (before and before.text) != (after and after.text):
                yield Difference(
                    kind=CauseKind.PACKAGE,
                    name=name,
                    original=before.version if before else None,
                    other=after.version if after else None,
                )
        return
    reason = "the environment of a run has no lock that can be installed again"
    installed = [
        {canonical_name(name): version for name, version in side.record.environment.packages}
        if side.record.environment
        else {}
        for side in (original, other)
    ]
    yield from _values(CauseKind.PACKAGE, installed[0], installed[1], fixed=reason)


def _interpreter(original: RunRecord, other: RunRecord) -> Iterator[Difference]:
    first, second = original.environment, other.environment
    if first is None or second is None:
        return
    can_swap = original.environment is not None and first.manager == second.manager and first.manager != "local"
    if first.python != second.python:
        fixed = None if can_swap else "the interpreter is not chosen by proj"
        yield Difference(
            kind=CauseKind.INTERPRETER, name="python", original=first.python, other=second.python, fixed=fixed
        )
    if first.manager != second.manager:
        reason = "environments of two managers are not mixed"
        yield Difference(
            kind=CauseKind.INTERPRETER,
            name="environment manager",
            original=first.manager,
            other=second.manager,
            fixed=reason,
        )


def _parameters(original: Side, other: Side) -> Iterator[Difference]:
    """Yield the parameters; those of only one run belong to its entry point if the other run has another one."""
    entry_points = tuple(_entry_point(original.record, other.record))
    yield from entry_points
    for one in _values(CauseKind.PARAMETER, original.parameters, other.parameters):
        if not (entry_points and None in (one.original, one.other)):
            yield one


def _entry_point(original: RunRecord, other: RunRecord) -> Iterator[Difference]:
    """Yield the difference between two entry points; that of a run of a command of the user's own is the command."""
    started = []
    for one in (original, other):
        arguments = recorded_arguments(one.entry_point, one.template)
        text = one.entry_point if arguments is None else shlex.join(arguments)
        started.append({ENTRY_POINT: text} if text else {})
    yield from _values(CauseKind.PARAMETER, started[0], started[1])


def _inputs(original: Mapping[str, str], other: Mapping[str, str], files: Mapping[str, Path]) -> Iterator[Difference]:
    for one in _values(CauseKind.INPUT, original, other):
        absent = [digest for digest in (one.original, one.other) if digest is not None and digest not in files]
        reason = f"its content with SHA-256 {absent[0][:12]} is not on this machine" if absent else None
        if reason is None and one.name.startswith("/"):
            reason = "the command opens it by its absolute path"
        yield Difference(kind=one.kind, name=one.name, original=one.original, other=one.other, fixed=reason)


def _variables(original: Side, other: Side) -> Iterator[Difference]:
    for one in _values(CauseKind.VARIABLE, original.variables, other.variables):
        kind = CauseKind.THREADS if one.name.endswith(THREADS) else CauseKind.VARIABLE
        yield Difference(kind=kind, name=one.name, original=one.original, other=one.other)


def _machine(original: RunRecord, other: RunRecord) -> Iterator[Difference]:
    first, second = original.machine, other.machine
    if first is None or second is None:
        return
    reason = "another machine can't be tried on this one"
    # What an earlier version did not record is not known to differ.
    known = [name for name in _MACHINE if getattr(first, name) is not None and getattr(second, name) is not None]
    facts = [{name: _text(getattr(one, name)) for name in known} for one in (first, second)]
    yield from _values(CauseKind.MACHINE, facts[0], facts[1], fixed=reason)
    if first.cpu_count != second.cpu_count:
        yield Difference(
            kind=CauseKind.THREADS,
            name="processors",
            original=str(first.cpu_count),
            other=str(second.cpu_count),
            fixed=reason,
        )


def _text(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _values(
    kind: CauseKind, original: Mapping[str, str], other: Mapping[str, str], fixed: str | None = None
) -> Iterator[Difference]:
    for name in sorted({*original, *other}):
        before, after = original.get(name), other.get(name)
        if before != after:
            yield Difference(kind=kind, name=name, original=before, other=after, fixed=fixed)
