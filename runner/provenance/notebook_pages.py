"""Makes a page of each notebook that a command executed."""

from collections.abc import Callable, Iterator
from pathlib import Path

from runner.analysis.notebooks import NBCONVERT, SUFFIX, notebook_runs, notebook_words
from runner.base.package_names import canonical_name
from runner.errors import ExecutionError
from runner.model import EnvironmentRecord, Event, EventKind, ProjectFiles, Report
from runner.process import capture

PATIENCE = 120.0
"""Seconds in which a page has to be made."""
_SHOWN = 300


def executed_notebooks(command: str, project: Path, files: ProjectFiles) -> tuple[Path, ...]:
    """Return the notebooks that a command wrote; ``files`` are those of the project before it started."""
    if not notebook_runs(command):
        return ()
    return tuple(path for path in dict.fromkeys(_written(command, project)) if _is_new(path, project, files))


def make_pages(
    notebooks: tuple[Path, ...], environment: EnvironmentRecord, report: Report, mask: Callable[[Path], None]
) -> None:
    """Write an HTML file beside each notebook, with nbconvert of the run's environment if that is there.

    ``mask`` removes secrets from a file; papermill writes parameters into the notebook.
    """
    for notebook in notebooks:
        mask(notebook)
    names = {canonical_name(name) for name, _ in environment.packages}
    if environment.prefix is None or NBCONVERT not in names:
        return
    python = Path(environment.prefix) / "bin" / "python"
    for notebook in notebooks:
        words = ("-m", NBCONVERT, "--to", "html", "--log-level", "ERROR", f"./{notebook.name}")
        try:
            done = capture([python, *words], cwd=notebook.parent, timeout=PATIENCE)
        except ExecutionError as error:
            _report_failure(notebook, error.message, report)
            continue
        if done.exit_code:
            _report_failure(notebook, done.error_text[-_SHOWN:], report)


def _report_failure(notebook: Path, why: str, report: Report) -> None:
    message = f"{notebook.name} could not be converted to HTML"
    report(Event(kind=EventKind.WARNING, message=message, hint=why))


def _written(command: str, project: Path) -> Iterator[Path]:
    """Yield the files that the command may have written: those it names, and the default names of nbconvert."""
    for word in notebook_words(command):
        yield project / word
        yield project / f"{word.removesuffix(SUFFIX)}.nbconvert{SUFFIX}"


def _is_new(path: Path, project: Path, files: ProjectFiles) -> bool:
    """Return whether a file in the project folder was made or changed by the command."""
    if path.is_symlink() or not path.is_file() or not path.resolve().is_relative_to(project.resolve()):
        return False
    known = files.read(path.relative_to(project).as_posix())
    return known is None or known != path.read_bytes()
