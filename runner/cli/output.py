"""What the reading commands share: the open store, words that mean runs, and how values look to people."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime

from runner.cli.home import enter_home, warn_of_lost_store
from runner.model import Code, EnvironmentRecord, RunRecord
from runner.settings import Home
from runner.store import runs
from runner.store.database import Database

_UNITS = ("B", "kB", "MB", "GB", "TB")
_THOUSAND = 1000
_MINUTE = 60
_HOUR = 3600
_NAMED = 2
"""Repairs and departures that are named in one line."""


@contextmanager
def open_store() -> Iterator[tuple[Database, Home]]:
    """Open the store of the user's home to change something; runs whose process is gone are marked as lost first."""
    home = enter_home(writing=True)
    warn_of_lost_store(home)
    with closing(Database.open(home.database)) as database:
        runs.mark_lost(database)
        yield database, home


@contextmanager
def read_store() -> Iterator[tuple[Database, Home]]:
    """Open the store of the user's home to read it; nothing is written, and lost runs are shown as such."""
    home = enter_home()
    warn_of_lost_store(home)
    with closing(Database.open_to_read(home.database)) as database:
        runs.show_lost(database)
        yield database, home


def clean(text: str) -> str:
    """Return text without what would steer a terminal: control characters become visible."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def how_declared(environment: EnvironmentRecord, *, named: bool = True) -> str:
    """Say in a few words how near an environment is to the one that the project declares, ``named`` also in what."""
    repairs, departures = environment.repairs, environment.departures
    if repairs:
        return f"not as declared: {_count(repairs, 'repair', named=named)}"
    if departures:
        return f"as declared, but for {_count(departures, 'thing', named=named)}"
    if environment.manager == "local":
        return "as it was found"
    return "as declared" if environment.declared else "none is declared"


def _count(told: Sequence[str], word: str, *, named: bool) -> str:
    count = f"{len(told)} {word}{'s' * (len(told) != 1)}"
    if not named:
        return count
    more = f"; and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    return f"{count}: {clean('; '.join(told[:_NAMED]))}{more}"


def size(count: int) -> str:
    """Return a number of bytes in words."""
    number = float(count)
    for unit in _UNITS:
        if number < _THOUSAND or unit == _UNITS[-1]:
            break
        number /= _THOUSAND
    return f"{count} B" if unit == "B" else f"{number:.1f} {unit}"


def local_time(moment: str | None) -> str:
    """Return an RFC 3339 time as the clock on the wall shows it."""
    return (
        datetime.fromisoformat(moment.replace("Z", "+00:00")).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        if moment
        else ""
    )


def duration(record: RunRecord) -> str:
    """Return how long a run took; empty while it goes on."""
    if record.started_at is None or record.ended_at is None:
        return ""
    start, end = (
        datetime.fromisoformat(moment.replace("Z", "+00:00")) for moment in (record.started_at, record.ended_at)
    )
    seconds = (end - start).total_seconds()
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    if seconds < _HOUR:
        return f"{int(seconds // _MINUTE)} min {int(seconds % _MINUTE)} s"
    return f"{int(seconds // _HOUR)} h {int(seconds % _HOUR // _MINUTE)} min"


def short_code(code: Code | None) -> str:
    """Return the short name of a run's code; a star says that it differs from its commit."""
    if code is None:
        return ""
    return f"{(code.commit or code.tree)[:10]}{'*' if code.commit and code.dirty else ''}"
