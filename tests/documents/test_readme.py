"""The README says what is true: its help texts, its examples, its tables."""

import re
import subprocess
from pathlib import Path

import pytest

from runner.cli.main import COMMANDS, cli, run_command
from runner.manifest import FolderFiles
from runner.manifest.checking import check_manifest, has_errors
from runner.manifest.schema import json_schema
from runner.model import Code, EnvironmentRecord, RunRecord
from tests.conftest import write_tree
from tests.support.readme import README, block, help_of

TEXT = README.read_text(encoding="utf-8")
HELPS = re.findall(r"<!-- (help of proj ?[\w ]*) -->", TEXT)


@pytest.mark.parametrize("name", HELPS)
def test_help_texts_are_of_today(name: str) -> None:
    assert block(name) == help_of(*name.removeprefix("help of proj").split()), "run: python -m tests.support.readme"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_in_the_readme_and_says_the_same_in_both_places(name: str) -> None:
    assert f"proj {name}" in TEXT
    command = cli.get_command(cli.make_context("proj", [name], resilient_parsing=True), name)
    assert command is not None
    assert (command.help or "").strip()


@pytest.mark.parametrize("struct", [RunRecord, Code, EnvironmentRecord], ids=lambda struct: struct.__name__)
def test_each_key_of_the_record_is_documented(struct: type[RunRecord] | type[Code] | type[EnvironmentRecord]) -> None:
    section = TEXT.split("## The record as JSON")[1].split("\n## ")[0]
    assert [name for name in struct.__struct_fields__ if f"`{name}`" not in section] == []


def test_each_own_key_of_a_manifest_is_documented() -> None:
    section = TEXT.split("## The manifest")[1].split("\n## ")[0]
    schema = json_schema()["properties"]
    entry = schema["entry_points"]["additionalProperties"]["properties"]
    keys = {*schema, *entry} - {"databricks_spark_job"}
    assert sorted(key for key in keys if not re.search(rf"\b{key}\b", section)) == []


def test_the_manifest_of_the_readme_has_no_fault(tmp_path: Path) -> None:
    example = re.search(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    assert example
    write_tree(tmp_path, {"MLproject": example[1], "train.py": "", "python_env.yaml": "{}", "data/customers.csv": ""})
    faults = check_manifest(FolderFiles(tmp_path))
    assert not has_errors(faults), faults


def test_the_filters_of_the_readme_are_understood() -> None:
    for line in block("filters").splitlines():
        done = subprocess.run(
            ["bash", "-c", line.replace("proj", 'printf "%s\\n"', 1)], capture_output=True, text=True, check=True
        )
        assert run_command(done.stdout.splitlines()) == 0, line
