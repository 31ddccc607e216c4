"""The process of a run that is started with ``runner.run(..., wait=False)``."""

import os
import sys
import traceback
from collections.abc import Callable

import msgspec
from msgspec import Struct

from runner.errors import ProjError
from runner.interactive.reading import enter_home
from runner.model import Event, RunRequest
from runner.process import Echo
from runner.store.database import Database
from runner.workflow import run_project


class Failure(Struct, frozen=True, kw_only=True):
    """An error of the other process: the name of its class, and its texts."""

    kind: str
    message: str
    context: str | None = None
    hint: str | None = None


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line that the process writes: an event, an error, or the id of the closed run."""

    event: Event | None = None
    failure: Failure | None = None
    run_id: str | None = None


def main() -> None:
    """Read a request from stdin, run it, and write messages to stdout."""
    send = _sender()
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=RunRequest)
    try:
        home = enter_home(writing=True)
        Database.check(home.database)
        outcome = run_project(request, home, lambda event: send(Message(event=event)), Echo.NONE)
    except ProjError as error:
        send(Message(failure=failure_of(error)))
        sys.exit(error.exit_code)
    except Exception as error:
        text = f"an internal error of proj: {type(error).__name__}: {error}"
        send(Message(failure=Failure(kind="ProjError", message=text, context=traceback.format_exc())))
        raise
    failure = failure_of(outcome.error) if outcome.error else None
    send(Message(run_id=outcome.record.run_id, failure=failure))
    sys.exit(outcome.exit_code)


def failure_of(error: ProjError) -> Failure:
    """Return an error in a form that can be sent."""
    return Failure(kind=type(error).__name__, message=error.message, context=error.context, hint=error.hint)


def _sender() -> Callable[[Message], None]:
    """Return the function that writes messages; the run goes on if nobody reads them any more."""
    out = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing else may write between the messages

    def send(message: Message) -> None:
        try:
            os.write(out, msgspec.json.encode(message) + b"\n")
        except BrokenPipeError:
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, out)
            os.close(devnull)

    return send
