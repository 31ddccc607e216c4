"""Tests access to artifacts below a root folder."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import InvalidValueError, NotFoundError, StoreError
from runner.store.artifacts import (
    ArtifactInfo,
    ArtifactWriter,
    check_path,
    delete,
    list_artifacts,
    open_artifact,
    survey,
    write_artifact,
)

ATTACKS = [
    "../x",
    "a/../../x",
    "..",
    ".",
    "a/./b",
    "/etc/passwd",
    "//etc/passwd",
    "a//b",
    "%2e%2e/x",
    "%2E%2E%2Fx",
    "%2fetc/passwd",
    "a/%2e%2e",
    "%252e%252e/x",
    "a%00",
    "a\x00b",
    "a\nb",
    "a\x7f",
    "..\\x",
    "C:/windows",
    "c:\\x",
    "\\\\server\\x",
    "",
    "x" * 256,
    "/".join(["x" * 100] * 11),
    "a\udc80",
    ".proj-partial-1",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("secret")
    return tmp_path / "runs" / "artifacts"


@pytest.mark.parametrize("path", ATTACKS)
def test_unsafe_paths_are_refused_on_write_read_list_and_delete(root: Path, path: str) -> None:
    write_artifact(root, "a/b", [b"x"])
    for use in (
        lambda: write_artifact(root, path, [b"x"]),
        lambda: open_artifact(root, path),
        lambda: list_artifacts(root, path) if path else check_path(path),
        lambda: delete(root, path) if path else check_path(path),
    ):
        with pytest.raises(InvalidValueError):
            use()
    assert [(file.path, file.size) for file in survey(root).files] == [("a/b", 1)]


@settings(max_examples=300, deadline=None)
@given(path=st.text(alphabet="a./\\%2eE5cC:~ \x00\n", max_size=12))
def test_accepted_paths_stay_inside_the_root(tmp_path_factory: pytest.TempPathFactory, path: str) -> None:
    base = tmp_path_factory.getbasetemp() / "inside"
    root = base / "root"
    try:
        write_artifact(root, path, [b"x"])
    except StoreError:
        pass
    else:
        with open_artifact(root, path) as file:
            opened = Path(f"/proc/self/fd/{file.fileno()}").readlink()
        assert opened.is_relative_to(root.resolve())
    assert {entry.name for entry in base.glob("*")} <= {"root"}


@pytest.mark.parametrize("path", ["100%25.csv", "100%.csv", "a%2fb", "a\\b", "m:x", "...", "..a", "a b/ü~'", "%"])
def test_unusual_names_are_kept_as_they_are(root: Path, path: str) -> None:
    write_artifact(root, path, [b"x"])
    assert [info.path for info in survey(root).files] == [path]
    assert root.joinpath(*path.split("/")).read_bytes() == b"x"
    assert open_artifact_text(root, path) == b"x"


def test_links_are_not_followed(root: Path, tmp_path: Path) -> None:
    root.mkdir(parents=True)
    (root / "file").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    for use in (
        lambda: open_artifact(root, "file"),
        lambda: open_artifact(root, "folder/secret"),
        lambda: write_artifact(root, "file", [b"x"]),
        lambda: write_artifact(root, "folder/new", [b"x"]),
        lambda: list_artifacts(root, "folder"),
        lambda: delete(root, "folder/secret"),
    ):
        with pytest.raises(InvalidValueError):
            use()
    assert list_artifacts(root) == ()
    delete(root)
    assert (tmp_path / "secret").read_text() == "secret"
    assert not (tmp_path / "new").exists()


def test_write_list_read_delete(root: Path) -> None:
    assert list_artifacts(root) == ()
    assert write_artifact(root, "model/MLmodel", [b"ab", b"", b"c"]) == 3
    write_artifact(root, "zwei ä/ü.txt", [b"x"])
    write_artifact(root, "top", [])
    assert list_artifacts(root) == (
        ArtifactInfo(path="model", is_dir=True),
        ArtifactInfo(path="top", is_dir=False, size=0),
        ArtifactInfo(path="zwei ä", is_dir=True),
    )
    assert list_artifacts(root, "model/") == (ArtifactInfo(path="model/MLmodel", is_dir=False, size=3),)
    assert list_artifacts(root, "model/MLmodel") == (ArtifactInfo(path="model/MLmodel", is_dir=False, size=3),)
    assert list_artifacts(root, "nothing") == ()
    assert list_artifacts(root, "top/below") == ()
    assert [info.path for info in survey(root).files] == ["model/MLmodel", "top", "zwei ä/ü.txt"]
    with open_artifact(root, "model/MLmodel") as file:
        assert file.read() == b"abc"
    for path in ("model", "nothing"):
        with pytest.raises(NotFoundError):
            open_artifact(root, path)
    delete(root, "model")
    delete(root, "top")
    assert [info.path for info in survey(root).files] == ["zwei ä/ü.txt"]
    with pytest.raises(NotFoundError):
        delete(root, "top")
    delete(root)
    assert not root.exists()
    delete(root)


def test_readers_see_the_old_content_until_the_new_is_complete(root: Path) -> None:
    write_artifact(root, "f", [b"old"])
    writer = ArtifactWriter(root, "f")
    writer.write(b"new")
    assert open_artifact_text(root, "f") == b"old"
    assert list_artifacts(root) == (ArtifactInfo(path="f", is_dir=False, size=3),)
    assert writer.finish() == 3
    assert open_artifact_text(root, "f") == b"new"


def open_artifact_text(root: Path, path: str) -> bytes:
    with open_artifact(root, path) as file:
        return file.read()


def test_a_broken_upload_leaves_nothing(root: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        write_artifact(root, "f", pieces())
    assert list(root.iterdir()) == []


def test_files_and_folders_do_not_replace_each_other(root: Path) -> None:
    write_artifact(root, "a", [b"x"])
    write_artifact(root, "b/c", [b"x"])
    with pytest.raises(InvalidValueError):
        write_artifact(root, "a/below", [b"x"])
    with pytest.raises(InvalidValueError):
        write_artifact(root, "b", [b"x"])


def test_special_files_are_not_opened(root: Path) -> None:
    root.mkdir(parents=True)
    os.mkfifo(root / "pipe")
    assert list_artifacts(root) == ()
    with pytest.raises(NotFoundError):
        open_artifact(root, "pipe")


def test_ten_thousand_artifacts_are_listed_at_once(root: Path) -> None:
    root.mkdir(parents=True)
    for number in range(10_000):
        (root / f"{number:05}").touch()
    assert len(list_artifacts(root)) == 10_000
