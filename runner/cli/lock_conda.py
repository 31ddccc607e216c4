"""``proj lock --format conda-lock``: locks conda packages."""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import click
from msgspec import Struct

from runner.base.files import write_atomically
from runner.cli.text import print_lines, print_message, show_event
from runner.environments.backends.conda.tools import choose_tool, lock_text
from runner.environments.declare.conda.files import is_conda_lock, this_platform
from runner.environments.declare.conda.spec import read_conda_spec
from runner.environments.declare.source_trees import FolderTree
from runner.environments.declare.spec import read_declared
from runner.environments.model import CondaRequest, EnvironmentRequest
from runner.environments.resolve.conda.pip import TARGETS
from runner.environments.resolve.conda.solve import (
    disagreements,
    find_conda_lock,
    lock_path_beside,
)
from runner.environments.specs import CondaFileSpec
from runner.errors import EnvironmentSetupError, UsageError
from runner.manifest.environment import kind_of_file
from runner.manifest.files import FolderFiles
from runner.manifest.parser import read_manifest
from runner.model import EnvironmentDeclaration
from runner.settings import Home


class CondaLockOptions(Struct, frozen=True, kw_only=True):
    """The options of one call; ``as_of`` returns the package cutoff date for a project folder."""

    platforms: tuple[str, ...]
    as_of: Callable[[Path], datetime | None]
    check: bool
    upgrade: tuple[str, ...]


def lock_conda(path: Path, options: CondaLockOptions, home: Home, environ: Mapping[str, str]) -> int:
    """Write the lock of each conda file of a project, or check that lock and file agree.

    Raises:
        UsageError: the project has no conda file, or an option does not apply to this format.
    """
    unknown = [name for name in options.platforms if name not in TARGETS]
    if unknown:
        raise UsageError(f"'{unknown[0]}' is not a conda platform", hint=f"Platforms are {', '.join(TARGETS)}.")
    if options.upgrade:
        hint = "A lock of this format is always resolved as a whole: leave out --upgrade."
        raise UsageError("--upgrade can't be combined with --format conda-lock", hint=hint)
    code = 0
    for request in _requests(path, options, home, environ):
        code = max(code, _check(request)) if options.check else code
        if not options.check:
            click.echo(str(_write(request, options)))
    return code


def _requests(path: Path, options: CondaLockOptions, home: Home, environ: Mapping[str, str]) -> list[CondaRequest]:
    folder = path if path.is_dir() else path.parent
    files = FolderFiles(folder)
    if path.is_dir():
        manifest = read_manifest(files)
        own = [entry.environment for entry in manifest.entry_points.values() if entry.environment]
        declarations = tuple(dict.fromkeys((manifest.environment, *own)))
    else:
        declarations = (EnvironmentDeclaration(kind=kind_of_file(path.name), path=path.name),)
    specs = [read_declared(declaration, files) for declaration in declarations]
    able = [spec for spec in specs if isinstance(spec, CondaFileSpec) and not is_conda_lock(spec.conda.text)]
    if not able:
        raise UsageError("There is no conda file to lock", hint="Use another --format for other kinds of environments.")
    day = None if options.check else options.as_of(folder)
    return [
        EnvironmentRequest(spec=spec, home=home, files=files, tree=FolderTree(folder), as_of=day, environ=environ)
        for spec in able
    ]


def _check(request: CondaRequest) -> int:
    found = find_conda_lock(request, this_platform(), choose_tool)
    lock = found if found and found.file else None
    faults = disagreements(request, lock) if lock else ("there is no lock",)
    name = lock.file if lock else "conda-lock.yml"
    print_lines(f"{name}: {'does not match' if faults else 'is up to date with'} {request.spec.conda.path}")
    for fault in faults:
        print_lines(f"  {fault}")
    if faults:
        print_message("hint: 'proj lock --format conda-lock' updates the lock")
    return 1 if faults else 0


def _write(request: CondaRequest, options: CondaLockOptions) -> Path:
    spec = read_conda_spec(request.spec.conda, request.files, this_platform())
    platforms = options.platforms or spec.platforms or (this_platform(),)
    target = (request.tree.folder() if request.tree else Path()) / lock_path_beside(request)
    if target.exists() and not is_conda_lock(target.read_text("utf-8", "replace")):
        raise EnvironmentSetupError(
            f"{target.name} exists and is not a lock of conda packages",
            context=str(target),
            hint="Rename or remove it.",
        )
    write_atomically(target, lock_text(request, platforms, show_event).encode())
    return target
