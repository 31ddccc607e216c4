"""Which ways to open a file are seen: the table in the documents, checked with real libraries."""

import json
import re
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, MakeRepository, RunProj

pytestmark = [pytest.mark.env, pytest.mark.slow]

PAGE = ROOT / "docs" / "explanation" / "inputs.md"
PROGRAM = Path(__file__).with_name("reading_script.py")
PACKAGES = ("h5py<3.17", "numpy<2.5", "pandas<3.2", "pillow<14", "pyarrow<27")
"""Later releases may open files in another way, which the documents should then say."""


def table() -> dict[str, tuple[bool, bool]]:
    rows = re.findall(r"^\| (.+?) \| (yes|no) \| (yes|no) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {way: (default == "yes", traced == "yes") for way, default, traced in rows}


@pytest.fixture
def project(make_repository: MakeRepository) -> Path:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    dependencies = "".join(f"  - {name}\n" for name in PACKAGES)
    return make_repository(
        {
            "MLproject": "python_env: python_env.yaml\nentry_points:\n"
            "  make: {command: python reading_script.py make}\n  main: {command: python reading_script.py read}\n",
            "python_env.yaml": f"python: '{version}'\ndependencies:\n{dependencies}",
            PROGRAM.name: PROGRAM.read_text(encoding="utf-8"),
        }
    )


def test_the_table_of_the_documents_is_true(proj: RunProj, project: Path, tmp_path: Path) -> None:
    far = tmp_path / "far"
    far.mkdir()
    made = proj("run", ".", "-e", "make", "--json", cwd=project, FAR=str(far))
    assert made.code == 0, made.err
    paths = json.loads(Path(made.json["log"]).read_text(encoding="utf-8").splitlines()[-1])
    assert paths.keys() == table().keys()
    seen = []
    for words in ((), ("--trace",)):
        done = proj("run", ".", "--json", *words, cwd=project, FAR=str(far))
        assert done.code == 0, done.err
        seen.append({one["path"] for one in done.json["observed"]["inputs"]})
        observed = done.json["observed"]
        assert observed["inputs_complete"] is bool(words), observed["reasons"]
        project_files = [one["path"] for one in observed["inputs"] if one["role"] == "project file"]
        assert project_files == [PROGRAM.name]
        unexpected = [path for path in seen[-1] if path not in paths.values() and path != PROGRAM.name]
        assert unexpected == []
    found = {way: (path in seen[0], path in seen[1]) for way, path in paths.items()}
    assert found == table()
    reasons = " ".join(proj("show", "latest~1", "--json", cwd=project).json["observed"]["reasons"])
    assert "native readers" in reasons
    assert "h5py, pyarrow" in reasons
    assert "ran without the hook: bash, cat, python" in reasons
