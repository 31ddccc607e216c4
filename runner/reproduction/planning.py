"""Makes the plan of a reproduction from the record of a run: its tree, lock, interpreter, parameters and variables."""

from collections.abc import Mapping
from pathlib import Path

from msgspec import structs

from runner.base.masking import STARS
from runner.base.suggestions import suggestion
from runner.base.tags import REPAIR_TAG, REPRODUCES_TAG
from runner.errors import UsageError
from runner.manifest import command_again
from runner.model import Report, RunRecord, RunRequest, RunStatus
from runner.plan import Plan, plan_snapshot
from runner.recorded_environment import recorded_engine_options, with_recorded_lock
from runner.reproduction.inputs import within_project
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
    code: tuple[Source, Snapshot],
    given: Mapping[str, str],
    home: Home,
    report: Report,
) -> Plan:
    """Return the plan that runs a recorded run again; ``given`` are the values of its secret parameters.

    ``code`` is the code of the run, with the files that it had beside its tree.

    Raises:
        ProjError: the record is not sufficient, or its lock is missing or was changed.
    """
    source, snapshot = code
    origin = snapshot.root / snapshot.code.subdirectory if snapshot.root else None
    environment = record.environment
    entry_point, command = command_again(record.entry_point, record.template)
    request = RunRequest(
        uri=source.name,
        entry_point=entry_point,
        command=command,
        parameters=_parameters(record, given, origin),
        experiment_name=record.experiment,
        environment_manager=environment.manager if environment else None,
        as_of=(environment.as_of if environment else None) or "now",
        container_options=recorded_engine_options(environment),
        repair=record.tags.get(REPAIR_TAG) != "false",
    )
    plan = plan_snapshot(request, source, snapshot, home, report)
    return structs.replace(
        with_recorded_lock(plan, record.run_id or "", environment),
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
