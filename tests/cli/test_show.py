"""`proj show`: what belongs to a run, in the terminal, as JSON and in Python."""

import json
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runner
from runner.cli.main import run_command
from runner.cli.show_relations import artifact_lines
from runner.model import Code, EnvironmentRecord, FileRecord, Machine, RunDetails
from runner.runs.reader import ArtifactEntry, RunDescription
from runner.settings import Home
from runner.store import lineage, models, registry, runs, values, versions
from runner.store.artifacts import write_artifact
from runner.store.database import Database
from runner.store.entities import Dataset, DatasetInput, Metric, NewModel, NewRun, NewVersion
from tests.support.standalone_server import standalone_server

Capture = pytest.CaptureFixture[str]

DETAILS = RunDetails(
    command="python train.py",
    code=Code(tree="1" * 40, swhid="swh:1:dir:1", commit="a" * 40, remote="https://git.example.org/x.git"),
    environment=EnvironmentRecord(manager="uv", python="3.11.7", digest="d" * 64, prefix="/prefix", platform="linux"),
    outputs=(
        FileRecord(path="out.csv", size=4, sha256="f" * 64),
        FileRecord(path="large.bin", size=9_000_000_000, sha256="e" * 64),
    ),
    machine=Machine(host="box", platform="Linux", cpu_count=4),
    folder="/run/folder",
)
NOISE = ("1" * 40, "d" * 64, "/prefix", "box", "/run/folder", "mlflow.user", "out.csv  4 B  sha256")


def fill(db: Database, home: Home) -> dict[str, str]:
    """Make a run with everything that can belong to one, and return the ids."""
    parent = runs.create(db, NewRun(name="the sweep", started_at=1)).run_id
    tags = {"mlflow.parentRunId": parent, "mlflow.note.content": "worth\na look", "mlflow.user": "ann", "team": "blue"}
    run_id = runs.create(db, NewRun(name="the trial", tags=tags, details=DETAILS, started_at=2)).run_id
    child = runs.create(db, NewRun(name="the child", tags={"mlflow.parentRunId": run_id}, started_at=3)).run_id
    for moment, name in enumerate(("z_first", "a_second")):
        values.log_metrics(db, run_id, [Metric(key=name, value=0.5, timestamp=moment)])
    for number in range(30):
        write_artifact(home.artifacts(run_id), f"checkpoints/{number}.bin", [b"x" * 1000])
    write_artifact(home.artifacts(run_id), "plots/roc/curve.png", [b"x" * 1500])
    write_artifact(home.artifacts(run_id), "out.csv", [b"data"])
    dataset = Dataset(name="customers", digest="abc123")
    lineage.log_inputs(db, run_id, [DatasetInput(dataset=dataset, tags={lineage.CONTEXT_TAG: "training"})])
    model = models.create(db, NewModel(name="forest", model_type="sklearn", source_run_id=run_id))
    registry.create(db, "churn")
    versions.create(db, NewVersion(name="churn", source=f"models:/{model.model_id}", run_id=run_id))
    registry.set_alias(db, "churn", "champion", 1)
    return {"parent": parent, "run": run_id, "child": child, "model": model.model_id}


def test_what_belongs_to_a_run(db: Database, home: Home, capsys: Capture) -> None:
    made = fill(db, home)
    assert run_command(["show", made["run"]]) == 0
    text = capsys.readouterr().out
    for words in (
        f"parent        {made['parent'][:8]} the sweep",
        "note          worth\n                a look",
        "customers  digest abc123  (training)",
        f"forest  {made['model']}  (sklearn)",
        "registered as churn version 1, @champion",
        f"{made['child'][:8]}  RUNNING  the child",
        "z_first = 0.5\n  a_second = 0.5",
        "team = blue",
        "large.bin  9.0 GB  sha256 eeeeeeeeeeee",
    ):
        assert words in text, words
    tree = text[text.index("artifacts\n") : text.index("outputs\n")].splitlines()
    assert [line.split() for line in tree] == [
        ["artifacts"],
        ["checkpoints/", "30", "files,", "30.0", "kB"],
        ["plots/"],
        ["roc/"],
        ["curve.png", "1.5", "kB"],
        ["out.csv", "4", "B"],
        ["32", "files,", "31.5", "kB"],
    ]
    assert [noise for noise in NOISE if noise in text] == []


def test_all_has_what_repeats(db: Database, home: Home, capsys: Capture) -> None:
    made = fill(db, home)
    assert run_command(["show", made["run"], "--all"]) == 0
    text = capsys.readouterr().out
    assert [noise for noise in NOISE if noise not in text] == []
    assert "29.bin" in text


def test_json_and_python_have_the_same(db: Database, home: Home, capsys: Capture) -> None:
    made = fill(db, home)
    run_command(["show", made["run"], "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert shown["parent"] == {"run_id": made["parent"], "run_name": "the sweep", "status": "RUNNING"}
    assert [child["run_id"] for child in shown["children"]] == [made["child"]]
    assert shown["datasets"] == [{"name": "customers", "digest": "abc123", "context": "training", "source": ""}]
    assert [model["model_id"] for model in shown["logged_models"]] == [made["model"]]
    assert shown["model_versions"] == [{"name": "churn", "version": 1, "stage": "None", "aliases": ["champion"]}]
    assert {"path": "plots/roc/curve.png", "size": 1500} in shown["artifacts"]
    assert shown["note"] == "worth\na look"
    found = runner.get_run("the trial")
    assert isinstance(found, RunDescription)
    in_python = msgspec.json.decode(msgspec.json.encode(found))
    assert in_python.pop("tracking_uri") == ""  # a run in Python knows where it was read
    assert in_python == shown


def test_a_server_shows_the_same(tmp_path: Path, clean_room: Path, capsys: Capture) -> None:
    home = Home(clean_room / "theirs")
    with closing(Database.open(home.database)) as database:
        made = fill(database, home)
        with standalone_server(tmp_path, PROJ_HOME=str(home.root)) as standalone:
            run_command(["show", made["run"], "--tracking-uri", standalone.url, "--json"])
            shown = json.loads(capsys.readouterr().out)
            found = runner.get_run(made["run"], tracking_uri=standalone.url)
    assert (shown["parent"]["run_id"], shown["parent"]["run_name"]) == (made["parent"], "the sweep")
    assert [child["run_name"] for child in shown["children"]] == ["the child"]
    assert [one["name"] for one in shown["datasets"]] == ["customers"]
    assert [one["name"] for one in shown["logged_models"]] == ["forest"]
    assert [(one["name"], one["version"], one["aliases"]) for one in shown["model_versions"]] == [
        ("churn", 1, ["champion"])
    ]
    assert {"path": "out.csv", "size": 4} in shown["artifacts"]
    assert len(shown["artifacts"]) == 32
    assert found.note == shown["note"] == "worth\na look"


def test_a_parent_that_is_gone(db: Database, capsys: Capture) -> None:
    run_id = runs.create(db, NewRun(tags={"mlflow.parentRunId": "f" * 32})).run_id
    assert run_command(["show", run_id]) == 0
    assert "parent        ffffffff not here" in capsys.readouterr().out


def test_artifacts_that_are_elsewhere(db: Database, capsys: Capture) -> None:
    run_id = runs.create(db, NewRun(artifact_uri="s3://bucket/x")).run_id
    assert run_command(["show", run_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["artifacts"] == []


NAMES = st.text(alphabet="ab\x1bü\n ", min_size=1, max_size=4)


@given(st.lists(st.lists(NAMES, min_size=1, max_size=4), max_size=60), st.booleans())
def test_any_files_make_a_tree(paths: list[list[str]], everything: bool) -> None:
    files = [ArtifactEntry(path="/".join(names), size=number) for number, names in enumerate(paths)]
    lines = artifact_lines(files, everything=everything)
    assert all(line.isprintable() for line in lines)
    assert bool(lines) == bool(files)
