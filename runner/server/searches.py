"""Responds to searches: short ones at once, long ones in a thread with a time limit.

A filter of a few kilobytes can compare long texts for hours, and other requests would wait.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from runner.store.database import Database
from runner.store.query_limits import SlowQueryError

SHORT = 0.1
"""Seconds that a search may take on the event loop; then it starts again in a thread."""

LIMIT = 20.0
"""Seconds that the queries of a search may take."""

_WORKERS = 2


async def search(database: Database, work: Callable[[], object]) -> object:
    """Return the result of a search.

    Raises:
        SlowQueryError: the search takes longer than the limit.
    """
    try:
        with database.time_limit(SHORT):
            return work()
    except SlowQueryError:
        return await asyncio.get_running_loop().run_in_executor(_workers(), _within_limit, database, work)


def _within_limit(database: Database, work: Callable[[], object]) -> object:
    with database.time_limit(LIMIT):
        return work()


@cache
def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_WORKERS, thread_name_prefix="proj-searches")
