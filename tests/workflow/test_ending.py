"""The ending of a run: how the command ended is recorded whatever becomes of the rest."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from runner import collectors, open_run, run_inputs
from runner.errors import StoreError
from runner.model import Event, EventKind, RunDetails, RunRequest, RunStatus
from runner.process import Echo, Interrupted
from runner.provenance.metric_names import is_name, spell_names
from runner.record import MAX_NOTICES, MAX_TAG_LENGTH, RunOutcome, RunRecorder, shorten_tag
from runner.settings import Home, requested_experiment
from runner.store import disk, lost_runs, runs
from runner.store.database import Database
from runner.store.entities import NewRun
from runner.store.process_identity import this_process
from runner.store.run_selection import resolve
from runner.workflow import run_project
from tests.conftest import ROOT, MakeRepository, RunProj, start_proj

pytestmark = pytest.mark.slow

LOCAL = ("--env-manager", "local")
ENDINGS = {
    "done": ("", "FINISHED", 0, 0),
    "failed": ("sys.exit(3)", "FAILED", 3, 3),
    "killed": ("os.kill(os.getpid(), 9)", "FAILED", 137, 137),
    "timeout": ("time.sleep(60)", "KILLED", None, 124),
}
ODD = {
    "precision@5": 0.5,
    "hits@10": 1,
    "f1 (macro)": 2,
    "a%b": 3,
    "a@b": 4,
    "a#b": 5,
    "a$b": 6,
    "a_b": 7,
    "": 8,
    "x" * 300: 9,
    "/abs": 10,
    "../up": 11,
    "a//b": 12,
    "line\nbreak": 13,
    "é\u0301 λ→": 14,
}
VALUES = '"good": 0.25, "nan": NaN, "inf": Infinity, "yes": true, "none": null, "text": "x", "l": [1, {"m": 2}]'


def manifest(command: str, more: str = "") -> str:
    return f"name: t\nentry_points:\n  main:\n    command: {json.dumps(command)}\n{more}"


def script(ending: str, metrics: str) -> str:
    return (
        "import os, sys, time\n"
        f"open('m.json', 'w').write({metrics!r})\n"
        "log = open(os.environ['PROJ_METRICS'], 'a')\n"
        "log.write('recall@5=1\\nrecall@5=2\\nfine=3\\nbroken\\nlate=1 step=99999999999999999999\\n')\n"
        "log.close()\n"
        "open('out.txt', 'w').write('made')\n"
        f"{ending}\n"
    )


def run_here(root: Path, home: Home, **words: Any) -> tuple[RunOutcome, list[Event]]:
    events: list[Event] = []
    request = RunRequest(uri=str(root), environment_manager="local", **words)
    return run_project(request, home, events.append, Echo.NONE), events


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_metric_name_never_costs_the_result(
    home: Home, make_repository: MakeRepository, ending: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code, status, exit_code, owed = ENDINGS[ending]
    document = json.dumps(ODD)[:-1] + f', {VALUES}, "huge": {"9" * 400}, "vast": {"9" * 6000}}}'
    root = make_repository(
        {
            "MLproject": manifest(f"{sys.executable} t.py", "    metrics: [m.json]\n    outputs: [out.txt]\n"),
            "t.py": script(code, document),
        }
    )
    outcome, _ = run_here(root, home, timeout=3.0 if ending == "timeout" else None)
    record = outcome.record
    assert (record.status, outcome.exit_code) == (status, owed)
    assert record.exit_code == exit_code or ending == "timeout"
    assert record.resources is not None
    assert {output.path for output in record.outputs} == {"out.txt", "m.json"}
    assert (home.artifacts(record.run_id or "") / "out.txt").read_text() == "made"
    metrics = dict(record.metrics)
    assert {"good": 0.25, "l.0": 1, "l.1.m": 2, "inf": float("inf"), "fine": 3, "a_b": 7}.items() <= metrics.items()
    assert metrics["precision_at_5"] == 0.5
    assert metrics["recall_at_5"] == 2
    assert metrics["f1 macro"] == 2
    # Each value of an odd name is there, under a name of its own, but for the one without a name.
    assert set(ODD.values()) - {8} <= set(metrics.values())
    assert not {"yes", "none", "text", "huge", "vast", "late"} & metrics.keys()
    told = "\n".join(record.notices)
    assert "'precision@5' is recorded as 'precision_at_5'" in told
    assert all(
        word in told for word in ("without a name", "'huge' is left out", "'vast' is left out", "line 4", "line 5")
    )
    assert "Traceback" not in capfd.readouterr().err


NAMES = st.lists(
    st.one_of(st.text(max_size=12), st.text("ab@#%_ /.()", max_size=6), st.text(min_size=251, max_size=300))
)


@given(NAMES, st.lists(st.text("ab_", max_size=3)))
def test_each_name_gets_a_spelling_of_its_own(names: list[str], taken: list[str]) -> None:
    spelled = spell_names(names, taken)
    keys = {name: spelled.get(name, name) for name in names if name}
    assert all(is_name(key) for key in keys.values())
    assert len(set(keys.values())) == len(keys)
    assert not {spelled[name] for name in spelled} & set(taken)
    assert spell_names(reversed(names), taken) == spelled
    assert all(name in spelled or is_name(name) for name in names if name)


@pytest.mark.parametrize(
    "fault",
    [
        StoreError("refused", context="why"),
        OSError(28, "No space left on device"),
        ValueError("odd"),
        TypeError("a bug"),
    ],
    ids=lambda fault: type(fault).__name__,
)
@pytest.mark.parametrize(
    "broken", ["collect_metrics", "keep_outputs", "collect_inputs", "explain_failure", "record_digests"]
)
@pytest.mark.parametrize("code", [0, 3])
def test_what_a_collector_cannot_take_is_a_warning(
    home: Home,
    make_repository: MakeRepository,
    monkeypatch: pytest.MonkeyPatch,
    fault: Exception,
    broken: str,
    code: int,
) -> None:
    def fail(*_: object) -> None:
        raise fault

    root = make_repository({"MLproject": manifest(f"echo rmse=0.5 >> $PROJ_METRICS; echo 1 > out.txt; exit {code}")})
    monkeypatch.setattr(collectors, broken, fail)
    outcome, events = run_here(root, home)
    record = outcome.record
    assert (record.exit_code, outcome.exit_code, record.status) == (code, code, "FAILED" if code else "FINISHED")
    assert record.resources is not None
    assert outcome.error is None
    assert bool(record.metrics) == (broken != "collect_metrics")
    assert bool(record.outputs) == (broken != "keep_outputs")
    warning = next(notice for notice in record.notices if "could not be recorded" in notice)
    assert ("an internal error of proj: TypeError" in warning) == isinstance(fault, TypeError)
    assert warning in [event.message for event in events if event.kind is EventKind.WARNING]
    # What was not collected is not thrown away either.
    assert Path(record.folder or "").is_dir() == (code == 3 or broken == "keep_outputs")


LOG_GONE = 'log="$(dirname "$PROJ_METRICS")/log.txt"; rm "$log"'
HOSTILE = {
    "no folder": ('rm -rf "$PWD"', "The outputs could not be recorded"),
    "no log": ('rm -rf "$(dirname "$PROJ_METRICS")"', "the run has no log"),
    "pipe for the log": (f'{LOG_GONE}; mkfifo "$log"', "the run has no log"),
    "link for the log": (f'{LOG_GONE}; ln -s /dev/zero "$log"', "the run has no log"),
    "link for the folder": (
        'mkdir "$KEPT"/theirs; echo 1 > "$KEPT"/theirs/x; here="$PWD"; rm -rf "$here"; ln -s "$KEPT"/theirs "$here"',
        "The run replaced its folder by a link",
    ),
    "pipes": ("mkfifo m.json $PROJ_METRICS", "metrics file m.json: is not a file"),
    "folders": ("mkdir m.json $PROJ_METRICS", "PROJ_METRICS: is not a file"),
    "endless": ("ln -s /dev/zero m.json; ln -s /dev/zero $PROJ_METRICS", "metrics file m.json: is not a file"),
    "bytes": ("head -c 1000 /dev/urandom | tee m.json > $PROJ_METRICS", "metrics file m.json"),
    "no home": ('rm -f "$KEPT"/proj.db*', ""),
}


@pytest.mark.parametrize("harm", HOSTILE)
@pytest.mark.parametrize("code", [0, 5])
def test_what_a_command_breaks_does_not_cost_its_outcome(
    home: Home, make_repository: MakeRepository, monkeypatch: pytest.MonkeyPatch, harm: str, code: int
) -> None:
    monkeypatch.setenv("KEPT", str(home.root))
    command, told = HOSTILE[harm]
    outcome, _ = run_here(
        make_repository({"MLproject": manifest(f"{command}; exit {code}", "    metrics: [m.json]\n")}), home
    )
    record = outcome.record
    assert (record.exit_code, outcome.exit_code, record.status) == (code, code, "FAILED" if code else "FINISHED")
    assert record.resources is not None
    assert outcome.error is None
    if code == 0 or "metrics file" not in told:
        assert told in "\n".join(record.notices)
    assert not [notice for notice in record.notices if "internal error of proj" in notice]
    if "folder by a link" in told:
        assert record.outputs == ()
        assert (home.root / "theirs" / "x").read_text() == "1\n"


def test_a_signal_while_results_are_collected_leaves_the_outcome(
    home: Home, make_repository: MakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(collectors, "collect_inputs", interrupt)
    outcome, _ = run_here(make_repository({"MLproject": manifest("echo 1 > out.txt")}), home)
    assert (outcome.record.status, outcome.record.exit_code) == ("FINISHED", 0)
    assert outcome.exit_code == 128 + signal.SIGTERM
    assert any("stopped by SIGTERM while results were collected" in notice for notice in outcome.record.notices)


@pytest.mark.parametrize(("code", "status"), [(0, "FINISHED"), (3, "FAILED")])
def test_proj_killed_while_it_collects_does_not_lose_the_outcome(
    proj: RunProj, make_repository: MakeRepository, code: int, status: str
) -> None:
    killer = (
        "import os, signal\nfrom runner import collectors\n"
        "collectors.collect_metrics = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from runner.cli.main import main\nmain()\n"
    )
    root = make_repository({"MLproject": manifest(f"exit {code}")})
    done = subprocess.run(
        [sys.executable, "-c", killer, "run", ".", *LOCAL],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL
    shown = proj("show", "latest", "--json").json
    assert (shown["status"], shown["exit_code"]) == (status, code)
    assert shown["resources"]["wall_seconds"] > 0
    assert shown["ended_at"] is not None
    assert any("ended while collecting the results" in notice for notice in shown["notices"])


def test_a_store_that_cannot_be_written_to_at_the_end_leaves_the_exit_code(
    home: Home, make_repository: MakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise StoreError("Another process has locked the store for too long")

    real = RunRecorder.close

    def close(self: RunRecorder, ending: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(runs, "update", refuse)
            real(self, ending)

    monkeypatch.setattr(RunRecorder, "close", close)
    outcome, events = run_here(make_repository({"MLproject": manifest("exit 3")}), home)
    assert outcome.exit_code == 3
    assert outcome.record.exit_code == 3
    assert any("can't be recorded" in event.message for event in events)


def test_thousands_of_redirects_are_told_in_few_lines(home: Home, make_repository: MakeRepository) -> None:
    lines = "".join(json.dumps({"place": f"./mlruns{n % 1500}", "where": f"t.py:{n}"}) + "\n" for n in range(4500))
    notes = "import os, json; open(os.environ['PROJ_TRACKING_NOTES'], 'w').write(open('notes').read())"
    root = make_repository(
        {"MLproject": manifest(f"{sys.executable} t.py"), "t.py": notes, "notes": lines + "no json\n\xff"}
    )
    outcome, events = run_here(root, home)
    record = outcome.record
    assert record.status == "FINISHED"
    assert len(record.redirects) == collectors.MAX_NOTICES_PER_KIND + 1
    assert record.redirects[0] == "'./mlruns0', where the code logs (t.py:0 and 2 other lines), is this run"
    assert record.redirects[-1].startswith("1,480 more places")
    assert record.tags["proj.redirects"] == shorten_tag("; ".join(record.redirects))
    assert len([event for event in events if "Redirected" in event.message]) == collectors.MAX_NOTICES_PER_KIND + 1


@pytest.mark.parametrize(
    "value", ["", "short", "a" * MAX_TAG_LENGTH, "a" * (MAX_TAG_LENGTH + 1), "; ".join(["word"] * 5000), "é; " * 9000]
)
def test_own_tags_fit_the_store(value: str) -> None:
    short = shorten_tag(value)
    assert len(short) <= MAX_TAG_LENGTH
    assert short == value or short.endswith("…")
    if "; " in value and short != value:
        assert set(short.split("; ")) <= {*value.split("; "), "…"}


def test_long_tags_and_many_notices_do_not_fail_a_run(
    home: Home, make_repository: MakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def talk(finished: collectors.Finished) -> None:
        for number in range(3 * MAX_NOTICES):
            finished.recorder.report(Event(kind=EventKind.NOTICE, message=f"notice {number} " + "x" * 10_000))
        finished.recorder.set_tags({"proj.repairs": "; ".join(f"repair {n}" for n in range(20_000))})
        finished.recorder.report(Event(kind=EventKind.WARNING, message="a warning has room of its own"))

    monkeypatch.setattr(collectors, "collect_inputs", talk)
    outcome, _ = run_here(make_repository({"MLproject": manifest("true")}), home)
    assert outcome.record.status == "FINISHED"
    assert len(outcome.record.notices) <= MAX_NOTICES + 2
    assert "a warning has room of its own" in outcome.record.notices
    assert outcome.record.tags["proj.repairs"].startswith("repair 0; repair 1;")


def test_a_script_that_listens_to_nobody_is_no_fault(home: Home, make_repository: MakeRepository) -> None:
    def deaf(_: Event) -> None:
        raise OSError(28, "No space left on device")

    root = make_repository({"MLproject": manifest("echo 'a@b=1' >> $PROJ_METRICS")})
    outcome = run_project(RunRequest(uri=str(root), environment_manager="local"), home, deaf, Echo.NONE)
    assert (outcome.record.status, outcome.record.metrics) == ("FINISHED", {"a_at_b": 1})
    assert outcome.record.notices


CLOSED = {
    "stderr": "2>&-",
    "stdout": ">&-",
    "all": "<&- >&- 2>&-",
    "full stderr": "2>/dev/full",
    "full stdout": ">/dev/full",
    "full": ">/dev/full 2>/dev/full",
}


@pytest.mark.parametrize("closing_words", CLOSED.values(), ids=CLOSED)
@pytest.mark.parametrize(
    ("command", "code", "status"), [("echo out; echo err >&2", 0, "FINISHED"), ("exit 3", 3, "FAILED")]
)
def test_closed_or_full_streams_change_nothing(
    proj: RunProj, make_repository: MakeRepository, closing_words: str, command: str, code: int, status: str
) -> None:
    root = make_repository({"MLproject": manifest(command)})
    line = f"exec {sys.executable} -m runner.cli.main run . --env-manager local {closing_words}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=root, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, timeout=60
    )
    assert done.returncode == code
    shown = proj("show", "latest", "--json").json
    assert (shown["status"], shown["exit_code"]) == (status, code)
    assert Path(shown["log"]).read_text() == ("" if code else "out\nerr\n")
    assert proj("list").code == 0


def test_json_that_nobody_can_take_is_said_and_the_run_stays(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": manifest("true")})
    line = f"exec {sys.executable} -m runner.cli.main run . --json --env-manager local >/dev/full"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "The output can't be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert proj("show", "latest", "--json").json["status"] == "FINISHED"


def children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        yield from map(int, (task / "children").read_text().split())


@pytest.mark.skipif(sys.platform != "linux", reason="children are read from /proc")
@pytest.mark.parametrize("words", [(), ("--timeout", "2")], ids=["end", "timeout"])
def test_a_stopped_supervisor_does_not_hang_the_run(
    make_repository: MakeRepository, tmp_path: Path, words: tuple[str, ...]
) -> None:
    ready, command = tmp_path / "ready", "while true; do echo on; sleep 0.1; done" if words else "sleep 1"
    root = make_repository({"MLproject": manifest(f"touch {ready}; {command}")})
    process = start_proj("run", ".", "--json", *LOCAL, *words, cwd=root)
    while not ready.exists():
        assert process.poll() is None
    for supervisor in children(process.pid):
        os.kill(supervisor, signal.SIGSTOP)
    out, _ = process.communicate(timeout=60)
    assert json.loads(out)["status"] == ("KILLED" if words else "FINISHED")
    assert process.returncode == (124 if words else 0)


@pytest.mark.parametrize(
    ("given_", "environ", "expected"),
    [
        ((None, None), {}, (None, None)),
        ((None, None), {"MLFLOW_EXPERIMENT_NAME": "e"}, ("e", None)),
        ((None, None), {"MLFLOW_EXPERIMENT_NAME": ""}, (None, None)),
        ((None, None), {"MLFLOW_EXPERIMENT_NAME": "e", "MLFLOW_EXPERIMENT_ID": "7"}, ("e", None)),
        ((None, None), {"MLFLOW_EXPERIMENT_NAME": "e", "MLFLOW_EXPERIMENT_ID": "7", "PROJ_RUN_ID": "r"}, (None, "7")),
        (("n", None), {"MLFLOW_EXPERIMENT_NAME": "e"}, ("n", None)),
        ((None, "3"), {"MLFLOW_EXPERIMENT_NAME": "e"}, (None, "3")),
        (("n", None), {"MLFLOW_EXPERIMENT_ID": "7", "PROJ_RUN_ID": "r"}, ("n", None)),
    ],
)
def test_one_rule_says_the_experiment(given_: Any, environ: dict[str, str], expected: Any) -> None:
    assert requested_experiment(*given_, environ) == expected


def test_the_variable_counts_for_programs_too(
    home: Home, make_repository: MakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_repository({"MLproject": manifest("true", "experiment: of the manifest\n")})
    assert run_here(root, home)[0].record.experiment == "of the manifest"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "exported")
    assert run_here(root, home)[0].record.experiment == "exported"
    assert run_here(root, home, experiment_name="asked")[0].record.experiment == "asked"


def test_a_run_of_the_future_is_not_the_latest(proj: RunProj, home: Home) -> None:
    with closing(Database.open(home.database)) as database:
        future = runs.create(database, NewRun(started_at=2**62, name="future")).run_id
        assert resolve(database, "latest") == future
        ahead = runs.create(database, NewRun(started_at=4_000_000_000_000)).run_id
        real = runs.create(database, NewRun()).run_id
        assert resolve(database, "latest") == real
        assert resolve(database, ahead) == ahead
    assert proj("show", "latest", "--json").json["run_id"] == real


@pytest.mark.parametrize(
    "command", ["true", "exit 3", "kill -9 $PPID", "date -d '1 year' > out; touch -d 1990-01-01 ."]
)
def test_a_clock_that_is_set_back_ends_no_run_before_its_start(
    home: Home, make_repository: MakeRepository, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    new_run = open_run._new_run
    later = partial(structs.replace, started_at=4_000_000_000_000)
    monkeypatch.setattr(open_run, "_new_run", lambda *words: later(new_run(*words)))
    record = run_here(make_repository({"MLproject": manifest(command)}), home)[0].record
    assert record.started_at == record.ended_at == "2096-10-02T07:06:40.000Z"
    assert record.resources is not None
    assert record.resources.wall_seconds >= 0


@pytest.mark.parametrize("details", [RunDetails(), RunDetails(command_status=RunStatus.FINISHED)])
def test_a_lost_run_does_not_end_before_its_start(home: Home, details: RunDetails) -> None:
    gone = structs.replace(this_process(), started="another process")
    with closing(Database.open(home.database)) as database:
        run = runs.create(database, NewRun(owner=gone, details=details, started_at=4_000_000_000_000))
        home.log(run.run_id).parent.mkdir(parents=True)
        home.log(run.run_id).touch()
        assert lost_runs.mark_lost(database) == [run.run_id]
        assert runs.get(database, run.run_id).ended_at == run.started_at
        other = runs.create(database, NewRun(started_at=4_000_000_000_000))
        assert runs.update(database, other.run_id, status=RunStatus.FINISHED).ended_at == other.started_at


@pytest.mark.parametrize("ended_as", [None, RunStatus.FINISHED, RunStatus.FAILED, RunStatus.KILLED])
def test_a_run_whose_process_is_gone_takes_the_status_of_its_command(home: Home, ended_as: RunStatus | None) -> None:
    gone = structs.replace(this_process(), started="another process")
    details = RunDetails(exit_code=0 if ended_as else None, command_status=ended_as)
    with closing(Database.open(home.database)) as database:
        run = runs.create(database, NewRun(owner=gone, details=details))
        assert lost_runs.mark_lost(database) == [run.run_id]
        found = runs.get(database, run.run_id)
    assert found.status is (ended_as or RunStatus.LOST)
    assert found.details.exit_code == details.exit_code
    assert bool(found.details.reason) == (ended_as is None)
    assert bool(found.details.notices) == (ended_as is not None)


def test_a_refused_start_leaves_no_record_and_says_why(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": manifest("true", "    parameters: {needed: string}\n")})
    refused = proj("run", ".", *LOCAL, cwd=root)
    assert refused.code == 1
    assert "needed" in refused.err
    assert json.loads(proj("list", "--json").out or "[]") == []


def test_the_reserve_is_made_once_and_given_up_once(home: Home) -> None:
    home.root.mkdir(parents=True)
    disk.keep_reserve(home)
    first = (home.root / "reserve").stat()
    assert first.st_size == disk.RESERVE_SIZE
    disk.keep_reserve(home)
    assert (home.root / "reserve").stat().st_ino == first.st_ino
    assert disk.release_reserve(home)
    assert not disk.release_reserve(home)


@pytest.mark.parametrize("kind", ["outputs", "inputs", "artifacts"])
@pytest.mark.parametrize("is_large", [True, False])
def test_files_that_take_long_to_read_are_announced(
    home: Home, make_repository: MakeRepository, monkeypatch: pytest.MonkeyPatch, kind: str, is_large: bool
) -> None:
    monkeypatch.setattr(run_inputs, "LARGE_VOLUME", 1000)
    size = 3000 if is_large else 900
    places = {"outputs": "out", "inputs": "", "artifacts": '"$(dirname "$PROJ_METRICS")"/artifacts/logged'}
    command = (
        f"mkdir -p $(dirname {places[kind]}); head -c {size} /dev/zero > {places[kind]}" if places[kind] else "true"
    )
    root = make_repository({"MLproject": manifest(command, "    inputs: [in.dat]\n"), ".gitignore": "in.dat\n"})
    (root / "in.dat").write_bytes(bytes(size if kind == "inputs" else 1))
    _, events = run_here(root, home)
    steps = [event.message for event in events if event.kind is EventKind.STEP and "digests" in event.message]
    assert steps == ([f"Reading the {kind} for their digests, 0 MB so far"] if is_large else [])
