"""Reading manifests: names, environments, own keys, what is tolerated, and what can never be a traceback."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.analysis.scripts import walk
from runner.errors import ManifestError, ProjError
from runner.manifest import FolderFiles, bind_parameters, find_entry_point
from runner.manifest.checking import check_manifest
from runner.manifest.parser import find_manifest, read_manifest
from runner.model import EntryPoint, EnvironmentKind, Manifest, MetricsFile, Severity
from tests.conftest import write_tree

CASES = Path(__file__).parents[1] / "manifests"


class MemoryFiles:
    """The files of a project that exist only in the test."""

    def __init__(self, **files: bytes) -> None:
        self.files = files

    def read(self, path: str) -> bytes | None:
        return self.files.get(path)

    def names(self, folder: str = "") -> tuple[str, ...]:
        return () if folder else tuple(sorted(self.files))


def manifest_of(text: str, **files: bytes) -> Manifest:
    return read_manifest(MemoryFiles(MLproject=text.encode(), **files))


def main_of(text: str, **files: bytes) -> EntryPoint:
    """Return the entry point of a manifest whose ``main`` has these lines below its command."""
    body = "".join(f"\n    {line}" for line in text.splitlines())
    return manifest_of(f"entry_points:\n  main:\n    command: python a.py{body}\n", **files).entry_points["main"]


def messages(entry: EntryPoint, severity: Severity) -> str:
    return "\n".join(fault.message for fault in entry.faults if fault.severity is severity)


def test_own_keys_of_an_entry_point() -> None:
    entry = main_of(
        "description: Fit it\n"
        "inputs: [data/a.csv, ../shared/b.csv]\n"
        "outputs: model.bin\n"
        "metrics: [scores.json, {path: more.json, tolerance: 1e-6}]\n"
        "env: {OMP_NUM_THREADS: 2, MODE: yes, EMPTY: }\n"
        "timeout: 1h30m\n"
        "needs: []\n"
        "promote: {metric: rmse, mode: min}\n"
        "environment: {python_env: own.yaml}\n",
        **{"own.yaml": b"python: '3.11'"},
    )
    assert entry.faults == ()
    assert entry.description == "Fit it"
    assert entry.inputs == ("data/a.csv", "../shared/b.csv")
    assert entry.outputs == ("model.bin",)
    assert entry.metrics == (MetricsFile(path="scores.json"), MetricsFile(path="more.json", tolerance=1e-6))
    assert entry.env == {"OMP_NUM_THREADS": "2", "MODE": "True", "EMPTY": ""}
    assert entry.timeout == 5400
    assert entry.promote == {"metric": "rmse", "mode": "min"}
    assert entry.environment is not None
    assert (entry.environment.kind, entry.environment.path) == (EnvironmentKind.PYTHON_ENV, "own.yaml")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("600", 600), ("'90'", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86400)],
)
def test_timeouts(text: str, seconds: float) -> None:
    assert main_of(f"timeout: {text}").timeout == seconds


@pytest.mark.parametrize(
    "line",
    [
        "description: {short: x}",
        "inputs: {data: a.csv}",
        "outputs: [[a]]",
        "outputs: /data/out",
        "metrics: {rmse: min}",
        "metrics: 5",
        "env: System",
        "env: [5]",
        "env: {A: {b: c}}",
        "timeout: [1]",
        "timeout: yes",
        "environment: System",
        "environment: [a]",
        "promote: always",
        "needs: {a: b}",
    ],
)
def test_words_that_mlflow_files_use_for_other_things_are_tolerated(line: str) -> None:
    entry = main_of(line)
    assert messages(entry, Severity.ERROR) == ""
    assert messages(entry, Severity.WARNING) != ""
    assert find_entry_point(Manifest(entry_points={"main": entry}), None, MemoryFiles()).command == "python a.py"


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("timeout: soon", "timeout"),
        ("timeout: -5", "timeout"),
        ("timeout: .nan", "timeout"),
        ("metrics: {path: a, tolerance: high}", "tolerance"),
        ("env: {'A=B': c}", "A=B"),
        ("environment: envs/none.yaml", "envs/none.yaml"),
        ("environment: {python_env: a.yaml, conda_env: b.yaml}", "exclude"),
        ("needs: prepare", "prepare"),
        ("parameters: {a: {min: low}}", "'min'"),
        ("parameters: {a: {min: 3, max: 2}}", "larger"),
        ("parameters: {a: {secret: maybe}}", "secret"),
        ("parameters: {a: {default: 2020-13-45}}", "'a'"),
        ("parameters: {a: {default: !thing 5}}", "'a'"),
        ("parameters: {a: {default: [!!int x]}}", "'a'"),
        ("parameters: {a: [float]}", "'a'"),
    ],
)
def test_own_keys_that_make_no_sense_stop_their_entry_point_only(line: str, word: str) -> None:
    entry = main_of(line)
    assert word in messages(entry, Severity.ERROR)
    other = EntryPoint(name="other", command="true")
    manifest = Manifest(path="MLproject", entry_points={"main": entry, "other": other})
    with pytest.raises(ManifestError) as caught:
        find_entry_point(manifest, "main", MemoryFiles())
    assert caught.value.context is not None
    assert caught.value.context.startswith("MLproject:")
    assert find_entry_point(manifest, "other", MemoryFiles()) is other


def test_top_level_keys_of_our_own() -> None:
    manifest = manifest_of("experiment: forest\ntolerance: 1e-9\n")
    assert (manifest.experiment, manifest.tolerance, manifest.faults) == ("forest", 1e-9, ())
    odd = manifest_of("experiment: [a]\ntolerance: high\n")
    assert (odd.experiment, odd.tolerance, len(odd.faults)) == (None, None, 2)


def test_all_faults_of_the_top_level_are_in_one_error() -> None:
    with pytest.raises(ManifestError) as caught:
        manifest_of("python_env: a.yaml\nentry_points: [main]\n")
    assert "a.yaml" in caught.value.message
    assert "entry_points" in caught.value.message
    assert "MLproject:1:13" in str(caught.value.context)


@pytest.mark.parametrize(
    ("names", "kind", "path"),
    [
        ((), EnvironmentKind.NONE, None),
        (("requirements.txt",), EnvironmentKind.REQUIREMENTS, "requirements.txt"),
        (("requirements.txt", "uv.lock"), EnvironmentKind.REQUIREMENTS, "requirements.txt"),
        (("requirements.txt", "uv.lock", "pyproject.toml"), EnvironmentKind.UV_LOCK, "uv.lock"),
        (("pylock.toml", "uv.lock", "pyproject.toml"), EnvironmentKind.PYLOCK, "pylock.toml"),
        (("pylock.toml", "conda.yaml"), EnvironmentKind.CONDA_ENV, "conda.yaml"),
        (("python_env.yaml", "conda.yaml"), EnvironmentKind.PYTHON_ENV, "python_env.yaml"),
    ],
)
def test_environments_are_found_in_their_order(names: tuple[str, ...], kind: EnvironmentKind, path: str | None) -> None:
    environment = manifest_of("name: x\n", **dict.fromkeys(names, b"")).environment
    assert (environment.kind, environment.path) == (kind, path)


@pytest.mark.parametrize("value", ["{a: b}", "none.yaml", "/etc/passwd", "../out.yaml"])
def test_an_environment_key_must_name_a_file_of_the_repository(value: str) -> None:
    with pytest.raises(ManifestError, match="python_env"):
        manifest_of(f"python_env: {value}\n")


def test_the_only_entry_point_runs_when_there_is_no_main() -> None:
    files = MemoryFiles()
    only = manifest_of("entry_points: {fit: {command: a}}")
    assert find_entry_point(only, None, files).name == "fit"
    several = manifest_of("entry_points: {fit: {command: a}, main: {command: b}}")
    assert find_entry_point(several, None, files).name == "main"
    without = manifest_of("entry_points: {fit: {command: a}, test: {command: b}}")
    with pytest.raises(ManifestError, match="'fit' and 'test'"):
        find_entry_point(without, None, files)


def test_scripts_and_notebooks_need_no_declaration() -> None:
    files = MemoryFiles(**{"a b.R": b"", "book.ipynb": b"{}", "${x}.py": b"", "a'b.R": b""})
    commands = {name: find_entry_point(Manifest(), name, files) for name in files.names()}
    assert commands["a b.R"].command == "Rscript -e 'mlflow::mlflow_source('\"'\"'a b.R'\"'\"')' --args"
    assert commands["book.ipynb"].command == (
        "python -m papermill --log-output --no-progress-bar -k python3 book.ipynb book.executed.ipynb"
    )
    assert commands["book.ipynb"].extra == "-p {name} {value}"
    assert commands["${x}.py"].command == "python '${{x}}.py'"
    with pytest.raises(ManifestError, match=r"no script 'Book\.ipynb'") as caught:
        find_entry_point(Manifest(), "Book.ipynb", files)
    assert "book.ipynb" in str(caught.value.hint)


def test_what_was_meant_is_named() -> None:
    files = MemoryFiles(**{"MLproject.yaml": b"", "train.py": b""})
    with pytest.raises(ManifestError) as caught:
        find_entry_point(read_manifest(files), None, files)
    assert "MLproject.yaml" in str(caught.value.hint)
    manifest = manifest_of("entry_points: {train-model: {command: a}, test: {command: b}}")
    with pytest.raises(ManifestError) as caught:
        find_entry_point(manifest, "train_model", MemoryFiles())
    assert caught.value.hint == "did you mean 'train-model'?"


def test_links_in_circles_hide_no_files(tmp_path: Path) -> None:
    write_tree(tmp_path, {"MLproject": "name: x\n", "a/b.txt": "b"})
    for name, target in {"self": "self", "loop": ".", "gone": "nowhere", "root": "/"}.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "a/up").symlink_to("..")
    files = FolderFiles(tmp_path)
    assert files.names() == ("MLproject", "a/", "gone", "loop/", "root/", "self")
    assert find_manifest(files) == "MLproject"
    write_tree(tmp_path, {"turns/empty/x": ""})
    (tmp_path / "turns/empty/x").unlink()
    for name in "abcd":
        (tmp_path / "turns/empty" / name).symlink_to(".")
    assert list(walk(FolderFiles(tmp_path / "turns"))) == []


def test_folder_files_stay_in_the_repository(tmp_path: Path) -> None:
    write_tree(tmp_path, {"outside.txt": "x", "repo/top.txt": "top", "repo/project/a/b.txt": "b", "plain/c.txt": "c"})
    (tmp_path / "repo/.git").mkdir()
    files = FolderFiles(tmp_path / "repo/project")
    assert files.read("a/b.txt") == b"b"
    assert files.read("./a/../a/b.txt") == b"b"
    assert files.read("../top.txt") == b"top"
    assert files.read("../../outside.txt") is None
    assert files.read(str(tmp_path / "outside.txt")) is None
    assert files.names() == ("a/",)
    assert files.names("..") == (".git/", "project/", "top.txt")
    assert files.names("../..") == ()
    for nothing in ("", "a", "none", "a/b.txt/c", "x" * 5000, "nul\0"):
        assert files.read(nothing) is None
        assert FolderFiles(tmp_path / "plain").read("../outside.txt") is None
    os.mkfifo(tmp_path / "plain/pipe")
    assert FolderFiles(tmp_path / "plain").read("pipe") is None


def bomb(first: str, following: str) -> str:
    """Return a short document that grows ninefold with each of its nine lines."""
    lines = [f"a: &a {first}"]
    for number in range(1, 10):
        last, name = chr(96 + number), chr(97 + number)
        lines.append(f"{name}: &{name} {following.format(', '.join([f'*{last}'] * 9))}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 500,
        "a: " + "[" * 150 + "]" * 150,
        bomb("[x]", "[{}]"),
        bomb("{k: v}", "{{<<: [{}]}}"),
        "? [a]\n: b\n",
        "{{cookiecutter.name}}: a\n",
        "a: b\n---\nc: d\n",
        "a: *nowhere\n",
        "<<: text\n",
        "a: 'unfinished\n",
        "\x00",
        "x" * 3_000_000,
    ],
    ids=iter(
        [
            "deep",
            "nested",
            "aliases",
            "merges",
            "list-key",
            "template",
            "two",
            "alias",
            "merge",
            "quote",
            "nul",
            "large",
        ]
    ),
)
def test_hostile_and_broken_yaml_is_one_clear_error(text: str) -> None:
    with pytest.raises(ManifestError, match="MLproject"):
        manifest_of(text)
    assert [fault.severity for fault in check_manifest(MemoryFiles(MLproject=text.encode()))] == [Severity.ERROR]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks(encoding: str) -> None:
    assert read_manifest(MemoryFiles(MLproject="name: é\n".encode(encoding))).name == "é"


def test_a_value_inside_itself_is_a_value() -> None:
    entry = main_of("parameters: {a: {default: &a [1, *a]}}")
    assert entry.parameters[0].default == "[1, [...]]"


def through(text: bytes) -> None:
    """Take a manifest as far as it goes; only errors meant for the user may come of it."""
    files = MemoryFiles(MLproject=text, **{"python_env.yaml": b"", "train.py": b""})
    for fault in check_manifest(files):
        fault.location.encode()
        fault.message.encode()
    try:
        manifest = read_manifest(files)
    except ProjError as error:
        error.message.encode()
        return
    for name in (*manifest.entry_points, None):
        start(manifest, name, files)


def start(manifest: Manifest, name: str | None, files: MemoryFiles) -> None:
    try:
        entry = find_entry_point(manifest, name, files)
        bind_parameters(entry, {spec.name: "1" for spec in entry.parameters[:2]}, {})
    except ProjError as error:
        error.message.encode()


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["{main}", "${X}", "{", "a: b", "path", "int", "2020-99-99", "10m"])
)
KEYS = st.sampled_from(
    [
        *(
            "name",
            "entry_points",
            "main",
            "command",
            "parameters",
            "default",
            "type",
            "min",
            "max",
            "choices",
            "secret",
        ),
        *("python_env", "conda_env", "docker_env", "image", "volumes", "environment", "databricks_spark_job", "needs"),
        *(
            "inputs",
            "outputs",
            "metrics",
            "env",
            "timeout",
            "promote",
            "tolerance",
            "experiment",
            "path",
            "python_file",
        ),
    ]
)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


@settings(deadline=None, database=None, max_examples=60)
@given(top=st.dictionaries(KEYS, TREES, max_size=5), entry=st.dictionaries(KEYS, TREES, max_size=6))
def test_any_shape_is_read_or_refused_clearly(top: dict[str, object], entry: dict[str, object]) -> None:
    through(json.dumps({**top, "entry_points": {"main": entry, "other": top}}).encode())
    through(json.dumps(top).encode())


@settings(deadline=None, database=None, max_examples=150)
@given(
    case=st.sampled_from(sorted(path.read_bytes() for path in CASES.glob("*/MLproject") if path.is_file())),
    cuts=st.lists(
        st.tuples(
            st.integers(0, 400),
            st.integers(0, 6),
            st.sampled_from(
                [b"", b":", b"- ", b"{", b"}", b"&a ", b"*a", b"<<: ", b"\t", b"!!int ", b"'", b"\xff", b"? "]
            ),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_damaged_manifests_are_read_or_refused_clearly(case: bytes, cuts: list[tuple[int, int, bytes]]) -> None:
    for at, size, new in cuts:
        case = case[:at] + new + case[at + size :]
    through(case)


@settings(deadline=None, database=None, max_examples=150)
@given(st.binary(max_size=80) | st.text("ab:-{}[]&*!|>'\"\n\t #%@`?,<", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused_clearly(content: bytes) -> None:
    through(content)
