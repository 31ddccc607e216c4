"""In a tree with changes nothing declared is replaced unless ``--repair`` is given; a locked project stays locked."""

from pathlib import Path

import pytest

from runner.environments.repair.missing import MissingImport, missing_import_warnings
from runner.environments.specs import ProjectLock, PythonSpec
from runner.model import EnvironmentKind
from tests.conftest import MakeRepository, RunProj, write_tree

pytestmark = pytest.mark.usefixtures("shared_cache")

MANIFEST = "entry_points:\n  main:\n    command: python t.py\n"
ABSENT = {"MLproject": MANIFEST, "requirements.txt": "tabulate==0.9.99\n", "t.py": "import tabulate\n"}
BOTH = ("Change the version of the package, or `python`, in requirements.txt", "or run with --repair")


@pytest.mark.env
@pytest.mark.parametrize("tree", ["new", "dirty"])
def test_a_pin_is_not_replaced_in_a_tree_with_changes(
    make_repository: MakeRepository, tmp_path: Path, proj: RunProj, tree: str
) -> None:
    root = make_repository(ABSENT) if tree == "dirty" else write_tree(tmp_path / "plain", ABSENT)
    if tree == "dirty":
        committed = proj("run", ".", "--as-of", "now", "--json", cwd=root)
        assert committed.code == 0, committed.err
        assert "'tabulate==0.9.99' is not on the index" in committed.json["environment"]["repairs"][0]
        write_tree(root, {"new.txt": "x"})
    refused = proj("run", ".", cwd=root)
    assert refused.code == 1
    for part in BOTH:
        assert part in refused.err
    plain = proj("run", ".", "--no-repair", cwd=root)
    assert plain.code == 1
    assert BOTH[1] not in plain.err, "--no-repair was asked for"
    repaired = proj("run", ".", "--repair", "--json", cwd=root)
    assert repaired.code == 0, repaired.err
    assert "'tabulate==0.9.99' is not on the index" in repaired.json["environment"]["repairs"][0]


@pytest.mark.env
def test_an_absent_environment_file_names_both_ways_out(tmp_path: Path, proj: RunProj) -> None:
    files = {"MLproject": f"python_env: absent.yaml\n{MANIFEST}", "requirements.txt": "six\n", "t.py": "import six\n"}
    root = write_tree(tmp_path / "p", files)
    refused = proj("run", ".", cwd=root)
    assert refused.code == 1
    assert "'python_env' names the file 'absent.yaml', which is not there" in refused.err
    assert "'proj run --repair' uses another file" in refused.err
    repaired = proj("run", ".", "--repair", "--json", cwd=root)
    assert repaired.code == 0, repaired.err
    assert "'requirements.txt' is used" in repaired.json["environment"]["repairs"][0]


@pytest.mark.env
def test_what_is_missing_in_a_locked_project_is_added_by_its_own_command(
    make_repository: MakeRepository, proj: RunProj
) -> None:
    root = make_repository({"MLproject": MANIFEST, "requirements.txt": "six\n", "t.py": "import tabulate\n"})
    assert proj("lock", cwd=root).code == 0
    before = (root / "requirements.lock").read_bytes()
    failed = proj("run", ".", "--add-missing", cwd=root)
    assert failed.code == 1
    assert (
        "the project is locked, so --add-missing adds nothing: 'proj add tabulate' updates the lock too" in failed.err
    )
    assert (root / "requirements.lock").read_bytes() == before
    assert proj("add", "tabulate", cwd=root).code == 0
    assert proj("run", ".", cwd=root).code == 0


@pytest.mark.parametrize("is_locked", [True, False])
def test_the_hint_fits_the_project(is_locked: bool) -> None:
    lock = ProjectLock(path="requirements.lock", text="six==1.16.0\n", python="3.11", pythons=">=3.11")
    spec = PythonSpec(
        kind=EnvironmentKind.REQUIREMENTS,
        file="requirements.txt",
        requirements=("six",),
        project_lock=lock if is_locked else None,
    )
    missing = [MissingImport(module="tqdm", package="tqdm", wanted_by="t.py:1")]
    (event,) = missing_import_warnings(missing, spec)
    assert ("proj add tqdm" in (event.hint or "")) is is_locked
    assert ("or run with --add-missing" in (event.hint or "")) is not is_locked
