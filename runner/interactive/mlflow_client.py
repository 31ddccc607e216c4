"""Leads the MLflow client of this process, if it is imported, to the run that is open."""

import sys
from typing import Protocol, cast

from runner.model import Event, EventKind, Report


class _Info(Protocol):
    run_id: str


class _Run(Protocol):
    info: _Info


class Client(Protocol):
    """The functions of the module ``mlflow`` that are used."""

    def active_run(self) -> _Run | None:
        """Return the run to which this thread logs."""
        ...

    def start_run(self, run_id: str, *, nested: bool) -> object:
        """Log to a run."""
        ...

    def end_run(self, status: str) -> None:
        """End the run to which this thread logs."""
        ...

    def get_tracking_uri(self) -> str:
        """Return the URI of the server or store."""
        ...


def imported_client() -> Client | None:
    """Return the module ``mlflow`` if the program has imported it; proj itself never does."""
    module = sys.modules.get("mlflow")
    return cast("Client", module) if hasattr(module, "active_run") else None


def lead_client(run_id: str, uri: str, report: Report) -> None:
    """Let the client log to a run from now on; warn if it logs elsewhere.

    A client that is imported later finds the run by its variables.
    """
    client = imported_client()
    if client is None:
        return
    try:
        elsewhere = client.get_tracking_uri()
        if elsewhere.rstrip("/") != uri:
            hint = "the program called mlflow.set_tracking_uri(); without the call, mlflow logs to the run"
            report(Event(kind=EventKind.WARNING, message=f"mlflow logs to {elsewhere}, not to this run", hint=hint))
        elif client.active_run() is not None:
            client.start_run(run_id, nested=True)
    except Exception as error:  # noqa: BLE001  any version of the client; the run itself goes on
        _report_failure("mlflow could not be led to this run", error, report)


def release_client(run_id: str, status: str, report: Report) -> None:
    """End the run in the client, so that it does not log to a run that has ended."""
    client = imported_client()
    if client is None:
        return
    try:
        active = client.active_run()
        if active is not None and active.info.run_id == run_id:
            client.end_run(status)
    except Exception as error:  # noqa: BLE001  as above
        _report_failure("mlflow could not end its run", error, report)


def _report_failure(what: str, error: Exception, report: Report) -> None:
    report(Event(kind=EventKind.WARNING, message=f"{what}: {type(error).__name__}: {error}"))
