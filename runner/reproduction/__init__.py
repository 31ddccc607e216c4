"""Reproduces recorded runs: runs them again from their record alone, and compares the results."""
