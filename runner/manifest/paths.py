"""Resolves parameters of the type ``path`` to the paths that the command receives."""

import os
from pathlib import Path
from posixpath import basename, isabs, normpath
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from runner.base.masking import is_secret
from runner.errors import ParameterError
from runner.manifest.faults import printable
from runner.model import Parameter, ProjectFiles

PATH = "path"
FETCHED = ("http", "https")


class PathRules(Struct, frozen=True, kw_only=True):
    """The folders in which paths are looked up, and the folders in which they are when the command runs.

    A path is looked up in the ``caller``'s working folder first and then in the project: in the folder ``project``, or
    in ``files`` if the source has no folder. Paths in ``repository`` (without it, in the project folder) are mapped to
    the run folder, in which ``mapped`` is the project folder. Downloads are stored below ``storage``.
    """

    caller: Path
    mapped: Path
    storage: Path
    project: Path | None = None
    repository: Path | None = None
    files: ProjectFiles | None = None


class Download(Struct, frozen=True, kw_only=True):
    """A file that must be fetched before the command can run."""

    parameter: str
    url: str
    path: Path


class InputParameter(Struct, frozen=True, kw_only=True):
    """A file or folder that a parameter names: its path while the command runs, and the URL it was fetched from."""

    path: Path
    url: str | None = None


class ResolvedParameter(Struct, frozen=True, kw_only=True):
    """The value of a parameter as the command gets it, before quoting."""

    parameter: Parameter
    text: str
    download: Download | None = None


def resolve_paths(parameters: tuple[Parameter, ...], rules: PathRules) -> tuple[ResolvedParameter, ...]:
    """Return the values of all parameters; paths become absolute.

    Raises:
        ParameterError: paths that do not exist or can't be fetched; the error lists all of them.
    """
    outcomes = [_resolve(parameter, position, rules) for position, parameter in enumerate(parameters)]
    faults = [outcome for outcome in outcomes if isinstance(outcome, ParameterError)]
    if faults:
        message = "; ".join(fault.message for fault in faults)
        raise ParameterError(printable(message), context=faults[0].context, hint=faults[0].hint)
    return tuple(outcome for outcome in outcomes if isinstance(outcome, ResolvedParameter))


def find_downloads(parameters: tuple[Parameter, ...], rules: PathRules) -> tuple[Download, ...]:
    """Return the files to fetch before the command that `render_command` returns for these rules can run."""
    return tuple(resolved.download for resolved in resolve_paths(parameters, rules) if resolved.download)


def find_paths(parameters: tuple[Parameter, ...], rules: PathRules) -> tuple[Path, ...]:
    """Return the paths that parameters of the type ``path`` have while the command runs."""
    resolved = resolve_paths(parameters, rules)
    return tuple(Path(each.text) for each in resolved if each.parameter.type == PATH and each.text.startswith("/"))


def find_path_inputs(parameters: tuple[Parameter, ...], rules: PathRules) -> tuple[InputParameter, ...]:
    """Return what the parameters of the type ``path`` name, except those with secret values."""
    return tuple(
        InputParameter(path=Path(each.text), url=each.download.url if each.download else None)
        for each in resolve_paths(parameters, rules)
        if each.parameter.declared and each.parameter.type == PATH and each.text and not is_secret(each.parameter)
    )


def _resolve(parameter: Parameter, position: int, rules: PathRules) -> ResolvedParameter | ParameterError:
    value = parameter.value
    if not (parameter.declared and parameter.type == PATH and value):
        return ResolvedParameter(parameter=parameter, text=value)
    found = _find(value, rules)
    if found is not None:
        return ResolvedParameter(parameter=parameter, text=str(found))
    scheme, host, path = _split_url(value)
    if scheme == "file" and host in ("", "localhost"):
        found = _find(unquote(path), rules)
        if found is not None:
            return ResolvedParameter(parameter=parameter, text=str(found))
    if scheme in FETCHED:
        name = unquote(basename(path)).replace("/", "_")
        target = rules.storage / f"param_{position}" / (name if name.strip(".\0") else "data")
        return ResolvedParameter(
            parameter=parameter,
            text=str(target),
            download=Download(parameter=parameter.name, url=value, path=target),
        )
    return _absent(parameter, scheme, rules)


def _split_url(value: str) -> tuple[str, str, str]:
    """Return scheme, host and path; empty texts if the value is not a URL."""
    try:
        parts = urlsplit(value)
    except ValueError:
        return "", "", ""
    return parts.scheme, parts.netloc, parts.path


def _absent(parameter: Parameter, scheme: str, rules: PathRules) -> ParameterError:
    shown = "its value" if is_secret(parameter) else f"'{parameter.value}'"
    if scheme and scheme != "file":
        return ParameterError(
            f"parameter '{parameter.name}' is a path, and {shown} can't be fetched: only http, https and file can",
            hint="give it the type uri and fetch it in the script",
        )
    folders = [str(folder) for folder in (rules.caller, rules.project or "the project") if folder]
    hint = "a tilde is not expanded here: write $HOME instead" if parameter.value.startswith("~") else None
    missing = f"there is nothing at {shown}" if is_secret(parameter) else f"there is no {shown}"
    return ParameterError(
        f"parameter '{parameter.name}' is a path, and {missing}",
        context=f"looked in {' and '.join(dict.fromkeys(folders))}",
        hint=hint,
    )


def _find(value: str, rules: PathRules) -> Path | None:
    """Return the location of a local path during the run; try the text as it is, then with percent signs decoded."""
    texts = tuple(dict.fromkeys((value, unquote(value))))
    for folder in (rules.caller, rules.project) if rules.project else (rules.caller,):
        for text in texts:
            candidate = os.path.join(folder, text)  # noqa: PTH118
            if os.path.exists(candidate):  # noqa: PTH110
                return _map(Path(os.path.normpath(candidate)), rules)
    if rules.project is None and rules.files is not None:
        for text in texts:
            if not isabs(text) and _is_in(rules.files, normpath(text)):
                return Path(os.path.normpath(rules.mapped / text))
    return None


def _is_in(files: ProjectFiles, path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return path == "." or bool({name, f"{name}/"} & set(files.names(folder)))


def _map(path: Path, rules: PathRules) -> Path:
    """Return the location of a path during the run: in the run folder if it belongs to the project."""
    if rules.project is None:
        return path
    outermost = rules.repository or rules.project
    real = (Path(os.path.realpath(one)) for one in (path, outermost, rules.project))
    for inner, outer, project in ((path, outermost, rules.project), tuple(real)):
        if inner.is_relative_to(outer):
            return Path(os.path.normpath(rules.mapped / os.path.relpath(inner, project)))
    return path
