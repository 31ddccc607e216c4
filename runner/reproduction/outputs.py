"""Compares the output files of two runs: by bytes, then by meaning."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct, structs

from runner.errors import NotFoundError, ProjError
from runner.model import RunRecord
from runner.provenance.outputs import kept_as
from runner.reproduction.documents import compare_content
from runner.reproduction.tolerance import Tolerances
from runner.reproduction.verdict import Comparison, Verdict, shown
from runner.runs.reader import RunReader

LARGEST_COMPARED = 64 << 20
"""Bytes of a file that is compared by its meaning; larger ones are compared by their bytes."""


class OutputFile(Struct, frozen=True, kw_only=True):
    """An output of a run; ``pieces`` yields its content, None if only the digest was kept."""

    size: int | None
    sha256: str | None
    pieces: Callable[[], Iterator[bytes]] | None = None

    def digest(self) -> str | None:
        """Return the recorded SHA-256, or else that of the content; None if the content can't be read."""
        if self.sha256 is not None or self.pieces is None:
            return self.sha256
        found = hashlib.sha256()
        try:
            for piece in self.pieces():
                found.update(piece)
        except (ProjError, OSError):
            return None
        return found.hexdigest()

    def content(self) -> bytes | None:
        """Return the content; None if it was not kept, can't be read, is too large or was changed since."""
        if self.pieces is None or self.size is None or self.size > LARGEST_COMPARED:
            return None
        try:
            data = b"".join(self.pieces())
        except (ProjError, OSError):
            return None
        is_sound = self.sha256 is None or hashlib.sha256(data).hexdigest() == self.sha256
        return data if is_sound else None


def outputs_of(record: RunRecord, reader: RunReader) -> Mapping[str, OutputFile]:
    """Return the outputs and artifacts of a run, by their artifact paths."""
    found = {kept_as(one.path): OutputFile(size=one.size, sha256=one.sha256) for one in record.outputs}
    try:
        files = reader.files(record.run_id or "").files
    except NotFoundError:  # the artifacts are elsewhere
        return found
    for file in files:
        if not file.on_request:
            # The path as records have it; ``name`` is escaped further, for people.
            name = "/".join(file.names).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            known = found.get(name)
            digest = file.sha256 or (known.sha256 if known else None)
            found[name] = OutputFile(size=file.size, sha256=digest, pieces=file.pieces)
    return found


def without(content: bytes, expressions: tuple[str, ...]) -> bytes:
    """Return a text without what matches the expressions; bytes that are no UTF-8 stay as they are."""
    text = content.decode("utf-8", "surrogateescape")
    for expression in expressions:
        text = re.sub(expression, "", text)
    return text.encode("utf-8", "surrogateescape")


def compare_outputs(
    original: Mapping[str, OutputFile], reproduced: Mapping[str, OutputFile], rules: Tolerances
) -> tuple[Comparison, ...]:
    """Compare the outputs of two runs, by name."""
    return tuple(
        _compare(name, original.get(name), reproduced.get(name), rules) for name in sorted({*original, *reproduced})
    )


def _compare(name: str, original: OutputFile | None, reproduced: OutputFile | None, rules: Tolerances) -> Comparison:
    first = original.digest() if original else None
    second = reproduced.digest() if reproduced else None
    item = Comparison(name=name, verdict=Verdict.INCOMPLETE, original=first, reproduced=second)
    if original is None or reproduced is None:
        side = "reproduction" if reproduced is None else "original run"
        return structs.replace(item, detail=f"the {side} does not have it")
    if first is None or second is None:
        side = "original run" if first is None else "reproduction"
        return structs.replace(item, detail=f"the file of the {side} can't be read")
    if first == second:
        return structs.replace(item, verdict=Verdict.IDENTICAL)
    contents = original.content(), reproduced.content()
    if contents[0] is None or contents[1] is None:
        return structs.replace(item, verdict=Verdict.DIFFERENT, detail="bytes differ")
    return _compare_contents(item, contents[0], contents[1], rules)


def _compare_contents(item: Comparison, original: bytes, reproduced: bytes, rules: Tolerances) -> Comparison:
    """Compare two files with different bytes, first without the texts that a rule ignores."""
    ignored = rules.ignored_in(item.name)
    rule = f"ignore: {', '.join(ignored)}" if ignored else None
    if ignored:
        original, reproduced = without(original, ignored), without(reproduced, ignored)
        if not (original.strip() or reproduced.strip()):
            return structs.replace(item, verdict=Verdict.NOTHING_TO_COMPARE, rule=rule, detail="all of it is ignored")
        if original == reproduced:
            return structs.replace(item, verdict=Verdict.WITHIN_TOLERANCE, rule=rule)
    found = compare_content(item.name, original, reproduced, rules.for_output(item.name))
    if found is None:
        return structs.replace(item, verdict=Verdict.DIFFERENT, rule=rule, detail="bytes differ")
    is_allowed = bool(ignored) and found.verdict is Verdict.IDENTICAL
    how = f"compared by {found.how}, the bytes differ"
    return structs.replace(
        item,
        verdict=Verdict.WITHIN_TOLERANCE if is_allowed else found.verdict,
        difference=shown(found.difference),
        rule="; ".join(part for part in (found.rule, rule, how) if part),
        detail=found.detail,
    )
