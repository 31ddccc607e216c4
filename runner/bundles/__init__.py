"""Bundles: a run in one file, or in a git ref, with all that its reproduction needs."""
