"""Where commands run."""

from collections.abc import Mapping

from runner.executors.contract import Capabilities, ExecutionRequest, Executor
from runner.executors.local import LocalExecutor
from runner.executors.variables import child_environment

EXECUTORS: Mapping[str, Executor] = {"local": LocalExecutor()}
"""The executors by the name that the user types."""

__all__ = ["EXECUTORS", "Capabilities", "ExecutionRequest", "Executor", "child_environment"]
