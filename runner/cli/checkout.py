"""``proj checkout``: the exact code of a run, restored."""

from pathlib import Path

import click

from runner.cli.reading import open_store
from runner.cli.text import say
from runner.model import Code
from runner.source.restoring import checkout as restore
from runner.source.snapshot import LargeFile
from runner.store import runs
from runner.store.records import read_record


@click.command("checkout")
@click.argument("run", metavar="RUN")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
def checkout(run: str, folder: Path) -> int:
    """Restore the exact code of RUN, uncommitted files too, into the new or empty folder DIR."""
    with open_store() as (database, home):
        record = read_record(database, runs.resolve(database, run), home)
    run_id = record.run_id or run
    restored = restore(run_id, folder, home, _large_files(record.code), _origin(record.project))
    say(f"the code of run {run_id[:8]} is in {folder} (tree {restored.tree[:12]})")
    for path in restored.missing:
        say(f"! {path} was too large to be stored, and is not where it was any more", fg="yellow")
    return 1 if restored.missing else 0


def _large_files(code: Code | None) -> list[LargeFile]:
    files = code.large_files if code else ()
    return [LargeFile(path=each.path, size=each.size, sha256=each.sha256) for each in files]


def _origin(project: str | None) -> Path | None:
    """Return the folder that the code was taken from, if it was one."""
    if project is None:
        return None
    folder = Path(project.removeprefix("file://").partition("#")[0])
    return folder if folder.is_dir() else None
