"""``proj lock``: writes the lock of an environment beside its specification, or checks that both agree."""

import os
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import Struct, structs

from runner.base.files import write_atomically
from runner.base.lazy import LazyModule
from runner.base.package_names import canonical_name
from runner.base.plurals import counted
from runner.base.suggestions import suggestion
from runner.cli.home import enter_home
from runner.cli.options import project_at
from runner.cli.progress_line import showing_progress
from runner.cli.text import print_lines, print_message, show_event
from runner.environments.backends.uv import UvBackend
from runner.environments.declare.project_lock import (
    FoundLock,
    LockPair,
    differences,
    lock_name,
    lock_pair,
    read_header,
    spec_lines,
)
from runner.environments.declare.source_trees import FolderTree
from runner.environments.declare.spec import read_declared
from runner.environments.model import EnvironmentRequest
from runner.environments.repair.repairs import names_of
from runner.environments.resolve.universal import LockOrder, export_standard, make_lock
from runner.environments.specs import EnvironmentSpec, NoSpec, PythonSpec, UvLockSpec
from runner.environments.version_rules import parse_rule
from runner.errors import EnvironmentSetupError, UsageError
from runner.manifest.environment import kind_of_file
from runner.manifest.files import FolderFiles
from runner.manifest.parser import read_manifest
from runner.model import EnvironmentDeclaration, EnvironmentKind, ProjectFiles
from runner.package_cutoff import cutoff_date
from runner.settings import Home, offline_environment
from runner.source.opening import open_source
from runner.source.snapshot import take_snapshot

if TYPE_CHECKING:
    from runner.cli import lock_conda, lock_uv
else:
    lock_uv = LazyModule("runner.cli.lock_uv")
    lock_conda = LazyModule("runner.cli.lock_conda")

_REQUIREMENTS = ("", ".txt", ".in", ".lock")
"""Extensions of files that can have requirements."""


class LockOptions(Struct, frozen=True, kw_only=True):
    """The options of one call; ``standard`` means the format pylock."""

    as_of: str | None
    platforms: tuple[str, ...]
    upgrade: tuple[str, ...]
    standard: bool
    environ: Mapping[str, str]

    @property
    def command(self) -> str:
        """The command that is written into the lock; it has no paths of this machine."""
        arguments = ["proj", "lock", *(["--as-of", self.as_of] if self.as_of else [])]
        arguments += [argument for name in self.platforms for argument in ("--platform", name)]
        arguments += [argument for name in self.upgrade for argument in ("--upgrade", name)]
        return shlex.join([*arguments, *(["--format", "pylock"] if self.standard else [])])

    @property
    def changes(self) -> bool:
        """Whether the options require a new lock even if the present one is up to date."""
        return bool(self.as_of or self.platforms or self.upgrade)


@click.command("lock")
@click.argument("path", default=".", type=click.Path(exists=True, path_type=Path))
@click.option("--as-of", metavar="DATE|commit|now", help="Use only packages uploaded until then.")
@click.option("--platform", "platforms", multiple=True, metavar="NAME", help="Lock only for this platform; repeatable.")
@click.option("--upgrade", multiple=True, metavar="PKG", help="Upgrade this package; repeatable.")
@click.option(
    "--format", type=click.Choice(["requirements", "pylock", "conda-lock"]), default="requirements", show_default=True
)
@click.option("--check", is_flag=True, help="Check that specification and lock agree; write nothing.")
@click.option("--offline", is_flag=True, help="Use only cached packages.")
def lock(path: Path, platforms: tuple[str, ...], upgrade: tuple[str, ...], check: bool, **options: str | bool) -> int:
    """Lock the environments of the project in the folder PATH, or the environment of the file PATH.

    The lock is written beside the file that it belongs to: requirements.lock, python_env.lock. It has every package
    with its hashes, for all platforms, and runs use it. Locked versions change only with --upgrade or --as-of. The
    format conda-lock writes a conda-lock.yml of conda packages, for --env-manager conda.

    \b
    Examples:
      proj lock
      proj lock --upgrade numpy
      proj lock --check
    """  # noqa: D301  # click reads the control character
    environ = offline_environment(os.environ, forced=bool(options["offline"]))
    if options["format"] == "conda-lock":
        as_of = str(options["as_of"]) if options["as_of"] else None
        home = enter_home(writing=True)
        day = partial(_day, home=home, as_of=as_of)
        order = lock_conda.CondaLockOptions(platforms=platforms, as_of=day, check=check, upgrade=upgrade)
        return lock_conda.lock_conda(path, order, home, environ)
    folder, pairs, by_uv = _pairs(path)
    if check:
        return max(_check(folder, pairs), *(lock_uv.check_uv_lock(folder, spec, environ) for spec in by_uv), 0)
    lock_options = LockOptions(
        as_of=str(options["as_of"]) if options["as_of"] else None,
        platforms=platforms,
        upgrade=upgrade,
        standard=options["format"] == "pylock",
        environ=environ,
    )
    if by_uv and (platforms or lock_options.standard):
        hint = "That lock is for all platforms: leave the options out."
        raise UsageError("--platform and --format don't apply to uv.lock", hint=hint)
    if pairs:
        _refuse_unknown(upgrade, pairs)
    home = enter_home(writing=True)
    for pair in pairs:
        with showing_progress():
            written = _lock(folder, pair, lock_options, home)
        click.echo(str(written))
    for spec in by_uv:
        until = _day(folder, home, lock_options.as_of) if lock_options.as_of else None
        click.echo(str(lock_uv.update_uv_lock(folder, spec, home, environ, upgrade=upgrade, day=until)))
    return 0


def _pairs(path: Path) -> tuple[Path, tuple[LockPair, ...], tuple[UvLockSpec, ...]]:
    """Return the project folder, the declarations with their locks, and those that only uv can lock.

    Raises:
        UsageError: none of them can be locked, or runs do not use the file.
    """
    folder, declarations = declarations_at(path)
    files = FolderFiles(folder)
    specs = [read_declared(declaration, files) for declaration in declarations]
    for spec in specs:
        if spec.refusal:
            raise EnvironmentSetupError(spec.refusal.message, context=spec.refusal.context, hint=spec.refusal.hint)
    pairs = tuple(pair for spec in specs if (pair := lock_pair(spec, files)))
    by_uv = tuple(spec for spec in specs if isinstance(spec, UvLockSpec))
    if not (pairs or by_uv):
        raise UsageError("There is nothing to lock", hint="; ".join(dict.fromkeys(map(_why_not, specs))) + ".")
    return folder, pairs, by_uv


def declarations_at(path: Path) -> tuple[Path, tuple[EnvironmentDeclaration, ...]]:
    """Return the project folder and what a project, or the one file at a path, declares about its environments.

    A file from which the lock of the project is made stands for the declaration that has this lock.

    Raises:
        UsageError: the lock of the file would be in the place of the lock that runs use.
    """
    folder = path if path.is_dir() else path.parent
    files = FolderFiles(folder)
    manifest = read_manifest(files)
    own = [entry.environment for entry in manifest.entry_points.values() if entry.environment]
    declared = tuple(dict.fromkeys((manifest.environment, *own)))
    if path.is_dir():
        above = folder if any(one != EnvironmentDeclaration() for one in declared) else project_at(folder)
        return (folder, declared) if above == folder else declarations_at(above)
    for declaration in declared:
        spec = NoSpec() if declaration.path is None else read_declared(declaration, files)
        pair = lock_pair(spec, files)
        if path.name in (declaration.path, pair.path if pair else None, pair.spec.file if pair else None):
            return folder, (declaration,)
        if pair and lock_name(path.name) in (pair.path, pair.spec.file):
            raise UsageError(
                f"Runs of this project use {spec.file}, not {path.name}",
                hint=f"'proj lock' locks {spec.file}; 'proj add PKG' adds a package to it.",
            )
    kind = kind_of_file(path.name)
    if kind is EnvironmentKind.REQUIREMENTS and path.suffix not in _REQUIREMENTS:
        raise UsageError(
            f"'{path}' declares no environment",
            hint="'proj lock' alone locks what the project in this folder declares.",
        )
    if declared != (EnvironmentDeclaration(),):
        print_message(f"no run of this project uses {path.name}: the manifest declares {_named(declared)}")
    return folder, (EnvironmentDeclaration(kind=kind, path=path.name),)


def _named(declared: tuple[EnvironmentDeclaration, ...]) -> str:
    return ", ".join(one.path or "a container" for one in declared if one != EnvironmentDeclaration())


def _refuse_unknown(upgrade: tuple[str, ...], pairs: tuple[LockPair, ...]) -> None:
    """Refuse to upgrade a package that is neither locked nor required: uv ignores such a name silently.

    Raises:
        UsageError: a name is unknown.
    """
    known: set[str] = set()
    for pair in pairs:
        known |= names_of(pair.spec) | {canonical_name(name) for name in versions(pair.found)}
    for argument in upgrade:
        name = re.split(r"[^\w.-]", argument.strip(), maxsplit=1)[0]
        if canonical_name(name) not in known:
            files_named = " or ".join(filter(None, ("the lock", *(pair.spec.file for pair in pairs))))
            hint = suggestion(canonical_name(name), sorted(known))
            raise UsageError(f"There is no package '{name}' to upgrade in {files_named}", hint=hint)


def _why_not(spec: EnvironmentSpec) -> str:
    if spec.file is None:
        return "a container has no lock" if spec.kind is EnvironmentKind.DOCKER_ENV else "no environment is declared"
    if spec.is_empty:
        return f"{spec.file} requires no packages"
    return f"{spec.file} is a lock itself, and no file is there that it is made from"


def _check(folder: Path, pairs: tuple[LockPair, ...]) -> int:
    files = FolderFiles(folder)
    code = 0
    for pair in pairs:
        faults = differences(pair.found, spec_lines(pair.spec, files)) if pair.found else ("there is no lock",)
        print_lines(f"{pair.path}: {'does not match' if faults else 'is up to date with'} {pair.spec.file}")
        for fault in faults:
            print_lines(f"  {fault}")
        code = 1 if faults else code
    if code:
        print_message("hint: 'proj lock' updates the lock")
    return code


def _lock(folder: Path, pair: LockPair, lock_options: LockOptions, home: Home) -> Path:
    """Write the lock of one declaration, unless it is up to date; return its path."""
    files = FolderFiles(folder)
    found, target = pair.found, _target(folder, pair, standard=lock_options.standard)
    is_there = found is not None and folder / found.path == target
    if found and is_there and not lock_options.changes and not differences(found, spec_lines(pair.spec, files)):
        print_message(f"{found.path} is up to date; --upgrade PKG or --as-of DATE changes versions")
        return target
    lines, text = lock_text(folder, pair, lock_options, home, files)
    print_message("; ".join(changes(versions(found), versions(lines))))
    name = target.relative_to(folder).as_posix()
    if target.exists() and _without_command(target.read_text("utf-8", "replace")) == _without_command(text):
        return target  # otherwise git would show a change of the command line only
    write_atomically(target, text.encode())
    print_message(f"{name} is the lock of {pair.spec.file}; runs use exactly what it has")
    return target


def lock_text(
    folder: Path, pair: LockPair, lock_options: LockOptions, home: Home, files: ProjectFiles
) -> tuple[str, str]:
    """Return the lines of a new lock, and its text; ``files`` may have edits that the folder does not have yet.

    Edited files are resolved as of now, because no commit has them.

    Raises:
        EnvironmentSetupError: no set of packages satisfies the declaration, or the index can't be reached.
    """
    spec, found = pair.spec, pair.found
    request = EnvironmentRequest(
        spec=structs.replace(spec, python=_python(spec, found, lock_options)),
        home=home,
        files=files,
        tree=FolderTree(folder),
        as_of=_day(folder, home, lock_options.as_of) if isinstance(files, FolderFiles) else None,
        environ=lock_options.environ,
    )
    interpreter = UvBackend().choose_interpreter(request, show_event)
    order = LockOrder(
        previous=None if found is None or lock_options.as_of else found.text,
        upgrade=lock_options.upgrade,
        platforms=lock_options.platforms,
        command=lock_options.command,
        has_seeds=not pair.is_compiled,
    )
    text = make_lock(structs.replace(request, spec=spec), order, interpreter, show_event)
    if not lock_options.standard:
        return text, text
    if spec.local_packages:
        print_message("the project's own packages are not part of the lock; runs build them from the tree")
    return text, export_standard(request, text, read_header(text, pair.path))


def _without_command(text: str) -> str:
    """Return a lock without the line that has the command."""
    return re.sub(r"(?m)^(# command: |command = ).*$", "", text, count=1)


def _target(folder: Path, pair: LockPair, *, standard: bool) -> Path:
    """Return the path of the lock.

    Raises:
        UsageError: the project has a lock of another format.
        EnvironmentSetupError: another file has this path.
    """
    file = pair.spec.file or ""
    if pair.is_compiled:
        if standard:
            hint = f"{pair.path} is the lock of {file}; leave out --format."
            raise UsageError("A project has one lock, and this one has another format", hint=hint)
        return folder / pair.path
    name = posixpath.join(posixpath.dirname(file), "pylock.toml") if standard else lock_name(file)
    target = folder / name
    mark = b"[tool.proj]" if standard else b"# proj lock: "
    if target.exists() and mark not in target.read_bytes():
        raise EnvironmentSetupError(
            f"{name} exists and was not written by 'proj lock'", context=str(target), hint="Rename or remove it."
        )
    return target


def _python(spec: PythonSpec, found: FoundLock | None, lock_options: LockOptions) -> str | None:
    """Return the interpreter's version rule: that of the lock if the specification still admits it."""
    if found is None or lock_options.as_of or not found.header.interpreter:
        return spec.python
    before = found.header.interpreter
    try:
        return before if parse_rule(spec.python).admits(before) else spec.python
    except EnvironmentSetupError:
        return before


def _day(folder: Path, home: Home, as_of: str | None) -> datetime | None:
    """Return the package cutoff date; None means now, also for a commit of today."""
    source = open_source(str(folder), None, home, show_event)
    day = cutoff_date(as_of, take_snapshot(source, home, show_event))
    return None if day and day > datetime.now(timezone.utc) else day


def versions(lock: FoundLock | str | None) -> dict[str, str]:
    """Return the versions in a lock by package name."""
    text = lock.text if isinstance(lock, FoundLock) else lock or ""
    return dict(re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", text))


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """Yield how two locks differ, as text."""
    yield counted(len(now), "package")
    changed = [f"{name} {before.get(name, 'new')} → {now[name]}" for name in now if before.get(name) != now[name]]
    gone = [f"{name} {version} removed" for name, version in before.items() if name not in now]
    if before:
        yield ", ".join([*changed, *gone]) or "no version changed"
