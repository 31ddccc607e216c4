"""`proj open`: the system's viewer, and images in the terminal."""

import base64
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from runner.cli.main import run_command
from runner.settings import Home
from runner.store import runs
from runner.store.artifacts import write_artifact
from runner.store.database import Database
from runner.store.entities import NewRun
from tests.cli.terminals import on_a_terminal
from tests.support.standalone_server import standalone_server

Capture = pytest.CaptureFixture[str]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40


@pytest.fixture
def run_id(home: Home) -> Iterator[str]:
    with closing(Database.open(home.database)) as database:
        made = runs.create(database, NewRun(name="r")).run_id
        write_artifact(home.artifacts(made), "plots/roc.png", [PNG])
        write_artifact(home.artifacts(made), "report.html", [b"<html>"])
        write_artifact(home.artifacts(made), "evil.desktop", [b"[Desktop Entry]"])
        yield made


@pytest.fixture
def viewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a viewer first on PATH that writes its argument to a file, and return that file."""
    told = tmp_path / "viewed.txt"
    folder = tmp_path / "bin"
    folder.mkdir()
    name = "open" if sys.platform == "darwin" else "xdg-open"
    program = folder / name
    program.write_text(f'#!/bin/sh\nprintf "%s" "$1" > "{told}.part" && mv "{told}.part" "{told}"\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return told


def test_the_viewer_gets_a_copy(run_id: str, viewed: Path, home: Home, capsys: Capture) -> None:
    assert run_command(["open", run_id, "report.html"]) == 0
    shown = Path(viewed.read_text())
    assert capsys.readouterr().out == f"{shown}\n"
    assert shown.read_bytes() == b"<html>"
    assert not shown.is_relative_to(home.artifacts(run_id))
    shown.write_bytes(b"changed by the viewer")
    assert run_command(["open", run_id, "report.html"]) == 0
    assert shown.read_bytes() == b"<html>"


def test_without_a_path_the_folder_is_opened(run_id: str, viewed: Path) -> None:
    assert run_command(["open", run_id]) == 0
    folder = Path(viewed.read_text())
    assert sorted(path.name for path in folder.iterdir()) == ["evil.desktop", "plots", "report.html"]
    assert run_command(["open", run_id, "plots"]) == 0
    assert Path(viewed.read_text()).name == "roc.png"


def test_programs_are_not_opened(run_id: str, viewed: Path, capsys: Capture) -> None:
    assert run_command(["open", run_id, "evil.desktop"]) == 2
    assert "viewers execute such files" in capsys.readouterr().err
    assert not viewed.exists()


def test_what_can_not_be_opened(run_id: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_command(["open", run_id, "absent.png"]) == 1
    assert "has no artifact 'absent.png'" in capsys.readouterr().err
    for viewer, words in (
        ("false", "exit code 1"),
        ("/no/such/program", "can't be started"),
        ("'", "is not a command"),
    ):
        monkeypatch.setenv("PROJ_VIEWER", viewer)
        assert run_command(["open", run_id, "report.html"]) != 0
        assert words in capsys.readouterr().err
    monkeypatch.delenv("PROJ_VIEWER")
    monkeypatch.setenv("PATH", "")
    assert run_command(["open", run_id, "report.html"]) == 1
    said = capsys.readouterr()
    assert "PROJ_VIEWER" in said.err
    assert Path(said.out.strip()).read_bytes() == b"<html>"


def test_old_copies_are_removed(run_id: str, viewed: Path, home: Home) -> None:
    old = home.root / "cache" / "opened" / ("0" * 32)
    old.mkdir(parents=True)
    os.utime(old, (time.time() - 2 * 86_400,) * 2)
    assert run_command(["open", run_id, "report.html"]) == 0
    assert [path.name for path in old.parent.iterdir() if path.name[0] != "."] == [run_id]
    assert viewed.exists()


@pytest.mark.parametrize(
    ("variables", "start"),
    [
        ({"TERM_PROGRAM": "iTerm.app"}, "\x1b]1337;File="),
        ({"TERM_PROGRAM": "WezTerm"}, "\x1b]1337;File="),
        ({"TERM": "xterm-kitty"}, "\x1b_Ga=T,f=100,m=1;"),
        ({"KITTY_WINDOW_ID": "1"}, "\x1b_Ga=T,f=100,m=1;"),
    ],
)
def test_terminals_show_images(
    run_id: str, viewed: Path, tmp_path: Path, variables: dict[str, str], start: str
) -> None:
    shown = on_a_terminal(80, tmp_path, "open", run_id, "plots/roc.png", **variables)
    assert start in shown
    if "1337" in start:
        content = shown[shown.index(":") + 1 : shown.index("\x07")]
    else:
        pieces = [part.split(";", 1) for part in shown.split("\x1b_G")[1:]]
        content = "".join(piece.split("\x1b")[0] for _, piece in pieces)
        assert [head[-3:] for head, _ in pieces] == ["m=1"] * (len(pieces) - 1) + ["m=0"]
    assert base64.b64decode(content) == PNG
    assert not viewed.exists()


@pytest.mark.parametrize(
    "variables", [{}, {"TERM_PROGRAM": "iTerm.app", "TMUX": "/tmp/x"}, {"TERM_PROGRAM": "Apple_Terminal"}]
)
def test_other_terminals_use_the_viewer(run_id: str, viewed: Path, tmp_path: Path, variables: dict[str, str]) -> None:
    shown = on_a_terminal(80, tmp_path, "open", run_id, "plots/roc.png", **variables)
    assert "\x1b]" not in shown
    assert "\x1b_" not in shown
    assert Path(viewed.read_text()).read_bytes() == PNG


def test_an_artifact_of_a_server(tmp_path: Path, clean_room: Path, viewed: Path) -> None:
    theirs = Home(clean_room / "theirs")
    with closing(Database.open(theirs.database)) as database:
        run_id = runs.create(database, NewRun(name="r")).run_id
        write_artifact(theirs.artifacts(run_id), "a/b.txt", [b"text"])
        with standalone_server(tmp_path, PROJ_HOME=str(theirs.root)) as standalone:
            assert run_command(["open", "r", "a/b.txt", "--tracking-uri", standalone.url]) == 0
    assert Path(viewed.read_text()).read_bytes() == b"text"
