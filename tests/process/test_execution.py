"""Commands that run to their end: arguments, output, exit codes, what they used."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from runner import process
from runner.errors import ExecutionError
from runner.process import Echo, Outcome, ProcessRequest, Stdin, find_program, supervisor
from tests.support.process_driver import Driver, wait_until

Run = Callable[..., Outcome]
needs_setsid = pytest.mark.skipif(shutil.which("setsid") is None, reason="makes a daemon with setsid(1)")
needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks at processes through /proc")


def test_programs_are_found_as_shutil_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {name: tmp_path / name for name in ("empty", "plain", "folder", "right", "later")}
    for name, place in places.items():
        place.mkdir()
        if name not in ("empty", "folder"):
            (place / "tool").write_text("#!/bin/sh\n")
            (place / "tool").chmod(0o644 if name == "plain" else 0o755)
    (places["folder"] / "tool").mkdir()
    monkeypatch.chdir(places["right"])
    monkeypatch.setenv("PATH", os.pathsep.join([*map(str, places.values()), "/nowhere"]))
    names = ["tool", "./tool", str(places["later"] / "tool"), str(places["plain"] / "tool"), "no-such-tool"]
    paths = [None, "/nowhere", str(places["later"]), f"{places['empty']}{os.pathsep}{places['later']}"]
    for name in names:
        for path in paths:
            assert find_program(name, path) == shutil.which(name, path=path), (name, path)
    assert find_program("tool") == str(places["right"] / "tool")
    monkeypatch.delenv("PATH")
    assert find_program("sh") == shutil.which("sh")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "log.txt"


@pytest.fixture
def run(tmp_path: Path, log: Path) -> Run:
    """Return a function that runs a command in an empty folder, with its output in the log alone."""

    def start(*argv: str, env: dict[str, str] | None = None, **more: Any) -> Outcome:
        settings: dict[str, Any] = {"log": log, "echo": Echo.NONE, "stdin": Stdin.NOTHING, **more}
        variables = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        return process.run(ProcessRequest(argv=argv, cwd=tmp_path, env=variables, **settings))

    return start


def python(code: str) -> tuple[str, str, str]:
    return (sys.executable, "-c", code)


def test_a_short_command_is_captured(tmp_path: Path) -> None:
    done = process.capture(python("import sys; print(sys.stdin.read()); sys.exit(2)"), cwd=tmp_path, stdin=b"hello")
    assert (done.exit_code, done.text) == (2, "hello")
    with pytest.raises(ExecutionError, match="no such program"):
        process.capture(["there-is-no-such-program"])
    with pytest.raises(ExecutionError, match=r"longer than 0\.2 s"):
        process.capture(python("import time; time.sleep(60)"), timeout=0.2)


@pytest.mark.parametrize("code", [0, 1, 3, 42, 127, 255])
def test_the_exit_code_is_the_commands_own(run: Run, code: int) -> None:
    outcome = run("bash", "-c", f"exit {code}")
    assert (outcome.exit_code, outcome.signal, outcome.stopped_by) == (code, None, None)


def test_a_signal_gives_128_and_its_number(run: Run) -> None:
    outcome = run("bash", "-c", "kill -TERM $$; sleep 60")
    assert (outcome.exit_code, outcome.signal, outcome.stopped_by) == (143, 15, None)


def test_a_command_that_kills_its_whole_group_has_an_outcome(run: Run) -> None:
    outcome = run("bash", "-c", "sleep 60 & kill -9 0; sleep 60")
    assert (outcome.exit_code, outcome.signal) == (137, 9)


def test_a_command_that_terminates_its_group_at_the_end_harms_nobody(run: Run, log: Path) -> None:
    run("bash", "-c", "trap 'kill 0' EXIT; sleep 60 & echo done")
    assert log.read_bytes() == b"done\n"


def test_arguments_arrive_exactly(run: Run, log: Path) -> None:
    values = ["a b", "'", '"', "$HOME", "a\nb", "x=1", "", "--x", "naïve ☃", "\\", "*", "\udcff"]
    run(*python("import json, sys; print(json.dumps(sys.argv[1:]))"), *values)
    assert json.loads(log.read_text()) == values


def test_the_environment_is_the_one_asked_for_and_the_folder_too(log: Path, tmp_path: Path) -> None:
    outcome = process.run(
        ProcessRequest(
            argv=("/bin/sh", "-c", 'echo "$A|$HOME|$(pwd)"'), cwd=tmp_path, env={"A": "x=1\ny"}, log=log, echo=Echo.NONE
        )
    )
    assert outcome.exit_code == 0
    assert log.read_text() == f"x=1\ny||{tmp_path}\n"


def test_a_command_that_cannot_start_raises_the_reason(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ExecutionError, match="there is no such program"):
        run("there-is-no-such-program")
    with pytest.raises(ExecutionError, match="working directory is missing"):
        process.run(ProcessRequest(argv=("true",), cwd=tmp_path / "gone", env={}))
    (tmp_path / "data").write_text("no program")
    with pytest.raises(ExecutionError, match=r"Permission denied|Exec format"):
        run(str(tmp_path / "data"))
    with pytest.raises(ExecutionError, match="too long") as caught:
        run("true", "x" * 10_000_000)
    assert caught.value.hint is not None
    with pytest.raises(ExecutionError, match="NUL"):
        run("true", "a\0b")


def test_nothing_of_ours_is_open_in_the_command(run: Run, log: Path) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    with Path(os.devnull).open() as ours:
        os.set_inheritable(ours.fileno(), True)
        run(*python("import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"))
    assert json.loads(log.read_text())[:3] == [0, 1, 2]
    assert len(json.loads(log.read_text())) == 4, "the fourth is that of the listing"


def test_signals_have_their_default_meaning_in_the_command(run: Run, log: Path) -> None:
    run(
        *python(
            "import signal as s; print([s.getsignal(n).name for n in (s.SIGTERM, s.SIGHUP, s.SIGTSTP, s.SIGUSR1)],"
            " s.getsignal(s.SIGINT).__name__)"
        )
    )
    assert log.read_text() == "['SIG_DFL', 'SIG_DFL', 'SIG_DFL', 'SIG_DFL'] default_int_handler\n"
    outcome = run("bash", "-c", "yes | head -1 >/dev/null; exit ${PIPESTATUS[0]}")
    assert outcome.exit_code == 141, "a broken pipe ends a program as it does in a shell"


def test_resources_are_those_of_the_command_alone(run: Run) -> None:
    ballast = bytearray(200_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])
    small = run("true")
    assert small.peak_memory is not None
    assert small.peak_memory < 50_000_000, "our own memory is not the command's"
    large = run(
        *python(
            "import os\n"
            "if os.fork() == 0:\n    b = bytearray(150_000_000); b[::4096] = b'x' * len(b[::4096]); os._exit(0)\n"
            "os.wait()\n"
            "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
        )
    )
    assert large.peak_memory is not None
    assert 150_000_000 < large.peak_memory < 400_000_000, "a child counts too"
    assert 0.15 < large.user_seconds + large.system_seconds < 5
    assert large.wall_seconds >= 0.2
    assert large.resources.peak_memory == large.peak_memory


def test_times_of_day_are_milliseconds(run: Run) -> None:
    before = time.time() * 1000
    outcome = run("sleep", "0.2")
    assert before - 5 <= outcome.started_at <= outcome.ended_at - 190
    assert outcome.ended_at <= time.time() * 1000 + 5


def test_output_is_kept_byte_by_byte(run: Run, log: Path) -> None:
    data = bytes(range(256)) + b"50%\r100%\r\n" + b"\xff\xfe no end of line"
    run(*python(f"import os; os.write(1, {data!r})"))
    assert log.read_bytes() == data


def test_thirty_megabytes_on_one_line_in_bounded_memory(tmp_path: Path) -> None:
    argv = python("import sys; sys.stdout.write('x' * 30_000_000)")
    driver = Driver(tmp_path, *argv, popen={"stdout": subprocess.PIPE})
    with driver.process as program:
        assert program.stdout is not None
        assert len(program.stdout.read()) == 30_000_000
    assert driver.log.stat().st_size == 30_000_000
    assert driver.report().growth < 10_000_000


def test_output_is_shown_where_it_belongs(run: Run, log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    both = ("bash", "-c", "echo out; echo err >&2")
    run(*both, echo=Echo.SPLIT)
    assert capfd.readouterr() == ("out\n", "err\n")
    run(*both, echo=Echo.STDERR)
    assert capfd.readouterr() == ("", "out\nerr\n")
    run(*both, echo=Echo.NONE)
    assert capfd.readouterr() == ("", "")
    assert sorted(log.read_text().splitlines()) == ["err"] * 3 + ["out"] * 3


def test_output_is_shown_in_what_replaced_the_standard_streams(run: Run) -> None:
    with redirect_stdout(io.StringIO()) as output, redirect_stderr(io.TextIOWrapper(io.BytesIO())) as errors:
        run(*python("import sys; print('snö'); print('fel', file=sys.stderr)"), echo=Echo.SPLIT)
        assert errors.buffer.getvalue() == b"fel\n"
    assert output.getvalue() == "snö\n"


def test_the_log_keeps_the_order_of_output_and_errors_where_they_are_one(run: Run, log: Path) -> None:
    run("bash", "-c", "for i in $(seq 200); do echo $i; echo $i >&2; done", echo=Echo.STDERR)
    assert log.read_text().split() == [str(i) for i in range(1, 201) for _ in "ab"]


def test_output_is_live_and_input_arrives(tmp_path: Path) -> None:
    argv = ("bash", "-c", "printf ready; read x; echo $x")
    driver = Driver(tmp_path, *argv, popen={"stdin": subprocess.PIPE, "stdout": subprocess.PIPE})
    with driver.process as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.read(5) == b"ready", "it comes before the command goes on"
        assert driver.log.read_bytes() == b"ready"
        program.stdin.write(b"go on\n")
        program.stdin.close()
        assert program.stdout.read() == b"go on\n"
    assert driver.outcome().exit_code == 0


def test_a_reader_that_goes_away_does_not_harm_the_run(tmp_path: Path) -> None:
    driver = Driver(tmp_path, "seq", "100000", popen={"stdout": subprocess.PIPE})
    with driver.process as program:
        assert program.stdout is not None
        program.stdout.read(1)
    assert driver.outcome().exit_code == 0
    assert driver.log.read_text().split()[-1] == "100000"


@needs_proc
def test_a_reader_that_stands_still_does_not_keep_the_command_from_being_stopped(tmp_path: Path) -> None:
    driver = Driver(tmp_path, "yes", popen={"stdout": subprocess.PIPE}, timeout=0.3, grace=0.3)
    with driver.process as program:
        wait_until(lambda: "yes " in driver.family())
        wait_until(lambda: "yes " not in driver.family())
        assert program.stdout is not None
        program.stdout.read()
    assert driver.outcome().stopped_by == "timeout"


def test_a_command_that_closes_its_output_goes_on(run: Run, log: Path) -> None:
    outcome = run("bash", "-c", "echo first; exec >&- 2>&-; sleep 0.3; exit 5")
    assert (outcome.exit_code, log.read_text()) == (5, "first\n")
    assert outcome.wall_seconds >= 0.3


@needs_setsid
def test_a_daemon_that_holds_the_output_is_ended_and_named(run: Run, log: Path) -> None:
    outcome = run("bash", "-c", "setsid sleep 60 & echo started")
    assert (outcome.exit_code, outcome.left_behind) == (0, ("sleep",))
    assert outcome.wall_seconds < 30
    assert log.read_text() == "started\n"


def test_the_rest_of_a_pipeline_may_finish(run: Run, log: Path) -> None:
    outcome = run("bash", "-c", "echo text > >(sleep 0.2; cat)")
    assert (outcome.left_behind, log.read_text()) == ((), "text\n")


def test_secrets_are_masked_even_in_pieces(run: Run, log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = "import os, time\nfor c in b'key=s3cret-value;': os.write(1, bytes((c,))); time.sleep(0.005)"
    run(*python(code), masks=(b"s3cret-value",), echo=Echo.SPLIT)
    assert log.read_bytes() == b"key=***;"
    assert capfd.readouterr().out == "key=***;"


def test_a_log_that_cannot_be_written_does_not_stop_the_command(run: Run) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs a device that is always full")
    outcome = run("echo", "text", log=Path("/dev/full"))
    assert outcome.exit_code == 0
    assert outcome.log_fault is not None


def test_the_log_is_for_its_owner_and_is_appended_to(run: Run, log: Path) -> None:
    run("echo", "one")
    run("echo", "two")
    assert log.read_text() == "one\ntwo\n"
    assert log.stat().st_mode & 0o077 == 0


def test_standard_input_is_ours_or_nothing(run: Run, log: Path) -> None:
    run("cat", stdin=Stdin.NOTHING)
    assert log.read_bytes() == b""


def test_a_prepared_supervisor_serves_and_an_unused_one_goes_away(tmp_path: Path) -> None:
    with closing(process.prepare()) as prepared:
        request = ProcessRequest(argv=("bash", "-c", "exit 4"), cwd=tmp_path, env=dict(os.environ), echo=Echo.NONE)
        assert process.run(request, prepared).exit_code == 4
    unused = process.prepare()
    unused.close()
    assert unused.process.returncode == 0


def test_no_descriptor_is_lost(run: Run) -> None:
    def count() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    run("true")
    before = count()
    for _ in range(3):
        run("true")
    with pytest.raises(ExecutionError):
        run("there-is-no-such-program")
    assert count() == before


@pytest.mark.skipif(shutil.which("ps") is None, reason="compares with ps(1)")
@needs_proc
def test_descendants_are_found_with_and_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["bash", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE) as shell:
        try:
            assert shell.stdout is not None
            sleeper = int(shell.stdout.readline())
            wait_until(lambda: (sleeper, "sleep") in supervisor.descendants(os.getpid()))
            assert (shell.pid, "bash") in supervisor.descendants(os.getpid())
            assert supervisor.descendants(shell.pid) == [(sleeper, "sleep")]
            monkeypatch.setattr(supervisor, "IS_LINUX", False)
            assert {(shell.pid, "bash"), (sleeper, "sleep")} <= set(supervisor.descendants(os.getpid()))
            assert supervisor.descendants(shell.pid) == [(sleeper, "sleep")]
        finally:
            os.kill(sleeper, 9)
            shell.kill()
