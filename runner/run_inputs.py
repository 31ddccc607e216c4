"""Records the inputs of a run: declared ones and path parameters before the command starts, opened files afterwards."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from posixpath import dirname, normpath

from msgspec import Struct, structs

from runner.base.files import Stamp, sha256_of
from runner.base.tags import INPUTS_CHANGED_TAG
from runner.manifest import InputParameter, declaring_line, find_path_inputs
from runner.model import Event, EventKind, FileRecord
from runner.path_rules import path_rules
from runner.plan import Plan
from runner.provenance.inputs import as_text, compare_with_pointers, digest_inputs, find_files
from runner.record import RunRecorder
from runner.source.input_files import RequiredPaths
from runner.source.run_folder import RunFolder
from runner.urls import without_credentials

LARGE_VOLUME = 256 << 20
"""Bytes whose digest takes about a second, so that the user is told before they are read."""
MOST_NAMED = 5
_MAX_NOTICES = 20
_SEPARATOR = "; "


class RunInputs(Struct, frozen=True, kw_only=True):
    """The inputs that were recorded before the command started."""

    records: Mapping[str, FileRecord] = {}
    """By the path before secrets were masked."""
    paths: Mapping[str, Path] = {}
    """The files in the run, by the same paths."""
    originals: Mapping[str, tuple[Path, Stamp]] = {}
    """The user's own files among them, to which the command could write: path and stamp before the start."""


def required_paths(plan: Plan) -> RequiredPaths:
    """Return the paths that the run folder must provide: declared inputs, and parameters that are paths."""
    entry_point, project, root = plan.entry_point, plan.source.project, plan.source.root
    named: list[str] = []
    if project is not None and root is not None:
        paths = (one.path for one in _path_inputs(plan, None) if one.url is None)
        below = (path for path in paths if path.is_relative_to(root) and not project.is_relative_to(path))
        named = [os.path.relpath(path, project) for path in below]
    inputs = tuple(dict.fromkeys((*entry_point.inputs, *named)))
    return RequiredPaths(inputs=inputs, copied=entry_point.copied_inputs, outputs=entry_point.outputs)


def _path_inputs(plan: Plan, mapped: Path | None, run: Path | None = None) -> tuple[InputParameter, ...]:
    storage = run / "downloads" if run else plan.home.run("RUN")
    return find_path_inputs(plan.parameters, path_rules(plan.source, plan.files, storage, mapped))


def plan_inputs(plan: Plan) -> dict[str, str] | None:
    """Return the SHA-256 of the declared inputs and path parameters, by name, before the run has a folder.

    None means that they are not all known: one is downloaded, can't be read, or is not on this machine.
    """
    entry_point, project, root = plan.entry_point, plan.source.project, plan.source.root
    parameters = _path_inputs(plan, project)
    if project is None or root is None:
        return None if entry_point.inputs or parameters else {}
    named = [(name, Path(os.path.normpath(project / name))) for name in entry_point.inputs]
    for one in parameters:
        if one.url is not None:
            return None
        if not project.is_relative_to(one.path):
            inside = one.path.is_relative_to(root)
            named.append((os.path.relpath(one.path, project) if inside else str(one.path), one.path))
    files, _ = find_files(named)
    records, unread = digest_inputs(files, plan.home.root / "cache" / "digests", lambda _size: None)
    return None if unread else {one.path: one.sha256 for one in records}


def record_inputs(recorder: RunRecorder, folder: RunFolder) -> RunInputs:
    """Digest and record the declared inputs and what parameters of the type ``path`` name."""
    cache = _cache(recorder)
    files, crowded = find_files(_named(recorder, folder))
    if not files:
        return RunInputs()
    sources = {name: folder.unchanged_source(path) or path for name, path in files.items()}
    volume = report_volume(recorder, "The inputs")
    records, unread = digest_inputs(sources, cache, volume)
    differing = compare_with_pointers(files.values(), cache.with_name("digests-md5"))
    _add(recorder, records)
    recorder.report_some((*crowded, *unread), _MAX_NOTICES)
    for text in differing:
        hint = "record the data with 'dvc add', or get that version with 'dvc checkout'"
        recorder.report(Event(kind=EventKind.WARNING, message=text, hint=hint))
    originals = dict(_originals(folder, recorder, files))
    return RunInputs(records={one.path: one for one in records}, paths=files, originals=originals)


def _cache(recorder: RunRecorder) -> Path:
    return recorder.plan.home.root / "cache" / "digests"


def _named(recorder: RunRecorder, folder: RunFolder) -> Iterator[tuple[str, Path]]:
    """Yield name and path of the inputs that are known before the command starts."""
    for name in recorder.plan.entry_point.inputs:
        yield name, Path(os.path.normpath(folder.project / name))
    for one in _path_inputs(recorder.plan, folder.project, recorder.folder):
        if folder.project.is_relative_to(one.path):  # the whole project, which is recorded as code
            continue
        if one.url is not None:
            yield without_credentials(one.url), one.path
        elif one.path.is_relative_to(folder.root):
            yield os.path.relpath(one.path, folder.project), one.path
        else:
            yield str(one.path), one.path


def _originals(
    folder: RunFolder, recorder: RunRecorder, files: Mapping[str, Path]
) -> Iterator[tuple[str, tuple[Path, Stamp]]]:
    """Yield the files that are neither in the run folder nor downloads; a run in place may change its own folder."""
    own = (os.path.realpath(folder.root), os.path.realpath(recorder.folder))
    for name, path in files.items():
        real = Path(os.path.realpath(path))
        if not any(real.is_relative_to(one) for one in own) and real.exists():
            yield name, (real, Stamp.of(real.stat()))


def record_opened(recorder: RunRecorder, folder: RunFolder, inputs: RunInputs, opened: Mapping[str, bool]) -> bool:
    """Record the ignored files that the command opened; return whether undeclared ones were reported.

    ``opened`` has for each path whether it was seen to be opened; other paths could not be watched.
    """
    plan = recorder.plan
    sources = {name: folder.unchanged_source(folder.project / name) for name in opened if name not in inputs.records}
    readable = {name: path for name, path in sources.items() if path is not None and not path.is_dir()}
    records, unread = digest_inputs(readable, _cache(recorder), report_volume(recorder, "The inputs"))
    _add(recorder, (*inputs.records.values(), *records))
    recorder.report_some(unread, _MAX_NOTICES)
    large = {normpath(os.path.relpath(one.path, plan.code.subdirectory or ".")) for one in plan.snapshot.large}
    folders = [name for name, path in sources.items() if path is not None and path.is_dir()]
    names = (*(one.path for one in records), *folders)
    undeclared = [name for name in names if name not in large and opened.get(name) and not _is_declared(name, inputs)]
    hint = declaring_hint(plan, undeclared)
    if hint is None:
        return False
    message = f"The command opened {listed(undeclared)}, which git ignores and the manifest does not declare"
    recorder.report(Event(kind=EventKind.NOTICE, message=message, hint=hint))
    return True


def declaring_hint(plan: Plan, undeclared: list[str]) -> str | None:
    """Return the line of the manifest that declares files; None if there are none, or no entry point to declare it."""
    if not (undeclared and plan.manifest.path and plan.entry_point.name in plan.manifest.entry_points):
        return None
    declared = plan.manifest.entry_points[plan.entry_point.name]
    line = declaring_line(declared, shorten(undeclared))
    return plan.masker.text(f"in '{declared.name}' of {plan.manifest.path} write: {line}")


def _is_declared(name: str, inputs: RunInputs) -> bool:
    """Return whether files of a folder are recorded already."""
    return any(path.startswith(f"{name}/") for path in inputs.records)


def shorten(names: list[str]) -> list[str]:
    """Return the paths, or their folders if there are many paths."""
    if len(names) <= MOST_NAMED:
        return names
    return list(dict.fromkeys(dirname(name) or name for name in names))


def listed(names: Iterable[str]) -> str:
    """Return the first names, quoted, and the number of the others."""
    every = list(names)
    more = f" and {len(every) - MOST_NAMED} more" if len(every) > MOST_NAMED else ""
    return ", ".join(f"'{name}'" for name in every[:MOST_NAMED]) + more


def _add(recorder: RunRecorder, records: Iterable[FileRecord]) -> None:
    named = recorder.plan.masker.name
    masked = {one.path: one for one in (structs.replace(one, path=named(one.path)) for one in records)}
    recorder.add(inputs=tuple(masked[name] for name in sorted(masked)))


def report_changed(recorder: RunRecorder, folder: RunFolder, inputs: RunInputs) -> None:
    """Warn of the user's files that changed while the run could write to them, and mark the run."""
    changed = set(() if folder.in_place else folder.changed_originals())
    for name, (path, before) in inputs.originals.items():
        if not _is_same(path, before, inputs.records.get(as_text(name))):
            changed.add(name)
    if not changed:
        return
    names = sorted(map(recorder.plan.masker.name, changed))
    recorder.set_tags({INPUTS_CHANGED_TAG: _SEPARATOR.join(names)})
    near = tuple(name for name in names if not name.startswith("/"))[:MOST_NAMED]
    copied = declaring_line(structs.replace(recorder.plan.entry_point, inputs=(), copied_inputs=near), near)
    hint = f"{copied} gives each run a copy that it may change" if near else "write-protect it, or let the run copy it"
    recorder.report(
        Event(
            kind=EventKind.WARNING,
            message=f"Data changed while the run had links to the original: {listed(names)}",
            hint=hint,
        )
    )


def _is_same(path: Path, before: Stamp, record: FileRecord | None) -> bool:
    """Return whether a file was not written, or was written with the same content."""
    try:
        now = Stamp.of(path.stat())
        if (now.size, now.modified, now.inode) == (before.size, before.modified, before.inode):
            return True
        return record is not None and now.size == record.size and sha256_of(path) == record.sha256
    except OSError:
        return False


def report_volume(recorder: RunRecorder, what: str) -> Callable[[int], None]:
    """Return a function that takes the bytes of each file before it is read, and reports a step if they are many."""
    total, limit = 0, LARGE_VOLUME

    def add(size: int) -> None:
        nonlocal total, limit
        total += size
        if total >= limit:
            limit = total * 4
            message = f"Reading {what[0].lower()}{what[1:]} for their digests, {total / 1e6:,.0f} MB so far"
            recorder.report(Event(kind=EventKind.STEP, message=message))

    return add
