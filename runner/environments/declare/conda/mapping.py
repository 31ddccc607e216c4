"""Maps a conda environment file to the Python index: every package is mapped, left out with a notice, or refused."""

import posixpath
import re
from collections.abc import Iterator

from msgspec import Struct, structs

from runner.base.package_names import canonical_name
from runner.environments.declare.conda.names import LIBRARIES, PREFIX_ONLY, PYTHON_LIBS, PYTHON_NAMES, TOOLS
from runner.environments.declare.positions import Document, Item, list_faults
from runner.environments.declare.requirements import Line, RequirementReader
from runner.environments.specs import CondaFile, CondaFileSpec, collect, specify
from runner.errors import EnvironmentSetupError
from runner.model import EnvironmentKind, ProjectFiles

SPEC = re.compile(r"(?:(?P<channel>[^\s:=<>!~]+)::)?(?P<name>[\w.-]+)\s*(?P<rest>.*)")
BRACKETS = re.compile(r"\[(?P<inside>[^]]*)\]\s*$")
BRACKET_VERSION = re.compile(r"version\s*=\s*(?:'([^']*)'|\"([^\"]*)\"|([^,\s]*))")
BUILD_TOOLS = frozenset({"pip", "setuptools", "wheel"})
PREFIXES_BELOW_PYTHON = ("lib", "-", "xorg-", "cuda-", "xcb-", "aws-c-", "font-ttf-", "m2w64-", "nvidia-cuda-")
PREFIXES_OF_OTHER_LANGUAGES = ("r-", "bioconductor-", "perl-", "nodejs-", "rb-", "lua-", "spacy-model-")
EXPORT = frozenset({"-libgcc-mutex", "-openmp-mutex", "openssl", "ca-certificates", "xz", "libffi", "sqlite", "tk"})
MAX_NAMED = 12
LONGEST_SPEC = 1000
"""Most characters of a dependency; the longest regular expressions take time that grows with the square."""
OPERATORS = ("", "=", "==", "!=", "~=", "<", "<=", ">", ">=")


class CondaPackage(Struct, frozen=True, kw_only=True):
    """A dependency in a conda file: canonical name, version rule of PEP 440 (or empty), and line."""

    line: int
    text: str
    name: str
    rule: str

    @property
    def is_below_python(self) -> bool:
        """Whether it is a library that wheels contain."""
        below = self.name.startswith(PREFIXES_BELOW_PYTHON) and self.name not in PYTHON_LIBS
        return self.name in LIBRARIES or below

    @property
    def is_foreign(self) -> bool:
        """Whether it is a program or a library of another language, which no Python package contains."""
        return self.name in TOOLS or self.name.startswith(PREFIXES_OF_OTHER_LANGUAGES)

    @property
    def requirement(self) -> str:
        """The requirement for the same package on the Python index."""
        target, _, marker = PYTHON_NAMES.get(self.name, self.name).partition(" ; ")
        rule = re.sub(r"^==([\d.]+)$", r"==\1.*", self.rule) if target in PREFIX_ONLY else self.rule
        return f"{target}{rule}" + (f" ; {marker}" if marker else "")


def read_conda(document: Document, file: CondaFile, files: ProjectFiles) -> CondaFileSpec:
    """Return the spec in a conda environment file, with the names and rules of the Python index.

    Raises:
        EnvironmentSetupError: packages have no counterpart or lines can't be read; the message names all of them.
    """
    faults: list[str] = []
    items = document.items("dependencies", faults)
    packages = [package for item in items if not item.is_nested for package in _parse(item, faults)]
    if faults:
        raise EnvironmentSetupError(f"{document.file} can't be used: {list_faults(faults)}", context=document.file)
    python, build, requirements, left_out, renamed = _sort(document, packages)
    lines = collect()
    lines.requirements.extend(requirements)
    from_index = (f"{document.file}: conda packages are installed from the Python index",) if requirements else ()
    reader = RequirementReader(files, lines)
    for item in items:
        if item.is_nested:
            read_pip(document, item, reader)
    spec = specify(EnvironmentKind.CONDA_ENV, document.file, lines, python=python, build_requirements=build)
    return CondaFileSpec(
        **structs.asdict(spec), conda=file, mapping=(*left_out, *renamed), departures=(*from_index, *left_out)
    )


Sorted = tuple[str | None, list[str], list[str], tuple[str, ...], tuple[str, ...]]


def read_pip(document: Document, item: Item, reader: RequirementReader) -> None:
    """Read the ``pip:`` part of a conda file.

    Raises:
        EnvironmentSetupError: the item has another key, or a line can't be read.
    """
    if item.text != "pip":
        raise EnvironmentSetupError(
            f"'{item.text or '-'}:' is not a known key in the dependencies",
            context=f"{document.file}, line {item.line}",
            hint="A dependency is a string, or a list under 'pip:'.",
        )
    reader.read_lines((Line(child.line, child.text) for child in item.nested), document.file, (document.folder, ""))


def _sort(document: Document, packages: list[CondaPackage]) -> Sorted:
    """Return the rule for Python, build requirements, requirements, and notices about omitted and renamed packages."""
    is_export = len(EXPORT.intersection(package.name for package in packages)) >= 4  # noqa: PLR2004
    left_out: list[CondaPackage] = []
    refused: list[CondaPackage] = []
    kept: list[CondaPackage] = []
    for package in packages:
        below = package.is_below_python or (is_export and package.is_foreign)
        (left_out if below else refused if package.is_foreign else kept).append(package)
    if refused:
        raise _refusal(document, refused)
    python = next((package.rule for package in kept if package.name == "python"), "")
    build = [package.requirement for package in kept if package.name in BUILD_TOOLS]
    names = BUILD_TOOLS | {"python", "conda", "conda-build", "anaconda"}
    requirements = [package.requirement for package in kept if package.name not in names]
    left_out += [package for package in kept if package.name in {"conda", "conda-build", "anaconda"}]
    return (
        _python_rule(python),
        build,
        requirements,
        _omission_notices(document, left_out),
        _renaming_notices(document, kept),
    )


def _omission_notices(document: Document, left_out: list[CondaPackage]) -> tuple[str, ...]:
    names = ", ".join(sorted({package.name.lstrip("-") for package in left_out}))
    return (f"{document.file}: left out, because wheels or the system provide them: {names}",) if left_out else ()


def _renaming_notices(document: Document, kept: list[CondaPackage]) -> tuple[str, ...]:
    renamed = {f"{package.name} as {PYTHON_NAMES[package.name]}" for package in kept if package.name in PYTHON_NAMES}
    return (f"{document.file}: mapped to the Python index: {', '.join(sorted(renamed))}",) if renamed else ()


def _refusal(document: Document, refused: list[CondaPackage]) -> EnvironmentSetupError:
    named = ", ".join(f"{package.name} (line {package.line})" for package in refused[:MAX_NAMED])
    more = f" and {len(refused) - MAX_NAMED} more" if len(refused) > MAX_NAMED else ""
    return EnvironmentSetupError(
        f"{document.file} needs packages that the Python index does not have: {named}{more}",
        context=f"{document.file}, line {refused[0].line}",
        hint="Remove these lines and install the programs on the machine, or run with '--env-manager conda'.",
    )


def _parse(item: Item, faults: list[str]) -> Iterator[CondaPackage]:
    text = item.text.strip("'\" ")
    match = SPEC.fullmatch(text) if len(text) <= LONGEST_SPEC else None
    if not match or "://" in text or posixpath.isabs(text):
        faults.append(f"line {item.line}: '{item.text[:LONGEST_SPEC]}' is not a package name with a version")
        return
    name = canonical_name(match["name"])
    try:
        yield CondaPackage(line=item.line, text=text, name=name, rule=version_rule(match["rest"]))
    except ValueError as error:
        faults.append(f"line {item.line}: '{error}' in '{text}' is not a version")


def version_rule(rest: str) -> str:
    """Translate the version part of a conda spec to a rule of PEP 440; an empty rule admits any version.

    Raises ValueError if it is not a version. The format:
    https://docs.conda.io/projects/conda-build/en/stable/resources/package-spec.html#package-match-specifications
    """
    if bracket := BRACKETS.search(rest):
        version = BRACKET_VERSION.search(bracket["inside"])
        rest = next((group for group in version.groups() if group), "") if version else rest[: bracket.start()]
    rest = rest.strip()
    if " " in rest and not re.search(r"[<>!~=,|]\s", rest):
        rest = rest.split()[0] if not re.match(r"^[<>=!~]", rest) else "".join(rest.split()[:1])
    rest = re.sub(r"\s+", "", rest).split("|")[0]
    exact = re.fullmatch(r"={0,2}(?P<version>[^=<>!~,]+)=(?P<build>[^=<>!~,]*)", rest)
    if exact:
        return _exact(exact["version"])
    return ",".join(rule for part in rest.split(",") if (rule := _part(part)))


def _part(part: str) -> str:
    match = re.fullmatch(r"(?P<operator>[<>=!~]*)(?P<version>[^<>=!~]*)", part)
    if not match or match["operator"] not in OPERATORS or (match["operator"] and not match["version"]):
        raise ValueError(part)
    if match["version"] in ("", "*"):
        return ""
    operator, version = match["operator"], match["version"]
    if operator == "=":
        return _prefix(version)
    if operator in ("", "=="):
        return _exact(version)
    if operator in ("<", "<=", ">", ">="):
        version = version.removesuffix("*").rstrip(".")
    elif "*" in version:
        version = version.rstrip("*").rstrip(".") + ".*"
    return f"{operator}{version}"


def _prefix(version: str) -> str:
    version = version.rstrip("*").rstrip(".")
    return f"=={version}.*" if re.fullmatch(r"\d+(\.\d+)*", version) else f"=={version}"


def _exact(version: str) -> str:
    return _prefix(version) if version.endswith("*") else f"=={version}"


def _python_rule(rule: str) -> str | None:
    """Return a rule for Python in its short form: ``3.9`` for ``==3.9.*``."""
    match = re.fullmatch(r"==(\d+(?:\.\d+)*)(?:\.\*)?", rule)
    return match[1] if match else rule or None
