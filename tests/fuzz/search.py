"""The search: inputs for every reader in turn until the time is over."""

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.fuzz.generators import EXAMPLES, PIECES, make_input, make_zip, save
from tests.fuzz.worker import Fault, try_input

MOST_GROWTH = 9
"""How much longer four times the input may take: four is linear, sixteen is the square."""
_LARGE = 0.03
"""Share of large inputs."""
_WORTH_MEASURING = 0.3
"""Processor seconds below which growth is not looked at."""


def search(doors: Sequence[str], seconds: float, seed: int, found: Callable[[Fault, bytes], None]) -> int:
    """Try inputs on the readers in turn; ``found`` learns of each fault. Return how many inputs were tried."""
    chosen = random.Random(seed)
    until = time.monotonic() + seconds
    count = 0
    while time.monotonic() < until:
        for door in doors:
            data = make_zip(chosen) if door == "zip" and chosen.random() < 0.8 else make_input(chosen, _size(chosen))
            outcome = try_input(door, data)
            if outcome.fault is not None:
                found(outcome.fault, data)
            count += 1
            if count % 4 == 0 and door != "zip":
                count += _measure_growth(door, chosen, found)
            if time.monotonic() > until:
                break
    return count


def _size(chosen: random.Random) -> int:
    """Return the most bytes of an input: now and then nearly as many as readers accept."""
    return 1_900_000 if chosen.random() < _LARGE else 60_000


def _measure_growth(door: str, chosen: random.Random, found: Callable[[Fault, bytes], None]) -> int:
    """Compare the time for a repetition with that for four times as many."""
    example = chosen.choice(("", *EXAMPLES))
    at = chosen.randrange(len(example) + 1)
    piece = "".join(chosen.choices(PIECES, k=chosen.choice((1, 2))))

    def make(size: int) -> bytes:
        return (example[:at] + piece * (size // len(piece)) + example[at:]).encode("utf-8", "surrogatepass")

    small, large = try_input(door, make(20_000)), try_input(door, make(80_000))
    if large.fault is not None:
        found(large.fault, make(80_000))
    elif large.seconds > _WORTH_MEASURING and large.seconds > MOST_GROWTH * max(small.seconds, 0.01):
        problem = f"{small.seconds:.2f} s for 20,000 bytes and {large.seconds:.2f} s for 80,000"
        found(Fault(door, problem), make(80_000))
    return 2


class Collector:
    """Keeps one input for each kind of fault."""

    def __init__(self, folder: Path | None = None) -> None:
        self.kinds: dict[str, str] = {}
        self._folder = folder

    def __call__(self, fault: Fault, data: bytes) -> None:
        """Learn of a fault."""
        last = fault.problem.strip().splitlines()
        place = next((line.strip() for line in reversed(last) if "runner/" in line), "")
        what = last[-1].split(" after ")[0] if last else ""
        kind = f"{fault.door}: {place} {what[:120] if place else what[:25]}"
        if kind in self.kinds:
            return
        shown = f"{data[:80]!r} ({len(data)} bytes)"
        self.kinds[kind] = f"{fault.problem.strip()}\n  input: {shown}"
        if self._folder is not None:
            path = save(self._folder, f"{fault.door}-{len(self.kinds)}", data)
            self.kinds[kind] += f"\n  kept as {path}"
