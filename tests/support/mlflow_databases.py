"""Databases of MLflow's tracking store, for tests."""

import sqlite3
from contextlib import closing
from pathlib import Path

OLD = """
CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, name TEXT, artifact_location TEXT, lifecycle_stage TEXT);
CREATE TABLE runs (run_uuid TEXT PRIMARY KEY, name TEXT, source_type TEXT, source_name TEXT, entry_point_name TEXT,
    user_id TEXT, status TEXT, start_time BIGINT, end_time BIGINT, source_version TEXT, lifecycle_stage TEXT,
    artifact_uri TEXT, experiment_id INTEGER);
CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);
CREATE TABLE tags (key TEXT, value TEXT, run_uuid TEXT);
CREATE TABLE metrics (key TEXT, value FLOAT, timestamp BIGINT, run_uuid TEXT);
"""
"""The first schema of MLflow 1.0: no steps, no NaN, no registry, no times of experiments."""


def make_database(path: Path, schema: str = OLD, **rows: list[tuple[object, ...]]) -> Path:
    """Write a database with the schema and the rows of its tables, and return its path."""
    with closing(sqlite3.connect(path)) as file:
        file.executescript(schema)
        for table, found in rows.items():
            for row in found:
                file.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        file.commit()
    return path
