"""Shares runs through a git repository: the parts of ``proj push --git`` and ``proj pull --git``."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click
import msgspec

from runner.base.lazy import LazyModule
from runner.cli.bundle_use import require_allowed, take
from runner.cli.home import enter_home, warn_of_lost_store
from runner.cli.options import read_size
from runner.cli.run_search import Search, find_records
from runner.cli.text import print_lines, print_message, printable, show_error, show_event
from runner.errors import BundleError, NotFoundError, ProjError
from runner.runs.local import LocalReader
from runner.settings import Home
from runner.store import import_writer
from runner.store.database import Database
from runner.store.run_selection import resolve
from runner.sync.sync_state import nested_runs

if TYPE_CHECKING:
    from runner.bundles import content, git_refs, git_remote, taking
else:
    content = LazyModule("runner.bundles.content")
    git_refs = LazyModule("runner.bundles.git_refs")
    git_remote = LazyModule("runner.bundles.git_remote")

_SHORTEST = 4
"""Digits of the beginning of a run's id."""


def push_to_git(names: Sequence[str], search: Search, options: Mapping[str, object], *, as_json: bool) -> int:
    """Send the chosen runs to a git repository; return the exit code."""
    home = enter_home(writing=True)
    warn_of_lost_store(home)
    limit = options["limit"]
    choice = content.Choice(input_size=read_size(str(limit)) if limit else 0, outputs=bool(options["outputs"]))
    remote = git_remote.find_remote(str(options["remote"]), Path.cwd())
    with closing(Database.open_to_read(home.database)) as database:
        named = [resolve(database, name, print_message) for name in names]
        if not names:
            named = [record.run_id or "" for record in find_records(LocalReader(database, home), search)]
        chosen = list(dict.fromkeys(one for run_id in named for one in nested_runs(database, run_id)))
    done = []
    for run_id in chosen:
        done.append(git_refs.push_run(run_id, remote, home, choice))
        state = "sent" if done[-1].is_new else "nothing new"
        print_message(f"run {run_id[:8]}: {state}, {done[-1].ref}")
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(done), indent=2))
    return 0


def pull_from_git(address: str, names: Sequence[str], *, addresses: bool, as_json: bool) -> int:
    """Take runs of a git repository over; return 1 if one of them is refused."""
    home = enter_home(writing=True)
    warn_of_lost_store(home)
    remote = git_remote.find_remote(address, Path.cwd())
    with TemporaryDirectory(prefix="proj-") as temporary:
        known, odd = git_refs.list_runs(remote, Path(temporary))
    if odd:
        print_message(f"! {odd} refs below refs/proj/runs/ are not those of runs and are left alone", fg="yellow")
    done: list[taking.Imported] = []
    failed = 0
    for run_id in _chosen(known, names, home):
        try:
            done.append(_take(run_id, remote, home, addresses=addresses))
        except ProjError as error:
            if len(names) == 1:
                raise
            show_error(error)
            failed += 1
            continue
        if not as_json:
            print_lines(f"run {run_id}: {done[-1].change.value}")
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(done), indent=2))
    elif not done and not failed:
        print_message("everything is here already" if known else f"{printable(remote.url)} has no runs")
    return 1 if failed else 0


def _take(run_id: str, remote: "git_remote.GitRemote", home: Home, *, addresses: bool) -> "taking.Imported":
    with TemporaryDirectory(prefix="proj-", dir=home.root) as temporary:
        bundle = git_refs.fetch_run(remote, run_id, Path(temporary))
        require_allowed(bundle, addresses=addresses)
        return take(bundle, home, show_event)


def _chosen(known: Mapping[str, str], names: Sequence[str], home: Home) -> Iterator[str]:
    """Yield the ids of the named runs; without names, of those that are not in the store."""
    if not names:
        with closing(Database.open(home.database)) as database:
            yield from [one for one in sorted(known) if import_writer.lookup(database, one) is None]
        return
    for name in names:
        found = [one for one in known if one.startswith(name.lower())] if len(name) >= _SHORTEST else []
        if not found:
            raise NotFoundError(f"The repository has no run '{printable(name)}'", hint="Give the beginning of its id.")
        if len(found) > 1:
            raise BundleError(f"{len(found)} runs of the repository have ids that begin with '{printable(name)}'")
        yield found[0]
