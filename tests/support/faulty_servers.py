"""Servers that go wrong in one way each, and what they were sent."""

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Seen:
    """A request that reached such a server."""

    def __init__(self, request: http.server.BaseHTTPRequestHandler) -> None:
        self.method = request.command
        self.path = request.path
        self.headers = request.headers
        self.body = request.rfile.read(int(request.headers.get("content-length") or 0))


Answer = tuple[int, str, bytes]
"""Status, content type and body."""


class Odd:
    """An odd server: its address, and the requests that it got."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: list[Seen] = []


@contextmanager
def odd_server(answer: Callable[[Seen], Answer | None]) -> Iterator[Odd]:
    """Serve at a free port; an answer of None hangs up without a word."""
    odd = Odd("")

    class One(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            seen = Seen(self)
            odd.seen.append(seen)
            reported = answer(seen)
            if reported is None:
                self.close_connection = True
                return
            self.send_response(reported[0])
            self.send_header("Content-Type", reported[1])
            self.send_header("Content-Length", str(len(reported[2])))
            self.end_headers()
            self.wfile.write(reported[2])

        def log_message(self, *_words: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), One)
    server.daemon_threads = True
    odd.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield odd
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def json_error(status: int, code: str, message: str = "") -> Answer:
    return status, "application/json", f'{{"error_code": "{code}", "message": "{message}"}}'.encode()


def hanging(seconds: float) -> Callable[[Seen], Answer | None]:
    """Return the answer of a server that keeps everybody waiting."""

    def wait(_seen: Seen) -> None:
        time.sleep(seconds)

    return wait
