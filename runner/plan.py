"""The plan of a run: everything that is decided before anything is recorded, built or executed."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from runner.analysis.scripts import Scripts, read_scripts
from runner.base.lazy import LazyModule
from runner.base.masking import Masker, secret_values, short_secret_notices
from runner.base.parse_cache import ParseCache
from runner.environments.backends.registry import EnvironmentBackend, choose_backend, notices_for, provides_images
from runner.environments.model import EnvironmentRequest, EnvironmentSpec, ProjectTree
from runner.environments.repair.additions import Addition, additions_path, recall_additions, with_additions
from runner.environments.repair.deciding import decide_spec, makes_pythons
from runner.errors import ManifestError, UsageError
from runner.executors import EXECUTORS, Executor, check_options
from runner.manifest import (
    Flight,
    FolderFiles,
    Lead,
    PathRules,
    bind_for_run,
    find_entry_point,
    find_leads,
    preflight,
    read_parameters_file,
    render_command,
    secret_texts,
)
from runner.model import (
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
from runner.package_cutoff import as_of
from runner.project_repairs import expected_leads, needs_environment
from runner.settings import Home, experiment_asked, offline_environment
from runner.source.opening import Source, open_source
from runner.source.snapshot import Snapshot, retake_snapshot, take_snapshot
from runner.source.tree import TreeFiles

if TYPE_CHECKING:
    from runner.environments.declare import spec as specs
    from runner.manifest import parser
else:
    parser = LazyModule("runner.manifest.parser")
    specs = LazyModule("runner.environments.declare.spec")


class Plan(Struct, frozen=True, kw_only=True):
    """What a run would use. ``command`` names paths in the project; in the run they are those of the run folder."""

    request: RunRequest
    home: Home
    source: Source
    snapshot: Snapshot
    files: TreeFiles
    manifest: Manifest
    entry_point: EntryPoint
    parameters: tuple[Parameter, ...]
    masker: Masker
    spec: EnvironmentSpec
    backend: EnvironmentBackend
    executor: Executor
    as_of: datetime | None
    command: str
    recorded_command: str
    """The command as it is written down: without the values of secrets."""
    scripts: Scripts
    notices: tuple[str, ...]
    repairs: tuple[str, ...] = ()
    """What of the command, its parameters and its paths was changed so that it runs."""
    leads: tuple[Lead, ...] = ()
    """Paths of another machine that are led to the project's own files."""
    additions: tuple[Addition, ...] = ()
    """Packages that were added because a run failed for want of them."""
    additions_note: Path
    """Where these are kept for the next run of the project."""

    @property
    def code(self) -> Code:
        """The identity of the code, with the files of it that are known by digest only."""
        large = (FileRecord(path=one.path, size=one.size, sha256=one.sha256) for one in self.snapshot.large)
        return structs.replace(self.snapshot.code, large_files=tuple(large))

    @property
    def experiment(self) -> str | None:
        """The name of the experiment to record in; None when the request has an id or nobody names one."""
        if self.request.experiment_id:
            return None
        return self.request.experiment_name or self.manifest.experiment

    @property
    def recorded_name(self) -> str | None:
        """The name that the user gave to the run, without secrets."""
        return None if self.request.run_name is None else self.masker.text(self.request.run_name)

    def environment_request(self, tree: ProjectTree | None = None) -> EnvironmentRequest:
        """Return what the environment is wanted for."""
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
            wanted=tuple(self.scripts.outside()),
        )


def make_plan(request: RunRequest, home: Home, report: Report) -> Plan:
    """Decide everything that a run needs, from the user's words and the frozen tree.

    Raises:
        ProjError: something asked for can't be had; nothing has been recorded.
    """
    request = with_experiment(request)
    source = open_source(request.uri, request.version, home, report)
    refuse_what_is_no_project(source, request.entry_point)
    snapshot = take_snapshot(source, home, report)
    files = TreeFiles(home, snapshot, lambda: retake_snapshot(snapshot, source, home, report))
    memory = ParseCache(home.root / "cache" / "code", f"{snapshot.code.tree}:{snapshot.code.subdirectory}")
    manifest = parse_manifest(memory, files, needs_environment=needs_environment(request, source, snapshot.code))
    entry_point = find_entry_point(manifest, request.entry_point, files)
    refuse_what_is_not_there_yet(entry_point)
    from_file = read_parameters_file(Path(request.parameters_file)) if request.parameters_file else {}
    binding = bind_for_run(entry_point, request.parameters, from_file, files, repair=request.repair)
    entry_point, parameters = binding.entry_point, binding.parameters
    rules = path_rules(source, files, home.run("RUN"))
    command = render_command(entry_point, parameters, rules)
    masker = Masker((*secret_values(parameters), *secret_texts(parameters, rules)))
    scripts = memory.get_or_compute(Scripts, entry_point.command, lambda: read_scripts(entry_point.command, files))
    declaration = entry_point.environment or manifest.environment
    flight = Flight(
        entry_point=entry_point,
        manifest=manifest.path or "the project",
        files=files,
        scripts=scripts,
        parameters=parameters,
        project=None if source.frozen else source.project,
        served=request.serve_as,
        leads=expected_leads(request, declaration, files, scripts),
        keeps_places=request.repair,
    )
    tell_problems(preflight(flight), report, repair=request.repair)
    words = f"{declaration} {request.environment_manager} {request.repair} {entry_point.command}"
    keep = partial(memory.get_or_compute, EnvironmentSpec, words)
    spec = choose_spec(request, declaration, files, scripts, keep)
    backend = choose_backend(request.environment_manager, spec)
    executor = choose_executor(entry_point, backend, request)
    leads = find_leads(scripts, files) if request.repair and makes_pythons(backend) else ()
    note = additions_path(home, (source.name, snapshot.code.subdirectory, entry_point.name), spec)
    additions = recall_additions(note, repair=request.repair, add_missing=request.add_missing)
    return Plan(
        request=request,
        home=home,
        source=source,
        snapshot=snapshot,
        files=files,
        manifest=manifest,
        entry_point=entry_point,
        parameters=parameters,
        masker=masker,
        spec=with_additions(spec, additions),
        backend=backend,
        executor=executor,
        as_of=as_of(request.as_of, snapshot),
        command=command,
        recorded_command=render_command(entry_point, parameters, rules, masker),
        scripts=scripts,
        notices=(*short_secret_notices(parameters), *snapshot.notices, *notices_for(backend, spec)),
        repairs=(*binding.repairs, *(lead.text for lead in leads)),
        leads=leads,
        additions=additions,
        additions_note=note,
    )


def with_experiment(request: RunRequest) -> RunRequest:
    """Return the request with the experiment that the user names: on the command line, else in the environment."""
    name, number = experiment_asked(request.experiment_name, request.experiment_id)
    return structs.replace(request, experiment_name=name, experiment_id=number)


def parse_manifest(cache: ParseCache, files: ProjectFiles, *, needs_environment: bool) -> Manifest:
    """Return the manifest of a frozen tree; parsed once per tree."""
    return cache.get_or_compute(
        Manifest, f"{needs_environment}", lambda: parser.read_manifest(files, needs_environment=needs_environment)
    )


def refuse_what_is_no_project(source: Source, entry_point: str | None) -> None:
    """Refuse a folder without a manifest before it is frozen: it may be the user's whole home.

    Raises:
        ManifestError: there is no manifest, and the entry point is not a script either.
    """
    if source.frozen or source.project is None:
        return
    files = FolderFiles(source.project)
    if "mlproject" not in (name.lower() for name in files.names()):
        find_entry_point(Manifest(), entry_point, files)


def choose_spec(
    request: RunRequest,
    declaration: EnvironmentDeclaration,
    files: ProjectFiles,
    scripts: Scripts,
    keep: Callable[[Callable[[], EnvironmentSpec]], EnvironmentSpec],
) -> EnvironmentSpec:
    """Return what the run asks of its environment: as declared, or with the repairs that old projects need.

    ``keep`` remembers what was read, as that is the same for the same code.

    Raises:
        EnvironmentSetupError: what is declared makes no sense.
    """

    def read() -> EnvironmentSpec:
        if request.repair:
            return decide_spec(declaration, files, scripts, request.environment_manager)
        return specs.read_spec(declaration, files)

    # What there is for containers is the machine's.
    return read() if declaration.kind is EnvironmentKind.DOCKER_ENV else keep(read)


def without_container(plan: Plan, why: str) -> Plan:
    """Return a plan that does without the container that can't be had: with what the project else says of itself.

    Raises:
        ProjError: there is nothing to go by.
    """
    declaration = plan.entry_point.environment or plan.manifest.environment
    spec = with_additions(decide_spec(declaration, plan.files, plan.scripts, None, refused=why), plan.additions)
    backend = choose_backend(None, spec)
    executor = choose_executor(plan.entry_point, backend, plan.request)
    notices = (*short_secret_notices(plan.parameters), *plan.snapshot.notices, *notices_for(backend, spec))
    return structs.replace(plan, spec=spec, backend=backend, executor=executor, notices=notices)


def tell_problems(problems: tuple[Fault, ...], report: Report, *, repair: bool) -> None:
    """Say what a look at the project has found.

    Raises:
        ManifestError: the command can't even begin.
    """
    hopeless = [one for one in problems if one.severity is Severity.ERROR]
    for one in problems:
        if one not in hopeless or not repair:
            message = f"{one.place}: {one.message}"
            report(Event(kind=EventKind.WARNING, message=Masker().text(message), hint=one.hint))
    if hopeless and repair:
        first = hopeless[0]
        raise ManifestError(first.message, context=first.place, hint=first.hint)


def refuse_what_is_not_there_yet(entry_point: EntryPoint) -> None:
    """Refuse keys of the manifest that are understood and can't be followed yet.

    Raises:
        ManifestError: the entry point uses one.
    """
    used = [key for key, value in (("needs", entry_point.needs), ("promote", entry_point.promote)) if value]
    if used:
        raise ManifestError(
            f"entry point '{entry_point.name}' uses {' and '.join(used)}, which is not available yet",
            hint="run the entry points that it needs one by one, and take the key out",
        )


def choose_executor(entry_point: EntryPoint, backend: EnvironmentBackend, request: RunRequest) -> Executor:
    """Return the place where the command runs in what the backend provides.

    Raises:
        UsageError: it can't run anywhere, or options are given that nobody takes.
    """
    kind = EnvironmentKind.DOCKER_ENV if provides_images(backend) else EnvironmentKind.NONE
    reasons = {one: one.why_not(EnvironmentDeclaration(kind=kind)) for one in EXECUTORS.values()}
    executor = next((one for one, reason in reasons.items() if reason is None), None)
    if executor is None:
        told = "; ".join(f"{one.name}: {reason}" for one, reason in reasons.items())
        raise UsageError(f"'{entry_point.name}' can't run here: {told}")
    if request.container_options and not executor.capabilities.runs_images:
        raise UsageError("-A is for containers, and this run has none", hint="declare a `docker_env` in the manifest")
    check_options(request.container_options)
    return executor


def path_rules(source: Source, files: ProjectFiles, storage: Path, mapped: Path | None = None) -> PathRules:
    """Return where the paths among the parameters are: in the plan in the project, in the run below ``mapped``."""
    project = None if source.frozen else source.project
    return PathRules(
        caller=Path.cwd(),
        mapped=mapped or project or storage / source.subdirectory,
        storage=storage,
        project=project,
        repository=source.root if project else None,
        files=files,
    )
