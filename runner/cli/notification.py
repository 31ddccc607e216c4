"""Runs the command in ``PROJ_NOTIFY`` when a run has ended."""

import os

from runner.cli.output import duration
from runner.cli.text import print_warning
from runner.errors import ExecutionError
from runner.model import RunRecord
from runner.process import capture

NOTIFY = "PROJ_NOTIFY"
TIMEOUT = 20.0
"""Seconds after which a notification is given up."""
_SHOWN = 300


def notify(record: RunRecord) -> None:
    """Run the user's command with facts about a run as variables; a command that fails is only reported.

    A run inside another one is not announced.
    """
    command = os.environ.get(NOTIFY, "").strip()
    if not command or os.environ.get("PROJ_RUN_ID"):
        return
    facts = {
        "PROJ_RUN_ID": record.run_id or "",
        "PROJ_RUN_NAME": record.run_name or "",
        "PROJ_RUN_STATUS": record.status or "",
        "PROJ_RUN_EXIT_CODE": "" if record.exit_code is None else str(record.exit_code),
        "PROJ_RUN_DURATION": duration(record),
        "PROJ_RUN_ENTRY_POINT": record.entry_point or "",
    }
    try:
        done = capture(["sh", "-c", command], env={**os.environ, **facts}, timeout=TIMEOUT)
    except ExecutionError as error:
        print_warning(f"{NOTIFY} failed: {error.message}")
        return
    if done.exit_code:
        why = done.error_text.strip()[:_SHOWN] or f"exit code {done.exit_code}"
        print_warning(f"{NOTIFY} failed: {why}")
