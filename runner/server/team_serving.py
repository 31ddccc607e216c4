"""The server for a team: one store at one address, until it is told to stop."""

import asyncio
import contextlib
import ipaddress
import signal
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from runner.errors import ServerError, StoreError
from runner.model import Event, EventKind, Report
from runner.server.app import App, Served, build_app
from runner.server.peers import can_tell_users, find_user
from runner.server.team import Admission, TeamGuard, TeamSession, own_users
from runner.server.tracking import Tracking
from runner.server.transport import JoiningProtocol
from runner.server.uvicorn_server import make_server, serve_until
from runner.settings import Home
from runner.store import runs, tokens
from runner.store.database import Database
from runner.store.staging import collect_everywhere

_GRACE = 30.0
"""Seconds that requests which have begun may take after the server was told to stop; a second signal ends them."""

_KEEP_ALIVE = 75

_LOOK = 5.0
"""Seconds between two looks for runs whose process is gone."""

_HOUR = 3600.0

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class TeamServer(Struct, frozen=True, kw_only=True):
    """Where a server listens, and for whom. ``tls`` are the files of the certificate and of its key.

    ``open`` asks for no tokens although there are some; ``names`` are further names of the server.
    """

    host: str = "127.0.0.1"
    port: int = 5000
    tls: tuple[Path, Path] | None = None
    open: bool = False
    names: tuple[str, ...] = ()


def serve_team(
    home: Home, database: Database, wanted: TeamServer, report: Report, observe: Callable[[Served], None] | None = None
) -> None:
    """Serve a store until SIGINT or SIGTERM; ``observe`` learns of each request.

    Raises:
        ServerError: the address can't be had, or others reach it and there are no tokens, or TLS can't be set up.
    """
    with contextlib.closing(_listen(wanted)) as listener:
        address = listener.getsockname()
        is_local = ipaddress.ip_address(address[0]).is_loopback
        admission = Admission(database, _needs_token(database, wanted, is_local=is_local))
        guard = TeamGuard(
            database=database,
            hosts=frozenset(name.lower() for name in (*_LOOPBACK_NAMES, wanted.host, *_own_names(), *wanted.names)),
            takes_addresses=not is_local,
            admission=admission,
            users=own_users() if can_tell_users() else None,
        )
        tracking = Tracking(database=database, home=home, session=TeamSession(home), report=report)
        _announce(wanted, address[1], guard, report, is_local=is_local)
        asyncio.run(_serve_until_told(build_app(tracking, guard, observe), wanted, listener, database))


def _listen(wanted: TeamServer) -> socket.socket:
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


def _needs_token(database: Database, wanted: TeamServer, *, is_local: bool) -> bool | None:
    if is_local:
        return False if wanted.open else None
    if wanted.open:
        raise ServerError(
            f"Without tokens a server can't listen at {wanted.host}, where others reach it",
            hint="Leave out --no-token.",
        )
    if not tokens.exist(database):
        raise ServerError(
            f"Others reach {wanted.host}, and there are no tokens yet",
            hint="Make one: `proj token add NAME`; or listen at 127.0.0.1.",
        )
    return True


def _own_names() -> tuple[str, ...]:
    return socket.gethostname(), socket.getfqdn()


def _announce(wanted: TeamServer, port: int, guard: TeamGuard, report: Report, *, is_local: bool) -> None:
    scheme = "https" if wanted.tls else "http"
    host = f"[{wanted.host}]" if ":" in wanted.host else wanted.host
    report(Event(kind=EventKind.STEP, message=f"Serving at {scheme}://{host}:{port}"))
    if not guard.admission.needs_token():
        whom = "every user of this machine" if guard.users is None else "your own processes"
        report(
            Event(
                kind=EventKind.NOTICE,
                message=f"No token is needed: {whom} can read and write",
                hint="`proj token add NAME` makes one; from then on tokens are needed.",
            )
        )
    elif not is_local and wanted.tls is None:
        report(
            Event(
                kind=EventKind.WARNING,
                message="Without TLS, tokens and data can be read on their way",
                hint="Give --tls-cert and --tls-key, or put a proxy with TLS before the server.",
            )
        )


async def _serve_until_told(app: App, wanted: TeamServer, listener: socket.socket, database: Database) -> None:
    try:
        server = make_server(app, keep_alive=_KEEP_ALIVE, protocol=_KnowingProtocol, tls=wanted.tls)
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


class _KnowingProtocol(JoiningProtocol):
    """The HTTP protocol, which tells the application whose connection it is."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a connection."""
        super().connection_made(transport)
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if peer and own:
            # uvicorn gives this mapping to each request of the connection.
            self.app_state = {**self.app_state, "user": find_user(peer[:2], own[:2])}
