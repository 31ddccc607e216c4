"""What `runner.run` does; events go to the log named ``proj``."""

import logging
from collections.abc import Mapping

import msgspec

from runner.model import Event, EventKind, RunRecord, RunRequest
from runner.process import Echo
from runner.settings import open_home
from runner.workflow import run_project

LOG = logging.getLogger("proj")


def run(
    uri: str, entry_point: str | None, parameters: Mapping[str, object], options: Mapping[str, object]
) -> RunRecord:
    """Run an entry point to its end and return its record.

    Raises:
        TypeError: an option does not exist or has a wrong type.
        ProjError: the run could not be started or its environment not be built.
    """
    words = {name: str(value) for name, value in parameters.items()}
    facts = {"uri": uri, "entry_point": entry_point, "parameters": words, **options}
    unknown = sorted(set(facts) - set(RunRequest.__struct_fields__))
    if unknown:
        raise TypeError(f"run() has no option {', '.join(map(repr, unknown))}")
    try:
        request = msgspec.convert(facts, RunRequest)
    except msgspec.ValidationError as error:
        raise TypeError(str(error)) from error
    outcome = run_project(request, open_home(), _log_event, Echo.SPLIT)
    if outcome.error:
        raise outcome.error
    return outcome.record


def _log_event(event: Event) -> None:
    LOG.log(logging.WARNING if event.kind is EventKind.WARNING else logging.INFO, "%s", event.message)
