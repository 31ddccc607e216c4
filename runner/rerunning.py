"""Plans a recorded run again: with the same code, lock and inputs, and other parameters as given."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from posixpath import isabs, normpath, relpath

from msgspec import structs

from runner.base.files import DigestCache
from runner.base.masking import STARS
from runner.errors import InvalidValueError, UsageError
from runner.manifest import command_again
from runner.model import (
    EnvironmentRecord,
    Event,
    EventKind,
    FileRecord,
    ParameterRecord,
    Report,
    RunDetails,
    RunRequest,
    ValueSource,
)
from runner.plan import Plan, make_plan
from runner.recorded_environment import recorded_engine_options, with_recorded_lock
from runner.settings import Home
from runner.store.entities import Run

_SHOWN = 10
_DEFAULT = ValueSource.DEFAULT.value


def plan_rerun(run: Run, request: RunRequest, home: Home, report: Report, *, with_changed_inputs: bool) -> Plan:
    """Return the plan that runs a recorded run again; ``request`` has the parameters that are given anew.

    Raises:
        UsageError: proj did not start the run, or a secret of its parameters or command is missing.
        InvalidValueError: an input is missing or has changed, and ``with_changed_inputs`` is not set.
        ProjError: its code or lock is missing or damaged.
    """
    details = run.details
    if details.code is None or details.entry_point is None:
        raise UsageError(
            f"The run {run.run_id[:8]} was not started by `proj run`, so its code is not recorded",
            hint="Only runs of `proj run` can be run again.",
        )
    environment = details.environment
    entry_point, command = command_again(details.entry_point, details.template, request.command)
    plan = make_plan(
        structs.replace(
            request,
            uri=details.project or request.uri,
            reruns=run.run_id,
            entry_point=entry_point,
            command=command,
            parameters=_parameters(details, request.parameters),
            experiment_id=None if request.experiment_name else request.experiment_id or run.experiment_id,
            environment_manager=environment.manager if environment else None,
            as_of=environment.as_of if environment else None,
            container_options=recorded_engine_options(environment),
            # What was replaced in the first run is replaced again, also in a tree with changes.
            replace_declared=True,
        ),
        home,
        report,
    )
    changed = tuple(_changed_inputs(plan, details, request.parameters))
    if changed and not with_changed_inputs:
        raise InvalidValueError(
            f"The inputs of the run {run.run_id[:8]} are not the same any more",
            context=_listed(changed),
            hint="Bring them back, or run with what is there: --allow-changed-inputs",
        )
    for text in changed[:_SHOWN]:
        report(Event(kind=EventKind.WARNING, message=text))
    plan = with_recorded_lock(plan, run.run_id, environment)
    return structs.replace(plan, additions=(), notices=(*plan.notices, *changed[:_SHOWN]))


def describe_deviations(before: EnvironmentRecord | None, after: EnvironmentRecord | None) -> str | None:
    """Return how the environment of a run differs from that of the run before; None if it is the same."""
    if before is None or after is None:
        return None
    texts = []
    if before.python != after.python:
        texts.append(f"Python {after.python} instead of {before.python}")
    if before.platform != after.platform:
        texts.append(f"{after.platform} instead of {before.platform}")
    known = dict(before.packages)
    others = sorted({name for name, _ in set(before.packages) ^ set(after.packages)})
    installed = dict(after.packages)
    texts += [f"{name} {installed.get(name, 'absent')} instead of {known.get(name, 'absent')}" for name in others]
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return "; ".join(texts[:_SHOWN]) + more if texts else None


def _parameters(details: RunDetails, given: Mapping[str, str]) -> dict[str, str]:
    """Return the recorded parameters, apart from defaults, with those that are given anew.

    Raises:
        UsageError: the value of a secret is not given.
    """
    recorded = [one for one in details.parameters if one.source != _DEFAULT and one.name not in given]
    missing = [one.name for one in recorded if STARS in one.value]
    if missing:
        options = " ".join(f"-P {name}=VALUE" for name in missing)
        message = f"The values of secret parameters are not recorded: {', '.join(missing)}"
        raise UsageError(message, hint=f"Give them again: {options}")
    return {**{one.name: _from_here(one, details) for one in recorded}, **given}


def _from_here(parameter: ParameterRecord, details: RunDetails) -> str:
    """Return the value of a parameter; a path of the project is found from every folder."""
    project = _project_folder(details)
    if parameter.type != "path" or isabs(parameter.value) or project is None or Path.cwd().is_relative_to(project):
        return parameter.text
    path = project / parameter.value
    return str(path) if path.exists() else parameter.value


def _project_folder(details: RunDetails) -> Path | None:
    """Return the folder of the project on this machine, None if it had none."""
    name = (details.project or "").removeprefix("file://").replace("#", "/")
    return Path(name) if isabs(name) and Path(name).is_dir() else None


def _changed_inputs(plan: Plan, details: RunDetails, given: Mapping[str, str]) -> Iterator[str]:
    """Yield a text for each recorded input that is missing or has other content than before."""
    replaced = tuple(_replaced_paths(details, given))
    cache = DigestCache(plan.home.root / "cache" / "digests")
    project = plan.source.project
    for one in (*details.inputs, *_large_files(plan)):
        path = normpath(one.path)
        if any(path == old or path.startswith(f"{old}/") for old in replaced):
            continue
        if not isabs(path) and plan.files.identity(path) is not None:
            continue  # it is part of the code
        here = Path(path) if isabs(path) else project / path if project else None
        try:
            if here is None or cache.digest(here) != one.sha256:
                yield f"{one.path} has changed since" if here else f"{one.path} is not here"
        except OSError:
            yield f"{one.path} is gone"
    with suppress(OSError):  # the next check reads the files again
        cache.save()


def _replaced_paths(details: RunDetails, given: Mapping[str, str]) -> Iterator[str]:
    """Yield the old values of path parameters that have another value now."""
    project = _project_folder(details)
    for one in details.parameters:
        if one.name in given and one.type == "path" and one.value and given[one.name] != one.value:
            inside = project is not None and isabs(one.value) and Path(one.value).is_relative_to(project)
            yield normpath(os.path.relpath(one.value, project) if inside else one.value)


def _large_files(plan: Plan) -> Iterator[FileRecord]:
    """Yield the files that were too large for the snapshot, with paths relative to the project folder."""
    start = plan.snapshot.code.subdirectory or "."
    for one in plan.snapshot.large:
        yield FileRecord(path=relpath(one.path, start), size=one.size, sha256=one.sha256)


def _listed(texts: tuple[str, ...]) -> str:
    return "\n".join([*texts[:_SHOWN], f"and {len(texts) - _SHOWN} more"] if len(texts) > _SHOWN else texts)
