"""Runs as objects of a notebook: parameters, histories, artifacts, short texts and HTML."""

import builtins
import html.parser
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import runner
from runner.errors import InvalidValueError, NotFoundError
from runner.interactive import html as formats
from runner.interactive.runs import Run, RunList, run_of
from runner.model import ParameterRecord, RunDetails, RunRecord, RunStatus
from runner.settings import Home
from runner.store import artifact_digests, artifacts, runs, values
from runner.store.database import Database
from runner.store.entities import Metric, NewRun
from tests.support.standalone_server import standalone_server

TEXTS = st.text(alphabet=st.sampled_from("<>&\"'/ script=onload\u202e\x00\n`é"), max_size=30)


@pytest.fixture
def run_id(db: Database, home: Home) -> str:
    run_id = "7" * 32
    folder = home.artifacts(run_id)
    new = NewRun(run_id=run_id, name="one", started_at=1_700_000_000_000, artifact_uri=folder.as_uri())
    runs.create(db, new)
    values.log_params(db, run_id, [("alpha", "0.5"), ("beta", "<script>alert(1)</script>")])
    values.log_metrics(db, run_id, [Metric(key="rmse", value=1 / n, timestamp=n, step=n) for n in (1, 2, 4)])
    artifacts.write_artifact(folder, "plots/a.txt", [b"first"])
    artifacts.write_artifact(folder, "plots/deep/b.txt", [b"second"])
    artifact_digests.record(db, run_id, folder)
    runs.set_details(db, run_id, RunDetails(exit_code=0))
    runs.update(db, run_id, status=RunStatus.FINISHED, ended_at=1_700_000_002_500)
    return run_id


@pytest.mark.parametrize("found", ["get", "search"])
def test_parameters_and_metrics(run_id: str, found: str) -> None:
    run = runner.get_run(run_id) if found == "get" else runner.search_runs()[0]
    assert run.params == {"alpha": "0.5", "beta": "<script>alert(1)</script>"}
    assert run.metrics == {"rmse": 0.25}
    assert repr(run) == "<Run 77777777 one FINISHED rmse=0.25>"


def test_a_history_is_a_frame(run_id: str) -> None:
    frame: Any = runner.get_run(run_id).history("rmse")
    assert list(frame.columns) == ["step", "time", "value"]
    assert (frame["step"].tolist(), frame["value"].tolist()) == ([1, 2, 4], [1.0, 0.5, 0.25])
    assert str(frame["time"].dtype).endswith("UTC]")


def test_a_history_without_pandas_is_a_list(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_pandas(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    points: Any = runner.get_run(run_id).history("rmse")
    assert [(one.step, one.value, one.timestamp) for one in points] == [(1, 1.0, 1), (2, 0.5, 2), (4, 0.25, 4)]


def test_artifacts_are_copies(run_id: str, home: Home) -> None:
    run = runner.get_run(run_id)
    file = run.artifact("plots/a.txt")
    assert file.read_bytes() == b"first"
    assert not file.is_relative_to(home.root)
    file.write_bytes(b"changed")
    assert run.artifact("plots/a.txt").read_bytes() == b"first"
    folder = run.artifact("plots/")
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.txt")) == ["a.txt", "deep/b.txt"]
    assert (run.artifact() / "plots" / "deep" / "b.txt").read_bytes() == b"second"


def test_a_damaged_artifact_is_refused(run_id: str, home: Home) -> None:
    (home.artifacts(run_id) / "plots" / "a.txt").write_bytes(b"spoiled")
    with pytest.raises(InvalidValueError, match="is damaged"):
        runner.get_run(run_id).artifact("plots/a.txt")
    assert runner.get_run(run_id).artifact("plots/deep/b.txt").read_bytes() == b"second"


@pytest.mark.parametrize("path", ["plots/c.txt", "../x", "plot", "plots/a.txt/x"])
def test_absent_artifacts(run_id: str, path: str) -> None:
    with pytest.raises(NotFoundError, match="has no artifact"):
        runner.get_run(run_id).artifact(path)


def test_an_absent_metric_has_a_suggestion(run_id: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        runner.get_run(run_id).history("rsme")
    assert caught.value.hint is not None
    assert "rmse" in caught.value.hint


@pytest.mark.slow
def test_copies_are_removed_with_the_process(run_id: str) -> None:
    code = f"import runner; print(runner.get_run({run_id!r}).artifact('plots/a.txt'))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip().endswith("a.txt")
    assert not Path(done.stdout.strip()).parents[2].exists()


@pytest.mark.slow
def test_a_run_of_a_server(run_id: str, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with standalone_server(home.root.parent) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        found = runner.search_runs()
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
        monkeypatch.setenv("PROJ_HOME", str(home.root.with_name("other")))
        run = found[0]
        assert run.tracking_uri == server.url, "the run is read where it was found"
        assert run.artifact("plots/a.txt").read_bytes() == b"first"
        history: Any = run.history("rmse")
        assert history["value"].tolist() == [1.0, 0.5, 0.25]
    assert run.run_id == run_id


def test_lists(run_id: str, db: Database) -> None:
    for number in range(30):
        runs.create(db, NewRun(name=f"n{number}", started_at=1_700_000_100_000 + number))
    found = runner.search_runs()
    assert isinstance(found[:3], RunList)
    assert isinstance(found[0], Run)
    lines = repr(found).splitlines()
    assert (len(lines), lines[-1]) == (21, " … and 11 more]")
    text = found._repr_html_()
    assert text.count("<tr>") == 21
    assert "20 of 31 runs" in text
    assert repr(found[30:]) == "[<Run 77777777 one FINISHED rmse=0.25>]"
    assert (repr(RunList()), RunList()._repr_html_().count("<td>")) == ("[]", 0)
    assert run_id == found[-1].run_id


class _Elements(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.attributes.update(name for name, _ in attrs)


@pytest.mark.quick
@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=4))
def test_every_text_is_escaped(texts: list[tuple[str, str, str]]) -> None:
    records = [_record(name=name, key=key, value=value) for name, key, value in texts]
    for text in (formats.run_html(records[0]), formats.list_html(records)):
        elements = _Elements()
        elements.feed(text)
        assert elements.found <= {"div", "p", "b", "code", "span", "table", "thead", "tbody", "tr", "th", "td"}
        assert elements.attributes <= {"style"}
    assert "\n" not in formats.short_text(records[0])


def _record(*, name: str, key: str, value: str) -> Run:
    unknown = dict.fromkeys(RunRecord.__struct_fields__)
    known = {
        "run_id": "1" * 32,
        "run_name": name,
        "status": value,
        "reason": value,
        "parameters": (ParameterRecord(name=key, value=value),),
        "metrics": {key: 0.5, "z": 1.0},
        "tags": {},
    }
    return run_of(RunRecord(**{**unknown, **known}))
