"""Plans runs between two recorded runs: the original with some differences taken from the other one."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from posixpath import isabs, normpath, relpath

from msgspec import Struct, structs

from runner.base.files import DigestCache
from runner.base.tags import EXPLAINS_TAG, PARENT_TAG
from runner.environments.resolve.locking import PACKAGE
from runner.environments.specs import PythonSpec
from runner.errors import UsageError
from runner.explanation.differences import ENTRY_POINT, Difference, Side, parameters_of
from runner.explanation.locks import mix_locks
from runner.explanation.trees import mix_trees
from runner.model import FileRecord, ParameterRecord, Report, RunRecord
from runner.plan import Plan
from runner.reproduction.causes import CauseKind
from runner.reproduction.inputs import check_inputs
from runner.reproduction.planning import plan_reproduction
from runner.settings import Home
from runner.source.opening import RecordedFiles, Source
from runner.source.run_code import open_recorded
from runner.source.snapshot import Snapshot
from runner.source.tree import TreeFiles

Chosen = frozenset[Difference]
"""The differences that are taken from the other run."""


class Pair(Struct, frozen=True, kw_only=True):
    """Two runs, and the available files by their SHA-256."""

    original: Side
    other: Side
    files: Mapping[str, Path]


def read_pair(original: RunRecord, other: RunRecord, moved: Mapping[str, str], home: Home) -> Pair:
    """Return what is recorded of two runs, with the files that have the recorded content of their inputs.

    ``moved`` are paths of files by the names of inputs, for content that is not where it was.

    Raises:
        SnapshotError: the code of a run is not stored or is damaged.
        UsageError: ``moved`` names something that is no input.
    """
    sides, paths = [], [Path(path).absolute() for path in moved.values()]
    for record in (original, other):
        _, snapshot = open_recorded(record, home)
        origin = snapshot.root / snapshot.code.subdirectory if snapshot.root else None
        inputs = dict(_inputs(record, snapshot, home))
        paths += [Path(name) for name in inputs if isabs(name)]
        paths += [origin / normpath(name) for name in inputs if not isabs(name)] if origin else []
        lock = home.lock(record.run_id or "")
        is_usable = (
            lock is not None and lock.name == "lock.txt" and bool(record.environment and record.environment.python)
        )
        sides.append(
            Side(
                record=record,
                lock=lock.read_text("utf-8") if lock is not None and is_usable else None,
                inputs=inputs,
                parameters=parameters_of(record, origin),
            )
        )
    names = {*sides[0].inputs, *sides[1].inputs}
    for name in moved.keys() - names:
        raise UsageError(
            f"The runs have no recorded input '{name}'", hint=f"Their inputs are: {', '.join(sorted(names))}"
        )
    return Pair(original=sides[0], other=sides[1], files=_by_digest(paths, home))


def _inputs(record: RunRecord, snapshot: Snapshot, home: Home) -> Iterator[tuple[str, str]]:
    """Yield the inputs that are neither part of the tree nor downloaded, with their digests."""
    tree = TreeFiles(home, snapshot)
    start = snapshot.code.subdirectory or "."
    large = (FileRecord(path=relpath(one.path, start), size=one.size, sha256=one.sha256) for one in snapshot.large)
    for one in (*record.inputs, *large):
        if "://" not in one.path and (isabs(one.path) or tree.identity(one.path) is None):
            yield one.path, one.sha256
    # What a command was seen to open outside its project; what is inside is among the inputs above.
    for seen in record.observed.inputs if record.observed else ():
        if seen.sha256 is not None and isabs(seen.path):
            yield seen.path, seen.sha256


def _by_digest(paths: list[Path], home: Home) -> dict[str, Path]:
    cache = DigestCache(home.root / "cache" / "digests")
    return {cache.digest(path): path for path in paths if path.is_file()}


class Mixer:
    """Makes the plans of runs between two runs."""

    def __init__(self, pair: Pair, given: Mapping[str, str], home: Home, report: Report) -> None:
        self._pair = pair
        self._given = given
        self._home = home
        self._report = report
        self._code = open_recorded(pair.original.record, home)
        self._folders = check_inputs(pair.original.record, self._code[1], {}, home).files.folders

    def missing(self) -> tuple[str, ...]:
        """Return the inputs of which no content is available, so that nothing can be run."""
        sides = (self._pair.original, self._pair.other)
        names = sorted({name for side in sides for name in side.inputs})
        return tuple(
            name
            for name in names
            if not isabs(name) and all(side.inputs.get(name, "") not in self._pair.files for side in sides)
        )

    def plan(self, chosen: Chosen, parent: str) -> Plan:
        """Return the plan of the original run with some differences; its run is nested in the run ``parent``.

        Raises:
            ProjError: the differences do not fit together.
        """
        original, other = self._pair.original, self._pair.other
        record = self._record(chosen)
        plan = plan_reproduction(record, self._mixed_code(chosen), self._given, self._home, self._report)
        packages = {one.name for one in chosen if one.kind is CauseKind.PACKAGE}
        if packages and original.lock is not None and other.lock is not None:
            plan = _with_lock(plan, mix_locks(original.lock, other.lock, packages))
        tags = {EXPLAINS_TAG: f"{original.record.run_id} {other.record.run_id}", PARENT_TAG: parent}
        return structs.replace(plan, tags=tags)

    def _record(self, chosen: Chosen) -> RunRecord:
        original, other = self._pair.original, self._pair.other
        record = original.record
        names = _names(chosen, CauseKind.PARAMETER)
        is_other_entry = ENTRY_POINT in names
        if is_other_entry:
            names |= original.parameters.keys() ^ other.parameters.keys()
        parameters = _mixed(original.parameters, other.parameters, names)
        variables = _mixed(
            original.variables, other.variables, _names(chosen, CauseKind.VARIABLE) | _names(chosen, CauseKind.THREADS)
        )
        types = {one.name: one.type for side in (original, other) for one in side.record.parameters}
        python = _names(chosen, CauseKind.INTERPRETER) and other.record.environment
        environment = record.environment
        if environment is not None and python:
            environment = structs.replace(environment, python=python.python)
        return structs.replace(
            record,
            parameters=tuple(
                ParameterRecord(name=name, value=value, type=types[name], source="command line")
                for name, value in parameters.items()
            ),
            entry_point=other.record.entry_point if is_other_entry else record.entry_point,
            template=other.record.template if is_other_entry else record.template,
            environment=environment,
            machine=record.machine and structs.replace(record.machine, variables=variables),
        )

    def _mixed_code(self, chosen: Chosen) -> tuple[Source, Snapshot]:
        source, snapshot = self._code
        changes = [change for one in chosen for change in one.changes]
        tree = mix_trees(snapshot.code.tree, changes, self._home)
        if tree != snapshot.code.tree:
            code = structs.replace(
                snapshot.code,
                tree=tree,
                swhid=f"swh:1:dir:{tree}",
                dirty=True,
                changed_files=tuple(sorted(change.path for change in changes)),
            )
            snapshot = structs.replace(snapshot, code=code, base=snapshot.base or snapshot.code.tree)
        files = RecordedFiles(inputs=tuple(self._provided(chosen)), folders=self._folders)
        return structs.replace(source, recorded=files, tree=tree), snapshot

    def _provided(self, chosen: Chosen) -> Iterator[tuple[str, Path, str | None]]:
        """Yield the inputs to provide; content that is not available is replaced by that of the other run."""
        swapped = _names(chosen, CauseKind.INPUT)
        sides = (self._pair.original.inputs, self._pair.other.inputs)
        for name in sorted({*sides[0], *sides[1]}):
            wanted, instead = (side.get(name) for side in (sides[::-1] if name in swapped else sides))
            if isabs(name) or wanted is None:
                continue
            digest = wanted if wanted in self._pair.files else instead
            if digest is not None and digest in self._pair.files:
                yield name, self._pair.files[digest], digest


def _names(chosen: Chosen, kind: CauseKind) -> set[str]:
    return {one.name for one in chosen if one.kind is kind}


def _mixed(original: Mapping[str, str], other: Mapping[str, str], names: set[str]) -> dict[str, str]:
    kept = {name: value for name, value in original.items() if name not in names}
    return {**kept, **{name: value for name, value in other.items() if name in names}}


def _with_lock(plan: Plan, text: str) -> Plan:
    spec = plan.spec
    if not isinstance(spec, PythonSpec) or spec.project_lock is None:
        raise UsageError("The environment of the run can't be mixed with another one")
    names = tuple(match[0].split(" ")[0] for match in PACKAGE.finditer(text))
    lock = structs.replace(spec.project_lock, text=text)
    return structs.replace(plan, spec=structs.replace(spec, project_lock=lock, requirements=names))
