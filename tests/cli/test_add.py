"""``proj add`` and ``proj remove``: declared file and lock change together, and the next run uses exactly the lock."""

import re
from pathlib import Path

import pytest

from runner.cli.add import Project
from runner.environments.declare.editing import FirstReadFiles
from runner.errors import UsageError
from runner.manifest.files import FolderFiles
from runner.model import EnvironmentDeclaration, EnvironmentKind
from runner.settings import Home
from tests.conftest import MakeRepository, RunProj, start_proj, write_tree

pytestmark = pytest.mark.usefixtures("shared_cache")

COMMAND = "entry_points:\n  main:\n    command: python t.py\n"
CODE = {"t.py": "import six, tqdm; print('both')\n"}
CONDA = "channels: [conda-forge]\ndependencies:\n  - python\n  - pip\n  - pip:\n      - six # why\n"
PYPROJECT = '[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.10"\ndependencies = ["six"] # why\n'
LAYOUTS = {
    "requirements": ({"requirements.txt": "six # why\n"}, "requirements.txt", "requirements.lock"),
    "compiled": (
        {
            "requirements.in": "six # why\n",
            "requirements.txt": "six==1.17.0 --hash=sha256:"
            "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274\n",
        },
        "requirements.in",
        "requirements.txt",
    ),
    "python_env": (
        {"python_env.yaml": 'python: ">=3.10" # rule\ndependencies:\n  - six # why\n'},
        "python_env.yaml",
        "python_env.lock",
    ),
    "conda": ({"conda.yaml": CONDA}, "conda.yaml", "conda.lock"),
}


@pytest.mark.env
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_a_package_is_declared_locked_used_and_removed_again(
    make_repository: MakeRepository, proj: RunProj, layout: str
) -> None:
    files, declared, lock = LAYOUTS[layout]
    root = make_repository({"MLproject": COMMAND, **CODE, **files})
    assert proj("lock", cwd=root).out == f"{lock}\n"
    before = {name: (root / name).read_bytes() for name in (declared, lock)}
    done = proj("add", "tqdm", cwd=root)
    assert done.code == 0, done.err
    changed = re.fullmatch(rf"{declared}: 'tqdm' added\n{lock}: (?:colorama new → \S+, )?tqdm new → (\S+)\n", done.out)
    assert changed, done.out
    assert f"{lock} is the lock of {declared}" in done.err
    assert "six # why" in (root / declared).read_text()
    assert proj("lock", "--check", cwd=root).code == 0
    run = proj("run", ".", "--json", cwd=root)
    assert (run.code, run.json["status"]) == (0, "FINISHED"), run.err
    version = changed[1]
    assert dict(run.json["environment"]["packages"])["tqdm"] == version
    refused = proj("remove", "tdqm", cwd=root)
    assert (refused.code, "did you mean 'tqdm'?" in refused.err) == (2, True)
    gone = proj("remove", "tqdm", cwd=root)
    assert gone.out.startswith(f"{declared}: 'tqdm' removed\n{lock}: "), gone.out
    assert f"tqdm {version} removed" in gone.out
    assert {name: (root / name).read_bytes() for name in (declared, lock)} == before


@pytest.mark.env
@pytest.mark.parametrize("is_locked", [True, False])
def test_nothing_is_changed_if_nothing_satisfies_the_result(
    make_repository: MakeRepository, proj: RunProj, is_locked: bool
) -> None:
    root = make_repository({"MLproject": COMMAND, "requirements.txt": "six\n"})
    if is_locked:
        assert proj("lock", cwd=root).code == 0
    before = {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}
    done = proj("add", "six==999", cwd=root)
    assert (done.code, done.out) == (1, ""), done.err
    assert "six" in done.err
    assert {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()} == before


@pytest.mark.env
@pytest.mark.parametrize("files", [LAYOUTS["python_env"][0], LAYOUTS["compiled"][0], {"pyproject.toml": PYPROJECT}])
def test_packages_that_are_added_at_once_are_all_declared(
    make_repository: MakeRepository, proj: RunProj, files: dict[str, str]
) -> None:
    root = make_repository({"MLproject": COMMAND, **CODE, **files})
    if "pyproject.toml" not in files:  # uv makes the lock of a project with the first change
        assert proj("lock", cwd=root).code == 0
    names = ("tqdm", "idna", "toml")
    started = [start_proj("add", name, cwd=root) for name in names]
    ended = [(process.communicate(timeout=240), process.returncode) for process in started]
    assert [code for _, code in ended] == [0, 0, 0], ended
    declared = "".join(path.read_text() for path in root.iterdir() if path.name in {"requirements.in", *files})
    assert all(name in declared for name in ("six", *names))
    assert proj("lock", "--check", cwd=root).code == 0


@pytest.mark.parametrize("how", ["edited", "removed", "new", "same", "other"])
def test_a_file_that_another_program_changes_meanwhile_stays(tmp_path: Path, home: Home, how: str) -> None:
    read = {"a.yaml": b"six\n", "a.lock": b"lock\n"} | ({} if how == "new" else {"b.txt": b"b\n"})
    files = FirstReadFiles(FolderFiles(write_tree(tmp_path, read)))
    found = {name: files.read(name) for name in ("a.yaml", "a.lock", "b.txt")}
    assert found == {"b.txt": None} | read
    meanwhile = {"edited": "a.yaml", "same": "a.yaml", "new": "b.txt", "other": "c.txt"}
    if how == "removed":
        (tmp_path / "a.lock").unlink()
    else:
        (tmp_path / meanwhile[how]).write_text("six\n" if how == "same" else "theirs\n")
    before = {path.name: path.read_bytes() for path in tmp_path.glob("?.*")}
    declaration = EnvironmentDeclaration(kind=EnvironmentKind.PYTHON_ENV, path="a.yaml")
    project = Project(folder=tmp_path, files=files, declaration=declaration, home=home, environ={})
    mine = dict.fromkeys(("a.yaml", "a.lock", "b.txt"), b"mine\n")
    if how in ("same", "other"):
        project.write(mine)
        before |= mine
    else:
        with pytest.raises(UsageError, match="was changed meanwhile"):
            project.write(mine)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("?.*")} == before


@pytest.mark.env
def test_a_project_without_a_lock_gets_none(make_repository: MakeRepository, proj: RunProj) -> None:
    root = make_repository({"MLproject": COMMAND, **CODE, "requirements.txt": "six\n"})
    done = proj("add", "tqdm<5", cwd=root)
    assert (done.code, done.out) == (0, "requirements.txt: 'tqdm<5' added\n"), done.err
    assert "the project has no lock: 'proj lock' writes one" in done.err
    assert not (root / "requirements.lock").exists()
    assert proj("run", ".", cwd=root).code == 0


@pytest.mark.env
def test_a_project_without_a_declaration_gets_one_with_what_its_code_imports(
    make_repository: MakeRepository, proj: RunProj
) -> None:
    root = make_repository({"MLproject": COMMAND, **CODE})
    done = proj("add", "tabulate", cwd=root)
    assert done.code == 0, done.err
    assert sorted((root / "requirements.txt").read_text().split()) == ["six", "tabulate", "tqdm"]
    assert "it also has what the code imports" in done.err
    assert proj("run", ".", cwd=root).code == 0


@pytest.mark.env
def test_a_pyproject_is_changed_and_locked_by_uv(make_repository: MakeRepository, proj: RunProj) -> None:
    root = make_repository({"MLproject": COMMAND, **CODE, "pyproject.toml": PYPROJECT})
    done = proj("add", "tqdm", cwd=root)
    assert done.code == 0, done.err
    text = (root / "pyproject.toml").read_text()
    assert "tqdm" in text
    assert "# why" in text
    assert (root / "uv.lock").exists()
    assert not (root / ".venv").exists()
    assert proj("lock", "--check", cwd=root).code == 0
    assert proj("run", ".", cwd=root).code == 0
    assert proj("remove", "tqdm", cwd=root).code == 0
    assert "tqdm" not in (root / "pyproject.toml").read_text()
    write_tree(root, {"pyproject.toml": text})
    assert proj("lock", "--check", cwd=root).code == 1
    assert proj("lock", cwd=root).out == "uv.lock\n"
    assert proj("lock", "--check", cwd=root).code == 0


@pytest.mark.parametrize(
    ("files", "words", "message"),
    [
        ({"requirements.txt": "six\n"}, ("add", "tqdm=<3"), "'tqdm=<3' is not a requirement"),
        ({"requirements.txt": "six\n"}, ("remove", "tqdm"), "requirements.txt does not declare 'tqdm'"),
        ({"a.py": ""}, ("remove", "tqdm"), "declares no environment"),
        ({"MLproject": "docker_env: {image: x}\n"}, ("add", "tqdm"), "is a container"),
        ({"requirements.txt": "six==1.16.0 --hash=sha256:00\n"}, ("add", "tqdm"), "no file is there that it is made"),
        (
            {"requirements.txt": "# autogenerated by pip-compile\nsix==1.16.0\n", "requirements.in": "six\n"},
            ("add", "tqdm"),
            "is generated from requirements.in",
        ),
        ({"environment.yml": "dependencies: [numpy]\n"}, ("add", "tqdm"), "'environment.yml' is used"),
        ({"MLproject": "python_env: no.yaml\n"}, ("add", "tqdm"), "'no.yaml', which is not there"),
    ],
)
def test_what_can_not_be_changed_is_said(
    tmp_path: Path, proj: RunProj, files: dict[str, str], words: tuple[str, ...], message: str
) -> None:
    root = write_tree(tmp_path / "p", files)
    done = proj(*words, "--offline", cwd=root)
    assert done.code in (1, 2)
    assert message in done.err
    assert {path.name for path in root.iterdir()} == set(files)
