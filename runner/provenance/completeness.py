"""Says why the observed inputs of a run may be incomplete."""

from collections.abc import Iterable, Iterator

from runner.provenance.events import Events, addresses, programs_without_hook

_MOST_NAMED = 5


def reasons_of_hook(events: Events, *, plain_python: bool, is_limited: bool) -> tuple[str, ...]:
    """Return why the trace hook may have missed inputs; there is always a reason.

    ``plain_python`` means that the command is one Python and nothing else. ``is_limited`` means that not all files
    could be watched.
    """
    return (*_programs(events, plain_python=plain_python), *_common(events), *_watch(is_limited=is_limited))


def _programs(events: Events, *, plain_python: bool) -> Iterator[str]:
    if not events.pythons:
        yield "no Python of the command loaded the hook"
    elif not plain_python:
        yield "programs that the shell starts are seen only if they are Pythons of the environment"
    without = programs_without_hook(events)
    if without:
        yield f"{_counted(sum(without.values()), 'program')} ran without the hook: {_listed(without)}"
    if events.native:
        yield f"native readers were loaded, whose files are seen only if they were watched: {_listed(events.native)}"
    elif events.pythons and not without:
        yield "files that compiled code opens are seen only if they were watched"
    if events.unresolved:
        yield f"{_counted(events.unresolved, 'name')} relative to a folder could not be resolved"


def _common(events: Events) -> Iterator[str]:
    far = list(addresses(events))
    if far:
        yield f"connected to {_counted(len(far), 'host')}, whose data has no digest: {_listed(far)}"
    if events.is_cut:
        yield "more files were opened than are noted"
    if events.damaged:
        yield f"{_counted(events.damaged, 'note')} of opened files could not be read"


def _watch(*, is_limited: bool) -> Iterator[str]:
    if is_limited:
        yield "not all files that git ignores could be watched"


def reasons_of_trace(events: Events) -> tuple[str, ...]:
    """Return what the tracer saw and could not follow; nothing if it followed every file that was opened."""
    if not events.is_whole:
        return ("the trace was interrupted", *_common(events))
    unfollowed = (f"{what}: {count} times" for what, count in sorted(events.faults.items()))
    return (*unfollowed, *_common(events))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _MOST_NAMED} more" if len(ordered) > _MOST_NAMED else ""
    return ", ".join(ordered[:_MOST_NAMED]) + more
