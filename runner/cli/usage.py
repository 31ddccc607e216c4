"""Words errors of the command line like all other errors: what is wrong, where, and what to do."""

import re
from collections.abc import Sequence

import click

from runner.base.suggestions import near_words
from runner.cli.synonyms import option_hint
from runner.cli.text import printable
from runner.errors import ProjError, UsageError

_VALUE = re.compile(r"'(.*)' is not |(\S+) is not in the range", re.DOTALL)
_EXTRA = re.compile(r"Got unexpected extra arguments? \((.*)\)", re.DOTALL)
_VALUES = {
    "RUN": "RUN is an id or its beginning, a name, `latest` or `latest~1`; `proj list` has them.",
    "METRIC": "`proj metrics RUN` lists the metrics of a run.",
    "PKG...": "PKG is a package as on the Python index: numpy, 'pandas>=2', 'ray[tune]==2.9'.",
}
"""What can stand for an argument."""
_BOUNDS = {
    (True, True): "{kind} from {low} to {high}",
    (True, False): "{kind} of at least {low}",
    (False, True): "{kind} of at most {high}",
}


def usage_error(error: click.ClickException) -> ProjError:
    """Return the error of a wrong command line in proj's own words; the context shows how the command is called."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return UsageError(printable(error.format_message().rstrip(".")), hint="See `proj --help`.")
    message, hint = _explain(error, context)
    usage = " ".join((context.command_path, *context.command.collect_usage_pieces(context)))
    return UsageError(
        printable(message), context=f"usage: {usage}", hint=hint or f"See `{context.command_path} --help`."
    )


def _explain(error: click.ClickException, context: click.Context) -> tuple[str, str | None]:
    """Return what is wrong, and what to do if that is known."""
    if isinstance(error, click.NoSuchOption):
        return _unknown_option(error, context)
    if isinstance(error, click.MissingParameter):
        name = _name(error.param, error.param_hint)
        return f"{name} is missing", _choices(error.param) or _VALUES.get(name.split()[0])
    if isinstance(error, click.BadParameter):
        return _bad_value(error)
    if isinstance(error, click.BadOptionUsage):
        return _bad_option(error, context)
    extra = _EXTRA.match(error.message)
    if extra:
        return f"Nothing more can follow here: {extra[1]}", _place_of(extra[1], context)
    message, _, hint = error.message.partition("\n")
    return message.rstrip("."), hint or None


def _unknown_option(error: click.NoSuchOption, context: click.Context) -> tuple[str, str | None]:
    options = [name for one in context.command.params if not getattr(one, "hidden", False) for name in one.opts]
    known = [name for name in options if name.startswith("-")]
    message = f"`{context.command_path}` has no option '{error.option_name}'"
    return message, option_hint(error.option_name, known)


def _place_of(words: str, context: click.Context) -> str | None:
    """Return where words belong that are no arguments of a command."""
    options = {name for one in context.command.params for name in one.opts}
    if "=" in words and "-P" in options:
        return f"Parameters follow -P: -P {words.rsplit(maxsplit=1)[-1]}"
    return f"An entry point or a script follows -e: -e {words.split(maxsplit=1)[0]}" if "-e" in options else None


def _bad_option(error: click.BadOptionUsage, context: click.Context) -> tuple[str, str | None]:
    param = next((one for one in context.command.params if error.option_name in one.opts), None)
    if "does not take" in error.message or param is None:
        return f"{error.option_name} takes no value", None
    return f"{error.option_name} needs a value: {error.option_name} {_metavar(param)}", getattr(param, "help", None)


def _bad_value(error: click.BadParameter) -> tuple[str, str | None]:
    name = _name(error.param, error.param_hint)
    found = _VALUE.match(error.message)
    value = (found[1] or found[2] or "") if found else ""
    kind = error.param.type if error.param is not None else None
    if isinstance(kind, click.Choice):
        near = next(iter(near_words(value, list(map(str, kind.choices)), most=1)), None)
        suggested = f"Did you mean {near}? " if near else ""
        return f"{name} can't be '{value}'", f"{suggested}{_choices(error.param)}"
    wanted = _number(kind)
    if found is not None and wanted is not None:
        return f"{name} takes {wanted}, not '{value}'", None
    message = error.message.rstrip(".")
    return f"{name}: {message[:1].lower()}{message[1:]}", None


def _number(kind: object) -> str | None:
    """Return what a numeric parameter takes; None for other kinds."""
    if isinstance(kind, (click.IntRange, click.FloatRange)):
        noun = "a whole number" if isinstance(kind, click.IntRange) else "a number"
        low, high = (f"{bound:,}" if bound is not None else "" for bound in (kind.min, kind.max))
        text = _BOUNDS.get((kind.min is not None, kind.max is not None), "{kind}")
        return text.format(kind=noun, low=low, high=f"less than {high}" if kind.max_open else high)
    return (
        {click.INT: "a whole number", click.FLOAT: "a number"}.get(kind) if isinstance(kind, click.ParamType) else None
    )


def _name(param: click.Parameter | None, hint: Sequence[str] | str | None) -> str:
    """Return the name by which users know a parameter: its long option, or as the usage line has it."""
    if param is None:
        return str(hint or "a value")
    return max(param.opts, key=len) if isinstance(param, click.Option) else _metavar(param).partition(" [")[0]


def _metavar(param: click.Parameter) -> str:
    return param.metavar or (param.name or "").upper()


def _choices(param: click.Parameter | None) -> str | None:
    if param is not None and isinstance(param.type, click.Choice):
        return f"It can be {', '.join(map(str, param.type.choices))}."
    return None
