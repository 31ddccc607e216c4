"""Reads recorded runs from the local store or from a tracking server."""
