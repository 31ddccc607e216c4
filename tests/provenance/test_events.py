"""The lines of the trace hook: what they say, and what damaged ones cost."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.provenance.completeness import reasons_of_hook
from runner.provenance.events import Opened, addresses, programs_without_hook, read_events


def write(folder: Path, *lines: str | bytes) -> Path:
    file = folder / "opened.txt"
    file.write_bytes(b"".join((one.encode() if isinstance(one, str) else one) + b"\n" for one in lines))
    return file


def test_the_first_event_of_a_file_decides(tmp_path: Path) -> None:
    events = read_events(
        write(
            tmp_path,
            *("r\t7\t3\t9\t/a", "w\t7\t3\t9\t/a", "w\t7\t\t\t/b", "r\t8\t1\t2\t/b", "b\t7\t4\t5\t/x/../c"),
        )
    )
    assert events.files == {"/a": Opened("r", 3, 9), "/b": Opened("w", None, None), "/c": Opened("b", 4, 5)}
    assert events.read_later == {"/b"}
    assert [one.is_read for one in events.files.values()] == [True, False, True]


def test_a_compiled_module_stands_for_its_source(tmp_path: Path) -> None:
    events = read_events(write(tmp_path, "r\t7\t3\t9\t/p/__pycache__/m.cpython-311.pyc", "r\t7\t3\t9\t/p/n.pyc"))
    assert list(events.files) == ["/p/m.py", "/p/n.pyc"]


@pytest.mark.parametrize("name", ["a\\nb", "a\nb", "a\tb", "\\", "a\\\\n", "\udcff"])
def test_names_with_line_ends_and_backslashes(tmp_path: Path, name: str) -> None:
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    line = f"r\t7\t3\t9\t/{escaped}".encode("utf-8", "surrogateescape")
    assert list(read_events(write(tmp_path, line)).files) == [f"/{name}"]


DAMAGED = ["r\t7\t3\t9", "r\tx\t3\t9\t/a", "q\t7\t1", "\t\t", "r\t7\t3\t9\trelative", "s\t7", "r\t7\t3\t9\t/a\0b"]


@pytest.mark.parametrize("line", DAMAGED)
def test_damaged_lines_are_counted(tmp_path: Path, line: str) -> None:
    events = read_events(write(tmp_path, line, "r\t7\t3\t9\t/a"))
    assert events.damaged == 1
    assert list(events.files) == ["/a"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.lists(st.sampled_from([*"srwbdpcgnxuLk", "\t", "7", "/a", "\\", "\n", "é"])).map("".join))
def test_any_lines_can_be_read(tmp_path: Path, data: str) -> None:
    events = read_events(write(tmp_path, data))
    assert reasons_of_hook(events, plain_python=True, is_limited=False)
    assert all(path.startswith("/") for path in events.files)


def test_a_link_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("r\t7\t3\t9\t/a\n", encoding="utf-8")
    (tmp_path / "opened.txt").symlink_to("elsewhere")
    with pytest.raises(OSError, match=r".+"):
        read_events(tmp_path / "opened.txt")


def test_hosts_are_named_as_they_were_looked_up(tmp_path: Path) -> None:
    looked_up = ("g\t7\texample.org\t443", "c\t7\t192.0.2.7\t443")
    assert list(addresses(read_events(write(tmp_path, *looked_up)))) == ["example.org:443"]
    assert list(addresses(read_events(write(tmp_path, "c\t7\t192.0.2.7\t80")))) == ["192.0.2.7:80"]
    assert list(addresses(read_events(write(tmp_path, "c\t7\t2001:db8::1\t80")))) == ["[2001:db8::1]:80"]
    own = ("g\t7\tlocalhost\t80", "c\t7\t127.0.0.1\t80", "c\t7\t::1\t80", "g\t7\texample.org\t443")
    assert list(addresses(read_events(write(tmp_path, *own)))) == []  # looked up, but not connected to


def test_programs_without_the_hook_are_counted(tmp_path: Path) -> None:
    started = ("s\t7\t1\t/v\t/v", "p\t7\tcat\t", "p\t7\tcat\t", "p\t7\tpython3\t", "p\t7\tpython\tother variables")
    events = read_events(write(tmp_path, *started, "s\t9\t7\t/v\t/v"))
    assert programs_without_hook(events) == {"cat": 2, "python": 1}
    reasons = reasons_of_hook(events, plain_python=True, is_limited=True)
    assert reasons[0] == "3 programs ran without the hook: cat, python"
    assert reasons[-1] == "not all files that git ignores could be watched"
