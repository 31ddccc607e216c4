"""Declared inputs: patterns, absent files with a way out, and the line that declares more of them."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.base.foreign_text import parse_yaml
from runner.errors import ManifestError
from runner.manifest.inputs import declaring_line, find_inputs
from runner.model import EntryPoint
from tests.conftest import write_tree


class Tree:
    """The files of a commit, by path."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def read(self, path: str) -> bytes | None:
        return self._files.get(path)

    def names(self, folder: str = "") -> tuple[str, ...]:
        start = f"{folder}/" if folder else ""
        below = [path[len(start) :] for path in self._files if path.startswith(start)]
        return tuple(sorted({path.partition("/")[0] + ("/" if "/" in path else "") for path in below}))


def entry(*inputs: str, copied: tuple[str, ...] = ()) -> EntryPoint:
    return EntryPoint(name="main", command="true", inputs=inputs, copied_inputs=copied)


FILES = {"data/a.csv": "1", "data/b.csv": "2", "data/deep/c.csv": "3", "data/.hidden.csv": "4", "data/[x].csv": "5"}


@pytest.mark.parametrize("is_tree", [True, False])
@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("data/a.csv", ["data/a.csv"]),
        ("data", ["data"]),
        ("data/", ["data/"]),
        ("data/*.csv", ["data/[x].csv", "data/a.csv", "data/b.csv"]),
        ("data/[ab].csv", ["data/a.csv", "data/b.csv"]),
        ("data/[x].csv", ["data/[x].csv"]),
        ("data/.*.csv", ["data/.hidden.csv"]),
        ("**/*.csv", ["data/[x].csv", "data/a.csv", "data/b.csv", "data/deep/c.csv"]),
        ("*/deep/?.csv", ["data/deep/c.csv"]),
        ("./data/de*", ["data/deep"]),
    ],
)
def test_patterns_name_what_exists(tmp_path: Path, pattern: str, found: list[str], is_tree: bool) -> None:
    tree = Tree({path: text.encode() for path, text in FILES.items()} if is_tree else {})
    project = None if is_tree else write_tree(tmp_path, FILES)
    assert list(find_inputs(entry(pattern), project, tree).inputs) == found


def test_links_are_followed_by_name_and_not_by_two_stars(tmp_path: Path) -> None:
    project = write_tree(tmp_path / "p", {"own/a.csv": "1"})
    write_tree(tmp_path, {"far/b.csv": "2", "far/deep/c.csv": "3"})
    (project / "linked").symlink_to(tmp_path / "far")
    (tmp_path / "far/loop").symlink_to(tmp_path / "far")
    found = find_inputs(entry("linked/*.csv", "linked/**/*.csv", "**/*.csv", "../far/b*"), project, Tree({})).inputs
    assert found == ("linked/b.csv", "linked/deep/c.csv", "own/a.csv", "../far/b.csv")


def test_the_way_of_a_pattern_is_that_of_its_files(tmp_path: Path) -> None:
    project = write_tree(tmp_path, {"a.csv": "", "b.csv": "", "c.dat": ""})
    found = find_inputs(entry("*.csv", "c.dat", copied=("*.csv",)), project, Tree({}))
    assert (found.inputs, found.copied_inputs) == (("a.csv", "b.csv", "c.dat"), ("a.csv", "b.csv"))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("data/aa.csv", "did you mean 'data/a.csv'?"),
        ("dta", "did you mean 'data'?"),
        ("big.csv", "'dvc pull big.csv'"),
        ("./big.csv", "'dvc pull big.csv'"),
        ("else/where/q*.parquet", "remove the entry from 'inputs'"),
        ("/nowhere/at/all", "remove the entry from 'inputs'"),
        ("[", "remove the entry from 'inputs'"),
    ],
)
@pytest.mark.parametrize("has_folder", [True, False])
def test_an_absent_input_is_refused(tmp_path: Path, name: str, hint: str, has_folder: bool) -> None:
    files = {"data/a.csv": "1", "big.csv.dvc": "outs: []"}
    tree = Tree({path: text.encode() for path, text in files.items()})
    project = write_tree(tmp_path, files) if has_folder else None
    with pytest.raises(ManifestError) as refused:
        find_inputs(entry("data/a.csv", name), project, tree)
    assert f"'main' declares the input '{name}', which does not exist" in refused.value.message
    assert hint in (refused.value.hint or "")


def test_all_absent_inputs_are_counted(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"the inputs 'q0', .*'q4' and 3 more, which do not exist"):
        find_inputs(entry(*(f"q{number}" for number in range(8))), tmp_path, Tree({}))


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)


@given(st.lists(NAMES, unique=True, min_size=1, max_size=4), st.lists(NAMES, unique=True, max_size=2))
def test_the_line_that_declares_inputs_is_yaml(names: list[str], copied: list[str]) -> None:
    line = declaring_line(entry(*copied, copied=tuple(copied)), names)
    declared = parse_yaml(line)["inputs"]
    wanted = list(dict.fromkeys((*copied, *names)))
    if copied:
        assert declared == {name: "copy" if name in copied else "link" for name in wanted}
    else:
        assert declared == wanted
