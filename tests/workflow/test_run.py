"""`proj run` as a user calls it: real processes, a real repository, a real store."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import runner
from runner.errors import ProjError
from tests.conftest import MakeRepository, Result, RunProj, git, start_proj, write_tree

SHOW_ARGS = "import json, sys; print(json.dumps(sys.argv[1:]))\n"
LOCAL = ("--env-manager", "local")


def manifest(command: str, parameters: str = "{}") -> str:
    return f"name: t\nentry_points:\n  main:\n    parameters: {parameters}\n    command: {json.dumps(command)}\n"


def record(proj: RunProj, folder: Path, *words: str, **variables: str) -> Any:
    result = proj("run", ".", "--json", *LOCAL, *words, cwd=folder, **variables)
    assert result.out, result.err
    return result.json


def until(condition: Any, seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def test_a_run_names_its_code_parameters_and_result(proj: RunProj, make_repository: MakeRepository) -> None:
    script = (
        "import os, sys; open(os.environ['PROJ_METRICS'], 'a').write('rmse=0.5\\n'); open('out.txt','w').write('x')"
    )
    root = make_repository(
        {"MLproject": manifest("python t.py {alpha}", "{alpha: {type: float, default: 0.1}}"), "t.py": script}
    )
    done = record(proj, root, "-P", "alpha=0.5")
    assert (done["status"], done["exit_code"]) == ("FINISHED", 0)
    assert done["parameters"] == [{"name": "alpha", "value": "0.5", "type": "float", "source": "command line"}]
    assert done["metrics"] == {"rmse": 0.5}
    assert done["code"]["commit"] == git(root, "rev-parse", "HEAD")
    assert done["code"]["tree"] == git(root, "rev-parse", "HEAD^{tree}")
    assert done["code"]["swhid"] == f"swh:1:dir:{done['code']['tree']}"
    assert not done["code"]["dirty"]
    assert [output["path"] for output in done["outputs"]] == ["out.txt"]
    assert done["command"] == "python t.py 0.5"
    assert done["argv"] == ["bash", "-c", "python t.py 0.5"]
    assert done["tags"]["mlflow.source.git.commit"] == done["code"]["commit"]
    assert done["tags"]["mlflow.source.type"] == "PROJECT"
    assert done["resources"]["wall_seconds"] > 0
    shown = proj("show", done["run_id"][:8], "--json").json
    assert shown.items() >= done.items()


def test_probe_17_the_exit_code_is_the_commands_own(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": manifest("exit 3")})
    result = proj("run", ".", "--json", *LOCAL, cwd=root)
    assert result.code == 3
    assert (result.json["status"], result.json["exit_code"]) == ("FAILED", 3)


@pytest.mark.parametrize(
    "value", ["a b", "it's", '"q"', "$HOME `id`", "line\nbreak", "k=v", "", "--x", "ünï→", "\\", "*", "{a}", "a;b"]
)
def test_probe_21_values_reach_the_command_exactly(proj: RunProj, make_repository: MakeRepository, value: str) -> None:
    root = make_repository({"MLproject": manifest("python t.py {v}", "{v: string}"), "t.py": SHOW_ARGS})
    done = record(proj, root, "-P", f"v={value}")
    assert json.loads(Path(done["log"]).read_text(encoding="utf-8")) == [value]
    assert done["parameters"][0]["value"] == value


def test_probe_6_dirty_is_never_shown_as_clean(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": manifest("python t.py"), "t.py": "import new\n"})
    write_tree(root, {"new.py": "print('untracked')\n"})
    done = record(proj, root)
    assert done["code"]["dirty"]
    assert done["code"]["changed_files"] == ["new.py"]
    assert Path(done["log"]).read_text() == "untracked\n"
    table = proj("list").out
    assert f"{done['code']['commit'][:7]}" in table
    assert "*" in table
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=second")
    assert git(root, "rev-parse", "HEAD")[:7] in proj("show", done["run_id"]).out


def test_probe_1_an_edit_after_the_start_changes_nothing(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository(
        {
            "MLproject": manifest("python t.py {gate}", "{gate: string}"),
            "t.py": "import os, sys, time\nopen(sys.argv[1] + '.up', 'w')\n"
            "while not os.path.exists(sys.argv[1]): time.sleep(0.01)\nimport module\n",
            "module.py": "print('old')\n",
        }
    )
    gate = root.parent / "gate"
    process = start_proj("run", ".", "--json", *LOCAL, "-P", f"gate={gate}", cwd=root)
    until(Path(f"{gate}.up").exists)
    (root / "module.py").write_text("print('new')\n")
    gate.touch()
    out, _ = process.communicate(timeout=60)
    first = json.loads(out)
    assert Path(first["log"]).read_text() == "old\n"
    assert not first["code"]["dirty"]
    second = record(proj, root, "-P", f"gate={gate}")
    assert Path(second["log"]).read_text() == "new\n"
    assert second["code"]["tree"] != first["code"]["tree"]


def fingerprint(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(root)): (path.lstat().st_mode, path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("words", [(), ("--version", "HEAD~1"), ("-P", "code=1")])
def test_probe_5_the_repository_is_byte_identical_afterwards(
    proj: RunProj, make_repository: MakeRepository, words: tuple[str, ...]
) -> None:
    root = make_repository({"MLproject": manifest("touch made; exit {code}", "{code: {default: 0}}"), "a.txt": "1"})
    git(root, "commit", "--quiet", "--allow-empty", "--message=second")
    write_tree(root, {"a.txt": "2", "untracked.txt": "3"})
    before = fingerprint(root)
    assert proj("run", ".", *LOCAL, *words, cwd=root).code in (0, 1)
    assert fingerprint(root) == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_probe_18_a_signal_to_proj_ends_all_and_says_so(
    make_repository: MakeRepository, tmp_path: Path, clean_room: Path, number: signal.Signals, code: int
) -> None:
    script = (
        "import os, time\nprint('up', flush=True)\n"
        "open(os.environ['WHERE'], 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    )
    root = make_repository({"MLproject": manifest("true && python t.py | tee copy"), "t.py": script})
    where = tmp_path / "pid"
    process = start_proj("run", ".", "--json", *LOCAL, cwd=root, WHERE=str(where))
    pid = int(until(lambda: where.exists() and where.read_text()))
    # What is in a pipe of the command's own when it is stopped is lost with it, so wait until it has come through.
    until(lambda: any(log.read_text() for log in (clean_room / "home" / "runs").glob("*/log.txt")))
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    done = json.loads(out)
    assert process.returncode == code, err
    assert done["status"] == "KILLED"
    assert Path(done["log"]).read_text().startswith("up\n")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_probe_19_a_killed_proj_leaves_no_child_and_a_lost_run(
    proj: RunProj, make_repository: MakeRepository, tmp_path: Path
) -> None:
    script = "import os, time\nopen(os.environ['WHERE'], 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    root = make_repository({"MLproject": manifest("python t.py"), "t.py": script})
    where = tmp_path / "pid"
    process = start_proj("run", ".", *LOCAL, cwd=root, WHERE=str(where))
    pid = int(until(lambda: where.exists() and where.read_text()))
    process.kill()
    process.communicate(timeout=10)

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    until(gone, 10)
    assert [run["status"] for run in proj("list", "--json").json] == ["LOST"]


def test_probe_24_faults_of_a_manifest_are_told_before_any_row(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": "- a list\n"})
    result = proj("run", ".", cwd=root)
    assert result.code == 1
    assert "error[manifest]" in result.err
    assert "Traceback" not in result.err
    assert proj("list", "--json").json == []


def test_probe_26_two_runs_at_once_have_two_outputs(make_repository: MakeRepository) -> None:
    root = make_repository(
        {
            "MLproject": manifest("echo {n} > out.txt; sleep 0.5; cat out.txt", "{n: string}"),
            ".gitignore": "out.txt\n",
        }
    )
    write_tree(root, {"out.txt": "old\n"})
    both = [start_proj("run", ".", "--json", *LOCAL, "-P", f"n={n}", cwd=root) for n in (1, 2)]
    for number, process in enumerate(both, 1):
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert Path(json.loads(out)["log"]).read_text() == f"{number}\n"
    assert (root / "out.txt").read_text() == "old\n"


def test_a_dry_run_prints_the_plan_and_records_nothing(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": manifest("echo {a}", "{a: {default: '1 2'}}")})
    plan = proj("run", ".", "--dry-run", "--json", cwd=root).json
    assert plan["command"] == "echo '1 2'"
    assert plan["run_id"] is None
    assert plan["experiment"] == "t"  # the name of the project
    assert "experiment:  other\n" in proj("run", ".", "--dry-run", "--experiment", "other", cwd=root).out
    assert "id 7\n" in proj("run", ".", "--dry-run", "--experiment-id", "7", cwd=root).out
    assert plan["code"]["commit"] == git(root, "rev-parse", "HEAD")
    assert proj("list", "--json").json == []


def test_a_secret_is_written_nowhere(proj: RunProj, make_repository: MakeRepository, clean_room: Path) -> None:
    secret = "hunter-" + os.urandom(8).hex()
    root = make_repository({"MLproject": manifest("echo using {key}", "{key: {type: string, secret: true}}")})
    result = proj("run", ".", "--json", *LOCAL, "-P", f"key={secret}", cwd=root)
    assert result.code == 0
    assert secret not in result.out + result.err
    found = subprocess.run(
        ["grep", "-rl", "--binary-files=text", secret, str(clean_room / "home")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == ""


def test_wrong_words_are_exit_code_2(proj: RunProj) -> None:
    assert proj("run", ".", "-P", "novalue").code == 2
    assert proj("run", ".", "-P", "a=1", "-P", "a=2").code == 2
    assert proj("run", ".", "--experiment-name", "a", "--experiment-id", "1").code == 2
    assert proj("run", "--no-such-option").code == 2


def test_a_mistyped_path_says_so(proj: RunProj, tmp_path: Path) -> None:
    write_tree(tmp_path, {"project/MLproject": manifest("true")})
    result = proj("run", "projct")
    assert result.code == 1
    assert "projct" in result.err
    assert "Traceback" not in result.err


def test_a_bare_repository_at_a_short_id_and_a_dirty_tree_come_back_exactly(
    proj: RunProj, make_repository: MakeRepository, tmp_path: Path
) -> None:
    root = make_repository({"sub/MLproject": manifest("python t.py"), "sub/t.py": "print('one')\n"})
    first = git(root, "rev-parse", "HEAD")
    write_tree(root, {"sub/t.py": "print('two')\n"})
    git(root, "commit", "--quiet", "--all", "--message=second")
    bare = tmp_path / "bare.git"
    git(root, "clone", "--quiet", "--bare", str(root), str(bare))
    for address in (str(bare), bare.as_uri()):
        done = proj("run", f"{address}#sub", "--version", first[:9], "--json", *LOCAL).json
        assert (done["code"]["commit"], done["code"]["subdirectory"]) == (first, "sub")
        assert Path(done["log"]).read_text() == "one\n"
        assert first in proj("show", done["run_id"]).out
    write_tree(root, {"sub/t.py": "print('three')\n", "sub/new.txt": "n"})
    dirty = proj("run", "sub", "--json", *LOCAL, cwd=root).json
    shutil.rmtree(root)
    assert proj("checkout", dirty["run_id"][:10], str(tmp_path / "back")).code == 0
    assert (tmp_path / "back/sub/t.py").read_text() == "print('three')\n"
    assert (tmp_path / "back/sub/new.txt").read_text() == "n"
    patch = proj("diff", dirty["run_id"]).out
    assert "+print('three')" in patch
    assert "-print('two')" in patch


def test_outputs_come_back_and_a_removed_run_is_gone(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": manifest("mkdir -p out && echo 1 > out/a.txt")})
    done = record(proj, root)
    target = root.parent / "got"
    assert proj("get", done["run_id"], "out", "--to", str(target)).code == 0
    assert [path.name for path in target.rglob("*.txt")] == ["a.txt"]
    assert proj("rm", done["run_id"], "--permanently", "--yes").code == 0
    assert proj("show", done["run_id"]).code == 1
    assert proj("list", "--json").json == []


def test_a_timeout_stops_the_command_and_says_so(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": manifest("sleep 60") + "    timeout: 1\n"})
    result = proj("run", ".", "--json", *LOCAL, cwd=root)
    assert result.code == 124
    assert result.json["status"] == "KILLED"
    assert "time" in result.json["reason"]


def test_values_of_a_file_are_overruled_by_words(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository(
        {"MLproject": manifest("echo {a} {b} {c}", "{a: {default: 1}, b: {default: 2}, c: {default: 3}}")}
    )
    write_tree(root.parent, {"values.yaml": "a: 10\nb: 20\n"})
    done = record(proj, root, "--params-file", "../values.yaml", "-P", "b=200")
    found = {each["name"]: (each["value"], each["source"]) for each in done["parameters"]}
    assert found == {"a": ("10", "file"), "b": ("200", "command line"), "c": ("3", "default")}


def test_the_python_interface_returns_the_record(
    make_repository: MakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_repository({"MLproject": manifest("echo {a}; exit 5", "{a: {type: float, default: 1}}")})
    monkeypatch.chdir(root)
    done = runner.run(".", parameters={"a": 0.5}, environment_manager="local")
    assert (done.status, done.exit_code, done.command) == ("FAILED", 5, "echo 0.5; exit 5")
    with pytest.raises(TypeError, match="no option 'colour'"):
        runner.run(".", colour="red")
    with pytest.raises(ProjError, match="nowhere"):
        runner.run("nowhere")


def test_a_run_in_place_works_in_the_project_and_tells_what_changed(
    proj: RunProj, make_repository: MakeRepository
) -> None:
    root = make_repository({"MLproject": manifest("echo x > made.txt")})
    done = record(proj, root, "--in-place")
    assert (root / "made.txt").read_text() == "x\n"
    assert done["tags"]["proj.tree.changed"] == "true"
    assert [each["path"] for each in done["outputs"]] == ["made.txt"]


def test_an_ignored_file_that_the_run_opens_is_an_input(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": manifest("cat data/used.csv"), ".gitignore": "data/\n"})
    write_tree(root, {"data/used.csv": "1\n", "data/other.csv": "2\n"})
    done = record(proj, root)
    assert Path(done["log"]).read_text() == "1\n"
    if sys.platform == "linux":
        assert [each["path"] for each in done["inputs"]] == ["data/used.csv"]
    assert not done["code"]["dirty"]


class TestNearMisses:
    """Parameters that look like declared ones: passed on, as MLflow does, with a word about it."""

    MANIFEST = "entry_points:\n  main:\n    parameters: {alpha: {default: 1}, beta: float}\n    command: echo {alpha}\n"

    def run(self, proj: RunProj, folder: Path, *words: str) -> Result:
        write_tree(folder, {"MLproject": self.MANIFEST})
        return proj("run", str(folder), "--env-manager", "local", *words)

    def test_a_name_that_is_nearly_one(self, proj: RunProj, tmp_path: Path) -> None:
        done = self.run(proj, tmp_path, "-P", "alhpa=3", "-P", "beta=1")
        assert done.code == 0
        assert "'main' has no parameter 'alhpa'; it is passed on as it is" in done.err
        assert "did you mean 'alpha'?" in done.err
        assert done.out == "1 --alhpa 3\n"

    def test_another_name_or_one_beside_the_right_one(self, proj: RunProj, tmp_path: Path) -> None:
        done = self.run(proj, tmp_path, "-P", "verbose=1", "-P", "alpha=2", "-P", "alpha2=3", "-P", "beta=1")
        assert "has no parameter" not in done.err

    def test_one_that_has_no_default(self, proj: RunProj, tmp_path: Path) -> None:
        done = self.run(proj, tmp_path, "-P", "betta=1")
        assert done.code == 1
        assert "did you mean -P beta where you wrote -P betta?" in done.err


def test_thousands_of_notices_are_not_told_one_by_one(proj: RunProj, make_repository: MakeRepository) -> None:
    command = 'for number in $(seq 30); do echo "precision@$number=1" >> "$PROJ_METRICS"; done'
    root = make_repository({"MLproject": manifest(command)})
    result = proj("run", ".", "--env-manager", "local", "--json", cwd=root)
    assert result.code == 0, result.err
    notices = result.json["notices"]
    assert sum("is recorded as" in notice for notice in notices) == 20
    assert "and 10 more like these" in notices
