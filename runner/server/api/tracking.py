"""Defines the context of an endpoint and the routes of the protocol."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from msgspec import Struct

from runner.model import Report
from runner.protocol.errors import ErrorCode, RefusedError
from runner.protocol.requests import AnyRun, Request
from runner.server.api.session import Session
from runner.server.upload_digests import UploadDigests
from runner.settings import Home
from runner.store.database import Database


class Upstream(Protocol):
    """The tracking server of a run; its methods block, and can be called from any thread."""

    def is_first(self, path: str) -> bool:
        """Check whether an endpoint is sent to the tracking server first."""
        ...

    def is_second(self, method: str, path: str) -> bool:
        """Check whether an endpoint is sent to the tracking server when the local store does not have the object."""
        ...

    def ask(self, method: str, path: str, content: bytes) -> bytes | None:
        """Return the response to a query or a body; None when the local store responds."""
        ...

    def list_files(self, path: str) -> bytes:
        """List a folder through the artifact proxy of the tracking server."""
        ...

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield a file from the artifact proxy of the tracking server in pieces."""
        ...


class Tracking(Struct, frozen=True, kw_only=True):
    """The store of a server, and the session of its clients."""

    database: Database
    home: Home
    session: Session
    report: Report
    upstream: Upstream | None = None
    """The tracking server that registry and search calls are proxied to, if there is one."""
    redact: Callable[[bytes], bytes] | None = None
    """Removes secrets from the body of a request, if the command has any."""
    uploads: UploadDigests | None = None
    """Records the digests of uploads; the end of a run records those of its own server."""


class Stream(Struct, frozen=True):
    """A response that is too long for memory: the pieces of one JSON text."""

    pieces: Iterator[bytes]


class Route(Struct, frozen=True):
    """An endpoint; ``path`` is the part after ``/api/2.0/mlflow/``, with fields of the request in braces."""

    method: str
    path: str
    schema: type[Request]
    handler: Callable[[Tracking, Any], object]
    writes: bool | None = None
    """Whether the endpoint changes the store; None means every method except GET does."""
    is_long: bool = False
    """Whether the endpoint runs in a thread, so that others do not wait; it must not change the store."""
    is_search: bool = False
    """Whether the endpoint moves to a thread when it takes long, with a time limit; it must not change the store."""
    is_listing: bool = False
    """Whether the endpoint lists a folder; it must not change the store."""

    @property
    def changes(self) -> bool:
        """Whether the endpoint changes the store."""
        return self.method != "GET" if self.writes is None else self.writes

    @property
    def parts(self) -> tuple[str | None, ...]:
        """The segments of the path; None stands for a field."""
        return tuple(None if part.startswith("{") else part for part in self.path.split("/"))

    def fields(self, path: str) -> dict[str, str]:
        """Return the fields in a path of this route."""
        pairs = zip(self.path.split("/"), path.split("/"), strict=True)
        return {name.strip("{}"): value for name, value in pairs if name.startswith("{")}


def run_of(request: AnyRun) -> str:
    """Return the id of the run that a request names.

    Raises:
        RefusedError: the request names no run.
    """
    if not request.run:
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, "Missing value for required parameter 'run_id'.")
    return request.run


def run_to_change(tracking: Tracking, request: AnyRun) -> str:
    """Return the id of the run that a request names, after checking that the caller may change it.

    Raises:
        RefusedError: the request names no run, or the caller may not change it.
    """
    run_id = run_of(request)
    tracking.session.check_run(tracking.database, run_id)
    return run_id
