"""Readers for every file that declares an environment."""
