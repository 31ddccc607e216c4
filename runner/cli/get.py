"""``proj get``: copies artifacts of a run into a folder."""

import os
import sys
from pathlib import Path

import click
import msgspec
from msgspec import structs

from runner.cli import completions
from runner.cli.artifact_copies import choose_files, copy_files
from runner.cli.options import reads_runs
from runner.cli.output import size
from runner.cli.run_search import Search, find_records, read_search, searches_runs
from runner.cli.run_source import open_runs
from runner.cli.show_relations import artifact_lines
from runner.cli.text import print_lines, print_message, print_warning, printable
from runner.errors import NotFoundError
from runner.model import RunRecord
from runner.runs.local_relations import artifact_entries
from runner.runs.reader import RunArtifact, RunArtifacts, RunReader
from runner.store.artifact_paths import is_possible

_LONGEST = 100
"""Characters of a run's name in the name of a folder."""


class _Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the command."""

    target: str | None
    as_list: bool
    force: bool
    tracking_uri: str | None
    local: bool


@click.command("get")
@click.argument("run", metavar="[RUN]", required=False, shell_complete=completions.runs)
@click.argument("path", default="", metavar="[PATH]")
@searches_runs
@click.option(
    *("--to", "target"),
    metavar="DIR",
    help="Target folder. [default: a folder named after the run, NAME-ID]",
    shell_complete=completions.folders,
)
@click.option("--list", "as_list", is_flag=True, help="List the files with their sizes; copy nothing.")
@click.option("--force", is_flag=True, help="Replace files that differ.")
@reads_runs
def get(run: str | None, path: str, **chosen: object) -> int:
    r"""Copy the artifacts of RUN and the models it logged, or only those at PATH; existing files are not replaced.

    With --filter and the like the artifacts of all found runs are copied, each run's to a folder named after it; the
    only argument is PATH. The exit code is 1 if a file can't be copied, is missing in the store, or differs from its
    recorded digest; all other files are copied.

    \b
    Examples:
      proj get latest model --to .
      proj get --filter "metrics.rmse < 0.8" plots --to best
    """
    options = msgspec.convert({name: chosen[name] for name in _Options.__struct_fields__}, _Options)
    searched = {name: value for name, value in chosen.items() if name not in _Options.__struct_fields__}
    is_search = msgspec.convert(searched, Search).is_given
    search = read_search(searched, named=run is not None and (bool(path) or not is_search))
    with open_runs(options.tracking_uri, local=options.local) as reader:
        if not search.is_given:
            return _get(reader, run or "", path, options)
        return max(
            [_get_found(reader, record, run or "", options) for record in find_records(reader, search)], default=0
        )


def _get_found(reader: RunReader, record: RunRecord, path: str, options: _Options) -> int:
    """Copy or list the files of a run that a search found; a run without such files is only named."""
    run_id = record.run_id or ""
    folder = Path(options.target or ".") / folder_for(record.run_name, reader.own_id(run_id))
    try:
        return _get(reader, run_id, path, structs.replace(options, target=str(folder)))
    except NotFoundError as error:
        print_message(f"run {run_id[:8]} ({printable(record.run_name or '')}): {error.message}")
        return 0


def _get(reader: RunReader, run: str, path: str, options: _Options) -> int:
    """Copy or list the files of one run."""
    files = choose_files(reader.files(run), run, path.strip("/"))
    if options.as_list:
        return _print_list(files)
    folder = (
        folder_for(reader.record(run).run_name, reader.own_id(run)) if options.target is None else Path(options.target)
    )
    done = copy_files(files, folder, force=options.force)
    for file in done.files:
        _print_path(folder, file)
    print_message(f"{done.copied} copied ({size(done.size)}), {len(done.files) - done.copied} already existed")
    for one in done.omissions:
        print_warning(f"not copied: {printable(one.path)}: {printable(one.reason)}")
    return 1 if done.omissions else 0


def folder_for(run_name: str | None, run_id: str) -> Path:
    """Return the folder that is named after a run: its name and the beginning of its id."""
    run_id = run_id[:8]
    name = f"{(run_name or '')[:_LONGEST]}-{run_id}"
    is_usable = name.isprintable() and "/" not in name and not name.startswith((".", "-")) and is_possible(name)
    return Path(name if is_usable else run_id)


def _print_list(chosen: RunArtifacts) -> int:
    """Print the files: as a tree on a terminal, else their paths, one per line."""
    entries = artifact_entries(chosen)
    if sys.stdout.isatty():
        print_lines("\n".join(artifact_lines(entries, everything=True)))
    else:
        for entry in entries:
            click.echo(os.fsencode(entry.path))
    for one in chosen.omissions:
        print_warning(f"can't be read: {printable(one.path)}: {printable(one.reason)}")
    return 1 if chosen.omissions else 0


def _print_path(folder: Path, file: RunArtifact) -> None:
    """Print the path of a file: byte for byte to a program, with escaped control characters to a terminal."""
    path = str(folder.joinpath(*file.names))
    click.echo(printable(path) if sys.stdout.isatty() else os.fsencode(path))
