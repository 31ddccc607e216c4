"""A short search with the fuzzers; ``PROJ_FUZZ_SECONDS`` sets how long (60 by default, 600 for a thorough one)."""

import os
import signal
from pathlib import Path

import pytest

from tests.fuzz.doors import DOORS
from tests.fuzz.generators import BOMBS, EXAMPLES
from tests.fuzz.search import Collector, search
from tests.fuzz.worker import try_input

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("PROJ_FUZZ_SECONDS", "60"))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 240)
def test_no_input_gives_a_traceback_or_takes_long(tmp_path: Path) -> None:
    collector = Collector(tmp_path)
    count = search(sorted(DOORS), SECONDS, int(os.environ.get("PROJ_FUZZ_SEED", "0")), collector)
    assert count > 0
    assert not collector.kinds, "\n".join(collector.kinds.values())


@pytest.mark.parametrize("door", DOORS)
def test_examples_and_bombs_are_read_or_refused(door: str) -> None:
    faults = [outcome.fault for text in (*EXAMPLES, *BOMBS) if (outcome := try_input(door, text.encode())).fault]
    assert not faults


def test_the_limits_are_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    def use_memory(_: bytes) -> None:
        bytearray(400 << 20)

    def use_time(data: bytes) -> None:
        while data:
            pass

    def crash(_: bytes) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def raise_bug(data: bytes) -> None:
        raise KeyError(data)

    for name, door in {"memory": use_memory, "time": use_time, "crash": crash, "bug": raise_bug}.items():
        monkeypatch.setitem(DOORS, name, door)
    problems = {name: try_input(name, b"x").fault for name in ("memory", "time", "crash", "bug")}
    assert "MemoryError" in problems["memory"].problem
    assert "SIG" in problems["time"].problem
    assert "SIGKILL" in problems["crash"].problem
    assert "KeyError" in problems["bug"].problem
