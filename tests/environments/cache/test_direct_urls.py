"""Credentials in the files about direct URLs of packages."""

import hashlib
import json
import os
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from runner.environments.cache.direct_urls import clean_direct_urls
from tests.conftest import write_tree
from tests.support.sources import fingerprint

URL = json.dumps({"url": "https://user:s3cret@example.org/one.whl"})
PLAIN = json.dumps({"url": "https://example.org/one.whl"})
SITE = "lib/python3.11/site-packages"


def make_package(root: Path, text: str) -> Path:
    record = "one/__init__.py,sha256=x,1\none-1.dist-info/direct_url.json,sha256=old,9\none-1.dist-info/RECORD,,\n"
    return write_tree(root, {"direct_url.json": text, "RECORD": record})


@pytest.mark.parametrize("linked", [False, True])
def test_credentials_are_removed_and_the_record_agrees(tmp_path: Path, linked: bool) -> None:
    folder = make_package(tmp_path / "prefix" / SITE / "one-1.dist-info", URL)
    before = fingerprint(folder)
    if linked:
        (tmp_path / "cache").mkdir()
        for name in ("direct_url.json", "RECORD"):
            os.link(folder / name, tmp_path / "cache" / name)
    clean_direct_urls(tmp_path / "prefix")
    content = (folder / "direct_url.json").read_bytes()
    assert b"s3cret" not in content
    digest = urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    assert (folder / "RECORD").read_text().splitlines() == [
        "one/__init__.py,sha256=x,1",
        f"one-1.dist-info/direct_url.json,sha256={digest},{len(content)}",
        "one-1.dist-info/RECORD,,",
    ]
    if linked:
        assert fingerprint(tmp_path / "cache") == before
    assert sorted(path.name for path in folder.iterdir()) == ["RECORD", "direct_url.json"]


def test_files_without_credentials_stay_as_they_are(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "prefix" / SITE / "one-1.dist-info", PLAIN)
    inode = (folder / "direct_url.json").stat().st_ino
    clean_direct_urls(tmp_path / "prefix")
    assert (folder / "direct_url.json").stat().st_ino == inode


def test_links_of_a_build_lead_to_no_other_file(tmp_path: Path) -> None:
    theirs = make_package(tmp_path / "theirs", URL)
    before = fingerprint(theirs)
    site = tmp_path / "prefix" / SITE
    (site / "two-1.dist-info").mkdir(parents=True)
    (site / "one-1.dist-info").symlink_to(theirs)
    (site / "two-1.dist-info" / "direct_url.json").symlink_to(theirs / "direct_url.json")
    clean_direct_urls(tmp_path / "prefix")
    assert fingerprint(theirs) == before
