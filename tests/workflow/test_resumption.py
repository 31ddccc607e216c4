"""An interrupted run is continued: same code, environment and parameters, its outputs restored."""

import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from runner.settings import Home
from runner.store import runs
from runner.store.database import Database
from runner.store.entities import NewRun
from tests.conftest import MakeRepository, Result, RunProj, git, write_tree

pytestmark = pytest.mark.slow

MANIFEST = """
name: t
entry_points:
  main:
    parameters:
      n: {type: int, default: 1}
      key: {type: string, default: none, secret: true}
    inputs: [data/in.csv]
    command: python sub/work.py {n} {key}
"""
WORK = """
import os, sys, signal
done = open('out/done.txt').read() if os.path.exists('out/done.txt') else ''
os.makedirs('out', exist_ok=True)
open('data/in.csv').read()
open('out/done.txt', 'w').write(done + 'x')
open('tracked.txt', 'a').write('+')
if not os.path.lexists('out/link'):
    os.symlink(os.path.abspath('out/done.txt'), 'out/link')
    os.symlink('done.txt', 'out/near')
    os.mkfifo('out/pipe')
said = f"{len(done)} {sys.argv[1:]} {os.path.exists('out/link')} {os.environ.get('PROJ_RESUMED_FROM')}"
open('{said}', 'w').write(said)  # proj may be killed before it prints it
print(said, flush=True)
if len(done) < 2:
    {how}
"""
INTERRUPTIONS = {
    "failed": "sys.exit(7)",
    "lost": "pid = int(open(f'/proc/{os.getppid()}/stat').read().split()[3]); os.kill(pid, 9); signal.pause()",
}
LOCAL = ("--env-manager", "local")


@pytest.fixture
def project(make_repository: MakeRepository, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    how = INTERRUPTIONS[getattr(request, "param", "failed")]
    files = {
        "MLproject": MANIFEST,
        "sub/work.py": WORK.replace("{how}", how).replace("{said}", str(tmp_path / "said.txt")),
        "tracked.txt": "as committed",
        ".gitignore": "data/\n",
    }
    root = make_repository(files)
    (root / "data").mkdir()
    (root / "data" / "in.csv").write_text("1")
    return root


def last(home: Home) -> str:
    with closing(Database.open_to_read(home.database)) as database:
        return str(database.query("SELECT run_id FROM runs ORDER BY id DESC LIMIT 1")[0]["run_id"])


def resumed(proj: RunProj, run_id: str, *words: str) -> Result:
    return proj("run", "--resume", run_id, "--json", *words)


@pytest.mark.parametrize("project", ["failed", "lost"], indirect=True)
def test_outputs_code_and_parameters_are_those_of_the_interrupted_run(
    proj: RunProj, project: Path, home: Home, tmp_path: Path
) -> None:
    (project / "sub" / "work.py").write_text((project / "sub" / "work.py").read_text() + "# not committed\n")
    proj("run", *LOCAL, "-P", "n=3", str(project))
    first = last(home)
    (project / "sub" / "work.py").write_text("this is no Python")
    resumed(proj, first)
    second = last(home)
    assert (tmp_path / "said.txt").read_text() == f"1 ['3', 'none'] True {first}"
    third = resumed(proj, second)
    assert f"2 ['3', 'none'] True {second}" in third.err
    record = third.json
    assert record["status"] == "FINISHED"
    assert record["tags"]["proj.resumes"] == second
    assert record["code"]["dirty"] is True
    assert [(one["name"], one["value"]) for one in record["parameters"]] == [("n", "3"), ("key", "***")]
    outputs = {one["path"]: one["size"] for one in record["outputs"]}
    assert outputs == {"out/done.txt": 3, "tracked.txt": len("as committed+++")}
    assert (project / "tracked.txt").read_text() == "as committed", "the user's file is never written"


def test_outputs_come_from_the_artifacts_when_the_folder_is_gone(proj: RunProj, project: Path, home: Home) -> None:
    proj("run", *LOCAL, str(project))
    first = last(home)
    shutil.rmtree(home.folders / first)
    done = resumed(proj, first)
    assert f"1 ['1', 'none'] True {first}" in done.err


def test_an_output_that_is_gone_is_named(proj: RunProj, project: Path, home: Home) -> None:
    proj("run", *LOCAL, str(project))
    first = last(home)
    shutil.rmtree(home.folders / first)
    shutil.rmtree(home.artifacts(first))
    done = resumed(proj, first)
    assert "out/done.txt was not kept with the run" in done.err
    assert "0 ['1', 'none'] True" in done.err


def test_a_damaged_artifact_is_not_restored(proj: RunProj, project: Path, home: Home) -> None:
    proj("run", *LOCAL, str(project))
    first = last(home)
    shutil.rmtree(home.folders / first)
    kept = next(home.artifacts(first).rglob("done.txt"))
    kept.chmod(0o600)
    kept.write_text("y")  # of the same size
    done = resumed(proj, first)
    assert "'out/done.txt' changed since the run ended" in done.err
    assert "0 ['1', 'none'] True" in done.err


def test_artifacts_elsewhere_are_not_looked_for_here(
    proj: RunProj, project: Path, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proj("run", *LOCAL, str(project))
    first = last(home)
    shutil.rmtree(home.folders / first)
    with closing(Database.open(home.database)) as database:
        database.execute("UPDATE runs SET artifact_uri = 's3://bucket/run'")
    write_tree(tmp_path / "here", {"out/done.txt": "xx"})
    monkeypatch.chdir(tmp_path / "here")
    done = resumed(proj, first)
    assert "out/done.txt is at s3://bucket/run" in done.err
    assert "0 ['1', 'none'] True" in done.err


def test_links_lead_into_the_new_folder(proj: RunProj, project: Path, home: Home) -> None:
    proj("run", *LOCAL, str(project))
    done = resumed(proj, last(home))
    folder = Path(done.json["cwd"])
    assert (folder / "out" / "link").readlink() == folder / "out" / "done.txt"
    assert (folder / "out" / "near").readlink() == Path("done.txt")
    assert "out/pipe is neither a file nor a link" in done.err


def test_data_that_changed_since_is_named(proj: RunProj, project: Path, home: Home) -> None:
    proj("run", *LOCAL, str(project))
    (project / "data" / "in.csv").write_text("2")
    done = resumed(proj, last(home))
    assert "data/in.csv changed since the interrupted run read it" in done.err
    assert (project / "data" / "in.csv").read_text() == "2"
    assert (Path(done.json["cwd"]) / "data" / "in.csv").read_text() == "2", "the present data is used"


def test_the_kept_copy_is_read_only_where_the_run_did_not_write(proj: RunProj, project: Path, home: Home) -> None:
    proj("run", *LOCAL, str(project))
    folder = home.folders / last(home) / project.name
    assert not (folder / "sub" / "work.py").stat().st_mode & 0o222
    assert (folder / "tracked.txt").stat().st_mode & 0o200
    assert (folder / "out" / "done.txt").stat().st_mode & 0o200


def test_a_secret_is_given_again(proj: RunProj, project: Path, home: Home) -> None:
    proj("run", *LOCAL, "-P", "key=hush-hush-9", str(project))
    first = last(home)
    without = resumed(proj, first)
    assert (without.code, last(home)) == (2, first)
    assert "-P key=VALUE" in without.err
    done = resumed(proj, first, "-P", "key=hush-hush-9")
    assert f"1 ['1', '***'] True {first}" in done.err


@pytest.mark.parametrize(
    "words",
    [("-P", "n=2"), ("-e", "main"), ("--in-place",), ("--as-of", "now"), ("--experiment", "x"), ("-v", "main"), (".",)],
)
def test_what_the_run_decides_can_not_be_given(
    proj: RunProj, project: Path, home: Home, words: tuple[str, ...]
) -> None:
    proj("run", *LOCAL, str(project))
    first = last(home)
    words = tuple(str(project) if word == "." else word for word in words)
    refused = proj("run", "--resume", first, *words)
    assert (refused.code, last(home)) == (2, first), refused.err


def test_only_interrupted_runs_are_resumed(proj: RunProj, project: Path, home: Home) -> None:
    (project / "sub" / "work.py").write_text("print('done')")
    proj("run", *LOCAL, str(project))
    assert "has finished" in proj("run", "--resume", "latest").err
    (project / "sub" / "work.py").write_text("raise SystemExit(3)")
    proj("run", *LOCAL, "--in-place", str(project))
    assert "--in-place" in proj("run", "--resume", "latest").err
    assert proj("run", "--resume", "nosuch").code == 1
    with closing(Database.open(home.database)) as database:
        logged = runs.create(database, NewRun(experiment_id="0")).run_id
    assert proj("run", "--resume", logged).code == 2


def test_a_run_from_git_is_resumed_without_its_repository(
    proj: RunProj, make_repository: MakeRepository, home: Home
) -> None:
    root = make_repository(
        {
            "MLproject": "name: t\nentry_points: {main: {command: python work.py}}\n",
            "work.py": "import os, sys\nn = os.path.exists('o')\nopen('o', 'w').write('x')\nsys.exit(0 if n else 3)",
        }
    )
    bare = root.with_name("bare.git")
    git(root, "clone", "--quiet", "--bare", str(root), str(bare))
    assert proj("run", *LOCAL, str(bare)).code == 3
    shutil.rmtree(bare)
    shutil.rmtree(root)
    done = resumed(proj, last(home))
    assert done.code == 0, done.err
    assert json.loads(done.out)["status"] == "FINISHED"
