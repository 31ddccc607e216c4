"""Locks: resolving a specification to exact packages with hashes."""
