"""Resolves specs to locks: exact packages with hashes."""
