"""Tests that the reference pages and the README are true: commands, keys of the record, manifests, filters."""

import re
import subprocess
from pathlib import Path

import click
import pytest

from runner.cli.main import COMMANDS, cli, run_command
from runner.manifest import FolderFiles
from runner.manifest.checking import check_manifest, has_errors
from runner.manifest.schema import json_schema
from runner.model import Code, EnvironmentRecord, RunRecord
from tests.conftest import write_tree
from tests.documents.pages import PAGES, ROOT, SHELL, Block, blocks, proj_commands, shell_lines
from tests.support.readme import block

REFERENCE = ROOT / "docs" / "reference"
MANIFESTS = [one for page in PAGES for one in blocks(page) if one.kind == "yaml" and "entry_points:" in one.text]
USED = {
    words[0]
    for page in PAGES
    for one in blocks(page)
    if one.kind in SHELL
    for line in shell_lines(one)
    for words in proj_commands(line)
    if words
}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_help_text_and_an_example_in_the_documents(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert (command.help or "").strip()
    assert name in USED


def test_the_command_reference_is_generated_from_the_command_line() -> None:
    assert ".. click:: runner.cli.main:cli" in (REFERENCE / "commands.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("struct", [RunRecord, Code, EnvironmentRecord], ids=lambda struct: struct.__name__)
def test_each_key_of_the_record_is_documented(struct: type[RunRecord] | type[Code] | type[EnvironmentRecord]) -> None:
    text = (REFERENCE / "record.md").read_text(encoding="utf-8")
    assert [name for name in struct.__struct_fields__ if f"`{name}`" not in text] == []


def test_each_own_key_of_a_manifest_is_documented() -> None:
    text = (REFERENCE / "manifest.md").read_text(encoding="utf-8")
    schema = json_schema()["properties"]
    entry = schema["entry_points"]["additionalProperties"]["properties"]
    keys = {*schema, *entry} - {"databricks_spark_job"}
    assert sorted(key for key in keys if not re.search(rf"\b{key}\b", text)) == []


@pytest.mark.parametrize("example", MANIFESTS, ids=lambda one: f"{one.page.relative_to(ROOT)}:{one.line}")
def test_the_manifests_in_the_documents_have_no_errors(example: Block, tmp_path: Path) -> None:
    write_tree(tmp_path, {"MLproject": example.text, "train.py": "", "python_env.yaml": "{}"})
    write_tree(tmp_path, {"data/customers.csv": "", "train.ipynb": "{}"})
    faults = check_manifest(FolderFiles(tmp_path))
    assert not has_errors(faults), faults


def test_the_filters_in_the_reference_are_understood() -> None:
    for line in block("filters", REFERENCE / "filters.md").splitlines():
        done = subprocess.run(
            ["bash", "-c", line.replace("proj", 'printf "%s\\n"', 1)], capture_output=True, text=True, check=True
        )
        assert run_command(done.stdout.splitlines()) == 0, line
