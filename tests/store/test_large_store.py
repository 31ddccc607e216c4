"""Tests large stores: long histories, wide runs, many files, many runs. No table is read as a whole."""

import itertools
import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runner.settings import Home
from runner.store import lost_runs, runs
from runner.store.database import Database
from runner.store.entities import NewRun, View
from runner.store.search import SearchQuery, search_runs
from tests.support.protocol import API
from tests.support.standalone_server import RunningServer, standalone_server

pytestmark = pytest.mark.slow

POINTS = 1_000_000
RUNS = 100_000
METRICS = 2_000
FILES = 10_000
PAGE = 1000

# What a server may take more than before, in megabytes, whatever it is asked.
GROWTH = 60

COUNT = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT ?)"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Return a home with many runs, each with a parameter, a metric and a tag."""
    home = Home(tmp_path_factory.mktemp("large"))
    with closing(Database.open(home.database)) as db, db.transaction():
        db.execute(
            f"""INSERT INTO runs (run_id, experiment, name, user, status, started_at, ended_at, artifact_uri)
            {COUNT} SELECT printf('%032x', i), 0, 'run ' || i, 'u', 'FINISHED', 1000 + i, 2000 + i, 'file:///x'
            FROM n""",
            RUNS,
        )
        db.execute("INSERT INTO params (run, key, value) SELECT id, 'p', started_at % 10 FROM runs")
        db.execute("INSERT INTO tags SELECT id, 'mlflow.runName', name FROM runs")
        db.execute("INSERT INTO metrics SELECT id, 'loss', (started_at * 7919) % 100003, 1, 1 FROM runs")
    return home


@pytest.fixture(scope="module")
def server(large: Home) -> Iterator[RunningServer]:
    with standalone_server(large.root, "--quiet", PROJ_HOME=str(large.root)) as standalone:
        assert standalone.send("GET", "/health").status == 200
        yield standalone


@pytest.fixture
def db(large: Home) -> Iterator[Database]:
    with closing(Database.open(large.database)) as database:
        yield database


def megabytes(standalone: RunningServer) -> float:
    """Return the peak memory of a server."""
    if not Path("/proc/self/status").exists():
        return 0.0
    status = Path(f"/proc/{standalone.process.pid}/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@pytest.fixture(scope="module")
def long_run(large: Home, server: RunningServer) -> str:
    """Return a run with a very long metric history."""
    made: str = server.post("runs/create", experiment_id="0").json["run"]["info"]["run_id"]
    with closing(Database.open(large.database)) as db:
        (number,) = db.query("SELECT id FROM runs WHERE run_id = ?", made)[0]
        db.execute(
            f"INSERT INTO points (run, key, step, timestamp, value, nan) {COUNT} SELECT ?, 'm', i, i, i, 0 FROM n",
            POINTS,
            number,
        )
    return made


def test_a_long_history_is_downsampled(server: RunningServer, long_run: str) -> None:
    before = megabytes(server)
    found = server.get("metrics/get-history-bulk-interval", run_ids=long_run, metric_key="m", max_results=1000)
    steps = [point["step"] for point in found["metrics"]]
    assert (len(steps), steps[0], steps[-1]) == (1000, 0, POINTS - 1)
    gaps = {after - before for before, after in itertools.pairwise(steps)}
    assert max(gaps) - min(gaps) <= 1
    zoomed = server.get(
        "metrics/get-history-bulk-interval", run_ids=long_run, metric_key="m", start_step=500_000, end_step=500_009
    )
    assert [point["step"] for point in zoomed["metrics"]] == list(range(500_000, 500_010))
    assert len(server.get("metrics/get-history-bulk", run_id=long_run, metric_key="m")["metrics"]) == 25_000
    assert megabytes(server) - before < GROWTH


def test_a_long_history_is_streamed_completely(server: RunningServer, long_run: str) -> None:
    """Old clients send no limit and request no second page."""
    before = megabytes(server)
    reply = server.send("GET", f"{API}metrics/get-history?run_id={long_run}&metric_key=m")
    assert reply.headers["Transfer-Encoding"] == "chunked"
    points = json.loads(reply.body)["metrics"]
    assert [points[number]["step"] for number in (0, 4999, 5000, -1)] == [0, 4999, 5000, POINTS - 1]
    assert len(points) == POINTS
    assert megabytes(server) - before < GROWTH


def test_a_long_history_is_returned_page_by_page(server: RunningServer, long_run: str) -> None:
    token, steps = "", []
    while not steps or token:
        page = server.get("metrics/get-history", run_id=long_run, metric_key="m", max_results=50_000, page_token=token)
        steps += [point["step"] for point in page["metrics"]]
        token = page.get("next_page_token", "")
    assert steps == list(range(POINTS))


def test_a_wide_run(server: RunningServer) -> None:
    run_id = server.post("runs/create", experiment_id="0").json["run"]["info"]["run_id"]
    for start in range(0, METRICS, 1000):
        metrics = [{"key": f"m{n}", "value": n, "timestamp": 1, "step": 0} for n in range(start, start + 1000)]
        assert server.post("runs/log-batch", run_id=run_id, metrics=metrics).status == 200
    told = server.get("runs/get", run_id=run_id)["run"]["data"]["metrics"]
    assert {point["key"]: point["value"] for point in told} == {f"m{n}": n for n in range(METRICS)}
    found = server.post("runs/search", experiment_ids=["0"], filter=f"metrics.m{METRICS - 1} = {METRICS - 1}").json
    assert [run["info"]["run_id"] for run in found["runs"]] == [run_id]
    assert len(found["runs"][0]["data"]["metrics"]) == METRICS


def test_a_run_with_many_files(server: RunningServer, large: Home) -> None:
    info = server.post("runs/create", experiment_id="0").json["run"]["info"]
    root = large.artifacts(info["run_id"])
    for number in range(FILES):
        path = root / f"part{number % 10}" / f"{number:05}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    listed = server.get("artifacts/list", run_id=info["run_id"])["files"]
    assert [(one["path"], one["is_dir"]) for one in listed] == [(f"part{number}", True) for number in range(10)]
    part = server.get("artifacts/list", run_id=info["run_id"], path="part3")["files"]
    assert [one["path"] for one in part] == [f"part3/{number:05}.txt" for number in range(3, FILES, 10)]
    folder = f"{info['artifact_uri'].partition(':/')[2]}/part3"
    proxied = json.loads(server.send("GET", f"/api/2.0/mlflow-artifacts/artifacts?path={folder}").body)["files"]
    assert [one["path"] for one in proxied] == [f"{number:05}.txt" for number in range(3, FILES, 10)]


def test_paging_returns_every_run_once(server: RunningServer) -> None:
    before = megabytes(server)
    seen: list[str] = []
    losses: list[float] = []
    token = ""
    while not seen or token:
        page = server.post(
            "runs/search",
            experiment_ids=["0"],
            filter="metrics.loss >= 0",
            order_by=["metrics.loss DESC"],
            max_results=PAGE,
            page_token=token,
        ).json
        seen += [run["info"]["run_id"] for run in page["runs"]]
        losses += [run["data"]["metrics"][0]["value"] for run in page["runs"]]
        token = page.get("next_page_token", "")
    assert len(seen) == len(set(seen)) == RUNS
    assert losses == sorted(losses, reverse=True)
    assert megabytes(server) - before < GROWTH


QUESTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("runs/search", {"experiment_ids": ["0"], "max_results": PAGE}),
    (
        "runs/search",
        {"experiment_ids": ["0"], "max_results": PAGE, "filter": "params.p = '3' AND metrics.loss < 50000"},
    ),
    ("runs/search", {"experiment_ids": ["0"], "max_results": PAGE, "order_by": ["tags.`mlflow.runName` ASC"]}),
    ("runs/search", {"experiment_ids": ["0"], "max_results": PAGE, "filter": "attributes.run_name LIKE '%7'"}),
    ("experiments/search", {"max_results": PAGE}),
)


@pytest.mark.parametrize(("endpoint", "question"), QUESTIONS)
def test_a_page_costs_a_page(server: RunningServer, endpoint: str, question: dict[str, Any]) -> None:
    before = megabytes(server)
    assert server.post(endpoint, **question).status == 200
    assert megabytes(server) - before < GROWTH


def test_a_question_reads_the_rows_of_a_page(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    query = Database.query

    def counting(self: Database, sql: str, *args: object) -> Any:
        rows = query(self, sql, *args)
        counts.append(len(rows))
        return rows

    monkeypatch.setattr(Database, "query", counting)
    for condition in ("", "metrics.loss > 10", "params.p = '3'", "tags.mlflow.runName LIKE 'run 9%'"):
        for order in ((), ("metrics.loss DESC",), ("params.p ASC", "attributes.start_time DESC")):
            for view in View:
                page = search_runs(db, SearchQuery(filter=condition, order_by=order, limit=100, view=view))
                assert len(page.items) == (0 if view is View.DELETED else 100)
    lost_runs.mark_lost(db)
    runs.get(db, "0" * 32)
    # One more run than the page has, and the metrics of a wide one.
    assert max(counts) <= 101 + METRICS


def test_a_run_more_is_found_at_once(db: Database, server: RunningServer) -> None:
    run_id = runs.create(db, NewRun(name=f"newest {os.getpid()}")).run_id
    found = server.post("runs/search", experiment_ids=["0"], max_results=1).json["runs"]
    assert found[0]["info"]["run_id"] == run_id
