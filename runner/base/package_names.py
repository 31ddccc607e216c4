"""Canonical names of Python packages (PEP 503)."""

import re


def canonical_name(name: str) -> str:
    """Return the canonical name of a package, like `packaging.utils.canonicalize_name`."""
    # The import of packaging.utils is too slow for the start of a run.
    return re.sub(r"[-_.]+", "-", name).lower()
