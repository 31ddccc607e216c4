"""The ``proj`` command: its words, and the one border where errors become text and exit codes."""

import gc
import importlib
import sys
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING, NamedTuple

import click

from runner.base.lazy import LazyModule
from runner.cli.streams import flush_output, open_streams
from runner.errors import ProjError, explain_system_error

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from runner.cli import text
else:
    text = LazyModule("runner.cli.text")

INTERRUPTED = 130


class LazyCommand(NamedTuple):
    """A command that is imported when it is used; ``help`` stands in the list of commands until then."""

    place: str
    help: str


COMMANDS = {
    "run": LazyCommand("runner.cli.run:run", "Run an entry point and record it."),
    "list": LazyCommand("runner.cli.list:list_runs", "List runs, newest first."),
    "show": LazyCommand("runner.cli.show:show", "Show one run whole."),
    "log": LazyCommand("runner.cli.log:log", "Print the output of a run."),
    "get": LazyCommand("runner.cli.get:get", "Copy outputs and artifacts of a run."),
    "checkout": LazyCommand("runner.cli.checkout:checkout", "Restore the exact code of a run."),
    "diff": LazyCommand("runner.cli.diff:diff", "Show in what the code of a dirty run differs from its commit."),
    "rm": LazyCommand("runner.cli.rm:rm", "Remove runs and free what they hold."),
    "compare": LazyCommand("runner.cli.compare:compare", "Show in what runs differ."),
    "metrics": LazyCommand("runner.cli.metrics:metrics", "Show the history of a metric."),
    "experiments": LazyCommand("runner.cli.experiments:experiments", "List and change experiments."),
    "models": LazyCommand("runner.cli.models:models", "List and change registered models."),
    "push": LazyCommand("runner.cli.push:push_runs", "Copy runs to an MLflow server."),
    "sync": LazyCommand("runner.cli.push:sync", "Send what could not be sent to a server before."),
    "pull": LazyCommand("runner.cli.pull:pull_runs", "Copy runs of an MLflow server here."),
    "import": LazyCommand("runner.cli.import_store:import_command", "Bring in an mlruns folder or an MLflow database."),
    "server": LazyCommand("runner.cli.server:server", "Serve the store to any MLflow client."),
    "token": LazyCommand("runner.cli.token:token", "Say who may use the server."),
    "check": LazyCommand("runner.cli.check:check", "Check a manifest; nothing is run."),
    "lock": LazyCommand("runner.cli.lock:lock", "Lock the environments of a project."),
    "env": LazyCommand("runner.cli.env:env", "List, verify, export and remove the environments that are kept."),
    "verify": LazyCommand("runner.cli.verify:verify", "Check everything that proj keeps, and repair it."),
    "python": LazyCommand("runner.cli.python:python", "List the Pythons that environments can be made with."),
    "new": LazyCommand("runner.cli.new:new", "Start a project from a template."),
    "completion": LazyCommand("runner.cli.completion:completion", "Let the shell complete what is typed."),
    "update": LazyCommand("runner.cli.update:update", "Bring a later version of its template into a project."),
}


class LazyGroup(click.Group):
    """A group that imports a command only when it is asked for, so that help and completion stay fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002, D102
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002, D102
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        module, name = lazy.place.split(":")
        # What is loaded stays to the end: without this the collector looks at all of it again and again, and once
        # more at the exit, which takes a tenth of the time of a short run.
        gc.disable()
        command: click.Command = getattr(importlib.import_module(module), name)
        gc.freeze()
        gc.enable()
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is named, else say which is meant.

        Raises:
            click.UsageError: there is no such command.
        """
        if ctx.resilient_parsing or args[0] in COMMANDS or args[0].startswith("-"):
            return super().resolve_command(ctx, args)
        from difflib import get_close_matches

        near = get_close_matches(args[0], COMMANDS, n=2)
        meant = f" Did you mean {' or '.join(near)}?" if near else ""
        raise click.UsageError(f"No such command '{args[0]}'.{meant}", ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """Complete the name of a command without importing any; an option is the base class's to complete."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        from click.shell_completion import CompletionItem

        return [CompletionItem(name, help=lazy.help) for name, lazy in COMMANDS.items() if name.startswith(incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002, D102
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in COMMANDS.items()])


def _print_version(ctx: click.Context, _option: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"proj {version('proj-runner')}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
def cli() -> None:
    """Run data-science projects and tie every result to the exact code, environment and parameters that made it."""


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(run_command(words))


def run_command(words: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Errors meant for the user are shown without a traceback; anything else is our bug and escapes.
    """
    open_streams()
    try:
        try:
            code = cli.main(args=None if words is None else list(words), prog_name="proj", standalone_mode=False)
        except OSError:
            flush_output(has_failed=True)  # if that is what failed, it says so
            raise
        flush_output()
    except click.ClickException as error:
        text.say(_formatted(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        text.say("interrupted")
        return INTERRUPTED
    except ProjError as error:
        text.show_error(error)
        return error.exit_code
    except OSError as error:
        told = explain_system_error(error)
        if told is None:
            raise
        text.show_error(told)
        return told.exit_code
    return code if isinstance(code, int) else 0


def _formatted(error: click.ClickException) -> str:
    """Return what click says of a wrong command, as its own `show` prints it."""
    shown = StringIO()
    error.show(shown)
    return shown.getvalue().rstrip("\n")


if __name__ == "__main__":
    main()
