"""The jobs in new projects are valid, their commands work, and they fail when a number no longer comes out."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from runner.model import Event
from runner.scaffold import ScaffoldRequest, new_project, packaged_templates
from runner.settings import Home
from tests.conftest import ROOT, MakeRepository, RunProj, commit_all, git, write_tree

TEMPLATES = packaged_templates().names
NUMBERS = ["proj check --run", "proj lock --check", "proj pull --git origin"]


def silent(_event: Event) -> None:
    """Take an event and say nothing."""


def made(folder: Path, template: str, ci: str, home: Home) -> Path:
    return new_project(ScaffoldRequest(folder=folder, template=template, answers={"ci": ci}), home, silent)


def github_commands(folder: Path) -> list[str]:
    job = yaml.safe_load((folder / ".github" / "workflows" / "numbers.yml").read_text())["jobs"]["reproduce"]
    return [step["run"] for step in job["steps"] if "run" in step]


def gitlab_commands(folder: Path) -> list[str]:
    words: list[str] = yaml.safe_load((folder / ".gitlab-ci.yml").read_text())["numbers"]["script"]
    return words


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES)
def test_each_choice_has_its_jobs_and_nothing_of_the_others(tmp_path: Path, home: Home, template: str) -> None:
    github, gitlab, none = (made(tmp_path / ci, template, ci, home) for ci in ("github", "gitlab", "none"))
    assert {path.name for path in (github / ".github" / "workflows").iterdir()} == {"ci.yml", "numbers.yml"}
    for folder in (gitlab, none):
        assert not (folder / ".github").exists()
    assert not (none / ".gitlab-ci.yml").exists()
    assert not (github / ".gitlab-ci.yml").exists()
    reproduction = "proj reproduce --latest --entry-point main --junit reproduction.xml"
    for commands in (github_commands(github), gitlab_commands(gitlab)):
        assert set(NUMBERS) < set(commands)
        assert commands[-1] == reproduction
    upload = yaml.safe_load((github / ".github" / "workflows" / "numbers.yml").read_text())["jobs"]["reproduce"][
        "steps"
    ][-1]
    assert (upload["with"]["path"], "always()" in upload["if"]) == ("reproduction.xml", True)
    reports: Any = yaml.safe_load((gitlab / ".gitlab-ci.yml").read_text())["numbers"]["artifacts"]
    assert (reports["when"], reports["reports"]["junit"]) == ("always", "reproduction.xml")


def run_job(commands: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the commands of a job that are proj's, as a shell of the job does: the first failure ends it."""
    script = "\n".join(one for one in commands if "pip install" not in one)
    done = Path(variables["PROJ_HOME"]).parent / "bin" / "proj"
    done.parent.mkdir(exist_ok=True)
    done.write_text('#!/bin/sh\nexec python -m runner.cli.main "$@"\n')
    done.chmod(0o755)
    path = os.pathsep.join((str(done.parent), variables.pop("PATH"), os.environ["PATH"]))
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "GITHUB_OUTPUT": os.devnull, **variables}
    words = ["bash", "-e", "-c", script]
    return subprocess.run(words, cwd=folder, env=environ, capture_output=True, text=True, check=False)


EXACT = "import os\nopen(os.environ['PROJ_METRICS'], 'a').write('score=1\\n')\n"
RANDOM = "import os, time\nopen(os.environ['PROJ_METRICS'], 'a').write(f'score={time.time_ns()}\\n')\n"
FILES = {
    "MLproject": "name: t\npython_env: python_env.yaml\nentry_points:\n  main:\n    command: python t.py\n",
    "python_env.yaml": "dependencies:\n- -r requirements.in\n",
    "requirements.in": "six==1.16.0\n",
}


@pytest.mark.env
@pytest.mark.slow
@pytest.mark.parametrize("ci", ["github", "gitlab"])
@pytest.mark.parametrize(("script", "verdict"), [(EXACT, "identical"), (RANDOM, "different")])
def test_a_job_fails_exactly_if_a_number_no_longer_comes_out(
    proj: RunProj, tmp_path: Path, home: Home, ci: str, script: str, verdict: str
) -> None:
    template = made(tmp_path / "template", "minimal", ci, home)
    commands = github_commands(template) if ci == "github" else gitlab_commands(template)
    host = tmp_path / "host.git"
    git(tmp_path, "init", "--quiet", "--bare", str(host))
    root = write_tree(tmp_path / "project", {**FILES, "t.py": script})
    assert proj("lock", cwd=root).code == 0
    commit_all(root)
    git(root, "remote", "add", "origin", str(host))
    git(root, "push", "--quiet", "origin", "main")
    there = tmp_path / "runner"
    there.mkdir()
    git(there, "clone", "--quiet", "--branch=main", str(host), "work")
    variables = {"PROJ_HOME": str(there / "home"), "PATH": str(Path(sys.executable).parent)}
    if ci == "gitlab":
        before = run_job(commands, there / "work", **variables)
        assert (before.returncode, "no run is shared yet" in before.stdout) == (0, True), before.stderr
    ran = proj("run", ".", "--json", cwd=root)
    assert ran.code == 0, ran.err
    assert proj("push", "latest", "--git", "origin", cwd=root).code == 0
    done = run_job(commands, there / "work", **variables)
    assert verdict in done.stdout, done.stderr
    assert done.returncode == (0 if verdict == "identical" else 1)
    suites = ET.parse(there / "work" / "reproduction.xml").getroot()
    assert (suites.find(".//failure") is None) == (verdict == "identical")


@pytest.mark.slow
def test_latest_means_the_newest_original_of_the_entry_point(
    proj: RunProj, make_repository: MakeRepository, tmp_path: Path
) -> None:
    files = {
        "MLproject": "name: t\nentry_points:\n  main:\n    command: python t.py\n  other:\n    command: python t.py\n",
        "t.py": EXACT,
    }
    root = make_repository(files)
    local = ("--env-manager", "local", "--json")
    assert proj("reproduce", "--latest", cwd=root).code == 1
    first = proj("run", ".", *local, cwd=root).json["run_id"]
    other = proj("run", ".", "-e", "other", *local, cwd=root).json["run_id"]
    for _ in range(2):
        assert proj("reproduce", "--latest", "--json", cwd=root).json["original"] == first
    found = proj("reproduce", "--latest", "--entry-point", "other", "--json", cwd=root)
    assert found.json["original"] == other
    elsewhere = proj("reproduce", "--latest", "--json", cwd=tmp_path)
    assert (elsewhere.json["original"], "recorded for" in elsewhere.err) == (first, True)
    for words in ((), (first, "--latest"), (first, "--entry-point", "main")):
        assert proj("reproduce", *words, cwd=root).code == 2


def test_the_hook_for_pre_commit_checks_the_files_of_a_project() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert (hook["id"], hook["entry"], hook["pass_filenames"]) == ("proj-check", "proj check", False)
    for name in (
        "MLproject",
        "sub/MLproject",
        "python_env.yaml",
        "conda.yml",
        "requirements-dev.txt",
        "requirements.in",
    ):
        assert re.search(hook["files"], name), name
    for name in ("train.py", "notMLproject", "MLproject.bak"):
        assert not re.search(hook["files"], name), name
