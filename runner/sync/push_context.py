"""Provides the state and helpers shared by the steps of a push."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar
from urllib.parse import unquote

import msgspec
from msgspec import Struct, structs

from runner.errors import RemoteError
from runner.model import Event, EventKind, Report
from runner.settings import Home
from runner.store.database import Database
from runner.sync import sync_state
from runner.sync.artifact_locations import ArtifactLocation
from runner.sync.client import RemoteServer
from runner.sync.sync_state import RemoteRun, SentPosition

Item = TypeVar("Item")

_SENT_TO = ("mlflow-artifacts:", "http:", "https:")
_REFUSALS = (400, 413, 422)
"""HTTP statuses of a permanent refusal."""


class Counts(Struct, frozen=True, kw_only=True):
    """The number of sent items by kind, and the bytes of sent files."""

    parameters: int = 0
    points: int = 0
    tags: int = 0
    datasets: int = 0
    models: int = 0
    files: int = 0
    bytes: int = 0

    @property
    def total(self) -> int:
        """The total number of items."""
        return self.parameters + self.points + self.tags + self.datasets + self.models + self.files


class PushContext(Struct, kw_only=True):
    """The push of one run; ``counts`` and ``left_out`` are updated during the push."""

    database: Database
    home: Home
    server: RemoteServer
    report: Report
    copy: RemoteRun
    whole: bool
    """Whether the run has ended, so that all of it can be sent."""
    files: bool
    """Whether files are sent."""
    counts: Counts = Counts()
    left_out: list[str] = []
    files_left_out: list[str] = []

    @property
    def remote_run_id(self) -> str:
        """The run's id on the server."""
        return self.copy.remote_run_id or ""

    def count(self, **more: int) -> None:
        """Add to the counts."""
        self.counts = structs.replace(
            self.counts, **{name: getattr(self.counts, name) + number for name, number in more.items()}
        )

    def leave_out(self, what: str, why: str) -> None:
        """Report an item that the server refuses; this is not a failure of the push."""
        self.left_out.append(f"{what}: {why}")
        message = f"{self.server.url} does not have all of run {self.copy.run_id[:8]}: {what}"
        self.report(Event(kind=EventKind.NOTICE, message=message, hint=why))

    def leave_out_files(self, what: str, why: str) -> None:
        """Record files that can't be sent; the event is reported once, the result of each push has them."""
        self.files_left_out.append(f"{what}: {why}")
        if self.changed("left out", {what: why}):
            self.leave_out(what, why)
            self.note("left out", {what: why})
        else:
            self.left_out.append(f"{what}: {why}")

    def location(self, artifact_uri: str, owner: str) -> ArtifactLocation | None:
        """Return the artifact location on the server; None, after a report, if it is not accessible.

        The path of a local folder must contain the id of its owner, so that a server can't make proj write elsewhere.
        """
        is_folder = not artifact_uri.startswith(_SENT_TO)
        is_named = owner in unquote(artifact_uri).split("/")
        found = None if is_folder and not is_named else self.server.location(artifact_uri)
        if found is None:
            kind = artifact_uri.partition(":")[0] + ": storage" if ":" in artifact_uri else "a folder"
            self.leave_out_files("its files", f"the server keeps them in {kind}, which proj does not write to")
        return found

    def changed(self, kind: str, pairs: Mapping[str, str]) -> dict[str, str]:
        """Return the items that differ from their state on the server."""
        known = sync_state.sent(self.database, self.copy, kind)
        return {
            name: value for name, value in pairs.items() if name not in known or known[name].digest != digest_of(value)
        }

    def note(self, kind: str, pairs: Mapping[str, str]) -> None:
        """Record the current state of items as sent."""
        sync_state.record_sent(
            self.database, self.copy, kind, {name: SentPosition(digest_of(value)) for name, value in pairs.items()}
        )

    def send_pairs(
        self, kind: str, pairs: Mapping[str, str], limit: int, send: Callable[[dict[str, str]], None]
    ) -> int:
        """Send the changed name-value pairs and return their number; a refused pair is reported once."""
        changed = list(self.changed(kind, pairs).items())
        count = 0
        for start in range(0, len(changed), limit):
            piece = changed[start : start + limit]
            refused = dict(send_or_split(piece, lambda pairs: send(dict(pairs))))
            for (name, _), why in zip(refused, refused.values(), strict=True):
                self.leave_out(f"{kind} '{name}'", why)
            self.note(kind, dict(piece))
            count += len(piece) - len(refused)
        return count


def send_or_split(items: Sequence[Item], send: Callable[[Sequence[Item]], None]) -> list[tuple[Item, str]]:
    """Send a batch; if it is refused, split it in halves. Return the items that are refused alone, with reasons.

    Raises:
        RemoteError: the server fails for another reason.
    """
    try:
        send(items)
    except RemoteError as error:
        if not is_refusal(error):
            raise
        if len(items) == 1:
            return [(items[0], error.message)]
        half = len(items) // 2
        return [*send_or_split(items[:half], send), *send_or_split(items[half:], send)]
    return []


def is_refusal(error: RemoteError) -> bool:
    """Return whether an error is the refusal of this content, not a general failure."""
    return error.status in _REFUSALS and bool(error.code)


def digest_of(value: str) -> str:
    """Return a digest that identifies a text without revealing it."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def as_json(value: object) -> str:
    """Return a value as JSON with sorted keys."""
    return msgspec.json.encode(value, order="sorted").decode()
