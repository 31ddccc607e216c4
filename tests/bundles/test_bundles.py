"""A run travels as one file: the file is the same each time, is checked, and gives the same results elsewhere."""

import csv
import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.bundles.conftest import Exported
from tests.bundles.forging import read_files, write_files
from tests.conftest import RunProj

pytestmark = pytest.mark.slow


def test_a_stranger_gets_identical_results_from_the_file_alone(
    proj: RunProj, exported: Exported, tmp_path: Path
) -> None:
    shutil.rmtree(exported.root)
    there = {"PROJ_HOME": str(tmp_path / "there")}
    asked = proj("reproduce", str(exported.bundle), **there)
    assert asked.code == 2
    assert re.search(r"command: +python train.py 0.5 .*data/numbers.txt", asked.err)
    assert "--yes" in asked.err
    listed = proj("list", "--all", "--json", **there).json
    assert [one["run_id"] for one in listed] == [exported.run_id]  # taken over, and not run
    done = proj("reproduce", str(exported.bundle), "--yes", "--json", **there)
    assert done.code == 0, done.err
    assert done.json["verdict"] == "identical"
    assert {one["name"] for one in done.json["metrics"]} == {"score", "bad", "loss"}
    assert {one["name"]: one["state"] for one in done.json["inputs"]} == {"data/numbers.txt": "unchanged"}
    assert len(done.json["outputs"]) == 2
    assert proj("verify", **there).code == 0


def test_the_same_run_gives_the_same_bytes_also_from_another_home(
    proj: RunProj, exported: Exported, tmp_path: Path
) -> None:
    again = tmp_path / "again.zip"
    assert proj("export", exported.run_id, "-o", str(again), "--include-inputs", "1M").code == 0
    assert again.read_bytes() == exported.bundle.read_bytes()
    there = {"PROJ_HOME": str(tmp_path / "there")}
    assert proj("import", str(exported.bundle), **there).code == 0
    again.unlink()
    assert proj("export", exported.run_id, "-o", str(again), "--include-inputs", "1M", **there).code == 0
    assert again.read_bytes() == exported.bundle.read_bytes()


def test_an_import_is_complete_and_a_second_one_changes_nothing(
    proj: RunProj, exported: Exported, tmp_path: Path
) -> None:
    there = {"PROJ_HOME": str(tmp_path / "there")}
    first = proj("import", str(exported.bundle), "--json", **there)
    assert (first.code, first.json["change"]) == (0, "added"), first.err
    assert proj("import", str(exported.bundle), "--json", **there).json["change"] == "unchanged"
    assert proj("import", str(exported.bundle), "--json").json["change"] == "own"
    here, moved = (proj("show", exported.run_id, "--json", **home).json for home in ({}, there))
    for name in ("entry_point", "command", "status", "started_at", "ended_at", "outputs", "inputs", "experiment"):
        assert moved[name] == here[name], name
    assert moved["code"]["changed_files"] == here["code"]["changed_files"] == ["train.py"]
    assert proj("log", exported.run_id, **there).out == proj("log", exported.run_id).out == "total 3.0\n"
    assert proj("diff", exported.run_id, **there).out == proj("diff", exported.run_id).out
    assert proj("get", exported.run_id, "--to", str(tmp_path / "got"), **there).code == 0
    assert (tmp_path / "got" / "out" / "score.txt").read_text() == "3.0"


def test_the_file_is_readable_without_proj(exported: Exported, tmp_path: Path) -> None:
    with zipfile.ZipFile(exported.bundle) as archive:
        archive.extractall(tmp_path / "plain")
    plain = tmp_path / "plain"
    assert "python train.py" in (plain / "README.md").read_text()
    rows = list(csv.DictReader((plain / "metrics.csv").read_text().splitlines()))
    assert [(row["name"], row["step"], row["value"]) for row in rows if row["name"] == "loss"] == [
        ("loss", "1", "2.0"),
        ("loss", "2", "1.0"),
    ]
    assert json.loads((plain / "record.json").read_text())["metrics"] == {"loss": 1.0, "score": 3.0}
    subprocess.run(["git", "init", "--quiet", "code"], cwd=plain, check=True)
    words = ("fetch", "--quiet", "../code.bundle", f"refs/runs/{exported.run_id}")
    subprocess.run(["git", *words], cwd=plain / "code", check=True)
    subprocess.run(["git", "checkout", "--quiet", "FETCH_HEAD"], cwd=plain / "code", check=True)
    assert (plain / "code" / "train.py").read_text() == (exported.root / "train.py").read_text()


def test_it_names_no_folder_of_this_machine(exported: Exported) -> None:
    with zipfile.ZipFile(exported.bundle) as archive:
        record = json.loads(archive.read("record.json"))
    assert [record[name] for name in ("cwd", "folder", "log")] == [None] * 3
    assert {one["name"]: one["value"] for one in record["parameters"]}["data"] == "data/numbers.txt"


def test_inputs_stay_out_unless_they_are_asked_for_and_can_be_given(
    proj: RunProj, exported: Exported, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.zip"
    written = proj("export", exported.run_id, "-o", str(bare), "--include-inputs", "3", "--json")
    assert written.json["left_out"] == ["input data/numbers.txt: only its digest"]
    there = {"PROJ_HOME": str(tmp_path / "there")}
    refused = proj("reproduce", str(bare), "--yes", "--json", **there)
    assert (refused.code, refused.json["verdict"], refused.json["run_id"]) == (1, "incomplete", None)
    moved = tmp_path / "moved.txt"
    moved.write_text("1 2 3\n")
    words = ("--input", f"data/numbers.txt={moved}", "--yes", "--json")
    assert proj("reproduce", str(bare), *words, **there).json["verdict"] == "identical"


@pytest.mark.parametrize("words", [("-o", "run.txt"), ("-o", "no/run.zip"), ("-o", "run.zip", "--include-inputs", "x")])
def test_wrong_use_is_refused_before_anything_is_written(
    proj: RunProj, exported: Exported, tmp_path: Path, words: tuple[str, ...]
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    assert proj("export", exported.run_id, *words, cwd=folder).code == 2
    assert not list(folder.iterdir())
    before = exported.bundle.read_bytes()
    assert proj("export", exported.run_id, "-o", str(exported.bundle)).code == 2
    assert exported.bundle.read_bytes() == before


def test_another_run_of_the_same_id_is_refused(proj: RunProj, exported: Exported, tmp_path: Path) -> None:
    there = {"PROJ_HOME": str(tmp_path / "there")}
    assert proj("import", str(exported.bundle), **there).code == 0
    files = read_files(exported.bundle)
    files["record.json"] = json.dumps({**json.loads(files["record.json"]), "exit_code": 7}).encode()
    forged = write_files(tmp_path / "forged.zip", files)
    shown = proj("show", exported.run_id, "--json", **there).json
    for command in (("import",), ("reproduce", "--yes")):
        refused = proj(command[0], str(forged), *command[1:], **there)
        assert refused.code == 1
        assert "exit_code" in refused.err
    assert proj("show", exported.run_id, "--json", **there).json == shown


def test_a_file_with_the_name_of_a_run_is_no_bundle(proj: RunProj, exported: Exported, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "latest").write_text("notes")
    (folder / "other.zip").write_text("notes")
    assert proj("reproduce", "latest", "--json", cwd=folder).json["original"] == exported.run_id
    for command in ("reproduce", "import", "verify"):
        for name in ("other.zip", "missing.zip"):
            done = proj(command, name, cwd=folder)
            assert (done.code, "error[bundle]" in done.err) == (1, True), done.err
    assert proj("verify", "latest", cwd=folder).code == 2
    assert proj("verify", str(exported.bundle), "--repair").code == 2
