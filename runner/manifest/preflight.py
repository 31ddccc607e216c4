"""Finds missing files, paths and servers that will make a command fail, before anything is installed."""

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from runner.analysis.script_reader import DAGSHUB, SourcePosition
from runner.analysis.scripts import Scripts, above
from runner.base.lazy import LazyModule
from runner.base.masking import is_secret
from runner.base.suggestions import nearest
from runner.manifest.command_files import absent_scripts
from runner.manifest.files import near_file, tidy_path
from runner.manifest.foreign_paths import PathReplacement, find_tail, is_absent
from runner.manifest.own_paths import own_paths
from runner.model import EntryPoint, Fault, Parameter, ProjectFiles, Severity, ValueSource

if TYPE_CHECKING:
    from runner.analysis import notebooks
else:
    notebooks = LazyModule("runner.analysis.notebooks")

LFS = b"version https://git-lfs.github.com/spec/v1"
LFS_PATTERN = r"(?m)^(?P<pattern>\S+)\s.*filter=lfs"
SUBMODULE = r"(?m)^[ \t]*path[ \t]*=[ \t]*(?P<path>\S+(?:[ \t]+\S+)*)"
LONGEST_PATH = 4096
WORD = re.compile(r"[\w./-]+")
FILE_WORD = re.compile(r"[\w./-]+\.\w{1,8}")
ADDRESS = r"(?i)http(?P<secure>s?)://(?:[^/\s@]+@)?(?P<host>\[[\da-f:]+\]|[\w.-]+)(?::(?P<port>\d+))?(/.*)?"
OWN_HOST = r"127(?:\.\d+){3}|\[::1\]"
SERVICES = (DAGSHUB, "databricks", "databricks-uc", "uc")
"""Names of services that look like folders."""
MOST_NAMED = 3


class PlannedCommand(Struct, frozen=True, kw_only=True):
    """A command before it runs. ``project`` is the user's folder, whose ignored files the run can read, too."""

    entry_point: EntryPoint
    manifest: str
    files: ProjectFiles
    scripts: Scripts
    parameters: tuple[Parameter, ...] = ()
    project: Path | None = None
    served: tuple[str, ...] = ()
    """Addresses (``HOST:PORT``) at which the run's own server is reachable (``--serve-as``)."""
    replacements: tuple[PathReplacement, ...] = ()
    """Paths of another machine that are replaced by files of the project."""
    repository: Path | None = None
    """The user's folder of which the run gets a frozen copy; None if it has no copy."""
    redirects_local_tracking: bool = False
    """Whether tracking URIs that name local folders are redirected to the run."""

    def read(self, path: str) -> bytes | None:
        """Return the beginning of a file in the user's folder, else in the frozen tree."""
        if self.project is not None and os.path.isfile(self.project / path):  # noqa: PTH113  no error for odd names
            with (self.project / path).open("rb") as file:
                return file.read(len(LFS))
        return self.files.read(path)


def preflight(planned: PlannedCommand) -> tuple[Fault, ...]:
    """Return the likely problems of a command; an error means that it can't start at all."""
    found = (
        *_parameters(planned),
        *_notebooks(planned),
        *_scripts(planned),
        *_pointers(planned),
        *_submodules(planned),
        *_paths(planned),
        *_own_paths(planned),
        *_addresses(planned),
    )
    return tuple(dict.fromkeys(found))


def _parameters(planned: PlannedCommand) -> Iterator[Fault]:
    """Find parameters that are probably misspelled names of declared ones; MLflow passes them on without a warning."""
    given = {one.name for one in planned.parameters if one.source is not ValueSource.DEFAULT}
    known = [spec.name for spec in planned.entry_point.parameters if spec.name not in given]
    for one in planned.parameters:
        near = nearest(one.name, known) if known and not one.declared else None
        if near is not None:
            yield Fault(
                severity=Severity.WARNING,
                message=f"'{planned.entry_point.name}' has no parameter '{one.name}'; it is passed on as it is",
                file=planned.manifest,
                hint=f"did you mean '{near}'?",
            )


def _notebooks(planned: PlannedCommand) -> Iterator[Fault]:
    """Find notebooks that get parameters and have no cell for them: their own assignments win over the parameters."""
    command = planned.entry_point.command
    if not planned.parameters or ".ipynb" not in command:
        return
    for run in notebooks.notebook_runs(command):
        notebook = notebooks.read_notebook(planned.files.read(tidy_path(run.path)) or b"")
        if run.tool == notebooks.PAPERMILL and notebook is not None and not notebook.has_parameters:
            yield Fault(
                severity=Severity.WARNING,
                message="no cell is tagged 'parameters', so assignments in the notebook replace the parameters",
                file=run.path,
                hint="add the tag 'parameters' to the cell that assigns the default values",
            )


def _scripts(planned: PlannedCommand) -> Iterator[Fault]:
    command = planned.entry_point.command
    absent = absent_scripts(command, planned.files)
    for number, script in enumerate(absent):
        path = tidy_path(script)
        if planned.project is not None and os.path.exists(planned.project / path):  # noqa: PTH110  likewise
            continue
        # A later command may need a file that an earlier one makes.
        is_first = number == 0 and script in re.split(r"&&|;|\||\n", command)[0].split()
        yield Fault(
            severity=Severity.ERROR if is_first else Severity.WARNING,
            message=f"the command of '{planned.entry_point.name}' runs '{script}', which is not in the project",
            file=planned.manifest,
            hint=near_file(path, planned.files) or _elsewhere(path, planned.files),
        )


def _elsewhere(path: str, files: ProjectFiles) -> str | None:
    name = posixpath.basename(path).lower()
    for folder in (one.rstrip("/") for one in files.names() if one.endswith("/")):
        found = next((one for one in files.names(folder) if one.lower() == name), None)
        if found:
            return f"there is '{folder}/{found}'"
    scripts = [one for one in files.names() if one.endswith((".py", ".ipynb", ".sh"))]
    return f"there is {', '.join(scripts[:MOST_NAMED])}" if scripts else None


def _file_names(text: str) -> Iterator[str]:
    """Yield the words that could be file names, each up to its last extension."""
    for word in WORD.findall(text):
        match = FILE_WORD.match(word) if len(word) <= LONGEST_PATH else None
        if match:
            yield match[0]


def _pointers(planned: PlannedCommand) -> Iterator[Fault]:
    """Find files that are only git-lfs pointers."""
    words = _file_names(" ".join([planned.entry_point.command, *(each.value for each in planned.parameters)]))
    named = [tidy_path(word) for word in words if not word.startswith("/")]
    attributes = (planned.files.read(".gitattributes") or b"").decode("utf-8", "replace")
    plain = [
        match["pattern"].lstrip("/") for match in re.finditer(LFS_PATTERN, attributes) if "*" not in match["pattern"]
    ]
    for path in dict.fromkeys((*named, *plain)):
        if (planned.read(path) or b"").startswith(LFS):
            yield Fault(
                severity=Severity.WARNING,
                message=f"'{path}' is a pointer of git-lfs, its content is missing",
                file=path,
                hint="get it with 'git lfs pull' in a clone, and run that folder",
            )


def _submodules(planned: PlannedCommand) -> Iterator[Fault]:
    top = above(planned.files)[-1]
    modules = planned.files.read(posixpath.join(top, ".gitmodules")) or b""
    for match in re.finditer(SUBMODULE, modules.decode("utf-8", "replace")):
        if not planned.files.names(posixpath.join(top, match["path"])):
            yield Fault(
                severity=Severity.WARNING,
                message=f"the submodule '{match['path']}' is empty",
                file=".gitmodules",
                hint="get it with 'git submodule update --init'",
            )


def _paths(planned: PlannedCommand) -> Iterator[Fault]:
    """Find absolute paths that do not exist on this machine."""
    for each in planned.parameters:
        if not is_secret(each) and is_absent(each.value):
            message = f"parameter '{each.name}' is '{each.value}', which does not exist on this machine"
            yield Fault(
                severity=Severity.WARNING, message=message, file=planned.manifest, hint=f"give -P {each.name}=…"
            )
    for word in re.split(r"[\s'\"=]+", planned.entry_point.command):
        if is_absent(word):
            message = f"the command names '{word}', which does not exist on this machine"
            hint = _tail_hint(word, planned.files)
            yield Fault(severity=Severity.WARNING, message=message, file=planned.manifest, hint=hint)
    named = [(script, path) for script in planned.scripts.found for path in script.paths]
    replaced = {replacement.path for replacement in planned.replacements}
    absent = [pair for pair in named if is_absent(pair[1].text) and pair[1].text not in replaced]
    for script, path in absent[:MOST_NAMED]:
        message = f"the code names '{path.text}', which does not exist on this machine"
        hint = _tail_hint(path.text, planned.files)
        yield Fault(severity=Severity.WARNING, message=message, file=script.path, line=path.line, hint=hint)


def _own_paths(planned: PlannedCommand) -> Iterator[Fault]:
    """Find absolute paths into the project itself."""
    top = planned.repository
    if top is not None:
        parameters, project = planned.parameters, planned.project or top
        yield from own_paths(planned.entry_point, parameters, planned.scripts, planned.manifest, project, top)


def _tail_hint(path: str, files: ProjectFiles) -> str | None:
    tail = find_tail(path, files)
    return f"use the path '{tail}' of the repository" if tail else None


def _addresses(planned: PlannedCommand) -> Iterator[Fault]:
    names = {_plain_name(named.text) for script in planned.scripts.found for named in script.tracking_names}
    for each in planned.parameters:
        name = _plain_name(each.name)
        is_meant = name in names or ("mlflow" in name and "ur" in name) or "tracking" in name
        address = served_address(each.value) if is_meant and not is_secret(each) else None
        if address and address not in planned.served:
            yield Fault(
                severity=Severity.WARNING,
                message=f"parameter '{each.name}' is {address}, and the code logs there, not to the run",
                file=planned.manifest,
                hint=serve_hint(address),
            )
    for script in planned.scripts.found:
        for named in script.tracking:
            yield from _address(script.path, named, planned)


def _plain_name(name: str) -> str:
    return name.lower().replace("-", "_").strip("_")


def serve_hint(address: str) -> str:
    """Return a hint for code that logs to a tracking server at ``HOST:PORT``."""
    if re.fullmatch(OWN_HOST, address.rpartition(":")[0]):
        return f"'--serve-as {address}' lets this run answer there; otherwise start that server"
    return f"'--serve-as {address}' redirects it to this run; otherwise it must be reachable, with credentials"


def _address(path: str, named: SourcePosition, planned: PlannedCommand) -> Iterator[Fault]:
    address = served_address(named.text)
    is_on_disk = names_disk(named.text)
    if address in planned.served or (is_on_disk and planned.redirects_local_tracking):
        return
    if address:
        hint = serve_hint(address)
    elif is_on_disk:
        hint = "what is logged there is missing in the record of the run; remove the call to record it"
    else:
        hint = "it must be reachable, with credentials; what is logged there is missing in the record of the run"
    yield Fault(
        severity=Severity.WARNING,
        message=f"the code logs to {named.text}, not to the run",
        file=path,
        line=named.line,
        hint=hint,
    )


def names_disk(uri: str) -> bool:
    """Return whether a tracking URI names a folder or a database file."""
    return uri not in SERVICES and ("://" not in uri or uri.startswith(("file:", "sqlite:")))


def served_address(uri: str) -> str | None:
    """Return an address as ``HOST:PORT``, as ``--serve-as`` takes it; None if it is not the address of a server."""
    match = re.fullmatch(ADDRESS, uri)
    if not match:
        return None
    host = match["host"].lower()
    is_usual = host in ("localhost", "0.0.0.0")  # noqa: S104  what a script wrote
    port = match["port"] or (443 if match["secure"] else 80)
    return f"{'127.0.0.1' if is_usual else host}:{port}"
