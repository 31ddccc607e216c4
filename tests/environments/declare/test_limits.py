"""Files that declare environments are read within bounds, whatever they include, repeat or nest."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.analysis.scripts import Scripts
from runner.environments.deciding import decide_spec
from runner.environments.declare.containers.dockerfiles import read_dockerfile
from runner.environments.declare.spec import read_declared
from runner.environments.specs import PythonSpec
from runner.errors import EnvironmentSetupError
from runner.manifest.files import FolderFiles
from runner.model import EnvironmentDeclaration, EnvironmentKind
from tests.conftest import write_tree
from tests.fuzz.doors import MemoryFiles
from tests.fuzz.worker import try_input
from tests.support.conda_locks import read_lock


def read(files: dict[str, str], kind: EnvironmentKind = EnvironmentKind.REQUIREMENTS) -> PythonSpec:
    declaration = EnvironmentDeclaration(kind=kind, path=next(iter(files)))
    return read_declared(declaration, MemoryFiles({path: text.encode() for path, text in files.items()}))


def test_files_that_include_each_other_twice_are_read_once() -> None:
    files = {"requirements.txt": "-r r0.txt\n"}
    files |= {f"r{number}.txt": f"-r r{number + 1}.txt\n" * 2 for number in range(20)}
    files["r20.txt"] = "six\n"
    assert read(files).requirements == ("six",)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["-r ", "-c "]), st.sampled_from("abcd"))))
@settings(max_examples=200)
def test_every_reachable_file_counts_once_in_each_role(includes: list[tuple[str, str, str]]) -> None:
    files = {f"{name}.txt": f"{name}pkg==1\n" for name in "abcd"}
    for source, option, target in includes:
        files[f"{source}.txt"] += f"{option}./x/../{target}.txt\n"
    spec = read(files)
    roles = {("a", False)}
    for _ in range(10):
        roles |= {
            (target, is_constraint or option == "-c ")
            for source, option, target in includes
            for name, is_constraint in list(roles)
            if name == source and not (is_constraint and option == "-r ")
        }
    assert {line[0] for line in spec.requirements} >= {name for name, is_constraint in roles if not is_constraint}
    assert {line[0] for line in spec.constraints} >= {name for name, is_constraint in roles if is_constraint}
    assert len(set(spec.requirements)) == len(spec.requirements)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({f"r{number}.txt": f"-r r{number + 1}.txt\n" for number in range(2000)}, "in a chain"),
        ({"a.txt": "six\n" * 10_001}, "more than 10,000 lines"),
        ({"a.txt": "-c b.txt\n", "b.txt": "six==1\n" * 10_001}, "more than 10,000 lines"),
        ({"a.txt": "#" * 2_000_001}, "too large"),
    ],
)
def test_too_much_is_refused(files: dict[str, str], message: str) -> None:
    with pytest.raises(EnvironmentSetupError, match=message):
        read(files)


def test_a_yaml_string_of_several_lines_is_several_requirements() -> None:
    text = "dependencies:\n  - |\n    six  # one\n    tabulate\\\n    ==0.9\n"
    spec = read({"python_env.yaml": text}, EnvironmentKind.PYTHON_ENV)
    assert spec.requirements == ("six", "tabulate ==0.9")
    with pytest.raises(EnvironmentSetupError, match="--no-such-option"):
        read({"python_env.yaml": 'dependencies: ["six\\n--no-such-option=x"]\n'}, EnvironmentKind.PYTHON_ENV)


@pytest.mark.parametrize("break_", ["\\n", "\\r", "\\u2028"])
def test_a_lock_with_a_line_break_in_an_address_is_refused(break_: str) -> None:
    lock = (
        'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "a"\n'
        f'vcs = {{type = "git", url = "https://h.invalid/x{break_}--find-links /", commit-id = "0"}}\n'
    )
    with pytest.raises(EnvironmentSetupError, match="line break"):
        read({"pylock.toml": lock}, EnvironmentKind.PYLOCK)


def test_of_many_faults_the_first_are_named() -> None:
    text = "name: x\nchannels: [c]\ndependencies:\n" + "- '='\n" * 5000
    spec = read({"conda.yaml": text}, EnvironmentKind.CONDA_ENV)
    assert spec.refusal is not None
    assert spec.refusal.message.endswith("and 4,980 more")


def dockerfile(text: str) -> PythonSpec:
    return read_dockerfile("Dockerfile", MemoryFiles({"Dockerfile": text.encode()}))


def test_arguments_of_a_dockerfile_have_the_value_of_their_place() -> None:
    spec = dockerfile(
        "ARG PY=3.9\nFROM python:${PY}-slim\nENV A=six\nENV V=1.15 B=2\nARG W=${A}==${V}\n"
        'RUN pip install --no-cache-dir "$W" $UNKNOWN\nENV V=1.16\nRUN apt-get install x && pip install tabulate==$V\n'
    )
    assert (spec.python, spec.requirements) == ("3.9", ("six==1.15", "tabulate==1.16"))


def test_arguments_that_repeat_each_other_do_not_grow() -> None:
    doubling = "".join(f"ENV a{number + 1}=${{a{number}}}$a{number}\n" for number in range(60))
    spec = dockerfile(
        f"FROM python:3.9\nENV a0=xxxxxxxx\n{doubling}RUN pip install six $a60\nRUN pip install tabulate\n"
    )
    assert "tabulate" in spec.requirements


@pytest.mark.parametrize(
    ("door", "text"),
    [
        *(
            (door, "\n" * 1_150_000)
            for door in ("uv_lock", "conda", "dockerfile", "conda_lock", "requirements", "pylock")
        ),
        ("dockerfile", "FROM x\n" + "RUN " + "pip " * 45_000 + "\n"),
        ("dockerfile", "".join(f"ENV a{number}=$a{number}\n" for number in range(9_000)) + "$a1" * 10_000),
        ("conda", 'channels: [c]\ndependencies:\n- "' + "a" * 200_000 + '\\nb"\n'),
        ("conda", 'channels: [c]\ndependencies:\n- "a ' + "[" * 200_000 + '"\n'),
        ("pylock", "a.b = 1\n" * 50_000),
        ("python_env", "dependencies:\n" + "- '='\n" * 200_000),
    ],
    ids=lambda value: value[:12].strip() or "line ends",
)
def test_large_files_of_one_kind_are_read_in_time(door: str, text: str) -> None:
    assert try_input(door, text.encode()).fault is None


LOCK = """
version: 1
metadata: {content_hash: {linux-64: x}, channels: [{url: c, used_env_vars: []}], platforms: PLATFORMS, sources: [],
  custom_metadata: OWN}
package:
- {name: a, version: '1', manager: conda, platform: NAME, dependencies: {}, optional: false, build: '0',
   url: 'https://h.invalid/linux-64/a-1-0.conda', hash: {md5: MD5}, category: main}
"""
USUAL = {"PLATFORMS": "[linux-64]", "OWN": "{proj: '1'}", "NAME": "linux-64", "MD5": f"'{'1' * 32}'"}


def lock_with(**values: str) -> str:
    text = LOCK
    for name, value in {**USUAL, **values}.items():
        text = text.replace(name, value)
    return text


def test_the_lock_that_is_varied_is_valid() -> None:
    assert read_lock(lock_with(), "conda-lock.yml", "linux-64").is_ours


@pytest.mark.parametrize(
    "text",
    [
        lock_with().split("package:")[0] + "package:\n" + "- {}\n" * 60_000,
        lock_with().split("package:")[0] + f"package: [{'1,' * 150_000}]\n",
        "version: 1\nmetadata: {}\npackage: []\n" + "".join(f"x{number}: 1\n" for number in range(60_000)),
        lock_with().replace("dependencies: {}", f"dependencies: {{{','.join(f'a{n}: 1' for n in range(60_000))}}}"),
        lock_with(OWN=f"{{{','.join(f'a{n}: 1' for n in range(60_000))}}}"),
        lock_with(OWN=f"{{proj: {'[' * 200}{']' * 200}}}"),
        "a: &a [x, x]\n"
        + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(24)),
    ],
    ids=["packages", "no mappings", "keys", "dependencies", "metadata", "depth", "aliases"],
)
def test_large_invalid_conda_locks_are_refused_in_time(text: str) -> None:
    assert try_input("conda_lock", text.encode()).fault is None
    with pytest.raises(EnvironmentSetupError) as caught:
        read_lock(text, "conda-lock.yml", "linux-64")
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("part", USUAL)
@pytest.mark.parametrize(
    "odd", ["null", "1", "-1.5", "[]", "[[1]]", "{}", "{no_dates_for: null}", "true", "''", "2020-01-01"]
)
def test_misshapen_conda_locks_are_read_or_refused(part: str, odd: str) -> None:
    with contextlib.suppress(EnvironmentSetupError):
        assert read_lock(lock_with(**{part: odd}), "conda-lock.yml", "linux-64").digest


def test_a_dockerfile_that_is_too_large_is_named_and_left_aside(tmp_path: Path) -> None:
    write_tree(tmp_path, {"Dockerfile": "#" * 300_000, "train.py": "import six\n"})
    files = FolderFiles(tmp_path)
    assert "not read" in read_dockerfile("Dockerfile", files).notices[0]
    spec = decide_spec(EnvironmentDeclaration(kind=EnvironmentKind.NONE), files, Scripts(), None)
    assert spec.requirements == ("six",)
