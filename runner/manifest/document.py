"""Reads YAML files of a project; errors name file, line and column."""

from runner.base.foreign_text import ForeignTextError
from runner.base.yaml_document import (
    KEY_IS_NO_TEXT,
    Field,
    Kind,
    Node,
    plain_of,
    problem_of,
    read_document,
    text_of,
)
from runner.errors import ManifestError
from runner.manifest.faults import printable
from runner.model import Fault

__all__ = ["DocumentError", "Field", "Kind", "Node", "load_document", "plain_of", "problem_of", "text_of"]

TEMPLATE = "the file looks like a template: is {{ … }} still to be filled in?"


class DocumentError(ManifestError):
    """A file that is not valid YAML."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message, context=fault.location, hint=fault.hint)
        self.fault = fault


def load_document(file: str, content: bytes) -> Node | None:
    """Return the document in a YAML file, or None for a file without content.

    Raises:
        DocumentError: the file is not YAML, has keys that are not strings, or is too large.
    """
    try:
        return read_document(content, like_mlflow=True)
    except ForeignTextError as error:
        fault = Fault(
            message=printable(f"'{file}' can't be read: {error.problem}"),
            file=file,
            line=error.line,
            column=error.column,
            hint=_hint(error.problem, content),
        )
        raise DocumentError(fault) from None


def _hint(problem: str, content: bytes) -> str | None:
    """Return a hint for a common fault, or None."""
    if problem == KEY_IS_NO_TEXT:
        return TEMPLATE
    if "'\\t'" in problem:
        return "YAML is indented with spaces, not with tabs"
    if b"{{" in content and b"}}" in content and "mapping values" not in problem:
        return TEMPLATE
    if "mapping values are not allowed" in problem:
        return 'put quotes around a text that has ": " in it, or write it below a |'
    return None
