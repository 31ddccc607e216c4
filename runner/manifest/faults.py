"""Collects the faults of a manifest and formats them."""

from collections.abc import Iterable, Sequence

from runner.base.foreign_text import Position as SourcePosition
from runner.errors import ManifestError
from runner.model import Fault, Severity


class Faults:
    """Collects the faults of one file."""

    def __init__(self, file: str, *, needs_environment: bool = True) -> None:
        self.file = file
        self.needs_environment = needs_environment
        """Whether a missing environment file is an error."""
        self.found: list[Fault] = []

    def error(self, place: SourcePosition | None, message: str, hint: str | None = None) -> None:
        """Add a fault that keeps its part of the manifest from running."""
        self._add(Severity.ERROR, place, message, hint)

    def warning(self, place: SourcePosition | None, message: str, hint: str | None = None) -> None:
        """Add a fault that is tolerated."""
        self._add(Severity.WARNING, place, message, hint)

    def _add(self, severity: Severity, place: SourcePosition | None, message: str, hint: str | None) -> None:
        self.found.append(
            Fault(
                severity=severity,
                message=printable(message),
                file=self.file,
                line=place.line if place else None,
                column=place.column if place else None,
                hint=None if hint is None else printable(hint),
            )
        )


def printable(text: str) -> str:
    """Escape lone surrogates, which YAML escapes can produce and no stream can print."""
    return text.encode("utf-8", "backslashreplace").decode()


def raise_errors(faults: Iterable[Fault]) -> None:
    """Raise all faults with the severity error as one exception; ignore warnings.

    Raises:
        ManifestError: at least one fault is an error.
    """
    errors = [fault for fault in faults if fault.severity is Severity.ERROR]
    if len(errors) == 1:
        raise ManifestError(errors[0].message, context=errors[0].place, hint=errors[0].hint)
    if errors:
        raise ManifestError(
            f"{len(errors)} faults in {errors[0].file}: " + "; ".join(fault.message for fault in errors),
            context="\n".join(f"{fault.place}: {fault.message}" for fault in errors),
            hint=next((fault.hint for fault in errors if fault.hint), None),
        )


def quoted(names: Sequence[str]) -> str:
    """Return quoted names, separated by commas."""
    words = [f"'{name}'" for name in names]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + f" and {words[-1]}" if words else "none"
