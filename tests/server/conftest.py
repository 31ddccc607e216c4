"""What the tests of the servers share."""

from collections.abc import Iterator

import pytest

from runner.settings import Home
from runner.store.database import Database
from tests.support.protocol import Client, Stage


@pytest.fixture
def stage(home: Home, db: Database) -> Stage:
    """Return the home and its database with the server of a run, which has not started."""
    return Stage(home, db)


@pytest.fixture
def client(stage: Stage) -> Iterator[Client]:
    """Return a client of the server of the run."""
    with stage.socket as socket:
        yield Client(socket)
