"""Short commands of ours, run to their end with what they printed."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from runner.errors import ExecutionError


class Completed(Struct, frozen=True, kw_only=True):
    """A short child process that has ended; ``exit_code`` is negative when a signal ended it."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """The output as text without the final line end."""
        return self.stdout.decode("utf-8", "surrogateescape").rstrip("\n")

    @property
    def complaint(self) -> str:
        """What the process said on its error stream, as text."""
        return self.stderr.decode("utf-8", "replace").strip()


def capture(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout: float | None = None,
) -> Completed:
    """Run a short command of ours to its end and return what it printed.

    The exit code is the caller's to judge.

    Raises:
        ExecutionError: the program can't be started or took longer than ``timeout`` seconds.
    """
    words = tuple(str(word) for word in argv)
    try:
        done = subprocess.run(  # noqa: S603
            words, cwd=cwd, env=env, input=stdin, capture_output=True, timeout=timeout, check=False
        )
    except FileNotFoundError as error:
        raise ExecutionError(f"'{words[0]}' can't be started: there is no such program", context=str(error)) from error
    except subprocess.TimeoutExpired as error:
        raise ExecutionError(f"'{words[0]}' took longer than {timeout} s and was stopped") from error
    return Completed(argv=words, exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr)
