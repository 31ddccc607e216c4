"""Searches runs, their records, and experiments."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from runner.base.tags import PARENT_TAG
from runner.errors import InvalidValueError
from runner.model import RunRecord
from runner.settings import Home
from runner.store import experiments, runs
from runner.store.database import Database
from runner.store.entities import Experiment, Page, Run, View
from runner.store.filters import Kind, Vocabulary
from runner.store.queries import Found, Query, find
from runner.store.records import make_record
from runner.store.row_helpers import VIEWS, experiment_number
from runner.store.statements import Fragment, Searchable, ValueTable
from runner.store.values import params_of_runs

MAX_RESULTS = 50_000
"""Maximum number of runs or experiments in one page."""

_TAGS = {"tags": Kind.TAG, "tag": Kind.TAG}
_ATTRIBUTES = {"attributes": Kind.ATTRIBUTE, "attribute": Kind.ATTRIBUTE, "attr": Kind.ATTRIBUTE}

RUNS = Searchable(
    table="runs",
    vocabulary=Vocabulary(
        prefixes={
            **_ATTRIBUTES,
            **_TAGS,
            "run": Kind.ATTRIBUTE,
            "metrics": Kind.METRIC,
            "metric": Kind.METRIC,
            "params": Kind.PARAM,
            "param": Kind.PARAM,
            "parameters": Kind.PARAM,
            "parameter": Kind.PARAM,
            "datasets": Kind.DATASET,
            "dataset": Kind.DATASET,
        },
        attributes={
            "run_id": "run_id",
            "run_name": "run_name",
            "run name": "run_name",
            "name": "run_name",
            "experiment_id": "experiment_id",
            "status": "status",
            "user_id": "user_id",
            "user": "user_id",
            "artifact_uri": "artifact_uri",
            "start_time": "start_time",
            "created": "start_time",
            "end_time": "end_time",
        },
        numbers=frozenset({"start_time", "end_time"}),
    ),
    columns={
        "run_id": "run_id",
        "run_name": "name",
        "experiment_id": "experiment",
        "status": "status",
        "user_id": "user",
        "artifact_uri": "artifact_uri",
        "start_time": "started_at",
        "end_time": "ended_at",
    },
    nullable=frozenset({"end_time"}),
    values={
        Kind.METRIC: ValueTable(name="metrics", column="run", has_index=True),
        Kind.PARAM: ValueTable(name="params", column="run", has_index=True),
        Kind.TAG: ValueTable(name="tags", column="run", has_index=True),
    },
    newest="started_at",
)

EXPERIMENTS = Searchable(
    table="experiments",
    vocabulary=Vocabulary(
        prefixes={**_ATTRIBUTES, **_TAGS},
        attributes={
            "name": "name",
            "experiment_id": "experiment_id",
            "creation_time": "creation_time",
            "last_update_time": "last_update_time",
        },
        numbers=frozenset({"experiment_id", "creation_time", "last_update_time"}),
    ),
    columns={
        "name": "name",
        "experiment_id": "id",
        "creation_time": "created_at",
        "last_update_time": "updated_at",
    },
    values={Kind.TAG: ValueTable(name="experiment_tags", column="experiment")},
    newest="created_at",
)


class SearchQuery(Struct, frozen=True, kw_only=True):
    """A search for runs; without experiments, all are searched."""

    experiment_ids: tuple[str, ...] | None = None
    filter: str = ""
    view: View = View.ACTIVE
    order_by: tuple[str, ...] = ()
    limit: int = 1000
    page_token: str | None = None
    details: bool = False
    """Whether to load the details of the runs, which can be large."""
    conditions: tuple[Fragment, ...] = ()
    """Conditions that apply in addition to the filter."""


class ExperimentQuery(Struct, frozen=True, kw_only=True):
    """A search for experiments."""

    filter: str = ""
    view: View = View.ACTIVE
    order_by: tuple[str, ...] = ()
    limit: int = 1000
    page_token: str | None = None


class RecordPage(Struct, frozen=True, kw_only=True):
    """A page of records; ``next_page_token`` is None on the last page."""

    records: tuple[RunRecord, ...]
    next_page_token: str | None = None


def search_runs(db: Database, query: SearchQuery) -> Page[Run]:
    """Return a page of runs, newest first unless another order is given.

    Raises:
        InvalidValueError: the filter, order, limit or page token is invalid; the context shows the position.
    """
    found = _find_runs(db, query)
    page = runs.load(db, found.numbers, details=query.details)
    return Page(items=tuple(page), next_page_token=found.next_page_token)


def _find_runs(db: Database, query: SearchQuery) -> Found:
    """Return the row numbers of a page of runs."""
    scope = [view_scope(query.view), *query.conditions]
    if query.experiment_ids is not None:
        numbers = [experiment_number(text) for text in dict.fromkeys(query.experiment_ids)]
        scope.append(experiment_scope(numbers))
    prepared = Query(
        scope=tuple(scope),
        filter=query.filter,
        order_by=query.order_by,
        limit=checked_limit(query.limit),
        page_token=query.page_token,
    )
    return find(db, RUNS, prepared)


def search_records(db: Database, query: SearchQuery, home: Home) -> RecordPage:
    """Return the records of a page of runs, newest first unless ordered otherwise.

    Raises:
        InvalidValueError: the query is invalid.
    """
    found = _find_runs(db, query)
    return RecordPage(records=load_records(db, found.numbers, home), next_page_token=found.next_page_token)


def load_records(db: Database, numbers: Sequence[int], home: Home) -> tuple[RunRecord, ...]:
    """Return the records of the runs with these row numbers, in this order."""
    return _records(db, tuple(runs.load(db, numbers, details=True, with_params=False)), home)


def search_experiments(db: Database, query: ExperimentQuery) -> Page[Experiment]:
    """Return a page of experiments, newest first unless another order is given.

    Raises:
        InvalidValueError: the filter, order, limit or page token is invalid; the context shows the position.
    """
    prepared = Query(
        scope=(view_scope(query.view),),
        filter=query.filter,
        order_by=query.order_by,
        limit=checked_limit(query.limit),
        page_token=query.page_token,
    )
    found = find(db, EXPERIMENTS, prepared)
    return Page(items=tuple(experiments.load(db, list(found.numbers))), next_page_token=found.next_page_token)


def view_scope(view: View) -> Fragment:
    """Return the condition for the lifecycle stages of a view."""
    stages = VIEWS[view]
    return Fragment(f"r.lifecycle_stage IN ({', '.join('?' * len(stages))})", stages)


def experiment_scope(numbers: list[int]) -> Fragment:
    """Return the condition for membership in one of these experiments."""
    if len(numbers) == 1:
        return Fragment("r.experiment = ?", (numbers[0],))
    listed = f"[{', '.join(str(number) for number in numbers)}]"
    return Fragment("r.experiment IN (SELECT value FROM json_each(?))", (listed,))


def folded_scope() -> Fragment:
    """Return the condition that a run has no parent in the store."""
    parent = "SELECT 1 FROM tags t JOIN runs p ON p.run_id = t.value WHERE t.run = r.id AND t.key = ?"
    return Fragment(f"NOT EXISTS ({parent} AND p.lifecycle_stage = 'active' AND p.id <> r.id)", (PARENT_TAG,))


def tag_scope(key: str, value: str, separator: str | None = None) -> Fragment:
    """Return the condition that a tag has a value or, with a separator, begins with both."""
    # The index has the first 64 characters of values, so each condition is given for them as well.
    equal = "SELECT run FROM tags WHERE key = ? AND substr(value, 1, 64) = substr(?, 1, 64) AND value = ?"
    if separator is None:
        return Fragment(f"r.id IN ({equal})", (key, value, value))
    above = f"{value}{separator}"
    below = (
        "SELECT run FROM tags WHERE key = ? AND substr(value, 1, 64) >= substr(?, 1, 64)"
        " AND substr(value, 1, length(?)) = ?"
    )
    return Fragment(f"r.id IN ({equal} UNION {below})", (key, value, value, key, above, above, above))


def checked_limit(limit: int) -> int:
    """Return the page size after checking it.

    Raises:
        InvalidValueError: the size is out of range.
    """
    if not 1 <= limit <= MAX_RESULTS:
        raise InvalidValueError(f"The size of a page must be from 1 to {MAX_RESULTS}; got {limit}")
    return limit


def _records(db: Database, found: tuple[Run, ...], home: Home) -> tuple[RunRecord, ...]:
    names = _experiment_names(db, found)
    stored = params_of_runs(db, [run.run_id for run in found])
    return tuple(make_record(run, names[run.experiment_id], stored.get(run.run_id, ()), home) for run in found)


def _experiment_names(db: Database, found: tuple[Run, ...]) -> Mapping[str, str]:
    numbers = sorted({int(run.experiment_id) for run in found})
    return {experiment.id: experiment.name for experiment in experiments.load(db, numbers)}
