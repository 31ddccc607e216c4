"""Searches runs, their records, and experiments."""

from collections.abc import Mapping

from msgspec import Struct, structs

from runner.errors import InvalidValueError
from runner.model import RunRecord
from runner.settings import Home
from runner.store import experiments, runs
from runner.store.database import Database
from runner.store.entities import Experiment, Page, Run, View
from runner.store.filters import Kind, Vocabulary
from runner.store.queries import Query, find
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
    scope = [view_scope(query.view)]
    if query.experiment_ids is not None:
        numbers = [experiment_number(text) for text in dict.fromkeys(query.experiment_ids)]
        scope.append(experiment_scope(numbers))
    question = Query(
        scope=tuple(scope),
        filter=query.filter,
        order_by=query.order_by,
        limit=checked_limit(query.limit),
        page_token=query.page_token,
    )
    found = find(db, RUNS, question)
    page = runs.load(db, found.numbers, details=query.details)
    return Page(items=tuple(page), next_page_token=found.next_page_token)


def search_records(db: Database, query: SearchQuery, home: Home) -> RecordPage:
    """Return the records of a page of runs, newest first unless ordered otherwise.

    Raises:
        InvalidValueError: the query is invalid.
    """
    page = search_runs(db, structs.replace(query, details=True))
    names = _experiment_names(db, page.items)
    stored = params_of_runs(db, [run.run_id for run in page.items])
    records = [make_record(run, names[run.experiment_id], stored.get(run.run_id, ()), home) for run in page.items]
    return RecordPage(records=tuple(records), next_page_token=page.next_page_token)


def search_experiments(db: Database, query: ExperimentQuery) -> Page[Experiment]:
    """Return a page of experiments, newest first unless another order is given.

    Raises:
        InvalidValueError: the filter, order, limit or page token is invalid; the context shows the position.
    """
    question = Query(
        scope=(view_scope(query.view),),
        filter=query.filter,
        order_by=query.order_by,
        limit=checked_limit(query.limit),
        page_token=query.page_token,
    )
    found = find(db, EXPERIMENTS, question)
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


def checked_limit(limit: int) -> int:
    """Return the page size after checking it.

    Raises:
        InvalidValueError: the size is out of range.
    """
    if not 1 <= limit <= MAX_RESULTS:
        raise InvalidValueError(f"The size of a page must be from 1 to {MAX_RESULTS}; got {limit}")
    return limit


def _experiment_names(db: Database, found: tuple[Run, ...]) -> Mapping[str, str]:
    numbers = sorted({int(run.experiment_id) for run in found})
    return {experiment.id: experiment.name for experiment in experiments.load(db, numbers)}
