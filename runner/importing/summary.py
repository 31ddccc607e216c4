"""Counts the results of an import."""

from collections import Counter
from enum import Enum

from msgspec import Struct

from runner.importing.copying import Copied
from runner.model import Event, EventKind, Report
from runner.store.import_writer import Change

_SHOWN = 20
"""Maximum number of warnings shown; the JSON output has more."""
_MOST_NOTICES = 1000


class Kind(str, Enum):
    """The kinds of counted items."""

    EXPERIMENTS = "experiments"
    RUNS = "runs"
    MODELS = "logged models"
    REGISTERED = "registered models"
    VERSIONS = "model versions"


class Count(Struct, frozen=True, kw_only=True):
    """The number of items of a kind, by result."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    own: int = 0
    """Present but not imported, or a version whose number is in use; left unchanged."""
    failed: int = 0

    @property
    def total(self) -> int:
        """The number of items in the foreign store."""
        return self.added + self.updated + self.unchanged + self.own + self.failed


class Summary(Struct, frozen=True, kw_only=True):
    """The result of an import: the JSON of ``proj import --json``.

    ``elsewhere`` lists the URIs of artifacts of runs and models that are not on this machine.
    """

    source: str
    experiments: Count
    runs: Count
    models: Count
    registered_models: Count
    model_versions: Count
    points: int
    artifacts: Copied
    elsewhere: tuple[str, ...]
    warnings: tuple[str, ...]
    errors: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether nothing failed."""
        return not self.errors

    @property
    def is_empty(self) -> bool:
        """Whether everything was present before the import."""
        counts = (self.experiments, self.runs, self.models, self.registered_models, self.model_versions)
        changed = sum(count.added + count.updated for count in counts)
        return not (changed or self.model_versions.own or self.points or self.artifacts.files or self.errors)


class ImportSummary:
    """Counts the results during an import and forwards events; limits the number of warnings."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._counts: dict[Kind, Counter[str]] = {kind: Counter() for kind in Kind}
        self._warnings: list[str] = []
        self._errors: list[str] = []
        self._notified = 0
        self.points = 0
        self.artifacts = Copied()
        self.elsewhere: list[str] = []

    def count(self, kind: Kind, change: Change) -> None:
        """Count the result for an item."""
        self._counts[kind][change.value] += 1

    def fail(self, kind: Kind, message: str, hint: str | None = None) -> None:
        """Count an item that could not be imported, and report the reason."""
        self._counts[kind]["failed"] += 1
        message = _printable(message)
        self._errors.append(message)
        self._notify(Event(kind=EventKind.WARNING, message=message, hint=hint))

    def warn(self, message: str) -> None:
        """Report a skipped item."""
        self.report(Event(kind=EventKind.WARNING, message=message))

    def report(self, event: Event) -> None:
        """Forward an event and store it if it is a warning."""
        event = Event(kind=event.kind, message=_printable(event.message), hint=event.hint and _printable(event.hint))
        if event.kind is EventKind.WARNING and len(self._warnings) < _MOST_NOTICES:
            self._warnings.append(f"{event.message} ({event.hint})" if event.hint else event.message)
        self._notify(event)

    def summary(self, source: str) -> Summary:
        """Return the counts."""
        if self._notified > _SHOWN:
            more = self._notified - _SHOWN
            self._report(Event(kind=EventKind.WARNING, message=f"… and {more} more such messages; see --json"))
        counts = {kind: self._count(kind) for kind in Kind}
        return Summary(
            source=source,
            experiments=counts[Kind.EXPERIMENTS],
            runs=counts[Kind.RUNS],
            models=counts[Kind.MODELS],
            registered_models=counts[Kind.REGISTERED],
            model_versions=counts[Kind.VERSIONS],
            points=self.points,
            artifacts=self.artifacts,
            elsewhere=tuple(self.elsewhere),
            warnings=tuple(self._warnings),
            errors=tuple(self._errors),
        )

    def _count(self, kind: Kind) -> Count:
        return Count(**self._counts[kind])

    def _notify(self, event: Event) -> None:
        if event.kind is EventKind.WARNING:
            self._notified += 1
            if self._notified > _SHOWN:
                return
        self._report(event)


def _printable(text: str) -> str:
    """Return text that any stream can encode, without terminal control characters; file names may contain anything."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
