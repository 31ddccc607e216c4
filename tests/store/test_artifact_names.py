"""Tests artifact names with arbitrary bytes: each is preserved or reported with a reason."""

import os
import re
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from runner.cli.main import run_command
from runner.errors import InvalidValueError
from runner.model import RunStatus
from runner.settings import Home
from runner.store import runs, tokens
from runner.store.artifact_paths import ESCAPED, MAX_NAME, as_text, check_path, is_possible, names_of
from runner.store.artifacts import list_artifacts, open_artifact, survey, write_artifact
from runner.store.database import Database
from runner.store.entities import NewRun
from runner.store.tokens import Scope
from tests.conftest import RunProj
from tests.support.standalone_server import RunningServer, standalone_server

ODD = [
    b"plain",
    b"a\nb",
    b"\x1b[31mred",
    b"tab\there",
    b"\xff\xfe latin \xe9",
    b"d:/y",
    b"c:\\z",
    b"..a/...",
    b"%2e%2e/%2f",
    b"trailing. /dot.",
    b" space ",
    b"-rf",
    b"=3D",
    b".proj-name=x",
    b"\xe2\x80\xae mirrored",
    b"caf\xc3\xa9",
    b"cafe\xcc\x81",
    b"x" * 255,
    b"/".join([b"y" * 200] * 4),
    b"con",
    b"#a?b&c;d",
]
ONLY_HERE = [b"\x01" * 255, b"/".join([b"z" * 200] * 8), b"/".join([b"w" * 250] * 20)]
"""They are too long to be named in the protocol."""


def make(root: Path, name: bytes) -> None:
    """Create a file whose path may be longer than the system allows."""
    root.mkdir(parents=True, exist_ok=True)
    folder = os.open(root, os.O_RDONLY)
    *above, last = name.split(b"/")
    for part in above:
        with suppress(FileExistsError):
            os.mkdir(part, dir_fd=folder)
        below = os.open(part, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    descriptor = os.open(last, os.O_WRONLY | os.O_CREAT, dir_fd=folder)
    os.write(descriptor, b"content of " + name)
    os.close(descriptor)
    os.close(folder)


def found_in(root: Path) -> dict[bytes, bytes]:
    """Return the contents of all files below a folder by name, including very long names."""
    found = {}
    for top, _, names, descriptor in os.fwalk(os.fsencode(root)):
        for name in names:
            with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=descriptor), "rb") as file:
                found[os.path.relpath(top + b"/" + name, os.fsencode(root))] = file.read()
    return found


def expected(names: list[bytes]) -> dict[bytes, bytes]:
    return {name: b"content of " + name for name in names}


@settings(max_examples=400, deadline=None)
@given(name=st.binary(min_size=1, max_size=90).filter(lambda name: not set(name) & {0, 0x2F}))
def test_every_name_has_one_form_as_text(name: bytes) -> None:
    plain = os.fsdecode(name)
    assume(is_possible(plain))
    text = as_text(plain)
    assert check_path(text) == text
    assert check_path(f"{text}/x") == f"{text}/x"
    assert names_of(text) == (plain,)
    assert text.isascii() or text == plain
    assert not re.search(r"[\x00-\x1f\x7f]", text)


@settings(max_examples=400, deadline=None)
@given(form=st.text(alphabet="=0123456789ABCDEFabx./\\%", max_size=20))
def test_nothing_hides_in_an_escaped_name(form: str) -> None:
    try:
        (name,) = names_of(ESCAPED + form)
    except InvalidValueError:
        return
    except ValueError:  # more than one component
        return
    assert is_possible(name)
    assert as_text(name) == (ESCAPED + form).removesuffix("/")


@pytest.mark.parametrize(
    "name", ["=2E=2E", "=2E", "=2F", "=00", "=61", "a", "=2e=2e", "", "=", "=2", "=2Eproj-partial-1", "a=2Fb"]
)
def test_wrong_escaped_names_are_refused(tmp_path: Path, name: str) -> None:
    for path in (ESCAPED + name, f"d/{ESCAPED}{name}", f"{ESCAPED}{name}/d"):
        with pytest.raises(InvalidValueError):
            write_artifact(tmp_path, path, [b"x"])
        with pytest.raises(InvalidValueError):
            open_artifact(tmp_path, path)
    assert list(tmp_path.iterdir()) == []


def test_the_form_is_the_documented_one() -> None:
    assert as_text("a\nb") == ".proj-name=a=0Ab"
    assert as_text(os.fsdecode(b"\xff.csv")) == ".proj-name==FF.csv"
    assert as_text("plain ü.csv") == "plain ü.csv"


def test_listed_names_lead_to_the_files(tmp_path: Path) -> None:
    for name in ODD:
        make(tmp_path / "a", name)
    paths = [info.path for info in survey(tmp_path / "a").files]
    assert len(paths) == len(ODD)
    for path in paths:
        with open_artifact(tmp_path / "a", path) as file:
            write_artifact(tmp_path / "b", path, [file.read()])
    assert found_in(tmp_path / "b") == expected(ODD)
    assert all(list_artifacts(tmp_path / "a", path) for path in paths)


def test_long_names_are_found_here(tmp_path: Path) -> None:
    for name in ONLY_HERE:
        make(tmp_path, name)
    assert {b"/".join(map(os.fsencode, file.names)) for file in survey(tmp_path).files} == set(ONLY_HERE)
    assert all(len(os.fsencode(part)) <= MAX_NAME for file in survey(tmp_path).files for part in file.names)


@pytest.fixture
def run_id(home: Home) -> str:
    with closing(Database.open(home.database)) as db:
        made = runs.create(db, NewRun()).run_id
        runs.update(db, made, status=RunStatus.FINISHED)
    return made


def test_get_brings_every_name_back(
    home: Home, run_id: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    names = [*ODD, *ONLY_HERE]
    for name in names:
        make(home.artifacts(run_id), name)
    assert run_command(["get", run_id, "--to", str(tmp_path / "got")]) == 0
    assert found_in(tmp_path / "got") == expected(names)
    out = capfdbinary.readouterr().out
    assert all(os.fsencode(tmp_path / "got") + b"/" + name + b"\n" in out for name in names)
    assert run_command(["get", run_id, "--to", str(tmp_path / "got")]) == 0
    assert f"{len(names)} already existed".encode() in capfdbinary.readouterr().err


@pytest.mark.parametrize("word", ["a\nb", ".proj-name=a=0Ab"])
def test_a_name_is_asked_for_as_it_is_or_as_it_is_listed(home: Home, run_id: str, tmp_path: Path, word: str) -> None:
    for name in ODD:
        make(home.artifacts(run_id), name)
    assert run_command(["get", run_id, word, "--to", str(tmp_path / "got")]) == 0
    assert found_in(tmp_path / "got") == expected([b"a\nb"])


def test_get_continues_and_reports_special_files(
    home: Home, run_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = home.artifacts(run_id)
    for name in (b"a", b"m", b"z"):
        make(root, name)
    (root / "b").symlink_to(root / "a")
    os.mkfifo(root / "c\nd")
    (tmp_path / "got" / "m").mkdir(parents=True)
    assert run_command(["get", run_id, "--force", "--to", str(tmp_path / "got")]) == 1
    said = capsys.readouterr().err
    assert found_in(tmp_path / "got") == expected([b"a", b"z"])
    assert re.search(r"not copied: b: .*symbolic link", said)
    assert re.search(r"not copied: \.proj-name=c=0Ad: .*pipe", said)
    assert re.search(r"not copied: m: .*folder", said)


def test_names_that_the_target_can_not_have_are_named(
    home: Home, run_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (b"a", b"file/below", b"z"):
        make(home.artifacts(run_id), name)
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / "file").write_text("mine")
    assert run_command(["get", run_id, "--force", "--to", str(tmp_path / "got")]) == 1
    assert "file/below" in capsys.readouterr().err
    assert found_in(tmp_path / "got") == {**expected([b"a", b"z"]), b"file": b"mine"}


@pytest.fixture
def standalone(tmp_path: Path) -> Iterator[tuple[RunningServer, str, Home]]:
    theirs = Home(tmp_path / "theirs")
    with closing(Database.open(theirs.database)) as db:
        token = tokens.add(db, "me", Scope.WRITE)
    with standalone_server(tmp_path, PROJ_HOME=str(theirs.root)) as server:
        yield server, token, theirs


def test_every_name_goes_to_a_server_and_back(
    home: Home,
    run_id: str,
    tmp_path: Path,
    standalone: tuple[RunningServer, str, Home],
    proj: RunProj,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, token, theirs = standalone
    for name in [*ODD, *ONLY_HERE]:
        make(home.artifacts(run_id), name)
    variables = {"MLFLOW_TRACKING_URI": server.url, "MLFLOW_TRACKING_TOKEN": token}
    pushed = proj("push", run_id, "--json", **variables)
    assert pushed.code == 1, pushed.err  # files are left out
    there = pushed.json[0]["remote_run_id"]
    assert found_in(theirs.artifacts(there)) == expected(ODD)
    assert len(pushed.json[0]["left_out"]) == len(ONLY_HERE)
    assert pushed.err.count("! not sent: ") == len(ONLY_HERE)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run_command(["get", there, "--to", str(tmp_path / "got")]) == 0
    assert found_in(tmp_path / "got") == expected(ODD)
    elsewhere = Home(tmp_path / "elsewhere")
    assert proj("pull", there, PROJ_HOME=str(elsewhere.root), **variables).code == 0
    assert found_in(elsewhere.artifacts(run_id)) == expected(ODD)


def test_a_server_reports_artifacts_that_it_can_not_send(
    tmp_path: Path,
    standalone: tuple[RunningServer, str, Home],
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """Names that the run's own client can't send are reported, and the other files are copied."""
    server, token, theirs = standalone
    with closing(Database.open(theirs.database)) as db:
        there = runs.create(db, NewRun()).run_id
    for name in [*ODD, *ONLY_HERE]:
        make(theirs.artifacts(there), name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
    assert run_command(["get", there, "--to", str(tmp_path / "got")]) == 1
    assert found_in(tmp_path / "got") == expected(ODD)
    assert capfdbinary.readouterr().err.count(b"not copied") == len(ONLY_HERE)


@given(st.text(alphabet=st.sampled_from("aZ09._-%/\\:= \n\x7fé\u0661\u202e\udcff"), min_size=1, max_size=12))
def test_a_name_stays_plain_only_if_its_path_is_safe(name: str) -> None:
    text = as_text(name)
    if "/" not in name and name not in (".", ".."):
        assert names_of(text) == (name,) or not is_possible(name)
    if text == name:
        assert check_path(f"{name}/{name}") == f"{name}/{name}"
