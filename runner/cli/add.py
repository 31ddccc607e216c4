"""``proj add`` and ``proj remove``: change the declared packages of a project, and its lock with them."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
from msgspec import Struct

from runner.analysis.scripts import read_all
from runner.base.files import write_atomically
from runner.base.foreign_text import ForeignTextError, parse_toml
from runner.base.locks import locked_folder
from runner.base.package_names import canonical_name
from runner.base.plurals import counted
from runner.base.suggestions import suggestion
from runner.cli.home import enter_home
from runner.cli.lock import LockOptions, changes, lock_text, versions
from runner.cli.lock_uv import change_uv_project
from runner.cli.options import OFFLINE, PROJECT, project_folder
from runner.cli.text import print_lines, print_message, show_event
from runner.environments.backends.uv import UvBackend
from runner.environments.declare.declared_lines import declared_lines, find_generated
from runner.environments.declare.editing import (
    Edit,
    EditedFiles,
    FirstReadFiles,
    add_packages,
    package_name,
    remove_packages,
)
from runner.environments.declare.editing_poetry import FILE as POETRY_FILE
from runner.environments.declare.editing_poetry import add_to_poetry, has_poetry, remove_from_poetry
from runner.environments.declare.metadata_files import read_metadata
from runner.environments.declare.project_lock import FoundLock, LockPair, lock_pair
from runner.environments.declare.source_trees import FolderTree
from runner.environments.declare.spec import read_declared
from runner.environments.model import EnvironmentRequest
from runner.environments.repair.inference import infer_spec
from runner.environments.specs import AnySpec, PythonSpec, UvLockSpec
from runner.errors import EnvironmentSetupError, UsageError
from runner.manifest import find_entry_point
from runner.manifest.files import FolderFiles
from runner.manifest.parser import read_manifest
from runner.model import EnvironmentDeclaration, EnvironmentKind, ProjectFiles
from runner.settings import Home, offline_environment

NEW_FILE = "requirements.txt"
Change = Callable[[PythonSpec, ProjectFiles, tuple[str, ...]], Edit]


class Project(Struct, frozen=True, kw_only=True):
    """A project whose environment is changed."""

    folder: Path
    files: FirstReadFiles
    declaration: EnvironmentDeclaration
    home: Home
    environ: Mapping[str, str]

    def write(self, changed: Mapping[str, bytes]) -> None:
        """Write changed files, unless another program changed one after it was read.

        Raises:
            UsageError: one was changed; nothing is written.
        """
        others = self.files.changed(changed)
        if others:
            raise UsageError(f"{', '.join(others)} was changed meanwhile, and stays as it is now", hint="Run it again.")
        for path, content in changed.items():
            write_atomically(self.folder / path, content)


def _project_options(command: Callable[..., object]) -> Callable[..., object]:
    entry = click.option("-e", "--entry-point", metavar="NAME", help="Change the environment of this entry point.")
    return PROJECT(entry(OFFLINE(command)))


@click.command("add")
@click.argument("packages", nargs=-1, required=True, metavar="PKG...")
@_project_options
def add(packages: tuple[str, ...], folder: Path | None, entry_point: str | None) -> None:
    """Add packages to the environment of the project, and update its lock.

    PKG is a requirement as pip has it: tqdm, 'tqdm<5', 'pandas[excel]>=2', 'name @ git+https://…'. If its package is
    declared already, it replaces the declared version. Comments and layout of the file stay. If no set of packages
    satisfies the result, nothing is changed.

    \b
    Examples:
      proj add tqdm
      proj add 'numpy<2' pandas
    """  # noqa: D301  # click reads the control character
    for package in packages:
        _check_requirement(package)
    with _open(project_folder(folder), entry_point) as project:
        if (pyproject := _pyproject(project)) is not None:
            change_uv_project(pyproject, project.home, project.environ, "add", list(packages))
            _print_uv(project, pyproject, packages, "added")
        elif _is_poetry(project):
            _finish_poetry(project, add_to_poetry(project.files, packages))
        elif project.declaration.kind is EnvironmentKind.NONE:
            _declare(project, packages)
        else:
            _change(project, packages, add_packages)


@click.command("remove")
@click.argument("packages", nargs=-1, required=True, metavar="PKG...")
@_project_options
def remove(packages: tuple[str, ...], folder: Path | None, entry_point: str | None) -> None:
    """Remove packages from the environment of the project, and update its lock.

    What other packages need stays installed.

    \b
    Examples:
      proj remove tqdm
    """  # noqa: D301  # click reads the control character
    with _open(project_folder(folder), entry_point) as project:
        if (pyproject := _pyproject(project)) is not None:
            change_uv_project(pyproject, project.home, project.environ, "remove", list(packages))
            _print_uv(project, pyproject, packages, "removed")
        elif _is_poetry(project):
            _finish_poetry(project, remove_from_poetry(project.files, packages))
        elif project.declaration.kind is EnvironmentKind.NONE:
            raise UsageError("The project declares no environment, so there is nothing to remove")
        else:
            _change(project, packages, remove_packages)


def _check_requirement(text: str) -> None:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        Requirement(text)
    except InvalidRequirement as error:
        if re.fullmatch(r"[\w.\[\]-]+=[^=]+", text):
            meant = text.replace("=", "==")
            raise UsageError(f"'{text}' is not a requirement", hint=f"Did you mean '{meant}'?") from None
        raise UsageError(
            f"'{text}' is not a requirement: {str(error).splitlines()[0]}",
            hint="Examples: tqdm, 'tqdm<5', 'pandas[excel]>=2', 'name @ git+https://host/repository'.",
        ) from None


@contextmanager
def _open(folder: Path, entry_point: str | None) -> Iterator[Project]:
    """Open a project; another command that changes its environment waits until the end of the block."""
    with locked_folder(folder, lambda: print_message("waiting for another command that changes this project")):
        files = FirstReadFiles(FolderFiles(folder))
        manifest = read_manifest(files)
        own = find_entry_point(manifest, entry_point, files).environment if entry_point else None
        yield Project(
            folder=folder,
            files=files,
            declaration=own or manifest.environment,
            home=enter_home(writing=True),
            environ=offline_environment(os.environ),
        )


def _pyproject(project: Project) -> Path | None:
    """Return the folder of the pyproject.toml that declares the environment, None if another file does."""
    declaration = project.declaration
    if declaration.kind is EnvironmentKind.UV_LOCK:
        return (project.folder / (declaration.path or "")).parent
    if declaration.kind is not EnvironmentKind.NONE:
        return None
    content = project.files.read("pyproject.toml")
    try:
        return project.folder if content and "project" in parse_toml(content) else None
    except ForeignTextError as error:
        raise EnvironmentSetupError(f"pyproject.toml can't be read: {error}", context="pyproject.toml") from None


def _is_poetry(project: Project) -> bool:
    return project.declaration.kind is EnvironmentKind.NONE and has_poetry(project.files)


def _finish_poetry(project: Project, edit: Edit) -> None:
    """Resolve a changed pyproject.toml of poetry, then write it; only poetry writes its lock."""
    edited = EditedFiles(project.files, edit.changed)
    if edit.changed:
        spec = read_metadata(POETRY_FILE, edited)
        if spec is not None:
            _resolve(project, spec, edited)
        project.write(edit.changed)
    for text in edit.texts:
        print_lines(text)
    if edit.changed and project.files.read("poetry.lock") is not None:
        print_message("poetry.lock no longer matches: 'poetry lock' updates it; runs keep to the versions that it has")


def _print_uv(project: Project, folder: Path, packages: tuple[str, ...], done: str) -> None:
    name = (folder / "pyproject.toml").relative_to(project.folder).as_posix()
    print_lines(f"{name}: {', '.join(packages)} {done}")
    print_message("uv.lock is the lock of pyproject.toml; runs use exactly what it has")


def _declare(project: Project, packages: tuple[str, ...]) -> None:
    """Write a requirements file for a project that declares no environment.

    Raises:
        UsageError: runs find an environment in a file that can't be changed here.
    """
    found = infer_spec(project.declaration, project.files, read_all(project.files), "")
    if found.file or found.local_packages or (found.repairs and "imports" not in found.repairs[-1]):
        source = "".join(found.repairs[-1:]).strip("; ")
        raise UsageError(
            f"The manifest declares no environment; a run finds one by itself: {source}",
            hint="Name the file with `python_env:` or `conda_env:` in MLproject, then 'proj add' changes it.",
        )
    if project.files.read(NEW_FILE) is not None:
        raise UsageError(f"{NEW_FILE} is there and is not what the project uses")
    names = [name for name in found.requirements if name not in map(canonical_name, packages)]
    content = "".join(f"{line}\n" for line in (*names, *packages))
    edit = Edit(changed={NEW_FILE: content.encode()}, texts=tuple(f"{NEW_FILE}: '{name}' added" for name in packages))
    declaration = EnvironmentDeclaration(kind=EnvironmentKind.REQUIREMENTS, path=NEW_FILE)
    spec = read_declared(declaration, EditedFiles(project.files, edit.changed))
    _finish(project, spec, None, edit)
    also = f"; it also has what the code imports: {', '.join(names)}" if names else ""
    print_message(f"{NEW_FILE} is new and declares the environment{also}")


def _change(project: Project, packages: tuple[str, ...], change: Change) -> None:
    """Change the declared file and its lock.

    Raises:
        UsageError: the file is no list of packages, or a package to remove is not declared.
        EnvironmentSetupError: no set of packages satisfies the result; nothing was changed.
    """
    files = project.files
    spec = read_declared(project.declaration, files)
    pair = lock_pair(spec, files)
    source = pair.spec if pair else spec
    _refuse_unchangeable(source, spec, files, has_source=pair is not None)
    if not isinstance(source, PythonSpec):
        raise UsageError("This environment has no list of packages that can be changed")
    if change is remove_packages:
        _refuse_undeclared(source, files, packages, pair.found if pair else None)
    edit = change(source, files, packages)
    if not edit.changed:
        for text in edit.texts:
            print_lines(text)
        return
    edited = EditedFiles(files, edit.changed)
    _finish(project, read_declared(project.declaration, edited), pair, edit)


def _refuse_unchangeable(source: AnySpec, spec: AnySpec, files: ProjectFiles, *, has_source: bool) -> None:
    if source.kind is EnvironmentKind.DOCKER_ENV:
        raise UsageError(
            "The environment is a container, so its packages are not declared here",
            hint="Install the package in the Dockerfile of its image.",
        )
    generated = find_generated(spec, files)
    if generated:
        raise UsageError(
            f"{generated.path} is generated from {generated.source} and has no hashes, so that it is no lock",
            hint=f"Generate it with hashes, or remove {generated.source}.",
        )
    if isinstance(spec, UvLockSpec) or spec.kind is EnvironmentKind.PYLOCK or (spec.is_locked and not has_source):
        raise UsageError(
            f"{spec.file} is a lock, and no file is there that it is made from",
            hint="Write what the project needs to a requirements.in beside a requirements.txt; 'proj lock' locks it.",
        )


def _refuse_undeclared(
    spec: PythonSpec, files: ProjectFiles, packages: tuple[str, ...], found: FoundLock | None
) -> None:
    """Refuse to remove what is not declared.

    Raises:
        UsageError: a package is not declared; the message says whether others need it.
    """
    declared = sorted({name for line in declared_lines(spec, files) if (name := package_name(line))})
    locked = {canonical_name(name) for name in versions(found)}
    for package in packages:
        name = canonical_name(package)
        if name in declared:
            continue
        hint = suggestion(name, declared)
        if name in locked:
            hint = "It is installed because other packages need it."
        raise UsageError(f"{spec.file} does not declare '{package}'", hint=hint)


def _finish(project: Project, spec: AnySpec, before: LockPair | None, edit: Edit) -> None:
    """Resolve the changed declaration, then write it, with its lock if it has one."""
    edited = EditedFiles(project.files, edit.changed)
    after = lock_pair(spec, edited)
    written = dict(edit.changed)
    now: str | None = None
    if before and before.found and after:
        now, text = lock_text(project.folder, after, _options(project, before.found), project.home, edited)
        written[before.path] = text.encode()
    elif isinstance(spec, PythonSpec) and not spec.refusal:
        now = _resolve(project, spec, edited)
    project.write(written)
    for text in edit.texts:
        print_lines(text)
    if before and before.found:
        difference = list(changes(versions(before.found), versions(now)))[1:]
        print_lines(f"{before.path}: {'; '.join(difference)}")
        print_message(f"{before.path} is the lock of {before.spec.file}; runs use exactly what it has")
    elif now is None:
        print_message("the packages were not resolved, because the file can't be mapped to the Python index")
    else:
        print_message(
            f"{counted(len(versions(now)), 'package')} resolved; the project has no lock: 'proj lock' writes one"
        )
    if project.files.read("conda-lock.yml") is not None:
        print_message("conda-lock.yml no longer matches: 'proj lock --format conda-lock' updates it")


def _resolve(project: Project, spec: PythonSpec, files: ProjectFiles) -> str:
    """Return the lock that a run makes, to see that the declaration has a solution."""
    request = EnvironmentRequest(
        spec=spec, home=project.home, files=files, tree=FolderTree(project.folder), environ=project.environ
    )
    lock = UvBackend().lock(request, show_event)
    return lock.text if lock else ""


def _options(project: Project, found: FoundLock) -> LockOptions:
    """Return the options with which the present lock was made, except its date."""
    is_limited = "--platform" in found.header.command
    return LockOptions(
        as_of=None,
        platforms=tuple(found.header.platforms.split()) if is_limited else (),
        upgrade=(),
        standard=found.path.endswith(".toml"),
        environ=project.environ,
    )
