"""The ASGI application for MLflow's REST protocol; handlers run on the event loop, because a write takes only 30 µs."""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from functools import cache, partial
from typing import Any

import msgspec
from msgspec import Struct, structs

from runner.errors import NotFoundError
from runner.model import Event, EventKind
from runner.protocol.errors import ErrorCode, RefusedError, Response, error_response, response_for
from runner.protocol.requests import ListProxied, read_body, read_query
from runner.protocol.responses import SERVER_VERSION
from runner.server import guards, long_requests, sending, zero_copy
from runner.server.api import artifacts, experiments, metrics, models, parts, registry, runs
from runner.server.api.openapi import document
from runner.server.api.tracking import Route, Stream, Tracking, Upstream
from runner.server.budgets import PLAIN, TRANSFERS
from runner.server.guards import OPEN_PATHS, Caller, Guard, read_headers
from runner.server.sending import Message, Send
from runner.server.write_batching import WriteBatcher
from runner.store.artifacts import list_artifacts, open_artifact

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

VERSION = SERVER_VERSION
SERVER_INFO = {"store_type": "SqlStore", "workspaces_enabled": False, "trace_archival_enabled": False}

_NOT_PRESIGNED = "Presigned download is not supported for the current artifact repository"
"""Error text that makes MLflow clients download a file from the server itself."""

_PREFIX = re.compile(r"/(?:ajax-)?api/[23]\.0/(?:preview/)?mlflow/(?P<path>.+?)/?")
_PROXY = re.compile(
    r"/(?:ajax-)?api/[23]\.0/mlflow-artifacts/(?P<verb>artifacts|mpu|presigned)(?:/(?P<path>.*))?", re.DOTALL
)

_OUT_OF_SCOPE = re.compile(
    r"/v1/traces|/(?:ajax-)?api/[23]\.0/(?:preview/)?mlflow/"
    r"(?:traces?|webhooks|scorers|datasets|assessments|genai|issues|jobs|label-schemas|prompt-optimization|review-queues"
    r"|gateway[\w-]*|databricks)(?:/.*)?"
)
"""Endpoints of MLflow that proj does not implement."""

_ROUTES: tuple[Route, ...] = (
    *experiments.ROUTES,
    *runs.ROUTES,
    *metrics.ROUTES,
    *models.ROUTES,
    *registry.ROUTES,
    *artifacts.ROUTES,
)
_EXACT = {(route.method, route.path): route for route in _ROUTES if "{" not in route.path}
_FORMS = tuple(route for route in _ROUTES if "{" in route.path)


class Served(Struct, frozen=True, kw_only=True):
    """The log entry of a request; it contains no secrets."""

    peer: str
    caller: str
    method: str
    path: str
    status: int
    seconds: float


def build_app(tracking: Tracking, guard: Guard, observe: Callable[[Served], None] | None = None) -> App:
    """Build the application that serves a store; ``guard`` checks each request, ``observe`` is called after it."""
    writes = WriteBatcher(tracking.database)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        caller = ""
        method, path = scope["method"], scope["path"]
        call = Call(tracking=tracking, writes=writes, method=method, path=path, scope=scope, receive=receive)
        try:
            check = partial(guard.check, path, scope)
            known = check()
            caller = known.name
            response = await _respond(structs.replace(call, may_write=known.may_write, check=check), send)
        except Exception as error:  # noqa: BLE001  every error becomes a response of the protocol
            response = response_for(error, str(tracking.home.root))
            _report_failure(call, response, error)
        if response is not None:
            response = await sending.send_response(send, response)
        if observe is not None:
            observe(_served(call, caller, response, time.perf_counter() - started))

    return serve


class Call(Struct, frozen=True, kw_only=True):
    """One request, and everything that its handler needs."""

    tracking: Tracking
    writes: WriteBatcher
    method: str
    path: str
    scope: Scope
    receive: Receive
    may_write: bool = False
    check: Callable[[], Caller] | None = None
    """Authenticates the caller again; raises RefusedError when the token was revoked."""

    def check_may_write(self) -> None:
        """Refuse a change by a caller with a read-only token.

        Raises:
            RefusedError: the token is read-only.
        """
        if not self.may_write:
            raise RefusedError(ErrorCode.PERMISSION_DENIED, "Your token is read-only.")

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; the token of the caller is checked once a second.

        Raises:
            RefusedError: the client disconnected, or its token was revoked.
        """
        more = True
        check = guards.periodic_check(self.check)
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise RefusedError(ErrorCode.BAD_REQUEST, "The connection was closed before the request was complete.")
            more = message.get("more_body", False)
            check(more)
            yield message.get("body", b"")

    async def body(self) -> bytes:
        """Return the whole body.

        Raises:
            RefusedError: the body is too large, or the client disconnected.
        """
        guards.check_length(self.scope["headers"])
        parts: list[bytes] = []
        size = 0
        async for piece in self.pieces():
            size += len(piece)
            if size > guards.MAX_BODY:
                raise guards.too_large()
            parts.append(piece)
        return b"".join(parts)


async def _respond(call: Call, send: Send) -> Response | None:
    """Respond to a call; None when the response was already sent in pieces."""
    protocol = _PREFIX.fullmatch(call.path)
    if protocol is not None:
        found = await _respond_to_protocol(call, protocol["path"])
        if isinstance(found, Stream):
            await sending.send_stream(found, send)
            return None
        return found if isinstance(found, Response) else _json(found)
    proxy = _PROXY.fullmatch(call.path)
    if proxy is not None:
        if proxy["verb"] == "mpu":
            return await _respond_to_parts(call, proxy["path"] or "", send)
        if proxy["verb"] != "artifacts":
            raise RefusedError(ErrorCode.NOT_IMPLEMENTED, _NOT_PRESIGNED)
        return await _respond_to_proxy(call, proxy["path"] or "", send)
    if call.method == "GET" and call.path in OPEN_PATHS:
        return _OPEN[call.path]()
    raise _unknown(call)


async def _respond_to_protocol(call: Call, path: str) -> object:
    if path == "server-info" and call.method == "GET":
        return SERVER_INFO
    route = _EXACT.get((call.method, path))
    fields: dict[str, str] = {}
    if route is None:
        parts = path.split("/")
        route = next((form for form in _FORMS if form.method == call.method and _fits(form, parts)), None)
        if route is None:
            raise _unknown(call)
        fields = route.fields(path)
    if route.changes:
        call.check_may_write()
    content = call.scope["query_string"] if call.method == "GET" else await call.body()
    if call.method == "GET":
        request = read_query(route.schema, content.decode("latin-1"), fields)
    else:
        if route.changes and call.tracking.redact is not None:
            content = call.tracking.redact(content)
        request = read_body(route.schema, content, fields)
    here = partial(route.handler, call.tracking, request)
    upstream = call.tracking.upstream
    if upstream is None:
        return await _respond_here(call, route, here)
    return await _respond_with_upstream(upstream, call, path, content, here)


async def _respond_here(call: Call, route: Route, here: Callable[[], object]) -> object:
    """Respond from the local store."""
    if route.is_search:
        return await long_requests.search(call.tracking.database, here)
    if route.is_listing:
        return await long_requests.list_files(here)
    if route.is_long:
        return await long_requests.read_histories(call.tracking.database, here)
    return await call.writes.make(here)


async def _respond_with_upstream(
    upstream: Upstream, call: Call, path: str, content: bytes, here: Callable[[], object]
) -> object:
    """Respond from the local store, or from the tracking server of the run."""
    found: bytes | None = None
    if upstream.is_first(path):
        found = await asyncio.to_thread(upstream.ask, call.method, path, content)
    if found is not None:
        return Response(200, found)
    try:
        return await call.writes.make(here)
    except NotFoundError as error:
        if not upstream.is_second(call.method, path):
            is_written = call.method == "POST" and path.startswith("runs/")
            more = "; the command can read runs of the tracking server, but not change them" if is_written else ""
            raise NotFoundError(f"{error.message} here{more}", context=error.context) from error
    found = await asyncio.to_thread(upstream.ask, call.method, path, content)
    return Response(200, found or b"{}")


async def _respond_to_proxy(call: Call, path: str, send: Send) -> Response | None:
    if call.method == "GET" and not path:
        request = read_query(ListProxied, call.scope["query_string"].decode("latin-1"), {})
        upstream = _elsewhere(call, request.path)
        if upstream is not None:
            return Response(200, await asyncio.to_thread(upstream.list_files, request.path))
        return await long_requests.list_files(partial(artifacts.list_proxied, call.tracking, request))
    if call.method == "GET":
        upstream = _elsewhere(call, path)
        await (_send_file(call, path, send) if upstream is None else _pass_on(upstream, path, send))
        return None
    call.check_may_write()
    if call.method == "PUT":
        check = guards.periodic_check(call.check)
        await artifacts.receive_file(call.tracking, path, call.scope, call.pieces(), check)
        return _json({})
    if call.method == "DELETE":
        await long_requests.remove_files(artifacts.remove_file(call.tracking, path))
        return _json({})
    raise _unknown(call)


async def _respond_to_parts(call: Call, path: str, send: Send) -> Response | None:
    """Respond to a request about a multipart upload."""
    call.check_may_write()
    part = parts.PART.fullmatch(path)
    if part is not None and call.method == "PUT":
        tag = await parts.receive_part(call.tracking, part, call.pieces())
        await sending.send_response(send, _json({}), (b"etag", f'"{tag}"'.encode()))
        return None
    action, _, folder = path.partition("/")
    if call.method != "POST" or action not in ("create", "complete", "abort"):
        raise _unknown(call)
    body = await call.body()
    if action == "create":
        request = read_body(parts.CreateUpload, body, {})
        base, headers = _way_back(call)
        return _json(parts.create(call.tracking, folder, request, base, headers))
    if action == "complete":
        await asyncio.to_thread(parts.complete(call.tracking, folder, read_body(parts.CompleteUpload, body, {})))
    else:
        parts.abort(call.tracking, folder, read_body(parts.AbortUpload, body, {}))
    return _json({})


def _way_back(call: Call) -> tuple[str, dict[str, str]]:
    """Return the base URL for parts, and the headers that authenticate the client."""
    found = read_headers(call.scope["headers"])
    base = f"{call.scope['scheme']}://{found.host}{call.path.partition('/mpu/')[0]}/mpu"
    return base, ({"Authorization": found.authorization} if found.authorization else {})


def _elsewhere(call: Call, path: str) -> Upstream | None:
    """Return the tracking server of the run, if it has one and the path of the proxy does not exist locally."""
    if call.tracking.upstream is None:
        return None
    try:
        location = artifacts.find_location(call.tracking, path)
        is_here = bool(list_artifacts(location.root, location.path))
    except (NotFoundError, RefusedError):
        is_here = False
    return None if is_here else call.tracking.upstream


async def _pass_on(upstream: Upstream, path: str, send: Send) -> None:
    """Forward a file of the tracking server in pieces."""
    pieces = upstream.pieces(path)
    piece = await asyncio.to_thread(next, pieces, b"")
    headers = [(b"content-type", b"application/octet-stream"), (b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while piece:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        piece = await asyncio.to_thread(next, pieces, b"")
    await send({"type": "http.response.body", "body": b""})


async def _send_file(call: Call, path: str, send: Send) -> None:
    location = artifacts.find_location(call.tracking, path)
    with TRANSFERS.hold(PLAIN), open_artifact(location.root, location.path) as file:
        size = os.fstat(file.fileno()).st_size
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", str(size).encode()),
            (b"content-disposition", b"attachment"),
            (b"x-content-type-options", b"nosniff"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if not await zero_copy.send_file(call.scope.get("state", {}), file, size):
            for piece in sending.pieces_of(file.read, size):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _fits(route: Route, parts: list[str]) -> bool:
    wanted = route.parts
    return len(wanted) == len(parts) and all(
        part and want in (None, part) for want, part in zip(wanted, parts, strict=True)
    )


def _unknown(call: Call) -> RefusedError:
    if _OUT_OF_SCOPE.fullmatch(call.path):
        message = f"proj stores runs and models; it does not implement {call.method} {call.path[:200]}"
        return RefusedError(ErrorCode.NOT_IMPLEMENTED, message)
    return RefusedError(ErrorCode.ENDPOINT_NOT_FOUND, f"proj has no endpoint {call.method} {call.path[:200]}")


_GREETING = b"This is a proj server: it speaks MLflow's REST protocol and has no web pages. See /openapi.json.\n"
_OPEN: dict[str, Callable[[], Response]] = {
    "/": lambda: Response(200, _GREETING),
    "/health": lambda: Response(200, b"OK"),
    "/version": lambda: Response(200, VERSION.encode()),
    "/openapi.json": cache(lambda: _json(document(_ROUTES, VERSION))),
}


def _json(body: object) -> Response:
    return Response(200, msgspec.json.encode(body))


def _served(call: Call, caller: str, response: Response | None, seconds: float) -> Served:
    return Served(
        peer=(call.scope.get("client") or ("", 0))[0],
        caller=caller,
        method=call.method,
        path=call.path,
        status=200 if response is None else response.status,
        seconds=seconds,
    )


def _report_failure(call: Call, response: Response, error: Exception) -> None:
    """Report errors that the client did not cause to the operator."""
    if response.status >= error_response(ErrorCode.INTERNAL_ERROR, "").status:
        message = f"A request failed: {call.method} {call.path[:200]}"
        call.tracking.report(Event(kind=EventKind.WARNING, message=message, hint=f"{type(error).__name__}: {error}"))
