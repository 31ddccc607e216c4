"""Implements the Python interface; events go to the logger ``proj``."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from runner.base.lazy import LazyModule
from runner.interactive.reading import chosen_uri, enter_home, log_event, open_reader
from runner.interactive.runs import DescribedRun, Run, RunList, described_run, run_of, runs_of
from runner.model import RunRecord, RunRequest
from runner.process import Echo
from runner.runs.reader import RunQuery, description_of
from runner.store.database import Database
from runner.workflow import run_project

if TYPE_CHECKING:
    import pandas as pd

    from runner.interactive import active_run, handle, own_plan
    from runner.reproduction import reproducing, verdict
else:
    active_run = LazyModule("runner.interactive.active_run")
    own_plan = LazyModule("runner.interactive.own_plan")
    handle = LazyModule("runner.interactive.handle")
    reproducing = LazyModule("runner.reproduction.reproducing")


def run(uri: str, entry_point: str | None, parameters: Mapping[str, object], options: Mapping[str, object]) -> Run:
    """Run an entry point to its end and return its record.

    Raises:
        TypeError: an option does not exist or has a wrong type.
        ProjError: the run could not be started, or its environment could not be built.
    """
    request = _request(uri, entry_point, parameters, options)
    home = enter_home(writing=True)
    Database.check(home.database)
    outcome = run_project(request, home, log_event, Echo.SPLIT)
    if outcome.error:
        raise outcome.error
    return run_of(outcome.record)


def start(
    uri: str, entry_point: str | None, parameters: Mapping[str, object], options: Mapping[str, object]
) -> "handle.RunHandle":
    """Start a run in the background and return its handle as soon as the record is open.

    Raises:
        TypeError: an option does not exist or has a wrong type.
        ProjError: the run could not be started.
    """
    return handle.RunHandle(_request(uri, entry_point, parameters, options))


def _request(
    uri: str, entry_point: str | None, parameters: Mapping[str, object], options: Mapping[str, object]
) -> RunRequest:
    words = {name: str(value) for name, value in parameters.items()}
    facts = {"uri": uri, "entry_point": entry_point, "parameters": words, **options}
    unknown = sorted(set(facts) - set(RunRequest.__struct_fields__))
    if unknown:
        raise TypeError(f"run() has no option {', '.join(map(repr, unknown))}")
    try:
        return msgspec.convert(facts, RunRequest)
    except msgspec.ValidationError as error:
        raise TypeError(str(error)) from error


def start_run(asked: Mapping[str, object]) -> "active_run.ActiveRun":
    """Open a run for this process.

    Raises:
        TypeError: an argument has a wrong type.
        ProjError: the run can't be recorded.
    """
    try:
        request = msgspec.convert(asked, own_plan.ProcessRequest)
    except msgspec.ValidationError as error:
        raise TypeError(f"start_run(): {error}") from error
    return active_run.start_run(request)


def reproduce(options: Mapping[str, object]) -> "verdict.Reproduction":
    """Reproduce a run and return the result.

    Raises:
        TypeError: an option does not exist or has a wrong type.
        ProjError: the run does not exist, or its record is not sufficient.
    """
    unknown = sorted(set(options) - set(reproducing.ReproduceRequest.__struct_fields__))
    if unknown:
        raise TypeError(f"reproduce() has no option {', '.join(map(repr, unknown))}")
    try:
        request = msgspec.convert(dict(options), reproducing.ReproduceRequest)
    except msgspec.ValidationError as error:
        raise TypeError(str(error)) from error
    home = enter_home(writing=True)
    Database.check(home.database)
    return reproducing.reproduce(request, home, log_event, Echo.SPLIT)


def search_runs(
    query: Mapping[str, object], *, as_frame: bool = False, tracking_uri: str | None = None
) -> "RunList | pd.DataFrame":
    """Return the records of a search, as a list or as a DataFrame.

    Raises:
        TypeError: a value of the query has a wrong type.
        ImportError: ``as_frame`` is set and pandas is not installed.
        ProjError: the search failed.
    """
    if as_frame:
        _check_pandas()
    order = query["order_by"] or ()
    try:
        run_query = msgspec.convert({**query, "order_by": (order,) if isinstance(order, str) else order}, RunQuery)
    except msgspec.ValidationError as error:
        raise TypeError(f"search_runs(): {error}".replace("$.limit", "max_results")) from error
    with open_reader(tracking_uri) as reader:
        records = reader.search(run_query).records
    return _frame(records) if as_frame else runs_of(records, chosen_uri(tracking_uri))


def get_run(reference: str, *, tracking_uri: str | None = None) -> DescribedRun:
    """Return a run with everything that belongs to it.

    Raises:
        ProjError: no run matches, or the server fails.
    """
    with open_reader(tracking_uri) as reader:
        found = description_of(reader.record(reference), reader.relations(reference))
    return described_run(found, chosen_uri(tracking_uri))


def _check_pandas() -> None:
    try:
        import pandas as pd  # noqa: F401  fails before the search, not after it
    except ImportError as error:
        raise ImportError(
            "search_runs(as_frame=True) needs pandas, which is not installed: pip install pandas"
        ) from error


def _frame(records: Sequence[RunRecord]) -> "pd.DataFrame":
    """Return records as a table: the plain fields, then a column for each metric, parameter and tag."""
    import pandas as pd

    plain = (
        "run_id",
        "run_name",
        "experiment",
        "status",
        "exit_code",
        "started_at",
        "ended_at",
        "project",
        "entry_point",
    )
    rows = [{name: getattr(record, name) for name in plain} | _code(record) for record in records]
    frame = pd.DataFrame(rows, columns=[*plain, "commit", "dirty"])
    for name in ("started_at", "ended_at"):
        frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
    groups: dict[str, list[Mapping[str, object]]] = {
        "metrics": [record.metrics for record in records],
        "params": [{one.name: one.value for one in record.parameters} for record in records],
        "tags": [record.tags for record in records],
    }
    # Joined in one step: adding thousands of columns one by one is slow.
    more = {
        f"{kind}.{name}": [values.get(name) for values in found]
        for kind, found in groups.items()
        for name in sorted({name for values in found for name in values})
    }
    return pd.concat([frame, pd.DataFrame(more, index=frame.index)], axis=1)


def _code(record: RunRecord) -> dict[str, object]:
    return {"commit": record.code.commit, "dirty": record.code.dirty} if record.code else {}
