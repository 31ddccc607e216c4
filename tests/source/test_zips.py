"""Zips that lie: refused with a clear error, in little memory, and nothing of them stays."""

import io
import resource
import stat
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import SourceError
from runner.settings import Home
from runner.source import archive
from runner.source.archive import unpack
from tests.conftest import ROOT

Build = Callable[[zipfile.ZipFile], None]


def entry(name: str, kind: int = stat.S_IFREG) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.compress_type = zipfile.ZIP_DEFLATED
    made.external_attr = (kind | 0o644) << 16
    return made


def write(path: Path, *contents: tuple[zipfile.ZipInfo, bytes]) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as made:
        warnings.simplefilter("ignore", UserWarning)
        for info, content in contents:
            made.writestr(info, content)
    return path


def refused(path: Path, home: Home, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        unpack(path, home)
    assert [kept for kept in (home.mirrors / "zips").iterdir() if kept.is_dir()] == []


def test_a_link_with_a_huge_target_takes_no_memory(tmp_path: Path, home: Home) -> None:
    info = entry("link", stat.S_IFLNK)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made, made.open(info, "w", force_zip64=True) as target:
        for _ in range(180):
            target.write(bytes(1 << 20))
    code = (
        "import sys\nfrom pathlib import Path\nfrom runner.errors import SourceError\n"
        "from runner.settings import Home\nfrom runner.source.archive import unpack\n"
        "try:\n    unpack(Path(sys.argv[1]), Home(Path(sys.argv[2])))\n"
        "except SourceError as error:\n    print(error.message)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.zip", home.root],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (150 << 20, 150 << 20)),
    )
    assert "a link without a target" in done.stdout


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ([(entry("a"), b"1"), (entry("a"), b"2")], "the name 'a' twice"),
        ([(entry("a\\b"), b"1"), (entry("a/b"), b"2")], "names that are equal"),
        ([(entry("a"), b"1"), (entry("a/b"), b"2")], "names that are equal|can't be unpacked"),
        ([(entry("../a"), b"1")], "leads out of it"),
        ([(entry("/a"), b"1")], "leads out of it"),
        ([(entry("C:/a"), b"1")], "leads out of it"),
        ([(entry("x/../../a"), b"1")], "leads out of it"),
        ([(entry("link", stat.S_IFLNK), b"")], "link without a target"),
        ([(entry("link", stat.S_IFLNK), b"a" * 5000)], "link without a target"),
        ([(entry("link", stat.S_IFLNK), b"../x")], "leads out of it"),
        ([(entry("n" * 300), b"1")], "can't be unpacked"),
        ([(entry("zeros"), bytes(201 << 20))], "250 times its size"),
    ],
    ids=lambda value: "" if isinstance(value, str) else value[0][0].filename[:10],
)
def test_names_links_and_ratios_are_looked_at(
    tmp_path: Path, home: Home, contents: list[tuple[zipfile.ZipInfo, bytes]], words: str
) -> None:
    refused(write(tmp_path / "a.zip", *contents), home, words)


def test_what_an_entry_says_of_itself_is_not_believed(tmp_path: Path, home: Home) -> None:
    data = write(tmp_path / "a.zip", (entry("a"), bytes(100_000))).read_bytes()
    at = data.index(b"PK\x01\x02")
    for offset, value in ((24, 10), (24, 2**31), (24, 2**32 - 2), (20, 5), (42, 2**31), (8, 1), (10, 14), (10, 99)):
        field = struct.pack("<I" if offset >= 20 else "<H", value)
        changed = data[: at + offset] + field + data[at + offset + len(field) :]
        (tmp_path / "b.zip").write_bytes(changed)
        refused(tmp_path / "b.zip", home, "zip")


def test_a_list_of_files_that_fills_memory_is_not_read(
    tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "LARGEST_DIRECTORY", 10_000)
    many = write(tmp_path / "a.zip", *((entry(f"f{n}"), b"") for n in range(500)))
    refused(many, home, "too many files")
    data = many.read_bytes()
    at = data.rindex(b"PK\x05\x06")
    size, start = struct.unpack("<II", data[at + 12 : at + 20])
    record = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 500, 500, size, start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 1)
    end = struct.pack("<4s4HIIH", b"PK\x05\x06", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    (tmp_path / "b.zip").write_bytes(data[:at] + record + locator + end)
    refused(tmp_path / "b.zip", home, "too many files")


def test_settings_of_git_in_a_zip_are_left_out(tmp_path: Path, home: Home) -> None:
    names = (".git/config", "sub/.GIT/config", "sub/a")
    folder = unpack(write(tmp_path / "a.zip", *((entry(name), b"x") for name in names)), home)
    assert [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()] == ["sub/a"]


def test_a_zip_in_a_zip_stays_one_and_names_may_differ_in_case(tmp_path: Path, home: Home) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as made:
        made.writestr("x", b"1")
    folder = unpack(write(tmp_path / "a.zip", (entry("in.zip"), inner.getvalue()), (entry("A"), b"1")), home)
    assert sorted(path.name for path in folder.iterdir()) == ["A", "in.zip"]
