"""Stores experiments, runs, models and their artifacts: one SQLite database and files beside it."""
