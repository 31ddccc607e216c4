"""``proj pull``: copies runs of a tracking server or a git repository into the local store."""

import click

from runner.cli.git_sharing import pull_from_git
from runner.cli.import_store import print_summary
from runner.cli.output import open_store
from runner.cli.progress_line import showing_progress
from runner.cli.run_search import find_records, read_search, searches_runs
from runner.cli.text import print_message, show_event
from runner.errors import UsageError
from runner.importing.summary import ImportSummary
from runner.runs.opening import server_to_read
from runner.runs.remote import RemoteReader
from runner.store.staging import collect_everywhere
from runner.sync.client import RemoteServer
from runner.sync.pull import Origin, nested_runs, pull


@click.command("pull")
@click.argument("names", nargs=-1, metavar="[RUN]...")
@searches_runs
@click.option("--from", "uri", metavar="URI", help="Address of the server. [default: MLFLOW_TRACKING_URI]")
@click.option(
    "--git", "remote", metavar="REMOTE", help="Fetch from this git repository: a remote's name or an address."
)
@click.option("--allow-addresses", is_flag=True, help="With --git: accept locks that name addresses.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON.")
def pull_runs(names: tuple[str, ...], uri: str | None, as_json: bool, **values: object) -> int:
    r"""Copy runs of a server, with their nested runs, into the local store; pulling again adds what is new.

    RUN is an id, the beginning of an id, a name, `latest`, `latest~1` or `@TAG`. In a git repository (--git) it is an
    id or the beginning of one; without RUN all runs are fetched that are not here.

    \b
    Examples:
      proj pull 7f3a09c1 --from https://mlflow.example.org
      proj pull --experiment churn --all --from https://mlflow.example.org
      proj pull --git origin
    """
    remote, addresses = values.pop("remote"), bool(values.pop("allow_addresses"))
    if remote is not None:
        if uri is not None:
            raise UsageError("Give --from or --git, not both")
        return pull_from_git(str(remote), names, addresses=addresses, as_json=as_json)
    search = read_search(values, named=bool(names))
    address = server_to_read(uri)
    if address is None:
        raise UsageError("No server is given", hint="Give --from URI, or set MLFLOW_TRACKING_URI.")
    counter = ImportSummary(show_event)
    with open_store() as (database, home), RemoteServer(address) as server, showing_progress():
        reader = RemoteReader(server, print_message)
        references = names or [record.run_id or "" for record in find_records(reader, search)]
        collect_everywhere(home)
        origin = Origin(server=server, database=database, home=home, summary=counter)
        for run in nested_runs(server, [reader.run(name) for name in references]):
            pull(origin, run)
        summary = counter.summary(server.url)
    return print_summary(summary, as_json=as_json)
