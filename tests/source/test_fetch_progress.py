"""The progress that git prints is read from any pieces of it, and is no part of an error."""

from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from runner.base import progress
from runner.settings import Home
from runner.source.fetch_progress import FetchProgress, without_progress
from runner.source.mirror import open_mirror
from tests.conftest import MakeRepository, git

PRINTED = (
    b"remote: Enumerating objects: 200, done.        \nremote: Counting objects: 100% (200/200), done.        \n"
    b"Receiving objects:   5% (10/200)\rReceiving objects:  50% (100/200), 12.00 MiB | 3.00 MiB/s\r"
    b"Receiving objects: 100% (200/200), 24.00 MiB | 3.00 MiB/s, done.\nremote: Total 200 (delta 40), reused 0\n"
    b"Resolving deltas:  50% (20/40)\rResolving deltas: 100% (40/40), done.\n"
    b"From ssh://x/y\n * [new branch] main -> main\n ! [rejected] b -> b\nfatal: early EOF\n"
)


class Counter:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.begun: list[tuple[int | None, str]] = []
        self.done: list[int] = []

    def begin(self, total: int | None, what: str = "") -> None:
        self.begun.append((total, what))
        self.done.append(0)

    def advance(self, count: int) -> None:
        self.done[-1] += count

    def clear(self) -> None: ...

    def suspend(self) -> None: ...

    def resume(self) -> None: ...


@given(st.lists(st.integers(0, len(PRINTED))))
def test_pieces_of_any_size_give_the_same_progress(cuts: list[int]) -> None:
    counter, watch = Counter(), FetchProgress()
    places = [0, *sorted(cuts), len(PRINTED)]
    with progress.observing(counter):
        for start, end in pairwise(places):
            watch(PRINTED[start:end])
    assert counter.begun == [(200, "objects"), (40, "deltas")]
    assert counter.done == [200, 40]


@given(st.lists(st.binary()))
def test_anything_else_is_no_progress(pieces: list[bytes]) -> None:
    counter, watch = Counter(), FetchProgress()
    with progress.observing(counter):
        for piece in pieces:
            watch(piece)
    assert counter.begun == []


def test_an_error_has_no_progress() -> None:
    assert without_progress(PRINTED.decode()) == " ! [rejected] b -> b\nfatal: early EOF\n"
    assert without_progress("remote: Repository not found.\nfatal: x") == "remote: Repository not found.\nfatal: x"


def test_git_tells_how_far_a_fetch_is_to_who_looks(make_repository: MakeRepository, home: Home) -> None:
    origin = make_repository({f"{number}.txt": str(number) for number in range(150)})
    home.ensure()
    counter = Counter()
    with progress.observing(counter):
        found = open_mirror(origin.as_uri(), None, home, lambda _event: None).find(None)
    assert found.commit.identity == git(origin, "rev-parse", "HEAD")
    assert (counter.begun[0][1], counter.done[0]) == ("objects", counter.begun[0][0])
    (Path(origin) / "more.txt").write_text("more")
    git(origin, "add", "--all")
    git(origin, "commit", "--quiet", "--message=second")
    before = len(counter.begun)
    assert open_mirror(origin.as_uri(), None, home, lambda _event: None).find(None).commit != found.commit
    assert len(counter.begun) == before
