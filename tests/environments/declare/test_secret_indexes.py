"""Runs with a package index that needs a password: proj neither stores nor prints it."""

import base64
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from runner.settings import Home
from tests.conftest import RunProj, write_tree

pytestmark = pytest.mark.slow

PASSWORD = "s3cr3t@pw/with:odd"
USER = "us3r-t0ken"
TOKEN = "qu3ry-t0ken"
SECRETS = (PASSWORD, quote(PASSWORD, safe=""), USER, TOKEN, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
NAME = "projtestssecret"
FILE = f"{NAME}-1.0-py3-none-any.whl"


def wheel() -> bytes:
    info = f"{NAME}-1.0.dist-info"
    files = {
        f"{NAME}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": "".join(f"{path},,\n" for path in files)}.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return packed.getvalue()


WHEEL = wheel()
DIGEST = hashlib.sha256(WHEEL).hexdigest()


class Index(BaseHTTPRequestHandler):
    """Serves one package to whoever has the password, or the token in the query."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        given = self.headers.get("Authorization", "")
        wanted = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
        parts = urlsplit(self.path)
        if given != wanted and f"token={TOKEN}" not in parts.query:
            self._answer(401, b"", "text/plain")
        elif parts.path == f"/simple/{NAME}/":
            page = f'<!DOCTYPE html><a href="/files/{FILE}#sha256={DIGEST}">{FILE}</a>'
            self._answer(200, page.encode(), "text/html")
        elif parts.path == f"/files/{FILE}":
            self._answer(200, WHEEL, "application/octet-stream")
        else:
            self._answer(404, b"", "text/plain")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="index"')
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        del words


@pytest.fixture
def index() -> Iterator[str]:
    """The host and port of the index."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def manifest(environment: str = "") -> str:
    return f"name: t\n{environment}\nentry_points:\n  main: {{command: 'python -c \"import {NAME}\"'}}\n"


def forms(host: str) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """Return the files of projects, and files beside them, that name the index in every way that there is."""
    login = f"{USER}:{quote(PASSWORD, safe='')}@"
    simple, file = f"http://{login}{host}/simple/", f"http://{login}{host}/files/{FILE}"
    requested = f"http://{host}/files/{FILE}?token={TOKEN}"
    lock = (
        f"lock-version = '1.0'\ncreated-by = 'x'\n[[packages]]\nname = '{NAME}'\nversion = '1.0'\n"
        f"archive = {{url = '{file}', hashes = {{sha256 = '{DIGEST}'}}}}\n"
    )
    conda = f"channels: [defaults]\ndependencies:\n- pip:\n  - --extra-index-url {simple}\n  - {NAME}==1.0\n"
    uv_toml = f"[[index]]\nurl = '{simple}'\n"
    hashed = f"--extra-index-url {simple}\n{NAME}==1.0 --hash=sha256:{DIGEST}\n"
    return {
        "requirements": ({"requirements.txt": f"--extra-index-url {simple}\n{NAME}\n"}, {}),
        "hashes": ({"requirements.txt": hashed}, {}),
        "a wheel by URL": ({"requirements.txt": f"{NAME} @ {file}\n"}, {}),
        "a token in the query": ({"requirements.txt": f"{NAME} @ {requested}\n"}, {}),
        "a variable": ({"requirements.txt": f"-i http://${{LOGIN}}{host}/simple/\n{NAME}\n"}, {"LOGIN": login}),
        "conda.yaml": ({"conda.yaml": conda}, {}),
        "pylock.toml": ({"pylock.toml": lock}, {}),
        "pip.conf": ({"requirements.txt": f"{NAME}\n"}, {"PIP_CONFIG_FILE": f"[global]\nextra-index-url = {simple}\n"}),
        "uv.toml": ({"requirements.txt": f"{NAME}\n"}, {"UV_CONFIG_FILE": uv_toml}),
    }


FORMS = tuple(forms("127.0.0.1:1"))
UNWRITTEN = ("vault.git", "indexes", "folders")
"""What keeps the project's own files as they are: who writes a password into them has it in the code of the run."""


def is_ours(path: Path) -> bool:
    return path.parts[0] not in UNWRITTEN


def found_in(folder: Path) -> list[str]:
    """Return the files below a folder that hold a secret, and those called by one."""
    files = [path for path in folder.rglob("*") if path.is_file() and is_ours(path.relative_to(folder))]
    assert files
    return [
        f"{path.relative_to(folder)}: {secret}"
        for path in files
        for secret in SECRETS
        if secret.encode() in path.read_bytes() or secret in str(path)
    ]


@pytest.mark.env
@pytest.mark.parametrize("form", FORMS)
def test_index_passwords_are_neither_stored_nor_printed(
    proj: RunProj, tmp_path: Path, index: str, home: Home, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, beside = forms(index)[form]
    variables = {}
    for name, text in beside.items():
        variables[name] = text
        if name.endswith("_FILE"):
            (tmp_path / name).write_text(text, encoding="utf-8")
            variables[name] = str(tmp_path / name)
    root = write_tree(tmp_path / "project", {"MLproject": manifest(), **files})
    monkeypatch.delenv("UV_CACHE_DIR", raising=False)
    results = [proj("run", ".", "--json", cwd=root, **variables)]
    assert results[0].code == 0, results[0].err
    assert [NAME, "1.0"] in results[0].json["environment"]["packages"]
    run_id = results[0].json["run_id"]
    results += [
        proj("run", ".", cwd=root, **variables),
        proj("run", ".", "--dry-run", cwd=root, **variables),
        proj("show", run_id, cwd=root),
        proj("show", run_id, "--json", cwd=root),
        proj("env", "export", run_id, cwd=root),
    ]
    printed = json.dumps([[result.out, result.err] for result in results])
    assert not [secret for secret in SECRETS if secret in printed]
    assert not (found := found_in(home.root)), "\n".join(found)


@pytest.mark.env
@pytest.mark.parametrize("form", ["requirements", "a wheel by URL", "a token in the query", "pip.conf"])
def test_errors_do_not_contain_index_passwords(
    proj: RunProj, tmp_path: Path, index: str, home: Home, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, beside = forms(index)[form]
    absent = {path: text.replace(NAME, f"{NAME}x") for path, text in files.items()}
    variables = {}
    for name, text in beside.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        variables[name] = str(tmp_path / name)
    root = write_tree(tmp_path / "project", {"MLproject": manifest(), **absent})
    monkeypatch.delenv("UV_CACHE_DIR", raising=False)
    result = proj("run", ".", cwd=root, **variables)
    assert result.code == 1
    assert not [secret for secret in SECRETS if secret in result.out + result.err]
    assert not (found := found_in(home.root)), "\n".join(found)
