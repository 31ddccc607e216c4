"""Locks and environments of the home that are damaged, removed or built again while others use them."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.base.findings import Finding
from runner.environments.cache.environments import cached_environments
from runner.environments.cache.home_check import verify_environments, verify_locks
from runner.environments.cache.leases import exclusive_attempt_lease
from runner.environments.cache.prefix import MARKER, load_marker, remove_stale_builds
from runner.settings import Home
from tests.conftest import ROOT, MakeRepository, Result, RunProj, start_proj, write_tree
from tests.environments.cache.test_cached_environments import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_cache")]

MANIFEST = "name: safe\nentry_points:\n  main:\n    command: python -c 'import six; print(six.__version__)'\n"
REQUIREMENTS = "six==1.16.0\ntabulate==0.9.0\n"


@pytest.fixture
def project(make_repository: MakeRepository) -> Path:
    return make_repository({"MLproject": MANIFEST, "requirements.txt": REQUIREMENTS})


def findings(check: Callable[..., Iterator[Finding]], home: Home, *, repair: bool) -> list[Finding]:
    reported: list[tuple[int, int]] = []
    found = list(check(home, repair=repair, progress=lambda done, number: reported.append((done, number))))
    assert all(done <= number for done, number in reported)
    return found


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip_a_version(data: bytes) -> bytes:
    return data.replace(b"six==1.16.0", b"six==1.15.0").replace(b"1.16.0", b"1.16.1")


def flip_a_digest(data: bytes) -> bytes:
    at = data.rindex(b"sha256:") + 10
    return data[:at] + (b"0" if data[at : at + 1] != b"0" else b"1") + data[at + 1 :]


def only_six(data: bytes) -> bytes:
    """Lose a whole package, as a truncation at the end of a line does."""
    return data[: data.index(b"\ntabulate")] + b"\n"


DAMAGES: list[Callable[[bytes], bytes]] = [
    *(cut, flip_a_version, flip_a_digest, only_six),
    lambda _data: b"",
    lambda data: bytes(len(data)),
    lambda data: random.Random(len(data)).randbytes(len(data)),
]


@pytest.mark.env
def test_a_damaged_lock_is_reported_and_resolved_again(project: Path, proj: RunProj, home: Home) -> None:
    first = proj("run", ".", "--json", cwd=project).json
    (lock,) = home.locks.glob("*.txt")
    whole = lock.read_bytes()
    kept = home.root / "runs" / first["run_id"] / "lock.txt"
    assert kept.read_bytes() == whole
    for damage in DAMAGES:
        lock.write_bytes(damage(whole))
        assert [found.name for found in findings(verify_locks, home, repair=False)] == [f"locks/{lock.name}"]
        verified = proj("env", "verify")
        assert (verified.code, f"locks/{lock.name}" in verified.out) == (1, True), verified.out
        again = proj("run", ".", "--json", cwd=project)
        assert again.code == 0, again.err
        assert "is damaged" in again.err
        assert "resolved again" in again.err
        assert again.json["environment"]["packages"] == first["environment"]["packages"]
        assert again.json["environment"]["digest"] == first["environment"]["digest"]
        assert findings(verify_locks, home, repair=False) == []
    kept.write_bytes(cut(whole))
    (found,) = findings(verify_locks, home, repair=True)
    assert (found.name, found.repair) == (f"runs/{first['run_id']}/lock.txt", None)
    exported = proj("env", "export", first["run_id"])
    assert (exported.code, "is damaged" in exported.err, exported.out) == (1, True, "")


@pytest.mark.env
def test_the_lock_of_another_project_is_not_taken(project: Path, proj: RunProj, home: Home) -> None:
    proj("run", ".", cwd=project)
    (lock,) = home.locks.glob("*.txt")
    write_tree(project, {"requirements.txt": "idna==3.7\n"})
    assert proj("run", ".", "-e", "other", cwd=project).code
    write_tree(project, {"MLproject": MANIFEST.replace("six", "idna")})
    other = proj("run", ".", "--json", cwd=project)
    assert other.code == 0, other.err
    (new,) = set(home.locks.glob("*.txt")) - {lock}
    new.write_bytes(lock.read_bytes())
    again = proj("run", ".", "--json", cwd=project)
    assert f"its content is that of the lock {lock.name}" in again.err
    assert again.json["environment"]["packages"] == other.json["environment"]["packages"]
    new.write_bytes(b"")
    (found,) = findings(verify_locks, home, repair=True)
    assert (found.part, found.problem) == ("lock", "it is empty")
    assert not new.exists()


@pytest.mark.env
@pytest.mark.parametrize("name", [MARKER, "*.inventory"])
def test_a_damaged_note_of_an_environment_is_reported_and_the_environment_built_again(
    project: Path, proj: RunProj, home: Home, name: str
) -> None:
    first = proj("run", ".", "--json", cwd=project).json
    (file,) = home.environments.glob(f"*/{name}")
    whole = file.read_bytes()
    damages = [cut, lambda _data: b"", lambda data: data.replace(b"1.16.0", b"1.16.1") + b" ", lambda _data: b"\xff{"]
    for damage in damages:
        (file,) = home.environments.glob(f"*/{name}")
        file.write_bytes(damage(file.read_bytes()))
        (found,) = findings(verify_environments, home, repair=False)
        assert file.name in found.problem
        if name == MARKER:
            again = proj("run", ".", "--json", cwd=project)
            assert "changed after its build" in again.err
        else:
            (done,) = findings(verify_environments, home, repair=True)
            assert done.repair
            assert findings(verify_environments, home, repair=False) == []
            again = proj("run", ".", "--json", cwd=project)
        assert again.json["environment"]["digest"] == first["environment"]["digest"]
        assert again.json["environment"]["packages"] == first["environment"]["packages"]
        assert findings(verify_environments, home, repair=False) == []
    assert whole


LATE = """
import pathlib, sys, time
pathlib.Path({ready!r}).write_text(sys.prefix)
while not pathlib.Path({go!r}).exists():
    time.sleep(0.05)
import tabulate, wsgiref.util, pip._internal.cli.main
print("imported", tabulate.__file__)
"""


@pytest.mark.env
def test_a_running_command_keeps_its_build_whatever_others_do(
    project: Path, proj: RunProj, home: Home, tmp_path: Path
) -> None:
    ready, go = tmp_path / "ready", tmp_path / "go"
    write_tree(project, {"late.py": LATE.format(ready=str(ready), go=str(go))})
    process = start_proj("run", ".", "-e", "late.py", cwd=project)
    wait_until(lambda: ready.exists() and bool(ready.read_text()))
    prefix = Path(ready.read_text())
    for _ in range(2):
        (environment,) = cached_environments(home)
        (next(Path(environment.path).glob("lib/python*/site-packages")) / "stranger.py").write_text("X = 1\n")
        both = [start_proj("run", ".", cwd=project) for _ in range(2)]
        printed = [other.communicate(timeout=240)[1] for other in both]
        assert [other.returncode for other in both] == [0, 0], printed
        assert sum("Building environment" in text for text in printed) == 1
    (environment,) = cached_environments(home)
    next(Path(environment.path).glob("lib/python*/site-packages/six.py")).unlink()
    (found,) = findings(verify_environments, home, repair=True)
    assert "six.py" in found.problem
    assert proj("env", "prune", "--older-than", "0m", "--yes").out == ""
    assert proj("run", ".", cwd=project).code == 0
    old = [path.name for path in prefix.parent.iterdir() if path.is_dir()]
    assert prefix.name in old
    assert len(old) == 2, "builds that nobody uses are left"
    go.touch()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, "imported" in out) == (0, True), err
    assert str(prefix) in out
    assert len(proj("env", "prune", "--older-than", "0m", "--yes").out.split()) == 1
    assert not prefix.exists()


def test_the_lease_of_a_killed_process_is_free(tmp_path: Path) -> None:
    write_tree(tmp_path, {"folder/abc/file": "1", "folder/def/file": "1", "folder/abc.inventory": "1"})
    folder = tmp_path / "folder"
    code = "import sys; from pathlib import Path; from runner.environments.cache.leases import lease_attempt\n"
    code += "lease_attempt(Path(sys.argv[1]), 'abc'); print('held', flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    remove_stale_builds(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["abc", "abc.inventory", "abc.lease"]
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with exclusive_attempt_lease(folder, "abc") as is_alone:
        assert is_alone
    remove_stale_builds(folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("files", [("abc.inventory",), ("abc.inventory", "environment.json")])
def test_a_build_that_a_version_without_leases_may_use_stays(tmp_path: Path, files: tuple[str, ...]) -> None:
    write_tree(tmp_path, {"abc/file": "1", "killed/file": "1"} | dict.fromkeys(files, "{}"))
    remove_stale_builds(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(("abc", *files))


@pytest.mark.env
def test_commands_beside_each_other_end_without_a_traceback(project: Path, proj: RunProj, home: Home) -> None:
    assert proj("run", ".", cwd=project).code == 0
    commands = [
        *(("env", "verify"), ("env", "list"), ("env", "list", "--json"), ("env", "export", "x"), ("run", ".")),
        *(("env", "prune", "--older-than", "0m", "--yes"), ("env", "show", "0"), ("run", ".")),
    ]
    chance = random.Random(7)
    for _ in range(3):
        chance.shuffle(commands)
        started = [(words, start_proj(*words, cwd=project)) for words in commands]
        for words, process in started:
            out, err = process.communicate(timeout=240)
            assert "Traceback" not in err, err
            assert process.returncode in (0, 1), (words, out, err)
            if words[0] == "run":
                assert process.returncode == 0, err
    result: Result = proj("run", ".", cwd=project)
    assert result.code == 0, result.err
    assert findings(verify_environments, home, repair=False) == []
    (environment,) = cached_environments(home)
    assert load_marker(home.environments / environment.name).attempt == Path(environment.path).name
