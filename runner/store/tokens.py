"""Stores access tokens of the server and their scopes; only digests are stored."""

import hashlib
import re
import secrets
from enum import Enum

from msgspec import Struct

from runner.errors import AlreadyExistsError, InvalidValueError, NotFoundError
from runner.store.database import Database, Row
from runner.store.row_helpers import now

PREFIX = "proj_"
"""The prefix of a token, which makes a leaked token recognizable."""

_NAME = re.compile(r"[\w.@-]{1,64}")


class Scope(str, Enum):
    """The permissions of a token's holder."""

    READ = "read"
    WRITE = "write"


class Token(Struct, frozen=True, kw_only=True):
    """A stored token; ``created_at`` is in milliseconds since 1970."""

    name: str
    scope: Scope
    created_at: int


def add(db: Database, name: str, scope: Scope) -> str:
    """Create a token and return its text, which can't be retrieved later.

    Raises:
        InvalidValueError: the name is invalid.
        AlreadyExistsError: the name is in use.
    """
    if not _NAME.fullmatch(name):
        raise InvalidValueError(
            f"Invalid name of a token: '{name[:80]}'", hint="Use up to 64 letters, digits and any of _ . @ -"
        )
    text = PREFIX + secrets.token_urlsafe(32)
    with db.transaction():
        if db.query("SELECT 1 FROM tokens WHERE name = ?", name):
            raise AlreadyExistsError(f"A token '{name}' already exists", hint="Revoke it, or use another name.")
        db.execute("INSERT INTO tokens VALUES (?, ?, ?, ?)", name, scope.value, _digest(text), now())
    return text


def find(db: Database, text: str) -> Token | None:
    """Return the token with this text, or None."""
    rows = db.query("SELECT * FROM tokens WHERE digest = ?", _digest(text))
    return (
        Token(name=rows[0]["name"], scope=Scope(rows[0]["scope"]), created_at=rows[0]["created_at"]) if rows else None
    )


def any_exist(db: Database) -> bool:
    """Return whether any token exists."""
    return bool(db.query("SELECT 1 FROM tokens LIMIT 1"))


def all_tokens(db: Database) -> tuple[Token, ...]:
    """Return all tokens, by name."""
    rows = db.query("SELECT * FROM tokens ORDER BY name")
    return tuple(_token(row) for row in rows)


def revoke(db: Database, name: str) -> None:
    """Remove a token; a running server refuses it immediately.

    Raises:
        NotFoundError: there is no token with this name.
    """
    if not db.execute("DELETE FROM tokens WHERE name = ?", name):
        raise NotFoundError(f"There is no token '{name[:80]}'", hint="See `proj token list`.")


def _token(row: Row) -> Token:
    return Token(name=row["name"], scope=Scope(row["scope"]), created_at=row["created_at"])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
