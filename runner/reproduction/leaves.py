"""Compares the values of two documents, by their paths in them."""

from collections.abc import Iterator, Mapping, Sequence

from runner.base.plurals import counted
from runner.reproduction.tolerance import Allowance, compare_numbers
from runner.reproduction.verdict import Finding, Verdict, worst

Rules = Sequence[Allowance]
Leaf = tuple[str, object]


class UnreadableError(Exception):
    """A file does not have the format that its name says, so only its bytes can be compared."""


def compare_leaves(how: str, original: Mapping[str, object], reproduced: Mapping[str, object], rules: Rules) -> Finding:
    """Compare the values of two documents, by their paths in them."""
    verdicts, bad, differences, used = set(), [], [], None
    for path in original.keys() & reproduced.keys():
        verdict, difference, rule = _compare_values(original[path], reproduced[path], rules)
        verdicts.add(verdict)
        used = used or rule
        if verdict is not Verdict.IDENTICAL:
            bad.append(path)
        if difference is not None:
            differences.append(difference)
    alone = sorted(original.keys() ^ reproduced.keys())
    if alone:
        verdicts.add(Verdict.DIFFERENT)
    detail = f"{counted(len(bad), 'difference')}, the first is {min(bad)}" if bad else None
    if alone:
        detail = f"{counted(len(alone), 'value')} in one file only, the first is {alone[0]}"
    verdict = worst(verdicts) if verdicts else Verdict.IDENTICAL
    return Finding(verdict=verdict, how=how, difference=max(differences, default=None), rule=used, detail=detail)


def _compare_values(original: object, reproduced: object, rules: Rules) -> tuple[Verdict, float | None, str | None]:
    if _is_number(original) and _is_number(reproduced):
        if type(original) is type(reproduced) and original == reproduced and isinstance(original, int):
            return Verdict.IDENTICAL, 0.0, None
        return compare_numbers(float(str(original)), float(str(reproduced)), rules)
    is_same = type(original) is type(reproduced) and original == reproduced
    return Verdict.IDENTICAL if is_same else Verdict.DIFFERENT, None, None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def leaves(document: object, path: str = "$") -> Iterator[Leaf]:
    """Yield the values of a document with their paths; an empty collection is a value itself."""
    if isinstance(document, dict) and document:
        for key, value in document.items():
            yield from leaves(value, f"{path}.{key}")
    elif isinstance(document, list) and document:
        for number, value in enumerate(document):
            yield from leaves(value, f"{path}[{number}]")
    else:
        yield path, document
