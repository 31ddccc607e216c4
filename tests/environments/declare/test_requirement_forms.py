"""Every form of a requirement line that pip documents; repairs leave all but plain names unchanged."""

import posixpath
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.analysis.scripts import STANDARD_LIBRARY, Scripts, read_scripts
from runner.environments.declare.requirement_line import name_of, parse_line
from runner.environments.declare.spec import read_spec
from runner.environments.repair.import_names import RENAMED
from runner.environments.repair.repairs import OF_CONDA, OF_OLDER_PYTHONS, names_of, repair_spec
from runner.environments.specs import PythonSpec
from runner.manifest.files import FolderFiles
from runner.model import EnvironmentDeclaration, EnvironmentKind
from tests.conftest import write_tree

TEMPTING = sorted({*RENAMED, *OF_CONDA, *OF_OLDER_PYTHONS, "python", "pickle", "os", "sklearn", "git", "hg", "svn"})
"""Names that a repair would change or leave out where they stood alone."""

DIRECT = (
    "git+https://{host}/{name}",
    "git+https://{host}/{name}.git@v1.0",
    "git+https://{host}/{name}.git@main#egg={name}",
    "git+https://{host}/{name}.git#egg={name}&subdirectory=sub/dir",
    "git+https://me:pass@{host}/{name}.git@da39a3ee5e6b4b0d3255bfef95601890afd80709#egg={name}-1.0",
    "git+ssh://git@{host}/{name}.git",
    "git+file:///srv/{name}",
    "git+git://git.{host}/{name}.git@refs/pull/1/head",
    "hg+https://{host}/{name}@da39a3ee5e6b#egg={name}",
    "hg+static-http://{host}/{name}",
    "svn+https://svn.{host}/{name}/trunk@2019#egg={name}",
    "svn+ssh://user@{host}/{name}/",
    "bzr+lp:{name}#egg={name}",
    "{name} @ git+https://{host}/{name}",
    "{name}[extra] @ git+ssh://git@{host}/{name}@main ; python_version > '3'",
    "{name}@ https://{host}/{name}-1.0-py3-none-any.whl#sha256=da39a3ee5e6b4b0d",
    "{name} @ file:///srv/{name}",
    "https://{host}/{name}-1.0-py3-none-any.whl",
    "https://{host}/{name}-1.0.tar.gz#egg={name}",
    "http://{host}/{name}.zip",
    "{name} @ ${{PLACE}}/{name}",
    "git+https://${{TOKEN}}@{host}/{name}.git",
    "${{{upper}}}",
    "{name}==${{VERSION}}",
    "{name}==1.0 --hash=sha256:da39a3ee5e6b4b0d --hash=sha256:3255bfef95601890",
    '{name}==1.0 --config-settings="--global-option=build"',
    '{name} >= 1.2 --global-option="--no-user-cfg"',
)
names = st.sampled_from(TEMPTING)
hosts = st.sampled_from(["git.invalid", "sklearn.invalid:8080", "[::1]", "127.0.0.1"])


@given(names, hosts, st.sampled_from(DIRECT))
def test_lines_without_a_plain_name_are_unchanged(name: str, host: str, form: str) -> None:
    line = form.format(name=name, host=host, upper=name.upper())
    assert parse_line(line) is None
    spec = PythonSpec(kind=EnvironmentKind.REQUIREMENTS, file="requirements.txt", requirements=(line, "six"))
    after = repair_spec(spec, Scripts(), FolderFiles(Path("/nowhere")))
    assert after.requirements == (line, "six")
    assert after.repairs == ()
    assert after.constraints == ()


@given(st.text(alphabet="abgit+-_.@/:#[]=<>!~;${} 01\"'(),\\", max_size=40))
def test_any_line_is_parsed_without_an_exception(text: str) -> None:
    requested = parse_line(text)
    name_of(text)
    if requested is not None:
        assert "://" not in text
        assert "${" not in text
        assert text.strip().startswith(requested.name)


LOCAL = ("./{name}", ".", "-e .", "-e ./{name}[extra]", "./{name}.whl", "{name} @ file:{name}", "-e file:./{name}")


@pytest.mark.parametrize("form", LOCAL)
@pytest.mark.parametrize("name", ["git", "sklearn", "pickle", "python"])
def test_local_packages_are_unchanged(tmp_path: Path, form: str, name: str) -> None:
    setup = {posixpath.join(name, "setup.py"): "", "setup.py": "", f"{name}.whl": "x"}
    files = FolderFiles(write_tree(tmp_path, {"requirements.txt": form.format(name=name) + "\n", **setup}))
    spec = read_spec(EnvironmentDeclaration(kind=EnvironmentKind.REQUIREMENTS, path="requirements.txt"), files)
    after = repair_spec(spec, Scripts(), files)
    assert (after.local_packages, after.requirements, after.repairs) == (spec.local_packages, (), ())
    assert after.local_packages


OPTIONS = (
    "--index-url https://me:pw@sklearn.invalid/simple",
    "-i https://git.invalid/simple",
    "--extra-index-url=https://${USER}:${PW}@git.invalid/simple",
    "-f https://yaml.invalid/links",
    "--find-links ./pickle",
    "--no-index",
    "--pre",
    "--trusted-host git",
    "--only-binary sklearn",
    "--no-binary :all:",
)


@pytest.mark.parametrize("option", OPTIONS)
def test_options_are_unchanged(tmp_path: Path, option: str) -> None:
    files = FolderFiles(write_tree(tmp_path, {"requirements.txt": f"{option}\nsix\n"}))
    spec = read_spec(EnvironmentDeclaration(kind=EnvironmentKind.REQUIREMENTS, path="requirements.txt"), files)
    after = repair_spec(spec, Scripts(), files)
    assert (after.options, after.requirements, after.repairs) == ((option,), ("six",), ())


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("git+https://host.invalid/team/mlflow.git@v2", "mlflow"),
        ("git+https://host.invalid/team/fork.git@v2#egg=mlflow&subdirectory=x", "mlflow"),
        ("mlflow @ git+https://host.invalid/x", "mlflow"),
        ("https://host.invalid/mlflow_skinny-2.0-py3-none-any.whl", "mlflow-skinny"),
        ("https://host.invalid/mlflow-1.2.tar.gz", "mlflow"),
        ("https://host.invalid/mlflow/mlflow/archive/refs/heads/master.zip", "mlflow"),
        ("mlflow[extras]>=2 ; python_version > '3'", "mlflow"),
        ("mlflow==2.0 --hash=sha256:00", "mlflow"),
        ("./here", None),
        ("${ALL}", None),
    ],
)
def test_the_name_that_a_line_installs(line: str, name: str | None) -> None:
    assert name_of(line) == name
    spec = PythonSpec(requirements=(line,))
    assert names_of(spec) == ({name} if name else frozenset())


def test_mlflow_from_a_repository_is_not_added_again(tmp_path: Path) -> None:
    files = FolderFiles(write_tree(tmp_path, {"t.py": "import mlflow\n"}))
    spec = PythonSpec(
        kind=EnvironmentKind.REQUIREMENTS, file="r.txt", requirements=("git+https://host.invalid/mlflow@v2",)
    )
    assert repair_spec(spec, read_scripts("python t.py", files), files).repairs == ()


@pytest.mark.parametrize(
    "line", ["conda", "conda==4.8.3", "Conda>=4 ; python_version > '3'", "anaconda-navigator==1.9"]
)
def test_parts_of_conda_are_removed(tmp_path: Path, line: str) -> None:
    files = FolderFiles(write_tree(tmp_path, {"t.py": "import six\n", "c.py": "import conda.api\n"}))
    spec = PythonSpec(kind=EnvironmentKind.REQUIREMENTS, file="r.txt", requirements=(line, "six"))
    after = repair_spec(spec, read_scripts("python t.py", files), files)
    assert after.requirements == ("six",)
    assert "part of conda" in after.repairs[0]
    if "navigator" not in line:
        assert repair_spec(spec, read_scripts("python c.py", files), files).requirements == (line, "six")
    assert "conda" not in STANDARD_LIBRARY
