"""`proj run` where other launchers fail: environments that are raced for, killed, edited, old or mistyped."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner.environments.interpreters.interpreters import discover
from runner.settings import Home
from tests.conftest import MakeRepository, RunProj, git, start_proj

pytestmark = [pytest.mark.env, pytest.mark.slow, pytest.mark.usefixtures("shared_cache")]

MANIFEST = "entry_points:\n  main:\n    command: python -c 'import six; print(six.__version__)'\n"
DAY_IN_2022 = "2022-03-01T12:00:00+00:00"


@pytest.fixture
def project(make_repository: MakeRepository) -> Path:
    return make_repository({"MLproject": MANIFEST, "requirements.txt": "six==1.16.0\n"})


def test_probe_11_two_runs_at_once_build_once(project: Path) -> None:
    both = [start_proj("run", ".", cwd=project) for _ in range(2)]
    printed = [process.communicate(timeout=240)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert sum("Building environment" in text for text in printed) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_probe_12_a_build_that_is_killed_does_not_poison_the_next(project: Path, proj: RunProj, home: Home) -> None:
    process = start_proj("run", ".", cwd=project)
    assert process.stderr
    for line in process.stderr:
        if "Building environment" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list(home.environments.glob("*/environment.json"))
    result = proj("run", ".", cwd=project)
    assert (result.code, result.out) == (0, "1.16.0\n"), result.err


@pytest.mark.parametrize("through", ["itself", "another"])
def test_probe_13_an_edited_package_is_noticed_and_repaired(
    project: Path, proj: RunProj, tmp_path: Path, through: str
) -> None:
    cache = {"UV_CACHE_DIR": str(tmp_path / "cache")}  # an edit through a hard link reaches it
    first = proj("run", ".", "--json", cwd=project, **cache).json
    edited = first
    if through == "another":
        (project / "requirements.txt").write_text("six==1.16.0\ntabulate==0.9.0\n", encoding="utf-8")
        edited = proj("run", ".", "--json", cwd=project, **cache).json
        git(project, "checkout", "--quiet", "requirements.txt")
    (file,) = Path(edited["environment"]["prefix"]).glob("lib/*/site-packages/six.py")
    file.chmod(0o644)
    with file.open("a", encoding="utf-8") as six:
        six.write("\n__version__ = 'edited'\n")
    shared = through == "itself" or file.stat().st_nlink > 1
    again = proj("run", ".", "--json", cwd=project, **cache)
    assert again.code == 0
    assert ("six.py" in again.err and "it is built again" in again.err) == shared
    assert Path(again.json["log"]).read_text(encoding="utf-8") == "1.16.0\n"
    assert again.json["environment"]["digest"] == first["environment"]["digest"]


def test_probe_14_a_commit_of_2022_has_the_packages_of_2022(
    make_repository: MakeRepository, proj: RunProj, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"):
        monkeypatch.setenv(name, DAY_IN_2022)
    root = make_repository({"MLproject": MANIFEST, "requirements.txt": "six\ntabulate\n"})
    one = proj("run", ".", "--json", cwd=root).json["environment"]
    other = proj("run", ".", "--json", cwd=root, PROJ_HOME=str(tmp_path / "other")).json["environment"]
    assert dict(one["packages"])["tabulate"] == "0.8.9"
    assert one["as_of"].startswith("2022-03-02")
    assert one["digest"] == other["digest"]
    assert one["lock_digest"] == other["lock_digest"]


@pytest.mark.parametrize("quote", ["", "'"])
def test_probe_15_a_version_of_python_is_what_it_looks_like(
    make_repository: MakeRepository, proj: RunProj, home: Home, quote: str
) -> None:
    lines = {item.line for item in discover(home.root / "interpreters.json") if item.implementation == "cpython"}
    line = "3.10" if (3, 10) in lines else f"3.{max(lines)[1]}"
    files = {"python_env.yaml": f"python: {quote}{line}{quote}\ndependencies: [six]\n"}
    root = make_repository({"MLproject": MANIFEST, **files})
    assert proj("run", ".", "--json", cwd=root).json["environment"]["python"].startswith(f"{line}.")
    (root / "python_env.yaml").write_text("python: 3.99\n", encoding="utf-8")
    refused = proj("run", ".", cwd=root, UV_PYTHON_DOWNLOADS="never")
    assert refused.code == 1
    assert "Python 3.99 is required but not installed; found: " in refused.err
    assert f"{line}." in refused.err.partition("found: ")[2]


def test_probe_16_names_of_conda_are_mapped_and_none_is_dropped(make_repository: MakeRepository, proj: RunProj) -> None:
    conda = "channels: [conda-forge]\ndependencies: [msgpack-python=1.0.5=py39_0, libstdcxx-ng, pip, pip: [six]]\n"
    files = {"MLproject": f"conda_env: conda.yaml\n{MANIFEST}", "conda.yaml": conda}
    root = make_repository(files)
    result = proj("run", ".", "--json", cwd=root)
    assert result.code == 0, result.err
    packages = dict(result.json["environment"]["packages"])
    assert (packages["msgpack"], "six" in packages) == ("1.0.5", True)
    assert "msgpack-python as msgpack" in result.err
    assert "left out, because wheels or the system provide them: libstdcxx-ng" in result.err
    (root / "conda.yaml").write_text(conda.replace("libstdcxx-ng", "r-base"), encoding="utf-8")
    refused = proj("run", ".", cwd=root)
    assert refused.code == 1
    assert "needs packages that the Python index does not have: r-base (line 2)" in refused.err


@pytest.mark.skipif(shutil.which("ps") is None, reason="there is no ps")
def test_no_process_of_a_build_outlives_the_interrupted_command(project: Path) -> None:
    process = start_proj("run", ".", cwd=project)
    assert process.stderr
    for line in process.stderr:
        if "Building environment" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert os.environ["PROJ_HOME"] not in listed
