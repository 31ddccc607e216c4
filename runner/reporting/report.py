"""Collects what a report of runs shows: values, curves, images, files and differences of code."""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from runner.base.tags import RUN_ID_TAG
from runner.errors import NotFoundError, ProjError, RemoteError, SnapshotError
from runner.model import RunRecord
from runner.reporting.images import Image, ImageLimits, is_image, read_images
from runner.reporting.series import CurveRequest, Series, is_curve, read_curves
from runner.runs.comparison import Line, compare_runs
from runner.runs.reader import RunArtifact, RunArtifacts, RunReader
from runner.settings import Home
from runner.source.snapshot_store import has_run_commit, read_run_commit
from runner.source.tree_changes import FileChange, PatchLimits, changes_between, changes_since_commit

_CURVES = 60
"""Charts of a report; the values of further metrics are in the table."""
_CODES = 10
"""Different trees that are compared with the first one."""


class ReportLimits(Struct, frozen=True, kw_only=True):
    """The limits of a report: points per curve, images, lines of code differences."""

    points: int = 500
    images: ImageLimits = ImageLimits()
    patches: PatchLimits = PatchLimits()


class CodeChange(Struct, frozen=True, kw_only=True):
    """How the code of runs differs from that of another run, or of its commit if ``before`` is None.

    ``problem`` is the reason why the difference is not known.
    """

    before: str | None
    after: tuple[str, ...]
    files: tuple[FileChange, ...] = ()
    problem: str | None = None


class Report(Struct, frozen=True, kw_only=True):
    """The content of a report; ``files`` are by run id, without the images that are shown."""

    title: str
    records: tuple[RunRecord, ...]
    lines: tuple[Line, ...]
    curves: tuple[tuple[Series, ...], ...]
    more_curves: tuple[str, ...]
    images: tuple[Image, ...]
    files: Mapping[str, RunArtifacts]
    changes: tuple[CodeChange, ...]
    notices: tuple[str, ...]


def read_report(
    reader: RunReader, records: Sequence[RunRecord], home: Home, title: str, limits: ReportLimits
) -> Report:
    """Return the content of a report of runs.

    Raises:
        ProjError: a run can't be read. Code and artifacts that can't be read are notices in the report.
    """
    files, notices = _files(reader, records)
    curves, more = _curves(reader, records, limits.points)
    pictures = [(run_id, file) for run_id, kept in files.items() for file in kept.files if is_image(file)]
    pictures.sort(key=lambda one: one[1].name)
    return Report(
        title=title,
        records=tuple(records),
        lines=compare_runs(records, everything=True),
        curves=curves,
        more_curves=more,
        images=tuple(read_images(pictures, limits.images)),
        files=files,
        changes=tuple(_changes(records, home, limits.patches)),
        notices=tuple(notices),
    )


def _files(reader: RunReader, records: Sequence[RunRecord]) -> tuple[dict[str, RunArtifacts], list[str]]:
    found: dict[str, RunArtifacts] = {}
    notices = []
    for record in records:
        run_id = record.run_id or ""
        try:
            kept = reader.files(run_id)
        except (NotFoundError, RemoteError) as error:
            notices.append(f"run {run_id[:8]}: {error.message}{f': {error.context}' if error.context else ''}")
            continue
        found[run_id] = kept
        notices += [f"run {run_id[:8]}: {one.path}: {one.reason}" for one in kept.omissions]
    return found, notices


def _curves(
    reader: RunReader, records: Sequence[RunRecord], points: int
) -> tuple[tuple[tuple[Series, ...], ...], tuple[str, ...]]:
    """Return the series of each metric that is a curve in a run, and the names of those beyond the limit."""
    names = sorted({name for record in records for name in reader.last_points(record.run_id or "")})
    found: list[tuple[Series, ...]] = []
    for number, name in enumerate(names):
        if len(found) == _CURVES:
            return tuple(found), tuple(names[number:])
        series = read_curves(reader, records, CurveRequest(metrics=(name,), limit=points)).series
        if any(map(is_curve, series)):
            found.append(series)
    return tuple(found), ()


def _changes(records: Sequence[RunRecord], home: Home, limits: PatchLimits) -> Iterator[CodeChange]:
    """Yield the differences of each tree from the tree of the run that started first."""
    by_tree: dict[str, list[RunRecord]] = {}
    for record in sorted(records, key=lambda one: (one.started_at or "", one.run_id or "")):
        if record.code is not None:
            by_tree.setdefault(record.code.tree, []).append(record)
    trees = list(by_tree.values())
    if len(trees) == 1:
        record = trees[0][0]
        if record.code is not None and record.code.dirty:
            yield _change(None, trees[0], home, limits)
        return
    for later in trees[1 : _CODES + 1]:
        yield _change(trees[0][0], later, home, limits)
    for later in trees[_CODES + 1 :]:
        yield CodeChange(before=trees[0][0].run_id, after=_ids(later), problem="too many different trees to compare")


def _change(before: RunRecord | None, after: Sequence[RunRecord], home: Home, limits: PatchLimits) -> CodeChange:
    start = None if before is None else before.run_id
    try:
        second = _stored_id(after[0], home)
        if before is None:
            files = changes_since_commit(home, second, limits)
        else:
            files = changes_between(home, _stored_id(before, home), second, limits)
    except ProjError as error:
        return CodeChange(before=start, after=_ids(after), problem=error.message)
    return CodeChange(before=start, after=_ids(after), files=files)


def _ids(records: Sequence[RunRecord]) -> tuple[str, ...]:
    return tuple(record.run_id or "" for record in records)


def _stored_id(record: RunRecord, home: Home) -> str:
    """Return the id under which this home stores the code of a run, also if the record is of a server.

    Raises:
        SnapshotError: the home does not have the recorded tree of the run.
    """
    run_id = record.run_id or ""
    tree = None if record.code is None else record.code.tree
    for one in (run_id, record.tags.get(RUN_ID_TAG, "")):
        # The tag is a text that any client can set, so the tree must be the recorded one.
        if one and has_run_commit(home, one) and read_run_commit(home, one).tree == tree:
            return one
    raise SnapshotError(f"the code of run {run_id[:8]} is not stored on this machine")


def files_beside_images(kept: RunArtifacts, shown: frozenset[str]) -> tuple[RunArtifact, ...]:
    """Return the files of a run that are not shown as images."""
    return tuple(file for file in kept.files if file.name not in shown and not file.on_request)
