"""The command starts beside files of the user that have the names of its own modules."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from proj_runner import own_import_path

ROOT = Path(__file__).parents[2]
SHADOWS = ("runner", "click", "msgspec", "yaml", "uv", "rich")
MANIFEST = "entry_points:\n  main:\n    command: python -c 'import runner; print(runner.NAME)'\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    project.mkdir()
    for name in SHADOWS:
        (project / f"{name}.py").write_text(f"NAME = 'the project has {name}'\n")
    (project / "MLproject").write_text(MANIFEST)
    return project


def start(project: Path, *arguments: str, path: str | None) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"PROJ_HOME": str(project.parent / "home")} | ({} if path is None else {"PYTHONPATH": path})
    return subprocess.run(
        arguments,
        cwd=project,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )


PROGRAMS = {
    "the command": (str(Path(sys.executable).with_name("proj")),),
    "its second name": (str(Path(sys.executable).with_name("proj-runner")),),
    "the module": (sys.executable, "-m", "proj_runner"),
}


@pytest.mark.parametrize("path", [None, ".", "", "PROJECT", f".{os.pathsep}{ROOT}"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_project_may_have_modules_with_our_names(project: Path, program: str, path: str | None) -> None:
    done = start(project, *PROGRAMS[program], "--version", path=str(project) if path == "PROJECT" else path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("proj ")


def test_a_run_imports_the_module_of_the_project(project: Path) -> None:
    done = start(project, *PROGRAMS["the command"], "run", ".", "--env-manager", "local", path=".")
    assert (done.returncode, done.stdout) == (0, "the project has runner\n"), done.stderr


def test_only_the_folders_of_the_user_are_removed(tmp_path: Path) -> None:
    user, packages, library, both = (str(tmp_path / name) for name in ("user", "packages", "library", "both"))
    path = ["", user, both, library, packages]
    assert own_import_path(path, [user, both, "."], [packages, both]) == [library, packages, both]


def test_a_linked_folder_of_the_user_is_removed_by_either_name(tmp_path: Path) -> None:
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    assert own_import_path([str(link), "/usr"], [str(folder)], []) == ["/usr"]
    assert own_import_path([str(folder), "/usr"], [str(link)], []) == ["/usr"]
