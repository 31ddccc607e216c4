"""Runs commands of runs: on this machine or in containers."""

from collections.abc import Mapping

from runner.executors.container import ContainerExecutor, check_options
from runner.executors.contract import Capabilities, ExecutionRequest, Executor, Sharing
from runner.executors.local import LocalExecutor
from runner.executors.orphaned_containers import remove_orphaned_containers
from runner.executors.tracing import check_trace
from runner.executors.variables import child_environment

EXECUTORS: Mapping[str, Executor] = {"local": LocalExecutor(), "container": ContainerExecutor()}
"""The executors by the name that the user types."""

__all__ = [
    "EXECUTORS",
    "Capabilities",
    "ExecutionRequest",
    "Executor",
    "Sharing",
    "check_options",
    "check_trace",
    "child_environment",
    "remove_orphaned_containers",
]
