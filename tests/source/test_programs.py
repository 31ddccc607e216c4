"""Programs that a repository names are never started, and what stands in git's way is named: probes 10 and 10a."""

import os
from pathlib import Path

import pytest

from runner.errors import ProjError
from runner.settings import Home
from tests.conftest import MakeRepository, RunProj, git, write_tree
from tests.support.sources import freeze

pytestmark = pytest.mark.slow

KEYS = (
    *("filter.x.clean", "filter.x.smudge", "filter.x.process", "filter.y.clean", "core.fsmonitor", "core.sshCommand"),
    *("core.pager", "core.editor", "core.askPass", "core.gitProxy", "core.alternateRefsCommand", "diff.external"),
    *("diff.x.textconv", "diff.x.command", "merge.x.driver", "credential.helper", "credential.https://h.helper"),
    *("gpg.program", "pager.diff", "pager.ls-files", "remote.origin.uploadpack", "uploadpack.packObjectsHook"),
    *("interactive.diffFilter", "sequence.editor", "alias.cat-file", "alias.ls-files", "hook.x.command"),
)
EXTRA = {"hook.x.event": "post-index-change", "filter.x.required": "true", "log.showSignature": "true"}
ATTRIBUTES = "*.dat filter=x diff=x merge=x\n*.csv filter=y diff=x\n"


def trap(tmp_path: Path) -> Path:
    """Return a program that leaves a trace when it is started."""
    place = tmp_path / "trap"
    place.write_text(f'#!/bin/sh\necho "$0 $*" >> {tmp_path}/sprung\ncat\n', encoding="utf-8")
    place.chmod(0o755)
    return place


def configure(root: Path, where: str, program: Path, tmp_path: Path) -> None:
    """Name a program under every key: in the repository's file, its worktree's, or one that is included."""
    words: tuple[str, ...] = ("config",)
    if where == "worktree":
        git(root, "config", "extensions.worktreeConfig", "true")
        words = ("config", "--worktree")
    if where == "included":
        git(root, "config", "include.path", str(tmp_path / "more"))
        words = ("config", "--file", str(tmp_path / "more"))
    for key in KEYS:
        git(root, *words, key, str(program))
    for key, value in EXTRA.items():
        git(root, *words, key, value)
    hooks = root / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("post-checkout", "post-index-change", "pre-commit", "reference-transaction", "pre-auto-gc"):
        (hooks / name).symlink_to(program)


@pytest.mark.parametrize("where", ["local", "worktree", "included"])
def test_no_program_of_a_repository_is_started(
    make_repository: MakeRepository, proj: RunProj, tmp_path: Path, where: str
) -> None:
    files = {"MLproject": "entry_points:\n  main:\n    command: cat x.dat\n", ".gitattributes": ATTRIBUTES}
    root = make_repository({**files, "x.dat": "1", "y.csv": "2", "z.py": "3"})
    configure(root, where, trap(tmp_path), tmp_path)
    (tmp_path / "sprung").unlink(missing_ok=True)
    write_tree(root, {"x.dat": "5", "y.csv": "6", "z.py": "7", "new.dat": "8"})
    for words in (
        ("run", ".", "--dry-run", "--env-manager", "local"),
        ("run", ".", "--env-manager", "local"),
        ("run", ".", "--env-manager", "local", "--in-place"),
        ("run", ".", "--env-manager", "local", "--version", "HEAD"),
        ("check", "."),
        ("show", "latest"),
        ("diff", "latest"),
        ("list",),
        ("checkout", "latest", str(tmp_path / "out")),
    ):
        done = proj(*words, cwd=root)
        assert done.code == 0, (words, done.err)
        assert not (tmp_path / "sprung").exists(), (words, (tmp_path / "sprung").read_text())


def test_an_absent_commit_of_a_partial_clone_is_not_fetched_to_show_a_run(
    make_repository: MakeRepository, proj: RunProj, tmp_path: Path
) -> None:
    root = make_repository({"MLproject": "entry_points:\n  main:\n    command: 'true'\n"})
    assert proj("run", ".", "--env-manager", "local", cwd=root).code == 0
    git(root, "config", "remote.origin.url", f"ext::{trap(tmp_path)}")
    git(root, "config", "protocol.ext.allow", "always")
    git(root, "config", "remote.origin.promisor", "true")
    git(root, "config", "extensions.partialClone", "origin")
    git(root, "config", "core.repositoryFormatVersion", "1")
    (tmp_path / "sprung").unlink(missing_ok=True)
    for path in (root / ".git/objects").glob("??/*"):
        path.unlink()
    assert proj("show", "latest", cwd=root).code == 0
    proj("run", ".", "--env-manager", "local", cwd=root)
    assert not (tmp_path / "sprung").exists()


def test_a_filter_that_the_user_configured_counts_though_the_repository_names_another(
    make_repository: MakeRepository, home: Home, tmp_path: Path
) -> None:
    root = make_repository({"a.py": "1"})
    git(root, "config", "--global", "filter.upper.clean", "tr a-z A-Z")
    git(root, "config", "--global", "filter.upper.smudge", "tr A-Z a-z")
    write_tree(root, {".gitattributes": "*.dat filter=upper\n", "x.dat": "content"})
    git(root, "add", ".")
    git(root, "commit", "-qm", "filtered")
    git(root, "config", "filter.upper.clean", str(trap(tmp_path)))
    os.utime(root / "x.dat", (1, 1))  # so that git has to look at the content
    assert not freeze(root, home)[1].code.dirty
    write_tree(root, {"x.dat": "changed"})
    assert freeze(root, home)[1].code.changed_files == ("x.dat",)
    assert not (tmp_path / "sprung").exists()


def test_a_filter_of_the_repository_alone_is_named_where_it_may_explain_a_change(
    make_repository: MakeRepository, home: Home
) -> None:
    root = make_repository({"a.py": "1"})
    git(root, "config", "filter.strip.clean", "tr a-z A-Z")
    write_tree(root, {".gitattributes": "*.dat filter=strip\n", "x.dat": "content", "y.dat": "more"})
    git(root, "add", ".")
    git(root, "commit", "-qm", "filtered")
    assert not freeze(root, home)[1].code.dirty  # git wrote the index after it had looked at the files
    os.utime(root / "x.dat")
    _, snapshot = freeze(root, home)
    assert snapshot.code.changed_files == ("x.dat",)
    assert any("strip" in notice and "git config --global" in notice for notice in snapshot.notices)


NAMES = (".gitignore", ".gitattributes", ".gitmodules", "sub/.gitignore", "sub/.gitattributes")
OTHERS = ("MLproject", "requirements.txt", "python_env.yaml", "conda.yaml", "pyproject.toml", "uv.lock", "notes")


@pytest.mark.parametrize("name", [*NAMES, *OTHERS])
@pytest.mark.parametrize("was_tracked", [False, True])
def test_a_pipe_in_the_place_of_a_file_holds_nothing_up(
    make_repository: MakeRepository, home: Home, name: str, *, was_tracked: bool
) -> None:
    root = make_repository({"a.py": "1", "sub/b.py": "2", **({name: ""} if was_tracked else {})})
    (root / name).unlink(missing_ok=True)
    os.mkfifo(root / name)
    try:
        _, snapshot = freeze(root, home)
    except ProjError as error:
        assert name in f"{error.message} {error.context}"  # noqa: PT017  # either is right, waiting is not
        assert name in NAMES
    else:
        assert any(name in notice for notice in snapshot.notices)


@pytest.mark.parametrize("name", ["config", "info/exclude", "index", "included", "excluded"])
def test_a_pipe_in_a_git_directory_is_named(
    make_repository: MakeRepository, home: Home, tmp_path: Path, name: str
) -> None:
    root = make_repository({"a.py": "1"})
    place = tmp_path / name if name in ("included", "excluded") else root / ".git" / name
    if name in ("included", "excluded"):
        git(root, "config", "include.path" if name == "included" else "core.excludesFile", str(place))
    place.parent.mkdir(exist_ok=True)
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    with pytest.raises(ProjError) as caught:
        freeze(root, home)
    assert place.name in f"{caught.value.message} {caught.value.context}"
