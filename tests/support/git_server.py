"""A git server on the loopback interface that asks for a password: git's own backend behind Python's HTTP server."""

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


class GitServer(ThreadingHTTPServer):
    """Serves the bare repositories and files below a folder; ``requests`` are the paths that were asked for."""

    daemon_threads = False

    def __init__(self, folder: Path, user: str = "", password: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.folder = folder
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.wanted = f"Basic {pair}" if user else None
        self.requests: list[str] = []

    def url(self, path: str, user_info: str = "") -> str:
        return f"http://{user_info}127.0.0.1:{self.server_port}/{path}"


class _Answer(BaseHTTPRequestHandler):
    server: GitServer

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if self.server.wanted and self.headers.get("Authorization") != self.server.wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        parts = urlsplit(self.path)
        target = self.server.folder / parts.path.lstrip("/")
        if parts.path.startswith("/redirect"):
            self.send_response(302)
            self.send_header("Location", parts.query)
            self.end_headers()
        elif target.is_file() and ".git" not in parts.path:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(target.read_bytes())
        else:
            self._backend(parts.path, parts.query)

    def do_POST(self) -> None:
        self.do_GET()

    def _backend(self, path: str, query: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline().strip() or b"0", 16):
                body += self.rfile.read(size)
                self.rfile.readline()
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.server.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "tester",
        }
        done = subprocess.run(["git", "http-backend"], env=environment, input=body, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line]
        status = next((value for name, value in lines if name == "Status"), "200 OK")
        self.send_response(int(status.split()[0]))
        for name, value in lines:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path, user: str = "", password: str = "") -> Iterator[GitServer]:
    """Serve a folder until the end of the block."""
    server = GitServer(folder, user, password)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
