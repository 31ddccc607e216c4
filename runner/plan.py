"""Makes the plan of a run: everything that is decided before anything is recorded, built or executed."""

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from runner.analysis.scripts import Scripts, named_experiment, read_scripts
from runner.base.lazy import LazyModule
from runner.base.masking import Masker, secret_values, short_secret_notices
from runner.base.parse_cache import ParseCache
from runner.environments.backends.contract import EnvironmentBackend
from runner.environments.backends.registry import choose_backend, notices_for
from runner.environments.deciding import decide_spec
from runner.environments.model import AnyRequest, EnvironmentRequest, Interpreter, ProjectTree
from runner.environments.repair.additions import Addition, additions_path, read_additions, with_additions
from runner.environments.specs import AnySpec, EnvironmentSpec, StoredSpec
from runner.errors import ManifestError, UsageError
from runner.executors import EXECUTORS, Executor, check_options, check_trace
from runner.manifest import (
    FolderFiles,
    PassedVariables,
    PathReplacement,
    PlannedCommand,
    bind_for_run,
    entry_point_of,
    find_entry_point,
    find_inputs,
    find_replacements,
    preflight,
    read_parameters_file,
    read_variables,
    render_command,
    require_own_files,
    secret_texts,
    shell_operator,
    spell_numbers,
)
from runner.model import (
    DEFAULT_EXPERIMENT,
    Code,
    EntryPoint,
    EnvironmentDeclaration,
    EnvironmentKind,
    Event,
    EventKind,
    Fault,
    FileRecord,
    Manifest,
    Parameter,
    ProjectFiles,
    Report,
    RunRequest,
    Severity,
)
from runner.package_cutoff import cutoff_date
from runner.path_rules import path_rules, with_recorded_names
from runner.project_repairs import expected_replacements, may_replace_declared, needs_environment
from runner.settings import Home, offline_environment, requested_experiment
from runner.source.opening import Source, open_source
from runner.source.project_above import with_project_above
from runner.source.snapshot import Snapshot, retake_snapshot, take_snapshot
from runner.source.tree import TreeFiles
from runner.store.rules import MAX_EXPERIMENT_NAME

if TYPE_CHECKING:
    from runner.environments.declare import spec as specs
    from runner.manifest import parser
    from runner.source import run_code
else:
    run_code = LazyModule("runner.source.run_code")
    parser = LazyModule("runner.manifest.parser")
    specs = LazyModule("runner.environments.declare.spec")


class Plan(Struct, frozen=True, kw_only=True):
    """Everything that a run will use. ``command`` has the paths of the project; a run has those of its run folder."""

    request: RunRequest
    home: Home
    source: Source
    snapshot: Snapshot
    files: TreeFiles
    manifest: Manifest
    entry_point: EntryPoint
    parameters: tuple[Parameter, ...]
    variables: PassedVariables
    """Variables that the command gets from the caller and from files."""
    masker: Masker
    spec: EnvironmentSpec
    backend: EnvironmentBackend
    executor: Executor
    as_of: datetime | None
    command: str
    recorded_command: str
    """The command as it is recorded: secrets are masked."""
    scripts: Scripts
    notices: tuple[str, ...]
    repairs: tuple[str, ...] = ()
    """Changes to the command, its parameters and its paths that let it run."""
    replacements: tuple[PathReplacement, ...] = ()
    """Paths of another machine that the code names, each mapped to a file of the project."""
    additions: tuple[Addition, ...] = ()
    """Packages that were added because a run failed without them."""
    interpreter: Interpreter | None = None
    """The interpreter that was chosen because the environment could not be built with the first choice."""
    additions_note: Path
    """The file that keeps the additions for the next run of the project."""
    recorded_variables: Mapping[str, str] | None = None
    """The variables of a recorded run that affect results; they replace those of the caller."""
    tags: Mapping[str, str] = {}
    """Further tags of the run."""

    @property
    def recorded_parameters(self) -> tuple[Parameter, ...]:
        """The parameters for the record, with one spelling of equal numbers; secrets are not masked."""
        return spell_numbers(self.parameters)

    @property
    def code(self) -> Code:
        """The identity of the code, including the large files that are recorded by digest only."""
        large = (FileRecord(path=one.path, size=one.size, sha256=one.sha256) for one in self.snapshot.large)
        return structs.replace(self.snapshot.code, large_files=tuple(large))

    @property
    def experiment(self) -> str | None:
        """The name of the experiment to record in, with secrets masked as far as the user typed it.

        None if the request has an id or no experiment is named.
        """
        if self.request.experiment_id:
            return None
        named = self.request.experiment_name
        return self.masker.text(named) if named else self.manifest.experiment

    @property
    def default_experiment(self) -> str:
        """The name of the experiment for a run for which no experiment is named: the script's, else the project's."""
        name = named_experiment(self.scripts) or self.manifest.name or self.source.label
        is_possible = bool(name.strip()) and name.isprintable() and len(name) <= MAX_EXPERIMENT_NAME
        return self.masker.text(name) if is_possible else DEFAULT_EXPERIMENT

    @property
    def recorded_name(self) -> str | None:
        """The name that the user gave to the run, with secrets masked."""
        return None if self.request.run_name is None else self.masker.text(self.request.run_name)

    def environment_request(self, tree: ProjectTree | None = None) -> AnyRequest:
        """Return the request that the environment's backend gets."""
        return EnvironmentRequest(
            spec=self.spec,
            home=self.home,
            files=self.files,
            tree=tree,
            as_of=self.as_of,
            refresh=self.request.as_of == "now",
            environ=offline_environment(),
            code=f"{self.code.tree}:{self.code.subdirectory}",
            repair=self.request.repair,
            may_replace=may_replace_declared(self.request, self.source, self.snapshot.code),
            interpreter=self.interpreter,
            wanted=tuple(self.scripts.outside()),
        )


def make_plan(request: RunRequest, home: Home, report: Report) -> Plan:
    """Decide everything that a run needs, from the user's request and the frozen tree.

    Raises:
        ProjError: the request can't be fulfilled; nothing was recorded.
    """
    request = with_project_above(with_experiment(request), report)
    source, snapshot = open_code(request, home, report)
    return plan_snapshot(request, source, snapshot, home, report)


def plan_snapshot(request: RunRequest, source: Source, snapshot: Snapshot, home: Home, report: Report) -> Plan:
    """Make the plan of a request for a snapshot that was taken.

    Raises:
        ProjError: the request can't be fulfilled; nothing was recorded.
    """
    files = TreeFiles(home, snapshot, lambda: retake_snapshot(snapshot, source, home, report))
    cache = ParseCache(home.root / "cache" / "code", f"{snapshot.code.tree}:{snapshot.code.subdirectory}")
    manifest = parse_manifest(cache, files, needs_environment=needs_environment(request, source, snapshot.code))
    entry_point = select_entry_point(manifest, request, files)
    variables = read_variables(entry_point, os.environ, files, source.project, report)
    from_file = read_parameters_file(Path(request.parameters_file)) if request.parameters_file else {}
    binding = bind_for_run(entry_point, request.parameters, from_file, files, repair=request.repair)
    entry_point, parameters = binding.entry_point, binding.parameters
    rules = path_rules(source, files, home.run("RUN"))
    command = render_command(entry_point, parameters, rules)
    masker = Masker((*secret_values(parameters), *secret_texts(parameters, rules), *variables.secrets))
    scripts = cache.get_or_compute(Scripts, entry_point.command, lambda: read_scripts(entry_point.command, files))
    declaration = entry_point.environment or manifest.environment
    planned = PlannedCommand(
        entry_point=entry_point,
        manifest=manifest.path or "the project",
        files=files,
        scripts=scripts,
        parameters=parameters,
        project=None if source.frozen else source.project,
        served=request.serve_as,
        replacements=expected_replacements(request, declaration, files, scripts),
        repository=None if request.in_place else source.root,
        redirects_local_tracking=request.repair,
    )
    report_problems(preflight(planned), report, repair=request.repair)
    spec_key = f"{declaration} {request.environment_manager} {request.repair} {entry_point.command}"
    spec = choose_spec(request, declaration, files, scripts, partial(cache.get_or_compute, StoredSpec, spec_key))
    backend = choose_backend(request.environment_manager, spec)
    executor = choose_executor(entry_point, backend, request)
    replacements = find_replacements(scripts, files) if request.repair and backend.capabilities.builds_prefixes else ()
    note = additions_path(home, (source.name, snapshot.code.subdirectory, entry_point.name), spec)
    additions = read_additions(note, repair=request.repair, add_missing=request.add_missing)
    return Plan(
        request=request,
        home=home,
        source=source,
        snapshot=snapshot,
        files=files,
        manifest=manifest,
        entry_point=find_inputs(entry_point, source.project, with_recorded_names(source, files)),
        parameters=parameters,
        variables=variables,
        masker=masker,
        spec=with_additions(spec, additions),
        backend=backend,
        executor=executor,
        as_of=cutoff_date(request.as_of, snapshot),
        command=command,
        recorded_command=render_command(entry_point, parameters, rules, masker),
        scripts=scripts,
        notices=(*short_secret_notices(parameters), *variables.notices, *snapshot.notices, *notices_for(backend, spec)),
        repairs=(*binding.repairs, *(replacement.text for replacement in replacements)),
        replacements=replacements,
        additions=additions,
        additions_note=note,
    )


def open_code(request: RunRequest, home: Home, report: Report) -> tuple[Source, Snapshot]:
    """Return the source of a request and its snapshot: those of a recorded run, or new ones.

    Raises:
        ProjError: the code can't be read, is not a project, or can't be stored.
    """
    recorded = request.resumes or request.reruns
    if recorded is not None:
        return run_code.open_run_code(recorded, home)
    source = open_source(request.uri, request.version, home, report)
    require_project(source, request)
    return source, take_snapshot(source, home, report)


def with_experiment(request: RunRequest) -> RunRequest:
    """Return the request with the experiment that the command line, or else the environment, names."""
    name, number = requested_experiment(request.experiment_name, request.experiment_id)
    return structs.replace(request, experiment_name=name, experiment_id=number)


def parse_manifest(cache: ParseCache, files: ProjectFiles, *, needs_environment: bool) -> Manifest:
    """Return the manifest of a frozen tree; it is parsed once per tree."""
    return cache.get_or_compute(
        Manifest, f"{needs_environment}", lambda: parser.read_manifest(files, needs_environment=needs_environment)
    )


def require_project(source: Source, request: RunRequest) -> None:
    """Refuse a folder that is not a project.

    This is checked before the snapshot is taken: the folder may be the user's whole home directory.

    Raises:
        ManifestError: there is no manifest, and the entry point is not a script either, or the command names no file.
    """
    if source.frozen or source.project is None:
        return
    files = FolderFiles(source.project)
    if "mlproject" in (name.lower() for name in files.names()):
        return
    if request.command:
        require_own_files(request.command, source.project)
    else:
        find_entry_point(Manifest(), request.entry_point, files)


def choose_spec(
    request: RunRequest,
    declaration: EnvironmentDeclaration,
    files: ProjectFiles,
    scripts: Scripts,
    cached: Callable[[Callable[[], StoredSpec]], StoredSpec],
) -> AnySpec:
    """Return the specification of the environment: as declared, or with the repairs that old projects need.

    ``cached`` returns the specification from the cache, or computes and caches it; it depends on the code alone.

    Raises:
        EnvironmentSetupError: the declaration is not valid.
    """

    def read() -> AnySpec:
        if request.repair:
            return decide_spec(declaration, files, scripts, request.environment_manager)
        return specs.read_spec(declaration, files)

    # For containers the specification also depends on the engine of this machine, so it is not cached.
    return read() if declaration.kind is EnvironmentKind.DOCKER_ENV else cached(lambda: StoredSpec(read())).spec


def without_container(plan: Plan, why: str) -> Plan:
    """Return the plan without its container: the environment follows from the project's other files.

    Raises:
        ProjError: no other file of the project describes an environment.
    """
    declaration = plan.entry_point.environment or plan.manifest.environment
    spec = with_additions(decide_spec(declaration, plan.files, plan.scripts, None, refused=why), plan.additions)
    backend = choose_backend(None, spec)
    executor = choose_executor(plan.entry_point, backend, plan.request)
    notices = (
        *short_secret_notices(plan.parameters),
        *plan.variables.notices,
        *plan.snapshot.notices,
        *notices_for(backend, spec),
    )
    return structs.replace(plan, spec=spec, backend=backend, executor=executor, notices=notices)


def report_problems(problems: tuple[Fault, ...], report: Report, *, repair: bool) -> None:
    """Report the problems that the preflight check found; errors are only warnings when repairs are off.

    Raises:
        ManifestError: a problem is an error, and repairs are on.
    """
    errors = [one for one in problems if one.severity is Severity.ERROR]
    for one in problems:
        if one not in errors or not repair:
            message = f"{one.location}: {one.message}"
            report(Event(kind=EventKind.WARNING, message=Masker().text(message), hint=one.hint))
    if errors and repair:
        first = errors[0]
        raise ManifestError(first.message, context=first.location, hint=first.hint)


def select_entry_point(manifest: Manifest, request: RunRequest, files: ProjectFiles) -> EntryPoint:
    """Return the entry point, script or command that the user names; refuse keys that are not implemented yet.

    Raises:
        ManifestError: there is no such entry point, or it is not valid, or uses such a key.
    """
    if request.command and request.entry_point is not None:
        raise UsageError("a run has an entry point (-e) or a command (after --), not both")
    if operator := shell_operator(request.command):
        raise UsageError(
            f"'{operator}' after -- is no word for a program", hint="start a shell: -- bash -c 'first && second'"
        )
    if request.command:
        return entry_point_of(request.command, files)
    entry_point = find_entry_point(manifest, request.entry_point, files)
    used = [key for key, value in (("needs", entry_point.needs), ("promote", entry_point.promote)) if value]
    if used:
        raise ManifestError(
            f"entry point '{entry_point.name}' uses {' and '.join(used)}, which is not implemented yet",
            hint="remove the key, and run the needed entry points one by one",
        )
    return entry_point


def choose_executor(entry_point: EntryPoint, backend: EnvironmentBackend, request: RunRequest) -> Executor:
    """Return the executor for the kind of environment that the backend provides.

    Raises:
        UsageError: no executor is available, or the request has container options and no container.
    """
    kind = EnvironmentKind.DOCKER_ENV if backend.capabilities.provides_images else EnvironmentKind.NONE
    reasons = {one: one.why_not(EnvironmentDeclaration(kind=kind)) for one in EXECUTORS.values()}
    executor = next((one for one, reason in reasons.items() if reason is None), None)
    if executor is None:
        listed = "; ".join(f"{one.name}: {reason}" for one, reason in reasons.items())
        raise UsageError(f"entry point '{entry_point.name}' can't run on this machine: {listed}")
    if request.container_options and not executor.capabilities.runs_images:
        raise UsageError(
            "-A sets options of a container, and this run uses no container",
            hint="declare `docker_env` in the manifest",
        )
    check_options(request.container_options)
    check_trace(request.trace, traces=executor.capabilities.traces)
    return executor
