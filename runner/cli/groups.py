"""Groups of commands: sorted help, suggestions for unknown names, and the options that every command has."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING

import click

from runner.base.lazy import LazyModule
from runner.cli.verbosity import Verbosity, set_verbosity

if TYPE_CHECKING:
    from runner.cli import synonyms
else:
    synonyms = LazyModule("runner.cli.synonyms")

Callback = Callable[[click.Context, click.Parameter, bool], None]

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Run": ("run", "rerun", "reproduce", "explain", "bisect", "calibrate", "ps", "stop"),
    "Look": ("list", "show", "log", "metrics", "plot", "compare", "report", "get", "open", "diff", "checkout"),
    "Change": ("tag", "note", "rename", "link", "rm", "restore", "trash", "experiments"),
    "Models": ("models",),
    "Share": ("push", "pull", "sync", "import", "server", "token"),
    "Environments": ("add", "remove", "lock", "exec", "shell", "env", "python"),
    "Projects": ("new", "check", "update"),
}
"""The commands in the order of the help. Those that no section names come last."""

LAST_SECTION = "proj itself"

SIGNS = (
    ("·", "a step of a run that takes time"),
    ("i", "a fact to know; nothing is to be done"),
    ("!", "a warning; in `proj list` after a run's code: it changed data that it had links to"),
    ("*", "in `proj list` after a commit: the code had uncommitted changes"),
    ("▲ ▼", "the best value of a metric: the highest, the lowest"),
    ("+2", "in `proj list`: two runs are nested in this one; └ marks such a run in `--tree`"),
    ("…", "a text was cut; `--json` and `--csv` have all of it"),
)
"""The signs on the screen, explained once, in `proj --help`."""

_COMMON = (
    (("-q", "--quiet"), "Print only results, warnings and errors.", Verbosity.QUIET),
    (("-v", "--verbose"), "Print also what is usually only recorded, and causes of errors.", Verbosity.VERBOSE),
)


_RESOLVED = "runner.resolved"


class CommandGroup(click.Group):
    """A group whose error for an unknown command says what is meant, and whose commands have the common options."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command by name.

        Raises:
            click.UsageError: the command does not exist; the message suggests others.
        """
        known = self.list_commands(ctx)
        if ctx.resilient_parsing or args[0] in known or args[0].startswith("-"):
            name, command, rest = super().resolve_command(ctx, args)
            ctx.meta[_RESOLVED] = name, command
            return name, command, rest
        hint = self.hint(args[0], known)
        raise click.UsageError(f"`{ctx.command_path}` has no command '{args[0]}'" + (f"\n{hint}" if hint else ""), ctx)

    def invoke(self, ctx: click.Context) -> object:
        """Invoke a command; errors of its options get its context, which click leaves out in some of them.

        Raises:
            click.UsageError: the command line is wrong.
        """
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if error.ctx is None and _RESOLVED in ctx.meta:
                name, command = ctx.meta[_RESOLVED]
                error.ctx = click.Context(command, parent=ctx, info_name=name)
            raise

    def hint(self, word: str, known: Collection[str]) -> str | None:
        """Return what to type instead of an unknown command."""
        return synonyms.subcommand_hint(word, known)


def sections(commands: Mapping[str, str]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield the sections of the help, each with its commands; ``commands`` has the help of each command."""
    for title, names in SECTIONS.items():
        yield title, [(name, commands[name]) for name in names if name in commands]
    named = {name for names in SECTIONS.values() for name in names}
    yield LAST_SECTION, [(name, text) for name, text in commands.items() if name not in named]


class CommonOption(click.Option):
    """An option that all commands have. Below the top it is hidden, as it would make every help longer."""


def add_common_options(command: click.Command, print_version: Callback, *, hidden: bool = True) -> None:
    """Add the common options to a command and all below it, unless it has them.

    A name that the command uses for something else stays that of the command: `proj run -v` is a version of the code.
    """
    if not any(isinstance(one, CommonOption) for one in command.params):
        used = {name for one in command.params for name in one.opts}
        for names, text, callback in (
            *_verbosity_options(),
            (("-V", "--version"), "Print the version.", print_version),
        ):
            free = [name for name in names if name not in used]
            if free:
                # The last name is that of the value: a command may have an argument VERSION.
                declared = [*free, f"common_{names[1][2:]}"]
                option = CommonOption(
                    declared,
                    is_flag=True,
                    is_eager=True,
                    expose_value=False,
                    callback=callback,
                    help=text,
                )
                option.hidden = hidden
                command.params.append(option)
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        add_common_options(below, print_version)


def _verbosity_options() -> Iterator[tuple[tuple[str, ...], str, Callback]]:
    for names, text, wanted in _COMMON:

        def choose(_context: click.Context, _option: click.Parameter, value: bool, wanted: Verbosity = wanted) -> None:
            if value:
                set_verbosity(wanted)

        yield names, text, choose
