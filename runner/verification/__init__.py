"""Checks and repairs proj's home folder."""
