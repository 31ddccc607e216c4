"""`proj explain` and `proj reproduce --explain`: planted differences, alone and in pairs, get their names."""

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from runner.base.tags import EXPLAINS_TAG
from tests.conftest import MakeRepository, RunProj, git, write_tree

LOCAL = ("--env-manager", "local")
LOG = "import os, pathlib, sys\nlog = lambda text: open(os.environ['PROJ_METRICS'], 'a').write(text + '\\n')\n"
MANIFEST = """\
name: t
entry_points:
  main:
    parameters:
      alpha: {type: float, default: 0.5}
      beta: {type: float, default: 1}
      seed: {type: int, default: 7}
    inputs: [data.csv, tracked.csv]
    command: python train.py {alpha} {beta} {seed}
"""
SCRIPT = f"""{LOG}
import random
from helper import FACTOR
alpha, beta, seed = map(float, sys.argv[1:])
random.seed(int(seed))
values = [float(line) for name in ("data.csv", "tracked.csv") for line in pathlib.Path(name).read_text().split()]
parts = [alpha, FACTOR, sum(values), random.random(), int(os.environ.get("OMP_NUM_THREADS", "1")),
         len(os.environ.get("LC_TIME", ""))]
log(f"score={{sum(one * 17 ** number for number, one in enumerate(parts))!r}}")
log("constant=1")
pathlib.Path("report.txt").write_text(repr(parts[:4]))
"""
FILES = {
    "MLproject": MANIFEST,
    "train.py": SCRIPT,
    "helper.py": "FACTOR = 1.0\n",
    "notes.md": "first\n",
    "unused.py": "X = 1\n",
    ".gitignore": "data.csv\n",
    "data.csv": "1\n2\n",
    "tracked.csv": "3\n",
}
VARIABLES = {"OMP_NUM_THREADS": "1", "LC_TIME": "C", "PYTHONHASHSEED": "0"}


class Planted(dict[str, Any]):
    """A planted difference: files, options and variables of the second run, and its kind and name."""


PLANTED = {
    "code": Planted(files={"helper.py": "FACTOR = 2.0\n"}, cause=("code", "helper.py")),
    "data": Planted(files={"tracked.csv": "4\n"}, cause=("input", "tracked.csv")),
    "ignored data": Planted(files={"data.csv": "1\n3\n"}, cause=("input", "data.csv")),
    "parameter": Planted(words=("-P", "alpha=0.6"), cause=("parameter", "alpha")),
    "seed": Planted(words=("-P", "seed=8"), cause=("parameter", "seed")),
    "threads": Planted(variables={"OMP_NUM_THREADS": "2"}, cause=("threads", "OMP_NUM_THREADS")),
    "variable": Planted(variables={"LC_TIME": "C.UTF-8"}, cause=("variable", "LC_TIME")),
}
IRRELEVANT = {"notes.md": "second\n", "unused.py": "X = 2\n"}


def ran(proj: RunProj, root: Path, *words: str, **variables: str) -> str:
    done = proj("run", ".", "--json", *LOCAL, *words, cwd=root, **{**VARIABLES, **variables})
    assert done.out, done.err
    return str(done.json["run_id"])


def explained(proj: RunProj, *words: str, **variables: str) -> tuple[int, Any]:
    done = proj("explain", *words, "--json", **variables)
    assert done.out, done.err
    return done.code, done.json


def names(found: Any, *, proven: bool = True) -> set[tuple[str, str]]:
    return {(one["kind"], one["name"]) for one in found["causes"] if one["proven"] == proven}


def plant(proj: RunProj, root: Path, planted: tuple[Planted, ...]) -> tuple[str, str]:
    first = ran(proj, root, "-P", "beta=1")
    write_tree(root, IRRELEVANT)
    for one in planted:
        write_tree(root, one.get("files", {}))
    words = [word for one in planted for word in one.get("words", ())]
    variables = {name: value for one in planted for name, value in one.get("variables", {}).items()}
    return first, ran(proj, root, "-P", "beta=2", *words, **variables)


@pytest.mark.slow
@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_difference_is_named_and_no_other(
    proj: RunProj, make_repository: MakeRepository, tmp_path: Path, case: str
) -> None:
    root = make_repository(FILES)
    first, second = plant(proj, root, (PLANTED[case],))
    moved = write_tree(tmp_path, {"before.csv": FILES["data.csv"]}) / "before.csv"
    code, found = explained(proj, first, second, *(("--input", f"data.csv={moved}") if case == "ignored data" else ()))
    assert (names(found), names(found, proven=False), code) == ({PLANTED[case]["cause"]}, set(), 0), found
    assert {"metric score"} <= set(found["results"]) <= {"metric score", "output report.txt"}
    (cause,) = found["causes"]
    assert set(cause["evidence"]) <= set(found["runs"])
    listed = proj("list", "--json", "--all").json
    made = [one for one in listed if one["run_id"] in found["runs"]]
    assert len(made) == len(found["runs"])
    assert all(one["tags"][EXPLAINS_TAG] == f"{first} {second}" for one in made)
    shown = proj("list", "--all", "--columns", "run").out
    assert first[:8] in shown
    assert not [one for one in found["runs"] if one[:8] in shown]


@pytest.mark.slow
@pytest.mark.parametrize("cases", [one for one in combinations(PLANTED, 2) if "ignored data" not in one], ids="+".join)
def test_two_planted_differences_are_both_named(
    proj: RunProj, make_repository: MakeRepository, cases: tuple[str, str]
) -> None:
    root = make_repository(FILES)
    code, found = explained(proj, *plant(proj, root, tuple(PLANTED[case] for case in cases)))
    assert (names(found), code) == ({PLANTED[case]["cause"] for case in cases}, 0), found


@pytest.mark.slow
def test_an_input_whose_first_content_is_gone_is_only_suspected(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository(FILES)
    code, found = explained(proj, *plant(proj, root, (PLANTED["ignored data"],)))
    assert (code, names(found)) == (1, set()), found
    assert ("input", "data.csv") in names(found, proven=False)
    assert found["undecided"]


@pytest.mark.slow
def test_without_different_results_there_is_nothing_to_explain(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository(FILES)
    code, found = explained(proj, *plant(proj, root, ()))
    assert (code, found["results"], found["causes"], found["runs"]) == (0, [], [], [])
    assert {one["name"] for one in found["differences"]} == {"beta", *IRRELEVANT}


NOISE = f"{LOG}log(f'a={{int.from_bytes(os.urandom(6), \"big\")}}')\n"


@pytest.mark.slow
def test_noise_is_named_and_irrelevant_differences_are_not(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({**FILES, "train.py": NOISE})
    code, found = explained(proj, *plant(proj, root, ()))
    assert (names(found), names(found, proven=False), code) == ({("noise", "metric a")}, set(), 0), found
    assert len(found["causes"][0]["evidence"]) == 2


@pytest.mark.slow
def test_a_cause_beside_noise_is_found(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({**FILES, "train.py": SCRIPT + NOISE})
    code, found = explained(proj, *plant(proj, root, (PLANTED["code"],)))
    assert (names(found), code) == ({("noise", "metric a"), ("code", "helper.py")}, 0), found


@pytest.mark.slow
def test_a_flaky_failure_is_noise_or_not_decided(
    proj: RunProj, make_repository: MakeRepository, tmp_path: Path
) -> None:
    count = tmp_path / "count"
    script = (
        f"{LOG}path = pathlib.Path({str(count)!r})\ncount = len(path.read_text()) if path.exists() else 0\n"
        "path.write_text('x' * (count + 1))\nlog('a=1')\nassert count % 3 != 1, 'flaky'\n"
    )
    root = make_repository({**FILES, "train.py": script})
    first, second = plant(proj, root, ())
    _, found = explained(proj, first, second)
    assert {kind for kind, _ in names(found)} <= {"noise"}, found
    assert {"status", "exit code"} <= {name for _, name in names(found) | names(found, proven=False)}


@pytest.mark.slow
@pytest.mark.parametrize("planted", ["extra", "missing", "failure"])
def test_the_cause_of_an_extra_or_missing_output_or_a_failure_is_found(
    proj: RunProj, make_repository: MakeRepository, planted: str
) -> None:
    write = "pathlib.Path('more.txt').write_text('1')\n"
    before, after = {
        "extra": (SCRIPT, SCRIPT + write),
        "missing": (SCRIPT + write, SCRIPT),
        "failure": (SCRIPT, f"{SCRIPT}raise ValueError('bad')\n"),
    }[planted]
    root = make_repository({**FILES, "train.py": before})
    found = explained(proj, *plant(proj, root, (Planted(files={"train.py": after}),)))[1]
    assert (names(found), names(found, proven=False)) == ({("code", "train.py")}, set()), found
    expected = {"status", "exit code", "failure"} if planted == "failure" else {"output more.txt"}
    assert set(found["results"]) == expected


@pytest.mark.slow
def test_differences_that_only_work_together_are_named_together_or_not_decided(
    proj: RunProj, make_repository: MakeRepository
) -> None:
    root = make_repository(FILES)
    planted = Planted(
        files={"helper.py": "FACTOR, OTHER = 1.0, 2.0\n", "train.py": f"{SCRIPT}from helper import OTHER\n"}
    )
    planted["files"]["train.py"] += "log(f'more={OTHER}')\n"
    found = explained(proj, *plant(proj, root, (planted,)))[1]
    assert ("code", "train.py") in names(found), found
    assert names(found) | names(found, proven=False) == {("code", "train.py"), ("code", "helper.py")}
    assert ("code", "helper.py") in names(found, proven=False)


@pytest.mark.slow
def test_a_budget_that_ends_leaves_suspects_only(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository(FILES)
    first, second = plant(proj, root, (PLANTED["code"],))
    code, found = explained(proj, first, second, "--budget", "0.001s")
    assert (code, names(found), found["runs"]) == (1, set(), [])
    assert ("code", "helper.py") in names(found, proven=False)
    assert "budget" in found["undecided"]
    assert proj("explain", first, second, "--budget", "soon").code == 2


@pytest.mark.slow
def test_reproduce_explains_what_differs(proj: RunProj, make_repository: MakeRepository, tmp_path: Path) -> None:
    root = make_repository({**FILES, "train.py": SCRIPT + NOISE})
    first = ran(proj, root)
    done = proj("reproduce", first, "--explain", "--json")
    assert (done.code, done.json["verdict"]) == (1, "different"), done.err
    assert names(done.json) == {("noise", "metric a")}
    write_tree(root, {"train.py": SCRIPT})
    second = ran(proj, root)
    assert proj("reproduce", second, "--explain", "--json").json["causes"] == []
    assert "causes" not in proj("reproduce", second, "--json").json
    write_tree(root, {"data.csv": "5\n"})
    done = proj("reproduce", second, "--explain", "--allow-changed-inputs", "--json")
    assert (names(done.json), done.json["verdict"]) == (set(), "different"), done.err
    assert ("input", "data.csv") in names(done.json, proven=False)
    before = write_tree(tmp_path, {"before.csv": FILES["data.csv"]}) / "before.csv"
    found = explained(proj, second, done.json["run_id"], "--input", f"data.csv={before}")[1]
    assert (names(found), names(found, proven=False)) == ({("input", "data.csv")}, set()), found


@pytest.mark.slow
def test_the_lines_and_the_commit_that_matter_are_named(proj: RunProj, make_repository: MakeRepository) -> None:
    lines = ["A = 1", "B = 2", "FACTOR = 1.0", "C = 3", "D = 4", "E = 5"]
    root = make_repository({**FILES, "helper.py": "\n".join(lines)})
    first = ran(proj, root)
    commits = []
    for number, text in enumerate(("A = 7", "E = 8", "FACTOR = 2.0", "C = 9", "D = 6"), 1):
        place = next(at for at, line in enumerate(lines) if line.split()[0] == text.split()[0])
        lines[place] = text
        write_tree(root, {"helper.py": "\n".join(lines), "notes.md": str(number)})
        git(root, "commit", "--quiet", "--all", f"--message=change {number}")
        commits.append(git(root, "rev-parse", "HEAD"))
    second = ran(proj, root)
    before = git(root, "status", "--porcelain")
    code, found = explained(proj, first, second)
    (cause,) = found["causes"]
    assert (code, cause["kind"], cause["name"], cause["proven"]) == (0, "code", "helper.py", True), found
    assert f"since commit {commits[2][:12]} (change 3)" in cause["detail"]
    assert "those that matter are: line 3;" in cause["detail"]
    assert git(root, "status", "--porcelain") == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("-e", "twice"), ("--", "python", "train.py", "0.6", "2", "7")], ids=["entry", "own"]
)
def test_another_entry_point_or_command_is_named(
    proj: RunProj, make_repository: MakeRepository, words: tuple[str, ...]
) -> None:
    root = make_repository(
        {**FILES, "MLproject": f"{MANIFEST}  twice:\n    command: python train.py 0.7 1 7\n    inputs: [data.csv]\n"}
    )
    first = ran(proj, root)
    write_tree(root, IRRELEVANT)
    code, found = explained(proj, first, ran(proj, root, *words))
    assert (names(found), code) == ({("parameter", "entry point")}, 0), found
