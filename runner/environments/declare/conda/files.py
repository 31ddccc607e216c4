"""Functions shared by the readers of conda files: platforms, platform selectors, and detection of locks."""

import platform
import re
import sys

from runner.environments.specs import CondaFile, CondaFileSpec, Refusal

SELECTORS = {
    "linux-64": {"linux64", "x86_64", "linux", "unix"},
    "linux-aarch64": {"aarch64", "linux", "unix"},
    "linux-ppc64le": {"ppc64le", "linux", "unix"},
    "osx-64": {"osx64", "x86_64", "osx", "unix"},
    "osx-arm64": {"arm64", "osx", "unix"},
    "win-64": {"win64", "x86_64", "win"},
}
"""The selectors that are true on a platform: those of conda-build that depend on the platform alone.

https://docs.conda.io/projects/conda-build/en/stable/resources/define-metadata.html#preprocessing-selectors
"""

SELECTOR = re.compile(r"#[^\[\]]*\[(?P<words>[^\[\]]+)\][^\[\]]*$")
WORDS = frozenset().union(*SELECTORS.values()) | {"linux32", "win32", "armv7l", "ppc64le", "s390x"}
LONGEST_LINE = 1000
"""Most characters of a line with a selector; the time of the search grows with the square of the length."""
EXPLICIT = re.compile(r"(?m)^[ \t]*@EXPLICIT[ \t\r]*$")
LOCK_FILE = re.compile(r"(?m)^package:[ \t\r]*$")
MACHINES = {"amd64": "64", "x86_64": "64", "arm64": "aarch64", "i686": "32", "i386": "32"}


def this_platform() -> str:
    """Return conda's name for the platform of this machine: ``linux-64``, ``osx-arm64``."""
    machine = platform.machine().lower()
    if sys.platform == "darwin":
        return "osx-arm64" if machine in ("arm64", "aarch64") else "osx-64"
    return f"linux-{MACHINES.get(machine, machine)}"


def select_lines(text: str, name: str) -> str:
    """Blank the lines whose selector, such as ``# [linux]``, is false on a platform. Line numbers stay the same."""
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
        return True  # a comment in brackets, not a selector
    return any(_all_true(part, true) for part in " ".join(words).split(" or "))


def _all_true(text: str, true: set[str]) -> bool:
    terms = [term.strip() for term in text.split(" and ")]
    return all((term.removeprefix("not ").strip() in true) is not term.startswith("not ") for term in terms)


def is_explicit(text: str) -> bool:
    """Return whether a file is an explicit list of conda packages."""
    return bool(EXPLICIT.search(text))


def is_conda_lock(text: str) -> bool:
    """Return whether a file is a lock of conda packages: an explicit list or a file of conda-lock."""
    return is_explicit(text) or (bool(LOCK_FILE.search(text)) and "\nmetadata:" in f"\n{text}")


def conda_lock_spec(path: str, text: str) -> CondaFileSpec:
    """Return the spec of a project whose declared environment file is a lock of conda packages."""
    refusal = Refusal(
        message=f"{path} is a lock of conda packages",
        context=path,
        hint="Run with '--env-manager conda', or name a file that can be resolved, such as environment.yml.",
    )
    return CondaFileSpec(file=path, conda=CondaFile(path=path, text=text), refusal=refusal)
