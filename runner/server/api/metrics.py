"""Endpoints for the histories of metrics."""

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
"""Values in memory at once while a whole history is sent."""

_MAX_POINTS = 25_000
"""Maximum number of values in one response about several runs."""

_MAX_RUNS = 100


def history(tracking: Tracking, request: MetricHistory) -> object:
    """Get the history of a metric; all of it without a limit, because old clients do not request further pages."""
    run_id, key = run_of(request), request.metric_key
    limit = _PAGE if request.max_results is None else request.max_results
    page = values.metric_history(tracking.database, run_id, key, limit, request.page_token)
    points = [responses.metric(point) for point in page.items]
    if page.next_page_token is None:
        return {"metrics": points}
    if request.max_results is None:
        return Stream(_whole(all_points(tracking.database, run_id, key, _PAGE)))
    return {"metrics": points, "next_page_token": page.next_page_token}


def histories(tracking: Tracking, request: MetricHistories) -> object:
    """Get the history of a metric in several runs, run by run, up to the limit."""
    run_ids = sorted(_checked(request.run_id))
    found: list[responses.MetricPoint] = []
    for run_id in run_ids:
        points = all_points(tracking.database, run_id, request.metric_key, _PAGE)
        left = min(request.max_results, _MAX_POINTS) - len(found)
        found.extend(responses.metric(point, run_id=run_id) for point in itertools.islice(points, left))
    return {"metrics": found}


def intervals(tracking: Tracking, request: MetricIntervals) -> object:
    """Get evenly sampled values of a metric in several runs, up to the limit for each."""
    run_ids, steps = _checked(request.run_ids), _steps(request)
    return {
        "metrics": [
            responses.metric(point, run_id=run_id)
            for run_id in run_ids
            for point in sampled(tracking.database, run_id, request.metric_key, request.max_results, steps)
        ]
    }


def _whole(points: Iterator[Metric]) -> Iterator[bytes]:
    """Yield the JSON of a whole history in pieces."""
    before = b'{"metrics":['
    while page := [responses.metric(point) for point in itertools.islice(points, _PAGE)]:
        yield before + msgspec.json.encode(page)[1:-1]
        before = b","
    yield b"]}"


def _checked(run_ids: tuple[str, ...]) -> tuple[str, ...]:
    if not run_ids:
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, "Name at least one run.")
    if len(run_ids) > _MAX_RUNS:
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, f"One request can name at most {_MAX_RUNS} runs.")
    return run_ids


def _steps(request: MetricIntervals) -> tuple[int, int]:
    start, end = request.start_step, request.end_step
    if start is None and end is None:
        return EVERY_STEP
    if start is None or end is None:
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, "Send start_step and end_step together, or neither.")
    if start > end:
        raise RefusedError(ErrorCode.INVALID_PARAMETER_VALUE, "start_step must not be greater than end_step.")
    return start, end


ROUTES = (
    Route("GET", "metrics/get-history", MetricHistory, history),
    Route("GET", "metrics/get-history-bulk", MetricHistories, histories, is_long=True),
    Route("GET", "metrics/get-history-bulk-interval", MetricIntervals, intervals, is_long=True),
)
