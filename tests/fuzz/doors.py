"""The readers of foreign text, each as a function of bytes that may only raise errors meant for the user."""

import contextlib
import posixpath
import tempfile
from collections.abc import Callable
from pathlib import Path

from runner.analysis.scripts import Scripts, read_all, read_scripts
from runner.base.durations import seconds_of
from runner.base.foreign_text import decode_text
from runner.base.masking import Masker, StreamMasker, secret_values
from runner.environments.deciding import decide_spec
from runner.environments.declare.containers.dockerfiles import read_dockerfile
from runner.environments.declare.containers.spec import read_devcontainer
from runner.environments.declare.metadata_files import read_metadata
from runner.environments.declare.spec import read_declared
from runner.environments.version_rules import parse_rule
from runner.errors import ProjError
from runner.importing.files import read_meta
from runner.importing.folder_lines import metric_points
from runner.manifest.checking import check_manifest
from runner.manifest.command import render_command
from runner.manifest.entrypoints import find_entry_point
from runner.manifest.parameters import bind_parameters, read_parameters_file
from runner.manifest.parser import read_manifest
from runner.manifest.paths import PathRules
from runner.manifest.preflight import PlannedCommand, preflight
from runner.manifest.template import fill_template
from runner.model import EntryPoint, EnvironmentDeclaration, EnvironmentKind, MetricsFile, ParameterSpec
from runner.provenance.metrics import read_metrics_files, read_metrics_log
from runner.scaffold.projects import _read_origin
from runner.settings import Home
from runner.source.address import parse_address
from runner.source.archive import unpack
from runner.store.filters import parse_filter, parse_order
from runner.store.search import RUNS
from tests.support.conda_locks import load_worker, read_lock

Door = Callable[[bytes], object]
DECLARED = (
    ParameterSpec(name="alpha", type="float"),
    ParameterSpec(name="path", type="path"),
    ParameterSpec(name="secret", secret=True, default=""),
)
INCLUDED = ("requirements.txt", *(f"{name}.txt" for name in "abcdefgh"))
RULES = PathRules(caller=Path("/"), mapped=Path("/"), storage=Path("/"))


class MemoryFiles:
    """The files of a project that exist only here."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def read(self, path: str) -> bytes | None:
        """Return the content of a file, None where there is none."""
        return self._files.get(path)

    def names(self, folder: str = "") -> tuple[str, ...]:
        """Return the names in a folder; names of folders end in a slash."""
        before = f"{folder}/" if folder else ""
        below = (path[len(before) :] for path in self._files if path.startswith(before))
        return tuple(sorted({name.partition("/")[0] + ("/" if "/" in name else "") for name in below}))


def manifest(data: bytes) -> None:
    """Check a manifest, and take each of its entry points as far as its command."""
    files = MemoryFiles({"MLproject": data, "train.py": b"import a\n"})
    check_manifest(files)
    found = read_manifest(files)
    for name in found.entry_points:
        with contextlib.suppress(ProjError):
            entry = find_entry_point(found, name, files)
            parameters = bind_parameters(entry, {spec.name: "1" for spec in entry.parameters}, {})
            render_command(entry, parameters, RULES)
            render_command(entry, parameters, RULES, Masker(["secret"]))


def declared(kind: EnvironmentKind, path: str) -> Door:
    """Return a reader of an environment file of a kind, both strict and with repairs."""

    def read(data: bytes) -> None:
        files = MemoryFiles({path: data, "pyproject.toml": data, "setup.py": data})
        declaration = EnvironmentDeclaration(kind=kind, path=path)
        with contextlib.suppress(ProjError):
            read_declared(declaration, files)
        decide_spec(declaration, files, Scripts(), None)

    return read


def included(data: bytes) -> None:
    """Read requirements files that include each other; each has an equal share of the lines."""
    lines = data.splitlines(keepends=True)
    share = len(lines) // len(INCLUDED) + 1
    files = {name: b"".join(lines[at * share : (at + 1) * share]) for at, name in enumerate(INCLUDED)}
    declaration = EnvironmentDeclaration(kind=EnvironmentKind.REQUIREMENTS, path=INCLUDED[0])
    decide_spec(declaration, MemoryFiles(files), Scripts(), None)


def metadata(path: str) -> Door:
    """Return a reader of a file of a packaging tool."""
    beside = {"poetry.lock", "Pipfile.lock"}
    return lambda data: read_metadata(path, MemoryFiles({path: data, **dict.fromkeys(beside - {path}, data)}))


def in_file(name: str, read: Callable[[Path], object]) -> Door:
    """Return a reader of a file on disk."""

    def on_disk(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            read(path)

    return on_disk


def metrics(name: str) -> Door:
    """Return a reader of a metrics file."""
    return in_file(name, lambda path: read_metrics_files(path.parent, [MetricsFile(path=name)], lambda _: None))


def scripts(name: str) -> Door:
    """Return a reader of a script."""

    def read(data: bytes) -> None:
        files = MemoryFiles({posixpath.normpath(name): data, "b.py": b""})
        read_scripts(f"python {name}", files)
        read_all(files)

    return read


def filters(data: bytes) -> None:
    """Read a filter expression, and the same text as an order."""
    text = decode_text(data)
    for parse in (parse_filter, parse_order):
        with contextlib.suppress(ProjError):
            parse(text, RUNS.vocabulary)


def command(data: bytes) -> None:
    """Mask a command and a log, and fill a template."""
    text = decode_text(data)
    fill_template(text, {"a": "1", "name": text[:100]})
    masker = Masker(["a-secret-value", "1000"])
    masker.command(text)
    masker.arguments(text.split(" ")[:1000])
    stream = StreamMasker(masker.masks)
    for at in range(0, len(data), 65536):
        stream.feed(data[at : at + 65536])
    stream.end()
    read_scripts(text, MemoryFiles({"train.py": b""}))


def given(data: bytes) -> None:
    """Bind a value and a name from the command line, and look at what the run would do with them."""
    text = decode_text(data)[:131_000].replace("\0", "")
    entry = EntryPoint(name="main", command="python train.py {alpha} {path}", parameters=DECLARED)
    for pairs in ({"alpha": text}, {"path": text}, {"other": text}, {text[:100_000]: "1"}, {"secret": text}):
        with contextlib.suppress(ProjError):
            parameters = bind_parameters(entry, {"alpha": "1", "path": ".", **pairs}, {})
            masker = Masker(secret_values(parameters))
            render_command(entry, parameters, RULES, masker)
            masker.records(parameters)
            files = MemoryFiles({"train.py": b""})
            flight = PlannedCommand(
                entry_point=entry,
                manifest="MLproject",
                files=files,
                scripts=Scripts(),
                parameters=parameters,
                project=Path("/"),
            )
            preflight(flight)


def words(data: bytes) -> None:
    """Read short words: durations, addresses, version rules."""
    text = decode_text(data)
    seconds_of(text)
    for parse in (parse_address, parse_rule):
        with contextlib.suppress(ProjError):
            parse(text)


DOORS: dict[str, Door] = {
    "manifest": manifest,
    "python_env": declared(EnvironmentKind.PYTHON_ENV, "python_env.yaml"),
    "conda": declared(EnvironmentKind.CONDA_ENV, "conda.yaml"),
    "requirements": declared(EnvironmentKind.REQUIREMENTS, "requirements.txt"),
    "included": included,
    "pylock": declared(EnvironmentKind.PYLOCK, "pylock.toml"),
    "uv_lock": declared(EnvironmentKind.UV_LOCK, "uv.lock"),
    "pyproject": metadata("pyproject.toml"),
    "pipfile": metadata("Pipfile"),
    "pipfile_lock": metadata("Pipfile.lock"),
    "setup_cfg": metadata("setup.cfg"),
    "setup_py": metadata("setup.py"),
    "conda_lock": lambda data: read_lock(decode_text(data), "conda-lock.yml", "linux-64"),
    "devcontainer": lambda data: read_devcontainer("devcontainer.json", MemoryFiles({"devcontainer.json": data})),
    "dockerfile": lambda data: read_dockerfile("Dockerfile", MemoryFiles({"Dockerfile": data})),
    "params_yaml": in_file("params.yaml", read_parameters_file),
    "params_json": in_file("params.json", read_parameters_file),
    "metrics_log": in_file("metrics.txt", lambda path: read_metrics_log(path, lambda _: None)),
    "metrics_yaml": metrics("m.yaml"),
    "metrics_json": metrics("m.json"),
    "metrics_csv": metrics("m.csv"),
    "script": scripts("train.py"),
    "notebook": scripts("train.ipynb"),
    "shell_script": scripts("train.sh"),
    "filter": filters,
    "command": command,
    "words": words,
    "given": given,
    "zip": in_file("a.zip", lambda path: unpack(path, Home(path.parent / "home"))),
    "imported_meta": in_file("meta.yaml", lambda path: read_meta(path, dict)),
    "imported_metric": in_file("m", lambda path: list(metric_points("m", path, lambda _: None))),
    "template_answers": in_file(".copier-answers.yml", lambda path: _read_origin(path.parent)),
}
"""Every reader by name."""
LOADED_FIRST: dict[str, Callable[[], object]] = {"conda_lock": load_worker}
"""What a reader needs that takes long to import: loaded once, before a process with limits is forked."""
