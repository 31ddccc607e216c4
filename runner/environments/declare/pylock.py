"""Reads locks written by other tools: ``pylock.toml`` (PEP 751) and ``uv.lock``."""

import hashlib
import posixpath
import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from runner.base.foreign_text import ForeignTextError, decode_text, parse_toml
from runner.base.package_names import canonical_name
from runner.environments.specs import LocalPackage, PythonSpec, UvLockSpec
from runner.errors import EnvironmentSetupError
from runner.model import EnvironmentKind, ProjectFiles

if TYPE_CHECKING:
    from packaging.pylock import Package

REQUIRES = re.compile(r'(?m)^[ \t]*requires-python[ \t]*=[ \t]*["\']([^"\'\n]+)["\']')
INDEX = re.compile(r'\[\[tool\.uv\.index\]\][^\[]*?\burl\s*=\s*["\']([^"\']+)["\']')
NO_PACKAGE = re.compile(r"(?m)^[ \t]*package[ \t]*=[ \t]*false")
OF_CHOICE = re.compile(
    r"(?P<quote>['\"])(?P<name>[^'\"]*)(?P=quote)\s*(?P<not>\bnot\s+)?\bin\s+(?P<set>extras|dependency_groups)\b"
)
"""The parts of a lock's marker that depend on the selected extras and groups."""
ALWAYS, NEVER = "python_version >= '0'", "python_version < '0'"
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
HASHES = ("sha256", "sha384", "sha512")
"""The hash algorithms that pip and uv accept in requirement lines."""


def read_uv_lock(path: str, content: bytes, files: ProjectFiles) -> UvLockSpec:
    """Return the spec of a project with a ``uv.lock``. uv itself exports the lock when the environment is built."""
    folder = posixpath.dirname(path)
    project = files.read(posixpath.join(folder, "pyproject.toml"))
    if project is None:
        raise EnvironmentSetupError(f"'{path}' has no pyproject.toml beside it", context=path)
    text = decode_text(project)
    rule = REQUIRES.search(text) or REQUIRES.search(decode_text(content))
    is_package = "[build-system]" in text and not NO_PACKAGE.search(text)
    return UvLockSpec(
        file=path,
        python=_pinned_python(folder, files) or (rule[1] if rule else None),
        options=tuple(f"--extra-index-url {url}" for url in INDEX.findall(text)),
        local_packages=(LocalPackage(path=folder or ".", editable=True),) if is_package else (),
        locked_by=hashlib.sha256(content + b"\0" + project).hexdigest(),
    )


def read_pylock(path: str, content: bytes, files: ProjectFiles) -> PythonSpec:
    """Return the spec of a ``pylock.toml``. URLs are dropped, because the hashes identify the files.

    https://packaging.python.org/en/latest/specifications/pylock-toml/
    """
    from packaging.pylock import Pylock, PylockUnsupportedVersionError, PylockValidationError

    try:
        lock = Pylock.from_dict(parse_toml(content))
    except ForeignTextError as error:
        raise EnvironmentSetupError(f"{path} can't be read: {error}", context=path) from None
    except PylockUnsupportedVersionError as error:
        raise EnvironmentSetupError(f"{path}: {error}; only lock-version 1.0 is supported", context=path) from error
    except (PylockValidationError, RecursionError) as error:
        raise EnvironmentSetupError(f"{path} is not a lock of PEP 751: {error}", context=path) from error
    groups = frozenset(lock.default_groups or ())
    requirements: list[str] = []
    local: list[LocalPackage] = []
    for package in lock.packages:
        marker = default_marker(str(package.marker) if package.marker else "", groups)
        if marker is None:
            continue
        if package.directory:
            local.append(_local(path, package, files))
        else:
            line = _line(path, package, f" ; {marker}" if marker else "")
            if len(line.splitlines()) > 1:
                raise EnvironmentSetupError(
                    f"{path}: package '{package.name}' has a line break in a value", context=path
                )
            requirements.append(line)
    return PythonSpec(
        kind=EnvironmentKind.PYLOCK,
        file=path,
        python=str(lock.requires_python) if lock.requires_python else None,
        requirements=tuple(requirements),
        local_packages=tuple(local),
    )


def default_marker(marker: str, groups: Collection[str] = ()) -> str | None:
    """Evaluate the extras and groups in a marker, where only the default groups are selected.

    The rest of the marker is returned unchanged, because it depends on the interpreter, which is chosen later.
    None means that the marker is always false, an empty string that it is always true.
    """
    from packaging.markers import Marker

    wanted = {"extras": frozenset[str](), "dependency_groups": frozenset(map(canonical_name, groups))}

    def decided(match: re.Match[str]) -> str:
        is_in = canonical_name(match["name"]) in wanted[match["set"]]
        return ALWAYS if is_in is (match["not"] is None) else NEVER

    text = OF_CHOICE.sub(decided, marker)
    if re.search(r"\b(?:extras|dependency_groups)\b", QUOTED.sub("", text)):
        raise EnvironmentSetupError(
            f"the marker '{marker}' tests extras or groups in a form that PEP 751 does not define"
        )
    if text == marker:
        return marker
    if not re.search(r"\bor\b", QUOTED.sub("", text)):
        if NEVER in text:
            return None
        text = re.sub(rf"{re.escape(ALWAYS)}\s+and\s+|\s+and\s+{re.escape(ALWAYS)}", "", text)
    rest = QUOTED.sub("", text.replace(ALWAYS, "").replace(NEVER, ""))
    if re.search(r"\w", re.sub(r"\b(?:and|or)\b", "", rest)):
        return str(Marker(text))
    return "" if Marker(text).evaluate() else None


def _line(path: str, package: "Package", suffix: str) -> str:
    """Return the requirement line of a package."""
    name = package.name
    if vcs := package.vcs:
        subdirectory = f"#subdirectory={vcs.subdirectory}" if vcs.subdirectory else ""
        return f"{name} @ {vcs.type}+{vcs.url or vcs.path}@{vcs.commit_id}{subdirectory}{suffix}"
    hashes = sorted(set(_hashes(package)))
    if not hashes or not (package.version or package.archive):
        raise EnvironmentSetupError(f"{path}: package '{name}' has no files with hashes", context=path)
    options = "".join(f" --hash={value}" for value in hashes)
    if package.archive and package.archive.url:
        return f"{name} @ {package.archive.url}{suffix}{options}"
    if package.version is None:
        raise EnvironmentSetupError(f"{path}: package '{name}' has neither a version nor a URL", context=path)
    return f"{name}=={package.version}{suffix}{options}"


def _hashes(package: "Package") -> Iterator[str]:
    for file in (*(package.wheels or ()), package.sdist, package.archive):
        for algorithm in HASHES if file else ():
            if file and algorithm in file.hashes:
                yield f"{algorithm}:{file.hashes[algorithm]}"


def _local(path: str, package: "Package", files: ProjectFiles) -> LocalPackage:
    directory = package.directory
    parts = (directory.path, directory.subdirectory or "") if directory else ("",)
    location = posixpath.normpath(posixpath.join(posixpath.dirname(path), *parts))
    if not files.names("" if location == "." else location):
        raise EnvironmentSetupError(
            f"{path}: package '{package.name}' is in '{location}', which does not exist", context=path
        )
    return LocalPackage(path=location, editable=bool(directory and directory.editable))


def _pinned_python(folder: str, files: ProjectFiles) -> str | None:
    content = files.read(posixpath.join(folder, ".python-version")) or b""
    match = re.fullmatch(r"\s*(?:cpython-)?(\d+(?:\.\d+)*)\s*", content.decode("utf-8", "replace"))
    return match[1] if match else None
