"""The key of a run: what changes it, the run that `--reuse` returns, and the link to a later commit."""

import hashlib
import json
from pathlib import Path

import pytest

from runner.base.tags import KEY_TAG, LATER_COMMIT_TAG
from runner.settings import Home
from tests.conftest import MakeRepository, Result, RunProj, git, write_tree

LOCAL = ("--env-manager", "local")
MANIFEST = """\
name: keyed
entry_points:
  main:
    parameters:
      alpha: {type: float, default: 0.5}
      password: {type: string, default: none, secret: true}
    inputs: [data.csv]
    command: python train.py {alpha}
  same:
    command: python train.py 0.5
"""
SCRIPT = "import os, pathlib, sys\nopen(os.environ['PROJ_METRICS'], 'a').write(f'a={sys.argv[1]}\\n')\n"
FILES = {
    "MLproject": MANIFEST,
    "train.py": SCRIPT + "pathlib.Path('cache/seen.txt').read_text()\n",
    ".gitignore": "*.csv\ncache\n",
    "data.csv": "1,2\n",
    "cache/seen.txt": "seen",
    "cache/other.txt": "other",
}
VARIABLES = {"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "0"}


@pytest.fixture
def root(make_repository: MakeRepository) -> Path:
    return make_repository(FILES)


def started(proj: RunProj, root: Path, *words: str, **variables: str) -> Result:
    done = proj("run", ".", "--json", *LOCAL, *words, cwd=root, **{**VARIABLES, **variables})
    assert done.code == 0, done.err
    return done


def test_the_same_run_is_named_and_returned(proj: RunProj, root: Path, home: Home) -> None:
    first = started(proj, root).json
    key = first["tags"][KEY_TAG]
    document = (home.run(first["run_id"]) / "key.json").read_bytes()
    assert key == f"1:{hashlib.sha256(document).hexdigest()}"
    content = json.loads(document)
    assert document.decode() == json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert content["code"]["id"] == first["code"]["tree"]
    assert content["inputs"] == {"data.csv": hashlib.sha256(b"1,2\n").hexdigest()}
    assert {name: content["variables"][name] for name in VARIABLES} == VARIABLES
    again = started(proj, root)
    assert again.json["run_id"] != first["run_id"]
    assert again.err.count(f"The same as run {first['run_id'][:8]}") == 1
    reused = started(proj, root, "--reuse")
    assert reused.json["run_id"] == again.json["run_id"]
    assert "nothing is started" in reused.err
    assert len(proj("list", "--json", cwd=root).json) == 2
    assert "--json" not in proj("run", ".", "--reuse", *LOCAL, cwd=root, **VARIABLES).out


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        "code",
        "parameter",
        "entry point",
        "input",
        "opened file",
        "variable",
        "threads",
        "environment",
        "repair",
        "large file",
    ],
)
def test_a_run_with_any_other_part_is_not_the_same(proj: RunProj, root: Path, change: str) -> None:
    first = started(proj, root).json
    words: tuple[str, ...] = ()
    variables: dict[str, str] = {}
    if change == "code":
        write_tree(root, {"train.py": f"{FILES['train.py']}# changed\n"})
    elif change == "parameter":
        words = ("-P", "alpha=0.50")
    elif change == "repair":
        words = ("--no-repair",)
    elif change == "entry point":
        words = ("-e", "same")
    elif change == "input":
        write_tree(root, {"data.csv": "1,3\n"})
    elif change == "opened file":
        write_tree(root, {"cache/seen.txt": "sEen"})
    elif change == "variable":
        variables = {"PYTHONHASHSEED": "1"}
    elif change == "threads":
        variables = {"OMP_NUM_THREADS": "3"}
    elif change == "environment":
        fake = write_tree(root.parent / "fake", {"python": "#!/bin/sh\nexec /usr/bin/false\n"})
        variables = {"PATH": f"{fake}:/usr/bin:/bin"}
    else:
        with (root / "large.bin").open("wb") as file:
            file.truncate(600 << 20)
    done = proj("run", ".", "--json", "--reuse", *LOCAL, *words, cwd=root, **{**VARIABLES, **variables})
    assert done.json["run_id"] != first["run_id"], done.err
    assert "The same as" not in done.err


@pytest.mark.slow
def test_what_the_command_did_not_open_does_not_matter(proj: RunProj, root: Path) -> None:
    first = started(proj, root).json
    write_tree(root, {"cache/other.txt": "changed"})
    assert started(proj, root, "--reuse").json["run_id"] == first["run_id"]


@pytest.mark.slow
def test_failed_and_removed_runs_and_those_with_secrets_are_not_reused(proj: RunProj, root: Path) -> None:
    secret = started(proj, root, "-P", "password=hunter2hunter2").json
    assert KEY_TAG not in secret["tags"]
    assert started(proj, root, "-P", "password=hunter2hunter2", "--reuse").json["run_id"] != secret["run_id"]
    first = started(proj, root).json
    assert proj("rm", first["run_id"], "--yes", cwd=root).code == 0
    assert started(proj, root, "--reuse").json["run_id"] != first["run_id"]
    write_tree(root, {"train.py": "raise SystemExit(3)\n"})
    failed = [proj("run", ".", "--json", "--reuse", *LOCAL, cwd=root) for _ in range(2)]
    assert [one.code for one in failed] == [3, 3]
    assert failed[0].json["run_id"] != failed[1].json["run_id"]


@pytest.mark.slow
def test_reuse_of_a_plan_or_a_detached_run_is_refused(proj: RunProj, root: Path) -> None:
    done = proj("run", ".", "--reuse", "--dry-run", *LOCAL, cwd=root)
    assert (done.code, "--reuse" in done.err) == (2, True)


@pytest.mark.slow
def test_a_dirty_run_is_linked_to_the_later_commit_by_a_command_that_writes(proj: RunProj, root: Path) -> None:
    write_tree(root, {"train.py": f"{FILES['train.py']}# changed\n"})
    first = started(proj, root).json
    write_tree(root, {"train.py": f"{FILES['train.py']}# never committed\n"})
    other = started(proj, root).json
    write_tree(root, {"train.py": f"{FILES['train.py']}# changed\n"})
    git(root, "commit", "--quiet", "--all", "--message=second")
    commit = git(root, "rev-parse", "HEAD")
    write_tree(root, {"later.txt": "1"})
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=third")

    def tag() -> str | None:
        records = {one["run_id"]: one for one in proj("list", "--json", "--all", cwd=root).json}
        return records[first["run_id"]]["tags"].get(LATER_COMMIT_TAG)

    assert commit in proj("show", first["run_id"], cwd=root).out
    assert tag() is None, "a command that reads wrote"
    assert proj("link", other["run_id"], cwd=root).code == 1
    assert proj("link", "--json", cwd=root).json == {first["run_id"]: commit}
    assert tag() == commit
    assert "no run" in proj("link", cwd=root).err
