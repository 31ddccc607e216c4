"""Imports MLflow stores: ``mlruns`` folders and SQLite databases of any version."""
