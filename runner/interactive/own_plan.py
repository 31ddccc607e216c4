"""Makes the plan of a run that this process itself is: its project, its code and its Python."""

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from runner.analysis.scripts import Scripts
from runner.base.masking import Masker
from runner.base.parse_cache import ParseCache
from runner.base.tags import SOURCE_TYPE_TAG
from runner.environments.backends.registry import BACKENDS
from runner.environments.specs import NoSpec
from runner.errors import ManifestError, UsageError
from runner.executors import EXECUTORS
from runner.interactive.notebook_code import notebook_file, shell
from runner.manifest import PassedVariables
from runner.model import EntryPoint, Event, EventKind, Manifest, Report, RunRequest
from runner.plan import Plan, parse_manifest, with_experiment
from runner.runs.projects import find_project
from runner.settings import Home
from runner.source.opening import Source, open_source
from runner.source.snapshot import retake_snapshot, take_snapshot
from runner.source.tree import TreeFiles


class ProcessRequest(Struct, frozen=True, kw_only=True):
    """What a program says about the run that it opens."""

    name: str | None = None
    experiment: str | None = None
    folder: str | None = None
    tags: Mapping[str, str] = {}
    tracking_uri: str | None = None


def plan_process(asked: ProcessRequest, home: Home, report: Report) -> Plan:
    """Return the plan of a run that this process is; nothing is recorded yet.

    Raises:
        UsageError: the folder is no place of a project.
        ProjError: the code can't be stored.
    """
    folder = project_folder(Path(asked.folder or os.curdir))
    request = with_experiment(
        RunRequest(
            uri=str(folder),
            experiment_name=asked.experiment,
            run_name=asked.name,
            tags=asked.tags,
            tracking_uri=asked.tracking_uri,
            in_place=True,
            environment_manager="local",
        )
    )
    source = open_source(str(folder), None, home, report)
    snapshot = take_snapshot(source, home, report)
    files = TreeFiles(home, snapshot, lambda: retake_snapshot(snapshot, source, home, report))
    cache = ParseCache(home.root / "cache" / "code", f"{snapshot.code.tree}:{snapshot.code.subdirectory}")
    command = shlex.join(sys.orig_argv)
    masker = Masker()
    is_notebook = shell() is not None
    return Plan(
        request=request,
        home=home,
        source=source,
        snapshot=snapshot,
        files=files,
        manifest=_manifest(cache, files, report),
        entry_point=EntryPoint(name=masker.text(_program(source)), command=command),
        parameters=(),
        variables=PassedVariables({}),
        masker=masker,
        spec=NoSpec(),
        backend=BACKENDS["local"],
        executor=EXECUTORS["local"],
        as_of=None,
        command=command,
        recorded_command=shlex.join(masker.arguments(sys.orig_argv)),
        scripts=Scripts(),
        notices=snapshot.notices,
        additions_note=home.root / "cache" / "added" / "none.json",
        tags={SOURCE_TYPE_TAG: "NOTEBOOK" if is_notebook else "LOCAL"},
    )


def project_folder(folder: Path) -> Path:
    """Return the project that a folder is in: the nearest folder with a manifest, else the git repository, else itself.

    Raises:
        UsageError: it is the home folder, or above it, and not a project: its files are not the code of a run.
    """
    here = folder.resolve()
    scope = find_project(here)
    if scope is None:
        raise UsageError(f"there is no folder {folder}")
    above = [one for one in (here, *here.parents) if _source_of(one, scope.source)]
    found = above[0] if above else here
    home = Path.home().resolve()
    if not scope.is_certain and "://" not in scope.source and (found == home or found in home.parents):
        raise UsageError(
            f"{found} is not a project, so its files are not recorded as code",
            hint="change to the folder of the project, or name it: start_run(folder=…)",
        )
    return found


def _source_of(folder: Path, source: str) -> bool:
    """Return whether a source, as records have it, is this folder."""
    root, _, subdirectory = source.removeprefix("file://").partition("#")
    return str(folder) in (source, os.path.normpath(Path(root, subdirectory)))


def _manifest(cache: ParseCache, files: TreeFiles, report: Report) -> Manifest:
    try:
        return parse_manifest(cache, files, needs_environment=False)
    except ManifestError as error:
        message = f"The manifest is not used: {error.message}"
        report(Event(kind=EventKind.WARNING, message=message, hint=error.hint))
        return Manifest()


def _program(source: Source) -> str:
    """Return the script or notebook of this process, relative to the project if it is in it.

    A script with arguments is named as a command, because no entry point has such a name: `proj rerun` would leave the
    arguments out.
    """
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    path = notebook_file() if shell() is not None else Path(main).resolve() if main else None
    project = source.project
    if path is not None and shell() is None and len(sys.argv) > 1:
        return f"python {path.name} …"
    if path is not None and project is not None and path.resolve().is_relative_to(project.resolve()):
        return path.resolve().relative_to(project.resolve()).as_posix()
    return path.name if path is not None else "notebook" if shell() is not None else "python"
