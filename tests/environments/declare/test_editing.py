"""Packages are added to declared files and removed from them; every other byte stays, or nothing is changed."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.environments.declare.declared_lines import declared_lines
from runner.environments.declare.editing import EditedFiles, add_packages, package_name, remove_packages
from runner.environments.declare.editing_poetry import add_to_poetry, has_poetry, remove_from_poetry
from runner.environments.declare.spec import read_declared
from runner.environments.specs import PythonSpec
from runner.errors import EnvironmentSetupError
from runner.manifest.environment import kind_of_file
from runner.manifest.files import FolderFiles
from runner.model import EnvironmentDeclaration
from tests.conftest import write_tree


def spec_of(files: EditedFiles | FolderFiles, name: str) -> PythonSpec:
    spec = read_declared(EnvironmentDeclaration(kind=kind_of_file(name), path=name), files)
    assert isinstance(spec, PythonSpec)
    return spec


def edited(tmp_path: Path, name: str, text: str, add: list[str], remove: list[str], **more: str) -> str:
    """Return the text of a file after packages are added, then others removed."""
    files = FolderFiles(write_tree(tmp_path / "p", {name: text.encode(), **more}))
    added = EditedFiles(files, add_packages(spec_of(files, name), files, add).changed)
    removed = remove_packages(spec_of(added, name), added, remove).changed
    found = EditedFiles(added, removed).read(name)
    assert found is not None
    return found.decode()


CONDA = "name: x\nchannels: [conda-forge]\ndependencies:\n  - python=3.11 # why\n  - numpy\n"

CASES = [
    # requirements files
    ("requirements.txt", "six\n", ["tqdm"], [], "six\ntqdm\n"),
    ("requirements.txt", "six", ["tqdm<5"], [], "six\ntqdm<5\n"),
    ("requirements.txt", "", ["tqdm"], [], "tqdm\n"),
    ("requirements.txt", "# a\r\nsix\r\n", ["tqdm"], [], "# a\r\nsix\r\ntqdm\r\n"),
    ("requirements.txt", "six==1 # keep\n\n# end\n", ["six==2"], [], "six==2 # keep\n\n# end\n"),
    ("requirements.txt", "Six_Seven  # x\nb\n", ["six-seven>1"], [], "six-seven>1  # x\nb\n"),
    ("requirements.txt", "a==1 \\\n  --hash=sha256:00 \\\n  --hash=sha256:11\nb\n", [], ["a"], "b\n"),
    ("requirements.txt", "a # one\nb\na;python_version<'3'\n", [], ["a"], "b\n"),
    ("requirements.txt", "\ufeffa\nb\n", ["c"], ["b"], "\ufeffa\nc\n"),
    ("requirements.txt", "a @ git+https://h/r.git\n", [], ["a"], ""),
    # python_env.yaml
    (
        "python_env.yaml",
        'python: "3.11" # p\ndependencies:\n  # first\n  - six # s\n',
        ["tqdm"],
        [],
        'python: "3.11" # p\ndependencies:\n  # first\n  - six # s\n  - tqdm\n',
    ),
    ("python_env.yaml", "dependencies:\n- six\nbuild_dependencies:\n- pip\n", ["a"], ["six"],
     "dependencies:\n- a\nbuild_dependencies:\n- pip\n"),
    ("python_env.yaml", "python: 3.11\n", ["a"], [], "python: 3.11\ndependencies:\n  - a\n"),
    ("python_env.yaml", "dependencies: [] # none\npython: 3.11\n", ["a"], [],
     "dependencies: # none\n  - a\npython: 3.11\n"),
    ("python_env.yaml", "dependencies:\n  - 'six==1' # s\n", ["six[x]==2"], [], "dependencies:\n  - six[x]==2 # s\n"),
    ("python_env.yaml", "dependencies:\n  - six\n", ["a @ git+https://h/r.git#egg=a"], [],
     "dependencies:\n  - six\n  - a @ git+https://h/r.git#egg=a\n"),
    ("python_env.yaml", "dependencies: [six, 'a>=1,<2', b] # c\n", ["tqdm", "b[x]<2", "pip<99,>1"], ["six"],
     "dependencies: ['a>=1,<2', \"b[x]<2\", tqdm, \"pip<99,>1\"] # c\n"),
    ("python_env.yaml", "dependencies: [six]\r\n", [], ["six"], "dependencies: []\r\n"),
    # conda files
    ("conda.yaml", CONDA, ["tqdm"], [], CONDA + "  - pip\n  - pip:\n    - tqdm\n"),
    ("conda.yaml", CONDA + "  - pip\n", ["tqdm"], [], CONDA + "  - pip\n  - pip:\n    - tqdm\n"),
    ("conda.yaml", CONDA + "  - pip:\n      - a # x\n", ["tqdm"], ["a"], CONDA + "  - pip:\n      - tqdm\n"),
    ("conda.yaml", CONDA + "  - pip:\n      - a\n", [], ["a"], CONDA),
    ("conda.yaml", CONDA, ["numpy<2"], [], CONDA.replace("- numpy", "- numpy<2")),
    ("conda.yaml", CONDA.replace("- numpy", "- conda-forge::numpy=1.26"), [], ["numpy"],
     CONDA.replace("  - numpy\n", "")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "add", "remove", "expected"), CASES)
def test_only_the_lines_of_the_packages_change(
    tmp_path: Path, name: str, text: str, add: list[str], remove: list[str], expected: str
) -> None:
    assert edited(tmp_path, name, text, add, remove) == expected


@pytest.mark.parametrize(
    ("name", "text", "package"),
    [
        ("python_env.yaml", "dependencies: [six,\n  tabulate]\n", "tqdm"),
        ("python_env.yaml", "dependencies:\n  - >\n    six\n", "tqdm"),
        ("conda.yaml", "channels: []\ndependencies: [python=3.11]\n", "tqdm"),
        ("requirements.txt", "a;python_version<'3'\na;python_version>='3'\n", "a==2"),
    ],
)
def test_what_can_not_be_edited_safely_is_refused(tmp_path: Path, name: str, text: str, package: str) -> None:
    files = FolderFiles(write_tree(tmp_path / "p", {name: text}))
    with pytest.raises(EnvironmentSetupError, match="can't be edited automatically") as refused:
        add_packages(spec_of(files, name), files, [package])
    assert "Nothing was changed" in (refused.value.hint or "")
    assert files.read(name) == text.encode()


def test_a_python_env_that_only_includes_a_file_is_changed_there(tmp_path: Path) -> None:
    root = write_tree(
        tmp_path / "p",
        {
            "python_env.yaml": "dependencies:\n- -r needs/all.txt\n",
            "needs/all.txt": "-r b.txt\nsix\n",
            "needs/b.txt": "b\n",
        },
    )
    files = FolderFiles(root)
    edit = add_packages(spec_of(files, "python_env.yaml"), files, ["tqdm", "b<2"])
    assert edit.changed == {"needs/b.txt": b"b<2\n", "needs/all.txt": b"-r b.txt\nsix\ntqdm\n"}
    assert len(edit.texts) == 2


def test_a_bare_name_of_a_declared_package_changes_nothing(tmp_path: Path) -> None:
    files = FolderFiles(write_tree(tmp_path / "p", {"requirements.txt": "tqdm==4 # pinned\n"}))
    edit = add_packages(spec_of(files, "requirements.txt"), files, ["TQDM", "tqdm == 4"])
    assert edit.changed == {}
    assert all("is there already" in text for text in edit.texts)


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,4}(-[a-z0-9]{1,3})?", fullmatch=True)
RULES = st.sampled_from(["", "==1.0", ">=2,<3", "[extra]~=1.2", " ; python_version < '3.9'"])
REMARKS = st.sampled_from(["", "  # why", " # - x: [y]", "\t#"])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.tuples(NAMES, RULES, REMARKS), min_size=1, max_size=8, unique_by=lambda line: line[0]),
    new=NAMES,
    style=st.sampled_from(["requirements.txt", "python_env.yaml", "conda.yaml"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_adding_then_removing_gives_the_file_back(
    tmp_path: Path, lines: list[tuple[str, str, str]], new: str, style: str, end: str
) -> None:
    names = {name for name, _, _ in lines}
    if new in names or "pip" in {*names, new}:
        return
    head = {"requirements.txt": "", "python_env.yaml": f"dependencies:{end}",
            "conda.yaml": f"channels: [x]{end}dependencies:{end}  - pip{end}  - pip:{end}"}[style]  # fmt: skip
    dash = {"requirements.txt": "", "python_env.yaml": "  - ", "conda.yaml": "    - "}[style]
    text = head + "".join(f"{dash}{name}{rule}{remark}{end}" for name, rule, remark in lines)
    files = FolderFiles(write_tree(tmp_path / "p", {style: text.encode()}))
    added = EditedFiles(files, add_packages(spec_of(files, style), files, [f"{new}>=1"]).changed)
    assert new in {package_name(line) for line in declared_lines(spec_of(added, style), added)}
    removed = remove_packages(spec_of(added, style), added, [new])
    assert removed.changed[style] == text.encode()
    gone = lines[len(lines) // 2][0]
    without = remove_packages(spec_of(files, style), files, [gone]).changed[style].decode()
    kept = [line for line in text.splitlines() if not re.fullmatch(rf"[\s-]*{gone}(?![a-z0-9-]).*", line)]
    assert [line for line in without.splitlines() if "pip" not in line] == [line for line in kept if "pip" not in line]


POETRY = (
    '[tool.poetry]\nname = "p" # n\n\n[tool.poetry.dependencies]\npython = "^3.10"\nsix = "^1.16" # why\n\n'
    '[tool.poetry.group.dev.dependencies]\npytest = "*"\n'
)


@pytest.mark.parametrize(
    ("add", "remove", "old", "new"),
    [
        (["tqdm"], [], "# why\n", '# why\ntqdm = "*"\n'),
        (["pandas[excel]>=2,<3"], [], "# why\n", '# why\npandas = { version = ">=2,<3", extras = ["excel"] }\n'),
        (["Six<2"], [], '"^1.16"', '"<2"'),
        (["six"], [], "", ""),
        ([], ["SIX"], 'six = "^1.16" # why\n', ""),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_table_of_poetry_is_edited_line_by_line(
    tmp_path: Path, add: list[str], remove: list[str], old: str, new: str, end: str
) -> None:
    text = POETRY.replace("\n", end)
    files = FolderFiles(write_tree(tmp_path / "p", {"pyproject.toml": text.encode()}))
    assert has_poetry(files)
    edit = add_to_poetry(files, add) if add else remove_from_poetry(files, remove)
    expected = POETRY.replace(old, new).replace("\n", end) if old else None
    assert edit.changed == ({"pyproject.toml": expected.encode()} if expected else {})


@pytest.mark.parametrize(
    "text",
    [
        '[tool.poetry]\ndependencies = {six = "*"}\n',
        '[tool.poetry.dependencies]\nsix = [\n  "*",\n]\n',
        '[tool.poetry.dependencies.six]\nversion = "*"\n',
    ],
)
def test_another_form_of_the_table_of_poetry_is_refused(tmp_path: Path, text: str) -> None:
    files = FolderFiles(write_tree(tmp_path / "p", {"pyproject.toml": text}))
    assert has_poetry(files)
    with pytest.raises(EnvironmentSetupError, match="can't be edited automatically"):
        add_to_poetry(files, ["six==1"])
