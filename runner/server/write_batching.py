"""Changes that clients ask for at the same moment, committed together; each is answered when it is safe."""

import asyncio
from collections.abc import Callable

from runner.store.database import Database


class Writes:
    """The changes that one event loop makes in a store.

    A commit costs as much as the change itself, or far more where the disk is slow. Requests that arrived together are
    answered in one turn of the loop; their changes are committed at its end. A request that is alone waits for nobody.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[asyncio.Future[None]] = []
        self._is_due = False

    async def make(self, change: Callable[[], object]) -> object:
        """Make a change, and return what it returned as soon as it is committed.

        Raises:
            StoreError: it can't be committed; then it has not taken effect.
        """
        try:
            with self._database.batching():
                answer = change()
        finally:
            if self._database.has_batch and not self._is_due:
                self._is_due = True
                asyncio.get_running_loop().call_soon(self._commit)
        if self._is_due:
            await self._committed()
        return answer

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
        except Exception as error:  # noqa: BLE001  it becomes the answer of each request
            fault = error
        for one in waiting:
            if one.done():
                continue
            if fault is None:
                one.set_result(None)
            else:
                one.set_exception(fault)
