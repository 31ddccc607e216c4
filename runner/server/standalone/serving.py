"""The server for a team: one store at one address, until it is told to stop."""

import asyncio
import contextlib
import ipaddress
import os
import shlex
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from runner.errors import ServerError, StoreError
from runner.model import Event, EventKind, Report
from runner.server.api.tracking import Tracking
from runner.server.app import App, Served, build_app
from runner.server.standalone.peers import can_tell_users
from runner.server.standalone.rights import Admission, TokenGuard, TokenSession
from runner.server.uvicorn_server import make_server, serve_until
from runner.settings import Home
from runner.store import runs, server_keys, tokens
from runner.store.database import Database
from runner.store.server_keys import ServerKey
from runner.store.staging import collect_everywhere

_GRACE = 30.0
"""Seconds that requests which have begun may take after the server was told to stop; a second signal ends them."""

_KEEP_ALIVE = 75

_LOOK = 5.0
"""Seconds between two looks for runs whose process is gone."""

_HOUR = 3600.0

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class StandaloneServer(Struct, frozen=True, kw_only=True):
    """Where a server listens, and for whom. ``tls`` are the files of the certificate and of its key.

    ``open`` asks for no tokens although there are some; ``names`` are further names of the server.
    """

    host: str = "127.0.0.1"
    port: int = 5000
    tls: tuple[Path, Path] | None = None
    open: bool = False
    names: tuple[str, ...] = ()


def serve_standalone(
    home: Home,
    database: Database,
    wanted: StandaloneServer,
    report: Report,
    observe: Callable[[Served], None] | None = None,
) -> None:
    """Serve a store until SIGINT or SIGTERM; ``observe`` learns of each request.

    Raises:
        ServerError: the address can't be had, or others reach it and there are no tokens, or TLS can't be set up.
    """
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(contextlib.closing(_listen(wanted)))
        address = listener.getsockname()
        is_local = ipaddress.ip_address(address[0]).is_loopback
        key = opened.enter_context(_own_key(home, address)) if is_local else None
        admission = Admission(database, _needs_token(database, wanted, is_local=is_local))
        guard = TokenGuard(
            database=database,
            hosts=frozenset(name.lower() for name in (*_LOOPBACK_NAMES, wanted.host, *_own_names(), *wanted.names)),
            takes_addresses=not is_local,
            admission=admission,
            users=_users(wanted),
            key="" if key is None else key.text,
        )
        tracking = Tracking(database=database, home=home, session=TokenSession(home), report=report)
        _announce(wanted, address[1], guard, report, key)
        asyncio.run(_serve_until_told(build_app(tracking, guard, observe), wanted, listener, database))


def _listen(wanted: StandaloneServer) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            wanted.host, wanted.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(512)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        raise ServerError(
            f"The server can't listen at {wanted.host}:{wanted.port}",
            context=str(error),
            hint="Name another address with --host and --port; --port 0 takes any that is free.",
        ) from error
    return listener


@contextlib.contextmanager
def _own_key(home: Home, address: tuple[str, int]) -> Iterator[ServerKey]:
    """Make the key by which the user's own programs are known, and remove it at the end."""
    key = server_keys.create(home, address[0], address[1])
    try:
        yield key
    finally:
        key.remove()


def _users(wanted: StandaloneServer) -> frozenset[int] | None:
    """Return the users who need no key; None when nobody does, which the user must ask for."""
    if can_tell_users():
        return frozenset((os.geteuid(),))
    return None if wanted.open else frozenset()


def _needs_token(database: Database, wanted: StandaloneServer, *, is_local: bool) -> bool | None:
    if is_local:
        return False if wanted.open else None
    if wanted.open:
        raise ServerError(
            f"Without tokens a server can't listen at {wanted.host}, where others reach it",
            hint="Leave out --no-token.",
        )
    if not tokens.any_exist(database):
        raise ServerError(
            f"Others reach {wanted.host}, and there are no tokens yet",
            hint="Make one: `proj token add NAME`; or listen at 127.0.0.1.",
        )
    return True


def _own_names() -> tuple[str, ...]:
    return socket.gethostname(), socket.getfqdn()


def _announce(wanted: StandaloneServer, port: int, guard: TokenGuard, report: Report, key: ServerKey | None) -> None:
    scheme = "https" if wanted.tls else "http"
    host = f"[{wanted.host}]" if ":" in wanted.host else wanted.host
    report(Event(kind=EventKind.STEP, message=f"Serving at {scheme}://{host}:{port}"))
    if key is not None:
        if not guard.admission.needs_token():
            hint = "`proj token add NAME` makes one; from then on tokens are needed."
            report(Event(kind=EventKind.NOTICE, message=_whom(guard.users), hint=hint))
        way = f'MLFLOW_TRACKING_TOKEN="$(cat {shlex.quote(str(key.path))})"'
        report(Event(kind=EventKind.NOTICE, message=f"This server's own key, for you alone: {way}"))
    elif wanted.tls is None:
        report(
            Event(
                kind=EventKind.WARNING,
                message="Without TLS, tokens and data can be read on their way",
                hint="Give --tls-cert and --tls-key, or put a proxy with TLS before the server.",
            )
        )


def _whom(users: frozenset[int] | None) -> str:
    if users is None:
        return "No token is needed: every user of this machine can read and write"
    if users:
        return "No token is needed: your own processes can read and write"
    return "This system does not tell whose a connection is: clients need the server's own key"


async def _serve_until_told(app: App, wanted: StandaloneServer, listener: socket.socket, database: Database) -> None:
    try:
        server = make_server(app, keep_alive=_KEEP_ALIVE, tls=wanted.tls)
    except (OSError, ssl.SSLError) as error:
        raise ServerError("The files for TLS can't be used", context=str(error)) from error
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    serving = asyncio.current_task()

    def stop() -> None:
        if told.is_set() and serving is not None:
            serving.cancel()
        told.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    marking = asyncio.create_task(_mark_lost(database))
    collecting = asyncio.create_task(_collect_abandoned(Home(database.path.absolute().parent)))
    with contextlib.suppress(asyncio.CancelledError):
        await serve_until(told, server, listener, grace=_GRACE)
    marking.cancel()
    collecting.cancel()


async def _mark_lost(database: Database) -> None:
    """Look now and then for runs whose process has ended without a word."""
    while True:
        # A disk that is full now may have room the next time; who asks for something is told.
        with contextlib.suppress(StoreError):
            runs.mark_lost(database)
        await asyncio.sleep(_LOOK)


async def _collect_abandoned(home: Home) -> None:
    """Remove at the start, and every hour, what was left of uploads that nobody will complete."""
    while True:
        await asyncio.to_thread(collect_everywhere, home)
        await asyncio.sleep(_HOUR)
