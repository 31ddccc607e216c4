"""Fallback resolution for specs without a solution: relaxes pins, tries other interpreters, reduces exports.

The result is stored beside the lock of the request, so that it is decided only once.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from runner.base.checksummed_files import DamagedFileError, read_checksummed, write_checksummed
from runner.base.package_names import canonical_name
from runner.environments.declare.requirement_line import parse_line
from runner.environments.model import Interpreter, Lock, PythonRequest
from runner.environments.repair.import_names import provides
from runner.environments.repair.repairs import both_ways_out, names_of
from runner.environments.repair.wheels import better_interpreters
from runner.environments.resolve.locking import find_lock, note_path, resolve
from runner.environments.resolve.metadata_overrides import completed_in
from runner.environments.resolve.uv_command import UNREACHABLE
from runner.environments.specs import PythonSpec, is_changeable
from runner.errors import EnvironmentSetupError
from runner.model import EnvironmentKind, Event, EventKind, Report

ABSENT = re.compile(r"there (?:is no version|are no versions) of (?P<name>[\w.-]+)(?:\[[^]]*\])?(?P<rule>==[\w.*+!-]+)")
LATER = re.compile(r"requested version, v(?P<version>\S+), was published at (?P<day>[\dT:.-]+)Z")
UNKNOWN = re.compile(r"[Bb]ecause (?P<name>[\w.-]+)(?:\[[^]]*\])? was not found in the package registry")
OTHER_PYTHON = re.compile(
    r"does not satisfy Python|matching Python (?:ABI|version|implementation)|requires Python|Requires-Python"
    r"|Failed to build|no wheels|has no usable wheels"
)
REFUSED = re.compile(r"\(401 Unauthorized\)|HTTP status server error|429 Too Many Requests")
"""An index that did not answer; uv then reports its packages as absent. Some indexes answer 403 for absent packages."""
FULL_EXPORT = 60
"""A conda file with at least this many pins is an export of an installed environment."""

MAX_ATTEMPTS = 40
MARGIN = timedelta(days=1)


class RepairNote(Struct, frozen=True, kw_only=True):
    """The changed parts of a request that could be resolved. ``python`` is the version of the interpreter."""

    requirements: tuple[str, ...]
    constraints: tuple[str, ...]
    as_of: datetime | None
    python: str
    repairs: tuple[str, ...]
    wanted: tuple[str, ...] = ()
    """The imports of the code, if the result depends on them."""


class _Attempt(Struct, frozen=True, kw_only=True):
    """A changed request with the repairs so far."""

    request: PythonRequest
    repairs: tuple[str, ...] = ()


def lock_with_repairs(
    request: PythonRequest, interpreter: Interpreter, others: Sequence[Interpreter], report: Report
) -> Lock:
    """Return the lock of a request, repaired if it can't be resolved as declared and repairs are allowed.

    Raises:
        EnvironmentSetupError: the spec can't be resolved even with repairs; the message has the first reason.
    """
    _report_damage(note_path(request, interpreter), report)
    found = read_repaired_lock(request, interpreter, others) or find_lock(request, interpreter)
    if found:
        return found
    if not _may_replace(request):
        return _resolve_as_declared(request, interpreter, report)
    return _resolve_with_fallbacks(request, interpreter, others, note_path(request, interpreter), report)


def _may_replace(request: PythonRequest) -> bool:
    return request.repair and request.may_replace and is_changeable(request.spec)


def _resolve_as_declared(request: PythonRequest, interpreter: Interpreter, report: Report) -> Lock:
    """Resolve without repairs; an error that a repair may prevent says how to get it.

    Raises:
        EnvironmentSetupError: the spec can't be resolved as declared.
    """
    try:
        return resolve(request, interpreter, report)
    except EnvironmentSetupError as error:
        is_refused = request.repair and not request.may_replace and is_changeable(request.spec)
        if is_refused and any(pattern.search(error.message) for pattern in (ABSENT, UNKNOWN, OTHER_PYTHON)):
            error.hint = both_ways_out(request.spec)
        raise


def switch_interpreter(
    request: PythonRequest, interpreter: Interpreter, lock: Lock, others: Sequence[Interpreter], report: Report
) -> PythonRequest | None:
    """Return a request with an interpreter that has wheels for packages that can't be built, or None.

    ``interpreter`` is the chosen one, ``lock`` the one that can't be built. The last repair of the spec explains the
    change. The result is also stored for later runs of the project.
    """
    is_anew = request.refresh and request.as_of is None
    if is_anew or not _may_replace(request):
        return None
    found = _with_wheels(_Attempt(request=request), lock, others, report)
    if found is None:
        return None
    moved, attempt = found
    message = f"Python {moved.interpreter.name} is used: what is pinned has wheels for it, and can't be built for"
    repairs = (*attempt.repairs, *completed_in(moved.text), f"{message} {interpreter.name}")
    _write_note(note_path(request, interpreter), attempt.request, moved, repairs, ())
    spec = structs.replace(attempt.request.spec, repairs=(*request.spec.repairs, *repairs))
    return structs.replace(attempt.request, spec=spec, interpreter=moved.interpreter)


def read_repaired_lock(request: PythonRequest, interpreter: Interpreter, others: Sequence[Interpreter]) -> Lock | None:
    """Return the stored lock of a repaired request, or None if the request was not repaired."""
    if not _may_replace(request) or (request.refresh and request.as_of is None):
        return None
    known = _read_note(note_path(request, interpreter))
    chosen = next((item for item in others if known and item.version == known.python), None)
    if not (known and chosen and known.wanted in ((), request.wanted)):
        return None
    again = find_lock(_with_note(request, known), chosen)
    return structs.replace(again, repairs=known.repairs) if again else None


def _resolve_with_fallbacks(
    request: PythonRequest, interpreter: Interpreter, others: Sequence[Interpreter], note: Path, report: Report
) -> Lock:
    attempt = _Attempt(request=request)
    lock, attempt, error = _resolve(attempt, interpreter, report)
    repairs = attempt.repairs
    if lock is None and OTHER_PYTHON.search(error.message if error else ""):
        for other in _nearest(interpreter, others):
            lock, attempt, _ = _resolve(_Attempt(request=request), other, report)
            if lock:
                repairs = (
                    *attempt.repairs,
                    f"Python {other.name} is used: what is pinned is not for {interpreter.name}",
                )
                break
    elif lock is not None and request.spec.python is None:
        moved = _with_wheels(attempt, lock, others, report)
        if moved:
            lock, attempt = moved
            message = f"Python {lock.interpreter.name} is used: what is pinned has wheels for it, not for"
            repairs = (*attempt.repairs, f"{message} {interpreter.name}")
    if lock is None:
        raise error or EnvironmentSetupError("no set of packages satisfies the requirements of the project")
    repairs = (*repairs, *(text for text in completed_in(lock.text) if text not in request.spec.repairs))
    if repairs:
        wanted = request.wanted if _is_export(request.spec) else ()
        _write_note(note, attempt.request, lock, repairs, wanted)
    return structs.replace(lock, repairs=repairs)


def _resolve(
    attempt: _Attempt, interpreter: Interpreter, report: Report
) -> tuple[Lock | None, _Attempt, EnvironmentSetupError | None]:
    """Resolve, and relax constraints until there is a solution or nothing is left; the error is the first one."""
    first: EnvironmentSetupError | None = None
    for _ in range(MAX_ATTEMPTS):
        found = find_lock(attempt.request, interpreter) if attempt.repairs else None
        if found:
            return found, attempt, None
        try:
            return (
                resolve(attempt.request, interpreter, report if not attempt.repairs else _warnings_only(report)),
                attempt,
                None,
            )
        except EnvironmentSetupError as error:
            first = first or error
            after = _relax(attempt, error.message)
            if after is None:
                return None, attempt, error if OTHER_PYTHON.search(error.message) else first
            report(Event(kind=EventKind.STEP, message="Resolving again: " + "".join(after.repairs[-1:])))
            attempt = after
    return None, attempt, first


def _warnings_only(report: Report) -> Report:
    def report_warning(event: Event) -> None:
        if event.kind is EventKind.WARNING:
            report(event)

    return report_warning


def _relax(attempt: _Attempt, error: str) -> _Attempt | None:
    """Return the next attempt for an error of uv, or None if nothing is left to try."""
    spec = attempt.request.spec
    if UNREACHABLE.search(error) or REFUSED.search(error):
        return None  # nothing declared is at fault
    if _is_export(spec) and attempt.request.wanted:
        return _reduced(attempt)
    absent, later = ABSENT.search(error), LATER.search(error)
    if absent and later and absent["rule"] == f"=={later['version']}" and attempt.request.as_of:
        day = datetime.fromisoformat(f"{later['day'][:19]}+00:00") + MARGIN
        message = f"packages are considered until {day:%Y-%m-%d}: '{absent['name']}{absent['rule']}' was published then"
        return _Attempt(request=structs.replace(attempt.request, as_of=day), repairs=(*attempt.repairs, message))
    if absent:
        return _relaxed(attempt, absent["name"], absent["rule"])
    unknown = UNKNOWN.search(error)
    if unknown and spec.kind is EnvironmentKind.CONDA_ENV and not _is_wanted(unknown["name"], attempt.request):
        message = f"'{unknown['name']}' is left out: the Python index has no such package, and no code imports it"
        return _replaced(attempt, unknown["name"], None, message)
    return None


def _is_export(spec: PythonSpec) -> bool:
    pinned = sum("==" in line for line in spec.requirements)
    return spec.kind is EnvironmentKind.CONDA_ENV and pinned >= FULL_EXPORT


def _reduced(attempt: _Attempt) -> _Attempt | None:
    """Reduce an export to the packages that the code imports; all others become constraints."""
    spec = attempt.request.spec
    kept = [
        line
        for line in spec.requirements
        if (requirement := parse_line(line)) and _is_wanted(requirement.name, attempt.request)
    ]
    bounds = [line for line in spec.requirements if line not in kept and parse_line(line) and "[" not in line]
    if not kept:
        return None
    message = f"of the {len(spec.requirements)} packages in {spec.file}, only those that the code needs are installed"
    spec = structs.replace(spec, requirements=tuple(kept), constraints=(*spec.constraints, *bounds))
    return _Attempt(request=structs.replace(attempt.request, spec=spec), repairs=(*attempt.repairs, message))


def _is_wanted(package: str, request: PythonRequest) -> bool:
    return any(provides(package, module.partition(".")[0]) for module in request.wanted)


def _relaxed(attempt: _Attempt, name: str, rule: str) -> _Attempt | None:
    """Widen a pin: to the same minor release, then to the same major release, then to any version."""
    version = rule.removeprefix("==").removesuffix(".*")
    parts = re.match(r"\d+(?:\.\d+)*", version)
    numbers = parts[0].split(".") if parts else []
    wider = [f"=={'.'.join(numbers[:length])}.*" for length in (2, 1) if len(numbers) >= length]
    wider = [one for one in wider if len(one) < len(f"=={version}.*") or not rule.endswith(".*")]
    wider = [one for one in wider if one != rule]
    rest = wider[0] if wider else ""
    message = f"'{name}{rule}' is not on the index{_as_of(attempt.request)}: '{name}{rest}' is used"
    return _replaced(attempt, name, rest, message)


def _as_of(request: PythonRequest) -> str:
    return f" as of {request.as_of:%Y-%m-%d}" if request.as_of else ""


def _replaced(attempt: _Attempt, name: str, rule: str | None, message: str) -> _Attempt | None:
    """Replace the version rule of a package in the whole spec; None removes the package."""
    spec = attempt.request.spec

    def change(lines: tuple[str, ...]) -> Iterator[str]:
        for line in lines:
            requirement = parse_line(line)
            if requirement is None or canonical_name(requirement.name) != canonical_name(name):
                yield line
            elif rule is not None:
                marker = requirement.rest.partition(";")[2]
                yield f"{requirement.name}{requirement.extras}{rule}" + (f" ;{marker}" if marker else "")

    changed = structs.replace(
        spec,
        requirements=tuple(change(spec.requirements)),
        build_requirements=tuple(change(spec.build_requirements)),
        constraints=tuple(change(spec.constraints)),
    )
    if changed == spec:
        return None
    is_bound = canonical_name(name) not in names_of(spec)  # the user did not declare it
    repairs = attempt.repairs if is_bound else (*(one for one in attempt.repairs if not _is_of(one, name)), message)
    return _Attempt(request=structs.replace(attempt.request, spec=changed), repairs=repairs)


def _is_of(repair: str, name: str) -> bool:
    return repair.startswith(f"'{name}=") and "is not on the index" in repair


def _nearest(interpreter: Interpreter, others: Sequence[Interpreter]) -> list[Interpreter]:
    """Return one interpreter of each other release line, the nearest line first, later before earlier."""
    lines: dict[tuple[int, ...], Interpreter] = {}
    for item in sorted(others, key=lambda item: item.numbers, reverse=True):
        if item.implementation == interpreter.implementation and item.line != interpreter.line:
            lines.setdefault(item.line, item)

    def distance(item: Interpreter) -> tuple[int, bool]:
        return abs(item.line[1] - interpreter.line[1]), item.line < interpreter.line

    return sorted(lines.values(), key=distance)


def _with_wheels(
    attempt: _Attempt, lock: Lock, others: Sequence[Interpreter], report: Report
) -> tuple[Lock, _Attempt] | None:
    """Return a lock for the nearest interpreter that has to build less, and its attempt, or None if there is none."""
    near = _nearest(lock.interpreter, others)
    for other in better_interpreters(attempt.request, lock, near):
        moved, changed, _ = _resolve(attempt, other, report)
        if moved:
            return moved, changed
    return None


def _with_note(request: PythonRequest, known: RepairNote) -> PythonRequest:
    spec = structs.replace(request.spec, requirements=known.requirements, constraints=known.constraints)
    return structs.replace(request, spec=spec, as_of=known.as_of)


def _read_note(note: Path) -> RepairNote | None:
    try:
        return msgspec.json.decode(read_checksummed(note), type=RepairNote)
    except (FileNotFoundError, DamagedFileError, msgspec.DecodeError):
        return None


def _report_damage(note: Path, report: Report) -> None:
    try:
        read_checksummed(note)
    except FileNotFoundError:
        return
    except DamagedFileError as damage:
        message = f"The note {note.name} about the repaired environment is damaged: {damage.problem}"
        report(Event(kind=EventKind.WARNING, message=f"{message}. The repair is decided again"))
        note.unlink(missing_ok=True)


def _write_note(
    note: Path, request: PythonRequest, lock: Lock, repairs: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    recovery = RepairNote(
        requirements=request.spec.requirements,
        constraints=request.spec.constraints,
        as_of=request.as_of,
        python=lock.interpreter.version,
        repairs=repairs,
        wanted=wanted,
    )
    write_checksummed(note, msgspec.json.encode(recovery), durable=True)
