"""The states of the runs of a command: the whole table, and random sequences of what clients send."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.model import RunStatus
from runner.server.run.child_runs import TRANSITIONS, ChildRun, ChildRuns, Signal, State
from runner.store.entities import LifecycleStage, Run

STATUSES = st.sampled_from(RunStatus)
STORED = Run(
    run_id="r",
    experiment_id="stored",
    name="n",
    user="u",
    status=RunStatus.FINISHED,
    started_at=1,
    ended_at=2,
    lifecycle_stage=LifecycleStage.ACTIVE,
    artifact_uri="file:///a",
)


def run_in(state: State) -> ChildRun:
    return ChildRun(run_id="r", state=state)


def test_the_table_has_every_state_and_signal_and_every_state_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(product(State, Signal))
    first = {State.WAITING, State.PROJECT, State.CREATED, State.RECORDED, State.EARLIER}
    assert first | {transition.state for transition in TRANSITIONS.values()} == set(State)


@pytest.mark.parametrize("status", RunStatus)
def test_each_status_is_one_signal(status: RunStatus) -> None:
    assert (Signal.of(status) is Signal.ENDED) == status.is_over
    assert (Signal.of(status) is Signal.STARTED) == (status is RunStatus.RUNNING)


@given(state=st.sampled_from(State), statuses=st.lists(STATUSES, max_size=8))
def test_runs_do_not_change_their_origin(state: State, statuses: list[RunStatus]) -> None:
    """A run of proj's record stays one, and a created run stays a created one, whatever clients send."""
    run = run_in(state)
    before = (run.is_recorded, run.is_created)
    stored = [run.apply(status, 5)[0].stores for status in statuses]
    assert (run.is_recorded, run.is_created) == before
    if run.is_recorded:
        assert not any(stored)
    elif run.is_created:
        assert all(stored)
    else:
        assert stored == [status.is_over for status in statuses]


@given(state=st.sampled_from(State), statuses=st.lists(STATUSES, min_size=1, max_size=8), ended_at=st.integers())
def test_a_client_reads_the_status_that_it_set(state: State, statuses: list[RunStatus], ended_at: int) -> None:
    run = run_in(state)
    for status in statuses:
        run.apply(status, ended_at)
    shown = run.view(STORED, attaching=False)
    if run.is_created:
        assert shown is STORED  # the stored status is the one that the client set
    else:
        assert (shown.status, shown.ended_at) == (statuses[-1], ended_at if statuses[-1].is_over else None)


@given(statuses=st.lists(st.tuples(STATUSES, st.none() | st.sampled_from(("1", "2"))), max_size=10))
def test_the_own_run_follows_each_script_to_the_experiment_that_it_requests_last(
    statuses: list[tuple[RunStatus, str | None]],
) -> None:
    """Each client that attaches after an end takes the request before it; a second start takes none."""
    runs = ChildRuns("r")
    requested: str | None = None
    is_attached = False
    for status, experiment in statuses:
        if experiment is not None:
            runs.request_experiment(experiment)
            requested = requested if is_attached else experiment
        selected = runs.own.apply(status, None)[1]
        attaches = status is RunStatus.RUNNING and not is_attached
        assert selected == (requested if attaches else None)
        requested = None if attaches else requested
        is_attached = not status.is_over and (is_attached or attaches)
    assert runs.own.is_waiting == (not is_attached)


def test_a_request_is_for_the_newest_run_that_waits() -> None:
    """``mlflow.run`` in a script creates a run, whose client comes before the script goes on."""
    runs = ChildRuns("own")
    runs.add("project", State.PROJECT)
    runs.add("nested", State.CREATED)
    project = runs.find("project")
    assert project is not None
    runs.request_experiment("7")
    assert (project.requested_experiment, runs.own.requested_experiment) == ("7", None)
    assert project.apply(RunStatus.RUNNING, None)[1] == "7"
    runs.request_experiment("8")
    assert (project.requested_experiment, runs.own.requested_experiment) == (None, "8")


@pytest.mark.parametrize("attaching", [True, False])
@pytest.mark.parametrize("state", State)
def test_only_a_client_that_attaches_sees_the_experiment_that_it_requested(state: State, attaching: bool) -> None:
    run = run_in(state)
    run.requested_experiment = "requested"
    shown = run.view(STORED, attaching=attaching).experiment_id
    assert shown == ("requested" if attaching and state in (State.WAITING, State.PROJECT) else "stored")


def test_an_attached_run_is_shown_in_the_requested_experiment_until_the_next_client_requests_another() -> None:
    runs = ChildRuns("r")
    runs.request_experiment("1")
    runs.own.apply(RunStatus.RUNNING, None)
    assert runs.own.view(STORED, attaching=False).experiment_id == "1"
    runs.own.apply(RunStatus.FINISHED, 9)
    runs.own.apply(RunStatus.RUNNING, None)  # this client requests none
    assert runs.own.view(STORED, attaching=True).experiment_id == "1"
