"""Defines the schema of the store as small named steps. A released step is never edited; add another step."""

import sqlite3
import time

from msgspec import Struct


class Migration(Struct, frozen=True, kw_only=True):
    """One step of the schema.

    A step that only adds tables, indexes or views is compatible with older programs. ``breaks_readers`` and
    ``breaks_writers`` mark a step after which a program that does not know it would read or write wrong data; such a
    program refuses the store.
    """

    name: str
    statements: tuple[str, ...]
    breaks_readers: bool = False
    breaks_writers: bool = False


# A value column of a metric is NULL for NaN, which SQLite can't store as a number.
_RUNS = (
    """CREATE TABLE experiments (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        artifact_location TEXT,
        lifecycle_stage TEXT NOT NULL DEFAULT 'active',
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        deleted_at INTEGER
    )""",
    """CREATE TABLE experiment_tags (
        experiment INTEGER NOT NULL REFERENCES experiments ON DELETE CASCADE,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (experiment, key)
    ) WITHOUT ROWID""",
    """CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        run_id TEXT NOT NULL UNIQUE,
        experiment INTEGER NOT NULL REFERENCES experiments,
        name TEXT NOT NULL,
        user TEXT NOT NULL,
        status TEXT NOT NULL,
        lifecycle_stage TEXT NOT NULL DEFAULT 'active',
        started_at INTEGER NOT NULL,
        ended_at INTEGER,
        deleted_at INTEGER,
        artifact_uri TEXT NOT NULL,
        owner TEXT
    )""",
    "CREATE INDEX runs_of_experiment ON runs (experiment, lifecycle_stage, started_at)",
    "CREATE INDEX runs_by_start ON runs (lifecycle_stage, started_at)",
    "CREATE INDEX runs_by_name ON runs (name)",
    "CREATE INDEX runs_with_owner ON runs (status) WHERE owner IS NOT NULL",
    """CREATE TABLE details (
        run INTEGER PRIMARY KEY REFERENCES runs ON DELETE CASCADE,
        document TEXT NOT NULL
    )""",
    """CREATE TABLE params (
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        type TEXT NOT NULL DEFAULT 'string',
        source TEXT NOT NULL DEFAULT 'logged',
        digest TEXT,
        PRIMARY KEY (run, key)
    ) WITHOUT ROWID""",
    "CREATE INDEX params_by_value ON params (key, substr(value, 1, 64))",
    """CREATE TABLE tags (
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (run, key)
    ) WITHOUT ROWID""",
    "CREATE INDEX tags_by_value ON tags (key, substr(value, 1, 64))",
    """CREATE TABLE metrics (
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        key TEXT NOT NULL,
        value REAL,
        timestamp INTEGER NOT NULL,
        step INTEGER NOT NULL,
        PRIMARY KEY (run, key)
    ) WITHOUT ROWID""",
    "CREATE INDEX metrics_by_value ON metrics (key, value)",
    """CREATE TABLE points (
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        key TEXT NOT NULL,
        step INTEGER NOT NULL,
        timestamp INTEGER NOT NULL,
        value REAL NOT NULL,
        nan INTEGER NOT NULL,
        PRIMARY KEY (run, key, step, timestamp, value, nan)
    ) WITHOUT ROWID""",
    """INSERT INTO experiments (id, name, created_at, updated_at)
        VALUES (0, 'Default', CAST(strftime('%s', 'now') AS INTEGER) * 1000,
        CAST(strftime('%s', 'now') AS INTEGER) * 1000)""",
)

_DATASETS = (
    """CREATE TABLE datasets (
        id INTEGER PRIMARY KEY,
        experiment INTEGER NOT NULL REFERENCES experiments,
        name TEXT NOT NULL,
        digest TEXT NOT NULL,
        source_type TEXT NOT NULL,
        source TEXT NOT NULL,
        schema TEXT,
        profile TEXT,
        UNIQUE (experiment, name, digest)
    )""",
    """CREATE TABLE inputs (
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        dataset INTEGER NOT NULL REFERENCES datasets,
        tags TEXT NOT NULL DEFAULT '{}',
        context TEXT,
        PRIMARY KEY (run, dataset)
    ) WITHOUT ROWID""",
    "CREATE INDEX inputs_by_dataset ON inputs (dataset)",
)

_MODELS = (
    """CREATE TABLE models (
        id INTEGER PRIMARY KEY,
        model_id TEXT NOT NULL UNIQUE,
        experiment INTEGER NOT NULL REFERENCES experiments,
        name TEXT NOT NULL,
        model_type TEXT NOT NULL,
        source_run_id TEXT,
        artifact_uri TEXT NOT NULL,
        status TEXT NOT NULL,
        lifecycle_stage TEXT NOT NULL DEFAULT 'active',
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL
    )""",
    "CREATE INDEX models_of_experiment ON models (experiment, lifecycle_stage, created_at)",
    "CREATE INDEX models_by_run ON models (source_run_id)",
    """CREATE TABLE model_params (
        model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (model, key)
    ) WITHOUT ROWID""",
    """CREATE TABLE model_tags (
        model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (model, key)
    ) WITHOUT ROWID""",
    """CREATE TABLE model_metrics (
        model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE,
        key TEXT NOT NULL,
        run_id TEXT NOT NULL,
        dataset_name TEXT NOT NULL DEFAULT '',
        dataset_digest TEXT NOT NULL DEFAULT '',
        value REAL,
        timestamp INTEGER NOT NULL,
        step INTEGER NOT NULL,
        PRIMARY KEY (model, key, run_id, dataset_name, dataset_digest)
    ) WITHOUT ROWID""",
    # Searches compare the latest value of a model's metric.
    """CREATE VIEW last_model_metrics AS SELECT model, key, value FROM model_metrics m WHERE NOT EXISTS (
        SELECT 1 FROM model_metrics n WHERE n.model = m.model AND n.key = m.key
        AND (n.timestamp, n.step, n.run_id, n.dataset_name, n.dataset_digest)
        > (m.timestamp, m.step, m.run_id, m.dataset_name, m.dataset_digest))""",
    """CREATE TABLE model_uses (
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        direction TEXT NOT NULL,
        model_id TEXT NOT NULL,
        step INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (run, direction, model_id)
    ) WITHOUT ROWID""",
)

# The number of a deleted version is not used again: ``last_version`` has the greatest number assigned.
_REGISTRY = (
    """CREATE TABLE registered_models (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        description TEXT,
        last_version INTEGER NOT NULL DEFAULT 0,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL
    )""",
    """CREATE TABLE registered_model_tags (
        model INTEGER NOT NULL REFERENCES registered_models ON DELETE CASCADE,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (model, key)
    ) WITHOUT ROWID""",
    """CREATE TABLE model_versions (
        id INTEGER PRIMARY KEY,
        model INTEGER NOT NULL REFERENCES registered_models ON DELETE CASCADE,
        version INTEGER NOT NULL,
        stage TEXT NOT NULL DEFAULT 'None',
        description TEXT,
        source TEXT NOT NULL,
        location TEXT NOT NULL,
        run_id TEXT,
        run_link TEXT,
        model_id TEXT,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        UNIQUE (model, version)
    )""",
    "CREATE INDEX model_versions_by_run ON model_versions (run_id)",
    """CREATE TABLE model_version_tags (
        version INTEGER NOT NULL REFERENCES model_versions ON DELETE CASCADE,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (version, key)
    ) WITHOUT ROWID""",
    """CREATE TABLE model_aliases (
        model INTEGER NOT NULL REFERENCES registered_models ON DELETE CASCADE,
        alias TEXT NOT NULL,
        version INTEGER NOT NULL,
        PRIMARY KEY (model, alias),
        FOREIGN KEY (model, version) REFERENCES model_versions (model, version) ON DELETE CASCADE
    ) WITHOUT ROWID""",
    """CREATE VIEW named_versions AS
        SELECT v.*, m.name FROM model_versions v JOIN registered_models m ON m.id = v.model""",
)

# Only the SHA-256 of a token is stored. Tokens are random, so a fast digest is safe against guessing.
_TOKENS = (
    """CREATE TABLE tokens (
        name TEXT PRIMARY KEY,
        scope TEXT NOT NULL,
        digest TEXT NOT NULL UNIQUE,
        created_at INTEGER NOT NULL
    ) WITHOUT ROWID""",
)

_COPIES = (
    # ``remote_run_id`` is NULL while it is unknown whether the server has the run; ``waiting`` is set while the run has
    # content to send.
    """CREATE TABLE copies (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        server TEXT NOT NULL,
        remote_run_id TEXT,
        remote_experiment_id TEXT,
        artifact_uri TEXT,
        waiting INTEGER NOT NULL DEFAULT 1,
        UNIQUE (run, server)
    )""",
    "CREATE INDEX copies_that_wait ON copies (server) WHERE waiting",
    """CREATE TABLE sent (
        copy INTEGER NOT NULL REFERENCES copies ON DELETE CASCADE,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        digest TEXT NOT NULL,
        note TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (copy, kind, name)
    ) WITHOUT ROWID""",
    # All points up to the first position are sent; those up to the second may be.
    """CREATE TABLE sent_points (
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
        key TEXT NOT NULL,
        copy INTEGER NOT NULL REFERENCES copies ON DELETE CASCADE,
        step INTEGER NOT NULL,
        timestamp INTEGER NOT NULL,
        value REAL NOT NULL,
        nan INTEGER NOT NULL,
        to_step INTEGER NOT NULL,
        to_timestamp INTEGER NOT NULL,
        to_value REAL NOT NULL,
        to_nan INTEGER NOT NULL,
        PRIMARY KEY (run, key, copy)
    ) WITHOUT ROWID""",
    "CREATE INDEX sent_points_of_copy ON sent_points (copy)",
    """CREATE TABLE late_points (
        copy INTEGER NOT NULL REFERENCES copies ON DELETE CASCADE,
        key TEXT NOT NULL,
        step INTEGER NOT NULL,
        timestamp INTEGER NOT NULL,
        value REAL NOT NULL,
        nan INTEGER NOT NULL,
        begun INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (copy, key, step, timestamp, value, nan)
    ) WITHOUT ROWID""",
    # Points are sent in their sort order; a new point that sorts before a sent one is recorded as late.
    """CREATE TRIGGER points_that_come_late AFTER INSERT ON points BEGIN
        INSERT OR IGNORE INTO late_points (copy, key, step, timestamp, value, nan)
        SELECT copy, NEW.key, NEW.step, NEW.timestamp, NEW.value, NEW.nan FROM sent_points s
        WHERE s.run = NEW.run AND s.key = NEW.key
        AND (NEW.step, NEW.timestamp, NEW.value, NEW.nan) <= (s.to_step, s.to_timestamp, s.to_value, s.to_nan);
    END""",
)

# The origin of imported entities and a digest of their imported state, so that a later import finds changes.
_ORIGINS = (
    """CREATE TABLE origins (
        run INTEGER PRIMARY KEY REFERENCES runs ON DELETE CASCADE,
        uri TEXT NOT NULL,
        state TEXT NOT NULL,
        arrived_at INTEGER NOT NULL
    )""",
)

_MODEL_ORIGINS = (
    """CREATE TABLE model_origins (
        model INTEGER PRIMARY KEY REFERENCES models ON DELETE CASCADE,
        uri TEXT NOT NULL
    )""",
)

# The owner is the id of a run or of a logged model. A path is bytes, as file names are; an unchanged ``stamp`` means
# that the file need not be read again.
_ARTIFACT_DIGESTS = (
    """CREATE TABLE artifact_digests (
        owner TEXT NOT NULL,
        path BLOB NOT NULL,
        size INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        stamp BLOB NOT NULL,
        PRIMARY KEY (owner, path)
    ) WITHOUT ROWID""",
    """CREATE TRIGGER digests_of_removed_runs AFTER DELETE ON runs BEGIN
        DELETE FROM artifact_digests WHERE owner = OLD.run_id;
    END""",
    """CREATE TRIGGER digests_of_removed_models AFTER DELETE ON models BEGIN
        DELETE FROM artifact_digests WHERE owner = OLD.model_id;
    END""",
)

MIGRATIONS: tuple[Migration, ...] = (
    Migration(name="0001 experiments and runs", statements=_RUNS),
    Migration(name="0002 datasets", statements=_DATASETS),
    Migration(name="0003 logged models", statements=_MODELS),
    Migration(name="0004 registry", statements=_REGISTRY),
    Migration(name="0005 tokens", statements=_TOKENS),
    Migration(name="0006 copies on servers", statements=_COPIES),
    Migration(name="0007 origins", statements=_ORIGINS),
    Migration(name="0008 origins of models", statements=_MODEL_ORIGINS),
    Migration(name="0009 digests of artifacts", statements=_ARTIFACT_DIGESTS),
)

APPLICATION_ID = 0x70726F6A
"""SQLite's application id of a store: "proj" in ASCII."""


def applied(connection: sqlite3.Connection) -> tuple[str, ...]:
    """Return the names of the steps that a store has, in order."""
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'migrations'").fetchone()
    if known is None:
        return ()
    return tuple(name for (name,) in connection.execute("SELECT name FROM migrations ORDER BY name"))


def apply(connection: sqlite3.Connection, migrations: tuple[Migration, ...]) -> None:
    """Apply each missing step with its bookkeeping row, inside the transaction that the caller has begun."""
    done = set(applied(connection))
    connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied_at INTEGER NOT NULL) WITHOUT ROWID"
    )
    for migration in migrations:
        if migration.name not in done:
            for statement in migration.statements:
                connection.execute(statement)
            connection.execute("INSERT INTO migrations VALUES (?, ?)", (migration.name, int(time.time() * 1000)))
    _write_compatibility(connection, migrations)
    connection.execute(f"PRAGMA user_version = {len(migrations):d}")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")


def _write_compatibility(connection: sqlite3.Connection, migrations: tuple[Migration, ...]) -> None:
    """Record how many steps a program must know to read the store, and to write to it."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS compatibility (reader INTEGER NOT NULL, writer INTEGER NOT NULL, PRIMARY KEY"
        " (reader, writer)) WITHOUT ROWID"
    )
    numbered = list(enumerate(migrations, 1))
    reader = max((number for number, step in numbered if step.breaks_readers), default=1)
    writer = max((number for number, step in numbered if step.breaks_readers or step.breaks_writers), default=1)
    connection.execute("DELETE FROM compatibility")
    connection.execute("INSERT INTO compatibility VALUES (?, ?)", (reader, writer))
