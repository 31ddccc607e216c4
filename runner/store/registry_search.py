"""Searches registered models and their versions."""

from msgspec import Struct

from runner.base.tags import PROMPT_TAG
from runner.store import registry, versions
from runner.store.database import Database
from runner.store.entities import ModelVersion, Page, RegisteredModel
from runner.store.filters import Kind, Vocabulary, parse_filter
from runner.store.queries import Query, find
from runner.store.search import checked_limit
from runner.store.statements import Fragment, Searchable, ValueTable

_PREFIXES = {
    "attributes": Kind.ATTRIBUTE,
    "attribute": Kind.ATTRIBUTE,
    "tags": Kind.TAG,
    "tag": Kind.TAG,
}
_TIMES = {
    "creation_time": "creation_timestamp",
    "creation_timestamp": "creation_timestamp",
    "last_updated_time": "last_updated_timestamp",
    "last_updated_timestamp": "last_updated_timestamp",
    # The only time attribute that MLflow 1 orders by.
    "timestamp": "last_updated_timestamp",
}
_TIME_COLUMNS = {"creation_timestamp": "created_at", "last_updated_timestamp": "updated_at"}

MODELS = Searchable(
    table="registered_models",
    vocabulary=Vocabulary(prefixes=_PREFIXES, attributes={"name": "name", **_TIMES}, numbers=frozenset(_TIME_COLUMNS)),
    columns={"name": "name", **_TIME_COLUMNS},
    values={Kind.TAG: ValueTable(name="registered_model_tags", column="model")},
    newest="updated_at",
    absent_tags={PROMPT_TAG: "false"},
)

VERSIONS = Searchable(
    table="named_versions",
    vocabulary=Vocabulary(
        prefixes=_PREFIXES,
        attributes={
            "name": "name",
            "version": "version_number",
            "version_number": "version_number",
            "run_id": "run_id",
            "source": "source_path",
            "source_path": "source_path",
            "current_stage": "current_stage",
            "stage": "current_stage",
            "model_id": "model_id",
            **_TIMES,
        },
        numbers=frozenset({"version_number", *_TIME_COLUMNS}),
    ),
    columns={
        "name": "name",
        "version_number": "version",
        "run_id": "run_id",
        "source_path": "source",
        "current_stage": "stage",
        "model_id": "model_id",
        **_TIME_COLUMNS,
    },
    nullable=frozenset({"run_id", "model_id"}),
    values={Kind.TAG: ValueTable(name="model_version_tags", column="version")},
    newest="updated_at",
    absent_tags={PROMPT_TAG: "false"},
)


class RegistryQuery(Struct, frozen=True, kw_only=True):
    """A search for registered models or versions; prompts are found only by a filter that names their tag."""

    filter: str = ""
    order_by: tuple[str, ...] = ()
    limit: int = 1000
    page_token: str | None = None


def search_models(db: Database, query: RegistryQuery) -> Page[RegisteredModel]:
    """Return a page of registered models, by name unless another order is given.

    Raises:
        InvalidValueError: the filter, order, limit or page token is invalid; the context shows the position.
    """
    found = find(db, MODELS, _query(MODELS, query, (*query.order_by, "name ASC")))
    return Page(items=tuple(registry.load(db, found.numbers)), next_page_token=found.next_page_token)


def search_versions(db: Database, query: RegistryQuery) -> Page[ModelVersion]:
    """Return a page of model versions, last changed first unless another order is given.

    Raises:
        InvalidValueError: the filter, order, limit or page token is invalid; the context shows the position.
    """
    first = query.order_by or ("last_updated_timestamp DESC",)
    found = find(db, VERSIONS, _query(VERSIONS, query, (*first, "name ASC", "version_number DESC")))
    return Page(items=tuple(versions.load(db, found.numbers)), next_page_token=found.next_page_token)


def _query(searchable: Searchable, query: RegistryQuery, order_by: tuple[str, ...]) -> Query:
    comparisons = parse_filter(query.filter, searchable.vocabulary)
    asks_for_prompts = any(one.field.kind is Kind.TAG and one.field.key == PROMPT_TAG for one in comparisons)
    return Query(
        scope=() if asks_for_prompts else (_no_prompts(searchable),),
        filter=query.filter,
        order_by=order_by,
        limit=checked_limit(query.limit),
        page_token=query.page_token,
    )


def _no_prompts(searchable: Searchable) -> Fragment:
    table = searchable.values[Kind.TAG]
    prompt = f"SELECT 1 FROM {table.name} a WHERE a.{table.column} = r.id AND a.key = ? AND a.value = 'true'"
    return Fragment(f"NOT EXISTS ({prompt})", (PROMPT_TAG,))
