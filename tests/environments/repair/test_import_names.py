"""The tables of import names, compared with the packages that are installed beside the tests."""

import re
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

import pytest

from runner.base.package_names import canonical_name
from runner.environments.repair import import_names

ENTRIES = [*import_names._OTHER_NAMES.split(), *import_names._SAME_NAMES.split()]
MODULES = import_names._modules()
AT_RUN_TIME = {"distutils"}
"""Modules that a package provides when Python starts, so that none of its files has their name."""


def modules_of(package: str) -> set[str]:
    """Return the modules and packages in the files of an installed package, empty if it is not installed."""
    try:
        files = distribution(package).files or ()
    except PackageNotFoundError:
        return set()
    paths = [re.sub(r"(/__init__)?\.[^/]*$", "", str(file)) for file in files if file.suffix in (".py", ".so")]
    return {".".join(path.split("/")[:length]) for path in paths for length in range(1, path.count("/") + 2)}


INSTALLED = {module: name for module, name in MODULES.items() if name and modules_of(name)}


def test_there_is_something_to_compare() -> None:
    assert len(INSTALLED) > 15


@pytest.mark.parametrize("module", sorted(INSTALLED.keys() - AT_RUN_TIME))
def test_an_installed_package_has_the_module_of_its_entry(module: str) -> None:
    assert module in modules_of(INSTALLED[module])


@pytest.mark.parametrize("module", sorted(MODULES.keys() & packages_distributions().keys() - AT_RUN_TIME))
def test_an_installed_module_is_of_the_package_of_its_entry(module: str) -> None:
    assert canonical_name(MODULES[module]) in {canonical_name(name) for name in packages_distributions()[module]}


def test_each_entry_has_one_place_and_a_valid_source() -> None:
    modules = [entry.partition("@")[0].partition("=")[0].replace("-", "_") for entry in ENTRIES]
    assert len(set(modules)) == len(modules)
    sources = {entry.partition("@")[2] for entry in ENTRIES} - {"", "pipreqs"}
    assert [source for source in sources if not re.fullmatch(r"\d+(\.\d+)*", source)] == []
    pairs = (entry.partition("@")[0].partition("=") for entry in import_names._OTHER_NAMES.split())
    assert [module for module, _, name in pairs if module == name.replace("-", "_")] == []
