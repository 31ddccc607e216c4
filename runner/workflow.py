"""Runs a plan and records it. Read `run_plan` from top to bottom."""

import os
from collections.abc import Callable, Mapping
from contextlib import closing
from signal import Signals
from typing import TYPE_CHECKING

from msgspec import structs

from runner.base.lazy import LazyModule
from runner.base.tags import ENVIRONMENT_DIGEST_TAG, LOCK_DIGEST_TAG, REPAIRS_TAG
from runner.collectors import OUTPUTS, Execution, Finished, collect, report_redirects, run_guarded
from runner.environments.deciding import lock_for_code, with_own_packages
from runner.environments.declare.source_trees import FolderTree
from runner.environments.model import Prepared, redirect_paths
from runner.environments.repair.additions import Addition, with_additions, write_additions
from runner.environments.repair.missing import failed_import, installed_provider, package_to_add
from runner.environments.repair.repairs import both_ways_out
from runner.environments.specs import is_changeable
from runner.errors import AbsentImageError, UnbuildableError
from runner.executors import ExecutionRequest, Sharing, child_environment
from runner.manifest import find_downloads, find_paths, render_command, secret_texts, shell_argv
from runner.model import Event, EventKind, Report, RunRequest, RunStatus
from runner.observing import trace_variables, tracer_file, watch_opened_files, with_trace_hook
from runner.open_run import open_record
from runner.package_cutoff import cutoff_hint
from runner.path_rules import path_rules
from runner.plan import Plan, make_plan, without_container
from runner.plan_record import declared_record
from runner.process import Echo, Outcome, SupervisorHandle, prepare
from runner.project_repairs import may_replace_declared
from runner.provenance.downloads import fetch
from runner.provenance.machine import describe_machine, with_recorded
from runner.record import Ending, RunOutcome, RunRecorder, log_tail
from runner.reuse import record_key
from runner.run_inputs import record_inputs, required_paths
from runner.server.run.redirects import CLIENT_SHIM, copy_client_shim, has_client, is_loopback, redirecting_variables
from runner.server.run.socket import REMOVED_VARIABLES, ChildSocket
from runner.settings import Home
from runner.source.frozen import FrozenTree
from runner.source.run_folder import RunFolder, check_out, in_place_run_folder
from runner.store.database import Database

if TYPE_CHECKING:
    from runner import resumption
    from runner.environments import notebook_tools
    from runner.server.run import redaction
    from runner.sync import proxy
else:
    resumption = LazyModule("runner.resumption")
    notebook_tools = LazyModule("runner.environments.notebook_tools")
    redaction = LazyModule("runner.server.run.redaction")
    proxy = LazyModule("runner.sync.proxy")

MAX_ATTEMPTS = 5
TIMED_OUT = 124
"""Exit code of a command that exceeded its time limit; the same as that of timeout(1)."""


def run_project(request: RunRequest, home: Home, report: Report, echo: Echo = Echo.SPLIT) -> RunOutcome:
    """Make the plan of a request, run it and return the closed record.

    Raises:
        ProjError: the plan could not be made; nothing was recorded.
    """
    return run_with_repairs(make_plan(request, home, report), report, echo)


def run_with_repairs(plan: Plan, report: Report, echo: Echo) -> RunOutcome:
    """Run a plan; if it fails for a reason that proj can repair, repair the plan and run again.

    Each attempt has its own record. The outcome of the last attempt is returned.
    """
    outcome = run_plan(plan, report, echo)
    for _ in range(MAX_ATTEMPTS):
        repaired = plan_retry(plan, outcome, report)
        if repaired is None:
            break
        plan = repaired
        outcome = run_plan(plan, report, echo)
        if plan.additions and outcome.error is None:
            write_additions(plan.additions_note, plan.additions)
    if outcome.exit_code and plan.request.repair and (hint := cutoff_hint(plan.request.as_of, plan.snapshot)):
        report(Event(kind=EventKind.WARNING, message="The packages may be too new for this code", hint=hint))
    return outcome


def plan_retry(plan: Plan, outcome: RunOutcome, report: Report) -> Plan | None:
    """Return the plan of another attempt, None if the failure can't be repaired.

    The new plan does without a container image that is not available, uses another interpreter, or adds a package
    that was missing.
    """
    request, error = plan.request, outcome.error
    if isinstance(error, AbsentImageError) and plan.backend.capabilities.provides_images and request.repair:
        return _plan_without_image(plan, error, report)
    if isinstance(error, UnbuildableError):
        changed = plan.backend.with_other_interpreter(plan.environment_request(), report)
        if changed is None:
            report_ways_out(plan, report)
            return None
        hint = f"Running again. {''.join(changed.spec.repairs[-1:])}"
        report(Event(kind=EventKind.WARNING, message=error.message, hint=hint))
        return structs.replace(plan, spec=changed.spec, as_of=changed.as_of, interpreter=changed.interpreter)
    missing = missing_package(plan, outcome)
    may_add = missing is not None and (request.add_missing or (missing.inside is not None and request.repair))
    if missing is None or not may_add or missing in plan.additions or not is_changeable(plan.spec):
        return None
    report(Event(kind=EventKind.STEP, message=f"Running again with the package '{missing.package}'"))
    return structs.replace(plan, spec=with_additions(plan.spec, (missing,)), additions=(*plan.additions, missing))


def _plan_without_image(plan: Plan, error: AbsentImageError, report: Report) -> Plan | None:
    """Return the plan without the container of an absent image, None if the image may not be replaced."""
    if plan.request.environment_manager is not None:
        return None
    if not may_replace_declared(plan.request, plan.source, plan.code):
        message = "The tree has changes, so nothing takes the place of its container"
        hint = "Correct `image` in docker_env or fetch the image; or run with --repair, which replaces the container."
        report(Event(kind=EventKind.WARNING, message=message, hint=hint))
        return None
    report(Event(kind=EventKind.WARNING, message=error.message, hint="Running again without the container"))
    return without_container(plan, f"the declared container image is not available ({error.message})")


def report_ways_out(plan: Plan, report: Report) -> None:
    """Say how to go on after a build that failed, if the tree has changes so that nothing declared is replaced."""
    request = plan.environment_request()
    if request.repair and not request.may_replace and is_changeable(plan.spec):
        message = "The tree has changes, so no other Python is tried"
        report(Event(kind=EventKind.WARNING, message=message, hint=both_ways_out(plan.spec)))


def missing_package(plan: Plan, outcome: RunOutcome) -> Addition | None:
    """Return the package whose absence made the command fail, None if no such package is known."""
    record = outcome.record
    if outcome.error or record.run_id is None or record.status == RunStatus.FINISHED.value:
        return None
    environment = record.environment
    failed = failed_import(log_tail(plan.home.log(record.run_id)), environment.prefix if environment else None)
    package = None if failed is None else package_to_add(failed, plan.scripts)
    if failed is None or package is None:
        return None
    installed = [name for name, _ in environment.packages] if environment else []
    is_installed = installed_provider(failed.module, installed) is not None
    return None if is_installed else Addition(package=package, inside=failed.inside)


def run_plan(plan: Plan, report: Report, echo: Echo) -> RunOutcome:
    """Execute a plan and return the closed record; the record is closed in every case, also after an error."""
    with closing(Database.open(plan.home.database)) as database:
        # The supervisor process needs as long to start as all steps before `execute`, so both happen in parallel.
        has_terminal = echo is Echo.TERMINAL and not plan.executor.capabilities.runs_images
        with open_record(plan, database, report) as recorder, closing(prepare(terminal=has_terminal)) as supervisor:
            recorder.record_plan()
            folder = check_out_folder(recorder)
            if plan.request.resumes is not None:
                resumption.resume(recorder, folder)
            environment = prepare_environment(recorder, folder)
            command = write_command(recorder, folder, environment)
            inputs = record_inputs(recorder, folder)
            record_key(recorder, inputs)
            execution = execute(recorder, folder, environment, command, echo, supervisor)
            failed = collect(Finished(recorder, folder, environment, inputs, execution))
            release(recorder, folder, keep=execution.ending.status is not RunStatus.FINISHED or OUTPUTS in failed)
            recorder.close(execution.ending)
        return recorder.outcome()


def check_out_folder(recorder: RunRecorder) -> RunFolder:
    """Check out the frozen tree into a run folder; with ``--in-place`` return the project folder itself."""
    plan = recorder.plan
    if plan.request.in_place:
        folder = in_place_run_folder(plan.snapshot, plan.source)
    else:
        required = required_paths(plan)
        folder = check_out(plan.snapshot, plan.source, recorder.run_id, plan.home, recorder.report, required)
    recorder.add(folder=str(folder.root), cwd=str(folder.project))
    return folder


def prepare_environment(recorder: RunRecorder, folder: RunFolder) -> Prepared:
    """Resolve the lock, then build the environment or find it in the cache, verify it, and record both."""
    plan = recorder.plan
    # A run in place builds the project's own packages from the folder as it is now, not from the snapshot.
    frozen = FrozenTree(snapshot=plan.snapshot, files=plan.files, run_folder=folder)
    request = plan.environment_request(FolderTree(folder.project) if folder.in_place else frozen)
    for repair in plan.spec.repairs:
        recorder.report(Event(kind=EventKind.NOTICE, message=f"Repaired: {repair}"))
    request, lock = lock_for_code(
        plan.backend, request, plan.scripts, recorder.report, add_missing=plan.request.add_missing
    )
    if plan.request.repair and ".ipynb" in plan.command:
        request, lock = notebook_tools.with_notebook_tools(plan.backend, request, lock, plan.command, recorder.report)
    if lock is not None:
        recorder.keep_file(lock.file_name, lock.text)
    environment = plan.backend.prepare(request, lock, recorder.report)
    repairs = (*request.spec.repairs, *(lock.repairs if lock else ()))
    record = structs.replace(declared_record(plan, environment.record), repairs=repairs)
    environment = structs.replace(environment, record=record)
    if plan.request.repair:
        environment = with_own_packages(environment, request, plan.scripts, plan.backend)
        if ".ipynb" in plan.command:
            environment = notebook_tools.with_kernels(environment, plan.command, plan.files, recorder.folder)
    record = environment.record
    for repair in (*record.repairs[len(request.spec.repairs) :], *plan.repairs):
        recorder.report(Event(kind=EventKind.NOTICE, message=f"Repaired: {repair}"))
    recorder.add(environment=record)
    recorder.set_tags({ENVIRONMENT_DIGEST_TAG: record.digest, LOCK_DIGEST_TAG: record.lock_digest})
    recorder.set_tags({REPAIRS_TAG: "; ".join((*record.repairs, *plan.repairs)) or None})
    if record.image:
        recorder.set_tags({"mlflow.docker.image.uri": record.image, "mlflow.docker.image.id": record.digest})
    environment = with_trace_hook(recorder, redirect_tracking(recorder, environment))
    return redirect_paths(environment, {one.path: folder.project / one.file for one in plan.replacements})


def redirect_tracking(recorder: RunRecorder, environment: Prepared) -> Prepared:
    """Redirect local tracking stores, and the addresses of ``--serve-as``, to this run."""
    request = recorder.plan.request
    local = [address for address in request.serve_as if is_loopback(address)]
    report_redirects(recorder, tuple(f"the server of this run listens at {address}" for address in local))
    hosts = [address for address in request.serve_as if address not in local]
    if not (request.repair or hosts):
        return environment
    if has_client(environment.record.packages):
        return environment.importing(copy_client_shim(recorder.folder) if environment.container else CLIENT_SHIM)
    if hosts:
        message = f"The environment has no MLflow client that can be redirected from {', '.join(hosts)} to this run"
        recorder.report(Event(kind=EventKind.WARNING, message=message))
    return environment


def write_command(recorder: RunRecorder, folder: RunFolder, environment: Prepared) -> str:
    """Render the command with the paths of the run folder, and download the parameters that are URLs."""
    plan = recorder.plan
    rules = path_rules(plan.source, plan.files, recorder.folder / "downloads", folder.project)
    command = render_command(plan.entry_point, plan.parameters, rules)
    for download in find_downloads(plan.parameters, rules):
        recorder.report(Event(kind=EventKind.STEP, message=f"Fetching {download.url}"))
        fetch(download.url, download.path)
    recorded = render_command(plan.entry_point, plan.parameters, rules, plan.masker)
    recorder.add(command=recorded, argv=shell_argv(recorded, environment.shell))
    # Secrets that are paths read differently in the run folder, so they are masked in this form too.
    recorder.plan = structs.replace(plan, masker=plan.masker.also(secret_texts(plan.parameters, rules)))
    return command


def execute(
    recorder: RunRecorder,
    folder: RunFolder,
    environment: Prepared,
    command: str,
    echo: Echo,
    supervisor: SupervisorHandle,
) -> Execution:
    """Run the command to its end while its tracking socket is open, and record how it ended."""
    plan = recorder.plan
    with open_socket(recorder) as socket, watch_opened_files(recorder, folder, command) as watched:
        variables = command_variables(recorder, folder, environment, socket)
        addresses = (socket.uri.partition("//")[2], *plan.request.serve_as)
        recorder.add(machine=describe_machine(variables), addresses=addresses)
        outcome = plan.executor.execute(
            ExecutionRequest(
                argv=shell_argv(command, environment.shell),
                cwd=folder.project,
                variables=variables,
                log=plan.home.log(recorder.run_id),
                echo=echo,
                timeout=plan.request.timeout or plan.entry_point.timeout,
                masks=(*plan.masker.masks, socket.token.encode()),
                prepared=supervisor,
                dead_addresses=addresses,
                trace=tracer_file(recorder),
                container=environment.container,
                sharing=container_sharing(recorder, folder) if environment.container else None,
            ),
            recorder.report,
        )
        ending = decide_ending(outcome, None)
        recorder.record_exit(ending, outcome)
    final = decide_ending(outcome, socket.final_status)
    if final != ending:
        recorder.record_exit(final, outcome)
    return Execution(
        outcome=outcome,
        ending=final,
        watched=watched,
        was_logged_to=socket.was_used,
        address=f"127.0.0.1:{socket.port}",
        written_runs=socket.written_runs,
    )


def open_socket(recorder: RunRecorder) -> ChildSocket:
    """Open the socket over which the command logs to its run."""
    plan = recorder.plan
    socket = ChildSocket(
        plan.home,
        recorder.run_id,
        recorder.experiment_id,
        recorder.report,
        # MLflow's protocol can't move a run to another experiment, so a run on a server keeps the first one.
        experiment_is_fixed=bool(plan.experiment or plan.request.experiment_id or recorder.live),
        serve_as=tuple(address for address in plan.request.serve_as if is_loopback(address)),
    )
    socket.redact = request_redactor(plan)
    if recorder.live is not None:
        socket.upstream = proxy.TrackingServer(recorder.live.to, recorder.run_id)
    return socket


def request_redactor(plan: Plan) -> Callable[[bytes], bytes] | None:
    """Return the function that masks secrets in the command's requests, None if the run has no secrets."""
    masker = plan.masker
    if not masker.masks:
        return None
    public = {each.name: each.value for each in masker.records(plan.parameters)}
    return lambda body: redaction.redact_request(body, masker, public)


def command_variables(
    recorder: RunRecorder, folder: RunFolder, environment: Prepared, socket: ChildSocket
) -> Mapping[str, str]:
    """Return all environment variables of the command."""
    plan = recorder.plan
    recorded = plan.recorded_variables
    caller = os.environ if recorded is None else with_recorded(os.environ, recorded)
    hosts = [address for address in plan.request.serve_as if not is_loopback(address)]
    leading = redirecting_variables(socket.uri, recorder.redirects_log, hosts, places=plan.request.repair)
    return child_environment(
        {name: value for name, value in environment.inherited(caller).items() if name not in REMOVED_VARIABLES},
        cwd=folder.project,
        path_entries=environment.path_entries,
        variables={
            **environment.variables_in(folder.project),
            **socket.variables(),
            **leading,
            "PROJ_RUN_ID": recorder.run_id,
            "PROJ_METRICS": str(recorder.metrics_log),
            **trace_variables(recorder),
            **({"PROJ_RESUMED_FROM": plan.request.resumes} if plan.request.resumes else {}),
        },
        own={**plan.variables.values, **plan.entry_point.env},
    )


def container_sharing(recorder: RunRecorder, folder: RunFolder) -> Sharing:
    """Return what the run's container can see of this machine: run folder, artifacts, and the targets of links."""
    plan = recorder.plan
    paths = [*(path for path, _ in folder.provided), *(path for _, path in folder.outside_inputs)]
    linked = {path.resolve() for path in paths if path.is_symlink()}
    rules = path_rules(plan.source, plan.files, recorder.folder / "downloads", folder.project)
    return Sharing(
        run_id=recorder.run_id,
        home=plan.home,
        folders=(folder.root, plan.home.root / "runs", *sorted({*linked, *find_paths(plan.parameters, rules)})),
        repository=folder.top,
        project=plan.source.project,
        options=plan.request.container_options,
    )


def decide_ending(outcome: Outcome, claimed: RunStatus | None) -> Ending:
    """Return how a run ended: from how the command ended, and from the status that its script set itself."""
    if outcome.stopped_by == "timeout":
        return Ending(status=RunStatus.KILLED, exit_code=TIMED_OUT, reason="stopped: the time limit was exceeded")
    if outcome.stopped_by:
        exit_code = 128 + Signals[outcome.stopped_by]
        return Ending(status=RunStatus.KILLED, exit_code=exit_code, reason=f"stopped by {outcome.stopped_by}")
    if outcome.exit_code:
        status = RunStatus.KILLED if claimed is RunStatus.KILLED else RunStatus.FAILED
        how = f"signal {outcome.signal}" if outcome.signal else f"exit code {outcome.exit_code}"
        return Ending(status=status, exit_code=outcome.exit_code, reason=f"the command ended with {how}")
    if claimed in (RunStatus.FAILED, RunStatus.KILLED):
        return Ending(status=claimed, exit_code=0, reason=f"the script set the status of its run to {claimed.value}")
    return Ending(status=RunStatus.FINISHED, exit_code=0)


def release(recorder: RunRecorder, folder: RunFolder, *, keep: bool) -> None:
    """Release the run folder; ``keep`` leaves it on disk for the user to inspect."""
    run_guarded(recorder, "The release of the run folder", lambda: folder.release(keep=keep))
