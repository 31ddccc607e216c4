"""The words after ``--`` on the command lines of ``proj run`` and ``proj rerun``."""

import click

_KEY = "runner.own_command"


class CommandWithArguments(click.Command):
    """A command that keeps the words after the first ``--`` apart from its own arguments.

    click itself removes ``--``, so that ``run -- python a.py`` would take ``python`` as its first argument.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:  # noqa: D102
        if "--" in args:
            at = args.index("--")
            ctx.meta[_KEY] = tuple(args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)


def own_command() -> tuple[str, ...]:
    """Return the words after ``--`` of the current command.

    Raises:
        click.UsageError: nothing stands after ``--``.
    """
    context = click.get_current_context()
    arguments: tuple[str, ...] | None = context.meta.get(_KEY)
    if arguments == ():
        raise click.UsageError("After -- comes the command to run, for example: proj run . -- python train.py", context)
    return arguments or ()
