"""CI tries a few failed tests once more, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import write_tree
from tests.support.second_try import MOST, main

pytestmark = pytest.mark.slow

UNSTEADY = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("name", NAMES)
def test_one(name):
    before = Path(f"{name} was here").exists()
    Path(f"{name} was here").touch()
    assert before and name != "bad"

def test_other():
    pass
"""


def report_of(folder: Path, content: str) -> Path:
    write_tree(folder, {"tests/__init__.py": "", "tests/test_it.py": content, "pytest.ini": "[pytest]\n"})
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=report.xml"]
    assert subprocess.run(words, cwd=folder, check=False, capture_output=True).returncode in (1, 2)
    return folder / "report.xml"


@pytest.mark.parametrize(
    ("names", "code", "said"),
    [
        (["a b", "c::d"], 0, "tests/test_it.py::test_one[a b]"),
        (["good", "bad"], 1, "tests/test_it.py::test_one[bad]"),
        ([f"n{number}" for number in range(MOST + 1)], 1, f"{MOST + 1} tests failed"),
    ],
)
def test_few_failed_tests_are_tried_once_more(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], names: list[str], code: int, said: str
) -> None:
    report = report_of(tmp_path, UNSTEADY.replace("NAMES", repr(names)))
    assert main(report, tmp_path) == code
    assert said in capfd.readouterr().out


def test_a_test_file_that_cannot_be_read_is_not_tried_again(tmp_path: Path) -> None:
    report = report_of(tmp_path, "raise ValueError")
    with pytest.raises(LookupError):
        main(report, tmp_path)
