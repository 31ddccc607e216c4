"""What a script does with a real client of MLflow, timed; run by the client's own Python, not by proj's.

``logging_client.py FOLDER ACTION…`` prints one JSON object: the seconds of each action.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

METRICS = 500
BATCHES = 20
BATCH = 1000
CYCLES = 50
LARGE = 1_000_000_000
SMALL_FILES = 10_000


def log_metric(client: Any, run_id: str, folder: Path) -> None:  # noqa: ARG001
    """Log one metric after the other."""
    for step in range(METRICS):
        client.log_metric(run_id, "loss", 1 / (step + 1), step=step)


def log_batch(client: Any, run_id: str, folder: Path) -> None:  # noqa: ARG001
    """Log metrics by the thousand."""
    from mlflow.entities import Metric  # type: ignore[import-not-found, unused-ignore]

    for number in range(BATCHES):
        steps = range(number * BATCH, (number + 1) * BATCH)
        client.log_batch(
            run_id, metrics=[Metric("batched", step * 0.5, 1_700_000_000_000 + step, step) for step in steps]
        )


def cycle(client: Any, run_id: str, folder: Path) -> None:  # noqa: ARG001
    """Open and close runs, each with a parameter and a metric."""
    import mlflow

    for number in range(CYCLES):
        with mlflow.start_run():
            mlflow.log_param("number", number)
            mlflow.log_metric("value", number)


def history(client: Any, run_id: str, folder: Path) -> None:  # noqa: ARG001
    """Read the history that `log_batch` has written."""
    assert len(client.get_metric_history(run_id, "batched")) == BATCHES * BATCH


def upload_large(client: Any, run_id: str, folder: Path) -> None:
    """Log a large file."""
    client.log_artifact(run_id, str(folder / "large.bin"))


def download_large(client: Any, run_id: str, folder: Path) -> None:
    """Download it again."""
    (folder / "down").mkdir()
    client.download_artifacts(run_id, "large.bin", str(folder / "down"))
    assert (folder / "down/large.bin").stat().st_size == (folder / "large.bin").stat().st_size


def upload_small(client: Any, run_id: str, folder: Path) -> None:
    """Log a folder of small files."""
    client.log_artifacts(run_id, str(folder / "small"), "small")


def download_small(client: Any, run_id: str, folder: Path) -> None:
    """Download it again."""
    (folder / "down-small").mkdir()
    client.download_artifacts(run_id, "small", str(folder / "down-small"))
    assert sum(len(files) for _, _, files in os.walk(folder / "down-small")) == SMALL_FILES


def main(folder: Path, actions: list[str]) -> None:
    """Perform the actions in one run, after a first call that opens the connection."""
    import mlflow

    client = mlflow.MlflowClient()
    run = client.create_run("0")
    client.set_tag(run.info.run_id, "first", "call")
    took = {}
    for action in actions:
        start = time.perf_counter()
        globals()[action](client, run.info.run_id, folder)
        took[action] = time.perf_counter() - start
    client.set_terminated(run.info.run_id)
    print(json.dumps(took))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
