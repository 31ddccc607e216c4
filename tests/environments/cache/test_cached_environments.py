"""What is kept: ``proj env``, ``proj python``, runs without a network, and packages of the frozen tree."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.environments.backends.virtualenv import build_bounds
from runner.environments.cache.environments import (
    CachedEnvironment,
    cached_environments,
    choose_to_prune,
    disk_use,
    prune,
)
from runner.environments.cache.leases import exclusive_lease
from runner.environments.interpreters.interpreters import discover
from runner.environments.model import EnvironmentRequest
from runner.environments.resolve.locking import read_lock
from runner.environments.specs import PythonSpec
from runner.settings import Home
from tests.conftest import ROOT, MakeRepository, RunProj, git, start_proj, write_tree
from tests.environments.test_backends import PACKAGE

pytestmark = pytest.mark.usefixtures("shared_cache")

MANIFEST = "name: kept\nentry_points:\n  main:\n    command: python -c 'import six'\n"


@pytest.fixture
def project(make_repository: MakeRepository) -> Path:
    return make_repository({"MLproject": MANIFEST, "requirements.txt": "six==1.16.0\n"})


def test_a_prefix_in_use_is_left_alone(tmp_path: Path) -> None:
    words = (
        "from pathlib import Path; from runner.environments.cache.leases import lease_until_exit; "
        f"lease_until_exit(Path({str(tmp_path)!r}), 'a')"
    )
    code = f"{words}; print('held', flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout
    other.stdout.readline()
    with exclusive_lease(tmp_path, "a") as is_alone, exclusive_lease(tmp_path, "b") as other_is_alone:
        assert (is_alone, other_is_alone) == (False, True)
    other.kill()
    other.communicate()
    with exclusive_lease(tmp_path, "a") as is_alone:
        assert is_alone


def test_what_goes_is_old_or_too_much() -> None:
    kept = tuple(CachedEnvironment(name=str(n), path="", size=100, last_used=float(n)) for n in (4, 3, 2, 1))
    assert [one.name for one in choose_to_prune(kept, 2.5, None)] == ["2", "1"]
    assert [one.name for one in choose_to_prune(kept, None, 250)] == ["1", "2"]
    assert [one.name for one in choose_to_prune(kept, 1.5, 250)] == ["1", "2"]
    assert choose_to_prune(kept, None, None) == ()


def test_shared_files_are_counted_once(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a/x": "12345", "b/y": "1"})
    (tmp_path / "b/x").hardlink_to(tmp_path / "a/x")
    assert disk_use(tmp_path / "a", tmp_path / "b") == (5, 1)


@pytest.mark.parametrize("words", [("prune",), ("prune", "--older-than", "soon"), ("prune", "--keep-size", "much")])
def test_ambiguous_options_are_refused(proj: RunProj, words: tuple[str, ...]) -> None:
    assert proj("env", *words).code == 2


@pytest.mark.env
def test_environments_are_listed_verified_exported_and_removed(project: Path, proj: RunProj, home: Home) -> None:
    run = proj("run", ".", "--json", cwd=project)
    assert run.code == 0, run.err
    (listed,) = proj("env", "list", "--json").json
    assert listed["runs"] == [run.json["run_id"]]
    assert listed["digest"] == run.json["environment"]["digest"]
    assert ["six", "1.16.0"] in listed["packages"]
    assert listed["size"] >= listed["own_size"] > 0
    reported = proj("env", "list").out
    assert listed["name"][:8] in reported
    assert ("unshared)" in reported) is (listed["own_size"] < listed["size"])
    assert "six 1.16.0" in proj("env", "show", listed["name"][:6]).out
    assert proj("env", "verify").code == 0
    for word in (run.json["run_id"][:8], listed["name"]):
        assert "six==1.16.0" in proj("env", "export", word).out
    standard = proj("env", "export", listed["name"], "--format", "pylock")
    assert 'name = "six"' in standard.out, standard.err
    assert proj("env", "export", listed["name"], "--format", "conda-lock").code == 2
    victim = next(Path(listed["path"]).glob("lib/python*/site-packages/six-1.16.0.dist-info/RECORD"))
    victim.unlink()
    victim.write_text("edited")
    damaged = proj("env", "verify", listed["name"][:4])
    assert (damaged.code, "RECORD" in damaged.out) == (1, True)
    assert proj("env", "prune", "--keep-size", "1G", "--yes").out == ""
    assert proj("env", "prune", "--older-than", "0m", "--yes").out.strip() == listed["name"]
    assert cached_environments(home) == ()
    again = proj("run", ".", "--json", cwd=project)
    assert again.json["environment"]["digest"] == run.json["environment"]["digest"]


@pytest.mark.env
def test_a_running_command_keeps_its_environment(project: Path, proj: RunProj, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"import pathlib, time\npathlib.Path({str(ready)!r}).touch()\ntime.sleep(60)\n"
    write_tree(project, {"slow.py": script})
    process = start_proj("run", ".", "-e", "slow.py", cwd=project)
    wait_until(ready.exists)
    pruned = proj("env", "prune", "--older-than", "0m", "--yes")
    assert (pruned.out, "in use" in pruned.err) == ("", True)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert len(proj("env", "prune", "--older-than", "0m", "--yes").out.split()) == 1


def test_pythons_are_listed_and_chosen(proj: RunProj) -> None:
    rows = proj("python", "list", "--json").json
    assert any(tuple(map(int, row["version"].split(".")[:2])) == sys.version_info[:2] for row in rows)
    assert not any(row["chosen"] for row in rows)
    rule = f"{sys.version_info[0]}.{sys.version_info[1]}"
    (chosen,) = (row for row in proj("python", "list", rule, "--json").json if row["chosen"])
    assert chosen["version"].startswith(f"{rule}.")
    assert f"* {chosen['version']}" in proj("python", "list", rule).out
    missing = proj("python", "list", "3.99")
    assert (missing.code, "3.99" in missing.err) == (1, True)


@pytest.mark.env
def test_without_a_network_cached_packages_work_and_missing_ones_are_named(
    project: Path, proj: RunProj, home: Home, tmp_path: Path
) -> None:
    cache = {"UV_CACHE_DIR": str(tmp_path / "cache"), "PIP_CONFIG_FILE": os.devnull}
    first = proj("run", ".", "--json", cwd=project, **cache)
    assert first.code == 0, first.err
    again = proj("run", ".", "--offline", "--json", cwd=project, **cache)
    assert again.json["environment"] == first.json["environment"]
    (kept,) = cached_environments(home)
    assert prune(home, kept) is not None
    rebuilt = proj("run", ".", "--json", cwd=project, PROJ_OFFLINE="1", **cache)
    assert rebuilt.json["environment"]["digest"] == first.json["environment"]["digest"], rebuilt.err
    nothing = {**cache, "UV_CACHE_DIR": str(tmp_path / "other")}
    assert prune(home, cached_environments(home)[0]) is not None
    named = proj("run", ".", "--offline", cwd=project, **nothing)
    assert (named.code, "not cached" in named.err, "six==1.16.0" in named.err) == (1, True, True), named.err
    write_tree(project, {"requirements.txt": "tabulate\n"})
    unresolved = proj("run", ".", "--offline", cwd=project, **nothing)
    assert (unresolved.code, "The network is disabled" in unresolved.err) == (1, True), unresolved.err
    unknown = proj("run", "https://git.example.org/team/model.git", "--offline", **nothing)
    assert (unknown.code, "never fetched" in unknown.err) == (1, True), unknown.err


@pytest.mark.env
def test_packages_of_the_project_are_those_of_the_tree(make_repository: MakeRepository, proj: RunProj) -> None:
    manifest = MANIFEST.replace("import six", "import mine; mine.main()")
    root = make_repository(
        {
            "MLproject": manifest,
            "requirements.txt": "./libs/mine\n",
            ".gitignore": "stray.py\n",
            "libs/mine/pyproject.toml": PACKAGE + '[tool.setuptools]\npackages = ["mine"]\n',
            "libs/mine/mine/__init__.py": "from pathlib import Path\n"
            "def main(): print(sorted(p.name for p in Path(__file__).parent.glob('*.py')))\n",
            "libs/mine/mine/stray.py": "",
        }
    )
    write_tree(root, {"other.py": "0"})
    first = proj("run", ".", cwd=root)
    assert "['__init__.py']" in first.out, first.err
    assert "project's own packages" in first.err
    write_tree(root, {"libs/mine/mine/stray.py": "changed", "other.py": "1"})
    again = proj("run", ".", cwd=root)
    assert (again.code, "Built" in again.err) == (0, False), again.err
    write_tree(root, {"libs/mine/mine/more.py": "1"})
    git(root, "add", "--all")
    assert "['__init__.py', 'more.py']" in proj("run", ".", cwd=root).out


@pytest.mark.env
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_build_ends_with_proj(make_repository: MakeRepository, tmp_path: Path, number: signal.Signals) -> None:
    ready = tmp_path / "ready"
    setup = f"import os, time\nopen({str(ready)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    root = make_repository({"MLproject": MANIFEST, "requirements.txt": "./slow\n", "slow/setup.py": setup})
    process = start_proj("run", ".", cwd=root)
    wait_until(lambda: ready.exists() and bool(ready.read_text()))
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == (-number if number is signal.SIGKILL else 128 + number)
    wait_until(lambda: not is_running(int(ready.read_text())))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    if status.parent.parent.is_dir() and Path("/proc/self").exists():
        return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
    return subprocess.run(["kill", "-0", str(pid)], capture_output=True, check=False).returncode == 0


@pytest.mark.env
def test_build_tools_of_pip_are_not_younger_than_the_lock(home: Home) -> None:
    interpreter = discover(home.root / "interpreters.json")[0]
    lock = read_lock("# as of: 2023-12-01T00:00:00Z\nwheel==0.42.0\n", interpreter)
    found = build_bounds(EnvironmentRequest(spec=PythonSpec(), home=home), lock)
    assert {"setuptools<=69.0.2", "cython<=3.0.6"} <= set(found)
    assert not [bound for bound in found if bound.startswith("wheel<")]
    undated = read_lock("wheel==0.42.0\n", interpreter)
    assert build_bounds(EnvironmentRequest(spec=PythonSpec(), home=home), undated) == ()
