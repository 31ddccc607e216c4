"""The description of a bundle follows RO-Crate 1.1 and Process Run Crate 0.5, by the rules of both."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

from tests.bundles.conftest import Exported

pytestmark = pytest.mark.slow

TIME = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{3})?\+\d{2}:\d{2}"
"""The form of times that roc-validator's profile of Process Run Crate accepts."""


@pytest.fixture
def entities(exported: Exported) -> dict[str, Any]:
    with zipfile.ZipFile(exported.bundle) as archive:
        document = json.loads(archive.read("ro-crate-metadata.json"))
    assert document["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    found = {one["@id"]: one for one in document["@graph"]}
    assert len(found) == len(document["@graph"])
    return found


def references(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [one["@id"] for one in values if isinstance(one, dict) and set(one) == {"@id"}]


def test_rules_of_ro_crate(entities: dict[str, Any], exported: Exported) -> None:
    descriptor, root = entities["ro-crate-metadata.json"], entities["./"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert root["@type"] == "Dataset"
    assert all(root[name] for name in ("name", "description", "datePublished", "license"))
    with zipfile.ZipFile(exported.bundle) as archive:
        names = set(archive.namelist())
    files = {name: one for name, one in entities.items() if one["@type"] == "File"}
    assert set(references(root["hasPart"])) == files.keys()
    assert {one["name"] for one in files.values()} == names - {"ro-crate-metadata.json", "proj-bundle.json"}
    for name, one in entities.items():
        for key, value in one.items():
            for target in references(value):
                assert target in entities or target.startswith("https://w3id.org/"), (name, key, target)


def test_rules_of_process_run_crate(entities: dict[str, Any]) -> None:
    root = entities["./"]
    (profile,) = references(root["conformsTo"])
    assert profile == "https://w3id.org/ro/wfrun/process/0.5"
    assert entities[profile]["@type"] == "CreativeWork"
    assert entities[profile]["version"] == "0.5"
    (action,) = [one for one in entities.values() if one["@type"] == "CreateAction"]
    assert references(root["mentions"]) == [action["@id"]]
    (instrument,) = references(action["instrument"])
    assert entities[instrument]["@type"] == "SoftwareApplication"
    assert all(entities[instrument][name] for name in ("name", "url", "softwareVersion"))
    assert re.match(r"[a-z]+:", instrument)
    assert entities[references(action["agent"])[0]]["@type"] == "Person"
    assert re.fullmatch(TIME, action["startTime"])
    assert re.fullmatch(TIME, action["endTime"])
    assert action["actionStatus"] == "http://schema.org/CompletedActionStatus"
    assert "error" not in action
    kinds = {"File", "Dataset", "Collection", "CreativeWork", "PropertyValue"}
    assert {entities[name]["@type"] for name in references(action["object"])} <= kinds
    assert {entities[name]["@type"] for name in references(action["result"])} == {"File"}
    parameters = [one for one in entities.values() if one["@type"] == "PropertyValue"]
    assert {one["name"]: one["value"] for one in parameters} == {"alpha": "0.5", "data": "data/numbers.txt"}


KNOWN = ("SoftwareApplication id", "publisher", "affiliation")
"""Recommendations that a run can't follow: its program and people have no web page, and no publisher."""


@pytest.mark.env
def test_roc_validator_accepts_it(exported: Exported, tmp_path: Path) -> None:
    python = tmp_path / "validator" / "bin" / "python"
    uv = find_uv_bin()
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, python.parent.parent], check=True)
    packages = ("roc-validator==0.13.0", "rocrate==0.16.0")
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *packages], check=True)
    with zipfile.ZipFile(exported.bundle) as archive:
        archive.extractall(tmp_path / "crate")
    words = [python, Path(__file__).with_name("validate_crate.py"), tmp_path / "crate"]
    lines = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split("\n")
    assert "validated" in lines, lines
    issues = [line for line in lines if line.startswith(("REQUIRED", "RECOMMENDED"))]
    assert [one for one in issues if one.startswith("REQUIRED") or not any(known in one for known in KNOWN)] == []
