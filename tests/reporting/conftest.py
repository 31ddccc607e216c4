"""Runs with curves, in a store that the test has to itself."""

from collections.abc import Callable, Sequence

import pytest

from runner.model import RunDetails, RunStatus
from runner.runs.local import LocalReader
from runner.settings import Home
from runner.store import experiments, runs, values
from runner.store.database import Database
from runner.store.entities import Metric, NewRun

START = 1_700_000_000_000
"""Milliseconds since 1970 at which the runs of these tests start: 2023-11-14 22:13:20 UTC."""

MakeRun = Callable[..., str]


@pytest.fixture
def reader(db: Database, home: Home) -> LocalReader:
    return LocalReader(db, home)


@pytest.fixture
def make_run(db: Database) -> MakeRun:
    """Return a function that makes a finished run from metric → values, one value per step and second."""

    def make(
        name: str, curves: dict[str, Sequence[float]], params: dict[str, str] | None = None, **details: object
    ) -> str:
        experiment = experiments.ensure(db, str(details.pop("experiment", "Default")))
        tags = details.pop("tags", {})
        found = RunDetails(**details)  # type: ignore[arg-type]
        assert isinstance(tags, dict)
        run = NewRun(experiment_id=experiment, name=name, started_at=START, details=found, tags=tags)
        run_id = runs.create(db, run).run_id
        values.log_params(db, run_id, list((params or {}).items()))
        for metric, logged in curves.items():
            points = [
                Metric(key=metric, value=value, timestamp=START + 1000 * step, step=step)
                for step, value in enumerate(logged)
            ]
            values.log_metrics(db, run_id, points)
        runs.update(db, run_id, status=RunStatus.FINISHED, ended_at=START + 2500)
        return run_id

    return make
