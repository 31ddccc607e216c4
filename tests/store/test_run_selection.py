"""The words that select a run, in the local store and on a server."""

from contextlib import closing
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import InvalidValueError, NotFoundError
from runner.runs.remote_selection import find_run
from runner.settings import Home
from runner.store import experiments, runs
from runner.store.database import Database
from runner.store.entities import NewRun
from runner.store.run_selection import RunReference, parse_reference, resolve
from runner.sync.client import RemoteServer
from tests.support.standalone_server import standalone_server

STARTED = {"proj.tree": "1" * 40}
PARENT = "a" * 32
RUNS: tuple[tuple[str, str, dict[str, str]], ...] = (
    (PARENT, "sweep", STARTED),
    ("b" * 32, "base", {**STARTED, "best": "yes"}),
    ("c" * 32, "base", {**STARTED, "best": "no"}),
    ("d" * 32, "trial", {**STARTED, "mlflow.parentRunId": PARENT, "best": "yes"}),
    ("e" * 32, "logged", {}),
    ("f" * 32, "copied", {**STARTED, "proj.origin": "https://x.example"}),
    ("0" * 32, "odd~1", {}),
)
EXPECTED = {
    "latest": "c",
    "latest~1": "b",
    "latest~2": "a",
    "base": "c",
    "base~0": "c",
    "base~1": "b",
    "trial": "d",
    "odd~1": "0",
    "@best": "d",
    "@best~1": "c",
    "@best=yes": "d",
    "@best=yes~1": "b",
    "@best=no": "c",
    "f": "f",
    "ff": "f",
}
ABSENT = ("latest~3", "latest~", "base~2", "base~x", "@", "@nothing", "@best=maybe", "@best~3", "~1", "a~1", "", "@=")


def fill(db: Database) -> None:
    for number, (run_id, name, tags) in enumerate(RUNS):
        runs.create(db, NewRun(run_id=run_id, name=name, tags=tags, started_at=number))


def test_each_word_selects_its_run(db: Database) -> None:
    fill(db)
    said: list[str] = []
    found = {word: resolve(db, word, said.append)[0] for word in EXPECTED}
    assert found == EXPECTED
    for word in ABSENT:
        with pytest.raises(NotFoundError):
            resolve(db, word, said.append)


def test_the_newest_of_several_is_said_and_not_taken_where_a_word_must_be_unique(db: Database) -> None:
    fill(db)
    said: list[str] = []
    for word, count in (("base", 2), ("@best", 3), ("trial", 1), ("latest", 1), ("base~1", 1)):
        said.clear()
        run_id = resolve(db, word, said.append)
        assert len(said) == (count > 1), word
        if count > 1:
            assert f"'{word}' selects {count} runs" in said[0]
            assert run_id[:8] in said[0]
            with pytest.raises(InvalidValueError, match="Several runs"):
                resolve(db, word)
        else:
            assert resolve(db, word) == run_id


@pytest.mark.parametrize(
    ("left_out", "expected"),
    [((), "c"), (("a", "b", "c"), "0"), (("a", "b", "c", "e", "0", "f"), "d")],
)
def test_latest_falls_back_to_other_runs(db: Database, left_out: tuple[str, ...], expected: str) -> None:
    fill(db)
    for digit in left_out:
        runs.delete(db, digit * 32)
    assert resolve(db, "latest") == expected * 32


def test_a_server_selects_the_same_runs(tmp_path: Path, clean_room: Path) -> None:
    home = Home(clean_room / "theirs")
    with closing(Database.open(home.database)) as database:
        fill(database)
        other = experiments.create(database, "other")
        runs.create(database, NewRun(run_id="9" * 32, name="base", experiment_id=other, started_at=-1))
        with (
            standalone_server(tmp_path, PROJ_HOME=str(home.root)) as standalone,
            RemoteServer(standalone.url) as server,
        ):
            said: list[str] = []
            for word, digit in EXPECTED.items():
                # A copy on a server cannot be told from a run that proj started there.
                expected = {"latest": "f", "latest~1": "c", "latest~2": "b"}.get(word, digit)
                assert find_run(server, word, None, said.append).run_id[0] == expected, word
            assert [message.count("newest") for message in said] == [1, 1, 1]
            for word in ("latest~9", "base~3", "@nothing", "@best=maybe", "zzz", "@a`b", "'\"", ""):
                with pytest.raises(NotFoundError):
                    find_run(server, word, None, said.append)
            for word in ("base", "@best"):
                with pytest.raises(InvalidValueError, match="Several runs"):
                    find_run(server, word, None, None)


@pytest.mark.parametrize(("word", "back"), list(product(("latest", "a b", "x~y", "Ünï"), (0, 1, 12))))
def test_counting_back_is_a_suffix(word: str, back: int) -> None:
    assert parse_reference(f"{word}~{back}") == RunReference(word, back)
    assert parse_reference(word) == RunReference(word)


def test_tags_have_names_and_values() -> None:
    assert parse_reference("@team") == RunReference("@team", None, "team", None)
    assert parse_reference("@team=a=b~2") == RunReference("@team=a=b", 2, "team", "a=b")
    assert parse_reference("@team=") == RunReference("@team=", None, "team", "")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.text(alphabet="~@=ab0 '\"%_\x00\ud800é1", max_size=12))
def test_any_word_is_found_or_refused(db: Database, word: str) -> None:
    with pytest.raises((NotFoundError, InvalidValueError)):
        resolve(db, word, print)
