"""Collects inputs, outputs, metrics and digests after the command has ended, each independently of the others."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from runner.base.files import open_regular, sha256_from
from runner.base.lazy import LazyModule
from runner.base.plurals import counted
from runner.base.tags import CHANGED_TREE_TAG
from runner.environments.model import Prepared
from runner.environments.repair.missing import explain_failed_import, failed_import
from runner.manifest import serve_hint, served_address
from runner.model import Event, EventKind, RunStatus
from runner.observing import Watched
from runner.process import Outcome
from runner.provenance.metrics import MetricValue, read_metrics_files, read_metrics_log
from runner.provenance.outputs import OutputFolder, collect_outputs
from runner.record import Ending, RunRecorder, fault_event
from runner.run_inputs import RunInputs, record_opened, report_changed, report_volume
from runner.server.run.redirects import read_redirects, unreachable_servers
from runner.source.run_folder import RunFolder
from runner.source.snapshot import current_tree
from runner.store import runs
from runner.store.disk import sync_log
from runner.store.entities import Metric

if TYPE_CHECKING:
    from runner import observed_inputs
    from runner.provenance import failures, metric_names, notebook_failures, notebook_pages
    from runner.store import artifact_digests, artifacts
else:
    observed_inputs = LazyModule("runner.observed_inputs")
    # Most short runs have neither metrics files nor artifacts and need not load these modules.
    artifact_digests = LazyModule("runner.store.artifact_digests")
    artifacts = LazyModule("runner.store.artifacts")
    failures = LazyModule("runner.provenance.failures")
    metric_names = LazyModule("runner.provenance.metric_names")
    notebook_failures = LazyModule("runner.provenance.notebook_failures")
    notebook_pages = LazyModule("runner.provenance.notebook_pages")

MAX_NOTICES_PER_KIND = 20
"""Notices of one kind that are reported and recorded: a run can touch thousands of files."""
MOST_INFLUENCES = 3
"""Lines about undeclared influence on the results that a run reports."""
OUTPUTS = "The outputs"
"""Name of the collector of outputs."""
_MILLION = 1_000_000
_COARSE = 1_000
"""Milliseconds by which the modification time of a file may lag behind the clock."""


class Execution(Struct, frozen=True, kw_only=True):
    """How a command ended, and what was observed while it ran."""

    outcome: Outcome
    ending: Ending
    watched: Watched
    """Files that the command was seen to open."""
    was_logged_to: bool = False
    """Whether a client connected to the run's own server."""
    address: str = ""
    """``HOST:PORT`` of the run's own server."""
    written_runs: tuple[str, ...] = ()
    """Other runs that the command created or wrote to."""


class Finished(Struct, frozen=True):
    """A run whose command has ended, with everything that the collectors need."""

    recorder: RunRecorder
    folder: RunFolder
    environment: Prepared
    inputs: RunInputs
    execution: Execution

    @property
    def is_finished(self) -> bool:
        """Whether the command succeeded."""
        return self.execution.ending.status is RunStatus.FINISHED


def collect(finished: Finished) -> tuple[str, ...]:
    """Run all collectors; return the names of those that failed.

    The outcome of the command is already recorded. A collector that fails causes a warning, and the others still run.
    """
    kept: dict[str, str] = {}
    collectors: dict[str, Callable[[], None]] = {
        "The metrics": lambda: collect_metrics(finished),
        "The pages of the notebooks": lambda: make_notebook_pages(finished),
        OUTPUTS: lambda: kept.update(keep_outputs(finished)),
        "The inputs": lambda: collect_inputs(finished),
        "The redirects": lambda: collect_redirects(finished),
        "The check of the project folder": lambda: check_tree(finished),
        "The masking of secrets in files": lambda: mask_files(finished),
        "The explanation of the outcome": lambda: explain_failure(finished),
        "The digests of the artifacts": lambda: record_digests(finished, kept),
    }
    return tuple(name for name, collector in collectors.items() if not run_guarded(finished.recorder, name, collector))


def run_guarded(recorder: RunRecorder, what: str, collector: Callable[[], None]) -> bool:
    """Run a collector and return whether it succeeded; if not, the record gets a warning that names ``what``."""
    try:
        collector()
    except Exception as error:  # noqa: BLE001  a bug of ours must not cost the result of the run either
        recorder.report(fault_event(what, error))
        return False
    return True


def collect_metrics(finished: Finished) -> None:
    """Log the metrics that the command wrote to files."""
    recorder, folder = finished.recorder, finished.folder
    found: list[MetricValue] = []

    def read_files() -> None:
        files = recorder.plan.entry_point.metrics
        found.extend(read_metrics_files(folder.project, files, recorder.report, all_due=finished.is_finished))

    run_guarded(
        recorder,
        "The metrics in PROJ_METRICS",
        lambda: found.extend(read_metrics_log(recorder.metrics_log, recorder.report)),
    )
    run_guarded(recorder, "The metrics files", read_files)
    if found:
        mask = recorder.plan.masker
        shown = [(mask.name(name), nan if mask.is_number(value) else value, step) for name, value, step in found]
        recorder.log_metrics(_points(finished, shown))


def _points(finished: Finished, found: Sequence[MetricValue]) -> list[Metric]:
    """Return metrics as points, with names that the store accepts."""
    recorder = finished.recorder
    logged = runs.get(recorder.database, recorder.run_id).metrics if finished.execution.was_logged_to else {}
    names = {name for name, _, _ in found}
    spelled = metric_names.spell_names(names, logged)
    notices = [f"the metric {_shown(name)} is recorded as '{spelled[name]}'" for name in sorted(spelled)]
    if "" in names:
        notices.append("a metric without a name is not recorded")
    recorder.report_some(notices, MAX_NOTICES_PER_KIND)
    moment = finished.execution.outcome.ended_at
    return [
        Metric(key=spelled.get(name, name), value=value, timestamp=moment, step=step)
        for name, value, step in found
        if name
    ]


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:77]}…")  # noqa: PLR2004  what fits in a line


def make_notebook_pages(finished: Finished) -> None:
    """Write an HTML file beside each notebook that the command executed."""
    plan, environment = finished.recorder.plan, finished.environment
    if ".ipynb" not in plan.command:  # most runs need not load the module
        return
    found = notebook_pages.executed_notebooks(plan.command, finished.folder.project, plan.files)
    if found and environment.container is None:
        notebook_pages.make_pages(found, environment.record, finished.recorder.report, plan.masker.file)


def keep_outputs(finished: Finished) -> Mapping[str, str]:
    """Copy the files that the command created or changed to the artifacts; return their digests by path."""
    recorder, folder = finished.recorder, finished.folder
    destination = recorder.plan.home.artifacts(recorder.run_id)
    changes = folder.inspect()
    # The folder of a finished run is removed, so its outputs can be moved instead of copied.
    is_given_up = finished.is_finished and not folder.in_place
    masker = recorder.plan.masker
    name = masker.name if masker.masks else None
    report_volume(recorder, OUTPUTS)(sum(_sizes(folder.project, changes.files)))
    source = OutputFolder(project=folder.project, top=folder.top, is_given_up=is_given_up)
    outputs = collect_outputs(source, changes.files, destination, name=name)
    recorder.add(outputs=outputs.records)
    recorder.report_some(changes.notices, MAX_NOTICES_PER_KIND)
    recorder.report_some(outputs.notices, MAX_NOTICES_PER_KIND)
    return outputs.kept


def _sizes(project: Path, files: Sequence[str]) -> Iterator[int]:
    for name in files:
        with suppress(OSError):
            yield (project / name).lstat().st_size


def collect_inputs(finished: Finished) -> None:
    """Record the ignored files that the command opened, and report original data that changed meanwhile."""
    recorder, folder = finished.recorder, finished.folder
    execution = finished.execution
    reported = record_opened(recorder, folder, finished.inputs, execution.watched.provided)
    report_changed(recorder, folder, finished.inputs)
    used = observed_inputs.Used(
        recorder, folder, finished.environment, finished.inputs, execution.watched, execution.outcome.started_at
    )
    run_guarded(
        recorder,
        "The observed inputs",
        lambda: observed_inputs.record_observed(used, MOST_INFLUENCES - reported),
    )


def collect_redirects(finished: Finished) -> None:
    """Record which tracking URIs of the code were redirected to this run."""
    report_redirects(finished.recorder, read_redirects(finished.recorder.redirects_log, MAX_NOTICES_PER_KIND))


def mask_files(finished: Finished) -> None:
    """Mask secrets in the files to which the command wrote metrics and redirects."""
    recorder = finished.recorder
    for file in (recorder.metrics_log, recorder.redirects_log):
        recorder.plan.masker.file(file)


def report_redirects(recorder: RunRecorder, redirects: Sequence[str]) -> None:
    """Report and record the tracking URIs that were redirected to this run."""
    redirects = tuple(map(recorder.plan.masker.text, redirects))
    if redirects:
        recorder.add_redirects(redirects)
    for redirect in redirects:
        recorder.report(Event(kind=EventKind.NOTICE, message=f"Redirected: {redirect}"))


def check_tree(finished: Finished) -> None:
    """Mark a run in place whose project folder changed while the command ran."""
    recorder = finished.recorder
    plan = recorder.plan
    if finished.folder.in_place and current_tree(plan.source, plan.home) != plan.code.tree:
        recorder.set_tags({CHANGED_TREE_TAG: "true"})
        recorder.report(Event(kind=EventKind.WARNING, message="files of the project folder changed during the run"))


def explain_failure(finished: Finished) -> None:
    """Record the place of a failure, report known reasons for it, and other places to which the command logged."""
    recorder = finished.recorder
    log = "" if finished.is_finished else recorder.end_of_log()
    is_failed = finished.execution.ending.status is RunStatus.FAILED
    place = _place_of_failure(finished, log) if is_failed else None
    if place:
        recorder.add(failed_at=recorder.plan.masker.text(place))
    why = finished.folder.explain_missing(log, recorder.plan.source.project) if log else None
    if why:
        recorder.report(Event(kind=EventKind.WARNING, message=why))
    failed = failed_import(log, finished.environment.record.prefix) if log else None
    if failed is None:
        _report_other_tracking(finished)
        _report_unreachable_servers(finished)
        return
    installed = [name for name, _ in finished.environment.record.packages]
    recorder.report(explain_failed_import(failed, recorder.plan.spec, recorder.plan.scripts, installed))


def _place_of_failure(finished: Finished, log: str) -> str | None:
    """Return the place in the project's code: a cell of a notebook that the command executed, else a line of a file."""
    plan, folder = finished.recorder.plan, finished.folder
    is_notebook = ".ipynb" in plan.command
    cell = notebook_failures.find_failed_cell(log, plan.command, folder.project, plan.files) if is_notebook else None
    return cell or failures.find_failure(log, folder.project, folder.top)


def _report_other_tracking(finished: Finished) -> None:
    """Report that a script logged to another place than its run."""
    plan, report = finished.recorder.plan, finished.recorder.report
    if finished.execution.was_logged_to:
        return
    uris = [uri.text for script in plan.scripts.found for uri in script.tracking]
    elsewhere = [uri for uri in dict.fromkeys(uris) if served_address(uri) not in plan.request.serve_as]
    if not elsewhere and "mlflow" in {module.partition(".")[0] for module in plan.scripts.outside()}:
        report(Event(kind=EventKind.NOTICE, message="the code imports mlflow and logged nothing to this run"))
    if elsewhere:
        message = f"the code logs to {', '.join(elsewhere)}; this record does not contain that data"
        report(Event(kind=EventKind.NOTICE, message=message))


def _report_unreachable_servers(finished: Finished) -> None:
    """Report the tracking servers that the script could not reach, with the option that redirects them to the run."""
    recorder = finished.recorder
    for url in unreachable_servers(recorder.end_of_log()):
        address = served_address(url)
        if address and address not in (*recorder.plan.request.serve_as, finished.execution.address):
            message = f"the code tried to log to {address}, which can't be reached"
            recorder.report(Event(kind=EventKind.WARNING, message=message, hint=serve_hint(address)))


def record_digests(finished: Finished, known: Mapping[str, str]) -> None:
    """Write log and artifacts durably to disk and record their digests, before the record is closed."""
    recorder = finished.recorder
    database, home = recorder.database, recorder.plan.home
    if not sync_log(home.log(recorder.run_id)):
        message = "the run has no log: the file was removed or could not be created"
        recorder.report(Event(kind=EventKind.WARNING, message=message))
    else:
        record_log_digest(recorder, home.log(recorder.run_id))
    root = home.artifacts(recorder.run_id)
    left_out = 0
    if root.is_dir():
        volume = report_volume(recorder, "The artifacts")
        left_out = artifact_digests.record(database, recorder.run_id, root, known, progress=volume)
    if finished.execution.was_logged_to:
        left_out += _record_other_digests(finished)
    if left_out:
        message = f"No digest for {counted(left_out, 'artifact')}: reading them completely would take too long"
        recorder.report(Event(kind=EventKind.NOTICE, message=message))


def record_log_digest(recorder: RunRecorder, log: Path) -> None:
    """Record the digest of the command's output, so that `proj verify` finds a log that was damaged later."""
    with open_regular(log) as file:
        report_volume(recorder, "The log")(log.stat().st_size)
        recorder.add(log_sha256=sha256_from(file))


def _record_other_digests(finished: Finished) -> int:
    """Record the digests of artifacts that the command wrote to other runs, and to the logged models of all runs."""
    recorder = finished.recorder
    database, home = recorder.database, recorder.plan.home
    since = (finished.execution.outcome.started_at - _COARSE) * _MILLION
    artifact_uris: dict[str, str] = {}
    for run_id in (recorder.run_id, *finished.execution.written_runs):
        artifact_uris[run_id] = runs.get(database, run_id).artifact_uri
        rows = database.query("SELECT model_id, artifact_uri FROM models WHERE source_run_id = ?", run_id)
        artifact_uris.update((row["model_id"], row["artifact_uri"]) for row in rows)
    del artifact_uris[recorder.run_id]
    left_out = 0
    for owner, uri in artifact_uris.items():
        root = artifacts.local_folder(uri)
        if root is not None and root.is_relative_to(home.root / "runs"):
            volume = report_volume(recorder, "The artifacts of other runs")
            left_out += artifact_digests.record(database, owner, root, since=since, progress=volume)
    return left_out
