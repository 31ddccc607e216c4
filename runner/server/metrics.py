"""The endpoints for histories of metrics."""

from itertools import islice

from runner.server import shapes
from runner.server.protocol import MetricHistories, MetricHistory
from runner.server.tracking import Route, Tracking, run_of
from runner.store import values
from runner.store.curves import all_points


def history(tracking: Tracking, asked: MetricHistory) -> object:
    """Tell the points of a metric; all of them when the client sets no limit, as old ones don't ask for more pages."""
    run_id = run_of(asked)
    if asked.max_results is None:
        points = [shapes.metric(point) for point in all_points(tracking.database, run_id, asked.metric_key)]
        return {"metrics": points}
    page = values.metric_history(tracking.database, run_id, asked.metric_key, asked.max_results, asked.page_token)
    return {
        "metrics": [shapes.metric(point) for point in page.items],
        **({"next_page_token": page.next_page_token} if page.next_page_token else {}),
    }


def histories(tracking: Tracking, asked: MetricHistories) -> object:
    """Tell the points of a metric in several runs, of each run as many as fit the limit."""
    found: list[shapes.MetricPoint] = []
    for run_id in (*asked.run_id, *asked.run_ids):
        points = all_points(tracking.database, run_id, asked.metric_key)
        within = (point for point in points if _is_within(point.step, asked))
        found.extend(shapes.metric(point, run_id=run_id) for point in islice(within, asked.max_results))
    return {"metrics": found}


def _is_within(step: int, asked: MetricHistories) -> bool:
    return (asked.start_step is None or step >= asked.start_step) and (asked.end_step is None or step <= asked.end_step)


ROUTES = (
    Route("GET", "metrics/get-history", MetricHistory, history),
    Route("GET", "metrics/get-history-bulk", MetricHistories, histories),
    Route("GET", "metrics/get-history-bulk-interval", MetricHistories, histories),
)
