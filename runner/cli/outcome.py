"""Prints how a run ended: metrics, outputs, the place of a failure, and what to do next."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from runner.base.durations import format_duration
from runner.base.tags import METRIC_TAG
from runner.cli.output import declaration_summary, duration, size
from runner.cli.text import print_important, print_message, printable
from runner.model import RunRecord, RunStatus

_METRICS = 8
_OUTPUTS = 5


def describe_code(record: RunRecord) -> str:
    """Describe the code of a run in one line."""
    code = record.code
    if code is None:
        return "code unknown"
    if code.commit is None:
        return f"tree {code.tree[:12]} (not in git)"
    where = f" on {code.branch}" if code.branch else ""
    if not code.dirty:
        return f"commit {code.commit[:12]}{where}, clean"
    count = len(code.changed_files)
    changes = "1 file differs" if count == 1 else f"{count} files differ"
    return f"commit {code.commit[:12]}{where}, dirty: {changes}, tree {code.tree[:12]}"


def print_outcome(record: RunRecord, project: Path | None, *, is_explained: bool = False) -> None:
    """Print the outcome of a run to stderr.

    ``project`` is the user's project folder, None if the code is from elsewhere. ``is_explained`` means that the error
    that ended the run was printed before.
    """
    run_id = (record.run_id or "")[:8]
    is_finished = record.status == RunStatus.FINISHED.value
    colour = "green" if is_finished else "red"
    say = print_message if is_finished else print_important
    say(f"run {run_id} ({record.run_name}) {record.status}{_duration(record)}", fg=colour, bold=True)
    print_message(f"  code: {describe_code(record)}")
    if record.environment and record.environment.manager != "local":
        print_message(f"  environment: {declaration_summary(record.environment)}")
    if record.repairs:
        print_message(f"  repaired: {'; '.join(record.repairs)}")
    if record.redirects:
        print_message(f"  tracking: {'; '.join(record.redirects)}")
    for line in _metrics(record):
        print_message(f"  {line}")
    if record.outputs:
        shown = [f"{printable(file.path)} ({size(file.size)})" for file in record.outputs[:_OUTPUTS]]
        print_message(f"  outputs: {_listed(shown, len(record.outputs))}")
    if record.failed_at:
        print_important(f"  failed at: {locate_failure(record.failed_at, project)}", fg="red")
    if record.reason and not is_explained:
        print_important(f"  why: {record.reason}")
    is_copy = _is_copy(record, project)
    if not is_finished and record.exit_code is not None and is_copy:
        print_message(f"  run folder, a read-only copy: {record.folder}")
    if record.status == RunStatus.KILLED.value and is_copy:
        print_message(f"  continue: proj run --resume {run_id}")
    print_message(f"  next: proj show {run_id}")


def _is_copy(record: RunRecord, project: Path | None) -> bool:
    """Return whether the run had a folder of its own."""
    folder = Path(record.folder) if record.folder else None
    return folder is not None and (project is None or folder not in (project, *project.parents))


def locate_failure(failed_at: str, project: Path | None) -> str:
    """Return place and error of a failure with the path of the user's own file, relative to the current folder."""
    found = re.fullmatch(r"(.*?)(:\d+|, cell \d+)(.*)", failed_at, re.DOTALL)
    place, line, error = found.groups() if found else (failed_at, "", "")
    path = project / place if project else None
    if path is None or not path.is_file():
        return failed_at
    shown = os.path.relpath(path.resolve(), Path.cwd().resolve())
    return f"{path if shown.startswith('..') else shown}{line}{error}"


def _duration(record: RunRecord) -> str:
    """Return how long the run took, and how long its command if the preparation took a while."""
    took = duration(record)
    if not took:
        return ""
    command = record.resources and format_duration(record.resources.wall_seconds)
    return f" in {took}" if not command or command == took else f" in {took}, of which the command {command}"


def _metrics(record: RunRecord) -> list[str]:
    """Return the metrics, the primary one first."""
    primary = record.tags.get(METRIC_TAG)
    names = sorted(record.metrics, key=lambda name: (name != primary, name))
    lines = [f"{printable(name)} = {record.metrics[name]:g}" for name in names[:_METRICS]]
    return [*lines, f"+{len(names) - _METRICS} more"] if len(names) > _METRICS else lines


def _listed(shown: Sequence[str], count: int) -> str:
    more = [f"+{count - len(shown)} more"] if count > len(shown) else []
    return ", ".join([*shown, *more])
