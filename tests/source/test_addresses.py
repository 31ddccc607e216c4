"""What a user may type for a source, and what is refused before git sees it."""

from pathlib import Path

import pytest

from runner.errors import SourceError, UsageError
from runner.model import SourceKind
from runner.settings import Home
from runner.source.address import parse_address
from runner.source.credentials import address_without_credentials, split_credentials
from runner.source.opening import open_source
from runner.source.submodules import resolve_url
from runner.urls import without_credentials
from tests.conftest import MakeRepository, git, write_tree
from tests.support.sources import Said


@pytest.mark.parametrize(
    ("text", "url", "subdirectory", "tail"),
    [
        ("https://host/o/r.git", "https://host/o/r.git", "", None),
        ("https://host/o/r.git#v1.2/x", "https://host/o/r.git", "v1.2/x", None),
        ("'https://host/o/r'", "https://host/o/r", "", None),
        ('"https://host/o/r"', "https://host/o/r", "", None),
        ("ssh://git@host:22/o/r.git", "ssh://git@host:22/o/r.git", "", None),
        ("git@host:o/r.git#a", "git@host:o/r.git", "a", None),
        ("https://host/o/r/tree/feature/x/dir", "https://host/o/r", "", "feature/x/dir"),
        ("https://host/o/r/tree/main/?tab=readme", "https://host/o/r", "", "main"),
        ("https://host/o/r/-/tree/main/dir", "https://host/o/r", "", "main/dir"),
    ],
)
def test_addresses_of_git_are_understood(text: str, url: str, subdirectory: str, tail: str | None) -> None:
    address = parse_address(text)
    assert (address.kind, address.url, address.subdirectory, address.tail) == (SourceKind.GIT, url, subdirectory, tail)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ext::sh -c id",
        "ext::sh% -c% id",
        "fd::17",
        "--upload-pack=touch /tmp/x",
        "-u",
        "https://host/a\nb",
        "https://host/a\x07",
        "git://host/r.git",
        "http://host/r.git",
        "ftp://host/r.git",
        "https:///r.git",
        "ssh://-oProxyCommand=id/r",
        "file://elsewhere/r.git",
        "https://host/r.git#../../etc",
        "https://host/r.git#a/.git/hooks",
    ],
)
def test_tricks_are_refused(text: str) -> None:
    with pytest.raises(SourceError):
        parse_address(text)


def test_a_mistyped_path_names_its_near_miss_and_does_not_reach_git(
    tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "examples" / "elasticnet").mkdir(parents=True)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SourceError, match="no folder") as caught:
        open_source(str(tmp_path / "exampels" / "elasticnet"), None, home, Said())
    assert str(tmp_path / "examples") in (caught.value.hint or "")


@pytest.mark.parametrize(
    "text",
    [
        *("git:s3cret@host:r.git", "ftp://u:s3cret@host/r", "https://u:s3cret/x@host/r", "https://u:s3cret@/r"),
        *("https://u:s3cret@host/r#../x", "https://u:a@s3cret@host:x/r", "http://u:a@s3cret@host/r"),
    ],
)
def test_refusals_tell_no_secret(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_address(text)
    assert "s3cret" not in f"{caught.value} {caught.value.context} {caught.value.hint}"


@pytest.mark.parametrize("form", ["file://{}", "file:{}", "FILE://{}", "file://localhost{}"])
def test_a_mistyped_file_url_names_the_path(tmp_path: Path, form: str) -> None:
    (tmp_path / "project").mkdir()
    with pytest.raises(SourceError, match=f"There is no folder '{tmp_path}/projekt'") as caught:
        parse_address(form.format(f"{tmp_path}/projekt"))
    assert caught.value.hint == f"Did you mean {tmp_path}/project?"
    assert parse_address(form.format(f"{tmp_path}/project")).path == tmp_path / "project"


def test_a_file_url_with_two_strokes_is_explained() -> None:
    with pytest.raises(SourceError, match="names the host 'tmp'") as caught:
        parse_address("file://tmp/project")
    assert caught.value.hint == "A local path follows three slashes. Did you mean file:///tmp/project?"


def test_a_shorthand_is_explained() -> None:
    with pytest.raises(SourceError) as caught:
        parse_address("owner/repository")
    assert "https://github.com/owner/repository" in (caught.value.hint or "")


def test_a_file_is_not_a_project(tmp_path: Path) -> None:
    write_tree(tmp_path, {"train.py": ""})
    with pytest.raises(SourceError) as caught:
        parse_address(str(tmp_path / "train.py"))
    assert "-e train.py" in (caught.value.hint or "")


def test_an_existing_folder_wins_over_a_hash_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "a#b").mkdir()
    assert parse_address(str(tmp_path / "a#b")).path == tmp_path / "a#b"


@pytest.mark.parametrize("form", ["{}", "file://{}", "'{}'", "{}/"])
def test_folders_are_found_in_every_form(make_repository: MakeRepository, home: Home, form: str) -> None:
    root = make_repository({"MLproject": "name: x\n", "sub dir/v1.0/a.py": ""}, "my project")
    source = open_source(form.format(root), None, home, Said())
    assert (source.root, source.name) == (root, f"file://{root}")
    below = open_source(form.format(root / "sub dir/v1.0"), None, home, Said())
    assert (below.root, below.subdirectory) == (root, "sub dir/v1.0")
    assert below.name == f"file://{root}#sub dir/v1.0"
    assert open_source(f"{root}#sub dir/v1.0", None, home, Said()).project == root / "sub dir/v1.0"


def test_a_plain_folder_is_named_by_its_path(tmp_path: Path, home: Home) -> None:
    write_tree(tmp_path / "plain", {"a.py": ""})
    source = open_source(str(tmp_path / "plain"), None, home, Said())
    assert (source.name, source.commit, source.repository) == (str(tmp_path / "plain"), None, None)
    with pytest.raises(SourceError, match="not in a git repository"):
        open_source(str(tmp_path / "plain"), "main", home, Said())


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_bare_repositories_are_read_where_they_are(
    make_repository: MakeRepository, tmp_path: Path, home: Home, form: str
) -> None:
    root = make_repository({"MLproject": "", "v1.2/x/a.py": ""})
    git(tmp_path, "clone", "-q", "--bare", str(root), "bare.git")
    source = open_source(form.format(tmp_path / "bare.git") + "#v1.2/x", None, home, Said())
    assert source.commit == git(root, "rev-parse", "HEAD")
    assert (source.branch, source.subdirectory, source.kind) == ("main", "v1.2/x", SourceKind.GIT)
    with pytest.raises(SourceError, match="no folder 'none'"):
        open_source(form.format(tmp_path / "bare.git") + "#none", None, home, Said())


def test_every_kind_of_version_is_understood(make_repository: MakeRepository, tmp_path: Path, home: Home) -> None:
    root = make_repository({"a.py": "1"})
    first = git(root, "rev-parse", "HEAD")
    git(root, "tag", "-a", "v1", "-m", "one")
    git(root, "checkout", "-q", "-b", "feature/two")
    write_tree(root, {"a.py": "2"})
    git(root, "commit", "-qam", "two")
    second = git(root, "rev-parse", "HEAD")
    git(tmp_path, "clone", "-q", "--bare", str(root), "bare.git")
    wanted = {"v1": first, "main": first, first: first, first[:7]: first, "feature/two": second, "HEAD~1": first}
    for place in (root, tmp_path / "bare.git"):
        for version, commit in wanted.items():
            source = open_source(str(place), version, home, Said())
            assert (source.commit, source.ref) == (commit, version)
        assert open_source(str(place), "feature/two", home, Said()).branch == "feature/two"
        assert open_source(str(place), "v1", home, Said()).branch is None
        with pytest.raises(SourceError, match="has no version") as caught:
            open_source(str(place), "feature/tow", home, Said())
        assert "feature/two" in (caught.value.hint or "")


@pytest.mark.parametrize("version", ["", "-x", "--upload-pack=x", "a b", "a\nb"])
def test_versions_that_are_tricks_are_refused(make_repository: MakeRepository, home: Home, version: str) -> None:
    root = make_repository({"a.py": ""})
    with pytest.raises(UsageError):
        open_source(str(root), version, home, Said())


def test_a_browser_address_finds_the_longest_ref(make_repository: MakeRepository, tmp_path: Path, home: Home) -> None:
    root = make_repository({"dir/MLproject": "", "x/dir/MLproject": ""})
    git(root, "branch", "feature/x")
    git(tmp_path, "clone", "-q", "--bare", str(root), "bare.git")
    source = open_source(f"file://{tmp_path}/bare.git/tree/feature/x/dir", None, home, Said())
    assert (source.ref, source.subdirectory) == ("feature/x", "dir")
    with pytest.raises(SourceError, match="no version"):
        open_source(f"file://{tmp_path}/bare.git/tree/none/dir", None, home, Said())
    with pytest.raises(UsageError):
        open_source(f"file://{tmp_path}/bare.git/tree/main/dir", "feature/x", home, Said())


def test_a_bare_repository_whose_head_names_no_branch(
    make_repository: MakeRepository, tmp_path: Path, home: Home
) -> None:
    root = make_repository({"a.py": ""})
    git(tmp_path, "clone", "-q", "--bare", str(root), "bare.git")
    git(tmp_path / "bare.git", "symbolic-ref", "HEAD", "refs/heads/none")
    assert open_source(str(tmp_path / "bare.git"), None, home, Said()).commit
    git(tmp_path / "bare.git", "branch", "second", "main")
    with pytest.raises(SourceError) as caught:
        open_source(str(tmp_path / "bare.git"), None, home, Said())
    assert "second" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:s3cret@host/r.git", "https://host/r.git"),
        ("https://t0ken@host:8443/r.git", "https://host:8443/r.git"),
        ("ssh://git:pw@host/r.git", "ssh://git@host/r.git"),
        ("git@host:r.git", "git@host:r.git"),
        ("git:pw@host:r.git", "git@host:r.git"),
        ("/a/b@c", "/a/b@c"),
    ],
)
def test_credentials_are_taken_off(url: str, shown: str) -> None:
    assert address_without_credentials(url) == shown


def test_credentials_show_nothing() -> None:
    _, credentials = split_credentials("https://user:p%40ss@host/r.git")
    assert credentials is not None
    assert (credentials.user, credentials.password) == ("user", "p@ss")
    assert "p@ss" not in f"{credentials!r} {credentials}"
    assert credentials.redact("fatal: p%40ss and p@ss") == "fatal: *** and ***"
    assert (
        without_credentials("fatal: 'https://user:tok@h/x' and ssh://git:pw@h/y")
        == "fatal: 'https://h/x' and ssh://git@h/y"
    )


@pytest.mark.parametrize(
    ("url", "parent", "whole"),
    [
        ("../s.git", "https://host/o/r.git", "https://host/o/s.git"),
        ("./s", "https://host/o/r", "https://host/o/r/s"),
        ("../s.git", "git@host:o/r.git", "git@host:o/s.git"),
        ("../s.git", "/srv/r.git", "/srv/s.git"),
        ("https://other/s", "https://host/o/r", "https://other/s"),
    ],
)
def test_addresses_of_submodules_are_resolved(url: str, parent: str, whole: str) -> None:
    assert resolve_url(url, parent) == whole


def test_the_remote_is_named_without_its_token(make_repository: MakeRepository, home: Home) -> None:
    root = make_repository({"a.py": ""})
    git(root, "remote", "add", "backup", "https://host/other.git")
    git(root, "remote", "add", "origin", "https://me:t0ps3cret@host/r.git")
    source = open_source(str(root), None, home, Said())
    assert source.remote == "https://host/r.git"
    assert "t0ps3cret" not in repr(source)
