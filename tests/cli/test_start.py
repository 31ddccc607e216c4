"""What a command loads before it works: each module is time that every run pays."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest

from runner.cli.main import cli
from runner.settings import Home
from runner.store import runs
from runner.store.database import Database
from runner.store.entities import NewRun
from tests.conftest import git, write_tree

ROOT = Path(__file__).parents[2]
SLOW = frozenset({
    *("asyncio", "copier", "difflib", "email", "git", "http", "json", "jinja2", "packaging", "pydantic", "rattler"),
    *("rich", "ssl", "tempfile", "urllib.request", "uvicorn", "virtualenv", "xml", "yaml"),
})  # fmt: skip
"""Modules that take a millisecond or more to load and that a run of known code in a known environment never needs."""
COLD = (
    *(
        "runner.cli.list",
        "runner.environments.declare.conda.mapping",
        "runner.environments.backends.containers.backend",
    ),
    *("runner.environments.repair.inference",),
    *(
        "runner.environments.repair.fallback",
        "runner.environments.declare.requirements",
        "runner.environments.resolve.uv_command",
    ),
    *("runner.manifest.document", "runner.scaffold", "runner.server.app", "runner.source.archive"),
    *("runner.source.mirror", "runner.store.search"),
)


def loaded(words: list[str], folder: Path, home: Path) -> frozenset[str]:
    """Run a command of proj in a Python of its own and return the modules that it loaded."""
    code = (
        "import sys\nfrom runner.cli.main import run_command\n"
        "assert run_command(sys.argv[1:]) == 0\nsys.stderr.write('loaded: ' + ' '.join(sys.modules))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PROJ_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, env=env, capture_output=True, text=True, check=True
    )
    return frozenset(done.stderr.rpartition("loaded: ")[2].split())


def test_help_loads_no_command(tmp_path: Path) -> None:
    modules = loaded(["--help"], tmp_path, tmp_path / "home")
    ours = {name for name in modules if name.startswith("runner.")}
    assert ours <= {
        f"runner.{name}"
        for name in (
            "base",
            "base.lazy",
            "base.suggestions",
            "cli",
            "cli.border",
            "cli.groups",
            "cli.main",
            "cli.options",
            "cli.verbosity",
            "base.streams",
            "errors",
            "urls",
        )
    }
    assert not modules & {*SLOW, "msgspec"}


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["experiments", "list"]], ids=" ".join)
def test_reading_loads_no_table_library_and_no_server(tmp_path: Path, words: list[str]) -> None:
    home = Home(tmp_path / "home")
    with closing(Database.open(home.database)) as database:
        runs.create(database, NewRun(name="r"))
    modules = loaded(words, tmp_path, home.root)
    assert not modules & {"rich", "yaml", "asyncio", "ssl", "urllib3", "uvicorn", "importlib.metadata", "git"}
    assert not {
        name for name in modules if name.startswith(("runner.server", "runner.environments.", "runner.source."))
    }


@pytest.mark.parametrize("manager", ["local", pytest.param("uv", marks=pytest.mark.env)])
def test_a_second_run_of_the_same_code_loads_what_it_needs(tmp_path: Path, manager: str) -> None:
    python = f"'{sys.version_info[0]}.{sys.version_info[1]}'"
    root = write_tree(
        tmp_path / "project",
        {
            "MLproject": "python_env: python_env.yaml\nentry_points:\n  main:\n    command: python -c pass\n",
            "python_env.yaml": f"python: {python}\ndependencies: []\n",
        },
    )
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "--all")
    git(root, "-c", "user.name=t", "-c", "user.email=t@example.invalid", "commit", "--quiet", "--message=first")
    words = ["run", ".", "--env-manager", manager]
    loaded(words, root, tmp_path / "home")
    modules = loaded(words, root, tmp_path / "home")
    assert not modules & SLOW
    assert not [name for name in COLD if name in modules]


@pytest.mark.slow
def test_the_benchmarks_run() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "start"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "proj --help" in done.stdout
    assert " x python -c pass (" in done.stdout
    unknown = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "nonsense"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert unknown.returncode == 1
    assert "there are start, run, " in unknown.stderr


@pytest.mark.parametrize("module", ["click", "runner.errors", "runner.base.streams"])
@pytest.mark.parametrize("start", ["as a script", "as a module"])
def test_an_interrupt_while_modules_are_loaded_ends_quietly(module: str, start: str) -> None:
    """A user who presses Ctrl+C at once sees no traceback, whichever module is being loaded."""
    sent = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(20)\n"
    script = (
        "import importlib.abc, runpy, sys\n"
        "class Sender(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}: exec({sent!r})\n"
        "sys.meta_path.insert(0, Sender())\n"
    )
    if start == "as a script":
        script += "from runner.cli.start import main\nsys.exit(main())"
    else:
        script += "runpy.run_module('runner.cli.start', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def all_commands(command: click.Command, context: click.Context) -> Iterator[click.Command]:
    yield command
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        below = command.get_command(context, name)
        assert below is not None
        yield from all_commands(below, context)


def test_the_examples_in_the_help_keep_their_lines() -> None:
    context = click.Context(cli, info_name="proj")
    shown = [command.get_help(click.Context(command)) for command in all_commands(cli, context)]
    assert [text for text in shown if "\\b" in text] == []
    assert any("Examples:\n    proj restore 7f3a09c1\n    proj restore baseline\n" in text for text in shown)
