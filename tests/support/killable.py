"""Servers and writers that tests kill: `python -m tests.support.killable` forks one for each line of its input.

A fork has all modules loaded, so that it begins within milliseconds. A line is JSON: what to be, and its arguments. The
fork answers with a line of JSON about itself when it can be spoken to, or goes on writing what was acknowledged.
"""

import json
import os
import signal
import sys
from contextlib import closing
from pathlib import Path

import runner.server.run.serving  # noqa: F401  loaded here, so that no fork has to
from runner.model import Event
from runner.server.run.socket import ChildSocket
from runner.server.standalone.serving import StandaloneServer, serve_standalone
from runner.settings import Home
from runner.store import runs, values
from runner.store.database import Database
from runner.store.entities import Metric, NewRun
from tests.support.protocol import API, fetch


def be_team(folder: str) -> None:
    """Serve a store as ``proj server`` does."""
    home = Home(Path(folder))

    def report(event: Event) -> None:
        words, _, port = event.message.rpartition(":")
        if words.startswith("Serving at"):
            tell({"pid": os.getpid(), "port": int(port)})

    with closing(Database.open(home.database)) as database:
        serve_standalone(home, database, StandaloneServer(port=0), report)


def be_socket(folder: str) -> None:
    """Serve the command of a run as ``proj run`` does."""
    home = Home(Path(folder))
    with closing(Database.open(home.database)) as database:
        run_id = runs.create(database, NewRun()).run_id
    with ChildSocket(home, run_id, "0", print) as socket:
        tell({"pid": os.getpid(), "port": socket.port, "token": socket.token})
        signal.pause()


def be_writer(folder: str, out: str) -> None:
    """Write to a store without any server; what is safe goes to a file, a line for each step."""
    with closing(Database.open(Home(Path(folder)).database)) as database, Path(out).open("wb", buffering=0) as file:
        run_id = runs.create(database, NewRun()).run_id
        tell({"pid": os.getpid()})
        file.write(f"{run_id}\n".encode())
        for step in range(100_000):
            with database.transaction():
                values.log_metrics(database, run_id, [Metric(key="m", value=step, timestamp=step, step=step)])
                values.set_tags(database, run_id, {"at": str(step)})
            file.write(b"%d\n" % step)


def be_client(port: str, out: str) -> None:
    """Write to a server; what it acknowledged goes to a file, a line for each step."""
    with Path(out).open("wb", buffering=0) as file:
        made = fetch(int(port), "POST", f"{API}runs/create", b'{"experiment_id": "0"}', {})
        run_id = made.json["run"]["info"]["run_id"]
        tell({"pid": os.getpid()})
        file.write(f"{run_id}\n".encode())
        for step in range(100_000):
            batch = {
                "run_id": run_id,
                "metrics": [{"key": "m", "value": step, "timestamp": step, "step": step}],
                "tags": [{"key": "at", "value": str(step)}],
            }
            assert fetch(int(port), "POST", f"{API}runs/log-batch", json.dumps(batch).encode(), {}).status == 200
            file.write(b"%d\n" % step)


def tell(words: object) -> None:
    os.write(1, f"{json.dumps(words)}\n".encode())


def main() -> None:
    kinds = {"team": be_team, "socket": be_socket, "writer": be_writer, "client": be_client}
    # Forks that are gone leave nothing to wait for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        kind, *words = json.loads(line)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            kinds[kind](*words)
            os._exit(0)


if __name__ == "__main__":
    main()
