"""A remote tracking server, as typed questions and orders."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import final

from runner.errors import RemoteError
from runner.model import RunStatus
from runner.protocol import client_responses
from runner.protocol.client_responses import ResponseT, decode
from runner.store import entities
from runner.sync.access import read_access
from runner.sync.artifact_locations import ArtifactLocation, find_location
from runner.sync.transport import PATIENT, Patience, Transport

_API = "/api/2.0/mlflow/"
_PAGE = 1000
_POINTS = 25_000
_MAX_EXPERIMENTS = 100_000
_MAX_RUNS = 1_000_000
_MAX_POINTS = 20_000_000
_MAX_MODELS = 10_000
"""Things of one kind that a server is listened to: it may go on for ever."""
_MAX_PAGES = 1000
"""Pages of one question: each may have more than a thousand things."""
_EMPTY_PAGES = 20
"""Pages without anything that are read one after the other."""
_LONGEST = 3600.0
"""Seconds that all pages of one question may take."""


class ServerRun(entities.Run, frozen=True, kw_only=True):
    """A run with what it read and made."""

    inputs: entities.RunInputs = entities.RunInputs()
    outputs: tuple[entities.ModelOutput, ...] = ()


@final
class RemoteServer:
    """An MLflow tracking server of any version from 2.0, or a `proj server`; any thread may use it.

    Every method raises `RemoteError` when the server refuses or makes no sense, and its `UnreachableError` when it
    gives no answer. Ids are the server's own.
    """

    def __init__(self, uri: str, environ: Mapping[str, str] = os.environ, *, patience: Patience = PATIENT) -> None:
        self._transport = Transport(read_access(uri, environ), patience)

    @property
    def url(self) -> str:
        """The address of the server, without credentials."""
        return self._transport.access.url

    def __enter__(self) -> "RemoteServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def experiment(self, experiment_id: str) -> entities.Experiment:
        """Return the experiment of an id."""
        return self._get(
            "experiments/get", client_responses.OneExperiment, experiment_id=experiment_id
        ).experiment.experiment

    def experiment_by_name(self, name: str) -> entities.Experiment | None:
        """Return the experiment of a name, also a deleted one; None where there is none."""
        try:
            found = self._get("experiments/get-by-name", client_responses.OneExperiment, experiment_name=name)
        except RemoteError as error:
            if error.is_absent:
                return None
            raise
        return found.experiment.experiment

    def experiments(self, *, view: entities.View = entities.View.ACTIVE) -> Iterator[entities.Experiment]:
        """Yield the experiments."""
        pages = _Pages(self.url, "experiments", _MAX_EXPERIMENTS)
        while pages.more:
            asked = {"max_results": _PAGE, "view_type": view.value, **_token(pages.token)}
            page = self._post("experiments/search", client_responses.Experiments, asked, again=True)
            pages.turn(page.next_page_token, len(page.experiments))
            yield from (one.experiment for one in page.experiments)

    def create_experiment(self, name: str, tags: Mapping[str, str] | None = None) -> str:
        """Make an experiment and return its id."""
        body = {"name": name, "tags": _pairs(tags or {})}
        return self._post("experiments/create", client_responses.CreatedExperiment, body).experiment_id

    def run(self, run_id: str) -> ServerRun:
        """Return a run with its last values."""
        return _whole(self._get("runs/get", client_responses.OneRun, run_id=run_id, run_uuid=run_id).run)

    def search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_text: str = "",
        order_by: Sequence[str] = (),
        *,
        view: entities.View = entities.View.ACTIVE,
        limit: int | None = None,
    ) -> Iterator[ServerRun]:
        """Yield runs as they are found, page by page; ``filter_text`` and ``order_by`` are in MLflow's language."""
        pages = _Pages(self.url, "runs", _MAX_RUNS)
        left = limit
        while pages.more and (left is None or left > 0):
            asked: dict[str, object] = {
                "experiment_ids": list(experiment_ids),
                "filter": filter_text,
                "run_view_type": view.value,
                "max_results": _PAGE if left is None else min(left, _PAGE),
                "order_by": list(order_by),
                **_token(pages.token),
            }
            page = self._post("runs/search", client_responses.Runs, asked, again=True)
            pages.turn(page.next_page_token, len(page.runs))
            yield from (_whole(one) for one in page.runs[:left])
            left = None if left is None else left - len(page.runs)

    def metric_history(self, run_id: str, key: str) -> Iterator[entities.Metric]:
        """Yield all points of a metric, in the order of the server."""
        pages = _Pages(self.url, "points of one metric", _MAX_POINTS)
        while pages.more:
            page = self._get(
                "metrics/get-history",
                client_responses.History,
                run_id=run_id,
                run_uuid=run_id,
                metric_key=key,
                max_results=_POINTS,
                page_token=pages.token,
            )
            pages.turn(page.next_page_token, len(page.metrics))
            yield from (point.metric for point in page.metrics)

    def create_run(self, new: entities.NewRun) -> ServerRun:
        """Open a run and return it; id and artifact URI are the server's choice."""
        body: dict[str, object] = {
            "experiment_id": new.experiment_id,
            "user_id": new.user,
            "start_time": new.started_at,
            "tags": _pairs(new.tags),
        }
        if new.name:
            body["run_name"] = new.name
        return _whole(self._post("runs/create", client_responses.OneRun, body).run)

    def update_run(
        self, run_id: str, status: RunStatus | None = None, ended_at: int | None = None, name: str | None = None
    ) -> None:
        """Change status, end or name of a run."""
        told: dict[str, object | None] = {"status": status and _status(status), "end_time": ended_at, "run_name": name}
        changes = {field: value for field, value in told.items() if value is not None}
        self.order("POST", "runs/update", {"run_id": run_id, "run_uuid": run_id, **changes}, again=True)

    def log_batch(
        self,
        run_id: str,
        *,
        metrics: Iterable[entities.Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log at most 1,000 values in all, of which 100 parameters and 100 tags."""
        body = {
            "run_id": run_id,
            "metrics": [_point(metric) for metric in metrics],
            "params": _pairs(params or {}),
            "tags": _pairs(tags or {}),
        }
        self.order("POST", "runs/log-batch", body)

    def delete_tag(self, run_id: str, key: str) -> None:
        """Remove a tag of a run; one that is not there is no error."""
        try:
            self.order("POST", "runs/delete-tag", {"run_id": run_id, "key": key}, again=True)
        except RemoteError as error:
            if not error.is_absent:
                raise

    def log_inputs(self, run_id: str, inputs: entities.RunInputs) -> None:
        """Store what a run read."""
        datasets = [{"dataset": _without_none(one.dataset), "tags": _pairs(one.tags)} for one in inputs.datasets]
        models = [{"model_id": model_id} for model_id in inputs.model_ids]
        body = {"run_id": run_id, "datasets": datasets, **({"models": models} if models else {})}
        self.order("POST", "runs/log-inputs", body, again=True)

    def log_outputs(self, run_id: str, outputs: Sequence[entities.ModelOutput]) -> None:
        """Store which logged models a run made."""
        models = [{"model_id": one.model_id, "step": one.step} for one in outputs]
        self.order("POST", "runs/outputs", {"run_id": run_id, "models": models}, again=True)

    def logged_model(self, model_id: str) -> entities.LoggedModel:
        """Return a logged model."""
        return self._get(f"logged-models/{model_id}", client_responses.OneModel).model.model

    def search_logged_models(
        self, experiment_ids: Sequence[str], filter_text: str = ""
    ) -> Iterator[entities.LoggedModel]:
        """Yield logged models page by page."""
        pages = _Pages(self.url, "logged models", _MAX_MODELS)
        asked = {"experiment_ids": list(experiment_ids), "filter": filter_text, "max_results": 50}
        while pages.more:
            page = self._post(
                "logged-models/search", client_responses.Models, {**asked, **_token(pages.token)}, again=True
            )
            pages.turn(page.next_page_token, len(page.models))
            yield from (one.model for one in page.models)

    def create_logged_model(self, new: entities.NewModel) -> entities.LoggedModel:
        """Open a logged model and return it; its id is the server's choice."""
        body = {
            "experiment_id": new.experiment_id,
            "name": new.name,
            "model_type": new.model_type,
            "source_run_id": new.source_run_id,
            "params": _pairs(new.params),
            "tags": _pairs(new.tags),
        }
        kept = {field: value for field, value in body.items() if value}
        return self._post("logged-models", client_responses.OneModel, kept).model.model

    def finalize_logged_model(self, model_id: str, status: entities.ModelStatus) -> None:
        """Say that a logged model is complete, or that it failed."""
        body = {"model_id": model_id, "status": status.value}
        self.order("PATCH", f"logged-models/{model_id}", body, again=True)

    def set_logged_model_tags(self, model_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a logged model."""
        self.order("PATCH", f"logged-models/{model_id}/tags", {"model_id": model_id, "tags": _pairs(tags)}, again=True)

    def place(self, artifact_uri: str) -> ArtifactLocation | None:
        """Return where artifacts of this URI are, or None where we can't reach them (s3 and the like)."""
        return find_location(artifact_uri, self._transport)

    def order(self, method: str, path: str, body: Mapping[str, object], *, again: bool = False) -> bytes:
        """Send what changes something; ``again`` says that doing it twice is like doing it once."""
        return self._transport.ask(method, _API + path, body=body, again=again)

    def forward(self, method: str, path: str, query: Mapping[str, object] | None = None, body: object = None) -> bytes:
        """Send a request of the protocol as it is and return the JSON of the answer; ``path`` is below ``/api``."""
        return self._transport.ask(method, f"/api/{path}", query=query, body=body)

    def download(self, path: str) -> Iterator[bytes]:
        """Yield what is at a path of the server piece by piece."""
        return self._transport.pieces(path)

    def _get(self, path: str, schema: type[ResponseT], **query: object) -> ResponseT:
        return decode(self._transport.ask("GET", _API + path, query=query), schema, self.url)

    def _post(
        self, path: str, schema: type[ResponseT], body: Mapping[str, object], *, again: bool = False
    ) -> ResponseT:
        return decode(self._transport.ask("POST", _API + path, body=body, again=again), schema, self.url)


class _Pages:
    """The pages of one question, as far as the server says something new on them."""

    def __init__(self, url: str, what: str, most: int) -> None:
        self._url = url
        self._what = what
        self._left = most
        self._most = most
        self._seen: set[int] = set()
        self._empty = 0
        self._pages = 0
        self._end = time.monotonic() + _LONGEST
        self.token: str | None = None
        self.more = True

    def turn(self, token: str | None, count: int) -> None:
        """Go on to the next page, after one with so many things.

        Raises:
            RemoteError: the server repeats itself, or does not come to an end.
        """
        self._left -= count
        self._pages += 1
        self._empty = 0 if count else self._empty + 1
        self.token = token
        self.more = bool(token)
        if self._left < 0:
            raise self._endless(f"tells of more than {self._most:,} {self._what}")
        if self.more and (hash(token) in self._seen or self._empty > _EMPTY_PAGES):
            raise self._endless(f"sends the same page of {self._what} again and again")
        if self.more and self._pages >= _MAX_PAGES:
            raise self._endless(f"tells its {self._what} on more than {_MAX_PAGES:,} pages")
        if time.monotonic() > self._end:
            raise self._endless(f"has not told all {self._what} in {_LONGEST / 60:.0f} minutes")
        self._seen.add(hash(token))

    def _endless(self, what: str) -> RemoteError:
        return RemoteError(f"{self._url} {what}", hint="it has a fault, or means no good; ask for less with --limit")


def _whole(answer: client_responses.RunResponse) -> ServerRun:
    run = answer.run
    fields = {name: getattr(run, name) for name in run.__struct_fields__}
    return ServerRun(**fields, inputs=answer.read, outputs=answer.made)


def _token(token: str | None) -> dict[str, str]:
    return {"page_token": token} if token else {}


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _status(status: RunStatus) -> str:
    """Say a status; MLflow has no word for a run whose owner is gone."""
    return RunStatus.FAILED.value if status is RunStatus.LOST else status.value


def _point(metric: entities.Metric) -> dict[str, object]:
    """Say a point; NaN and the infinities are strings, as JSON has no such numbers."""
    value = metric.value
    told: float | str = value
    if value != value:  # noqa: PLR0124  NaN
        told = "NaN"
    elif value in (float("inf"), float("-inf")):
        told = "Infinity" if value > 0 else "-Infinity"
    point: dict[str, object] = {"key": metric.key, "value": told, "timestamp": metric.timestamp, "step": metric.step}
    more = {"model_id": metric.model_id, "dataset_name": metric.dataset_name, "dataset_digest": metric.dataset_digest}
    return {**point, **{name: text for name, text in more.items() if text}}


def _without_none(dataset: entities.Dataset) -> dict[str, str]:
    from msgspec import structs

    return {name: value for name, value in structs.asdict(dataset).items() if value is not None}
