"""Locks of conda environments."""
