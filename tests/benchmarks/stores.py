"""Fills stores with runs as a large team has them, the same in ours and in MLflow's database."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from runner.store.database import Database
from runner.store.migrations import MIGRATIONS

DAY = 1_700_000_000_000
POINTS = 100_000
METRICS = ("loss", "accuracy", "f1")
PARAMS = ("alpha", "depth", "model")
USER = "bench"


def values_of(number: int) -> Iterator[float]:
    """Return the metrics of a run; the same run has the same in both stores."""
    chance = random.Random(number)
    return (chance.random() for _ in METRICS)


def fill_proj(home: Path, begin: int, end: int) -> None:
    """Write runs straight into the database of proj's store."""
    with closing(Database.open(home / "proj.db", MIGRATIONS)) as database, database.transaction() as sql:
        first = sql.execute("SELECT coalesce(max(id), 0) + 1 FROM runs").fetchone()[0]
        numbers = {first + offset: number for offset, number in enumerate(range(begin, end))}
        sql.executemany(
            "INSERT INTO runs (id, run_id, experiment, name, user, status, started_at, ended_at, artifact_uri)"
            " VALUES (?, ?, 0, ?, ?, 'FINISHED', ?, ?, '')",
            [
                (row, f"{number:032x}", f"run-{number}", USER, DAY + number, DAY + number + 9)
                for row, number in numbers.items()
            ],
        )
        metrics = [
            (row, key, value) for row, n in numbers.items() for key, value in zip(METRICS, values_of(n), strict=True)
        ]
        sql.executemany(f"INSERT INTO metrics (run, key, value, timestamp, step) VALUES (?, ?, ?, {DAY}, 0)", metrics)
        sql.executemany(
            f"INSERT INTO points (run, key, value, timestamp, step, nan) VALUES (?, ?, ?, {DAY}, 0, 0)", metrics
        )
        params = [(row, key, str(n % 97)) for row, n in numbers.items() for key in PARAMS]
        sql.executemany("INSERT INTO params (run, key, value) VALUES (?, ?, ?)", params)
        sql.executemany(
            "INSERT INTO tags (run, key, value) VALUES (?, 'mlflow.user', ?)", [(row, USER) for row in numbers]
        )
        if begin == 0:
            long = [(first, "long", step * 0.5, DAY + step, step) for step in range(POINTS)]
            insert = "INSERT INTO points (run, key, value, timestamp, step, nan) VALUES (?, ?, ?, ?, ?, 0)"
            sql.executemany(insert, long)
            sql.execute("INSERT INTO metrics (run, key, value, timestamp, step) VALUES (?, ?, ?, ?, ?)", long[-1])


def fill_mlflow(path: Path, begin: int, end: int) -> None:
    """Write the same runs straight into MLflow's database."""
    ids = {f"{number:032x}": number for number in range(begin, end)}
    with closing(sqlite3.connect(path, timeout=60)) as sql, sql:
        sql.executemany(
            "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time,"
            " end_time, source_version, lifecycle_stage, artifact_uri, experiment_id)"
            " VALUES (?, ?, 'LOCAL', '', '', ?, 'FINISHED', ?, ?, '', 'active', '', 0)",
            [(run, f"run-{number}", USER, DAY + number, DAY + number + 9) for run, number in ids.items()],
        )
        metrics = [
            (run, key, value) for run, n in ids.items() for key, value in zip(METRICS, values_of(n), strict=True)
        ]
        for table in ("metrics", "latest_metrics"):
            insert = (
                f"INSERT INTO {table} (run_uuid, key, value, timestamp, step, is_nan) VALUES (?, ?, ?, {DAY}, 0, 0)"
            )
            sql.executemany(insert, metrics)
        params = [(run, key, str(n % 97)) for run, n in ids.items() for key in PARAMS]
        sql.executemany("INSERT INTO params (run_uuid, key, value) VALUES (?, ?, ?)", params)
        sql.executemany(
            "INSERT INTO tags (run_uuid, key, value) VALUES (?, 'mlflow.user', ?)", [(run, USER) for run in ids]
        )
        if begin == 0:
            long = [(f"{0:032x}", "long", step * 0.5, DAY + step, step) for step in range(POINTS)]
            insert = "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan) VALUES (?, ?, ?, ?, ?, 0)"
            sql.executemany(insert, long)
            latest = (
                "INSERT INTO latest_metrics (run_uuid, key, value, timestamp, step, is_nan) VALUES (?, ?, ?, ?, ?, 0)"
            )
            sql.execute(latest, long[-1])
