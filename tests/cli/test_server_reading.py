"""`proj log`, `proj experiments` and `proj models` read the server that other reading commands read."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from runner.cli.main import run_command
from runner.settings import Home
from runner.store import experiments, registry, runs, versions
from runner.store.artifacts import write_artifact
from runner.store.database import Database
from runner.store.entities import NewRun, NewVersion
from tests.support.standalone_server import standalone_server

Capture = pytest.CaptureFixture[str]


class Server(NamedTuple):
    url: str
    home: Home
    database: Database


@pytest.fixture
def server(tmp_path: Path, clean_room: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serve another store, which MLFLOW_TRACKING_URI names."""
    home = Home(clean_room / "theirs")
    with (
        closing(Database.open(home.database)) as database,
        standalone_server(tmp_path, PROJ_HOME=str(home.root)) as standalone,
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", standalone.url)
        yield Server(standalone.url, home, database)


def call(capsys: Capture, *words: str) -> tuple[int, str, str]:
    code = run_command(words)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_experiments(server: Server, capsys: Capture) -> None:
    names = [f"e{number}" for number in range(4)]
    for name in names:
        experiments.create(server.database, name)
    experiments.delete(server.database, "4")
    code, out, err = call(capsys, "experiments", "list", "--json")
    rows = json.loads(out)
    assert (code, "--local reads the local store" in err) == (0, True)
    assert {row["name"] for row in rows} == {"Default", "e0", "e1", "e2"}
    assert {row["runs"] for row in rows} == {None}
    found = json.loads(call(capsys, "experiments", "list", "--all", "--json", "--filter", "name LIKE 'e%'")[1])
    assert {row["name"]: row["lifecycle_stage"] for row in found}["e3"] == "deleted"
    assert len(found) == 4
    _, out, err = call(capsys, "experiments", "list", "--limit", "2")
    assert "more experiments: --limit 10" in err
    assert len([line for line in out.splitlines() if line[1:2].isdigit()]) == 2
    assert [row["name"] for row in json.loads(call(capsys, "experiments", "list", "--local", "--json")[1])] == [
        "Default"
    ]


def test_models(server: Server, capsys: Capture) -> None:
    run_id = runs.create(server.database, NewRun()).run_id
    for name in ("churn", "it's"):
        registry.create(server.database, name, "about it", {"team": "a"})
        for _ in range(3):
            versions.create(server.database, NewVersion(name=name, source=f"runs:/{run_id}/model", run_id=run_id))
        registry.set_alias(server.database, name, "champion", 2)
    listed = json.loads(call(capsys, "models", "list", "--json")[1])
    assert [(row["name"], row["aliases"], row["tags"]) for row in listed] == [
        ("churn", {"champion": 2}, {"team": "a"}),
        ("it's", {"champion": 2}, {"team": "a"}),
    ]
    code, out, _ = call(capsys, "models", "show", "it's", "--json")
    shown = json.loads(out)
    assert (code, [row["version"] for row in shown["versions"]]) == (0, [3, 2, 1])
    assert {(row["run_id"], tuple(row["aliases"])) for row in shown["versions"]} == {
        (run_id, ()),
        (run_id, ("champion",)),
    }
    assert "champion=2" in call(capsys, "models", "list")[1]
    assert "more models" in call(capsys, "models", "list", "--limit", "1")[2]
    assert [
        row["name"] for row in json.loads(call(capsys, "models", "list", "--filter", "name = 'churn'", "--json")[1])
    ] == ["churn"]
    assert call(capsys, "models", "show", "absent")[0] == 1
    assert call(capsys, "models", "list", "--local")[2] == "no models\n"
    assert call(capsys, "models", "show", "churn", "--local")[0] == 1


def test_the_log(server: Server, home: Home, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    pushed = runs.create(server.database, NewRun(name="pushed")).run_id
    write_artifact(server.home.artifacts(pushed), "proj/log.txt", [b"from \xff the server\n" * 100_000])
    without = runs.create(server.database, NewRun(name="without")).run_id
    assert run_command(["log", "pushed"]) == 0
    assert capfdbinary.readouterr().out == b"from \xff the server\n" * 100_000
    assert run_command(["log", without]) == 1
    assert b"has no output on" in capfdbinary.readouterr().err
    assert run_command(["log", "pushed", "--local"]) == 1
    with closing(Database.open(home.database)) as database:
        runs.create(database, NewRun(run_id=pushed))
        home.run(pushed).mkdir(parents=True)
        home.log(pushed).write_bytes(b"from this machine\n")
        for words in (["log", "pushed"], ["log", "pushed", "--local"]):
            assert run_command(words if words[-1] != "--local" else ["log", pushed, "--local"]) == 0
            assert capfdbinary.readouterr().out == b"from this machine\n"
