"""Old projects with `proj run`: each repair has a project that needs it and fails with --no-repair."""

import hashlib
import json
import os
import socket
import tarfile
import zipfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from runner.environments.backends.uv import UvBackend
from runner.environments.interpreters.interpreters import discover
from runner.environments.interpreters.release_lines import line_in_use
from runner.environments.model import EnvironmentRequest
from runner.environments.resolve import uv_command
from runner.environments.specs import PythonSpec
from runner.errors import EnvironmentSetupError, SystemRefusalError
from runner.model import Event, RunRequest
from runner.process import Completed
from runner.settings import Home
from runner.workflow import run_project
from tests.conftest import MakeRepository, Result, RunProj, git, write_tree
from tests.support.sources import Said

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_cache")]

AS_OF = ("--as-of", "2023-06-01")
LOCAL = ("--env-manager", "local")


def manifest(command: str = "python t.py", environment: str = "") -> str:
    return f"name: t\n{environment}\nentry_points:\n  main:\n    command: {json.dumps(command)}\n"


def both(proj: RunProj, root: Path, *words: str) -> tuple[Any, Result]:
    """Run with repairs, which must succeed, and as declared, which must not."""
    result = proj("run", ".", "--json", *words, cwd=root)
    assert result.code == 0, result.err
    refused = proj("run", ".", *words, "--no-repair", cwd=root)
    assert refused.code != 0, refused.err
    record = result.json
    assert all(repair in result.err for repair in record["environment"]["repairs"])
    assert record["tags"]["proj.repairs"] == "; ".join(record["environment"]["repairs"])
    return record, refused


@pytest.mark.env
def test_outdated_names_are_replaced(proj: RunProj, make_repository: MakeRepository) -> None:
    files = {"requirements.txt": "pickle\nbs4==0.0.1\n", "t.py": "import bs4, pickle"}
    record, refused = both(proj, make_repository({"MLproject": manifest(), **files}), *AS_OF)
    assert [repair[:12] for repair in record["environment"]["repairs"]] == ["'pickle' is ", "'bs4==0.0.1'"]
    assert "beautifulsoup4" in {name for name, _ in record["environment"]["packages"]}
    assert "pickle" in refused.err


@pytest.mark.env
def test_an_environment_file_of_another_name(proj: RunProj, make_repository: MakeRepository) -> None:
    conda = "channels: [defaults]\ndependencies: [tabulate]\n"
    files = {"MLproject": manifest(environment="conda_env: conda.yaml"), "conda.yml": conda, "t.py": "import tabulate"}
    root = make_repository(files)
    record, refused = both(proj, root, *AS_OF)
    assert record["environment"]["repairs"] == ["the environment file 'conda.yaml' does not exist; 'conda.yml' is used"]
    assert "did you mean 'conda.yml'" in refused.err
    assert proj("check", cwd=root).code == 1


@pytest.mark.env
def test_nothing_declared(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": manifest(), "t.py": "import tabulate\n"})
    record, refused = both(proj, root, *AS_OF)
    assert record["environment"]["repairs"] == [
        "no environment is declared; the packages that the code imports are used: tabulate"
    ]
    assert "'tabulate' is provided by the package 'tabulate'" in refused.err
    assert "add `tabulate` to a requirements.txt" in refused.err


@pytest.mark.env
def test_a_container_that_is_not_available(proj: RunProj, make_repository: MakeRepository) -> None:
    declared = "docker_env:\n  image: localhost/proj-tests-absent"
    docker = "FROM python:3\nRUN pip install tabulate==0.8.10\n"
    files = {"MLproject": manifest(environment=declared), "Dockerfile": docker, "t.py": "import tabulate"}
    record, _ = both(proj, make_repository(files), *AS_OF)
    assert ["tabulate", "0.8.10"] in record["environment"]["packages"]
    assert "the packages that 'Dockerfile' installs are used" in record["environment"]["repairs"][0]


@pytest.mark.env
def test_pins_that_are_absent_or_of_a_later_day(proj: RunProj, make_repository: MakeRepository) -> None:
    pins = "tabulate==0.8.99\nclick==8.1.7\n"
    root = make_repository({"MLproject": manifest(), "requirements.txt": pins, "t.py": "import tabulate, click"})
    record, refused = both(proj, root, *AS_OF)
    assert ["tabulate", "0.8.10"] in record["environment"]["packages"]
    assert ["click", "8.1.7"] in record["environment"]["packages"]
    assert record["environment"]["as_of"].startswith("2023-08-")
    assert "no version of tabulate==0.8.99" in refused.err
    again = proj("run", ".", "--json", *AS_OF, cwd=root)
    assert again.json["environment"]["repairs"] == record["environment"]["repairs"]
    assert "Resolving" not in again.err


@pytest.mark.env
def test_an_interpreter_that_the_pins_are_not_for(proj: RunProj, make_repository: MakeRepository, home: Home) -> None:
    lines = {item.line for item in discover(home.root / "interpreters.json")}
    old, new = [line for line in lines if line < (3, 10)], [line for line in lines if line >= (3, 10)]
    if not old or min(new)[1] - max(old)[1] > 4:
        pytest.skip("this machine has no Python before 3.10 beside a newer one")
    python = f"python: '3.{max(old)[1]}'\ndependencies: [click==8.2.1]\n"
    root = make_repository({"MLproject": manifest(), "python_env.yaml": python, "t.py": "import click"})
    record, refused = both(proj, root, "--as-of", "2025-06-01")
    assert record["environment"]["python"].startswith(f"3.{min(new)[1]}.")
    assert "is used: what is pinned is not for" in record["environment"]["repairs"][0]
    assert "Python>=3.10" in refused.err


OF_OLD_WHEELS = "markupsafe==2.0.1\n"
"""A release with wheels for Pythons up to 3.10, and a source that needs no compiler."""
DAY_OF_3_11 = date(2023, 10, 1)


def newer_and_older(home: Home) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the line of that day, and the newest that the old wheels are for; skip where there is none."""
    lines = {item.line for item in discover(home.root / "interpreters.json") if item.implementation == "cpython"}
    chosen, older = line_in_use(DAY_OF_3_11, lines), [line for line in lines if (3, 6) <= line <= (3, 10)]
    if chosen is None or chosen < (3, 11) or not older or chosen[1] - max(older)[1] > 4:
        pytest.skip("this machine has no Python up to 3.10 beside a newer one")
    return tuple(chosen), max(older)


@pytest.mark.env
def test_an_interpreter_that_the_pins_have_no_wheels_for(
    proj: RunProj, make_repository: MakeRepository, home: Home
) -> None:
    newer, older = newer_and_older(home)
    root = make_repository({"MLproject": manifest(), "requirements.txt": OF_OLD_WHEELS, "t.py": "import markupsafe"})
    words = ("--json", "--as-of", DAY_OF_3_11.isoformat())
    record = proj("run", ".", *words, cwd=root).json
    assert record["environment"]["python"].startswith(f"3.{older[1]}.")
    assert "is used: what is pinned has wheels for it" in record["environment"]["repairs"][0]
    again = proj("run", ".", *words, cwd=root)
    assert again.json["environment"]["repairs"] == record["environment"]["repairs"]
    assert "Resolving" not in again.err
    assert (
        proj("run", ".", *words, "--dry-run", cwd=root).json["environment"]["python"]
        == again.json["environment"]["python"]
    )
    plain = proj("run", ".", *words, "--no-repair", cwd=root).json
    assert plain["environment"]["python"].startswith(f"3.{newer[1]}.")
    assert plain["environment"]["repairs"] == []


@pytest.mark.env
def test_a_declared_interpreter_is_kept_and_builds(proj: RunProj, make_repository: MakeRepository, home: Home) -> None:
    newer, _ = newer_and_older(home)
    files = {".python-version": f"3.{newer[1]}\n", "requirements.txt": OF_OLD_WHEELS, "t.py": "import markupsafe"}
    root = make_repository({"MLproject": manifest(), **files})
    result = proj("run", ".", "--json", "--as-of", DAY_OF_3_11.isoformat(), cwd=root)
    assert result.code == 0, result.err
    assert result.json["environment"]["python"].startswith(f"3.{newer[1]}.")
    assert result.json["environment"]["repairs"] == []


@pytest.mark.env
def test_a_declared_interpreter_that_can_not_build_the_pins(
    proj: RunProj, make_repository: MakeRepository, home: Home, tmp_path: Path
) -> None:
    newer, older = newer_and_older(home)
    index = {"UV_EXTRA_INDEX_URL": write_old_index(tmp_path / "index", f"cp3{older[1]}").as_uri()}
    files = {".python-version": f"3.{newer[1]}\n", "requirements.txt": "proj-tests-old==1.0\n", "t.py": "import old"}
    root = make_repository({"MLproject": manifest(), **files})
    record = proj("run", ".", "--json", cwd=root, **index)
    assert record.code == 0, record.err
    assert record.json["environment"]["python"].startswith(f"3.{older[1]}.")
    assert "has wheels for it, and can't be built for 3." in record.json["environment"]["repairs"][0]
    assert [run["status"] for run in proj("list", "--json", cwd=root).json] == ["FINISHED", "FAILED"]
    again = proj("run", ".", "--json", cwd=root, **index)
    assert again.json["environment"]["repairs"] == record.json["environment"]["repairs"]
    assert "Running again" not in again.err
    refused = proj("run", ".", "--no-repair", cwd=root, **index)
    assert refused.code == 1
    assert "this source never builds" in refused.err


@pytest.mark.env
def test_another_interpreter_is_a_value_of_the_new_request(tmp_path: Path, home: Home) -> None:
    newer, older = newer_and_older(home)
    environ = {**os.environ, "UV_EXTRA_INDEX_URL": write_old_index(tmp_path / "index", f"cp3{older[1]}").as_uri()}
    spec = PythonSpec(python=f"3.{newer[1]}", requirements=("proj-tests-old==1.0",))
    request = EnvironmentRequest(spec=spec, home=home, environ=environ, repair=True)
    events: list[Event] = []
    backend = UvBackend()
    assert backend.lock(request, events.append).interpreter.line == newer
    changed = backend.with_other_interpreter(request, events.append)
    assert changed.interpreter.line == older
    assert "has wheels for it" in changed.spec.repairs[-1]
    for note in home.locks.glob("*.repaired.json"):  # they are for later runs of the project
        note.unlink()
    assert backend.lock(changed, events.append).interpreter == changed.interpreter
    assert backend.plan(changed).python == changed.interpreter.version
    assert backend.with_other_interpreter(changed, events.append) is None


def write_old_index(folder: Path, tag: str) -> Path:
    """Make an index on disk of a package with a wheel for one Python, and a source that can't be built."""
    info = "proj_tests_old-1.0.dist-info"
    files = {
        "old.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: proj-tests-old\nVersion: 1.0\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}-none-any\n",
    }
    folder.mkdir()
    with zipfile.ZipFile(folder / f"proj_tests_old-1.0-{tag}-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": "".join(f"{path},,\n" for path in files)}.items():
            wheel.writestr(path, text)
    source = write_tree(
        folder / "source",
        {
            "proj_tests_old-1.0/pyproject.toml": (
                "[project]\nname='proj-tests-old'\nversion='1.0'\n[build-system]\nrequires=[]\n"
                "build-backend='broken'\nbackend-path=['.']\n"
            ),
            "proj_tests_old-1.0/broken.py": "raise SystemExit('this source never builds')\n",
            "proj_tests_old-1.0/PKG-INFO": "Metadata-Version: 2.2\nName: proj-tests-old\nVersion: 1.0\n",
        },
    )
    with tarfile.open(folder / "proj_tests_old-1.0.tar.gz", "w:gz") as archive:
        archive.add(source / "proj_tests_old-1.0", "proj_tests_old-1.0")
    links = [
        f'<a href="{file.as_uri()}#sha256={hashlib.sha256(file.read_bytes()).hexdigest()}">{file.name}</a>\n'
        for file in folder.glob("proj_tests_old-1.0*")
    ]
    write_tree(folder, {"simple/proj-tests-old/index.html": "".join(links)})
    return folder / "simple"


@pytest.mark.env
def test_a_full_export_of_conda_is_reduced_to_what_the_code_needs(
    proj: RunProj, make_repository: MakeRepository
) -> None:
    absent = "".join(f"  - proj-tests-absent-{number}=1.{number}=py_0\n" for number in range(70))
    export = f"name: me\nchannels: [defaults]\ndependencies:\n{absent}  - tabulate=0.8.9=py_0\n  - six=1.16.0=py_0\n"
    code = "import six, tabulate\nassert tabulate.__version__ == '0.8.9'\n"
    files = {"conda.yaml": f"{export}prefix: /home/me/conda/envs/me\n", "t.py": code}
    root = make_repository({"MLproject": manifest(environment="conda_env: conda.yaml"), **files})
    record, _ = both(proj, root, *AS_OF)
    assert {name for name, _ in record["environment"]["packages"]} - {"pip", "setuptools"} == {"six", "tabulate"}
    told = "of the 72 packages in conda.yaml, only those that the code needs are installed"
    assert record["environment"]["repairs"] == [told]
    (root / "t.py").write_text("import six\n", encoding="utf-8")
    git(root, "commit", "--quiet", "--all", "--message=less")
    less = proj("run", ".", "--json", *AS_OF, cwd=root).json
    assert {name for name, _ in less["environment"]["packages"]} - {"pip", "setuptools"} == {"six"}


UNSOLVED = "error: No solution found: there is no version of six==1.16.0"
OUTSIDE = {
    "full disk": "error: failed to write\n  Caused by: No space left on device (os error 28)",
    "full disk in a build": "  x Failed to build `six==1.16.0`\n  cause: OSError: [Errno 28] No space left on device",
    "quota": f"{UNSOLVED}\n  Caused by: Disk quota exceeded (os error 122)",
    "no network": f"{UNSOLVED}\nerror sending request for url (https://index.invalid/simple/six/)",
    "network with a wrong password": f"{UNSOLVED}\nhint: An index URL (https://index.invalid/simple) could not be"
    " queried due to a lack of valid authentication credentials (401 Unauthorized).",
    "network with a failing index": "error: Failed to fetch: https://index.invalid/simple/six/\n"
    "  Caused by: HTTP status server error (503 Service Unavailable) for url (https://index.invalid/simple/six/)",
    "disabled network": f"{UNSOLVED}\nhint: Packages were unavailable because the network was disabled.",
}


@pytest.mark.parametrize("what", OUTSIDE)
@pytest.mark.parametrize("count", [0, 70])
def test_what_is_outside_the_declaration_repairs_nothing_in_it(
    make_repository: MakeRepository, home: Home, monkeypatch: pytest.MonkeyPatch, what: str, count: int
) -> None:
    absent = "".join(f"  - proj-tests-absent-{number}=1.{number}=py_0\n" for number in range(count))
    conda = f"name: me\nchannels: [defaults]\ndependencies:\n{absent}  - six=1.16.0=py_0\n"
    files = {"conda.yaml": conda, "t.py": "import six\n"}
    root = make_repository({"MLproject": manifest(environment="conda_env: conda.yaml"), **files})
    started: list[object] = []

    def fail(argv: Sequence[str | Path], *_: object) -> Completed:
        started.append(argv)
        return Completed(argv=tuple(map(str, argv)), exit_code=2, stdout=b"", stderr=OUTSIDE[what].encode())

    monkeypatch.setattr(uv_command, "run_installer", fail)
    outcome = run_project(RunRequest(uri=str(root), environment_manager="uv"), home, Said())
    assert outcome.record.status == "FAILED"
    assert outcome.error is not None
    if "network" in what:
        assert isinstance(outcome.error, EnvironmentSetupError)
    else:
        assert isinstance(outcome.error, SystemRefusalError)
        assert outcome.error.message == "The disk is full"
    assert outcome.record.environment is None or outcome.record.environment.repairs == ()
    assert not list(home.root.glob("locks/*.repaired.json"))
    assert len(started) <= 2, "the same again without a network"


OF_CONDA = [
    "a.yaml: conda packages are installed from the Python index",
    "a.yaml: left out, because wheels or the system provide them: libgcc-ng, openssl",
]


@pytest.mark.env
def test_an_unrepaired_environment_is_reported_as_declared(proj: RunProj, make_repository: MakeRepository) -> None:
    conda = "dependencies: [six=1.16.0, libgcc-ng, openssl]\n"
    files = {"a.yaml": conda, "b.txt": "six\n", "c.yaml": "dependencies: []\n", "t.py": ""}
    entries = "".join(
        f"  {name}: {{command: python t.py, environment: {path}}}\n"
        for name, path in (("a", "{conda_env: a.yaml}"), ("b", "b.txt"), ("c", "{python_env: c.yaml}"))
    )
    root = make_repository({"MLproject": f"entry_points:\n{entries}  d: {{command: python t.py}}\n", **files})
    told = {}
    for name in "abcd":
        result = proj("run", ".", "-e", name, "--json", *AS_OF, cwd=root)
        assert result.code == 0, result.err
        told[name] = [line for line in result.err.splitlines() if line.startswith("  environment: ")]
        environment = result.json["environment"]
        assert environment["repairs"] == []
        assert environment["departures"] == (OF_CONDA if name == "a" else [])
        assert environment["declared"] == {"a": "a.yaml", "b": "b.txt", "c": "c.yaml", "d": None}[name]
    assert told == {
        "a": [f"  environment: as declared, with 2 deviations: {'; '.join(OF_CONDA)}"],
        "b": ["  environment: as declared"],
        "c": ["  environment: as declared"],
        "d": ["  environment: none declared"],
    }


@pytest.mark.env
def test_another_patch_release_is_not_as_declared(proj: RunProj, make_repository: MakeRepository, home: Home) -> None:
    line = max(item.line for item in discover(home.root / "interpreters.json") if item.implementation == "cpython")
    python = f"python: 3.{line[1]}.99\ndependencies: []\n"
    root = make_repository({"MLproject": manifest(), "python_env.yaml": python, "t.py": ""})
    result = proj("run", ".", "--json", cwd=root)
    assert result.code == 0, result.err
    (told,) = result.json["environment"]["departures"]
    assert f"Python 3.{line[1]}.99 is not installed" in told
    assert f"environment: as declared, with 1 deviation: {told}\n" in result.err
    shown = proj("show", result.json["run_id"], cwd=root).out
    assert told in shown
    assert "python_env.yaml" in shown


@pytest.mark.env
def test_an_own_package_that_is_not_installed(proj: RunProj, make_repository: MakeRepository) -> None:
    files = {
        "MLproject": manifest("python scripts/t.py"),
        "requirements.txt": "six\n",
        "scripts/t.py": "import mine.deep",
        "src/mine/deep.py": "import six",
    }
    record, refused = both(proj, make_repository(files), *AS_OF)
    assert record["environment"]["repairs"] == ["'src' is added to the import path, because the code imports 'mine'"]
    assert "'mine' is in 'src' of the repository" in refused.err


@pytest.mark.env
def test_an_own_package_that_is_installed_needs_no_guess(proj: RunProj, make_repository: MakeRepository) -> None:
    setup = "from setuptools import setup\nsetup(name='mine', version='1', packages=['mine'])\n"
    files = {
        "MLproject": manifest("python scripts/t.py"),
        "requirements.txt": ".\n",
        "setup.py": setup,
        "scripts/t.py": "import mine",
        "mine/__init__.py": "",
    }
    result = proj("run", ".", "--json", *AS_OF, cwd=make_repository(files))
    assert result.code == 0, result.err
    assert result.json["environment"]["repairs"] == []


@pytest.mark.env
def test_undeclared_imports(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository(
        {"MLproject": manifest(), "requirements.txt": "six\n", "t.py": "import six\nimport tabulate"}
    )
    told = proj("run", ".", *AS_OF, cwd=root)
    assert told.code == 1
    assert "Nothing declared provides 'tabulate' (t.py:2)" in told.err
    assert "add `tabulate` to requirements.txt, or run with --add-missing" in told.err
    added = proj("run", ".", "--json", "--add-missing", *AS_OF, cwd=root).json
    assert added["environment"]["repairs"] == ["'tabulate' is added: t.py:2 imports 'tabulate'"]


@pytest.mark.env
def test_imports_that_fail_at_run_time(proj: RunProj, make_repository: MakeRepository) -> None:
    code = "import importlib\nimportlib.import_module('tabulate')\n"
    root = make_repository({"MLproject": manifest(), "requirements.txt": "six\n", "t.py": code})
    result = proj("run", ".", "--json", "--add-missing", *AS_OF, cwd=root)
    assert result.code == 0, result.err
    assert result.json["environment"]["repairs"] == ["'tabulate' is added: a run failed because it was missing"]
    assert [run["status"] for run in proj("list", "--json", cwd=root).json] == ["FINISHED", "FAILED"]


@pytest.mark.env
def test_an_unrelated_package_is_never_installed(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": manifest(), "requirements.txt": "six\n", "t.py": "import common"})
    result = proj("run", ".", "--add-missing", *AS_OF, cwd=root)
    assert result.code == 1
    assert "no package is known that does" in result.err
    assert "Running again" not in result.err


LOGGING = """
import json, os, urllib.request
def set_tracking_uri(uri):
    body = {"run_id": os.environ["MLFLOW_RUN_ID"], "key": "score", "value": 0.5, "timestamp": 1, "step": 0}
    head = {"Authorization": "Bearer " + os.environ["MLFLOW_TRACKING_TOKEN"], "Content-Type": "application/json"}
    url = uri + "/api/2.0/mlflow/runs/log-metric"
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        urllib.request.Request(url, json.dumps(body).encode(), head))
set_tracking_uri("http://localhost:PORT")
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_address_in_the_code_is_answered_by_the_run(proj: RunProj, make_repository: MakeRepository) -> None:
    port = str(free_port())
    root = make_repository({"MLproject": manifest(), "t.py": LOGGING.replace("PORT", port)})
    result = proj("run", ".", "--json", *LOCAL, "--serve-as", f"localhost:{port}", cwd=root)
    assert result.code == 0, result.err
    assert result.json["metrics"] == {"score": 0.5}
    assert result.json["redirects"] == [f"the server of this run listens at 127.0.0.1:{port}"]
    assert result.json["environment"]["repairs"] == []
    told = proj("run", ".", *LOCAL, cwd=root)
    assert told.code == 1
    assert f"t.py:9: the code logs to http://localhost:{port}" in told.err
    assert f"--serve-as 127.0.0.1:{port}" in told.err
    assert "this record does not contain that data" in told.err


def test_code_that_lacks_a_module_logged_nowhere(proj: RunProj, make_repository: MakeRepository) -> None:
    code = "import no_such_module_at_all\nimport mlflow\nmlflow.set_tracking_uri('http://localhost:5999')\n"
    root = make_repository({"MLproject": manifest(), "t.py": code})
    done = proj("run", ".", "--no-repair", *LOCAL, cwd=root)
    assert done.code == 1
    assert "no_such_module_at_all" in done.err
    assert "this record does not contain that data" not in done.err


@pytest.mark.parametrize("address", ["0.0.0.0:5000", "127.0.0.1", "127.0.0.1:99999", "mlruns", "https://:5000"])
def test_what_is_no_address_is_not_served(proj: RunProj, make_repository: MakeRepository, address: str) -> None:
    root = make_repository({"MLproject": manifest("true")})
    result = proj("run", ".", *LOCAL, "--serve-as", address, cwd=root)
    assert result.code == 2
    assert "--serve-as takes HOST:PORT" in result.err


def test_a_host_can_only_be_answered_for_where_there_is_a_client(
    proj: RunProj, make_repository: MakeRepository
) -> None:
    root = make_repository({"MLproject": manifest("true"), "python_env.yaml": "dependencies: []"})
    words = ("--serve-as", "https://me:secret@tracking.invalid/x", *LOCAL)
    result = proj("run", ".", *words, cwd=root, PATH="/usr/bin:/bin")
    assert result.code == 0
    assert "no MLflow client that can be redirected from tracking.invalid:443 to this run" in result.err
    assert "secret" not in result.err


def test_an_occupied_address_is_reported(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": manifest("true")})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = proj("run", ".", *LOCAL, "--serve-as", address, cwd=root)
    assert result.code == 1
    assert f"this run can't serve {address}" in result.err


def test_a_command_that_can_not_begin_is_refused_before_anything(
    proj: RunProj, make_repository: MakeRepository
) -> None:
    root = make_repository({"MLproject": manifest("python train.py"), "Train.py": ""})
    result = proj("run", ".", cwd=root)
    assert result.code == 1
    assert "runs 'train.py', which is not in the project" in result.err
    assert "did you mean 'Train.py'" in result.err
    assert proj("list", "--json", cwd=root).json == []
    assert proj("check", "--run", cwd=root).code == 1
    assert "can't open file" in proj("run", ".", *LOCAL, "--no-repair", cwd=root).err


def test_a_script_that_git_ignores_or_that_is_made_is_there(proj: RunProj, make_repository: MakeRepository) -> None:
    made = "python -c \"open('made.py', 'w')\" && python made.py && python kept.py"
    root = make_repository({"MLproject": manifest(made), ".gitignore": "kept.py\n"})
    (root / "kept.py").write_text("", encoding="utf-8")
    assert proj("run", ".", *LOCAL, cwd=root).code == 0


def test_further_findings_of_a_plan(proj: RunProj, make_repository: MakeRepository) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    text = (
        "name: t\nentry_points:\n  main:\n    parameters:\n      data: {type: path, default: d.csv}\n"
        "      home: {default: 'C:\\Users\\me\\x.csv'}\n      depth: {type: int}\n"
        "    command: python t.py {data} {home} {depth}\n"
    )
    modules = '[submodule "lib"]\n\tpath = lib\n\turl = ../lib\n'
    code = "import pandas\npandas.read_csv('/home/nobody-here/a.csv')\n"
    root = make_repository({"MLproject": text, "d.csv": pointer, ".gitmodules": modules, "t.py": code})
    result = proj("check", "--run", cwd=root)
    assert result.code == 0, result.err
    for part in (
        "'d.csv' is a pointer of git-lfs",
        "the submodule 'lib' is empty",
        "parameter 'home' is 'C:\\Users\\me\\x.csv', which does not exist on this machine",
        "t.py:2: warning: the code names '/home/nobody-here/a.csv'",
    ):
        assert part in result.out
    assert "depth (int, required)" in result.err
    assert (
        "a run would repair: no environment is declared; the packages that the code imports are used: pandas"
        in result.err
    )


def test_a_look_has_what_the_manifest_says_of_the_entry_point(proj: RunProj, make_repository: MakeRepository) -> None:
    text = (
        "name: t\nnmae: t\nconda_env: absent.yaml\nentry_points:\n  main:\n    parametres: {a: int}\n"
        "    command: python t.py {sed}\n  other:\n    comand: x\n    command: python away.py {nothing}\n"
    )
    root = make_repository({"MLproject": text, "t.py": "import tqdm\n"})
    every = proj("check", cwd=root)
    result = proj("check", "--run", "-e", "main", cwd=root)
    assert (every.code, result.code) == (1, 1)
    for part in ("'nmae' is not read", "'parametres' is not read", "in the command of 'main'"):
        assert part in every.out, every.out
        assert part in result.out, result.out
    assert "other" in every.out
    assert "other" not in result.out
    absent = "'absent.yaml', which is not there"
    assert [line.split(": ")[1] for line in every.out.splitlines() if absent in line] == ["error"]
    assert [line.split(": ")[1] for line in result.out.splitlines() if absent in line] == ["warning"], "it is repaired"
    assert "a run would repair: the environment file 'absent.yaml' does not exist" in result.err


def test_a_look_tells_imports_and_places_as_far_as_they_are_known(
    proj: RunProj, make_repository: MakeRepository
) -> None:
    code = 'import os, numpy, tqdm\nimport mlflow\nimport own\nmlflow.set_tracking_uri("./mlruns")\n'
    asked = "dependencies:\n- python=3.6\n- pip:\n  - sklearn\n  - numpy\n  - mlflow==1.0\n"
    files = {"MLproject": "conda_env: conda.yaml\n" + manifest("python t.py"), "conda.yaml": asked, "own.py": ""}
    root = make_repository({**files, "t.py": code})
    result = proj("check", "--run", cwd=root)
    assert (result.code, result.out) == (0, ""), result.out
    assert "a run would repair: 'sklearn' is replaced by 'scikit-learn'" in result.err
    assert (
        "no package that provides it is declared; it may come as a dependency of another package: 'tqdm' (t.py:1)\n"
        in (result.err)
    )
    assert "a run would redirect ./mlruns in t.py:4 to itself" in result.err


def test_the_only_entry_point_is_run_and_several_are_listed(proj: RunProj, make_repository: MakeRepository) -> None:
    one = "name: t\nentry_points:\n  only: {command: 'true'}\n"
    root = make_repository({"MLproject": one})
    assert proj("run", ".", *LOCAL, cwd=root).code == 0
    (root / "MLproject").write_text(one + "  other: {command: 'true'}\n", encoding="utf-8")
    assert "'only' and 'other'" in proj("run", ".", *LOCAL, cwd=root).err


def test_a_plan_says_what_would_be_repaired(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": manifest(), "requirements.txt": "pickle\n", "t.py": ""})
    git(root, "status")
    assert "repaired: 'pickle' is left out" in proj("run", ".", "--dry-run", cwd=root).out
    assert proj("run", ".", "--dry-run", "--json", "--no-repair", cwd=root).json["environment"]["repairs"] == []
