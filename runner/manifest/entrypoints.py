"""Selects the entry point or the script of the project that the user names."""

from posixpath import splitext
from shlex import quote
from typing import TYPE_CHECKING

from runner.base.lazy import LazyModule
from runner.base.suggestions import suggestion
from runner.errors import ManifestError
from runner.manifest.faults import quoted, raise_errors
from runner.manifest.files import near_file, tidy_path
from runner.model import EntryPoint, Manifest, ProjectFiles

if TYPE_CHECKING:
    from runner.analysis import notebooks
    from runner.manifest import parser
else:
    notebooks = LazyModule("runner.analysis.notebooks")
    parser = LazyModule("runner.manifest.parser")

MAIN = "main"
PARAMETER_OF_NOTEBOOK = "-p {name} {value}"


def find_entry_point(manifest: Manifest, name: str | None, files: ProjectFiles) -> EntryPoint:
    """Return the entry point with this name, else an entry point for the script with this name.

    Without a name, return ``main`` or the only entry point.

    Raises:
        ManifestError: there is no such entry point or script, or its declaration is invalid.
    """
    if name is None:
        only = tuple(manifest.entry_points)
        name = only[0] if len(only) == 1 else MAIN
    entry = manifest.entry_points.get(name)
    if entry is not None:
        raise_errors(entry.faults)
        return entry
    path = tidy_path(name)
    content = files.read(path)
    command = _script_command(name, content or b"")
    if command is None:
        raise _unknown(manifest, name, files)
    if content is None:
        raise ManifestError(
            f"there is no script '{name}' in the project", context=manifest.path, hint=near_file(path, files)
        )
    braces = command.replace("{", "{{").replace("}", "}}")
    extra = PARAMETER_OF_NOTEBOOK if name.endswith(".ipynb") else EntryPoint(name=name, command="").extra
    return EntryPoint(name=name, command=braces, extra=extra)


def _script_command(path: str, content: bytes) -> str | None:
    """Return the command line that runs a script, by its extension, or None for an unknown extension.

    Shell scripts run in bash, like commands. (MLflow uses the caller's login shell, so its runs differ between
    machines.) papermill runs a notebook in the project's environment and writes the result beside it.
    """
    stem, extension = splitext(path)
    if extension == ".py":
        return f"python {quote(path)}"
    if extension == ".sh":
        return f"bash {quote(path)}"
    if extension == ".R":
        return _r_command(path)
    if extension == ".ipynb":
        return _papermill_command(path, f"{stem}.executed.ipynb", content)
    return None


def _papermill_command(path: str, output: str, content: bytes) -> str:
    """Return the command that executes a notebook; what its cells print goes to the output of the run."""
    notebook = notebooks.read_notebook(content)
    # The name of the kernel in a notebook is that of its author's environment; an environment has its own as python3.
    kernel = " -k python3" if notebook is None or notebook.is_python else ""
    return f"python -m papermill --log-output --no-progress-bar{kernel} {quote(path)} {quote(output)}"


def _r_command(path: str) -> str:
    """Return MLflow's command for R; the path is quoted for R and for the shell."""
    if quote(path) == path:
        return f"Rscript -e \"mlflow::mlflow_source('{path}')\" --args"
    text = path.replace("\\", "\\\\").replace("'", "\\'")
    call = f"mlflow::mlflow_source('{text}')"
    return f"Rscript -e {quote(call)} --args"


def _unknown(manifest: Manifest, name: str, files: ProjectFiles) -> ManifestError:
    names = tuple(manifest.entry_points)
    known = f"the entry points are {quoted(names)}" if names else "there are no entry points"
    if len(names) == 1:
        known = f"the only entry point is {quoted(names)}"
    scripts = [file for file in files.names() if splitext(file)[1] in (".py", ".sh", ".R", ".ipynb")]
    hint = suggestion(name, names)
    if hint is None and manifest.path is None:
        hint = parser.explain_absence(files)
    if hint is None and names and name == MAIN:
        hint = f"say which one to run, for example -e {quote(names[0])}"
    if hint is None and scripts:
        hint = f"a script runs without a declaration, for example -e {quote(scripts[0])}"
    if manifest.path is None:
        if hint is None:
            hint = "`proj new NAME` creates a project; any command runs with `proj run . -- COMMAND`"
        return ManifestError(f"the project has no MLproject, and so no entry point '{name}'", hint=hint)
    return ManifestError(f"there is no entry point '{name}' in {manifest.path}: {known}", hint=hint)
