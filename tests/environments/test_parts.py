"""The small parts of environments: indexes, credentials, trees, damage."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.environments.backends.python_backend import HOOK
from runner.environments.cache.file_manifest import build_manifest, compare, measure
from runner.environments.declare.indexes import index_options
from runner.environments.declare.source_trees import FolderTree, copy_packages, metadata_digest
from runner.environments.model import IMPORT_PATH, Interpreter, Prepared
from runner.environments.resolve import uv_command
from runner.environments.resolve.locking import count_packages, read_lock
from runner.environments.resolve.metadata_overrides import overrides_in, write_overrides
from runner.environments.resolve.uv_command import find_uv, unfinished_work
from runner.environments.specs import LocalPackage
from runner.model import EnvironmentRecord, Event
from runner.settings import Home
from runner.urls import with_credentials, without_credentials
from tests.conftest import MakeRepository, RunProj, write_tree


@pytest.fixture
def no_settings(tmp_path: Path) -> dict[str, str]:
    """Return variables under which neither pip nor uv is configured."""
    return {"PIP_CONFIG_FILE": os.devnull, "XDG_CONFIG_HOME": str(tmp_path / "none")}


def test_settings_of_pip_are_used_as_pip_would(tmp_path: Path, no_settings: dict[str, str]) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://a.example/simple\nextra-index-url =\n  https://b.example\n  https://c.example\n"
    )
    environ = {
        **no_settings,
        "PIP_CONFIG_FILE": str(config),
        "PIP_FIND_LINKS": "/wheels",
        "PIP_TRUSTED_HOST": "a.example",
    }
    options = index_options((), environ)
    assert {
        "--index-url https://a.example/simple",
        "--extra-index-url https://b.example",
        "--extra-index-url https://c.example",
        "--find-links /wheels",
    } <= set(options.lines)
    assert "unsafe-best-match" in options.arguments
    assert "--allow-insecure-host" in options.arguments


def test_settings_of_uv_come_before_those_of_pip(no_settings: dict[str, str]) -> None:
    environ = {
        **no_settings,
        "PIP_INDEX_URL": "https://a.example/simple",
        "UV_DEFAULT_INDEX": "https://b.example/simple",
    }
    assert index_options((), environ).lines == ()


def test_options_of_a_project_are_passed_on(no_settings: dict[str, str]) -> None:
    declared = (
        "--extra-index-url=https://x.example",
        "-f ./wheels",
        "--pre",
        "--only-binary :all:",
        "-i https://y.example",
    )
    options = index_options(declared, no_settings)
    assert options.lines == (
        "--extra-index-url https://x.example",
        "-f ./wheels",
        "--only-binary :all:",
        "-i https://y.example",
    )
    assert options.arguments[:2] == ("--prerelease", "allow")


def test_variables_stand_for_credentials(no_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INDEX_TOKEN", "abc")
    assert index_options(("--index-url https://${INDEX_TOKEN}@x.example",), no_settings).lines == (
        "--index-url https://abc@x.example",
    )


def test_credentials_leave_a_lock_and_come_back_for_its_installation() -> None:
    asked = "tools @ git+https://me:hush@git.example/team/tools.git@v1"
    lock = without_credentials("tools @ git+https://me:hush@git.example/team/tools.git@" + "a" * 40)
    assert lock == "tools @ git+https://git.example/team/tools.git@" + "a" * 40
    assert with_credentials(lock, [asked]) == "tools @ git+https://me:hush@git.example/team/tools.git@" + "a" * 40
    assert without_credentials("x @ git+ssh://git@git.example/x.git") == "x @ git+ssh://git@git.example/x.git"


def test_uv_gets_no_variable_that_would_change_the_result(home: Home, no_settings: dict[str, str]) -> None:
    environ = {
        **os.environ,
        "UV_EXCLUDE_NEWER": "2020-01-01",
        "VIRTUAL_ENV": "/x",
        "PYTHONPATH": "/y",
        "UV_OFFLINE": "1",
    }
    environ.pop("UV_CACHE_DIR", None)
    variables = find_uv(home, index_options((), no_settings), environ).variables
    assert not {"UV_EXCLUDE_NEWER", "VIRTUAL_ENV", "PYTHONPATH"} & set(variables)
    assert variables["UV_OFFLINE"] == "1"
    assert Path(variables["UV_CACHE_DIR"]).is_relative_to(home.root)


def test_tree_digest_sees_content_names_links_and_bits_not_caches(tmp_path: Path) -> None:
    tree = FolderTree(write_tree(tmp_path, {"pkg/a.py": "1", "pkg/b.py": "2", "other": "x"}))
    seen = {tree.digest("pkg")}
    write_tree(tmp_path, {"pkg/__pycache__/a.pyc": "x", "other": "y", "pkg/x.egg-info/PKG-INFO": ""})
    assert tree.digest("pkg") in seen
    for change in (
        lambda: (tmp_path / "pkg/a.py").write_text("3"),
        lambda: (tmp_path / "pkg/a.py").chmod(0o755),
        lambda: (tmp_path / "pkg/a.py").rename(tmp_path / "pkg/c.py"),
        lambda: (tmp_path / "pkg/l").symlink_to("b.py"),
    ):
        change()
        assert tree.digest("pkg") not in seen
        seen.add(tree.digest("pkg"))


def test_the_metadata_digest_covers_the_files_with_requirements(tmp_path: Path) -> None:
    tree = FolderTree(write_tree(tmp_path, {"setup.py": "1", "mine.py": "1"}))
    first = metadata_digest(tree, ".")
    write_tree(tmp_path, {"mine.py": "2"})
    assert metadata_digest(tree, ".") == first
    write_tree(tmp_path, {"requirements.txt": "six"})
    assert metadata_digest(tree, ".") != first


def test_copies_keep_their_places_relative_to_each_other(tmp_path: Path) -> None:
    root = write_tree(tmp_path, {"project/setup.py": "1", "lib/setup.py": "2"}) / "project"
    room = tmp_path / "room"
    one, other = copy_packages(FolderTree(root), (LocalPackage(path="."), LocalPackage(path="../lib")), room)
    assert (one / "../lib/setup.py").read_text() == "2"
    assert (other / "setup.py").read_text() == "2"
    assert room in one.parents
    assert room in other.parents


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    record = "six.py,sha256=a4ayc_80_OGda4BO_1o_V0etpOqiLx1JwB5S3beHW0s,1\nsix-1.dist-info/RECORD,,\n"
    site = "prefix/lib/python3.11/site-packages"
    files = {"six.py": "1", "six-1.dist-info/RECORD": record, "six-1.dist-info/METADATA": "Name: six\nVersion: 1\n"}
    write_tree(tmp_path, {f"{site}/{name}": text for name, text in files.items()})
    return tmp_path / "prefix"


def test_inventory_holds_files_against_their_record(prefix: Path) -> None:
    inventory = build_manifest(prefix)
    assert [(item.name, item.version) for item in inventory.distributions] == [("six", "1")]
    assert inventory.wrong == ()
    (prefix / "lib/python3.11/site-packages/six.py").write_text("2")
    assert build_manifest(prefix).wrong == ("six",)


def test_every_change_shows_in_the_quick_check(prefix: Path) -> None:
    victim = prefix / "lib/python3.11/site-packages/six.py"
    status = victim.stat()
    before = measure(prefix)
    victim.write_text("2")
    os.utime(victim, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert measure(prefix) != before


def test_damage_is_what_changed_went_or_came(prefix: Path) -> None:
    inventory = build_manifest(prefix)
    site = prefix / "lib/python3.11/site-packages"
    (site / "data.bin").write_bytes(b"1")
    (site / "__pycache__").mkdir()
    (site / "__pycache__/six.pyc").write_bytes(b"1")
    assert not compare(prefix, inventory)[0]
    (site / "six.py").unlink()
    (site / "new.py").touch()
    damage, _ = compare(prefix, inventory)
    assert [Path(path).name for path in (*damage.changed, *damage.added)] == ["six.py", "new.py"]
    assert "six.py" in damage.describe()


def test_restated_metadata_is_named(tmp_path: Path) -> None:
    write_overrides(tmp_path)
    assert 'version = "0.24.2"' in (tmp_path / "uv.toml").read_text()
    assert overrides_in("numpy==1.16\npandas==0.24.2 \\\n    --hash=x\n") == ("pandas 0.24.2",)
    assert overrides_in("pandas==0.25.0\n") == ()


def test_folders_of_the_run_come_before_what_is_installed(tmp_path: Path) -> None:
    prepared = Prepared(record=EnvironmentRecord(manager="uv"), variables={IMPORT_PATH: "/own"}, import_paths=("src",))
    assert prepared.variables_in(tmp_path) == {IMPORT_PATH: f"{tmp_path / 'src'}{os.pathsep}/own"}


def test_the_line_that_adds_import_paths_does_so_silently(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "more.pth").write_text(f"{tmp_path}\n", encoding="utf-8")
    (tmp_path / "site" / "proj.pth").write_text(HOOK, encoding="utf-8")
    code = f"import site, sys; site.addsitedir({str(tmp_path / 'site')!r}); print(*sys.path, sep='\\n')"
    variables = {**os.environ, IMPORT_PATH: str(tmp_path / "own")}
    done = subprocess.run([sys.executable, "-c", code], env=variables, check=True, capture_output=True, text=True)
    assert done.stderr == ""
    assert {str(tmp_path), str(tmp_path / "own")} <= set(done.stdout.splitlines())


def test_packages_of_other_platforms_and_pythons_are_not_counted() -> None:
    text = (
        "# Python\nattrs==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "colorama==0.4 ; sys_platform == 'nowhere' \\\n    --hash=sha256:aa\n"
        "numpy==1.2 ; python_version < '3.10' and python_full_version >= '3.8' \\\n    --hash=sha256:aa\n"
        "numpy==1.3 ; python_version >= '3.10' --hash=sha256:aa\n"
        "six @ https://host.invalid/six.zip ; python_version == '3.9'\npip[a,b]==1\n"
    )
    python = Interpreter(path="/python", version="3.9.1", implementation="cpython", platform="linux-x86_64")
    assert count_packages(read_lock(text, python)) == 4


def test_what_an_installer_is_busy_with() -> None:
    uv = "Resolved 4 packages\nDownloading pandas (11.8MiB)\nDownloading torch (1.2GiB)\n Downloaded pandas\n"
    assert unfinished_work(uv + "   Building old==1.0\n") == ("Downloading torch (1.2GiB)", "Building old==1.0")
    assert unfinished_work(uv + " Downloaded torch\n   Building old==1.0\n      Built old==1.0\n") == ()
    pip = "Collecting a\n  Downloading a-1-py3-none-any.whl (1 MB)\nCollecting b\n  Downloading b-1.tar.gz (2 MB)\n"
    assert unfinished_work(pip) == ("Downloading b-1.tar.gz (2 MB)",)
    assert unfinished_work(pip + "Installing\n") == ()


def test_a_slow_step_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uv_command, "REPORT_INTERVAL", 0.02)
    told: list[str] = []
    code = (
        "import os, sys, time\nprint('Downloading big (1.0GiB)', flush=True)\n"
        "while not os.path.exists('told'):\n    time.sleep(0.01)\nprint(' Downloaded big', flush=True)\n"
    )

    def report(event: Event) -> None:
        told.append(event.message)
        (tmp_path / "told").touch()

    done = uv_command.run_installer([sys.executable, "-c", code], tmp_path, dict(os.environ), report)
    assert (done.exit_code, told) == (0, ["Downloading big (1.0GiB)"])


@pytest.mark.env
def test_a_choice_is_reported_at_the_build_and_always_recorded(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": "entry_points: {main: {command: python -V}}\n"})
    first, second = (proj("run", ".", "--json", cwd=root) for _ in range(2))
    for told in ("no environment is declared", "No version of Python is declared"):
        assert told in first.err
        assert told not in second.err
        for run in (first, second):
            assert any(told in notice for notice in run.json["notices"])


@pytest.mark.env
def test_a_range_beside_a_lock_needs_no_words(proj: RunProj, make_repository: MakeRepository) -> None:
    wheel = "six==1.16.0 --hash=sha256:8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254\n"
    asked = 'python: ">=3.8"\ndependencies: [-r requirements.txt]\n'
    manifest = "python_env: python_env.yaml\nentry_points: {main: {command: python -V}}\n"
    root = make_repository({"MLproject": manifest, "python_env.yaml": asked, "requirements.txt": wheel})
    run = proj("run", ".", "--json", cwd=root)
    assert run.code == 0, run.err
    assert "does not fix the version of Python" not in run.err
    assert any("does not fix the version of Python" in notice for notice in run.json["notices"])
