"""Files that environments share by hard links: read once, and every edit is noticed all the same."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.environments.cache import checksums
from runner.environments.cache.checksums import CachedPackage, SharedFiles, read_checksums
from runner.environments.cache.file_manifest import build_manifest, compare, measure
from tests.conftest import write_tree

pytestmark = pytest.mark.slow

SITE = "lib/python3.11/site-packages"
RECORD = "six.py,,\nsix/a.py,,\nsix/b.py,,\nsix-1.dist-info/METADATA,,\nsix-1.dist-info/RECORD,,\n"
FILES = {"six.py": "1\n", "six/a.py": "2\n", "six/b.py": "3\n", "six-1.dist-info/METADATA": "Name: six\nVersion: 1\n"}


class Machine:
    """A cache with one unpacked package, and prefixes that are made of it as an installer does."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.source = CachedPackage("six-1.dist-info", write_tree(root / "cache/archive", FILES))

    def shared(self) -> SharedFiles:
        return SharedFiles(self.root / "checksums", self.root.stat().st_dev)

    def link(self, name: str) -> Path:
        """Make a prefix, without looking at it."""
        self.tick()
        for path in FILES:
            target = self.root / name / SITE / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(self.source.folder / path)
        digests = dict(
            zip(FILES, read_checksums([(str(p := self.source.folder / f), p.stat()) for f in FILES]), strict=True)
        )
        lines = [f"{path},sha256={_base64(digest)},1\n" for path, digest in digests.items()]
        (self.root / name / SITE / "six-1.dist-info/RECORD").write_text("".join(lines))
        self.tick()
        return self.root / name

    def tick(self) -> None:
        """Wait until the file system has another time than it had."""
        probe = self.root / "probe"
        probe.touch()
        before = probe.stat().st_ctime_ns
        while probe.stat().st_ctime_ns == before:
            probe.write_bytes(b"")
            probe.chmod(0o600)


def _base64(digest: str) -> str:
    from base64 import urlsafe_b64encode

    return urlsafe_b64encode(bytes.fromhex(digest)).decode().rstrip("=")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files of the package that are read from now on."""
    found: list[str] = []
    real = checksums._checksum

    def spy(path: str, status: os.stat_result) -> str:
        found.append(Path(path).name)
        return real(path, status)

    monkeypatch.setattr(checksums, "_checksum", spy)
    return found


def test_files_of_a_second_environment_are_not_read_again(machine: Machine, read: list[str]) -> None:
    one = machine.link("one")
    first = build_manifest(one, machine.shared())
    assert first.wrong == ()
    read.clear()
    shared = machine.shared()
    shared.note_unchanged([machine.source])
    two = machine.link("two")
    read.clear()
    second = build_manifest(two, shared)
    assert read == ["RECORD"]
    assert second.digest == first.digest


def test_an_environment_is_not_read_again_after_another_was_built(machine: Machine, read: list[str]) -> None:
    one = machine.link("one")
    first = build_manifest(one, machine.shared())
    shared = machine.shared()
    shared.note_unchanged([machine.source])
    build_manifest(machine.link("two"), shared)
    assert measure(one) != first.measure
    read.clear()
    damage, now = compare(one, first, machine.shared())
    assert (read, bool(damage)) == ([], False)
    assert now.measure == measure(one)
    assert compare(one, now, machine.shared()) == (damage, now)
    assert read == []


def test_links_that_others_make_cost_one_reading_for_all_environments(machine: Machine, read: list[str]) -> None:
    one, two = machine.link("one"), machine.link("two")
    first, second = build_manifest(one, machine.shared()), build_manifest(two, machine.shared())
    machine.link("of another tool")
    read.clear()
    assert not compare(one, first, machine.shared())[0]
    assert sorted(read) == ["METADATA", "a.py", "b.py", "six.py"]
    read.clear()
    assert not compare(two, second, machine.shared())[0]
    assert read == []


def test_a_damaged_table_of_checksums_is_worth_nothing_and_hurts_nobody(machine: Machine, read: list[str]) -> None:
    one = machine.link("one")
    first = build_manifest(one, machine.shared())
    machine.link("two")
    for page in (machine.root / "checksums").iterdir():
        page.write_bytes(page.read_bytes()[:-7])
    read.clear()
    assert not compare(one, first, machine.shared())[0]
    assert sorted(read) == ["METADATA", "a.py", "b.py", "six.py"]


def test_checksums_of_another_file_system_are_ignored(machine: Machine) -> None:
    one = machine.link("one")
    build_manifest(one, machine.shared())
    other = SharedFiles(machine.root / "checksums", machine.root.stat().st_dev + 1)
    other.load(["six-1.dist-info"])
    assert other.find((one / SITE / "six.py").stat()) is None


def edit(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().swapcase()[:-1] + b"x")


def edit_and_forge(path: Path) -> None:
    """Change a byte and set the time of modification back, as who wants to hide it does."""
    status = path.stat()
    edit(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def edit_forge_and_link(path: Path) -> None:
    edit_and_forge(path)
    path.with_name(f"{path.name}-{os.urandom(4).hex()}.data").hardlink_to(path)


def replace(path: Path) -> None:
    status = path.stat()
    aside = path.with_name("aside.data")
    aside.write_bytes(b"X" * status.st_size)
    os.utime(aside, ns=(status.st_atime_ns, status.st_mtime_ns))
    aside.replace(path)


def link(path: Path) -> None:
    path.with_name(f"{path.name}-{os.urandom(4).hex()}.data").hardlink_to(path)


HARMLESS: list[Callable[[Path], None]] = [link, lambda path: path.chmod(0o640), os.utime]
EDITS: list[Callable[[Path], None]] = [edit, edit_and_forge, edit_forge_and_link, replace]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_edit_is_detected_whenever_links_are_made(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Do harmless things and edits, in an environment, in the cache or in another environment, between builds."""
    machine = Machine(tmp_path_factory.mktemp("machine"))
    one = machine.link("one")
    inventory = build_manifest(one, machine.shared())
    builds = 0
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(["build", "harmless", "edit", "look"]))
        where = data.draw(st.sampled_from([one / SITE, machine.source.folder]))
        victim = where / data.draw(st.sampled_from(["six.py", "six/a.py"]))
        machine.tick()
        if kind == "build":
            builds += 1
            shared = machine.shared()
            shared.note_unchanged([machine.source])
            build_manifest(machine.link(f"other{builds}"), shared)
        elif kind == "look":
            damage, inventory = compare(one, inventory, machine.shared())
            if damage:
                break
        else:
            data.draw(st.sampled_from(HARMLESS if kind == "harmless" else EDITS))(victim)
        machine.tick()
    damage, _ = compare(one, inventory, machine.shared())
    is_edited = any((one / SITE / path).read_text() != text for path, text in FILES.items())
    assert bool(damage) is is_edited


@pytest.mark.parametrize("change", [*EDITS, lambda path: path.unlink()])
def test_an_edited_cache_makes_no_environment_that_is_called_right(
    machine: Machine, change: Callable[[Path], None]
) -> None:
    records = machine.link("one") / SITE / "six-1.dist-info/RECORD"
    build_manifest(machine.root / "one", machine.shared())
    shared = machine.shared()
    machine.tick()
    change(machine.source.folder / "six/a.py")
    machine.tick()
    shared.note_unchanged([machine.source])
    if not (machine.source.folder / "six/a.py").exists():
        (machine.source.folder / "six/a.py").write_text("9\n")
    two = machine.link("two")
    (two / SITE / "six-1.dist-info/RECORD").write_bytes(records.read_bytes())
    assert build_manifest(two, shared).wrong == ("six",)


@pytest.mark.parametrize("through", ["the environment", "the cache"])
@pytest.mark.parametrize("name", ["one", "two"])
def test_a_program_that_lost_its_permission_makes_its_package_wrong(machine: Machine, through: str, name: str) -> None:
    """The cache of the installer has the same file, so a new environment would get the wrong permissions from it."""
    program = machine.source.folder / "six/a.py"
    program.chmod(0o755)
    one = machine.link("one")
    inventory = build_manifest(one, machine.shared())
    assert inventory.wrong == ()
    (one / SITE / "six/a.py" if through == "the environment" else program).chmod(0o644)
    machine.tick()
    assert compare(one, inventory, machine.shared())[0].changed == (f"{SITE}/six/a.py",)
    if name == "one":
        shutil.rmtree(one)
    shared = machine.shared()
    shared.note_unchanged([machine.source])
    for _ in range(2):  # the finding is not forgotten
        assert build_manifest(machine.link(name), shared).wrong == ("six",)
        shutil.rmtree(machine.root / name)
    program.unlink()  # the installer gets the package again
    program.write_text("2\n")
    program.chmod(0o755)
    assert build_manifest(machine.link(name), machine.shared()).wrong == ()


def test_what_can_not_be_read_is_no_file_of_an_environment(machine: Machine) -> None:
    one = machine.link("one")
    inventory = build_manifest(one, machine.shared())
    victim = one / SITE / "six/b.py"
    victim.unlink()
    os.mkfifo(victim)  # reading it would wait for ever
    assert [Path(path).name for path in compare(one, inventory, machine.shared())[0].changed] == ["b.py"]
