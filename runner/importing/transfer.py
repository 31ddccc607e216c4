"""Imports a foreign store: experiments, runs, logged models and registered models."""

import re
import shlex
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from urllib.parse import quote

import msgspec

from runner.base.masking import Masker
from runner.base.plurals import counted
from runner.base.tags import ENTRY_POINT_TAG, PROMPT_TAG, SOURCE_NAME_TAG
from runner.errors import InvalidValueError, NotFoundError, ProjError, TransferError
from runner.importing.artifact_locations import is_elsewhere
from runner.importing.copying import copy_artifacts
from runner.importing.foreign import Files, ForeignModel, ForeignRun, ForeignStore, Registration
from runner.importing.summary import ImportSummary, Kind, Summary
from runner.model import Event, EventKind, RunDetails
from runner.settings import Home
from runner.store import artifact_digests, experiments, import_writer, model_import_writer
from runner.store.database import Database
from runner.store.entities import Experiment, LifecycleStage, ModelVersion
from runner.store.import_writer import Change, ImportedRun
from runner.store.row_helpers import RUN_ID

_PROGRESS_SECONDS = 2.0
_LOOKED_AT = 100
"""Number of runs that are looked up here to recognize a renamed experiment."""
_IN_A_RUN = re.compile(r"(?:^|/)(?P<run>[0-9a-f]{32})/artifacts(?:/(?P<path>.*))?$")
_OF_A_RUN = re.compile(r"runs:/+(?P<run>[0-9a-f]{32})/(?P<path>.+)$")
_OF_A_MODEL = re.compile(r"(?:^models:/|/)(?P<model>m-[0-9a-f]{32})(?:/artifacts(?:/(?P<path>.*))?)?$")


def import_store(
    store: ForeignStore, database: Database, home: Home, counter: ImportSummary, wanted: Sequence[str] = ()
) -> Summary:
    """Import a foreign store, or the selected experiments of it, and return a summary.

    Each run is imported in one transaction; a run that can't be imported is skipped with a warning. Importing again
    adds new content.

    Raises:
        TransferError: the foreign store can't be read, or the local store can't be written.
        NotFoundError: the foreign store has no such experiment.
    """
    transfer = _Transfer(store, database, home, counter)
    for experiment in _chosen(transfer.experiments(), wanted):
        transfer.import_experiment(experiment)
    for key in store.registration_keys():
        transfer.import_registration(key, whole=not wanted)
    return counter.summary(store.uri)


class _Transfer:
    """Imports the content of a foreign store item by item."""

    def __init__(self, store: ForeignStore, database: Database, home: Home, counter: ImportSummary) -> None:
        self._store = store
        self._database = database
        self._home = home
        self._summary = counter
        self._masker = Masker()
        self._shown = time.monotonic()
        self._seen = 0

    def experiments(self) -> list[Experiment]:
        """Return the foreign experiments; reports those that can't be read."""
        found = (self._experiment(key) for key in self._store.experiment_keys())
        return [experiment for experiment in found if experiment is not None]

    def import_experiment(self, experiment: Experiment) -> None:
        """Import an experiment with its runs and logged models."""
        here = import_writer.find_experiment(self._database, experiment) or self._renamed(experiment)
        group = _Group(self._database, experiment, None if here is None else here.id)
        try:
            group.refuse_deleted(here)
            if here is None and not any(True for _ in self._store.run_keys(experiment)):
                group.id()
        except ProjError as error:
            self._summary.fail(Kind.EXPERIMENTS, _text_of(error), error.hint)
            return
        for key in self._store.run_keys(experiment):
            self._import_run(experiment, key, group)
            self._progress()
        self._import_models(experiment, group)
        self._summary.count(Kind.EXPERIMENTS, Change.ADDED if group.is_new else Change.SAME)

    def import_registration(self, key: str, *, whole: bool) -> None:
        """Import a registered model; for a partial import, only the versions whose run or model is present."""
        try:
            self._register(self._store.registration(key), whole=whole)
        except (InvalidValueError, TransferError) as error:
            self._summary.fail(Kind.REGISTERED, f"The model '{key}' is skipped: {_text_of(error)}", error.hint)

    def _experiment(self, key: str) -> Experiment | None:
        try:
            return self._store.experiment(key)
        except TransferError as error:
            self._summary.fail(Kind.EXPERIMENTS, f"The experiment {key} is skipped: {_text_of(error)}", error.hint)
            return None

    def _register(self, registration: Registration, *, whole: bool) -> None:
        model = registration.model
        if model.tags.get(PROMPT_TAG, "").lower() == "true":
            self._summary.warn(f"The prompt '{model.name}' is skipped: proj does not store prompts")
            return
        found = [self._located(version) for version in registration.versions]
        chosen = [version for version, is_here in found if whole or is_here]
        if not whole and not chosen:
            return
        change = model_import_writer.import_registered(self._database, model, registration.last_version)
        for version in chosen:
            self._import_version(version)
        for alias in model_import_writer.import_aliases(self._database, model):
            self._summary.warn(f"The alias {model.name}@{alias} refers to another version here, and is kept unchanged")
        self._summary.count(Kind.REGISTERED, change)

    def _renamed(self, experiment: Experiment) -> Experiment | None:
        """Return the local experiment that received runs of this one earlier, if either was renamed since."""
        for key in islice(self._store.run_keys(experiment), _LOOKED_AT):
            present = import_writer.lookup(self._database, key)
            if present is not None and present[1]:
                return experiments.get(self._database, present[0])
        return None

    def _import_run(self, experiment: Experiment, key: str, group: "_Group") -> None:
        try:
            _check_run_id(key)
            present = import_writer.lookup(self._database, key)
            if present is not None and not present[1]:
                self._summary.count(Kind.RUNS, Change.OWN)
                return
            found = self._store.run(experiment, key)
            uri = self._import_files(found.files, self._home.artifacts(key), key)
            imported = self._imported_run(found, group.id() if present is None else present[0], uri, experiment)
            change, points = import_writer.import_run(self._database, imported, self._store.points(experiment, key))
        except (InvalidValueError, TransferError) as error:
            self._summary.fail(Kind.RUNS, f"The run {key[:80]} is skipped: {_text_of(error)}", error.hint)
            return
        self._summary.points += points
        self._summary.count(Kind.RUNS, change)

    def _imported_run(self, found: ForeignRun, experiment_id: str, uri: str, experiment: Experiment) -> ImportedRun:
        tags = found.run.tags
        details = RunDetails(project=tags.get(SOURCE_NAME_TAG), entry_point=tags.get(ENTRY_POINT_TAG))
        run = msgspec.structs.replace(found.run, experiment_id=experiment_id, artifact_uri=uri, details=details)
        deleted_at = found.deleted_at
        if experiment.lifecycle_stage is LifecycleStage.DELETED:
            # Runs deleted with their experiment have its deletion time, so that they are restored with it.
            with_it = deleted_at is None or deleted_at >= experiment.updated_at
            deleted_at = experiment.updated_at if with_it else deleted_at
        return ImportedRun(
            run=run, deleted_at=deleted_at, inputs=found.inputs, outputs=found.outputs, origin=self._store.uri
        )

    def _import_models(self, experiment: Experiment, group: "_Group") -> None:
        for key in self._store.model_keys(experiment):
            self._import_model(experiment, key, group)

    def _import_model(self, experiment: Experiment, key: str, group: "_Group") -> None:
        try:
            model_import_writer.check_model_id(key)
            change = self._write_model(self._store.model(experiment, key), group)
        except (InvalidValueError, TransferError) as error:
            self._summary.fail(Kind.MODELS, f"The logged model {key[:80]} is skipped: {_text_of(error)}", error.hint)
            return
        self._summary.count(Kind.MODELS, change)

    def _write_model(self, found: ForeignModel, group: "_Group") -> Change:
        model = found.model
        known = model_import_writer.find_model(self._database, model.model_id)
        if known is not None and not known["came"]:
            return Change.OWN
        number = group.id() if known is None else str(known["experiment"])
        target = self._home.model_artifacts(model.model_id)
        uri = self._import_files(found.files, target, model.model_id)
        own = msgspec.structs.replace(model, experiment_id=number, artifact_uri=uri)
        return model_import_writer.import_model(self._database, own, self._store.uri, deleted=found.deleted)

    def _import_files(self, files: Files, target: Path, owner: str) -> str:
        """Copy artifacts that are on this machine to the disk, record their digests, and return their new URI."""
        if files.folder is not None:
            digests: dict[str, str] = {}
            self._summary.artifacts += copy_artifacts(files.folder, target, self._summary.warn, digests)
            artifact_digests.record(self._database, owner, target, digests)
        elif files.is_missing and files.uri:
            uri = self._masker.text(files.uri)
            self._summary.elsewhere.append(uri)
            if is_elsewhere(uri):
                return uri
        return target.absolute().as_uri()

    def _import_version(self, version: ModelVersion) -> None:
        change = model_import_writer.import_version(self._database, version)
        if change is Change.OWN:
            message = f"Version {version.version} of '{version.name}' is skipped: it exists here with other content"
            self._summary.report(Event(kind=EventKind.WARNING, message=message, hint=self._how_to_register(version)))
        self._summary.count(Kind.VERSIONS, change)

    def _how_to_register(self, version: ModelVersion) -> str:
        """Return the commands that import a version whose number is in use."""
        found = _OF_A_RUN.match(version.source) or _IN_A_RUN.search(version.source)
        if found and found["path"] and import_writer.lookup(self._database, found["run"]) is not None:
            command = ("proj", "models", "register", version.name, found["run"][:12], found["path"])
            return f"Import it as a new version: {shlex.join(command)}"
        return "Import it into a separate store: PROJ_HOME=DIR proj import …"

    def _located(self, version: ModelVersion) -> tuple[ModelVersion, bool]:
        """Return a version with its local artifact location, and whether its run or model is present."""
        for uri in dict.fromkeys((version.location, version.source)):
            local = self._local_uri(uri)
            if local is not None:
                return msgspec.structs.replace(version, location=local), True
        is_here = bool(version.run_id) and import_writer.lookup(self._database, version.run_id or "") is not None
        return version, is_here

    def _local_uri(self, uri: str) -> str | None:
        model = _OF_A_MODEL.search(uri)
        known = model_import_writer.find_model(self._database, model["model"]) if model else None
        if model and known:
            return _below(known["artifact_uri"], model["path"])
        run = _OF_A_RUN.match(uri) or _IN_A_RUN.search(uri)
        if run:
            rows = self._database.query("SELECT artifact_uri FROM runs WHERE run_id = ?", run["run"])
            return _below(rows[0]["artifact_uri"], run["path"]) if rows else None
        return None

    def _progress(self) -> None:
        self._seen += 1
        if time.monotonic() - self._shown > _PROGRESS_SECONDS:
            self._shown = time.monotonic()
            points, files = self._summary.points, self._summary.artifacts.files
            new = f"{counted(points, 'point')} and {counted(files, 'file')} new"
            message = f"{counted(self._seen, 'run')} examined, {new}"
            self._summary.report(Event(kind=EventKind.STEP, message=message))


class _Group:
    """The local experiment for a foreign one, created when the first item is added to it."""

    def __init__(self, database: Database, experiment: Experiment, number: str | None) -> None:
        self._database = database
        self._experiment = experiment
        self._number = number
        self._tagged = False
        self.is_new = False

    def refuse_deleted(self, here: Experiment | None) -> None:
        """Refuse an experiment that is active in the foreign store and deleted here.

        Raises:
            InvalidValueError: the experiment is deleted here.
        """
        is_gone = here is not None and here.lifecycle_stage is LifecycleStage.DELETED
        if is_gone and self._experiment.lifecycle_stage is LifecycleStage.ACTIVE:
            raise InvalidValueError(
                f"The experiment '{self._experiment.name}' is deleted here, so it is not imported",
                hint=f"Restore it with: proj experiments restore {here.id if here else ''}",
            )

    def id(self) -> str:
        """Return the local id."""
        if self._number is None:
            self._number = import_writer.add_experiment(self._database, self._experiment)
            self.is_new = True
        if not self._tagged:
            import_writer.add_experiment_tags(self._database, self._number, self._experiment.tags)
            self._tagged = True
        return self._number


def _chosen(found: Sequence[Experiment], wanted: Sequence[str]) -> Sequence[Experiment]:
    """Return the experiments with these names or ids; all of them if no names are given.

    Raises:
        NotFoundError: no experiment has one of the names or ids.
    """
    chosen = []
    for word in wanted:
        fitting = [one for one in found if one.name == word] or [one for one in found if one.id == word]
        if not fitting:
            names = ", ".join(f"'{one.name}'" for one in found[:10])
            raise NotFoundError(f"The store has no experiment '{word}'", hint=f"There are {names or 'none'}.")
        chosen += fitting
    return chosen if wanted else found


def _check_run_id(key: str) -> None:
    if not RUN_ID.fullmatch(key):
        raise InvalidValueError(f"'{key[:80]}' is not a valid run id, which has 32 hexadecimal digits")


def _below(uri: str, path: str | None) -> str:
    if not path:
        return uri
    return f"{uri.rstrip('/')}/{quote(path) if uri.startswith('file:') and '%' not in path else path}"


def _text_of(error: ProjError) -> str:
    return f"{error.message}: {error.context}" if error.context else error.message
