"""Checks the inputs of a recorded run by their digests, before anything is started."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from posixpath import isabs, normpath, relpath

from msgspec import Struct

from runner.base.files import DigestCache
from runner.base.suggestions import near_words
from runner.errors import UsageError
from runner.model import FileRecord, RunRecord
from runner.reproduction.verdict import InputCheck, InputState
from runner.settings import Home
from runner.source.opening import RecordedFiles
from runner.source.snapshot import Snapshot
from runner.source.tree import TreeFiles


class CheckedInputs(Struct, frozen=True, kw_only=True):
    """The inputs of a run with their states, and the files to provide beside its tree."""

    checks: tuple[InputCheck, ...]
    files: RecordedFiles

    @property
    def bad(self) -> tuple[InputCheck, ...]:
        """The inputs that are missing or have changed."""
        return tuple(one for one in self.checks if one.state in (InputState.CHANGED, InputState.MISSING))


def check_inputs(record: RunRecord, snapshot: Snapshot, moved: Mapping[str, str], home: Home) -> CheckedInputs:
    """Compare each input of a run with its recorded digest.

    ``moved`` are the new paths of inputs, by their recorded names. Nothing is opened but the inputs themselves.

    Raises:
        UsageError: ``moved`` names something that is no input, or one that can't be moved.
    """
    wanted = {one.path: one for one in recorded_inputs(record)}
    _check_moved(moved, wanted)
    tree = TreeFiles(home, snapshot)
    origin = snapshot.root / snapshot.code.subdirectory if snapshot.root else None
    cache = DigestCache(home.root / "cache" / "digests")
    checks: list[InputCheck] = []
    provided: list[tuple[str, Path, str | None]] = []
    for name, expected in wanted.items():
        if name not in moved and tree.identity(name) is not None:
            checks.append(InputCheck(name=name, state=InputState.UNCHANGED))  # the tree is identified by its content
            continue
        path = _path_of(name, moved, origin)
        kept = home.kept_input(record.run_id or "", expected.sha256)
        if name not in moved and not isabs(name) and kept is not None and (path is None or not path.is_file()):
            path = kept
        state = InputState.MISSING if path is None else _state(path, expected, cache)
        checks.append(InputCheck(name=name, state=state, path=str(path) if path else None))
        if path is not None and state is not InputState.MISSING and not isabs(name):
            provided.append((name, path, expected.sha256 if state is InputState.UNCHANGED else None))
    with suppress(OSError):  # the next check reads the files again
        cache.save()
    checks.extend(_unknown_paths(record, tree, wanted, origin))
    files = RecordedFiles(inputs=tuple(provided), folders=tuple(_folders(record, origin)))
    return CheckedInputs(checks=tuple(checks), files=files)


def recorded_inputs(record: RunRecord) -> Iterator[FileRecord]:
    """Yield the files that the record has digests of, with paths relative to the project folder."""
    yield from record.inputs
    start = (record.code.subdirectory if record.code else "") or "."
    for one in record.code.large_files if record.code else ():
        yield FileRecord(path=relpath(one.path, start), size=one.size, sha256=one.sha256)


def _check_moved(moved: Mapping[str, str], wanted: Mapping[str, FileRecord]) -> None:
    for name in moved:
        if name not in wanted:
            near = near_words(name, wanted, most=2)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"Its inputs are: {', '.join(wanted) or 'none'}"
            raise UsageError(f"The run has no recorded input '{name}'", hint=hint)
        if isabs(name):
            hint = f"Put the file at {name}, or allow another one there with --allow-changed-inputs."
            raise UsageError(f"The command of the run opens '{name}' by its absolute path", hint=hint)


def _path_of(name: str, moved: Mapping[str, str], origin: Path | None) -> Path | None:
    if name in moved:
        return Path(moved[name]).absolute()
    if isabs(name):
        return Path(name)
    return Path(normpath(origin / name)) if origin else None


def _state(path: Path, expected: FileRecord, cache: DigestCache) -> InputState:
    try:
        if not path.is_file():
            return InputState.MISSING
        if path.stat().st_size != expected.size:
            return InputState.CHANGED
        is_same = cache.digest(path) == expected.sha256
    except OSError:
        return InputState.MISSING
    return InputState.UNCHANGED if is_same else InputState.CHANGED


def _unknown_paths(
    record: RunRecord, tree: TreeFiles, wanted: Mapping[str, FileRecord], origin: Path | None
) -> Iterator[InputCheck]:
    """Yield the parameters of the type ``path`` that name something of which the record has no digest."""
    for one in record.parameters:
        if one.type != "path" or not one.value:
            continue
        name = within_project(one.value, origin)
        is_known = name in wanted or any(path.startswith(f"{name.rstrip('/')}/") for path in wanted)
        if not is_known and tree.identity(name) is None:
            yield InputCheck(name=one.value, state=InputState.NOT_RECORDED)


def within_project(value: str, origin: Path | None) -> str:
    """Return a path of the user's project relative to it; any other path as it is.

    ``origin`` is the project folder of the original run, None if it had none.
    """
    if origin is None or not isabs(value) or not Path(value).is_relative_to(origin):
        return value
    return Path(value).relative_to(origin).as_posix()


def _folders(record: RunRecord, origin: Path | None) -> Iterator[str]:
    """Yield the folders of outputs that the project has: git does not keep them if they are empty or ignored."""
    for folder in dict.fromkeys(one.path.rpartition("/")[0] for one in record.outputs):
        if folder and origin and not isabs(folder) and (origin / folder).is_dir():
            yield folder
