"""A local server without tokens: its own user gets in, nobody else does, however a connection ends."""

import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from runner.server import peers
from runner.server.peers import Connection, can_tell_users, find_user
from runner.settings import Home
from runner.store import runs, server_keys
from runner.store.database import Database
from runner.store.entities import NewRun
from runner.sync.access import read_access
from tests.conftest import RunProj
from tests.support import blind_writer
from tests.support.protocol import API, Stage
from tests.support.standalone_server import RunningServer, standalone_server

pytestmark = pytest.mark.slow

IS_ROOT = os.name == "posix" and os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can be another user")
needs_kernel = pytest.mark.skipif(not can_tell_users(), reason="this kernel does not tell whose a connection is")


@pytest.fixture
def place(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def standalone(place: Home, tmp_path: Path) -> Iterator[RunningServer]:
    with standalone_server(tmp_path, "--quiet", PROJ_HOME=str(place.root)) as server:
        yield server


def names_of_runs(place: Home) -> list[str]:
    with closing(Database.open(place.database)) as database:
        return [str(row["name"]) for row in database.query("SELECT name FROM runs")]


def attack(host: str, port: int, count: int) -> None:
    words = [sys.executable, blind_writer.__file__, host, str(port), str(count)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/", timeout=240)
    assert done.stdout.strip() == str(count), done.stderr


@needs_root
@needs_kernel
@pytest.mark.parametrize("count", [300, pytest.param(6000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_no_blind_write_of_another_user_is_taken(place: Home, tmp_path: Path, host: str, count: int) -> None:
    with standalone_server(tmp_path, "--quiet", "--host", host, PROJ_HOME=str(place.root)) as standalone:
        attack(host, standalone.port, count)
        with closing(socket.create_connection((host, standalone.port), timeout=20)) as own:
            own.sendall(blind_writer.WRITE.replace(b"blind", b"mine!"))
            assert b" 200 " in own.recv(1000)
    assert names_of_runs(place) == ["mine!"]


@needs_root
def test_no_blind_write_reaches_the_socket_of_a_run(place: Home) -> None:
    with closing(Database.open(place.database)) as database:
        stage = Stage(place, database)
        with stage.socket as served:
            attack("127.0.0.1", served.port, 300)
    assert sorted(names_of_runs(place)) == ["foreign", "own"]


@needs_root
@needs_kernel
def test_without_sock_diag_the_table_of_the_kernel_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(peers, "_ask_netlink", refuse)
    test_only_an_established_socket_that_a_process_holds_has_a_user("127.0.0.1", "127.0.0.1")
    test_only_an_established_socket_that_a_process_holds_has_a_user("::1", "::1")
    test_only_an_established_socket_that_a_process_holds_has_a_user("127.0.0.1", "::ffff:127.0.0.1")
    monkeypatch.setattr(peers, "MAX_TABLE", 10)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as near:
        assert find_user(near.getsockname(), listener.getsockname()) is None


@needs_kernel
@pytest.mark.parametrize(("server", "client"), [("127.0.0.1",) * 2, ("::1",) * 2, ("127.0.0.1", "::ffff:127.0.0.1")])
def test_only_an_established_socket_that_a_process_holds_has_a_user(server: str, client: str) -> None:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.create_server((server, 0), family=family) as listener:
        address = listener.getsockname()[:2]

        def connect() -> tuple[socket.socket, socket.socket, Connection]:
            near = socket.create_connection((client, address[1]), timeout=20)
            far, peer = listener.accept()
            return near, far, Connection(peer[:2], address, far)

        near, far, connection = connect()
        with near, far:
            assert connection.user == os.geteuid()
        for ending in (blind_writer.close, blind_writer.half_close, blind_writer.reset):
            near, far, connection = connect()
            with far:
                ending(near)
                assert connection.user is None, ending
        near, far, connection = connect()
        with near, far:
            near.shutdown(socket.SHUT_WR)
            assert connection.user is None
        near, far, connection = connect()
        near.close()
        far.close()  # TIME_WAIT
        assert connection.user is None
        assert find_user((server, address[1]), (server, 9)) is None  # the listener itself is no connection


@needs_kernel
def test_a_later_connection_from_the_same_port_does_not_vouch_for_an_earlier_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        for _ in range(20):
            first = socket.create_connection(address)
            port = first.getsockname()
            far, peer = listener.accept()
            old = Connection(peer, address, far)
            blind_writer.reset(first)
            with far, socket.socket() as second:
                second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    second.bind(port)
                except OSError:  # another program of this machine has the port now
                    continue
                second.connect(address)
                assert find_user(port, address) == os.geteuid()
                assert old.user is None
                return
    raise AssertionError("the port was never free")


def test_the_key_of_a_server_is_for_its_user_alone(standalone: RunningServer, place: Home) -> None:
    (file,) = (place.root / "servers").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert str(file) in standalone.log
    key = file.read_text(encoding="ascii")
    assert key not in standalone.log
    environ = {"PROJ_HOME": str(place.root)}
    access = read_access(standalone.url, environ)
    assert access.authorization == f"Bearer {key}"
    assert access.secrets == (key,)
    assert read_access(standalone.url, {**environ, "MLFLOW_TRACKING_TOKEN": "mine"}).authorization == "Bearer mine"
    # A name, or another address, may lead to another user's server.
    for host in ("localhost", "[::1]", "127.0.0.2", "10.0.0.1"):
        assert not read_access(f"http://{host}:{standalone.port}", environ).authorization, host
    assert standalone.send("GET", "/health").status == 200  # only then it is sure to end in good order
    standalone.stop()
    assert not file.exists()


def test_a_key_that_others_could_have_written_or_read_is_not_sent(place: Home) -> None:
    key = server_keys.create(place, "127.0.0.1", 5000)
    assert server_keys.find(place, "127.0.0.1", 5000) == key.text
    key.path.chmod(0o644)
    assert server_keys.find(place, "127.0.0.1", 5000) is None
    key.path.unlink()
    (place.root / "elsewhere").write_text(key.text, encoding="ascii")
    (place.root / "elsewhere").chmod(0o600)
    key.path.symlink_to(place.root / "elsewhere")
    assert server_keys.find(place, "127.0.0.1", 5000) is None
    later = server_keys.create(place, "127.0.0.1", 5000)
    key.remove()
    assert server_keys.find(place, "127.0.0.1", 5000) == later.text != key.text


@needs_root
@needs_kernel
def test_the_key_opens_the_server_for_a_process_that_the_kernel_does_not_vouch_for(
    standalone: RunningServer, place: Home
) -> None:
    """A container or a tunnel of the same user comes with another user id."""
    (file,) = (place.root / "servers").iterdir()
    for key, status in ((file.read_text(encoding="ascii"), 200), (server_keys.PREFIX + "x" * 43, 401), ("", 401)):
        code = f"""
import encodings.idna, http.client, os
os.setuid(65534)
connection = http.client.HTTPConnection("127.0.0.1", {standalone.port}, timeout=20)
connection.request("POST", "{API}runs/create", b'{{"experiment_id": "0"}}', {{"Authorization": "Bearer {key}"}})
print(connection.getresponse().status)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
        assert done.stdout.strip() == str(status)


def test_commands_of_proj_use_the_key(standalone: RunningServer, place: Home, proj: RunProj) -> None:
    with closing(Database.open(place.database)) as database:
        run_id = runs.create(database, NewRun(name="listed")).run_id
    done = proj("list", "--tracking-uri", standalone.url, PROJ_HOME=str(place.root))
    assert done.code == 0, done.err
    assert run_id[:8] in done.out


def test_a_killed_server_leaves_a_key_that_opens_nothing(place: Home, tmp_path: Path) -> None:
    with standalone_server(tmp_path, PROJ_HOME=str(place.root)) as standalone:
        (file,) = (place.root / "servers").iterdir()
        old = file.read_text(encoding="ascii")
        standalone.process.kill()
        standalone.process.wait()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with (
            suppress(AssertionError),
            standalone_server(tmp_path, "--port", str(standalone.port), PROJ_HOME=str(place.root)),
        ):
            assert file.read_text(encoding="ascii") != old
            return
    raise AssertionError("the server does not start again")
