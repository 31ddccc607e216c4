"""Runs the standalone server: serves one store at one address until SIGINT or SIGTERM."""

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
from runner.server.peers import can_tell_users
from runner.server.standalone.rights import Admission, TokenGuard, TokenSession
from runner.server.upload_digests import UploadDigests
from runner.server.uvicorn_server import make_server, serve_until
from runner.settings import Home
from runner.store import lost_runs, server_keys, tokens
from runner.store.database import Database
from runner.store.server_keys import ServerKey
from runner.store.staging import collect_everywhere

_GRACE = 30.0
"""Seconds that open requests may take after a stop signal; a second signal ends them."""

_KEEP_ALIVE = 75

_CHECK_SECONDS = 5.0
"""Seconds between two checks for runs whose process is gone."""

_COLLECT_SECONDS = 3600.0

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class StandaloneServer(Struct, frozen=True, kw_only=True):
    """The options of a standalone server; ``tls`` are the files of the certificate and of its private key.

    ``open`` requires no tokens although some exist; ``names`` are further host names of the server.
    """

    host: str = "127.0.0.1"
    port: int = 5000
    tls: tuple[Path, Path] | None = None
    open: bool = False
    names: tuple[str, ...] = ()


def serve_standalone(
    home: Home,
    database: Database,
    options: StandaloneServer,
    report: Report,
    observe: Callable[[Served], None] | None = None,
) -> None:
    """Serve a store until SIGINT or SIGTERM; ``observe`` is called after each request.

    Raises:
        ServerError: the address is not available, it is not local and there are no tokens, or TLS can't be set up.
    """
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(contextlib.closing(_listen(options)))
        address = listener.getsockname()
        is_local = ipaddress.ip_address(address[0]).is_loopback
        key = opened.enter_context(_own_key(home, address)) if is_local else None
        admission = Admission(database, _needs_token(database, options, is_local=is_local))
        guard = TokenGuard(
            database=database,
            hosts=frozenset(name.lower() for name in (*_LOOPBACK_NAMES, options.host, *_own_names(), *options.names)),
            takes_addresses=not is_local,
            admission=admission,
            users=_users(options),
            key="" if key is None else key.text,
        )
        uploads = opened.enter_context(UploadDigests(database, home, report))
        session = TokenSession(home)
        tracking = Tracking(database=database, home=home, session=session, report=report, uploads=uploads)
        _announce(options, address[1], guard, report, key)
        asyncio.run(_serve_until_stopped(build_app(tracking, guard, observe), options, listener, database))


def _listen(options: StandaloneServer) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
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
            f"The server can't listen at {options.host}:{options.port}",
            context=str(error),
            hint="Choose another address with --host and --port; --port 0 selects a free port.",
        ) from error
    return listener


@contextlib.contextmanager
def _own_key(home: Home, address: tuple[str, int]) -> Iterator[ServerKey]:
    """Create the key that authenticates the user's own programs, and remove it at the end."""
    key = server_keys.create(home, address[0], address[1])
    try:
        yield key
    finally:
        key.remove()


def _users(options: StandaloneServer) -> frozenset[int] | None:
    """Return the ids of the users who need no key; None for all users, which requires --no-token."""
    if can_tell_users():
        return frozenset((os.geteuid(),))
    return None if options.open else frozenset()


def _needs_token(database: Database, options: StandaloneServer, *, is_local: bool) -> bool | None:
    if is_local:
        return False if options.open else None
    if options.open:
        raise ServerError(
            f"A server without tokens can't listen at {options.host}, which other machines can reach",
            hint="Leave out --no-token.",
        )
    if not tokens.any_exist(database):
        raise ServerError(
            f"Other machines can reach {options.host}, and there are no tokens",
            hint="Create a token with `proj token add NAME`, or listen at 127.0.0.1.",
        )
    return True


def _own_names() -> tuple[str, ...]:
    return socket.gethostname(), socket.getfqdn()


def _announce(options: StandaloneServer, port: int, guard: TokenGuard, report: Report, key: ServerKey | None) -> None:
    scheme = "https" if options.tls else "http"
    host = f"[{options.host}]" if ":" in options.host else options.host
    report(Event(kind=EventKind.STEP, message=f"Serving at {scheme}://{host}:{port}"))
    if key is not None:
        if not guard.admission.needs_token():
            hint = "`proj token add NAME` creates a token; from then on every request needs one."
            report(Event(kind=EventKind.NOTICE, message=_access_notice(guard.users), hint=hint))
        way = f'MLFLOW_TRACKING_TOKEN="$(cat {shlex.quote(str(key.path))})"'
        report(Event(kind=EventKind.NOTICE, message=f"The key of this server, readable by you only: {way}"))
    elif options.tls is None:
        report(
            Event(
                kind=EventKind.WARNING,
                message="Without TLS, tokens and data are sent unencrypted",
                hint="Give --tls-cert and --tls-key, or put a proxy with TLS before the server.",
            )
        )


def _access_notice(users: frozenset[int] | None) -> str:
    if users is None:
        return "No token is required: every user of this machine can read and write"
    if users:
        return "No token is required: your own processes can read and write"
    return "This system does not report the user of a connection: clients need the key of the server"


async def _serve_until_stopped(
    app: App, options: StandaloneServer, listener: socket.socket, database: Database
) -> None:
    try:
        server = make_server(app, keep_alive=_KEEP_ALIVE, tls=options.tls)
    except (OSError, ssl.SSLError) as error:
        raise ServerError("The TLS files can't be used", context=str(error)) from error
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    serving = asyncio.current_task()

    def stop() -> None:
        if stopped.is_set() and serving is not None:
            serving.cancel()
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    marking = asyncio.create_task(_mark_lost(database))
    collecting = asyncio.create_task(_collect_abandoned(Home(database.path.absolute().parent)))
    with contextlib.suppress(asyncio.CancelledError):
        await serve_until(stopped, server, listener, grace=_GRACE)
    marking.cancel()
    collecting.cancel()


async def _mark_lost(database: Database) -> None:
    """Mark runs as lost whose process has ended without a final status, every few seconds."""
    while True:
        # A full disk may have space at the next check; requests report the error to their clients.
        with contextlib.suppress(StoreError):
            lost_runs.mark_lost(database)
        await asyncio.sleep(_CHECK_SECONDS)


async def _collect_abandoned(home: Home) -> None:
    """Remove abandoned uploads at the start and every hour."""
    while True:
        await asyncio.to_thread(collect_everywhere, home)
        await asyncio.sleep(_COLLECT_SECONDS)
