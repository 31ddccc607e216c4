"""``proj lock``: write, beside the spec, what it is resolved to; or say whether spec and lock still agree."""

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
from runner.cli.home import enter_home
from runner.cli.text import print_lines, say, show_event
from runner.environments.backends.python_backend import PythonBackend
from runner.environments.backends.registry import BACKENDS
from runner.environments.cache.source_trees import FolderTree
from runner.environments.declare.project_lock import (
    FoundLock,
    differences,
    find_project_lock,
    is_lockable,
    lock_name,
    read_header,
    spec_lines,
)
from runner.environments.declare.spec import read_declared
from runner.environments.declare.version_rules import parse_rule
from runner.environments.model import EnvironmentRequest, EnvironmentSpec
from runner.environments.repair.repairs import names_of
from runner.environments.resolve.universal import LockOrder, export_standard, make_lock
from runner.errors import EnvironmentSetupError, UsageError
from runner.manifest.environment import kind_of_file
from runner.manifest.faults import suggestion
from runner.manifest.files import FolderFiles
from runner.manifest.parser import read_manifest
from runner.model import EnvironmentDeclaration, EnvironmentKind
from runner.package_cutoff import as_of
from runner.settings import Home, offline_environment
from runner.source.opening import open_source
from runner.source.snapshot import take_snapshot

if TYPE_CHECKING:
    from runner.cli import lock_conda
else:
    lock_conda = LazyModule("runner.cli.lock_conda")


class Wish(Struct, frozen=True, kw_only=True):
    """The words of one call."""

    as_of: str | None
    platforms: tuple[str, ...]
    upgrade: tuple[str, ...]
    standard: bool
    environ: Mapping[str, str]

    @property
    def command(self) -> str:
        """The call as it is written into the lock; no path of this machine is in it."""
        words = ["proj", "lock", *(["--as-of", self.as_of] if self.as_of else [])]
        words += [word for name in self.platforms for word in ("--platform", name)]
        words += [word for name in self.upgrade for word in ("--upgrade", name)]
        return shlex.join([*words, *(["--format", "pylock"] if self.standard else [])])

    @property
    def changes(self) -> bool:
        """Say whether a lock that is up to date is to be made again."""
        return bool(self.as_of or self.platforms or self.upgrade)


@click.command("lock")
@click.argument("path", default=".", type=click.Path(exists=True, path_type=Path))
@click.option("--as-of", metavar="DATE|commit|now", help="Consider packages uploaded until then.")
@click.option("--platform", "platforms", multiple=True, metavar="NAME", help="Only for this platform; repeatable.")
@click.option("--upgrade", multiple=True, metavar="PKG", help="Take a newer version of this package; repeatable.")
@click.option(
    "--format", type=click.Choice(["requirements", "pylock", "conda-lock"]), default="requirements", show_default=True
)
@click.option("--check", is_flag=True, help="Say whether spec and lock agree; nothing is resolved or written.")
@click.option("--offline", is_flag=True, help="Use what is cached only.")
def lock(path: Path, platforms: tuple[str, ...], upgrade: tuple[str, ...], check: bool, **options: str | bool) -> int:
    """Lock the environments of the project in the folder PATH, or the one of the file PATH.

    The lock stands beside the file that it is of: requirements.lock, python_env.lock. It holds every package with its
    hashes, for all platforms, and runs use it. Versions that are locked stay unless --upgrade or --as-of asks for
    others. The format conda-lock writes conda-lock.yml, of conda's own packages, for --env-manager conda.
    """
    environ = offline_environment(os.environ, asked=bool(options["offline"]))
    if options["format"] == "conda-lock":
        asked = str(options["as_of"]) if options["as_of"] else None
        home = enter_home(writing=True)
        day = partial(_day, home=home, asked=asked)
        order = lock_conda.CondaOrder(platforms=platforms, as_of=day, check=check, upgrade=upgrade)
        return lock_conda.lock_conda(path, order, home, environ)
    folder, specs = _specs(path)
    if check:
        return _check(folder, specs)
    wish = Wish(
        as_of=str(options["as_of"]) if options["as_of"] else None,
        platforms=platforms,
        upgrade=upgrade,
        standard=options["format"] == "pylock",
        environ=environ,
    )
    _refuse_unknown(upgrade, folder, specs)
    home = enter_home(writing=True)
    for spec in specs:
        click.echo(str(_lock(folder, spec, wish, home)))
    return 0


def _specs(path: Path) -> tuple[Path, tuple[EnvironmentSpec, ...]]:
    """Return the project folder and what its environments ask for.

    Raises:
        UsageError: nothing of it can be locked.
    """
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        manifest = read_manifest(FolderFiles(folder))
        own = [entry.environment for entry in manifest.entry_points.values() if entry.environment]
        declarations = tuple(dict.fromkeys((manifest.environment, *own)))
    else:
        declarations = (EnvironmentDeclaration(kind=kind_of_file(path.name), path=path.name),)
    specs = [read_declared(declaration, FolderFiles(folder)) for declaration in declarations]
    for spec in specs:
        if spec.refusal:
            raise EnvironmentSetupError(spec.refusal.message, context=spec.refusal.context, hint=spec.refusal.hint)
    able = tuple(spec for spec in specs if is_lockable(spec))
    if not able:
        raise UsageError("There is nothing to lock", hint="; ".join(dict.fromkeys(map(_why_not, specs))) + ".")
    return folder, able


def _refuse_unknown(upgrade: tuple[str, ...], folder: Path, specs: tuple[EnvironmentSpec, ...]) -> None:
    """Refuse to upgrade what is neither locked nor asked for: uv passes over such a name without a word.

    Raises:
        UsageError: there is such a name.
    """
    files = FolderFiles(folder)
    known: set[str] = set()
    for spec in specs:
        found = find_project_lock(spec, files)
        known |= names_of(spec) | {canonical_name(name) for name in _versions(found.text if found else "")}
    for word in upgrade:
        name = re.split(r"[^\w.-]", word.strip(), maxsplit=1)[0]
        if canonical_name(name) not in known:
            places = " or ".join(filter(None, ("the lock", *(spec.file for spec in specs))))
            hint = suggestion(canonical_name(name), sorted(known))
            raise UsageError(f"There is no package '{name}' to upgrade in {places}", hint=hint)


def _why_not(spec: EnvironmentSpec) -> str:
    if spec.file is None:
        return "a container is not locked" if spec.kind is EnvironmentKind.DOCKER_ENV else "no environment is declared"
    return f"{spec.file} asks for nothing" if spec.is_empty else f"{spec.file} is a lock itself"


def _check(folder: Path, specs: tuple[EnvironmentSpec, ...]) -> int:
    files = FolderFiles(folder)
    code = 0
    for spec in specs:
        found = find_project_lock(spec, files)
        faults = differences(found, spec_lines(spec, files)) if found else ("there is no lock",)
        name = found.path if found else lock_name(spec.file or "")
        print_lines(f"{name}: {'does not fit' if faults else 'is up to date with'} {spec.file}")
        for fault in faults:
            print_lines(f"  {fault}")
        code = 1 if faults else code
    if code:
        say("hint: 'proj lock' brings it up to date")
    return code


def _lock(folder: Path, spec: EnvironmentSpec, wish: Wish, home: Home) -> Path:
    """Make the lock of one spec, unless it is there already; return where it is."""
    files = FolderFiles(folder)
    found = find_project_lock(spec, files)
    target = _target(folder, spec, standard=wish.standard)
    is_there = found is not None and folder / found.path == target
    if found and is_there and not wish.changes and not differences(found, spec_lines(spec, files)):
        say(f"{found.path} is up to date; --upgrade PKG or --as-of DATE changes versions")
        return target
    request = EnvironmentRequest(
        spec=structs.replace(spec, python=_python(spec, found, wish)),
        home=home,
        files=files,
        tree=FolderTree(folder),
        as_of=_day(folder, home, wish.as_of),
        environ=wish.environ,
    )
    member = BACKENDS["uv"]
    if not isinstance(member, PythonBackend):
        raise TypeError(member)
    interpreter = member.choose_interpreter(request, show_event)
    order = LockOrder(
        previous=None if found is None or wish.as_of else found.text,
        upgrade=wish.upgrade,
        platforms=wish.platforms,
        command=wish.command,
    )
    text = make_lock(structs.replace(request, spec=spec), order, interpreter, show_event)
    say("; ".join(_changes(_versions(found.text if found else ""), _versions(text))))
    if wish.standard:
        if spec.local_packages:
            say("packages of the project itself are not part of the lock; runs build them from the tree")
        text = export_standard(request, text, read_header(text, target.name))
    if target.exists() and _without_command(target.read_text("utf-8", "replace")) == _without_command(text):
        return target  # the call alone is no change: git would show one
    write_atomically(target, text.encode())
    if not is_there:
        say(
            "runs use this lock from now on, in an environment of its own, which shares files with those that are there"
        )
    return target


def _without_command(text: str) -> str:
    """Return a lock without the line that says by which call it was made."""
    return re.sub(r"(?m)^(# command: |command = ).*$", "", text, count=1)


def _target(folder: Path, spec: EnvironmentSpec, *, standard: bool) -> Path:
    """Return where the lock goes.

    Raises:
        EnvironmentSetupError: a file that is not ours is there.
    """
    name = posixpath.join(posixpath.dirname(spec.file or ""), "pylock.toml") if standard else lock_name(spec.file or "")
    target = folder / name
    mark = b"[tool.proj]" if standard else b"# proj lock: "
    if target.exists() and mark not in target.read_bytes():
        raise EnvironmentSetupError(
            f"{name} is there and was not made by 'proj lock'", context=str(target), hint="Rename or remove it."
        )
    return target


def _python(spec: EnvironmentSpec, found: FoundLock | None, wish: Wish) -> str | None:
    """Return the rule for the interpreter: that of the lock as long as the spec still admits it."""
    if found is None or wish.as_of or not found.header.interpreter:
        return spec.python
    before = found.header.interpreter
    try:
        return before if parse_rule(spec.python).admits(before) else spec.python
    except EnvironmentSetupError:
        return before


def _day(folder: Path, home: Home, asked: str | None) -> datetime | None:
    """Return until when packages are considered; None is now, also for a commit of today."""
    source = open_source(str(folder), None, home, show_event)
    day = as_of(asked, take_snapshot(source, home, show_event))
    return None if day and day > datetime.now(timezone.utc) else day


def _versions(text: str) -> dict[str, str]:
    return dict(re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", text))


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    yield f"{len(now)} packages"
    changed = [f"{name} {before.get(name, 'new')} → {now[name]}" for name in now if before.get(name) != now[name]]
    gone = [f"{name} {version} gone" for name, version in before.items() if name not in now]
    if before:
        yield ", ".join([*changed, *gone]) or "no version changed"
