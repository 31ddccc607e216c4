"""Resolves what can't be had as declared: pins that are not there, another interpreter, the part of an export in use.

What was decided is kept beside the lock of the request, so that it is decided once.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from runner.base.checksummed_files import DamagedFileError, read_checksummed, write_checksummed
from runner.environments.declare.requirement_line import parse_line
from runner.environments.interpreters.interpreters import Interpreter
from runner.environments.model import EnvironmentRequest, EnvironmentSpec, Lock
from runner.environments.repair.import_names import normalise, provides
from runner.environments.repair.metadata_overrides import completed_in
from runner.environments.repair.repairs import is_changeable, names_of
from runner.environments.repair.wheels import better_interpreters
from runner.environments.resolve.locking import find_lock, note_path, resolve
from runner.errors import EnvironmentSetupError
from runner.model import EnvironmentKind, Event, EventKind, Report

ABSENT = re.compile(r"there (?:is no version|are no versions) of (?P<name>[\w.-]+)(?:\[[^]]*\])?(?P<rule>==[\w.*+!-]+)")
LATER = re.compile(r"requested version, v(?P<version>\S+), was published at (?P<day>[\dT:.-]+)Z")
UNKNOWN = re.compile(r"[Bb]ecause (?P<name>[\w.-]+)(?:\[[^]]*\])? was not found in the package registry")
OTHER_PYTHON = re.compile(
    r"does not satisfy Python|matching Python (?:ABI|version|implementation)|requires Python|Requires-Python"
    r"|Failed to build|no wheels|has no usable wheels"
)
FULL_EXPORT = 60
"""A conda file with more packages than this is what was installed, not what was asked for."""

MAX_TURNS = 40
MARGIN = timedelta(days=1)


class Recovery(Struct, frozen=True, kw_only=True):
    """What a request became so that it could be resolved. ``python`` is the version of the interpreter."""

    requirements: tuple[str, ...]
    constraints: tuple[str, ...]
    as_of: datetime | None
    python: str
    repairs: tuple[str, ...]
    wanted: tuple[str, ...] = ()
    """What the code imported, where that decided."""


class _Attempt(Struct, frozen=True, kw_only=True):
    """A request as it stands now, with what was done to it."""

    request: EnvironmentRequest
    repairs: tuple[str, ...] = ()


def lock_with_repairs(
    request: EnvironmentRequest, interpreter: Interpreter, others: Sequence[Interpreter], report: Report
) -> Lock:
    """Return the lock of a request, repaired where it can't be had as declared and that is allowed.

    Raises:
        EnvironmentSetupError: nothing satisfies the spec even so; what is told is the first reason.
    """
    _report_damage(note_path(request, interpreter), report)
    found = recalled_lock(request, interpreter, others) or find_lock(request, interpreter)
    if not (request.repair and is_changeable(request.spec)):
        return found or resolve(request, interpreter, report)
    return found or _recover(request, interpreter, others, note_path(request, interpreter), report)


def move_interpreter(
    request: EnvironmentRequest, interpreter: Interpreter, lock: Lock, others: Sequence[Interpreter], report: Report
) -> str | None:
    """Decide once for an interpreter that has wheels for what can't be built; return that in words, None without one.

    ``interpreter`` is the one that was chosen, ``lock`` what can't be built; the next `lock_with_repairs` knows.
    """
    is_anew = request.refresh and request.as_of is None
    if is_anew or not (request.repair and is_changeable(request.spec)) or lock.interpreter != interpreter:
        return None
    moved = _with_wheels(_Attempt(request=request), lock, others, report)
    if moved is None:
        return None
    told = f"Python {moved.interpreter.name} is used: what is pinned has wheels for it, and can't be built for"
    repairs = (*dict.fromkeys((*lock.repairs, *completed_in(moved.text))), f"{told} {interpreter.name}")
    _remember(note_path(request, interpreter), request, moved, repairs, ())
    return repairs[-1]


def recalled_lock(request: EnvironmentRequest, interpreter: Interpreter, others: Sequence[Interpreter]) -> Lock | None:
    """Return the lock of what a request became when it was first resolved, None where it stayed as it was."""
    if not (request.repair and is_changeable(request.spec)) or (request.refresh and request.as_of is None):
        return None
    known = _recall(note_path(request, interpreter))
    chosen = next((item for item in others if known and item.version == known.python), None)
    if not (known and chosen and known.wanted in ((), request.wanted)):
        return None
    again = find_lock(_changed(request, known), chosen)
    return structs.replace(again, repairs=known.repairs) if again else None


def _recover(
    request: EnvironmentRequest, interpreter: Interpreter, others: Sequence[Interpreter], note: Path, report: Report
) -> Lock:
    turn = _Attempt(request=request)
    lock, turn, error = _resolve(turn, interpreter, report)
    repairs = turn.repairs
    if lock is None and OTHER_PYTHON.search(error.message if error else ""):
        for other in _nearest(interpreter, others):
            lock, turn, _ = _resolve(_Attempt(request=request), other, report)
            if lock:
                repairs = (*turn.repairs, f"Python {other.name} is used: what is pinned is not for {interpreter.name}")
                break
    elif lock is not None and request.spec.python is None:
        moved = _with_wheels(turn, lock, others, report)
        if moved:
            told = f"Python {moved.interpreter.name} is used: what is pinned has wheels for it, not for"
            lock, repairs = moved, (*repairs, f"{told} {interpreter.name}")
    if lock is None:
        raise error or EnvironmentSetupError("nothing satisfies what the project asks for")
    repairs = (*repairs, *completed_in(lock.text))
    if repairs:
        wanted = request.wanted if _is_export(request.spec) else ()
        _remember(note, turn.request, lock, repairs, wanted)
    return structs.replace(lock, repairs=repairs)


def _resolve(
    turn: _Attempt, interpreter: Interpreter, report: Report
) -> tuple[Lock | None, _Attempt, EnvironmentSetupError | None]:
    """Resolve, and mend pins as long as that leads somewhere; without a lock the error is the first one."""
    first: EnvironmentSetupError | None = None
    for _ in range(MAX_TURNS):
        found = find_lock(turn.request, interpreter) if turn.repairs else None
        if found:
            return found, turn, None
        try:
            return resolve(turn.request, interpreter, report if not turn.repairs else _warnings_of(report)), turn, None
        except EnvironmentSetupError as error:
            first = first or error
            after = _relax(turn, error.message)
            if after is None:
                return None, turn, error if OTHER_PYTHON.search(error.message) else first
            report(Event(kind=EventKind.STEP, message="Resolving again: " + "".join(after.repairs[-1:])))
            turn = after
    return None, turn, first


def _warnings_of(report: Report) -> Report:
    def tell(event: Event) -> None:
        if event.kind is EventKind.WARNING:
            report(event)

    return tell


def _relax(turn: _Attempt, complaint: str) -> _Attempt | None:
    """Return the next thing to try, None where nothing is left."""
    spec = turn.request.spec
    if _is_export(spec) and turn.request.wanted:
        return _reduced(turn)
    absent, later = ABSENT.search(complaint), LATER.search(complaint)
    if absent and later and absent["rule"] == f"=={later['version']}" and turn.request.as_of:
        day = datetime.fromisoformat(f"{later['day'][:19]}+00:00") + MARGIN
        told = f"packages are considered until {day:%Y-%m-%d}: '{absent['name']}{absent['rule']}' is of that time"
        return _Attempt(request=structs.replace(turn.request, as_of=day), repairs=(*turn.repairs, told))
    if absent:
        return _relaxed(turn, absent["name"], absent["rule"])
    unknown = UNKNOWN.search(complaint)
    if unknown and spec.kind is EnvironmentKind.CONDA_ENV and not _is_wanted(unknown["name"], turn.request):
        told = f"'{unknown['name']}' is left out: the Python index has no such package, and no code imports it"
        return _replaced(turn, unknown["name"], None, told)
    return None


def _is_export(spec: EnvironmentSpec) -> bool:
    pinned = sum("==" in line for line in spec.requirements)
    return spec.kind is EnvironmentKind.CONDA_ENV and pinned >= FULL_EXPORT


def _reduced(turn: _Attempt) -> _Attempt | None:
    """Keep of an export what the code imports; the rest only bounds what that needs in turn."""
    spec = turn.request.spec
    kept = [line for line in spec.requirements if (asked := parse_line(line)) and _is_wanted(asked.name, turn.request)]
    bounds = [line for line in spec.requirements if line not in kept and parse_line(line) and "[" not in line]
    if not kept:
        return None
    told = f"of the {len(spec.requirements)} packages of {spec.file} those are installed that the code needs"
    spec = structs.replace(spec, requirements=tuple(kept), constraints=(*spec.constraints, *bounds))
    return _Attempt(request=structs.replace(turn.request, spec=spec), repairs=(*turn.repairs, told))


def _is_wanted(package: str, request: EnvironmentRequest) -> bool:
    return any(provides(package, module.partition(".")[0]) for module in request.wanted)


def _relaxed(turn: _Attempt, name: str, rule: str) -> _Attempt | None:
    """Take the nearest versions that there may be: of the same minor release, then of the major one, then any."""
    version = rule.removeprefix("==").removesuffix(".*")
    parts = re.match(r"\d+(?:\.\d+)*", version)
    numbers = parts[0].split(".") if parts else []
    wider = [f"=={'.'.join(numbers[:length])}.*" for length in (2, 1) if len(numbers) >= length]
    wider = [one for one in wider if len(one) < len(f"=={version}.*") or not rule.endswith(".*")]
    wider = [one for one in wider if one != rule]
    rest = wider[0] if wider else ""
    told = f"'{name}{rule}' is not on the index{_when(turn.request)}: '{name}{rest}' is taken"
    return _replaced(turn, name, rest, told)


def _when(request: EnvironmentRequest) -> str:
    return f" as of {request.as_of:%Y-%m-%d}" if request.as_of else ""


def _replaced(turn: _Attempt, name: str, rule: str | None, told: str) -> _Attempt | None:
    """Give a package another rule wherever the spec has one; None takes it out."""
    spec = turn.request.spec

    def change(lines: tuple[str, ...]) -> Iterator[str]:
        for line in lines:
            asked = parse_line(line)
            if asked is None or normalise(asked.name) != normalise(name):
                yield line
            elif rule is not None:
                marker = asked.rest.partition(";")[2]
                yield f"{asked.name}{asked.extras}{rule}" + (f" ;{marker}" if marker else "")

    changed = structs.replace(
        spec,
        requirements=tuple(change(spec.requirements)),
        build_requirements=tuple(change(spec.build_requirements)),
        constraints=tuple(change(spec.constraints)),
    )
    if changed == spec:
        return None
    is_bound = normalise(name) not in names_of(spec)  # of what is not asked for nobody needs to know
    repairs = turn.repairs if is_bound else (*(one for one in turn.repairs if not _is_of(one, name)), told)
    return _Attempt(request=structs.replace(turn.request, spec=changed), repairs=repairs)


def _is_of(repair: str, name: str) -> bool:
    return repair.startswith(f"'{name}=") and "is not on the index" in repair


def _nearest(interpreter: Interpreter, others: Sequence[Interpreter]) -> list[Interpreter]:
    """Return one interpreter of each other line, the nearest line first, newer before older."""
    lines: dict[tuple[int, ...], Interpreter] = {}
    for item in sorted(others, key=lambda item: item.numbers, reverse=True):
        if item.implementation == interpreter.implementation and item.line != interpreter.line:
            lines.setdefault(item.line, item)

    def distance(item: Interpreter) -> tuple[int, bool]:
        return abs(item.line[1] - interpreter.line[1]), item.line < interpreter.line

    return sorted(lines.values(), key=distance)


def _with_wheels(turn: _Attempt, lock: Lock, others: Sequence[Interpreter], report: Report) -> Lock | None:
    """Return a lock for the nearest interpreter that need not build so much, None where the chosen one will do."""
    near = _nearest(lock.interpreter, others)
    for other in better_interpreters(turn.request, lock, near):
        moved, _, _ = _resolve(turn, other, report)
        if moved:
            return moved
    return None


def _changed(request: EnvironmentRequest, known: Recovery) -> EnvironmentRequest:
    spec = structs.replace(request.spec, requirements=known.requirements, constraints=known.constraints)
    return structs.replace(request, spec=spec, as_of=known.as_of)


def _recall(note: Path) -> Recovery | None:
    try:
        return msgspec.json.decode(read_checksummed(note), type=Recovery)
    except (FileNotFoundError, DamagedFileError, msgspec.DecodeError):
        return None


def _report_damage(note: Path, report: Report) -> None:
    try:
        read_checksummed(note)
    except FileNotFoundError:
        return
    except DamagedFileError as damage:
        told = f"The note {note.name} of how the environment was repaired is damaged: {damage.problem}"
        report(Event(kind=EventKind.WARNING, message=f"{told}. It is decided again"))
        note.unlink(missing_ok=True)


def _remember(
    note: Path, request: EnvironmentRequest, lock: Lock, repairs: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    recovery = Recovery(
        requirements=request.spec.requirements,
        constraints=request.spec.constraints,
        as_of=request.as_of,
        python=lock.interpreter.version,
        repairs=repairs,
        wanted=wanted,
    )
    write_checksummed(note, msgspec.json.encode(recovery), durable=True)
