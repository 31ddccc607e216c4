"""Repairs that are known to make old projects run."""
