"""A requirements file with hashes is the lock of the file of requirements beside it, and runs use exactly it."""

from pathlib import Path

import pytest

from runner.environments.declare.declared_lines import declared_lines, find_compiled
from runner.environments.declare.spec import read_declared
from runner.manifest.files import FolderFiles
from runner.model import EnvironmentDeclaration, EnvironmentKind
from tests.conftest import MakeRepository, RunProj, git, write_tree

pytestmark = pytest.mark.usefixtures("shared_cache")

MANIFEST = """
name: locked
{declared}
entry_points:
  main:
    command: python -c "import six; print(six.__version__)"
"""
PINNED = "six==1.16.0 --hash=sha256:8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254\n"
YAML = {"MLproject": MANIFEST.format(declared="python_env: python_env.yaml"), "python_env.yaml": (
    'python: ">=3.10" # a remark\ndependencies:\n  - -r requirements.txt\n'
)}  # fmt: skip
PLAIN = {"MLproject": MANIFEST.format(declared="")}


@pytest.mark.parametrize(
    ("kind", "files", "expected"),
    [
        ("requirements.txt", {"requirements.txt": PINNED, "requirements.in": "six\n"}, True),
        ("requirements.txt", {"requirements.txt": PINNED}, False),
        ("requirements.txt", {"requirements.txt": "six==1.16.0\n", "requirements.in": "six\n"}, False),
        ("requirements.txt", {"requirements.txt": PINNED + "tqdm\n", "requirements.in": "six\n"}, False),
        ("python_env.yaml", {**YAML, "requirements.txt": PINNED, "requirements.in": "six\n"}, True),
        ("python_env.yaml", {"python_env.yaml": "dependencies: [-r requirements.txt, tqdm]\n"}, False),
        ("python_env.yaml", {"python_env.yaml": "dependencies: [six]\n", "python_env.in": "six\n"}, False),
    ],
)
def test_only_a_pinned_file_with_its_source_beside_is_a_lock(
    tmp_path: Path, kind: str, files: dict[str, str], expected: bool
) -> None:
    both = {"requirements.txt": PINNED, "requirements.in": "six\n", **files} if "tqdm]" in str(files) else files
    found = FolderFiles(write_tree(tmp_path / "p", both))
    kinds = {"requirements.txt": EnvironmentKind.REQUIREMENTS, "python_env.yaml": EnvironmentKind.PYTHON_ENV}
    spec = read_declared(EnvironmentDeclaration(kind=kinds[kind], path=kind), found)
    compiled = find_compiled(spec, found)
    assert (compiled is not None) is expected
    if compiled:
        assert (compiled.path, compiled.source) == ("requirements.txt", "requirements.in")
        assert [line.file for line in declared_lines(spec, found)] == ["requirements.txt"]


@pytest.mark.env
@pytest.mark.parametrize("files", [YAML, PLAIN], ids=["python_env", "requirements"])
def test_the_lock_is_the_file_that_runs_read(
    make_repository: MakeRepository, proj: RunProj, files: dict[str, str]
) -> None:
    root = make_repository({**files, "requirements.txt": PINNED, "requirements.in": "# needed\nsix\n"})
    assert proj("lock", "--check", cwd=root).code == 1  # nothing says what it was made from
    done = proj("lock", cwd=root)
    assert (done.code, done.out) == (0, "requirements.txt\n"), done.err
    assert "requirements.txt is the lock of requirements.in" in done.err
    assert "six==1.16.0" in (root / "requirements.txt").read_text(), "a version that fits stays"
    assert "pip==" not in (root / "requirements.txt").read_text(), "only what is needed is locked"
    assert proj("lock", "--check", cwd=root).code == 0
    run = proj("run", ".", "--json", cwd=root)
    assert run.code == 0, run.err
    assert dict(run.json["environment"]["packages"])["six"] == "1.16.0"
    write_tree(root, {"requirements.in": "# needed\nsix\ntqdm\n"})
    stale = proj("run", ".", cwd=root)
    assert stale.code == 1
    assert "requirements.txt is out of date: it does not match requirements.in" in stale.err
    assert "new in the file: tqdm" in stale.err
    assert "or remove" not in stale.err, "without its lock the project has no environment"
    for path in ("requirements.in", "requirements.txt", *(["python_env.yaml"] if files is YAML else [])):
        assert proj("lock", path, cwd=root).out == "requirements.txt\n"
    assert not list(root.glob("*.lock")), "there is one lock"
    assert "tqdm" in dict(proj("run", ".", "--json", cwd=root).json["environment"]["packages"])
    assert git(root, "status", "--porcelain").split() == ["M", "requirements.in", "M", "requirements.txt"]


def test_a_lock_in_the_place_of_the_one_that_runs_use_is_refused(
    make_repository: MakeRepository, proj: RunProj
) -> None:
    root = make_repository({**PLAIN, "requirements.txt": "six\n", "requirements.in": "tqdm\n"})
    done = proj("lock", "requirements.in", cwd=root)
    assert done.code == 2
    assert "Runs of this project use requirements.txt, not requirements.in" in done.err
    assert not list(root.glob("*.lock"))


@pytest.mark.env
def test_a_platform_without_a_solution_is_left_out_of_the_lock_with_a_warning(
    make_repository: MakeRepository, proj: RunProj
) -> None:
    text = 'six\nsix==999 ; sys_platform == "win32"\n'
    root = make_repository({**PLAIN, "requirements.txt": text})
    done = proj("lock", cwd=root)
    assert (done.code, done.out) == (0, "requirements.lock\n"), done.err
    assert "No set of packages works on Windows: locked for Linux and macOS" in done.err
    assert "# platforms: linux osx\n" in (root / "requirements.lock").read_text()
    assert proj("lock", "--check", cwd=root).code == 0
    assert proj("run", ".", cwd=root).code == 0
    assert proj("lock", "--platform", "win-64", cwd=root).code == 1, "a platform that is asked for is never left out"
    write_tree(root, {"requirements.txt": text + "tabulate==999\n"})
    nothing = proj("lock", cwd=root)
    assert nothing.code == 1
    assert "tabulate" in nothing.err, "the error is that of this machine"
    write_tree(root, {"requirements.txt": "six\n"})
    assert proj("lock", cwd=root).code == 0
    assert "# platforms" not in (root / "requirements.lock").read_text()
