"""What an endpoint works with, and what ties a path of the protocol to it."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from msgspec import Struct

from runner.model import Report
from runner.protocol.errors import ErrorCode, RefusedError
from runner.protocol.requests import AnyRun, Request
from runner.server.run.session import Session
from runner.settings import Home
from runner.store.database import Database


class Upstream(Protocol):
    """The tracking server behind the socket of a run; its methods wait for it, and may be called by any thread."""

    def is_first(self, path: str) -> bool:
        """Say whether an endpoint is asked there before it is here."""
        ...

    def is_second(self, method: str, path: str) -> bool:
        """Say whether an endpoint is asked there when there is no such thing here."""
        ...

    def ask(self, method: str, path: str, content: bytes) -> bytes | None:
        """Return what it answers to a query or a body; None where our store is to answer."""
        ...

    def list_files(self, path: str) -> bytes:
        """Return what is in a folder behind its proxy of artifacts."""
        ...

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield a file behind its proxy of artifacts piece by piece."""
        ...


class Tracking(Struct, frozen=True, kw_only=True):
    """The store that a server serves, and on whose behalf."""

    database: Database
    home: Home
    session: Session
    report: Report
    upstream: Upstream | None = None
    """The tracking server that the registry and what others recorded is asked of, if there is one."""
    redact: Callable[[bytes], bytes] | None = None
    """Takes secrets out of the body of a request, where the command knows any."""


class Stream(Struct, frozen=True):
    """An answer that is too long to be held at once: pieces of one JSON text."""

    pieces: Iterator[bytes]


class Route(Struct, frozen=True):
    """An endpoint: ``path`` is what follows ``/api/2.0/mlflow/``, with fields of the request in braces."""

    method: str
    path: str
    shape: type[Request]
    answer: Callable[[Tracking, Any], object]
    writes: bool | None = None
    """Whether it changes the store; None where the method says so."""
    is_long: bool = False
    """Whether others should not wait for the answer; such a route changes nothing."""

    @property
    def changes(self) -> bool:
        """Whether it changes the store."""
        return self.method != "GET" if self.writes is None else self.writes

    @property
    def parts(self) -> tuple[str | None, ...]:
        """The parts of the path; None stands for a field."""
        return tuple(None if part.startswith("{") else part for part in self.path.split("/"))

    def fields(self, path: str) -> dict[str, str]:
        """Return the fields that a path of this form carries."""
        pairs = zip(self.path.split("/"), path.split("/"), strict=True)
        return {name.strip("{}"): value for name, value in pairs if name.startswith("{")}


def run_of(asked: AnyRun) -> str:
    """Return the id of the run that a request names.

    Raises:
        RefusedError: it names none.
    """
    if not asked.run:
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, "Missing value for required parameter 'run_id'.")
    return asked.run


def run_to_change(tracking: Tracking, asked: AnyRun) -> str:
    """Return the id of the run that a request names, which the caller may change.

    Raises:
        RefusedError: it names none, or that of somebody else.
    """
    run_id = run_of(asked)
    tracking.session.check_run(tracking.database, run_id)
    return run_id
