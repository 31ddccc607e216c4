"""`proj check` and the schema of manifests."""

import json
from pathlib import Path

import pytest
import yaml
from inline_snapshot import snapshot
from jsonschema import Draft202012Validator

from runner.cli.main import run_command
from runner.manifest.checking import check_manifest, has_errors
from runner.manifest.files import FolderFiles
from runner.manifest.schema import json_schema
from tests.conftest import RunProj, write_tree

CASES = Path(__file__).parents[1] / "manifests"
LINES = [json.loads(line) for line in (CASES / "expected.jsonl").read_text(encoding="utf-8").splitlines()]

ODD = """\
nmae: forest
x-note: free
python_env: python_env.yaml
entry_points:
  main:
    comand: python
    parameters:
      alpha: {type: flaot, default: 0.5, defualt: 1}
      depth: {type: int, default: deep}
      unused: {type: string, default: null}
      lr: {default:0.1}
    command: >-
      python Train.py {alpha} "{depth}"
      --rate {lr} --seed {sed} ${HOME}
  other:
    needs: [mian]
    python_env: a.yaml
    command: |
      python train.py
      echo {nothing}
    command: python -m tool
"""


def test_all_faults_come_at_once_with_their_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tree(tmp_path, {"MLproject": ODD, "train.py": "", "python_env.yaml": ""})
    assert run_command(["check", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert shown.out == snapshot("""\
MLproject:1:1: warning: 'nmae' is not read
    hint: did you mean 'name'?
MLproject:6:5: warning: 'comand' is not read in entry point 'main'
    hint: did you mean 'command'?
MLproject:8:21: warning: the type 'flaot' of parameter 'alpha' means any text
    hint: did you mean 'float'?
MLproject:8:42: warning: 'defualt' is not read in parameter 'alpha'
    hint: did you mean 'default'?
MLproject:9:35: warning: the default of 'depth' is not an integer: 'deep'
MLproject:10:30: warning: 'default: null' is no default: parameter 'unused' is required
    hint: take it out, or write a default such as "" or the text None
MLproject:11:12: error: 'default:0.1' is not read as a default
    hint: write 'default: VALUE', with ': '
MLproject:12:14: warning: the command of 'main' names 'Train.py', which is not in the project
    hint: did you mean 'train.py'?
MLproject:13:32: warning: "{depth}" gets quotes inside quotes where a value has spaces
    hint: values are quoted already: write {depth} without quotes
MLproject:14:26: error: in the command of 'main': '{sed}' is a placeholder, but there is no parameter 'sed'
    hint: declare it under parameters; a brace that the shell should see is written twice: {{ and }}
MLproject:16:12: error: 'other' needs 'mian', which is no entry point
    hint: did you mean 'main'?
MLproject:17:5: warning: 'python_env' is not read in entry point 'other'
    hint: it belongs to the top level
MLproject:18:5: warning: 'command' is written twice, and only the last one counts (line 21)
""")
    assert shown.err == snapshot("3 errors, 10 warnings\n")


def test_faults_of_environment_files_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = "entry_points: {main: {command: a, environment: own.yaml}}\n"
    write_tree(
        tmp_path, {"MLproject": manifest, "python_env.yaml": "", "own.yaml": "python: '3.11'\ndependencies: six\n"}
    )
    assert run_command(["check", str(tmp_path)]) == 1
    assert capsys.readouterr().out.startswith("own.yaml:2: error: ")


def test_warnings_do_not_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tree(tmp_path, {"MLproject": "author: me\nentry_points: {main: {command: 'true'}}\n"})
    assert run_command(["check", str(tmp_path)]) == 0
    assert "MLproject:1:1: warning: 'author' is not read" in capsys.readouterr().out
    assert run_command(["check", str(tmp_path / "MLproject")]) == 0


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "name: x\n", "entry_points:\n", "entry_points: {}\n"])
def test_a_manifest_without_entry_points_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    write_tree(tmp_path, {"MLproject": text})
    assert run_command(["check", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "there are no entry points, so only scripts can be run" in printed.out + printed.err
    assert "proj run . -e train.py" in printed.out + printed.err
    assert "0 errors, 1 warning" in printed.out + printed.err


def test_json_is_stable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tree(tmp_path, {"MLproject": "entry_points:\n  main:\n    command: [a]\n"})
    assert run_command(["check", "--json", str(tmp_path)]) == 1
    assert json.loads(capsys.readouterr().out) == [
        {
            "severity": "error",
            "message": "the 'command' of 'main' must be a text, not a list",
            "file": "MLproject",
            "line": 3,
            "column": 14,
            "hint": "write the whole command line as one text, in quotes or below a |",
        }
    ]


def test_a_folder_without_a_manifest_is_a_fault_and_no_folder_is_wrong_use(tmp_path: Path) -> None:
    assert run_command(["check", str(tmp_path)]) == 1
    assert run_command(["check", str(tmp_path / "absent")]) == 2
    (tmp_path / "file.txt").touch()
    assert run_command(["check", str(tmp_path / "file.txt")]) == 2


def test_nothing_is_run(tmp_path: Path) -> None:
    write_tree(tmp_path, {"MLproject": "entry_points: {main: {command: touch made}}\n"})
    assert run_command(["check", str(tmp_path)]) == 0
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("case", sorted(path.name for path in CASES.iterdir() if path.is_dir()))
def test_check_agrees_with_what_runs(case: str) -> None:
    """A manifest all of whose entry points run has no errors; one that can't be read has some."""
    faults = check_manifest(FolderFiles(CASES / case))
    lines = [line for line in LINES if line["case"] == case]
    certain = not any(line["proj"].get("also") for line in lines)
    if certain and all(line["proj"]["outcome"] == "error" and line["mlflow"].get("stage") == "load" for line in lines):
        assert has_errors(faults)
    runs = all(line["proj"]["outcome"] == "ok" and line["entry_point"][-3:] not in (".py", ".sh") for line in lines)
    if runs and certain:
        assert not has_errors(faults), faults


def test_schema_is_printed_and_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["check", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema == json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)


def test_every_key_in_the_schema_is_described() -> None:
    undescribed = []

    def walk(schema: object, at: str) -> None:
        if isinstance(schema, dict):
            for name, inner in schema.get("properties", {}).items():
                if not inner.get("description"):
                    undescribed.append(f"{at}.{name}")
                walk(inner, f"{at}.{name}")
            for key in ("additionalProperties", "items"):
                walk(schema.get(key), f"{at}.{key}")

    walk(json_schema(), "")
    assert undescribed == []


@pytest.mark.parametrize("case", sorted({line["case"] for line in LINES if line["mlflow"]["outcome"] == "ok"}))
def test_schema_takes_what_mlflow_runs(case: str) -> None:
    manifest = next((path for path in (CASES / case).iterdir() if path.name.lower() == "mlproject"), None)
    if manifest is None or not manifest.is_file() or case in FAULTY:
        pytest.skip("there is no manifest, or one of its other entry points is at fault")
    document = yaml.safe_load(manifest.read_bytes())
    assert [error.message for error in Draft202012Validator(json_schema()).iter_errors(document)] == []


FAULTY = ("49-command-shapes", "48-entry-key-types")


@pytest.mark.parametrize(
    "text",
    [
        "entry_points: [main]",
        "entry_points: {main: {command: 5}}",
        "entry_points: {main: {}}",
        "entry_points: {main: {command: a, parameters: [a]}}",
        "entry_points: {main: {command: a, parameters: {a: 3}}}",
        "docker_env: {volumes: [a]}",
        "tolerance: high",
    ],
)
def test_schema_refuses_what_is_wrong(text: str) -> None:
    assert list(Draft202012Validator(json_schema()).iter_errors(yaml.safe_load(text)))


@pytest.mark.parametrize(
    ("named", "hint"),
    [
        ("envs/trian.yaml", "did you mean 'envs/train.yaml'?"),
        ("train.yml", "did you mean 'envs/train.yaml'?"),
        ("nothing.yaml", None),
    ],
)
def test_an_environment_of_an_entry_point_that_is_absent_stops_it_and_is_named(
    tmp_path: Path, proj: RunProj, named: str, hint: str | None
) -> None:
    text = f"entry_points:\n  main:\n    command: 'true'\n    environment: {named}\n  other: {{command: 'true'}}\n"
    write_tree(tmp_path, {"MLproject": text, "envs/train.yaml": "dependencies: []\n"})
    refused = proj("run", ".", cwd=tmp_path)
    assert refused.code == 1
    assert f"'environment' names the file '{named}', which is not there" in refused.err
    assert hint is None or hint in refused.err
    assert proj("run", ".", "-e", "other", "--env-manager", "local", cwd=tmp_path).code == 0
