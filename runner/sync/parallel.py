"""Runs several tasks in parallel and does not wait for hanging ones after a failure."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_parallel(
    work: Callable[[Item], Result], items: Iterable[Item], count: int, name: str
) -> Iterator[tuple[Item, Result]]:
    """Yield items with their results as they are done, ``count`` at a time.

    The first error is raised, and no further item is started. The threads are daemons, because those of
    ``concurrent.futures`` keep the process alive while they hang, also after an interruption.
    """
    waiting = deque(items)
    total = len(waiting)
    done: SimpleQueue[tuple[Item, Result | None, BaseException | None]] = SimpleQueue()

    def work_off() -> None:
        while True:
            try:
                item = waiting.popleft()
            except IndexError:
                return
            try:
                done.put((item, work(item), None))
            except BaseException as error:  # noqa: BLE001  it is raised where the results are taken
                done.put((item, None, error))

    for _ in range(min(count, total)):
        threading.Thread(target=work_off, name=name, daemon=True).start()
    try:
        for _ in range(total):
            item, result, error = done.get()
            if error is not None:
                raise error
            yield item, result  # type: ignore[misc]  # a result exists if there is no error
    finally:
        waiting.clear()
