"""Adds to an environment the packages that execute notebooks, without a change of the project's own packages."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import structs

from runner.analysis.notebooks import KERNEL, NBCONVERT, NotebookRun, notebook_runs, read_notebook
from runner.base.package_names import canonical_name
from runner.environments.backends.contract import EnvironmentBackend
from runner.environments.model import AnyRequest, Lock, Prepared
from runner.environments.repair.missing import PINNED
from runner.environments.resolve.locking import PACKAGE, read_lock
from runner.environments.specs import PythonSpec, is_changeable, with_packages
from runner.errors import EnvironmentSetupError
from runner.model import Event, EventKind, ProjectFiles, Report

_USUAL_KERNEL = "python3"
"""The name of the kernel that each environment with ipykernel has."""
_KERNEL_NAME = re.compile(r"[A-Za-z0-9._-]*[A-Za-z0-9_-][A-Za-z0-9._-]*")


def with_notebook_tools(
    backend: EnvironmentBackend, request: AnyRequest, lock: Lock | None, command: str, report: Report
) -> tuple[AnyRequest, Lock | None]:
    """Return request and lock with the packages that execute the notebooks of a command, if the lock lacks them.

    The packages of the lock keep their versions and hashes. If that is impossible and the project has no lock of its
    own, its requirements are resolved again together with the added packages.

    Raises:
        EnvironmentSetupError: the project is locked, and the packages do not fit to its lock.
    """
    runs = notebook_runs(command)
    if not runs or lock is None or request.files is None or not backend.capabilities.builds_prefixes:
        return request, lock
    spec = request.of(PythonSpec).spec
    known = {canonical_name(name) for name in lock.names or PINNED.findall(lock.text)}
    missing = tuple(name for name in _tools(runs, request.files) if name not in known)
    if not missing or (lock.names and not is_changeable(spec)):
        return request, lock
    names = ", ".join(f"'{name}'" for name in missing)
    repair = f"{names} {'are' if len(missing) > 1 else 'is'} added: {runs[0].path} is a notebook"
    steps = _only_steps(report)
    try:
        extended = None if lock.names else _extended(backend, request, lock, missing, steps)
    except EnvironmentSetupError as error:
        if not is_changeable(spec):
            error.hint = f"the packages must fit to the lock of the project: 'proj add {' '.join(missing)}'"
            raise
        extended = None
    if extended is not None:
        changed = structs.replace(request, spec=structs.replace(spec, repairs=(*spec.repairs, repair)))
    else:
        changed = structs.replace(request, spec=with_packages(spec, missing, (repair,)))
        extended = backend.lock(changed, steps)
    report(Event(kind=EventKind.NOTICE, message=f"Repaired: {repair}"))
    return changed, extended


def with_kernels(environment: Prepared, command: str, files: ProjectFiles, folder: Path) -> Prepared:
    """Return an environment in which the kernels that Python notebooks name start its own Python.

    The name in a notebook is that of its author's environment. ``folder`` gets the descriptions of the kernels:
    https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs.
    """
    found = [read_notebook(files.read(run.path) or b"") for run in notebook_runs(command)]
    names = {notebook.metadata.kernelspec.name for notebook in found if notebook and notebook.is_python}
    odd = sorted(name for name in names if name not in ("", _USUAL_KERNEL) and _KERNEL_NAME.fullmatch(name))
    if not odd or environment.prefix is None or "-k python3" in command:
        return environment
    for name in odd:
        place = folder / "jupyter" / "kernels" / name
        place.mkdir(parents=True, exist_ok=True)
        argv = [str(environment.prefix / "bin" / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        text = msgspec.json.encode({"argv": argv, "display_name": name, "language": "python"})
        (place / "kernel.json").write_bytes(text)
    repairs = tuple(f"the kernel '{name}' of the notebook is the Python of the environment" for name in odd)
    record = structs.replace(environment.record, repairs=(*environment.record.repairs, *repairs))
    paths = os.pathsep.join(filter(None, (str(folder / "jupyter"), os.environ.get("JUPYTER_PATH"))))
    return structs.replace(environment, record=record, variables={**environment.variables, "JUPYTER_PATH": paths})


def _tools(runs: Sequence[NotebookRun], files: ProjectFiles) -> tuple[str, ...]:
    """Return the packages that execute notebooks and convert them to pages, in a fixed order."""
    found = [read_notebook(files.read(run.path) or b"") for run in runs]
    kernel = [KERNEL] if any(notebook is None or notebook.is_python for notebook in found) else []
    return tuple(dict.fromkeys([*(run.tool for run in runs), *kernel, NBCONVERT]))


def _extended(
    backend: EnvironmentBackend, request: AnyRequest, lock: Lock, names: Sequence[str], report: Report
) -> Lock:
    """Return a lock with all lines of another one, and more for further packages.

    Raises:
        EnvironmentSetupError: the further packages need other versions of the locked ones.
    """
    spec = request.of(PythonSpec).spec
    pins = tuple(match[0].strip() for match in PACKAGE.finditer(lock.text))
    wanted = PythonSpec(
        kind=spec.kind, file=spec.file, python=spec.python, options=spec.options, requirements=(*pins, *names)
    )
    alone = structs.replace(
        request, spec=wanted, files=None, tree=None, interpreter=lock.interpreter, refresh=False, may_replace=False
    )
    resolved = backend.lock(alone, report)
    known = {canonical_name(name) for name in PINNED.findall(lock.text)}
    blocks = _blocks(resolved.text) if resolved else {}
    more = [block for name, block in blocks.items() if name not in known]
    if not set(names) <= set(blocks):
        raise EnvironmentSetupError(f"{', '.join(names)} can't be installed together with the locked packages")
    return structs.replace(
        lock, **_identity(read_lock(lock.text.rstrip("\n") + "\n" + "".join(more), lock.interpreter)), path=None
    )


def _identity(lock: Lock) -> dict[str, str]:
    return {"text": lock.text, "digest": lock.digest}


def _blocks(text: str) -> dict[str, str]:
    """Return the lines of each package of a lock by its canonical name."""
    blocks = [block.rstrip("\n") + "\n" for block in re.split(r"\n(?=\S)", text) if PINNED.match(block)]
    found: dict[str, str] = {}
    for block in blocks:
        name = canonical_name(PINNED.findall(block)[0])
        found[name] = found.get(name, "") + block
    return found


def _only_steps(report: Report) -> Report:
    return lambda event: report(event) if event.kind is EventKind.STEP else None
