"""``proj server``: serves the store to MLflow clients."""

from datetime import datetime
from pathlib import Path

import click

from runner.cli.output import open_store
from runner.cli.text import print_message, printable, show_event
from runner.errors import UsageError
from runner.server.app import Served
from runner.server.standalone.serving import StandaloneServer, serve_standalone

_PATH = 200
"""Characters of a path in the log."""


@click.command("server")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; any other needs tokens.")
@click.option("--port", type=click.IntRange(0, 65535), default=5000, show_default=True, help="0 selects a free port.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate chain, PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its private key, PEM.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="Another name of this server; repeatable.")
@click.option("--no-token", is_flag=True, help="Require no token, even if some exist; 127.0.0.1 only.")
@click.option("-q", "--quiet", is_flag=True, help="Do not log requests.")
def server(port: int, no_token: bool, quiet: bool, allow_host: tuple[str, ...], **options: str | Path | None) -> None:
    """Serve the store over MLflow's REST protocol until Ctrl-C.

    Scripts log to it with MLFLOW_TRACKING_URI=http://127.0.0.1:5000. On 127.0.0.1 a token is required only if tokens
    exist; on any other address always: see `proj token`.

    \b
    Examples:
      proj server
      proj server --host 0.0.0.0 --port 8080
    """  # noqa: D301  # click reads the control character
    certificate, key = options["tls_cert"], options["tls_key"]
    if (certificate is None) != (key is None):
        raise UsageError("TLS needs both --tls-cert and --tls-key")
    wanted = StandaloneServer(
        host=str(options["host"]),
        port=port,
        tls=(Path(certificate), Path(key)) if certificate and key else None,
        open=no_token,
        names=allow_host,
    )
    with open_store() as (database, home):
        serve_standalone(home, database, wanted, show_event, None if quiet else _log)
    print_message("stopped")


def _log(served: Served) -> None:
    """Log a request in one line; query, headers and body are left out, as they may contain secrets."""
    moment = datetime.now().astimezone().isoformat(timespec="milliseconds")
    took = f"{served.seconds * 1000:.1f} ms"
    path = printable(served.path[:_PATH])
    print_message(f"{moment} {served.peer} {served.caller or '-'} {served.method} {path} {served.status} {took}")
