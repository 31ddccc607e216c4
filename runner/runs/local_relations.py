"""Reads what belongs to a run in the local store: datasets, models, model versions, parent and children."""

from collections.abc import Sequence

from runner.base.tags import NOTE_TAG, PARENT_TAG
from runner.errors import NotFoundError
from runner.runs.reader import (
    ArtifactEntry,
    DatasetEntry,
    ModelEntry,
    RelatedRun,
    RunArtifacts,
    RunRelations,
    VersionEntry,
)
from runner.store import lineage, related, runs, versions
from runner.store.database import Database
from runner.store.entities import LoggedModel, ModelVersion, Run, RunInputs


def read_relations(db: Database, run: Run, files: RunArtifacts | None, models: Sequence[LoggedModel]) -> RunRelations:
    """Return what belongs to a run; ``files`` are the files kept with it, None if they are not in this store."""
    return RunRelations(
        artifacts=artifact_entries(files),
        datasets=dataset_entries(lineage.inputs(db, run.run_id)),
        logged_models=model_entries(models),
        model_versions=version_entries(versions.load(db, related.version_numbers(db, run.run_id))),
        parent=_parent(db, run),
        children=tuple(_related(one) for one in runs.load(db, related.child_numbers(db, (run.run_id,)))),
        note=run.tags.get(NOTE_TAG) or None,
    )


def artifact_entries(files: RunArtifacts | None) -> tuple[ArtifactEntry, ...]:
    """Return the artifacts among the files kept with a run."""
    found = files.files if files else ()
    return tuple(ArtifactEntry(path=file.name, size=file.size) for file in found if not file.on_request)


def dataset_entries(inputs: RunInputs) -> tuple[DatasetEntry, ...]:
    """Return the datasets that a run read."""
    return tuple(
        DatasetEntry(
            name=one.dataset.name,
            digest=one.dataset.digest,
            context=one.tags.get(lineage.CONTEXT_TAG),
            source=one.dataset.source,
        )
        for one in inputs.datasets
    )


def model_entries(models: Sequence[LoggedModel]) -> tuple[ModelEntry, ...]:
    """Return the models that a run logged."""
    return tuple(
        ModelEntry(model_id=one.model_id, name=one.name, type=one.model_type, status=one.status.value) for one in models
    )


def version_entries(found: Sequence[ModelVersion]) -> tuple[VersionEntry, ...]:
    """Return the model versions that were made from a run."""
    return tuple(
        VersionEntry(name=one.name, version=one.version, stage=one.stage.value, aliases=one.aliases) for one in found
    )


def _parent(db: Database, run: Run) -> RelatedRun | None:
    run_id = run.tags.get(PARENT_TAG)
    if not run_id:
        return None
    try:
        return _related(runs.get(db, run_id))
    except NotFoundError:  # the parent was removed, or is only on a server
        return RelatedRun(run_id=run_id)


def _related(run: Run) -> RelatedRun:
    return RelatedRun(run_id=run.run_id, run_name=run.name, status=run.status.value)
