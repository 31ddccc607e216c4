"""From values to the command line: binding, templates, quoting, paths."""

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from runner.errors import ManifestError, ParameterError
from runner.manifest import (
    Download,
    FolderFiles,
    PathRules,
    bind_parameters,
    find_downloads,
    read_parameters_file,
    render_command,
    shell_argv,
)
from runner.model import EntryPoint, Parameter, ParameterSpec, ValueSource
from tests.conftest import write_tree

NOWHERE = PathRules(caller=Path("/nowhere"), mapped=Path("/run"), storage=Path("/storage"))
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
NASTY = st.text("ab '\"\\$`!{}*?[]()<>|&;#~=%\n\t-", max_size=20)


def specs(**kinds: str) -> tuple[ParameterSpec, ...]:
    return tuple(ParameterSpec(name=name, type=kind) for name, kind in kinds.items())


def entry(command: str, *parameters: ParameterSpec) -> EntryPoint:
    return EntryPoint(name="main", command=command, parameters=parameters)


def render(command: str, given: dict[str, str] | None = None, **declared: str) -> str:
    return render_with(command, declared, given or {})


def render_with(command: str, declared: dict[str, str], given: dict[str, str]) -> str:
    point = entry(command, *(ParameterSpec(name=name, default=value) for name, value in declared.items()))
    return render_command(point, bind_parameters(point, given, {}), NOWHERE)


def words_that_bash_passes(command: str) -> list[str]:
    done = subprocess.run(shell_argv(command), capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


@settings(deadline=None, database=None, max_examples=60)
@example(first="", second="\n#", extra="")
@given(first=VALUES | NASTY, second=NASTY, extra=VALUES | NASTY)
def test_values_reach_the_process_exactly(first: str, second: str, extra: str) -> None:
    command = render_with("printf '%s\\0' {a} --b={b-c}", {"a": first, "b-c": second}, {"x": extra})
    assert words_that_bash_passes(command) == [first, f"--b={second}", "--x", extra]


@settings(deadline=None, database=None, max_examples=30)
@given(extra=NASTY, name=st.text("ab '\"$;\\-", min_size=1, max_size=8))
def test_undeclared_parameters_of_a_block_are_arguments_of_its_last_line(extra: str, name: str) -> None:
    command = render("true\nprintf '%s\\0' \\\n  one \\\n", {name: extra})
    assert words_that_bash_passes(command) == ["one", f"--{name}", extra]


@settings(deadline=None, database=None, max_examples=200)
@given(
    st.text("a{}$:! x", max_size=14) | st.text(max_size=20),
    st.dictionaries(st.sampled_from(["a", "x", "a.b", "0", "", "a a"]), NASTY, max_size=3),
)
def test_any_template_is_filled_as_python_does_or_refused(template: str, values: dict[str, str]) -> None:
    quoted = {name: shlex.quote(value) for name, value in values.items()}
    try:
        expected = template.format(**quoted)
    except (ValueError, LookupError, AttributeError, TypeError):
        expected = None
    try:
        found = render_with(template, values, {})
    except ManifestError:
        found = None
    if expected is not None and not any(mark in template for mark in (".", "[")):
        assume("\0" not in template and "" not in values)
        assert found == expected


@pytest.mark.parametrize(
    ("template", "command"),
    [
        ("${HOME}/{a}", "${HOME}/1"),
        ("${{HOME}}/{a}", "${HOME}/1"),
        ("${a}", "$1"),
        ("${{{a}}}", "${1}"),
        ("${X:-{a}}", "${X:-1}"),
        ("${X:-${a}}", "${X:-$1}"),
        ("${X:-${Y:-{z}}}", "${X:-${Y:-{z}}}"),
        ("'{{print ${1}}}'", "'{print ${1}}'"),
        ("$$ $a ${#a} ${a%%x}", "$$ $a ${#a} ${a%%x}"),
        ('\\${X} "${X[@]}"', '\\${X} "${X[@]}"'),
    ],
)
def test_dollar_braces(template: str, command: str) -> None:
    assert render(template, a="1") == command


@pytest.mark.parametrize(
    "template",
    [
        "{",
        "}",
        "{a",
        "${a",
        "${X",
        "{}",
        "{0}",
        "{b}",
        "{a:.3f}",
        "{a!x}",
        "{a.x}",
        "{a[0]}",
        "{a:{a:{a}}}",
        "{a:99999}",
    ],
)
def test_templates_that_are_refused_name_their_entry_point(template: str) -> None:
    with pytest.raises(ManifestError, match="'main'"):
        render(f"echo {template}", a="1")


def test_all_placeholders_without_a_parameter_are_named_at_once() -> None:
    with pytest.raises(ManifestError, match=r"'\{b\}'.*'\{c\}'"):
        render("echo {b} {a} {c}", a="1")


@pytest.mark.parametrize(
    ("template", "command"),
    [
        ("a\n", "a --x 1"),
        ("a\n\n  \n", "a --x 1"),
        ("a  ", "a   --x 1"),
        ("a \\\n", "a --x 1"),
        ("a \\\\\n", "a \\\\ --x 1"),
        ("a # note", "a # note --x 1"),
        ("", " --x 1"),
    ],
)
def test_where_undeclared_parameters_go(template: str, command: str) -> None:
    assert render(template, {"x": "1"}) == command


@pytest.mark.parametrize("template", ["cat <<EOF\ntext\nEOF\n", "cat <<-'END'\ntext\nEND\n", "a\n# the end\n"])
def test_undeclared_parameters_are_refused_where_they_would_get_lost(template: str) -> None:
    with pytest.raises(ParameterError, match="'x'"):
        render(template, {"x": "1"})
    assert render(template) == template


def test_notebooks_take_parameters_in_their_own_way() -> None:
    point = EntryPoint(name="b.ipynb", command="python -m papermill b.ipynb c.ipynb", extra="-p {name} {value}")
    command = render_command(point, bind_parameters(point, {"a": "x y"}, {}), NOWHERE)
    assert command == "python -m papermill b.ipynb c.ipynb -p a 'x y'"


def test_a_command_that_no_process_can_take_is_refused() -> None:
    for template in ("a \0", "a \ud800", "x" * 200_000):
        with pytest.raises(ManifestError, match="'main'"):
            render(template)
    for value in ("\0", "\ud800"):
        with pytest.raises(ParameterError, match="'x'"):
            render("a", {"x": value})


def test_values_are_bound_in_order_with_their_sources() -> None:
    point = entry("", ParameterSpec(name="a", default="0"), *specs(b="int"), ParameterSpec(name="s", secret=True))
    bound = bind_parameters(point, {"z": "9", "b": "1"}, {"s": "k", "b": "2", "y": "8"})
    assert [(each.name, each.value, each.source, each.declared) for each in bound] == [
        ("a", "0", ValueSource.DEFAULT, True),
        ("b", "1", ValueSource.COMMAND_LINE, True),
        ("s", "k", ValueSource.FILE, True),
        ("z", "9", ValueSource.COMMAND_LINE, False),
        ("y", "8", ValueSource.FILE, False),
    ]
    assert [each.secret for each in bound] == [False, False, True, False, False]


def test_all_faults_of_values_come_at_once() -> None:
    point = entry(
        "", *specs(a="int", b="float", c="bool", d="string", e="uri"), ParameterSpec(name="f", choices=("x", "y"))
    )
    with pytest.raises(ParameterError) as caught:
        bind_parameters(point, {"a": "1.5", "b": "fast", "c": "maybe", "f": "z"}, {"e": "data.csv"})
    for word in ("'d'", "'a'", "'1.5'", "'b'", "'fast'", "'c'", "'maybe'", "'e'", "'data.csv'", "'f'", "x or y"):
        assert word in caught.value.message


def test_missing_values_are_named_with_the_ways_to_mend_them() -> None:
    note = "its default is null, which means none"
    point = entry("", ParameterSpec(name="depth", type="int", note=note), *specs(width="int"))
    with pytest.raises(ParameterError, match="'depth' and 'width'") as caught:
        bind_parameters(point, {}, {})
    assert note in str(caught.value.context)
    assert "-P depth=VALUE" in str(caught.value.hint)
    assert "an integer as its default" in str(caught.value.hint)
    with pytest.raises(ParameterError) as caught:
        bind_parameters(entry("", ParameterSpec(name="label", note=note)), {}, {})
    assert '""' in str(caught.value.hint)


@pytest.mark.parametrize(
    ("spec", "good", "bad"),
    [
        (
            ParameterSpec(name="p", type="int"),
            ["3", "-3", "+3", "1_000", "9" * 5000],
            ["", " 3", "3.0", "1e3", "٣"],
        ),
        (ParameterSpec(name="p", type="float"), ["1", "-.5e2", "inf", "nan", "1e-3"], ["", "1 ", "1,5", "0x1"]),
        (ParameterSpec(name="p", type="bool"), ["true", "False", "yes", "0", "ON"], ["", "maybe", "2", " true"]),
        (ParameterSpec(name="p", type="int", minimum=1, maximum=9), ["1", "9"], ["0", "10", "x"]),
        (ParameterSpec(name="p", type="float", minimum=0), ["0", "inf"], ["-1e-9", "nan"]),
        (ParameterSpec(name="p", minimum=0), ["1"], ["many"]),
        (ParameterSpec(name="p", type="float", choices=("0.1", "1")), ["0.1", "1e-1", "1.0"], ["0.2"]),
        (ParameterSpec(name="p", choices=("1", "x")), ["x", "1"], ["1.0", "X"]),
        (ParameterSpec(name="p", type="int", default="auto", choices=("1",)), ["auto", "1"], ["Auto", "2"]),
        (ParameterSpec(name="p", type="banana"), ["", "anything"], []),
    ],
)
def test_what_a_user_may_give(spec: ParameterSpec, good: list[str], bad: list[str]) -> None:
    point = entry("", spec)
    for value in good:
        assert bind_parameters(point, {"p": value}, {})[0].value == value
    for value in bad:
        with pytest.raises(ParameterError, match="'p'"):
            bind_parameters(point, {"p": value}, {})
        with pytest.raises(ParameterError, match="'p'"):
            bind_parameters(point, {}, {"p": value})


def test_a_refused_secret_is_not_shown() -> None:
    point = entry(
        "", ParameterSpec(name="key", type="int", secret=True), ParameterSpec(name="p", type="path", secret=True)
    )
    with pytest.raises(ParameterError) as caught:
        bind_parameters(point, {"key": "hunter2", "p": "x"}, {})
    assert "hunter2" not in caught.value.message
    with pytest.raises(ParameterError) as caught:
        render_command(point, bind_parameters(point, {"key": "1", "p": "hunter2"}, {}), NOWHERE)
    assert "hunter2" not in f"{caught.value.message} {caught.value.context} {caught.value.hint}"


def test_parameters_files(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {
            "p.yaml": "a: 010\nb: yes\nc: 1e-3\nd: 'x y'\ne:\nf: [1, 'a']\n1: one\n",
            "p.json": '{\n\t"a": 0.00001, "b": true, "c": "\\ud83c\\udf33", "d": [1, "x"], "e": null}',
            "empty.yml": "# nothing\n",
        },
    )
    expected = {"a": "8", "b": "True", "c": "1e-3", "d": "x y", "f": "[1, 'a']", "1": "one"}
    assert read_parameters_file(tmp_path / "p.yaml") == expected
    assert read_parameters_file(tmp_path / "p.json") == {"a": "1e-05", "b": "True", "c": "🌳", "d": "[1, 'x']"}
    assert read_parameters_file(tmp_path / "empty.yml") == {}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.yaml", "- a"),
        ("a.yaml", "a: [\n"),
        ("a.yaml", "a: 2020-13-45"),
        ("a.json", "{"),
        ("a.json", "[1]"),
        ("a.json", '{"a": ' + "9" * 6000 + "}"),
        ("a.json", "[" * 100_000),
        ("a.json", "\xff"),
    ],
)
def test_parameters_files_that_are_none(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    if "9" * 6000 in content:
        assert len(json_value(tmp_path / name)) in (0, 6000)
        return
    with pytest.raises(ParameterError):
        read_parameters_file(tmp_path / name)
    with pytest.raises(ParameterError):
        read_parameters_file(tmp_path / "absent.yaml")


def json_value(path: Path) -> str:
    """Return the one value in a file; Python before 3.11 has no limit for long integers."""
    try:
        return read_parameters_file(path)["a"]
    except ParameterError:
        return ""


def rules_of(tmp_path: Path, caller: str = "caller", repository: Path | None = None) -> PathRules:
    return PathRules(
        caller=tmp_path / caller,
        project=tmp_path / "repo/project",
        repository=repository,
        mapped=tmp_path / "run/project",
        storage=tmp_path / "storage",
    )


def path_of(rules: PathRules, value: str) -> str:
    parameter = Parameter(name="p", value=value, type="path")
    return shlex.split(render_command(entry("{p}"), (parameter,), rules))[0]


def test_paths_of_the_project_are_those_of_the_run_folder(tmp_path: Path) -> None:
    tree = {"caller/own.csv": "", "repo/project/data/a b.csv": "", "repo/shared.csv": "", "repo/project/100%.csv": ""}
    write_tree(tmp_path, tree)
    rules = rules_of(tmp_path)
    assert path_of(rules, "own.csv") == f"{tmp_path}/caller/own.csv"
    assert path_of(rules, "data/a b.csv") == f"{tmp_path}/run/project/data/a b.csv"
    assert path_of(rules, "data/a%20b.csv") == f"{tmp_path}/run/project/data/a b.csv"
    assert path_of(rules, "100%25.csv") == f"{tmp_path}/run/project/100%.csv"
    assert path_of(rules, str(tmp_path / "repo/project/data")) == f"{tmp_path}/run/project/data"
    assert path_of(rules, f"file://localhost{tmp_path}/repo/project/data/a%20b.csv").startswith(f"{tmp_path}/run/")
    assert path_of(rules, "../shared.csv") == f"{tmp_path}/repo/shared.csv"
    whole = rules_of(tmp_path, repository=tmp_path / "repo")
    assert path_of(whole, "../shared.csv") == f"{tmp_path}/run/shared.csv"
    (tmp_path / "link").symlink_to(tmp_path / "repo")
    linked = rules_of(tmp_path, "link/project")
    assert path_of(linked, "data/a b.csv") == f"{tmp_path}/run/project/data/a b.csv"
    assert path_of(rules, "") == ""


def test_paths_of_a_source_without_a_folder(tmp_path: Path) -> None:
    write_tree(tmp_path, {"caller/own.csv": "", "tree/data/a.csv": "", "tree/sub/b.csv": ""})
    rules = PathRules(
        caller=tmp_path / "caller",
        mapped=tmp_path / "run",
        storage=tmp_path / "storage",
        files=FolderFiles(tmp_path / "tree"),
    )
    assert path_of(rules, "own.csv") == f"{tmp_path}/caller/own.csv"
    assert path_of(rules, "data/a.csv") == f"{tmp_path}/run/data/a.csv"
    assert path_of(rules, "./data/") == f"{tmp_path}/run/data"
    for absent in ("none.csv", "/data/a.csv", "../data/a.csv"):
        with pytest.raises(ParameterError, match="'p'"):
            path_of(rules, absent)


def test_what_must_be_fetched_is_known_before_the_run(tmp_path: Path) -> None:
    rules = rules_of(tmp_path)
    url = "https://files.example.org/data/one%20two.csv?x=1"
    parameters = (Parameter(name="n", value="1"), Parameter(name="p", value=url, type="path"))
    target = tmp_path / "storage/param_1/one two.csv"
    assert find_downloads(parameters, rules) == (Download(parameter="p", url=url, path=target),)
    assert render_command(entry("t {p}"), parameters, rules) == f"t {shlex.quote(str(target))}"
    for odd in ("http://h", "http://h/..", "http://h/%2e%2e", "http://h/a%2fb"):
        (found,) = find_downloads((Parameter(name="p", value=odd, type="path"),), rules)
        assert found.path.parent == tmp_path / "storage/param_0"
        assert found.path.name not in ("", ".", "..")


@pytest.mark.parametrize(
    "value", ["s3://bucket/key", "runs:/1/model", "file://host/x", "file:///nowhere", "~/x", "none", "http://["]
)
def test_paths_that_are_not_there_or_can_not_be_fetched(tmp_path: Path, value: str) -> None:
    with pytest.raises(ParameterError, match="'p'"):
        path_of(rules_of(tmp_path), value)
