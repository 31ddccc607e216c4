"""Reads of paths of another machine are redirected to files of the project, in every installed Python."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from runner.analysis.scripts import read_scripts
from runner.environments.interpreters.interpreters import discover
from runner.environments.model import PATH_SHIM
from runner.manifest.files import FolderFiles
from runner.manifest.foreign_paths import find_replacements, find_tail
from tests.conftest import write_tree

pytestmark = pytest.mark.slow

CODE = """
import sys
sys.path.insert(0, PATH_SHIM)
import proj_paths
import glob, io, os, pathlib, shutil, tempfile, zipfile
THERE, FOLDER, DRIVE = "/home/nobody-x/p/a.csv", "/home/nobody-x/p/data", "C:\\\\Users\\\\me\\\\a.csv"
assert open(THERE).read() == "1,2"
with io.open(THERE, "rb") as file:
    assert file.read() == b"1,2"
os.close(os.open(THERE, os.O_RDONLY))
path = pathlib.Path(THERE)
assert path.exists() and path.is_file() and path.stat().st_size == 3 and path.read_text() == "1,2"
assert pathlib.Path(DRIVE).read_text() == open(DRIVE).read() == "1,2"
assert os.path.isfile(THERE) and os.access(THERE, os.R_OK) and os.path.getsize(THERE) == 3
assert os.path.expanduser(THERE).endswith("a.csv") and os.path.isfile(os.path.expanduser(THERE))
assert os.listdir(FOLDER) == ["b.csv"] and [one.name for one in os.scandir(FOLDER)] == ["b.csv"]
assert open(FOLDER + "/b.csv").read() == "3" and [one.name for one in pathlib.Path(FOLDER).iterdir()] == ["b.csv"]
assert glob.glob(FOLDER + "/*.csv") == [FOLDER + "/b.csv"]
for mode in ("w", "a", "x", "r+"):
    try:
        open(THERE, mode)
    except OSError:
        continue
    raise AssertionError(mode)
assert not os.path.exists("/home/nobody-x/p/a.csv.gz") and not os.path.exists("/home/nobody-x/p/other")
assert os.listdir() and os.stat(".") and [one for one in os.scandir()] and list(os.walk("."))
folder = tempfile.mkdtemp()
open(os.path.join(folder, "x"), "w").close()
with open(0, closefd=False) as stdin:
    pass
shutil.copy(THERE, folder)
shutil.rmtree(folder)
assert not os.path.exists(folder)
class Reader:
    open, stat = open, os.stat
assert Reader().stat(THERE).st_size == 3 and Reader().open(THERE).read() == "1,2"
print("led")
"""


@pytest.mark.slow
def test_paths_are_redirected_in_every_python(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "p", {"a.csv": "1,2", "data/b.csv": "3"})
    replacements = [
        ("/home/nobody-x/p/a.csv", str(root / "a.csv")),
        ("C:\\Users\\me\\a.csv", str(root / "a.csv")),
        ("/home/nobody-x/p/data", str(root / "data")),
    ]
    code = f"PATH_SHIM = {str(PATH_SHIM)!r}\n{CODE}"
    found = discover(tmp_path / "interpreters.json")
    assert found
    for one in found:
        done = subprocess.run(
            [one.path, "-W", "ignore", "-c", code],
            cwd=root,
            env={**os.environ, "PROJ_PATHS": json.dumps(replacements), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.stdout == "led\n", f"{one.name}: {done.stderr}"


@pytest.mark.parametrize(
    ("path", "tail"),
    [
        ("/home/me/proj/data/a.csv", "data/a.csv"),
        ("/home/me/a.csv", None),
        ("C:\\work\\data\\a.csv", "data/a.csv"),
        ("/Users/me/proj/data", None),
        ("/Users/me/proj/data/", "data"),
        ("/Users/me/proj/data/deep", "data/deep"),
        ("/home/me/top.csv", "../top.csv"),
        ("/home/me/../top.csv", None),
        ("/home/me/", None),
        ("/home", None),
    ],
)
def test_the_longest_end_that_the_repository_has(tmp_path: Path, path: str, tail: str | None) -> None:
    tree = {".git/HEAD": "", "top.csv": "", "p/data/a.csv": "", "p/data/deep/b.csv": "", "p/MLproject": ""}
    files = FolderFiles(write_tree(tmp_path, tree) / "p")
    assert find_tail(path, files) == tail


def test_existing_paths_are_not_redirected(tmp_path: Path) -> None:
    code = "open('/home/nobody-x/a.csv')\nopen('/tmp/a.csv')\nopen('/home/nobody-x/else.csv')\n"
    files = FolderFiles(write_tree(tmp_path, {"a.csv": "", "t.py": code}))
    replacements = find_replacements(read_scripts("python t.py", files), files)
    assert [(lead.path, lead.file, lead.where) for lead in replacements] == [
        ("/home/nobody-x/a.csv", "a.csv", "t.py:1")
    ]
