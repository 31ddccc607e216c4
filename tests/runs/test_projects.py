"""The project of a folder, and its runs in the store and on a server."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from runner.base.tags import REMOTE_TAG
from runner.runs.local import LocalReader
from runner.runs.opening import open_remote
from runner.runs.projects import find_project, is_of_project
from runner.runs.reader import ProjectScope, RunQuery
from runner.settings import Home
from runner.store import runs
from runner.store.database import Database
from runner.store.entities import NewRun
from tests.conftest import MakeRepository, RunProj, git, write_tree
from tests.support.standalone_server import standalone_server

LOCAL = ("--env-manager", "local")
MANIFEST = "entry_points:\n  main:\n    command: echo done\n"


def test_the_nearest_manifest_or_the_top_of_the_repository(make_repository: MakeRepository, tmp_path: Path) -> None:
    root = make_repository({"a/MLproject": MANIFEST, "a/src/x.py": "", "b/x.py": ""}).resolve()
    git(root, "remote", "add", "origin", "https://ann:secret@git.example.org/x.git")
    remote = "https://git.example.org/x.git"
    inside = ProjectScope(source=f"file://{root}#a", remote=remote, subdirectory="a")
    assert find_project(root / "a" / "src") == find_project(root / "a") == inside
    assert find_project(root / "b") == ProjectScope(source=f"file://{root}", remote=remote, is_certain=False)
    plain = write_tree(tmp_path / "plain", {"MLproject": MANIFEST, "sub/x": ""}).resolve()
    assert find_project(plain / "sub") == ProjectScope(source=str(plain))
    (plain / "MLproject").unlink()
    assert find_project(plain / "sub") == ProjectScope(source=str(plain / "sub"), is_certain=False)
    assert find_project(tmp_path / "absent") is None


SCOPES = (
    ProjectScope(source="file:///p", remote="https://x/y.git"),
    ProjectScope(source="file:///p#a", remote="https://x/y.git", subdirectory="a"),
    ProjectScope(source="/plain"),
    ProjectScope(source="/" + "long" * 30),
)
TAGS: tuple[dict[str, str], ...] = (
    {"mlflow.source.name": "file:///p"},
    {"mlflow.source.name": "file:///p#a"},
    {"mlflow.source.name": "file:///p#a/b"},
    {"mlflow.source.name": "file:///p#ab"},
    {"mlflow.source.name": "file:///pq"},
    {"mlflow.source.name": "/plain"},
    {"mlflow.source.name": "/plain/sub"},
    {"mlflow.source.name": "/plainer"},
    {"mlflow.source.name": "/" + "long" * 30},
    {"mlflow.source.name": "/" + "long" * 30 + "/x"},
    {"mlflow.source.name": "/" + "long" * 31},
    {"mlflow.source.name": "https://x/y.git", "mlflow.source.git.repoURL": "https://x/y.git"},
    {"mlflow.source.git.repoURL": "https://x/y.git", "proj.subdirectory": "a"},
    {"mlflow.source.git.repoURL": "https://x/y.git", "proj.subdirectory": "a/b"},
    {"mlflow.source.git.repoURL": "https://x/y.git", "proj.subdirectory": "ab"},
    {"mlflow.source.git.repoURL": "https://x/y.git#", "proj.subdirectory": "a"},
    {},
)


@pytest.mark.parametrize("scope", SCOPES)
def test_the_store_and_a_server_agree_on_the_runs_of_a_project(db: Database, home: Home, scope: ProjectScope) -> None:
    made = [runs.create(db, NewRun(tags=tags, started_at=number)).run_id for number, tags in enumerate(TAGS)]
    expected = {run_id for run_id, tags in zip(made, TAGS, strict=True) if is_of_project(tags, scope)}
    found = LocalReader(db, home).search(RunQuery(project=scope)).records
    assert {record.run_id for record in found} == expected
    assert 0 < len(expected) < len(TAGS)


def test_each_scope_has_the_runs_that_its_folder_made() -> None:
    def chosen(scope: ProjectScope) -> list[int]:
        return [number for number, tags in enumerate(TAGS) if is_of_project(tags, scope)]

    assert [chosen(scope) for scope in SCOPES] == [[0, 1, 2, 3, 11, 12, 13, 14], [1, 2, 12, 13], [5, 6], [8, 9]]


Listed = Callable[..., list[str]]


def test_a_project_lists_its_own_runs(proj: RunProj, make_repository: MakeRepository, tmp_path: Path) -> None:
    root = make_repository({"MLproject": MANIFEST, "sub/x.py": ""})
    other = write_tree(tmp_path / "other", {"MLproject": MANIFEST})
    empty = write_tree(tmp_path / "empty", {"MLproject": MANIFEST})
    neither = write_tree(tmp_path / "neither", {"x": ""})
    own, theirs = (proj("run", ".", "--json", *LOCAL, cwd=folder).json["run_id"] for folder in (root, other))

    def listed(folder: Path, *words: str) -> list[str]:
        return [record["run_id"] for record in proj("list", "--json", *words, cwd=folder).json]

    assert listed(root) == listed(root / "sub") == [own]
    assert listed(other) == [theirs]
    assert listed(root, "--all") == listed(neither) == [theirs, own]
    assert listed(root, "--experiment", "other") == [theirs]
    assert listed(empty) == []
    said = proj("list", cwd=empty)
    assert "no runs of this project; --all" in said.err
    assert "the runs of this project; --all" in proj("list", cwd=root).err
    assert "--all" not in proj("list", "--all", cwd=root).err


def test_the_default_experiment_is_the_name_of_the_project(proj: RunProj, tmp_path: Path) -> None:
    named = write_tree(tmp_path / "folder", {"MLproject": f"name: churn\n{MANIFEST}"})
    odd = write_tree(tmp_path / "odd", {"MLproject": f'name: "a\\nb"\n{MANIFEST}'})
    plain = write_tree(tmp_path / "plain", {"MLproject": MANIFEST})
    for folder, words, experiment in (
        (named, (), "churn"),
        (named, ("--experiment-name", "asked"), "asked"),
        (named, ("--experiment-id", "0"), "Default"),
        (odd, (), "Default"),
        (plain, (), "plain"),
    ):
        planned = proj("run", ".", "--dry-run", "--json", *LOCAL, *words, cwd=folder).json["experiment"]
        done = proj("run", ".", "--json", *LOCAL, *words, cwd=folder).json["experiment"]
        assert done == experiment
        assert planned == (experiment if "--experiment-id" not in words else None)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_server_is_asked_for_the_runs_of_a_project(tmp_path: Path, clean_room: Path, scope: ProjectScope) -> None:
    theirs = Home(clean_room / "theirs")
    with closing(Database.open(theirs.database)) as database:
        made = [runs.create(database, NewRun(tags=tags, started_at=n)).run_id for n, tags in enumerate(TAGS)]
        with (
            standalone_server(tmp_path, PROJ_HOME=str(theirs.root)) as standalone,
            open_remote(standalone.url) as reader,
        ):
            found = {record.run_id for record in reader.search(RunQuery(project=scope)).records}
    expected = {run_id for run_id, tags in zip(made, TAGS, strict=True) if is_of_project(tags, scope)}
    if scope.remote:  # the remote alone counts there
        expected = {run_id for run_id, tags in zip(made, TAGS, strict=True) if REMOTE_TAG in tags} & expected
    assert found == expected != set()


def test_nested_runs_of_a_server_are_folded(tmp_path: Path, clean_room: Path) -> None:
    theirs = Home(clean_room / "theirs")
    with closing(Database.open(theirs.database)) as database:
        parent = runs.create(database, NewRun(started_at=0)).run_id
        tags = {"mlflow.parentRunId": parent}
        children = [runs.create(database, NewRun(tags=tags, started_at=number)).run_id for number in range(1, 30)]
        with (
            standalone_server(tmp_path, PROJ_HOME=str(theirs.root)) as standalone,
            open_remote(standalone.url) as reader,
        ):
            page = reader.search(RunQuery(folded=True, limit=5))
            assert [record.run_id for record in page.records] == [parent]
            assert page.next_page_token is None
            assert reader.count_children([parent]) == {parent: 29}
            assert [record.run_id for record in reader.children([parent])] == children
            assert len(reader.search(RunQuery(limit=5)).records) == 5
