"""``proj open``: opens an artifact of a run with the system's viewer, or shows an image in the terminal."""

import os
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import click

from runner.base.files import remove_tree
from runner.cli import completions
from runner.cli.artifact_copies import choose_files, copy_files
from runner.cli.home import enter_home
from runner.cli.options import reads_runs
from runner.cli.run_source import open_runs
from runner.cli.terminal_images import show_inline
from runner.cli.text import print_message, printable
from runner.errors import TransferError, UsageError
from runner.process import find_program
from runner.process.viewer import start_viewer
from runner.settings import Home

_VIEWERS = ("open",) if sys.platform == "darwin" else ("xdg-open", "wslview")
_STARTS_PROGRAMS = (".desktop", ".command", ".terminal", ".scpt", ".workflow")
"""Files that a viewer would execute."""
_DAY = 86_400


@click.command("open")
@click.argument("run", metavar="RUN", shell_complete=completions.runs)
@click.argument("path", default="", metavar="[PATH]")
@reads_runs
def open_artifact(run: str, path: str, tracking_uri: str | None, local: bool) -> int:
    """Open the artifact PATH of RUN with the system's viewer; without PATH, all artifacts as a folder.

    The viewer gets a copy. Terminals of iTerm2, WezTerm, kitty and Ghostty show images themselves. PROJ_VIEWER names
    another program.

    \b
    Examples:
      proj open latest plots/roc.png
    """  # noqa: D301  # click reads the control character
    path = path.strip("/")
    home = enter_home(writing=True)
    with open_runs(tracking_uri, local=local) as reader:
        chosen = choose_files(reader.files(run), run, path)
        _forget_old(home)
        folder = _folder(home) / reader.own_id(run)
        done = copy_files(chosen, folder, force=True)
    if done.omissions:
        context = "\n".join(f"{printable(one.path)}: {printable(one.reason)}" for one in done.omissions)
        raise TransferError("Not all files can be opened", context=context)
    files = [folder.joinpath(*file.names) for file in done.files]
    target = files[0] if len(files) == 1 else folder / path
    if target.suffix.lower() in _STARTS_PROGRAMS:
        hint = f"Copy it with `proj get {run} {path}`."
        raise UsageError(f"'{printable(target.name)}' is not opened: viewers execute such files", hint=hint)
    if target.is_file() and show_inline(target):
        return 0
    click.echo(os.fsencode(target))
    viewer = _viewer()
    if viewer is None:
        print_message("no viewer was found; set PROJ_VIEWER to a program that opens files")
        return 1
    start_viewer(viewer, target)
    return 0


def _folder(home: Home) -> Path:
    return home.root / "cache" / "opened"


def _forget_old(home: Home) -> None:
    """Remove the copies for viewers that are older than a day."""
    folder = _folder(home)
    for old in folder.iterdir() if folder.is_dir() else ():
        if old.stat().st_mtime < time.time() - _DAY:
            remove_tree(old)


def _viewer(environ: Mapping[str, str] = os.environ) -> list[str] | None:
    """Return the words of the command that opens a file, or None."""
    named = environ.get("PROJ_VIEWER")
    if named:
        try:
            return shlex.split(named)
        except ValueError as error:
            raise UsageError("PROJ_VIEWER is not a command", context=str(error)) from error
    return next(([name] for name in _VIEWERS if find_program(name)), None)
