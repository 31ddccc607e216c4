"""The ``proj`` command: lists its subcommands, and turns errors into messages and exit codes."""

import gc
import importlib
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from runner.base.lazy import LazyModule
from runner.base.streams import flush_output, open_streams
from runner.cli.border import guard_errors
from runner.cli.groups import SIGNS, CommandGroup, add_common_options, sections
from runner.cli.verbosity import Verbosity, set_verbosity

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from runner.cli import synonyms
else:
    synonyms = LazyModule("runner.cli.synonyms")

_INDENT = 13
"""Cells before the help of a command in the list of commands."""


class LazyCommand(NamedTuple):
    """A command that is imported when it is used; ``help`` is its line in the list of commands.

    ``target`` is ``MODULE:NAME``.
    """

    target: str
    help: str


COMMANDS = {
    "run": LazyCommand("runner.cli.run:run", "Run an entry point and record it."),
    "ps": LazyCommand("runner.cli.ps:ps", "List the runs that are running."),
    "stop": LazyCommand("runner.cli.stop:stop", "Stop runs that are running."),
    "rerun": LazyCommand("runner.cli.rerun:rerun", "Run a recorded run again, with other parameters."),
    "list": LazyCommand("runner.cli.list:list_runs", "List runs, newest first."),
    "show": LazyCommand("runner.cli.show:show", "Show all details of a run."),
    "log": LazyCommand("runner.cli.log:log", "Print the output of a run."),
    "get": LazyCommand("runner.cli.get:get", "Copy outputs and artifacts of a run to a folder."),
    "open": LazyCommand("runner.cli.open:open_artifact", "Open an artifact of a run with a viewer."),
    "tag": LazyCommand("runner.cli.tag:tag", "Set, remove and show tags of a run."),
    "note": LazyCommand("runner.cli.note:note", "Set or show the note of a run."),
    "rename": LazyCommand("runner.cli.rename:rename", "Give a run another name."),
    "checkout": LazyCommand("runner.cli.checkout:checkout", "Restore the exact code of a run."),
    "diff": LazyCommand("runner.cli.diff:diff", "Show how the code of a dirty run differs from its commit."),
    "link": LazyCommand("runner.cli.link:link", "Link runs of uncommitted changes to later commits."),
    "rm": LazyCommand("runner.cli.rm:rm", "Move runs to the trash, or remove them permanently."),
    "restore": LazyCommand("runner.cli.restore:restore", "Restore runs from the trash."),
    "trash": LazyCommand("runner.cli.trash:trash", "List and empty the trash."),
    "compare": LazyCommand("runner.cli.compare:compare", "Compare runs and show the differences."),
    "reproduce": LazyCommand("runner.cli.reproduce:reproduce", "Run a recorded run again and compare the results."),
    "explain": LazyCommand("runner.cli.explain:explain_runs", "Find out by experiment why two runs differ."),
    "bisect": LazyCommand("runner.cli.bisect:bisect", "Find the commit that made a metric bad."),
    "calibrate": LazyCommand("runner.cli.calibrate:calibrate", "Measure by how much a run's results vary."),
    "metrics": LazyCommand("runner.cli.metrics:metrics", "Show the history of a metric."),
    "plot": LazyCommand("runner.cli.plot:plot", "Draw the curves of metrics of several runs."),
    "report": LazyCommand("runner.cli.report:report", "Write runs as one HTML file."),
    "experiments": LazyCommand("runner.cli.experiments:experiments", "List and change experiments."),
    "models": LazyCommand("runner.cli.models:models", "List and change registered models."),
    "push": LazyCommand("runner.cli.push:push_runs", "Copy runs to an MLflow server."),
    "sync": LazyCommand("runner.cli.push:sync", "Send runs that could not be sent to their server."),
    "pull": LazyCommand("runner.cli.pull:pull_runs", "Copy runs from an MLflow server."),
    "export": LazyCommand("runner.cli.export:export", "Write a run as one file with all that reproduces it."),
    "import": LazyCommand("runner.cli.import_store:import_command", "Import a run, an mlruns folder, or a database."),
    "server": LazyCommand("runner.cli.server:server", "Serve the store to any MLflow client."),
    "token": LazyCommand("runner.cli.token:token", "Manage the access tokens of the server."),
    "check": LazyCommand("runner.cli.check:check", "Check a manifest without running anything."),
    "lock": LazyCommand("runner.cli.lock:lock", "Lock the environments of a project."),
    "add": LazyCommand("runner.cli.add:add", "Add packages to the environment of a project."),
    "remove": LazyCommand("runner.cli.add:remove", "Remove packages from the environment of a project."),
    "exec": LazyCommand("runner.cli.environment_use:execute", "Run a command in the environment of a project."),
    "shell": LazyCommand("runner.cli.environment_use:shell", "Start a shell in the environment of a project."),
    "env": LazyCommand("runner.cli.env:env", "List, verify, export and remove cached environments."),
    "verify": LazyCommand("runner.cli.verify:verify", "Check all data in proj's home, and repair it."),
    "python": LazyCommand("runner.cli.python:python", "List the Python interpreters for environments."),
    "new": LazyCommand("runner.cli.new:new", "Create a project from a template."),
    "completion": LazyCommand("runner.cli.completion:completion", "Print the completion script for a shell."),
    "update": LazyCommand("runner.cli.update:update", "Update a project to a newer version of its template."),
}


class LazyGroup(CommandGroup):
    """A command group that imports a command only when it is used, so that help and completion stay fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002, D102
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002, D102
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        module, name = lazy.target.split(":")
        # Loaded modules live until the end: without this the garbage collector scans them repeatedly, and once more
        # at exit, which takes a tenth of the time of a short run.
        gc.disable()
        command: click.Command = getattr(importlib.import_module(module), name)
        gc.freeze()
        gc.enable()
        add_common_options(command, _print_version)
        _mark_examples(command)
        return command

    def hint(self, word: str, known: Collection[str]) -> str | None:  # noqa: D102
        return synonyms.command_hint(word, known)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """Complete the name of a command without importing it; the base class completes options."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        from click.shell_completion import CompletionItem

        return [CompletionItem(name, help=lazy.help) for name, lazy in COMMANDS.items() if name.startswith(incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002, D102
        for title, commands in sections({name: lazy.help for name, lazy in COMMANDS.items()}):
            with formatter.section(title):
                longest = max((len(name) for name, _ in commands), default=0)
                formatter.write_dl(commands, col_spacing=_INDENT - longest)
        with formatter.section("Signs"):
            formatter.write_dl(SIGNS)


def _mark_examples(command: click.Command) -> None:
    """Put click's mark for a paragraph with fixed lines in place of its escape, which raw docstrings have."""
    command.help = command.help and command.help.replace("\\b\n", "\b\n")
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        _mark_examples(below)


def _print_version(ctx: click.Context, _option: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"proj {version('proj-runner')}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Run data-science projects and tie every result to its exact code, environment and parameters.

    \b
    Examples:
      proj run . -P alpha=0.5
      proj list
      proj show latest
      proj reproduce latest
    """  # noqa: D301  # click reads the control character


add_common_options(cli, _print_version, hidden=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its exit code."""
    sys.exit(run_command(arguments))


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Errors that users can act on are shown without a traceback; any other exception is a bug and is raised.
    """
    open_streams()
    set_verbosity(Verbosity.NORMAL)

    def work() -> object:
        try:
            args = None if arguments is None else list(arguments)
            return cli.main(args=args, prog_name="proj", standalone_mode=False)
        except OSError:
            flush_output(has_failed=True)  # raises OutputError if stdout caused the error
            raise

    return guard_errors(work)


if __name__ == "__main__":
    main()
