"""Provides the environment of a project outside runs, for a shell, an editor or one command."""

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from runner.analysis.scripts import read_all, read_scripts
from runner.base.parse_cache import ParseCache
from runner.environments.backends.registry import choose_backend
from runner.environments.deciding import lock_for_code, with_own_packages
from runner.environments.declare.source_trees import FolderTree
from runner.environments.model import EnvironmentRequest, Prepared
from runner.environments.repair.additions import additions_path, read_additions, with_additions
from runner.errors import ManifestError, UsageError
from runner.executors import child_environment
from runner.manifest import FolderFiles, find_entry_point
from runner.manifest.parser import read_manifest
from runner.model import (
    EntryPoint,
    EnvironmentDeclaration,
    Event,
    EventKind,
    Manifest,
    ProjectFiles,
    Report,
    RunRequest,
)
from runner.package_cutoff import cutoff_date
from runner.plan import choose_spec, parse_manifest
from runner.project_repairs import may_replace_declared, needs_environment
from runner.settings import Home, offline_environment
from runner.source.opening import Source, open_source
from runner.source.snapshot import retake_snapshot, take_snapshot
from runner.source.tree import TreeFiles

TRACKING = "MLFLOW_TRACKING_URI"


class ProjectEnvironment(Struct, frozen=True, kw_only=True):
    """The environment that runs of a project folder use now."""

    project: Path
    prepared: Prepared
    own: Mapping[str, str] = {}
    """``env`` of the entry point."""

    @property
    def python(self) -> Path | None:
        """The interpreter, None if the environment has none."""
        prefix = self.prepared.prefix or Path(self.prepared.record.prefix or "/nonexistent")
        found = prefix / "bin" / "python"
        return found if found.exists() else None

    def variables(self, base: Mapping[str, str], cwd: Path) -> dict[str, str]:
        """Return the variables of a command; it logs to the tracking server of the caller, not to a run."""
        tracking = {TRACKING: base[TRACKING]} if TRACKING in base else {}
        return child_environment(
            base,
            cwd=cwd,
            path_entries=self.prepared.path_entries,
            variables={**self.prepared.variables_in(self.project), **tracking},
            own=self.own,
        )


def provide_environment(request: RunRequest, home: Home, report: Report) -> ProjectEnvironment:
    """Return the environment of a project folder: the one that a run of it as it is now has; it is built if needed.

    Raises:
        ProjError: the folder is no project, or its environment can't be built.
    """
    source = open_source(request.uri, None, home, report)
    project = _folder_of(source, request.entry_point)
    snapshot = take_snapshot(source, home, report)
    files = TreeFiles(home, snapshot, lambda: retake_snapshot(snapshot, source, home, report))
    cache = ParseCache(home.root / "cache" / "code", f"{snapshot.code.tree}:{snapshot.code.subdirectory}")
    manifest = parse_manifest(cache, files, needs_environment=needs_environment(request, source, snapshot.code))
    entry_point = _entry_point(manifest, request.entry_point, files)
    declaration = (entry_point.environment if entry_point else None) or manifest.environment
    scripts = read_scripts(entry_point.command, files) if entry_point else read_all(files)
    spec = choose_spec(request, declaration, files, scripts, lambda compute: compute())
    backend = choose_backend(request.environment_manager, spec)
    if backend.capabilities.provides_images:
        raise UsageError(
            "The environment is a container, which this command does not start",
            hint="'proj run' runs an entry point in it; '--env-manager uv' uses Python packages instead.",
        )
    name = entry_point.name if entry_point else "main"
    note = additions_path(home, (source.name, snapshot.code.subdirectory, name), spec)
    additions = read_additions(note, repair=request.repair, add_missing=False)
    wanted = EnvironmentRequest(
        spec=with_additions(spec, additions),
        home=home,
        files=files,
        tree=FolderTree(project),
        as_of=cutoff_date(request.as_of, snapshot),
        environ=offline_environment(),
        code=f"{snapshot.code.tree}:{snapshot.code.subdirectory}",
        repair=request.repair,
        may_replace=may_replace_declared(request, source, snapshot.code),
        wanted=tuple(scripts.outside()),
    )
    for repair in wanted.spec.repairs:
        report(Event(kind=EventKind.NOTICE, message=f"Repaired: {repair}"))
    wanted, lock = lock_for_code(backend, wanted, scripts, report, add_missing=False)
    prepared = backend.prepare(wanted, lock, report)
    if request.repair:
        prepared = with_own_packages(prepared, wanted, scripts, backend)
    return ProjectEnvironment(project=project, prepared=prepared, own=entry_point.env if entry_point else {})


def _folder_of(source: Source, entry_point: str | None) -> Path:
    """Return the project folder.

    Raises:
        UsageError: the source is no folder, or the folder declares nothing and no script of it is named. It may be the
            user's home directory, so this is checked before the snapshot is taken.
        ManifestError: there is no such script.
    """
    if source.frozen or source.project is None:
        raise UsageError("This command needs a folder of a project", context=source.name)
    files = FolderFiles(source.project)
    is_project = "mlproject" in (name.lower() for name in files.names())
    if is_project:
        return source.project
    if entry_point is not None:
        find_entry_point(Manifest(), entry_point, files)
    elif read_manifest(files).environment == EnvironmentDeclaration():
        script = next((name for name in sorted(files.names()) if name.endswith(".py")), None)
        raise UsageError(
            "This folder has no MLproject and no file that declares an environment",
            context=str(source.project),
            hint="Give the folder of a project with --project."
            if script is None
            else f"Name a script for the packages that it imports: -e {script}",
        )
    return source.project


def _entry_point(manifest: Manifest, name: str | None, files: ProjectFiles) -> EntryPoint | None:
    """Return the entry point of a name, the default one, or None if there is no default one."""
    try:
        return find_entry_point(manifest, name, files)
    except ManifestError:
        if name is not None:
            raise
        return None
