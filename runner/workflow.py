"""One run, from its plan to its closed record. Read `run_plan` from top to bottom."""

import os
from contextlib import closing
from signal import Signals

from runner.environments.trees import FolderTree
from runner.environments.words import Prepared
from runner.executors import ExecutionRequest, child_environment
from runner.manifest import find_downloads, render_command, shell_argv
from runner.model import Event, EventKind, Report, RunRequest, RunStatus
from runner.plan import Plan, make_plan, path_rules
from runner.process import Echo, Outcome
from runner.provenance.downloads import fetch
from runner.provenance.machine import describe_machine
from runner.provenance.metrics import read_metrics_files, read_metrics_log
from runner.recording import Recording, RunOutcome, open_recording
from runner.server.socket import REMOVED_VARIABLES
from runner.settings import Home
from runner.source.folder import RunFolder, Wishes, lay_out, stay_in_place
from runner.store import values
from runner.store.database import Database
from runner.store.entities import Metric

TIMED_OUT = 124
"""Exit code for a command that ran out of time, as timeout(1) has it."""


def run_project(request: RunRequest, home: Home, report: Report, echo: Echo = Echo.SPLIT) -> RunOutcome:
    """Run what is asked for and return its closed record.

    Raises:
        ProjError: something asked for can't be had; nothing has been recorded.
    """
    return run_plan(make_plan(request, home, report), report, echo)


def run_plan(plan: Plan, report: Report, echo: Echo) -> RunOutcome:
    """Run what is planned and return its closed record; whatever happens, the record tells it."""
    with closing(Database.open(plan.home.database)) as database:
        with open_recording(plan, database, report) as recording:
            folder = lay_out_folder(recording)
            environment = prepare_environment(recording, folder)
            command = write_command(recording, folder)
            outcome = execute(recording, folder, environment, command, echo)
            collect(recording, folder, outcome)
            close(recording, folder, outcome)
        return recording.outcome()


def lay_out_folder(recording: Recording) -> RunFolder:
    """Lay out the frozen tree, or take the project folder itself where the user asked for that."""
    plan = recording.plan
    if plan.request.in_place:
        folder = stay_in_place(plan.snapshot, plan.source)
    else:
        wishes = Wishes(inputs=plan.entry_point.inputs, outputs=plan.entry_point.outputs)
        folder = lay_out(plan.snapshot, plan.source, recording.run_id, plan.home, recording.report, wishes)
    recording.add(folder=str(folder.root), cwd=str(folder.project))
    return folder


def prepare_environment(recording: Recording, folder: RunFolder) -> Prepared:
    """Lock the environment, build it or find it, and prove it; the lock is kept with the run."""
    plan = recording.plan
    request = plan.environment_request(FolderTree(folder.project))
    lock = plan.backend.lock(request, recording.report)
    if lock is not None:
        recording.keep_file("lock.txt", lock.text)
    environment = plan.backend.prepare(request, lock, recording.report)
    record = environment.record
    recording.add(environment=record)
    recording.set_tags({"proj.environment.digest": record.digest, "proj.lock.digest": record.lock_digest})
    return environment


def write_command(recording: Recording, folder: RunFolder) -> str:
    """Write the command with the paths of the run folder, and fetch what it names by URL."""
    plan = recording.plan
    rules = path_rules(plan.source, plan.files, recording.folder / "downloads", folder.project)
    command = render_command(plan.entry_point, plan.parameters, rules)
    for download in find_downloads(plan.parameters, rules):
        recording.report(Event(kind=EventKind.STEP, message=f"Fetching {download.url}"))
        fetch(download.url, download.path)
    recording.add(command=plan.masker.command(command), argv=plan.masker.words(shell_argv(command)))
    return command


def execute(recording: Recording, folder: RunFolder, environment: Prepared, command: str, echo: Echo) -> Outcome:
    """Run the command to its end, beside the socket that its tracking client talks to."""
    plan = recording.plan
    with recording.open_socket() as socket:
        variables = child_environment(
            {name: value for name, value in os.environ.items() if name not in REMOVED_VARIABLES},
            cwd=folder.project,
            path_entries=environment.path_entries,
            variables={
                **environment.variables_in(folder.project),
                **socket.variables(),
                "PROJ_RUN_ID": recording.run_id,
                "PROJ_METRICS": str(recording.metrics_log),
            },
            own=plan.entry_point.env,
        )
        recording.add(machine=describe_machine(variables))
        outcome = plan.executor.execute(
            ExecutionRequest(
                argv=shell_argv(command),
                cwd=folder.project,
                variables=variables,
                log=plan.home.log(recording.run_id),
                echo=echo,
                timeout=plan.request.timeout or plan.entry_point.timeout,
                masks=plan.masker.masks,
            ),
            recording.report,
        )
    recording.claimed_status = socket.final_status
    return outcome


def collect(recording: Recording, folder: RunFolder, outcome: Outcome) -> None:
    """Collect what the command used and made: resources, inputs, outputs, metrics."""
    plan = recording.plan
    recording.add(exit_code=outcome.exit_code, resources=outcome.resources)
    metrics = [
        *read_metrics_log(recording.metrics_log, recording.report),
        *read_metrics_files(folder.project, plan.entry_point.metrics, recording.report),
    ]
    values.log_metrics(
        recording.database,
        recording.run_id,
        [Metric(key=name, value=value, timestamp=outcome.ended_at, step=step) for name, value, step in metrics],
    )


def close(recording: Recording, folder: RunFolder, outcome: Outcome) -> None:
    """Judge the end and close the record; the folder of a run that did not finish is kept."""
    status, exit_code, reason = judge(outcome, recording.claimed_status)
    folder.release(keep=status is not RunStatus.FINISHED)
    recording.close(status, exit_code, reason)


def judge(outcome: Outcome, claimed: RunStatus | None) -> tuple[RunStatus, int, str | None]:
    """Return status, exit code and reason: what the command did, and what its script said on purpose, both count."""
    if outcome.stopped_by == "timeout":
        return RunStatus.KILLED, TIMED_OUT, "stopped: it ran out of time"
    if outcome.stopped_by:
        return RunStatus.KILLED, 128 + Signals[outcome.stopped_by], f"stopped by {outcome.stopped_by}"
    if outcome.exit_code:
        status = RunStatus.KILLED if claimed is RunStatus.KILLED else RunStatus.FAILED
        ending = f"signal {outcome.signal}" if outcome.signal else f"exit code {outcome.exit_code}"
        return status, outcome.exit_code, f"the command ended with {ending}"
    if claimed in (RunStatus.FAILED, RunStatus.KILLED):
        return claimed, 0, f"the script itself ended its run as {claimed.value}"
    return RunStatus.FINISHED, 0, None
