"""Finds the first commit whose run has a bad value of a metric, between a good and a bad commit."""

import operator
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from msgspec import Struct, structs

from runner.base.tags import BISECTS_TAG, PARENT_TAG
from runner.errors import ExecutionError, ProjError, UsageError
from runner.model import Event, EventKind, Report, RunRecord, RunRequest, RunStatus
from runner.plan import make_plan
from runner.process import Echo
from runner.reuse import find_same_run
from runner.settings import Home
from runner.source.gitcommand import GitDirectory, git, run_git
from runner.source.opening import open_source
from runner.source.restoring import FileChange, changes_of_commit
from runner.source.summaries import CommitSummary, summarise_commit
from runner.store.database import Database
from runner.store.records import read_record
from runner.workflow import run_with_repairs

_CONDITION = re.compile(r"\s*(?P<sign><=|>=|==|!=|<|>|=)\s*(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
}


class Condition(Struct, frozen=True, kw_only=True):
    """A condition that the metric of a bad commit meets: ``rmse > 0.8``. NaN meets only ``!=``."""

    metric: str
    sign: str
    number: float

    @property
    def text(self) -> str:
        """The condition for people."""
        return f"{self.metric} {self.sign} {self.number:g}"

    def is_met(self, value: float) -> bool:
        """Return whether a value is bad."""
        return _SIGNS[self.sign](value, self.number)


def parse_condition(metric: str, text: str) -> Condition:
    """Return a condition such as ``> 0.8``.

    Raises:
        UsageError: the text is not a comparison with a number.
    """
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise UsageError(f"--metric {metric} {text!r} is not a condition", hint="for example --metric rmse '> 0.8'")
    return Condition(metric=metric, sign=match["sign"], number=float(match["number"]))


class Step(Struct, frozen=True, kw_only=True):
    """A commit that was run: ``verdict`` is good, bad or skipped; ``value`` is that of the metric."""

    commit: str
    verdict: str
    run_id: str | None = None
    value: float | None = None
    reason: str | None = None


class Bisection(Struct, frozen=True, kw_only=True):
    """The result of a search: the JSON object of ``proj bisect --json``.

    ``first_bad`` is None if skipped commits hide it: then it is one of ``candidates``.
    """

    condition: str
    good: str
    bad: str
    first_bad: str | None = None
    summary: CommitSummary | None = None
    files: tuple[FileChange, ...] = ()
    candidates: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()


def bisect(request: RunRequest, ends: tuple[str, str], condition: Condition, home: Home, report: Report) -> Bisection:
    """Run commits between a good and a bad one until the first bad one is known; the user's tree is not touched.

    ``request`` says what is run, ``ends`` are the good and the bad commit, in any spelling of git.

    Raises:
        SourceError: there is no such commit.
        UsageError: the good commit is no ancestor of the bad one.
        ExecutionError: the good commit is bad or the bad one good, or one of them can't be run.
    """
    opened = [open_source(request.uri, end, home, report) for end in ends]
    repository, good, bad = opened[0].repository, opened[0].commit, opened[1].commit
    if repository is None or good is None or bad is None:
        raise UsageError("Only the commits of a git repository can be searched")
    if good == bad or run_git(GitDirectory(git_dir=repository), "merge-base", "--is-ancestor", good, bad).exit_code:
        hint = "Give a good commit from which the bad one descends."
        raise UsageError(f"The commit {good[:12]} is not before {bad[:12]}", hint=hint)
    search = _Search(request, _Range(repository=repository, good=good, bad=bad), condition, home, report)
    found = search.run()
    first = found[0] if len(found) == 1 else None
    return Bisection(
        condition=condition.text,
        good=good,
        bad=bad,
        first_bad=first,
        summary=summarise_commit(repository, first) if first else None,
        files=changes_of_commit(first, repository) if first else (),
        candidates=found,
        steps=tuple(search.steps),
    )


class _Range(Struct, frozen=True, kw_only=True):
    """The commits to search: those of a repository that ``bad`` has and ``good`` does not have."""

    repository: Path
    good: str
    bad: str


class _Search:
    def __init__(self, request: RunRequest, commits: _Range, condition: Condition, home: Home, report: Report) -> None:
        self._request = request
        self._commits = commits
        self._condition = condition
        self._home = home
        self._report = report
        self._parent: str | None = None
        self.steps: list[Step] = []

    def run(self) -> tuple[str, ...]:
        """Return the first bad commit, or all that it can be."""
        good, bad = self._commits.good, self._commits.bad
        self._require(bad, "bad")
        self._require(good, "good")
        goods, skipped = [good], set[str]()
        while True:
            inside = list(self._between(goods, bad))
            chosen = next((commit for commit in inside if commit not in skipped), None)
            if chosen is None:
                return (bad, *inside)
            step = self._step(chosen)
            if step.verdict == "bad":
                bad = chosen
            elif step.verdict == "good":
                goods.append(chosen)
            else:
                skipped.add(chosen)

    def _require(self, commit: str, verdict: str) -> None:
        step = self._step(commit)
        if step.verdict == verdict:
            return
        why = step.reason or f"{self._condition.metric} = {step.value:.10g}"
        message = f"The {verdict} commit {commit[:12]} is {step.verdict}, so there is nothing to search"
        raise ExecutionError(message, context=why, hint=f"A commit is bad if {self._condition.text}.")

    def _between(self, goods: list[str], bad: str) -> Iterator[str]:
        """Yield the commits that may be the first bad one besides ``bad``, those that divide best first."""
        exclude = [f"^{one}" for one in goods]
        lines = git(GitDirectory(git_dir=self._commits.repository), "rev-list", "--bisect-all", bad, *exclude).decode(
            "ascii"
        )
        for line in lines.splitlines():
            commit = line.split(" ")[0]
            if commit != bad:
                yield commit

    def _step(self, commit: str) -> Step:
        step = self._run(commit)
        self.steps.append(step)
        value = "" if step.value is None else f", {self._condition.metric} = {step.value:.10g}"
        message = f"{commit[:12]} is {step.verdict}{value}{f': {step.reason}' if step.reason else ''}"
        self._report(Event(kind=EventKind.STEP, message=message))
        return step

    def _run(self, commit: str) -> Step:
        try:
            record = self._record(commit)
        except ProjError as error:
            return Step(commit=commit, verdict="skipped", reason=error.message)
        if "stopped by SIG" in (record.reason or ""):
            raise ExecutionError("A run was stopped, so the search ends", context=record.reason)
        value = record.metrics.get(self._condition.metric)
        if record.status != RunStatus.FINISHED.value or value is None:
            reason = record.reason or f"the run did not log '{self._condition.metric}'"
            return Step(commit=commit, verdict="skipped", run_id=record.run_id, reason=reason)
        verdict = "bad" if self._condition.is_met(value) else "good"
        return Step(commit=commit, verdict=verdict, run_id=record.run_id, value=value)

    def _record(self, commit: str) -> RunRecord:
        """Return the record of a run of a commit: that of an earlier run with the same key, or of a new one."""

        def quiet(_event: Event) -> None:
            return None

        plan = make_plan(structs.replace(self._request, version=commit), self._home, quiet)
        same = find_same_run(plan, quiet)
        if same is not None:
            with closing(Database.open_to_read(self._home.database)) as database:
                record = read_record(database, same.run_id, self._home)
        else:
            ends = f"{self._commits.good}..{self._commits.bad}"
            tags = {BISECTS_TAG: ends, **({PARENT_TAG: self._parent} if self._parent else {})}
            record = run_with_repairs(structs.replace(plan, tags=tags), quiet, Echo.NONE).record
        self._parent = self._parent or record.run_id
        return record
