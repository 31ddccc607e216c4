"""Records that proj left among the artifacts and tags of runs, joined with what their store says now."""

from pathlib import Path

import msgspec

from runner.errors import InvalidValueError, NotFoundError
from runner.model import Code, RunRecord
from runner.store import run_files
from runner.store.artifacts import open_artifact

TREE_TAG = "proj.tree"
"""Only runs that proj recorded have it."""
_PIECE = 1 << 20


def code_of(record: RunRecord) -> Code | None:
    """Return the code of a run as far as its tags tell it."""
    tags = record.tags
    if not tags.get(TREE_TAG):
        return None
    return Code(
        tree=tags[TREE_TAG],
        swhid=tags.get("proj.swhid", ""),
        commit=tags.get("mlflow.source.git.commit"),
        dirty=tags.get("proj.dirty") == "true",
        branch=tags.get("mlflow.source.git.branch"),
        remote=tags.get("mlflow.source.git.repoURL"),
        subdirectory=tags.get("proj.subdirectory", ""),
        ref=tags.get("proj.ref"),
    )


def told_by_tags(record: RunRecord) -> RunRecord:
    """Return a record without details of its own, with those that its tags tell."""
    return msgspec.structs.replace(
        record,
        project=record.tags.get("mlflow.source.name"),
        entry_point=record.tags.get("mlflow.project.entryPoint"),
        code=code_of(record),
    )


def read_bundle(root: Path | None) -> RunRecord | None:
    """Return the record that proj left in a folder of artifacts; None where none can be read, or a link is there."""
    if root is None:
        return None
    try:
        with open_artifact(root, run_files.RECORD) as file:
            return run_files.read_record(iter(lambda: file.read(_PIECE), b""))
    except (OSError, InvalidValueError, NotFoundError):
        return None


def joined(plain: RunRecord, left: RunRecord) -> RunRecord:
    """Return what proj left, with what may have changed in the store since; nothing of it is on this machine."""
    known = {parameter.name for parameter in left.parameters}
    more = tuple(parameter for parameter in plain.parameters if parameter.name not in known)
    return msgspec.structs.replace(
        left,
        run_id=plain.run_id,
        run_name=plain.run_name,
        experiment=plain.experiment,
        status=plain.status,
        started_at=plain.started_at,
        ended_at=plain.ended_at,
        parameters=(*left.parameters, *more),
        metrics=plain.metrics,
        tags=plain.tags,
        folder=None,
        log=None,
    )
