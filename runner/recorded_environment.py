"""Takes the environment of a new run from the record of an earlier run: lock, interpreter, engine options."""

from msgspec import structs

from runner.base.masking import STARS
from runner.environments.model import Interpreter
from runner.environments.resolve.locking import PACKAGE, read_lock
from runner.environments.specs import ProjectLock, PythonSpec
from runner.errors import EnvironmentSetupError, UsageError
from runner.model import EnvironmentRecord
from runner.plan import Plan

_DAMAGED = "`proj verify` names what else is damaged."


def with_recorded_lock(plan: Plan, run_id: str, environment: EnvironmentRecord | None) -> Plan:
    """Return a plan that installs exactly what a recorded run had; only pip's locks are used so far.

    The plan is unchanged if its backend installs nothing, or if the run had no environment yet.

    Raises:
        EnvironmentSetupError: the recorded lock is missing or was changed.
    """
    spec, path = plan.spec, plan.home.lock(run_id)
    if environment is None or environment.python is None or not isinstance(spec, PythonSpec):
        return plan
    if not plan.backend.capabilities.builds_prefixes or (path is not None and path.name != "lock.txt"):
        return plan
    if path is None:
        if environment.lock_digest is None:
            return plan
        raise EnvironmentSetupError(f"The lock of the run {run_id[:8]} is not there any more", hint=_DAMAGED)
    text, python = path.read_text("utf-8"), environment.python
    parsed = read_lock(text, Interpreter(path="", version=python, implementation="", platform=""))
    if environment.lock_digest is not None and parsed.digest != environment.lock_digest:
        raise EnvironmentSetupError("The lock of the run was changed since", context=str(path), hint=_DAMAGED)
    lock = ProjectLock(path="the lock of the run", text=text, python=python, pythons=".".join(python.split(".")[:2]))
    names = tuple(match[0].split(" ")[0] for match in PACKAGE.finditer(text))
    packages = plan.home.packages(run_id)
    # Packages that came with the run replace every index.
    options = ("--no-index", f"--find-links {packages}") if packages.is_dir() else spec.options
    # A spec without requirements would be taken for an empty one, also if packages were added to it.
    spec = structs.replace(
        spec,
        project_lock=lock,
        python=python,
        requirements=spec.requirements or names,
        repairs=(),
        notices=(),
        options=options,
    )
    return structs.replace(plan, spec=spec, additions=())


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
