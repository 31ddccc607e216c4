"""Makes the request of a run that continues an interrupted one."""

from pathlib import Path

from msgspec import structs

from runner.base.masking import STARS, Masker
from runner.cli.output import read_store
from runner.cli.text import print_message
from runner.errors import UsageError
from runner.manifest import command_again, recorded_arguments
from runner.model import ParameterRecord, RunRequest, RunStatus, ValueSource
from runner.settings import Home, tracking_uri
from runner.store import experiments, runs
from runner.store.entities import Run
from runner.store.run_selection import resolve

_GIVEN = {
    "entry_point": "--entry-point",
    "version": "--version",
    "parameters_file": "--params-file",
    "experiment_name": "--experiment",
    "experiment_id": "--experiment-id",
    "as_of": "--as-of",
    "in_place": "--in-place",
}
"""Fields of a request that the interrupted run decides, and their options."""


def resume_request(request: RunRequest, reference: str) -> RunRequest:
    """Return a request for the same code, environment and parameters as an interrupted run.

    Raises:
        UsageError: the run did not end by an interruption, or the user sets what the run decides.
        NotFoundError: there is no such run.
    """
    _refuse_options(request)
    with read_store() as (database, home):
        run = runs.get(database, resolve(database, reference, print_message))
        experiment = experiments.get(database, run.experiment_id).name
    _refuse_state(run, home)
    environment, server = run.details.environment, tracking_uri(request.tracking_uri)
    entry_point, command = _command(run, request.command)
    return structs.replace(
        request,
        uri=run.details.project or request.uri,
        resumes=run.run_id,
        entry_point=entry_point,
        command=command,
        parameters=_parameters(run, request),
        # On a tracking server the experiment has another id.
        experiment_name=experiment if server else None,
        experiment_id=None if server else run.experiment_id,
        run_name=request.run_name or run.name,
        environment_manager=request.environment_manager or (environment.manager if environment else None),
        as_of=environment.as_of if environment else None,
    )


def _refuse_options(request: RunRequest) -> None:
    named = [option for field, option in _GIVEN.items() if getattr(request, field)]
    if request.uri != ".":
        named.append("PROJECT")
    if named:
        raise UsageError(
            f"--resume takes code, environment and parameters from the run, so {named[0]} can't be given",
            hint="Leave it out, or start a new run without --resume.",
        )


def _command(run: Run, given: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Return entry point and command of a run; arguments are given only for secrets that were not recorded.

    Raises:
        UsageError: the given arguments are not those of the run.
    """
    details = run.details
    arguments = recorded_arguments(details.entry_point, details.template)
    if given and arguments is not None and Masker().arguments(given) != Masker().arguments(arguments):
        raise UsageError(
            f"--resume takes the command of the run: {details.template}",
            hint="Leave the command out, or start a new run without --resume.",
        )
    return command_again(details.entry_point, details.template, given)


def _refuse_state(run: Run, home: Home) -> None:
    short, details = run.run_id[:8], run.details
    if run.status is RunStatus.FINISHED:
        raise UsageError(f"run {short} has finished: nothing is left to resume", hint="Start a new run.")
    if not run.status.is_over:
        raise UsageError(f"run {short} is still running", hint=f"proj log -f {short} follows it, proj stop {short}.")
    if details.command is None:
        raise UsageError(f"run {short} was not started by `proj run` in this home, so it can't be resumed")
    if details.folder is not None and not Path(details.folder).is_relative_to(home.folders):
        raise UsageError(
            f"run {short} ran in the project folder itself: its files are there",
            hint="Start it again with --in-place.",
        )


def _parameters(run: Run, request: RunRequest) -> dict[str, str]:
    """Return the parameters of a run; secret ones, which are not recorded, come from the user.

    Raises:
        UsageError: a secret value is missing, or the user sets a value that the run decides.
    """
    recorded = [one for one in run.details.parameters if one.source != ValueSource.DEFAULT.value or _is_secret(one)]
    secret = {one.name for one in recorded if _is_secret(one)}
    other = next((name for name in request.parameters if name not in secret), None)
    if other is not None:
        raise UsageError(
            f"--resume takes the parameters of the run, so -P {other} can't be given", hint="Start a new run for it."
        )
    missing = [one.name for one in recorded if _is_secret(one) and one.name not in request.parameters]
    needed = [name for name in missing if _source_of(run, name) != ValueSource.DEFAULT.value]
    if needed:
        raise UsageError(
            f"the value of '{needed[0]}' is secret and not recorded", hint=f"Give it again: -P {needed[0]}=VALUE"
        )
    known = {one.name: one.text for one in recorded if one.name not in secret}
    return {**known, **request.parameters}


def _source_of(run: Run, name: str) -> str | None:
    return next((one.source for one in run.details.parameters if one.name == name), None)


def _is_secret(parameter: ParameterRecord) -> bool:
    return STARS in parameter.value
