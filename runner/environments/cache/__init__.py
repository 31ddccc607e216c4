"""Environments on disk: built once, verified before each use, leased, removed."""
