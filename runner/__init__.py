"""Package data-science projects, run them, and tie every result to the exact code that made it.

`run` is the whole interface for programs; the command line is the one for people.
"""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.model import RunRecord

__all__ = ["run"]


def run(
    uri: str = ".",
    *,
    entry_point: str | None = None,
    parameters: Mapping[str, object] | None = None,
    **options: object,
) -> "RunRecord":
    """Run an entry point of a project to its end and return the record of the run.

    A command that fails is a result: look at ``status`` and ``exit_code``. ``options`` are the other fields of
    `runner.model.RunRequest`, such as ``version``, ``experiment_name`` or ``environment_manager``.

    Raises:
        runner.errors.ProjError: the run could not be started or its environment not be built.
    """
    # Imported by name: the package's root stands above all its parts, and importing one part must not load the rest.
    library = importlib.import_module("runner.library")
    record: RunRecord = library.run(uri, entry_point, dict(parameters or {}), options)
    return record
