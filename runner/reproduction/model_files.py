"""Compares files of models without the ids, times and addresses that each run writes anew; no model is loaded."""

import io
import zipfile
from collections.abc import Iterator

from runner.base.foreign_text import LARGE, parse_json, parse_yaml
from runner.reproduction.leaves import Leaf, Rules, UnreadableError, compare_leaves, leaves
from runner.reproduction.verdict import Finding

_IDENTITY = frozenset(("model_id", "model_size_bytes", "model_uuid", "run_id", "utc_time_created"))
"""Keys of an MLmodel file, see the MLflow model format, that differ in each run."""
_ADDRESS = "__id__"
"""Key of a node in the schema of a skops file: the address in memory that the object had."""
_SCHEMA = "schema.json"
_LARGEST_ARCHIVE = 256 << 20
_MOST_MEMBERS = 10_000


def compare_mlmodel(original: bytes, reproduced: bytes, rules: Rules) -> Finding:
    """Compare two MLmodel files without ids, times and the path of the model's own folder."""
    first, second = (dict(leaves(_without_identity(parse_yaml(one, LARGE)))) for one in (original, reproduced))
    return compare_leaves("values of MLmodel without ids and times", first, second, rules)


def _without_identity(document: object) -> object:
    if not isinstance(document, dict) or "flavors" not in document:
        raise UnreadableError
    kept = {key: value for key, value in document.items() if key not in _IDENTITY}
    if str(document.get("model_id") or "\0") in str(kept.get("artifact_path")):
        del kept["artifact_path"]
    return kept


def compare_skops(original: bytes, reproduced: bytes, rules: Rules) -> Finding:
    """Compare two files of skops: the schema without addresses in memory, and the members in its order."""
    first, second = (dict(_skops_leaves(members_of(one))) for one in (original, reproduced))
    return compare_leaves("objects and arrays of skops without addresses", first, second, rules)


def _skops_leaves(members: dict[str, bytes]) -> Iterator[Leaf]:
    if _SCHEMA not in members:
        raise UnreadableError
    names: dict[str, int] = {}
    yield from leaves(_without_addresses(parse_json(members.pop(_SCHEMA), LARGE), names))
    for name, number in names.items():
        yield f"member {number} of the schema", members.pop(name, None)
    yield from members.items()


def _without_addresses(node: object, names: dict[str, int]) -> object:
    """Return a schema without addresses; ``names`` gets the members that it refers to, which are named by addresses."""
    if isinstance(node, list):
        return [_without_addresses(item, names) for item in node]
    if not isinstance(node, dict):
        return node
    name = node.get("file")
    if _ADDRESS in node and isinstance(name, str):
        node = {**node, "file": f"member {names.setdefault(name, len(names))}"}
    return {key: _without_addresses(value, names) for key, value in node.items() if key != _ADDRESS}


def members_of(content: bytes) -> dict[str, bytes]:
    """Return the contents of the members of an archive.

    Raises:
        UnreadableError: the archive is too large, or two members have the same name.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        if len(entries) > _MOST_MEMBERS or sum(entry.file_size for entry in entries) > _LARGEST_ARCHIVE:
            raise UnreadableError
        if len({entry.filename for entry in entries}) != len(entries):
            raise UnreadableError
        return {entry.filename: archive.read(entry) for entry in entries}
