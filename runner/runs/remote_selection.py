"""Finds the run on a tracking server that a reference of the user selects."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from runner.base.tags import PARENT_TAG, RUN_ID_TAG, TREE_TAG
from runner.errors import NotFoundError, RemoteError
from runner.store.row_helpers import RUN_ID, now
from runner.store.run_selection import (
    BEGINNING,
    CLOCK_SKEW,
    MAX_LISTED,
    Notify,
    RunReference,
    is_text,
    newest_message,
    parse_reference,
    several,
)
from runner.sync.client import RemoteServer, ServerRun

_NEWEST = ("attributes.start_time DESC",)
_PAGE = 50

Search = Callable[[str], Iterator[ServerRun]]
"""A function that yields the runs that meet a condition, newest first."""


def find_run(
    server: RemoteServer, reference: str, experiment_ids: Sequence[str] | None, notify: Notify | None
) -> ServerRun:
    """Return the run that a reference selects; an id may be the one that the run had in proj before it was pushed.

    If several runs have the name, it means the newest one, and ``say`` gets a message; without ``say`` a name must be
    unique. Without ``experiment_ids`` they are read from the server.

    Raises:
        NotFoundError: no run matches.
        InvalidValueError: several runs match; the message lists some.
    """
    if RUN_ID.fullmatch(reference):
        try:
            return server.run(reference)
        except RemoteError as error:
            if not error.is_absent:
                raise
    ids = [one.id for one in server.experiments()] if experiment_ids is None else list(experiment_ids)

    def search(condition: str) -> Iterator[ServerRun]:
        return server.search_runs(ids, condition, _NEWEST, page=_PAGE) if ids else iter(())

    found = _search_all(search, reference) if is_text(reference) else []
    if not found:
        raise NotFoundError(f"There is no run '{reference}' on {server.url}", hint="See `proj list`.")
    parts = parse_reference(reference)
    if len(found) == 1 or parts.is_latest or parts.back is not None:
        return found[0]
    is_named = parts.tag is not None or found[0].name == reference
    if notify is None or not is_named:
        raise several(reference, [(run.run_id, run.name) for run in found])
    count = f"{len(found)} runs" if len(found) <= MAX_LISTED else f"more than {MAX_LISTED} runs"
    notify(newest_message(reference, count, found[0].run_id))
    return found[0]


def _search_all(search: Search, reference: str) -> list[ServerRun]:
    """Return the matching runs, newest first, at most one more than a message lists."""
    parts = parse_reference(reference)
    if parts.is_latest:
        return _latest(search, parts.back or 0)
    for condition, back in _conditions(reference, parts):
        found = list(islice(search(condition), back, back + MAX_LISTED + 1))
        if found:
            return found
    return []


def _latest(search: Search, back: int) -> list[ServerRun]:
    """Return the run that was started last at top level, by proj if possible; see `run_selection.resolve`."""
    soon = f"attributes.start_time <= {now() + CLOCK_SKEW}"
    for condition in (f"{soon} AND tags.`{TREE_TAG}` LIKE '%'", soon, ""):
        top = (run for run in search(condition) if PARENT_TAG not in run.tags)
        found = list(islice(top, back + 1))
        if found:
            return found[back:]
    return list(islice(search(""), back, back + 1))


def _conditions(reference: str, parts: RunReference) -> Iterator[tuple[str, int]]:
    """Yield the search conditions for a reference with the number of runs to pass over, the most likely one first."""
    if RUN_ID.fullmatch(reference):
        yield f"tags.`{RUN_ID_TAG}` = '{reference}'", 0
    elif parts.tag is None:
        yield from _named(reference, 0)
        if parts.back is not None:
            yield from _named(parts.text, parts.back)
    elif "`" not in parts.tag and parts.tag.isprintable() and parts.value is None:
        yield f"tags.`{parts.tag}` LIKE '%'", parts.back or 0
    elif "`" not in parts.tag and parts.tag.isprintable():
        yield from ((f"tags.`{parts.tag}` = {value}", parts.back or 0) for value in _quoted(parts.value or ""))
    if BEGINNING.fullmatch(reference):
        yield f"attributes.run_id LIKE '{reference}%'", 0
        yield f"tags.`{RUN_ID_TAG}` LIKE '{reference}%'", 0


def _named(name: str, back: int) -> Iterator[tuple[str, int]]:
    return ((f"attributes.run_name = {value}", back) for value in _quoted(name) if name)


def _quoted(text: str) -> Iterator[str]:
    """Yield a text in the quotes that it does not contain; the language has no escapes."""
    quote = "'" if "'" not in text else '"'
    if quote not in text and text.isprintable():
        yield f"{quote}{text}{quote}"
