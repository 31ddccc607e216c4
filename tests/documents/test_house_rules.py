"""Sizes, reading order and documents: what a linter does not see."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.architecture import make_map, written_map

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "runner").rglob("*.py"))


def functions(module: Path) -> Iterator[tuple[str, int]]:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            start = body[0].lineno if ast.get_docstring(node) else first
            yield f"{module.relative_to(ROOT)}:{node.name}", (node.end_lineno or first) - start + 1


def test_modules_have_at_most_400_lines() -> None:
    long = {str(path.relative_to(ROOT)): n for path in MODULES if (n := len(path.read_text().splitlines())) > 400}
    assert not long


def test_functions_are_short() -> None:
    sizes = dict(pair for module in MODULES for pair in functions(module))
    assert {name: size for name, size in sizes.items() if size > 60} == {}
    assert sum(size <= 30 for size in sizes.values()) >= 0.9 * len(sizes)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_own_import_hides_in_a_function(module: Path) -> None:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    for scope in ast.walk(tree):
        if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(scope):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                assert not [name for name in names if name.split(".")[0] == "runner"], scope.name


def test_only_process_starts_children() -> None:
    starts = re.compile(r"\b(subprocess\.(run|Popen|call|check_\w+)|os\.(system|popen|fork|exec\w+|posix_spawn\w*))\(")
    found = [str(path.relative_to(ROOT)) for path in MODULES if starts.search(path.read_text(encoding="utf-8"))]
    assert [name for name in found if not name.startswith("runner/process")] == []


ONE_PLACE = {
    r"\bflock\(": "base/locks.py",
    r"\bget_close_matches\(": "base/suggestions.py",
    r"""["']proj\.(?!db["'])[a-z_.]+["']""": "base/tags.py",
    r"""["']mlflow\.(?:user|runName|parentRunId|source\.[\w.]*\w|project\.entryPoint)["']""": "base/tags.py",
    r"""["']runs["'] / ["']models["']""": "settings.py",
    r"\[-_\.\]\+": "base/package_names.py",
    r"FICLONE\b": "base/files.py",
}
"""What only one module does: a regular expression of it, and the module."""


@pytest.mark.parametrize("pattern", ONE_PLACE)
def test_each_small_thing_is_done_in_one_place(pattern: str) -> None:
    base = ROOT / "runner"
    shim = base / "server" / "run" / "client_shim"  # runs in the Python of the command, without proj
    found = [path for path in MODULES if not path.is_relative_to(shim)]
    found = [path for path in found if re.search(pattern, path.read_text(encoding="utf-8"))]
    assert [str(path.relative_to(base)) for path in found] == [ONE_PLACE[pattern]]


JSON_OF_OUR_OWN = {
    "engine.py": "what the container engine prints",
    "environments/repair/additions.py": "a file of ours",
    "environments/backends/conda/activation.py": "what conda prints, and a file of ours",
    "environments/backends/conda/command.py": "a file of conda in an environment that proj made",
    "environments/cache/conda_meta.py": "files of conda in an environment that proj made",
    "environments/backends/conda/rattler.py": "the answer of our worker process",
    "environments/backends/conda/worker.py": "the task for our worker process",
    "environments/backends/containers/images.py": "what the container engine prints, and a cache of ours",
    "environments/interpreters/interpreters.py": "the answer of our probe, and a cache of ours",
    "environments/backends/local.py": "the answer of our probe, and a cache of ours",
    "environments/cache/prefix.py": "a file of ours",
    "environments/repair/fallback.py": "a file of ours",
    "executors/orphaned_containers.py": "a file of ours",
    "protocol/requests.py": "bodies of requests, whose size the server limits",
    "reproduction/array_files.py": "the answer of a process of ours",
    "reproduction/array_worker.py": "rules that this process gets from ours",
    "reproduction/noise.py": "a file of ours",
    "server/run/redaction.py": "bodies of requests, whose size the server limits",
    "server/run/redirects.py": "lines that our import shim writes",
    "server/api/runs.py": "a part of a request's body",
    "sync/proxy.py": "bodies of requests, whose size the server limits",
    "source/snapshot.py": "the message of a commit that proj made",
    "interactive/background.py": "the request of our own program",
    "interactive/handle.py": "the messages of our own program",
    "store/lineage.py": "a column of ours",
    "protocol/client_responses.py": "answers of servers, whose size the transport limits",
    "sync/transport.py": "answers of servers, whose size the transport limits",
    "store/lost_runs.py": "a column of ours",
    "store/runs.py": "columns of ours",
    "store/upgrading.py": "a column of ours",
    "verification/records.py": "a column of ours",
    "verification/references.py": "a column of ours",
}
"""Modules that decode JSON which is not foreign text, or is limited elsewhere, each with the reason."""


def test_only_one_module_parses_foreign_text() -> None:
    parsers = re.compile(
        r"\byaml\.(?:load|safe_load|full_load|unsafe_load|compose|parse|scan)(?:_all)?\("
        r"|\btom(?:l|llib|li)\.loads?\(|\bmsgspec\.(?:toml|yaml)\.decode|\bjson\.loads?\(|\bast\.(?:parse|literal_eval)\("
    )
    found = {str(path.relative_to(ROOT)) for path in MODULES if parsers.search(path.read_text(encoding="utf-8"))}
    ours = "runner/environments/repair/path_shim/proj_paths.py"  # reads our own variable, in the Python of the command
    assert found == {"runner/base/foreign_text.py", ours}


def test_expressions_for_lines_skip_no_line_ends() -> None:
    quadratic = re.compile(r"\(\?m[a-z]*\)\^\\s\*")  # takes time with the square of the number of empty lines
    found = [str(path.relative_to(ROOT)) for path in MODULES if quadratic.search(path.read_text(encoding="utf-8"))]
    assert found == []


def test_modules_that_decode_json_are_known() -> None:
    decoders = re.compile(r"\bmsgspec\.json\.(?:decode|Decoder)\b")
    base = ROOT / "runner"
    found = {str(path.relative_to(base)) for path in MODULES if decoders.search(path.read_text(encoding="utf-8"))}
    assert found - {"base/foreign_text.py"} == set(JSON_OF_OUR_OWN)


def test_the_map_of_the_code_is_current() -> None:
    assert written_map() == make_map(), "run: python tests/support/architecture.py"


def test_documents_name_only_files_that_exist() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    named = set(re.findall(r"`((?:runner|tests|docs)/[\w/.-]*)`", text))
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_documents_name_only_symbols_that_exist() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    named = set(re.findall(r"`(\w+)` in\s+`(runner/[\w/]+\.py)`", text))
    assert named
    defined = r"^(?:\s*(?:async )?def |\s*class |){}\b"
    assert {
        f"{symbol} in {module}"
        for symbol, module in named
        if not re.search(defined.format(symbol), (ROOT / module).read_text(encoding="utf-8"), re.MULTILINE)
    } == set()


def test_front_pages_stay_short() -> None:
    limits = {"README.md": 200, "ARCHITECTURE.md": 250}
    lengths = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in limits}
    assert {name: lines for name, lines in lengths.items() if lines > limits[name]} == {}


def test_committed_text_names_no_package_index_host() -> None:
    pattern = re.compile(r"p[y]thonhosted|[/.]p[y]pi\.[o]rg|r[e]gistry\.n[p]mjs")
    kinds = {".py", ".md", ".toml", ".txt", ".lock", ".yaml", ".yml", ".jinja"}
    paths = (path for path in ROOT.rglob("*") if path.suffix in kinds and ".venv" not in path.parts)
    assert [str(path) for path in paths if pattern.search(path.read_text(encoding="utf-8", errors="ignore"))] == []
