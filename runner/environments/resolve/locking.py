"""Resolves a spec to a requirements file with hashes, and stores it in proj's home."""

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from runner.base.lazy import LazyModule
from runner.base.plurals import counted
from runner.environments.cache.lock_files import read_valid_lock, report_damage, write_lock_file
from runner.environments.declare.indexes import expand, index_options
from runner.environments.model import Interpreter, Lock, PythonRequest
from runner.environments.specs import PythonSpec
from runner.errors import EnvironmentSetupError
from runner.model import Event, EventKind, Report
from runner.urls import without_credentials

if TYPE_CHECKING:
    from runner.environments.declare import source_trees
    from runner.environments.resolve import metadata_overrides, uv_command
else:
    metadata_overrides = LazyModule("runner.environments.resolve.metadata_overrides")
    source_trees = LazyModule("runner.environments.declare.source_trees")
    uv_command = LazyModule("runner.environments.resolve.uv_command")

FORMAT = 2
HEADER = re.compile(r"^# (?P<name>as of|no dates for): (?P<value>.+)$", re.MULTILINE)
FILTERED = re.compile(r"^hint: `(?P<name>[^`]+)` was filtered by `exclude-newer`(?P<rest>.*)$", re.MULTILINE)
PACKAGE = re.compile(
    r"(?m)^[A-Za-z0-9][\w.-]*(?:\[[^]]*\])?(?:==\S+| @ \S+)(?:\s*;(?P<marker>[^\n\\#]*?(?=\s--|\s*\\|\s*$)))?"
)
MAX_ATTEMPTS = 8
SEEDS = ("pip",)
SEEDS_BEFORE_312 = ("pip", "setuptools")

LOCK_CHANGED = "The lock of the run was changed since"
LOCK_CHANGED_HINT = "`proj verify` names what else is damaged."


def find_lock(request: PythonRequest, interpreter: Interpreter) -> Lock | None:
    """Return the lock that needs no resolution: the project's own, a stored one, or the empty one.

    A damaged stored lock is ignored; `resolve` reports it.
    """
    spec = request.spec
    if spec.is_empty:
        return read_lock("", interpreter)
    if spec.project_lock:
        return read_lock(spec.project_lock.text, interpreter)
    if spec.is_locked:
        return read_lock("".join(f"{line}\n" for line in _pinned_lines(spec)), interpreter)
    path = lock_path(request, interpreter)
    if request.refresh and request.as_of is None:
        return None
    text = read_valid_lock(path)
    return None if text is None else read_lock(text, interpreter, path)


def read_lock(text: str, interpreter: Interpreter, path: Path | None = None) -> Lock:
    """Parse the text of a lock file."""
    header = {match["name"]: match["value"] for match in HEADER.finditer(text)}
    as_of = header.get("as of")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return Lock(
        text=text,
        digest=hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        interpreter=interpreter,
        as_of=None if as_of == "now" else as_of,
        undated=tuple(header.get("no dates for", "").split()),
        path=path,
    )


def count_packages(lock: Lock) -> int:
    """Return how many packages of a lock apply to its interpreter; a lock for all platforms has others too."""
    markers = [match["marker"] for match in PACKAGE.finditer(lock.text)]
    if not any(markers):
        return len(markers)  # the import of packaging takes as long as a small installation
    from packaging.markers import Marker

    version = lock.interpreter.version
    here = {"python_version": ".".join(version.split(".")[:2]), "python_full_version": version}
    return sum(marker is None or Marker(marker.strip()).evaluate(here) for marker in markers)


def lock_path(request: PythonRequest, interpreter: Interpreter) -> Path:
    """Return the path of the stored lock of a request; it depends on spec, time, interpreter and platform."""
    spec = request.spec
    identity = (
        FORMAT,
        [without_credentials(line) for line in spec.requirement_lines],
        [option for option in spec.options if "binary" in option or "--pre" in option],
        [(package.text, source_trees.metadata_digest(request.files, package.path)) for package in spec.local_packages],
        spec.locked_by or (request.as_of.isoformat() if request.as_of else "now"),
        (interpreter.version, interpreter.implementation, interpreter.platform),
        # Without repairs, incomplete metadata is not completed, so that the lock differs.
        *(() if request.repair else ("as declared",)),
    )
    return request.home.locks / f"{hashlib.sha256(msgspec.json.encode(identity)).hexdigest()[:32]}.txt"


def note_path(request: PythonRequest, interpreter: Interpreter) -> Path:
    """Return the path of the note about how a request was repaired."""
    return lock_path(request, interpreter).with_suffix(".repaired.json")


def resolve(request: PythonRequest, interpreter: Interpreter, report: Report) -> Lock:
    """Resolve a request and store the lock.

    Raises:
        EnvironmentSetupError: no set of packages satisfies the spec, or the index can't be reached.
    """
    spec, path = request.spec, lock_path(request, interpreter)
    when = f" as of {request.as_of:%Y-%m-%d}" if request.as_of else ""
    message = (
        f"Reading {spec.file}" if spec.locked_by else f"Resolving {_count(spec)} for Python {interpreter.name}{when}"
    )
    hint = "'--as-of DATE' sets another day, '--as-of now' allows the newest versions" if when else None
    report_damage(path, report)
    report(Event(kind=EventKind.NOTICE if when else EventKind.STEP, message=message, hint=hint))
    index = index_options(spec.options, request.environ)
    uv = uv_command.find_uv(request.home, index, request.environ, spec.requirements)
    uv = structs.replace(uv, report=report)
    resolution = Resolution(request, uv, interpreter, path)
    text, as_of, undated = resolution.export() if spec.locked_by else resolution.compile(report)
    for name in metadata_overrides.overrides_in(text):
        report(_notice(f"The metadata of {name} is overridden, because its requirements do not conform to PEP 440"))
    header = [f"# Python {interpreter.name} on {interpreter.platform}, resolved {_now()}"]
    header += [f"# as of: {as_of}"] if as_of else []
    header += [f"# no dates for: {' '.join(undated)}"] if undated else []
    written = write_lock_file(path, "\n".join([*header, text]), len(PACKAGE.findall(text)))
    return read_lock(written, interpreter, path)


class Resolution:
    """One resolution of a request; packages without upload dates on the index are exempted from the cutoff date."""

    def __init__(self, request: PythonRequest, uv: "uv_command.Uv", interpreter: Interpreter, path: Path) -> None:
        self._request, self._uv, self._interpreter = request, uv, interpreter
        self._log = path.with_suffix(".log")
        self.previous: str | None = None
        """A lock whose versions are preferred where they satisfy the spec."""

    def target(self, temporary: Path) -> tuple[list[str | Path], Path]:
        """Return uv's options for the target Python, and its working directory, which may be a temporary one."""
        del temporary
        return ["--python", self._interpreter.path], uv_command.clean_cwd(
            self._request.home, completed=self._request.repair
        )

    def seeds(self) -> tuple[str, ...]:
        """Return the packages that `venv` of this Python installs; old code relies on them without declaring them."""
        return SEEDS if self._interpreter.line >= (3, 12) else SEEDS_BEFORE_312

    def compile(self, report: Report) -> tuple[str, str | None, tuple[str, ...]]:
        """Return the requirements, the cutoff time, and the packages exempt from it."""
        cutoff = format_time(self._request.as_of)
        done = self._compile(cutoff, ())
        if done[0] is not None or cutoff is None:
            return self._checked(done[0]), cutoff, ()
        names = _names_without_dates(done[1])
        if not names:
            return self._checked(None), cutoff, ()
        # A dependency of an exempt package may have no date either; each attempt finds at least one more.
        for _ in range(MAX_ATTEMPTS):
            done = self._compile(cutoff, names)
            more = _names_without_dates(done[1]) if done[0] is None else ()
            if not set(more) - set(names):
                break
            names = tuple(sorted({*names, *more}))
        if done[0] is not None or not more:
            text = self._checked(done[0])
            report(_notice(f"The index has no upload dates for {', '.join(names)}: all versions were considered"))
            return text, cutoff, names
        text = self._checked(self._compile(None, ())[0])
        report(_notice("The package index has no upload dates: resolved with its newest versions"))
        return text, None, ()

    def export(self) -> tuple[str, str | None, tuple[str, ...]]:
        """Return the requirements of a project with a ``uv.lock``."""
        if self._request.tree is None or self._request.spec.file is None:
            raise EnvironmentSetupError("a project with a uv.lock needs its frozen tree")
        folder = (self._request.tree.folder() / self._request.spec.file).parent
        done = self._uv.run(
            *("export", "--frozen", "--no-dev", "--no-emit-project", "--no-header", "--no-annotate", "--quiet"),
            *("--project", folder, "--python", self._interpreter.path, "--no-python-downloads"),
            cwd=uv_command.clean_cwd(self._request.home),
        )
        if done.exit_code:
            self._error = uv_command.command_error(f"{self._request.spec.file} can't be read", done, self._log)
        return self._checked(None if done.exit_code else done.text), None, ()

    def _compile(self, cutoff: str | None, exempt: Sequence[str]) -> tuple[str | None, str]:
        spec = self._request.spec
        options = ["--exclude-newer", cutoff] if cutoff else []
        options += [word for name in exempt for word in ("--exclude-newer-package", f"{name}=false")]
        with uv_command.requirements_file(self._uv.index.lines) as file:
            lines = [*self._uv.index.lines, *self._lines(file.parent)]
            file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            if spec.constraints:
                constraints = file.with_name("constraints.txt")
                constraints.write_text("".join(f"{expand(line)}\n" for line in spec.constraints), encoding="utf-8")
                options += ["--constraints", str(constraints)]
            target, cwd = self.target(file.parent)
            result = file.parent / "lock.txt"
            if self.previous:
                result.write_text(self.previous, encoding="utf-8")
            done = self._uv.work(
                *("pip", "compile", file, *target, "--no-python-downloads", "--output-file", result),
                *("--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "--emit-build-options"),
                *(*options, *self._uv.index.arguments),
                cwd=cwd,
            )
            text = result.read_text("utf-8") if result.exists() and not done.exit_code else None
        if done.exit_code:
            offline = self._uv.is_offline
            self._error = uv_command.command_error(
                "No set of packages satisfies the requirements of the project", done, self._log, offline=offline
            )
        return text, done.error_text

    def _lines(self, temporary: Path) -> list[str]:
        spec = self._request.spec
        lines = [expand(line) for line in (*spec.requirements, *spec.build_requirements)]
        declared = " ".join(lines).lower()
        lines += [seed for seed in self.seeds() if not re.search(rf"(^|\s){seed.split()[0]}\b", declared)]
        if spec.local_packages and self._request.tree is not None:
            copies = source_trees.copy_packages(self._request.tree, spec.local_packages, temporary)
            lines += [f"{copy}{_extras(p.extras)}" for p, copy in zip(spec.local_packages, copies, strict=True)]
        return lines

    def _checked(self, text: str | None) -> str:
        """Return the lock without the project's own packages, after a check that all others have hashes."""
        if text is None:
            raise self._error
        blocks = [block for block in re.split(r"\n(?=\S)", text.strip()) if block and not _is_local(block)]
        bare = [b for b in blocks if "--hash=" not in b and not re.search(r" @ |^--", b)]
        if bare:
            raise EnvironmentSetupError(f"the package index gives no hashes for {', '.join(bare)}")
        return without_credentials("".join(f"{block}\n" for block in blocks))


def format_time(moment: datetime | None) -> str | None:
    """Format a time as RFC 3339 in UTC, to the second."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


def _names_without_dates(error_text: str) -> tuple[str, ...]:
    """Return the packages that were excluded because they have no date; uv prints the date of all others."""
    return tuple(match["name"] for match in FILTERED.finditer(error_text) if "published at" not in match["rest"])


def _is_local(block: str) -> bool:
    first = block.split("\n", 1)[0]
    return bool(re.match(r"(-e |/|\.\.?/|file:)", first) or re.search(r"@ (file:|/|\./|\.\./)", first))


def _pinned_lines(spec: PythonSpec) -> list[str]:
    options = [option for option in spec.options if "binary" in option]
    return options + [re.sub(r"\s+(?=--hash=)", " \\\n    ", without_credentials(line)) for line in spec.requirements]


def _extras(extras: Sequence[str]) -> str:
    return f"[{','.join(extras)}]" if extras else ""


def _count(spec: PythonSpec) -> str:
    number = len(spec.requirements) + len(spec.build_requirements) + len(spec.local_packages)
    return counted(number, "requirement")


def _notice(message: str) -> Event:
    return Event(kind=EventKind.NOTICE, message=message)


def _now() -> str:
    return format_time(datetime.now(timezone.utc)) or ""
