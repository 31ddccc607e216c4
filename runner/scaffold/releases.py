"""Provides the built-in templates as small git repositories, with a tag for each known version.

Copier merges two versions of a template, and finds versions as tags of a git repository. A wheel is none, so what is in
it is put into a repository in proj's home: past versions from ``past/VERSION/NAME``, the present one from ``NAME``.
"""

import os
import tempfile
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from msgspec import Struct

from runner.errors import ScaffoldError
from runner.scaffold.plain_git import git
from runner.settings import Home

SCHEME = "proj://"
"""The address of a built-in template in a project, the same on every machine; `resolution` resolves it."""

FIXED_COMMIT = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in {"NAME": "proj", "EMAIL": "proj@example.invalid", "DATE": "2000-01-01T00:00:00Z"}.items()
}
"""Author and time of each release, so that the same files give the same commit on every machine."""


class Templates(Struct, frozen=True):
    """A folder of templates and their version."""

    folder: Path
    version: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the templates."""
        return tuple(sorted(path.parent.name for path in self.folder.glob("*/copier.yml")))

    def releases(self, name: str) -> tuple[tuple[str, Path], ...]:
        """Return versions and folders of a template, the oldest first and the current one last."""
        from packaging.version import Version

        past = {path.parent.name: path for path in self.folder.glob(f"past/*/{name}")}
        return (
            *((version, past[version]) for version in sorted(past, key=Version)),
            (self.version, self.folder / name),
        )


def templates_folder() -> Path:
    """Return the folder of the built-in templates: inside the package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    packaged = package / "_templates"
    return packaged if packaged.is_dir() else package.parent / "templates"


def packaged_templates() -> Templates:
    """Return the built-in templates with the version of proj."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return Templates(templates_folder(), version("proj-runner"))
    except PackageNotFoundError:  # run from a checkout that is not installed
        return Templates(templates_folder(), "0")


def shelf(home: Home) -> Path:
    """Return the folder in proj's home that holds the repositories of templates."""
    return home.root / "templates"


def resolution(home: Home) -> dict[str, str]:
    """Return the setting of git that makes it find built-in templates: name and value."""
    return {f"url.{shelf(home).as_posix()}/.insteadOf": SCHEME}


def publish(templates: Templates, name: str, home: Home) -> str:
    """Add all available versions of a template to its repository; return the tag of the current one.

    While the files of one version still change, as they do in a checkout, each state gets a tag: ``1.2``, ``1.2+1``...
    """
    repository = _open_repository(shelf(home) / f"{name}.git")
    *past, (version, folder) = templates.releases(name)
    for old_version, old_folder in past:
        if _tree_of(repository, old_version) is None:
            _tag(repository, old_version, _write_tree(repository, old_folder))
    tree, tag, known = _write_tree(repository, folder), version, None
    for number in count(1):
        following = _tree_of(repository, tag)
        if following is None:
            break
        known, latest = following, tag
        tag = f"{version}+{number}"
    if known == tree:
        return latest
    _tag(repository, tag, tree)
    return tag


def known_versions(name: str, home: Home) -> tuple[str, ...]:
    """Return the versions of a template in its repository on this machine."""
    return tuple(git(shelf(home) / f"{name}.git", "tag", "--list").split())


def _open_repository(path: Path) -> Path:
    if path.is_dir():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent, ignore_cleanup_errors=True) as staging:
        made = Path(staging) / path.name
        made.mkdir()
        git(made, "init", "--quiet", "--bare", "--template=")
        try:
            made.rename(path)
        except OSError as error:
            if not path.is_dir():  # otherwise another process made it first
                raise ScaffoldError(f"{path} can't be made", context=str(error)) from error
    return path


def _write_tree(repository: Path, folder: Path) -> str:
    with tempfile.TemporaryDirectory(prefix=".index-", dir=repository) as staging:
        identity: Mapping[str, str] = {
            "GIT_DIR": str(repository),
            "GIT_WORK_TREE": str(folder),
            "GIT_INDEX_FILE": os.path.join(staging, "index"),  # noqa: PTH118
        }
        no_bytecode = ":(exclude,glob)**/__pycache__/**"
        settings = ("-c", "core.autocrlf=false", "-c", "core.safecrlf=false")
        git(folder, *settings, "add", "--all", "--force", "--", ".", no_bytecode, variables=identity)
        return git(folder, "write-tree", variables=identity)


def _tree_of(repository: Path, tag: str) -> str | None:
    found = git(repository, "for-each-ref", "--format=%(tree)", f"refs/tags/{tag}")
    return found or None


def _tag(repository: Path, tag: str, tree: str) -> None:
    message = f"{repository.stem} {tag}"
    commit = git(repository, "commit-tree", "-m", message, tree, variables=FIXED_COMMIT)
    git(repository, "update-ref", f"refs/tags/{tag}", commit)
