"""Makes the plan of a reproduction from the record of a run: its tree, lock, interpreter, parameters and variables."""

from collections.abc import Mapping
from pathlib import Path

from msgspec import structs

from runner.base.masking import STARS
from runner.base.suggestions import suggestion
from runner.base.tags import REPAIR_TAG, REPRODUCES_TAG
from runner.environments.model import Interpreter
from runner.environments.resolve.locking import PACKAGE, read_lock
from runner.environments.specs import AnySpec, EnvironmentSpec, ProjectLock, PythonSpec
from runner.errors import EnvironmentSetupError, UsageError
from runner.model import Report, RunRecord, RunRequest, RunStatus
from runner.plan import Plan, plan_snapshot
from runner.reproduction.inputs import CheckedInputs, within_project
from runner.settings import Home
from runner.source.opening import Source
from runner.source.snapshot import Snapshot

_LOGGED = "logged"


def require_ended(record: RunRecord) -> None:
    """Refuse a run that can't be reproduced.

    Raises:
        UsageError: the run has not ended, or proj did not run it.
    """
    run_id = (record.run_id or "")[:8]
    if record.status is None or not RunStatus(record.status).is_over:
        raise UsageError(f"The run {run_id} has not ended yet", hint="Reproduce it when it has.")
    if record.code is None or record.entry_point is None:
        raise UsageError(
            f"The run {run_id} was not started by `proj run`, so it has no recorded code",
            hint="Only runs of `proj run` can be reproduced.",
        )


def plan_reproduction(
    record: RunRecord,
    place: tuple[Source, Snapshot, Home],
    checked: CheckedInputs,
    given: Mapping[str, str],
    report: Report,
) -> Plan:
    """Return the plan that runs a recorded run again; ``given`` are the values of its secret parameters.

    Raises:
        ProjError: the record is not sufficient, or its lock is missing or was changed.
    """
    source, snapshot, home = place
    origin = snapshot.root / snapshot.code.subdirectory if snapshot.root else None
    environment = record.environment
    request = RunRequest(
        uri=source.name,
        entry_point=record.entry_point,
        parameters=_parameters(record, given, origin),
        experiment_name=record.experiment,
        environment_manager=environment.manager if environment else None,
        as_of=(environment.as_of if environment else None) or "now",
        container_options=_engine_options(record),
        repair=record.tags.get(REPAIR_TAG) != "false",
    )
    source = structs.replace(source, recorded=checked.files)
    plan = plan_snapshot(request, source, snapshot, home, report)
    return structs.replace(
        plan,
        spec=_locked(plan, record),
        additions=(),
        recorded_variables=record.machine.variables if record.machine else None,
        tags={REPRODUCES_TAG: record.run_id or ""},
    )


def _parameters(record: RunRecord, given: Mapping[str, str], origin: Path | None) -> dict[str, str]:
    """Return the recorded parameters; those that are files of the project become relative to it.

    Raises:
        UsageError: the value of a secret is not given, or a value is given for another parameter.
    """
    recorded = {one.name: one for one in record.parameters if one.source != _LOGGED}
    secret = {name for name, one in recorded.items() if STARS in one.value}
    for name in given:
        if name not in secret:
            hint = suggestion(name, secret) or "All other parameters keep their recorded values."
            raise UsageError(f"'{name}' is no secret parameter of the run, so it takes no value", hint=hint)
    missing = sorted(secret - given.keys())
    if missing:
        raise UsageError(
            f"The values of secret parameters are not recorded: {', '.join(missing)}",
            hint=f"Give them: {' '.join(f'-P {name}=VALUE' for name in missing)}",
        )
    return {
        name: given.get(name) or (within_project(one.value, origin) if one.type == "path" else one.text)
        for name, one in recorded.items()
    }


def _engine_options(record: RunRecord) -> tuple[tuple[str, str | None], ...]:
    """Return the recorded options of the container engine; the manifest declares its GPUs itself.

    Raises:
        UsageError: an option has a secret, which was not recorded.
    """
    options = []
    for text in record.environment.engine_options if record.environment else ():
        name, equals, value = text.partition("=")
        if STARS in text:
            raise UsageError(f"The value of the option -A {name} of the run is secret, and was not recorded")
        if name != "gpus":
            options.append((name, value if equals else None))
    return tuple(options)


def _locked(plan: Plan, record: RunRecord) -> AnySpec | EnvironmentSpec:
    """Return the spec of a plan with the recorded lock and interpreter; unchanged if the backend installs nothing.

    Raises:
        EnvironmentSetupError: the recorded lock is missing or was changed.
    """
    spec, environment = plan.spec, record.environment
    if environment is None or not plan.backend.capabilities.builds_prefixes or not isinstance(spec, PythonSpec):
        return spec
    python = environment.python
    path = plan.home.lock(record.run_id or "")
    if path is None or path.name != "lock.txt" or python is None:
        return spec
    text = path.read_text("utf-8")
    parsed = read_lock(text, Interpreter(path="", version=python, implementation="", platform=""))
    if parsed.digest != environment.lock_digest:
        raise EnvironmentSetupError(
            "The lock that was kept with the run was changed since",
            context=str(path),
            hint="`proj verify` names what else is damaged.",
        )
    lock = ProjectLock(path="the lock of the run", text=text, python=python, pythons=_line(python))
    names = tuple(match[0].split(" ")[0] for match in PACKAGE.finditer(text))
    packages = plan.home.packages(record.run_id or "")
    # Packages that came with the run replace every index.
    options = ("--no-index", f"--find-links {packages}") if packages.is_dir() else spec.options
    # A spec without requirements would be taken for an empty one, also if packages were added to it.
    return structs.replace(
        spec,
        project_lock=lock,
        python=python,
        requirements=spec.requirements or names,
        repairs=(),
        notices=(),
        options=options,
    )


def _line(python: str) -> str:
    return ".".join(python.split(".")[:2])
