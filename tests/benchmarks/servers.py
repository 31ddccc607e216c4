"""``proj server`` beside MLflow's own server, which PROJ_BENCH_MLFLOW names, by the client that is there."""

import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import Request, urlopen

from tests.benchmarks.logging_client import BATCH, BATCHES, CYCLES, LARGE, METRICS, SMALL_FILES
from tests.benchmarks.stores import fill_mlflow, fill_proj
from tests.benchmarks.timing import Row, in_turns, proj, seconds_of

CLIENT = Path(__file__).with_name("logging_client.py")
PATIENCE = 180
PAGES = (1_000, 10_000, 100_000)
SEARCH = {"experiment_ids": ["0"], "max_results": 100, "filter": "metrics.loss > 0.2", "order_by": ["metrics.loss ASC"]}


class Server(NamedTuple):
    """A running server: what it is called, where it answers, and how long its start took."""

    name: str
    url: str
    pid: int
    seconds: float

    def post(self, path: str, body: object) -> bytes:
        """Send a request of the protocol and return the body of the answer."""
        request = Request(f"{self.url}/api/2.0/mlflow/{path}", json.dumps(body).encode(), method="POST")
        request.add_header("Content-Type", "application/json")
        with urlopen(request, timeout=PATIENCE) as reply:
            return bytes(reply.read())

    def get(self, path: str) -> bytes:
        """Read what the protocol has at a path."""
        with urlopen(f"{self.url}/api/2.0/mlflow/{path}", timeout=PATIENCE) as reply:
            return bytes(reply.read())

    def memory(self) -> float:
        """Return the megabytes of the server and of all that it started, pages that are shared counted once (Linux)."""
        return sum(map(self._share, Path("/proc").glob("[0-9]*")))

    def _share(self, process: Path) -> float:
        try:
            if os.getsid(int(process.name)) != self.pid:
                return 0
            lines = (process / "smaps_rollup").read_text().splitlines()
        except (ProcessLookupError, FileNotFoundError):  # it has just ended
            return 0
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def mlflow_program() -> Path | None:
    """Return MLflow's program, or None where there is none to compare with."""
    named = os.environ.get("PROJ_BENCH_MLFLOW") or shutil.which("mlflow")
    return Path(named) if named else None


@contextmanager
def serve(name: str, words: Sequence[str | Path], folder: Path, port: int) -> Iterator[Server]:
    """Start a server, wait for its /health, and stop it at the end with all that it started."""
    begin = time.perf_counter()
    with (folder / f"{name}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        while not is_healthy(url):
            if process.poll() is not None or time.perf_counter() - begin > PATIENCE:
                raise RuntimeError((folder / f"{name}.log").read_text(encoding="utf-8")[-2000:])
            time.sleep(0.01)
        yield Server(name, url, process.pid, time.perf_counter() - begin)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def is_healthy(url: str) -> bool:
    """Say whether a server answers at /health."""
    try:
        with urlopen(f"{url}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except (URLError, OSError):
        return False


@contextmanager
def both(workdir: Path) -> Iterator[tuple[Server, Server]]:
    """Start the two servers, each with a fresh store."""
    program = mlflow_program()
    if program is None:
        sys.exit("MLflow is not here: name its program in PROJ_BENCH_MLFLOW")
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ours, theirs = one.getsockname()[1], two.getsockname()[1]
    store = ["--backend-store-uri", f"sqlite:///{workdir}/mlflow.db", "--artifacts-destination", workdir / "files"]
    words = [program, "server", "--port", str(theirs), "--workers", "1", *store]
    with (
        serve("mlflow server", words, workdir, theirs) as peer,
        serve("proj server", proj("server", "--port", str(ours)), workdir, ours) as mine,
    ):
        yield mine, peer


def server(workdir: Path) -> Iterator[Row]:
    """Measure the start of a server, and the memory that it takes when nobody asks anything."""
    with both(workdir) as (ours, theirs):
        yield Row("start to /health", ours.seconds, theirs.name, theirs.seconds)
        yield Row("memory when idle", ours.memory(), theirs.name, theirs.memory(), "MB")


def logging(workdir: Path) -> Iterator[Row]:
    """Measure what a script does with a real client."""
    with both(workdir) as servers:
        ours, theirs = (do(each, workdir, "log_metric", "log_batch", "cycle", "history") for each in servers)
    for action, reported in {
        "log_metric": f"log_metric, {METRICS} times",
        "log_batch": f"log_batch of {BATCH}, {BATCHES} times",
        "cycle": f"start_run, a parameter, a metric, end_run, {CYCLES} times",
        "history": f"get_metric_history of {BATCH * BATCHES:,} points",
    }.items():
        yield Row(reported, ours[action], "mlflow server", theirs[action])


def do(target: Server, workdir: Path, *actions: str) -> dict[str, float]:
    """Have the real client do things at a server; returns the seconds of each."""
    program = mlflow_program()
    assert program is not None
    quiet = {
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    done = subprocess.run(
        [program.with_name("python"), CLIENT, workdir, *actions],
        env={**os.environ, **quiet, "MLFLOW_TRACKING_URI": target.url},
        capture_output=True,
        text=True,
        check=True,
    )
    return {action: float(took) for action, took in json.loads(done.stdout.splitlines()[-1]).items()}


def search(workdir: Path) -> Iterator[Row]:
    """Measure a page of 100 runs, filtered and ordered by a metric, and the history of 100,000 points."""
    with both(workdir) as (ours, theirs):
        there = 0
        for count in PAGES:
            fill_proj(Path(os.environ["PROJ_HOME"]), there, count)
            fill_mlflow(workdir / "mlflow.db", there, count)
            there = count
            assert ours.post("runs/search", SEARCH).count(b'"run_id"') >= 100
            page, peer = (partial(each.post, "runs/search", SEARCH) for each in (ours, theirs))
            took, _ = in_turns(page, page, rounds=5)
            yield Row(f"page of 100 in {count:,} runs, ordered by a metric", took, *at_most(peer, theirs.name))
        path = f"metrics/get-history?run_id={0:032x}&metric_key=long&max_results=25000"
        assert ours.get(path).count(b'"step"') == theirs.get(path).count(b'"step"') == 25_000
        took, limit = in_turns(partial(ours.get, path), partial(theirs.get, path), rounds=5)
        yield Row("first page (25,000) of a history of 100,000 points", took, theirs.name, limit)


def at_most(work: Callable[[], object], name: str) -> tuple[str, float]:
    """Return whom a row is against and the median of three calls; one is all where a call takes over ten seconds."""
    try:
        times = [seconds_of(work)]
    except TimeoutError:
        return f"{name}, which was given up", PATIENCE
    while len(times) < 3 and times[0] < 10:
        times.append(seconds_of(work))
    return name, statistics.median(times)


def artifacts(workdir: Path) -> Iterator[Row]:
    """Measure artifacts up and down by a real client, against MLflow's server and against ``cp``."""
    with (workdir / "large.bin").open("wb") as file:
        for _ in range(LARGE // 1_000_000):
            file.write(random.randbytes(1_000_000))
    for number in range(SMALL_FILES):
        path = workdir / "small" / str(number // 100) / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n")
    large = seconds_of(
        partial(subprocess.run, ["cp", "--reflink=never", workdir / "large.bin", workdir / "copy"], check=True)
    )
    small = seconds_of(partial(subprocess.run, ["cp", "-r", workdir / "small", workdir / "copies"], check=True))
    actions = {"upload_large": large, "download_large": large, "upload_small": small, "download_small": small}
    times = []
    with both(workdir) as servers:
        for each in servers:
            times.append(do(each, workdir, *actions))
            shutil.rmtree(workdir / "down")
            shutil.rmtree(workdir / "down-small")
        ours, theirs = servers
        yield Row("memory after all that", ours.memory(), theirs.name, theirs.memory(), "MB")
    for action, copied in actions.items():
        reported = action.replace("_large", " of 1 GB").replace("_small", f" of {SMALL_FILES:,} small files")
        yield Row(reported, times[0][action], "mlflow server", times[1][action])
        yield Row(reported, times[0][action], "cp", copied)
