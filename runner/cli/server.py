"""``proj server``: the store for any MLflow client, and for a team."""

from datetime import datetime
from pathlib import Path

import click

from runner.cli.output import clean, open_store
from runner.cli.text import say, show_event
from runner.errors import UsageError
from runner.server.app import Served
from runner.server.standalone.serving import StandaloneServer, serve_standalone

_PATH = 200
"""Characters of a path in the log."""


@click.command("server")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; others need tokens.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=5000, show_default=True, help="0 takes one that is free."
)
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate chain, PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its private key, PEM.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="Another name of this server; repeatable.")
@click.option("--no-token", is_flag=True, help="Ask for no token although there are some; 127.0.0.1 only.")
@click.option("--quiet", is_flag=True, help="Don't log requests.")
def server(port: int, no_token: bool, quiet: bool, allow_host: tuple[str, ...], **places: str | Path | None) -> None:
    """Serve the store over MLflow's REST protocol until Ctrl-C.

    Scripts log to it with MLFLOW_TRACKING_URI=http://127.0.0.1:5000. At 127.0.0.1 no token is needed as long as there
    are none; any other address needs some: see `proj token`.
    """
    certificate, key = places["tls_cert"], places["tls_key"]
    if (certificate is None) != (key is None):
        raise UsageError("TLS needs --tls-cert and --tls-key")
    wanted = StandaloneServer(
        host=str(places["host"]),
        port=port,
        tls=(Path(certificate), Path(key)) if certificate and key else None,
        open=no_token,
        names=allow_host,
    )
    with open_store() as (database, home):
        serve_standalone(home, database, wanted, show_event, None if quiet else _log)
    say("stopped")


def _log(served: Served) -> None:
    """Write a line about a request: no query, no header, no body, for these may hold what nobody else should read."""
    moment = datetime.now().astimezone().isoformat(timespec="milliseconds")
    took = f"{served.seconds * 1000:.1f} ms"
    path = clean(served.path[:_PATH])
    say(f"{moment} {served.peer} {served.caller or '-'} {served.method} {path} {served.status} {took}")
