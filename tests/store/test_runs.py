"""Tests experiments, runs, their values and their records."""

import math
import os
import platform
import signal
import subprocess
import sys
import time

import msgspec
import pytest

from runner.errors import AlreadyExistsError, InvalidValueError, NotFoundError
from runner.model import Code, FileRecord, Parameter, ParameterRecord, RunDetails, RunStatus, ValueSource
from runner.settings import Home
from runner.store import experiments, lineage, lost_runs, models, process_identity, runs, values
from runner.store.database import Database
from runner.store.entities import (
    Dataset,
    DatasetInput,
    LifecycleStage,
    Metric,
    ModelOutput,
    ModelStatus,
    NewModel,
    NewRun,
    ProcessIdentity,
    View,
)
from runner.store.models import ModelQuery
from runner.store.records import read_record
from runner.store.rules import MAX_VALUE, check_batch
from runner.store.run_selection import resolve
from runner.store.search import ExperimentQuery, SearchQuery, search_experiments, search_records, search_runs


@pytest.fixture
def run_id(db: Database) -> str:
    return runs.create(db, NewRun()).run_id


def point(key: str, value: float, step: int = 0, timestamp: int = 0) -> Metric:
    return Metric(key=key, value=value, step=step, timestamp=timestamp)


class TestExperiments:
    def test_a_new_store_has_the_default_experiment(self, db: Database) -> None:
        default = experiments.get(db, "0")
        assert default.name == "Default"
        assert experiments.find(db, "Default") == default
        assert experiments.ensure(db, "Default") == "0"

    def test_ids_count_up_and_are_never_used_again(self, db: Database) -> None:
        assert experiments.create(db, "a", tags={"k": "v"}) == "1"
        assert experiments.ensure(db, "b") == "2"
        assert experiments.get(db, "1").tags == {"k": "v"}

    def test_a_name_is_taken_also_by_a_deleted_one(self, db: Database) -> None:
        number = experiments.create(db, "a")
        with pytest.raises(AlreadyExistsError, match="already"):
            experiments.create(db, "a")
        experiments.delete(db, number)
        with pytest.raises(AlreadyExistsError, match="deleted"):
            experiments.create(db, "a")
        with pytest.raises(InvalidValueError, match="deleted"):
            experiments.ensure(db, "a")

    @pytest.mark.parametrize("name", ["", "  ", "a\x00b", "line\nbreak", "x" * 501])
    def test_bad_names(self, db: Database, name: str) -> None:
        with pytest.raises(InvalidValueError):
            experiments.create(db, name)

    @pytest.mark.parametrize("number", ["7", "-1", "x", "", "٣", "9" * 40])
    def test_missing_items_are_not_found(self, db: Database, number: str) -> None:
        with pytest.raises(NotFoundError):
            experiments.get(db, number)

    def test_rename(self, db: Database) -> None:
        number = experiments.create(db, "a")
        experiments.create(db, "taken")
        experiments.rename(db, number, "b")
        assert experiments.find(db, "a") is None
        with pytest.raises(AlreadyExistsError):
            experiments.rename(db, number, "taken")

    def test_delete_takes_the_runs_along_and_restore_brings_just_those_back(self, db: Database) -> None:
        number = experiments.create(db, "a")
        kept, gone = (runs.create(db, NewRun(experiment_id=number)).run_id for _ in range(2))
        runs.delete(db, gone)
        time.sleep(0.002)
        experiments.delete(db, number)
        assert runs.get(db, kept).lifecycle_stage is LifecycleStage.DELETED
        with pytest.raises(InvalidValueError, match="deleted"):
            runs.create(db, NewRun(experiment_id=number))
        experiments.set_tag(db, number, "seen", "yes")
        experiments.restore(db, number)
        assert runs.get(db, kept).lifecycle_stage is LifecycleStage.ACTIVE
        assert runs.get(db, gone).lifecycle_stage is LifecycleStage.DELETED
        with pytest.raises(InvalidValueError, match="default"):
            experiments.delete(db, "0")

    def test_tags(self, db: Database) -> None:
        experiments.set_tag(db, "0", "k", "v")
        experiments.set_tag(db, "0", "k", "w")
        assert experiments.get(db, "0").tags == {"k": "w"}
        experiments.delete_tag(db, "0", "k")
        with pytest.raises(NotFoundError):
            experiments.delete_tag(db, "0", "k")

    def test_search(self, db: Database) -> None:
        for name in ("alpha", "beta", "Gamma"):
            experiments.create(db, name, tags={"team": name[0]})
        experiments.delete(db, "2")

        def names(query: ExperimentQuery) -> list[str]:
            return [one.name for one in search_experiments(db, query).items]

        assert names(ExperimentQuery()) == ["Gamma", "alpha", "Default"]
        assert names(ExperimentQuery(view=View.DELETED)) == ["beta"]
        assert names(ExperimentQuery(view=View.ALL, filter="name ILIKE 'g%'")) == ["Gamma"]
        assert names(ExperimentQuery(filter="name LIKE 'g%'")) == []
        assert names(ExperimentQuery(filter="tags.team = 'a'")) == ["alpha"]
        assert names(ExperimentQuery(order_by=("name ASC",))) == ["Default", "Gamma", "alpha"]
        first = search_experiments(db, ExperimentQuery(limit=2))
        assert names(ExperimentQuery(limit=2, page_token=first.next_page_token)) == ["Default"]


class TestRuns:
    def test_missing_values_of_a_new_run_are_generated(self, db: Database, home: Home) -> None:
        run = runs.create(db, NewRun())
        assert len(run.run_id) == 32
        assert len(run.name.split("-")) == 3
        assert run.tags == {"mlflow.runName": run.name}
        assert abs(run.started_at - time.time() * 1000) < 60_000
        assert run.artifact_uri == home.artifacts(run.run_id).as_uri()
        assert run.status is RunStatus.RUNNING
        assert runs.get(db, run.run_id) == run

    def test_given_values_of_a_new_run_are_kept(self, db: Database) -> None:
        code = Code(tree="t", swhid="s", dirty=True, changed_files=("a b",))
        new = NewRun(
            run_id="0123456789abcdef" * 2,
            name="my run",
            user="me",
            status=RunStatus.SCHEDULED,
            started_at=5,
            tags={"mlflow.user": "me", "k": "ü\n"},
            details=RunDetails(code=code),
            owner=process_identity.this_process(),
        )
        run = runs.create(db, new)
        assert (run.name, run.user, run.status, run.started_at) == ("my run", "me", RunStatus.SCHEDULED, 5)
        assert run.tags == {"mlflow.user": "me", "k": "ü\n", "mlflow.runName": "my run"}
        assert run.details.code == code
        assert run.owner == process_identity.this_process()
        with pytest.raises(AlreadyExistsError):
            runs.create(db, new)

    @pytest.mark.parametrize("run_id", ["", "x", "../" * 8, "A" * 32, "0" * 33, "0" * 32 + "\n"])
    def test_bad_ids(self, db: Database, run_id: str) -> None:
        with pytest.raises(InvalidValueError):
            runs.create(db, NewRun(run_id=run_id))

    def test_an_experiment_with_its_own_place_has_its_runs_there(self, db: Database) -> None:
        number = experiments.create(db, "far", "s3://bucket/far/")
        run = runs.create(db, NewRun(experiment_id=number))
        assert run.artifact_uri == f"s3://bucket/far/{run.run_id}/artifacts"

    def test_name_and_tag_stay_in_step(self, db: Database) -> None:
        run_id = runs.create(db, NewRun(tags={"mlflow.runName": "from tag"})).run_id
        assert runs.get(db, run_id).name == "from tag"
        values.set_tags(db, run_id, {"mlflow.runName": "second"})
        assert runs.get(db, run_id).name == "second"
        assert runs.update(db, run_id, name="third").tags["mlflow.runName"] == "third"

    def test_a_run_that_is_over_has_an_end(self, db: Database, run_id: str) -> None:
        assert runs.update(db, run_id, status=RunStatus.FINISHED).ended_at is not None
        assert runs.update(db, run_id, status=RunStatus.RUNNING).ended_at is None
        assert runs.update(db, run_id, status=RunStatus.FAILED, ended_at=7).ended_at == 7
        assert runs.update(db, run_id, status=RunStatus.KILLED, ended_at=None).ended_at == 7
        with pytest.raises(InvalidValueError):
            runs.update(db, run_id, ended_at=2**63)

    def test_delete_and_restore(self, db: Database, run_id: str) -> None:
        runs.delete(db, run_id)
        assert search_runs(db, SearchQuery()).items == ()
        for change in (
            lambda: values.log_params(db, run_id, [("a", "1")]),
            lambda: values.log_metrics(db, run_id, [point("a", 1)]),
            lambda: values.set_tags(db, run_id, {"a": "1"}),
            lambda: runs.update(db, run_id, name="x"),
        ):
            with pytest.raises(InvalidValueError, match="deleted"):
                change()
        runs.restore(db, run_id)
        assert [run.run_id for run in search_runs(db, SearchQuery()).items] == [run_id]

    def test_purge_leaves_no_row(self, db: Database, run_id: str) -> None:
        values.log_params(db, run_id, [("a", "1")])
        values.log_metrics(db, run_id, [point("a", 1)])
        lineage.log_inputs(db, run_id, [DatasetInput(dataset=Dataset(name="d", digest="1"))], ["m-1"])
        runs.purge(db, run_id)
        for table in ("runs", "details", "params", "tags", "metrics", "points", "inputs", "model_uses"):
            assert db.query(f"SELECT count(*) FROM {table}")[0][0] == 0, table
        with pytest.raises(NotFoundError):
            runs.get(db, run_id)

    def test_words_that_mean_a_run(self, db: Database) -> None:
        first, second, third = (digit * 32 for digit in "abc")
        other = "ab" + "0" * 30
        for number, run_id in enumerate((first, second, third, other)):
            runs.create(db, NewRun(run_id=run_id, name="same" if number < 2 else f"n{number}", started_at=number))
        assert resolve(db, first) == first
        assert resolve(db, "aa") == first
        assert resolve(db, "n2") == third
        assert resolve(db, "latest") == other
        for word in ("a", "same"):
            with pytest.raises(InvalidValueError, match="Several") as caught:
                resolve(db, word)
            assert first[:12] in str(caught.value.context)
        for word in ("", "zzz", "f", "d" * 32, "a%", "latest "):
            with pytest.raises(NotFoundError):
                resolve(db, word)
        runs.delete(db, third)
        with pytest.raises(NotFoundError):
            resolve(db, "c")
        assert resolve(db, third) == third

    def test_a_name_that_begins_like_an_id_wins(self, db: Database) -> None:
        runs.create(db, NewRun(run_id="ab" * 16))
        named = runs.create(db, NewRun(run_id="cd" * 16, name="ab")).run_id
        assert resolve(db, "ab") == named


class TestLost:
    def test_a_run_of_a_killed_process_is_lost_and_keeps_its_values(self, db: Database, home: Home) -> None:
        script = (
            "import sys, time\nfrom contextlib import closing\nfrom pathlib import Path\n"
            "from runner.store.database import Database\nfrom runner.store import process_identity, runs\n"
            "from runner.store.entities import NewRun\n"
            "with closing(Database.open(Path(sys.argv[1]))) as db:\n"
            "    print(runs.create(db, NewRun(owner=process_identity.this_process())).run_id, flush=True)\n"
            "    time.sleep(60)\n"
        )
        child = subprocess.Popen([sys.executable, "-c", script, str(home.database)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        run_id = child.stdout.readline().strip()
        assert lost_runs.mark_lost(db) == []
        child.send_signal(signal.SIGKILL)
        # Not waited for: a dead child that nobody waited for is gone, too.
        deadline = time.monotonic() + 10
        while not (lost := lost_runs.mark_lost(db)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lost == [run_id]
        child.wait()
        child.stdout.close()
        run = runs.get(db, run_id)
        assert run.status is RunStatus.LOST
        assert run.ended_at == run.started_at
        assert str(child.pid) in str(run.details.reason)
        assert lost_runs.mark_lost(db) == []

    def test_the_end_is_the_last_sign_of_life(self, db: Database, home: Home) -> None:
        owner = msgspec.structs.replace(process_identity.this_process(), boot="before")
        run = runs.create(db, NewRun(owner=owner, started_at=1_000))
        home.log(run.run_id).parent.mkdir(parents=True)
        home.log(run.run_id).write_text("hello")
        os.utime(home.log(run.run_id), (50, 50))
        assert lost_runs.mark_lost(db) == [run.run_id]
        assert runs.get(db, run.run_id).ended_at == 50_000

    def test_is_gone_distinguishes_ended_and_possibly_live_processes(self) -> None:
        me = process_identity.this_process()

        change = msgspec.structs.replace
        assert not process_identity.is_gone(me)
        assert process_identity.is_gone(change(me, started="1"))
        assert process_identity.is_gone(change(me, boot="another"))
        assert process_identity.is_gone(change(me, pid=2**22 + 1))
        assert not process_identity.is_gone(change(me, host=f"not-{platform.node()}", started="1"))
        if me.space:
            assert not process_identity.is_gone(change(me, space="pid:[1]", started="1"))

    def test_runs_that_are_over_or_without_owner_are_left_alone(self, db: Database, run_id: str) -> None:
        gone = ProcessIdentity(pid=1, started="-", boot="before", host=platform.node())
        over = runs.create(db, NewRun(owner=gone, status=RunStatus.FAILED)).run_id
        assert lost_runs.mark_lost(db) == []
        runs.set_owner(db, run_id, gone)
        runs.set_owner(db, over, None)
        assert lost_runs.mark_lost(db) == [run_id]

    def test_looking_is_cheap(self, db: Database) -> None:
        plan = db.query(
            "EXPLAIN QUERY PLAN SELECT id, run_id, owner FROM runs"
            " WHERE owner IS NOT NULL AND status IN ('RUNNING', 'SCHEDULED')"
        )
        assert "runs_with_owner" in plan[0]["detail"]


class TestParams:
    def test_equal_rewrites_are_accepted_and_others_refused(self, db: Database, run_id: str) -> None:
        values.log_params(db, run_id, [("a", "1"), ("b/c", "x y")])
        values.log_params(db, run_id, [("a", "1")])
        with pytest.raises(InvalidValueError, match="'a' has another value") as caught:
            values.log_params(db, run_id, [("new", "1"), ("a", "1.0")])
        assert "'1'" in str(caught.value.context)
        assert runs.get(db, run_id).params == {"a": "1", "b/c": "x y"}

    @pytest.mark.parametrize(
        ("launched", "logged"),
        [("0.00001", "1e-05"), ("1", "1.0"), ("True", "true"), ("010", "10"), ("nan", "NaN"), ("1e3", "1000")],
    )
    def test_the_script_may_log_the_launchers_value_in_its_own_words(
        self, db: Database, run_id: str, launched: str, logged: str
    ) -> None:
        values.record_parameters(db, run_id, [Parameter(name="p", value=launched)])
        values.log_params(db, run_id, [("p", logged)])
        assert runs.get(db, run_id).params == {"p": launched}

    @pytest.mark.parametrize(("launched", "logged"), [("0.1", "0.2"), ("a", "A"), ("", "0"), ("True", "yes")])
    def test_another_value_is_refused(self, db: Database, run_id: str, launched: str, logged: str) -> None:
        values.record_parameters(db, run_id, [Parameter(name="p", value=launched)])
        with pytest.raises(InvalidValueError):
            values.log_params(db, run_id, [("p", logged)])

    def test_a_secret_is_nowhere_but_comparable(self, db: Database, run_id: str, home: Home) -> None:
        secret = f"swordfish-{os.getpid()}-é"
        values.record_parameters(db, run_id, [Parameter(name="p", value=secret, secret=True)])
        values.log_params(db, run_id, [("p", secret)])
        with pytest.raises(InvalidValueError) as caught:
            values.log_params(db, run_id, [("p", "other-word")])
        assert "other-word" not in f"{caught.value.message} {caught.value.context}"
        other = runs.create(db, NewRun()).run_id
        values.record_parameters(db, other, [Parameter(name="p", value=secret, secret=True)])
        assert values.params(db, run_id)[0].digest == values.params(db, other)[0].digest
        db.close()
        for path in home.root.rglob("*"):
            assert path.is_dir() or secret.encode() not in path.read_bytes()
        assert (home.root / "digest.key").stat().st_mode & 0o777 == 0o600

    def test_types_and_sources_are_kept(self, db: Database, run_id: str) -> None:
        given = Parameter(name="odd name = 1", value="a 'b'\n", type="path", source=ValueSource.FILE)
        values.record_parameters(db, run_id, [given])
        values.log_params(db, run_id, [("z", "1")])
        odd, logged = values.params(db, run_id)
        assert (odd.key, odd.value, odd.type, odd.source) == ("odd name = 1", "a 'b'\n", "path", "file")
        assert (logged.type, logged.source) == ("string", "logged")


class TestRules:
    @pytest.mark.parametrize("name", ["a", "a b", "a/b", "a.b-c_d:e", "ä", "x" * 250, "a.."])
    def test_good_names(self, db: Database, run_id: str, name: str) -> None:
        values.log_params(db, run_id, [(name, "1")])
        values.log_metrics(db, run_id, [point(name, 1)])
        values.set_tags(db, run_id, {name: "1"})

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "../a", "/a", "a/", "a//b", "a/../b", "a=b", "a\n", "\x00", "x" * 251, "a\\b", "é%"]
    )
    def test_bad_names(self, db: Database, run_id: str, name: str) -> None:
        with pytest.raises(InvalidValueError):
            values.log_params(db, run_id, [(name, "1")])
        with pytest.raises(InvalidValueError):
            values.log_metrics(db, run_id, [point(name, 1)])
        with pytest.raises(InvalidValueError):
            values.set_tags(db, run_id, {name: "1"})

    def test_long_values(self, db: Database, run_id: str) -> None:
        values.log_params(db, run_id, [("p", "x" * MAX_VALUE)])
        values.set_tags(db, run_id, {"t": "x" * MAX_VALUE})
        with pytest.raises(InvalidValueError):
            values.log_params(db, run_id, [("q", "x" * (MAX_VALUE + 1))])
        with pytest.raises(InvalidValueError):
            values.set_tags(db, run_id, {"u": "x" * (MAX_VALUE + 1)})

    def test_batches(self) -> None:
        check_batch(metrics=800, params=100, tags=100)
        for sizes in ((1001, 0, 0), (0, 101, 0), (0, 0, 101), (900, 100, 1)):
            with pytest.raises(InvalidValueError):
                check_batch(metrics=sizes[0], params=sizes[1], tags=sizes[2])

    def test_an_unknown_run(self, db: Database) -> None:
        for log in (
            lambda: values.log_params(db, "f" * 32, []),
            lambda: values.log_metrics(db, "f" * 32, []),
            lambda: values.set_tags(db, "f" * 32, {}),
            lambda: values.delete_tag(db, "f" * 32, "x"),
            lambda: values.metric_history(db, "f" * 32, "x"),
            lambda: lineage.inputs(db, "f" * 32),
        ):
            with pytest.raises(NotFoundError):
                log()


class TestMetrics:
    def test_the_last_value_is_that_of_step_then_time_then_value(self, db: Database, run_id: str) -> None:
        points = [point("m", 1, 1, 5), point("m", 9, 0, 9), point("m", 2, 1, 6), point("m", 1.5, 1, 6)]
        values.log_metrics(db, run_id, points)
        for one in reversed(points):
            values.log_metrics(db, run_id, [one])
        last = runs.get(db, run_id).metrics["m"]
        assert (last.value, last.step, last.timestamp) == (2, 1, 6)
        history = values.metric_history(db, run_id, "m").items
        assert [(one.step, one.timestamp, one.value) for one in history] == [
            (0, 9, 9),
            (1, 5, 1),
            (1, 6, 1.5),
            (1, 6, 2),
        ]

    def test_special_numbers_and_64_bits_survive(self, db: Database, run_id: str) -> None:
        odd = [math.nan, math.inf, -math.inf, 1e308, 5e-324, 2**53 + 1]
        values.log_metrics(db, run_id, [point(f"m{n}", value, 2**63 - 1, -(2**63)) for n, value in enumerate(odd)])
        found = runs.get(db, run_id).metrics
        assert [repr(found[f"m{n}"].value) for n in range(len(odd))] == [repr(float(value)) for value in odd]
        assert found["m0"].step == 2**63 - 1
        assert found["m0"].timestamp == -(2**63)
        assert math.isnan(values.metric_history(db, run_id, "m0").items[0].value)

    @pytest.mark.parametrize(
        "metric",
        [point("m", 1, 2**63), point("m", 1, 0, -(2**63) - 1), point("m", "1"), point("m", True)],  # type: ignore[arg-type]
    )
    def test_an_invalid_metric_is_refused(self, db: Database, run_id: str, metric: Metric) -> None:
        with pytest.raises(InvalidValueError):
            values.log_metrics(db, run_id, [metric])

    def test_a_point_sent_twice_is_stored_once(self, db: Database, run_id: str) -> None:
        for _ in range(2):
            values.log_metrics(db, run_id, [point("m", math.nan), point("m", 0)])
        assert len(values.metric_history(db, run_id, "m").items) == 2

    def test_history_in_pages(self, db: Database, run_id: str) -> None:
        values.log_metrics(db, run_id, [point("m", n % 3, n // 2, n) for n in range(25)])
        seen: list[Metric] = []
        token = None
        while True:
            page = values.metric_history(db, run_id, "m", 4, token)
            seen += page.items
            token = page.next_page_token
            if token is None:
                break
            assert len(page.items) == 4
        assert seen == list(values.metric_history(db, run_id, "m").items)
        assert len(seen) == 25
        for bad in ("", "x", "AAAA", "é"):
            if bad:
                with pytest.raises(InvalidValueError):
                    values.metric_history(db, run_id, "m", 4, bad)
        for limit in (0, 10**9):
            with pytest.raises(InvalidValueError):
                values.metric_history(db, run_id, "m", limit)


class TestTags:
    def test_set_change_delete(self, db: Database, run_id: str) -> None:
        values.set_tags(db, run_id, [("a", "1"), ("b", "2")])
        values.set_tags(db, run_id, {"a": "3"})
        values.delete_tag(db, run_id, "b")
        assert runs.get(db, run_id).tags["a"] == "3"
        with pytest.raises(NotFoundError):
            values.delete_tag(db, run_id, "b")


class TestModels:
    def test_a_model_from_opening_to_use(self, db: Database, run_id: str) -> None:
        model = models.create(db, NewModel(name="model", source_run_id=run_id, params={"a": "1"}, tags={"t": "x"}))
        assert model.model_id.startswith("m-")
        assert model.status is ModelStatus.PENDING
        assert model.artifact_uri.endswith(f"/runs/models/{model.model_id}/artifacts")
        assert models.finalize(db, model.model_id, ModelStatus.READY).status is ModelStatus.READY
        lineage.log_outputs(db, run_id, [ModelOutput(model_id=model.model_id, step=3)])
        assert lineage.outputs(db, run_id) == (ModelOutput(model_id=model.model_id, step=3),)
        measured = Metric(key="rmse", value=0.5, timestamp=1, model_id=model.model_id, dataset_name="d")
        values.log_metrics(db, run_id, [measured])
        models.set_tags(db, model.model_id, {"u": "y"})
        models.delete_tag(db, model.model_id, "t")
        models.log_params(db, model.model_id, {"b": "2"})
        found = models.get(db, model.model_id)
        assert found.params == {"a": "1", "b": "2"}
        assert found.tags == {"u": "y"}
        assert [(one.key, one.value, one.run_id, one.dataset_name) for one in found.metrics] == [
            ("rmse", 0.5, run_id, "d")
        ]
        models.delete(db, model.model_id)
        with pytest.raises(NotFoundError):
            models.get(db, model.model_id)

    def test_search(self, db: Database, run_id: str) -> None:
        first, second = (models.create(db, NewModel(name=name, source_run_id=run_id)).model_id for name in ("a", "b"))
        for model_id, value in ((first, 1.0), (second, 2.0)):
            values.log_metrics(db, run_id, [Metric(key="m", value=value, timestamp=0, model_id=model_id)])

        def found(query: ModelQuery) -> list[str]:
            return [model.model_id for model in models.search(db, query).items]

        assert found(ModelQuery(filter="name = 'a'")) == [first]
        assert found(ModelQuery(filter=f"source_run_id = '{run_id}' AND metrics.m > 1.5")) == [second]
        assert found(ModelQuery(order_by=("metrics.m ASC",), limit=1)) == [first]
        assert found(ModelQuery(experiment_ids=("5",))) == []

    @pytest.mark.parametrize("name", ["", "a/b", "a:b", "a.b", "a%", "a'b", 'a"'])
    def test_bad_names(self, db: Database, name: str) -> None:
        with pytest.raises(InvalidValueError):
            models.create(db, NewModel(name=name))


def test_inputs_are_stored_once(db: Database, run_id: str) -> None:
    one = DatasetInput(dataset=Dataset(name="d", digest="1", schema="{}"), tags={"mlflow.data.context": "train"})
    for _ in range(2):
        lineage.log_inputs(db, run_id, [one], ["m-1"])
    found = lineage.inputs(db, run_id)
    assert found.datasets == (one,)
    assert found.model_ids == ("m-1",)
    with pytest.raises(InvalidValueError):
        lineage.log_inputs(db, run_id, [DatasetInput(dataset=Dataset(name="d", digest="x" * 37))])


class TestRecords:
    def test_the_record_has_parameters_of_launcher_and_script(self, db: Database, home: Home) -> None:
        details = RunDetails(
            entry_point="main",
            exit_code=0,
            parameters=(ParameterRecord(name="z", value="0.5", type="float", source="default"),),
            outputs=(FileRecord(path="o", size=1, sha256="0"),),
        )
        run_id = runs.create(db, NewRun(name="n", started_at=1_700_000_000_123, details=details)).run_id
        values.record_parameters(
            db, run_id, [Parameter(name="z", value="0.5", type="float", source=ValueSource.DEFAULT)]
        )
        values.log_params(db, run_id, [("a", "1"), ("z", "0.50")])
        values.log_metrics(db, run_id, [point("m", 2)])
        runs.update(db, run_id, status=RunStatus.FINISHED, ended_at=1_700_000_001_000)
        record = read_record(db, run_id, home)
        assert record.experiment == "Default"
        assert record.started_at == "2023-11-14T22:13:20.123Z"
        assert record.ended_at == "2023-11-14T22:13:21.000Z"
        assert record.parameters == (
            ParameterRecord(name="z", value="0.5", type="float", source="default"),
            ParameterRecord(name="a", value="1", source="logged"),
        )
        assert record.metrics == {"m": 2}
        assert record.outputs == details.outputs
        assert record.status == "FINISHED"
        assert search_records(db, SearchQuery(), home).records == (record,)
        assert search_runs(db, SearchQuery()).items[0].details == RunDetails()

    def test_times_that_no_calendar_has(self, db: Database, home: Home) -> None:
        run_id = runs.create(db, NewRun(started_at=2**62)).run_id
        assert read_record(db, run_id, home).started_at is None

    def test_the_record_names_an_existing_log(self, db: Database, home: Home, run_id: str) -> None:
        assert read_record(db, run_id, home).log is None
        home.run(run_id).mkdir(parents=True)
        home.log(run_id).write_text("x")
        assert read_record(db, run_id, home).log == str(home.log(run_id))
