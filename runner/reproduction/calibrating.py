"""Measures the noise of a run by reproducing it several times."""

from collections.abc import Callable
from contextlib import closing

from runner.errors import ExecutionError
from runner.model import Report, RunRecord
from runner.process import Echo
from runner.reproduction.metrics import Steps, by_step
from runner.reproduction.noise import Noise, measure_metrics, measure_outputs, write_noise
from runner.reproduction.outputs import outputs_of
from runner.reproduction.reproducing import ReproduceRequest, read_original, reproduce
from runner.reproduction.verdict import Reproduction, Verdict
from runner.runs.local import LocalReader
from runner.settings import Home
from runner.store.database import Database


def calibrate(
    request: ReproduceRequest, count: int, home: Home, report: Report, done: Callable[[Reproduction], None]
) -> Noise:
    """Reproduce a run ``count`` times, store by how much the results differ, and return it.

    ``done`` gets each reproduction when it has ended.

    Raises:
        ProjError: the run can't be reproduced, or a repetition failed.
    """
    original = read_original(request.run, home)
    records = [original]
    for _ in range(count):
        found = reproduce(request, home, report, Echo.STDERR)
        done(found)
        if found.run_id is None or found.verdict is Verdict.FAILED:
            raise ExecutionError(
                "A repetition did not come to its end, so no noise is stored",
                context=found.reason,
                hint="`proj reproduce` shows the state of each input.",
            )
        records.append(read_original(found.run_id, home))
    with closing(Database.open_to_read(home.database)) as database:
        reader = LocalReader(database, home)
        metrics, unstable = measure_metrics([_histories(record, reader) for record in records])
        outputs, others = measure_outputs([outputs_of(record, reader) for record in records])
    ids = tuple(record.run_id or "" for record in records[1:])
    noise = Noise(runs=ids, metrics=metrics, outputs=outputs, unstable=(*unstable, *others))
    write_noise(home, original.run_id or "", noise)
    return noise


def _histories(record: RunRecord, reader: LocalReader) -> dict[str, Steps]:
    return {name: by_step(reader.history(record.run_id or "", name)) for name in record.metrics}
