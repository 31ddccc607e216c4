"""Locks of conda packages by proj, by other tools and with invalid content; conda executables of the user."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.environments.backends.conda.tools import lock_text
from runner.environments.backends.registry import BACKENDS, choose_backend
from runner.environments.declare.conda.files import select_lines
from runner.environments.declare.conda.spec import read_conda_spec
from runner.environments.declare.source_trees import FolderTree
from runner.environments.resolve.conda.channels import channels_of
from runner.environments.resolve.conda.lockfile import CondaLock, PipPackage
from runner.environments.resolve.conda.pip import pip_packages
from runner.environments.resolve.conda.protocol import CondaPackage
from runner.environments.resolve.conda.solve import lock_path_beside
from runner.environments.specs import CondaFile
from runner.errors import EnvironmentSetupError
from runner.model import EnvironmentDeclaration, EnvironmentKind, EventKind
from runner.settings import Home
from runner.urls import without_channel_credentials
from tests.conftest import RunProj, write_tree
from tests.environments.test_backends import SampleProject, run
from tests.support.conda_channel import Package, archive, interpreter, make_channel, platform, python_package
from tests.support.conda_locks import answer_here, read_lock, write_lock

pytestmark = pytest.mark.usefixtures("shared_cache")

TOOL = Package("tool", files={"bin/tool": "#!/bin/sh\necho tool\n"}, subdir=platform())
OTHER = "osx-64" if platform() != "osx-64" else "linux-64"
CONDA = EnvironmentKind.CONDA_ENV
needs_library = pytest.mark.skipif(find_spec("rattler") is None, reason="py-rattler is not installed")


@pytest.fixture(autouse=True)
def locks_are_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.environments.resolve.conda.lock_process.run_worker", answer_here)


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    return make_channel(tmp_path / "channel", interpreter(), TOOL, python_package("hello", {"hello.py": "X = 1\n"}))


@pytest.fixture
def sample(tmp_path: Path, home: Home, channel: Path) -> SampleProject:
    sample = SampleProject(tmp_path / "project", home)
    text = f"channels: [{channel.as_uri()}]\ndependencies: [tool]\n"
    sample.write("envs/environment.yml", text, CONDA)
    return sample


def digests(package: Package) -> dict[str, str]:
    data = archive(package)
    return {"md5": hashlib.md5(data).hexdigest(), "sha256": hashlib.sha256(data).hexdigest()}


def explicit(channel: Path, package: Package, kind: str = "md5") -> str:
    digest = digests(package)[kind]
    mark = {"md5": digest, "sha256": f"sha256:{digest}"}[kind]
    return f"# platform: {platform()}\n@EXPLICIT\n{channel.as_uri()}/{package.subdir}/{package.file_name}#{mark}\n"


def conda_lock(*entries: Mapping[str, Any], **metadata: Any) -> str:
    """Return a lock as conda-lock itself writes it."""
    head = {
        "content_hash": {platform(): "0" * 64},
        "channels": [{"url": "conda-forge", "used_env_vars": []}],
        "platforms": [platform()],
        "sources": ["environment.yml"],
    }
    return yaml.safe_dump({"version": 1, "metadata": {**head, **metadata}, "package": [dict(e) for e in entries]})


def entry(channel: Path, package: Package, **more: Any) -> dict[str, Any]:
    return {
        "name": package.name,
        "version": package.version,
        "manager": "conda",
        "platform": platform(),
        "dependencies": {},
        "url": f"{channel.as_uri()}/{package.subdir}/{package.file_name}",
        "hash": digests(package),
        "category": "main",
        "optional": False,
        **more,
    }


# What a file says


@pytest.mark.parametrize(
    ("selector", "linux", "windows"),
    [
        ("", True, True),
        ("# [linux]", True, False),
        ("# [win]", False, True),
        ("# [unix]", True, False),
        ("# [not win]", True, False),
        ("# [linux or win]", True, True),
        ("# [linux and not aarch64]", True, False),
        ("# [osx and arm64 or win64]", False, True),
        ("# see [the docs]", True, True),
        ("# [linux] because", True, False),
    ],
)
def test_selectors(selector: str, linux: bool, windows: bool) -> None:
    line = f"  - numpy  {selector}".rstrip()
    assert ("numpy" in select_lines(line, "linux-64")) is linux
    assert ("numpy" in select_lines(line, "win-64")) is windows


def test_selectors_keep_line_numbers() -> None:
    text = "a\nb  # [win]\nc\n"
    assert select_lines(text, "linux-64").splitlines() == ["a", "", "c"]


def test_a_conda_file_is_read_without_mapping(tmp_path: Path) -> None:
    write_tree(tmp_path, {"more.txt": "tabulate\n"})
    text = """
channels: [pytorch, defaults]
dependencies:
  - python=3.7
  - numpy=1.16=py37*
  - pytorch::torchvision>=0.4
  - pip:
    - six  # for the rest
    - -r more.txt
variables: {MODE: 010}
"""
    spec = read_conda_spec(CondaFile(path="conda.yaml", text=text), FolderTree(tmp_path), "linux-64")
    assert spec.channels == ("pytorch", "defaults")
    assert spec.specs == ("python=3.7", "numpy=1.16=py37*", "pytorch::torchvision>=0.4")
    assert spec.pip.requirements == ("six", "tabulate")
    assert (spec.python, spec.variables) == ("3.7", {"MODE": "010"})


def test_the_spec_digest_depends_on_the_requirements(tmp_path: Path) -> None:
    def digest(text: str) -> str:
        spec = read_conda_spec(CondaFile(path="conda.yaml", text=text), FolderTree(tmp_path), "linux-64")
        return spec.digest("linux-64", FolderTree(tmp_path))

    plain = digest("channels: [https://host.invalid/c]\ndependencies: [a, b]\n")
    assert (
        digest("name: x\nchannels: [https://me:pw@host.invalid/t/tk-1/c]\ndependencies:\n  - b\n  - a  # c\n") == plain
    )
    assert digest("channels: [https://host.invalid/c]\ndependencies: [a, b>1]\n") != plain
    assert digest("channels: [other]\ndependencies: [a, b]\n") != plain


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:pw@host.invalid/c", "https://host.invalid/c"),
        ("https://host.invalid/t/tk-1/get/c", "https://host.invalid/get/c"),
        ("https://host.invalid/test/c", "https://host.invalid/test/c"),
        ("see http://a:b@h.invalid:8/t/x-1/c/noarch/y.conda now", "see http://h.invalid:8/c/noarch/y.conda now"),
    ],
)
def test_urls_are_shown_without_credentials(address: str, shown: str) -> None:
    assert without_channel_credentials(address) == shown


def test_channels_follow_the_users_settings(tmp_path: Path) -> None:
    def places(*declared: str, **environ: str) -> list[tuple[str, str]]:
        found = channels_of(declared, {"HOME": str(tmp_path), **environ})
        return [(channel.name, channel.address) for channel in found]

    assert places("conda-forge", "nodefaults") == [("conda-forge", "conda-forge")]
    assert places() == [("conda-forge", "conda-forge")]
    assert places("defaults", "main") == [("main", "main"), ("r", "r")]
    assert places("a/label/b", CONDA_CHANNEL_ALIAS="https://m.invalid/") == [
        ("a/label/b", "https://m.invalid/a/label/b")
    ]
    assert places("https://u:$PW@h.invalid/c/", PW="x") == [("https://h.invalid/c", "https://u:x@h.invalid/c")]
    settings = (
        "default_channels: [https://m.invalid/main]\nchannels: [mine]\ncustom_channels: {mine: https://o.invalid}\n"
    )
    write_tree(tmp_path, {".condarc": settings})
    assert places("defaults") == [("main", "https://m.invalid/main")]
    assert places() == [("mine", "https://o.invalid/mine")]


# Reading and writing


def test_a_written_lock_is_read_back() -> None:
    packages = (
        CondaPackage(
            name="a",
            version="1.0",
            build="h1_0",
            url="https://host.invalid/c/noarch/a-1.0-h1_0.conda",
            md5="1" * 32,
            sha256="2" * 64,
            depends=("b >=1", "b <2", "c"),
        ),
    )
    pip = (
        PipPackage(
            name="six", version="1.16.0", url="https://host.invalid/six-1.16.0-py3-none-any.whl", sha256="3" * 64
        ),
        PipPackage(
            name="mine", version="2", url="git+https://host.invalid/m@abc", source="git+https://host.invalid/m@abc"
        ),
    )
    lock = CondaLock(
        platform="linux-64",
        channels=("c",),
        packages=packages,
        pip=pip,
        content="x",
        is_ours=True,
        as_of="2022",
        undated=("a",),
    )
    text = write_lock([lock], ["conda.yaml"], with_addresses=False)
    again = read_lock(text, "conda-lock.yml", "linux-64")
    assert "host.invalid/six" not in text
    assert again.digest == lock.digest
    assert (again.content, again.is_ours, again.as_of, again.undated) == ("x", True, "2022", ("a",))
    assert again.packages[0].depends == ("b >=1,<2", "c")
    assert {item.requirement for item in again.pip} == {item.requirement for item in pip}
    assert "host.invalid/six" in write_lock([lock], [], with_addresses=True)


def test_the_lock_digest_depends_on_packages_not_on_urls(channel: Path) -> None:
    one = read_lock(conda_lock(entry(channel, TOOL)), "l", platform())
    other = read_lock(
        conda_lock(entry(channel, TOOL, url=f"https://host.invalid/{platform()}/{TOOL.file_name}")), "l", platform()
    )
    changed = read_lock(conda_lock(entry(channel, TOOL, hash={"md5": "0" * 32})), "l", platform())
    assert one.digest == other.digest != changed.digest


PLAIN = Path("/channel")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (conda_lock(entry(PLAIN, TOOL, platform=OTHER), platforms=[OTHER]), f"only for {OTHER}"),
        (conda_lock(entry(PLAIN, TOOL, hash={})), "no digest for tool"),
        (conda_lock(entry(PLAIN, TOOL, hash={"sha256": "../../../x"})), "an invalid package"),
        (conda_lock(entry(PLAIN, TOOL, hash={"md5": "0" * 31 + "g"})), "an invalid package"),
        (conda_lock(entry(PLAIN, TOOL, url="https://host.invalid/..")), "an invalid package"),
        (conda_lock(entry(PLAIN, TOOL, name="../tool")), "an invalid package"),
        (conda_lock(entry(PLAIN, TOOL, version="2.0")), "an invalid package"),
        (conda_lock(entry(PLAIN, TOOL)).replace("version: 1\n", "version: 2\n"), "has version 2"),
        ("metadata: []\npackage:\n- 1\n", "has version None"),
        ("version: 1\nmetadata: []\npackage:\n- 1\n", "not a lock in the format of conda-lock"),
        ("@EXPLICIT\nnonsense\n", "'nonsense' is not the URL"),
        (f"@EXPLICIT\nhttps://h.invalid/{platform()}/a-1-0.conda#zz\n", "is not the URL"),
        (f"@EXPLICIT\nhttps://h.invalid/{OTHER}/a-1-0.conda#{'0' * 32}\n", f"is for {OTHER}"),
        (f"@EXPLICIT\nhttps://h.invalid/{platform()}/a-1-0.conda\n", "no digest for a"),
    ],
)
def test_invalid_locks_are_refused(text: str, message: str) -> None:
    with pytest.raises(EnvironmentSetupError) as caught:
        read_lock(text, "conda-lock.yml", platform())
    assert message in caught.value.message
    assert caught.value.context


def test_only_the_main_category_is_read(channel: Path) -> None:
    dev = entry(channel, TOOL._replace(name="checker"), category="dev", optional=True)
    lock = read_lock(conda_lock(entry(channel, TOOL), dev), "conda-lock.yml", platform())
    assert [package.name for package in lock.packages] == ["tool"]


def test_the_best_wheel_for_the_platform_is_chosen() -> None:
    names = ["six-1-cp311-cp311-win_amd64.whl", "six-1-py3-none-any.whl", "six-1-cp311-cp311-manylinux2014_x86_64.whl"]
    wheels = [{"url": f"https://h.invalid/{n}", "hashes": {"sha256": str(i) * 64}} for i, n in enumerate(names)]
    sdist = {"url": "https://h.invalid/six-1.tar.gz", "hashes": {"sha256": "9" * 64}}
    package = {"name": "six", "version": "1", "wheels": wheels, "sdist": sdist}
    lock = {"lock-version": "1.0", "created-by": "uv"}

    def best(name: str, python: str = "3.11.4") -> str:
        (found,) = pip_packages({**lock, "packages": [package]}, python, name)
        return found.url.rpartition("/")[2]

    assert (best("linux-64"), best("win-64")) == (names[2], names[0])
    assert best("osx-arm64") == best("linux-64", "3.10.1") == names[1]
    others = {**lock, "packages": [{**package, "wheels": wheels[:1]}]}
    source = PipPackage(name="six", version="1", url="https://h.invalid/six-1.tar.gz", sha256="9" * 64)
    assert pip_packages(others, "3.11", "linux-64") == [source]


# Locks of the project


@needs_library
@pytest.mark.parametrize("kind", ["md5", "sha256"])
@pytest.mark.parametrize("name", ["environment.yml", f"conda-{platform()}.lock"])
def test_an_explicit_list_is_a_lock(sample: SampleProject, channel: Path, kind: str, name: str) -> None:
    newer = TOOL._replace(version="2.0")
    make_channel(channel, TOOL, newer)
    sample.write(f"envs/{name}", explicit(channel, TOOL, kind))
    assert sample.prepare("conda").record.packages == (("tool", "1.0"),)
    assert not list(sample.home.locks.glob("*.conda-lock.yml"))


def test_a_declared_conda_lock_needs_the_conda_backend(sample: SampleProject, channel: Path) -> None:
    sample.write("envs/environment.yml", explicit(channel, TOOL))
    with pytest.raises(EnvironmentSetupError, match="is a lock of conda packages") as caught:
        choose_backend("uv", sample.request().spec)
    assert "--env-manager conda" in (caught.value.hint or "")


@needs_library
def test_a_lock_beside_the_file_is_the_lock(sample: SampleProject, channel: Path) -> None:
    sample.write("envs/conda-lock.yml", conda_lock(entry(channel, TOOL)))
    make_channel(channel, TOOL, TOOL._replace(version="2.0"))
    prepared = sample.prepare("conda")
    assert prepared.record.packages == (("tool", "1.0"),)
    assert BACKENDS["conda"].plan(sample.request()).lock_digest == prepared.record.lock_digest
    assert sample.messages(EventKind.WARNING) == ""


@needs_library
def test_a_disagreeing_lock_is_reported_and_used(sample: SampleProject, channel: Path) -> None:
    sample.write("envs/conda-lock.yml", conda_lock(entry(channel, TOOL)))
    text = f"channels: [{channel.as_uri()}]\ndependencies: [tool>=2, absent, pip: [six]]\n"
    sample.write("envs/environment.yml", text, CONDA)
    assert sample.prepare("conda").record.packages == (("tool", "1.0"),)
    told = sample.messages(EventKind.WARNING)
    assert all(word in told for word in ("'tool>=2' is locked to 1.0", "'absent' is not in it", "'six' is not in it"))


@needs_library
def test_a_lock_by_proj_detects_changes_of_its_file(sample: SampleProject, channel: Path) -> None:
    path, text = lock_path_beside(sample.request()), lock_text(sample.request(), [platform()], sample.events.append)
    assert path == "envs/conda-lock.yml"
    sample.write(path, text)
    sample.prepare("conda")
    assert sample.messages(EventKind.WARNING) == ""
    sample.write("envs/environment.yml", f"channels: [{channel.as_uri()}]\ndependencies: [tool, hello]\n", CONDA)
    sample.prepare("conda")
    assert "another version" in sample.messages(EventKind.WARNING)


@needs_library
def test_a_lock_for_several_platforms(sample: SampleProject, channel: Path) -> None:
    elsewhere = TOOL._replace(subdir=OTHER, version="3.0")
    make_channel(channel, TOOL, elsewhere)
    path, text = (
        lock_path_beside(sample.request()),
        lock_text(sample.request(), [platform(), OTHER], sample.events.append),
    )
    sample.write(path, text)
    assert read_lock(text, path, OTHER).packages[0].version == "3.0"
    assert sample.prepare("conda").record.packages == (("tool", "1.0"),)


@needs_library
def test_proj_lock_writes_a_conda_lock_and_checks_it(proj: RunProj, sample: SampleProject, channel: Path) -> None:
    sample.write("MLproject", "conda_env: envs/environment.yml\nentry_points: {main: {command: tool}}\n")
    words = ("lock", ".", "--format", "conda-lock")
    missing = proj(*words, "--check", cwd=sample.folder)
    assert (missing.code, "there is no lock" in missing.out) == (1, True)
    made = proj(*words, "--platform", platform(), cwd=sample.folder)
    assert made.code == 0, made.err
    assert made.out.strip().endswith("envs/conda-lock.yml")
    assert proj(*words, "--check", cwd=sample.folder).code == 0
    assert sample.prepare("conda").record.packages == (("tool", "1.0"),)
    sample.write("envs/environment.yml", f"channels: [{channel.as_uri()}]\ndependencies: [tool, hello]\n")
    assert proj(*words, "--check", cwd=sample.folder).code == 1
    assert proj(*words, "--platform", "atari", cwd=sample.folder).code == 2


@needs_library
def test_a_lock_with_another_digest_is_refused(sample: SampleProject, channel: Path) -> None:
    wrong = entry(channel, TOOL, hash={"md5": digests(TOOL)["md5"], "sha256": "0" * 64})
    sample.write("envs/conda-lock.yml", conda_lock(wrong))
    with pytest.raises(EnvironmentSetupError, match="hash mismatch"):
        sample.prepare("conda")


# conda-lock itself, and executables

SHIM = '''#!{python}
"""Does what this test asks of a conda: tells what it would install, and installs an explicit list."""
import argparse, asyncio, json, os, sys, tempfile
from pathlib import Path
import rattler

async def find(words):
    channels = [channel.rstrip("/") for channel in words.channel]
    platforms = [os.environ.get("CONDA_SUBDIR", "{platform}"), "noarch"]
    specs = [rattler.MatchSpec(spec) for spec in words.rest]
    try:
        records = await rattler.solve(sources=channels, specs=specs, platforms=platforms)
    except rattler.exceptions.SolverError as error:
        return {{"success": False, "error": str(error), "message": str(error)}}, 1
    found = [
        dict(name=r.name.normalized, version=str(r.version), url=r.url, fn=r.file_name, md5=r.md5.hex(),
             sha256=r.sha256.hex(), depends=list(r.depends), constrains=[], channel=r.channel, subdir=r.subdir,
             timestamp=0)
        for r in records
    ]
    return {{"success": True, "actions": {{"FETCH": found, "LINK": []}}}}, 0

async def put(words):
    records = []
    for line in Path(words.file).read_text().splitlines():
        if "://" in line and not line.startswith("#"):
            url, _, digest = line.partition("#")
            archive = Path(url.removeprefix("file://"))
            records.append(await rattler.RepoDataRecord.from_package_archive(archive))
    with tempfile.TemporaryDirectory() as cache:
        await rattler.install(records, target_prefix=words.prefix, cache_dir=cache, show_progress=False)
    return {{"success": True}}, 0

if sys.argv[1:] == ["--version"]:
    print("conda 24.0.0"); sys.exit()
if sys.argv[1:] == ["info", "--json"]:
    print(json.dumps({{"pkgs_dirs": [tempfile.gettempdir()]}})); sys.exit()
parser = argparse.ArgumentParser()
parser.add_argument("command")
parser.add_argument("--prefix")
parser.add_argument("--file")
parser.add_argument("--channel", action="append", default=[])
for flag in ("--dry-run", "--json", "--override-channels", "--yes", "--quiet"):
    parser.add_argument(flag, action="store_true")
words, words.rest = parser.parse_known_args()
if words.command == "run":
    at = sys.argv.index("--prefix")
    rest = sys.argv[2:at] + sys.argv[at + 2:]
    os.execv(f"{{words.prefix}}/bin/{{rest[0]}}", rest)
answer, code = asyncio.run(put(words) if words.file else find(words))
print(json.dumps(answer))
sys.stdout.flush()
os._exit(code)
'''


@pytest.fixture
def shim(tmp_path: Path) -> Path:
    """Make a program that answers as conda does, as none can be had from the Python index."""
    path = write_tree(tmp_path, {"bin/conda": SHIM.format(python=sys.executable, platform=platform())}) / "bin/conda"
    path.chmod(0o755)
    return path


@needs_library
def test_a_configured_conda_executable_is_used(
    sample: SampleProject, shim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROJ_CONDA_EXE", str(shim))
    monkeypatch.setattr("runner.environments.backends.conda.backend.is_installed", lambda: False)
    prepared = sample.prepare("conda", as_of=datetime(2022, 3, 1, tzinfo=timezone.utc))
    assert prepared.record.packages == (("tool", "1.0"),)
    assert prepared.record.as_of is None
    assert "can't resolve as of a date" in sample.messages(EventKind.NOTICE)
    assert run(prepared, "tool") == "tool"
    assert not (sample.home.root / "cache/conda/archives").exists()


@needs_library
def test_a_wrong_installation_by_the_executable_is_detected(
    sample: SampleProject, channel: Path, shim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROJ_CONDA_EXE", str(shim))
    lock = BACKENDS["conda"].lock(sample.request(), sample.events.append)
    make_channel(channel, TOOL._replace(files={"bin/tool": "#!/bin/sh\necho swapped\n"}))
    with pytest.raises(EnvironmentSetupError, match="does not match the lock"):
        BACKENDS["conda"].prepare(sample.request(), lock, sample.events.append)


def test_a_missing_executable_is_reported(sample: SampleProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROJ_CONDA_EXE", "no-such-conda")
    with pytest.raises(EnvironmentSetupError, match="no-such-conda"):
        sample.prepare("conda")


@needs_library
def test_an_unsolvable_executable_error_is_quoted(
    sample: SampleProject, shim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROJ_CONDA_EXE", str(shim))
    sample.write("envs/environment.yml", "channels: [file:///no/such]\ndependencies: [tool]\n", CONDA)
    with pytest.raises(EnvironmentSetupError, match="conda finds no set"):
        sample.prepare("conda")


@pytest.fixture
def real_conda_lock() -> Path:
    return Path(sys.executable).parent / "conda-lock"


def start(program: Path, *words: str | Path, cwd: Path) -> str:
    done = subprocess.run([program, *words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_library
@pytest.mark.env
@pytest.mark.slow
def test_conda_lock_reads_our_locks(sample: SampleProject, channel: Path, real_conda_lock: Path, shim: Path) -> None:
    text = f"channels: [{channel.as_uri()}]\ndependencies:\n  - tool\n  - python\n  - pip:\n    - six==1.16.0\n"
    sample.write("environment.yml", text, CONDA)
    path, lock = lock_path_beside(sample.request()), lock_text(sample.request(), [platform()], sample.events.append)
    sample.write(path, lock)
    start(real_conda_lock, "render", "--kind", "explicit", "--platform", platform(), path, cwd=sample.folder)
    rendered = (sample.folder / f"conda-{platform()}.lock").read_text()
    assert f"{channel.as_uri()}/{platform()}/{TOOL.file_name}#{digests(TOOL)['md5']}" in rendered
    assert f"#sha256={read_lock(lock, path, platform()).pip[0].sha256}" in rendered
    assert read_lock(rendered, "x", platform()).digest != ""
    tool_only = sample.folder / "tool-only"
    sample.write("tool-only/environment.yml", f"channels: [{channel.as_uri()}]\ndependencies: [tool]\n", CONDA)
    sample.declaration = EnvironmentDeclaration(kind=CONDA, path="tool-only/environment.yml")
    sample.write("tool-only/conda-lock.yml", lock_text(sample.request(), [platform()], sample.events.append))
    prefix = sample.folder / "prefix"
    start(real_conda_lock, "install", "--conda", shim, "--prefix", prefix, "conda-lock.yml", cwd=tool_only)
    assert (prefix / "bin/tool").exists()


@needs_library
@pytest.mark.env
@pytest.mark.slow
def test_locks_by_conda_lock_are_read(sample: SampleProject, channel: Path, real_conda_lock: Path, shim: Path) -> None:
    sample.write("environment.yml", f"channels: [{channel.as_uri()}]\ndependencies: [tool, hello, python]\n", CONDA)
    words = ("lock", "--conda", shim, "--file", "environment.yml", "--platform", platform())
    start(real_conda_lock, *words, cwd=sample.folder)
    prepared = sample.prepare("conda")
    assert [name for name, _ in prepared.record.packages] == ["hello", "python", "tool"]
    assert sample.messages(EventKind.WARNING) == ""
    text = (sample.folder / "conda-lock.yml").read_text()
    assert prepared.record.lock_digest == read_lock(text, "l", platform()).digest


@needs_library
@pytest.mark.env
@pytest.mark.slow
def test_conda_lock_makes_the_lock_if_installed(
    sample: SampleProject, real_conda_lock: Path, shim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROJ_CONDA_EXE", str(shim))
    monkeypatch.setenv("PATH", os.pathsep.join([str(real_conda_lock.parent), os.environ["PATH"]]))
    text = lock_text(sample.request(), [platform()], sample.events.append)
    assert "generated by conda-lock" in text
    sample.write("envs/conda-lock.yml", text)
    monkeypatch.delenv("PROJ_CONDA_EXE")
    assert sample.prepare("conda").record.packages == (("tool", "1.0"),)
