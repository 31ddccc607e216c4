"""Opens the store for commands, and formats sizes, times and code for people."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime

from runner.base.durations import format_duration
from runner.base.plurals import counted
from runner.cli.home import enter_home, warn_of_lost_store
from runner.cli.text import printable
from runner.model import Code, EnvironmentRecord, RunRecord
from runner.settings import Home
from runner.store import lost_runs
from runner.store.database import Database

_UNITS = ("B", "kB", "MB", "GB", "TB")
_THOUSAND = 1000
_NAMED = 2
"""Repairs and departures that one line names; the rest is counted."""


@contextmanager
def open_store() -> Iterator[tuple[Database, Home]]:
    """Open the user's store for writing; runs whose process no longer exists are marked LOST first."""
    home = enter_home(writing=True)
    warn_of_lost_store(home)
    with closing(Database.open(home.database)) as database:
        lost_runs.mark_lost(database)
        yield database, home


@contextmanager
def read_store() -> Iterator[tuple[Database, Home]]:
    """Open the user's store read-only; runs whose process no longer exists are shown as LOST."""
    home = enter_home()
    warn_of_lost_store(home)
    with closing(Database.open_to_read(home.database)) as database:
        lost_runs.show_lost(database)
        yield database, home


def declaration_summary(environment: EnvironmentRecord, *, named: bool = True) -> str:
    """Summarise how an environment deviates from its declaration; ``named`` adds the first deviations."""
    repairs, departures = environment.repairs, environment.departures
    if repairs:
        return f"not as declared: {_listed(repairs, 'repair', named=named)}"
    if departures:
        return f"as declared, with {_listed(departures, 'deviation', named=named)}"
    if environment.manager == "local":
        return "an existing environment"
    return "as declared" if environment.declared else "none declared"


def _listed(changes: Sequence[str], noun: str, *, named: bool) -> str:
    count = counted(len(changes), noun)
    if not named:
        return count
    more = f"; and {len(changes) - _NAMED} more" if len(changes) > _NAMED else ""
    return f"{count}: {printable('; '.join(changes[:_NAMED]))}{more}"


def size(count: int) -> str:
    """Format a number of bytes."""
    number = float(count)
    for unit in _UNITS:
        if number < _THOUSAND or unit == _UNITS[-1]:
            break
        number /= _THOUSAND
    return f"{count} B" if unit == "B" else f"{number:.1f} {unit}"


def local_time(moment: str | None) -> str:
    """Format an RFC 3339 time in the local time zone."""
    return (
        datetime.fromisoformat(moment.replace("Z", "+00:00")).astimezone().isoformat(" ", "seconds")[:19]
        if moment
        else ""
    )


def short_time(moment: str | None) -> str:
    """Format an RFC 3339 time in the local time zone for a narrow column: without the year if it is this one."""
    if not moment:
        return ""
    found = datetime.fromisoformat(moment.replace("Z", "+00:00")).astimezone()
    return found.strftime("%m-%d %H:%M" if found.year == datetime.now().astimezone().year else "%Y-%m-%d")


def seconds(record: RunRecord) -> float | None:
    """Return how long a run took; None while it is running."""
    if record.started_at is None or record.ended_at is None:
        return None
    start, end = (
        datetime.fromisoformat(moment.replace("Z", "+00:00")) for moment in (record.started_at, record.ended_at)
    )
    return (end - start).total_seconds()


def duration(record: RunRecord) -> str:
    """Format how long a run took; empty while it is running."""
    took = seconds(record)
    return "" if took is None else format_duration(took)


def short_code(code: Code | None) -> str:
    """Return the short id of a run's code, with a star when the code differs from its commit."""
    if code is None:
        return ""
    return f"{(code.commit or code.tree)[:10]}{'*' if code.commit and code.dirty else ''}"
