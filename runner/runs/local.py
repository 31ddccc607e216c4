"""Reads runs from the local store."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from runner.base.suggestions import nearest
from runner.base.tags import REMOTE_TAG, SOURCE_NAME_TAG, SUBDIRECTORY_TAG, TREE_TAG
from runner.errors import NotFoundError
from runner.model import RunRecord
from runner.provenance.outputs import LOGGED_ITSELF, kept_as
from runner.runs import local_relations
from runner.runs.projects import separator_of
from runner.runs.reader import RunArtifact, RunArtifacts, RunQuery, RunRelations, folder_of
from runner.settings import Home
from runner.store import artifact_digests, downsampling, experiments, related, runs
from runner.store.artifact_digests import ArtifactDigest
from runner.store.artifact_paths import as_text
from runner.store.artifacts import Omission, local_folder, open_found, size_of, survey
from runner.store.database import Database
from runner.store.entities import Experiment, Metric, Run
from runner.store.models import ModelQuery
from runner.store.models import search as search_models
from runner.store.records import read_record
from runner.store.run_selection import Notify, resolve
from runner.store.search import RecordPage, SearchQuery, folded_scope, load_records, search_records, tag_scope
from runner.store.statements import Fragment
from runner.sync.bundle_records import merge_record, read_bundle, with_tag_details

_PIECE = 1 << 20


def find_experiment(database: Database, reference: str) -> Experiment:
    """Return the experiment with this name or id, including deleted ones.

    Raises:
        NotFoundError: there is no such experiment.
    """
    found = experiments.find(database, reference)
    if found is not None:
        return found
    try:
        return experiments.get(database, reference)
    except NotFoundError as error:
        near = nearest(reference, experiments.names(database))
        hint = f"Did you mean '{near}'? See `proj experiments list`." if near else "See `proj experiments list`."
        raise NotFoundError(f"There is no experiment '{reference}'", hint=hint) from error


class LocalReader:
    """Reads runs from the local store."""

    server: str | None = None

    def __init__(self, database: Database, home: Home, notify: Notify | None = None) -> None:
        self.database = database
        self.home = home
        self._notify = notify
        self._selected: dict[str, str] = {}

    def search(self, query: RunQuery) -> RecordPage:
        """Return the records that match a query."""
        chosen = None if query.experiment is None else (find_experiment(self.database, query.experiment).id,)
        search = SearchQuery(
            experiment_ids=chosen,
            filter=query.filter,
            order_by=query.order_by,
            limit=query.limit,
            conditions=_conditions(query),
        )
        page = search_records(self.database, search, self.home)
        records = tuple(with_tag_details(one) if _is_of_another_home(one) else one for one in page.records)
        return RecordPage(records=records, next_page_token=page.next_page_token)

    def record(self, reference: str) -> RunRecord:
        """Return the record of a run."""
        run_id = self._resolve(reference)
        record = read_record(self.database, run_id, self.home)
        if not _is_of_another_home(record):
            return record
        left = read_bundle(local_folder(runs.get(self.database, run_id).artifact_uri))
        return with_tag_details(record) if left is None else merge_record(record, left)

    def is_own(self, reference: str) -> bool:
        """Return whether proj recorded the run in this store, so that the paths in its record are valid here."""
        return runs.get(self.database, self._resolve(reference)).details.command is not None

    def last_points(self, reference: str) -> Mapping[str, Metric]:
        """Return the last point of each metric of a run."""
        return runs.get(self.database, self._resolve(reference)).metrics

    def history(self, reference: str, name: str) -> Iterator[Metric]:
        """Yield the points of a metric by step, then time, then value."""
        run_id = self._resolve(reference)
        downsampling.downsampled(self.database, run_id, name, 1)
        return downsampling.all_points(self.database, run_id, name)

    def sampled_history(self, reference: str, name: str, limit: int) -> downsampling.SampledHistory:
        """Return the downsampled history of a metric."""
        return downsampling.downsampled(self.database, self._resolve(reference), name, limit)

    def own_id(self, reference: str) -> str:
        """Return the id of a run."""
        return self._resolve(reference)

    def relations(self, reference: str) -> RunRelations:
        """Return what belongs to a run besides its record."""
        run = runs.get(self.database, self._resolve(reference))
        kept = self.files(reference) if local_folder(run.artifact_uri) else None
        query = ModelQuery(filter=f"source_run_id = '{run.run_id}'", limit=1000)
        return local_relations.read_relations(self.database, run, kept, search_models(self.database, query).items)

    def children(self, parents: Sequence[str]) -> tuple[RunRecord, ...]:
        """Return the records of the runs that are nested directly in one of these runs, oldest first."""
        return load_records(self.database, related.child_numbers(self.database, parents), self.home)

    def count_children(self, parents: Sequence[str]) -> Mapping[str, int]:
        """Return how many runs are nested directly in each of these runs."""
        return related.count_children(self.database, parents)

    def first_metric(self, reference: str) -> str | None:
        """Return the metric that a run logged first, or None if it has no metrics."""
        return related.first_metric(self.database, self._resolve(reference))

    def output(self, reference: str) -> Iterator[bytes]:
        """Yield the output of a run's command in pieces."""
        run_id = self._resolve(reference)
        path = self.home.log(run_id)
        if not path.is_file() or path.is_symlink():
            raise NotFoundError(f"The run {run_id[:8]} has no output", hint="Its command did not start or removed it.")
        return _pieces(path.parent, (path.name,))

    def files(self, reference: str) -> RunArtifacts:
        """Return the files kept with a run."""
        run = runs.get(self.database, self._resolve(reference))
        root = local_folder(run.artifact_uri)
        if root is None:
            raise NotFoundError("The artifacts of this run are not in the local store", context=run.artifact_uri)
        found, omissions = _files(root, (), _digests_of(self.database, run))
        query = ModelQuery(filter=f"source_run_id = '{run.run_id}'", limit=1000)
        for model in search_models(self.database, query).items:
            folder = local_folder(model.artifact_uri)
            digests = artifact_digests.read(self.database, model.model_id)
            more, left_out = _files(folder, (folder_of(model),), digests) if folder else ([], [])
            found += more
            omissions += left_out
        lock = self.home.lock(run.run_id)
        if lock is not None and all(file.name != lock.name for file in found):
            names = (lock.name,)
            pieces = partial(_pieces, lock.parent, names)
            size = size_of(lock.parent, names)
            found.append(RunArtifact(name=lock.name, names=names, size=size, pieces=pieces, on_request=True))
        return RunArtifacts(files=tuple(found), omissions=tuple(omissions))

    def _resolve(self, reference: str) -> str:
        # One command may ask for a run several times; the message about a reference appears once.
        if reference not in self._selected:
            self._selected[reference] = resolve(self.database, reference, self._notify)
        return self._selected[reference]


def _conditions(query: RunQuery) -> tuple[Fragment, ...]:
    project = query.project
    found = [folded_scope()] if query.folded else []
    if project is not None:
        scopes = [tag_scope(SOURCE_NAME_TAG, project.source, separator_of(project))]
        if project.remote:
            here = tag_scope(REMOTE_TAG, project.remote)
            inside = tag_scope(SUBDIRECTORY_TAG, project.subdirectory, "/") if project.subdirectory else Fragment("1")
            scopes.append(Fragment(f"({here.sql} AND {inside.sql})", (*here.args, *inside.args)))
        args = tuple(arg for scope in scopes for arg in scope.args)
        found.append(Fragment(f"({' OR '.join(scope.sql for scope in scopes)})", args))
    return tuple(found)


def _is_of_another_home(record: RunRecord) -> bool:
    """Return whether proj recorded the run elsewhere and sent it here, for example with ``--tracking-uri``."""
    return record.command is None and TREE_TAG in record.tags


def _digests_of(database: Database, run: Run) -> tuple[ArtifactDigest, ...]:
    """Return the recorded artifact digests of a run; for runs of earlier versions, the digests of its outputs."""
    digests = artifact_digests.read(database, run.run_id)
    if digests or any(notice.startswith(LOGGED_ITSELF) for notice in run.details.notices):
        return digests
    root = local_folder(run.artifact_uri) or Path()
    known = (ArtifactDigest(path=kept_as(one.path), size=one.size, sha256=one.sha256) for one in run.details.outputs)
    return tuple(one for one in known if (root / one.path).is_file())


def _files(
    root: Path, above: tuple[str, ...], digests: tuple[ArtifactDigest, ...]
) -> tuple[list[RunArtifact], list[Omission]]:
    """Return the files in a folder, and an omission for each recorded file that is missing from it."""
    found = survey(root)
    known = {tuple(digest.path.split("/")): digest for digest in digests}
    there = {file.names: file.size for file in found.files}
    there |= {names: digest.size for names, digest in known.items() if not os.path.lexists(root.joinpath(*names))}
    before = "".join(f"{as_text(name)}/" for name in above)
    files = [
        RunArtifact(
            name=before + "/".join(map(as_text, names)),
            names=(*above, *names),
            size=size,
            pieces=partial(_pieces, root, names),
            sha256=known[names].sha256 if names in known else None,
        )
        for names, size in sorted(there.items())
    ]
    return files, [Omission(path=before + one.path, reason=one.reason) for one in found.omissions]


def _pieces(root: Path, names: Sequence[str]) -> Iterator[bytes]:
    with open_found(root, names) as file:
        while piece := file.read(_PIECE):
            yield piece
