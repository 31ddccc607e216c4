"""Completes values for the shell: runs, experiments, models, entry points, parameters, metrics."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.base.lazy import LazyModule
from runner.errors import ProjError
from runner.model import Manifest, ParameterSpec
from runner.settings import open_home

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from runner.manifest import files as manifest_files
    from runner.manifest import parser as manifest_reading
    from runner.store import completion_queries
else:
    completion_queries = LazyModule("runner.store.completion_queries")
    manifest_files = LazyModule("runner.manifest.files")
    manifest_reading = LazyModule("runner.manifest.parser")

ENVIRONMENT_MAKERS = ("uv", "virtualenv", "conda", "container", "local")
"""The values of ``--env-manager``."""
_PATHS = ("path", "uri")
_DEFAULT_ENTRY = "main"
_LATEST = "latest"
_MAX_HELP = 60

Complete = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


def runs(_context: click.Context, _parameter: click.Parameter, start: str) -> "list[CompletionItem]":
    """Complete a run of the local store."""
    latest = [(_LATEST, "the run started last")] if start and _LATEST.startswith(start) else []
    return _items([*latest, *completion_queries.run_names(open_home().database, start)])


def deleted_runs(_context: click.Context, _parameter: click.Parameter, start: str) -> "list[CompletionItem]":
    """Complete a run in the trash of the local store."""
    return _items(completion_queries.run_names(open_home().database, start, stage="deleted"))


def experiments(_context: click.Context, _parameter: click.Parameter, start: str) -> "list[CompletionItem]":
    """Complete an experiment of the local store."""
    return _items(completion_queries.experiment_names(open_home().database, start))


def models(_context: click.Context, _parameter: click.Parameter, start: str) -> "list[CompletionItem]":
    """Complete a registered model of the local store."""
    return _items(completion_queries.model_names(open_home().database, start))


def metrics(context: click.Context, _parameter: click.Parameter, start: str) -> "list[CompletionItem]":
    """Complete a metric of the run that precedes it on the command line, or of any run."""
    run = context.params.get("run") or ""
    return _items(completion_queries.metric_names(open_home().database, run if isinstance(run, str) else "", start))


def entry_points(context: click.Context, _parameter: click.Parameter, start: str) -> "list[CompletionItem]":
    """Complete an entry point of the project in a folder."""
    found = _manifest(context)
    known = [] if found is None else [(name, entry.description or "") for name, entry in found.entry_points.items()]
    return _items((name, about) for name, about in known if name.startswith(start))


def environment_makers(_context: click.Context, _parameter: click.Parameter, start: str) -> "list[CompletionItem]":
    """Complete an environment manager."""
    return _items((name, "") for name in ENVIRONMENT_MAKERS if name.startswith(start))


def files(_context: click.Context, _parameter: click.Parameter, start: str) -> "list[CompletionItem]":
    """Let the shell complete a file or folder."""
    return [_of_the_shell(start, "file")]


def folders(_context: click.Context, _parameter: click.Parameter, start: str) -> "list[CompletionItem]":
    """Let the shell complete a folder."""
    return [_of_the_shell(start, "dir")]


def parameters(context: click.Context, _parameter: click.Parameter, start: str) -> "list[CompletionItem]":
    """Complete the name of a parameter of the entry point with its equals sign, or the value after the sign."""
    found = _manifest(context)
    entry = None if found is None else found.entry_points.get(context.params.get("entry_point") or _DEFAULT_ENTRY)
    if entry is None:
        return []
    taken = {str(assignment).partition("=")[0] for assignment in context.params.get("assignments") or ()}
    specs = [spec for spec in entry.parameters if spec.name not in taken]
    name, equals, value = start.partition("=")
    if equals:
        return _values(next((spec for spec in specs if spec.name == name), None), value)
    return _items((f"{spec.name}=", spec.description or spec.type) for spec in specs if spec.name.startswith(start))


def _values(spec: ParameterSpec | None, start: str) -> "list[CompletionItem]":
    if spec is None:
        return []
    if spec.type in _PATHS:
        return [_of_the_shell(f"{spec.name}={start}", "file")]
    return _items((f"{spec.name}={choice}", "") for choice in spec.choices if choice.startswith(start))


def _manifest(context: click.Context) -> Manifest | None:
    # While the value of an option is being typed, click leaves the positional arguments in `context.args`.
    folder = Path(context.args[0] if context.args else str(context.params.get("uri") or "."))
    try:
        return manifest_reading.read_manifest(manifest_files.FolderFiles(folder), needs_environment=False)
    except (ProjError, OSError, ValueError):
        # The command itself reports such errors; completion just has no suggestion.
        return None


def _of_the_shell(start: str, kind: str) -> "CompletionItem":
    from click.shell_completion import CompletionItem

    return CompletionItem(start, type=kind)


def _items(found: Iterable[tuple[str, str]]) -> "list[CompletionItem]":
    """Return the values that need no quotes; shells would split the others."""
    from click.shell_completion import CompletionItem

    return [
        CompletionItem(value, help=" ".join(about.split())[:_MAX_HELP])
        for value, about in found
        if value.isprintable() and not set(value) & set(" \t'\"\\$`&|;<>()*?[]#~!{},")
    ]
