"""``proj show``: prints all details of a run, for people or as JSON."""

from collections.abc import Iterator, Sequence
from textwrap import indent

import click
import msgspec
from msgspec import structs

from runner.base.tags import LATER_COMMIT_TAG, REPRODUCES_TAG, REPRODUCTIONS_TAG, VERDICT_TAG
from runner.cli import completions
from runner.cli.code import clone_command
from runner.cli.options import reads_runs
from runner.cli.output import declaration_summary, duration, local_time, size
from runner.cli.run_source import open_runs
from runner.cli.text import print_lines, printable
from runner.model import FileRecord, RunRecord
from runner.runs.history import describe_commit, find_later_commit
from runner.runs.local import LocalReader
from runner.source.snapshot_store import has_run_commit
from runner.source.summaries import CommitSummary
from runner.sync.sync_state import RemoteRun, remote_runs_of

_FILES = 20
"""Number of files shown; JSON has all."""

Rows = Sequence[tuple[str, str | None]]


@click.command("show")
@click.argument("run", metavar="RUN", shell_complete=completions.runs)
@reads_runs
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def show(run: str, tracking_uri: str | None, local: bool, as_json: bool) -> None:
    """Show all details of RUN: an id, the beginning of an id, a name, or `latest`."""
    summary = None
    pages: list[str] = []
    is_here = False
    with open_runs(tracking_uri, local=local) as reader:
        server = reader.server
        record = reader.record(run)
        if isinstance(reader, LocalReader):
            if reader.is_own(record.run_id or run):  # otherwise the project's path belongs to another machine
                commit = find_later_commit(record, reader.home)
                if commit:
                    record = structs.replace(record, tags={**record.tags, LATER_COMMIT_TAG: commit})
                summary = describe_commit(record, reader.home)
            is_here = has_run_commit(reader.home, record.run_id or "")
            pages = [_page(copy) for copy in remote_runs_of(reader.database, record.run_id or "")]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(record), indent=2))
        return
    for title, lines in (*_sections(record, summary, server, is_here), ("on servers", pages)):
        body = "\n".join(lines)
        if body:
            print_lines(f"{title}\n{indent(body, '  ')}")


def _sections(
    record: RunRecord, summary: CommitSummary | None, server: str | None, is_here: bool
) -> Iterator[tuple[str, list[str]]]:
    run_id = (record.run_id or "")[:8]
    yield f"run {record.run_id}  {printable(record.run_name or '')}", _lines(_summary(record))
    yield "code", [*_lines(_code(record, summary)), *_changed(record, f"; proj diff {run_id}" if is_here else "")]
    yield "environment", _lines(_environment(record))
    yield "parameters", [_parameter(record, index) for index in range(len(record.parameters))]
    yield "metrics", [f"{printable(name)} = {value:.10g}" for name, value in record.metrics.items()]
    yield "inputs", _files(record.inputs)
    yield "outputs", _files(record.outputs)
    yield "resources", _lines(_resources(record))
    yield "tags", [f"{printable(name)} = {printable(value)}" for name, value in record.tags.items()]
    yield "notices", [printable(notice) for notice in record.notices]
    yield "get back", _lines(_ways_back(record, run_id, is_here) if server is None else _ways_from(server, run_id))


def _page(copy: RemoteRun) -> str:
    page = copy.page if copy.remote_run_id else copy.server
    return f"{printable(page)}{' (incomplete; complete it with proj sync)' if copy.waiting else ''}"


def _summary(record: RunRecord) -> Rows:
    exit_code = "" if record.exit_code is None else f", exit code {record.exit_code}"
    took = duration(record)
    return (
        ("status", f"{record.status}{exit_code}"),
        ("why", record.reason),
        ("reproduces", record.tags.get(REPRODUCES_TAG)),
        ("verdict", record.tags.get(VERDICT_TAG)),
        ("reproduced by", record.tags.get(REPRODUCTIONS_TAG, "").replace("; ", "\n")),
        ("started", f"{local_time(record.started_at)}{f', took {took}' if took else ''}"),
        ("experiment", record.experiment),
        ("project", record.project),
        ("entry point", record.entry_point),
        ("command", record.command),
        ("folder", record.folder),
        ("log", record.log),
    )


def _code(record: RunRecord, summary: CommitSummary | None) -> Rows:
    code = record.code
    if code is None:
        return ()
    return (
        ("commit", f"{code.commit}{'*' if code.dirty else ''}" if code.commit else None),
        ("", f"{printable(summary.subject)} ({printable(summary.author)}, {summary.day})" if summary else None),
        ("state", ("dirty" if code.dirty else "clean") if code.commit else "not in git"),
        ("is commit", record.tags.get(LATER_COMMIT_TAG)),
        ("tree", code.tree),
        ("branch", code.branch),
        ("ref", code.ref),
        ("remote", code.remote),
        ("subdirectory", code.subdirectory or None),
    )


def _changed(record: RunRecord, way: str) -> list[str]:
    code = record.code
    if code is None or not code.dirty or not code.commit:
        return []
    count = len(code.changed_files)
    files = "1 file" if count == 1 else f"{count} files"
    shown = [f"  {printable(path)}" for path in code.changed_files[:_FILES]]
    more = [f"  … and {count - _FILES} more"] if count > _FILES else []
    return [f"differs from commit {code.commit[:10]} in {files}{way}", *shown, *more]


def _environment(record: RunRecord) -> Rows:
    environment = record.environment
    if environment is None:
        return ()
    return (
        ("manager", environment.manager),
        ("image", environment.image),
        ("image digest", environment.image_digest),
        ("python", environment.python),
        ("platform", environment.platform),
        ("digest", environment.digest),
        ("lock", environment.lock_digest),
        ("as of", environment.as_of),
        ("prefix", environment.prefix),
        ("packages", f"{len(environment.packages)} installed" if environment.packages else None),
        ("engine", " ".join(f"-A {option}" for option in environment.engine_options) or None),
        ("declared", environment.declared),
        ("used", declaration_summary(environment, named=False)),
        *(("", change) for change in (*environment.repairs, *environment.departures)),
        *(("repaired" if number == 0 else "", repair) for number, repair in enumerate(record.repairs)),
        *(("tracking" if number == 0 else "", redirect) for number, redirect in enumerate(record.redirects)),
    )


def _parameter(record: RunRecord, index: int) -> str:
    parameter = record.parameters[index]
    return f"{printable(parameter.name)} = {printable(parameter.value)}  ({parameter.type}, {parameter.source})"


def _files(files: Sequence[FileRecord]) -> list[str]:
    shown = [f"{printable(file.path)}  {size(file.size)}  sha256 {file.sha256[:12]}" for file in files[:_FILES]]
    return [*shown, f"… and {len(files) - _FILES} more"] if len(files) > _FILES else shown


def _resources(record: RunRecord) -> Rows:
    used, machine = record.resources, record.machine
    rows: list[tuple[str, str | None]] = []
    if used is not None:
        rows = [
            ("wall clock", f"{used.wall_seconds:.2f} s"),
            ("processor", f"{used.user_seconds:.2f} s user, {used.system_seconds:.2f} s system"),
            ("peak memory", None if used.peak_memory is None else size(used.peak_memory)),
        ]
    if machine is not None:
        memory = "" if machine.memory is None else f", {size(machine.memory)} memory"
        rows.append(("machine", f"{machine.host}, {machine.platform}, {machine.cpu_count} processors{memory}"))
        rows.append(("gpus", ", ".join(machine.gpus) or None))
    return rows


def _ways_back(record: RunRecord, run_id: str, is_here: bool) -> Rows:
    has_lock = record.environment is not None and record.environment.lock_digest is not None
    return (
        ("code", f"proj checkout {run_id} DIR" if is_here else clone_command(record)),
        ("files", f"proj get {run_id}"),
        ("output", f"proj log {run_id}" if record.log else None),
        ("lock", f"proj env export {run_id}" if record.log and has_lock else None),
    )


def _ways_from(server: str, run_id: str) -> Rows:
    return (("files", f"proj get {run_id} --tracking-uri {server}"), ("all", f"proj pull {run_id} --from {server}"))


def _lines(rows: Rows) -> list[str]:
    """Return the rows that have a value, aligned; further lines of a value are indented below the first."""
    lines = []
    for name, value in rows:
        if value:
            first, *more = [printable(line) for line in value.splitlines()] or [""]
            lines.append(f"{name:13} {first}")
            lines += [f"{'':13} {line}" for line in more]
    return lines
