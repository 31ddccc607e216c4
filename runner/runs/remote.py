"""Reads runs from a tracking server."""

import math
import re
from collections.abc import Iterator, Mapping
from functools import partial

from runner.base.tags import RUN_ID_TAG
from runner.errors import InvalidValueError, NotFoundError, RemoteError
from runner.model import ParameterRecord, RunRecord
from runner.runs.reader import RunArtifact, RunArtifacts, RunQuery, folder_of
from runner.store.artifact_paths import as_text, names_of
from runner.store.artifacts import ArtifactInfo, Omission
from runner.store.downsampling import SampledHistory
from runner.store.entities import Experiment, Metric, View
from runner.store.records import format_time
from runner.store.row_helpers import RUN_ID, now
from runner.store.runs import CLOCK_SKEW, LATEST
from runner.store.search import RecordPage
from runner.sync.artifact_locations import ArtifactLocation, walk
from runner.sync.bundle import location_of, models_of, read_record
from runner.sync.bundle_records import merge_record, with_tag_details
from runner.sync.client import RemoteServer, ServerRun

_SHOWN = 5
_BEGINNING = re.compile(r"[0-9a-f]{1,31}")
_NEWEST = ("attributes.start_time DESC",)


class RemoteReader:
    """Reads runs from a tracking server. For runs recorded by proj it returns the complete record."""

    def __init__(self, server: RemoteServer) -> None:
        self.server: str | None = server.url
        self._remote = server
        self._experiments: tuple[Experiment, ...] | None = None

    def search(self, query: RunQuery) -> RecordPage:
        """Return the records that match a query, without the data that is only in files on the server."""
        chosen = self._all() if query.experiment is None else (self._experiment(query.experiment),)
        names = {experiment.id: experiment.name for experiment in chosen}
        if not names:
            return RecordPage(records=())
        found = list(
            self._remote.search_runs(list(names), query.filter, query.order_by or _NEWEST, limit=query.limit + 1)
        )
        records = tuple(record_of(run, names[run.experiment_id]) for run in found[: query.limit])
        return RecordPage(records=records, next_page_token="more" if len(found) > query.limit else None)

    def record(self, reference: str) -> RunRecord:
        """Return the record of a run."""
        run = self.run(reference)
        plain = record_of(run, self._remote.experiment(run.experiment_id).name)
        left = read_record(run, location_of(self._remote, run.artifact_uri, run.run_id))
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
        """Return the files of a run."""
        run = self.run(reference)
        location = location_of(self._remote, run.artifact_uri, run.run_id)
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

    def run(self, reference: str) -> ServerRun:
        """Return the run that a reference selects; an id may be the one that the run had in proj before it was pushed.

        Raises:
            NotFoundError: no run matches.
            InvalidValueError: several runs match; the message lists some.
        """
        if RUN_ID.fullmatch(reference):
            try:
                return self._remote.run(reference)
            except RemoteError as error:
                if not error.is_absent:
                    raise
        found = next(filter(None, (self._search(condition) for condition in _conditions(reference))), [])
        if not found:
            raise NotFoundError(f"There is no run '{reference}' on {self.server}", hint="See `proj list`.")
        if len(found) > 1 and reference != LATEST:
            shown = [f"{run.run_id[:12]} {run.name}" for run in found[:_SHOWN]]
            more = ["…"] if len(found) > _SHOWN else []
            raise InvalidValueError(
                f"Several runs match '{reference}'",
                context="\n".join([*shown, *more]),
                hint="Use a longer part of the id.",
            )
        return found[0]

    def _search(self, condition: str) -> list[ServerRun]:
        ids = [experiment.id for experiment in self._all()]
        return list(self._remote.search_runs(ids, condition, _NEWEST, limit=_SHOWN + 1)) if ids else []

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


def _conditions(reference: str) -> Iterator[str]:
    """Yield the search conditions for a reference, the most likely one first."""
    if reference == LATEST:
        yield f"attributes.start_time <= {now() + CLOCK_SKEW}"
        yield ""
        return
    quote = "'" if "'" not in reference else '"'
    if RUN_ID.fullmatch(reference):
        yield f"tags.`{RUN_ID_TAG}` = '{reference}'"
    elif reference and quote not in reference and reference.isprintable():
        yield f"attributes.run_name = {quote}{reference}{quote}"
    if _BEGINNING.fullmatch(reference):
        yield f"attributes.run_id LIKE '{reference}%'"
        yield f"tags.`{RUN_ID_TAG}` LIKE '{reference}%'"


def _check_metric(run: ServerRun, name: str) -> None:
    if name not in run.metrics:
        raise NotFoundError(
            f"The run '{run.run_id[:8]}' has no metric '{name}'", hint=f"See `proj show {run.run_id[:8]}`."
        )


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
