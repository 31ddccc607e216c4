"""Repositories on other machines: mirrors, versions, secrets, submodules. Probes 9 and 10."""

import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import ProjError, SourceError
from runner.settings import Home
from runner.source.opening import open_source
from runner.source.run_folder import check_out
from runner.source.snapshot import keep_snapshot, take_snapshot
from tests.conftest import MakeRepository, git, write_tree
from tests.source.test_snapshot import in_store
from tests.support.git_server import GitServer, serving
from tests.support.sources import Said, freeze

pytestmark = pytest.mark.slow

SECRET = "t0ps3cret-t0ken"  # made up
USER_INFO = f"tester:{SECRET}@"


@pytest.fixture
def served(tmp_path: Path) -> Path:
    (tmp_path / "served").mkdir()
    return tmp_path / "served"


@pytest.fixture
def publish(make_repository: MakeRepository, served: Path) -> Callable[..., Path]:
    def make(files: dict[str, str], name: str = "project") -> Path:
        root = make_repository(files, name)
        git(root, "clone", "-q", "--bare", str(root), str(served / f"{name}.git"))
        git(root, "remote", "add", "origin", str(served / f"{name}.git"))
        return root

    return make


def everything_below(folder: Path) -> str:
    return "\n".join(
        path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
    )


def test_a_url_is_mirrored_once_and_fetched_when_it_moves(
    publish: Callable[..., Path], served: Path, home: Home
) -> None:
    root = publish({"a.py": "1", "sub/MLproject": ""})
    first = git(root, "rev-parse", "HEAD")
    with serving(served) as server:
        url = server.url("project.git")
        source, snapshot = freeze(url, home)
        assert (source.commit, source.branch, source.ref, source.name) == (first, "main", None, url)
        assert snapshot.code.tree == git(root, "rev-parse", "HEAD^{tree}")
        assert (snapshot.code.remote, snapshot.code.dirty, snapshot.root) == (url, False, None)
        write_tree(root, {"a.py": "2"})
        git(root, "commit", "-qam", "two")
        git(root, "tag", "v2")
        git(root, "push", "-q", "origin", "main", "v2")
        second = git(root, "rev-parse", "HEAD")
        for version, commit in ((None, second), ("v2", second), (first[:8], first), (first, first), ("main", second)):
            assert open_source(url, version, home, Said()).commit == commit
        assert open_source(f"{url}#sub", None, home, Said()).subdirectory == "sub"
        assert len(list(home.mirrors.glob("*.git"))) == 1
        server.requests.clear()
        open_source(url, second, home, Said())
        assert server.requests == []


@pytest.mark.parametrize(
    "name", ["a\u2028b", "a\u0085b", "\u202exe", "e\u0301", "\u00e9\u00a0\u3000", "-x\u2029refs/heads/main"]
)
def test_names_of_branches_may_have_characters_that_end_lines_elsewhere(
    publish: Callable[..., Path], served: Path, home: Home, name: str
) -> None:
    root = publish({"a.py": "1"})
    first = git(root, "rev-parse", "HEAD")
    bare = served / "project.git"
    (bare / "packed-refs").write_text(f"{first} refs/heads/main\n{first} refs/heads/x{name}\n", encoding="utf-8")
    with serving(served) as server:
        url = server.url("project.git")
        for version, commit in ((None, first), (f"x{name}", first), ("main", first)):
            assert open_source(url, version, home, Said()).commit == commit
        said = Said()
        assert open_source(url, "main", home, said).commit == first
        assert "Fetching" not in said.text, "nothing has changed"
        with pytest.raises(SourceError):
            open_source(url, "mian", home, Said())


def test_a_branch_that_is_gone_or_rewritten_is_followed(publish: Callable[..., Path], served: Path, home: Home) -> None:
    root = publish({"a.py": "1"})
    git(root, "push", "-q", "origin", "main:topic")
    with serving(served) as server:
        url = server.url("project.git")
        freeze(url, home, "topic")
        git(root, "commit", "-q", "--amend", "-m", "rewritten")
        git(root, "push", "-qf", "origin", "main")
        git(root, "push", "-q", "origin", ":topic", "main:topic/below")
        assert open_source(url, None, home, Said()).commit == git(root, "rev-parse", "HEAD")
        assert open_source(url, "topic/below", home, Said()).ref == "topic/below"
        with pytest.raises(SourceError, match="no version 'topic'"):
            open_source(url, "topic", home, Said())


def test_a_commit_that_no_branch_reaches_is_fetched_by_its_id(
    publish: Callable[..., Path], served: Path, home: Home
) -> None:
    root = publish({"a.py": "1"})
    git(root, "commit", "-q", "--allow-empty", "-m", "aside")
    aside = git(root, "rev-parse", "HEAD")
    git(root, "push", "-q", "origin", "main:refs/pull/1/head")
    git(served / "project.git", "config", "uploadpack.allowAnySHA1InWant", "true")
    with serving(served) as server:
        assert open_source(server.url("project.git"), aside, home, Said()).commit == aside
        assert open_source(server.url("project.git"), "refs/pull/1/head", home, Said()).commit == aside


def test_without_the_network_the_mirror_serves(publish: Callable[..., Path], served: Path, home: Home) -> None:
    root = publish({"a.py": "1"})
    with serving(served) as server:
        url = server.url("project.git")
        freeze(url, home)
    printed = Said()
    assert open_source(url, None, home, printed).commit == git(root, "rev-parse", "HEAD")
    assert "can't be reached" in printed.text
    with pytest.raises(SourceError, match="no version 'v9'"):
        open_source(url, "v9", home, Said())
    with pytest.raises(SourceError, match="can't be fetched"):
        open_source(url.replace("project", "other"), None, home, Said())


def test_a_browser_address_is_understood(publish: Callable[..., Path], served: Path, home: Home) -> None:
    root = publish({"dir/MLproject": "", "x/dir/a": ""})
    git(root, "push", "-q", "origin", "main:feature/x")
    with serving(served) as server:
        source = open_source(server.url("project.git/tree/feature/x/dir"), None, home, Said())
        assert (source.ref, source.subdirectory, source.branch) == ("feature/x", "dir", "feature/x")
        assert source.remote == server.url("project.git")


def test_the_token_in_an_address_is_used_and_written_nowhere(
    publish: Callable[..., Path], served: Path, home: Home, clean_room: Path
) -> None:
    publish({"a.py": "1"})
    printed = Said()
    store = clean_room / "credentials"
    git(served, "config", "--global", "credential.helper", f"store --file={store}")
    with serving(served, "tester", SECRET) as server:
        url = server.url("project.git", USER_INFO)
        source = open_source(url, None, home, printed)
        snapshot = take_snapshot(source, home, printed)
        keep_snapshot(snapshot, "run1", home)
        assert in_store(home, snapshot.code.tree) == {"a.py": "100644 1"}
        with pytest.raises(SourceError) as caught:
            open_source(server.url("none.git", USER_INFO), None, home, printed)
        wrong = server.url("project.git", "tester:wr0ng-t0ken@")
        with pytest.raises(SourceError) as refused:
            open_source(wrong, "f" * 40, Home(home.root / "other"), printed)
    error, denied = caught.value, refused.value
    shown = f"{source!r} {snapshot!r} {printed.text} {error} {error.context} {error.hint} {denied} {denied.context}"
    assert SECRET not in shown
    assert "wr0ng-t0ken" not in shown
    assert SECRET not in everything_below(home.root)
    assert not store.exists()
    assert source.name == source.remote == server.url("project.git")


def test_the_users_own_replacement_of_addresses_is_followed(
    publish: Callable[..., Path], served: Path, home: Home
) -> None:
    root = publish({"a.py": "1"})
    git(root, "config", "--global", f"url.file://{served}/.insteadOf", "https://code.invalid/")
    source, snapshot = freeze("https://code.invalid/project.git/tree/main", home)
    assert (source.commit, source.remote) == (git(root, "rev-parse", "HEAD"), "https://code.invalid/project.git")
    assert snapshot.code.tree == git(root, "rev-parse", "HEAD^{tree}")


def test_the_token_is_no_word_of_a_command(
    publish: Callable[..., Path], served: Path, home: Home, tmp_path: Path
) -> None:
    publish({"a.py": "1"})
    real = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()
    spies = tmp_path / "spies"
    spies.mkdir()
    for path in Path(real).iterdir():
        (spies / path.name).symlink_to(path)
    for name in ("git-remote-http", "git"):
        (spies / name).unlink(missing_ok=True)
        text = f'#!/bin/sh\nprintf "%s\\n" "$*" >> {tmp_path}/words\nexec {real}/{name} "$@"\n'
        (spies / name).write_text(text, encoding="utf-8")
        (spies / name).chmod(0o755)
    with serving(served, "tester", SECRET) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_EXEC_PATH", str(spies))
        open_source(server.url("project.git", USER_INFO), None, home, Said())
    words = (tmp_path / "words").read_text(encoding="utf-8")
    assert "127.0.0.1" in words
    assert SECRET not in words


def submodule_project(publish: Callable[..., Path], url: str) -> Path:
    library = publish({"lib.py": "1"}, "library")
    root = publish({"a.py": "1"})
    git(root, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), "lib")
    git(root, "config", "-f", ".gitmodules", "submodule.lib.url", url)
    git(root, "add", ".")
    git(root, "commit", "-qm", "library")
    git(root, "push", "-q", "origin", "main")
    return root


def test_submodules_come_at_their_recorded_commits(publish: Callable[..., Path], served: Path, home: Home) -> None:
    submodule_project(publish, "../library.git")
    with serving(served, "tester", SECRET) as server:
        _, snapshot = freeze(server.url("project.git", USER_INFO), home)
    assert set(in_store(home, snapshot.code.tree)) == {"a.py", ".gitmodules", "lib/lib.py"}
    assert SECRET not in everything_below(home.root)
    _, local = freeze(served / "project.git", home)
    assert local.code.tree == snapshot.code.tree


@pytest.mark.parametrize("url", ["file://{}/library.git", "{}/library.git", "ext::touch {}/sprung", "git://host/x.git"])
def test_submodules_of_refused_addresses_are_named(
    publish: Callable[..., Path], served: Path, home: Home, url: str
) -> None:
    submodule_project(publish, url.format(served))
    with serving(served) as server, pytest.raises(SourceError, match="'lib'"):
        freeze(server.url("project.git"), home)
    assert not (served / "sprung").exists()


def test_submodules_that_can_not_be_had_are_named(publish: Callable[..., Path], served: Path, home: Home) -> None:
    submodule_project(publish, "../elsewhere.git")
    with serving(served) as server, pytest.raises(SourceError, match=r"submodule 'lib'.*elsewhere\.git"):
        freeze(server.url("project.git"), home)


def test_a_hostile_tree_is_not_laid_out(publish: Callable[..., Path], served: Path, home: Home) -> None:
    publish({"a.py": "1"})
    bare = served / "project.git"
    blob = (
        subprocess.run(
            ["git", "hash-object", "-w", "--stdin"], cwd=bare, input=b"evil", check=True, capture_output=True
        )
        .stdout.decode()
        .strip()
    )
    inner = b"100644 config\0" + bytes.fromhex(blob)
    folder = (
        subprocess.run(
            ["git", "hash-object", "-w", "--stdin", "-t", "tree", "--literally"],
            cwd=bare,
            input=inner,
            check=True,
            capture_output=True,
        )
        .stdout.decode()
        .strip()
    )
    tree = (
        subprocess.run(
            ["git", "hash-object", "-w", "--stdin", "-t", "tree", "--literally"],
            cwd=bare,
            input=b"40000 ..\0" + bytes.fromhex(folder) + b"40000 .git\0" + bytes.fromhex(folder),
            check=True,
            capture_output=True,
        )
        .stdout.decode()
        .strip()
    )
    commit = git(bare, "commit-tree", tree, "-m", "evil")
    git(bare, "update-ref", "refs/heads/main", commit)

    def run(url: str) -> None:
        source, snapshot = freeze(url, home)
        check_out(snapshot, source, "run1", home, Said())

    with serving(served) as server, pytest.raises(ProjError):
        run(server.url("project.git"))
    assert not list(home.root.rglob("config.evil"))
    assert "evil" not in everything_below(home.folders)


def test_two_at_once_fetch_one_mirror(publish: Callable[..., Path], served: Path, home: Home) -> None:
    root = publish({f"f{number}.py": str(number) for number in range(100)})
    code = (
        "import sys; from pathlib import Path; from runner.settings import Home; "
        "from tests.support.sources import freeze;"
        "print(freeze(sys.argv[1], Home(Path(sys.argv[2])))[1].code.tree)"
    )
    top = Path(__file__).parents[2]
    with serving(served) as server:
        words = [sys.executable, "-c", code, server.url("project.git"), str(home.root)]
        children = [subprocess.Popen(words, cwd=top, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        trees = {child.communicate()[0].strip() for child in children}
    assert trees == {git(root, "rev-parse", "HEAD^{tree}")}
    assert [path.name for path in home.mirrors.iterdir() if path.name.startswith(".new-")] == []


def zipped(place: Path, files: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return place


def test_a_zip_is_unpacked_and_frozen_whole(tmp_path: Path, home: Home) -> None:
    place = zipped(
        tmp_path / "p.zip", {"repo-1.0/MLproject": "name: x\n", "repo-1.0/.gitignore": "*.csv\n", "repo-1.0/d.csv": "1"}
    )
    with zipfile.ZipFile(place, "a") as archive:
        tool = zipfile.ZipInfo("repo-1.0/tool.sh")
        tool.external_attr = (stat.S_IFREG | 0o755) << 16
        archive.writestr(tool, "x")
        link = zipfile.ZipInfo("repo-1.0/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "tool.sh")
    source, snapshot = freeze(f"{place}#repo-1.0", home)
    assert (source.name, source.subdirectory, source.commit) == (str(place), "repo-1.0", None)
    found = in_store(home, snapshot.code.tree)
    assert found["repo-1.0/tool.sh"] == "100755 x"
    assert found["repo-1.0/link"] == "120000 tool.sh"
    assert found["repo-1.0/d.csv"] == "100644 1"
    assert freeze(f"file://{place}", home)[1].code.tree == snapshot.code.tree
    with pytest.raises(SourceError, match="no versions"):
        open_source(str(place), "main", home, Said())


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil", "C:\\evil"])
def test_a_zip_that_leads_out_is_refused(tmp_path: Path, home: Home, name: str) -> None:
    place = zipped(tmp_path / "p.zip", {"good": "1", name: "evil"})
    with pytest.raises(SourceError, match="leads out"):
        open_source(str(place), None, home, Said())
    assert not list(tmp_path.rglob("evil"))
    assert list((home.mirrors / "zips").glob("*/good")) == []


@pytest.mark.parametrize("goal", ["../../outside", "/etc/passwd"])
def test_a_zip_with_a_link_that_leads_out_is_refused(tmp_path: Path, home: Home, goal: str) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, goal)
        archive.writestr("link/through", "evil")
    with pytest.raises(SourceError):
        open_source(str(tmp_path / "p.zip"), None, home, Said())


def test_a_zip_bomb_and_a_broken_zip_are_refused(tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from runner.source import archive

    monkeypatch.setattr(archive, "LARGEST_CONTENT", 100_000)
    place = zipped(tmp_path / "bomb.zip", {"zeros": bytes(1_000_000)})
    with pytest.raises(SourceError, match="unpacks to more"):
        open_source(str(place), None, home, Said())
    (tmp_path / "broken.zip").write_bytes(b"not a zip")
    with pytest.raises(SourceError, match="can't be unpacked"):
        open_source(str(tmp_path / "broken.zip"), None, home, Said())


def test_a_zip_is_fetched_with_its_token_and_without_telling(
    served: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runner.source import archive

    zipped(served / "p.zip", {"a.py": "1"})
    with serving(served, "tester", SECRET) as server:
        source, snapshot = freeze(server.url("p.zip?signature=h1dden", USER_INFO), home)
        assert source.name == server.url("p.zip")
        assert in_store(home, snapshot.code.tree) == {"a.py": "100644 1"}
        with pytest.raises(SourceError) as caught:
            open_source(server.url("none.zip?signature=h1dden", USER_INFO), None, home, Said())
        monkeypatch.setattr(archive, "LARGEST_DOWNLOAD", 10)
        with pytest.raises(SourceError, match="larger than"):
            open_source(server.url("p.zip", USER_INFO), None, home, Said())
    shown = f"{source!r} {caught.value} {caught.value.context}"
    assert SECRET not in shown + everything_below(home.root)
    assert "h1dden" not in f"{source!r} {caught.value} {caught.value.context}"


def test_a_zip_that_is_redirected_to_plain_http_is_refused(served: Path, home: Home) -> None:
    with serving(served) as server, pytest.raises(SourceError, match="https"):
        open_source(server.url("redirect.zip?http://example.invalid/p.zip"), None, home, Said())


def test_the_server_of_these_tests_asks_for_the_password(
    served: Path, publish: Callable[..., Path], home: Home
) -> None:
    publish({"a.py": "1"})
    with serving(served, "tester", SECRET) as server:
        assert isinstance(server, GitServer)
        with pytest.raises(SourceError, match="can't be fetched"):
            open_source(server.url("project.git"), None, home, Said())
    assert os.environ.get("GIT_ASKPASS") is None
