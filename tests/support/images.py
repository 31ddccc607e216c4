"""Images for tests, made from this machine's own programs, an engine that was seen to run one, and a registry."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from msgspec import Struct

from runner.engine import Engine, EngineKind, find_engine
from runner.errors import ExecutionError
from runner.settings import Home

MODEST = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
"""
"""For machines that are containers themselves: no right to raise limits, and both versions of cgroups at once."""
SHELL_TOOLS = ("cat", "env", "id", "ls", "sleep", "touch", "tr")
_UNWANTED = re.compile(
    r"test|tests|idlelib|ensurepip|tkinter|turtledemo|lib2to3|pydoc_data|site-packages|__pycache__|config-.*"
)


class EngineSetup(Struct, frozen=True):
    """An engine that works, the variables that it needs for that, and two images: one with Python, one with sh only."""

    engine: Engine
    variables: dict[str, str]
    python: str
    plain: str

    def run(self, *words: str) -> str:
        """Run the engine and return what it printed."""
        return _engine(self.engine.program, *words, variables=self.variables)

    def build(self, name: str, folder: Path) -> str:
        """Build an image and return its name."""
        self.run("build", "--quiet", "--tag", name, "--file", str(folder / "Dockerfile"), str(folder))
        return name

    def discard(self, name: str) -> None:
        """Remove a name of an image, and the image when that was its last one; nothing happens where it is absent."""
        environ = {**os.environ, **self.variables}
        subprocess.run([self.engine.program, "image", "rm", name], capture_output=True, env=environ, check=False)

    def leftovers(self, home: Home) -> list[str]:
        """Return the names of containers that are there, running or not, of runs in a home."""
        names = {f"proj-{folder.name}" for folder in (home.root / "runs").iterdir()}
        assert names
        return [name for name in self.run("ps", "--all", "--format", "{{.Names}}").split() if name in names]


def set_up(kind: str, workdir: Path) -> Iterator[EngineSetup | str]:
    """Yield an engine that runs the images made here, or the reason why there is none; the images go away again."""
    if sys.platform != "linux" or shutil.which("ldd") is None:
        yield "images are made of this machine's own programs, which needs Linux and ldd"
        return
    try:
        engine = find_engine({**os.environ, "PROJ_CONTAINER_ENGINE": kind})
    except ExecutionError as error:
        yield f"{error.message}: {error.context}"
        return
    modest = workdir / "containers.conf"
    modest.write_text(MODEST, encoding="utf-8")
    mark = os.urandom(6).hex()
    names = [f"localhost/proj-test-{mark}:{what}" for what in ("python", "plain")]
    try:
        yield _first_that_works(engine, modest, _fill(workdir, mark), names)
    finally:
        for words in (("rm", "--force", *names), ("prune", "--force", "--filter", f"label=proj.test={mark}")):
            subprocess.run([engine.program, "image", *words], capture_output=True, check=False)


def _first_that_works(engine: Engine, modest: Path, contexts: tuple[Path, Path], names: list[str]) -> EngineSetup | str:
    reason = ""
    tries: list[dict[str, str]] = [{}]
    if engine.kind is EngineKind.PODMAN and "CONTAINERS_CONF" not in os.environ:
        tries.append({"CONTAINERS_CONF": str(modest)})
    for variables in tries:
        engine_setup = EngineSetup(engine, {**variables, "PROJ_CONTAINER_ENGINE": engine.kind.value}, *names)
        try:
            for name, context in zip(names, contexts, strict=True):
                engine_setup.build(name, context)
                engine_setup.run("run", "--rm", "--network", "host", name, "sh", "-c", "exit 0")
        except subprocess.SubprocessError as error:
            printed = getattr(error, "stderr", None)
            reason = f"{engine.kind.value} can't run a container here: {printed or error}"
        else:
            return engine_setup
    return reason


def _engine(program: str, *words: str, variables: dict[str, str]) -> str:
    done = subprocess.run(
        [program, *words], check=True, capture_output=True, text=True, env={**os.environ, **variables}, timeout=200
    )
    return done.stdout.strip()


def _fill(workdir: Path, mark: str) -> tuple[Path, Path]:
    """Write the contexts of the two images; they, and what is built from them, carry a mark."""
    python = workdir / "python"
    _copy_programs(python / "root", {"sh": "bash", "bash": "bash", **{tool: tool for tool in SHELL_TOOLS}})
    _copy_python(python / "root")
    (python / "root/marker").write_text("inside\n", encoding="utf-8")
    plain = workdir / "plain"
    _copy_programs(plain / "root", {"sh": "sh", "cat": "cat"})
    interpreter = Path(sys.base_prefix) / "bin"
    head = f"FROM scratch\nLABEL proj.test={mark}\nCOPY root /\nENTRYPOINT []\nENV PATH="
    (python / "Dockerfile").write_text(f"{head}{interpreter}:/usr/bin:/bin FROM_IMAGE=yes\n", encoding="utf-8")
    (plain / "Dockerfile").write_text(f"{head}/bin\n", encoding="utf-8")
    return python, plain


def _copy_programs(root: Path, programs: dict[str, str]) -> None:
    for folder in ("bin", "etc", "root", "tmp"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n", encoding="utf-8")
    for name, program in programs.items():
        source = shutil.which(program)
        assert source, program
        shutil.copy(source, root / "bin" / name)
        _copy_libraries(root, Path(source))


def _copy_libraries(root: Path, *programs: Path) -> None:
    listed = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    for path in set(re.findall(r"(/\S+) \(0x", listed)):
        target = root / path[1:]
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


def _copy_python(root: Path) -> None:
    """Copy interpreter and standard library to their own places."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    prefix = Path(sys.base_prefix)
    program = (prefix / "bin" / version).resolve()
    target = root / str(prefix / "bin")[1:]
    target.mkdir(parents=True, exist_ok=True)
    for name in ("python", "python3", version):
        shutil.copy(program, target / name)
    _copy_libraries(root, program)
    library = Path(sysconfig.get_path("stdlib", vars={"installed_base": str(prefix), "base": str(prefix)}))
    copy = root / str(library)[1:]
    shutil.copytree(library, copy, ignore=lambda _, names: [name for name in names if _UNWANTED.fullmatch(name)])
    _copy_libraries(root, *(path for path in (copy / "lib-dynload").glob("*.so") if not path.name.startswith("_tk")))
    package = copy / ("dist-packages" if library == Path(f"/usr/lib/{version}") else "site-packages")
    (package / "made_up-1.5.dist-info").mkdir(parents=True)
    if package.name == "dist-packages":
        shutil.move(package / "made_up-1.5.dist-info", copy / "made_up-1.5.dist-info")


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Serve one image, as ``podman push IMAGE dir:FOLDER`` writes it, on the loopback address; yield host and port.

    The protocol: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pull
    """
    manifest = (folder / "manifest.json").read_bytes()
    kind = json.loads(manifest).get("mediaType", "application/vnd.oci.image.manifest.v1+json")

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            what, _, reference = self.path.rpartition("/")
            if what.endswith("/manifests"):
                self.answer(manifest, kind)
            elif what.endswith("/blobs"):
                self.answer((folder / reference.removeprefix("sha256:")).read_bytes(), "application/octet-stream")
            else:
                self.answer(b"{}", "application/json")

        def do_HEAD(self) -> None:
            self.do_GET()

        def answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Docker-Content-Digest", f"sha256:{hashlib.sha256(body).hexdigest()}")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
