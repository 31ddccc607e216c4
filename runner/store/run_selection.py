"""Finds the run that a reference of the user selects: an id, a name, ``latest``, ``latest~1`` or ``@TAG``."""

import re
from collections.abc import Callable
from shlex import quote

from msgspec import Struct

from runner.base.suggestions import near_words
from runner.base.tags import ORIGIN_TAG, PARENT_TAG, TREE_TAG
from runner.errors import InvalidValueError, NotFoundError
from runner.store.database import Database, Row
from runner.store.row_helpers import RUN_ID, now, run_number
from runner.store.statements import Fragment

LATEST = "latest"
"""The reference that selects the newest run that proj started at top level."""
CLOCK_SKEW = 60_000
"""Permitted clock skew of clients in milliseconds; a run with a later start is not the latest yet."""

Notify = Callable[[str], None]
"""A function that shows a message to the user."""

MAX_LISTED = 5
"""Runs that a message about several matching runs lists."""
_MOST_NAMES = 1000
"""The newest runs whose names are compared with one that does not exist."""
_SHORTEST = 4
"""Characters of an id from which on it is looked up in the trash."""
_BACK = re.compile(r"(?P<reference>.+)~(?P<back>\d{1,6})")
BEGINNING = re.compile(r"[0-9a-f]{1,31}")
_NESTED = f"EXISTS (SELECT 1 FROM tags t WHERE t.run = runs.id AND t.key = '{PARENT_TAG}')"
_STARTED = f"EXISTS (SELECT 1 FROM tags t WHERE t.run = runs.id AND t.key = '{TREE_TAG}')"
_COPIED = f"EXISTS (SELECT 1 FROM tags t WHERE t.run = runs.id AND t.key = '{ORIGIN_TAG}')"
_LATEST_RUNS = (f"{_STARTED} AND NOT {_NESTED} AND NOT {_COPIED}", f"NOT {_NESTED}", "1")
"""The conditions for ``latest``; the first one that any run meets counts."""


class RunReference(Struct, frozen=True):
    """A reference that selects a run: what is searched, and how many matching runs before the newest one are meant.

    ``back`` is None without ``~N``. With ``tag`` the run has this tag, with ``value`` also that value of it; otherwise
    ``text`` is ``latest`` or a name.
    """

    text: str
    back: int | None = None
    tag: str | None = None
    value: str | None = None

    @property
    def is_latest(self) -> bool:
        """Whether the reference is ``latest``, without respect to names."""
        return self.text == LATEST


def parse_reference(reference: str) -> RunReference:
    """Return the parts of a reference: ``NAME~2`` counts back from the newest run, ``@TAG=VALUE`` is a tag."""
    match = _BACK.fullmatch(reference)
    text, back = (match["reference"], int(match["back"])) if match else (reference, None)
    if not text.startswith("@") or text == "@":
        return RunReference(text, back)
    tag, equals, value = text[1:].partition("=")
    return RunReference(text, back, tag, value if equals else None)


def resolve(db: Database, reference: str, notify: Notify | None = None) -> str:
    """Return the id of the run that a reference selects.

    Deleted runs are found by their complete id only. If several runs have the name, it means the newest one, and
    ``say`` gets a message; without ``say`` a name must be unique.

    Raises:
        NotFoundError: no run matches.
        InvalidValueError: several runs match; the message lists some.
    """
    try:
        return _select(db, reference, notify)
    except NotFoundError as error:
        hint = _absence_hint(db, reference) if is_text(reference) else error.hint
        raise NotFoundError(error.message, hint=hint) from error


def _select(db: Database, reference: str, notify: Notify | None) -> str:
    if RUN_ID.fullmatch(reference):
        run_number(db, reference)
        return reference
    if not is_text(reference):
        return _only([], reference)
    parts = parse_reference(reference)
    if parts.is_latest:
        return _only(_latest(db, parts.back or 0), reference)
    whole = _named(db, Fragment("name = ?", (reference,)), 0)
    if not whole and BEGINNING.fullmatch(reference):
        return _unique(_named(db, Fragment("run_id >= ? AND run_id < ?", (reference, f"{reference}g")), 0), reference)
    if whole or (parts.tag is None and parts.back is None):
        return _newest(whole, reference, notify)
    condition = Fragment("name = ?", (parts.text,)) if parts.tag is None else _tagged(parts.tag, parts.value)
    found = _named(db, condition, parts.back or 0)
    return _newest(found, reference, notify) if parts.back is None else _only(found, reference)


def _absence_hint(db: Database, reference: str) -> str:
    """Return what may have been meant by a reference that selects no run."""
    rows = db.query("SELECT name, lifecycle_stage FROM runs ORDER BY started_at DESC LIMIT ?", _MOST_NAMES)
    if not rows:
        return "No run is recorded yet; `proj run` records one."
    deleted = db.query(
        "SELECT 1 FROM runs WHERE lifecycle_stage = 'deleted' AND (name = ? OR substr(run_id, 1, ?) = ?) LIMIT 1",
        reference,
        max(len(reference), _SHORTEST),
        reference,
    )
    if deleted:
        return f"It is in the trash; `proj restore {quote(reference)}` restores it."
    near = near_words(reference, {row["name"] for row in rows if row["lifecycle_stage"] == "active"}, most=2)
    return f"Did you mean {' or '.join(near)}? See `proj list`." if near else "See `proj list`."


def is_text(reference: str) -> bool:
    """Return whether a reference is valid text; on the command line, invalid bytes become surrogate escapes."""
    try:
        reference.encode()
    except UnicodeEncodeError:
        return False
    return True


def _tagged(tag: str, value: str | None) -> Fragment:
    condition = "id IN (SELECT run FROM tags WHERE key = ?"
    if value is None:
        return Fragment(f"{condition})", (tag,))
    return Fragment(f"{condition} AND value = ?)", (tag, value))


def _named(db: Database, condition: Fragment, back: int) -> list[Row]:
    """Return the newest active runs that meet a condition, without the first ``back`` ones."""
    sql = f"SELECT run_id, name FROM runs WHERE lifecycle_stage = 'active' AND {condition.sql}"
    return db.query(f"{sql} ORDER BY started_at DESC, id DESC LIMIT ? OFFSET ?", *condition.args, MAX_LISTED + 1, back)


def _latest(db: Database, back: int) -> list[Row]:
    """Return the run that was started last; a run dated in the future only if there is no other."""
    for soon in (Fragment("started_at <= ?", (now() + CLOCK_SKEW,)), Fragment("1")):
        for condition in _LATEST_RUNS:
            scope = Fragment(f"{soon.sql} AND {condition}", soon.args)
            found = _named(db, scope, back)
            if found or _named(db, scope, 0):
                return found
    return []


def _only(found: list[Row], reference: str) -> str:
    if not found:
        raise NotFoundError(f"There is no run '{reference}'", hint="See `proj list`.")
    return str(found[0]["run_id"])


def _newest(found: list[Row], reference: str, notify: Notify | None) -> str:
    if len(found) < 2 or notify is None:  # noqa: PLR2004
        return _unique(found, reference)
    count = f"{len(found)} runs" if len(found) <= MAX_LISTED else f"more than {MAX_LISTED} runs"
    notify(newest_message(reference, count, str(found[0]["run_id"])))
    return str(found[0]["run_id"])


def newest_message(reference: str, count: str, run_id: str) -> str:
    """Return the message that a reference selects the newest of several runs."""
    return f"'{reference}' selects {count}; this is the newest, {run_id[:8]} ('{reference}~1' is the one before)"


def _unique(found: list[Row], reference: str) -> str:
    run_id = _only(found, reference)
    if len(found) > 1:
        raise several(reference, [(row["run_id"], row["name"]) for row in found])
    return run_id


def several(reference: str, found: list[tuple[str, str]]) -> InvalidValueError:
    """Return the error that several runs match a reference; ``found`` are ids and names."""
    shown = [f"{run_id[:12]} {name}" for run_id, name in found[:MAX_LISTED]]
    return InvalidValueError(
        f"Several runs match '{reference}'",
        context="\n".join([*shown, "…"] if len(found) > MAX_LISTED else shown),
        hint="Use a longer part of the id.",
    )
