"""Mixes two locks in pip's format, package by package."""

import re
from collections.abc import Collection

from msgspec import Struct

from runner.base.package_names import canonical_name

_START = re.compile(
    r"^(?P<name>[A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?\s*(?:==\s*(?P<version>[^\s;\\]+)|@\s*(?P<url>\S+))", re.MULTILINE
)


class LockedPackage(Struct, frozen=True, kw_only=True):
    """A package in a lock: its version or URL, and its lines, with hashes."""

    version: str
    text: str


def packages_in(lock: str) -> dict[str, LockedPackage]:
    """Return the packages of a lock by their canonical names; a name with several markers is one entry."""
    found: dict[str, LockedPackage] = {}
    for block in _blocks(lock)[1]:
        match = _START.match(block)
        if match is None:
            continue
        name, version = canonical_name(match["name"]), match["version"] or match["url"]
        known = found.get(name)
        if known is None:
            found[name] = LockedPackage(version=version, text=block)
        else:
            found[name] = LockedPackage(version=f"{known.version}, {version}", text=known.text + block)
    return found


def mix_locks(original: str, other: str, names: Collection[str]) -> str:
    """Return the original lock with the packages of these names as the other lock has them, or without them."""
    first, second = packages_in(original), packages_in(other)
    mixed = {name: one for name, one in first.items() if name not in names}
    mixed.update({name: second[name] for name in names if name in second})
    return _blocks(original)[0] + "".join(mixed[name].text for name in sorted(mixed))


def _blocks(lock: str) -> tuple[str, list[str]]:
    """Return the lines before the first package, and the lines of each package without comments."""
    head: list[str] = []
    blocks: list[str] = []
    for line in lock.splitlines(keepends=True):
        if _START.match(line):
            blocks.append(line)
        elif not blocks:
            head.append(line)
        elif line.strip() and not line.lstrip().startswith("#"):
            blocks[-1] += line
    return "".join(head), [block if block.endswith("\n") else f"{block}\n" for block in blocks]
