"""Builds pages of run records for listings."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from runner.model import RunRecord
from runner.settings import Home
from runner.store import experiments, runs
from runner.store.database import Database
from runner.store.entities import Run
from runner.store.records import make_record
from runner.store.search import SearchQuery, search_runs
from runner.store.values import params_of_runs


class RecordPage(Struct, frozen=True, kw_only=True):
    """A page of records; ``next_page_token`` is None on the last page."""

    records: tuple[RunRecord, ...]
    next_page_token: str | None = None


def search_records(db: Database, query: SearchQuery, home: Home) -> RecordPage:
    """Return the records of a page of runs, newest first unless ordered otherwise.

    Raises:
        InvalidValueError: the query is invalid.
    """
    detailed = SearchQuery(
        experiment_ids=query.experiment_ids,
        filter=query.filter,
        view=query.view,
        order_by=query.order_by,
        limit=query.limit,
        page_token=query.page_token,
        details=True,
        conditions=query.conditions,
    )
    page = search_runs(db, detailed)
    return RecordPage(records=_records(db, page.items, home), next_page_token=page.next_page_token)


def load_records(db: Database, numbers: Sequence[int], home: Home) -> tuple[RunRecord, ...]:
    """Return the records of the runs with these row numbers, in this order."""
    return _records(db, tuple(runs.load(db, numbers, details=True)), home)


def _records(db: Database, found: tuple[Run, ...], home: Home) -> tuple[RunRecord, ...]:
    names = _experiment_names(db, found)
    stored = params_of_runs(db, [run.run_id for run in found])
    return tuple(make_record(run, names[run.experiment_id], stored.get(run.run_id, ()), home) for run in found)


def _experiment_names(db: Database, found: tuple[Run, ...]) -> Mapping[str, str]:
    numbers = sorted({int(run.experiment_id) for run in found})
    return {experiment.id: experiment.name for experiment in experiments.load(db, numbers)}
