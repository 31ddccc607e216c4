"""``proj push`` and ``proj sync``: copy runs of the local store to tracking servers, or to a git repository."""

import os
from collections.abc import Iterable, Mapping

import click
import msgspec

from runner.base.plurals import counted
from runner.cli import completions
from runner.cli.git_sharing import push_to_git
from runner.cli.output import open_store, size
from runner.cli.progress_line import showing_progress
from runner.cli.run_search import find_records, read_search, searches_runs
from runner.cli.text import print_lines, print_message, print_warning, printable, show_error, show_event
from runner.errors import ProjError, RemoteError, UsageError
from runner.runs.local import LocalReader
from runner.settings import is_offline
from runner.store.run_selection import resolve
from runner.sync import sync_state
from runner.sync.access import URI_VARIABLE, is_remote, read_access
from runner.sync.client import RemoteServer
from runner.sync.push import Destination, Pushed, push
from runner.sync.sync_state import WaitingRun

_KINDS = ("parameters", "points", "tags", "datasets", "models", "files")
_SHOWN = 10


@click.command("push")
@click.argument("names", nargs=-1, metavar="[RUN]...", shell_complete=completions.runs)
@searches_runs
@click.option("--to", "uri", metavar="URI", help="Address of the server. [default: MLFLOW_TRACKING_URI]")
@click.option("--git", "remote", metavar="REMOTE", help="Send to this git repository: a remote's name or an address.")
@click.option("--outputs", is_flag=True, help="With --git: send the files that the runs made, too.")
@click.option("--include-inputs", "limit", metavar="SIZE", help="With --git: send inputs up to this size, such as 1M.")
@click.option("--code/--no-code", default=None, help="Send the code as a git bundle. [default: to `proj server` only]")
@click.option("--json", "as_json", is_flag=True, help="Print the sent items as a JSON list.")
def push_runs(names: tuple[str, ...], uri: str | None, code: bool | None, as_json: bool, **values: object) -> int:
    r"""Copy runs, with their nested runs, to an MLflow server or a git repository; nothing is sent twice.

    In a git repository a run is a ref, refs/proj/runs/ID, with its code; no branch, tag or working tree is touched.

    Credentials come from MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD. The exit code
    is 1 if a file can't be sent; everything else is sent.

    \b
    Examples:
      proj push latest --to https://mlflow.example.org
      proj push --filter "metrics.rmse < 0.8" --to https://mlflow.example.org
      proj push latest --git origin
    """
    sharing = {name: values.pop(name) for name in ("remote", "outputs", "limit")}
    search = read_search(values, named=bool(names))
    if sharing["remote"] is not None:
        if uri is not None:
            raise UsageError("Give --to or --git, not both")
        return push_to_git(names, search, sharing, as_json=as_json)
    if sharing["outputs"] or sharing["limit"]:
        raise UsageError("--outputs and --include-inputs are for --git; a server gets all artifacts")
    _refuse_offline()
    with open_store() as (database, home), RemoteServer(_address(uri)) as server, showing_progress():
        to = Destination(database=database, home=home, server=server, report=show_event, code=code)
        named = [resolve(database, name, print_message) for name in names]
        if not names:
            named = [record.run_id or "" for record in find_records(LocalReader(database, home), search)]
        chosen = dict.fromkeys(one for run_id in named for one in sync_state.nested_runs(database, run_id))
        done = []
        for run_id in chosen:
            done.append(push(to, run_id))
            _print_pushed(done[-1])
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(done), indent=2))
    return _exit_code(done)


@click.command("sync")
@click.option("--dry-run", is_flag=True, help="List the waiting runs; send nothing.")
@click.option("--to", "uri", metavar="URI", help="Send only to this server; the URI may have its password.")
@click.option("--json", "as_json", is_flag=True, help="Print the runs as a JSON list.")
def sync(dry_run: bool, uri: str | None, as_json: bool) -> int:
    """Send runs to tracking servers that could not be sent before, because of a lost connection or an interruption.

    \b
    Examples:
      proj sync
    """  # noqa: D301  # click reads the control character
    with open_store() as (database, home):
        uris = _known_uris(uri)
        waiting = [one for one in sync_state.waiting_runs(database) if uri is None or one.server in uris]
        if dry_run or not waiting:
            _list(waiting, as_json=as_json)
            return 0
        _refuse_offline()
        done: list[Pushed] = []
        failed = 0
        for address in dict.fromkeys(one.server for one in waiting):
            with RemoteServer(uris.get(address, address)) as server, showing_progress():
                to = Destination(database=database, home=home, server=server, report=show_event)
                failed += _send_all(to, [one.run_id for one in waiting if one.server == address], done)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(done), indent=2))
    return 1 if failed else _exit_code(done)


def _send_all(to: Destination, run_ids: Iterable[str], done: list[Pushed]) -> int:
    """Send runs to one server; after an error continue with the next run, unless the server can't be used at all."""
    failed = 0
    for run_id in run_ids:
        error = _send_one(to, run_id, done)
        if error is None:
            continue
        failed += 1
        show_error(error)
        if isinstance(error, RemoteError) and (error.status in (0, 401)):
            break
    return failed


def _send_one(to: Destination, run_id: str, done: list[Pushed]) -> ProjError | None:
    try:
        done.append(push(to, run_id))
    except ProjError as error:
        return error
    _print_pushed(done[-1])
    return None


def _address(uri: str | None) -> str:
    named = uri or os.environ.get(URI_VARIABLE, "")
    if not named:
        raise UsageError("No server is given", hint=f"give --to URI, or set {URI_VARIABLE}")
    return named


def _known_uris(uri: str | None) -> Mapping[str, str]:
    """Return the addresses that the user gives, by their stored form, which has no credentials."""
    named = [one for one in (os.environ.get(URI_VARIABLE, ""), uri or "") if one and (is_remote(one) or one == uri)]
    return {read_access(one).url: one for one in named}


def _refuse_offline() -> None:
    if is_offline():
        raise UsageError("The network is disabled (--offline)", hint="Remove --offline and unset PROJ_OFFLINE.")


def _print_pushed(pushed: Pushed) -> None:
    sent = msgspec.structs.asdict(pushed.sent)
    counts = ", ".join(counted(sent[kind], kind[:-1]) for kind in _KINDS if sent[kind])
    volume = f" ({size(pushed.sent.bytes)})" if pushed.sent.bytes else ""
    print_message(f"run {pushed.run_id[:8]}: {counts or 'nothing new'}{volume}")
    print_message(f"  {printable(pushed.url)}")
    for one in pushed.files_left_out[:_SHOWN]:
        print_warning(f"not sent: {printable(one)}")
    if len(pushed.files_left_out) > _SHOWN:
        left = counted(len(pushed.files_left_out) - _SHOWN, "more file")
        print_warning(f"{left} not sent; see --json")


def _exit_code(done: Iterable[Pushed]) -> int:
    """Return 1 if a file of a run is not on the server."""
    return 1 if any(pushed.files_left_out for pushed in done) else 0


def _list(waiting: list[WaitingRun], *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(waiting), indent=2))
        return
    for one in waiting:
        print_lines(f"{one.run_id[:8]}  {one.server}")
    if not waiting:
        print_message("no runs are waiting")
