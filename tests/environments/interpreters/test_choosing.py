"""Choice of the interpreter by version rule, date and installed versions."""

import os
import sys
from datetime import date, datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from runner.environments.interpreters import interpreters
from runner.environments.interpreters.choosing import MissingInterpreterError, choose
from runner.environments.interpreters.interpreters import discover
from runner.environments.interpreters.release_lines import line_in_use
from runner.environments.model import Interpreter
from runner.environments.version_rules import parse_rule
from runner.errors import EnvironmentSetupError

HERE = tuple(
    Interpreter(path=f"/python/{version}", version=version, implementation="cpython", platform="linux-x86_64")
    for version in ("3.11.2", "3.13.0", "3.11.7", "3.9.18", "3.7.16")
)


def on(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("rule", "version", "fits"),
    [
        ("3.9", "3.9.18", True),
        ("3.9", "3.19.1", False),
        ("3.1", "3.10.1", False),
        ("=3.9", "3.9.18", True),
        ("3.9.18", "3.9.18", True),
        ("3.9.1", "3.9.18", False),
        ("3.9.*", "3.9.18", True),
        ("3.9*", "3.9.18", True),
        ("==3.9.*", "3.9.18", True),
        ("==3.9", "3.9.18", False),
        ("==3.9", "3.9.0", True),
        ("===3.9.18", "3.9.18", True),
        ("3", "3.12.0", True),
        (">=3.8,<3.11", "3.10.13", True),
        (">=3.8, <3.11,", "3.11.0", False),
        ("3.9,!=3.9.18", "3.9.18", False),
        ("<=3.10", "3.10.0", True),
        ("<=3.10", "3.10.13", False),
        (">3.10", "3.10.13", True),
        (">3.10", "3.10.0", False),
        ("!=3.9", "3.9.0", False),
        ("!=3.9", "3.9.1", True),
        ("!=3.9.*", "3.9.1", False),
        ("~=3.8", "3.12.0", True),
        ("~=3.8", "4.0.0", False),
        ("~=3.8.5", "3.9.0", False),
        ("~= 3.8", "3.8.1", True),
        ("3.14", "3.14.0rc2", False),
        (">=3.8", "3.14.0rc2", False),
        (">=3.14.0rc1", "3.14.0rc2", True),
        ("<3.14", "3.14.0rc2", False),
        ("", "3.14.0a1+", False),
        ("python3.9", "3.9.0", True),
        ("*", "3.6.0", True),
        ("", "3.6.0", True),
    ],
)
def test_rules(rule: str, version: str, *, fits: bool) -> None:
    assert parse_rule(rule).admits(version) is fits


@pytest.mark.parametrize("text", ["~=3", "~= 3", ">=3.8,~=3"])
def test_a_compatible_release_needs_two_numbers(text: str) -> None:
    with pytest.raises(EnvironmentSetupError, match="needs at least two numbers") as caught:
        parse_rule(text)
    assert "write '3'" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["three", "3.x", ">=", "3..9", ">=3.8 <3.9", "^3.8", "3.9 or later", "==3.*.1", "@"])
def test_invalid_versions_are_refused(text: str) -> None:
    with pytest.raises(EnvironmentSetupError, match="is not a version of Python"):
        parse_rule(text)


RELEASES = st.builds(lambda a, b, c: f"{a}.{b}.{c}", st.just(3), st.integers(6, 15), st.integers(0, 20))
WRITTEN = st.builds(
    lambda operator, minor, patch: f"{operator}3.{minor}{patch}",
    st.sampled_from(["<", "<=", ">", ">=", "==", "!=", "~="]),
    st.integers(6, 15),
    st.sampled_from(["", ".0", ".7"]),
)


@given(st.lists(WRITTEN, min_size=1, max_size=3), RELEASES)
def test_rules_with_operators_are_those_of_pep_440(parts: list[str], version: str) -> None:
    rule = ",".join(parts)
    assert parse_rule(rule).admits(version) is SpecifierSet(rule).contains(version)


def test_a_release_candidate_is_used_where_nothing_else_satisfies() -> None:
    only = [Interpreter(path="/a", version="3.14.0rc2", implementation="cpython", platform="linux-x86_64")]
    assert choose("3.14", only, None).interpreter.version == "3.14.0rc2"
    both = [*only, *HERE]
    assert choose(None, both, None).interpreter.version != "3.14.0rc2"


def test_a_release_that_is_named_and_absent_has_one_of_its_line() -> None:
    choice = choose("==3.11", HERE, None)
    assert choice.interpreter.line == (3, 11)
    assert choice.departs == (choice.interpreter.version != "3.11.0")


def test_invalid_rules_are_refused() -> None:
    with pytest.raises(EnvironmentSetupError, match="'three' is not a version of Python"):
        parse_rule("three")


@pytest.mark.parametrize(
    ("rule", "day", "version"),
    [
        ("3.11", None, "3.11.7"),
        ("3.11.2", None, "3.11.2"),
        (None, "2019-06-01", "3.7.16"),
        (None, "2022-03-01", "3.9.18"),
        (None, "2024-02-01", "3.11.7"),
        (None, "2011-01-01", "3.7.16"),
        (">=3.8", "2019-06-01", "3.9.18"),
        ("<3.12", "2026-01-01", "3.11.7"),
        ("3", "2022-03-01", "3.9.18"),
    ],
)
def test_choice(rule: str | None, day: str | None, version: str) -> None:
    assert choose(rule, HERE, on(day) if day else None).interpreter.version == version


def test_choice_by_date_is_reported() -> None:
    notice = choose(None, HERE, on("2022-03-01")).notice
    assert notice
    assert "3.9.18" in notice
    assert "No version of Python is declared" in notice
    assert "the newest installed one in common use in March 2022" in notice
    assert "'>=3.8' does not fix the version of Python" in (choose(">=3.8", HERE, on("2022-03-01")).notice or "")
    assert "all installed ones are later than March 2012" in (choose(None, HERE, on("2012-03-01")).notice or "")
    assert choose("3.9", HERE, on("2022-03-01")).notice is None


@pytest.mark.parametrize(("asked", "given"), [("3.11.5", "3.11.7"), ("3.11.9", "3.11.7"), ("3.9.1", "3.9.18")])
def test_a_missing_patch_release_is_replaced_and_reported(asked: str, given: str) -> None:
    choice = choose(asked, HERE, None)
    assert choice.interpreter.version == given
    assert f"Python {asked} is not installed" in (choice.notice or "")


def test_a_missing_release_line_lists_the_installed_ones() -> None:
    with pytest.raises(MissingInterpreterError) as caught:
        choose("3.8", HERE, None)
    assert "3.13.0, 3.11.7, 3.11.2, 3.9.18, 3.7.16" in caught.value.message
    assert "uv python install 3.8" in (caught.value.hint or "")


def test_a_path_of_another_machine_is_reported() -> None:
    assert "a path that exists on one machine only" in (choose(r"C:\Python\python.exe", HERE, None).notice or "")


def test_a_release_line_is_not_used_in_its_first_months() -> None:
    lines = [(3, 12), (3, 13)]
    assert line_in_use(date(2025, 1, 1), lines) == (3, 12)
    assert line_in_use(date(2025, 9, 1), lines) == (3, 13)


def test_discovery_finds_the_base_python_and_starts_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "interpreters.json"
    found = discover(cache)
    own = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    assert own in {os.path.realpath(item.path) for item in found}
    monkeypatch.setattr(interpreters, "capture", None)
    assert discover(cache) == found


def test_discovery_looks_into_pyenvs_folder_not_at_its_shims(tmp_path: Path) -> None:
    base = getattr(sys, "_base_executable", sys.executable)
    version = tmp_path / "pyenv/versions/3.99.0/bin"
    version.mkdir(parents=True)
    (version / "python3").symlink_to(base)
    shim = tmp_path / "pyenv/shims/python3"
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    environ = {"PATH": str(shim.parent), "PYENV_ROOT": str(tmp_path / "pyenv"), "HOME": str(tmp_path)}
    paths = {item.path for item in discover(tmp_path / "cache.json", environ)}
    assert str(shim) not in paths


@pytest.mark.skipif(sys.platform == "win32", reason="a script can't be an interpreter there")
@pytest.mark.parametrize("place", ["mamba/envs/old", "mamba"])
def test_discovery_looks_into_the_environments_of_conda(tmp_path: Path, place: str) -> None:
    base = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    script = tmp_path / place / "bin/python3"
    script.parent.mkdir(parents=True)
    script.write_text(f'#!/bin/sh\nexec {base} "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    environ = {"PATH": "", "MAMBA_ROOT_PREFIX": str(tmp_path / "mamba"), "PYENV_ROOT": str(tmp_path / "none")}
    found = {item.path: item for item in discover(tmp_path / "cache.json", environ)}
    assert str(script) in found
    assert interpreters.origin(found[str(script)], environ) == "conda"


def test_executables_that_are_not_python_are_skipped(tmp_path: Path) -> None:
    for name, text in (("python3", "#!/bin/sh\necho no\n"), ("python3.9", "not a program")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    assert all(str(tmp_path) not in item.path for item in discover(tmp_path / "c.json", {"PATH": str(tmp_path)}))
