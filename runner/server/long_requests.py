"""Runs requests that can take long in threads, so that other requests do not wait.

Each kind has its own few threads: requests of one kind wait for each other.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import msgspec

from runner.protocol.errors import Response
from runner.store.database import Database
from runner.store.query_limits import SlowQueryError

SHORT = 0.1
"""Seconds that a search may take on the event loop; then it starts again in a thread."""

LIMIT = 20.0
"""Seconds that the queries of one request may take in a thread."""

_WORKERS = 2

_Result = TypeVar("_Result")


async def search(database: Database, work: Callable[[], object]) -> object:
    """Return the result of a search, or the whole response of a long one.

    A filter of a few kilobytes can compare long texts for hours.

    Raises:
        SlowQueryError: the search takes longer than the limit.
    """
    try:
        with database.time_limit(SHORT):
            return work()
    except SlowQueryError:
        return await _in_thread("search", lambda: _within_limit(database, work))


async def read_histories(database: Database, work: Callable[[], object]) -> Response:
    """Return the response with histories, which can have millions of values.

    Raises:
        SlowQueryError: reading them takes longer than the limit.
    """
    return await _in_thread("history", lambda: _within_limit(database, work))


async def list_files(work: Callable[[], object]) -> Response:
    """Return the response with a folder, which can have hundreds of thousands of entries."""
    return await _in_thread("list", lambda: _encoded(work()))


async def remove_files(work: Callable[[], None]) -> None:
    """Remove files, which can be as many."""
    await _in_thread("remove", work)


def _within_limit(database: Database, work: Callable[[], object]) -> Response:
    with database.time_limit(LIMIT):
        return _encoded(work())


def _encoded(content: object) -> Response:
    return Response(200, msgspec.json.encode(content))


async def _in_thread(kind: str, work: Callable[[], _Result]) -> _Result:
    return await asyncio.get_running_loop().run_in_executor(_workers(kind), work)


@cache
def _workers(kind: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_WORKERS, thread_name_prefix=f"proj-{kind}")
