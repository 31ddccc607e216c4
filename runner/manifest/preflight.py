"""Finds missing files, paths and servers that will make a command fail, before anything is installed."""

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from runner.analysis.script_reader import DAGSHUB, SourcePosition
from runner.analysis.scripts import Scripts, above
from runner.base.masking import is_secret
from runner.manifest.command_files import absent_scripts
from runner.manifest.faults import nearest
from runner.manifest.files import near_file, tidy_path
from runner.manifest.foreign_paths import Lead, find_tail, is_absent
from runner.model import EntryPoint, Fault, Parameter, ProjectFiles, Severity, ValueSource

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
MOST_TOLD = 3


class Flight(Struct, frozen=True, kw_only=True):
    """What is about to run. ``project`` is the user's own folder, whose ignored files the run sees as well."""

    entry_point: EntryPoint
    manifest: str
    files: ProjectFiles
    scripts: Scripts
    parameters: tuple[Parameter, ...] = ()
    project: Path | None = None
    served: tuple[str, ...] = ()
    """Addresses (``HOST:PORT``) for which the run answers as well."""
    leads: tuple[Lead, ...] = ()
    """Paths of another machine that are led to the project's own files."""
    keeps_places: bool = False
    """Whether what the code logs to its own disk reaches the run."""

    def read(self, path: str) -> bytes | None:
        """Return the beginning of a file of the user's folder, else of the frozen tree."""
        if self.project is not None and os.path.isfile(self.project / path):  # noqa: PTH113  no error for odd names
            with (self.project / path).open("rb") as file:
                return file.read(len(LFS))
        return self.files.read(path)


def preflight(flight: Flight) -> tuple[Fault, ...]:
    """Return what is likely to go wrong; an error means that the command can't even begin."""
    found = (
        *_parameters(flight),
        *_scripts(flight),
        *_pointers(flight),
        *_submodules(flight),
        *_paths(flight),
        *_addresses(flight),
    )
    return tuple(dict.fromkeys(found))


def _parameters(flight: Flight) -> Iterator[Fault]:
    """Find parameters that look like declared ones which were meant; MLflow passes them on without a word."""
    given = {one.name for one in flight.parameters if one.source is not ValueSource.DEFAULT}
    known = [spec.name for spec in flight.entry_point.parameters if spec.name not in given]
    for one in flight.parameters:
        near = nearest(one.name, known) if known and not one.declared else None
        if near is not None:
            yield Fault(
                severity=Severity.WARNING,
                message=f"'{flight.entry_point.name}' has no parameter '{one.name}'; it is passed on as it is",
                file=flight.manifest,
                hint=f"did you mean '{near}'?",
            )


def _scripts(flight: Flight) -> Iterator[Fault]:
    command = flight.entry_point.command
    absent = absent_scripts(command, flight.files)
    for number, script in enumerate(absent):
        path = tidy_path(script)
        if flight.project is not None and os.path.exists(flight.project / path):  # noqa: PTH110  likewise
            continue
        # A later command may need a file that an earlier one makes.
        is_first = number == 0 and script in re.split(r"&&|;|\||\n", command)[0].split()
        yield Fault(
            severity=Severity.ERROR if is_first else Severity.WARNING,
            message=f"the command of '{flight.entry_point.name}' runs '{script}', which is not in the project",
            file=flight.manifest,
            hint=near_file(path, flight.files) or _elsewhere(path, flight.files),
        )


def _elsewhere(path: str, files: ProjectFiles) -> str | None:
    name = posixpath.basename(path).lower()
    for folder in (one.rstrip("/") for one in files.names() if one.endswith("/")):
        found = next((one for one in files.names(folder) if one.lower() == name), None)
        if found:
            return f"there is '{folder}/{found}'"
    scripts = [one for one in files.names() if one.endswith((".py", ".ipynb", ".sh"))]
    return f"there is {', '.join(scripts[:MOST_TOLD])}" if scripts else None


def _file_words(text: str) -> Iterator[str]:
    """Yield the words that could be names of files, each up to its last extension."""
    for word in WORD.findall(text):
        match = FILE_WORD.match(word) if len(word) <= LONGEST_PATH else None
        if match:
            yield match[0]


def _pointers(flight: Flight) -> Iterator[Fault]:
    """Find files that git-lfs keeps elsewhere and that are only pointers here."""
    words = _file_words(" ".join([flight.entry_point.command, *(each.value for each in flight.parameters)]))
    named = [tidy_path(word) for word in words if not word.startswith("/")]
    attributes = (flight.files.read(".gitattributes") or b"").decode("utf-8", "replace")
    plain = [
        match["pattern"].lstrip("/") for match in re.finditer(LFS_PATTERN, attributes) if "*" not in match["pattern"]
    ]
    for path in dict.fromkeys((*named, *plain)):
        if (flight.read(path) or b"").startswith(LFS):
            yield Fault(
                severity=Severity.WARNING,
                message=f"'{path}' is a pointer of git-lfs, its content is not here",
                file=path,
                hint="get it with 'git lfs pull' in a clone, and run that folder",
            )


def _submodules(flight: Flight) -> Iterator[Fault]:
    top = above(flight.files)[-1]
    modules = flight.files.read(posixpath.join(top, ".gitmodules")) or b""
    for match in re.finditer(SUBMODULE, modules.decode("utf-8", "replace")):
        if not flight.files.names(posixpath.join(top, match["path"])):
            yield Fault(
                severity=Severity.WARNING,
                message=f"the submodule '{match['path']}' is not there",
                file=".gitmodules",
                hint="get it with 'git submodule update --init'",
            )


def _paths(flight: Flight) -> Iterator[Fault]:
    """Find absolute paths that are not on this machine."""
    for each in flight.parameters:
        if not is_secret(each) and is_absent(each.value):
            message = f"parameter '{each.name}' is '{each.value}', which is not on this machine"
            yield Fault(severity=Severity.WARNING, message=message, file=flight.manifest, hint=f"give -P {each.name}=…")
    for word in re.split(r"[\s'\"=]+", flight.entry_point.command):
        if is_absent(word):
            message = f"the command names '{word}', which is not on this machine"
            hint = _tail_hint(word, flight.files)
            yield Fault(severity=Severity.WARNING, message=message, file=flight.manifest, hint=hint)
    named = [(script, place) for script in flight.scripts.found for place in script.paths]
    led = {lead.path for lead in flight.leads}
    absent = [pair for pair in named if is_absent(pair[1].text) and pair[1].text not in led]
    for script, place in absent[:MOST_TOLD]:
        message = f"the code names '{place.text}', which is not on this machine"
        hint = _tail_hint(place.text, flight.files)
        yield Fault(severity=Severity.WARNING, message=message, file=script.path, line=place.line, hint=hint)


def _tail_hint(path: str, files: ProjectFiles) -> str | None:
    tail = find_tail(path, files)
    return f"the repository has '{tail}': name it by that path" if tail else None


def _addresses(flight: Flight) -> Iterator[Fault]:
    names = {_plain_name(place.text) for script in flight.scripts.found for place in script.tracking_names}
    for each in flight.parameters:
        name = _plain_name(each.name)
        is_meant = name in names or ("mlflow" in name and "ur" in name) or "tracking" in name
        address = served_address(each.value) if is_meant and not is_secret(each) else None
        if address and address not in flight.served:
            yield Fault(
                severity=Severity.WARNING,
                message=f"parameter '{each.name}' is {address}, and the code logs there, whatever the run says",
                file=flight.manifest,
                hint=serve_hint(address),
            )
    for script in flight.scripts.found:
        for place in script.tracking:
            yield from _address(script.path, place, flight)


def _plain_name(name: str) -> str:
    return name.lower().replace("-", "_").strip("_")


def serve_hint(address: str) -> str:
    """Return what to do about a tracking server at ``HOST:PORT`` that the code wants."""
    if re.fullmatch(OWN_HOST, address.rpartition(":")[0]):
        return f"'--serve-as {address}' lets this run answer there; else start that server"
    return f"'--serve-as {address}' lets this run answer in its stead; else it must be reachable, with credentials"


def _address(path: str, place: SourcePosition, flight: Flight) -> Iterator[Fault]:
    address = served_address(place.text)
    is_on_disk = names_disk(place.text)
    if address in flight.served or (is_on_disk and flight.keeps_places):
        return
    if address:
        hint = serve_hint(address)
    elif is_on_disk:
        hint = "what is logged there is not in the run's own record; take the call out and it is"
    else:
        hint = "it must be reachable, with credentials; what is logged there is not in the run's own record"
    yield Fault(
        severity=Severity.WARNING,
        message=f"the code logs to {place.text}, whatever the run says",
        file=path,
        line=place.line,
        hint=hint,
    )


def names_disk(uri: str) -> bool:
    """Say whether a tracking place is a folder or a database file."""
    return uri not in SERVICES and ("://" not in uri or uri.startswith(("file:", "sqlite:")))


def served_address(uri: str) -> str | None:
    """Return the ``HOST:PORT`` of an address as ``--serve-as`` takes it, None for what is no address of a server."""
    match = re.fullmatch(ADDRESS, uri)
    if not match:
        return None
    host = match["host"].lower()
    is_usual = host in ("localhost", "0.0.0.0")  # noqa: S104  what a script wrote
    port = match["port"] or (443 if match["secure"] else 80)
    return f"{'127.0.0.1' if is_usual else host}:{port}"
