"""Writes the README of a bundle, for people who may not have proj."""

from collections.abc import Iterable, Iterator

from runner.bundles import layout
from runner.bundles.content import Content
from runner.bundles.layout import BundleFile
from runner.model import Code, EnvironmentRecord

_SHOWN = 50
"""Metrics, parameters and inputs that are listed; the record has all."""


def make_readme(content: Content, files: Iterable[BundleFile]) -> str:
    """Return the README of a bundle as Markdown."""
    record = content.record
    lines = [
        f"# Run {record.run_id}",
        "",
        f"This is one recorded run of {_code(record.project)}, entry point {_code(record.entry_point)}, with its code,",
        "its environment, its parameters and its results.",
        "",
        f"- status: {record.status}, exit code {record.exit_code}",
        f"- started {record.started_at}, ended {record.ended_at}",
        f"- command: {_code(record.command)}",
        *_code_lines(record.code),
        *_environment_lines(record.environment),
        "",
        *_table("Parameters", ((one.name, one.value) for one in record.parameters)),
        *_table("Metrics", ((name, repr(value)) for name, value in record.metrics.items())),
        *_table("Inputs", ((one.path, _where(one.included, one.sha256)) for one in content.inputs)),
        *_table("Verdicts of reproductions", ((one.run_id, one.verdict) for one in content.verdicts)),
        *_use(record.run_id or ""),
        "## Files",
        "",
        *_files(files),
        *_left_out(content.left_out),
    ]
    return "\n".join(lines) + "\n"


def _use(run_id: str) -> Iterator[str]:
    yield from (
        "## Use",
        "",
        "With `proj` (the Python package proj-runner): `proj verify FILE` checks all digests and names the signer,",
        "`proj reproduce FILE` shows what would run, asks, runs it and compares the results, and",
        "`proj import FILE` takes the run over.",
        "",
        "Without it, git and pip bring back code and environment:",
        "",
        "```sh",
        f"git init code && git -C code fetch ../{layout.CODE} refs/runs/{run_id} && git -C code checkout FETCH_HEAD",
        "python -m venv env && env/bin/pip install --no-deps -r lock.txt",
        "```",
        "",
    )


def _code(text: object) -> str:
    """Quote text of the run for Markdown."""
    flat = " ".join(str(text).split())
    return f"`{flat}`" if "`" not in flat else f"`` {flat} ``"


def _code_lines(code: Code | None) -> Iterator[str]:
    if code is None:
        return
    changed = ", with changes that were not committed" if code.dirty else ""
    commit = f"commit {_code(code.commit)} of {_code(code.remote or 'a local repository')}{changed}"
    yield f"- code: {commit if code.commit else 'not in git'}; tree {_code(code.tree)}"


def _environment_lines(environment: EnvironmentRecord | None) -> Iterator[str]:
    if environment is not None:
        count = len(environment.packages)
        where = f"Python {environment.python}, {environment.platform}, {count} packages"
        yield f"- environment: {where}, made by {environment.manager}"


def _where(included: bool, sha256: str) -> str:
    return f"included, {layout.INPUTS}/{sha256}" if included else f"not included, SHA-256 {sha256}"


def _table(title: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    listed = list(rows)
    if not listed:
        return
    yield from (f"## {title}", "")
    yield from (f"- {_code(name)}: {_code(value)}" for name, value in listed[:_SHOWN])
    if len(listed) > _SHOWN:
        yield f"- and {len(listed) - _SHOWN} more in {layout.RECORD}"
    yield ""


def _files(files: Iterable[BundleFile]) -> Iterator[str]:
    listed = list(files)
    for one in listed[:_SHOWN]:
        yield f"- {_code(one.path)}, {one.size} bytes"
    if len(listed) > _SHOWN:
        yield f"- and {len(listed) - _SHOWN} more in {layout.MANIFEST}"
    yield ""


def _left_out(left_out: Iterable[str]) -> Iterator[str]:
    listed = list(left_out)
    if listed:
        yield from ("## Left out", "")
        yield from (f"- {_code(one)}" for one in listed[:_SHOWN])
        yield ""
