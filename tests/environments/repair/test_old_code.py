"""Old projects with `proj run`: repairs of commands, paths, URLs and undeclared dependencies of packages."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from runner.environments.interpreters.interpreters import discover
from runner.settings import Home
from tests.conftest import MakeRepository, RunProj, git, write_tree
from tests.environments.repair.test_old_projects import free_port

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_cache")]

LOCAL = ("--env-manager", "local")
AS_OF = ("--as-of", "2023-06-01")


def manifest(command: str = "python t.py", parameters: str = "{}", environment: str = "") -> str:
    return (
        f"name: t\n{environment}\nentry_points:\n  main:\n    parameters: {parameters}\n"
        f"    command: {json.dumps(command)}\n"
    )


def write_index(folder: Path, packages: Mapping[str, str]) -> str:
    """Make an index on disk of wheels, each of one module; return its URL. Their metadata asks for nothing."""
    for name, code in packages.items():
        info = f"{name}-1.0.dist-info"
        files = {
            f"{name}/__init__.py": code,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        folder.mkdir(exist_ok=True)
        file = folder / f"{name}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(file, "w") as wheel:
            for path, text in {**files, f"{info}/RECORD": "".join(f"{path},,\n" for path in files)}.items():
                wheel.writestr(path, text)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        page = f'<a href="{file.as_uri()}#sha256={digest}">{file.name}</a>\n'
        write_tree(folder, {f"simple/{name}/index.html": page})
    return (folder / "simple").as_uri()


# -- what a package needs and does not ask for


@pytest.mark.env
def test_a_missing_import_of_an_installed_package_is_added(
    proj: RunProj, make_repository: MakeRepository, tmp_path: Path
) -> None:
    index = {"UV_EXTRA_INDEX_URL": write_index(tmp_path / "index", {"projtestsforgets": "import tabulate\n"})}
    files = {"MLproject": manifest(), "requirements.txt": "projtestsforgets\n", "t.py": "import projtestsforgets\n"}
    root = make_repository(files)
    first = proj("run", ".", "--json", "--as-of", "now", cwd=root, **index)
    assert first.code == 0, first.err
    reported = "'tabulate' is added: 'projtestsforgets' imports it and does not declare it"
    assert first.json["environment"]["repairs"] == [reported]
    assert f"Repaired: {reported}" in first.err
    assert [run["status"] for run in proj("list", "--json", cwd=root).json] == ["FINISHED", "FAILED"]
    again = proj("run", ".", "--json", "--as-of", "now", cwd=root, **index)
    assert again.json["environment"]["repairs"] == [reported]
    assert len(proj("list", "--json", cwd=root).json) == 3, "it does not fail first again"
    plain = proj("run", ".", "--no-repair", "--as-of", "now", cwd=root, **index)
    assert plain.code == 1
    assert "Running again" not in plain.err
    assert "'projtestsforgets' imports 'tabulate'" in plain.err


@pytest.mark.env
def test_a_missing_import_of_the_code_is_added_on_request_only(proj: RunProj, make_repository: MakeRepository) -> None:
    code = "import importlib\nimportlib.import_module('tabulate')\n"
    root = make_repository({"MLproject": manifest(), "requirements.txt": "six\n", "t.py": code})
    assert proj("run", ".", *AS_OF, cwd=root).code == 1
    first = proj("run", ".", "--add-missing", *AS_OF, cwd=root)
    assert first.code == 0, first.err
    assert "Running again with the package 'tabulate'" in first.err
    again = proj("run", ".", "--add-missing", "--json", *AS_OF, cwd=root)
    assert "Running again" not in again.err
    assert again.json["environment"]["repairs"] == ["'tabulate' is added: a run failed because it was missing"]
    assert proj("run", ".", *AS_OF, cwd=root).code == 1, "only with the option"


@pytest.mark.env
def test_requirements_of_old_scikit_learn_are_completed(
    proj: RunProj, make_repository: MakeRepository, home: Home
) -> None:
    if not any(item.line == (3, 6) for item in discover(home.root / "interpreters.json")):
        pytest.skip("this machine has no Python 3.6")
    requested = "python: '3.6'\ndependencies: [scikit-learn==0.19.2]\n"
    files = {"MLproject": manifest(), "python_env.yaml": requested, "t.py": "import sklearn.linear_model\n"}
    root = make_repository(files)
    record = proj("run", ".", "--json", "--as-of", "2019-01-01", cwd=root)
    assert record.code == 0, record.err
    (reported,) = record.json["environment"]["repairs"]
    assert "numpy and scipy are installed for scikit-learn 0.19.2" in reported
    assert "FAILED" not in proj("list", cwd=root).out
    refused = proj("run", ".", "--no-repair", "--as-of", "2019-01-01", cwd=root)
    assert refused.code == 1
    assert "No module named 'numpy'" in refused.out + refused.err


# -- commands and their parameters


def test_a_null_default_is_left_out_with_its_flag(proj: RunProj, make_repository: MakeRepository) -> None:
    parameters = "{a: {type: int, default: null}, b: {type: float, default: 0.5}}"
    root = make_repository({"MLproject": manifest("python t.py --a {a} --b {b}", parameters), "t.py": SHOW})
    record = proj("run", ".", *LOCAL, "--json", cwd=root)
    assert record.code == 0, record.err
    reported = "the default of parameter 'a' is null: '--a {a}' is left out of the command"
    assert record.json["repairs"] == [reported]
    assert record.json["tags"]["proj.repairs"] == reported
    assert record.json["command"] == "python t.py --b 0.5"
    assert [one["name"] for one in record.json["parameters"]] == ["b"]
    assert f"Repaired: {reported}" in record.err
    assert reported in proj("show", record.json["run_id"], cwd=root).out
    given = proj("run", ".", *LOCAL, "--json", "-P", "a=3", cwd=root).json
    assert (given["command"], given["repairs"]) == ("python t.py --a 3 --b 0.5", [])
    refused = proj("run", ".", *LOCAL, "--no-repair", cwd=root)
    assert refused.code == 1
    assert "parameter 'a' has no value" in refused.err
    assert "None" not in refused.err, "an integer is neither that text nor empty"


SHOW = "import sys\nprint(sys.argv[1:])\n"


# -- paths of another machine


READING = """
import os, pathlib
THERE = "/home/nobody-here/thing/data/a.csv"
assert open(THERE).read() == "1,2"
assert pathlib.Path(THERE).read_text() == "1,2"
assert os.path.exists(THERE) and os.path.getsize(THERE) == 3
assert pathlib.Path("C:\\\\Users\\\\me\\\\thing\\\\data\\\\a.csv").read_bytes() == b"1,2"
assert os.listdir("/home/nobody-here/thing/data/") == ["a.csv"]
try:
    open(THERE, "w")
except OSError:
    print("writing is not led")
assert not os.path.exists(THERE.replace("a.csv", "b.csv"))
"""


@pytest.mark.env
def test_an_absolute_path_whose_end_is_a_file_of_the_repository(proj: RunProj, make_repository: MakeRepository) -> None:
    files = {"MLproject": manifest(), "python_env.yaml": "dependencies: []\n", "data/a.csv": "1,2", "t.py": READING}
    root = make_repository(files)
    record = proj("run", ".", "--json", cwd=root)
    assert record.code == 0, record.err
    assert "writing is not led" in record.err + proj("log", record.json["run_id"], cwd=root).out
    reported = record.json["repairs"]
    assert len(reported) == 3
    assert "'/home/nobody-here/thing/data/a.csv' (t.py:3) does not exist on this machine: 'data/a.csv'" in reported[0]
    assert record.json["environment"]["repairs"] == []
    assert "which does not exist on this machine\n" not in record.err, "replaced paths cause no warning"
    refused = proj("run", ".", "--no-repair", cwd=root)
    assert refused.code == 1
    assert "use the path 'data/a.csv' of the repository" in refused.err


def test_a_default_that_is_a_path_of_another_machine(proj: RunProj, make_repository: MakeRepository) -> None:
    parameters = "{data: {type: string, default: /home/nobody-here/thing/data/a.csv}}"
    files = {"MLproject": manifest("python t.py {data}", parameters), "data/a.csv": "1", "t.py": SHOW}
    root = make_repository(files)
    record = proj("run", ".", *LOCAL, "--json", cwd=root).json
    assert record["command"] == "python t.py data/a.csv"
    assert len(record["repairs"]) == 1
    words = ("-P", "data=/home/nobody-here/thing/data/a.csv")
    assert proj("run", ".", *LOCAL, "--json", *words, cwd=root).json["repairs"] == [], "what is given stays"
    assert proj("run", ".", *LOCAL, "--json", "--no-repair", cwd=root).json["repairs"] == []


# -- addresses


def test_an_address_in_a_parameter_gets_the_hint(proj: RunProj, make_repository: MakeRepository) -> None:
    port = free_port()
    parameters = (
        f"{{server: {{type: string, default: 'http://localhost:{port}'}}, page: {{default: 'http://x.invalid'}}}}"
    )
    code = "import argparse\ndef set_tracking_uri(uri): pass\nclass args: server = ''\nset_tracking_uri(args.server)\n"
    files = {"MLproject": manifest("python t.py {server} {page}", parameters), "t.py": code}
    root = make_repository(files)
    reported = proj("run", ".", *LOCAL, cwd=root)
    assert reported.code == 0
    assert f"parameter 'server' is 127.0.0.1:{port}" in reported.err
    assert f"'--serve-as 127.0.0.1:{port}' lets this run answer there" in reported.err
    assert "x.invalid" not in reported.err
    served = proj("run", ".", *LOCAL, "--serve-as", f"127.0.0.1:{port}", cwd=root)
    assert "parameter 'server'" not in served.err


REFUSED = """
import sys
print("HTTPConnectionPool(host='{host}', port=5999): Max retries exceeded with url: {path} (Caused by "
      "NewConnectionError('Failed to establish a new connection: [Errno 111] Connection refused'))")
sys.exit(1)
"""


@pytest.mark.parametrize(
    ("host", "path", "address"),
    [
        ("localhost", "/api/2.0/mlflow/experiments/get-by-name?experiment_name=x", "127.0.0.1:5999"),
        ("mlflow", "/api/2.0/mlflow/runs/create", "mlflow:5999"),
        ("10.1.2.3", "/prefix/api/2.0/preview/mlflow/runs/create", "10.1.2.3:5999"),
        ("localhost", "/elsewhere", None),
    ],
)
def test_a_refused_connection_in_the_log_gets_the_hint(
    proj: RunProj, make_repository: MakeRepository, host: str, path: str, address: str | None
) -> None:
    code = REFUSED.replace("{host}", host).replace("{path}", path)
    result = proj("run", ".", *LOCAL, cwd=make_repository({"MLproject": manifest(), "t.py": code}))
    assert result.code == 1
    assert (f"--serve-as {address}" in result.err) == (address is not None)


# -- environment files that are not there


CONDA = "channels: [defaults]\ndependencies: [tabulate]\n"


def test_an_absent_environment_file_of_a_tree_in_work_is_an_error(
    proj: RunProj, make_repository: MakeRepository, tmp_path: Path
) -> None:
    files = {"MLproject": manifest(environment="python_env: pyhton_env.yaml"), "python_env.yaml": "", "t.py": ""}
    plain = write_tree(tmp_path / "plain", files)
    dirty = make_repository(files)
    (dirty / "new.txt").write_text("x", encoding="utf-8")
    for root in (plain, dirty):
        for command in (("run", "."), ("run", ".", "--dry-run"), ("check",), ("check", "--run")):
            result = proj(*command, cwd=root)
            assert result.code == 1, (command, result.err)
            assert "'python_env' names the file 'pyhton_env.yaml', which is not there" in result.out + result.err
            assert "did you mean 'python_env.yaml'?" in result.out + result.err
        assert proj("list", "--json", cwd=root).json == []


@pytest.mark.env
@pytest.mark.parametrize("words", [(".",), (".", "--version", "HEAD")])
def test_an_absent_environment_file_of_a_commit_is_a_repair(
    proj: RunProj, make_repository: MakeRepository, words: tuple[str, ...]
) -> None:
    root = make_repository({"MLproject": manifest(environment="python_env: nope.yaml"), "t.py": "print(1)"})
    record = proj("run", *words, "--json", cwd=root)
    assert record.code == 0, record.err
    (reported,) = record.json["environment"]["repairs"]
    assert reported.startswith("the environment file 'nope.yaml' does not exist")
    assert "environment: not as declared: 1 repair: the environment file 'nope.yaml'" in record.err
    assert proj("run", *words, "--no-repair", cwd=root).code == 1


# -- the day of the packages


@pytest.mark.env
def test_an_edited_old_commit_is_offered_its_day(
    proj: RunProj, make_repository: MakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2021-05-01T12:00:00Z")
    monkeypatch.setenv("GIT_AUTHOR_DATE", "2021-05-01T12:00:00Z")
    root = make_repository({"MLproject": manifest(), "python_env.yaml": "dependencies: []\n", "t.py": "exit(3)"})
    offer = "'--as-of commit' uses the packages of that day"
    clean = proj("run", ".", cwd=root)
    (root / "t.py").write_text("exit(4)", encoding="utf-8")
    edited = proj("run", ".", cwd=root)
    assert (clean.code, edited.code) == (3, 4)
    assert offer not in clean.err
    assert offer in edited.err
    assert "2021-05-01" in edited.err
    assert offer not in proj("run", ".", "--as-of", "commit", cwd=root).err
    assert offer not in proj("run", ".", "--no-repair", cwd=root).err
    git(root, "status")


# -- what is said


def test_each_hint_is_printed_once(proj: RunProj, make_repository: MakeRepository) -> None:
    code = "import mlflow\nmlflow.set_tracking_uri('http://10.0.0.9:5000')\nmlflow.set_tracking_uri('http://10.0.0.9:5000')\n"
    root = make_repository({"MLproject": manifest("true; python t.py"), "t.py": code})
    printed = proj("run", ".", *LOCAL, cwd=root).err
    assert printed.count("the code logs to http://10.0.0.9:5000, not to the run") == 2
    assert printed.count("hint: '--serve-as 10.0.0.9:5000'") == 1
