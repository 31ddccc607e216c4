"""Names, help and options of the command line: sections, suggestions, and the options that every command has."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.base.plurals import counted
from runner.cli import synonyms
from runner.cli.groups import SECTIONS, CommonOption
from runner.cli.main import COMMANDS, cli, run_command
from runner.cli.text import show_error, show_event
from runner.cli.verbosity import Verbosity, set_verbosity
from runner.errors import ProjError
from runner.model import Event, EventKind
from tests.conftest import ROOT, write_tree

Capture = pytest.CaptureFixture[str]
MANIFEST = "entry_points: {main: {command: ls}}\n"
VERSION = re.compile(r"proj \d+\.\d+\S*\n")


def all_commands(
    group: click.Group = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from all_commands(command, (*path, name))


ALL = list(all_commands())


class TestHelp:
    def test_each_command_is_in_one_section(self, capsys: Capture) -> None:
        assert run_command(["--help"]) == 0
        text = capsys.readouterr().out
        for name, lazy in COMMANDS.items():
            assert len(re.findall(rf"^  {name} +{re.escape(lazy.help)}$", text, re.MULTILINE)) == 1, name
        for title in (*SECTIONS, "Signs"):
            assert f"\n{title}:\n" in text

    def test_each_command_has_examples_that_are_understood(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(ROOT)
        for path, command in ALL:
            if isinstance(command, click.Group):
                continue
            called = f"proj {' '.join(path)}"
            found = re.findall(rf"(?:^ +|`|Example: +){called}\b([^`\n]*)", command.help or "", re.MULTILINE)
            assert found, f"{called} has no example"
            for words in found:
                command.make_context(path[-1], shlex.split(words), parent=click.Context(cli, info_name="proj"))


class TestCommonOptions:
    def test_each_command_has_them_once(self) -> None:
        for path, command in ALL:
            names = [name for one in command.params for name in one.opts]
            assert len(set(names)) == len(names), path
            assert {"-q", "--quiet", "-v", "--verbose", "-V", "--version"} <= set(names), path
            hidden = [one for one in command.params if isinstance(one, CommonOption)]
            assert all(one.hidden for one in hidden), path
        assert not any(one.hidden for one in cli.params if isinstance(one, click.Option))

    @pytest.mark.parametrize(
        "words", [["-V"], ["--version"], ["list", "-V"], ["list", "--version"], ["env", "-V"], ["env", "list", "-V"]]
    )
    def test_the_version(self, words: list[str], capsys: Capture) -> None:
        assert run_command(words) == 0
        assert VERSION.fullmatch(capsys.readouterr().out)

    def test_the_version_of_a_run_is_that_of_its_code(self, capsys: Capture, tmp_path: Path) -> None:
        write_tree(tmp_path, {"MLproject": MANIFEST})
        for name in ("-v", "--version"):
            assert run_command(["run", str(tmp_path), name, "main", "--dry-run"]) == 1
            assert "has no version 'main'" in capsys.readouterr().err

    @pytest.mark.parametrize("quiet", ["-q", "--quiet"])
    def test_quiet_before_and_after_the_command(self, quiet: str, capsys: Capture) -> None:
        assert run_command(["list"]) == 0
        assert capsys.readouterr().err == "no runs\n"
        for words in ([quiet, "list"], ["list", quiet], ["trash", quiet, "list"], [quiet, "trash", "list"]):
            assert run_command(words) == 0
            assert capsys.readouterr() == ("", "")
        assert run_command(["list"]) == 0  # the next command is as usual
        assert capsys.readouterr().err == "no runs\n"

    def test_quiet_leaves_errors_warnings_and_data(self, capsys: Capture) -> None:
        assert run_command(["-q", "show", "nothing"]) == 1
        assert capsys.readouterr().err.startswith("error[not-found]: ")
        assert run_command(["-q", "list", "--json"]) == 0
        assert capsys.readouterr().out == "[]\n"
        set_verbosity(Verbosity.QUIET)
        for kind in EventKind:
            show_event(Event(kind=kind, message=kind.value, hint="do it"))
        assert capsys.readouterr().err == "! warning\n  hint: do it\n"

    def test_verbose_shows_remarks_and_causes(self, capsys: Capture) -> None:
        cause = ValueError("https://me:secret@example.org failed")
        error = ProjError("It failed")
        error.__cause__ = cause
        for wanted in (Verbosity.NORMAL, Verbosity.VERBOSE):
            set_verbosity(wanted)
            show_event(Event(kind=EventKind.REMARK, message="known"))
            show_error(error)
        assert capsys.readouterr().err == (
            "error[error]: It failed\ni known\nerror[error]: It failed\n"
            "  caused by: ValueError: https://example.org failed\n"
        )


class TestSynonyms:
    def test_they_lead_to_commands_and_options_that_exist(self) -> None:
        commands = {" ".join(path): command for path, command in ALL}
        for line, words in synonyms.synonyms().items():
            _, name, *rest = shlex.split(line)
            if name.startswith("--"):
                assert name in {"--help", "--version"}
                continue
            command = commands.get(" ".join((name, *rest[:1])), commands[name])
            known = {option for one in command.params for option in one.opts}
            own = rest[: rest.index("--")] if "--" in rest else rest
            assert {word for word in own if word.startswith("-")} <= known, line
            assert not set(words) & set(COMMANDS), line

    def test_a_word_has_one_meaning(self) -> None:
        words = [word for others in synonyms.synonyms().values() for word in others]
        assert len(set(words)) == len(words)

    @given(st.text(max_size=20))
    def test_any_word_is_answered(self, word: str) -> None:
        hint = synonyms.command_hint(word, COMMANDS)
        assert hint is None or any(f"{name}" in hint for name in (*COMMANDS, "--help", "--version"))
        assert synonyms.subcommand_hint(word, ["list", "show"])


@given(st.text(max_size=30))
def test_a_wrong_option_is_an_error_of_ours(text: str) -> None:
    """No text on the command line leads to a traceback or to click's own style."""
    assert run_command(["list", f"--no{text}"]) == 2


def test_plurals() -> None:
    nouns = {
        "run": "runs",
        "entry": "entries",
        "key": "keys",
        "match": "matches",
        "more file": "more files",
        "box": "boxes",
    }
    for noun, plural in nouns.items():
        assert counted(1, noun) == f"1 {noun}"
        assert counted(0, noun) == f"0 {plural}"
        assert counted(1234, noun) == f"1,234 {plural}"


class TestManifestAbove:
    def test_a_run_in_a_subfolder_is_one_of_the_project(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        write_tree(tmp_path, {"MLproject": MANIFEST, "src/own.py": "", "a/b/c": ""})
        monkeypatch.chdir(tmp_path / "src")
        for words in (["run"], ["run", "."], ["run", str(tmp_path / "src")], ["run", "../a/b"]):
            assert run_command([*words, "--dry-run"]) == 0
            shown = capsys.readouterr()
            assert f"project:     {tmp_path}\n" in shown.out
            assert len(shown.err.splitlines()) == 1
            assert "which has an MLproject" in shown.err

    def test_what_is_in_the_folder_itself_comes_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        write_tree(tmp_path, {"MLproject": MANIFEST, "src/own.py": ""})
        monkeypatch.chdir(tmp_path / "src")
        for words in (["run", "-e", "own.py"], ["run", ".", "--", "python", "own.py"]):
            options = [*words[:1], "--dry-run", *words[1:]]
            assert run_command(options) == 0
            shown = capsys.readouterr()
            assert f"project:     {tmp_path}/src\n" in shown.out
            assert shown.err == ""

    def test_it_is_not_looked_for_outside_the_repository(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        write_tree(tmp_path, {"MLproject": MANIFEST, "inner/.git/HEAD": "", "inner/src/a": ""})
        monkeypatch.chdir(tmp_path / "inner" / "src")
        assert run_command(["run"]) == 1
        assert "has no MLproject" in capsys.readouterr().err

    @pytest.mark.parametrize("command", ["check", "lock"])
    def test_other_commands_follow_it(
        self, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
    ) -> None:
        write_tree(tmp_path, {"MLproject": MANIFEST, "src/a": ""})
        monkeypatch.chdir(tmp_path / "src")
        run_command([command])
        assert capsys.readouterr().err.startswith("i The project is .., which has an MLproject\n")
