"""Manifests with known answers: what MLflow 3.17.2 makes of each, and what proj must.

One line of ``manifests/expected.jsonl`` is one call; ``proj`` or one of ``also`` must come out.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from runner.environments.declare.spec import read_spec
from runner.environments.specs import AnySpec, PythonSpec
from runner.errors import ProjError
from runner.manifest import (
    FolderFiles,
    PathRules,
    bind_parameters,
    find_entry_point,
    render_command,
)
from runner.manifest.parser import read_manifest
from runner.model import EnvironmentDeclaration, EnvironmentKind, Parameter

CASES = Path(__file__).parents[1] / "manifests"
LINES = [json.loads(line) for line in (CASES / "expected.jsonl").read_text(encoding="utf-8").splitlines()]
AS_PYTHON_ENV = {
    EnvironmentKind.NONE,
    EnvironmentKind.PYTHON_ENV,
    EnvironmentKind.PYLOCK,
    EnvironmentKind.UV_LOCK,
    EnvironmentKind.REQUIREMENTS,
}


class Answer(Struct, frozen=True, kw_only=True):
    """What came out of one call."""

    outcome: str
    command: str | None = None
    parameters: tuple[Parameter, ...] = ()
    environment: EnvironmentDeclaration | None = None
    spec: AnySpec | None = None
    message: str = ""


def ask(project: Path, caller: Path, storage: Path, line: dict[str, Any]) -> Answer:
    words = {"<PROJECT>": str(project), "<CWD>": str(caller), "<STORAGE>": str(storage)}
    given = {name: swap(value, words) for name, value in line["user_params"].items()}
    files = FolderFiles(project)
    rules = PathRules(caller=caller, project=project, mapped=project, storage=storage)
    try:
        manifest = read_manifest(files)
        entry = find_entry_point(manifest, line["entry_point"], files)
        parameters = bind_parameters(entry, given, {})
        command = render_command(entry, parameters, rules)
        environment = entry.environment or manifest.environment
        spec = read_spec(environment, files)
    except ProjError as error:
        return Answer(outcome="error", message=error.message)
    back = {text: word for word, text in sorted(words.items(), key=lambda pair: -len(pair[1]))}
    back[str(project)] = "<PROJECT>"
    bound = tuple(
        Parameter(name=each.name, value=swap(each.value, back), declared=each.declared) for each in parameters
    )
    return Answer(outcome="ok", command=swap(command, back), parameters=bound, environment=environment, spec=spec)


def swap(text: str, words: dict[str, str]) -> str:
    for old, new in words.items():
        text = text.replace(old, new)
    return text


def differences(answer: Answer, expected: dict[str, Any], line: dict[str, Any]) -> list[str]:
    """Say in what an answer differs from one that is accepted; what that leaves out is free."""
    if answer.outcome != expected["outcome"]:
        return [f"outcome {answer.outcome}: {answer.message}"]
    wrong = [
        f"{name!r} not named in {answer.message!r}" for name in expected.get("names", ()) if name not in answer.message
    ]
    command = line["mlflow"].get("command") if expected.get("same_command") else expected.get("command")
    if command is not None and answer.command != command:
        wrong.append(f"command {answer.command!r}, not {command!r}")
    for key, declared in (("params", True), ("extra_params", False)):
        found = [(each.name, each.value) for each in answer.parameters if each.declared is declared]
        if expected.get(key) is not None and answer.outcome == "ok" and found != list(expected[key].items()):
            wrong.append(f"{key} {found}")
    return wrong + environment_differences(answer, expected, line)


def environment_differences(answer: Answer, expected: dict[str, Any], line: dict[str, Any]) -> list[str]:
    wanted = expected.get("env") or line["mlflow"].get("env") or {}
    found = answer.environment
    if found is None or not wanted.get("type"):
        return []
    kind = "python_env" if found.kind in AS_PYTHON_ENV else found.kind.value
    wrong = [] if (kind, found.path) == (wanted["type"], wanted["file"]) else [f"environment {found}, not {wanted}"]
    spec = answer.spec if isinstance(answer.spec, PythonSpec) else PythonSpec()
    lines = spec.requirements
    names = {match[0].lower().replace("_", "-") for line in lines if (match := re.match(r"[\w.-]+", line))}
    if not names.issuperset(wanted.get("must_include", ())):
        wrong.append(f"of {wanted['must_include']} only {names}")
    if wanted.get("python") and spec.python != wanted["python"]:
        wrong.append(f"python is not {wanted['python']}")
    return wrong


@pytest.mark.parametrize("number", range(len(LINES)), ids=lambda n: f"{n + 1}-{LINES[n]['case']}")
def test_answer(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHELL", raising=False)
    line = LINES[number]
    project = Path(shutil.copytree(CASES / line["case"], tmp_path / "case"))
    if len(list(project.iterdir())) < len({path.name for path in (CASES / line["case"]).iterdir()}):
        pytest.skip("the names differ only in case, and this file system does not tell them apart")
    callers = {"project": project, "project/caller": project / "caller", None: tmp_path / "elsewhere"}
    caller = callers[line.get("cwd_note")]
    caller.mkdir(exist_ok=True)
    answer = ask(project, caller, tmp_path / "storage", line)
    accepted = [line["proj"], *line["proj"].get("also", ())]
    attempts = [differences(answer, expected, line) for expected in accepted]
    assert [] in attempts, attempts


def test_every_case_has_an_answer() -> None:
    assert {path.name for path in CASES.iterdir() if path.is_dir()} == {line["case"] for line in LINES}
    assert len(LINES) == 224
