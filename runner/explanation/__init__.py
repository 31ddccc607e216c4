"""Finds out by experiment why the results of two recorded runs differ."""
