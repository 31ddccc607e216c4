"""Tells an observer how far long work has come: digests and downloads."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Observer(Protocol):
    """Shows the progress of work; calls may come from any thread."""

    def begin(self, total: int | None) -> None:
        """Note that work on so many bytes begins; None if their number is not known."""
        ...

    def advance(self, count: int) -> None:
        """Note that so many more bytes are done."""
        ...

    def clear(self) -> None:
        """Remove what is shown."""
        ...


_observers: list[Observer] = []


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Tell the observer about all work until the end of the block."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)
        observer.clear()


@contextmanager
def suspended() -> Iterator[None]:
    """Tell no observer about work until the end of the block, because a command uses the screen."""
    known = tuple(_observers)
    _observers.clear()
    for observer in known:
        observer.clear()
    try:
        yield
    finally:
        _observers.extend(known)


def begin(total: int | None) -> None:
    """Note that work on so many bytes begins."""
    for observer in _observers:
        observer.begin(total)


def advance(count: int) -> None:
    """Note that so many more bytes are done."""
    for observer in _observers:
        observer.advance(count)
