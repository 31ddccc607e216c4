"""Runs to look at: those of the own store, or those of a tracking server."""
