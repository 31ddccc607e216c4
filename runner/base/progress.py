"""Tells an observer how far long work has come: digests, transfers, fetches and unpacking."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Observer(Protocol):
    """Shows the progress of work; calls may come from any thread."""

    def begin(self, total: int | None, what: str = "") -> None:
        """Note that work on so many items begins, None if unknown; ``what`` names the items, "" means bytes."""
        ...

    def advance(self, count: int) -> None:
        """Note that so many more items are done."""
        ...

    def clear(self) -> None:
        """Remove what is shown; it appears again if the work goes on."""
        ...

    def suspend(self) -> None:
        """Remove what is shown, and show nothing until `resume` is called."""
        ...

    def resume(self) -> None:
        """Show progress again."""
        ...


_observers: list[Observer] = []
_wholes: list[str] = []
"""What the work that is shown as a whole consists of, the outermost first."""


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
        observer.suspend()
    try:
        yield
    finally:
        _observers.extend(known)
        for observer in known:
            observer.resume()


def is_observed() -> bool:
    """Return whether anybody sees progress, so that it is worth asking a program for it."""
    return bool(_observers)


def begin(total: int | None, what: str = "") -> None:
    """Note that work on so many items begins; ``what`` names them, by default they are bytes."""
    if not _wholes:
        for observer in _observers:
            observer.begin(total, what)


def advance(count: int) -> None:
    """Note that so many more items are done."""
    if not _wholes:
        for observer in _observers:
            observer.advance(count)


def clear() -> None:
    """Remove what is shown, because something else is printed."""
    for observer in _observers:
        observer.clear()


@contextmanager
def whole(total: int, what: str = "") -> Iterator[Callable[[int], None]]:
    """Show one bar for work of many parts until the end of the block; its parts have none of their own.

    The block gets the function that notes what is done.
    """
    begin(total, what)
    is_outer = not _wholes
    _wholes.append(what)

    def done(count: int) -> None:
        if is_outer:
            for observer in _observers:
                observer.advance(count)

    try:
        yield done
    finally:
        _wholes.pop()
