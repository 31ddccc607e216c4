"""Takes a checked bundle over into the store: files first, so that a visible run is complete."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from msgspec import Struct, structs

from runner.base.files import remove_tree
from runner.base.locks import locked
from runner.base.tags import (
    ORIGIN_TAG,
    REMOVING_TAG,
    REPRODUCTIONS_TAG,
    RUN_NAME_TAG,
    USER_TAG,
    WRITTEN_BY_TAG,
)
from runner.bundles import layout
from runner.bundles.layout import BundleFile, read_pieces
from runner.bundles.reading import CheckedBundle
from runner.bundles.records import milliseconds, read_points
from runner.errors import AlreadyExistsError, BundleError, InvalidValueError
from runner.importing.foreign import Values
from runner.model import DEFAULT_EXPERIMENT, Event, EventKind, ParameterRecord, Report, RunDetails, RunRecord, RunStatus
from runner.settings import LOCK_NAMES, Home
from runner.source.code_bundle import keep_code
from runner.source.snapshot_store import has_run_commit, release_snapshot
from runner.store import artifact_digests, experiments, import_writer, model_import_writer
from runner.store.artifact_paths import names_of
from runner.store.artifacts import write_file
from runner.store.database import Database
from runner.store.entities import Experiment, LifecycleStage, Run, RunInputs
from runner.store.import_writer import Change, ImportedRun
from runner.store.records import read_record

_ORIGIN = "bundle"
"""What the tag of the origin says of an imported run."""
_FOREIGN_TAGS = frozenset({ORIGIN_TAG, REPRODUCTIONS_TAG, REMOVING_TAG, WRITTEN_BY_TAG, RUN_NAME_TAG})
"""Tags about the store that a run comes from."""
_COMPARED = ("entry_point", "command", "status", "exit_code", "started_at", "ended_at", "outputs", "inputs")
"""Fields in which the record of a run that is here must agree with the bundle."""


class _ModelRefusedError(InvalidValueError):
    """A logged model of the bundle has no valid id, or is here already: none of its files was written."""


class Imported(Struct, frozen=True, kw_only=True):
    """The result of an import: the JSON of ``proj import FILE --json``."""

    run_id: str
    run_name: str | None
    experiment: str
    change: Change
    files: int
    points: int


class Store(Struct, frozen=True, kw_only=True):
    """The store that a bundle is taken into."""

    database: Database
    home: Home
    report: Report


def take_bundle(bundle: CheckedBundle, store: Store) -> Imported:
    """Store the run of a bundle; a run that is already here is compared and left as it is.

    Raises:
        AlreadyExistsError: another run of this id is here.
        BundleError: a value of the run is not valid; nothing of it is stored then.
    """
    run_id, home = bundle.manifest.run_id, store.home
    home.ensure()
    with locked(home.root / "runs" / f"{run_id}.lock"):
        present = import_writer.lookup(store.database, run_id)
        if present is not None:
            _require_same(bundle, store)
            return _result(bundle, Change.SAME if present[1] else Change.OWN, files=0, points=0)
        if home.run(run_id).exists():
            remove_tree(home.run(run_id))  # a killed import left it: no run of the store has this id
        had_code = has_run_commit(home, run_id)
        try:
            return _take(bundle, store)
        except BaseException as error:
            remove_tree(home.run(run_id))
            for model in bundle.logged.models if not isinstance(error, _ModelRefusedError) else ():
                remove_tree(home.model_artifacts(model.model_id).parent)
            if not had_code:
                release_snapshot(run_id, home)
            if isinstance(error, InvalidValueError):
                raise BundleError(f"{bundle.name} is refused: {error.message}", context=error.context) from error
            raise


def _require_same(bundle: CheckedBundle, store: Store) -> None:
    """Refuse a bundle that says something else of a run than the store.

    Raises:
        AlreadyExistsError: the run that is here has other code, another lock or other results.
    """
    here, there = read_record(store.database, bundle.manifest.run_id, store.home), bundle.record
    differing = [name for name in _COMPARED if getattr(here, name) != getattr(there, name)]
    pairs = (
        ("code", here.code and here.code.tree, there.code and there.code.tree),
        ("lock", _lock_digest(here), _lock_digest(there)),
    )
    differing += [name for name, ours, theirs in pairs if ours != theirs]
    if differing:
        raise AlreadyExistsError(
            f"Another run with the id of the bundle is here, {bundle.manifest.run_id[:8]}; nothing was changed",
            context=f"it differs in: {', '.join(differing)}",
            hint="Look at the bundle in a home of its own: PROJ_HOME=FOLDER proj import FILE",
        )


def _lock_digest(record: RunRecord) -> str | None:
    return record.environment.lock_digest if record.environment else None


def _take(bundle: CheckedBundle, store: Store) -> Imported:
    run_id, home = bundle.manifest.run_id, store.home
    for model in bundle.logged.models:
        _require_new_model(model.model_id, store.database)
    files = _take_files(bundle, store)
    keep_code(run_id, bundle.code, bundle.objects, home)
    with store.database.transaction():
        experiment_id = _experiment(bundle, store.database)
        for model in bundle.logged.models:
            uri = home.model_artifacts(model.model_id).absolute().as_uri()
            own = structs.replace(model, artifact_uri=uri, source_run_id=run_id, experiment_id=experiment_id)
            model_import_writer.import_model(store.database, own, _ORIGIN)
        imported = ImportedRun(
            run=_run(bundle, experiment_id, home, Values(store.report)),
            inputs=RunInputs(datasets=bundle.logged.datasets),
            outputs=bundle.logged.outputs,
            origin=_ORIGIN,
        )
        points = read_points(bundle.folder / layout.HISTORY, bundle.name)
        change, count = import_writer.import_run(store.database, imported, points)
    return _result(bundle, change, files=files, points=count)


def _result(bundle: CheckedBundle, change: Change, *, files: int, points: int) -> Imported:
    record = bundle.record
    return Imported(
        run_id=bundle.manifest.run_id,
        run_name=record.run_name,
        experiment=record.experiment or DEFAULT_EXPERIMENT,
        change=change,
        files=files,
        points=points,
    )


def _experiment(bundle: CheckedBundle, database: Database) -> str:
    name = bundle.record.experiment or DEFAULT_EXPERIMENT
    found = experiments.find(database, name)
    if found is None:
        return import_writer.add_experiment(database, Experiment(id="", name=name, artifact_location=""))
    if found.lifecycle_stage is LifecycleStage.DELETED:
        hint = f"Restore it with: proj experiments restore {found.id}"
        raise InvalidValueError(f"The experiment '{name}' of the run is deleted here", hint=hint)
    return found.id


def _take_files(bundle: CheckedBundle, store: Store) -> int:
    """Copy the files of a bundle to the places where proj keeps those of a run, and return their number."""
    home, run_id, manifest = store.home, bundle.manifest.run_id, bundle.manifest
    artifacts = home.artifacts(run_id)
    _copy(bundle, manifest.below(layout.OUTPUTS), artifacts)
    digests = {one.path.partition("/")[2]: one.sha256 for one in manifest.below(layout.OUTPUTS)}
    plain = {"/".join(names_of(path)): digest for path, digest in digests.items()}
    artifact_digests.record(store.database, run_id, artifacts, plain)
    for model in bundle.logged.models:
        _take_model_files(bundle, model.model_id, store)
    _copy(bundle, manifest.below(layout.INPUTS), home.kept_inputs(run_id))
    _copy(bundle, manifest.below(layout.PACKAGES), home.packages(run_id))
    for name in (layout.LOG, *LOCK_NAMES):
        if manifest.has(name):
            write_file(home.run(run_id), (name,), read_pieces(bundle.folder / name))
    return sum(one.path.split("/")[0] in layout.FOLDERS for one in manifest.files)


def _require_new_model(model_id: str, database: Database) -> None:
    if not model_import_writer.is_model_id(model_id):
        raise _ModelRefusedError(f"'{model_id[:80]}' is not a valid id of a logged model")
    if model_import_writer.find_model(database, model_id) is not None:
        raise _ModelRefusedError(f"The logged model {model_id} is here already, with another run")


def _take_model_files(bundle: CheckedBundle, model_id: str, store: Store) -> None:
    folder, target = f"{layout.MODELS}/{model_id}", store.home.model_artifacts(model_id)
    listed = [one for one in bundle.manifest.files if one.path.startswith(f"{folder}/")]
    _copy(bundle, listed, target, depth=2)
    digests = {"/".join(names_of(one.path)[2:]): one.sha256 for one in listed}
    artifact_digests.record(store.database, model_id, target, digests)


def _copy(bundle: CheckedBundle, files: Iterator[BundleFile] | Sequence[BundleFile], to: Path, depth: int = 1) -> None:
    for one in files:
        write_file(to, names_of(one.path)[depth:], read_pieces(bundle.folder / PurePosixPath(one.path)))


def _run(bundle: CheckedBundle, experiment_id: str, home: Home, values: Values) -> Run:
    record, name = bundle.record, bundle.name
    place = f"the bundle {name}"
    return Run(
        run_id=bundle.manifest.run_id,
        experiment_id=experiment_id,
        name=record.run_name or "",
        user=record.tags.get(USER_TAG, ""),
        status=RunStatus(record.status or ""),
        started_at=milliseconds(record.started_at, name) or 0,
        ended_at=milliseconds(record.ended_at, name),
        lifecycle_stage=LifecycleStage.ACTIVE,
        artifact_uri=home.artifacts(bundle.manifest.run_id).absolute().as_uri(),
        params=values.params(_pairs(record.parameters), place),
        tags=values.tags(_tags(record).items(), place),
        details=_details(record),
    )


def _pairs(parameters: Sequence[ParameterRecord]) -> list[tuple[str, str]]:
    return [(one.name, one.value) for one in parameters]


def _tags(record: RunRecord) -> Mapping[str, str]:
    """Return the tags of a record without those that only have a meaning in the store that they come from."""
    return {name: value for name, value in record.tags.items() if name not in _FOREIGN_TAGS}


def _details(record: RunRecord) -> RunDetails:
    """Return the details of a record; folders are of another machine."""
    left = {"folder", "log", "cwd", "addresses", "command_status", "log_sha256"}
    names = set(RunDetails.__struct_fields__) - left
    return RunDetails(**{name: getattr(record, name) for name in names if hasattr(record, name)})


def warn_of_missing(bundle: CheckedBundle, report: Report) -> None:
    """Report what the bundle says that it has not."""
    for one in bundle.manifest.left_out:
        report(Event(kind=EventKind.NOTICE, message=f"The bundle has not: {one}"))
