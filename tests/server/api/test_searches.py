"""A search that takes long does not keep other requests waiting, and ends."""

import threading
from collections.abc import Iterator

import pytest

from runner.server import long_requests
from runner.store import models, registry, values
from runner.store.entities import Metric, NewModel
from runner.store.query_limits import SlowQueryError
from runner.store.search import SearchQuery, search_runs
from tests.support.protocol import Client, Stage

LONG = "a" * 4990 + "b"
SLOW = f"tags.k LIKE '%{'a' * 490}b'"
"""A condition that is true, and takes milliseconds."""


@pytest.fixture
def client(stage: Stage) -> Iterator[Client]:
    """Return a client of a server with a long text in a tag of everything that can be searched."""
    experiment = stage.database.insert(
        "INSERT INTO experiments (name, lifecycle_stage, created_at, updated_at) VALUES ('long', 'active', 1, 1)"
    )
    stage.database.execute("INSERT INTO experiment_tags VALUES (?, 'k', ?)", experiment, LONG)
    values.set_tags(stage.database, stage.run_id, {"k": LONG})
    models.create(stage.database, NewModel(experiment_id="0", name="net", tags={"k": LONG}))
    registry.create(stage.database, "net", tags={"k": LONG})
    with stage.socket as socket:
        yield Client(socket)


SEARCHES = {
    "runs/search": {"experiment_ids": ["0"]},
    "experiments/search": {"max_results": 10},
    "logged-models/search": {"experiment_ids": ["0"]},
}


@pytest.mark.parametrize("endpoint", [*SEARCHES, "registered-models/search", "experiments/list"])
@pytest.mark.parametrize("is_long", [False, True])
def test_a_search_gives_the_same_answer_at_once_and_in_a_thread(
    client: Client, monkeypatch: pytest.MonkeyPatch, endpoint: str, is_long: bool
) -> None:
    monkeypatch.setattr(long_requests, "SHORT", -1.0 if is_long else 60.0)
    fields = SEARCHES.get(endpoint, {"max_results": 10})
    condition = {"filter": "tags.k LIKE 'aa%'"}
    reply = (
        client.post(endpoint, **fields, **condition)
        if endpoint in SEARCHES
        else client.get(endpoint, **fields, **condition)
    )
    assert reply.status == 200, reply.json
    found = next(value for value in reply.json.values() if isinstance(value, list))
    assert len(found) == 1


@pytest.mark.parametrize("endpoint", [*SEARCHES, "registered-models/search"])
def test_a_search_without_end_ends_and_others_are_answered_meanwhile(
    client: Client, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setattr(long_requests, "SHORT", 0.005)
    monkeypatch.setattr(long_requests, "LIMIT", 0.02)
    condition = " AND ".join([SLOW] * 100)
    answered = threading.Event()
    ended = threading.Event()
    before: list[bool] = []

    def ask() -> None:
        while not ended.is_set():
            if client.send("GET", "/health").status == 200:
                before.append(not ended.is_set())
                answered.set()

    other = threading.Thread(target=ask)
    other.start()
    try:
        fields = SEARCHES.get(endpoint, {"max_results": 10})
        reply = (
            client.post(endpoint, **fields, filter=condition)
            if endpoint in SEARCHES
            else client.get(endpoint, **fields, filter=condition)
        )
    finally:
        ended.set()
        other.join()
    assert reply.error == (400, "INVALID_PARAMETER_VALUE")
    assert "takes too long" in reply.json["message"]
    assert any(before)
    assert answered.is_set()


def test_the_limit_ends_with_its_block(stage: Stage) -> None:
    values.set_tags(stage.database, stage.run_id, {"k": LONG})
    slow = SearchQuery(experiment_ids=("0",), filter=" AND ".join([SLOW] * 60))
    with stage.database.time_limit(-1), pytest.raises(SlowQueryError, match="too long"):
        search_runs(stage.database, slow)
    assert [run.run_id for run in search_runs(stage.database, slow).items] == [stage.run_id]


@pytest.mark.parametrize("endpoint", ["metrics/get-history-bulk", "metrics/get-history-bulk-interval"])
def test_histories_of_many_runs_have_the_limit(
    client: Client, stage: Stage, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    points = [Metric(key="m", value=step, timestamp=1, step=step) for step in range(1000)]
    values.log_metrics(stage.database, stage.run_id, points)
    fields = {"metric_key": "m", "run_id": stage.run_id, "run_ids": stage.run_id, "max_results": 1000}
    assert len(client.get(endpoint, **fields).json["metrics"]) == 1000
    monkeypatch.setattr(long_requests, "LIMIT", -1.0)
    assert client.get(endpoint, **fields).error == (400, "INVALID_PARAMETER_VALUE")
