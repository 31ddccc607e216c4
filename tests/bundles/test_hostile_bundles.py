"""Bundles of an attacker are refused with a clear error, leave nothing behind, and run nothing."""

import io
import json
import stat
import struct
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.bundles.reading import open_bundle
from runner.errors import BundleError
from tests.bundles.conftest import Exported
from tests.bundles.forging import MANIFEST, read_files, write_files
from tests.conftest import RunProj, git

pytestmark = pytest.mark.slow


def refused(bundle: Path, folder: Path) -> str:
    """Open a bundle that must be refused, and return the message; nothing outside the folder may be written."""
    folder.mkdir()
    before = sorted(folder.parent.iterdir())
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle, folder)
    assert sorted(folder.parent.iterdir()) == before
    return f"{caught.value.message}: {caught.value.context}"


def zipped(target: Path, entries: list[tuple[zipfile.ZipInfo | str, bytes]]) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return target


_MADE: list[tuple[str, bytes]] = []
"""The bundle that all tests of this file change; made once."""


@pytest.fixture
def exported(request: pytest.FixtureRequest, tmp_path: Path) -> Exported:
    if not _MADE:
        first: Exported = request.getfixturevalue("exported_run")
        _MADE.append((first.run_id, first.bundle.read_bytes()))
    (tmp_path / "run.zip").write_bytes(_MADE[0][1])
    return Exported(tmp_path, _MADE[0][0], tmp_path / "run.zip")


NAMES = [
    "../escaped",
    "outputs/../../escaped",
    "/escaped",
    "outputs/..%2f..%2fescaped",
    "outputs",
    "outputs/",
    "inputs/a/b",
    "packages/../x",
    "proj-bundle.json.sig/x",
    ".git/hooks/post-checkout",
    "code/.git/config",
    "C:\\escaped",
    "outputs/a\nb",
    "unknown.txt",
    "runs/x",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_out_or_do_not_belong(exported: Exported, tmp_path: Path, name: str) -> None:
    files = read_files(exported.bundle)
    bundle = zipped(tmp_path / "bad.zip", [*files.items(), (name, b"x")])
    assert "name leads out" in (text := refused(bundle, tmp_path / "f")) or "does not belong" in text
    assert not list(tmp_path.parent.glob("escaped*"))


def linked(name: str, kind: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, (kind | 0o777) << 16
    return entry


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR])
def test_links_and_devices(exported: Exported, tmp_path: Path, kind: int) -> None:
    files = read_files(exported.bundle)
    entries: list[tuple[zipfile.ZipInfo | str, bytes]] = [*files.items(), (linked("outputs/x", kind), b"/etc/passwd")]
    assert "something else than a file" in refused(zipped(tmp_path / "bad.zip", entries), tmp_path / "f")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_names_and_files_as_folders(exported: Exported, tmp_path: Path) -> None:
    files = read_files(exported.bundle)
    twice = zipped(tmp_path / "twice.zip", [*files.items(), ("record.json", b"{}")])
    assert "twice" in refused(twice, tmp_path / "f")
    inside = zipped(tmp_path / "inside.zip", [*files.items(), ("outputs/x", b""), ("outputs/x/y", b"")])
    assert "in the place of a folder" in refused(inside, tmp_path / "g")


def test_sizes_and_ratios(exported: Exported, tmp_path: Path) -> None:
    files = read_files(exported.bundle)
    bomb = zipped(tmp_path / "bomb.zip", [*files.items(), ("outputs/zeros", bytes(300 << 20))])
    assert "times its size" in refused(bomb, tmp_path / "f")
    # A header that says less than what is there.
    liar = bytearray(zipped(tmp_path / "liar.zip", [*files.items(), ("outputs/zeros", bytes(5 << 20))]).read_bytes())
    at = liar.rindex(b"PK\x01\x02")
    struct.pack_into("<I", liar, at + 24, 100)
    (tmp_path / "liar.zip").write_bytes(liar)
    refused(tmp_path / "liar.zip", tmp_path / "g")


def test_more_bytes_than_any_bundle_has(exported: Exported, tmp_path: Path) -> None:
    content = bytearray(exported.bundle.read_bytes())
    at = content.index(b"PK\x01\x02")
    while at >= 0:
        struct.pack_into("<I", content, at + 24, 0xFFFFFFF0)
        at = content.find(b"PK\x01\x02", at + 4)
    (tmp_path / "huge.zip").write_bytes(content)
    refused(tmp_path / "huge.zip", tmp_path / "f")


Change = Callable[[dict[str, bytes], dict[str, Any]], Mapping[str, Any] | None]


def change_record(**values: Any) -> Change:
    def change(files: dict[str, bytes], _manifest: dict[str, Any]) -> None:
        record = json.loads(files["record.json"])
        for name, value in values.items():
            if isinstance(value, dict) and isinstance(record.get(name), dict):
                record[name] |= value
            else:
                record[name] = value
        files["record.json"] = json.dumps(record).encode()

    return change


def change_manifest(**values: Any) -> Change:
    return lambda _files, _manifest: values


def replace_file(name: str, content: bytes | None) -> Change:
    def change(files: dict[str, bytes], _manifest: dict[str, Any]) -> None:
        files.pop(name, None)
        if content is not None:
            files[name] = content

    return change


LIES: dict[str, tuple[Change, str]] = {
    "another format": (change_manifest(format="zip"), "is no bundle"),
    "a newer version": (change_manifest(version=2), "version 2"),
    "a path as run id": (change_manifest(run_id="../../x"), "no valid run"),
    "another tree": (change_manifest(tree="1" * 40), "The code in"),
    "an option as tree": (change_manifest(tree="--upload-pack=touch x"), "no valid run or tree"),
    "a digest that is none": (
        lambda _files, _: {"files": [{"path": "record.json", "size": 1, "sha256": "x"}, {"path": "metrics.csv"}]},
        "can't be read",
    ),
    "no record": (replace_file("record.json", None), "has no record.json"),
    "no histories": (replace_file("metrics.csv", None), "has no metrics.csv"),
    "no code": (replace_file("code.bundle", None), "has no code.bundle"),
    "code that is no bundle": (replace_file("code.bundle", b"PK"), "The code in"),
    "a record that is none": (replace_file("record.json", b"[" * 100_000), "record.json"),
    "the record of another run": (change_record(run_id="ab" * 16), "another run"),
    "the record of other code": (change_record(code={"tree": "1" * 40}), "another code"),
    "a run that has not ended": (change_record(status="RUNNING"), "has ended"),
    "a project folder outside": (change_record(code={"subdirectory": "../../etc"}), "leads out"),
    "a project folder in .git": (change_record(code={"subdirectory": ".git"}), "leads out"),
    "an unknown manager": (change_record(environment={"manager": "/bin/sh"}), "environment manager"),
    "escapes in a name": (change_record(run_name="\x1b]0;x\x07"), "control characters"),
    "a time that is none": (change_record(started_at="yesterday"), "is not a time"),
    "logged things that are none": (replace_file("logged.json", b"{"), "logged.json"),
    "an input of other content": (replace_file(f"inputs/{'0' * 64}", b"x"), "another content"),
    "a lock of another digest": (replace_file("lock.txt", b"six==1.0 --hash=sha256:00\n"), "not the one"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies(exported: Exported, tmp_path: Path, lie: str) -> None:
    change, expected = LIES[lie]
    files = read_files(exported.bundle)
    manifest = change(files, json.loads(files[MANIFEST]))
    assert expected in refused(write_files(tmp_path / "bad.zip", files, manifest), tmp_path / "f")


def test_a_file_that_differs_from_its_digest_or_is_not_listed(exported: Exported, tmp_path: Path) -> None:
    files = read_files(exported.bundle)
    for name in ("record.json", "log.txt", "code.bundle", "README.md"):
        changed = {**files, name: files[name][:-1] + b"?"}
        bundle = zipped(tmp_path / "bad.zip", list(changed.items()))
        assert "differs from its digest" in refused(bundle, tmp_path / name), name
    more = zipped(tmp_path / "more.zip", [*files.items(), ("outputs/more", b"x")])
    assert "does not list" in refused(more, tmp_path / "f")
    fewer = zipped(tmp_path / "fewer.zip", [(name, text) for name, text in files.items() if name != "log.txt"])
    assert "incomplete" in refused(fewer, tmp_path / "g")


def written(root: Path, content: bytes, kind: str) -> str:
    words = ["git", "hash-object", "-w", "--literally", "-t", kind, "--stdin"]
    return subprocess.run(words, cwd=root, input=content, check=True, capture_output=True).stdout.decode().strip()


def forged_code(tmp_path: Path, run_id: str, tree: str) -> bytes:
    """Return a git bundle with a tree that git's own commands refuse to make; ``tree`` is in `git mktree` format."""
    root = tmp_path / "forged"
    root.mkdir()
    git(root, "init", "--quiet")
    blob = written(root, b"#!/bin/sh\ntouch ran\n", "blob")
    content = b""
    for line in tree.splitlines():
        mode, name = line.split(" ", 1)
        content += f"{mode} {name}".encode() + b"\0" + bytes.fromhex(blob)
    made = written(root, content, "tree")
    about = {"commit": None, "dirty": False, "remote": None, "root": None, "large": []}
    message = f"run {run_id}\n\n{json.dumps(about)}"
    commit = git(root, "commit-tree", made, "-m", message)
    git(root, "update-ref", f"refs/runs/{run_id}", commit)
    git(root, "bundle", "create", "--quiet", str(tmp_path / "forged.bundle"), f"refs/runs/{run_id}")
    return (tmp_path / "forged.bundle").read_bytes() + made.encode()


TREES = {
    "git's own folder": "100644 .git",
    "in another case": "100644 .GIT",
    "as a short name": "100644 git~1",
    "the folder above": "100644 ..",
    "a path": "100644 a/b",
    "two entries of a name": "100644 a\n100644 a",
    "modules behind a link": "120000 .gitmodules",
}


@pytest.mark.parametrize("case", TREES)
def test_trees_that_could_do_harm_in_a_checkout(exported: Exported, tmp_path: Path, case: str) -> None:
    files = read_files(exported.bundle)
    made = forged_code(tmp_path, exported.run_id, TREES[case])
    code, tree = made[:-40], made[-40:].decode()
    change_record(code={"tree": tree})(files, {})
    files["code.bundle"] = code
    text = refused(write_files(tmp_path / "bad.zip", files, {"tree": tree}), tmp_path / "f")
    assert "The code in" in text, text


def test_hooks_and_modules_in_ordinary_files_are_only_files(proj: RunProj, exported: Exported, tmp_path: Path) -> None:
    """Nothing of a bundle runs while it is checked, taken over or shown."""
    marks = list(tmp_path.rglob("ran"))
    there = {"PROJ_HOME": str(tmp_path / "there")}
    for words in (("verify",), ("import",), ("reproduce",)):
        proj(*words, str(exported.bundle), **there)
    assert list(tmp_path.rglob("ran")) == marks == []
    assert len(proj("list", "--all", "--json", **there).json) == 1


@pytest.mark.parametrize("command", ["verify", "import", "reproduce"])
def test_each_command_refuses_and_stores_nothing(
    proj: RunProj, exported: Exported, tmp_path: Path, command: str
) -> None:
    files = read_files(exported.bundle)
    bundle = zipped(tmp_path / "bad.zip", list({**files, "log.txt": b"other"}.items()))
    there = tmp_path / "there"
    done = proj(command, str(bundle), PROJ_HOME=str(there))
    assert (done.code, "error[bundle]" in done.err) == (1, True), done.err
    assert not list(there.rglob(f"*{exported.run_id}*"))
    assert not list(there.glob("proj-*"))


@pytest.fixture
def sound(exported: Exported) -> bytes:
    return exported.bundle.read_bytes()


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(data=st.data())
def test_damage_anywhere_is_refused_or_harmless(sound: bytes, tmp_path_factory: Any, data: st.DataObject) -> None:
    """Whatever bytes are changed, cut or put in: a clear error, or exactly the files that were there before."""
    folder = tmp_path_factory.mktemp("fuzz")
    content = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["change", "cut", "insert", "repeat"]))
        if kind == "change":
            content[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del content[at : at + data.draw(st.integers(1, 200))]
        elif kind == "insert":
            content[at:at] = data.draw(st.binary(min_size=1, max_size=20))
        else:
            content[at:at] = content[max(0, at - 50) : at]
    (folder / "bad.zip").write_bytes(content)
    (folder / "out").mkdir()
    try:
        bundle = open_bundle(folder / "bad.zip", folder / "out")
    except BundleError:
        return
    with zipfile.ZipFile(io.BytesIO(sound)) as archive:
        for one in bundle.manifest.files:
            assert (bundle.folder / one.path).read_bytes() == archive.read(one.path)
