"""Tests of real environments: from the lock to a verified prefix, with edits, kills and races."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import pytest

from runner.analysis.scripts import Scripts
from runner.environments.backends import local
from runner.environments.backends.registry import BACKENDS, LazyBackend, choose_backend
from runner.environments.cache.file_manifest import build_manifest
from runner.environments.cache.prefix import MARKER, read_marker
from runner.environments.declare.indexes import IndexOptions
from runner.environments.declare.source_trees import FolderTree
from runner.environments.declare.spec import read_spec
from runner.environments.interpreters import interpreters
from runner.environments.interpreters.choosing import MissingInterpreterError
from runner.environments.model import EnvironmentRequest, Prepared
from runner.environments.resolve import uv_command
from runner.environments.specs import ImageSpec, PythonSpec
from runner.errors import EnvironmentSetupError, ProjError, UsageError
from runner.model import EnvironmentDeclaration, EnvironmentKind, Event, EventKind
from runner.settings import Home
from tests.conftest import write_tree

pytestmark = pytest.mark.usefixtures("shared_cache")

ROOT = Path(__file__).parents[2]
PACKAGE = """
[project]
name = "mine"
version = "1.0"
dependencies = ["six"]
[project.scripts]
mine = "mine:main"
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
"""
UNDATED = """
[project]
name = "proj-tests-undated"
version = "1.0"
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[tool.setuptools]
py-modules = ["mine"]
"""
LAST_YEARS = datetime(2022, 3, 1, tzinfo=timezone.utc)


class SampleProject:
    """A project folder, a home, and the events of its environment."""

    def __init__(self, folder: Path, home: Home) -> None:
        self.folder, self.home = folder, home
        self.events: list[Event] = []

    def write(self, path: str, content: str, kind: EnvironmentKind | None = None) -> None:
        write_tree(self.folder, {path: content})
        if kind:
            self.declaration = EnvironmentDeclaration(kind=kind, path=path)

    def request(self, as_of: datetime | None = None) -> EnvironmentRequest:
        tree = FolderTree(self.folder)
        spec = read_spec(self.declaration, tree)
        return EnvironmentRequest(
            spec=spec, home=self.home, files=tree, tree=tree, as_of=as_of, environ=dict(os.environ)
        )

    def prepare(self, manager: str | None = None, as_of: datetime | None = None) -> Prepared:
        request = self.request(as_of)
        backend = choose_backend(manager, request.spec)
        return backend.prepare(request, backend.lock(request, self.events.append), self.events.append)

    def messages(self, kind: EventKind | None = None) -> str:
        return "\n".join(event.message for event in self.events if kind in (None, event.kind))


@pytest.fixture
def sample(tmp_path: Path, home: Home) -> SampleProject:
    sample = SampleProject(tmp_path / "project", home)
    sample.write("requirements.txt", "six\ntabulate==0.9.0\n", EnvironmentKind.REQUIREMENTS)
    return sample


def run(prepared: Prepared, *words: str, cwd: Path | None = None) -> str:
    """Run a command as the executor would."""
    path = os.pathsep.join([*map(str, prepared.path_entries), os.environ["PATH"]])
    env = {**os.environ, **prepared.variables_in(cwd or Path()), "PATH": path}
    found = shutil.which(words[0], path=path) or words[0]
    done = subprocess.run([found, *words[1:]], cwd=cwd, env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def site(prepared: Prepared) -> Path:
    assert prepared.prefix
    return next(prepared.prefix.glob("lib/python*/site-packages"))


class Contract:
    """Tests that every backend passes."""

    manager: str

    def test_is_listed_by_its_name(self) -> None:
        assert BACKENDS[self.manager].name == self.manager

    def test_the_registry_has_its_capabilities(self) -> None:
        backend = BACKENDS[self.manager]
        loaded = backend.load() if isinstance(backend, LazyBackend) else backend
        assert loaded.capabilities == backend.capabilities

    def test_accepts_a_plain_spec(self) -> None:
        assert BACKENDS[self.manager].why_not(PythonSpec()) is None

    def test_a_backend_that_installs_nothing_repairs_nothing(self) -> None:
        backend, spec = BACKENDS[self.manager], PythonSpec(requirements=("sklearn",))
        repaired = backend.repair(spec, Scripts(), FolderTree(Path("/nowhere")))
        assert repaired == spec or backend.capabilities.builds_prefixes

    def test_a_plan_does_nothing(self, sample: SampleProject) -> None:
        record = BACKENDS[self.manager].plan(sample.request())
        assert record.manager == self.manager
        assert record.python
        assert not sample.home.environments.exists()
        assert not sample.home.locks.exists()

    @pytest.mark.env
    def test_prepares_a_python_and_records_it(self, sample: SampleProject) -> None:
        prepared = sample.prepare(self.manager)
        version = run(prepared, "python", "-c", "import platform; print(platform.python_version())")
        assert prepared.record.python == version
        assert prepared.record.manager == self.manager
        assert prepared.record.digest
        assert prepared.record.platform
        assert prepared.record.packages

    @pytest.mark.env
    def test_the_same_twice_starts_no_process(self, sample: SampleProject, monkeypatch: pytest.MonkeyPatch) -> None:
        sample.home.ensure()  # as a run does: without a home nothing is remembered of interpreters
        first = sample.prepare(self.manager)
        for module in (interpreters, uv_command, local):
            monkeypatch.setattr(module, "capture", None)
        assert sample.prepare(self.manager) == first


class InstallingContract(Contract):
    """Tests that every backend passes that installs packages."""

    @pytest.mark.env
    def test_installs_the_packages_of_the_lock(self, sample: SampleProject) -> None:
        prepared = sample.prepare(self.manager)
        names = dict(prepared.record.packages)
        assert names["tabulate"] == "0.9.0"
        assert {"six", "pip"} <= set(names)
        assert run(prepared, "python", "-c", "import six, tabulate; print(tabulate.__version__)") == "0.9.0"
        assert run(prepared, "tabulate", "--help").startswith("Usage")
        assert prepared.prefix
        assert run(prepared, "python", "-c", "import sys; print(sys.prefix)") == str(prepared.prefix)
        assert prepared.variables["VIRTUAL_ENV"] == str(prepared.prefix)

    @pytest.mark.env
    def test_nothing_asked_is_an_empty_environment(self, sample: SampleProject) -> None:
        sample.declaration = EnvironmentDeclaration()
        prepared = sample.prepare(self.manager)
        assert prepared.record.packages == ()
        assert run(prepared, "python", "-c", "print(1)") == "1"

    @pytest.mark.env
    def test_a_changed_file_is_noticed_and_repaired(
        self, sample: SampleProject, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("UV_CACHE_DIR")  # the edit reaches the cache through a hard link; other tests use theirs
        first = sample.prepare(self.manager)
        victim = site(first) / "six.py"
        victim.chmod(0o644)
        victim.write_text(victim.read_text() + "\nraise SystemExit('edited')\n")
        second = sample.prepare(self.manager)
        assert "six.py" in sample.messages(EventKind.WARNING)
        assert run(second, "python", "-c", "import six; print('whole')") == "whole"
        assert second.record.digest == first.record.digest

    @pytest.mark.env
    def test_local_packages_are_those_of_the_tree(self, sample: SampleProject) -> None:
        sample.write("libs/mine/pyproject.toml", PACKAGE)
        sample.write("libs/mine/mine.py", "def main():\n    print('one')\n")
        sample.write("requirements.txt", "./libs/mine\n")
        first = sample.prepare(self.manager)
        assert run(first, "mine") == "one"
        sample.write("libs/mine/mine.py", "def main():\n    print('two')\n")
        second = sample.prepare(self.manager)
        assert run(second, "mine") == "two"
        assert run(first, "mine") == "one"
        assert first.record.digest != second.record.digest
        assert first.prefix == second.prefix
        assert dict(second.record.packages)["mine"] == "1.0"
        assert sorted(path.name for path in (sample.folder / "libs/mine").iterdir()) == ["mine.py", "pyproject.toml"]


class TestUv(InstallingContract):
    manager = "uv"


@pytest.mark.slow
class TestVirtualenv(InstallingContract):
    manager = "virtualenv"


class TestLocal(Contract):
    manager = "local"

    @pytest.fixture(autouse=True)
    def own_python_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))

    def test_records_the_installed_packages(self, sample: SampleProject) -> None:
        record = sample.prepare("local").record
        assert dict(record.packages)["pytest"] == pytest.__version__
        assert not sample.home.environments.exists()


def test_backends_that_can_not_provide_a_spec_give_a_reason(sample: SampleProject) -> None:
    with pytest.raises(EnvironmentSetupError, match="needs a conda file") as caught:
        choose_backend("conda", sample.request().spec)
    assert caught.value.hint == "Use '--env-manager' with uv or virtualenv or local."
    with pytest.raises(EnvironmentSetupError, match="docker_env"):
        choose_backend(None, ImageSpec())
    with pytest.raises(UsageError) as usage:
        choose_backend("virtualenw", sample.request().spec)
    assert usage.value.hint == "Did you mean 'virtualenv'?"


@pytest.mark.env
@pytest.mark.slow
def test_two_backends_build_the_same_tree_from_the_same_lock(sample: SampleProject) -> None:
    one, other = sample.prepare("uv"), sample.prepare("virtualenv")
    assert one.prefix != other.prefix
    assert one.record.digest == other.record.digest
    assert one.record.lock_digest == other.record.lock_digest
    assert one.record.packages == other.record.packages


@pytest.mark.env
def test_lock_holds_hashes_and_no_place(sample: SampleProject) -> None:
    sample.write("requirements.txt", "six\n")
    lock = BACKENDS["uv"].lock(sample.request(), sample.events.append)
    assert lock
    assert "six==" in lock.text
    assert "--hash=sha256:" in lock.text
    assert "://" not in lock.text
    assert lock.path
    assert lock.path.read_text() == lock.text


@pytest.mark.env
def test_hash_pinned_requirements_are_taken_as_they_are(sample: SampleProject) -> None:
    lock = BACKENDS["uv"].lock(sample.request(), sample.events.append)
    assert lock
    sample.write("requirements.txt", lock.text)
    again = BACKENDS["uv"].lock(sample.request(), sample.events.append)
    assert again
    assert again.path is None
    lines = [line for line in lock.text.splitlines() if not line.startswith("#")]
    assert sorted(again.text.split()) == sorted("\n".join(lines).split())
    assert dict(sample.prepare().record.packages)["tabulate"] == "0.9.0"


@pytest.mark.env
def test_a_wrong_hash_is_refused(sample: SampleProject) -> None:
    sample.write("requirements.txt", "six==1.16.0 --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(EnvironmentSetupError) as caught:
        sample.prepare()
    assert "ash mismatch" in caught.value.message
    assert caught.value.context
    log = Path(caught.value.context.rpartition(" ")[2])
    assert log.read_text()
    assert list(log.parent.glob("*/pyvenv.cfg")) == []


@pytest.mark.env
def test_a_name_that_does_not_exist_is_named(sample: SampleProject) -> None:
    sample.write("requirements.txt", "six\nno-such-package-of-anyone-4711\n")
    with pytest.raises(EnvironmentSetupError, match="no-such-package-of-anyone-4711") as caught:
        sample.prepare()
    assert "spelling" in (caught.value.hint or "")


@pytest.mark.env
def test_unpinned_requirements_are_those_of_the_day(sample: SampleProject, tmp_path: Path) -> None:
    sample.write("requirements.txt", "six\ntabulate\n")
    first = sample.prepare(as_of=LAST_YEARS)
    assert first.record.as_of == "2022-03-01T00:00:00Z"
    assert dict(first.record.packages)["six"] == "1.16.0"
    assert dict(first.record.packages)["tabulate"] == "0.8.9"
    later = SampleProject(sample.folder, Home(tmp_path / "a year later"))
    later.declaration = sample.declaration
    second = later.prepare(as_of=LAST_YEARS)
    assert second.record.digest == first.record.digest
    assert second.record.lock_digest == first.record.lock_digest
    assert "2022-03-01" in sample.messages(EventKind.NOTICE)


@pytest.mark.env
def test_packages_missing_at_the_cutoff_date_are_reported(sample: SampleProject) -> None:
    sample.write("requirements.txt", "tabulate>=0.9\n")
    with pytest.raises(EnvironmentSetupError) as caught:
        sample.prepare(as_of=LAST_YEARS)
    assert "--as-of" in (caught.value.hint or "")


@pytest.fixture
def dateless_index(tmp_path: Path, sample: SampleProject) -> Path:
    """Make an index on disk that tells no dates; it has one package of ours."""
    wheels = tmp_path / "wheels"
    write_tree(tmp_path / "source", {"pyproject.toml": UNDATED, "mine.py": "X = 1\n"})
    uv = uv_command.find_uv(sample.home, IndexOptions(), os.environ)
    uv.run("build", "--wheel", "--out-dir", wheels, tmp_path / "source")
    built = next(wheels.glob("*.whl"))
    page = tmp_path / "simple/proj-tests-undated"
    page.mkdir(parents=True)
    (page / "index.html").write_text(f'<a href="{built.as_uri()}">{built.name}</a>')
    return tmp_path / "simple"


@pytest.mark.env
def test_an_index_without_dates_is_reported_and_used(sample: SampleProject, dateless_index: Path) -> None:
    sample.write("requirements.txt", f"--extra-index-url {dateless_index.as_uri()}\nproj-tests-undated\nsix\n")
    prepared = sample.prepare(as_of=LAST_YEARS)
    packages = dict(prepared.record.packages)
    assert packages["proj-tests-undated"] == "1.0"
    assert packages["six"] == "1.16.0"
    assert "no upload dates for proj-tests-undated" in sample.messages(EventKind.NOTICE)


@pytest.mark.env
def test_conda_names_arrive_as_packages_of_the_index(sample: SampleProject) -> None:
    text = "dependencies:\n  - msgpack-python=1.0\n  - openssl\n  - pip:\n    - six==1.16.0\n"
    sample.write("conda.yaml", text, EnvironmentKind.CONDA_ENV)
    packages = dict(sample.prepare().record.packages)
    assert packages["msgpack"].startswith("1.0")
    assert packages["six"] == "1.16.0"
    assert "openssl" in sample.messages(EventKind.NOTICE)


@pytest.mark.env
def test_python_is_the_one_that_is_asked_for(sample: SampleProject) -> None:
    found = interpreters.discover(sample.home.root / "interpreters.json")
    wanted = min(found, key=lambda item: (item.numbers < (3, 9), item.numbers))
    sample.write("python_env.yaml", f"python: {wanted.version.rpartition('.')[0]}\n", EnvironmentKind.PYTHON_ENV)
    prepared = sample.prepare()
    version = run(prepared, "python", "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    assert version == wanted.version.rpartition(".")[0]


def test_a_missing_python_is_named_with_the_installed_ones(
    sample: SampleProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    sample.write("python_env.yaml", "python: 3.99\n", EnvironmentKind.PYTHON_ENV)
    with pytest.raises(MissingInterpreterError, match=r"Python 3\.99 is required but not installed; found: .*3\."):
        sample.prepare()
    assert BACKENDS["uv"].plan(sample.request()).python == "3.99"


@pytest.mark.env
def test_editable_packages_are_imported_from_the_folder_of_the_run(sample: SampleProject, tmp_path: Path) -> None:
    sample.write("pyproject.toml", PACKAGE)
    sample.write(
        "src/mine/__init__.py", "from pathlib import Path\ndef main():\n    print(Path(__file__).parents[2])\n"
    )
    sample.write("requirements.txt", "-e .\n")
    prepared = sample.prepare()
    assert prepared.import_paths == ("src",)
    run_folder = tmp_path / "run folder"
    shutil.copytree(sample.folder, run_folder)
    assert run(prepared, "mine", cwd=run_folder) == str(run_folder)
    assert run(prepared, "python", "-c", "import mine; mine.main()", cwd=run_folder) == str(run_folder)
    shutil.rmtree(run_folder / "src")
    assert str(sample.home.environments) in run(prepared, "mine", cwd=run_folder)


@pytest.mark.env
def test_a_folder_of_the_project_never_hides_the_standard_library(sample: SampleProject) -> None:
    sample.write("pyproject.toml", PACKAGE.replace("[build", '[tool.setuptools]\npy-modules = ["mine"]\n[build'))
    sample.write("mine.py", "def main():\n    import random\n    print(random.random() < 1)\n")
    sample.write("random.py", "raise SystemExit('hidden')\n")
    sample.write("requirements.txt", "-e .\n")
    prepared = sample.prepare()
    assert prepared.import_paths == (".",)
    assert run(prepared, "mine", cwd=sample.folder) == "True"


@pytest.mark.env
def test_an_edit_through_a_hard_link_is_noticed_and_repaired(
    sample: SampleProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV_CACHE_DIR")
    first = sample.prepare()
    sample.write("requirements.txt", "six\n")
    other = sample.prepare()
    victim = site(other) / "six.py"
    victim.chmod(0o644)
    victim.write_text(victim.read_text().replace("import", "impart", 1))
    sample.write("requirements.txt", "six\ntabulate==0.9.0\n")
    again = sample.prepare()
    assert run(again, "python", "-c", "import six; print('whole')") == "whole"
    assert again.record.digest == first.record.digest
    if (site(first) / "tabulate/__init__.py").stat().st_nlink > 1:
        assert "six.py" in sample.messages(EventKind.WARNING)


@pytest.mark.env
def test_a_new_environment_of_the_same_files_is_no_damage(
    sample: SampleProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV_CACHE_DIR")
    first = sample.prepare()
    sample.write("requirements.txt", "six\n")
    sample.prepare()
    sample.write("requirements.txt", "six\ntabulate==0.9.0\n")
    assert sample.prepare() == first
    assert sample.messages(EventKind.WARNING) == ""


@pytest.mark.env
@pytest.mark.parametrize("name", ["stranger.py", "tabulate/more.py"])
def test_a_new_module_in_an_environment_is_noticed(sample: SampleProject, name: str) -> None:
    (site(sample.prepare()) / name).write_text("X = 1\n")
    second = sample.prepare()
    assert name in sample.messages(EventKind.WARNING)
    assert not (site(second) / name).exists()


@pytest.mark.env
def test_data_and_caches_in_an_environment_are_no_damage(sample: SampleProject) -> None:
    first = sample.prepare()
    (site(first) / "tabulate/cache.pickle").write_bytes(b"1")
    run(first, "python", "-c", "import six, tabulate")
    assert sample.prepare().prefix == first.prefix
    assert sample.messages(EventKind.WARNING) == ""


BUILDER = """
import sys
from pathlib import Path
from tests.environments.test_backends import SampleProject
from runner.model import EnvironmentDeclaration, EnvironmentKind
from runner.settings import Home
sample = SampleProject(Path(sys.argv[1]), Home(Path(sys.argv[2])))
sample.declaration = EnvironmentDeclaration(kind=EnvironmentKind.REQUIREMENTS, path="requirements.txt")
prepared = sample.prepare()
print(sample.messages())
print(prepared.prefix)
"""


def build_elsewhere(sample: SampleProject) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", BUILDER, str(sample.folder), str(sample.home.root)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.env
def test_two_at_once_build_once(sample: SampleProject) -> None:
    said = [process.communicate(timeout=120)[0] for process in [build_elsewhere(sample) for _ in range(3)]]
    assert len({text.splitlines()[-1] for text in said}) == 1
    assert sum("Building environment" in text for text in said) == 1
    assert len(list(sample.home.environments.glob("*/*/pyvenv.cfg"))) == 1


SMITHY = """
import os, sys
from pathlib import Path
from tests.environments.test_backends import SampleProject
from runner.model import EnvironmentDeclaration, EnvironmentKind
from runner.settings import Home
sample = SampleProject(Path(sys.argv[1]), Home(Path(sys.argv[2])))
sample.declaration = EnvironmentDeclaration(kind=EnvironmentKind.REQUIREMENTS, path="requirements.txt")
sample.prepare()  # all that it needs is loaded before the first fork
for _ in sys.stdin:
    child = os.fork()
    if not child:
        os.setsid()
        sample.prepare()
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("over", flush=True)
"""
"""A process that starts a build for each line that it reads, each in a process and a session of its own."""

KILLS = 100


class Smithy:
    """Builds that begin at once, as everything is loaded already."""

    def __init__(self, sample: SampleProject) -> None:
        words = [sys.executable, "-c", SMITHY, str(sample.folder), str(sample.home.root)]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self) -> int:
        assert self._process.stdin
        self._process.stdin.write("build\n")
        self._process.stdin.flush()
        return int(self.wait())

    def wait(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()

    def close(self) -> None:
        self._process.communicate()


def kill(smithy: Smithy, delay: float, *, group: bool) -> None:
    """Kill a build after a delay: all of it, or what started the installer alone."""
    child = smithy.start()
    time.sleep(delay)
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(child, signal.SIGKILL)
    assert smithy.wait() == "over\n"


@pytest.mark.env
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
@pytest.mark.timeout(900)
def test_a_build_that_is_killed_at_any_of_100_points_leaves_nothing_that_is_accepted(sample: SampleProject) -> None:
    whole = sample.prepare().record.digest
    chance, unfinished = random.Random(), 0
    with contextlib.closing(Smithy(sample)) as smithy:
        shutil.rmtree(sample.home.environments)
        started = time.monotonic()
        smithy.start()
        smithy.wait()
        length = time.monotonic() - started
        for turn in range(KILLS):
            shutil.rmtree(sample.home.environments, ignore_errors=True)
            kill(smithy, chance.uniform(0, length), group=turn % 2 == 0)
            unfinished += not list(sample.home.environments.glob(f"*/{MARKER}"))
            prepared = sample.prepare()
            assert prepared.record.digest == whole
            assert prepared.prefix
            assert build_manifest(prepared.prefix).digest == whole
    assert unfinished > KILLS / 10, "hardly any build was killed before its end"


@pytest.mark.env
def test_an_installer_that_outlives_its_parent_spoils_nothing(sample: SampleProject) -> None:
    first = Path(build_elsewhere(sample).communicate(timeout=120)[0].splitlines()[-1])
    assert first.is_dir()
    (first.parent / MARKER).unlink()
    (first.parent / f"{first.name}.inventory").unlink()
    second = sample.prepare()
    assert second.prefix != first
    assert not first.exists()


@pytest.mark.env
def test_a_network_that_is_away_is_not_needed_twice(sample: SampleProject, monkeypatch: pytest.MonkeyPatch) -> None:
    sample.prepare()
    shutil.rmtree(sample.home.environments)
    monkeypatch.setenv("UV_OFFLINE", "1")
    assert dict(sample.prepare().record.packages)["tabulate"] == "0.9.0"


@pytest.mark.env
def test_credentials_of_an_index_reach_no_file_and_no_message(
    sample: SampleProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    secret = "hunter2" + "x" * 12
    sample.write("requirements.txt", f"--index-url http://me:{secret}@127.0.0.1:9/simple\nsix==1.16.0\n")
    with pytest.raises(ProjError) as caught:
        sample.prepare()
    told = f"{caught.value.message}{caught.value.context}{caught.value.hint}{sample.messages()}"
    kept = b"".join(path.read_bytes() for path in sample.home.root.rglob("*") if path.is_file())
    assert secret not in told
    assert secret.encode() not in kept


def test_marker_that_is_no_marker_counts_for_nothing(sample: SampleProject) -> None:
    write_tree(sample.home.environments, {f"x/{MARKER}": "{", f"y/{MARKER}": msgspec.json.encode({"identity": "y"})})
    assert read_marker(sample.home.environments / "x") is None
    assert read_marker(sample.home.environments / "y") is None


UV_PROJECT = PACKAGE.replace('["six"]', '["six", "tabulate==0.9.0"]\nrequires-python = ">=3.9"')


@pytest.fixture
def uv_project(sample: SampleProject) -> SampleProject:
    """Lock a project with uv and write the same as a standard lock."""
    sample.write("pyproject.toml", UV_PROJECT)
    sample.write("src/mine/__init__.py", "def main():\n    print('mine')\n")
    uv = uv_command.find_uv(sample.home, IndexOptions(), os.environ)
    locked = uv.run("lock", "--project", sample.folder, "--exclude-newer", "2024-01-01")
    exported = uv.run("export", "--frozen", "--format", "pylock.toml", cwd=sample.folder)
    assert (locked.exit_code, exported.exit_code) == (0, 0), locked.error_text
    sample.write("pylock.toml", exported.text)
    return sample


KINDS = ("requirements", "requirements with hashes", "python_env", "conda_env", "pylock", "uv_lock", "nothing")


def declare(sample: SampleProject, kind: str, line: str) -> None:
    """Declare the same two packages in one of the ways that there are."""
    if kind == "requirements":
        sample.write("requirements.txt", "six==1.16.0\ntabulate==0.9.0\n", EnvironmentKind.REQUIREMENTS)
    elif kind == "requirements with hashes":
        sample.write("requirements.txt", "six==1.16.0\ntabulate==0.9.0\n", EnvironmentKind.REQUIREMENTS)
        lock = BACKENDS["uv"].lock(sample.request(), sample.events.append)
        assert lock
        sample.write("requirements.txt", lock.text)
    elif kind == "python_env":
        text = f"python: '{line}'\nbuild_dependencies: [pip]\ndependencies: [six==1.16.0, -r more.txt]\n"
        sample.write("python_env.yaml", text, EnvironmentKind.PYTHON_ENV)
        sample.write("more.txt", "tabulate==0.9.0\n")
    elif kind == "conda_env":
        text = f"channels: [defaults]\ndependencies: [python={line}, six=1.16.0, pip, pip: [tabulate==0.9.0]]\n"
        sample.write("conda.yaml", text, EnvironmentKind.CONDA_ENV)
    else:
        sample.declaration = EnvironmentDeclaration()


@pytest.mark.env
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_backends_build_the_same_for_every_kind_of_spec(
    sample: SampleProject, kind: str, request: pytest.FixtureRequest
) -> None:
    """The contract of the Python backends, for each way to declare their packages."""
    if kind in ("pylock", "uv_lock"):
        request.getfixturevalue("uv_project")
        path = "pylock.toml" if kind == "pylock" else "uv.lock"
        sample.declaration = EnvironmentDeclaration(kind=EnvironmentKind(kind), path=path)
    else:
        declare(sample, kind, "{}.{}".format(*sys.version_info))
    made = [sample.prepare(manager) for manager in ("uv", "virtualenv")]
    for prepared in made:
        expected = {} if kind == "nothing" else {"six": "1.16.0", "tabulate": "0.9.0"}
        packages = dict(prepared.record.packages)
        assert {name: version for name, version in packages.items() if name in ("six", "tabulate")} == expected
        assert (
            run(prepared, "python", "-c", "print(1)" if kind == "nothing" else "import six, tabulate; print(1)") == "1"
        )
    one, other = made
    assert one.prefix != other.prefix
    assert one.record.digest == other.record.digest
    assert one.record.lock_digest == other.record.lock_digest
    assert one.record.packages == other.record.packages
    assert sample.prepare("uv").prefix == one.prefix
    assert sample.prepare("virtualenv").prefix == other.prefix


@pytest.mark.env
@pytest.mark.parametrize(
    ("path", "kind"), [("uv.lock", EnvironmentKind.UV_LOCK), ("pylock.toml", EnvironmentKind.PYLOCK)]
)
def test_locks_of_other_tools(uv_project: SampleProject, path: str, kind: EnvironmentKind) -> None:
    uv_project.declaration = EnvironmentDeclaration(kind=kind, path=path)
    assert uv_project.request().spec.python == ">=3.9"
    prepared = uv_project.prepare()
    packages = dict(prepared.record.packages)
    assert (packages["six"], packages["tabulate"], packages["mine"]) == ("1.16.0", "0.9.0", "1.0")
    assert run(prepared, "mine") == "mine"
    lock = BACKENDS["uv"].lock(uv_project.request(), uv_project.events.append)
    assert lock
    assert "://" not in lock.text
    assert not list(uv_project.folder.glob("**/*.egg-info"))


@pytest.mark.parametrize(
    "text", ["lock-version = '2.0'", "lock-version = ", "lock-version='1.0'\n[[packages]]\nname='x'"]
)
def test_standard_locks_that_cannot_be_used_are_refused(sample: SampleProject, text: str) -> None:
    sample.write("pylock.toml", text, EnvironmentKind.PYLOCK)
    with pytest.raises(EnvironmentSetupError, match=r"pylock\.toml"):
        sample.request()
