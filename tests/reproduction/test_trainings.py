"""Trainings that come out the same, and programs whose results vary."""

from pathlib import Path

import pytest

from tests.conftest import MakeRepository, RunProj
from tests.reproduction.test_reproduce import LOG, manifest, ran, reproduced

EXAMPLES = Path(__file__).parents[2] / "example_projects"
RACE = """
import os, threading
total, lock = 0.0, threading.Lock()
def add(number):
    global total
    with lock:
        total += number
threads = [threading.Thread(target=add, args=(number,)) for number in (1.0, 2.0**-53)]
for thread in sorted(threads, key=lambda _: os.urandom(8)):  # which thread is the first is chance
    thread.start()
    thread.join()
log(f"sum={total + 2.0**-53!r}")
"""


@pytest.mark.env
def test_a_seeded_training_is_identical_each_time(proj: RunProj) -> None:
    run_id = proj("run", str(EXAMPLES / "elasticnet"), "--json", "-P", "alpha=0.3").json["run_id"]
    for _ in range(2):
        done, found = reproduced(proj, run_id)
        assert (done.code, found["verdict"]) == (0, "identical")
        assert {one["name"] for one in found["metrics"]} >= {"rmse", "r2", "mae"}


@pytest.mark.slow
def test_the_sum_of_threads_is_within_tolerance_once_it_is_calibrated(
    proj: RunProj, make_repository: MakeRepository
) -> None:
    run_id = ran(proj, make_repository({"MLproject": manifest(), "t.py": LOG + RACE}))
    # By chance all of these runs have one sum and the last one has another: once in 4,000 times.
    assert proj("calibrate", run_id, "-n", "12").code == 0
    done, found = reproduced(proj, run_id)
    assert done.code == 0
    assert found["verdict"] in ("identical", "within tolerance")
