"""Writes differences of code as HTML."""

from collections.abc import Iterator, Sequence

from runner.base.masking import Masker
from runner.base.plurals import counted
from runner.reporting.html import Html, element, join
from runner.reporting.report import CodeChange
from runner.reporting.tables import row, table
from runner.source.tree_changes import FileChange

_KINDS = {"+": "plus", "-": "minus", "@": "hunk"}
_LONGEST_LINE = 500
_OPEN = 3
"""Files whose difference is shown at once; the others open on a click."""


def code_change(change: CodeChange) -> Html:
    """Return the differences between two trees: the files with line counts, then the changed lines."""
    runs = ", ".join(run_id[:8] for run_id in change.after)
    base = "its commit" if change.before is None else f"run {change.before[:8]}"
    title = element("h3", f"From {base} to run {runs}")
    if change.problem:
        return join(title, element("p", f"The difference is not known: {change.problem}.", class_="soft"))
    if not change.files:
        return join(title, element("p", "No file differs.", class_="soft"))
    rows = [row(one.path, [_count(one.added, "+"), _count(one.removed, "-")]) for one in change.files]
    return join(
        title,
        table("Changed files with added and removed lines", ("file", "added", "removed"), rows, "counts"),
        list(_patches(change.files)),
    )


def _count(lines: int | None, sign: str) -> Html:
    return element("td", "binary" if lines is None else f"{sign}{lines}", class_="number")


def _patches(files: Sequence[FileChange]) -> Iterator[Html]:
    shown = 0
    for one in files:
        lines = (one.patch or "").splitlines()
        hunks = next((number for number, line in enumerate(lines) if line.startswith("@@")), len(lines))
        if hunks == len(lines):
            continue
        code = element("pre", list(_lines(Masker().text("\n".join(lines[hunks:])).split("\n"))))
        box = element("div", code, class_="scroll", role="group", aria_label=f"Changes of {one.path}", tabindex=0)
        yield element("details", element("summary", one.path), box, open=shown < _OPEN)
        shown += 1
    left_out = sum(one.patch is None for one in files)
    if left_out:
        yield element(
            "p", f"The lines of {counted(left_out, 'more file')} are left out; `proj checkout` restores the code."
        )


def _lines(lines: Sequence[str]) -> Iterator[Html]:
    for line in lines:
        text = line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…"
        yield element("span", text, class_=_KINDS.get(line[:1]))
