"""Starts child processes: short helper commands (`capture`) and the command of a run (`run`).

No other package starts a process.
"""

from runner.process.detached import Release, start_detached
from runner.process.execution import run
from runner.process.link import SupervisorHandle, prepare
from runner.process.programs import find_program
from runner.process.request import Echo, Outcome, ProcessRequest, Stdin
from runner.process.short import OUTPUT_LIMIT, Bounds, Completed, capture
from runner.process.stop_sequence import Interrupted, raising_signals

__all__ = [
    "OUTPUT_LIMIT",
    "Bounds",
    "Completed",
    "Echo",
    "Interrupted",
    "Outcome",
    "ProcessRequest",
    "Release",
    "Stdin",
    "SupervisorHandle",
    "capture",
    "find_program",
    "prepare",
    "raising_signals",
    "run",
    "start_detached",
]
