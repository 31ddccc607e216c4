"""Collects the provenance of a run: machine, inputs, outputs and metrics files."""
