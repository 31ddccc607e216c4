"""The tables of import names, compared with their evidence and with the packages installed beside the tests."""

import re
from importlib.metadata import packages_distributions

import pytest

from runner.base.package_names import canonical_name
from runner.environments.repair import import_names
from tests.support.import_names import EVIDENCE, entries, installed

MODULES = import_names._modules()
AT_RUN_TIME = {"distutils"}
"""Modules that a package provides when Python starts, so that none of its files has their name."""
PROVEN = {
    (module, package): kind for module, package, kind, _ in map(str.split, EVIDENCE.read_text("utf-8").splitlines())
}
# An entry that a wheel proves is of another version than the installed one: `pkg_resources`, say.
INSTALLED = {
    module: name
    for module, name in MODULES.items()
    if name and installed(name)[1] and PROVEN.get((module, name)) != "wheel"
}
WITHOUT_EVIDENCE = {
    ("distutils", "setuptools"): "setuptools adds the module when Python starts",
    ("Crypto", "pycrypto"): "only source distributions, without a list of modules",
    ("Levenshtein", "python-levenshtein"): "the newest version has no files of its own; it requires levenshtein",
    ("kerastuner", "keras-tuner"): "releases before 1.0.3, which are source distributions",
    ("pystan", "pystan"): "releases before 3, which have no wheel for today's Python",
    ("tensorflow", "tensorflow-gpu"): "the last release is a package without files",
    ("tensorflow", "tensorflow-macos"): "the last release is a package without files",
}
"""Entries that no archive that was read proves, with the reason; they are right for projects of their time."""


def test_there_is_something_to_compare() -> None:
    assert len(INSTALLED) > 15


@pytest.mark.parametrize("module", sorted(INSTALLED.keys() - AT_RUN_TIME))
def test_an_installed_package_has_the_module_of_its_entry(module: str) -> None:
    assert module in installed(INSTALLED[module])[1]


@pytest.mark.parametrize("module", sorted(MODULES.keys() & packages_distributions().keys() - AT_RUN_TIME))
def test_an_installed_module_is_of_the_package_of_its_entry(module: str) -> None:
    assert canonical_name(MODULES[module]) in {canonical_name(name) for name in packages_distributions()[module]}


def test_each_entry_has_evidence() -> None:
    assert sorted([*PROVEN, *WITHOUT_EVIDENCE]) == entries()
    versions = [line.split()[3] for line in EVIDENCE.read_text(encoding="utf-8").splitlines()]
    assert [version for version in versions if not re.fullmatch(r"\d+(\.\w+)*", version)] == []


def test_each_entry_stands_once_and_in_the_right_table() -> None:
    others = [entry.partition("=")[::2] for entry in import_names._OTHER_NAMES.split()]
    modules = [module for module, _ in others] + [name.replace("-", "_") for name in import_names._SAME_NAMES.split()]
    assert len(set(modules)) == len(modules)
    assert [module for module, name in others if module == name.replace("-", "_")] == []
