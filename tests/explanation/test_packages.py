"""`proj explain` with packages: a pinned one, and one that only another package needs, each among irrelevant ones."""

import hashlib
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from tests.conftest import MakeRepository, RunProj, git, write_tree
from tests.explanation.test_explain import LOG, explained, names

MANIFEST = (
    "name: t\nentry_points:\n  main:\n    parameters:\n      beta: {default: x}\n    command: python train.py {beta}\n"
)
SUM = "proj_tests_top.VALUE * 100 + proj_tests_pinned.VALUE"
SCRIPT = f"{LOG}import proj_tests_top, proj_tests_pinned\nlog(f'a={{{SUM}}}')\n"


def make_wheel(folder: Path, name: str, version: str, code: str, requires: str | None = None) -> None:
    """Write a wheel with one module; see the binary distribution format of the packaging guide."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": metadata + (f"Requires-Dist: {requires}\n" if requires else ""),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    for path, text in files.items():
        digest = urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(text.encode())}\n")
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "".join([*lines, f"{info}/RECORD,,\n"]))


def run(proj: RunProj, root: Path, *words: str) -> str:
    done = proj("run", ".", "--json", *words, cwd=root)
    assert done.code == 0, done.err
    return str(done.json["run_id"])


@pytest.mark.env
@pytest.mark.parametrize("planted", ["pinned", "transitive", "both"])
def test_the_package_that_matters_is_named(
    proj: RunProj, make_repository: MakeRepository, tmp_path: Path, planted: str
) -> None:
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "proj_tests_top", "1.0", "from proj_tests_low import VALUE\n", "proj_tests_low")
    make_wheel(wheels, "proj_tests_low", "1.0", "VALUE = 1\n")
    for name in ("proj_tests_pinned", "proj_tests_other"):
        make_wheel(wheels, name, "1.0", "VALUE = 1\n")
        make_wheel(wheels, name, "2.0", "VALUE = 2\n")
    pins = "proj_tests_top\nproj_tests_pinned=={}\nproj_tests_other=={}\n"
    index = f"--find-links {wheels.as_uri()}\n"
    files = {"MLproject": MANIFEST, "train.py": SCRIPT, "requirements.txt": index + pins.format("1.0", "1.0")}
    root = make_repository(files)
    first = run(proj, root)
    make_wheel(wheels, "proj_tests_low", "2.0", f"VALUE = {1 if planted == 'pinned' else 2}\n")
    write_tree(root, {"requirements.txt": index + pins.format("1.0" if planted == "transitive" else "2.0", "2.0")})
    git(root, "commit", "--quiet", "--all", "--message=second")
    second = run(proj, root, "-P", "beta=y")
    code, found = explained(proj, first, second)
    expected = {"pinned": {"proj-tests-pinned"}, "transitive": {"proj-tests-low"}}
    both = expected["pinned"] | expected["transitive"]
    assert names(found) == {("package", name) for name in expected.get(planted, both)}, found
    assert (code, names(found, proven=False)) == (0, set()), found
    changed = {one["name"] for one in found["differences"] if one["kind"] == "package"}
    assert {"proj-tests-low", "proj-tests-other"} <= changed


@pytest.mark.env
def test_a_file_outside_the_project_is_compared_for_reuse_and_suspected(
    proj: RunProj, make_repository: MakeRepository, tmp_path: Path
) -> None:
    outside = write_tree(tmp_path, {"outside.csv": "1"}) / "outside.csv"
    manifest = "name: t\npython_env: env.yaml\nentry_points:\n  main:\n    command: python train.py\n"
    script = f"{LOG}log(f'a={{pathlib.Path({str(outside)!r}).read_text()}}')\n"
    root = make_repository({"MLproject": manifest, "train.py": script, "env.yaml": "dependencies: [six]\n"})
    first = run(proj, root)
    assert run(proj, root, "--reuse") == first
    outside.write_text("2")
    second = run(proj, root, "--reuse")
    assert second != first
    code, found = explained(proj, first, second)
    assert (code, names(found)) == (1, set()), found
    assert ("input", str(outside)) in names(found, proven=False), found
