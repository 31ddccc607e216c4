"""Formats what belongs to a run: files as a tree, datasets, models, nested runs."""

from collections.abc import Iterator, Sequence

from runner.base.plurals import counted
from runner.cli.output import size
from runner.cli.text import printable
from runner.model import RunRecord
from runner.observed import InputRole, ObservedInput
from runner.runs.reader import ArtifactEntry, RunRelations

_SHOWN = 20
"""Nested runs, and files of one folder, that are shown without ``--all``."""
_LARGE_FOLDER = 12
"""Files from which a folder is one line, unless ``--all`` is given."""
_WIDEST = 60
"""Terminal columns of the names; the sizes follow."""

Line = tuple[str, str]


def artifact_lines(files: Sequence[ArtifactEntry], *, everything: bool) -> list[str]:
    """Return files as a tree with sizes; large folders are one line unless ``everything`` is set."""
    if not files:
        return []
    lines = list(_folder([(file.path.split("/"), file.size or 0) for file in files], 0, everything=everything))
    if len(files) > 1:
        lines.append(("", f"{_count(len(files))}, {size(sum(file.size or 0 for file in files))}"))
    width = min(_WIDEST, max(len(name) for name, _ in lines))
    return [f"{name:{width}}  {details}".rstrip() for name, details in lines]


def _folder(files: Sequence[tuple[list[str], int]], depth: int, *, everything: bool) -> Iterator[Line]:
    """Yield the lines of a folder: its subfolders, then its files."""
    folders: dict[str, list[tuple[list[str], int]]] = {}
    own: list[tuple[str, int]] = []
    for names, bytes_ in files:
        if len(names) > 1:
            folders.setdefault(names[0], []).append((names[1:], bytes_))
        else:
            own.append((names[0], bytes_))
    space = "  " * depth
    for name, inside in sorted(folders.items()):
        if len(inside) > _LARGE_FOLDER and not everything:
            yield f"{space}{printable(name)}/", f"{_count(len(inside))}, {size(sum(one for _, one in inside))}"
            continue
        yield f"{space}{printable(name)}/", ""
        yield from _folder(inside, depth + 1, everything=everything)
    most = len(own) if everything else _SHOWN
    yield from ((f"{space}{printable(name)}", size(bytes_)) for name, bytes_ in sorted(own)[:most])
    if len(own) > most:
        yield f"{space}… and {len(own) - most} more", ""


def _count(count: int) -> str:
    return counted(count, "file")


def dataset_lines(relations: RunRelations) -> list[str]:
    """Return a line for each dataset that the run logged."""
    return [
        printable(f"{one.name}  digest {one.digest}{f'  ({one.context})' if one.context else ''}")
        for one in relations.datasets
    ]


def model_lines(relations: RunRelations) -> list[str]:
    """Return a line for each model that the run logged, and for each registered version that was made from the run."""
    logged = [f"{one.name}  {one.model_id}{f'  ({one.type})' if one.type else ''}" for one in relations.logged_models]
    registered = [
        f"registered as {one.name} version {one.version}"
        + ("" if one.stage == "None" else f", {one.stage}")
        + "".join(f", @{alias}" for alias in one.aliases)
        for one in relations.model_versions
    ]
    return [printable(line) for line in (*logged, *registered)]


def nested_lines(relations: RunRelations, *, everything: bool) -> list[str]:
    """Return a line for each nested run, oldest first."""
    most = len(relations.children) if everything else _SHOWN
    shown = [
        printable(f"{one.run_id[:8]}  {one.status or ''}  {one.run_name or ''}") for one in relations.children[:most]
    ]
    more = len(relations.children) - len(shown)
    return [*shown, f"… and {more} more; proj list --tree"] if more else shown


def observed_lines(record: RunRecord, *, everything: bool) -> list[str]:
    """Return the observed inputs by role, and how complete they are; without ``everything`` files of the tree count."""
    observed = record.observed
    if observed is None:
        return []
    lines = []
    for role in InputRole:
        found = [one for one in observed.inputs if one.role is role]
        most = len(found) if everything else 0 if role is InputRole.PROJECT else _SHOWN
        lines += [f"{role.value:13} {_observed(one, everything=everything)}" for one in found[:most]]
        if len(found) > most:
            lines.append(f"{role.value:13} {'… and ' if most else ''}{_count(len(found) - most)}{' more' * bool(most)}")
    if not observed.inputs:
        lines.append("none")
    complete = "every opened file was seen" if observed.inputs_complete else "; ".join(observed.reasons)
    return [*lines, f"{'complete' if observed.inputs_complete else 'incomplete':13} {printable(complete)}"]


def _observed(one: ObservedInput, *, everything: bool) -> str:
    digest = f"  sha256 {one.sha256[:12]}" if one.sha256 else ""
    state = f"  {one.state}" if one.state else ""
    ways = f"  ({', '.join(one.seen)})" if everything else ""
    return f"{printable(one.path)}{'' if one.size is None else f'  {size(one.size)}'}{digest}{state}{ways}"
