"""Records what the command of a run was seen to open, with its role, its digest, and how it was seen."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from posixpath import isabs

from msgspec import Struct

from runner.base.files import open_regular
from runner.environments.model import PATH_SHIM, Prepared
from runner.influences import report_influences
from runner.model import FileRecord
from runner.observed import InputRole, Observation, ObservedInput
from runner.observing import Watched, is_observed, is_plain_python, trace_file, tracer_file
from runner.provenance.completeness import reasons_of_hook, reasons_of_trace
from runner.provenance.events import Events, Opened, addresses, read_events
from runner.provenance.inputs import as_text, digest_inputs
from runner.provenance.tracing import SYSTEM, TRACE_HOOK
from runner.record import RunRecorder
from runner.run_inputs import RunInputs, report_volume
from runner.server.run.redirects import CLIENT_SHIM
from runner.source.run_folder import RunFolder

MOST_LISTED = 2_000
"""Observed inputs in one record; each of its writes contains all of them."""
CHANGED = "changed during the run"
REMOVED = "removed during the run"
SETTINGS = "not read: settings of the user"
_COARSE = 10_000_000
"""Nanoseconds by which the modification time of a file may lag behind the clock."""


class Used(Struct, frozen=True):
    """A run whose command has ended, and what was watched meanwhile; ``started_at`` is in ms since 1970."""

    recorder: RunRecorder
    folder: RunFolder
    environment: Prepared
    inputs: RunInputs
    watched: Watched
    started_at: int


class _Found(Struct):
    """An input before its digest is known; ``name`` is its recorded path."""

    path: str
    name: str
    role: InputRole
    ways: list[str]
    opened: Opened | None = None

    def add(self, way: str) -> None:
        if way not in self.ways:
            self.ways.append(way)


def record_observed(used: Used, most: int) -> None:
    """Record the observed inputs, and report undeclared influence on the results in at most ``most`` lines."""
    recorder = used.recorder
    if not is_observed(recorder):
        return
    events = _take_events(trace_file(recorder))
    traced = tracer_file(recorder)
    calls = _take_events(traced) if traced else Events()
    found = sorted(_find(used, _Places(used, events.prefixes), events, calls), key=_rank)
    observed = tuple(_records(used, found[:MOST_LISTED]))
    calls.hosts = events.hosts
    far = addresses(calls if traced else events)
    way = "trace" if traced else "python"
    names = (ObservedInput(path=name, role=InputRole.ADDRESS, seen=(way,)) for name in far)
    every = (*observed, *names)
    reasons = _reasons(used, events, calls if traced else None)
    if len(found) > MOST_LISTED:
        reasons = (*reasons, f"{len(found) - MOST_LISTED} more inputs were seen than are listed")
    masked = tuple(map(recorder.plan.masker.text, reasons))
    method = "trace" if traced else "hook"
    recorder.add(observed=Observation(method=method, inputs=every, inputs_complete=not reasons, reasons=masked))
    report_influences(recorder, every, events.unseeded, used.started_at, most)


def _reasons(used: Used, events: Events, calls: Events | None) -> tuple[str, ...]:
    """Return why inputs may be missing; ``calls`` are the events of the tracer, None without one."""
    if calls is not None:
        return reasons_of_trace(calls)
    plain = is_plain_python(used.recorder.details.command or "")
    image = ("files of the image and of its volumes are not listed",) if used.environment.container else ()
    return (*reasons_of_hook(events, plain_python=plain, is_limited=used.watched.is_limited), *image)


def _take_events(file: Path) -> Events:
    """Return the events of a file, and remove it: paths in it may contain secrets."""
    if not os.path.lexists(file):
        return Events()
    try:
        return read_events(file)
    finally:
        with suppress(OSError):
            file.unlink()


def _rank(one: _Found) -> tuple[bool, bool, str]:
    """Order inputs: first those that nothing else records, last the files of the tree, which the code identifies."""
    return one.role is InputRole.PROJECT, "declared" in one.ways, one.name


class _Places:
    """Knows what a path is to the run."""

    def __init__(self, used: Used, prefixes: set[str]) -> None:
        recorder, folder = used.recorder, used.folder
        self.folder = folder
        self.files = recorder.plan.files
        root, home = folder.root, recorder.plan.home.root
        # A process is told its folder without links, and most paths that it opens are relative to that.
        self.real_root, self.root = f"{os.path.realpath(root)}/", f"{root}/"
        self.home = (f"{home}/", f"{os.path.realpath(home)}/")
        self.downloads = f"{recorder.folder / 'downloads'}/"
        self.provided = frozenset(str(path) for path, _ in folder.provided)
        self.origins = {str(origin): str(path) for path, origin in folder.provided}
        self.declared = {str(path): name for name, path in used.inputs.paths.items()}
        self.is_inside_image = used.environment.container is not None
        environment = used.environment.record.prefix
        shims = (TRACE_HOOK, CLIENT_SHIM, PATH_SHIM)
        skipped = {*map(str, shims), *prefixes, *([environment] if environment else [])}
        self.skipped = (*SYSTEM, *(f"{one}/" for path in skipped for one in {path, os.path.realpath(path)}))

    def find(self, path: str) -> tuple[InputRole, str] | None:
        """Return role and recorded path of a file; None if it is no input."""
        path = self.origins.get(path, path)
        if path.startswith(self.real_root):
            path = self.root + path.removeprefix(self.real_root)
        name = self.declared.get(path)
        inside = Path(path).is_relative_to(self.folder.top)
        relative = os.path.relpath(path, self.folder.project)
        if inside and self.files.identity(relative) is not None:
            return InputRole.PROJECT, relative
        if name is not None:
            is_url = "://" in name
            return InputRole.DOWNLOAD if is_url else InputRole.OUTSIDE if isabs(name) else InputRole.LINKED, name
        if Path(path).is_relative_to(self.folder.root):
            is_known = not inside or self.folder.in_place or self._is_provided(path)
            return (InputRole.LINKED, relative) if is_known else None
        if path.startswith(self.downloads):
            return InputRole.DOWNLOAD, path.removeprefix(self.downloads)
        if self.is_inside_image or path.startswith((*self.home, *self.skipped)):
            return None
        return InputRole.OUTSIDE, path

    def _is_provided(self, path: str) -> bool:
        """Return whether a file, or a folder that it is in, is a file of the user outside the tree."""
        return any(str(one) in self.provided for one in (path, *Path(path).parents))


def _find(used: Used, places: _Places, events: Events, calls: Events) -> list[_Found]:
    """Return what was seen, once each, by any of the ways: ``events`` of the hook, ``calls`` of the tracer."""
    found: dict[str, _Found] = {}

    def add(path: str, way: str, opened: Opened | None = None) -> None:
        place = places.find(path)
        if place is None or _is_made(used, place[0], path, opened):
            return
        role, name = place
        one = found.setdefault(name, _Found(path, as_text(name), role, []))
        one.add(way)
        one.opened = one.opened or opened
        if opened is not None and opened.how == "d":
            one.role = InputRole.DATABASE

    for declared in used.inputs.paths.values():
        add(str(declared), "declared")
    # The tracer sees the true order of all processes, so that it decides whether a file was first written.
    for way, one in (("trace", calls), ("python", events)):
        for path, opened in one.files.items():
            if calls.files.get(path, opened).is_read and opened.is_read and opened.size is not None:
                add(path, way, opened)
    for watched in (*used.watched.named, *_seen(used)):
        add(str(watched), "watch")
    mask = used.recorder.plan.masker.name
    return [one for one in found.values() if mask(one.name) == one.name]  # the path of a secret parameter is secret


def _seen(used: Used) -> Iterator[Path]:
    """Yield the files outside the tree that were seen to be opened."""
    for name, was_seen in used.watched.provided.items():
        if was_seen:
            yield Path(os.path.normpath(used.folder.project / name))


def _is_made(used: Used, role: InputRole, path: str, opened: Opened | None) -> bool:
    """Return whether the run itself made a file, before it was first seen: for passing data, or in place."""
    if opened is None or opened.modified is None or opened.modified < _start(used.started_at):
        return False
    is_temporary = role is InputRole.OUTSIDE and path.startswith(_temporary_folders())
    return is_temporary or (role is InputRole.LINKED and used.folder.in_place)


def _temporary_folders() -> tuple[str, ...]:
    return tuple(f"{one.rstrip('/')}/" for one in (os.environ.get("TMPDIR"), "/tmp", "/var/tmp") if one)  # noqa: S108


def _start(started_at: int) -> int:
    return started_at * 1_000_000 - _COARSE


def _records(used: Used, found: list[_Found]) -> Iterator[ObservedInput]:
    """Yield the inputs with digests: those that are recorded already, and those of files that did not change."""
    known = {one.path: one for one in used.recorder.details.inputs}
    known |= {as_text(name): one for name, one in used.inputs.records.items()}
    states: dict[str, str] = {}
    unread: dict[str, Path] = {}
    for one in found:
        name = one.name
        if one.role is InputRole.PROJECT or name in known:
            continue
        source, state = _source(used, one)
        if source is None:
            states[name] = state
        else:
            unread[name] = source
    cache = used.recorder.plan.home.root / "cache" / "digests"
    records, _ = digest_inputs(unread, cache, report_volume(used.recorder, "The observed inputs"))
    known |= {one.path: one for one in records}
    for one in found:
        yield _record(one, known, states)


def _record(one: _Found, known: Mapping[str, FileRecord], states: Mapping[str, str]) -> ObservedInput:
    name = one.name
    record = known.get(name) if one.role is not InputRole.PROJECT else None
    is_unread = record is None and one.role is not InputRole.PROJECT
    return ObservedInput(
        path=name,
        role=one.role,
        seen=tuple(one.ways),
        size=record.size if record else one.opened.size if one.opened else None,
        sha256=record.sha256 if record else None,
        state=states.get(name, "can't be read") if is_unread else None,
    )


def _source(used: Used, one: _Found) -> tuple[Path | None, str]:
    """Return the file that has the content that the run saw first, or None and the reason why there is none."""
    path = Path(one.path)
    if one.role is InputRole.OUTSIDE and is_setting(one.path):
        return None, SETTINGS
    if one.role is InputRole.LINKED or used.folder.top in path.parents:
        source = used.folder.unchanged_source(path)
        if source is None:
            return None, CHANGED
        path = source
    try:
        with open_regular(path, follow=True) as file:
            now = os.fstat(file.fileno())
    except FileNotFoundError:
        return None, REMOVED
    except OSError as error:
        return None, f"can't be read: {error.strerror}"
    is_other = one.opened is not None and (now.st_size, now.st_mtime_ns) != (one.opened.size, one.opened.modified)
    if now.st_mtime_ns >= _start(used.started_at) or (is_other and path == Path(one.path)):
        return None, CHANGED
    return path, ""


def is_setting(path: str) -> bool:
    """Return whether a file is in a hidden folder of the user's home folder, where programs keep settings and keys."""
    start = os.path.join(os.path.expanduser("~"), ".")  # noqa: PTH111, PTH118  a text is compared
    return len(start) > 2 and path.startswith(start) and not path.startswith(f"{start}cache/")  # noqa: PLR2004
