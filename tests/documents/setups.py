"""What the sessions of some pages find: repositories, stores, servers and channels like those that the page names."""

import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.conftest import commit_all, git, write_tree
from tests.support.conda_channel import Package, interpreter, make_channel
from tests.support.mlflow_databases import make_database

Replacements = Mapping[str, str]
"""Texts in the session, and what they stand for in the test."""
SERVER_PORT = "5000"
_LOG_BY_HTTP = """\
import json, os, urllib.request
api = os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/"
def post(path, **fields):
    request = urllib.request.Request(api + path, json.dumps(fields).encode(), {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request))
run = post("runs/create", experiment_id="0")["run"]["info"]["run_id"]
post("runs/log-metric", run_id=run, key="rmse", value=0.5, timestamp=1, step=0)
"""
_SERVE = """\
serving=()
serve() {{
    "$@" 2> server.log & serving+=($!)
    for _ in {{1..300}}; do grep -q 'Serving at' server.log && return; sleep 0.1; done
    cat server.log >&2; return 1
}}
trap 'test -z "${{serving[*]}}" || kill "${{serving[@]}}"' EXIT
{script}
"""


def in_background(script: str) -> str:
    """Return a script that starts each ``proj server`` in the background and ends it at the end."""
    port = _free_port()
    lines = []
    for line in script.replace(SERVER_PORT, port).splitlines():
        is_first = not any("serve proj" in other for other in lines)
        number = "" if "--port" in line else f" --port {port if is_first else 0}"
        lines.append(re.sub(r"^(PROJ_HOME='.*' )?proj server\b", rf"\g<1>serve proj server{number}", line))
    return _SERVE.format(script="\n".join(lines))


def _free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def _conda(folder: Path) -> Replacements:
    tool = Package("tool", files={"bin/tool": "#!/bin/sh\necho tool\n"})
    channel = make_channel(folder.parent / "channel", interpreter(), tool)
    files = {
        "MLproject": "conda_env: environment.yml\nentry_points:\n  main:\n    command: tool\n",
        "environment.yml": f"name: mine\nchannels: [{channel.as_uri()}]\ndependencies: [tool]\n",
    }
    write_tree(folder, files)
    commit_all(folder)
    return {"pip install 'proj-runner[conda]'": "true"}


def _mlflow_stores(folder: Path) -> Replacements:
    run = "a1" * 16
    status = "status: 3\nstart_time: 1700000000000\nend_time: 1700000005000\nlifecycle_stage: active\nuser_id: ann\n"
    write_tree(
        folder / "mlruns",
        {
            "0/meta.yaml": "artifact_location: ''\nexperiment_id: '0'\nlifecycle_stage: active\nname: Default\n",
            f"0/{run}/meta.yaml": f"run_id: {run}\nrun_uuid: {run}\nexperiment_id: '0'\nartifact_uri: ''\n{status}",
            f"0/{run}/metrics/rmse": "1700000000001 0.5 0\n",
        },
    )
    row = ("b2" * 16, "", "LOCAL", "", "", "ann", "FINISHED", 1_000, 2_000, "", "active", "", 1)
    make_database(folder / "mlflow.db", experiments=[(1, "churn", "", "active")], runs=[row])
    return {}


def _git_server(folder: Path) -> Replacements:
    command = "python -c 'print(1)'"
    manifest = f"entry_points:\n  main:\n    command: {command}\n  validate:\n    command: {command}\n"
    write_tree(folder, {"MLproject": manifest, "training/MLproject": manifest})
    commit_all(folder)
    git(folder, "tag", "v1.2")
    commit = git(folder, "rev-parse", "--short", "HEAD").strip()
    bare = folder.parent / "model.git"
    git(folder, "clone", "--quiet", "--bare", str(folder), str(bare))
    addresses = ("https://git.example.org/team/model.git", "git@git.example.org:team/model.git", "/srv/git/model.git")
    return {**dict.fromkeys(addresses, str(bare)), "3fa2c1d": commit}


def _secrets(folder: Path) -> Replacements:
    write_tree(folder, {"secrets.yaml": "alpha: 0.25\n"})
    return {"pass show my-key": "cat secrets.yaml", "…": "hunter2"}


def _tracking(folder: Path) -> Replacements:
    home, url = folder.parent / "of the server", f"http://127.0.0.1:{SERVER_PORT}"
    start = f"PROJ_HOME='{home}' proj server\nproj tag 7f3a paper=true"
    return {"": start, "https://mlflow.example.org": url, f"http://server:{SERVER_PORT}": url, "…": "t"}


def _team(folder: Path) -> Replacements:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not there to make a certificate")
    write_tree(folder, {"train.py": _LOG_BY_HTTP})
    command = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost")
    subprocess.run([*command, "-keyout", "key.pem", "-out", "cert.pem"], cwd=folder, check=True, capture_output=True)
    return {"0.0.0.0": "127.0.0.1"}


SETUPS: Mapping[str, Callable[[Path], Replacements]] = {
    "conda": _conda,
    "move-from-mlflow": _mlflow_stores,
    "run-from-git": _git_server,
    "secrets": _secrets,
    "team-server": _team,
    "tracking-server": _tracking,
}
"""By the name of the page; each writes to the folder of the session and returns the replacements."""
NOT_RUN = {
    "containers": "has a manifest only; tests/environments/backends/test_containers.py runs such containers",
    "data": "has manifests only; tests/provenance/ runs them",
    "private-indexes": "has no command; tests/environments/ has private indexes",
}
"""How-to pages without a session, with the reason."""
