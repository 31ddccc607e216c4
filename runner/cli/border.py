"""Turns the errors of a command into messages and exit codes."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from runner.base.lazy import LazyModule
from runner.base.streams import flush_output
from runner.errors import ProjError, explain_system_error

if TYPE_CHECKING:
    from runner.cli import text, usage
else:
    usage = LazyModule("runner.cli.usage")
    text = LazyModule("runner.cli.text")

INTERRUPTED = 130


def guard_errors(work: Callable[[], object]) -> int:
    """Call ``work`` and return the exit code that it returns, or that of its error.

    Errors that users can act on are shown without a traceback; any other exception is a bug and is raised.
    """
    try:
        code = work()
        flush_output()
    except click.ClickException as error:
        _show_usage_error(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        text.print_important("interrupted")
        return INTERRUPTED
    except ProjError as error:
        text.show_error(error)
        return error.exit_code
    except OSError as error:
        explained = explain_system_error(error)
        if explained is None:
            raise
        text.show_error(explained)
        return explained.exit_code
    return code if isinstance(code, int) else 0


def _show_usage_error(error: click.ClickException) -> None:
    """Print the error of a wrong command line; a group of commands without one prints its help."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        text.print_important(error.format_message())
    else:
        text.show_error(usage.usage_error(error))
