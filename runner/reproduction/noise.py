"""Measures and stores the noise of a run: by how much its results differ when nothing is changed."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from math import isfinite

import msgspec
from msgspec import Struct

from runner.base.checksummed_files import DamagedFileError, read_checksummed, write_checksummed
from runner.base.plurals import counted
from runner.errors import StoreError
from runner.reproduction.metrics import Steps
from runner.reproduction.outputs import OutputFile, compare_outputs
from runner.reproduction.tolerance import Allowance, Tolerances
from runner.settings import Home

NOISE_FILE = "noise.json"


class Noise(Struct, frozen=True, kw_only=True):
    """The measured noise of a run: for each metric and output, the largest difference between two repetitions.

    ``runs`` are the ids of the repetitions; the run itself counts as one more. ``unstable`` are the results that
    differed in another way than by numbers, for which no tolerance helps.
    """

    runs: tuple[str, ...]
    metrics: dict[str, float] = {}
    outputs: dict[str, float] = {}
    unstable: tuple[str, ...] = ()

    def rules(self, differences: dict[str, float]) -> dict[str, Allowance]:
        """Return differences as rules."""
        source = f"the noise of {counted(len(self.runs), 'repetition')} (proj calibrate)"
        return {name: Allowance(atol=value, source=f"{source}: {value:.3g}") for name, value in differences.items()}


def measure_metrics(histories: Sequence[Mapping[str, Steps]]) -> tuple[dict[str, float], list[str]]:
    """Return the noise of each metric, and the metrics whose steps or finite values differ between the runs."""
    noise: dict[str, float] = {}
    unstable = []
    for name in sorted({name for history in histories for name in history}):
        spread = _spread([history.get(name, {}) for history in histories])
        if spread is None:
            unstable.append(name)
        elif spread:
            noise[name] = spread
    return noise, unstable


def _spread(histories: Sequence[Steps]) -> float | None:
    """Return the largest difference at the same place of two histories; None if they do not have the same places."""
    shapes = {tuple((step, len(values)) for step, values in sorted(history.items())) for history in histories}
    if len(shapes) > 1:
        return None
    columns = (
        column for step in histories[0] for column in zip(*(history[step] for history in histories), strict=True)
    )
    spreads = [_spread_of(column) for column in columns]
    known = [spread for spread in spreads if spread is not None]
    return max(known, default=0.0) if len(known) == len(spreads) else None


def _spread_of(values: Iterable[float]) -> float | None:
    found = tuple(values)
    if len({repr(value) for value in found}) == 1:
        return 0.0
    return max(found) - min(found) if all(map(isfinite, found)) else None


def measure_outputs(runs: Sequence[Mapping[str, OutputFile]]) -> tuple[dict[str, float], list[str]]:
    """Return the noise of the numbers in each output, and the outputs that differ in another way."""
    noise: dict[str, float] = {}
    unstable: dict[str, None] = {}
    for first, second in combinations(runs, 2):
        for one in compare_outputs(first, second, Tolerances()):
            if isinstance(one.difference, float) and one.difference > 0:
                noise[one.name] = max(noise.get(one.name, 0.0), one.difference)
            elif not one.verdict.is_reproduced:
                unstable[one.name] = None
    return {name: value for name, value in noise.items() if name not in unstable}, list(unstable)


def write_noise(home: Home, run_id: str, noise: Noise) -> None:
    """Keep the noise with its run."""
    write_checksummed(home.run(run_id) / NOISE_FILE, msgspec.json.encode(noise))


def read_noise(home: Home, run_id: str) -> Noise | None:
    """Return the noise of a run, None if it was not measured.

    Raises:
        StoreError: the file is damaged.
    """
    path = home.run(run_id) / NOISE_FILE
    try:
        return msgspec.json.decode(read_checksummed(path), type=Noise)
    except FileNotFoundError:
        return None
    except (DamagedFileError, msgspec.DecodeError, OSError) as error:
        hint = f"Measure it again: proj calibrate {run_id[:8]}"
        raise StoreError("The measured noise of the run can't be read", context=str(path), hint=hint) from error
