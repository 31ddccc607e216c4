"""Builds run records: the stable JSON of the command line."""

from datetime import datetime, timezone

from runner.model import ParameterRecord, RunRecord
from runner.settings import Home
from runner.store import experiments, runs
from runner.store.database import Database
from runner.store.entities import Param, Run
from runner.store.values import params


def read_record(db: Database, run_id: str, home: Home) -> RunRecord:
    """Return the record of a run.

    Raises:
        NotFoundError: there is no such run.
    """
    run = runs.get(db, run_id)
    return make_record(run, experiments.get(db, run.experiment_id).name, params(db, run_id), home)


def format_time(moment: int | None) -> str | None:
    """Return a time in milliseconds since 1970 as RFC 3339 in UTC, or None if it is out of range."""
    if moment is None:
        return None
    try:
        return datetime.fromtimestamp(moment / 1000, tz=timezone.utc).isoformat(timespec="milliseconds")[:-6] + "Z"
    except (OverflowError, ValueError, OSError):
        # A client may log any 64-bit number as a time.
        return None


def _parameters(launched: tuple[ParameterRecord, ...], stored: tuple[Param, ...]) -> tuple[ParameterRecord, ...]:
    """Return the launcher's parameters in its order, then the parameters logged by the script."""
    known = {parameter.name for parameter in launched}
    more = [
        ParameterRecord(name=param.key, value=param.value, type=param.type, source=param.source)
        for param in stored
        if param.key not in known
    ]
    return (*launched, *more)


def make_record(run: Run, experiment: str, stored: tuple[Param, ...], home: Home) -> RunRecord:
    """Return the record of a run from its rows."""
    details = run.details
    return RunRecord(
        run_id=run.run_id,
        run_name=run.name,
        experiment=experiment,
        status=run.status.value,
        exit_code=details.exit_code,
        started_at=format_time(run.started_at),
        ended_at=format_time(run.ended_at),
        project=details.project,
        entry_point=details.entry_point,
        command=details.command,
        argv=details.argv,
        cwd=details.cwd,
        parameters=_parameters(details.parameters, stored),
        metrics={key: metric.value for key, metric in sorted(run.metrics.items())},
        tags=dict(sorted(run.tags.items())),
        code=details.code,
        environment=details.environment,
        inputs=details.inputs,
        outputs=details.outputs,
        resources=details.resources,
        machine=details.machine,
        folder=details.folder,
        log=details.log or home.kept_log(run.run_id),
        reason=details.reason,
        redirects=details.redirects,
        repairs=details.repairs,
        notices=details.notices,
        template=details.template,
        failed_at=details.failed_at,
        observed=details.observed,
    )
