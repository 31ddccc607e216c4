"""Collects the faults of a manifest and formats them."""

from collections.abc import Iterable, Sequence

from runner.base.foreign_text import Position as SourcePosition
from runner.base.plurals import counted
from runner.errors import ManifestError
from runner.model import Fault, Severity


class Faults:
    """Collects the faults of one file."""

    def __init__(self, file: str, *, needs_environment: bool = True) -> None:
        self.file = file
        self.needs_environment = needs_environment
        """Whether a missing environment file is an error."""
        self.found: list[Fault] = []

    def error(self, position: SourcePosition | None, message: str, hint: str | None = None) -> None:
        """Add a fault that keeps its part of the manifest from running."""
        self._add(Severity.ERROR, position, message, hint)

    def warning(self, position: SourcePosition | None, message: str, hint: str | None = None) -> None:
        """Add a fault that is tolerated."""
        self._add(Severity.WARNING, position, message, hint)

    def _add(self, severity: Severity, position: SourcePosition | None, message: str, hint: str | None) -> None:
        self.found.append(
            Fault(
                severity=severity,
                message=printable(message),
                file=self.file,
                line=position.line if position else None,
                column=position.column if position else None,
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
        raise ManifestError(errors[0].message, context=errors[0].location, hint=errors[0].hint)
    if errors:
        raise ManifestError(
            f"{counted(len(errors), 'fault')} in {errors[0].file}: " + "; ".join(fault.message for fault in errors),
            context="\n".join(f"{fault.location}: {fault.message}" for fault in errors),
            hint=next((fault.hint for fault in errors if fault.hint), None),
        )


def quoted(names: Sequence[str]) -> str:
    """Return quoted names, separated by commas."""
    shown = [f"'{name}'" for name in names]
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + f" and {shown[-1]}" if shown else "none"
