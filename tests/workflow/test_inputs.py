"""The data of a run on record: declared inputs, path parameters, opened files, and originals that a run changes."""

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runner.model import RunRecord, RunRequest
from runner.settings import Home
from runner.source import providing
from runner.workflow import run_project
from tests.conftest import MakeRepository, Result, RunProj, write_tree

only_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is Linux's")


def manifest(command: str, keys: str = "") -> str:
    return f"entry_points:\n  main:\n{keys}    command: {json.dumps(command)}\n"


def run(proj: RunProj, folder: Path, *words: str) -> Result:
    return proj("run", ".", "--json", "--env-manager", "local", *words, cwd=folder)


def inputs(result: Result) -> dict[str, str]:
    assert result.code == 0, result.err
    return {one["path"]: one["sha256"] for one in result.json["inputs"]}


def run_here(home: Home, folder: Path) -> RunRecord:
    request = RunRequest(uri=str(folder), environment_manager="local")
    return run_project(request, home, lambda _event: None).record


def digests(record: RunRecord) -> dict[str, str]:
    return {one.path: one.sha256 for one in record.inputs}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


PATHS = "    parameters: {data: path, out: {type: path, default: .}}\n"


def test_path_parameters_are_inputs(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": manifest("cat {data} > made.txt", PATHS), "a.csv": "1"})
    write_tree(root.parent, {"far/b.csv": "2", "set/c.csv": "3", "set/d/e.csv": "4"})
    assert inputs(run(proj, root, "-P", "data=a.csv")) == {"a.csv": sha("1")}
    assert inputs(run(proj, root, "-P", f"data={root}/a.csv")) == {"a.csv": sha("1")}
    far = root.parent / "far/b.csv"
    assert inputs(run(proj, root, "-P", f"data={far}")) == {str(far): sha("2")}
    folder = run(proj, root, "-P", f"data={root.parent}/set")
    assert folder.json["status"] == "FAILED"  # cat refuses a folder; the inputs are on record all the same
    assert [one["path"] for one in folder.json["inputs"]] == [
        f"{root.parent}/set/{name}" for name in ("c.csv", "d/e.csv")
    ]


def test_what_a_run_writes_into_an_input_folder_is_no_input(proj: RunProj, make_repository: MakeRepository) -> None:
    keys = "    parameters: {data: path}\n"
    root = make_repository(
        {"MLproject": manifest("echo 2 > {data}/new.csv; echo 3 > {data}/a.csv", keys), "d/a.csv": "1"}
    )
    done = run(proj, root, "-P", "data=d")
    assert inputs(done) == {"d/a.csv": sha("1")}
    assert [one["path"] for one in done.json["outputs"]] == ["d/a.csv", "d/new.csv"]
    assert "proj.inputs.changed" not in done.json["tags"]


def test_a_secret_path_is_not_written_down(proj: RunProj, make_repository: MakeRepository) -> None:
    keys = "    parameters: {key: {type: path, secret: true}}\n"
    root = make_repository({"MLproject": manifest("test -e {key}", keys), "private-name.pem": "1"})
    done = run(proj, root, "-P", "key=./private-name.pem")
    assert inputs(done) == {}
    assert "private-name" not in json.dumps(done.json["inputs"])


def test_an_absent_input_stops_the_run_before_it_has_a_record(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": manifest("touch ran", "    inputs: [data/a.csv]\n"), ".gitignore": "data\n"})
    write_tree(root, {"data/aa.csv": "1"})
    for words in ((), ("--in-place",), ("--version", "HEAD")):
        result = run(proj, root, *words)
        assert result.code == 1
        assert "'main' declares the input 'data/a.csv', which does not exist" in result.err
        assert "did you mean 'data/aa.csv'?" in result.err
    assert not (root / "ran").exists()
    assert proj("list", "--json").json == []


@only_linux
def test_an_undeclared_file_is_named_with_the_line_that_declares_it(
    proj: RunProj, make_repository: MakeRepository
) -> None:
    keys = "    inputs: [data/a.csv]\n"
    root = make_repository({"MLproject": manifest("cat data/*.csv", keys), ".gitignore": "data\n"})
    write_tree(root, {"data/a.csv": "1", "data/b c.csv": "2", "data/unread.dat": "3"})
    done = run(proj, root)
    assert "opened 'data/b c.csv', which git ignores and the manifest does not declare" in done.err
    line = 'inputs: [data/a.csv, "data/b c.csv"]'
    assert line in done.err
    assert inputs(done) == {"data/a.csv": sha("1"), "data/b c.csv": sha("2")}
    (root / "MLproject").write_text(manifest("cat data/*.csv", f"    {line}\n"), encoding="utf-8")
    assert "does not declare" not in run(proj, root).err


def test_globs_and_links_that_lead_out_of_the_repository(proj: RunProj, make_repository: MakeRepository) -> None:
    keys = '    inputs: ["far/*.csv", one.csv]\n'
    root = make_repository({"MLproject": manifest("cat far/b.csv one.csv", keys)})
    write_tree(root.parent, {"elsewhere/a.csv": "1", "elsewhere/b.csv": "2", "elsewhere/c.txt": "3"})
    (root / "far").symlink_to("../elsewhere")
    (root / "one.csv").symlink_to("../elsewhere/a.csv")
    for _ in range(2):  # the second run gets the folder of the first
        done = run(proj, root)
        assert inputs(done) == {"far/a.csv": sha("1"), "far/b.csv": sha("2"), "one.csv": sha("1")}
        assert Path(done.json["log"]).read_text(encoding="utf-8") == "21"
        assert done.json["outputs"] == []
    (root / "MLproject").write_text(manifest("readlink far one.csv"), encoding="utf-8")
    links = Path(run(proj, root).json["log"]).read_text(encoding="utf-8")
    assert links == "../elsewhere\n../elsewhere/a.csv\n"


@pytest.mark.parametrize("declared", ["far", "far/a.csv", "far/*.csv", "../elsewhere", "../elsewhere/a.csv"])
@pytest.mark.parametrize("is_copied", [True, False])
def test_an_original_that_a_run_changes_is_marked_unless_it_gets_a_copy(
    proj: RunProj, make_repository: MakeRepository, declared: str, is_copied: bool
) -> None:
    way = "copy" if is_copied else "link"
    file = "../elsewhere/a.csv" if declared.startswith("..") else "far/a.csv"
    command = f"echo changed >> {file}; cat {file}"
    root = make_repository({"MLproject": manifest(command, f"    inputs: {{'{declared}': {way}}}\n")})
    write_tree(root.parent, {"elsewhere/a.csv": "1\n", "elsewhere/b.csv": "2\n"})
    (root / "far").symlink_to("../elsewhere")
    done = run(proj, root)
    original = (root.parent / "elsewhere/a.csv").read_text(encoding="utf-8")
    assert inputs(done)[file] == sha("1\n")
    assert Path(done.json["log"]).read_text(encoding="utf-8") == "1\nchanged\n"
    is_safe = is_copied or declared == "../elsewhere/a.csv"  # one small file is copied in any case
    assert original == ("1\n" if is_safe else "1\nchanged\n")
    assert (file in done.json["tags"].get("proj.inputs.changed", "")) == (not is_safe)
    assert ("gives each run a copy" in done.err) == (not is_safe)
    shown = proj("list", "--columns", "code", cwd=root).out
    assert ("!" in shown) == (not is_safe)


def test_a_large_ignored_file_is_copied_if_the_manifest_says_so(
    home: Home, make_repository: MakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providing, "COPY_LIMIT", 3)
    monkeypatch.setattr(providing, "clone_at", lambda *_: False)
    text = manifest("echo more >> data/big.dat", "    inputs: {data: WAY}\n")
    root = make_repository({"MLproject": text.replace("WAY", "link"), ".gitignore": "data\n"})
    write_tree(root, {"data/big.dat": "12345"})
    assert run_here(home, root).tags["proj.inputs.changed"] == "data/big.dat"
    write_tree(root, {"data/big.dat": "12345", "MLproject": text.replace("WAY", "copy")})
    done = run_here(home, root)
    assert (root / "data/big.dat").read_text(encoding="utf-8") == "12345"
    assert "proj.inputs.changed" not in done.tags
    assert [one.path for one in done.outputs] == ["data/big.dat"]


def test_a_file_that_is_only_touched_is_not_changed(proj: RunProj, make_repository: MakeRepository) -> None:
    root = make_repository({"MLproject": manifest("touch {data}", "    parameters: {data: path}\n")})
    write_tree(root.parent, {"a.csv": "1"})
    done = run(proj, root, "-P", f"data={root.parent}/a.csv")
    assert "proj.inputs.changed" not in done.json["tags"]


def test_unchanged_inputs_are_not_read_again(
    home: Home, make_repository: MakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_repository({"MLproject": manifest("true", "    inputs: [data, ../far]\n"), ".gitignore": "data\n"})
    write_tree(root, {"data/a.csv": "1", "../far/b.csv": "2"})
    time.sleep(0.05)  # a digest is cached when the stamp of the file is older than the tick of the clock
    first = digests(run_here(home, root))
    read: list[Any] = []
    monkeypatch.setattr("runner.base.files.sha256_of", lambda path: read.append(path) or sha(path.read_text()))
    assert digests(run_here(home, root)) == first == {"../far/b.csv": sha("2"), "data/a.csv": sha("1")}
    assert [path.name for path in read if path.suffix == ".csv"] == []
    write_tree(root, {"data/a.csv": "3"})
    assert digests(run_here(home, root)) == {"../far/b.csv": sha("2"), "data/a.csv": sha("3")}
    assert [path.name for path in read if path.suffix == ".csv"] == ["a.csv"]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("the code", ()),
        ("parameter 'text'", ("-P", "text=ROOT/a.csv")),
        ("parameter 'more'", ("-P", "more=ROOT/a.csv")),
        ("the command of 'main'", ()),
        ("the variable 'DATA'", ()),
    ],
)
def test_an_absolute_path_into_the_project_is_warned_of(
    proj: RunProj, make_repository: MakeRepository, where: str, words: tuple[str, ...]
) -> None:
    root = make_repository({"a.csv": "1", "t.py": "print(1)\n"})
    command = f"python t.py {root}/a.csv" if "command" in where else "python t.py"
    keys = "    parameters: {text: {type: string, default: x}, data: {type: path, default: a.csv}}\n"
    keys += f"    env: {{DATA: {root}/a.csv}}\n" if "variable" in where else ""
    code = f"open('{root}/a.csv')\n" if where == "the code" else "print(1)\n"
    write_tree(root, {"MLproject": manifest(command, keys), "t.py": code})
    given = ("-P", f"data={root}/a.csv", *(word.replace("ROOT", str(root)) for word in words))
    done = run(proj, root, *given)
    assert f"{where} names '{root}/a.csv', which is in the project" in done.err
    assert "write 'a.csv'" in done.err
    assert done.err.count("goes around its frozen copy") == 1
    assert "frozen copy" not in run(proj, root, *given, "--in-place").err


def test_the_pointer_of_dvc_is_recorded_and_compared(proj: RunProj, make_repository: MakeRepository) -> None:
    md5 = hashlib.md5(b"1", usedforsecurity=False).hexdigest()
    pointer = f"outs:\n- md5: {md5}\n  size: 1\n  hash: md5\n  path: data.csv\n"
    keys = "    inputs: [data.csv]\n"
    root = make_repository(
        {"MLproject": manifest("cat data.csv", keys), "data.csv.dvc": pointer, ".gitignore": "/data.csv\n"}
    )
    assert "dvc pull data.csv" in run(proj, root).err
    write_tree(root, {"data.csv": "1"})
    done = run(proj, root)
    assert [(one["path"], one.get("md5")) for one in done.json["inputs"]] == [("data.csv", None), ("data.csv.dvc", md5)]
    assert "stands for" not in done.err
    write_tree(root, {"data.csv": "2"})
    assert "'data.csv' is not what 'data.csv.dvc' stands for" in run(proj, root).err
