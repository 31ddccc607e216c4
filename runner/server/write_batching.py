"""Commits the changes of concurrent requests together (group commit)."""

import asyncio
from collections.abc import Callable

from runner.store.database import Database


class WriteBatcher:
    """Applies the changes of the requests of one event loop.

    A commit costs as much as the change itself, and far more on a slow disk. Requests that arrive together are handled
    in one turn of the event loop, and their changes are committed at its end. A single request does not wait.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[asyncio.Future[None]] = []
        self._is_due = False

    async def make(self, change: Callable[[], object]) -> object:
        """Apply a change, and return its result when it is committed.

        Raises:
            StoreError: the commit failed; the change has no effect.
        """
        try:
            with self._database.batching():
                response = change()
        finally:
            if self._database.has_batch and not self._is_due:
                self._is_due = True
                asyncio.get_running_loop().call_soon(self._commit)
        if self._is_due:
            await self._committed()
        return response

    def _committed(self) -> "asyncio.Future[None]":
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        return waiting

    def _commit(self) -> None:
        self._is_due = False
        waiting, self._waiting = self._waiting, []
        fault: Exception | None = None
        try:
            self._database.commit_batch()
        except Exception as error:  # noqa: BLE001  it becomes the response to each request
            fault = error
        for one in waiting:
            if one.done():
                continue
            if fault is None:
                one.set_result(None)
            else:
                one.set_exception(fault)
