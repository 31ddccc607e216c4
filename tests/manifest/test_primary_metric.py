"""The primary metric of a manifest, from the file to the tags of a run."""

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from runner.manifest.checking import check_manifest
from runner.manifest.files import FolderFiles
from runner.manifest.parser import read_manifest
from runner.manifest.schema import json_schema
from tests.conftest import RunProj, write_tree

ENTRY = "entry_points:\n  main:\n    command: echo\n"


@pytest.mark.parametrize(
    ("text", "expected", "faults"),
    [
        ("val_acc", ("val_acc", None), 0),
        ("{name: val/acc, goal: max}", ("val/acc", "max"), 0),
        ("{name: loss, goal: Minimize}", ("loss", "min"), 0),
        ("{name: loss, goal: null}", ("loss", None), 0),
        ("null", (None, None), 0),
        ("", (None, None), 0),
        ("{name: loss, goal: small}", ("loss", None), 1),
        ("{name: loss, goal: [min]}", ("loss", None), 1),
        ("{goal: max}", (None, None), 1),
        ("[a, b]", (None, None), 1),
        ("5", (None, None), 1),
        ("{name: 5}", (None, None), 1),
        ('" "', (None, None), 1),
    ],
)
def test_what_is_read(tmp_path: Path, text: str, expected: tuple[str | None, str | None], faults: int) -> None:
    files = FolderFiles(write_tree(tmp_path, {"MLproject": f"metric: {text}\n{ENTRY}"}))
    manifest = read_manifest(files)
    assert (manifest.metric, manifest.goal) == expected
    found = [fault for fault in check_manifest(files) if "metric" in fault.message or "goal" in fault.message]
    assert [fault.line for fault in found] == [1] * faults


def test_the_schema_knows_it() -> None:
    validator = Draft202012Validator(json_schema())
    assert validator.is_valid({"metric": {"name": "acc", "goal": "max"}})
    assert validator.is_valid({"metric": "acc"})
    assert not validator.is_valid({"metric": {"goal": "max"}})
    assert not validator.is_valid({"metric": {"name": "acc", "goal": "most"}})


def test_a_run_records_it_and_the_list_shows_it_first(proj: RunProj, tmp_path: Path) -> None:
    script = 'for m in "a 1" "val 0.5" "val_max 2"; do set -- $m; echo "$1=$2" >> "$PROJ_METRICS"; done'
    manifest = f"metric: {{name: val, goal: min}}\nentry_points:\n  main:\n    command: |\n      {script}\n"
    root = write_tree(tmp_path / "p", {"MLproject": manifest})
    record = proj("run", ".", "--json", "--env-manager", "local", cwd=root).json
    assert {name: record["tags"][name] for name in ("proj.metric", "proj.goal")} == {
        "proj.metric": "val",
        "proj.goal": "min",
    }
    titles = proj("list", cwd=root).out.splitlines()[1].split()
    assert titles[:4] == ["run", "name", "status", "val"]
    assert "metrics\n  val = 0.5\n" in proj("show", "latest", cwd=root).out
