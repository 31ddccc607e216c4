"""Checks of proj's home as a whole, and what can be repaired."""
