"""``proj token``: manages the access tokens of the server."""

import click
import msgspec

from runner.cli.groups import CommandGroup
from runner.cli.output import local_time, open_store, read_store
from runner.cli.text import print_message, printable
from runner.store import tokens
from runner.store.records import format_time
from runner.store.tokens import Scope


@click.group("token", cls=CommandGroup)
def token() -> None:
    """Manage the access tokens of `proj server`. MLflow clients read theirs from MLFLOW_TRACKING_TOKEN."""


@token.command("add")
@click.argument("name", metavar="NAME")
@click.option(
    "--scope", type=click.Choice([scope.value for scope in Scope]), default=Scope.WRITE.value, show_default=True
)
def add(name: str, scope: str) -> None:
    """Create a token and print it; it can't be shown again.

    \b
    Examples:
      proj token add ci --scope write
    """  # noqa: D301  # click reads the control character
    with open_store() as (database, _):
        click.echo(tokens.add(database, name, Scope(scope)))
    print_message(f"'{printable(name)}' may {scope}; store the token safely, proj keeps only a digest of it")


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_tokens(as_json: bool) -> None:
    """List the names and scopes of the tokens.

    \b
    Examples:
      proj token list
    """  # noqa: D301  # click reads the control character
    with read_store() as (database, _):
        found = tokens.all_tokens(database)
    rows = [{"name": one.name, "scope": one.scope.value, "created_at": format_time(one.created_at)} for one in found]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2))
        return
    for row in rows:
        click.echo(f"{row['name']}  {row['scope']}  since {local_time(row['created_at'])}")
    if not rows:
        print_message("no tokens")


@token.command("revoke")
@click.argument("name", metavar="NAME")
def revoke(name: str) -> None:
    """Remove a token; a running server refuses it at once.

    \b
    Examples:
      proj token revoke ci
    """  # noqa: D301  # click reads the control character
    with open_store() as (database, _):
        tokens.revoke(database, name)
    print_message(f"revoked '{printable(name)}'")
