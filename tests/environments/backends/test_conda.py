"""Tests of the `conda` backend: from conda files to a verified prefix, over file and http, with edits and kills."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from runner.environments.backends import local
from runner.environments.backends.registry import BACKENDS, choose_backend
from runner.environments.interpreters import interpreters
from runner.environments.model import Prepared
from runner.environments.resolve import uv_command
from runner.environments.resolve.conda import lock_process, worker_process
from runner.environments.specs import PythonSpec
from runner.errors import EnvironmentSetupError, ProjError
from runner.model import EnvironmentKind, EventKind
from runner.settings import Home
from tests.conftest import Result, RunProj, commit_all, write_tree
from tests.environments.test_backends import Contract, SampleProject, run
from tests.support.conda_channel import (
    PLACEHOLDER,
    Link,
    Package,
    archive,
    interpreter,
    make_channel,
    platform,
    python_package,
    served,
)
from tests.support.conda_locks import answer_here

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_cache")]

pytest.importorskip("rattler", reason="py-rattler is not installed")

ROOT = Path(__file__).parents[3]
LINE = "{}.{}".format(*sys.version_info)
HELLO = python_package("hello", {"hello.py": "import greet\nWORD = greet.WORD\n"}, depends=("greet >=2",))
GREET = python_package("greet", {"greet.py": "WORD = 'greet 2'\n"}, version="2.0", build="pyh1_1", kind=".conda")
TOOL = Package(
    "tool",
    files={
        "bin/tool": f"#!/bin/sh\necho tool of {PLACEHOLDER}\n",
        "share/tool/data.txt": "data",
        "share/tool/link": Link("data.txt"),
    },
    subdir=platform(),
)
# Read here, as the clean room takes such variables away from tests.
KILLS = int(os.environ.get("PROJ_KILLS", "6"))
SHARED = ("greet", "hello", "python", "tool")


@pytest.fixture(autouse=True)
def locks_are_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.environments.resolve.conda.lock_process.run_worker", answer_here)


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    return make_channel(tmp_path / "channel", interpreter(), HELLO, GREET, TOOL)


def declare(
    sample: SampleProject, channel: str | Path, *dependencies: str, pip: tuple[str, ...] = (), more: str = ""
) -> None:
    """Write an environment file that has one channel."""
    place = channel.as_uri() if isinstance(channel, Path) else channel
    lines = ["name: mine", f"channels: [{place}]" if place else "", "dependencies:"]
    lines += [f"  - {line}" for line in dependencies]
    lines += ["  - pip:", *(f"      - {line}" for line in pip)] if pip else []
    sample.write("environment.yml", "\n".join([*lines, more, ""]), EnvironmentKind.CONDA_ENV)


@pytest.fixture
def sample(tmp_path: Path, home: Home, channel: Path) -> SampleProject:
    sample = SampleProject(tmp_path / "project", home)
    declare(sample, channel, f"python={LINE}", "hello", "tool")
    return sample


def site(prepared: Prepared) -> Path:
    assert prepared.prefix
    return prepared.prefix / f"lib/python{LINE}/site-packages"


class TestConda(Contract):
    manager = "conda"

    def test_accepts_a_plain_spec(self) -> None:
        assert "conda file" in (BACKENDS["conda"].why_not(PythonSpec()) or "")

    def test_the_same_twice_starts_no_process(self, sample: SampleProject, monkeypatch: pytest.MonkeyPatch) -> None:
        first = sample.prepare("conda")
        for module in (interpreters, uv_command, local, worker_process):
            monkeypatch.setattr(module, "capture", None)
        monkeypatch.setattr(lock_process, "run_worker", None)
        assert sample.prepare("conda") == first


def test_installs_packages_of_python_and_of_nothing(sample: SampleProject) -> None:
    prepared = sample.prepare("conda")
    assert prepared.prefix
    record = prepared.record
    assert [name for name, _ in record.packages] == list(SHARED)
    assert record.channels == (f"file://{sample.folder.parent}/channel",)
    assert (record.manager, record.platform) == ("conda", platform())
    assert record.lock_digest
    assert run(prepared, "python", "-c", "import hello; print(hello.WORD)") == "greet 2"
    assert run(prepared, "python", "-c", "import sys; print(sys.prefix)") == str(prepared.prefix)
    assert run(prepared, "tool") == f"tool of {prepared.prefix}"
    assert (prepared.prefix / "share/tool/link").read_text() == "data"
    assert prepared.variables["CONDA_PREFIX"] == str(prepared.prefix)
    assert "VIRTUAL_ENV" not in prepared.variables


def test_an_environment_without_python(sample: SampleProject, channel: Path) -> None:
    declare(sample, channel, "tool")
    prepared = sample.prepare("conda")
    assert prepared.record.python is None
    assert prepared.record.packages == (("tool", "1.0"),)
    assert run(prepared, "tool") == f"tool of {prepared.prefix}"


def test_the_digest_is_that_of_the_packages_wherever_they_are(sample: SampleProject, tmp_path: Path) -> None:
    first = sample.prepare("conda")
    other = SampleProject(sample.folder, Home(tmp_path / "quite another and longer home"))
    other.declaration = sample.declaration
    second = other.prepare("conda")
    assert first.prefix != second.prefix
    assert first.record.digest == second.record.digest
    assert first.record.lock_digest == second.record.lock_digest


def test_over_http_with_archives_of_both_kinds(sample: SampleProject, channel: Path) -> None:
    with served(channel.parent) as server:
        declare(sample, f"{server.url}/channel", f"python={LINE}", "hello")
        prepared = sample.prepare("conda")
        assert run(prepared, "python", "-c", "import hello; print(hello.WORD)") == "greet 2"
        archives = [path for path in server.seen if path.endswith((".conda", ".tar.bz2"))]
        assert len(archives) == len(set(archives)) == 3
        shutil.rmtree(sample.home.environments)
        server.seen.clear()
        assert sample.prepare("conda").record.digest == prepared.record.digest
        assert server.seen == []


def test_versions_builds_and_channels_are_those_of_the_file(sample: SampleProject, tmp_path: Path) -> None:
    first = make_channel(tmp_path / "first", TOOL, Package("lib", "1.0", "cpu_0"), Package("lib", "1.0", "gpu_0"))
    second = make_channel(tmp_path / "second", TOOL._replace(version="9.0"), Package("lib", "2.0"), Package("rare"))
    both = f"{first.as_uri()}, {second.as_uri()}"
    declare(sample, both, "tool", "lib=1.0=gpu_*", "rare")
    assert dict(sample.prepare("conda").record.packages) == {"lib": "1.0", "rare": "1.0", "tool": "1.0"}
    assert sample.prepare("conda").prefix
    lock = BACKENDS["conda"].lock(sample.request(), sample.events.append)
    assert lock
    assert "build: gpu_0" in lock.text
    declare(sample, both, f"{second.as_uri()}::tool")
    assert dict(sample.prepare("conda").record.packages) == {"tool": "9.0"}


def test_channels_are_mixed_only_where_they_must_be(sample: SampleProject, tmp_path: Path) -> None:
    first = make_channel(tmp_path / "first", Package("lib", "1.0"))
    second = make_channel(tmp_path / "second", Package("lib", "2.0"), Package("needy", depends=("lib >=2",)))
    declare(sample, f"{first.as_uri()}, {second.as_uri()}", "needy")
    assert dict(sample.prepare("conda").record.packages)["lib"] == "2.0"
    assert "channels were mixed" in sample.messages(EventKind.NOTICE)


def test_lines_for_other_platforms_are_left_out(sample: SampleProject, channel: Path) -> None:
    system, other = ("osx", "linux") if sys.platform == "darwin" else ("linux", "osx")
    declare(
        sample, channel, f"tool  # [{system}]", f"only-there  # [{other}]", "neither  # [win]", "greet  # [not unix]"
    )
    assert sample.prepare("conda").record.packages == (("tool", "1.0"),)


def test_variables_of_the_file_and_of_activation_scripts(sample: SampleProject, tmp_path: Path) -> None:
    script = 'export GDAL_DATA="$CONDA_PREFIX/share/gdal"\nexport QUOTED="a b"\n'
    package = Package("gdal", files={"etc/conda/activate.d/gdal.sh": script, "share/gdal/x": "x"})
    declare(sample, make_channel(tmp_path / "c", package), "gdal", more="variables:\n  MODE: fast\n")
    prepared = sample.prepare("conda")
    assert prepared.variables["GDAL_DATA"] == f"{prepared.prefix}/share/gdal"
    assert (prepared.variables["QUOTED"], prepared.variables["MODE"]) == ("a b", "fast")
    assert "PATH" not in prepared.variables


def test_scripts_after_linking_are_reported_and_not_run(sample: SampleProject, tmp_path: Path) -> None:
    package = Package("eager", files={"bin/.eager-post-link.sh": f"#!/bin/sh\ntouch {tmp_path}/ran\n"})
    declare(sample, make_channel(tmp_path / "c", package), "eager")
    sample.prepare("conda")
    assert "eager" in sample.messages(EventKind.NOTICE)
    assert not (tmp_path / "ran").exists()


# The pip part


@pytest.mark.env
def test_the_pip_part_is_locked_and_installed_by_uv(sample: SampleProject, channel: Path) -> None:
    declare(sample, channel, f"python={LINE}", "hello", pip=("six==1.16.0", "-r more.txt"))
    sample.write("more.txt", "tabulate\n")
    prepared = sample.prepare("conda", as_of=datetime(2022, 3, 1, tzinfo=timezone.utc))
    packages = dict(prepared.record.packages)
    assert (packages["six"], packages["tabulate"], packages["hello"]) == ("1.16.0", "0.8.9", "1.0")
    assert run(prepared, "python", "-c", "import six, tabulate, hello; print(six.__version__)") == "1.16.0"
    assert run(prepared, "tabulate", "--help").startswith("Usage")
    lock = next(sample.home.locks.glob("*.conda-lock.yml")).read_text()
    assert "url: six-1.16.0-py2.py3-none-any.whl" in lock


@pytest.mark.env
def test_packages_that_conda_brings_are_kept_unless_pip_asks_for_others(sample: SampleProject, tmp_path: Path) -> None:
    recorded = ["six.py", *(f"six-1.16.0.dist-info/{name}" for name in ("METADATA", "RECORD", "INSTALLER"))]
    six = python_package(
        "six",
        {
            "six.py": "__version__ = '1.16.0'\n",
            "six-1.16.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: six\nVersion: 1.16.0\n",
            "six-1.16.0.dist-info/RECORD": "".join(f"{path},,\n" for path in recorded),
            "six-1.16.0.dist-info/INSTALLER": "conda\n",
        },
        version="1.16.0",
    )
    channel = make_channel(tmp_path / "c", interpreter(), six)
    declare(sample, channel, f"python={LINE}", "six", pip=("python-dateutil==2.8.2",))
    first = sample.prepare("conda")
    assert [name for name, _ in first.record.packages].count("six") == 1
    assert (site(first) / "six.py").read_text() == "__version__ = '1.16.0'\n"
    declare(sample, channel, f"python={LINE}", "six", pip=("six==1.15.0",))
    second = sample.prepare("conda")
    assert [version for name, version in second.record.packages if name == "six"] == ["1.15.0"]
    assert "replaces conda packages: six" in sample.messages(EventKind.NOTICE)
    assert sample.messages(EventKind.WARNING) == ""
    assert sample.prepare("conda").prefix == second.prefix


@pytest.mark.env
@pytest.mark.slow
def test_packages_of_the_project_in_the_pip_part(sample: SampleProject, channel: Path) -> None:
    build = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    sample.write("pyproject.toml", f'[project]\nname = "mine"\nversion = "1.0"\ndependencies = ["six"]\n{build}')
    sample.write("mine.py", "def main():\n    return 'one'\n")
    declare(sample, channel, f"python={LINE}", pip=("-e .",))
    first = sample.prepare("conda")
    assert {"mine", "six", "python"} <= set(dict(first.record.packages))
    assert run(first, "python", "-c", "import mine; print(mine.main())", cwd=sample.folder) == "one"
    sample.write("mine.py", "def main():\n    return 'two'\n")
    second = sample.prepare("conda")
    assert second.prefix == first.prefix
    assert second.record.digest != first.record.digest


def test_a_pip_part_needs_a_python(sample: SampleProject, channel: Path) -> None:
    declare(sample, channel, "tool", pip=("six",))
    with pytest.raises(EnvironmentSetupError, match="no 'python' among its dependencies"):
        sample.prepare("conda")


# As of


def test_packages_are_those_of_the_day(sample: SampleProject, tmp_path: Path) -> None:
    later = TOOL._replace(version="2.0", timestamp=1_700_000_000_000)
    declare(sample, make_channel(tmp_path / "c", TOOL, later), "tool")
    old = sample.prepare("conda", as_of=datetime(2022, 3, 1, tzinfo=timezone.utc))
    assert (dict(old.record.packages), old.record.as_of) == ({"tool": "1.0"}, "2022-03-01T00:00:00Z")
    assert "as of 2022-03-01" in sample.messages()
    assert dict(sample.prepare("conda").record.packages) == {"tool": "2.0"}
    with pytest.raises(EnvironmentSetupError) as caught:
        sample.prepare("conda", as_of=datetime(2019, 1, 1, tzinfo=timezone.utc))
    assert "--as-of" in (caught.value.hint or "")


def test_a_channel_without_dates_is_reported_and_used(sample: SampleProject, tmp_path: Path) -> None:
    declare(sample, make_channel(tmp_path / "c", TOOL._replace(timestamp=None)), "tool")
    assert dict(sample.prepare("conda", as_of=datetime(2019, 1, 1, tzinfo=timezone.utc)).record.packages)
    assert "no upload dates for tool" in sample.messages(EventKind.NOTICE)


# What can't be had


def test_an_unsatisfiable_spec_shows_the_error_of_the_solver(sample: SampleProject, channel: Path) -> None:
    declare(sample, channel, "hello >=99")
    with pytest.raises(EnvironmentSetupError, match="hello >=99") as caught:
        sample.prepare("conda")
    assert caught.value.context
    assert Path(caught.value.context.rpartition(" ")[2]).read_text()
    assert caught.value.hint


@pytest.mark.parametrize("place", ["file:///no/such/channel", "http://127.0.0.1:9/channel"])
def test_a_channel_that_is_not_there(sample: SampleProject, place: str) -> None:
    declare(sample, place, "tool")
    with pytest.raises(EnvironmentSetupError, match="channel") as caught:
        sample.prepare("conda")
    assert not list(sample.home.environments.glob("*/*/conda-meta"))
    assert caught.value.hint


def test_an_unmapped_package_suggests_the_conda_backend(sample: SampleProject, channel: Path) -> None:
    declare(sample, channel, "ffmpeg", "tool")
    with pytest.raises(EnvironmentSetupError, match="ffmpeg") as caught:
        choose_backend(None, sample.request().spec)
    assert "--env-manager conda" in (caught.value.hint or "")
    assert choose_backend("conda", sample.request().spec).name == "conda"


def test_without_the_library_the_reason_says_how_to_install_it(
    sample: SampleProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(EnvironmentSetupError, match=r"proj-runner\[conda\]"):
        choose_backend("conda", sample.request().spec)


# Archives and indexes that lie

EVIL = Package("evil", files={"share/evil.txt": "x"})
PATHS = {"paths": [{"_path": "../../escaped", "path_type": "hardlink", "sha256": "0" * 64, "size_in_bytes": 1}]}
HOSTILE = {
    "member above": EVIL._replace(members={"../../escaped": "x"}),
    "member absolute": EVIL._replace(members={"/tmp/proj-escaped": "x"}),
    "member below a link": EVIL._replace(members={"d": Link("/tmp"), "d/proj-escaped": "x"}),
    "listed above": EVIL._replace(info={"info/paths.json": json.dumps(PATHS | {"paths_version": 1})}),
    "listed above in lines": EVIL._replace(info={"info/paths.json": "{}", "info/files": "../../escaped\n"}),
    "listed absolute": EVIL._replace(info={"info/paths.json": json.dumps(PATHS).replace("../..", "/tmp")}),
    "link absolute": EVIL._replace(files={"share/l": Link("/etc/passwd")}),
    "link among the notes": EVIL._replace(members={"info/recipe": Link("/etc")}),
    "link above": EVIL._replace(files={"share/l": Link("../../../../escaped")}),
    "link above for Python": python_package("evil", {"l": Link("../../../../escaped")}),
    "script above": python_package("evil", {"evil.py": ""})._replace(
        info={"info/link.json": '{"noarch": {"type": "python", "entry_points": ["../../escaped = evil:main"]}}'}
    ),
    "modules above": EVIL._replace(more={"python_site_packages_path": "../../escaped"}),
    "not an archive": EVIL,
}


@pytest.mark.parametrize("kind", [".tar.bz2", pytest.param(".conda", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused_before_anything_is_made(
    sample: SampleProject, name: str, kind: str, tmp_path: Path
) -> None:
    package = HOSTILE[name]._replace(kind=kind)
    channel = make_channel(tmp_path / "c", package, interpreter())
    if name == "not an archive":
        file = channel / package.subdir / package.file_name
        file.write_bytes(b"<html>Sign in</html>")
        make_index_true(channel, package)
    declare(sample, channel, "evil")
    with pytest.raises(EnvironmentSetupError, match="evil") as caught:
        sample.prepare("conda")
    assert "can't be installed" in caught.value.message
    assert list(sample.home.environments.glob("*/*/conda-meta")) == []
    assert [path for path in tmp_path.rglob("*") if "escaped" in path.name] == []
    assert not Path("/tmp/proj-escaped").exists()
    kept = sample.home.root / "cache/conda/archives"
    assert [path for path in kept.rglob("*") if path.is_file() and "evil" in path.name] == []


def make_index_true(channel: Path, package: Package) -> None:
    """Write the digests of an archive as it is into the index."""
    import hashlib

    data = (channel / package.subdir / package.file_name).read_bytes()
    index = channel / package.subdir / "repodata.json"
    whole = json.loads(index.read_text())
    part = "packages" if package.kind == ".tar.bz2" else "packages.conda"
    whole[part][package.file_name] |= {
        "sha256": hashlib.sha256(data).hexdigest(),
        "md5": hashlib.md5(data).hexdigest(),
        "size": len(data),
    }
    index.write_text(json.dumps(whole))


@pytest.fixture(params=["file", "http"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the address of a channel that is yet to be made, of either kind."""
    (tmp_path / "c").mkdir()
    if request.param == "file":
        yield (tmp_path / "c").as_uri()
        return
    with served(tmp_path) as server:
        yield f"{server.url}/c"


@pytest.mark.parametrize("digest", ["sha256", "md5"])
def test_an_index_with_another_digest_is_noticed(
    sample: SampleProject, tmp_path: Path, place: str, digest: str
) -> None:
    wrong = {digest: "0" * (64 if digest == "sha256" else 32)}
    make_channel(tmp_path / "c", TOOL, index={TOOL.file_name: wrong})
    declare(sample, place, "tool")
    with pytest.raises(EnvironmentSetupError, match="hash mismatch"):
        sample.prepare("conda")


def test_an_archive_that_was_swapped_after_the_lock_is_noticed(
    sample: SampleProject, tmp_path: Path, place: str
) -> None:
    make_channel(tmp_path / "c", TOOL)
    declare(sample, place, "tool")
    lock = BACKENDS["conda"].lock(sample.request(), sample.events.append)
    make_channel(tmp_path / "c", TOOL._replace(files={"bin/tool": "#!/bin/sh\necho swapped\n"}))
    with pytest.raises(EnvironmentSetupError, match="hash mismatch") as caught:
        BACKENDS["conda"].prepare(sample.request(), lock, sample.events.append)
    assert "it was changed, or the lock is wrong" in (caught.value.hint or "")


def test_an_index_that_names_another_package_is_noticed(sample: SampleProject, tmp_path: Path) -> None:
    channel = make_channel(tmp_path / "c", TOOL)
    index = channel / TOOL.subdir / "repodata.json"
    index.write_text(index.read_text().replace('"name": "tool"', '"name": "other"'))
    declare(sample, channel, "other")
    with pytest.raises(EnvironmentSetupError, match="other"):
        sample.prepare("conda")
    data = archive(TOOL)
    (channel / TOOL.subdir / "other-1.0-0.tar.bz2").write_bytes(data)
    index.write_text(index.read_text().replace("tool-1.0-0", "other-1.0-0"))
    with pytest.raises(EnvironmentSetupError, match="its metadata says that it is"):
        sample.prepare("conda")


def test_an_index_without_digests_is_refused(sample: SampleProject, tmp_path: Path) -> None:
    make_channel(tmp_path / "c", TOOL, index={TOOL.file_name: {"sha256": None, "md5": None}})
    declare(sample, tmp_path / "c", "tool")
    with pytest.raises(EnvironmentSetupError, match="no digest of tool"):
        sample.prepare("conda")


def test_an_index_that_is_none(sample: SampleProject, channel: Path) -> None:
    (channel / "noarch/repodata.json").write_text('{"packages": ')
    with pytest.raises(EnvironmentSetupError, match="repodata"):
        sample.prepare("conda")


def test_a_kept_archive_that_was_changed_is_fetched_again(sample: SampleProject) -> None:
    first = sample.prepare("conda")
    kept = next((sample.home.root / "cache/conda/archives").rglob(TOOL.file_name))
    kept.write_bytes(archive(TOOL._replace(files={"bin/tool": "#!/bin/sh\necho swapped\n"})))
    shutil.rmtree(sample.home.environments)
    shutil.rmtree(sample.home.root / "cache/conda/packages")
    second = sample.prepare("conda")
    assert run(second, "tool") == f"tool of {second.prefix}"
    assert second.record.digest == first.record.digest


def test_files_that_differ_from_the_list_of_their_package_are_reported(sample: SampleProject, tmp_path: Path) -> None:
    wrong = json.dumps(
        {"paths": [{"_path": "share/evil.txt", "path_type": "hardlink", "sha256": "0" * 64}], "paths_version": 1}
    )
    declare(sample, make_channel(tmp_path / "c", EVIL._replace(info={"info/paths.json": wrong})), "evil")
    sample.prepare("conda")
    assert "evil" in sample.messages(EventKind.WARNING)


# Proof


def test_a_changed_file_is_noticed_and_repaired(sample: SampleProject) -> None:
    first = sample.prepare("conda")
    assert first.prefix
    victim = first.prefix / "share/tool/data.txt"
    victim.chmod(0o644)
    victim.write_text("edited")
    second = sample.prepare("conda")
    assert "share/tool/data.txt" in sample.messages(EventKind.WARNING)
    assert second.prefix
    assert (second.prefix / "share/tool/data.txt").read_text() == "data"
    assert second.record.digest == first.record.digest


def test_an_edit_reaches_no_other_environment(sample: SampleProject, channel: Path) -> None:
    first = sample.prepare("conda")
    victim = site(first) / "hello.py"
    assert not victim.stat().st_mode & 0o222
    victim.chmod(0o644)
    victim.write_text(victim.read_text().replace("import greet", "import great"))
    declare(sample, channel, f"python={LINE}", "hello")
    other = sample.prepare("conda")
    assert run(other, "python", "-c", "import hello; print(hello.WORD)") == "greet 2"


def test_an_unpacked_package_that_is_incomplete_is_unpacked_again(sample: SampleProject) -> None:
    first = sample.prepare("conda")
    shutil.rmtree(sample.home.environments)
    for folder in (sample.home.root / "cache/conda/packages").glob("tool-*/share"):
        shutil.rmtree(folder)
    assert sample.prepare("conda").record.digest == first.record.digest


# Offline, at once, killed


@pytest.mark.slow
def test_a_channel_that_is_away_is_not_needed_twice(
    sample: SampleProject, channel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(channel.parent) as server:
        address = f"{server.url}/channel"
        declare(sample, address, f"python={LINE}", "hello", "tool")
        first = sample.prepare("conda")
    shutil.rmtree(sample.home.environments)
    assert sample.prepare("conda").record.digest == first.record.digest
    declare(sample, address, "tool")
    assert sample.prepare("conda").record.packages == (("tool", "1.0"),)
    shutil.rmtree(sample.home.root / "cache/conda/archives")
    shutil.rmtree(sample.home.environments)
    with pytest.raises(EnvironmentSetupError, match="tool-1"):
        sample.prepare("conda")
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(EnvironmentSetupError, match=r"The network is disabled.*: tool-1\.0-0"):
        sample.prepare("conda")


BUILDER = """
import sys
from pathlib import Path
from tests.environments.test_backends import SampleProject
from runner.model import EnvironmentDeclaration, EnvironmentKind
from runner.settings import Home
sample = SampleProject(Path(sys.argv[1]), Home(Path(sys.argv[2])))
sample.declaration = EnvironmentDeclaration(kind=EnvironmentKind.CONDA_ENV, path="environment.yml")
prepared = sample.prepare("conda")
print(sample.messages())
print(prepared.prefix)
"""


def build_elsewhere(sample: SampleProject) -> "subprocess.Popen[str]":
    words = [sys.executable, "-c", BUILDER, str(sample.folder), str(sample.home.root)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True)


def test_two_at_once_build_once(sample: SampleProject) -> None:
    said = [process.communicate(timeout=120)[0] for process in [build_elsewhere(sample) for _ in range(3)]]
    assert len({text.splitlines()[-1] for text in said}) == 1
    assert sum("Building conda environment" in text for text in said) == 1
    assert len(list(sample.home.environments.glob("*/*/conda-meta"))) == 1


@pytest.mark.slow
def test_a_killed_build_leaves_nothing_that_is_accepted(sample: SampleProject) -> None:
    whole = sample.prepare("conda").record.digest
    started = time.monotonic()
    shutil.rmtree(sample.home.root)
    build_elsewhere(sample).communicate()
    length = time.monotonic() - started
    chance = random.Random(0)
    for turn in range(KILLS):
        shutil.rmtree(sample.home.root, ignore_errors=True)
        process = build_elsewhere(sample)
        time.sleep(chance.uniform(0.2, length))
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if turn % 2 == 0 else os.kill)(process.pid, signal.SIGKILL)
        process.communicate()
        prepared = sample.prepare("conda")
        assert run(prepared, "python", "-c", "import hello; print(hello.WORD)") == "greet 2"
        assert run(prepared, "tool") == f"tool of {prepared.prefix}"
        assert prepared.record.digest == whole


# Secrets and settings


def texts_below(root: Path) -> str:
    return "".join(str(path) + path.read_text("latin-1") for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("form", ["http://me:{secret}@{rest}/channel", "http://{rest}/t/{secret}/channel"])
def test_credentials_of_a_channel_reach_the_channel_and_no_file(
    sample: SampleProject, channel: Path, form: str
) -> None:
    secret = "tk-" + "s3cr3t" * 3
    with served(channel.parent) as server:
        if "/t/" in form:
            server.strip = f"/t/{secret}"
        else:
            server.password = ("me", secret)
        declare(sample, form.format(secret=secret, rest=server.url.removeprefix("http://")), "tool")
        prepared = sample.prepare("conda")
        assert prepared.record.channels == (f"{server.url}/channel",)
        assert run(prepared, "tool") == f"tool of {prepared.prefix}"
        declare(sample, form.format(secret=secret, rest=server.url.removeprefix("http://")), "absent")
        with pytest.raises(ProjError) as caught:
            sample.prepare("conda")
    assert secret not in texts_below(sample.home.root)
    assert secret not in f"{caught.value.message}{caught.value.context}{sample.messages()}"


def test_credentials_come_from_variables_too(
    sample: SampleProject, channel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "tk-" + "s3cr3t" * 3
    monkeypatch.setenv("MY_TOKEN", secret)
    with served(channel.parent) as server:
        server.strip = f"/t/{secret}"
        declare(sample, f'"{server.url}/t/${{MY_TOKEN}}/channel"', "tool")
        assert sample.prepare("conda").record.channels == (f"{server.url}/channel",)


def test_a_mirror_of_the_user_serves_channels_by_name(
    sample: SampleProject, channel: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_tree(tmp_path, {"condarc": f"channel_alias: {channel.parent.as_uri()}\n"})
    monkeypatch.setenv("CONDARC", str(tmp_path / "condarc"))
    declare(sample, "channel", "tool")
    prepared = sample.prepare("conda")
    assert prepared.record.channels == ("channel",)
    lock = next(sample.home.locks.glob("*.conda-lock.yml")).read_text()
    assert channel.parent.as_uri() not in lock
    shutil.rmtree(sample.home.environments)
    assert sample.prepare("conda").record.digest == prepared.record.digest


def test_nothing_of_conda_is_loaded_for_others() -> None:
    code = (
        "import sys, runner.plan, runner.workflow\n"
        "print([n for n in sys.modules if n == 'rattler' or (n.startswith('runner.environments.') and '.conda' in n)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True
    )
    loaded = set(json.loads(done.stdout.decode().replace("'", '"')))
    needed = {f"runner.environments.declare.conda{name}" for name in ("", ".names", ".files")}
    assert loaded <= {*needed, "runner.environments.cache.conda_meta"}


@pytest.mark.slow
def test_a_run_from_the_command_line(proj: RunProj, sample: SampleProject) -> None:
    command = "python -c 'import hello, os; print(hello.WORD, os.environ[\"CONDA_PREFIX\"])'"
    sample.write(
        "MLproject", f"conda_env: environment.yml\nentry_points:\n  main:\n    command: {json.dumps(command)}\n"
    )
    result = proj("run", ".", "--env-manager", "conda", "--json", cwd=sample.folder)
    assert result.code == 0, result.err
    record = json.loads(result.out[result.out.index("{") :])
    environment = record["environment"]
    assert environment["manager"] == "conda"
    assert [name for name, _ in environment["packages"]] == list(SHARED)
    assert environment["channels"]
    assert "mapped" not in " ".join(record["notices"])


def wheel(folder: Path, name: str) -> Path:
    """Make a wheel of a package with one empty module, newer than any that the index has."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-999.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 999\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(folder / f"{name}-999-py3-none-any.whl", "w") as archive:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)
    return folder


@pytest.fixture
def wheels(tmp_path: Path) -> dict[str, str]:
    """Return the variables with which uv finds the packages of these tests, and no others."""
    folder = wheel(tmp_path / "wheels", "mlflow")
    wheel(folder, "tabulate")
    return {"UV_FIND_LINKS": str(folder), "UV_NO_INDEX": "1"}


def run_code(proj: RunProj, sample: SampleProject, code: str, *words: str, **variables: str) -> Result:
    sample.write("MLproject", "conda_env: environment.yml\nentry_points:\n  main:\n    command: python t.py\n")
    sample.write("t.py", code)
    return proj("run", ".", "--env-manager", "conda", "--json", *words, cwd=sample.folder, **variables)


@pytest.mark.slow
def test_mlflow_is_added_where_the_code_needs_it(proj: RunProj, sample: SampleProject, wheels: dict[str, str]) -> None:
    result = run_code(proj, sample, "import hello, mlflow\n", **wheels)
    assert result.code == 0, result.err
    environment = result.json["environment"]
    assert environment["repairs"] == ["'mlflow' is added: t.py:1 imports it but it is not declared"]
    assert ["mlflow", "999"] in environment["packages"]
    assert "Nothing declared provides" not in result.err
    run_id = result.json["run_id"]
    assert (sample.home.run(run_id) / "conda-lock.yml").read_text("utf-8").count("manager: pip") == 1
    assert not (sample.home.run(run_id) / "lock.txt").exists()
    assert proj("get", run_id, "conda-lock.yml", "--to", ".", cwd=sample.folder).code == 0
    assert (sample.folder / "conda-lock.yml").exists()
    assert "manager: conda" in proj("env", "export", run_id, cwd=sample.folder).out
    assert f"proj env export {run_id[:8]}" in proj("show", run_id, cwd=sample.folder).out
    assert run_code(proj, sample, "import hello, mlflow\n", "--no-repair", **wheels).code == 0  # that lock has it


@pytest.mark.slow
def test_a_missing_import_is_named_and_added_when_asked(
    proj: RunProj, sample: SampleProject, wheels: dict[str, str]
) -> None:
    code = "import hello\nimport tabulate\n"
    told = run_code(proj, sample, code, **wheels)
    assert told.code == 1
    assert "Nothing declared provides 'tabulate' (t.py:2)" in told.err
    assert "'hello'" not in told.err
    assert "add `- tabulate` to the `pip:` list of environment.yml" in told.err
    added = run_code(proj, sample, code, "--add-missing", **wheels)
    assert added.code == 0, added.err
    assert added.json["environment"]["repairs"] == ["'tabulate' is added: t.py:2 imports 'tabulate'"]


@pytest.mark.slow
def test_nothing_is_added_to_a_lock(proj: RunProj, sample: SampleProject, wheels: dict[str, str]) -> None:
    lock = run_code(proj, sample, "import hello\n")
    assert proj("get", lock.json["run_id"], "conda-lock.yml", "--to", ".", cwd=sample.folder).code == 0
    result = run_code(proj, sample, "import hello, mlflow\n", "--add-missing", **wheels)
    assert result.code == 1
    assert result.json["environment"]["repairs"] == []
    assert "Running again" not in result.err


@pytest.mark.slow
def test_a_file_of_another_name_is_taken(proj: RunProj, sample: SampleProject) -> None:
    sample.write("t.py", "import hello\n")
    sample.write("MLproject", "conda_env: conda.yaml\nentry_points:\n  main:\n    command: python t.py\n")
    commit_all(sample.folder)  # in a working tree the missing file is an error
    result = proj("run", ".", "--env-manager", "conda", "--json", cwd=sample.folder)
    assert result.code == 0, result.err
    told = "the environment file 'conda.yaml' does not exist; 'environment.yml' is used"
    assert result.json["environment"]["repairs"] == [told]
