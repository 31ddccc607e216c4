"""Standard locks (PEP 751): selection of packages and refusal of invalid files."""

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import Marker

from runner.environments.declare.pylock import default_marker, read_pylock
from runner.environments.specs import EnvironmentSpec
from runner.errors import EnvironmentSetupError
from runner.manifest.files import FolderFiles
from tests.conftest import write_tree

DIGEST = "0" * 64
HEAD = "lock-version = '1.0'\ncreated-by = 'test'\n"


def wheel(name: str, more: str = "", version: str = "1.0") -> str:
    url = f"https://host.invalid/{name}-{version}-py3-none-any.whl"
    return (
        f"[[packages]]\nname = '{name}'\nversion = '{version}'\n{more}\n"
        f"wheels = [{{url = '{url}', hashes = {{sha256 = '{DIGEST}'}}}}]\n"
    )


def read(text: str, tmp_path: Path, **files: str) -> EnvironmentSpec:
    return read_pylock("pylock.toml", (HEAD + text).encode(), FolderFiles(write_tree(tmp_path, files)))


def marker(text: str) -> str:
    return f'marker = "{text}"'


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("sys_platform == 'win32' and 'cli' in extras", None),
        ("sys_platform == 'win32' and 'cli' not in extras", "sys_platform == 'win32'"),
        ("'cli' not in extras and sys_platform == 'win32'", "sys_platform == 'win32'"),
        ("'cli' in extras", None),
        ("'cli' not in extras", ""),
        ("'dev' in dependency_groups", None),
        ("'Main_Group' in dependency_groups", ""),
        ("sys_platform == 'win32'", "sys_platform == 'win32'"),
        ("", ""),
    ],
)
def test_extras_and_groups_are_evaluated_and_other_markers_kept(text: str, left: str | None) -> None:
    found = default_marker(text, ("main-group",))
    assert (found or "").replace('"', "'") == (left or "")
    assert (found is None) == (left is None)


ATOMS = st.sampled_from(
    [
        "sys_platform == 'win32'",
        "python_version < '3.9'",
        "platform_machine != 'x86_64'",
        "'cli' in extras",
        "'gui' not in extras",
        "'dev' in dependency_groups",
        "'Main_Group' in dependency_groups",
        "'docs' not in dependency_groups",
    ]
)
MARKERS = st.recursive(
    ATOMS,
    lambda inner: (
        st.builds("({}) {} ({})".format, inner, st.sampled_from(["and", "or"]), inner)
        | st.builds("{} {} {}".format, ATOMS, st.sampled_from(["and", "or"]), inner)
    ),
    max_leaves=6,
)
MACHINES = tuple(
    {"sys_platform": platform, "python_version": python, "platform_machine": machine}
    for platform, python, machine in product(("linux", "win32"), ("3.8", "3.12"), ("x86_64", "arm64"))
)


@given(MARKERS)
def test_every_marker_means_the_same_on_every_machine(text: str) -> None:
    left = default_marker(text, ("main-group",))
    wanted = {"extras": frozenset[str](), "dependency_groups": frozenset({"main-group"})}
    for machine in MACHINES:
        expected = Marker(text).evaluate({**machine, **wanted}, context="lock_file")
        assert (left is not None and (not left or Marker(left).evaluate(machine))) == expected


def test_a_package_of_an_extra_on_another_system_is_not_installed_here(tmp_path: Path) -> None:
    text = (
        wheel("pywin32", marker("sys_platform == 'win32' and 'cli' not in extras"))
        + wheel("click", marker("'cli' in extras"))
        + wheel("six")
    )
    lines = read(text, tmp_path).requirements
    assert [line.partition("==")[0] for line in lines] == ["pywin32", "six"]
    assert "sys_platform" in lines[0]
    assert ";" not in lines[1]


def test_default_groups_are_those_of_the_lock(tmp_path: Path) -> None:
    text = "default-groups = ['main']\ndependency-groups = ['main', 'dev']\n"
    text += wheel("six", marker("'main' in dependency_groups")) + wheel("tox", marker("'dev' in dependency_groups"))
    assert [line.partition("==")[0] for line in read(text, tmp_path).requirements] == ["six"]


def test_all_kinds_of_package_sources(tmp_path: Path) -> None:
    text = (
        f"requires-python = '>=3.9'\n{wheel('six')}"
        "[[packages]]\nname = 'mine'\ndirectory = {path = './lib', editable = true}\n"
        "[[packages]]\nname = 'from-git'\nvcs = {type = 'git', url = 'https://host.invalid/x.git', "
        f"commit-id = '{'a' * 40}', subdirectory = 'sub'}}\n"
        "[[packages]]\nname = 'packed'\n"
        f"archive = {{url = 'https://host.invalid/p.zip', hashes = {{sha512 = '{'b' * 128}'}}}}\n"
    )
    spec = read(text, tmp_path, **{"lib/setup.py": ""})
    assert spec.python == ">=3.9"
    assert spec.requirements == (
        f"six==1.0 --hash=sha256:{DIGEST}",
        f"from-git @ git+https://host.invalid/x.git@{'a' * 40}#subdirectory=sub",
        f"packed @ https://host.invalid/p.zip --hash=sha512:{'b' * 128}",
    )
    assert [(one.path, one.editable) for one in spec.local_packages] == [("lib", True)]
    assert spec.is_locked


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("lock-version = '2.0'\ncreated-by = 'x'\npackages = []\n", "1.0 is supported"),
        ("lock-version = ", "not valid TOML"),
        (HEAD + "[[packages]]\nname = 'x'\n", "not a lock of PEP 751"),
        (HEAD + wheel("Not_Normal"), "not a lock of PEP 751"),
        (HEAD + wheel("six", 'marker = "nonsense"'), "not a lock of PEP 751"),
        (HEAD + wheel("six").replace("sha256", "md5"), "no files with hashes"),
        (HEAD + "[[packages]]\nname = 'x'\ndirectory = {path = 'absent'}\n", "which does not exist"),
        (HEAD + "packages = 3\n", "not a lock of PEP 751"),
        ("", "not a lock of PEP 751"),
    ],
)
def test_an_invalid_lock_is_refused(tmp_path: Path, text: str, reported: str) -> None:
    with pytest.raises(EnvironmentSetupError, match=reported) as caught:
        read_pylock("pylock.toml", text.encode(), FolderFiles(tmp_path))
    assert "pylock.toml" in f"{caught.value.message} {caught.value.context}"
