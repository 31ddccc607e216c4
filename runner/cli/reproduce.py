"""``proj reproduce``: runs a recorded run again, and says whether its results came out the same."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import msgspec
from msgspec import structs

from runner.base.files import write_atomically
from runner.cli import completions
from runner.cli.bundle_use import (
    ALLOW_ADDRESSES,
    ALLOWED_SIGNERS,
    SIGNED,
    confirmation,
    describe_signature,
    find_bundle,
    opened_bundle,
    require_allowed,
    require_signature,
    take,
)
from runner.cli.explain import BUDGET, print_causes, read_budget, read_number
from runner.cli.home import enter_home, warn_of_lost_store
from runner.cli.latest_run import latest_run
from runner.cli.options import OFFLINE, read_pairs
from runner.cli.progress_line import showing_progress
from runner.cli.run_choice import check_target
from runner.cli.tables import print_table
from runner.cli.text import print_lines, print_message, printable, show_event, show_hints_once
from runner.errors import UsageError
from runner.explanation.explaining import ExplainRequest, explain
from runner.model import Report
from runner.process import Echo
from runner.reproduction.junit import junit_xml
from runner.reproduction.reproducing import ReproduceRequest
from runner.reproduction.reproducing import reproduce as reproduce_run
from runner.reproduction.verdict import Comparison, InputState, Reproduction, Value, Verdict
from runner.settings import Home, open_home
from runner.store.database import Database

_SHOWN = 20
"""Equal results that the table lists; JSON has all."""


_Options = Mapping[str, str | bool | float | tuple[str, ...] | Path | None]


@click.command("reproduce")
@click.argument("run", metavar="[RUN]", required=False, shell_complete=completions.runs)
@click.option("--latest", is_flag=True, help="The latest finished run of this project, also one that was pulled.")
@click.option("-e", "--entry-point", metavar="NAME", help="With --latest: of this entry point. [default: main]")
@click.option("--input", "moved", multiple=True, metavar="NAME=PATH", help="Where an input is now; repeatable.")
@click.option("--allow-changed-inputs", is_flag=True, help="Run also if inputs are missing or have changed.")
@click.option("-P", "secrets", multiple=True, metavar="NAME=VALUE", help="The value of a secret parameter; repeatable.")
@click.option("--rtol", type=click.FloatRange(min=0), metavar="NUMBER", help="Allowed difference, relative.")
@click.option("--atol", type=click.FloatRange(min=0), metavar="NUMBER", help="Allowed difference, absolute.")
@click.option("-y", "--yes", is_flag=True, help="Run a bundle without asking.")
@ALLOW_ADDRESSES
@ALLOWED_SIGNERS
@SIGNED
@click.option("--junit", metavar="FILE", help="Also write the verdict as a JUnit file (.xml).")
@click.option("--explain", "explained", is_flag=True, help="If the results differ, find the cause by further runs.")
@BUDGET
@OFFLINE
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON; the command's output goes to stderr.")
def reproduce(run: str | None, as_json: bool, **options: str | bool | float | tuple[str, ...] | Path | None) -> int:
    r"""Run RUN again from its record alone, and say whether the results came out the same.

    RUN may be a bundle that `proj export` wrote: what would run is shown, and runs when you agree. Exits with 0 only if
    the results are identical or within tolerance.

    \b
    Examples:
      proj reproduce latest --rtol 1e-6
      proj reproduce 7f3a --explain --budget 30m
      proj reproduce run.zip
      proj reproduce --latest --entry-point main --junit numbers.xml
    """
    run = _choose_run(run, options["entry_point"], latest=bool(options["latest"]))
    request = ReproduceRequest(
        run=run,
        inputs=read_pairs("--input", options["moved"]),
        allow_changed_inputs=bool(options["allow_changed_inputs"]),
        parameters=read_pairs("-P", options["secrets"]),
        rtol=read_number(options["rtol"]),
        atol=read_number(options["atol"]),
    )
    junit = None if options["junit"] is None else str(options["junit"])
    check_target(junit, ".xml")
    home = enter_home(writing=True)
    bundle = find_bundle(run)
    if bundle is None:
        Database.check(home.database)
    warn_of_lost_store(home)
    budget = read_budget(options["budget"])
    report = show_hints_once(show_event)
    if bundle is None:
        with showing_progress():
            found = reproduce_run(request, home, report, Echo.STDERR)
    else:
        found = _reproduce_bundle(bundle, request, home, options)
    if options["explained"]:
        with showing_progress():
            found = _explained(found, request, budget, report)
    if junit is not None:
        write_atomically(Path(junit), junit_xml(found))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        print_reproduction(found)
    return 0 if found.verdict.is_reproduced else 1


def _choose_run(run: str | None, entry_point: object, *, latest: bool) -> str:
    """Return the run that the arguments mean.

    Raises:
        UsageError: none or two are given.
        NotFoundError: this project has no finished run of the entry point.
    """
    if latest == (run is not None) or (entry_point is not None and not latest):
        raise UsageError("Give a run, or --latest, with --entry-point if it is not main")
    return run if run is not None else latest_run(str(entry_point or "main"))


def _reproduce_bundle(path: Path, request: ReproduceRequest, home: Home, options: _Options) -> Reproduction:
    """Take the run of a bundle over, and reproduce it when the user agrees."""
    signers = options["allowed_signers"]
    report = show_hints_once(show_event)
    with opened_bundle(path, home) as bundle:
        require_allowed(bundle, addresses=bool(options["allow_addresses"]))
        known = signers if isinstance(signers, Path) else None
        signature = require_signature(bundle, known, needed=bool(options["signed"]))
        taken = take(bundle, home, report)
    approve = confirmation(bundle, describe_signature(signature), yes=bool(options["yes"]))
    request = structs.replace(request, run=taken.run_id)
    return reproduce_run(request, home, report, Echo.STDERR, approve)


def _explained(found: Reproduction, request: ReproduceRequest, budget: float, report: Report) -> Reproduction:
    """Return a reproduction with the causes of its differences."""
    if found.run_id is None or found.verdict is Verdict.NOTHING_TO_COMPARE or found.verdict.is_reproduced:
        return structs.replace(found, causes=(), undecided=None)
    why = explain(
        ExplainRequest(
            original=found.original,
            other=found.run_id,
            inputs=request.inputs,
            parameters=request.parameters,
            rtol=request.rtol,
            atol=request.atol,
            budget=budget,
        ),
        open_home(),
        report,
    )
    return structs.replace(found, causes=why.causes, undecided=why.undecided)


def print_reproduction(found: Reproduction) -> None:
    """Print a verdict with its reasons for people: what differs first, then what is equal."""
    by = f", reproduced by run {found.run_id[:8]}" if found.run_id else ""
    print_lines(f"run {found.original[:8]}{by}: {found.verdict.value}")
    if found.reason:
        print_lines(f"  why: {found.reason}")
    for line in (*_input_lines(found), *_environment_lines(found)):
        print_lines(f"  {line}")
    parts = sorted(found.parts, key=lambda one: one.verdict is Verdict.IDENTICAL)
    shown = parts[: max(_SHOWN, sum(one.verdict is not Verdict.IDENTICAL for one in parts))]
    if shown:
        print_table(("result", "verdict", "original", "reproduced", "difference", "why"), [_row(one) for one in shown])
    if len(parts) > len(shown):
        print_lines(f"  and {len(parts) - len(shown)} more that are identical")
    for rule in found.tolerance:
        print_lines(f"  allowed: {rule}")
    if found.causes:
        print_causes(found.causes)
    if found.undecided:
        print_lines(f"  not decided: {found.undecided}")
    if found.run_id:
        print_message(f"  next: proj compare {found.original[:8]} {found.run_id[:8]}")
    elif found.inputs:
        print_message("  hint: --input NAME=PATH names moved files; --allow-changed-inputs runs with what is there")


def _input_lines(found: Reproduction) -> Iterator[str]:
    for one in found.inputs:
        if one.state is not InputState.UNCHANGED:
            yield f"input {one.name}{f' ({one.path})' if one.path else ''}: {one.state.value}"


def _environment_lines(found: Reproduction) -> Iterator[str]:
    for one in found.environment:
        if one.verdict is not Verdict.IDENTICAL:
            yield f"environment, {one.name}: {_text(one.original)} then, {_text(one.reproduced)} now"


def _row(one: Comparison) -> tuple[str, ...]:
    why = "; ".join(part for part in (one.detail, one.rule) if part)
    cells = (one.name, one.verdict.value, _text(one.original), _text(one.reproduced), _text(one.difference), why)
    return tuple(printable(cell) for cell in cells)


def _text(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.10g}"
    text = str(value)
    return text[:12] if len(text) == 64 else text  # noqa: PLR2004  a SHA-256
