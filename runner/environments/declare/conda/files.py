"""What every reader of conda's files needs: their platforms, the lines meant for one of them, which file is a lock."""

import platform
import re
import sys

from runner.environments.model import CondaFile, EnvironmentSpec, Refusal
from runner.model import EnvironmentKind

SELECTORS = {
    "linux-64": {"linux64", "x86_64", "linux", "unix"},
    "linux-aarch64": {"aarch64", "linux", "unix"},
    "linux-ppc64le": {"ppc64le", "linux", "unix"},
    "osx-64": {"osx64", "x86_64", "osx", "unix"},
    "osx-arm64": {"arm64", "osx", "unix"},
    "win-64": {"win64", "x86_64", "win"},
}
"""What is true on a platform; the words of conda-build that are about platforms alone.

https://docs.conda.io/projects/conda-build/en/stable/resources/define-metadata.html#preprocessing-selectors
"""

SELECTOR = re.compile(r"#[^\[\]]*\[(?P<words>[^\[\]]+)\][^\[\]]*$")
WORDS = frozenset().union(*SELECTORS.values()) | {"linux32", "win32", "armv7l", "ppc64le", "s390x"}
LONGEST_LINE = 1000
"""Characters of a line that can have a selector: looking for one takes time that grows with the square."""
EXPLICIT = re.compile(r"(?m)^\s*@EXPLICIT\s*$")
LOCK_FILE = re.compile(r"(?m)^package:\s*$")
MACHINES = {"amd64": "64", "x86_64": "64", "arm64": "aarch64", "i686": "32", "i386": "32"}


def this_platform() -> str:
    """Return the platform of this machine as conda calls it: ``linux-64``, ``osx-arm64``."""
    machine = platform.machine().lower()
    if sys.platform == "darwin":
        return "osx-arm64" if machine in ("arm64", "aarch64") else "osx-64"
    system = "win" if sys.platform == "win32" else "linux"
    return f"{system}-{MACHINES.get(machine, machine)}"


def select_lines(text: str, name: str) -> str:
    """Blank the lines whose selector, such as ``# [linux]``, is not true on a platform; all others stay in place."""
    return "\n".join(line if _is_meant(line, name) else "" for line in text.splitlines()) + "\n"


def _is_meant(line: str, name: str) -> bool:
    if len(line) > LONGEST_LINE:
        return True
    match = SELECTOR.search(line)
    if not match or line.lstrip().startswith("#"):
        return True
    true = SELECTORS.get(name, set())
    words = match["words"].split()
    if not all(word in WORDS or word in ("and", "or", "not") for word in words):
        return True  # a remark in brackets
    return any(_all_true(part, true) for part in " ".join(words).split(" or "))


def _all_true(text: str, true: set[str]) -> bool:
    terms = [term.strip() for term in text.split(" and ")]
    return all((term.removeprefix("not ").strip() in true) is not term.startswith("not ") for term in terms)


def is_explicit(text: str) -> bool:
    """Say whether a file is an explicit list of conda packages."""
    return bool(EXPLICIT.search(text))


def is_conda_lock(text: str) -> bool:
    """Say whether a file is a lock of conda packages: an explicit list, or what conda-lock writes."""
    return is_explicit(text) or (bool(LOCK_FILE.search(text)) and "\nmetadata:" in f"\n{text}")


def conda_lock_spec(path: str, text: str) -> EnvironmentSpec:
    """Return the spec of a project that declares a lock of conda packages as its environment."""
    refusal = Refusal(
        message=f"{path} is a lock of conda packages",
        context=path,
        hint="Run with '--env-manager conda', or name a file that can be resolved, such as environment.yml.",
    )
    return EnvironmentSpec(
        kind=EnvironmentKind.CONDA_ENV, file=path, conda=CondaFile(path=path, text=text), refusal=refusal
    )
