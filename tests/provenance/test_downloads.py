"""Files that parameters name by URL: with user and password, and whatever the server answers."""

import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from runner.errors import ExecutionError
from runner.provenance.downloads import fetch

EXPECTED = f"Basic {b64encode(b'me:pa/ss').decode()}"


class Handler(BaseHTTPRequestHandler):
    """Asks for a password; other paths answer with nonsense."""

    def do_GET(self) -> None:
        if self.path == "/nonsense":
            self.wfile.write(b"not HTTP\r\n\r\n")
        elif self.path == "/short":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        elif self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/seen")
            self.end_headers()
        else:
            sent = self.headers.get("Authorization", "nothing")
            self.send_response(200 if self.path == "/seen" or sent == EXPECTED else 401)
            self.end_headers()
            self.wfile.write(sent.encode())

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_user_and_password_are_sent_to_the_named_place_only(address: str, tmp_path: Path) -> None:
    fetch(f"http://me:pa%2Fss@{address}/data", tmp_path / "a")
    assert (tmp_path / "a").read_text() == EXPECTED
    fetch(f"http://me:pa%2Fss@{address}/moved", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "nothing"


@pytest.mark.parametrize(
    "place", ["127.0.0.1:1/x", "{}/nonsense", "{}/x", "host:port/x", "[::1/x", "a b/x", "/x", "h\u0000/x"]
)
def test_what_can_not_be_downloaded_is_one_error_without_the_password(address: str, tmp_path: Path, place: str) -> None:
    with pytest.raises(ExecutionError) as caught:
        fetch(f"http://me:my-password@{place.format(address)}", tmp_path / "a")
    assert "my-password" not in f"{caught.value.message} {caught.value.context}"
    assert list(tmp_path.iterdir()) == []
