"""A bundle with its packages needs no package index."""

import json
import zipfile
from pathlib import Path

import msgspec
import pytest

from runner.bundles.locks import check_lock
from runner.environments.model import Interpreter
from runner.environments.resolve.locking import read_lock
from runner.errors import BundleError
from runner.model import RunRecord
from tests.conftest import MakeRepository, RunProj

HASH = f"--hash=sha256:{'0' * 64}"


@pytest.mark.env
@pytest.mark.slow
@pytest.mark.parametrize("manager", ["uv", "virtualenv"])
def test_the_environment_is_built_from_the_bundle(
    proj: RunProj, make_repository: MakeRepository, tmp_path: Path, manager: str
) -> None:
    script = "import os, six\nopen(os.environ['PROJ_METRICS'], 'a').write(f'major={six.__version__[0]}\\n')\n"
    files = {
        "MLproject": "name: t\npython_env: python_env.yaml\nentry_points:\n  main:\n    command: python t.py\n",
        "python_env.yaml": "dependencies: [six==1.16.0]\n",
        "t.py": script,
    }
    root = make_repository(files)
    done = proj("run", ".", "--env-manager", manager, "--json", cwd=root)
    assert done.code == 0, done.err
    bundles = [tmp_path / name for name in ("one.zip", "two.zip")]
    for bundle in bundles:
        written = proj("export", "latest", "-o", str(bundle), "--with-packages")
        assert written.code == 0, written.err
    assert bundles[0].read_bytes() == bundles[1].read_bytes()
    with zipfile.ZipFile(bundles[0]) as archive:
        assert "packages/six-1.16.0-py2.py3-none-any.whl" in archive.namelist()
    nowhere = "http://127.0.0.1:9/simple"
    there = {
        "PROJ_HOME": str(tmp_path / "there"),
        "UV_DEFAULT_INDEX": nowhere,
        "PIP_INDEX_URL": nowhere,
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
        "PIP_CONFIG_FILE": "/dev/null",
    }
    done = proj("reproduce", str(bundles[0]), "--yes", "--json", **there)
    assert done.code == 0, done.err
    assert done.json["verdict"] == "identical"
    again = proj("export", done.json["original"], "-o", str(tmp_path / "three.zip"), **there)
    assert again.code == 0, again.err
    with zipfile.ZipFile(tmp_path / "three.zip") as archive:
        assert "packages/six-1.16.0-py2.py3-none-any.whl" in archive.namelist()


def lock_of(tmp_path: Path, text: str) -> tuple[Path, RunRecord]:
    path = tmp_path / "lock.txt"
    path.write_text(text)
    digest = read_lock(text, Interpreter(path="", version="", implementation="", platform="")).digest
    names = RunRecord.__struct_fields__
    values: dict[str, object] = dict.fromkeys(names)
    values |= {name: [] for name in ("argv", "parameters", "inputs", "outputs", "redirects", "repairs", "notices")}
    values |= {"metrics": {}, "tags": {}, "environment": {"manager": "uv", "lock_digest": digest}}
    return path, msgspec.json.decode(json.dumps(values), type=RunRecord)


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://example.invalid/simple",
        "--extra-index-url=https://example.invalid/simple",
        "--find-links /tmp",
        "-r other.txt",
        "-c other.txt",
        "-e .",
        "--trusted-host example.invalid",
        "./six",
        "/tmp/six.whl",
        "six",
        "six==1.16.0",
        f"six>=1 {HASH}",
        f"six @ file:///tmp/six.whl {HASH}",
        f"six @ http://example.invalid/six.whl {HASH}",
        "six @ git+http://example.invalid/six",
        "six @ git+file:///tmp/six",
        f"six==1.16.0 {HASH} --global-option=--no-user-cfg",
        f"six==1.16.0 {HASH} --config-settings=x",
        f"six==1.16.0 \\\n    {HASH} \\\n    --install-option=x",
        "https://example.invalid/six.whl",
    ],
)
def test_lines_of_a_lock_that_are_refused(tmp_path: Path, line: str) -> None:
    path, record = lock_of(tmp_path, f"six==1.16.0 \\\n    {HASH}\n{line}\n")
    with pytest.raises(BundleError, match="no package with a hash"):
        check_lock(path, record, "run.zip")


def test_addresses_are_named_and_pins_are_not(tmp_path: Path) -> None:
    lines = [
        "# Python 3.11",
        f"six==1.16.0 ; python_version >= '3.8' \\\n    {HASH} \\\n    {HASH}",
        f"requests[socks]==2.0 {HASH}",
        "--only-binary :all:",
        "mine @ git+https://ada:secret@example.invalid/mine@" + "1" * 40,
        f"other @ https://example.invalid/other.whl {HASH}",
    ]
    path, record = lock_of(tmp_path, "\n".join(lines) + "\n")
    found = check_lock(path, record, "run.zip")
    assert [one.rpartition("@")[0] or one for one in found][1] == "https://example.invalid/other.whl"
    assert "secret" not in "".join(found)


def test_conda_locks_name_their_hosts(tmp_path: Path) -> None:
    _, record = lock_of(tmp_path, "")
    path = tmp_path / "conda-lock.yml"
    path.write_text(
        "package:\n- url: https://channel.invalid/linux-64/a.conda\n- url: https://channel.invalid/b.conda\n"
    )
    assert check_lock(path, record, "run.zip") == ("https://channel.invalid",)
    path.write_text("a: &a [*a]\n" + "b: [" * 5000)
    with pytest.raises(BundleError):
        check_lock(path, record, "run.zip")
