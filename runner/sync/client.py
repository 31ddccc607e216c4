"""Provides a typed client for MLflow's tracking server protocol."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import final

from runner.errors import RemoteError
from runner.model import RunStatus
from runner.protocol import client_responses
from runner.protocol.client_responses import ResponseT, decode
from runner.protocol.responses import SERVER_VERSION
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
"""Maximum number of items of one kind to read, because a server may return items without end."""
_MAX_PAGES = 1000
"""Maximum number of pages of one listing; a page may have more than a thousand items."""
_EMPTY_PAGES = 20
"""Maximum number of consecutive empty pages."""
_LONGEST = 3600.0
"""Maximum time in seconds for all pages of one listing."""


class ServerRun(entities.Run, frozen=True, kw_only=True):
    """A run with its inputs and outputs."""

    inputs: entities.RunInputs = entities.RunInputs()
    outputs: tuple[entities.ModelOutput, ...] = ()


@final
class RemoteServer:
    """An MLflow tracking server of any version from 2.0, or a `proj server`; any thread may use it.

    Every method raises `RemoteError` if the server refuses or its response is invalid, and `UnreachableError` if there
    is no response. Ids are the server's.
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

    def is_proj(self) -> bool:
        """Return whether the server is a `proj server`."""
        try:
            return self._transport.text("/version").strip() == SERVER_VERSION
        except RemoteError:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def experiment(self, experiment_id: str) -> entities.Experiment:
        """Return the experiment with an id."""
        return self._get(
            "experiments/get", client_responses.OneExperiment, experiment_id=experiment_id
        ).experiment.experiment

    def experiment_by_name(self, name: str) -> entities.Experiment | None:
        """Return the experiment with a name, including deleted ones, or None."""
        try:
            found = self._get("experiments/get-by-name", client_responses.OneExperiment, experiment_name=name)
        except RemoteError as error:
            if error.is_absent:
                return None
            raise
        return found.experiment.experiment

    def experiments(
        self, filter_text: str = "", *, view: entities.View = entities.View.ACTIVE
    ) -> Iterator[entities.Experiment]:
        """Yield the experiments; ``filter_text`` uses MLflow's search language."""
        pages = _Pages(self.url, "experiments", _MAX_EXPERIMENTS)
        while pages.more:
            condition = {"filter": filter_text} if filter_text else {}
            request = {"max_results": _PAGE, "view_type": view.value, **condition, **_token(pages.token)}
            page = self._post("experiments/search", client_responses.Experiments, request, idempotent=True)
            pages.advance(page.next_page_token, len(page.experiments))
            yield from (one.experiment for one in page.experiments)

    def create_experiment(self, name: str, tags: Mapping[str, str] | None = None) -> str:
        """Create an experiment and return its id."""
        body = {"name": name, "tags": _pairs(tags or {})}
        return self._post("experiments/create", client_responses.CreatedExperiment, body).experiment_id

    def run(self, run_id: str) -> ServerRun:
        """Return a run with its latest metric values."""
        return _whole(self._get("runs/get", client_responses.OneRun, run_id=run_id, run_uuid=run_id).run)

    def search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_text: str = "",
        order_by: Sequence[str] = (),
        *,
        view: entities.View = entities.View.ACTIVE,
        limit: int | None = None,
        page: int = _PAGE,
    ) -> Iterator[ServerRun]:
        """Yield matching runs page by page; ``filter_text`` and ``order_by`` use MLflow's search language."""
        pages = _Pages(self.url, "runs", _MAX_RUNS)
        left = limit
        while pages.more and (left is None or left > 0):
            request: dict[str, object] = {
                "experiment_ids": list(experiment_ids),
                "filter": filter_text,
                "run_view_type": view.value,
                "max_results": page if left is None else min(left, page),
                "order_by": list(order_by),
                **_token(pages.token),
            }
            found = self._post("runs/search", client_responses.Runs, request, idempotent=True)
            pages.advance(found.next_page_token, len(found.runs))
            yield from (_whole(one) for one in found.runs[:left])
            left = None if left is None else left - len(found.runs)

    def metric_history(self, run_id: str, key: str) -> Iterator[entities.Metric]:
        """Yield all points of a metric, in the server's order."""
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
            pages.advance(page.next_page_token, len(page.metrics))
            yield from (point.metric for point in page.metrics)

    def create_run(self, new: entities.NewRun) -> ServerRun:
        """Create a run and return it; the server chooses the artifact URI, and the id unless it is a `proj server`."""
        body: dict[str, object] = {
            "experiment_id": new.experiment_id,
            "user_id": new.user,
            "start_time": new.started_at,
            "tags": _pairs(new.tags),
        }
        if new.name:
            body["run_name"] = new.name
        if new.run_id:
            body["proj_run_id"] = new.run_id
        return _whole(self._post("runs/create", client_responses.OneRun, body).run)

    def update_run(
        self, run_id: str, status: RunStatus | None = None, ended_at: int | None = None, name: str | None = None
    ) -> None:
        """Change the status, the end time or the name of a run."""
        given: dict[str, object | None] = {"status": status and _status(status), "end_time": ended_at, "run_name": name}
        changes = {field: value for field, value in given.items() if value is not None}
        self.send("POST", "runs/update", {"run_id": run_id, "run_uuid": run_id, **changes}, idempotent=True)

    def log_batch(
        self,
        run_id: str,
        *,
        metrics: Iterable[entities.Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log at most 1,000 values in total, with at most 100 parameters and 100 tags."""
        body = {
            "run_id": run_id,
            "metrics": [_point(metric) for metric in metrics],
            "params": _pairs(params or {}),
            "tags": _pairs(tags or {}),
        }
        self.send("POST", "runs/log-batch", body)

    def delete_tag(self, run_id: str, key: str) -> None:
        """Remove a tag of a run; a missing tag is not an error."""
        try:
            self.send("POST", "runs/delete-tag", {"run_id": run_id, "key": key}, idempotent=True)
        except RemoteError as error:
            if not error.is_absent:
                raise

    def log_inputs(self, run_id: str, inputs: entities.RunInputs) -> None:
        """Record the inputs of a run."""
        datasets = [{"dataset": _without_none(one.dataset), "tags": _pairs(one.tags)} for one in inputs.datasets]
        models = [{"model_id": model_id} for model_id in inputs.model_ids]
        body = {"run_id": run_id, "datasets": datasets, **({"models": models} if models else {})}
        self.send("POST", "runs/log-inputs", body, idempotent=True)

    def log_outputs(self, run_id: str, outputs: Sequence[entities.ModelOutput]) -> None:
        """Record the logged models that a run made."""
        models = [{"model_id": one.model_id, "step": one.step} for one in outputs]
        self.send("POST", "runs/outputs", {"run_id": run_id, "models": models}, idempotent=True)

    def logged_model(self, model_id: str) -> entities.LoggedModel:
        """Return a logged model."""
        return self._get(f"logged-models/{model_id}", client_responses.OneModel).model.model

    def search_logged_models(
        self, experiment_ids: Sequence[str], filter_text: str = ""
    ) -> Iterator[entities.LoggedModel]:
        """Yield logged models page by page."""
        pages = _Pages(self.url, "logged models", _MAX_MODELS)
        request = {"experiment_ids": list(experiment_ids), "filter": filter_text, "max_results": 50}
        while pages.more:
            page = self._post(
                "logged-models/search", client_responses.Models, {**request, **_token(pages.token)}, idempotent=True
            )
            pages.advance(page.next_page_token, len(page.models))
            yield from (one.model for one in page.models)

    def create_logged_model(self, new: entities.NewModel) -> entities.LoggedModel:
        """Create a logged model and return it; the server chooses the id."""
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
        """Set the final status of a logged model."""
        body = {"model_id": model_id, "status": status.value}
        self.send("PATCH", f"logged-models/{model_id}", body, idempotent=True)

    def set_logged_model_tags(self, model_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a logged model."""
        self.send(
            "PATCH", f"logged-models/{model_id}/tags", {"model_id": model_id, "tags": _pairs(tags)}, idempotent=True
        )

    def location(self, artifact_uri: str) -> ArtifactLocation | None:
        """Return the location of an artifact URI, or None if proj can't access it (s3 and the like)."""
        return find_location(artifact_uri, self._transport)

    def send(self, method: str, path: str, body: Mapping[str, object], *, idempotent: bool = False) -> bytes:
        """Send a changing request; ``idempotent`` requests may be retried."""
        return self._transport.ask(method, _API + path, body=body, idempotent=idempotent)

    def forward(self, method: str, path: str, query: Mapping[str, object] | None = None, body: object = None) -> bytes:
        """Forward a request unchanged and return the JSON of the response; ``path`` is below ``/api``."""
        return self._transport.ask(method, f"/api/{path}", query=query, body=body)

    def download(self, path: str) -> Iterator[bytes]:
        """Yield the content at a path of the server in pieces."""
        return self._transport.pieces(path)

    def _get(self, path: str, schema: type[ResponseT], **query: object) -> ResponseT:
        return decode(self._transport.ask("GET", _API + path, query=query), schema, self.url)

    def _post(
        self, path: str, schema: type[ResponseT], body: Mapping[str, object], *, idempotent: bool = False
    ) -> ResponseT:
        return decode(self._transport.ask("POST", _API + path, body=body, idempotent=idempotent), schema, self.url)


class _Pages:
    """Checks that a paged listing makes progress and ends."""

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

    def advance(self, token: str | None, count: int) -> None:
        """Continue after a page with ``count`` items.

        Raises:
            RemoteError: the server repeats a page, or the listing does not end.
        """
        self._left -= count
        self._pages += 1
        self._empty = 0 if count else self._empty + 1
        self.token = token
        self.more = bool(token)
        if self._left < 0:
            raise self._endless(f"returns more than {self._most:,} {self._what}")
        if self.more and (hash(token) in self._seen or self._empty > _EMPTY_PAGES):
            raise self._endless(f"returns the same page of {self._what} repeatedly")
        if self.more and self._pages >= _MAX_PAGES:
            raise self._endless(f"returns more than {_MAX_PAGES:,} pages of {self._what}")
        if time.monotonic() > self._end:
            raise self._endless(f"did not return all {self._what} within {_LONGEST / 60:.0f} minutes")
        self._seen.add(hash(token))

    def _endless(self, what: str) -> RemoteError:
        return RemoteError(
            f"{self._url} {what}", hint="the server is faulty or malicious; request fewer items with --limit"
        )


def _whole(response: client_responses.RunResponse) -> ServerRun:
    run = response.run
    fields = {name: getattr(run, name) for name in run.__struct_fields__}
    return ServerRun(**fields, inputs=response.read, outputs=response.made)


def _token(token: str | None) -> dict[str, str]:
    return {"page_token": token} if token else {}


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _status(status: RunStatus) -> str:
    """Return MLflow's name of a status; MLflow has no name for LOST."""
    return RunStatus.FAILED.value if status is RunStatus.LOST else status.value


def _point(metric: entities.Metric) -> dict[str, object]:
    """Return the JSON fields of a point; NaN and infinities become strings, which JSON lacks as numbers."""
    value = metric.value
    number: float | str = value
    if value != value:  # noqa: PLR0124  NaN
        number = "NaN"
    elif value in (float("inf"), float("-inf")):
        number = "Infinity" if value > 0 else "-Infinity"
    point: dict[str, object] = {"key": metric.key, "value": number, "timestamp": metric.timestamp, "step": metric.step}
    more = {"model_id": metric.model_id, "dataset_name": metric.dataset_name, "dataset_digest": metric.dataset_digest}
    return {**point, **{name: text for name, text in more.items() if text}}


def _without_none(dataset: entities.Dataset) -> dict[str, str]:
    from msgspec import structs

    return {name: value for name, value in structs.asdict(dataset).items() if value is not None}
