"""What is read from a frozen tree once comes back as it was, and only for the same tree and the same question."""

import os
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from runner.base import parse_cache
from runner.base.parse_cache import ParseCache
from runner.environments.declare.spec import read_spec
from runner.environments.specs import StoredSpec
from runner.errors import EnvironmentSetupError, ManifestError
from runner.manifest import FolderFiles
from runner.manifest.parser import read_manifest
from runner.model import EnvironmentDeclaration, Manifest

ROOT = Path(__file__).parents[2]
PROJECTS = sorted(path.parent for path in (ROOT / "example_projects").glob("*/MLproject"))


def refuse() -> NoReturn:
    raise AssertionError("it was to be remembered")


def test_what_was_read_is_not_read_again(tmp_path: Path) -> None:
    memory = ParseCache(tmp_path / "cache", "tree:")
    assert memory.get_or_compute(Manifest, "", lambda: Manifest(name="first")).name == "first"
    assert memory.get_or_compute(Manifest, "", refuse) == Manifest(name="first")


def test_another_tree_another_question_or_another_kind_is_read(tmp_path: Path) -> None:
    memory = ParseCache(tmp_path, "tree:")
    memory.get_or_compute(Manifest, "", lambda: Manifest(name="first"))
    assert memory.get_or_compute(Manifest, "other", lambda: Manifest(name="second")).name == "second"
    assert ParseCache(tmp_path, "tree:sub").get_or_compute(Manifest, "", lambda: Manifest(name="third")).name == "third"
    assert memory.get_or_compute(EnvironmentDeclaration, "", EnvironmentDeclaration) == EnvironmentDeclaration()


def test_other_code_of_ours_reads_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = ParseCache(tmp_path, "tree:")
    memory.get_or_compute(Manifest, "", lambda: Manifest(name="first"))
    monkeypatch.setattr(parse_cache, "_edition", lambda: "of tomorrow")
    assert memory.get_or_compute(Manifest, "", lambda: Manifest(name="second")).name == "second"


def test_what_was_raised_is_raised_again(tmp_path: Path) -> None:
    def fail() -> Manifest:
        raise ManifestError("no")

    memory = ParseCache(tmp_path, "tree:")
    for _ in range(2):
        with pytest.raises(ManifestError):
            memory.get_or_compute(Manifest, "", fail)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"\x81", b"\x93abc", b"\x81\xa4name\xce\x00"])
def test_a_damaged_file_is_read_anew(tmp_path: Path, content: bytes) -> None:
    memory = ParseCache(tmp_path, "tree:")
    memory.get_or_compute(Manifest, "", lambda: Manifest(name="first"))
    for path in tmp_path.iterdir():
        path.write_bytes(content)
    assert memory.get_or_compute(Manifest, "", lambda: Manifest(name="second")).name == "second"
    assert memory.get_or_compute(Manifest, "", refuse).name == "second"


def test_nowhere_to_keep_it_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    memory = ParseCache(tmp_path / "file" / "cache", "tree:")
    assert memory.get_or_compute(Manifest, "", lambda: Manifest(name="first")).name == "first"


def test_the_older_half_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse_cache, "_MOST", 10)
    memory = ParseCache(tmp_path, "tree:")
    for number in range(11):
        memory.get_or_compute(Manifest, str(number), partial(Manifest, name=str(number)))
        for path in tmp_path.iterdir():
            os.utime(path, (path.stat().st_mtime - 10, path.stat().st_mtime - 10))
    assert len(list(tmp_path.iterdir())) == 6
    assert memory.get_or_compute(Manifest, "10", refuse).name == "10"


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)
def test_manifests_and_environments_come_back_whole(tmp_path: Path, project: Path) -> None:
    files, memory = FolderFiles(project), ParseCache(tmp_path, project.name)
    manifest = memory.get_or_compute(Manifest, "", lambda: read_manifest(files))
    assert memory.get_or_compute(Manifest, "", refuse) == manifest == read_manifest(files)
    for declaration in (manifest.environment, *(one.environment for one in manifest.entry_points.values())):
        try:
            spec = read_spec(declaration or EnvironmentDeclaration(), files)
        except EnvironmentSetupError:
            continue
        words = str(declaration)
        memory.get_or_compute(StoredSpec, words, partial(StoredSpec, spec))
        assert memory.get_or_compute(StoredSpec, words, refuse).spec == spec
