"""A client of the child's socket that speaks plain HTTP, and a store with a run for it."""

import http.client
import json
from contextlib import closing
from typing import Any
from urllib.parse import urlencode

from runner.model import Event
from runner.server.run.socket import ChildSocket
from runner.settings import Home
from runner.store import runs
from runner.store.database import Database
from runner.store.entities import NewRun

API = "/api/2.0/mlflow/"


class Reply:
    """What came back."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str]:
        assert set(self.json) == {"error_code", "message"}
        assert self.headers["content-type"] == "application/json"
        return self.status, self.json["error_code"]


def fetch(port: int, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Reply:
    """Send one request to a server on the loopback address."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with closing(connection):
        connection.request(method, path, body, headers)
        return Reply(connection.getresponse())


class Client:
    """A child that speaks plain HTTP."""

    def __init__(self, socket: ChildSocket) -> None:
        self.socket = socket
        self.headers = {"Authorization": f"Bearer {socket.token}"}

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        return fetch(self.socket.port, method, path, body, {**self.headers, **headers})

    def post(self, endpoint: str, **fields: object) -> Reply:
        return self.send("POST", API + endpoint, json.dumps(fields).encode())

    def get(self, endpoint: str, **fields: object) -> Reply:
        return self.send("GET", f"{API}{endpoint}?{urlencode(fields, doseq=True)}")


class Stage:
    """A store with an open run and another's, and the socket of the first."""

    def __init__(self, home: Home, database: Database) -> None:
        self.home = home
        self.database = database
        self.run_id = runs.create(database, NewRun(name="own")).run_id
        self.foreign = runs.create(database, NewRun(name="foreign")).run_id
        self.events: list[Event] = []
        self.socket = ChildSocket(home, self.run_id, "0", self.events.append)
