"""The endpoints for histories of metrics."""

import itertools
from collections.abc import Iterator

import msgspec

from runner.protocol import responses
from runner.protocol.errors import ErrorCode, RefusedError
from runner.protocol.requests import MetricHistories, MetricHistory, MetricIntervals
from runner.server.api.tracking import Route, Stream, Tracking, run_of
from runner.store import values
from runner.store.downsampling import EVERY_STEP, all_points, sampled
from runner.store.entities import Metric

_PAGE = 5000
"""Points that are in memory at once when a whole history is told."""

_MOST = 25_000
"""Points in one answer about several runs."""

_MAX_RUNS = 100


def history(tracking: Tracking, asked: MetricHistory) -> object:
    """Tell the points of a metric; all of them when the client sets no limit, as old ones don't ask for more pages."""
    run_id, key = run_of(asked), asked.metric_key
    limit = _PAGE if asked.max_results is None else asked.max_results
    page = values.metric_history(tracking.database, run_id, key, limit, asked.page_token)
    told = [responses.metric(point) for point in page.items]
    if page.next_page_token is None:
        return {"metrics": told}
    if asked.max_results is None:
        return Stream(_whole(all_points(tracking.database, run_id, key, _PAGE)))
    return {"metrics": told, "next_page_token": page.next_page_token}


def histories(tracking: Tracking, asked: MetricHistories) -> object:
    """Tell the points of a metric in several runs, run by run, as many as the limit allows."""
    run_ids = sorted(_checked(asked.run_id))
    found: list[responses.MetricPoint] = []
    for run_id in run_ids:
        points = all_points(tracking.database, run_id, asked.metric_key, _PAGE)
        left = min(asked.max_results, _MOST) - len(found)
        found.extend(responses.metric(point, run_id=run_id) for point in itertools.islice(points, left))
    return {"metrics": found}


def intervals(tracking: Tracking, asked: MetricIntervals) -> object:
    """Tell points of a metric in several runs, of each as many as the limit allows, evenly taken."""
    run_ids, steps = _checked(asked.run_ids), _steps(asked)
    return {
        "metrics": [
            responses.metric(point, run_id=run_id)
            for run_id in run_ids
            for point in sampled(tracking.database, run_id, asked.metric_key, asked.max_results, steps)
        ]
    }


def _whole(points: Iterator[Metric]) -> Iterator[bytes]:
    """Yield the JSON of a whole history, some points at a time."""
    before = b'{"metrics":['
    while page := [responses.metric(point) for point in itertools.islice(points, _PAGE)]:
        yield before + msgspec.json.encode(page)[1:-1]
        before = b","
    yield b"]}"


def _checked(run_ids: tuple[str, ...]) -> tuple[str, ...]:
    if not run_ids:
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, "Name the runs.")
    if len(run_ids) > _MAX_RUNS:
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, f"At most {_MAX_RUNS} runs can be asked for at once.")
    return run_ids


def _steps(asked: MetricIntervals) -> tuple[int, int]:
    start, end = asked.start_step, asked.end_step
    if start is None and end is None:
        return EVERY_STEP
    if start is None or end is None:
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, "start_step and end_step go together.")
    if start > end:
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, "start_step must not be greater than end_step.")
    return start, end


ROUTES = (
    Route("GET", "metrics/get-history", MetricHistory, history),
    Route("GET", "metrics/get-history-bulk", MetricHistories, histories, is_long=True),
    Route("GET", "metrics/get-history-bulk-interval", MetricIntervals, intervals, is_long=True),
)
