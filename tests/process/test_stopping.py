"""How commands are stopped: signals to us, time limits, a terminal, and our own death; nothing survives."""

import os
import pty
import select
import signal
import sys
import threading
import time
from pathlib import Path
from signal import Signals

import pytest

from runner import process
from runner.process import Echo, Interrupted, Outcome, ProcessRequest, Stdin, raising_signals
from tests.support.process_driver import Driver, wait_until

pytestmark = pytest.mark.slow

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks at processes through /proc")

TICKING = "import time\nwhile True:\n    print('tick', flush=True); time.sleep(0.01)"
DEAF = f"import signal\nfor n in (2, 15, 1): signal.signal(n, signal.SIG_IGN)\n{TICKING}"


def compound(folder: Path, code: str = TICKING) -> tuple[str, ...]:
    """Return a command of several processes that writes to a file as long as it lives."""
    (folder / "b.py").write_text(code)
    return ("bash", "-c", f"echo a && '{sys.executable}' b.py | tee c.txt")


def is_ticking(folder: Path) -> bool:
    written = folder / "c.txt"
    return written.exists() and written.stat().st_size > 20


def words_in(log: Path) -> list[str]:
    """Return what was said without bash's own report of a child that a signal ended."""
    return [word for word in log.read_text().split() if word != "Terminated"]


def assert_all_gone(driver: Driver, folder: Path) -> None:
    """Show that no process is left within two seconds, and that nothing is written any more."""
    wait_until(lambda: not driver.family(), 2 if os.cpu_count() != 1 else 10)
    size = (folder / "c.txt").stat().st_size if (folder / "c.txt").exists() else 0
    time.sleep(0.05)
    assert size == ((folder / "c.txt").stat().st_size if (folder / "c.txt").exists() else 0)


def run(folder: Path, *argv: str, timeout: float | None = None, grace: float = 5.0) -> Outcome:
    return process.run(
        ProcessRequest(
            argv=argv,
            cwd=folder,
            env=dict(os.environ),
            log=folder / "log.txt",
            echo=Echo.NONE,
            stdin=Stdin.NOTHING,
            timeout=timeout,
            grace=grace,
        )
    )


@needs_proc
@pytest.mark.parametrize("number", [Signals.SIGINT, Signals.SIGTERM, Signals.SIGHUP])
@pytest.mark.parametrize("to_group", [False, True])
def test_a_signal_stops_the_whole_tree(tmp_path: Path, number: Signals, to_group: bool) -> None:
    driver = Driver(tmp_path, *compound(tmp_path), grace=20)
    wait_until(lambda: is_ticking(tmp_path))
    (os.killpg if to_group else os.kill)(driver.process.pid, number)
    outcome = driver.outcome()
    assert outcome.stopped_by == number.name
    assert outcome.exit_code != 0
    assert outcome.wall_seconds < 20, "only the first signal was needed"
    assert_all_gone(driver, tmp_path)
    assert driver.log.read_text().startswith("a\ntick\n")


def test_a_command_that_relays_is_signalled_alone_and_killed_with_the_rest(tmp_path: Path) -> None:
    child = "import signal, time\nfor n in (2, 15): signal.signal(n, lambda n, _: print('child', n, flush=True))\n"
    child += "print('up', flush=True)\nwhile True: time.sleep(0.1)"
    (tmp_path / "child.py").write_text(child)
    leader = (
        "import signal, subprocess, sys\n"
        "for n in (2, 15): signal.signal(n, lambda n, _: print('leader', n, flush=True))\n"
        "while True: subprocess.run([sys.executable, 'child.py'])"
    )
    outcome = process.run(
        ProcessRequest(
            argv=(sys.executable, "-c", leader),
            cwd=tmp_path,
            env=dict(os.environ),
            log=tmp_path / "log.txt",
            echo=Echo.NONE,
            stdin=Stdin.NOTHING,
            timeout=1,
            grace=0.3,
            relays=True,
        )
    )
    assert (outcome.stopped_by, outcome.signal) == ("timeout", Signals.SIGKILL)
    assert (tmp_path / "log.txt").read_text().splitlines() == ["up", "leader 2", "leader 15"]


@needs_proc
def test_a_tree_that_ignores_all_but_a_kill_is_killed(tmp_path: Path) -> None:
    driver = Driver(tmp_path, "bash", "-c", f"trap '' INT TERM; {compound(tmp_path, DEAF)[2]}", grace=0.2)
    wait_until(lambda: is_ticking(tmp_path))
    driver.process.send_signal(Signals.SIGINT)
    outcome = driver.outcome()
    assert (outcome.stopped_by, outcome.exit_code, outcome.signal) == ("SIGINT", 137, 9)
    assert_all_gone(driver, tmp_path)


@needs_proc
def test_a_second_signal_sends_the_next_signal(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(2, lambda *_: print('interrupted', flush=True))\n"
        "signal.signal(15, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True)\nwhile True: time.sleep(0.01)"
    )
    driver = Driver(tmp_path, sys.executable, "-c", code, grace=300)
    wait_until(lambda: driver.log.exists() and "ready" in driver.log.read_text())
    driver.process.send_signal(Signals.SIGINT)
    wait_until(lambda: "interrupted" in driver.log.read_text())
    driver.process.send_signal(Signals.SIGINT)
    outcome = driver.outcome()
    assert (outcome.exit_code, outcome.stopped_by) == (7, "SIGINT")


def test_a_command_may_end_in_its_own_way_when_it_is_stopped(tmp_path: Path) -> None:
    code = "import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('saved')"
    driver = Driver(tmp_path, "bash", "-c", f"echo ready; exec '{sys.executable}' -c \"{code}\"", grace=300)
    wait_until(lambda: driver.log.exists() and "ready" in driver.log.read_text())
    time.sleep(0.3)
    driver.process.send_signal(Signals.SIGINT)
    outcome = driver.outcome()
    assert outcome.stopped_by == "SIGINT"
    if outcome.exit_code == 0:  # else the interpreter was still starting
        assert driver.log.read_text() == "ready\nsaved\n"


def test_what_saves_its_state_on_sigterm_gets_sigterm_first(tmp_path: Path) -> None:
    driver = Driver(
        tmp_path,
        "bash",
        "-c",
        "trap 'echo INT' INT; trap 'echo TERM; exit 9' TERM; echo ready; while :; do sleep 0.02; done",
    )
    wait_until(lambda: driver.log.exists() and "ready" in driver.log.read_text())
    driver.process.send_signal(Signals.SIGTERM)
    outcome = driver.outcome()
    assert (outcome.exit_code, outcome.stopped_by) == (9, "SIGTERM")
    assert words_in(driver.log) == ["ready", "TERM"]


def test_nohup_keeps_its_meaning(tmp_path: Path) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    argv = ("bash", "-c", "echo ready; kill -HUP $PPID $$; for i in 1 2 3 4 5; do sleep 0.1; done; echo end")
    driver = Driver(tmp_path, *argv, popen={"preexec_fn": ignore})
    wait_until(lambda: driver.log.exists() and "ready" in driver.log.read_text())
    driver.process.send_signal(Signals.SIGHUP)
    outcome = driver.outcome()
    assert (outcome.exit_code, outcome.stopped_by) == (0, None)
    assert driver.log.read_text() == "ready\nend\n"


@needs_proc
@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4])
def test_nothing_survives_when_we_are_killed(tmp_path: Path, delay: float) -> None:
    driver = Driver(tmp_path, *compound(tmp_path, DEAF))
    time.sleep(delay)
    driver.process.kill()
    driver.process.wait()
    assert_all_gone(driver, tmp_path)


@needs_proc
def test_daemons_do_not_survive_when_we_are_killed(tmp_path: Path) -> None:
    daemon = f"setsid bash -c 'setsid nohup {sys.executable} b.py >> c.txt 2>&1 &' &"
    driver = Driver(tmp_path, "bash", "-c", f"{daemon} sleep 60")
    (tmp_path / "b.py").write_text(DEAF)
    wait_until(lambda: is_ticking(tmp_path))
    driver.process.kill()
    driver.process.wait()
    assert_all_gone(driver, tmp_path)


@needs_proc
def test_daemons_do_not_survive_the_command(tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text(DEAF)
    daemon = f"setsid bash -c 'setsid nohup {sys.executable} b.py >> c.txt 2>&1 &' &"
    argv = ("bash", "-c", f"{daemon} while [ ! -s c.txt ]; do sleep 0.02; done; exit 3")
    driver = Driver(tmp_path, *argv, grace=0.3)
    outcome = driver.outcome()
    assert (outcome.exit_code, outcome.stopped_by) == (3, None)
    assert len(outcome.left_behind) == 1
    assert outcome.left_behind[0].startswith("python")
    assert_all_gone(driver, tmp_path)


@needs_proc
def test_nothing_of_a_killed_group_survives(tmp_path: Path) -> None:
    driver = Driver(tmp_path, *compound(tmp_path, DEAF))
    wait_until(lambda: is_ticking(tmp_path))
    os.killpg(driver.process.pid, Signals.SIGKILL)
    driver.process.wait()
    assert_all_gone(driver, tmp_path)


@needs_proc
def test_a_killed_supervisor_is_survived_and_the_command_is_not_left_alone(tmp_path: Path) -> None:
    driver = Driver(tmp_path, *compound(tmp_path))
    wait_until(lambda: is_ticking(tmp_path))
    children = Path(f"/proc/{driver.process.pid}/task/{driver.process.pid}/children")
    if not children.exists():
        pytest.skip("this kernel does not list children")
    for child in children.read_text().split():
        os.kill(int(child), Signals.SIGKILL)
    assert driver.outcome().exit_code == 137
    assert_all_gone(driver, tmp_path)


def test_a_time_limit_stops_the_command(tmp_path: Path) -> None:
    outcome = run(tmp_path, "sleep", "60", timeout=0.2)
    assert (outcome.stopped_by, outcome.signal) == ("timeout", 2)
    assert 0.2 <= outcome.wall_seconds < 30


def test_a_time_limit_sends_every_signal_of_the_stop_sequence(tmp_path: Path) -> None:
    code = "trap 'echo INT' INT; trap 'echo TERM' TERM; while :; do sleep 0.02; done"
    outcome = run(tmp_path, "bash", "-c", code, timeout=0.3, grace=0.3)
    assert (outcome.stopped_by, outcome.exit_code) == ("timeout", 137)
    assert words_in(tmp_path / "log.txt") == ["INT", "TERM"]


def test_a_time_limit_that_is_not_reached_changes_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, "true", timeout=60).stopped_by is None


def test_a_stopped_tree_can_be_ended(tmp_path: Path) -> None:
    outcome = run(tmp_path, "bash", "-c", "kill -STOP $$", timeout=0.2)
    assert outcome.stopped_by == "timeout"
    assert outcome.wall_seconds < 4, "SIGINT arrived, because the command was continued"


def test_another_thread_can_run_commands_and_leaves_signals_alone(tmp_path: Path) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    outcomes: list[Outcome] = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(run(tmp_path, "bash", "-c", "sleep 0.1; exit 3")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [outcome.exit_code for outcome in outcomes] == [3, 3, 3]
    run(tmp_path, "true")
    assert before == {number: signal.getsignal(number) for number in before}


@needs_proc
def test_a_program_whose_other_thread_runs_a_command_dies_with_the_command(tmp_path: Path) -> None:
    driver = Driver(tmp_path, *compound(tmp_path), in_thread=True)
    wait_until(lambda: is_ticking(tmp_path))
    driver.process.send_signal(Signals.SIGTERM)
    assert driver.process.wait(30) == -Signals.SIGTERM
    assert_all_gone(driver, tmp_path)


def test_signals_between_commands_are_raised() -> None:
    before = signal.getsignal(signal.SIGTERM)
    for number, code in ((Signals.SIGTERM, 143), (Signals.SIGINT, 130), (Signals.SIGHUP, 129)):
        with pytest.raises(Interrupted) as caught, raising_signals():
            signal.raise_signal(number)
        assert (caught.value.signal, caught.value.exit_code) == (number, code)
    assert signal.getsignal(signal.SIGTERM) == before


class Shell:
    """A session on a terminal of its own, with what appears on it."""

    def __init__(self, folder: Path, *argv: str, **request: object) -> None:
        self.primary, secondary = pty.openpty()
        self.seen = b""
        # The session leader makes the terminal its own and gives the program a group of its own in front, as shells do.
        leader = (
            "import fcntl, os, signal, sys, termios\n"
            "os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
            "signal.signal(signal.SIGTTOU, signal.SIG_IGN)\n"
            "pid = os.fork()\n"
            "if pid == 0:\n"
            "    os.setpgid(0, 0); os.tcsetpgrp(0, os.getpid()); signal.signal(signal.SIGTTOU, signal.SIG_DFL)\n"
            "    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
            "while True:\n"
            "    _, status = os.waitpid(pid, os.WUNTRACED)\n"
            "    if not os.WIFSTOPPED(status): break\n"
            "    os.tcsetpgrp(0, os.getpgrp()); print('[stopped]', flush=True)\n"
            "    while input() != 'fg': pass\n"
            "    os.tcsetpgrp(0, pid); os.killpg(pid, signal.SIGCONT)\n"
            "print('[front]' if os.tcgetpgrp(0) == pid else '[lost]', flush=True)\n"
            "sys.exit(os.waitstatus_to_exitcode(status))\n"
        )
        streams = {"stdin": secondary, "stdout": secondary, "stderr": secondary, "start_new_session": False}
        self.driver = Driver(folder, *argv, popen=streams, before=("-c", leader), **request)
        os.close(secondary)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.primary, text.encode())

    def wait_for(self, text: str) -> None:
        """Wait until a text has appeared."""
        wait_until(lambda: self._look() and text.encode() in self.seen)

    def _look(self) -> bool:
        while select.select([self.primary], [], [], 0)[0]:
            try:
                data = os.read(self.primary, 4096)
            except OSError:
                break
            if not data:
                break
            self.seen += data
        return True

    def outcome(self) -> Outcome:
        """Return how the command ended, when it has."""
        wait_until(lambda: self._look() and self.driver.process.poll() is not None)
        os.close(self.primary)
        return self.driver.outcome()


@needs_proc
def test_ctrl_c_on_a_terminal_stops_the_tree_once(tmp_path: Path) -> None:
    code = "trap 'echo INT; exit 5' INT; echo ready; while :; do sleep 0.02; done"
    shell = Shell(tmp_path, "bash", "-c", code)
    shell.wait_for("ready")
    shell.type("\x03")
    outcome = shell.outcome()
    assert (outcome.exit_code, outcome.stopped_by) == (5, "SIGINT")
    assert shell.seen.count(b"INT") == 1
    assert b"[front]" in shell.seen


@needs_proc
def test_a_command_can_be_talked_to_on_a_terminal(tmp_path: Path) -> None:
    code = "x = input('name? '); y = input('again? '); print(f'<{x}{y}>', open('/dev/tty').readline())"
    shell = Shell(tmp_path, "bash", "-c", f"echo a && '{sys.executable}' -c \"{code}\" | cat")
    shell.wait_for("name?")
    shell.type("Ada\n")
    shell.wait_for("again?")
    shell.type("Eve\nend\n")
    outcome = shell.outcome()
    assert outcome.exit_code == 0
    assert "<AdaEve> end" in shell.driver.log.read_text()
    assert b"[front]" in shell.seen, "we have the terminal back"


@needs_proc
def test_ctrl_c_while_a_command_is_talked_to_is_its_own_matter(tmp_path: Path) -> None:
    code = "import sys\ntry:\n    input('name? ')\nexcept KeyboardInterrupt:\n    print('never mind'); sys.exit(6)"
    shell = Shell(tmp_path, sys.executable, "-c", code)
    shell.wait_for("name?")
    time.sleep(0.2)
    shell.type("\x03")
    outcome = shell.outcome()
    assert (outcome.exit_code, outcome.stopped_by) == (6, "SIGINT")
    assert "never mind" in shell.driver.log.read_text()


@needs_proc
@pytest.mark.parametrize("is_talking", [False, True])
def test_ctrl_z_and_back(tmp_path: Path, is_talking: bool) -> None:
    wait = "read x" if is_talking else "while [ ! -e go ]; do sleep 0.02; done"
    shell = Shell(tmp_path, "bash", "-c", f"echo ready; {wait}; echo over $x")
    shell.wait_for("ready")
    time.sleep(0.2)
    shell.type("\x1a")
    shell.wait_for("[stopped]")
    (tmp_path / "go").touch()
    time.sleep(0.1)
    assert "over" not in shell.driver.log.read_text()
    shell.type("fg\n")
    time.sleep(0.2)
    if is_talking:
        shell.type("now\n")
    outcome = shell.outcome()
    assert (outcome.exit_code, outcome.stopped_by) == (0, None)
    assert "over" in shell.driver.log.read_text()
    assert b"[front]" in shell.seen
