"""Reads runs from a tracking server."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from runner.base.suggestions import nearest
from runner.base.tags import NOTE_TAG, PARENT_TAG
from runner.errors import NotFoundError, RemoteError
from runner.model import ParameterRecord, RunRecord
from runner.runs.local_relations import artifact_entries, dataset_entries, model_entries, version_entries
from runner.runs.projects import is_of_project, project_condition
from runner.runs.reader import RelatedRun, RunArtifact, RunArtifacts, RunQuery, RunRelations, folder_of
from runner.runs.remote_selection import find_run
from runner.store.artifact_paths import as_text, names_of
from runner.store.artifacts import ArtifactInfo, Omission
from runner.store.downsampling import SampledHistory
from runner.store.entities import Experiment, Metric, View
from runner.store.records import format_time
from runner.store.row_helpers import RUN_ID
from runner.store.run_selection import Notify
from runner.store.search import RecordPage
from runner.sync import registry_client
from runner.sync.artifact_locations import ArtifactLocation, walk
from runner.sync.bundle import location_of, models_of, original_run_id, read_record
from runner.sync.bundle_records import FOLDER, LOG_NAME, merge_record, with_tag_details
from runner.sync.client import RemoteServer, ServerRun

_NEWEST = ("attributes.start_time DESC",)
_LOG = f"{FOLDER}/{LOG_NAME}"
_MAX_CHILDREN = 1000
_MAX_READ = 1000
"""Runs that are read at most to find those of a project, or those that are not nested."""
_PAGE = 200
_ID_LENGTH = 32


class RemoteReader:
    """Reads runs from a tracking server. For runs recorded by proj it returns the complete record."""

    def __init__(self, server: RemoteServer, notify: Notify | None = None) -> None:
        self.server: str | None = server.url
        self._remote = server
        self._notify = notify
        self._selected: dict[str, ServerRun] = {}
        self._nested_read: list[ServerRun] = []
        self._experiments: tuple[Experiment, ...] | None = None

    def search(self, query: RunQuery) -> RecordPage:
        """Return the records that match a query, without the data that is only in files on the server."""
        chosen = self._all() if query.experiment is None else (self._experiment(query.experiment),)
        names = {experiment.id: experiment.name for experiment in chosen}
        if not names:
            return RecordPage(records=())
        found = self._matching(list(names), query)
        records = tuple(record_of(run, names[run.experiment_id]) for run in found[: query.limit])
        return RecordPage(records=records, next_page_token="more" if len(found) > query.limit else None)

    def _matching(self, ids: list[str], query: RunQuery) -> list[ServerRun]:
        """Return one run more than the limit, if there is one; the protocol has no filter for nested runs."""
        if not query.folded and query.project is None:
            order = query.order_by or _NEWEST
            return list(self._remote.search_runs(ids, query.filter, order, limit=query.limit + 1))
        read = self._of_project(ids, query)
        if not query.folded:
            return read[: query.limit + 1]
        known = {run.run_id for run in read}
        self._nested_read = [run for run in read if run.tags.get(PARENT_TAG) in known]
        nested = {run.run_id for run in self._nested_read}
        return [run for run in read if run.run_id not in nested][: query.limit + 1]

    def _of_project(self, ids: list[str], query: RunQuery) -> list[ServerRun]:
        conditions = [query.filter] if query.filter.strip() else []
        if query.project is not None:
            # The protocol has no OR: a server is shared, so the remote repository counts if there is one.
            conditions += project_condition(query.project)
        most = max(_MAX_READ, query.limit + 1)
        order = query.order_by or _NEWEST
        found = self._remote.search_runs(ids, " AND ".join(conditions), order, limit=most, page=_PAGE)
        return [run for run in found if query.project is None or is_of_project(run.tags, query.project)]

    def record(self, reference: str) -> RunRecord:
        """Return the record of a run."""
        run = self.run(reference)
        plain = record_of(run, self._remote.experiment(run.experiment_id).name)
        left = read_record(run, self._location(run))
        return plain if left is None else merge_record(plain, left)

    def last_points(self, reference: str) -> Mapping[str, Metric]:
        """Return the last point of each metric of a run."""
        return self.run(reference).metrics

    def history(self, reference: str, name: str) -> Iterator[Metric]:
        """Yield the points of a metric in the server's order."""
        run = self.run(reference)
        _check_metric(run, name)
        return self._remote.metric_history(run.run_id, name)

    def sampled_history(self, reference: str, name: str, limit: int) -> SampledHistory:
        """Return the downsampled history of a metric; the points are reduced while they are received."""
        run = self.run(reference)
        _check_metric(run, name)
        sampled: list[Metric] = []
        count, stride, last = 0, 1, None
        least, most = math.inf, -math.inf
        for last in self._remote.metric_history(run.run_id, name):
            if not math.isnan(last.value):
                least, most = min(least, last.value), max(most, last.value)
            if count % stride == 0:
                sampled.append(last)
                if len(sampled) >= 2 * limit:
                    sampled, stride = sampled[::2], 2 * stride
            count += 1
        points = _downsampled(sampled, last, limit)
        is_number = least <= most
        return SampledHistory(
            points=points, count=count, minimum=least if is_number else None, maximum=most if is_number else None
        )

    def files(self, reference: str) -> RunArtifacts:
        """Return the files kept with a run."""
        run = self.run(reference)
        location = self._location(run)
        if location is None:
            raise NotFoundError(
                "The artifacts of this run can't be fetched through the server",
                context=run.artifact_uri,
                hint="Clients access them directly; download them with `mlflow artifacts download`.",
            )
        found = _found(location, ())
        for model in models_of(self._remote, run):
            inside = location_of(self._remote, model.artifact_uri, model.model_id)
            found += _found(inside, (folder_of(model),)) if inside else []
        files = [one for one in found if isinstance(one, RunArtifact)]
        omissions = [one for one in found if isinstance(one, Omission)]
        return RunArtifacts(files=tuple(sorted(files, key=lambda file: file.name)), omissions=tuple(omissions))

    def own_id(self, reference: str) -> str:
        """Return the id that proj gave a run before it was pushed, else the server's id."""
        run_id = original_run_id(self.run(reference))
        # The id becomes a part of paths, and a server may send anything.
        return run_id if RUN_ID.fullmatch(run_id) else hashlib.sha256(run_id.encode()).hexdigest()[:_ID_LENGTH]

    def relations(self, reference: str) -> RunRelations:
        """Return what belongs to a run besides its record; files that the server does not serve are left out."""
        run = self.run(reference)
        children = self._nested([run.run_id])
        return RunRelations(
            artifacts=artifact_entries(self.files(reference)) if self._location(run) else (),
            datasets=dataset_entries(run.inputs),
            logged_models=model_entries(models_of(self._remote, run)),
            model_versions=version_entries(registry_client.versions_of_run(self._remote, run.run_id)),
            parent=self._parent(run),
            children=tuple(_related(one) for one in children),
            note=run.tags.get(NOTE_TAG) or None,
        )

    def children(self, parents: Sequence[str]) -> tuple[RunRecord, ...]:
        """Return the records of the runs that are nested directly in one of these runs, oldest first."""
        names = {experiment.id: experiment.name for experiment in self._all()}
        return tuple(record_of(run, names.get(run.experiment_id, "")) for run in self._nested(parents))

    def count_children(self, parents: Sequence[str]) -> Mapping[str, int]:
        """Return how many runs are nested directly in each of these runs, among those that were read for the list."""
        counts = Counter(run.tags.get(PARENT_TAG, "") for run in self._nested_read)
        return {run_id: counts[run_id] for run_id in parents if counts[run_id]}

    def first_metric(self, reference: str) -> str | None:
        """Return the metric whose last point is the oldest one; the first points are not in the protocol's answer."""
        metrics = self.run(reference).metrics.values()
        return min(metrics, key=lambda point: (point.timestamp, point.key)).key if metrics else None

    def output(self, reference: str) -> Iterator[bytes]:
        """Yield the output of a run's command, which proj keeps among the artifacts, in pieces."""
        run = self.run(reference)
        location = self._location(run)
        if location is not None:
            for info in location.entries(FOLDER):
                if info.path == _LOG:
                    return location.pieces(info.path, info.size)
        raise NotFoundError(
            f"The run {run.run_id[:8]} has no output on {self.server}",
            hint="The output is there after the run ended, if `proj run` recorded it.",
        )

    def run(self, reference: str) -> ServerRun:
        """Return the run that a reference selects; see `find_run`."""
        if reference not in self._selected:
            ids = [experiment.id for experiment in self._all()] if not RUN_ID.fullmatch(reference) else None
            self._selected[reference] = find_run(self._remote, reference, ids, self._notify)
        return self._selected[reference]

    def _location(self, run: ServerRun) -> ArtifactLocation | None:
        return location_of(self._remote, run.artifact_uri, run.run_id)

    def _parent(self, run: ServerRun) -> RelatedRun | None:
        run_id = run.tags.get(PARENT_TAG)
        if not run_id:
            return None
        try:
            return _related(self._remote.run(run_id))
        except RemoteError as error:
            if not error.is_absent:
                raise
            return RelatedRun(run_id=run_id)

    def _nested(self, parents: Sequence[str]) -> list[ServerRun]:
        ids = [experiment.id for experiment in self._all()]
        found: list[ServerRun] = []
        for run_id in parents if ids else ():
            if RUN_ID.fullmatch(run_id):
                condition = f"tags.`{PARENT_TAG}` = '{run_id}'"
                found += self._remote.search_runs(ids, condition, ("attributes.start_time ASC",), limit=_MAX_CHILDREN)
        return found

    def _all(self) -> tuple[Experiment, ...]:
        if self._experiments is None:
            self._experiments = tuple(self._remote.experiments())
        return self._experiments

    def _experiment(self, reference: str) -> Experiment:
        found = self._remote.experiment_by_name(reference)
        if found is None:
            found = next((one for one in self._remote.experiments(view=View.ALL) if one.id == reference), None)
        if found is None:
            raise NotFoundError(f"There is no experiment '{reference}' on {self.server}")
        return found


def record_of(run: ServerRun, experiment: str) -> RunRecord:
    """Return the record of a run as far as MLflow's protocol provides it."""
    tags = run.tags
    record = RunRecord(
        run_id=run.run_id,
        run_name=run.name,
        experiment=experiment,
        status=run.status.value,
        exit_code=None,
        started_at=format_time(run.started_at),
        ended_at=format_time(run.ended_at),
        project=None,
        entry_point=None,
        command=None,
        argv=(),
        cwd=None,
        parameters=tuple(ParameterRecord(name=name, value=value) for name, value in sorted(run.params.items())),
        metrics={name: point.value for name, point in sorted(run.metrics.items())},
        tags=dict(sorted(tags.items())),
        code=None,
        environment=None,
        inputs=(),
        outputs=(),
        resources=None,
        machine=None,
        folder=None,
        log=None,
    )
    return with_tag_details(record)


def _related(run: ServerRun) -> RelatedRun:
    return RelatedRun(run_id=run.run_id, run_name=run.name, status=run.status.value)


def _check_metric(run: ServerRun, name: str) -> None:
    if name not in run.metrics:
        near = nearest(name, run.metrics)
        hint = f"Did you mean '{near}'?" if near else f"See `proj show {run.run_id[:8]}`."
        raise NotFoundError(f"The run '{run.run_id[:8]}' has no metric '{name}'", hint=hint)


def _found(location: ArtifactLocation, above: tuple[str, ...]) -> list[RunArtifact | Omission]:
    return [_artifact(location, file, above) for file in walk(location)]


def _artifact(location: ArtifactLocation, file: ArtifactInfo, above: tuple[str, ...]) -> RunArtifact | Omission:
    name = "/".join([*map(as_text, above), file.path])
    if file.fault is not None:
        return Omission(path=name, reason=file.fault)
    names = (*above, *names_of(file.path))
    return RunArtifact(name=name, names=names, size=file.size, pieces=partial(location.pieces, file.path, file.size))


def _downsampled(sampled: list[Metric], last: Metric | None, limit: int) -> tuple[Metric, ...]:
    """Return at most ``limit`` points, ordered by step, including the last one."""
    ordered = sorted(sampled, key=lambda point: (point.step, point.timestamp))
    stride = max(1, math.ceil(len(ordered) / max(1, limit - 1)))
    chosen = ordered[::stride]
    if last is not None and chosen[-1] != last and last.step >= chosen[-1].step:
        chosen.append(last)
    return tuple(chosen)
