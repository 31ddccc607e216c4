"""Defines the domain model: frozen values that pass between the packages. No I/O happens here."""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Protocol

from msgspec import UNSET, Struct, UnsetType

from runner.observed import Observation


class EventKind(str, Enum):
    """The kind of an event; the command line decides how each kind is shown."""

    STEP = "step"  # a step of the work begins
    NOTICE = "notice"  # the user should know it
    WARNING = "warning"  # the user should look at something
    REMARK = "remark"  # for the record only; the user has already seen it


class Event(Struct, frozen=True, kw_only=True):
    """A message that a package emits while it works."""

    kind: EventKind
    message: str
    hint: str | None = None
    run_id: str | None = None  # the run whose record was opened; only the first event of a run has it


Report = Callable[[Event], None]  # a function that receives events; only `cli` prints


class ProjectFiles(Protocol):
    """The files of a project, in a folder or in a frozen tree.

    Paths are POSIX and relative to the project folder; ``..`` may reach the rest of the repository, never beyond it.
    """

    def read(self, path: str) -> bytes | None:
        """Return the content of a file, None if it does not exist."""
        ...

    def names(self, folder: str = "") -> tuple[str, ...]:
        """Return the sorted names in a folder, folders with a final ``/``; empty if the folder does not exist."""
        ...


class Severity(str, Enum):
    """The severity of a fault in a manifest."""

    ERROR = "error"  # the entry point, or the project, can't be run
    WARNING = "warning"  # the fault is tolerated, as in MLflow


class Fault(Struct, frozen=True, kw_only=True):
    """An error or a warning about a manifest, with its position; lines and columns count from 1."""

    severity: Severity = Severity.ERROR
    message: str
    file: str
    line: int | None = None
    column: int | None = None
    hint: str | None = None

    @property
    def location(self) -> str:
        """The position in the form of compilers: ``MLproject:12:5``."""
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)


class ValueSource(str, Enum):
    """The source of a parameter's value; later members win."""

    DEFAULT = "default"
    FILE = "file"
    COMMAND_LINE = "command line"


DEFAULT_EXPERIMENT = "Default"  # of runs for which no experiment is named


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
    note: str | None = None  # why a declaration that seems to have a default has none
    is_null: bool = False  # the declared default is null: authors mean that the parameter is optional


class Parameter(Struct, frozen=True, kw_only=True):
    """A parameter with the raw text of its value, as it reaches the command before quoting."""

    name: str
    value: str
    type: str = "string"
    source: ValueSource = ValueSource.COMMAND_LINE
    secret: bool = False
    declared: bool = True


class EnvironmentKind(str, Enum):
    """The kind of file, or key of the manifest, that declares an environment."""

    PYTHON_ENV = "python_env"
    CONDA_ENV = "conda_env"
    DOCKER_ENV = "docker_env"
    PYLOCK = "pylock"
    UV_LOCK = "uv_lock"
    REQUIREMENTS = "requirements"
    NONE = "none"


class ImageBuild(Struct, frozen=True, kw_only=True):
    """How an image is built; paths are relative to the project folder, and ``..`` stays in the repository."""

    context: str = "."
    file: str | None = None  # the Dockerfile or Containerfile, None for the one in the context
    arguments: tuple[tuple[str, str], ...] = ()
    target: str | None = None


class ContainerSpec(Struct, frozen=True, kw_only=True):
    """The declaration of ``docker_env``. A variable without a value is copied from the caller.

    ``image`` is empty if the image is built, or named by ``devcontainer``, the path of a devcontainer.json.
    """

    image: str = ""
    volumes: tuple[str, ...] = ()
    environment: tuple[tuple[str, str | None], ...] = ()
    build: ImageBuild | None = None
    devcontainer: str | None = None
    gpus: str | None = None


class EnvironmentDeclaration(Struct, frozen=True, kw_only=True):
    """The file that declares the environment, and its kind."""

    kind: EnvironmentKind = EnvironmentKind.NONE
    path: str | None = None
    container: ContainerSpec | None = None


class MetricsFile(Struct, frozen=True, kw_only=True):
    """A file that a run writes and whose numbers are its metrics."""

    path: str
    tolerance: float | None = None


class EntryPoint(Struct, frozen=True, kw_only=True):
    """A command with its parameters, declared in the manifest or derived from a script."""

    name: str
    command: str
    parameters: tuple[ParameterSpec, ...] = ()
    description: str | None = None
    inputs: tuple[str, ...] = ()
    copied_inputs: tuple[str, ...] = ()  # those of the inputs that a run gets as copies, also if they are large
    outputs: tuple[str, ...] = ()
    metrics: tuple[MetricsFile, ...] = ()
    env: Mapping[str, str] = {}
    passed: tuple[str, ...] = ()  # variables of the caller that the command gets, also in a container
    env_files: tuple[str, ...] = ()  # files of variables; `env` and `passed` override them
    timeout: float | None = None
    environment: EnvironmentDeclaration | None = None
    needs: tuple[str, ...] = ()
    promote: Mapping[str, object] | None = None
    extra: str = "--{name} {value}"  # how an undeclared parameter is added to the command
    ignore: Mapping[str, tuple[str, ...]] = {}  # output pattern: texts in it that a reproduction does not compare
    faults: tuple[Fault, ...] = ()  # errors prevent this entry point only


class Manifest(Struct, frozen=True, kw_only=True):
    """An MLproject file, or its absence (``path`` is None)."""

    path: str | None = None
    name: str | None = None
    entry_points: Mapping[str, EntryPoint] = {}
    environment: EnvironmentDeclaration = EnvironmentDeclaration()
    experiment: str | None = None
    tolerance: float | Mapping[str, float] | None = None
    metric: str | None = None  # the primary metric of the project
    goal: str | None = None  # max or min: which value of the primary metric is the best
    faults: tuple[Fault, ...] = ()  # tolerated ones outside the entry points, with hints for the user


class SourceKind(str, Enum):
    """The kind of source that code comes from."""

    FOLDER = "folder"
    GIT = "git"
    ZIP = "zip"


class FileRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file identified by its content: path relative to the project folder, size in bytes, SHA-256 in hex."""

    path: str
    size: int
    sha256: str
    md5: str | None = None  # of a .dvc file: the MD5 of the data that it stands for; of a folder it ends with .dir


class Code(Struct, frozen=True, kw_only=True):
    """The identity of the code of a run.

    ``tree`` is the git tree id of the frozen tree, ``swhid`` the same as a Software Heritage identifier. ``remote``
    never contains credentials. ``changed_files`` are the paths in which a dirty tree differs from its commit.
    ``large_files`` were too large to store and are recorded by digest; their paths start at the repository's top.
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

    ``digest`` identifies the installed files, ``lock_digest`` the lock; ``as_of`` is the package cutoff date.
    ``packages`` are name and version of each installed distribution. For a container ``digest`` is the id of the
    image, ``image`` its name in the project and ``image_digest`` its digest in a registry, if it has one.
    """

    manager: str
    python: str | None = None
    digest: str | None = None
    lock_digest: str | None = None
    prefix: str | None = None
    as_of: str | None = None
    platform: str | None = None
    packages: tuple[tuple[str, str], ...] = ()
    channels: tuple[str, ...] = ()  # of conda, without credentials
    image: str | None = None
    image_digest: str | None = None
    engine_options: tuple[str, ...] = ()  # further ones: GPUs of the manifest, and the user's own, masked
    declared: str | None = None  # the file, or the key of the manifest, that declares the environment
    repairs: tuple[str, ...] = ()  # changes to the declared environment that let the project run
    departures: tuple[str, ...] = ()  # other deviations: packages left out, another patch release of Python


class Machine(Struct, frozen=True, kw_only=True):
    """The machine on which a command ran. Memory is in bytes; ``variables`` holds only allow-listed variables."""

    host: str
    platform: str
    cpu_count: int
    processor: str | None = None  # the model, as the kernel names it
    memory: int | None = None
    gpus: tuple[str, ...] = ()
    variables: Mapping[str, str] = {}


class Resources(Struct, frozen=True, kw_only=True):
    """The resources that a command used: wall-clock and processor time in seconds, peak memory in bytes."""

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
    LOST = "LOST"  # the process that owned the run no longer exists, and no end was recorded

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self not in (RunStatus.SCHEDULED, RunStatus.RUNNING)


class ParameterRecord(Struct, frozen=True, kw_only=True):
    """A recorded parameter; ``source`` is a `ValueSource`, or ``logged`` if the script logged it."""

    name: str
    value: str
    type: str = "string"
    source: str = "logged"
    raw: str | UnsetType = UNSET  # the text that reached the command, if it spells the number in another way

    @property
    def text(self) -> str:
        """The text that reached the command."""
        return self.value if isinstance(self.raw, UnsetType) else self.raw


class RunDetails(Struct, frozen=True, kw_only=True):
    """The fields of a run that MLflow's data model lacks; stored as one JSON document with the run."""

    project: str | None = None
    entry_point: str | None = None
    command: str | None = None
    argv: tuple[str, ...] = ()
    cwd: str | None = None
    exit_code: int | None = None
    reason: str | None = None  # why a run did not finish, for people
    command_status: RunStatus | None = None  # of the command; the run gets it after its results are collected
    code: Code | None = None
    environment: EnvironmentRecord | None = None
    parameters: tuple[ParameterRecord, ...] = ()
    inputs: tuple[FileRecord, ...] = ()
    outputs: tuple[FileRecord, ...] = ()
    resources: Resources | None = None
    machine: Machine | None = None
    folder: str | None = None
    log: str | None = None
    log_sha256: str | None = None  # of the log when the run ended, for `proj verify`
    redirects: tuple[str, ...] = ()  # descriptions of the tracking URIs that were redirected to this run
    repairs: tuple[str, ...] = ()  # changes to the command, its parameters and its paths that let it run
    notices: tuple[str, ...] = ()
    template: str | None = None  # the command of the entry point before values and paths are put in
    failed_at: str | None = None  # place and error in the project's code: ``train.py:7: ValueError: bad``
    addresses: tuple[str, ...] = ()  # of the run's own server, which exists only while the command runs
    observed: Observation | None = None


class RunRecord(Struct, frozen=True, kw_only=True):
    """The stable JSON of ``proj run --json``. Times are RFC 3339 in UTC. In a plan, what only a run knows is null."""

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
    template: str | None = None
    failed_at: str | None = None
    observed: Observation | None = None


class RunRequest(Struct, frozen=True, kw_only=True):
    """The user's request for one run. Unset values come from the manifest, the environment or the defaults."""

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
    container_options: tuple[tuple[str, str | None], ...] = ()  # without dashes; those without a value are flags
    command: tuple[str, ...] = ()  # runs instead of an entry point
    repair: bool = True  # whether known problems of old projects may be repaired
    replace_declared: bool = False  # whether to replace what a tree with changes declares
    add_missing: bool = False  # whether undeclared imports are installed
    serve_as: tuple[str, ...] = ()  # addresses HOST:PORT that reach this run: its own, or the client is redirected
    tracking_uri: str | None = None  # of a server that records the run too; None means MLFLOW_TRACKING_URI
    resumes: str | None = None  # the id of the interrupted run that is continued
    tags: Mapping[str, str] = {}  # tags that the user gives the run
    reruns: str | None = None  # the id of the run whose code and lock are used again
    trace: bool | None = None  # True: the kernel reports every opened file; False: opened files are not observed
