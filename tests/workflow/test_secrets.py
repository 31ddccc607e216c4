"""Runs with secrets: no file below proj's home, and nothing on the screen, has a value or an encoding of it."""

import base64
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from runner.base.masking import STARS
from runner.settings import Home
from tests.conftest import MakeRepository, Result, RunProj

pytestmark = pytest.mark.slow

SCRIPT = """
import base64, json, os, sys, time, urllib.request
from urllib.parse import quote, quote_plus
value, public = sys.argv[1], sys.argv[2]
for before in ("", "a", "ab"):
    print(base64.b64encode((before + value + "rest").encode()).decode())
    print(base64.urlsafe_b64encode((before + value).encode()).decode())
print(value, value + "x", "x" + value, quote(value), quote_plus(value), json.dumps({"v": value}), repr(value))
print(value, file=sys.stderr)
for letter in value:
    sys.stdout.write(letter)
    sys.stdout.flush()
print()
with open(os.environ["PROJ_METRICS"], "a") as file:
    file.write(json.dumps({"name": "of " + value, "value": 1.0}) + "\\n")
    try:
        file.write(json.dumps({"name": "number", "value": float(value)}) + "\\n")
    except ValueError:
        pass
try:
    open("out-" + value.replace("/", "_").replace("\\n", "_") + ".txt", "w").write("made")
    open("plain.txt", "w").write("made")
except OSError:
    pass

def send(what, **fields):
    request = urllib.request.Request(
        os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/" + what,
        json.dumps({"run_id": os.environ["MLFLOW_RUN_ID"], **fields}).encode(),
        {"Authorization": "Bearer " + os.environ["MLFLOW_TRACKING_TOKEN"], "Content-Type": "application/json"},
    )
    return urllib.request.urlopen(request).read()

send("runs/log-parameter", key="key", value=value)
send("runs/log-parameter", key="alpha", value=public)
send("runs/log-parameter", key="again " + value[:200], value="https://host/?k=" + quote(value, safe=""))
send("runs/set-tag", key="note", value="it is " + value)
send("runs/log-metric", key="m " + value[:200], value=0.5, timestamp=int(time.time() * 1000), step=0)
send("runs/log-batch", metrics=[], params=[{"key": "b", "value": value}], tags=[{"key": "t", "value": value}])
send("runs/update", run_name="run " + value)
try:
    send("runs/log-metric", key="value", value=float(value), timestamp=int(time.time() * 1000), step=0)
except ValueError:
    pass
sys.exit(int(sys.argv[3]))
"""

VALUES = {
    "number": "90817263",
    "real": "-7345.0625",
    "word": "Xylophon",
    "list": "[qwertz17]",
    "mapping": '{"qw": "ertz"}',
    "dollar": "$QwertzVar/x",
    "quotes": 'it\'s "qwertz" `now`',
    "expression": "(qw.*[er]+tz|$^",
    "url": "qw/er?t=z&x=%41 b",
    "lines": "first line of qwertz\nsecond line of it\n",
    "unicode": "köy-☃-sécret",
    "html": "<qwertz>",
}


def encodings(value: str) -> Iterator[bytes]:
    """Yield how a value could stand in a file."""
    yield value.encode()
    yield from (text.encode() for text in (quote(value), quote(value, safe=""), quote_plus(value), shlex.quote(value)))
    yield from (json.dumps(value, ensure_ascii=ascii_only)[1:-1].encode() for ascii_only in (True, False))
    for shift in range(3):
        core = base64.b64encode(b"\0" * shift + value.encode())[
            (8 * shift + 5) // 6 : 8 * (shift + len(value.encode())) // 6
        ]
        yield from (core, core.replace(b"+", b"-").replace(b"/", b"_"))


def leaks(value: str, home: Home, result: Result) -> list[str]:
    """Return where a value is found: files below the home by content and by name, and the screen."""
    forms = set(encodings(value))
    found = [f"the screen: {form!r}" for form in forms if form in f"{result.out}\n{result.err}".encode()]
    for path in home.root.rglob("*"):
        if value in path.name:
            found.append(f"the name {path}")
        if path.is_file():
            content = path.read_bytes()
            found += [f"{path}: {form!r}" for form in forms if form in content]
    return found


def project(make_repository: MakeRepository, declaration: str, name: str = "key") -> Path:
    command = f"python t.py {{{name}}} {{alpha}} {{code}}"
    parameters = f"{{{name}: {declaration}, alpha: {{type: float, default: 1}}, code: {{type: int, default: 0}}}}"
    return make_repository(
        {
            "MLproject": f"entry_points:\n  main:\n    parameters: {parameters}\n    command: {command}\n",
            "t.py": SCRIPT,
        }
    )


@pytest.mark.parametrize(
    ("kind", "way"),
    [*((kind, "word") for kind in VALUES), ("lines", "file"), ("quotes", "file"), ("number", "undeclared-type")],
)
def test_no_trace_of_a_secret_is_left(
    proj: RunProj, home: Home, make_repository: MakeRepository, kind: str, way: str
) -> None:
    value = VALUES[kind]
    root = project(make_repository, "{secret: true}" if way != "undeclared-type" else "{type: anything, secret: true}")
    words = ["-P", f"key={value}"]
    if way == "file":
        (root.parent / "secrets.json").write_text(json.dumps({"key": value}), encoding="utf-8")
        words = ["--params-file", "../secrets.json"]
    result = proj("run", ".", "--env-manager", "local", *words, "-P", "code=0", cwd=root)
    assert result.code == 0, result.err
    assert leaks(value, home, result) == []
    shown = proj("show", "latest", "--json", cwd=root)
    assert leaks(value, home, shown) == []
    record = shown.json
    assert record["command"] == "python t.py *** 1 0"
    assert record["argv"] == ["bash", "-c", "python t.py *** 1 0"]
    parameters = {one["name"]: one["value"] for one in record["parameters"]}
    assert (parameters["key"], parameters["alpha"], parameters["b"]) == (STARS, "1.0", STARS)
    assert record["tags"]["note"].startswith(f"it is {STARS}")
    assert "plain.txt" in {one["path"] for one in record["outputs"]}
    assert leaks(value, home, proj("log", "latest", cwd=root)) == []


def test_a_failed_run_with_a_secret_number_leaves_no_trace(
    proj: RunProj, home: Home, make_repository: MakeRepository
) -> None:
    root = project(make_repository, "{type: int, secret: true, min: 5}")
    value = "90817263"
    result = proj(
        "run", ".", "--env-manager", "local", "-P", f"key={value}", "-P", "code=7", "--run-name", f"r {value}", cwd=root
    )
    assert result.code == 7
    folder = home.root / "runs"
    kept = [leak for leak in leaks(value, home, result) if "/out-" not in leak]
    assert kept == [], folder
    refused = proj("run", ".", "--env-manager", "local", "-P", "key=-90817263", cwd=root)
    assert refused.code == 1
    assert "90817263" not in refused.err


def test_public_numbers_stay_beside_a_secret_of_the_same_digits(proj: RunProj, make_repository: MakeRepository) -> None:
    root = project(make_repository, "{type: int, secret: true}")
    result = proj("run", ".", "--json", "--env-manager", "local", "-P", "key=1000", "-P", "alpha=1000", cwd=root)
    assert result.code == 0, result.err
    assert result.json["command"] == "python t.py *** 1000 0"
    parameters = {one["name"]: one["value"] for one in result.json["parameters"]}
    assert (parameters["key"], parameters["alpha"]) == (STARS, "1000.0")
    assert result.json["metrics"]["value"] != 1000


def test_a_short_secret_is_said_and_clashes_with_nothing(proj: RunProj, make_repository: MakeRepository) -> None:
    root = project(make_repository, "{secret: true}")
    result = proj("run", ".", "--json", "--env-manager", "local", "-P", "key=1", cwd=root)
    assert result.code == 0, result.err
    assert result.json["command"] == "python t.py *** 1 0"
    assert any("'key' has fewer than 4 characters" in notice for notice in result.json["notices"])


def test_a_secret_path_is_masked_where_it_lies_in_the_run_folder(
    proj: RunProj, home: Home, make_repository: MakeRepository
) -> None:
    root = project(make_repository, "{type: path, secret: true}")
    (root / ".gitignore").write_text("credentials-of-ann.json\n")
    (root / "credentials-of-ann.json").write_text("{}")
    result = proj("run", ".", "--json", "--env-manager", "local", "-P", "key=credentials-of-ann.json", cwd=root)
    assert result.json["command"] == "python t.py *** 1 0"
    assert "credentials-of-ann" not in result.out + home.log(result.json["run_id"]).read_text()
    missing = proj("run", ".", "--env-manager", "local", "-P", "key=nowhere-of-ann.json", cwd=root)
    assert missing.code == 1
    assert "nowhere-of-ann" not in missing.err


def test_a_default_of_a_secret_is_masked_in_the_record(proj: RunProj, make_repository: MakeRepository) -> None:
    root = project(make_repository, "{secret: true, default: qwertz-in-the-file}")
    result = proj("run", ".", "--json", "--env-manager", "local", cwd=root)
    assert result.code == 0, result.err
    assert "qwertz-in-the-file" not in result.out + result.err
    plan = proj("run", ".", "--dry-run", "--env-manager", "local", cwd=root)
    assert "qwertz-in-the-file" not in plan.out + plan.err


def test_a_secret_of_the_environment_never_reaches_the_record(
    proj: RunProj, home: Home, make_repository: MakeRepository
) -> None:
    manifest = 'entry_points:\n  main:\n    command: test "$API_KEY" = qwertz-of-the-shell\n'
    root = make_repository({"MLproject": manifest.replace("qwertz-of-the-shell", '"$(cat ../expected)"')})
    (root.parent / "expected").write_text("qwertz-of-the-shell")
    result = proj("run", ".", "--in-place", "--env-manager", "local", cwd=root, API_KEY="qwertz-of-the-shell")
    assert result.code == 0, result.err
    assert leaks("qwertz-of-the-shell", home, result) == []


def test_a_secret_in_the_names_of_run_and_experiment_is_masked(
    proj: RunProj, home: Home, make_repository: MakeRepository
) -> None:
    root = project(make_repository, "{secret: true}")
    names = ("--experiment-name", "tried with qwertz17", "--run-name", "of qwertz17")
    result = proj("run", ".", "--json", "--env-manager", "local", "-P", "key=qwertz17", *names, cwd=root)
    assert result.code == 0, result.err
    assert (result.json["experiment"], result.json["parameters"][0]["value"]) == (f"tried with {STARS}", STARS)
    assert leaks("qwertz17", home, result) == []
