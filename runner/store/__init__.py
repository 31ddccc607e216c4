"""Experiments, runs and what they logged, in one SQLite database with files beside it."""
