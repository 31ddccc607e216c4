"""conda-lock is loaded only where a lock is first read or written; what needs it says so."""

import hashlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot

from runner.environments.resolve.conda import lock_process
from runner.environments.resolve.conda.lock_process import LockFiles
from runner.environments.resolve.conda.lockfile import CondaLock, PipPackage
from runner.environments.resolve.conda.protocol import CondaPackage
from runner.environments.resolve.conda.solve import lock_path_beside
from runner.errors import EnvironmentSetupError
from runner.model import EnvironmentKind, EventKind
from runner.settings import Home
from tests.conftest import ROOT, RunProj, write_tree
from tests.environments.test_backends import SampleProject
from tests.support.conda_channel import Package, make_channel, platform
from tests.support.conda_locks import answer_here, read_lock, write_lock

pytestmark = pytest.mark.skipif(find_spec("rattler") is None, reason="py-rattler is not installed")

TOOL = Package("tool", files={"bin/tool": "#!/bin/sh\necho tool\n"}, subdir=platform())
MANIFEST = "conda_env: environment.yml\nentry_points: {main: {command: tool}}\n"
WATCH = """
import importlib.machinery, os, sys
hidden = os.environ.get("HIDDEN_MODULES", "").split()
find = importlib.machinery.PathFinder.find_spec

def find_shown(name, path=None, target=None):
    return None if name.partition(".")[0] in hidden else find(name, path, target)

def note(event, args):
    if event == "import" and args[0].partition(".")[0] in ("conda_lock", "pydantic", "rattler", "yaml"):
        with open(os.environ["IMPORTED"], "a") as file:
            file.write(args[0].partition(".")[0] + " ")

importlib.machinery.PathFinder.find_spec = staticmethod(find_shown)
sys.addaudithook(note)
"""


class Watched:
    """The command line, with a note of what it and its workers import, and without the modules in ``hidden``."""

    def __init__(self, proj: RunProj, folder: Path, room: Path) -> None:
        write_tree(room, {"sitecustomize.py": WATCH})
        self._proj, self._folder, self._room = proj, folder, room

    def __call__(self, *words: str, hidden: str = "") -> tuple[int, str, set[str]]:
        note = self._room / "imported"
        note.write_text("")
        result = self._proj(
            *words,
            cwd=self._folder,
            PYTHONPATH=os.pathsep.join([str(self._room), str(ROOT)]),
            HIDDEN_MODULES=hidden,
            IMPORTED=str(note),
        )
        return result.code, result.out + result.err, set(note.read_text().split())


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    return make_channel(tmp_path / "channel", TOOL)


@pytest.fixture
def sample(tmp_path: Path, home: Home, channel: Path) -> SampleProject:
    sample = SampleProject(tmp_path / "project", home)
    sample.write("MLproject", MANIFEST)
    text = f"channels: [{channel.as_uri()}]\ndependencies: [tool]\n"
    sample.write("environment.yml", text, EnvironmentKind.CONDA_ENV)
    return sample


@pytest.fixture
def watched(proj: RunProj, sample: SampleProject, tmp_path: Path) -> Watched:
    return Watched(proj, sample.folder, tmp_path / "watch")


# When it is loaded


@pytest.mark.slow
@pytest.mark.parametrize("has_lock", [True, False])
def test_a_warm_run_imports_nothing_of_it(watched: Watched, sample: SampleProject, has_lock: bool) -> None:
    words = ("run", ".", "--env-manager", "conda")
    if has_lock:
        code, said, imported = watched("lock", ".", "--format", "conda-lock")
        assert (code, "conda_lock" in imported) == (0, True), said
    code, said, imported = watched(*words)
    assert code == 0, said
    assert ("conda_lock" in imported) is not has_lock  # `proj lock` has stored what it wrote
    code, said, imported = watched(*words)
    assert (code, imported & {"conda_lock", "pydantic", "rattler"}) == (0, set()), said
    code, said, _ = watched(*words, hidden="conda_lock")
    assert code == 0, said
    for path in sample.home.locks.glob("*.read"):
        path.unlink()
    code, said, imported = watched(*words)
    assert (code, "conda_lock" in imported) == (0, True), said


# Without the extra


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("run", ".", "--env-manager", "conda"),
        ("run", ".", "--env-manager", "conda", "--dry-run"),
        ("lock", ".", "--format", "conda-lock", "--check"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("hidden", ["conda_lock", "conda_lock rattler"])
def test_without_the_extra_a_lock_is_refused_by_name(
    watched: Watched, sample: SampleProject, channel: Path, words: tuple[str, ...], hidden: str
) -> None:
    write_foreign_lock(sample, channel)
    code, said, _ = watched(*words, hidden=hidden)
    assert code == 1
    assert "proj-runner[conda]" in said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("words", [("run", ".", "--env-manager", "conda"), ("lock", ".", "--format", "conda-lock")])
def test_without_the_extra_nothing_is_solved_before_it_is_refused(
    watched: Watched, sample: SampleProject, words: tuple[str, ...]
) -> None:
    code, said, imported = watched(*words, hidden="conda_lock")
    assert (code, "rattler" in imported) == (1, False)
    assert "proj-runner[conda]" in said
    assert not (sample.folder / "conda-lock.yml").exists()


@pytest.mark.slow
def test_others_do_not_need_the_extra(watched: Watched, sample: SampleProject, channel: Path) -> None:
    write_foreign_lock(sample, channel)
    line = "{}.{}".format(*sys.version_info)
    sample.write("environment.yml", f"dependencies: [python={line}]\n")
    sample.write("MLproject", MANIFEST.replace("command: tool", "command: python -c 'print(1 + 1)'"))
    for words in (("check", "."), ("run", ".", "--env-manager", "uv"), ("list",), ("show", "latest"), ("env", "list")):
        code, said, imported = watched(*words, hidden="conda_lock rattler")
        assert (code, "conda_lock" in imported) == (0, False), said


@pytest.mark.slow
def test_a_conda_run_is_shown_without_the_extra(watched: Watched) -> None:
    assert watched("run", ".", "--env-manager", "conda")[0] == 0
    for words in (("show", "latest"), ("get", "latest", "conda-lock.yml"), ("check", "."), ("env", "list")):
        code, said, imported = watched(*words, hidden="conda_lock rattler")
        assert (code, "conda_lock" in imported) == (0, False), said


def test_an_explicit_list_needs_no_conda_lock(
    monkeypatch: pytest.MonkeyPatch, sample: SampleProject, channel: Path
) -> None:
    monkeypatch.setattr(lock_process, "is_installed", lambda: False)
    data = (channel / TOOL.subdir / TOOL.file_name).read_bytes()
    address = f"{channel.as_uri()}/{TOOL.subdir}/{TOOL.file_name}"
    sample.write(f"conda-{platform()}.lock", f"@EXPLICIT\n{address}#{hashlib.md5(data).hexdigest()}\n")
    assert sample.prepare("conda").record.packages == (("tool", "1.0"),)


# What it does in its own process


def test_a_worker_keeps_its_variables_to_itself(sample: SampleProject, channel: Path) -> None:
    code = "import os, sys, json\nfrom runner.environments.resolve.conda.lock_process import LockFiles\n"
    code += "before = dict(os.environ), list(sys.path)\nlock = LockFiles(environ=os.environ).read(*sys.argv[1:])\n"
    code += "print(json.dumps([lock.packages[0].name, before == (dict(os.environ), sys.path),"
    code += " [n for n in sys.modules if n.startswith(('conda_lock', 'pydantic'))]]))"
    write_foreign_lock(sample, channel)
    text = (sample.folder / "conda-lock.yml").read_text()
    # A module of the project with the library's name is not the library.
    sample.write("conda_lock.py", "raise SystemExit('the project was imported')\n")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, text, "lock", platform()],
        env=env,
        cwd=sample.home.root.parent,
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout) == ["tool", True, []]


def test_a_worker_that_dies_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_tree(tmp_path, {"dies.py": "import sys\nsys.exit('https://me:secret@host.invalid went away')\n"})
    monkeypatch.setattr(lock_process, "WORKER", "dies")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EnvironmentSetupError, match=r"conda-lock failed on l: .*host\.invalid went away") as caught:
        LockFiles(environ=os.environ).read("version: 1\n", "l", "linux-64")
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(("path", "shown"), [("a/l.yml", "a/l.yml"), ("a/\udcff.yml", "a/?.yml")])
def test_a_refusal_of_the_worker_names_file_and_place(monkeypatch: pytest.MonkeyPatch, path: str, shown: str) -> None:
    monkeypatch.setattr(lock_process, "run_worker", answer_here)
    with pytest.raises(EnvironmentSetupError) as caught:
        LockFiles(environ=os.environ).read("version: 1\nmetadata: {}\npackage: [{}]\n", path, "linux-64")
    assert caught.value.message.startswith(f"{shown} is not a lock in the format of conda-lock: package.0.name: ")
    assert caught.value.context == path


def test_a_written_lock_is_stored_as_it_is_read(sample: SampleProject) -> None:
    lock = sample_lock(sample)
    (stored,) = sample.home.locks.glob("*.read")
    content = stored.read_bytes().partition(b"\n")[2]
    (text,) = sample.home.locks.glob("*.conda-lock.yml")
    assert msgspec.msgpack.decode(content, type=CondaLock) == read_lock(text.read_text(), "l", platform())
    assert lock == read_lock(text.read_text(), "l", platform()).digest


# The files


def package(name: str, subdir: str, **more: str | tuple[str, ...]) -> CondaPackage:
    url = f"https://host.invalid/c/{subdir}/{name}-1.10-h1_0.conda"
    return CondaPackage(name=name, version="1.10", build="h1_0", url=url, **more)


LINUX = CondaLock(
    platform="linux-64",
    channels=("c", "https://host.invalid/d"),
    packages=(
        package("b", "noarch", md5="1" * 32),
        package(
            "a", "linux-64", md5="1" * 32, sha256="2" * 64, depends=("b >=1", "b <2", "c", "d 1.0.*" + " |2.0.*" * 14)
        ),
    ),
    pip=(
        PipPackage(name="six", version="1.16", url="https://host.invalid/six-1.16-py3-none-any.whl", sha256="3" * 64),
        PipPackage(name="mine", version="2", url="git+https://host.invalid/m@a", source="git+https://host.invalid/m@a"),
    ),
    content="0" * 64,
    is_ours=True,
    as_of="2022-03-01T00:00:00Z",
    undated=("a", "z"),
)
MAC = CondaLock(
    platform="osx-64",
    channels=("c",),
    packages=(package("a", "osx-64", sha256="2" * 64),),
    content="1e10",
    is_ours=True,
)


def test_the_text_of_a_lock_is_the_one_that_earlier_versions_wrote() -> None:
    assert write_lock([LINUX, MAC], ["conda.yaml"], with_addresses=False) == snapshot("""\
# Made by proj in the format of conda-lock; `conda-lock install` reads it too.
version: 1
metadata:
  content_hash:
    linux-64: '0000000000000000000000000000000000000000000000000000000000000000'
    osx-64: 1e10
  channels:
  - url: c
    used_env_vars: []
  - url: https://host.invalid/d
    used_env_vars: []
  platforms:
  - linux-64
  - osx-64
  sources:
  - conda.yaml
  custom_metadata:
    proj: '1'
    as_of: '2022-03-01T00:00:00Z'
    no_dates_for: a z
package:
- name: a
  version: '1.10'
  manager: conda
  platform: linux-64
  dependencies:
    b: '>=1,<2'
    c: ''
    d: 1.0.* |2.0.* |2.0.* |2.0.* |2.0.* |2.0.* |2.0.* |2.0.* |2.0.* |2.0.* |2.0.* |2.0.* |2.0.* |2.0.* |2.0.*
  url: https://host.invalid/c/linux-64/a-1.10-h1_0.conda
  hash:
    md5: '11111111111111111111111111111111'
    sha256: '2222222222222222222222222222222222222222222222222222222222222222'
  category: main
  optional: false
  build: h1_0
- name: b
  version: '1.10'
  manager: conda
  platform: linux-64
  dependencies: {}
  url: https://host.invalid/c/noarch/b-1.10-h1_0.conda
  hash:
    md5: '11111111111111111111111111111111'
  category: main
  optional: false
  build: h1_0
- name: mine
  version: '2'
  manager: pip
  platform: linux-64
  dependencies: {}
  url: git+https://host.invalid/m@a
  hash: {}
  source:
    type: url
    url: git+https://host.invalid/m@a
  category: main
  optional: false
- name: six
  version: '1.16'
  manager: pip
  platform: linux-64
  dependencies: {}
  url: six-1.16-py3-none-any.whl
  hash:
    sha256: '3333333333333333333333333333333333333333333333333333333333333333'
  category: main
  optional: false
- name: a
  version: '1.10'
  manager: conda
  platform: osx-64
  dependencies: {}
  url: https://host.invalid/c/osx-64/a-1.10-h1_0.conda
  hash:
    sha256: '2222222222222222222222222222222222222222222222222222222222222222'
  category: main
  optional: false
  build: h1_0
""")


def test_a_package_with_sha256_alone_is_read() -> None:
    text = write_lock([MAC], ["conda.yaml"], with_addresses=True)
    assert "md5" not in text
    assert read_lock(text, "l", "osx-64").digest == MAC.digest


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}(-[a-z0-9]{1,5})?", fullmatch=True)
WORDS = st.from_regex(r"[0-9][0-9a-z_.+!]{0,9}", fullmatch=True)


@given(
    st.lists(st.tuples(NAMES, WORDS, WORDS, st.booleans(), st.booleans()), min_size=1, unique_by=lambda item: item[0])
)
def test_every_written_lock_is_read_back(items: list[tuple[str, str, str, bool, bool]]) -> None:
    packages = tuple(
        CondaPackage(
            name=name,
            version=version,
            build=build,
            url=f"https://h.invalid/c/noarch/{name}-{version}-{build}.conda",
            md5=hashlib.md5(name.encode()).hexdigest() if has_md5 or not has_sha256 else None,
            sha256=hashlib.sha256(name.encode()).hexdigest() if has_sha256 else None,
            depends=(f"{name} >={version}",),
        )
        for name, version, build, has_md5, has_sha256 in items
    )
    lock = CondaLock(platform="linux-64", channels=("c",), packages=packages, content="x", is_ours=True)
    again = read_lock(write_lock([lock], ["e.yml"], with_addresses=False), "l", "linux-64")
    assert again == msgspec.structs.replace(lock, packages=tuple(sorted(packages, key=lambda item: item.name)))


def write_foreign_lock(sample: SampleProject, channel: Path) -> None:
    """Write a lock as conda-lock does, beside the environment file."""
    data = (channel / TOOL.subdir / TOOL.file_name).read_bytes()
    entry = {
        "name": "tool",
        "version": "1.0",
        "manager": "conda",
        "platform": platform(),
        "dependencies": {},
        "url": f"{channel.as_uri()}/{TOOL.subdir}/{TOOL.file_name}",
        "hash": {"md5": hashlib.md5(data).hexdigest(), "sha256": hashlib.sha256(data).hexdigest()},
        "category": "main",
        "optional": False,
    }
    metadata = {
        "content_hash": {platform(): "0" * 64},
        "channels": [{"url": "c", "used_env_vars": []}],
        "platforms": [platform()],
        "sources": ["environment.yml"],
    }
    whole = {"version": 1, "metadata": metadata, "package": [entry]}
    sample.write(lock_path_beside(sample.request()), yaml.safe_dump(whole, sort_keys=False))


def sample_lock(sample: SampleProject) -> str | None:
    digest = sample.prepare("conda").record.lock_digest
    assert sample.messages(EventKind.WARNING) == ""
    return digest
