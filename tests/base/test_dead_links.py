"""Links of clients to the run's own server are left out; everything else passes, however it arrives."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.base.dead_links import LinkFilter

ADDRESS = "127.0.0.1:43211"
LINKS = [
    f"🏃 View run calm-owl-1 at: http://{ADDRESS}/#/experiments/0/runs/1f\n",
    f"🧪 View experiment at: http://{ADDRESS}/#/experiments/0\n",
    f"🔗 View Logged Model at: http://{ADDRESS}/#/experiments/0/models/m-1\n",
    f"2024/09/10 12:00:00 INFO mlflow.tracking: 🏃 View run x at: http://{ADDRESS}/#/experiments/0/runs/1.\n",
]
OTHERS = [
    "🏃 View run calm-owl-1 at: http://127.0.0.1:5000/#/experiments/0/runs/1f\n",
    f"uri: http://{ADDRESS}\n",
    "2024/09/10 12:00:00 INFO train: epoch 1\n",
    "🏃 running\n",
    "\n",
    "View\n",
    "12%\r20%\r2024",
    "a\r\nb\n",
]


def passed(data: bytes, cuts: list[int]) -> bytes:
    links = LinkFilter([ADDRESS, ""])
    positions = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[start:end] for start, end in pairwise(positions)]
    return b"".join([*map(links.feed, pieces), links.end()])


@given(st.lists(st.sampled_from([*LINKS, *OTHERS]), max_size=8), st.lists(st.integers(0, 600), max_size=20))
def test_lines_are_left_out_or_unchanged(parts: list[str], cuts: list[int]) -> None:
    data = "".join(f"{part}\n" for part in parts).encode()
    kept = [line for line in data.split(b"\n") if not (b"View " in line and f"http://{ADDRESS}/#/".encode() in line)]
    shown = passed(data, cuts)
    assert [line for line in shown.split(b"\n") if line in kept] == kept, "all other lines are shown"
    if not any("%" in part for part in parts):  # after a progress bar the link is in the middle of a line
        assert shown.split(b"\n") == kept


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=10))
def test_bytes_without_links_pass_unchanged(data: bytes, cuts: list[int]) -> None:
    assert passed(data, cuts) == data


@pytest.mark.parametrize("link", LINKS)
def test_a_link_is_left_out_at_every_cut(link: str) -> None:
    data = b"before\n" + link.encode() + b"after\n"
    for cut in range(len(data)):
        assert passed(data, [cut]) == b"before\nafter\n"


def test_a_prompt_is_shown_at_once() -> None:
    links = LinkFilter([ADDRESS])
    assert links.feed(b"Name: ") == b"Name: "
    assert links.feed(b"\xf0\x9f\x8f\x83 View run") == b"\xf0\x9f\x8f\x83 View run", "in the middle of a line"


def test_a_long_line_is_not_held_for_ever() -> None:
    links = LinkFilter([ADDRESS])
    assert links.feed(b"View " + b"x" * 9000) == b"View " + b"x" * 9000


def test_without_an_address_nothing_is_left_out() -> None:
    assert LinkFilter([]).feed(LINKS[0].encode()) == LINKS[0].encode()
