"""Searches with names that no run has are answered with the names that were probably meant."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import InvalidValueError
from runner.model import Parameter
from runner.runs.local import LocalReader
from runner.runs.reader import RunQuery
from runner.runs.unknown_names import search_explained
from runner.settings import Home
from runner.store import runs, values
from runner.store.database import Database
from runner.store.entities import Metric, NewRun


@pytest.fixture
def reader(home: Home) -> Iterator[LocalReader]:
    with closing(Database.open(home.database)) as database:
        run_id = runs.create(database, NewRun(name="one", tags={"team": "blue"})).run_id
        values.record_parameters(database, run_id, [Parameter(name="learning-rate", value="0.1", type="float")])
        metrics = [Metric(key=key, value=0.5, timestamp=1) for key in ("log_loss", "val/acc", "learning-rate")]
        values.log_metrics(database, run_id, metrics)
        yield LocalReader(database, home)


def said(reader: LocalReader, **query: object) -> list[str]:
    messages: list[str] = []
    search_explained(reader, RunQuery(**query), messages.append)  # type: ignore[arg-type]
    return messages


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"filter": "metrics.logloss < 1"}, "no run has the metric 'logloss'; did you mean metrics.log_loss?"),
        ({"filter": "metrics.Log_Loss < 1"}, "no run has the metric 'Log_Loss'; did you mean metrics.log_loss?"),
        ({"filter": "params.log_loss = '1'"}, "no run has the parameter 'log_loss'; did you mean metrics.log_loss?"),
        ({"filter": "tags.taem = 'blue'"}, "no run has the tag 'taem'; did you mean tags.team?"),
        ({"order_by": ("metrics.logloss DESC",)}, "no run has the metric 'logloss'; did you mean metrics.log_loss?"),
        ({"filter": "metrics.zzzzzzzz < 1"}, "no run has the metric 'zzzzzzzz'"),
    ],
)
def test_an_unknown_name_is_reported(reader: LocalReader, query: dict[str, object], message: str) -> None:
    assert said(reader, **query) == [message]


@pytest.mark.parametrize(
    "query",
    [
        {"filter": "metrics.log_loss > 1"},  # known, but no run matches
        {"filter": "metrics.`val/acc` > 1 AND tags.team = 'blue'"},
        {"order_by": ("metrics.log_loss", "params.`learning-rate`")},
        {"filter": "tags.`mlflow.user` = 'x'", "order_by": ()},
        {},
    ],
)
def test_known_names_are_not_reported(reader: LocalReader, query: dict[str, object]) -> None:
    assert [one for one in said(reader, **query) if "mlflow.user" not in one] == []


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("log_loss < 1", "did you mean metrics.log_loss?"),
        ("learning_rate = '1'", "did you mean metrics.learning-rate or params.learning-rate?"),
        ("strat_time > 1", "Did you mean start_time?"),
    ],
)
def test_an_unknown_attribute_may_be_a_metric_or_a_parameter(reader: LocalReader, text: str, hint: str) -> None:
    with pytest.raises(InvalidValueError) as error:
        said(reader, filter=text)
    assert error.value.hint == hint


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(kind=st.sampled_from(["metrics", "params", "tags"]), key=st.text(min_size=1, max_size=30))
def test_any_name_is_answered(reader: LocalReader, kind: str, key: str) -> None:
    """Whatever is searched, the answer is a result, a message, or an error for users."""
    comparison = "> 1" if kind == "metrics" else "= '1'"
    try:
        messages = said(reader, filter=f"{kind}.`{key}` {comparison}", order_by=(f"{kind}.`{key}`",))
    except InvalidValueError:
        return
    assert len(messages) <= 1
