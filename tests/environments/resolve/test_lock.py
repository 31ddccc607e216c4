"""``proj lock``: one file for every platform, used by runs, refused when out of date, without URLs."""

import base64
import hashlib
import io
import os
import re
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from runner.environments.declare.indexes import IndexOptions
from runner.environments.declare.project_lock import LockHeader, lock_name, read_header, write_header
from runner.environments.declare.source_trees import FolderTree
from runner.environments.declare.spec import read_spec
from runner.environments.resolve import uv_command
from runner.environments.version_rules import bounds, parse_rule
from runner.model import EnvironmentDeclaration, EnvironmentKind
from runner.settings import Home
from tests.conftest import MakeRepository, RunProj, git, write_tree

pytestmark = pytest.mark.usefixtures("shared_cache")

MANIFEST = """
name: locked
entry_points:
  main:
    command: python -c "import tabulate; print(tabulate.__version__)"
"""


@pytest.fixture
def project(make_repository: MakeRepository) -> Path:
    return make_repository({"MLproject": MANIFEST, "requirements.txt": "tabulate\ntqdm==4.66.1\n"})


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", text))


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("3.9", ">=3.9,<3.10"),
        ("3.9.18", ">=3.9,<3.10"),
        (">=3.8,<3.11", ">=3.8,<3.11"),
        ("~=3.8.1", ">=3.8.1,<3.9"),
        ("<=3.10", ">=3.11,<=3.10"),
        (">3.9", ">=3.9,>3.9"),
        ("3", ">=3.11,>=3,<4"),
        (">=2.7,!=3.9.*", ">=3.11,>=2.7,!=3.9.*"),
        ("==3.9.1", ">=3.9,<3.10"),
        ("==3.9.*", ">=3.9,<3.10"),
        (None, ">=3.11"),
    ],
)
def test_rules_become_bounds(rule: str | None, told: str) -> None:
    found = bounds(parse_rule(rule), (3, 11))
    assert ",".join(clause.text for clause in found) == told


def test_a_header_is_read_back() -> None:
    header = LockHeader(
        spec="requirements.txt", digest="sha256:00", command="proj lock", as_of="2022-03-01T00:00:00Z", asked=("a", "b")
    )
    assert read_header(write_header(header) + "a==1\n", "x.lock") == header


@pytest.mark.parametrize(
    ("path", "lock"), [("requirements.txt", "requirements.lock"), ("envs/python_env.yaml", "envs/python_env.lock")]
)
def test_a_lock_is_beside_its_spec(path: str, lock: str) -> None:
    assert lock_name(path) == lock


def test_files_of_other_tools_under_the_lock_name_are_ignored(tmp_path: Path, proj: RunProj) -> None:
    root = write_tree(tmp_path / "p", {"requirements.txt": "tabulate\n", "requirements.lock": "tabulate==0.8.9\n"})
    declaration = EnvironmentDeclaration(kind=EnvironmentKind.REQUIREMENTS, path="requirements.txt")
    assert read_spec(declaration, FolderTree(root)).project_lock is None
    result = proj("lock", str(root))
    assert result.code == 1
    assert "was not written by 'proj lock'" in result.err
    assert (root / "requirements.lock").read_text() == "tabulate==0.8.9\n"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"a.txt": ""}, "no environment is declared"),
        ({"requirements.txt": ""}, "requires no packages"),
        ({"requirements.txt": "six==1.16.0 --hash=sha256:00"}, "is a lock itself"),
    ],
)
def test_nothing_to_lock_is_reported(tmp_path: Path, proj: RunProj, files: dict[str, str], reason: str) -> None:
    result = proj("lock", str(write_tree(tmp_path / "p", files)))
    assert (result.code, reason in result.err) == (2, True), result.err


@pytest.mark.env
def test_a_lock_is_of_its_day_for_every_platform_and_runs_use_it(project: Path, proj: RunProj) -> None:
    result = proj("lock", "--as-of", "2022-03-01", cwd=project)
    assert (result.code, result.out) == (1, ""), "tqdm 4.66.1 is younger than that"
    assert "--as-of" in result.err
    result = proj("lock", "--as-of", "2023-12-01", cwd=project)
    assert (result.code, result.out) == (0, "requirements.lock\n"), result.err
    text = (project / "requirements.lock").read_text()
    assert pins(text)["tqdm"] == "4.66.1"
    assert re.search(r"(?m)^colorama==\S+ ; .*sys_platform == 'win32'", text)
    assert "--hash=sha256:" in text
    assert "as of: 2023-12-01T00:00:00Z" in text
    assert "command: proj lock --as-of 2023-12-01" in text
    for word in ("://", "--index", str(project), str(Path.home())):
        assert word not in text
    assert proj("lock", "--check", cwd=project).code == 0
    run = proj("run", ".", "--json", cwd=project)
    assert run.code == 0, run.err
    environment = run.json["environment"]
    assert dict(environment["packages"])["tabulate"] == pins(text)["tabulate"] == "0.9.0"
    assert environment["as_of"] == "2023-12-01T00:00:00Z"
    assert environment["python"].startswith(re.findall(r"interpreter: (\S+)", text)[0])
    assert "Resolving" not in run.err


@pytest.mark.env
def test_a_stale_lock_is_never_used(project: Path, proj: RunProj) -> None:
    assert proj("lock", cwd=project).code == 0
    write_tree(project, {"requirements.txt": "tabulate<1\n# a remark\ntqdm==4.66.1\nsix\n"})
    check = proj("lock", "--check", cwd=project)
    assert check.code == 1
    assert "new in the file: tabulate<1" in check.out
    assert "no longer in the file: tabulate\n" in check.out
    run = proj("run", ".", cwd=project)
    assert run.code == 1
    assert "it does not match requirements.txt" in run.err
    assert "proj lock" in run.err
    assert "remove requirements.lock" in run.err
    assert proj("lock", cwd=project).code == 0
    assert proj("lock", "--check", cwd=project).code == 0
    assert "six" in pins((project / "requirements.lock").read_text())


@pytest.mark.env
def test_versions_are_kept_until_an_upgrade(project: Path, proj: RunProj) -> None:
    write_tree(project, {"requirements.txt": "tabulate\nsix\n"})
    assert proj("lock", "--as-of", "2021-01-01", cwd=project).code == 0
    first = pins((project / "requirements.lock").read_text())
    assert first["tabulate"] == "0.8.7"
    again = proj("lock", cwd=project)
    assert "up to date" in again.err
    write_tree(project, {"requirements.txt": "tabulate\nsix\nwheel\n"})
    assert proj("lock", cwd=project).code == 0
    second = pins((project / "requirements.lock").read_text())
    assert {name: second[name] for name in ("tabulate", "six")} == {name: first[name] for name in ("tabulate", "six")}
    assert proj("lock", "--upgrade", "tabulate", cwd=project).code == 0
    third = pins((project / "requirements.lock").read_text())
    assert third["tabulate"] != "0.8.7"
    assert third["six"] == first["six"]


def test_an_unknown_package_is_not_upgraded(tmp_path: Path, proj: RunProj) -> None:
    folder = write_tree(tmp_path / "p", {"requirements.txt": "Tabulate\nsix\n"})
    result = proj("lock", str(folder), "--upgrade", "tabulte")
    assert (result.code, result.out) == (2, ""), result.err
    assert "no package 'tabulte' to upgrade in the lock or requirements.txt" in result.err
    assert "did you mean 'tabulate'?" in result.err


@pytest.mark.env
@pytest.mark.parametrize("form", ["requirements", "pylock"])
def test_an_unchanged_lock_is_not_rewritten(project: Path, proj: RunProj, form: str) -> None:
    result = proj("lock", "--format", form, cwd=project)
    assert result.code == 0, result.err
    lock = project / result.out.strip()
    before = lock.read_bytes()
    assert "is the lock of requirements.txt; runs use exactly what it has" in result.err
    again = proj("lock", "--format", form, "--upgrade", "TQDM", cwd=project)
    assert "runs now use this lock" not in again.err
    assert (again.code, "no version changed" in again.err) == (0, True), again.err
    assert lock.read_bytes() == before


@pytest.mark.env
def test_a_lock_of_another_platform_is_refused(project: Path, proj: RunProj) -> None:
    assert proj("lock", "--platform", "win-64", cwd=project).code == 0
    assert "colorama" in pins((project / "requirements.lock").read_text())
    run = proj("run", ".", cwd=project)
    assert (run.code, "is for win-64" in run.err) == (1, True), run.err
    assert proj("lock", "--platform", "beos", cwd=project).code == 2


@pytest.mark.env
def test_a_standard_lock_is_the_lock_of_its_spec_too(make_repository: MakeRepository, proj: RunProj) -> None:
    files = {"MLproject": MANIFEST, "python_env.yaml": "dependencies: [tabulate<0.9]\n"}
    root = make_repository(files)
    result = proj("lock", "--format", "pylock", cwd=root)
    assert (result.code, result.out) == (0, "pylock.toml\n"), result.err
    assert proj("lock", "--check", cwd=root).code == 0
    run = proj("run", ".", "--json", cwd=root)
    assert dict(run.json["environment"]["packages"])["tabulate"] == "0.8.10", run.err
    write_tree(root, {"python_env.yaml": "dependencies: [tabulate]\n"})
    assert "does not match python_env.yaml" in proj("run", ".", cwd=root).err


@pytest.mark.env
@pytest.mark.parametrize("kind", ["uv.lock", "pylock.toml", "requirements.txt"])
def test_locks_by_other_tools_are_used(make_repository: MakeRepository, proj: RunProj, home: Home, kind: str) -> None:
    root = make_repository(
        {
            "MLproject": MANIFEST,
            "pyproject.toml": '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.9"\n'
            'dependencies = ["tabulate==0.9.0"]\n',
        }
    )
    uv = uv_command.find_uv(home, IndexOptions(), os.environ)
    assert uv.run("lock", "--project", root, "--exclude-newer", "2024-01-01").exit_code == 0
    form = "pylock.toml" if kind == "pylock.toml" else "requirements.txt"
    if kind != "uv.lock":
        exported = uv.run("export", "--frozen", "--no-emit-project", "--format", form, cwd=root)
        (root / kind).write_text(exported.text)
        (root / "uv.lock").unlink()
    run = proj("run", ".", "--json", cwd=root)
    assert run.code == 0, run.err
    assert dict(run.json["environment"]["packages"])["tabulate"] == "0.9.0"


SECRET = "hunter2" + "x" * 12
WHEEL = "proj_tests_private-1.0-py3-none-any.whl"


@pytest.fixture
def private_index(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve one package to whoever knows the password, and return the address with it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as wheel:
        meta = "proj_tests_private-1.0.dist-info"
        files = {
            "proj_tests_private.py": "X = 1\n",
            f"{meta}/METADATA": "Metadata-Version: 2.1\nName: proj-tests-private\nVersion: 1.0\n",
            f"{meta}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{meta}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{meta}/RECORD"]))
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    page = f'<a href="/files/{WHEEL}#sha256={digest}">{WHEEL}</a>'.encode()
    allowed = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()

    class Index(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_file = self.path == f"/files/{WHEEL}"
            known = is_file or self.path == "/simple/proj-tests-private/"
            self.send_response((200 if known else 404) if self.headers.get("Authorization") == allowed else 401)
            self.send_header("Content-Type", "application/octet-stream" if is_file else "text/html")
            self.end_headers()
            self.wfile.write(content.getvalue() if is_file else page)

        def do_HEAD(self) -> None:
            self.send_error(405)

        def log_message(self, *_: object) -> None:
            return

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://me:{SECRET}@127.0.0.1:{server.server_port}/simple"
        server.shutdown()


@pytest.mark.env
@pytest.mark.parametrize("form", ["requirements", "pylock"])
def test_a_private_index_works_and_is_not_in_the_lock(
    make_repository: MakeRepository, proj: RunProj, home: Home, private_index: str, form: str
) -> None:
    manifest = MANIFEST.replace("import tabulate; print(tabulate.__version__)", "import proj_tests_private")
    root = make_repository({"MLproject": manifest, "requirements.txt": "proj-tests-private\n"})
    variables = {"UV_INDEX": private_index, "UV_CACHE_DIR": str(home.root / "own-cache")}
    result = proj("lock", "--format", form, cwd=root, **variables)
    assert result.code == 0, result.err
    text = (root / result.out.strip()).read_text()
    assert SECRET not in text
    assert form == "pylock" or ("127.0.0.1" not in text and "://" not in text)
    run = proj("run", ".", "--json", cwd=root, **variables)
    assert run.code == 0, run.err
    kept = [path for path in home.root.rglob("*") if path.is_file() and "own-cache" not in path.parts]
    assert not [path for path in kept if SECRET.encode() in path.read_bytes()]
    assert SECRET not in f"{result.err}{run.err}{run.out}"


@pytest.mark.env
def test_as_of_now_resolves_again_and_a_day_only_once(project: Path, proj: RunProj) -> None:
    write_tree(project, {"requirements.txt": "tabulate\n"})
    git(project, "commit", "--all", "--quiet", "--message=x", "--date=2022-03-01T00:00:00Z")
    said = [proj("run", ".", "--as-of", "2022-05-01", "--json", cwd=project) for _ in range(2)]
    assert ["Resolving" in result.err for result in said] == [True, False]
    assert any("as of 2022-05-01" in notice for notice in said[0].json["notices"])
    assert ["Resolving" in proj("run", ".", "--as-of", "now", cwd=project).err for _ in range(2)] == [True, True]
