"""Search from the command line."""

import argparse
import sys
import time
from pathlib import Path

from tests.fuzz.doors import DOORS
from tests.fuzz.search import Collector, search
from tests.fuzz.worker import try_input


def main() -> int:
    """Search for inputs that readers do not take well; return 1 when there are some."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--door", action="append", choices=sorted(DOORS), help="only this reader; may be repeated")
    parser.add_argument("--keep", type=Path, help="folder for inputs that fail")
    parser.add_argument("--input", type=Path, help="try this file on the readers, nothing else")
    given = parser.parse_args()
    doors = given.door or sorted(DOORS)
    collector = Collector(given.keep)
    if given.input:
        data = given.input.read_bytes()
        outcomes = {door: try_input(door, data) for door in doors}
        print("\n".join(f"{door}: {one.seconds:.2f} s {one.fault or ''}" for door, one in outcomes.items()))
        return int(any(one.fault for one in outcomes.values()))
    count = search(doors, given.minutes * 60, given.seed, collector)
    for kind, shown in collector.kinds.items():
        print(f"--- {kind}\n{shown}")
    print(f"{count} inputs, {len(collector.kinds)} kinds of faults, seed {given.seed}")
    return int(bool(collector.kinds))


if __name__ == "__main__":
    sys.exit(main())
