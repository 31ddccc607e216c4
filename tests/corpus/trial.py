"""One project, run by a process of its own with a home of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, structs

from tests.corpus.causes import Evidence, cause_of_failure, cause_of_refusal
from tests.corpus.mirrors import Whole
from tests.corpus.projects import Project

ROOT = Path(__file__).parent.parent.parent
GRACE = 30.0
"""Seconds that proj has to stop its command and close the record after the time is up."""
HINTED = re.compile(r"--serve-as [\w.-]+:\d+|--add-missing")
"""Options that proj names in its hints and that any user may follow without thinking."""
LEAKS = ("PROJ_", "MLFLOW_", "GIT_", "VIRTUAL_ENV", "PYTHON", "CONDA_")


class Trial(Struct, frozen=True, kw_only=True):
    """How a project fared.

    ``seconds`` is all of it: code, environment, command. ``options`` are those that hints of proj named and that were
    given in a second attempt. ``lacking`` counts files that its mirror does not have.
    """

    repo: str
    subdir: str
    entry: str
    outcome: str
    seconds: float
    python: str = ""
    cause: str = ""
    recorded: str = ""
    environment: str = ""
    options: str = ""
    mlflow: str = ""
    ceiling: str = ""
    lacking: int = 0


class Ended(Struct, frozen=True, kw_only=True):
    """What is left of a process."""

    code: int
    out: bytes
    printed: str
    seconds: float
    timed_out: bool


def run_trial(whole: Whole, workdir: Path, timeout: float) -> Trial:
    """Run a project by ``proj run``, a second time with the options that its hints name where that was no success."""
    first = _attempt(whole, workdir, timeout)
    options = _hinted((workdir / "printed.txt").read_text(encoding="utf-8"))
    if not options or (first.outcome == "ok" and first.recorded != "nothing"):
        return first
    again = workdir / "again"
    again.mkdir()
    second = _attempt(whole, again, timeout, options)
    is_better = second.outcome == "ok" or first.outcome != "ok"
    return structs.replace(second, options=" ".join(options)) if is_better else first


def _hinted(printed: str) -> list[str]:
    found = dict.fromkeys(HINTED.findall(printed))
    return [word for option in found for word in option.split()]


def _attempt(whole: Whole, workdir: Path, timeout: float, options: Sequence[str] = ()) -> Trial:
    """Run a project once; its home and what proj printed are in ``workdir``."""
    project = whole.project
    ended = _run([*_words(project, whole.mirror), *options], workdir, timeout)
    (workdir / "printed.txt").write_text(ended.printed, encoding="utf-8")
    record = msgspec.json.decode(ended.out) if ended.out.strip() else {}
    (workdir / "record.json").write_bytes(ended.out)
    outcome, cause = _judge(whole, ended, record)
    environment = record.get("environment") or {}
    return Trial(
        repo=project.repo,
        subdir=project.subdir,
        entry=project.entry,
        outcome=outcome,
        seconds=round(ended.seconds, 1),
        python=environment.get("python") or "",
        cause=_without_places(" ".join(cause.split()), record, workdir),
        recorded=_recorded(workdir) if record else "",
        environment=_departures(record),
        mlflow=project.mlflow,
        ceiling=project.ceiling,
        lacking=len(whole.lacking),
    )


def _words(project: Project, mirror: Path) -> list[str]:
    folder = f"#{project.subdir}" if project.subdir else ""
    parameters = [word for pair in project.params for word in ("-P", pair)]
    return ["run", f"{mirror}{folder}", "--version", project.sha, "-e", project.entry, *parameters, "--json"]


def _variables(workdir: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(LEAKS)}
    return {**kept, "PROJ_HOME": str(workdir / "home"), "PYTHONPATH": str(ROOT)}


def _run(words: list[str], workdir: Path, timeout: float) -> Ended:
    """Run proj to its end or to the end of its time; none of its processes outlives it."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "runner.cli.main", *words],
        cwd=workdir,
        env=_variables(workdir),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    timed_out = False
    try:
        out, printed = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        timed_out = True
        out, printed = _stop(process)
    except BaseException:  # the trial itself is stopped: nobody else would end the project
        _stop(process)
        raise
    seconds = time.monotonic() - started
    text = printed.decode("utf-8", "replace")
    return Ended(code=process.returncode, out=out, printed=text, seconds=seconds, timed_out=timed_out)


def _stop(process: "subprocess.Popen[bytes]") -> tuple[bytes, bytes]:
    process.terminate()
    try:
        return process.communicate(timeout=GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()


def _judge(whole: Whole, ended: Ended, record: dict[str, Any]) -> tuple[str, str]:
    """Return the outcome and its cause. A run without resources is one whose command was never started."""
    log = Path(record["log"]) if record.get("log") else None
    text = log.read_text(encoding="utf-8", errors="replace") if log and log.is_file() else ""
    evidence = Evidence(
        printed=ended.printed, log=text, files=_files(whole.project, whole.mirror), lacking=whole.lacking
    )
    if ended.timed_out:
        lines = [line for line in (text or ended.printed).splitlines() if line.strip()]
        return (
            "failed",
            f"out of time: {cause_of_failure(evidence) if text else lines[-1] if lines else 'it printed nothing'}",
        )
    if ended.code == 0:
        return "ok", ""
    if not record.get("resources"):
        return "refused", cause_of_refusal(evidence)
    return "failed", cause_of_failure(evidence)


def _without_places(text: str, record: dict[str, Any], workdir: Path) -> str:
    """Take the folder of this trial out of a text, so that two trials can be compared."""
    for place, short in ((record.get("cwd"), ""), (record.get("folder"), "../"), (workdir, "")):
        text = text.replace(f"{place}/", short) if place else text
    return text


def _files(project: Project, mirror: Path) -> frozenset[str]:
    listing = ["git", f"--git-dir={mirror}", "ls-tree", "-r", "--name-only", project.sha]
    return frozenset(subprocess.run(listing, check=True, capture_output=True, text=True).stdout.splitlines())


def _recorded(workdir: Path) -> str:
    """Say what the runs of a home hold that their scripts logged."""
    listing = [sys.executable, "-m", "runner.cli.main", "list", "--json"]
    done = subprocess.run(listing, env=_variables(workdir), cwd=workdir, check=False, capture_output=True)
    runs = msgspec.json.decode(done.stdout or b"[]")
    artifacts = {path for path in (workdir / "home" / "runs").glob("**/artifacts/**/*") if path.is_file()}
    counts = {
        "metrics": sum(len(run["metrics"]) for run in runs),
        "params": sum(one["source"] == "logged" for run in runs for one in run["parameters"]),
        "artifacts": len(artifacts),
    }
    reported = [f"{count} {name}" for name, count in counts.items() if count]
    if reported and len(runs) > 1:
        reported.append(f"in {len(runs)} runs")
    return ", ".join(reported) or "nothing"


def _departures(record: dict[str, Any]) -> str:
    """Say in which way the environment is another than the one that the project declares."""
    environment = record.get("environment") or {}
    if not environment.get("digest"):
        return ""
    reported = "; ".join((*environment.get("repairs", ()), *environment.get("departures", ())))
    return reported or ("as declared" if environment.get("declared") else "none declared")
