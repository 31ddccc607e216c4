"""Proxies registry and search requests of a running command to its tracking server.

The registry exists only on the server. Run searches go to the server, after the values of this run are sent. Other
runs, their metrics and files are requested from the server if the local store does not have them. Responses use local
experiment ids, and local run ids if there are any.
"""

import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final
from urllib.parse import parse_qs, quote

import msgspec

from runner.errors import NotFoundError, RemoteError
from runner.model import Event, EventKind
from runner.protocol.errors import ErrorCode, RefusedError
from runner.store import experiments, models
from runner.store.artifacts import local_folder
from runner.store.entities import LifecycleStage
from runner.sync import sync_state
from runner.sync.artifact_locations import PROXY
from runner.sync.logged_models import location_of_model
from runner.sync.push import Destination, push

_REGISTRY = re.compile(r"(?:registered-models|model-versions)(?:/.*)?")
_SEARCHES = ("runs/search", "logged-models/search", "experiments/get-by-name")
_READING = re.compile(r"runs/get|metrics/get-history|artifacts/list|logged-models/[^/]+")
_PAUSE = 30.0
"""Seconds during which searches use the local store after the server did not respond."""
_RUN_FIELDS = ("run_id", "run_uuid", "source_run_id")
_ID = re.compile(r"m-[0-9a-f]{32}|[0-9a-f]{32}")
_LATER_NAMES = {"registered-models/list": "registered-models/search"}
"""Current names of endpoints that only old clients use."""
_CODES = {400: ErrorCode.INVALID_PARAMETER_VALUE, 401: ErrorCode.PERMISSION_DENIED, 403: ErrorCode.PERMISSION_DENIED}

Fields = dict[str, Any]


@final
class TrackingServer:
    """The tracking server of a run. Its methods wait for the server and may be called from any thread."""

    def __init__(self, to: Destination, run_id: str) -> None:
        self._to = to
        self._run_id = run_id
        self._not_before = 0.0
        self._theirs: dict[str, str] = {}
        self._ours: dict[str, str] = {}

    def is_first(self, path: str) -> bool:
        """Return whether an endpoint is sent to the server first; ``path`` is below ``/api/2.0/mlflow``."""
        return path in _SEARCHES or _REGISTRY.fullmatch(path) is not None

    def is_second(self, method: str, path: str) -> bool:
        """Return whether an endpoint is sent to the server if the local store has no such item."""
        return method == "GET" and _READING.fullmatch(path) is not None

    def ask(self, method: str, path: str, content: bytes) -> bytes | None:
        """Return the server's response with local ids, or None if the local store must respond.

        Args:
            method: the HTTP method.
            path: below ``/api/2.0/mlflow``.
            content: the query of a GET, otherwise the body.

        Raises:
            RefusedError: the server refuses or can't be reached.
        """
        fields = _read(method, content)
        try:
            if path == "experiments/get-by-name":
                self._ensure_local_experiment(str(fields.get("experiment_name", "")))
                return None
            if path == "logged-models/search" and self._has_models(fields):
                return None
            if path == "runs/search":
                return self._search_runs(fields)
            if path == "model-versions/create":
                fields = self._send_registered_files(fields)
            return self._forward(method, _LATER_NAMES.get(path, path), self._with_server_ids(fields))
        except RemoteError as error:
            raise _refusal(error) from error

    def list_files(self, path: str) -> bytes:
        """Return the server's listing of a folder behind its artifact proxy.

        Raises:
            RefusedError: the server returns no listing.
        """
        try:
            return self._to.server.forward("GET", PROXY.removeprefix("/api/"), {"path": path})
        except RemoteError as error:
            raise _refusal(error) from error

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield the content of a file behind the server's artifact proxy in pieces.

        Raises:
            RefusedError: the server does not send the file.
        """
        try:
            yield from self._to.server.download(f"{PROXY}/{quote(path)}")
        except RemoteError as error:
            raise _refusal(error) from error

    def _forward(self, method: str, path: str, fields: Fields) -> bytes:
        """Send a request and return the response with local ids."""
        if method == "GET":
            content = self._to.server.forward(method, f"2.0/mlflow/{path}", query=fields)
        else:
            content = self._to.server.forward(method, f"2.0/mlflow/{path}", body=fields)
        return msgspec.json.encode(self._with_local_ids(msgspec.json.decode(content)))

    def _search_runs(self, fields: Fields) -> bytes | None:
        """Search the runs of the server, which include those of the store; without the server, only the latter."""
        if time.monotonic() < self._not_before:
            return None
        try:
            push(self._to, self._run_id, whole=False)
            request = self._with_server_ids(fields)
            if fields.get("experiment_ids") and not request["experiment_ids"]:
                return None
            return self._forward("POST", "runs/search", request)
        except RemoteError as error:
            if error.status and not error.is_transient:
                raise
            self._not_before = time.monotonic() + _PAUSE
            hint = "only the local store was searched"
            self._to.report(Event(kind=EventKind.WARNING, message=error.message, hint=hint))
            return None

    def _ensure_local_experiment(self, name: str) -> None:
        """Create the local counterpart of an experiment of the server, so that it has a local id."""
        if not name or experiments.find(self._to.database, name) is not None:
            return
        found = self._to.server.experiment_by_name(name)
        if found is not None and found.lifecycle_stage is LifecycleStage.ACTIVE:
            experiments.ensure(self._to.database, name)

    def _has_models(self, fields: Fields) -> bool:
        experiment_ids = tuple(str(each) for each in fields.get("experiment_ids", ()))
        query = models.ModelQuery(experiment_ids=experiment_ids, filter=fields.get("filter") or "", limit=1)
        return bool(models.search(self._to.database, query).items)

    def _send_registered_files(self, fields: Fields) -> Fields:
        """Send the files of a new model version, and return the request with their URI on the server."""
        source = str(fields.get("source") or "")
        destination = self._source_location(source)
        if destination is None:
            return fields
        run_id, model_id, rest = destination
        if run_id is not None:
            push(self._to, run_id, whole=False, files=True)
        copy = sync_state.find_remote_run(self._to.database, run_id or self._run_id, self._to.server.url)
        theirs = location_of_model(self._to.database, copy, model_id) if copy and model_id else None
        if theirs is not None:
            remote_id, uri = theirs
            named = f"models:/{remote_id}" if source.startswith("models:") else uri
            return {**fields, "source": _join(named, rest), "model_id": remote_id}
        if copy is None or copy.artifact_uri is None:
            return fields
        if self._to.server.location(copy.artifact_uri) is None:
            raise RefusedError(
                ErrorCode.INVALID_PARAMETER_VALUE,
                f"The tracking server keeps files in {copy.artifact_uri.partition(':')[0]}: storage, which proj does "
                "not write to, so that what this run made can't be registered there.",
            )
        # On an MLflow 2 server the files of logged models are among those of the run.
        folder = models.get(self._to.database, model_id).name if model_id else ""
        kept = {name: value for name, value in fields.items() if name != "model_id"}
        return {**kept, "source": _join(_join(copy.artifact_uri, folder), rest)}

    def _source_location(self, source: str) -> tuple[str | None, str | None, str] | None:
        """Return the run, the model and the relative path of local artifacts; None for other files."""
        named = re.fullmatch(r"models:/(m-[0-9a-f]{32})(?:/(.*))?", source)
        # The run's own server gives local folders as plain paths.
        folder = Path(source) if source.startswith("/") else local_folder(source)
        parts: tuple[str, ...] = ()
        if named is not None:
            parts = ("models", named[1], "artifacts", *filter(None, (named[2] or "").split("/")))
        elif folder is not None and folder.is_relative_to(self._to.home.root / "runs"):
            parts = folder.relative_to(self._to.home.root / "runs").parts
        if len(parts) > 2 and parts[0] == "models":  # noqa: PLR2004  models, the id, artifacts
            try:
                model = models.get(self._to.database, parts[1])
            except NotFoundError:
                return None
            return model.source_run_id, model.model_id, "/".join(parts[3:])
        return (parts[0], None, "/".join(parts[2:])) if len(parts) > 1 else None

    def _with_server_ids(self, fields: Fields) -> Fields:
        """Return the fields of a request with the server's ids."""
        translated = dict(fields)
        for name in _RUN_FIELDS:
            if isinstance(translated.get(name), str):
                translated[name] = self._server_run_id(translated[name])
        if translated.get("experiment_id") is not None:
            translated["experiment_id"] = self._server_experiment_id(str(translated["experiment_id"])) or "-1"
        if isinstance(translated.get("experiment_ids"), list):
            there = (self._server_experiment_id(str(each)) for each in translated["experiment_ids"])
            translated["experiment_ids"] = [each for each in there if each is not None]
        if isinstance(translated.get("filter"), str):
            translated["filter"] = _ID.sub(lambda found: self._server_run_id(found[0]), translated["filter"])
        return translated

    def _with_local_ids(self, value: Any) -> Any:  # noqa: ANN401  an answer of any shape
        """Return a response with local ids."""
        if isinstance(value, list):
            return [self._with_local_ids(each) for each in value]
        if not isinstance(value, dict):
            return value
        translated = {name: self._with_local_ids(each) for name, each in value.items()}
        for name in _RUN_FIELDS:
            if isinstance(translated.get(name), str) and translated[name]:
                copy = sync_state.find_remote(self._to.database, translated[name], self._to.server.url)
                translated[name] = copy.run_id if copy else translated[name]
        if isinstance(translated.get("experiment_id"), str) and translated["experiment_id"]:
            translated["experiment_id"] = self._local_experiment_id(translated["experiment_id"])
        return translated

    def _server_run_id(self, run_id: str) -> str:
        copy = sync_state.find_remote_run(self._to.database, run_id, self._to.server.url)
        return (copy.remote_run_id if copy else None) or run_id

    def _server_experiment_id(self, experiment_id: str) -> str | None:
        if experiment_id not in self._theirs:
            try:
                name = experiments.get(self._to.database, experiment_id).name
            except NotFoundError:
                return None
            found = self._to.server.experiment_by_name(name)
            if found is None:
                return None
            self._theirs[experiment_id] = found.id
            self._ours[found.id] = experiment_id
        return self._theirs[experiment_id]

    def _local_experiment_id(self, experiment_id: str) -> str:
        if experiment_id not in self._ours:
            name = self._to.server.experiment(experiment_id).name
            self._ours[experiment_id] = experiments.ensure(self._to.database, name)
        return self._ours[experiment_id]


def _read(method: str, content: bytes) -> Fields:
    if method == "GET":
        found = parse_qs(content.decode("latin-1"), keep_blank_values=True)
        return {name: values if name == "experiment_ids" else values[-1] for name, values in found.items()}
    fields = msgspec.json.decode(content or b"{}")
    if not isinstance(fields, dict):
        raise msgspec.ValidationError("Expected `object`")
    return fields


def _refusal(error: RemoteError) -> RefusedError:
    """Return the protocol error for a refusal of the server."""
    known: Mapping[str, ErrorCode] = {code.value: code for code in ErrorCode}
    code = known.get(error.code) or _CODES.get(error.status, ErrorCode.INTERNAL_ERROR)
    if error.is_unknown_endpoint:
        code = ErrorCode.ENDPOINT_NOT_FOUND
    text = " ".join(part for part in (error.message, error.context, error.hint) if part)
    return RefusedError(code, text)


def _join(uri: str, path: str) -> str:
    return f"{uri.rstrip('/')}/{path}" if path else uri
