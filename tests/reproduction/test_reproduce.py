"""`proj reproduce` as a user calls it: each verdict, with projects that get it and projects that must not."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

import runner
from runner.reproduction.verdict import Verdict
from tests.conftest import MakeRepository, Result, RunProj, commit_all, write_tree

LOCAL = ("--env-manager", "local")
LOG = "import os, pathlib\nlog = lambda text: open(os.environ['PROJ_METRICS'], 'a').write(text + '\\n')\n"


def manifest(more: str = "", top: str = "") -> str:
    return f"name: t\n{top}entry_points:\n  main:\n    command: python t.py\n{more}"


def ran(proj: RunProj, root: Path, *words: str, **variables: str) -> str:
    result = proj("run", ".", "--json", *LOCAL, *words, cwd=root, **variables)
    assert result.out, result.err
    return str(result.json["run_id"])


def reproduced(proj: RunProj, run_id: str, *words: str, **variables: str) -> tuple[Result, Any]:
    result = proj("reproduce", run_id, "--json", *words, **variables)
    assert result.out, result.err
    return result, result.json


SAME = "log('rmse=0.5'); log('loss=1 step=1'); log('loss=0.5 step=2'); log('bad=nan')\n"
ELSE = "import time\nnow = time.time_ns()\n"
PROJECTS = {
    "a metric": (SAME, "identical"),
    "an output": ("pathlib.Path('o.txt').write_text('1')\n", "identical"),
    "an output in a folder": ("os.makedirs('a/b'); pathlib.Path('a/b/o.txt').write_text('1')\n", "identical"),
    "a failure with a metric": ("log('a=1'); raise SystemExit(3)\n", "identical"),
    "another value": (f"{ELSE}log(f'a={{now}}')\n", "different"),
    "another value beside an equal one": (f"{ELSE}{SAME}log(f'a={{now}}')\n", "different"),
    "another point of a history": (f"{ELSE}log(f'a={{now}} step=1'); log('a=1 step=2')\n", "different"),
    "another output": (f"{ELSE}{SAME}pathlib.Path('o.txt').write_text(str(now))\n", "different"),
    "NaN at another place": (f"{ELSE}log('a=nan' if now % 2 else 'a=1'); log(f'b={{now}}')\n", "different"),
    "nothing": ("print(1)\n", "nothing to compare"),
    "a failure without results": ("raise SystemExit(3)\n", "nothing to compare"),
    "an output of another name": (f"{ELSE}{SAME}pathlib.Path(f'{{now}}.txt').write_text('1')\n", "incomplete"),
    "a metric of another name": (f"{ELSE}{SAME}log(f'm{{now}}=1')\n", "incomplete"),
    "a step more": (f"{ELSE}log(f'a=1 step={{now}}')\n", "incomplete"),
}


@pytest.mark.parametrize("case", PROJECTS)
def test_a_project_gets_its_verdict(proj: RunProj, make_repository: MakeRepository, case: str) -> None:
    script, expected = PROJECTS[case]
    run_id = ran(proj, make_repository({"MLproject": manifest(), "t.py": LOG + script}))
    result, found = reproduced(proj, run_id)
    assert found["verdict"] == expected, found
    assert result.code == (0 if expected == "identical" else 1)
    assert found["original"] == run_id != found["run_id"]


@pytest.mark.slow
def test_a_run_that_goes_to_the_trash_meanwhile_keeps_the_verdict_of_its_reproduction(
    proj: RunProj, make_repository: MakeRepository
) -> None:
    remove = "import subprocess, sys\nrun = os.environ.get('REMOVE')\n"
    remove += "run and subprocess.run([sys.executable, '-m', 'runner.cli.main', 'rm', run, '-y'], check=True)\n"
    run_id = ran(proj, make_repository({"MLproject": manifest(), "t.py": LOG + remove + "log('a=1')\n"}))
    result, found = reproduced(proj, run_id, REMOVE=run_id)
    assert (result.code, found["verdict"]) == (0, "identical"), result.err
    assert f"The verdict is not recorded with the run {run_id[:8]}" in result.err
    assert proj("show", found["run_id"], "--json").json["tags"]["proj.verdict"] == "identical"
    assert proj("restore", run_id).code == 0


def test_nan_equals_nan_and_says_so(proj: RunProj, make_repository: MakeRepository) -> None:
    run_id = ran(proj, make_repository({"MLproject": manifest(), "t.py": LOG + "log('bad=nan')"}))
    _, found = reproduced(proj, run_id)
    (metric,) = found["metrics"]
    assert (metric["verdict"], metric["rule"], metric["original"]) == ("identical", "NaN equals NaN", "NaN")


def test_a_run_that_no_longer_comes_to_its_end_failed(
    proj: RunProj, make_repository: MakeRepository, tmp_path: Path
) -> None:
    script = (
        f"{LOG}log('a=1')\nmark = pathlib.Path({str(tmp_path / 'mark')!r})\nassert not mark.exists()\nmark.touch()\n"
    )
    run_id = ran(proj, make_repository({"MLproject": manifest(), "t.py": script}))
    result, found = reproduced(proj, run_id)
    assert (found["verdict"], result.code) == ("failed", 1)
    assert (found["status"]["original"], found["status"]["reproduced"]) == ("FINISHED", "FAILED")
    assert "exit code 1" in found["reason"]


def test_a_failure_that_became_a_success_is_different(
    proj: RunProj, make_repository: MakeRepository, tmp_path: Path
) -> None:
    script = (
        f"{LOG}log('a=1')\nmark = pathlib.Path({str(tmp_path / 'mark')!r})\nok = mark.exists()\nmark.touch()\nassert ok"
    )
    run_id = ran(proj, make_repository({"MLproject": manifest(), "t.py": script}))
    _, found = reproduced(proj, run_id)
    assert found["verdict"] == "different"
    assert (found["exit_code"]["original"], found["exit_code"]["reproduced"]) == (1, 0)


COUNTED = (
    "path = pathlib.Path({path!r})\n"
    "count = len(path.read_text()) if path.exists() else 0\n"
    "path.write_text('x' * (count + 1))\n"
)


@pytest.mark.parametrize(
    ("value", "options", "expected"),
    [
        ("1 + count * 1e-9", ("--rtol", "1e-6"), "within tolerance"),
        ("1 + count * 1e-3", ("--rtol", "1e-6"), "different"),
        ("1", ("--rtol", "1e-6"), "identical"),
    ],
)
def test_a_tolerance_allows_so_much_and_no_more(
    proj: RunProj, make_repository: MakeRepository, tmp_path: Path, value: str, options: tuple[str, ...], expected: str
) -> None:
    script = LOG + COUNTED.format(path=str(tmp_path / "count")) + f"log(f'a={{{value}!r}}')\n"
    run_id = ran(proj, make_repository({"MLproject": manifest(), "t.py": script}))
    result, found = reproduced(proj, run_id, *options)
    assert (found["verdict"], result.code) == (expected, 1 if expected == "different" else 0)
    assert bool(found["tolerance"]) == (expected == "within tolerance")
    if found["tolerance"]:
        assert options[0] in found["tolerance"][0]


def test_the_tolerance_of_the_manifest_counts_and_options_replace_it(
    proj: RunProj, make_repository: MakeRepository, tmp_path: Path
) -> None:
    script = LOG + COUNTED.format(path=str(tmp_path / "count")) + "log(f'a={1 + count * 1e-9!r}')\n"
    files = {"MLproject": manifest(top="tolerance: 1e-6\n"), "t.py": script}
    run_id = ran(proj, make_repository(files))
    assert reproduced(proj, run_id)[1]["tolerance"] == ["a: tolerance: 1e-06 (manifest)"]
    assert reproduced(proj, run_id, "--atol", "0")[1]["verdict"] == "different"


def test_calibration_measures_what_reproduction_allows(
    proj: RunProj, make_repository: MakeRepository, tmp_path: Path
) -> None:
    count = COUNTED.format(path=str(tmp_path / "count"))
    script = f"{LOG}{count}log(f'a={{1 + (count > 0) * 1e-9!r}}')\nlog(f'b={{1 + (count > 3)}}')\n"
    run_id = ran(proj, make_repository({"MLproject": manifest(), "t.py": script}))
    assert reproduced(proj, run_id)[1]["verdict"] == "different"
    noise = proj("calibrate", run_id, "-n", "2", "--json").json
    assert noise["metrics"].keys() == {"a"}
    assert 0 < noise["metrics"]["a"] < 1e-8
    _, found = reproduced(proj, run_id)
    by_name = {one["name"]: one for one in found["metrics"]}
    assert by_name["a"]["verdict"] == "within tolerance"
    assert "noise of 2 repetitions" in by_name["a"]["rule"]
    assert by_name["b"]["verdict"] == "different"


def test_the_user_s_project_is_not_needed_and_not_touched(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": manifest(), "t.py": LOG + SAME})
    run_id = ran(proj, root)
    (root / "t.py").write_text("raise SystemExit('the code of today')")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert reproduced(proj, run_id)[1]["verdict"] == "identical"
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    shutil.rmtree(root)
    again = reproduced(proj, run_id, "--offline")[1]
    assert again["verdict"] == "identical"
    assert reproduced(proj, again["run_id"])[1]["verdict"] == "identical"  # a reproduction is a run itself


def test_parameters_and_variables_are_the_recorded_ones(proj: RunProj, make_repository: MakeRepository) -> None:
    script = (
        "import json, sys\n"
        "names = ('PYTHONHASHSEED', 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'LC_ALL', 'TZ')\n"
        "json.dump([sys.argv[1:], {n: os.environ.get(n) for n in names}], open('o.json', 'w'))\n"
    )
    text = (
        "name: t\nentry_points:\n  main:\n    parameters: {a: {type: float, default: 1}, b: {default: x y}}\n"
        "    command: python t.py {a} {b}\n"
    )
    root = make_repository({"MLproject": text, "t.py": LOG + script})
    run_id = ran(proj, root, "-P", "a=2", OMP_NUM_THREADS="3", PYTHONHASHSEED="7", TZ="Asia/Tokyo")
    other = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C"}
    assert reproduced(proj, run_id, **other)[1]["verdict"] == "identical"


def test_a_secret_must_be_given_again(proj: RunProj, make_repository: MakeRepository) -> None:
    text = (
        "name: t\nentry_points:\n  main:\n    parameters: {key: {type: string, secret: true}}\n"
        "    command: python t.py {key}\n"
    )
    root = make_repository({"MLproject": text, "t.py": f"{LOG}import sys\nlog(f'a={{len(sys.argv[1])}}')\n"})
    run_id = ran(proj, root, "-P", "key=hunter-two-abc")
    refused = proj("reproduce", run_id)
    assert refused.code == 2
    assert "-P key=VALUE" in refused.err
    assert reproduced(proj, run_id, "-P", "key=hunter-two-abc")[1]["verdict"] == "identical"
    assert proj("reproduce", run_id, "-P", "key=x", "-P", "alpha=1").code == 2


READS = "open('o.txt', 'w').write(open('data/x.csv').read() + open('../far.txt').read())\n"


def with_inputs(tmp_path: Path) -> Path:
    write_tree(tmp_path, {"far.txt": "far"})
    root = write_tree(
        tmp_path / "project",
        {
            "MLproject": manifest("    inputs: [data/x.csv, ../far.txt]\n"),
            "t.py": LOG + READS,
            ".gitignore": "data\n",
        },
    )
    commit_all(root)
    write_tree(root, {"data/x.csv": "1,2"})
    return root


def test_inputs_are_checked_before_anything_starts(proj: RunProj, tmp_path: Path) -> None:
    root = with_inputs(tmp_path)
    run_id = ran(proj, root)
    states = {one["name"]: one["state"] for one in reproduced(proj, run_id)[1]["inputs"]}
    assert states == {"data/x.csv": "unchanged", "../far.txt": "unchanged"}
    (root / "data/x.csv").write_text("1,3")
    (tmp_path / "far.txt").unlink()
    known = len(proj("list", "--json").json)
    result, found = reproduced(proj, run_id)
    assert (result.code, found["verdict"], found["run_id"]) == (1, "incomplete", None)
    assert {one["name"]: one["state"] for one in found["inputs"]} == {"data/x.csv": "changed", "../far.txt": "missing"}
    assert "data/x.csv (changed)" in found["reason"]
    assert len(proj("list", "--json").json) == known


def test_changed_inputs_are_used_if_the_user_allows_it(proj: RunProj, tmp_path: Path) -> None:
    root = with_inputs(tmp_path)
    run_id = ran(proj, root)
    (root / "data/x.csv").write_text("1,3")
    result, found = reproduced(proj, run_id, "--allow-changed-inputs")
    assert (result.code, found["verdict"]) == (1, "different")
    assert {one["name"]: one["state"] for one in found["inputs"]}["data/x.csv"] == "changed"


def test_inputs_that_moved_are_found(proj: RunProj, tmp_path: Path) -> None:
    root = with_inputs(tmp_path)
    run_id = ran(proj, root)
    for name, path in {"x.csv": root / "data/x.csv", "far.txt": tmp_path / "far.txt"}.items():
        path.rename(tmp_path / f"moved-{name}")
    shutil.rmtree(root)
    words = [
        f"{name}={tmp_path / path}" for name, path in (("data/x.csv", "moved-x.csv"), ("../far.txt", "moved-far.txt"))
    ]
    result, found = reproduced(proj, run_id, "--input", words[0], "--input", words[1])
    assert (result.code, found["verdict"]) == (0, "identical"), found
    refused = proj("reproduce", run_id, "--input", "data/y.csv=1")
    assert refused.code == 2
    assert "data/x.csv" in refused.err


def test_a_path_parameter_means_the_file_of_the_run(proj: RunProj, make_repository: MakeRepository) -> None:
    text = (
        "name: t\nentry_points:\n  main:\n    parameters: {data: {type: path, default: d.csv}}\n"
        "    command: python t.py {data}\n"
    )
    script = f"{LOG}import sys\nlog(f'a={{len(open(sys.argv[1]).read())}}')\n"
    root = make_repository({"MLproject": text, "t.py": script, "d.csv": "1234"})
    run_ids = [ran(proj, root), ran(proj, root, "-P", f"data={root / 'd.csv'}")]
    (root / "d.csv").write_text("1")
    for run_id in run_ids:
        result = proj("reproduce", run_id, "--json", cwd=root)
        assert result.json["verdict"] == "identical", result.err


def test_the_verdict_stays_on_record_at_the_original(proj: RunProj, make_repository: MakeRepository) -> None:
    run_id = ran(proj, make_repository({"MLproject": manifest(), "t.py": LOG + SAME}))
    assert "verdict" not in proj("list").out
    found = [reproduced(proj, run_id)[1] for _ in range(2)]
    record = proj("show", run_id, "--json").json
    assert record["tags"]["proj.reproductions"] == "; ".join(f"{one['run_id']}: identical" for one in found)
    again = proj("show", found[0]["run_id"], "--json").json
    assert (again["tags"]["proj.reproduces"], again["tags"]["proj.verdict"]) == (run_id, "identical")
    assert f"{found[0]['run_id']}: identical" in proj("show", run_id).out
    assert "reproduced: identical" in proj("list", "--columns", "run,verdict").out


def test_a_lock_that_was_changed_is_refused(proj: RunProj, make_repository: MakeRepository, clean_room: Path) -> None:
    root = make_repository({"MLproject": manifest(), "t.py": LOG + SAME})
    result = proj("run", ".", "--json", "--env-manager", "uv", cwd=root)
    run_id = result.json["run_id"]
    assert reproduced(proj, run_id, "--offline")[1]["verdict"] == "identical"
    (clean_room / "home" / "runs" / run_id / "lock.txt").write_text("six==1.16.0\n")
    refused = proj("reproduce", run_id)
    assert refused.code == 1
    assert "lock" in refused.err
    (clean_room / "home" / "runs" / run_id / "lock.txt").unlink()
    gone = proj("reproduce", run_id)
    assert gone.code == 1
    assert "is not there any more" in gone.err


def test_wrong_usage_exits_with_2(proj: RunProj, make_repository: MakeRepository) -> None:
    run_id = ran(proj, make_repository({"MLproject": manifest(), "t.py": LOG + SAME}))
    for words in (("--rtol", "-1"), ("--rtol", "x"), ("--input", "a"), ("--input", "a=b", "--input", "a=c")):
        assert proj("reproduce", run_id, *words).code == 2
    assert proj("reproduce", f"runs:/{run_id}").code == 0
    assert json.loads(proj("reproduce", run_id, "--json").out)["verdict"] == "identical"


def test_tolerances_count_for_the_metrics_that_they_name(
    proj: RunProj, make_repository: MakeRepository, tmp_path: Path
) -> None:
    count = COUNTED.format(path=str(tmp_path / "count"))
    script = (
        f"{LOG}{count}a = 1 + count * 1e-9\n"
        "for name in ('a', 'val_a', 'other'): log(f'{name}={a!r}')\n"
        "open('m.json', 'w').write('{\"in_file\": %r}' % a)\n"
    )
    text = manifest("    metrics: [{path: m.json, tolerance: 1e-6}]\n", 'tolerance: {a: 1e-6, "val_*": 1e-5}\n')
    run_id = ran(proj, make_repository({"MLproject": text, "t.py": script}))
    _, found = reproduced(proj, run_id)
    verdicts = {one["name"]: (one["verdict"], one["rule"]) for one in found["metrics"]}
    assert verdicts == {
        "a": ("within tolerance", "tolerance: 1e-06 (manifest, a)"),
        "val_a": ("within tolerance", "tolerance: 1e-05 (manifest, val_*)"),
        "other": ("different", None),
        "in_file": ("within tolerance", "tolerance: 1e-06 (m.json)"),
    }
    assert found["verdict"] == "different"


@pytest.mark.parametrize(
    ("expression", "content", "expected"),
    [
        ("took .* ns", "f'rmse 1\\ntook {now} ns\\n'", "within tolerance"),
        ("took .* ns", "f'rmse {now}\\ntook {now} ns\\n'", "different"),
        ("(?s).*", "f'{now}'", "nothing to compare"),
        ("took .* ns", "'rmse 1'", "identical"),
    ],
)
def test_a_declared_rule_leaves_volatile_text_out(
    proj: RunProj, make_repository: MakeRepository, expression: str, content: str, expected: str
) -> None:
    text = manifest(f"    ignore: {json.dumps({'*.txt': expression})}\n")
    script = f"{LOG}{ELSE}open('o.txt', 'w').write({content})\n"
    run_id = ran(proj, make_repository({"MLproject": text, "t.py": script}))
    _, found = reproduced(proj, run_id)
    assert found["verdict"] == expected
    assert bool(found["tolerance"]) == (expected == "within tolerance")


def test_a_junit_file_has_a_case_for_each_result(
    proj: RunProj, make_repository: MakeRepository, tmp_path: Path
) -> None:
    script = f"{LOG}{ELSE}log('same=1'); log(f'other={{now}}'); open('o\\x01.txt', 'w').write('1')\n"
    run_id = ran(proj, make_repository({"MLproject": manifest(), "t.py": script}))
    assert proj("reproduce", run_id, "--junit", str(tmp_path / "r.xml")).code == 1
    suite = ET.parse(tmp_path / "r.xml").getroot()
    failed = {case.get("name"): case[0].get("type") for case in suite if len(case) and case[0].tag == "failure"}
    assert failed == {"verdict": "different", "other": "different"}
    assert (suite.get("tests"), suite.get("failures")) == (str(len(suite)), "2")
    assert len(suite) == 6
    assert proj("reproduce", run_id, "--junit", "r.txt").code == 2


def test_python_returns_typed_verdicts(make_repository: MakeRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_repository({"MLproject": manifest(), "t.py": LOG + SAME})
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    run_id = runner.run(str(root), environment_manager="local").run_id
    assert run_id is not None
    found = runner.reproduce(run_id, rtol=1e-6)
    assert found.verdict is Verdict.IDENTICAL
    assert found.verdict.is_reproduced
    assert {one.name: one.verdict for one in found.metrics}["rmse"] is Verdict.IDENTICAL
    with pytest.raises(TypeError, match="tolerance"):
        runner.reproduce(run_id, tolerance=1)
