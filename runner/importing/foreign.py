"""Defines the content of an MLflow store as values of the local store; experiment ids are the foreign ones."""

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from runner.base.masking import STARS, Masker
from runner.errors import InvalidValueError
from runner.model import Event, EventKind, Parameter, Report, RunStatus
from runner.store.entities import (
    Experiment,
    LoggedModel,
    Metric,
    ModelOutput,
    ModelStatus,
    ModelVersion,
    RegisteredModel,
    Run,
    RunInputs,
)
from runner.store.rules import check_name, check_value

_STATUSES = {
    1: RunStatus.RUNNING,
    2: RunStatus.SCHEDULED,
    3: RunStatus.FINISHED,
    4: RunStatus.FAILED,
    5: RunStatus.KILLED,
}
"""The status numbers of MLflow's protocol, used in its file store."""

_MODEL_STATUSES = {1: ModelStatus.PENDING, 2: ModelStatus.READY, 3: ModelStatus.FAILED}


class Files(Struct, frozen=True, kw_only=True):
    """The location of artifacts: their URI, and their local folder if there is one."""

    uri: str
    folder: Path | None = None
    is_missing: bool = False
    """Whether there may be artifacts in a location that can't be accessed."""


class ForeignRun(Struct, frozen=True, kw_only=True):
    """A run of a foreign store."""

    run: Run
    deleted_at: int | None = None
    inputs: RunInputs = RunInputs()
    outputs: tuple[ModelOutput, ...] = ()
    files: Files


class ForeignModel(Struct, frozen=True, kw_only=True):
    """A logged model of a foreign store."""

    model: LoggedModel
    deleted: bool = False
    files: Files


class Registration(Struct, frozen=True, kw_only=True):
    """A registered model of a foreign store; ``last_version`` is the greatest version number ever assigned."""

    model: RegisteredModel
    versions: tuple[ModelVersion, ...] = ()
    last_version: int = 0


class ForeignStore(Protocol):
    """A store to import from. Unreadable content raises `TransferError` with its location."""

    uri: str

    def experiment_keys(self) -> Iterable[str]:
        """Return the keys of the experiments in this store, including deleted ones."""
        ...

    def experiment(self, key: str) -> Experiment:
        """Return an experiment."""
        ...

    def run_keys(self, experiment: Experiment) -> Iterable[str]:
        """Return the keys of the runs of an experiment in this store."""
        ...

    def run(self, experiment: Experiment, key: str) -> ForeignRun:
        """Return a run without its metric points."""
        ...

    def points(self, experiment: Experiment, key: str) -> Iterator[Metric]:
        """Yield every point of every metric of a run."""
        ...

    def model_keys(self, experiment: Experiment) -> Iterable[str]:
        """Return the ids of the logged models of an experiment."""
        ...

    def model(self, experiment: Experiment, key: str) -> ForeignModel:
        """Return a logged model."""
        ...

    def registration_keys(self) -> Iterable[str]:
        """Return the keys of the registered models in this store."""
        ...

    def registration(self, key: str) -> Registration:
        """Return a registered model with its versions."""
        ...

    def close(self) -> None:
        """Release the resources used for reading."""
        ...


def run_status(written: object) -> RunStatus | None:
    """Return the run status for a number or a name of MLflow, or None if it is unknown."""
    if isinstance(written, int):
        return _STATUSES.get(written)
    text = str(written).upper()
    return _STATUSES.get(int(text)) if text.isdecimal() else next((one for one in RunStatus if one.value == text), None)


def model_status(written: object) -> ModelStatus:
    """Return the status of a logged model for a number; unknown numbers mean not ready."""
    return _MODEL_STATUSES.get(written, ModelStatus.PENDING) if isinstance(written, int) else ModelStatus.PENDING


def as_measured(value: float) -> float:
    """Return a metric value; MLflow's databases store infinity as the largest double."""
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else float(value)


class Values:
    """Converts values for the local store: skips invalid values with a warning and masks credentials."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._masker = Masker()

    def params(self, pairs: Iterable[tuple[str, str]], owner: str) -> Mapping[str, str]:
        """Return the parameters, by name."""
        usable = self._usable("parameter", pairs, owner)
        return {
            name: STARS if value == STARS else self._masker.value(Parameter(name=name, value=value))
            for name, value in usable
        }

    def tags(self, pairs: Iterable[tuple[str, str]], owner: str) -> Mapping[str, str]:
        """Return the tags, by name."""
        return {name: self._masker.text(value) for name, value in self._usable("tag", pairs, owner)}

    def text(self, text: str) -> str:
        """Return a text with credentials masked."""
        return self._masker.text(text)

    def warn(self, message: str, hint: str | None = None) -> None:
        """Warn the user about a skipped item."""
        self._report(Event(kind=EventKind.WARNING, message=message, hint=hint))

    def _usable(self, what: str, pairs: Iterable[tuple[str, str]], owner: str) -> Iterator[tuple[str, str]]:
        for name, value in sorted(pairs):
            if self.is_usable(what, name, value, owner):
                yield name, value

    def is_usable(self, what: str, name: str, value: str, owner: str) -> bool:
        """Return whether a value can be stored; if not, warn with the reason."""
        try:
            check_value(what, check_name(what, name), value)
        except InvalidValueError as error:
            self.warn(f"Skipped: {error.message}", f"It is in {owner}.")
            return False
        return True
