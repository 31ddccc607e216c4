"""One run, from its plan to its closed record. Read `run_plan` from top to bottom."""

import os
from contextlib import closing
from signal import Signals

from msgspec import structs

from runner.cutoff import offer_commit_day
from runner.environments.additions import Addition, remember_additions, with_additions
from runner.environments.backends import provides_images
from runner.environments.deciding import lock_for_code, with_own_packages
from runner.environments.missing import explain_failed_import, failed_import, installed_bringer, package_to_add
from runner.environments.python_backend import PythonBackend
from runner.environments.repairs import is_changeable
from runner.environments.trees import FolderTree
from runner.environments.words import Prepared, lead_paths
from runner.errors import AbsentImageError, UnbuildableError
from runner.executors import ExecutionRequest, Sharing, child_environment
from runner.manifest import (
    find_downloads,
    find_paths,
    render_command,
    secret_texts,
    serve_hint,
    served_address,
    shell_argv,
)
from runner.model import Event, EventKind, Report, RunRequest, RunStatus
from runner.plan import Plan, declared_record, make_plan, path_rules, without_container
from runner.process import Echo, Outcome, prepare
from runner.process import Prepared as Watcher
from runner.provenance.downloads import fetch
from runner.provenance.inputs import digest_inputs
from runner.provenance.machine import describe_machine
from runner.provenance.metrics import read_metrics_files, read_metrics_log
from runner.provenance.outputs import collect_outputs
from runner.recording import Ending, Recording, RunOutcome, open_recording
from runner.server.redirects import INSIDE, copy_inside, has_client, is_loopback, read_redirects, redirecting_variables
from runner.server.socket import REMOVED_VARIABLES
from runner.server.unreachable import unreachable_servers
from runner.settings import Home
from runner.source.folder import RunFolder, Wishes, lay_out, stay_in_place
from runner.source.frozen import FrozenTree
from runner.source.snapshot import tree_again
from runner.store.database import Database

MAX_ATTEMPTS = 5
MOST_TOLD = 20
"""Notices of one sort that are told and recorded: a run can touch thousands of files."""
TIMED_OUT = 124
"""Exit code for a command that ran out of time, as timeout(1) has it."""


def run_project(request: RunRequest, home: Home, report: Report, echo: Echo = Echo.SPLIT) -> RunOutcome:
    """Run what is asked for and return its closed record.

    Raises:
        ProjError: something asked for can't be had; nothing has been recorded.
    """
    return run_with_repairs(make_plan(request, home, report), report, echo)


def run_with_repairs(plan: Plan, report: Report, echo: Echo) -> RunOutcome:
    """Run a plan; where that fails in a way that can be repaired and may be, repair it and run once more.

    Each attempt is a run with a record of its own; the last one is returned.
    """
    outcome = run_plan(plan, report, echo)
    for _ in range(MAX_ATTEMPTS):
        again = plan_again(plan, outcome, report)
        if again is None:
            break
        plan = again
        outcome = run_plan(plan, report, echo)
        if plan.additions and outcome.error is None:
            remember_additions(plan.additions_note, plan.additions)
    if outcome.exit_code and plan.request.repair and (hint := offer_commit_day(plan.request.as_of, plan.snapshot)):
        report(Event(kind=EventKind.WARNING, message="The packages may be too new for this code", hint=hint))
    return outcome


def plan_again(plan: Plan, outcome: RunOutcome, report: Report) -> Plan | None:
    """Return the plan of another attempt: without a container that can't be had, with a package that was missing."""
    request, error = plan.request, outcome.error
    if isinstance(error, AbsentImageError) and provides_images(plan.backend) and request.repair:
        if request.environment_manager is not None:
            return None
        report(Event(kind=EventKind.WARNING, message=error.message, hint="Running once more, without a container"))
        return without_container(plan, f"the container that is declared can't be had ({error.message})")
    if isinstance(error, UnbuildableError) and isinstance(plan.backend, PythonBackend):
        told = plan.backend.move_interpreter(plan.environment_request(), report)
        if told is None:
            return None
        report(Event(kind=EventKind.WARNING, message=error.message, hint=f"Running once more. {told}"))
        return plan
    missing = outcome.missing
    may_add = missing is not None and (request.add_missing or (missing.inside is not None and request.repair))
    if missing is None or not may_add or missing in plan.additions or not is_changeable(plan.spec):
        return None
    report(Event(kind=EventKind.STEP, message=f"Running once more, with '{missing.package}'"))
    return structs.replace(plan, spec=with_additions(plan.spec, (missing,)), additions=(*plan.additions, missing))


def run_plan(plan: Plan, report: Report, echo: Echo) -> RunOutcome:
    """Run what is planned and return its closed record; whatever happens, the record tells it."""
    with closing(Database.open(plan.home.database)) as database:
        # The watcher of the command takes as long to start as all that comes before the command: both at once.
        with open_recording(plan, database, report) as recording, closing(prepare()) as watcher:
            folder = lay_out_folder(recording)
            environment = prepare_environment(recording, folder)
            command = write_command(recording, folder, environment)
            outcome = execute(recording, folder, environment, command, echo, watcher)
            ending = judge(outcome, recording.claimed_status)
            collect(recording, folder, outcome, ending)
            close(recording, folder, ending)
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
    # What is built from the user's own folder is built from what is there now.
    frozen = FrozenTree(snapshot=plan.snapshot, files=plan.files, laid_out=folder)
    request = plan.environment_request(FolderTree(folder.project) if folder.in_place else frozen)
    for repair in plan.spec.repairs:
        recording.report(Event(kind=EventKind.NOTICE, message=f"Repaired: {repair}"))
    request, lock = lock_for_code(
        plan.backend, request, plan.scripts, recording.report, add_missing=plan.request.add_missing
    )
    if lock is not None:
        recording.keep_file(lock.file_name, lock.text)
    environment = plan.backend.prepare(request, lock, recording.report)
    repairs = (*request.spec.repairs, *(lock.repairs if lock else ()))
    record = structs.replace(declared_record(plan, environment.record), repairs=repairs)
    environment = structs.replace(environment, record=record)
    if plan.request.repair:
        environment = with_own_packages(environment, request, plan.scripts, plan.backend)
    record = environment.record
    for repair in (*record.repairs[len(request.spec.repairs) :], *plan.repairs):
        recording.report(Event(kind=EventKind.NOTICE, message=f"Repaired: {repair}"))
    recording.add(environment=record)
    recording.set_tags({"proj.environment.digest": record.digest, "proj.lock.digest": record.lock_digest})
    recording.set_tags({"proj.repairs": "; ".join((*record.repairs, *plan.repairs)) or None})
    if record.image:
        recording.set_tags({"mlflow.docker.image.uri": record.image, "mlflow.docker.image.id": record.digest})
    return lead_paths(lead_here(recording, environment), {one.path: folder.project / one.file for one in plan.leads})


def lead_here(recording: Recording, environment: Prepared) -> Prepared:
    """Let what the code logs to its own disk reach this run, and what it logs to hosts for which the run answers."""
    request = recording.plan.request
    here = [address for address in request.serve_as if is_loopback(address)]
    tell_redirects(recording, tuple(f"this run answers at {address}, where its code logs" for address in here))
    hosts = [address for address in request.serve_as if address not in here]
    if not (request.repair or hosts):
        return environment
    if has_client(environment.record.packages):
        return environment.importing(copy_inside(recording.folder) if environment.container else INSIDE)
    if hosts:
        told = f"The environment has no client of MLflow that can be led from {', '.join(hosts)} to this run"
        recording.report(Event(kind=EventKind.WARNING, message=told))
    return environment


def tell_redirects(recording: Recording, told: tuple[str, ...]) -> None:
    """Say and record where the code would log, and this run is instead."""
    if told:
        told = tuple(map(recording.plan.masker.text, told))
        redirects = (*recording.details.redirects, *told)
        recording.add(redirects=redirects)
        recording.set_tags({"proj.redirects": "; ".join(redirects)})
    for redirect in told:
        recording.report(Event(kind=EventKind.NOTICE, message=f"Redirected: {redirect}"))


def write_command(recording: Recording, folder: RunFolder, environment: Prepared) -> str:
    """Write the command with the paths of the run folder, and fetch what it names by URL."""
    plan = recording.plan
    rules = path_rules(plan.source, plan.files, recording.folder / "downloads", folder.project)
    command = render_command(plan.entry_point, plan.parameters, rules)
    for download in find_downloads(plan.parameters, rules):
        recording.report(Event(kind=EventKind.STEP, message=f"Fetching {download.url}"))
        fetch(download.url, download.path)
    recorded = render_command(plan.entry_point, plan.parameters, rules, plan.masker)
    recording.add(command=recorded, argv=shell_argv(recorded, environment.shell))
    # The run folder has other paths than the project.
    recording.plan = structs.replace(plan, masker=plan.masker.also(secret_texts(plan.parameters, rules)))
    return command


def execute(
    recording: Recording, folder: RunFolder, environment: Prepared, command: str, echo: Echo, watcher: Watcher
) -> Outcome:
    """Run the command to its end, beside the socket that its tracking client talks to."""
    plan = recording.plan
    hosts = [address for address in plan.request.serve_as if not is_loopback(address)]
    with recording.open_socket() as socket, recording.watching(folder):
        leading = redirecting_variables(socket.uri, recording.redirects_log, hosts, places=plan.request.repair)
        variables = child_environment(
            {name: value for name, value in environment.inherited(os.environ).items() if name not in REMOVED_VARIABLES},
            cwd=folder.project,
            path_entries=environment.path_entries,
            variables={
                **environment.variables_in(folder.project),
                **socket.variables(),
                **leading,
                "PROJ_RUN_ID": recording.run_id,
                "PROJ_METRICS": str(recording.metrics_log),
            },
            own=plan.entry_point.env,
        )
        recording.add(machine=describe_machine(variables))
        outcome = plan.executor.execute(
            ExecutionRequest(
                argv=shell_argv(command, environment.shell),
                cwd=folder.project,
                variables=variables,
                log=plan.home.log(recording.run_id),
                echo=echo,
                timeout=plan.request.timeout or plan.entry_point.timeout,
                masks=(*plan.masker.masks, socket.token.encode()),
                prepared=watcher,
                container=environment.container,
                sharing=share(recording, folder) if environment.container else None,
            ),
            recording.report,
        )
    recording.own_address = f"127.0.0.1:{socket.port}"
    recording.claimed_status = socket.final_status
    recording.was_logged_to = socket.was_used
    tell_redirects(recording, read_redirects(recording.redirects_log))
    return outcome


def share(recording: Recording, folder: RunFolder) -> Sharing:
    """Return what a container of the run sees of this machine: run folder, artifacts, and all that these lead to."""
    plan = recording.plan
    places = [*(place for place, _ in folder.provided), *(place for _, place in folder.beyond)]
    linked = {place.resolve() for place in places if place.is_symlink()}
    rules = path_rules(plan.source, plan.files, recording.folder / "downloads", folder.project)
    return Sharing(
        run_id=recording.run_id,
        home=plan.home,
        folders=(folder.root, plan.home.root / "runs", *sorted({*linked, *find_paths(plan.parameters, rules)})),
        repository=folder.top,
        project=plan.source.project,
        options=plan.request.container_options,
    )


def judge(outcome: Outcome, claimed: RunStatus | None) -> Ending:
    """Return how a run ended: what its command did, and what its script said on purpose, both count."""
    if outcome.stopped_by == "timeout":
        return Ending(status=RunStatus.KILLED, exit_code=TIMED_OUT, reason="stopped: it ran out of time")
    if outcome.stopped_by:
        exit_code = 128 + Signals[outcome.stopped_by]
        return Ending(status=RunStatus.KILLED, exit_code=exit_code, reason=f"stopped by {outcome.stopped_by}")
    if outcome.exit_code:
        status = RunStatus.KILLED if claimed is RunStatus.KILLED else RunStatus.FAILED
        how = f"signal {outcome.signal}" if outcome.signal else f"exit code {outcome.exit_code}"
        return Ending(status=status, exit_code=outcome.exit_code, reason=f"the command ended with {how}")
    if claimed in (RunStatus.FAILED, RunStatus.KILLED):
        return Ending(status=claimed, exit_code=0, reason=f"the script itself ended its run as {claimed.value}")
    return Ending(status=RunStatus.FINISHED, exit_code=0)


def collect(recording: Recording, folder: RunFolder, outcome: Outcome, ending: Ending) -> None:
    """Collect what the command used and made: resources, inputs, outputs, metrics."""
    plan = recording.plan
    metrics = [
        *read_metrics_log(recording.metrics_log, recording.report),
        *read_metrics_files(
            folder.project, plan.entry_point.metrics, recording.report, all_due=ending.status is RunStatus.FINISHED
        ),
    ]
    recording.log_metrics(metrics, outcome.ended_at)
    changes = folder.inspect()
    # A folder that is given up need not keep its own copy of the outputs.
    is_given_up = ending.status is RunStatus.FINISHED and not folder.in_place
    outputs, left_out = collect_outputs(
        folder.project,
        changes.files,
        plan.home.artifacts(recording.run_id),
        move=is_given_up,
        name=plan.masker.name if plan.masker.masks else None,
    )
    inputs, unread = digest_inputs(
        folder.project, plan.entry_point.inputs, recording.opened, plan.home.root / "cache" / "digests"
    )
    inputs = tuple(structs.replace(one, path=plan.masker.name(one.path)) for one in inputs)
    recording.add(exit_code=outcome.exit_code, resources=outcome.resources, inputs=inputs, outputs=outputs)
    for file in (recording.metrics_log, recording.redirects_log):
        plan.masker.file(file)
    for notices in (changes.notices, left_out, unread):
        more = (f"and {len(notices) - MOST_TOLD} more like these",) if len(notices) > MOST_TOLD else ()
        for notice in (*notices[:MOST_TOLD], *more):
            recording.report(Event(kind=EventKind.NOTICE, message=notice))
    if folder.in_place and tree_again(plan.source, plan.home) != plan.code.tree:
        recording.set_tags({"proj.tree.changed": "true"})
        recording.report(Event(kind=EventKind.WARNING, message="the code or its outputs changed during the run"))


def explain_import(recording: Recording, log: str) -> bool:
    """Say which package has the module whose import ended the command; return whether one did."""
    plan, environment = recording.plan, recording.details.environment
    failed = failed_import(log, environment.prefix if environment else None)
    if failed is None:
        return False
    installed = [name for name, _ in environment.packages] if environment else []
    package = package_to_add(failed, plan.scripts)
    if package and installed_bringer(failed.module, installed) is None:
        recording.missing = Addition(package=package, inside=failed.inside)
    recording.report(explain_failed_import(failed, plan.spec, plan.scripts, installed))
    return True


def tell_where_it_logged(recording: Recording) -> None:
    """Say that a script logged to another place than its run."""
    plan = recording.plan
    places = [place.text for script in plan.scripts.found for place in script.tracking]
    elsewhere = [place for place in dict.fromkeys(places) if served_address(place) not in plan.request.serve_as]
    if recording.was_logged_to:
        return
    if not elsewhere and "mlflow" in {module.partition(".")[0] for module in plan.scripts.outside()}:
        recording.report(Event(kind=EventKind.NOTICE, message="the code imports mlflow, and nobody logged to this run"))
    if elsewhere:
        told = f"the code logs to {', '.join(elsewhere)}, and nothing of it is in this record"
        recording.report(Event(kind=EventKind.NOTICE, message=told))


def tell_unreachable(recording: Recording, log: str) -> None:
    """Say which tracking servers the script wanted and could not reach, and that the run can answer for them."""
    for url in unreachable_servers(log):
        address = served_address(url)
        if address and address not in (*recording.plan.request.serve_as, recording.own_address):
            told = f"the code wanted to log to {address}, which can't be reached"
            recording.report(Event(kind=EventKind.WARNING, message=told, hint=serve_hint(address)))


def close(recording: Recording, folder: RunFolder, ending: Ending) -> None:
    """Close the record; the folder of a run that did not finish is kept."""
    never_began = False
    if ending.status is not RunStatus.FINISHED:
        log = recording.end_of_log()
        why = folder.explain_missing(log, recording.plan.source.project)
        if why:
            recording.report(Event(kind=EventKind.WARNING, message=why))
        never_began = explain_import(recording, log)
    if not never_began:
        tell_where_it_logged(recording)
        tell_unreachable(recording, recording.end_of_log())
    folder.release(keep=ending.status is not RunStatus.FINISHED)
    recording.close(ending)
