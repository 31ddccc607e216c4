"""Sends runs to a git repository and takes them from there, as refs ``refs/proj/runs/ID``.

No branch, tag or working tree is touched on either side. A ref only ever moves forward: when two people push a run at
once, the second one joins what the first one sent, and tries again.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct, structs

from runner.bundles import layout
from runner.bundles.content import Choice, Content, as_json, collect
from runner.bundles.crate import describe_crate
from runner.bundles.git_remote import GitRemote, empty_repository
from runner.bundles.git_tree import read_code, read_files, write_commit
from runner.bundles.layout import BundledVerdict, Part, bytes_part, file_part
from runner.bundles.reading import CheckedBundle, check_files, checked_bundle, read_manifest
from runner.bundles.readme import make_readme
from runner.bundles.records import read_json
from runner.bundles.writing import digest_part, manifest_of
from runner.errors import BundleError, GitError, SourceError
from runner.settings import Home
from runner.source.gitcommand import GitDirectory, git
from runner.source.snapshot_store import read_run_commit
from runner.source.sound_objects import require_sound_objects

_TRIES = 10
"""Attempts of a push while others push the same run."""
_GENERATED = (layout.README, layout.CRATE, layout.MANIFEST)


class PushedRun(Struct, frozen=True, kw_only=True):
    """The result of sending a run: the JSON of ``proj push --git --json``. ``commit`` is what the ref names now."""

    run_id: str
    remote: str
    ref: str
    commit: str
    is_new: bool


def push_run(run_id: str, remote: GitRemote, home: Home, choice: Choice) -> PushedRun:
    """Send a run to a git repository; what others have sent of it stays.

    Raises:
        SourceError: the repository can't be reached or refuses the push.
        BundleError: the run can't be sent, or what the repository has of it is not valid.
    """
    stored = read_run_commit(home, run_id)
    require_sound_objects(home, run_id, *filter(None, (stored.tree, stored.base)))
    with TemporaryDirectory(prefix="proj-") as temporary:
        folder = Path(temporary)
        own = empty_repository(folder / "own.git")
        content = collect(run_id, home, folder, choice)
        for attempt in range(_TRIES):
            tip = remote.tips(own)[0].get(run_id)
            alternates = [home.snapshot_store / "objects"]
            joined = content
            if tip is not None:
                theirs = folder / f"theirs-{attempt}"
                theirs.mkdir()
                bundle = _fetch(remote, run_id, theirs, whole=True)
                joined = join(content, bundle)
                alternates.append(bundle.objects)
            directory = structs.replace(own, alternates=tuple(alternates))
            commit = write_commit(directory, folder, _with_generated(joined), stored, tip)
            if tip is not None and _tree_of(directory, commit) == _tree_of(directory, tip):
                return _pushed(run_id, remote, tip, is_new=False)
            if remote.push(directory, commit, run_id):
                return _pushed(run_id, remote, commit, is_new=True)
    raise SourceError(f"{remote.url} was changed by others {_TRIES} times meanwhile", hint="Push again.")


def _pushed(run_id: str, remote: GitRemote, commit: str, *, is_new: bool) -> PushedRun:
    return PushedRun(run_id=run_id, remote=remote.url, ref=f"refs/proj/runs/{run_id}", commit=commit, is_new=is_new)


def _tree_of(directory: GitDirectory, commit: str) -> str:
    return git(directory, "rev-parse", f"{commit}^{{tree}}").decode().strip()


def _with_generated(content: Content) -> Sequence[Part]:
    """Return the files of a bundle with those that describe them."""
    parts = {one.path: one for one in content.parts}
    files = [digest_part(parts[name]) for name in sorted(parts)]
    for name, text in (
        (layout.README, make_readme(content, files).encode("utf-8", "backslashreplace")),
        (layout.CRATE, as_json(describe_crate(content, files))),
    ):
        parts[name] = bytes_part(name, text)
        files.append(digest_part(parts[name]))
    parts[layout.MANIFEST] = bytes_part(layout.MANIFEST, as_json(manifest_of(content, files)))
    return tuple(parts[name] for name in sorted(parts))


def join(ours: Content, theirs: CheckedBundle) -> Content:
    """Return our content of a run with the files and verdicts that only the other side has.

    Raises:
        BundleError: the other side has another run under this id.
    """
    if ours.record.code is None or theirs.manifest.tree != ours.record.code.tree:
        raise BundleError(f"{theirs.name} is another run of the same id: it has other code")
    known = {one.path for one in ours.parts}
    more = [one.path for one in theirs.manifest.files if one.path not in known and one.path not in _GENERATED]
    verdicts = {one.run_id: one for one in (*_verdicts(theirs), *ours.verdicts)}
    parts = [one for one in ours.parts if one.path != layout.VERDICTS]
    parts += [file_part(name, theirs.folder / name) for name in more if name != layout.VERDICTS]
    listed = tuple(verdicts[name] for name in sorted(verdicts))
    parts += [bytes_part(layout.VERDICTS, as_json(listed))] if listed else []
    names = {one.path for one in parts}
    inputs = tuple(structs.replace(one, included=one.member in names) for one in ours.inputs)
    has_outputs = theirs.manifest.has(layout.OUTPUTS)
    left = (one for one in ours.left_out if not (has_outputs and one.startswith(f"{layout.OUTPUTS}:")))
    return structs.replace(ours, parts=tuple(parts), verdicts=listed, inputs=inputs, left_out=tuple(left))


def _verdicts(bundle: CheckedBundle) -> tuple[BundledVerdict, ...]:
    if not bundle.manifest.has(layout.VERDICTS):
        return ()
    return read_json(bundle.folder / layout.VERDICTS, tuple[BundledVerdict, ...], bundle.name)


def fetch_run(remote: GitRemote, run_id: str, folder: Path) -> CheckedBundle:
    """Fetch a run from a git repository to an empty folder and check it completely.

    Raises:
        SourceError: the repository can't be reached.
        BundleError: the run is damaged, incomplete or hostile.
    """
    return _fetch(remote, run_id, folder, whole=False)


def _fetch(remote: GitRemote, run_id: str, folder: Path, *, whole: bool) -> CheckedBundle:
    name = f"{remote.url}, run {run_id[:8]}"
    directory = empty_repository(folder / "theirs.git")
    commit = remote.fetch(directory, run_id, whole=whole)
    files = folder / "files"
    files.mkdir()
    try:
        code = read_code(directory, commit, name)
        present = read_files(directory, commit, files, name)
    except GitError as error:
        raise BundleError(f"{name} is damaged", context=error.context) from error
    if layout.MANIFEST not in present:
        raise BundleError(f"{name} is no bundle of a run: it has no {layout.MANIFEST}")
    manifest = read_manifest(files, name)
    if manifest.run_id != run_id:
        raise BundleError(f"{name} is refused: its manifest is that of the run {manifest.run_id[:8]}")
    check_files(files, manifest, present, name)
    return checked_bundle(name, files, manifest, (code, directory.git_dir / "objects"))


def list_runs(remote: GitRemote, folder: Path) -> tuple[Mapping[str, str], int]:
    """Return the commit of each run of a git repository, and how many refs were left alone as no run's.

    Raises:
        SourceError: the repository can't be reached.
    """
    return remote.tips(empty_repository(folder / "list.git"))
