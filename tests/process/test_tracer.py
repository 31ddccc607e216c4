"""Commands whose opened files the kernel reports: nothing is missed, and the command runs as without it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runner import process
from runner.errors import ExecutionError, UsageError
from runner.executors.tracing import check_trace, why_not_trace
from runner.process import Echo, Outcome, ProcessRequest, Stdin
from runner.process.tracer import ARCHITECTURES, calls, make_filter
from runner.provenance.completeness import reasons_of_trace
from runner.provenance.events import Events, read_events

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_not_trace(traces=True) is not None, reason="the kernel reports no opened files"),
]


def run(folder: Path, *argv: str, **more: Any) -> tuple[Outcome, Events]:
    settings: dict[str, Any] = {"echo": Echo.NONE, "stdin": Stdin.NOTHING, "log": folder / "log", **more}
    out = folder / "traced"
    out.unlink(missing_ok=True)
    outcome = process.run(ProcessRequest(argv=argv, cwd=folder, env=dict(os.environ), trace=out, **settings))
    return outcome, read_events(out)


def script(folder: Path, text: str) -> tuple[str, str]:
    (folder / "t.py").write_text(text, encoding="utf-8")
    return sys.executable, "t.py"


def test_every_process_is_followed_and_the_outcome_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a", "sub/b", "sub/c", "d"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    command = "cat a; cd sub; cat b; env -i /bin/cat ../d; (exec < c); echo x > new; cat new; exit 3"
    outcome, events = run(tmp_path, "bash", "-c", command)
    assert outcome.exit_code == 3
    assert (tmp_path / "log").read_text(encoding="utf-8") == "asub/bdx\n"
    ways = {path.removeprefix(f"{tmp_path}/"): one for path, one in events.files.items() if str(tmp_path) in path}
    assert {name: ways[name].how for name in ("a", "sub/b", "sub/c", "d")} == dict.fromkeys(
        ("a", "sub/b", "sub/c", "d"), "r"
    )
    assert not ways["sub/new"].is_read
    assert f"{tmp_path}/sub/new" in events.read_later
    assert reasons_of_trace(events) == ()


def test_a_traced_script_is_untouched_by_signals_threads_and_errors(tmp_path: Path) -> None:
    text = (
        "import os, signal, threading\n"
        "signal.signal(signal.SIGALRM, lambda *_: None)\nsignal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)\n"
        "def work(part):\n    for n in range(part, 800, 4):\n        open(f'f{n}').close()\n"
        "threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]\n"
        "[one.start() for one in threads]\n[one.join() for one in threads]\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\n"
        "try:\n    open('absent')\nexcept FileNotFoundError:\n    print('absent')\n"
        "try:\n    os.open(b'x' * 5000, 0)\nexcept OSError as error:\n    print(error.strerror)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    for number in range(800):
        (tmp_path / f"f{number}").write_text("", encoding="utf-8")
    outcome, events = run(tmp_path, *script(tmp_path, text))
    assert outcome.signal == signal.SIGKILL
    assert (tmp_path / "log").read_text(encoding="utf-8") == "absent\nFile name too long\n"
    assert {f"{tmp_path}/f{number}" for number in range(800)} <= events.files.keys()
    assert events.is_whole


def test_a_time_limit_ends_a_traced_command(tmp_path: Path) -> None:
    outcome, events = run(tmp_path, "bash", "-c", "while true; do cat /dev/null; done", timeout=0.5, grace=0.5)
    assert outcome.stopped_by == "timeout"
    assert events.is_whole


def test_what_cannot_be_followed_is_counted(tmp_path: Path) -> None:
    text = (
        "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.syscall(425, 1, 0)\n"
        "libc.syscall({'x86_64': 304, 'aarch64': 265}[__import__('os').uname().machine], -100, 0, 0)\n"
        "libc.open(ctypes.c_void_p(8), 0)\nlibc.mount(0, 0, 0, 0, 0)\n"
    )
    _, events = run(tmp_path, *script(tmp_path, text))
    assert reasons_of_trace(events) == (
        "a file was opened by its handle: 1 times",
        "a path could not be read: 1 times",
        "a program had other file systems mounted: 1 times",
        "io_uring was used: 1 times",
    )


@pytest.mark.skipif(shutil.which("unshare") is None, reason="makes a mount namespace with unshare(1)")
def test_other_mounts_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1", encoding="utf-8")
    outcome, events = run(tmp_path, "unshare", "--mount", "--map-root-user", "cat", "a")
    if outcome.exit_code:
        pytest.skip("no namespace can be made here")
    (reason,) = reasons_of_trace(events)
    assert reason.startswith("a program had other file systems mounted: ")


def test_a_file_as_standard_input_is_counted(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("1", encoding="utf-8")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\nfrom tests.process import test_tracer as t\n"
        "from runner.process import Stdin\nfrom pathlib import Path\n"
        "_, events = t.run(Path('.').absolute(), 'cat', stdin=Stdin.INHERIT)\nprint(t.reasons_of_trace(events))\n"
    )
    root = str(Path(__file__).parents[2])
    with (tmp_path / "in").open() as file:
        done = subprocess.run(
            [sys.executable, "-c", code, root], stdin=file, cwd=tmp_path, capture_output=True, text=True, check=True
        )
    assert done.stdout == "('the standard input was a file: 1 times',)\n"


def test_a_trace_inside_a_trace_is_refused(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\nfrom tests.process import test_tracer as t\n"
        "from runner.errors import ExecutionError\nfrom pathlib import Path\nPath('x').mkdir()\n"
        "try:\n    t.run(Path('x').absolute(), 'true')\nexcept ExecutionError as error:\n"
        "    print(error.message, error.hint)\n"
    )
    outcome, _ = run(tmp_path, sys.executable, "-c", code, str(Path(__file__).parents[2]))
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert outcome.exit_code == 0, log
    assert "'true' can't be traced: the kernel refuses the filter" in log
    assert "Run it without --trace." in log


def test_a_program_that_is_absent_is_reported_as_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("#!/absent/program\n", encoding="utf-8")
    (tmp_path / "broken").chmod(0o755)
    with pytest.raises(ExecutionError, match="can't be started"):
        run(tmp_path, str(tmp_path / "broken"))


def test_a_supervisor_that_is_killed_ends_the_run(tmp_path: Path) -> None:
    text = "import os, signal, time\nos.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(60)\n"
    started = time.monotonic()
    outcome, events = run(tmp_path, *script(tmp_path, text))
    assert time.monotonic() - started < 50
    assert outcome.signal is not None
    assert reasons_of_trace(events) == ("the trace was interrupted",)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="gives up the rights of root")
def test_no_privilege_is_needed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1", encoding="utf-8")
    words = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", sys.executable, "-c"]
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\nfrom tests.process import test_tracer as t\n"
        "from pathlib import Path\n_, events = t.run(Path('.').absolute(), 'cat', 'a')\n"
        "print(str(Path('a').absolute()) in events.files, t.reasons_of_trace(events))\n"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run([*words, code, root], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "True ()\n", done.stderr


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_filter_is_well_formed(machine: str) -> None:
    code = make_filter(machine)
    assert len(code) % 8 == 0
    size = len(code) // 8
    for place in range(size):
        instruction = code[place * 8 : place * 8 + 8]
        if instruction[0] in (0x15, 0x35):
            assert place + 1 + max(instruction[2], instruction[3]) < size
    assert len(set(calls(machine))) == len(calls(machine))


def test_where_it_is_not_possible_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_trace(None, traces=False)
    with pytest.raises(UsageError, match="--trace is not possible here: the command runs in a container"):
        check_trace(True, traces=False)
    system = os.uname()
    for release, machine, reason in (
        ("4.18.0-el8", "x86_64", "it needs Linux 5.5, and this is 4.18.0-el8"),
        ("6.1.0", "riscv64", "the numbers of the calls of riscv64 are not known"),
    ):
        fields = (system.sysname, system.nodename, release, system.version, machine)
        monkeypatch.setattr(os, "uname", lambda fields=fields: os.uname_result(fields))
        assert why_not_trace(traces=True) == reason
