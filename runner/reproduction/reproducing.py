"""Reproduces a run. Read `reproduce` from top to bottom."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from glob import escape
from pathlib import Path

from msgspec import Struct, structs

from runner.base.tags import REPRODUCTIONS_TAG, VERDICT_TAG
from runner.errors import InvalidValueError, NotFoundError
from runner.model import EnvironmentRecord, Event, EventKind, Report, RunRecord, RunStatus
from runner.plan import Plan
from runner.process import Echo
from runner.provenance.metrics import read_metrics_files
from runner.provenance.outputs import kept_as
from runner.record import RunOutcome
from runner.reproduction.inputs import CheckedInputs, check_inputs
from runner.reproduction.metrics import MetricsOfRun, compare_metrics
from runner.reproduction.noise import read_noise
from runner.reproduction.outputs import compare_outputs, outputs_of
from runner.reproduction.planning import plan_reproduction, require_ended
from runner.reproduction.tolerance import Allowance, Tolerances
from runner.reproduction.verdict import Comparison, InputCheck, InputState, Reproduction, Verdict, decide
from runner.runs.local import LocalReader
from runner.settings import Home
from runner.source.run_code import open_recorded
from runner.store import lost_runs, runs, values
from runner.store.database import Database
from runner.workflow import run_plan

_KEPT = 50
"""Reproductions that a run lists: its tag has a limited length."""


class ReproduceRequest(Struct, frozen=True, kw_only=True):
    """A request to reproduce a run.

    ``inputs`` are the new paths of moved inputs by their recorded names, ``parameters`` the values of secret
    parameters. ``rtol`` and ``atol`` replace every other rule.
    """

    run: str
    inputs: Mapping[str, str] = {}
    allow_changed_inputs: bool = False
    parameters: Mapping[str, str] = {}
    rtol: float | None = None
    atol: float | None = None


def reproduce(
    request: ReproduceRequest,
    home: Home,
    report: Report,
    echo: Echo = Echo.SPLIT,
    approve: Callable[[Plan], None] = lambda _plan: None,
) -> Reproduction:
    """Run a recorded run again from its record alone, compare the results and record the verdict.

    If inputs are missing or changed, nothing is started, and the verdict is *incomplete*. ``approve`` gets the plan
    before anything is built or started, and raises to stop it.

    Raises:
        ProjError: the run does not exist, or its record is not sufficient.
    """
    record = read_original(request.run, home)
    require_ended(record)
    source, snapshot = open_recorded(record, home)
    checked = check_inputs(record, snapshot, request.inputs, home)
    if checked.bad and not request.allow_changed_inputs:
        return _refused(record, checked)
    source = structs.replace(source, recorded=checked.files)
    plan = plan_reproduction(record, (source, snapshot), request.parameters, home, report)
    approve(plan)
    rules = tolerances(request, plan, record)
    outcome = run_plan(plan, report, echo)
    found = compare(record, outcome, rules, home)
    found = structs.replace(found, inputs=recheck(record, outcome.record, checked.checks))
    keep(found, home, report)
    return found


def read_original(reference: str, home: Home) -> RunRecord:
    """Return the record of the run to reproduce; runs whose process is gone are marked LOST first."""
    with closing(Database.open(home.database)) as database:
        lost_runs.mark_lost(database)
        return LocalReader(database, home).record(reference.removeprefix("runs:/"))


def _refused(record: RunRecord, checked: CheckedInputs) -> Reproduction:
    words = ", ".join(f"{one.name} ({one.state.value})" for one in checked.bad)
    return Reproduction(
        verdict=Verdict.INCOMPLETE,
        original=record.run_id or "",
        reason=f"inputs are not as they were, so nothing was started: {words}",
        inputs=checked.checks,
    )


def tolerances(request: ReproduceRequest, plan: Plan, record: RunRecord) -> Tolerances:
    """Return the rules of a reproduction: given, declared in the manifest of the recorded tree, or measured."""
    given = None
    if request.rtol is not None or request.atol is not None:
        options = (("--rtol", request.rtol), ("--atol", request.atol))
        source = " ".join(f"{name} {value:g}" for name, value in options if value is not None)
        given = Allowance(rtol=request.rtol or 0.0, atol=request.atol or 0.0, source=source)
    general, named = declared_rules(plan, record)
    noise = read_noise(plan.home, record.run_id or "")
    return Tolerances(
        given=given,
        declared=general,
        named=named,
        ignored=plan.entry_point.ignore,
        noise=noise.rules(noise.metrics) if noise else {},
        output_noise=noise.rules(noise.outputs) if noise else {},
    )


def declared_rules(plan: Plan, record: RunRecord) -> tuple[Allowance | None, list[tuple[str, Allowance]]]:
    """Return the rule for all numbers and those for metrics, as the manifest of the recorded tree declares them."""
    declared = plan.manifest.tolerance
    named = []
    for file in plan.entry_point.metrics:
        if file.tolerance is not None:
            rule = Allowance(atol=file.tolerance, source=f"tolerance: {file.tolerance:g} ({file.path})")
            local = structs.replace(file, path=kept_as(file.path))
            found = read_metrics_files(plan.home.artifacts(record.run_id or ""), (local,), lambda _event: None)
            names = (one for name, _, _ in found for one in (name, f"{Path(file.path).stem}.{name}"))
            named += [(escape(name), rule) for name in names]
    if isinstance(declared, Mapping):
        rules = [
            (name, Allowance(atol=value, source=f"tolerance: {value:g} (manifest, {name})"))
            for name, value in declared.items()
        ]
        return None, [*rules, *named]
    general = None if declared is None else Allowance(atol=declared, source=f"tolerance: {declared:g} (manifest)")
    return general, named


def compare(original: RunRecord, outcome: RunOutcome, rules: Tolerances, home: Home) -> Reproduction:
    """Compare the results of two runs of this store."""
    again = outcome.record
    first, second = original.run_id or "", again.run_id or ""
    with closing(Database.open_to_read(home.database)) as database:
        reader = LocalReader(database, home)
        metrics = compare_metrics(
            MetricsOfRun(original.metrics, lambda name: reader.history(first, name)),
            MetricsOfRun(again.metrics, lambda name: reader.history(second, name)),
            rules,
        )
        outputs = compare_outputs(outputs_of(original, reader), outputs_of(again, reader), rules)
    status = _same("status", original.status, again.status)
    exit_code = _same("exit code", original.exit_code, again.exit_code)
    verdict = decide(
        RunStatus(original.status or ""),
        RunStatus(again.status or ""),
        (status.verdict, exit_code.verdict),
        [one.verdict for one in (*metrics, *outputs)],
    )
    if outcome.error is not None:
        verdict = Verdict.FAILED
    allowed = (f"{one.name}: {one.rule}" for one in (*metrics, *outputs) if one.verdict is Verdict.WITHIN_TOLERANCE)
    return Reproduction(
        verdict=verdict,
        original=first,
        run_id=second,
        reason=again.reason if verdict is Verdict.FAILED else None,
        status=status,
        exit_code=exit_code,
        metrics=metrics,
        outputs=outputs,
        environment=_compare_environments(original.environment, again.environment),
        tolerance=tuple(allowed),
    )


def _same(name: str, original: str | int | None, reproduced: str | int | None) -> Comparison:
    verdict = Verdict.IDENTICAL if original == reproduced else Verdict.DIFFERENT
    return Comparison(name=name, verdict=verdict, original=original, reproduced=reproduced)


def _compare_environments(
    original: EnvironmentRecord | None, reproduced: EnvironmentRecord | None
) -> tuple[Comparison, ...]:
    """Compare what identifies two environments; it decides nothing, but may explain a difference."""
    if original is None or reproduced is None:
        return ()
    names = ("manager", "python", "platform", "lock_digest", "digest")
    return tuple(_same(name, getattr(original, name), getattr(reproduced, name)) for name in names)


def recheck(original: RunRecord, again: RunRecord, checks: Sequence[InputCheck]) -> tuple[InputCheck, ...]:
    """Return the checks of inputs, with the digests of what the reproduction read."""
    before = {one.path: one.sha256 for one in original.inputs}
    after = {one.path: one.sha256 for one in again.inputs}
    return tuple(
        structs.replace(one, state=InputState.CHANGED)
        if one.state is InputState.UNCHANGED and after.get(one.name, before.get(one.name)) != before.get(one.name)
        else one
        for one in checks
    )


def keep(found: Reproduction, home: Home, report: Report) -> None:
    """Record the verdict with the reproduction, and both with the original run; a run that was removed is a warning."""
    if found.run_id is None:
        return
    entry = f"{found.run_id}: {found.verdict.value}"

    def with_entry(tags: Mapping[str, str]) -> dict[str, str]:
        entries = [*filter(None, tags.get(REPRODUCTIONS_TAG, "").split("; ")), entry]
        return {REPRODUCTIONS_TAG: "; ".join(entries[-_KEPT:])}

    with closing(Database.open(home.database)) as database:
        _set_tags(database, found.run_id, lambda _: {VERDICT_TAG: found.verdict.value}, report)
        _set_tags(database, found.original, with_entry, report)


def _set_tags(
    database: Database, run_id: str, change: Callable[[Mapping[str, str]], dict[str, str]], report: Report
) -> None:
    try:
        with database.transaction():
            values.set_tags(database, run_id, change(runs.get(database, run_id).tags))
    except (NotFoundError, InvalidValueError) as error:
        message = f"The verdict is not recorded with the run {run_id[:8]}: {error.message}"
        report(Event(kind=EventKind.WARNING, message=message))
