"""Starts a part of this program in a process of its own, from any thread of any program."""

import contextlib
import subprocess
import sys
from pathlib import Path

from runner.errors import ExecutionError

_ROOT = Path(__file__).resolve().parents[2]
_START = """\
import sys
sys.path.insert(0, {root!r})
import proj_runner
sys.path[:] = proj_runner.own_import_path(sys.path, proj_runner.user_folders(), proj_runner.installed_folders())
from {module} import main
main()
"""
"""The user's folders may shadow the packages that proj imports, so they are not imported from."""


def start_module(module: str, stdin: bytes) -> "subprocess.Popen[bytes]":
    """Call ``main`` of a module of this program in a session of its own; its stdout is a pipe.

    Raises:
        ExecutionError: the system can't start a process.
    """
    try:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", _START.format(root=str(_ROOT), module=module)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # An interruption of the caller, as in a terminal or a notebook, is not one of the new process.
            start_new_session=True,
        )
    except OSError as error:
        raise ExecutionError(
            "the system can't start a process", context=f"{sys.executable}: {error.strerror}"
        ) from error
    if process.stdin is not None:
        # A process that ends before it reads is noticed by the end of its output.
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(stdin)
    return process
