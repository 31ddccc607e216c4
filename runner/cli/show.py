"""``proj show``: prints a run and what belongs to it, for people or as JSON."""

from collections.abc import Iterator, Sequence
from textwrap import indent

import click
import msgspec
from msgspec import structs

from runner.base.plurals import counted
from runner.base.tags import LATER_COMMIT_TAG, REPRODUCES_TAG, REPRODUCTIONS_TAG, VERDICT_TAG
from runner.cli import completions
from runner.cli.code import clone_command
from runner.cli.columns import own_tags
from runner.cli.options import reads_runs
from runner.cli.output import declaration_summary, duration, local_time, size
from runner.cli.run_source import open_runs
from runner.cli.show_relations import artifact_lines, dataset_lines, model_lines, nested_lines, observed_lines
from runner.cli.text import print_lines, printable
from runner.model import FileRecord, RunRecord
from runner.provenance.outputs import kept_as
from runner.runs.history import describe_commit, find_later_commit
from runner.runs.local import LocalReader
from runner.runs.primary_metric import declared_metrics
from runner.runs.reader import RunReader, RunRelations, description_of
from runner.source.snapshot_store import has_run_commit
from runner.source.summaries import CommitSummary
from runner.sync.sync_state import RemoteRun, remote_runs_of

_FILES = 20
"""Files shown without ``--all``; JSON has all."""

Rows = Sequence[tuple[str, str | None]]


@click.command("show")
@click.argument("run", metavar="RUN", shell_complete=completions.runs)
@click.option("--all", "everything", is_flag=True, help="Show the machine, all digests, tags and files, too.")
@reads_runs
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def show(run: str, everything: bool, tracking_uri: str | None, local: bool, as_json: bool) -> None:
    """Show RUN with its files, models, parent and nested runs.

    RUN is an id, the beginning of an id, a name, `latest`, `latest~1` or `@TAG`.

    \b
    Examples:
      proj show latest
      proj show 7f3a --json
    """  # noqa: D301  # click reads the control character
    summary = None
    pages: list[str] = []
    is_here = False
    with open_runs(tracking_uri, local=local) as reader:
        server = reader.server
        record = reader.record(run)
        relations = reader.relations(run)
        primary = _primary(reader, record)
        if isinstance(reader, LocalReader):
            if reader.is_own(record.run_id or run):  # otherwise the project's path belongs to another machine
                commit = find_later_commit(record, reader.home)
                if commit:
                    record = structs.replace(record, tags={**record.tags, LATER_COMMIT_TAG: commit})
                summary = describe_commit(record, reader.home)
            is_here = has_run_commit(reader.home, record.run_id or "")
            pages = [_page(copy) for copy in remote_runs_of(reader.database, record.run_id or "")]
    if as_json:
        description = description_of(record, relations)
        click.echo(msgspec.json.format(msgspec.json.encode(description), indent=2))
        return
    shown = Shown(
        record=record,
        relations=relations,
        summary=summary,
        server=server,
        is_here=is_here,
        primary=primary,
        everything=everything,
    )
    for title, lines in (*_sections(shown), ("on servers", pages)):
        body = "\n".join(lines)
        if body:
            print_lines(f"{title}\n{indent(body, '  ')}")


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown of a run; ``everything`` adds what repeats, and what describes the machine only."""

    record: RunRecord
    relations: RunRelations
    summary: CommitSummary | None
    server: str | None
    is_here: bool
    primary: str | None
    everything: bool


def _primary(reader: RunReader, record: RunRecord) -> str | None:
    """Return the declared primary metric, else the metric that was logged first."""
    declared = next((one.name for one in declared_metrics([record])), None)
    if declared in record.metrics or len(record.metrics) < 2:  # noqa: PLR2004
        return declared
    return reader.first_metric(record.run_id or "")


def _sections(shown: Shown) -> Iterator[tuple[str, list[str]]]:
    record, relations, everything = shown.record, shown.relations, shown.everything
    run_id = (record.run_id or "")[:8]
    title = f"run {record.run_id}  {printable(record.run_name or '')}"
    yield title, _lines((*_summary(record, everything=everything), *_family(relations)))
    changed = _changed(record, f"; proj diff {run_id}" if shown.is_here else "")
    yield "code", [*_lines(_code(record, shown.summary, everything=everything)), *changed]
    yield "environment", _lines(_environment(record, everything=everything))
    yield "parameters", [_parameter(record, index) for index in range(len(record.parameters))]
    names = sorted(record.metrics, key=lambda name: name != shown.primary)
    yield "metrics", [f"{printable(name)} = {record.metrics[name]:.10g}" for name in names]
    yield "inputs", _files(record.inputs, everything=everything)
    yield "observed inputs", observed_lines(record, everything=everything)
    yield "datasets", dataset_lines(relations)
    yield "models", model_lines(relations)
    yield "artifacts", artifact_lines(relations.artifacts, everything=everything)
    yield "outputs", _files(record.outputs if everything else _not_stored(shown), everything=everything)
    yield "nested runs", nested_lines(relations, everything=everything)
    yield "resources", _lines(_resources(record, everything=everything))
    tags = record.tags if everything else own_tags(record)
    yield "tags", [f"{printable(name)} = {printable(value)}" for name, value in tags.items()]
    yield "notices", [printable(notice) for notice in record.notices]
    server = shown.server
    ways = _ways_back(shown, run_id) if server is None else _ways_from(server, run_id)
    yield "get back", _lines(ways)


def _family(relations: RunRelations) -> Rows:
    parent = relations.parent
    return (
        ("parent", None if parent is None else f"{parent.run_id[:8]} {printable(parent.run_name or 'not here')}"),
        ("note", relations.note),
    )


def _not_stored(shown: Shown) -> Sequence[FileRecord]:
    """Return the outputs that are not among the artifacts, because they are too large, for example."""
    kept = {file.path for file in shown.relations.artifacts}
    return [file for file in shown.record.outputs if kept_as(file.path) not in kept]


def _page(copy: RemoteRun) -> str:
    page = copy.page if copy.remote_run_id else copy.server
    return f"{printable(page)}{' (incomplete; complete it with proj sync)' if copy.waiting else ''}"


def _summary(record: RunRecord, *, everything: bool) -> Rows:
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
        ("folder", record.folder if everything else None),
        ("log", record.log if everything else None),
    )


def _code(record: RunRecord, summary: CommitSummary | None, *, everything: bool) -> Rows:
    code = record.code
    if code is None:
        return ()
    return (
        ("commit", f"{code.commit}{'*' if code.dirty else ''}" if code.commit else None),
        ("", f"{printable(summary.subject)} ({printable(summary.author)}, {summary.day})" if summary else None),
        ("state", ("dirty" if code.dirty else "clean") if code.commit else "not in git"),
        ("is commit", record.tags.get(LATER_COMMIT_TAG)),
        ("tree", code.tree if everything or not code.commit else None),
        ("branch", code.branch),
        ("ref", code.ref),
        ("remote", code.remote if everything else None),
        ("subdirectory", code.subdirectory or None),
    )


def _changed(record: RunRecord, way: str) -> list[str]:
    code = record.code
    if code is None or not code.dirty or not code.commit:
        return []
    count = len(code.changed_files)
    files = counted(count, "file")
    shown = [f"  {printable(path)}" for path in code.changed_files[:_FILES]]
    more = [f"  … and {count - _FILES} more"] if count > _FILES else []
    return [f"differs from commit {code.commit[:10]} in {files}{way}", *shown, *more]


def _environment(record: RunRecord, *, everything: bool) -> Rows:
    environment = record.environment
    if environment is None:
        return ()
    return (
        ("manager", environment.manager),
        ("image", environment.image),
        ("image digest", environment.image_digest if everything else None),
        ("python", environment.python),
        ("platform", environment.platform if everything else None),
        ("digest", environment.digest if everything else None),
        ("lock", environment.lock_digest if everything else None),
        ("as of", environment.as_of),
        ("prefix", environment.prefix if everything else None),
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


def _files(files: Sequence[FileRecord], *, everything: bool) -> list[str]:
    most = len(files) if everything else _FILES
    shown = [f"{printable(file.path)}  {size(file.size)}  sha256 {file.sha256[:12]}" for file in files[:most]]
    return [*shown, f"… and {len(files) - most} more"] if len(files) > most else shown


def _resources(record: RunRecord, *, everything: bool) -> Rows:
    used, machine = record.resources, record.machine
    rows: list[tuple[str, str | None]] = []
    if used is not None:
        rows = [
            ("wall clock", f"{used.wall_seconds:.2f} s"),
            ("processor", f"{used.user_seconds:.2f} s user, {used.system_seconds:.2f} s system"),
            ("peak memory", None if used.peak_memory is None else size(used.peak_memory)),
        ]
    if machine is not None and everything:
        memory = "" if machine.memory is None else f", {size(machine.memory)} memory"
        rows.append(("machine", f"{machine.host}, {machine.platform}, {machine.cpu_count} processors{memory}"))
        rows.append(("gpus", ", ".join(machine.gpus) or None))
    return rows


def _ways_back(shown: Shown, run_id: str) -> Rows:
    record, is_here = shown.record, shown.is_here
    has_lock = record.environment is not None and record.environment.lock_digest is not None
    return (
        ("code", f"proj checkout {run_id} DIR" if is_here else clone_command(record)),
        ("files", f"proj get {run_id}" if shown.relations.artifacts else None),
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
