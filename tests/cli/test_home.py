"""Proj's home: its owner's alone, and errors instead of tracebacks where it can't be used."""

import os
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import HomeError, explain_system_error
from runner.settings import Home, open_home
from runner.source.snapshot_store import open_snapshot_store
from runner.store.database import Database
from tests.conftest import ROOT, RunProj, write_tree

PROJECT = {"MLproject": "name: x\nentry_points:\n  main:\n    command: echo hi\n"}
OTHERS = stat.S_IRWXG | stat.S_IRWXO

FIRST = {
    "run": ("run", "project", "--env-manager", "local"),
    "create": ("experiments", "create", "a"),
    "python": ("python", "list"),
    "list": ("list",),
}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def run_with_umask(umask: int, words: tuple[str, ...], cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "runner.cli.main", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("first", FIRST)
def test_the_home_is_its_owners_alone_whatever_comes_first(home: Home, tmp_path: Path, umask: int, first: str) -> None:
    write_tree(tmp_path / "project", PROJECT)
    done = run_with_umask(umask, FIRST[first], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Other users" not in done.stderr
    if not home.root.exists():
        assert first in ("list", "python")
        return
    assert mode(home.root) == 0o700
    for path in home.root.iterdir():
        assert not path.is_dir() or mode(path) == 0o700, path
    for path in home.root.glob("proj.db*"):
        assert mode(path) == 0o600
    for path in home.root.glob("runs/*/log.txt"):
        assert mode(path) == 0o600


def test_the_python_interface_makes_the_same_home(home: Home, tmp_path: Path) -> None:
    write_tree(tmp_path / "project", PROJECT)
    code = "import runner; print(runner.run('project', environment_manager='local').status)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        umask=0,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.splitlines()[-1] == "FINISHED"
    assert [mode(path) for path in (home.root, home.snapshot_store, home.database)] == [0o700, 0o700, 0o600]


def test_parts_that_make_the_home_themselves_make_it_private(home: Home) -> None:
    before = os.umask(0)
    try:
        open_snapshot_store(home)
        Database.open(home.database).close()
    finally:
        os.umask(before)
    assert [mode(path) for path in (home.root, home.snapshot_store, home.database)] == [0o700, 0o700, 0o600]


def test_files_beside_the_database_are_private_while_it_is_open(home: Home) -> None:
    before = os.umask(0)
    try:
        with closing(Database.open(home.database)) as database:
            database.execute("UPDATE experiments SET name = 'x'")
            found = {path.name: mode(path) for path in home.root.glob("proj.db*")}
    finally:
        os.umask(before)
    assert found == {"proj.db": 0o600, "proj.db-wal": 0o600, "proj.db-shm": 0o600}


@given(bits=st.integers(min_value=0, max_value=0o77))
def test_every_right_of_others_is_reported_with_the_command_that_ends_it(
    tmp_path_factory: pytest.TempPathFactory, bits: int
) -> None:
    home = Home(tmp_path_factory.mktemp("a b"))
    home.root.chmod(0o700 | bits)
    found = home.exposure()
    assert (found is None) is (bits == 0)
    if found is not None:
        assert ("change" in found.message) is bool(bits & 0o22)
        subprocess.run(["sh", "-c", found.hint], check=True)
        assert home.exposure() is None


def test_an_open_home_is_reported_at_each_start_and_used(home: Home, tmp_path: Path, proj: RunProj) -> None:
    home.root.mkdir(mode=0o755)
    home.root.chmod(0o755)
    write_tree(tmp_path / "project", PROJECT)
    for words in (("list",), FIRST["run"], ("experiments", "create", "a"), ("env", "list")):
        done = proj(*words)
        assert done.code == 0
        assert "Other users of this machine can read" in done.err
        assert f"chmod 700 {home.root}" in done.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_home_of_another_user_is_reported(home: Home) -> None:
    home.ensure()
    os.chown(home.root, 12345, 12345)
    found = home.exposure()
    assert found is not None
    assert "12345" in found.message


COMMANDS = (("list",), FIRST["run"], ("verify",))


BAD = (
    *("below a device", "a file", "below a file", "a loop", "below a loop", "a newline", "an escape", "not UTF-8"),
    *("long", "a long name", "nobody's", "two folders"),
)


def bad_homes(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    return {
        "below a device": "/dev/null/x",
        "a file": str(tmp_path / "file"),
        "below a file": str(tmp_path / "file" / "x"),
        "a loop": str(tmp_path / "loop"),
        "below a loop": str(tmp_path / "loop" / "x"),
        "a newline": f"{tmp_path}/a\nb",
        "an escape": f"{tmp_path}/a\x1b[31mb",
        "not UTF-8": os.fsdecode(os.fsencode(tmp_path) + b"/a\xff"),
        "long": f"{tmp_path}/{'a/' * 2000}",
        "a long name": f"{tmp_path}/{'b' * 300}",
        "nobody's": "~no-such-user-here/x",
        "two folders": f"{tmp_path}/a:b",
    }


@pytest.mark.parametrize("name", BAD)
def test_a_home_that_cannot_be_used_is_refused_in_words(tmp_path: Path, proj: RunProj, name: str) -> None:
    write_tree(tmp_path / "project", PROJECT)
    bad = bad_homes(tmp_path)[name]
    for words in COMMANDS:
        done = proj(*words, PROJ_HOME=bad)
        assert done.code == 1, (words, done.err)
        assert "error[home]" in done.err
        assert "Traceback" not in done.err
        assert "PROJ_HOME" in done.err
        assert all(letter.isprintable() for letter in done.err.replace("\n", ""))


@given(text=st.text(min_size=1, max_size=40).filter(lambda text: "\0" not in text))
def test_any_name_is_a_home_or_refused(text: str) -> None:
    try:
        home = open_home({"PROJ_HOME": text})
    except HomeError:
        return
    assert home.root.is_absolute()
    str(home.database).encode("utf-8")
    assert "\n" not in str(home.root)
    assert os.pathsep not in str(home.root)


OUTPUTS = (("list",), ("list", "--json"), ("show", "latest"), ("log", "latest"), ("--help",), ("--version",))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_output_that_cannot_be_written_is_an_error(tmp_path: Path, proj: RunProj) -> None:
    write_tree(tmp_path / "project", PROJECT)
    assert proj(*FIRST["run"]).code == 0
    for words in (*OUTPUTS, ("experiments", "list"), ("verify", "--json")):
        done = shell(f"{command(*words)} > /dev/full", tmp_path)
        assert done.returncode == 1, (words, done)
        assert done.stderr.startswith(("error[output]", "no damage found")), (words, done.stderr)
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr


def test_talk_that_cannot_be_written_changes_nothing(tmp_path: Path, proj: RunProj) -> None:
    write_tree(tmp_path / "project", PROJECT)
    for lead in ("2> /dev/full", ">&- 2>&- <&-", "2>&-", ">&-", "<&-", "> /dev/full"):
        assert shell(f"{command(*FIRST['run'])} {lead}", tmp_path).returncode == 0, lead
    records = proj("list", "--json").json
    assert [record["status"] for record in records] == ["FINISHED"] * 6
    assert [proj("log", record["run_id"]).out for record in records] == ["hi\n"] * 6


def test_closed_streams_never_become_files_of_ours(tmp_path: Path, proj: RunProj) -> None:
    """A database that has the number of a closed stream would get what is printed."""
    write_tree(tmp_path / "project", PROJECT)
    for lead in (">&-", ">&- 2>&-"):
        assert (
            shell(f"{command('run', 'project', '--env-manager', 'local', '--json')} {lead}", tmp_path).returncode == 0
        )
    assert proj("verify").code == 0
    assert [record["status"] for record in proj("list", "--json").json] == ["FINISHED"] * 2


@pytest.mark.parametrize("limit", [10, 20])
def test_few_descriptors_are_an_error_or_enough(tmp_path: Path, proj: RunProj, limit: int) -> None:
    write_tree(tmp_path / "project", PROJECT)
    assert proj(*FIRST["run"]).code == 0
    for words in (("list",), ("show", "latest"), FIRST["run"]):
        done = shell(f"ulimit -n {limit}; {command(*words)}", tmp_path)
        assert done.returncode in (0, 1)
        assert "Traceback" not in done.stderr, done.stderr
        if done.returncode:
            assert "ulimit -n" in done.stderr
    assert proj("verify").code == 0


@given(number=st.integers(min_value=1, max_value=140))
def test_what_the_system_refuses_is_explained_or_a_bug(number: int) -> None:
    reported = explain_system_error(OSError(number, os.strerror(number), "a\nfile"))
    assert reported is None or (reported.hint and "\n" not in (reported.context or ""))


def command(*words: str) -> str:
    return f"exec {sys.executable} -m runner.cli.main {' '.join(words)}"


def shell(line: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "-c", line],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
