"""Environment files in every form that MLflow, pip and conda know."""

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.environments.backends.registry import choose_backend
from runner.environments.declare.conda.mapping import version_rule
from runner.environments.declare.source_trees import FolderTree
from runner.environments.declare.spec import read_spec
from runner.environments.specs import EnvironmentSpec, LocalPackage
from runner.errors import EnvironmentSetupError
from runner.model import EnvironmentDeclaration, EnvironmentKind
from tests.conftest import write_tree

Read = Callable[..., EnvironmentSpec]
FILES = {
    EnvironmentKind.PYTHON_ENV: "python_env.yaml",
    EnvironmentKind.CONDA_ENV: "conda.yaml",
    EnvironmentKind.REQUIREMENTS: "requirements.txt",
}


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(kind: EnvironmentKind, content: str | bytes, /, path: str = "", **files: str) -> EnvironmentSpec:
        path = path or FILES[kind]
        others = {name.replace("__", "/").replace("_txt", ".txt"): text for name, text in files.items()}
        write_tree(tmp_path, {path: content, **others})
        return read_spec(EnvironmentDeclaration(kind=kind, path=path), FolderTree(tmp_path))

    return read


PYTHON_ENV, CONDA, REQUIREMENTS = EnvironmentKind.PYTHON_ENV, EnvironmentKind.CONDA_ENV, EnvironmentKind.REQUIREMENTS


@pytest.mark.parametrize(
    ("text", "python"),
    [
        ("python: 3.10", "3.10"),
        ("python: 3.9.18", "3.9.18"),
        ('python: "3.9"', "3.9"),
        ("python: '>=3.8,<3.11'", ">=3.8,<3.11"),
        ("python: 3", "3"),
        ("python:", None),
        ('python: ""', None),
        ("dependencies: [six]", None),
        ("", None),
        ("# nothing", None),
    ],
)
def test_the_python_version_keeps_its_source_text(read: Read, text: str, python: str | None) -> None:
    assert read(PYTHON_ENV, text).python == python


def test_python_env_lines_of_every_kind(read: Read) -> None:
    spec = read(
        PYTHON_ENV,
        """
python: 3.11
build_dependencies: [pip, "setuptools<70"]
dependencies:
  - "numpy>=1.22 ; python_version < '3.12'"
  - scikit-learn[docs] == 1.3.0  # a comment
  - -r reqs.txt
  - --constraint=bounds.txt
  - -e .
  - ./libs/tools[fast]
  - git+https://git.example.org/team/tools.git@v1#egg=tools
  - --extra-index-url https://index.example.org/simple
""",
        path="envs/python_env.yaml",
        reqs_txt="pandas==2.0.3 \\\n  --hash=sha256:00\n# no\n-r libs/more.txt\n",
        bounds_txt="urllib3<2\n",
        libs__more_txt="tqdm\n-c ../bounds.txt",
        libs__tools__setup="",
    )
    assert spec.requirements == (
        "numpy>=1.22 ; python_version < '3.12'",
        "scikit-learn[docs] == 1.3.0",
        "pandas==2.0.3 --hash=sha256:00",
        "tqdm",
        "git+https://git.example.org/team/tools.git@v1#egg=tools",
    )
    assert spec.build_requirements == ("pip", "setuptools<70")
    assert spec.constraints == ("urllib3<2",)
    assert spec.options == ("--extra-index-url https://index.example.org/simple",)
    assert spec.local_packages == (
        LocalPackage(path=".", editable=True),
        LocalPackage(path="libs/tools", extras=("fast",)),
    )


def test_all_faults_of_a_python_env_are_reported_with_lines(read: Read) -> None:
    with pytest.raises(EnvironmentSetupError) as caught:
        read(PYTHON_ENV, "python: [3]\ndependancies: [six]\ndependencies: six\n")
    message = caught.value.message
    assert "line 1: python must be a string" in message
    assert "line 2: unknown key 'dependancies', did you mean 'dependencies'?" in message
    assert "line 3: dependencies must be a list" in message


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("dependencies: [-r absent.txt]", "the file 'absent.txt' does not exist"),
        (
            "dependencies: [-r https://me:pw@host.invalid/a.txt]",
            "at an address is not read: https://host.invalid/a.txt",
        ),
        ("dependencies: ['-c git+ssh://host.invalid/a.txt']", "at an address is not read: git"),
        ("dependencies: [-e ./absent]", "'absent' does not exist"),
        ("dependencies: ['/home/me/wheel.whl']", "path that exists on one machine only"),
        ("dependencies: ['x @ file:///home/me/x']", "path that exists on one machine only"),
        ("dependencies: ['--frobnicate']", "--frobnicate"),
        ("- a\n- b", "keys and values"),
        ("a: [", "not YAML"),
        ("dependencies:\n\t- six", "not YAML"),
    ],
)
def test_unreadable_files_are_refused_with_their_position(read: Read, content: str, fault: str) -> None:
    with pytest.raises(EnvironmentSetupError, match=fault.replace(".", r"\.")) as caught:
        read(PYTHON_ENV, content)
    assert (caught.value.context or "").startswith("python_env.yaml")


def test_a_missing_file_suggests_one_beside_it(tmp_path: Path) -> None:
    write_tree(tmp_path, {"conda.yml": ""})
    with pytest.raises(EnvironmentSetupError) as caught:
        read_spec(EnvironmentDeclaration(kind=CONDA, path="conda.yaml"), FolderTree(tmp_path))
    assert caught.value.hint == "There is 'conda.yml' beside it."


def test_circular_includes_are_detected(read: Read) -> None:
    assert read(REQUIREMENTS, "six\n-r other.txt", other_txt="tqdm\n-r requirements.txt").requirements == (
        "six",
        "tqdm",
    )


def test_pinned_with_hashes_is_a_lock(read: Read) -> None:
    lines = ["six==1.16.0 --hash=sha256:aa --hash=sha256:bb", "tqdm==4.0 \\\n    --hash=sha256:cc"]
    assert read(REQUIREMENTS, "\n".join(lines)).is_locked
    assert not read(REQUIREMENTS, "\n".join([*lines, "numpy"])).is_locked
    assert not read(REQUIREMENTS, "").is_locked


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings(read: Read, encoding: str, end: str) -> None:
    text = f"name: café{end}dependencies:{end}  - python=3.9{end}  - numpy{end}"
    spec = read(CONDA, text.encode(encoding))
    assert (spec.python, spec.requirements) == ("3.9", ("numpy",))


@pytest.mark.parametrize(
    ("conda", "rule"),
    [
        ("", ""),
        ("=1.26", "==1.26.*"),
        ("=1.26.*", "==1.26.*"),
        ("=2.0.0rc1", "==2.0.0rc1"),
        ("==1.26.4", "==1.26.4"),
        ("==1.26.*", "==1.26.*"),
        ("=1.26.4=py310hb13e2d6_0", "==1.26.4"),
        ("==1.26.4=py310_0", "==1.26.4"),
        (" 1.4", "==1.4"),
        (" 1.4 py27_0", "==1.4"),
        (" 1.4*", "==1.4.*"),
        (">=1.2,<2", ">=1.2,<2"),
        (" >=1.2, <2", ">=1.2,<2"),
        (" >= 1.2", ">=1.2"),
        ("<=1.2.*", "<=1.2"),
        ("!=1.3", "!=1.3"),
        ("~=1.3", "~=1.3"),
        ("=*", ""),
        ("[version='>=1,<2',build=*_cuda]", ">=1,<2"),
        ("[build=*_cuda]", ""),
    ],
)
def test_versions_of_conda(conda: str, rule: str) -> None:
    assert version_rule(conda) == rule


@pytest.mark.parametrize(
    ("line", "python"),
    [
        ("python=3.7", "3.7"),
        ("python=3.10.13=hd12c33a_0_cpython", "3.10.13"),
        ("python==3.11.*", "3.11"),
        ("python 3.8.*", "3.8"),
        ("python>=3.6,<3.9", ">=3.6,<3.9"),
        ("python<3.12", "<3.12"),
        ("python", None),
        ("conda-forge::python=3.9", "3.9"),
    ],
)
def test_python_of_conda(read: Read, line: str, python: str | None) -> None:
    assert read(CONDA, f"dependencies:\n  - {line}\n").python == python


@pytest.mark.parametrize("line", ["numpy=", "numpy>=", "numpy>=1,=>2", "git+https://example.org/x.git", "/home/me/x"])
def test_unreadable_conda_lines_are_faults(read: Read, line: str) -> None:
    with pytest.raises(EnvironmentSetupError, match="line 2"):
        choose_backend("uv", read(CONDA, f"dependencies:\n  - {line}\n"))


def test_conda_mapping_is_reported(read: Read) -> None:
    spec = read(
        CONDA,
        """
name: forest
channels: [pytorch, conda-forge]
prefix: /home/me/envs/forest
dependencies:
  - python=3.10
  - pip=23
  - PyTorch=2.1
  - conda-forge::py-xgboost>=1.7
  - matplotlib-base
  - cudatoolkit=11.8
  - openssl
  - libgcc-ng
  - pywin32
  - pip:
      - tqdm==4.66.1
  - opencv==4.6.0
  - pip:
      - -r more.txt
""",
        more_txt="tabulate",
    )
    assert spec.requirements == (
        "torch==2.1.*",
        "xgboost>=1.7",
        "matplotlib",
        "pywin32 ; sys_platform == 'win32'",
        "opencv-python-headless==4.6.0.*",
        "tqdm==4.66.1",
        "tabulate",
    )
    assert spec.build_requirements == ("pip==23.*",)
    left_out, mapped = spec.mapping
    assert all(name in left_out for name in ("cudatoolkit", "openssl", "libgcc-ng"))
    assert all(name in mapped for name in ("pytorch as torch", "py-xgboost as xgboost", "matplotlib-base"))


def test_all_conda_only_packages_are_reported_together(read: Read) -> None:
    with pytest.raises(EnvironmentSetupError) as caught:
        choose_backend("uv", read(CONDA, "dependencies:\n  - r-base=4\n  - numpy\n  - ffmpeg\n  - r-dplyr\n"))
    assert "--env-manager conda" in (caught.value.hint or "")
    message = caught.value.message
    assert "r-base (line 2)" in message
    assert "ffmpeg (line 4)" in message
    assert "r-dplyr (line 5)" in message
    assert "numpy" not in message


def test_a_full_export_omits_native_libraries(read: Read) -> None:
    lines = ["_libgcc_mutex=0.1=main", "ca-certificates=2020.1.1=0", "openssl=1.1.1h=h7b6447c_0", "xz=5.2.5=h7b6447c_0"]
    lines += [
        "tk=8.6.10=hbc83047_0",
        "ffmpeg=4.3=0",
        "libpng=1.6=0",
        "numpy=1.19.2=py38h54aff64_0",
        "python=3.8.5=h7_1",
    ]
    spec = read(CONDA, "dependencies:\n" + "".join(f"  - {line}\n" for line in lines))
    assert (spec.python, spec.requirements) == ("3.8.5", ("numpy==1.19.2",))
    assert all(name in spec.mapping[0] for name in ("libgcc-mutex", "ffmpeg", "libpng", "openssl"))


def test_a_conda_file_declared_as_python_env_is_read_as_conda(read: Read) -> None:
    spec = read(PYTHON_ENV, "channels: [defaults]\ndependencies:\n  - python=3.9\n  - pip:\n    - six\n")
    assert (spec.kind, spec.python, spec.requirements) == (CONDA, "3.9", ("six",))
    assert "is read as one" in spec.notices[0]


def test_python_beside_requirements(read: Read, tmp_path: Path) -> None:
    (tmp_path / ".python-version").write_text("3.9.1\n")
    assert read(REQUIREMENTS, "six").python == "3.9.1"


def test_nothing_declared() -> None:
    spec = read_spec(EnvironmentDeclaration(), FolderTree(Path()))
    assert spec.is_empty
