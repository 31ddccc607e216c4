"""Implements the Python interface; events go to the logger ``proj``."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import msgspec

from runner.base.lazy import LazyModule
from runner.model import Event, EventKind, RunRecord, RunRequest
from runner.process import Echo
from runner.runs.local import LocalReader
from runner.runs.opening import open_remote, server_to_read
from runner.runs.reader import RunDescription, RunQuery, RunReader, description_of
from runner.settings import Exposure, enter_home
from runner.store import lost_runs
from runner.store.database import Database
from runner.store.search import RecordPage
from runner.workflow import run_project

if TYPE_CHECKING:
    import pandas as pd

    from runner.reproduction import reproducing, verdict
else:
    reproducing = LazyModule("runner.reproduction.reproducing")

LOG = logging.getLogger("proj")


def run(
    uri: str, entry_point: str | None, parameters: Mapping[str, object], options: Mapping[str, object]
) -> RunRecord:
    """Run an entry point to its end and return its record.

    Raises:
        TypeError: an option does not exist or has a wrong type.
        ProjError: the run could not be started, or its environment could not be built.
    """
    texts = {name: str(value) for name, value in parameters.items()}
    facts = {"uri": uri, "entry_point": entry_point, "parameters": texts, **options}
    unknown = sorted(set(facts) - set(RunRequest.__struct_fields__))
    if unknown:
        raise TypeError(f"run() has no option {', '.join(map(repr, unknown))}")
    try:
        request = msgspec.convert(facts, RunRequest)
    except msgspec.ValidationError as error:
        raise TypeError(str(error)) from error
    home = enter_home(_warn, writing=True)
    Database.check(home.database)
    outcome = run_project(request, home, _log_event, Echo.SPLIT)
    if outcome.error:
        raise outcome.error
    return outcome.record


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
    home = enter_home(_warn, writing=True)
    Database.check(home.database)
    return reproducing.reproduce(request, home, _log_event, Echo.SPLIT)


def search_runs(
    query: Mapping[str, object], *, as_frame: bool = False, tracking_uri: str | None = None
) -> "list[RunRecord] | pd.DataFrame":
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
    records = list(_search(run_query, tracking_uri).records)
    return _frame(records) if as_frame else records


def get_run(reference: str, *, tracking_uri: str | None = None) -> RunDescription:
    """Return a run with everything that belongs to it.

    Raises:
        ProjError: no run matches, or the server fails.
    """
    with _open_reader(tracking_uri) as reader:
        return description_of(reader.record(reference), reader.relations(reference))


@contextmanager
def _open_reader(tracking_uri: str | None) -> Iterator[RunReader]:
    uri = server_to_read(tracking_uri or None, local=tracking_uri == "")
    if uri is not None:
        with open_remote(uri, LOG.info) as reader:
            LOG.info("reading %s", reader.server)
            yield reader
        return
    home = enter_home(_warn)
    with closing(Database.open_to_read(home.database)) as database:
        lost_runs.show_lost(database)
        yield LocalReader(database, home, LOG.info)


def _search(query: RunQuery, tracking_uri: str | None) -> RecordPage:
    with _open_reader(tracking_uri) as reader:
        return reader.search(query)


def _warn(exposure: Exposure) -> None:
    LOG.warning("%s: %s", exposure.message, exposure.hint)


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


def _log_event(event: Event) -> None:
    LOG.log(logging.WARNING if event.kind is EventKind.WARNING else logging.INFO, "%s", event.message)
