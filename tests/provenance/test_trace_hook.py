"""The trace hook in a script's Python: it notes what it should, and no script can tell that it is there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.provenance.events import Events, read_events
from runner.provenance.tracing import TRACE_HOOK_BY_PATH

pytestmark = pytest.mark.slow


def python(folder: Path, script: str, *options: str, out: Path | None) -> "subprocess.CompletedProcess[str]":
    """Run a script, with the hook if there is a file for it."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PROJ_"))}
    if out is not None:
        variables |= {"PYTHONPATH": str(TRACE_HOOK_BY_PATH), "PROJ_TRACE": str(out)}
    (folder / "t.py").write_text(script, encoding="utf-8")
    words = [sys.executable, *options, "t.py"]
    return subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True, timeout=60, check=False)


def traced(folder: Path, script: str, *options: str) -> Events:
    out = folder / "opened.txt"
    out.unlink(missing_ok=True)
    done = python(folder, script, *options, out=out)
    assert done.returncode == 0, done.stderr
    return read_events(out)


SCRIPTS = {
    "closed descriptors": "import os\nos.closerange(3, 256)\nopen('a').read()\nprint(os.open('a', os.O_RDONLY))\n",
    "an error of open": (
        "try:\n    open('absent')\nexcept FileNotFoundError as error:\n    print(error, error.__context__)\n"
    ),
    "no current folder": (
        "import os\nos.mkdir('x')\nos.chdir('x')\nos.rmdir('../x')\n"
        "try:\n    open('a')\nexcept FileNotFoundError as error:\n    print(error)\n"
    ),
    "replaced functions": (
        "import os, builtins, posix\ndef bad(*a, **k):\n    raise RuntimeError('bad')\n"
        "kept = open\nos.open = os.write = os.stat = os.getcwd = os.fsencode = os.fsdecode = builtins.open = bad\n"
        "print(kept('a').read())\n"
    ),
    "a hook of its own that refuses": (
        "import sys\ndef hook(event, args):\n    if event == 'open' and str(args[0]) == 'b':\n"
        "        raise PermissionError('no')\nsys.addaudithook(hook)\nprint(open('a').read())\n"
        "try:\n    open('b')\nexcept PermissionError as error:\n    print(error)\n"
    ),
    "signals": (
        "import signal\ncount = 0\ndef on(*_):\n    global count\n    count += 1\n    open('a').close()\n"
        "signal.signal(signal.SIGALRM, on)\nsignal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\n"
        "while count < 50:\n    open('a').close()\nsignal.setitimer(signal.ITIMER_REAL, 0)\nprint('done')\n"
    ),
    "deep recursion": (
        "def f(n):\n    try:\n        open('a').close()\n    finally:\n        f(n + 1)\n"
        "try:\n    f(0)\nexcept RecursionError:\n    print('deep')\n"
    ),
    "an exit code": "import sys\nsys.exit(7)\n",
    "a traceback": "raise ValueError('bad')\n",
    "an end by a signal": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
    "odd names": (
        "for name in ('a\\nb', 'a\\tb', b'\\xff', '\\\\'):\n    open(name, 'w').close()\n    print(open(name).read())\n"
    ),
    "odd arguments": (
        "import os, pathlib\nprint(open(os.open('a', os.O_RDONLY)).read())\nprint(open(pathlib.Path('a')).read())\n"
        "for wrong in (None, 1.5, object, 'a\\0b'):\n"
        "    try:\n        open(wrong)\n    except (TypeError, ValueError) as error:\n        print(error)\n"
    ),
    "the import path": "import sys\nprint(sys.path, sys.flags)\n",
    "work at the end": "import atexit\natexit.register(lambda: print(open('a').read()))\n",
    "objects at the end": (
        "import os\nclass A:\n    def __del__(self, open=os.open, write=os.write):\n"
        "        open('a', 0)\n        write(1, b'end')\nkept = A()\n"
    ),
    "random numbers": "import random\nrandom.seed(1)\nprint(random.random(), random.getstate()[1][-1])\n",
}


@pytest.mark.parametrize("options", [(), ("-I",), ("-S",), ("-E",), ("-s",), ("-OO",), ("-X", "dev")], ids="".join)
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_cannot_tell_that_the_hook_is_there(tmp_path: Path, script: str, options: tuple[str, ...]) -> None:
    if options and script not in ("the import path", "closed descriptors", "an exit code"):
        return  # options change how the hook is loaded, which these three show
    if (script, *options) == ("the import path", "-S"):
        return  # nothing takes the folder off the path then
    seen = []
    for out in (None, tmp_path / "opened.txt"):
        folder = tmp_path / "work"
        folder.mkdir(exist_ok=True)
        (folder / "a").write_text("1", encoding="utf-8")
        (folder / "b").write_text("2", encoding="utf-8")
        done = python(folder, SCRIPTS[script], *options, out=out)
        seen.append((done.returncode, done.stdout, done.stderr))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("place", ["absent/opened.txt", ".", "/dev/full"])
def test_a_file_that_cannot_be_written_stops_no_script(tmp_path: Path, place: str) -> None:
    done = python(tmp_path, "print(open('t.py').read(0), 'done')\n", out=tmp_path / place)
    assert (done.returncode, done.stdout, done.stderr) == (0, " done\n", "")


def test_many_threads_lose_no_file(tmp_path: Path) -> None:
    script = (
        "import threading\nnames = [f'f{n}' for n in range(2000)]\n"
        "def work(part):\n    for name in names[part::8]:\n        open(name).close()\n"
        "threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]\n"
        "[one.start() for one in threads]\n[one.join() for one in threads]\n"
    )
    for name in range(2000):
        (tmp_path / f"f{name}").write_text("", encoding="utf-8")
    events = traced(tmp_path, script)
    assert {f"{tmp_path}/f{name}" for name in range(2000)} <= events.files.keys()
    assert events.damaged == 0


def test_processes_are_followed(tmp_path: Path) -> None:
    for name in ("forked", "spawned", "started"):
        (tmp_path / name).write_text("", encoding="utf-8")
    script = (
        "import multiprocessing, os, subprocess, sys\n"
        "if __name__ == '__main__':\n"
        "    process = os.fork()\n    if not process:\n        open('forked')\n        os._exit(0)\n"
        "    os.waitpid(process, 0)\n"
        "    worker = multiprocessing.get_context('spawn').Process(target=open, args=('spawned',))\n"
        "    worker.start()\n    worker.join()\n"
        "    subprocess.run([sys.executable, '-c', \"open('started')\"])\n    os.system('true')\n"
    )
    events = traced(tmp_path, script)
    assert {f"{tmp_path}/{name}" for name in ("forked", "spawned", "started")} <= events.files.keys()
    assert "sh" in {name for _, name, _ in events.programs}


def test_the_hidden_module_of_the_environment_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("print('own', __name__)\n", encoding="utf-8")
    variables = {**os.environ, "PYTHONPATH": f"{TRACE_HOOK_BY_PATH}{os.pathsep}{tmp_path}/own"}
    for out in ("", str(tmp_path / "opened.txt")):
        words = [sys.executable, "-c", "import sys, sitecustomize; print(sitecustomize.__file__)"]
        done = subprocess.run(
            words, env={**variables, "PROJ_TRACE": out}, capture_output=True, text=True, check=True, cwd=tmp_path
        )
        assert done.stdout.splitlines() == ["own sitecustomize", f"{tmp_path}/own/sitecustomize.py"]
        assert done.stderr == ""


def test_subinterpreters_are_followed(tmp_path: Path) -> None:
    (tmp_path / "inner").write_text("", encoding="utf-8")
    script = (
        "try:\n    import _xxsubinterpreters as sub\nexcept ImportError:\n    import _interpreters as sub\n"
        "here = sub.create()\nsub.run_string(here, \"open('inner')\")\nsub.destroy(here)\n"
    )
    events = traced(tmp_path, script)
    assert f"{tmp_path}/inner" in events.files


def test_unseeded_random_numbers_are_noted(tmp_path: Path) -> None:
    assert traced(tmp_path, "import random\nrandom.random()\n").unseeded == {"random"}
    assert traced(tmp_path, "import random\n").unseeded == set()
    pytest.importorskip("numpy")
    assert traced(tmp_path, "import numpy.random as r\nr.rand(2)\n").unseeded == {"numpy"}
    assert traced(tmp_path, "import numpy.random as r\nr.seed(1)\nr.rand(2)\n").unseeded - {"random"} == set()


def test_the_hook_does_nothing_without_its_variable(tmp_path: Path) -> None:
    variables = {**os.environ, "PYTHONPATH": str(TRACE_HOOK_BY_PATH)}
    variables.pop("PROJ_TRACE", None)
    code = "import sys; open('a', 'w').close(); print('path', sys.path)"
    words = [sys.executable, "-c", code]
    with_hook = subprocess.run(words, env=variables, capture_output=True, text=True, check=True, cwd=tmp_path)
    del variables["PYTHONPATH"]
    without = subprocess.run(words, env=variables, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert (with_hook.stdout.partition(" ")[2], with_hook.stderr) == (without.stdout.partition(" ")[2], "")
    assert [one.name for one in tmp_path.iterdir()] == ["a"]
