"""`proj compare`: files, commands, more than four runs, and narrow terminals."""

import itertools
import json
from pathlib import Path

import pytest

from runner.cli.main import run_command
from runner.model import Code, ParameterRecord, RunDetails
from runner.store import runs, values
from runner.store.database import Database
from runner.store.entities import Metric, NewRun
from tests.cli.terminals import uncoloured
from tests.conftest import MakeRepository, RunProj, git, write_tree

Capture = pytest.CaptureFixture[str]
LOCAL = ("--env-manager", "local")
MANIFEST = """\
entry_points:
  main:
    parameters: {data: {type: path, default: a.csv}, n: {default: 1}}
    command: cat {data} > {n}
"""


def make(db: Database, number: int) -> str:
    code = Code(tree=f"{number}" * 40, swhid="swh", commit="c" * 40)
    parameters = (ParameterRecord(name="alpha", value=f"0.{number}"), ParameterRecord(name="text", value="word " * 40))
    details = RunDetails(code=code, parameters=parameters, command=f"python {'x' * number}")
    run = runs.create(db, NewRun(name=f"run-{number}", details=details, started_at=number))
    points = [Metric(key=f"metric_{name}", value=number / 3 * 10**-name, timestamp=1) for name in range(6)]
    values.log_metrics(db, run.run_id, points)
    return run.run_id


@pytest.fixture
def code(proj: RunProj, make_repository: MakeRepository) -> tuple[Path, list[str]]:
    """Return a project, and three runs of it: the second with other code, the third with the code of the first."""
    root = make_repository({"MLproject": MANIFEST, "train.py": "a\nb\nc\n", "a.csv": "1\n", "b.csv": "2\n"})
    made = [proj("run", ".", "--json", *LOCAL, cwd=root).json["run_id"]]
    write_tree(root, {"train.py": "a\nB\nc\nd\ne\n", "new.bin": b"\0\1", "ü x.txt": "new\n"})
    made.append(proj("run", ".", "--json", *LOCAL, "-P", "data=b.csv", cwd=root).json["run_id"])
    git(root, "checkout", "--quiet", "train.py")
    (root / "new.bin").unlink()
    (root / "ü x.txt").unlink()
    made.append(proj("run", ".", "--json", *LOCAL, cwd=root).json["run_id"])
    return root, made


def test_changed_files_are_counted(code: tuple[Path, list[str]], proj: RunProj) -> None:
    root, made = code
    text = proj("compare", *made[:2], cwd=root).out
    assert [line.split() for line in text.splitlines() if "train.py" in line] == [
        ["train.py", "-", "+3", "\N{MINUS SIGN}1"]
    ]
    assert [line.split() for line in text.splitlines() if "new.bin" in line] == [["files", "new.bin", "-", "binary"]]
    assert "ü x.txt" in text
    assert "train.py" not in proj("compare", made[0], made[2], cwd=root).out
    found = proj("compare", *made, "--json", cwd=root).json["changed_files"]
    assert set(found) == {made[1]}
    assert {"path": "train.py", "added": 3, "removed": 1} in found[made[1]]
    assert {"path": "new.bin", "added": None, "removed": None} in found[made[1]]


def test_the_code_of_two_runs_as_a_patch(code: tuple[Path, list[str]], proj: RunProj, tmp_path: Path) -> None:
    root, made = code
    patch = proj("compare", *made[:2], "--code", cwd=root)
    target = write_tree(tmp_path / "target", {"train.py": "a\nb\nc\n"})
    (tmp_path / "patch").write_text(patch.out, encoding="utf-8")
    git(target, "apply", str(tmp_path / "patch"))
    assert (target / "train.py").read_text() == "a\nB\nc\nd\ne\n"
    assert (target / "new.bin").read_bytes() == b"\0\1"
    same = proj("compare", made[0], made[2], "--code", cwd=root)
    assert (same.code, same.out, same.err) == (0, "", "both runs have the same code\n")
    assert proj("compare", *made, "--code", cwd=root).code == 2


def test_code_that_is_not_stored(db: Database, capsys: Capture) -> None:
    made = [make(db, number) for number in (1, 2)]
    assert run_command(["compare", *made, "--code"]) == 1
    assert "is not stored" in capsys.readouterr().err
    assert run_command(["compare", *made]) == 0


def test_commands_are_compared_before_paths_are_put_in(code: tuple[Path, list[str]], proj: RunProj) -> None:
    root, made = code
    found = proj("compare", *made[:2], "--json", cwd=root).json["differences"]
    assert found["parameters"] == {"data": ["a.csv", "b.csv"]}
    assert "command" not in found["run"] if "run" in found else True
    shown = proj("show", made[0], "--json", cwd=root).json
    assert shown["template"] == "cat {data} > {n}"
    assert shown["command"].endswith("a.csv > 1")


def test_commands_of_older_records_are_compared_as_they_are(db: Database, capsys: Capture) -> None:
    run_command(["compare", make(db, 1), make(db, 2), "--json"])
    assert json.loads(capsys.readouterr().out)["differences"]["run"]["command"] == ["python x", "python xx"]


@pytest.mark.parametrize("width", [60, 100, 200])
def test_more_than_four_runs_are_rows(db: Database, tmp_path: Path, width: int) -> None:
    made = [make(db, number) for number in range(1, 7)]
    lines = uncoloured(width, tmp_path, "compare", *made).splitlines()
    titles = lines[1].split()
    rows = [line.split() for line in lines[3:] if line]
    assert [row[0] for row in rows] == [run_id[:8] for run_id in made]
    assert max(map(len, lines)) <= width
    assert "text" not in titles
    column = titles.index("metric_0")
    assert [row[column] for row in rows] == [f"{number / 3:.6g}" for number in range(1, 7)]
    assert ("tree" in titles) is (width > 100)


def test_what_does_not_fit_is_named(db: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = [make(db, number) for number in range(1, 7)]
    uncoloured(60, tmp_path, "compare", *made)
    said = capfd.readouterr().err
    assert "not shown: " in said
    assert "tree" in said


@pytest.mark.parametrize(("width", "count"), list(itertools.product((40, 60, 80, 120, 200), (2, 3, 4, 6))))
def test_no_number_is_broken(db: Database, tmp_path: Path, width: int, count: int) -> None:
    made = [make(db, number) for number in range(1, count + 1)]
    shown = uncoloured(width, tmp_path, "compare", *made)
    form = "{:.10g}" if count < 5 else "{:.6g}"
    names = [name for name in range(6) if f"metric_{name}" in shown]
    assert names
    for name, number in itertools.product(names, range(1, count + 1)):
        assert form.format(number / 3 * 10**-name) in shown.split()
    assert max(map(len, shown.splitlines())) <= max(width, 60)  # ids of trees have 40 letters


def test_the_same_run_does_not_differ_from_itself(code: tuple[Path, list[str]], proj: RunProj) -> None:
    root, made = code
    same = proj("compare", made[1], made[1], cwd=root)
    assert (same.code, same.err) == (0, "no differences\n")


@pytest.mark.slow
def test_outputs_variables_and_sources_are_compared(proj: RunProj, make_repository: MakeRepository) -> None:
    manifest = "name: t\nentry_points:\n  main:\n    parameters:\n      a: {default: x}\n      b: {default: y}\n"
    script = "import pathlib, sys\npathlib.Path('o.txt').write_text(sys.argv[1])\n"
    root = make_repository({"MLproject": f"{manifest}    command: python t.py {{a}} {{b}}\n", "t.py": script})
    words = ("run", ".", "--json", "--env-manager", "local")
    first = proj(*words, cwd=root, OMP_NUM_THREADS="1").json["run_id"]
    (root / "t.py").write_text(f"{script}# not committed\n")
    second = proj(*words, "-P", "a=z", "-P", "b=y", cwd=root, OMP_NUM_THREADS="2").json["run_id"]
    found = proj("compare", first, second, "--json", cwd=root).json["differences"]
    assert found["variables"] == {"OMP_NUM_THREADS": ["1", "2"]}
    assert found["parameter sources"] == {name: ["default", "command line"] for name in ("a", "b")}
    assert len(set(found["outputs"]["o.txt"])) == 2
    assert "machine" not in found
    shown = proj("compare", first, second, cwd=root).out
    assert "2 differ; --all shows them" in shown
    assert "2 command line" in shown
    assert "o.txt" in shown
    everything = proj("compare", first, second, "--all", cwd=root).out
    assert "--all shows" not in everything
    assert "processors" in everything
    patch = proj("compare", first, second, "--code", cwd=root)
    assert "+# not committed" in patch.out
    back = proj("compare", second, first, "--code", cwd=root).out
    assert "-# not committed" in back
