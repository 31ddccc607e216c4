"""Reads MLflow's ``python_env.yaml``: keys ``python``, ``build_dependencies``, ``dependencies``."""

from msgspec import structs

from runner.base.suggestions import nearest
from runner.environments.declare.positions import Document, Item, list_faults
from runner.environments.declare.requirements import Line, RequirementReader
from runner.environments.specs import PythonSpec, RequirementLines, collect, specify
from runner.errors import EnvironmentSetupError
from runner.model import EnvironmentKind, ProjectFiles

KEYS = ("python", "build_dependencies", "dependencies")


def read_python_env(document: Document, files: ProjectFiles) -> PythonSpec:
    """Return the spec in a ``python_env.yaml``. Paths in its lines are relative to the project folder, as in MLflow.

    Raises:
        EnvironmentSetupError: the file has faults; the message lists all of them with their lines.
    """
    faults = [_unknown(document, key) for key in document.keys if key not in KEYS]
    python = document.text("python", faults)
    listed = {key: document.items(key, faults) for key in KEYS[1:]}
    for key, items in listed.items():
        faults += [
            f"line {item.line}: each item of {key} must be one requirement, as a string"
            for item in items
            if item.is_nested
        ]
    if faults:
        raise EnvironmentSetupError(
            f"{document.file} can't be used: {list_faults(faults)}",
            context=document.file,
            hint=f"The known keys are {', '.join(KEYS)}; the last two are lists.",
        )
    build, main = (_collect(document, listed[key], files) for key in KEYS[1:])
    spec = specify(EnvironmentKind.PYTHON_ENV, document.file, main, python=python)
    return _with_build(spec, specify(EnvironmentKind.PYTHON_ENV, document.file, build))


def _with_build(spec: PythonSpec, build: PythonSpec) -> PythonSpec:
    return structs.replace(
        spec,
        build_requirements=build.requirements,
        constraints=build.constraints + spec.constraints,
        options=tuple(dict.fromkeys(build.options + spec.options)),
        local_packages=tuple(dict.fromkeys(build.local_packages + spec.local_packages)),
        notices=build.notices + spec.notices,
    )


def _collect(document: Document, items: tuple[Item, ...], files: ProjectFiles) -> RequirementLines:
    lines = collect()
    reader = RequirementReader(files, lines)
    reader.read_lines((Line(item.line, item.text) for item in items), document.file, ("", document.folder))
    return lines


def _unknown(document: Document, key: str) -> str:
    near = nearest(key.replace("-", "_"), KEYS)
    return f"line {document.line(key)}: unknown key '{key}'" + (f", did you mean '{near}'?" if near else "")
