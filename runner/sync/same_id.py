"""Finds a run on a server by its local id, and checks that it is the same run."""

import os

from runner.base.tags import TREE_TAG
from runner.errors import RemoteError, UsageError
from runner.store import runs
from runner.store.database import Database
from runner.store.entities import LifecycleStage, Run
from runner.sync import sync_state
from runner.sync.client import RemoteServer, ServerRun
from runner.sync.push_context import digest_of, is_refusal
from runner.sync.sync_state import RemoteRun, SentPosition

PROBE_TAG = "probe.of.proj"
"""Temporary tag that shows whether the server serves this store."""


def run_of_same_id(database: Database, server: RemoteServer, run: Run, copy: RemoteRun) -> ServerRun | None:
    """Return the server's run with the id of a local run, which was pulled from there or sent there; None if absent.

    Raises:
        UsageError: the server serves this store, so it is the same run.
        RemoteError: the run is deleted on the server, or another run has this id there.
    """
    try:
        found = server.run(run.run_id)
    except RemoteError as error:
        # Servers with ids of another format may refuse this one.
        if error.is_absent or is_refusal(error):
            return None
        raise
    _check_same(server, run, found)
    word = os.urandom(8).hex()
    server.log_batch(run.run_id, tags={PROBE_TAG: word})
    is_ours = runs.get(database, run.run_id).tags.get(PROBE_TAG) == word
    server.delete_tag(run.run_id, PROBE_TAG)
    if is_ours:
        sync_state.remove_remote_run(database, copy)
        raise UsageError(f"{server.url} serves this store, which has the run already", hint="name another server")
    same_tags = {key: value for key, value in run.tags.items() if found.tags.get(key) == value}
    same_params = {key: value for key, value in run.params.items() if found.params.get(key) == value}
    for kind, things in (("tag", same_tags), ("parameter", same_params)):
        sync_state.record_sent(
            database, copy, kind, {key: SentPosition(digest_of(value)) for key, value in things.items()}
        )
    return found


def deleted_there(server: RemoteServer, run_id: str) -> RemoteError:
    """Return the error for a run in the trash of a server."""
    return RemoteError(f"The run {run_id[:8]} is deleted on {server.url}", status=400, hint="restore it there")


def _check_same(server: RemoteServer, run: Run, found: ServerRun) -> None:
    """Refuse a run of another content before anything is written to it: the start and the code never change."""
    trees = {one.tags[TREE_TAG] for one in (run, found) if one.tags.get(TREE_TAG)}
    if found.started_at != run.started_at or len(trees) > 1:
        what = "code" if len(trees) > 1 else "start time"
        raise RemoteError(
            f"{server.url} has another run with the id {run.run_id}",
            status=409,
            context=f"its {what} is not that of the run here",
            hint="nothing was sent; remove one of the two runs",
        )
    if found.lifecycle_stage is not LifecycleStage.ACTIVE:
        raise deleted_there(server, run.run_id)
