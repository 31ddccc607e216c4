"""Pins the digests that identify locks, environments and stored additions: a change of them makes caches useless."""

from datetime import datetime, timezone
from pathlib import Path

import pytest

from runner.environments.backends.python_backend import _identity
from runner.environments.declare.conda.spec import read_conda_spec
from runner.environments.declare.project_lock import lines_digest, spec_lines
from runner.environments.declare.source_trees import FolderTree
from runner.environments.declare.spec import read_declared
from runner.environments.model import EnvironmentRequest, Interpreter
from runner.environments.repair.additions import additions_path
from runner.environments.resolve.locking import lock_path, note_path, read_lock
from runner.environments.specs import CondaFile
from runner.model import EnvironmentDeclaration, EnvironmentKind
from runner.settings import Home
from tests.conftest import write_tree

INTERPRETER = Interpreter(path="/nowhere/python3", version="3.11.7", implementation="cpython", platform="linux-x86_64")
CONDA = """channels: [conda-forge]
dependencies: [python=3.9, numpy=1.21, pip, {pip: [mlflow==2.9, "./own"]}]
"""
PYPROJECT = '[project]\nname = "own"\nversion = "1"\n[build-system]\nrequires = ["setuptools"]\n'
FILES = {
    "requirements.txt": "--pre\n--extra-index-url https://u:p@x.invalid/simple\nsix==1.16.0\n-c c.txt\n-e ./own\n",
    "c.txt": "numpy<2\n",
    "own/pyproject.toml": PYPROJECT,
    "python_env.yaml": "python: 3.9\nbuild_dependencies: [pip==23.0, setuptools]\ndependencies: [six>=1, requests]\n",
    "conda.yaml": CONDA,
    "uv.lock": 'version = 1\nrequires-python = ">=3.9"\n',
    "pyproject.toml": PYPROJECT,
    "pylock.toml": (
        'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "six"\nversion = "1.16.0"\n'
        f'[[packages.wheels]]\nurl = "https://x/six-1.16.0-py3-none-any.whl"\nhashes = {{sha256 = "{"0" * 64}"}}\n'
    ),
}
KINDS = {
    "requirements.txt": EnvironmentKind.REQUIREMENTS,
    "python_env.yaml": EnvironmentKind.PYTHON_ENV,
    "conda.yaml": EnvironmentKind.CONDA_ENV,
    "uv.lock": EnvironmentKind.UV_LOCK,
    "pylock.toml": EnvironmentKind.PYLOCK,
    "": EnvironmentKind.NONE,
}
"""The files that declare an environment; the empty name declares none."""


STORED: dict[str, tuple[str, str, str, str]] = {
    "requirements.txt": (
        "3eb27b38837ba0c709787f2686a746ed",
        "b75db5daeff8b115a45a538642fa4c23",
        "ccb132e75d79d9a2eba4dcce43ff7ab3",
        "cc259552c6b836f8e7d04b0fed7502f64e674fd0ed034dac33f35abcd9018c21",
    ),
    "python_env.yaml": (
        "ef6bc179a2ef642b01df71be860cfbc0",
        "5d7a787334532ae86e882c4eff373780",
        "9ae4adc904f47f9bccb9e1864a434b4a",
        "c9c94818a62c7deeafb36a7e3ce2b4699f881871bf3a7f101ab0257add904ffa",
    ),
    "conda.yaml": (
        "44f26ce8a010ca1332774cd4ce038f00",
        "b32c00b0528d7045e6154525b7655ff4",
        "994774c9b21411b81b07508dba663799",
        "d876517174431e5e45bd4825a3419bc69b76b2490edf54d1dc96f25f9e2c42c0",
    ),
    "uv.lock": (
        "9804d2660dec2e1e84e2a6dabebcf51a",
        "38093795d1158de7e7ed84f7f85cdd8c",
        "7ad45e49abd16ff45fe39e097af54a24",
        "6e591b443a74dabcccb25adecd1d49591d4a71e9b7a491f0b846b61f88eb5593",
    ),
    "pylock.toml": (
        "5776c69ead179a8c4e79ec30997ed6c1",
        "b111497fdf005a4e654d94f9143208f0",
        "de20db1080b7fbd80ad70a316c15f509",
        "59e49e142879ebb1a3dc294765a65adadbdb16032df5335b3915d391d2d982b1",
    ),
    "": (
        "345e74c69a7e2ab101fe4d25c9cce5e7",
        "6bd14c62bca2efacad9bf804bbdf46bd",
        "cd0989f2e282a6b9aaab13cbc84aa6e2",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ),
}
"""The names of the lock, of the note about its repair and of the stored additions, and the digest of the lines."""


@pytest.fixture
def files(tmp_path: Path) -> FolderTree:
    return FolderTree(write_tree(tmp_path / "project", FILES))


def _request(files: FolderTree, home: Path, name: str, **options: object) -> EnvironmentRequest:
    spec = read_declared(EnvironmentDeclaration(kind=KINDS[name], path=name or None), files)
    as_of = datetime(2024, 5, 17, tzinfo=timezone.utc)
    return EnvironmentRequest(spec=spec, home=Home(home), files=files, tree=files, as_of=as_of, **options)  # type: ignore[arg-type]


def _stored(files: FolderTree, home: Path, name: str) -> tuple[str, str, str, str]:
    request = _request(files, home, name)
    return (
        lock_path(request, INTERPRETER).stem,
        note_path(_request(files, home, name, repair=True), INTERPRETER).stem.removesuffix(".repaired"),
        additions_path(request.home, ("name", "", "main"), request.spec).stem,
        lines_digest(spec_lines(request.spec, files)).removeprefix("sha256:"),
    )


@pytest.mark.parametrize(("name", "stored"), STORED.items())
def test_the_names_of_stored_files_stay(
    files: FolderTree, tmp_path: Path, name: str, stored: tuple[str, str, str, str]
) -> None:
    assert _stored(files, tmp_path, name) == stored


def test_the_digest_of_a_conda_file_stays(files: FolderTree) -> None:
    spec = read_conda_spec(CondaFile(path="conda.yaml", text=CONDA), files, "linux-64")
    assert spec.digest("linux-64", files) == "eaf1d652365d872e55f59dadf956f5582e2b1ed76f189246ccdc822b95ab8fc9"


def test_the_identity_of_an_environment_stays() -> None:
    lock = read_lock("# as of: 2024-05-17T00:00:00Z\nsix==1.16.0 --hash=sha256:00\n", INTERPRETER)
    assert _identity("uv", lock) == "640b22936fabfb90a4a52b82714a78b8ed880ba2329794a93bf8abfdcce87be2"
