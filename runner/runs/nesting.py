"""Orders runs as a tree: nested runs follow their parents."""

from collections.abc import Sequence

from runner.base.tags import PARENT_TAG
from runner.model import RunRecord
from runner.runs.reader import RunReader

_DEEPEST = 20
"""Levels of nesting that are read; clients may write circles."""


def in_tree(reader: RunReader, roots: Sequence[RunRecord]) -> tuple[list[RunRecord], dict[str, int]]:
    """Return runs with their nested runs below them, and the level of each nested run by its id."""
    known = {record.run_id or "": record for record in roots}
    below: dict[str, list[RunRecord]] = {}
    level = list(known)
    for _ in range(_DEEPEST):
        found = [record for record in reader.children(level) if (record.run_id or "") not in known]
        for record in found:
            known[record.run_id or ""] = record
            below.setdefault(record.tags.get(PARENT_TAG, ""), []).append(record)
        level = [record.run_id or "" for record in found]
        if not level:
            break
    ordered: list[RunRecord] = []
    depths: dict[str, int] = {}
    waiting = [(record, 0) for record in reversed(roots)]
    while waiting:
        record, depth = waiting.pop()
        ordered.append(record)
        if depth:
            depths[record.run_id or ""] = depth
        waiting += [(child, depth + 1) for child in reversed(below.get(record.run_id or "", []))]
    return ordered, depths
