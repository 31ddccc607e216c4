"""The words of the domain as frozen values that pass between the parts; no I/O happens here."""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Protocol

from msgspec import Struct


class EventKind(str, Enum):
    """How an event is meant; the command line decides how it looks."""

    STEP = "step"
    """A step of the work begins."""
    NOTICE = "notice"
    """Something the user should know."""
    WARNING = "warning"
    """Something the user should look at."""
    REMARK = "remark"
    """Something for the record alone, as the user was told before."""


class Event(Struct, frozen=True, kw_only=True):
    """Something that a part says while it works."""

    kind: EventKind
    message: str
    hint: str | None = None


Report = Callable[[Event], None]
"""Where events go. Parts never print."""


class ProjectFiles(Protocol):
    """The files of a project, in a folder or in a frozen tree.

    Paths are POSIX and relative to the project folder; ``..`` may reach the rest of the repository, never beyond it.
    """

    def read(self, path: str) -> bytes | None:
        """Return the content of a file, or None where there is no such file."""
        ...

    def names(self, folder: str = "") -> tuple[str, ...]:
        """Return the sorted names in a folder, those of folders with a final ``/``; empty where there is no folder."""
        ...


class Severity(str, Enum):
    """How much a fault in a manifest matters."""

    ERROR = "error"
    """What it concerns can't be run."""
    WARNING = "warning"
    """It is tolerated, as MLflow does."""


class Fault(Struct, frozen=True, kw_only=True):
    """Something wrong in a manifest, with its place; lines and columns count from 1."""

    severity: Severity = Severity.ERROR
    message: str
    file: str
    line: int | None = None
    column: int | None = None
    hint: str | None = None

    @property
    def place(self) -> str:
        """The place as compilers write it: ``MLproject:12:5``."""
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)


class ValueSource(str, Enum):
    """Where a parameter's value came from; later members win."""

    DEFAULT = "default"
    FILE = "file"
    COMMAND_LINE = "command line"


DEFAULT_EXPERIMENT = "Default"
"""Where runs are recorded for which nobody names an experiment."""


class ParameterSpec(Struct, frozen=True, kw_only=True):
    """A parameter as an entry point declares it; required when ``default`` is None."""

    name: str
    type: str = "string"
    default: str | None = None
    description: str | None = None
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    secret: bool = False
    note: str | None = None  # why there is no default although the declaration looks as if there were one
    is_null: bool = False  # a default of null means to authors that the parameter may be left out


class Parameter(Struct, frozen=True, kw_only=True):
    """A parameter with the raw text of its value, as it reaches the command before quoting."""

    name: str
    value: str
    type: str = "string"
    source: ValueSource = ValueSource.COMMAND_LINE
    secret: bool = False
    declared: bool = True


class EnvironmentKind(str, Enum):
    """The kinds of files that declare an environment."""

    PYTHON_ENV = "python_env"
    CONDA_ENV = "conda_env"
    DOCKER_ENV = "docker_env"
    PYLOCK = "pylock"
    UV_LOCK = "uv_lock"
    REQUIREMENTS = "requirements"
    NONE = "none"


class ImageBuild(Struct, frozen=True, kw_only=True):
    """How an image is built from the project; paths are relative to the project folder, ``..`` stays in the repository.

    ``file`` is the Dockerfile or Containerfile, None for the one in the context.
    """

    context: str = "."
    file: str | None = None
    arguments: tuple[tuple[str, str], ...] = ()
    target: str | None = None


class ContainerSpec(Struct, frozen=True, kw_only=True):
    """What ``docker_env`` declares. A variable without a value is copied from the caller.

    ``image`` is empty where the image is built, or named by ``devcontainer``, the path of a devcontainer.json.
    """

    image: str = ""
    volumes: tuple[str, ...] = ()
    environment: tuple[tuple[str, str | None], ...] = ()
    build: ImageBuild | None = None
    devcontainer: str | None = None
    gpus: str | None = None


class EnvironmentDeclaration(Struct, frozen=True, kw_only=True):
    """Which file declares the environment, and why that one."""

    kind: EnvironmentKind = EnvironmentKind.NONE
    path: str | None = None
    container: ContainerSpec | None = None


class MetricsFile(Struct, frozen=True, kw_only=True):
    """A file that a run writes and whose numbers are its metrics."""

    path: str
    tolerance: float | None = None


class EntryPoint(Struct, frozen=True, kw_only=True):
    """A command with its parameters, as the manifest declares it or as a script implies it."""

    name: str
    command: str
    parameters: tuple[ParameterSpec, ...] = ()
    description: str | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    metrics: tuple[MetricsFile, ...] = ()
    env: Mapping[str, str] = {}
    timeout: float | None = None
    environment: EnvironmentDeclaration | None = None
    needs: tuple[str, ...] = ()
    promote: Mapping[str, object] | None = None
    extra: str = "--{name} {value}"
    """How an undeclared parameter is added to the command."""
    faults: tuple[Fault, ...] = ()
    """What is wrong with the declaration; errors stop this entry point only."""


class Manifest(Struct, frozen=True, kw_only=True):
    """An MLproject file, or its absence (``path`` is None)."""

    path: str | None = None
    name: str | None = None
    entry_points: Mapping[str, EntryPoint] = {}
    environment: EnvironmentDeclaration = EnvironmentDeclaration()
    experiment: str | None = None
    tolerance: float | None = None
    faults: tuple[Fault, ...] = ()
    """What is tolerated outside the entry points, with hints for the user."""


class SourceKind(str, Enum):
    """Where code comes from."""

    FOLDER = "folder"
    GIT = "git"
    ZIP = "zip"


class FileRecord(Struct, frozen=True, kw_only=True):
    """A file by content: path relative to the project folder, size in bytes, SHA-256 in hex."""

    path: str
    size: int
    sha256: str


class Code(Struct, frozen=True, kw_only=True):
    """The identity of the code of a run.

    ``tree`` is the git tree id of the frozen tree, ``swhid`` the same as a Software Heritage identifier. ``remote``
    never holds credentials. ``changed_files`` are the paths in which a dirty tree differs from its commit.
    ``large_files`` were too large to be stored: they are known by digest; their paths are relative to the top.
    """

    tree: str
    swhid: str
    commit: str | None = None
    dirty: bool = False
    branch: str | None = None
    remote: str | None = None
    subdirectory: str = ""
    ref: str | None = None
    changed_files: tuple[str, ...] = ()
    large_files: tuple[FileRecord, ...] = ()


class EnvironmentRecord(Struct, frozen=True, kw_only=True):
    """The environment that a run used.

    ``digest`` identifies what is installed, ``lock_digest`` the lock, ``as_of`` is the RFC 3339 time up to which
    packages were considered. ``packages`` are name and version of each installed distribution, ``channels`` where those
    of conda come from, without credentials. In a container ``digest`` is the id of the image, ``image`` what the
    project calls it and ``image_digest`` the digest under which a registry has it, where there is one.
    """

    manager: str
    python: str | None = None
    digest: str | None = None
    lock_digest: str | None = None
    prefix: str | None = None
    as_of: str | None = None
    platform: str | None = None
    packages: tuple[tuple[str, str], ...] = ()
    channels: tuple[str, ...] = ()
    image: str | None = None
    image_digest: str | None = None
    engine_options: tuple[str, ...] = ()
    """What the container engine was told besides: GPUs of the manifest, and the user's own options, masked."""
    declared: str | None = None
    """The file, or the key of the manifest, that declares the environment; None where nothing does."""
    repairs: tuple[str, ...] = ()
    """What was changed so that the project runs."""
    departures: tuple[str, ...] = ()
    """In what else it is not to the letter as declared: packages left out, another patch release of Python."""


class Machine(Struct, frozen=True, kw_only=True):
    """Where a command ran. Memory is in bytes; ``variables`` is a short allow-list, never the environment."""

    host: str
    platform: str
    cpu_count: int
    memory: int | None = None
    gpus: tuple[str, ...] = ()
    variables: Mapping[str, str] = {}


class Resources(Struct, frozen=True, kw_only=True):
    """What a command used: seconds of wall clock and processor, bytes of memory at the peak."""

    wall_seconds: float
    user_seconds: float
    system_seconds: float
    peak_memory: int | None = None


class RunStatus(str, Enum):
    """The states of a run."""

    SCHEDULED = "SCHEDULED"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"
    LOST = "LOST"
    """Its owner is gone and nobody recorded the end."""

    @property
    def is_over(self) -> bool:
        """Say whether nothing more will happen to the run."""
        return self not in (RunStatus.SCHEDULED, RunStatus.RUNNING)


class ParameterRecord(Struct, frozen=True, kw_only=True):
    """A parameter as recorded; ``source`` is a `ValueSource`, or ``logged`` where the script logged it."""

    name: str
    value: str
    type: str = "string"
    source: str = "logged"


class RunDetails(Struct, frozen=True, kw_only=True):
    """What a run records beyond MLflow's words; stored as one JSON document with the run."""

    project: str | None = None
    entry_point: str | None = None
    command: str | None = None
    argv: tuple[str, ...] = ()
    cwd: str | None = None
    exit_code: int | None = None
    reason: str | None = None
    """Why a run did not finish, in words for a person."""
    command_status: RunStatus | None = None
    """How the command ended; the run takes this status when its results have been collected."""
    code: Code | None = None
    environment: EnvironmentRecord | None = None
    parameters: tuple[ParameterRecord, ...] = ()
    inputs: tuple[FileRecord, ...] = ()
    outputs: tuple[FileRecord, ...] = ()
    resources: Resources | None = None
    machine: Machine | None = None
    folder: str | None = None
    log: str | None = None
    redirects: tuple[str, ...] = ()
    """Where the code would log, each in words, and this run was instead."""
    repairs: tuple[str, ...] = ()  # what of the command, its parameters and its paths was changed so that it runs
    notices: tuple[str, ...] = ()


class RunRecord(Struct, frozen=True, kw_only=True):
    """A run as people and programs see it: the stable JSON of ``proj run --json`` and ``proj show --json``.

    Times are RFC 3339 in UTC. In a plan (``proj run --dry-run --json``) what only a run can know is null.
    """

    run_id: str | None
    run_name: str | None
    experiment: str | None
    status: str | None
    exit_code: int | None
    started_at: str | None
    ended_at: str | None
    project: str | None
    entry_point: str | None
    command: str | None
    argv: tuple[str, ...]
    cwd: str | None
    parameters: tuple[ParameterRecord, ...]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    code: Code | None
    environment: EnvironmentRecord | None
    inputs: tuple[FileRecord, ...]
    outputs: tuple[FileRecord, ...]
    resources: Resources | None
    machine: Machine | None
    folder: str | None
    log: str | None
    reason: str | None = None
    redirects: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


class RunRequest(Struct, frozen=True, kw_only=True):
    """What the user asks of one run. Unset values are decided by the manifest, the settings or the default."""

    uri: str
    entry_point: str | None = None
    parameters: Mapping[str, str] = {}
    parameters_file: str | None = None
    version: str | None = None
    experiment_name: str | None = None
    experiment_id: str | None = None
    run_name: str | None = None
    environment_manager: str | None = None
    in_place: bool = False
    as_of: str | None = None
    timeout: float | None = None
    container_options: tuple[tuple[str, str | None], ...] = ()
    """Options for the container engine by name without dashes; those without a value are flags."""
    repair: bool = True
    """Whether what is known to keep old projects from running may be repaired."""
    add_missing: bool = False
    """Whether packages that the code imports and nobody declares are installed."""
    serve_as: tuple[str, ...] = ()
    """Addresses (``HOST:PORT``) for which the run answers, by listening there or by redirecting the client."""
    tracking_uri: str | None = None
    """The server that the run is recorded on too, maybe with credentials; None for what MLFLOW_TRACKING_URI names."""
