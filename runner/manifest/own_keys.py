"""Parses the keys of entry points that proj adds to MLflow's.

MLflow ignores these keys, and files for MLflow may use the same names with another meaning. So a value of another type
causes a warning and is ignored; an invalid value of the right type is an error of that entry point.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from posixpath import isabs, normpath

from runner.base.durations import seconds_of
from runner.base.foreign_text import Position
from runner.manifest.document import Kind, Node, plain_of, text_of
from runner.manifest.faults import Faults
from runner.model import MetricsFile

_GOALS = {"max": "max", "maximize": "max", "maximise": "max", "min": "min", "minimize": "min", "minimise": "min"}

INPUT_WAYS = ("link", "copy")
"""How a run gets an input: by default small files are copied and large ones linked."""


def read_description(node: Node | None, faults: Faults) -> str | None:
    """Return a description; warn if it is not a text."""
    if node is None:
        return None
    if node.kind is not Kind.SCALAR:
        faults.warning(node.position, "'description' is not a text, so it is not used")
        return None
    return text_of(node)


def read_paths(name: str, node: Node | None, faults: Faults, *, inside: bool) -> tuple[str, ...]:
    """Return the paths or patterns below a key: a text or a list of texts.

    With ``inside``, those that leave the project folder are warned of and left out.
    """
    if node is None:
        return ()
    nodes = node.items if node.kind is Kind.LIST else [node]
    if not all(item.is_text for item in nodes):
        faults.warning(node.position, f"'{name}' is not a path or a list of paths, so it is not used")
        return ()
    return tuple(item.source for item in nodes if not inside or _stays_inside(name, item, faults))


def read_inputs(node: Node | None, faults: Faults) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the inputs, and those of them that are copied: paths as for `read_paths`, or a mapping of path to way."""
    if node is None or node.kind is not Kind.MAPPING:
        return read_paths("inputs", node, faults, inside=False), ()
    ways = {path: "link" if field.value.is_null else plain_of(field.value) for path, field in node.fields.items()}
    if not all(way in INPUT_WAYS for way in ways.values()):
        faults.warning(
            node.position,
            "'inputs' is a mapping with other values than 'copy' and 'link', so it is not used",
            "for example inputs: [data.csv, images], or inputs: {data.csv: copy, images: link}",
        )
        return (), ()
    return tuple(ways), tuple(path for path, way in ways.items() if way == "copy")


def _stays_inside(name: str, node: Node, faults: Faults) -> bool:
    leaves = isabs(node.source) or normpath(node.source).split("/")[0] == ".."
    if leaves:
        faults.warning(node.position, f"'{node.source}' in '{name}' is outside the project folder, so it is not used")
    return not leaves


def read_metrics(node: Node | None, faults: Faults) -> tuple[MetricsFile, ...]:
    """Return the files of metrics: paths, or mappings of ``path`` and ``tolerance``, one or a list of them."""
    if node is None:
        return ()
    nodes = node.items if node.kind is Kind.LIST else [node]
    if not all(item.is_text or (item.kind is Kind.MAPPING and _path_in(item)) for item in nodes):
        faults.warning(
            node.position,
            "'metrics' is not a file or a list of files, so it is not used",
            "for example metrics: metrics.json, or [{path: metrics.json, tolerance: 1e-6}]",
        )
        return ()
    found = []
    for item in nodes:
        path = item if item.is_text else item.fields["path"].value
        tolerance = read_tolerance(item.field("tolerance"), faults.error)
        if _stays_inside("metrics", path, faults):
            found.append(MetricsFile(path=path.source, tolerance=tolerance))
    return tuple(found)


def _path_in(node: Node) -> bool:
    path = node.field("path")
    return path is not None and path.is_text


def read_tolerance(node: Node | None, report: Callable[[Position, str], None]) -> float | None:
    """Return the tolerance of a number, at least 0."""
    if node is None:
        return None
    number = number_of(node)
    if number is None or not math.isfinite(number) or number < 0:
        report(node.position, f"'tolerance' must be a number of at least 0, not '{text_of(node)}'")
        return None
    return number


def read_tolerances(node: Node | None, faults: Faults) -> float | dict[str, float] | None:
    """Return the tolerance of all numbers, or those of metrics by name or pattern."""
    if node is None or node.kind is not Kind.MAPPING:
        return read_tolerance(node, faults.warning)
    found = {name: read_tolerance(field.value, faults.warning) for name, field in node.fields.items()}
    return {name: value for name, value in found.items() if value is not None}


def read_ignored(node: Node | None, faults: Faults) -> dict[str, tuple[str, ...]]:
    """Return the expressions for volatile texts, by the outputs in which they are not compared."""
    if node is None:
        return {}
    if node.kind is not Kind.MAPPING:
        hint = 'for example ignore: {"report.txt": "took .* seconds"}'
        faults.warning(node.position, "'ignore' is not a mapping of outputs to expressions, so it is not used", hint)
        return {}
    found = {}
    for name, field in node.fields.items():
        expressions = read_paths("ignore", field.value, faults, inside=False)
        problems = [problem for one in expressions if (problem := _problem_of(one))]
        for problem in problems:
            faults.error(field.value.position, problem)
        found[name] = expressions
    return found


def _problem_of(expression: str) -> str | None:
    try:
        re.compile(expression)
    except (re.error, RecursionError, OverflowError) as error:
        return f"'{expression}' in 'ignore' is no regular expression: {error}"
    return None


def read_primary_metric(node: Node | None, faults: Faults) -> tuple[str | None, str | None]:
    """Return name and goal of the primary metric: a name, or a mapping of ``name`` and ``goal``."""
    if node is None or node.is_null:
        return None, None
    name = node if node.is_text else node.field("name")
    if name is None or not name.is_text or not name.source.strip():
        hint = "for example metric: {name: val_acc, goal: max}"
        faults.warning(node.position, "'metric' is not the name of a metric, so it is not used", hint)
        return None, None
    goal = node.field("goal")
    if goal is None or goal.is_null:
        return name.source, None
    word = _GOALS.get(text_of(goal).lower()) if goal.kind is Kind.SCALAR else None
    if word is None:
        faults.warning(goal.position, "'goal' of 'metric' is not max or min, so it is not used")
    return name.source, word


def number_of(node: Node) -> float | None:
    """Return a scalar as a number, also if YAML 1.1 reads ``1e-6`` as a text; None if it is not a number."""
    if node.kind is not Kind.SCALAR or isinstance(node.value, bool) or node.problem:
        return None
    try:
        return float(text_of(node))
    except (ValueError, OverflowError):
        return None


def read_variables(node: Node | None, faults: Faults) -> dict[str, str | None]:
    """Return environment variables: a mapping of names and values, or a list; None means the caller's value.

    Items of a list are ``NAME`` for the caller's value, ``NAME=VALUE``, and mappings.
    """
    if node is None or node.is_null:
        return {}
    found: dict[str, str | None] = {}
    for item in node.items if node.kind is Kind.LIST else [node]:
        if item.kind is Kind.MAPPING and all(field.value.kind is Kind.SCALAR for field in item.fields.values()):
            fields = [(name, text_of(field.value), field) for name, field in item.fields.items()]
            new = [(name, "" if field.value.is_null else text, field.key.position) for name, text, field in fields]
            found.update(_usable(new, faults))
        elif item.is_text and node.kind is Kind.LIST:
            name, equals, value = item.source.partition("=")
            found.update(_usable([(name, value if equals else None, item.position)], faults))
        else:
            hint = "for example env: {OMP_NUM_THREADS: 2}, or env: [HF_TOKEN] for a variable of the caller"
            faults.warning(item.position, "'env' is neither variables with values nor a list of names; not used", hint)
            return {}
    return found


def _usable(variables: Iterable[tuple[str, str | None, Position]], faults: Faults) -> Iterator[tuple[str, str | None]]:
    """Yield the variables that an environment can hold."""
    for name, value, position in variables:
        if not name or name != name.strip() or "=" in name or "\0" in name or "\0" in (value or ""):
            faults.error(position, f"'{name}' in 'env' can't be an environment variable")
        else:
            yield name, value


def read_timeout(node: Node | None, faults: Faults) -> float | None:
    """Return a time limit in seconds, from seconds or a text like ``90s``, ``10m``, ``1h30m``."""
    if node is None:
        return None
    if node.kind is not Kind.SCALAR or isinstance(node.value, bool):
        faults.warning(node.position, "'timeout' is not a time, so it is not used", "for example 600, 10m or 1h30m")
        return None
    seconds = number_of(node)
    if seconds is None:
        seconds = seconds_of(text_of(node))
    if seconds is None or not math.isfinite(seconds) or seconds <= 0:
        faults.error(node.position, f"'timeout: {text_of(node)}' is not a time", "for example 600, 10m or 1h30m")
        return None
    return seconds


def read_names(name: str, node: Node | None, faults: Faults) -> tuple[str, ...]:
    """Return names below a key: a text or a list of texts."""
    return read_paths(name, node, faults, inside=False)


def read_promotion(node: Node | None, faults: Faults) -> dict[str, object] | None:
    """Return the value of ``promote`` as plain data."""
    if node is None:
        return None
    if node.kind is not Kind.MAPPING:
        faults.warning(node.position, "'promote' is not a mapping, so it is not used")
        return None
    return {name: plain_of(field.value) for name, field in node.fields.items()}
