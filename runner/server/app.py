"""MLflow's REST protocol as an ASGI application; handlers run on the event loop, as a write takes only 30 µs."""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from functools import cache, partial
from typing import Any

import msgspec
from msgspec import Struct, structs

from runner.errors import NotFoundError
from runner.model import Event, EventKind
from runner.protocol.errors import Answer, ErrorCode, RefusedError, answer_for, error_answer
from runner.protocol.requests import ListProxied, read_body, read_query
from runner.server import zero_copy
from runner.server.api import artifacts, experiments, metrics, models, parts, registry, runs
from runner.server.api.openapi import document
from runner.server.api.tracking import Route, Stream, Tracking, Upstream
from runner.server.standalone import guards
from runner.server.standalone.guards import OPEN_PATHS, Caller, Guard, read_headers
from runner.server.write_batching import Writes
from runner.store.artifacts import list_artifacts, open_artifact

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

VERSION = "0.1.0"
"""What ``/version`` says; clients of MLflow read it as MLflow's and don't send traces to one so old."""

SERVER_INFO = {"store_type": "SqlStore", "workspaces_enabled": False, "trace_archival_enabled": False}

_NOT_PRESIGNED = "Presigned download is not supported for the current artifact repository"
"""The sentence by which clients know that a file comes from the server itself."""

_PREFIX = re.compile(r"/(?:ajax-)?api/[23]\.0/(?:preview/)?mlflow/(?P<path>.+?)/?")
_PROXY = re.compile(
    r"/(?:ajax-)?api/[23]\.0/mlflow-artifacts/(?P<verb>artifacts|mpu|presigned)(?:/(?P<path>.*))?", re.DOTALL
)

_OUT_OF_SCOPE = re.compile(
    r"/v1/traces|/(?:ajax-)?api/[23]\.0/(?:preview/)?mlflow/"
    r"(?:traces?|webhooks|scorers|datasets|assessments|genai|issues|jobs|label-schemas|prompt-optimization|review-queues"
    r"|gateway[\w-]*|databricks)(?:/.*)?"
)
"""Parts of MLflow that are not about runs and models."""

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
    """A request that was answered, for a log: nothing in it is secret."""

    peer: str
    caller: str
    method: str
    path: str
    status: int
    seconds: float


def build_app(tracking: Tracking, guard: Guard, observe: Callable[[Served], None] | None = None) -> App:
    """Make the application that serves a store to whoever passes the guard; ``observe`` learns of each request."""
    writes = Writes(tracking.database)

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
            answer = await _answer(structs.replace(call, may_write=known.may_write, check=check), send)
        except Exception as error:  # noqa: BLE001  every fault becomes an answer of the protocol
            answer = answer_for(error, str(tracking.home.root))
            _tell(call, answer, error)
        if answer is not None:
            await _send(send, answer)
        if observe is not None:
            observe(_served(call, caller, answer, time.perf_counter() - started))

    return serve


class Call(Struct, frozen=True, kw_only=True):
    """One request, and what is needed to answer it."""

    tracking: Tracking
    writes: Writes
    method: str
    path: str
    scope: Scope
    receive: Receive
    may_write: bool = False
    check: Callable[[], Caller] | None = None
    """Says again who asks; raises when the caller may not use the server any more."""

    def check_may_write(self) -> None:
        """Refuse a change by a caller who may only read.

        Raises:
            RefusedError: it is such a caller.
        """
        if not self.may_write:
            raise RefusedError(ErrorCode.PERMISSION_DENIED, "Your token is for reading only.")

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; a caller who has lost the right to send it meanwhile is refused.

        Raises:
            RefusedError: the client went away before it was whole, or its token was revoked.
        """
        more = True
        check = guards.periodic_check(self.check)
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise RefusedError(ErrorCode.BAD_REQUEST, "The connection ended before the request did.")
            more = message.get("more_body", False)
            check(more)
            yield message.get("body", b"")

    async def body(self) -> bytes:
        """Return the whole body.

        Raises:
            RefusedError: it is too large, or not whole.
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


async def _answer(call: Call, send: Send) -> Answer | None:
    """Answer a call; None when the answer was sent piece by piece."""
    protocol = _PREFIX.fullmatch(call.path)
    if protocol is not None:
        found = await _answer_protocol(call, protocol["path"])
        if isinstance(found, Stream):
            await _send_stream(found, send)
            return None
        return found if isinstance(found, Answer) else _json(found)
    proxy = _PROXY.fullmatch(call.path)
    if proxy is not None:
        if proxy["verb"] == "mpu":
            return await _answer_parts(call, proxy["path"] or "", send)
        if proxy["verb"] != "artifacts":
            raise RefusedError(ErrorCode.NOT_IMPLEMENTED, _NOT_PRESIGNED)
        return await _answer_proxy(call, proxy["path"] or "", send)
    if call.method == "GET" and call.path in OPEN_PATHS:
        return _OPEN[call.path]()
    raise _unknown(call)


async def _answer_protocol(call: Call, path: str) -> object:
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
        asked = read_query(route.shape, content.decode("latin-1"), fields)
    else:
        if route.changes and call.tracking.redact is not None:
            content = call.tracking.redact(content)
        asked = read_body(route.shape, content, fields)
    here = partial(route.answer, call.tracking, asked)
    upstream = call.tracking.upstream
    if upstream is None:
        return await (asyncio.to_thread(here) if route.is_long else call.writes.make(here))
    return await _answer_with(upstream, call, path, content, here)


async def _answer_with(upstream: Upstream, call: Call, path: str, content: bytes, here: Callable[[], object]) -> object:
    """Answer from our store, or from the tracking server of the run."""
    told: bytes | None = None
    if upstream.is_first(path):
        told = await asyncio.to_thread(upstream.ask, call.method, path, content)
    if told is not None:
        return Answer(200, told)
    try:
        return await call.writes.make(here)
    except NotFoundError as error:
        if not upstream.is_second(call.method, path):
            is_written = call.method == "POST" and path.startswith("runs/")
            more = "; of those on the tracking server a command can only read" if is_written else ""
            raise NotFoundError(f"{error.message} here{more}", context=error.context) from error
    told = await asyncio.to_thread(upstream.ask, call.method, path, content)
    return Answer(200, told or b"{}")


async def _answer_proxy(call: Call, path: str, send: Send) -> Answer | None:
    if call.method == "GET" and not path:
        asked = read_query(ListProxied, call.scope["query_string"].decode("latin-1"), {})
        upstream = _elsewhere(call, asked.path)
        if upstream is not None:
            return Answer(200, await asyncio.to_thread(upstream.list_files, asked.path))
        return _json(artifacts.list_proxied(call.tracking, asked))
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
        artifacts.remove_file(call.tracking, path)
        return _json({})
    raise _unknown(call)


async def _answer_parts(call: Call, path: str, send: Send) -> Answer | None:
    """Answer about a file that comes in parts."""
    call.check_may_write()
    part = parts.PART.fullmatch(path)
    if part is not None and call.method == "PUT":
        tag = await parts.receive_part(call.tracking, part, call.pieces())
        await _send(send, _json({}), (b"etag", f'"{tag}"'.encode()))
        return None
    deed, _, folder = path.partition("/")
    if call.method != "POST" or deed not in ("create", "complete", "abort"):
        raise _unknown(call)
    body = await call.body()
    if deed == "create":
        asked = read_body(parts.CreateUpload, body, {})
        base, headers = _way_back(call)
        return _json(parts.create(call.tracking, folder, asked, base, headers))
    if deed == "complete":
        await asyncio.to_thread(parts.complete(call.tracking, folder, read_body(parts.CompleteUpload, body, {})))
    else:
        parts.abort(call.tracking, folder, read_body(parts.AbortUpload, body, {}))
    return _json({})


def _way_back(call: Call) -> tuple[str, dict[str, str]]:
    """Return where a client sends parts, and with which headers: those by which it is known here."""
    found = read_headers(call.scope["headers"])
    base = f"{call.scope['scheme']}://{found.host}{call.path.partition('/mpu/')[0]}/mpu"
    return base, ({"Authorization": found.authorization} if found.authorization else {})


def _elsewhere(call: Call, path: str) -> Upstream | None:
    """Return the run's tracking server, where it has one and we have nothing at a path of the proxy."""
    if call.tracking.upstream is None:
        return None
    try:
        place = artifacts.find_place(call.tracking, path)
        is_here = bool(list_artifacts(place.root, place.path))
    except (NotFoundError, RefusedError):
        is_here = False
    return None if is_here else call.tracking.upstream


async def _pass_on(upstream: Upstream, path: str, send: Send) -> None:
    """Send a file of the run's tracking server piece by piece, as it comes."""
    pieces = upstream.pieces(path)
    piece = await asyncio.to_thread(next, pieces, b"")
    headers = [(b"content-type", b"application/octet-stream"), (b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while piece:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        piece = await asyncio.to_thread(next, pieces, b"")
    await send({"type": "http.response.body", "body": b""})


async def _send_file(call: Call, path: str, send: Send) -> None:
    place = artifacts.find_place(call.tracking, path)
    with open_artifact(place.root, place.path) as file:
        size = os.fstat(file.fileno()).st_size
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", str(size).encode()),
            (b"content-disposition", b"attachment"),
            (b"x-content-type-options", b"nosniff"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if not await zero_copy.send_file(call.scope.get("state", {}), file, size):
            for piece in _pieces_of(file.read, size):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _send_stream(stream: Stream, send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for piece in stream.pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        # Others have their turn, also while this client takes what it gets at once.
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})


def _pieces_of(read: Callable[[int], bytes], size: int) -> Iterator[bytes]:
    """Yield just as much as was announced, even of a file that grows; one that shrinks ends the connection."""
    while size > 0:
        piece = read(min(artifacts.PIECE, size))
        if not piece:
            return
        size -= len(piece)
        yield piece


def _fits(route: Route, parts: list[str]) -> bool:
    wanted = route.parts
    return len(wanted) == len(parts) and all(
        part and want in (None, part) for want, part in zip(wanted, parts, strict=True)
    )


def _unknown(call: Call) -> RefusedError:
    if _OUT_OF_SCOPE.fullmatch(call.path):
        message = f"proj keeps runs and models; it has no {call.method} {call.path[:200]}"
        return RefusedError(ErrorCode.NOT_IMPLEMENTED, message)
    return RefusedError(ErrorCode.ENDPOINT_NOT_FOUND, f"proj has no endpoint {call.method} {call.path[:200]}")


@cache
def _described() -> Answer:
    return _json(document(_ROUTES, VERSION))


_GREETING = b"This is a proj server: it speaks MLflow's REST protocol and has no web pages. See /openapi.json.\n"
_OPEN: dict[str, Callable[[], Answer]] = {
    "/": lambda: Answer(200, _GREETING),
    "/health": lambda: Answer(200, b"OK"),
    "/version": lambda: Answer(200, VERSION.encode()),
    "/openapi.json": _described,
}


def _json(body: object) -> Answer:
    return Answer(200, msgspec.json.encode(body))


def _served(call: Call, caller: str, answer: Answer | None, seconds: float) -> Served:
    return Served(
        peer=(call.scope.get("client") or ("", 0))[0],
        caller=caller,
        method=call.method,
        path=call.path,
        status=200 if answer is None else answer.status,
        seconds=seconds,
    )


def _tell(call: Call, answer: Answer, error: Exception) -> None:
    """Tell the user of faults that are not the client's."""
    if answer.status >= error_answer(ErrorCode.INTERNAL_ERROR, "").status:
        message = f"A request could not be answered: {call.method} {call.path[:200]}"
        call.tracking.report(Event(kind=EventKind.WARNING, message=message, hint=f"{type(error).__name__}: {error}"))


async def _send(send: Send, answer: Answer, *more: tuple[bytes, bytes]) -> None:
    kind = b"application/json" if answer.body.startswith(b"{") else b"text/plain"
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(answer.body)).encode()),
        (b"x-content-type-options", b"nosniff"),
        *more,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
