"""Takes the environment of a new run from the record of an earlier run: lock, interpreter, engine options."""

from pathlib import Path

from msgspec import structs

from runner.base.masking import STARS
from runner.environments.model import Interpreter
from runner.environments.resolve.locking import LOCK_CHANGED, LOCK_CHANGED_HINT, PACKAGE, read_lock
from runner.environments.specs import CondaFileSpec, ProjectLock, PythonSpec, RecordedLock
from runner.errors import EnvironmentSetupError, UsageError
from runner.model import EnvironmentRecord
from runner.plan import Plan


def with_recorded_lock(plan: Plan, run_id: str, environment: EnvironmentRecord | None) -> Plan:
    """Return a plan that installs exactly what a recorded run had.

    The plan is unchanged if its backend installs nothing, or if the run had no environment yet.

    Raises:
        EnvironmentSetupError: the recorded lock is missing or was changed.
    """
    spec, path = plan.spec, plan.home.lock(run_id)
    if not plan.backend.capabilities.builds_prefixes or not isinstance(spec, PythonSpec):
        return plan
    if environment is None or environment.python is None:
        return plan
    if path is not None:
        locked = _conda_spec if path.suffix == ".yml" else _python_spec
        recorded = locked(spec, path, environment, environment.python)
        packages = plan.home.packages(run_id)
        if packages.is_dir():  # packages that came with the run replace every index
            recorded = structs.replace(recorded, options=("--no-index", f"--find-links {packages}"))
        return structs.replace(plan, spec=recorded, additions=())
    if environment.lock_digest is None:
        return plan
    raise EnvironmentSetupError(f"The lock of the run {run_id[:8]} is not there any more", hint=LOCK_CHANGED_HINT)


def _conda_spec(spec: PythonSpec, path: Path, environment: EnvironmentRecord, _python: str) -> PythonSpec:
    """Return a spec with a lock of conda packages, which is compared with its digest when it is read."""
    if not isinstance(spec, CondaFileSpec):
        return spec
    lock = RecordedLock(path=str(path), text=path.read_text("utf-8"), digest=environment.lock_digest)
    return structs.replace(spec, recorded_lock=lock, notices=())


def _python_spec(spec: PythonSpec, path: Path, environment: EnvironmentRecord, python: str) -> PythonSpec:
    text = path.read_text("utf-8")
    parsed = read_lock(text, Interpreter(path="", version=python, implementation="", platform=""))
    if environment.lock_digest is not None and parsed.digest != environment.lock_digest:
        raise EnvironmentSetupError(LOCK_CHANGED, context=str(path), hint=LOCK_CHANGED_HINT)
    lock = ProjectLock(path="the lock of the run", text=text, python=python, pythons=".".join(python.split(".")[:2]))
    names = tuple(match[0].split(" ")[0] for match in PACKAGE.finditer(text))
    # A spec without requirements would be taken for an empty one, also if packages were added to it.
    return structs.replace(
        spec, project_lock=lock, python=python, requirements=spec.requirements or names, repairs=(), notices=()
    )


def recorded_engine_options(environment: EnvironmentRecord | None) -> tuple[tuple[str, str | None], ...]:
    """Return the recorded options of the container engine; the manifest declares its GPUs itself.

    Raises:
        UsageError: an option has a secret, which was not recorded.
    """
    options = []
    for text in environment.engine_options if environment else ():
        name, equals, value = text.partition("=")
        if STARS in text:
            raise UsageError(f"The option -A {name} of the run has a secret, which is not recorded")
        if name != "gpus":
            options.append((name, value if equals else None))
    return tuple(options)
