"""Environments of conda packages: as conda has them, and mapped to the Python index."""
