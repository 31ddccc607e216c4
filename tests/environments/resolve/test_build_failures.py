"""Messages about packages that can not be built: name, version and the last error of the build."""

from pathlib import Path

import pytest

from runner.environments.resolve.build_failures import build_failure
from runner.environments.resolve.uv_command import command_error
from runner.errors import SystemRefusalError, UnbuildableError
from runner.process import Completed

TRACEBACK = """Partial import of sklearn during the build process.
Traceback (most recent call last):
  File "<string>", line 168, in get_numpy_status
ModuleNotFoundError: No module named 'numpy'
Traceback (most recent call last):
  File "<string>", line 247, in setup_package
ImportError: Numerical Python (NumPy) is not installed.
scikit-learn requires NumPy >= 1.8.2.
"""


def indented(text: str, by: str) -> str:
    return "".join(f"{by}{line}\n" for line in text.splitlines())


UV = (
    "Resolved 1 package in 491ms\n   Building scikit-learn==0.19.1\n   Building six==1.0\n"
    "error: Failed to build `scikit-learn==0.19.1`\n  cause: The build backend returned an error\n"
    "  cause: Call to `setuptools.build_meta:__legacy__.build_wheel` failed (exit status: 1)\n\n"
    "         [stdout]\n         running build\n\n         [stderr]\n"
    + indented(TRACEBACK, " " * 9)
    + "\nhint: Build failures usually indicate a problem with the package or the build environment\n"
)
OLDER_UV = (
    "  \u00d7 Failed to build `scikit-learn==0.19.1`\n  ├─▶ The build backend returned an error\n"
    "  ╰─▶ Call to `setuptools.build_meta.build_wheel` failed (exit status: 1)\n\n      [stderr]\n"
    + indented(TRACEBACK, " " * 6)
    + "\n      hint: This usually indicates a problem with the package or the build environment.\n"
)
PIP = (
    "Looking in indexes: https://host.invalid/simple\nCollecting six==1.0\n"
    "Collecting scikit-learn==0.19.1 (from -r x)\n  Downloading scikit-learn-0.19.1.tar.gz (9.5 MB)\n"
    "  Preparing metadata (pyproject.toml): finished with status 'error'\n  error: subprocess-exited-with-error\n  \n"
    "  \u00d7 Preparing metadata did not run successfully.\n  │ exit code: 1\n  ╰─> [27 lines of output]\n"
    + indented(TRACEBACK, " " * 6)
    + "      \n      [end of output]\n  \nerror: metadata-generation-failed\n"
)
NUMPY = "Failed to build scikit-learn==0.19.1: ImportError: Numerical Python (NumPy) is not installed."


@pytest.mark.parametrize("output", [UV, OLDER_UV, PIP])
def test_the_cause_is_the_last_error_of_the_build(output: str) -> None:
    assert build_failure(output) == NUMPY


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (
            "a.c:1: fatal error: Python.h: absent\ncompilation terminated.\nerror: command 'gcc' failed",
            "Python.h",
        ),
        ("error: command 'cmake' failed: No such file or directory", "cmake"),
        ("sh: 1: gfortran: command not found", "gfortran"),
        ("Traceback:\nsubprocess.CalledProcessError: Command '['pg_config']' failed", "pg_config"),
        ("something else went wrong", "something else went wrong"),
        ("this source never builds", "this source never builds"),
    ],
)
def test_compiler_errors_are_found(lines: str, why: str) -> None:
    output = f"error: Failed to build `x==1.0`\n  cause: y\n\n   [stderr]\n{indented(lines, '   ')}\nhint: no\n"
    found = build_failure(output) or ""
    assert found.startswith("Failed to build x==1.0: ")
    assert why in found


@pytest.mark.parametrize("output", ["", "error: No solution found", "Downloading numpy (15.9MiB)\nerror: dns error"])
def test_output_without_a_failed_build_has_no_build_failure(output: str) -> None:
    assert build_failure(output) is None


def test_without_build_output_the_cause_of_the_installer_is_used() -> None:
    output = "error: Failed to build `x`\n  cause: Could not find git\n"
    assert build_failure(output) == "Failed to build x: Could not find git"


@pytest.mark.parametrize("output", [UV, OLDER_UV, PIP])
@pytest.mark.parametrize(
    "fault", ["OSError: [Errno 28] No space left on device", "io error (os error 28)", "cp: x: Disk quota exceeded"]
)
def test_a_build_on_a_full_disk_is_no_fault_of_the_package(tmp_path: Path, output: str, fault: str) -> None:
    done = Completed(argv=("uv",), exit_code=1, stdout=b"", stderr=f"{output}\n  {fault}\n".encode())
    error = command_error("The packages can't be installed", done, tmp_path / "build.log")
    assert isinstance(error, SystemRefusalError)
    assert (error.message, error.context) == ("The disk is full", fault)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", [UV, OLDER_UV, PIP])
def test_the_error_begins_with_the_cause_and_has_no_progress(tmp_path: Path, output: str) -> None:
    done = Completed(argv=("uv",), exit_code=1, stdout=b"", stderr=output.encode())
    error = command_error("The packages can't be installed", done, tmp_path / "build.log")
    assert isinstance(error, UnbuildableError)
    first, second, *_ = error.message.splitlines()
    assert first == "The packages can't be installed:"
    assert second == NUMPY
    for word in ("Building ", "Downloading", "Collecting", "Resolved", "Looking in"):
        assert word not in error.message
    assert (tmp_path / "build.log").read_text("utf-8").strip() == output.strip()
