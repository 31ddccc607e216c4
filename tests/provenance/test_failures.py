"""The place of a failure: found in the project's own code, whatever language printed it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.cli.outcome import locate_failure
from runner.provenance.failures import find_failure
from tests.conftest import write_tree

LIBRARY = '  File "/usr/lib/python3/site-packages/lib.py", line 99, in call\n    deeper()\n'


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "top", {"sub/train.py": "", "sub/run.sh": "", "lib/own.py": "", "sub/a.js": ""})


def traceback(*frames: str, error: str = "ValueError: bad data") -> str:
    return f"Traceback (most recent call last):\n{''.join(frames)}{error}\n"


def frame(file: str, line: int) -> str:
    return f'  File "{file}", line {line}, in f\n    code()\n    ~~~~^^\n'


def test_the_last_frame_of_the_project_counts(top: Path) -> None:
    output = traceback(frame(f"{top}/sub/train.py", 3), frame(f"{top}/lib/own.py", 7), LIBRARY)
    assert find_failure(output, top / "sub", top) == "../lib/own.py:7: ValueError: bad data"


def test_of_chained_exceptions_the_last_counts(top: Path) -> None:
    first = traceback(frame(f"{top}/sub/train.py", 3), error="KeyError: 'x'")
    between = "\nDuring handling of the above exception, another exception occurred:\n\n"
    output = first + between + traceback(frame(f"{top}/sub/train.py", 9), error="my.Error: worse")
    assert find_failure(output, top / "sub", top) == "train.py:9: my.Error: worse"


def test_a_syntax_error_has_no_header(top: Path) -> None:
    output = f"  File \"{top}/sub/train.py\", line 2\n    x = (\n        ^\nSyntaxError: '(' was never closed\n"
    assert find_failure(output, top / "sub", top) == "train.py:2: SyntaxError: '(' was never closed"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("run.sh: line 4: nosuch: command not found\n", "run.sh:4: nosuch: command not found"),
        ("{top}/sub/a.js:12\n  throw new Error()\n", "a.js:12"),
        ("    at Object.<anonymous> ({top}/sub/a.js:3:7)\n", "a.js:3"),
    ],
)
def test_other_languages(top: Path, output: str, expected: str) -> None:
    assert find_failure(output.replace("{top}", str(top)), top / "sub", top) == expected


@pytest.mark.parametrize(
    "output",
    [
        "",
        "done\n",
        "bash: line 1: nosuch: command not found\n",
        traceback(LIBRARY),
        traceback(frame("/elsewhere/train.py", 3)),
        traceback(frame("{top}/sub/train.py", 3)) + "epoch\n" * 2000,
        traceback(frame("{top}/sub/missing.py", 3)),
        "see {top}/../elsewhere.py:3\n",
    ],
)
def test_nothing_is_guessed(top: Path, output: str) -> None:
    assert find_failure(output.replace("{top}", str(top)), top / "sub", top) is None


def test_a_folder_behind_a_link(tmp_path: Path, top: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(top)
    assert find_failure(traceback(frame(f"{top}/sub/train.py", 3)), link / "sub", link) == (
        "train.py:3: ValueError: bad data"
    )


@given(st.text(max_size=300))
def test_any_output_is_read(text: str) -> None:
    output = f'  File "{text}", line 3\n{text}\n{text}: line 4: {text}\n/{text}:5'
    assert find_failure(output, Path("/nowhere/sub"), Path("/nowhere")) is None


def test_the_users_own_file_is_named(top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(top)
    assert locate_failure("train.py:3: ValueError: a:1", top / "sub") == "sub/train.py:3: ValueError: a:1"
    assert locate_failure("train.py:3", None) == "train.py:3", "the code is from elsewhere"
    assert locate_failure("gone.py:3", top / "sub") == "gone.py:3"
    monkeypatch.chdir(tmp_path)
    assert locate_failure("train.py:3", Path("top/sub").absolute()) == "top/sub/train.py:3"
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    assert locate_failure("train.py:3", top / "sub") == f"{top}/sub/train.py:3"
