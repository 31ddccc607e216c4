"""The search for the differences that matter, in small worlds: single causes, pairs, alternatives, failures."""

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from runner.explanation.search import Result, Search

Items = frozenset[int]


def search_of(size: int, groups: int, test: object) -> Search[int]:
    return Search([range(start, size, groups) for start in range(groups)], test)  # type: ignore[arg-type]


@settings(max_examples=60)
@given(st.data(), st.integers(1, 40), st.integers(1, 6))
def test_exactly_the_planted_causes_are_found(data: st.DataObject, size: int, groups: int) -> None:
    planted = frozenset(data.draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=4)))
    asked: list[Items] = []

    def test(chosen: Items) -> Result:
        asked.append(chosen)
        if planted <= chosen:
            return Result.OTHER
        return Result.NEITHER if planted & chosen else Result.ORIGINAL

    assert search_of(size, groups, test).minimize() == planted
    assert len(asked) == len(set(asked)) or len(asked) < 20 * len(planted) + 4 * groups + 20


@settings(max_examples=50)
@given(st.data(), st.integers(2, 20), st.integers(1, 4))
def test_of_alternatives_one_is_found_and_nothing_else(data: st.DataObject, size: int, groups: int) -> None:
    sets = st.frozensets(st.integers(0, size - 1), min_size=1, max_size=3)
    alternatives = data.draw(st.lists(sets, min_size=1, max_size=3))

    def test(chosen: Items) -> Result:
        return Result.OTHER if any(one <= chosen for one in alternatives) else Result.ORIGINAL

    assert search_of(size, groups, test).minimize() in alternatives


@settings(max_examples=50)
@given(st.data(), st.integers(2, 20), st.integers(1, 4))
def test_runs_that_fail_never_remove_a_cause(data: st.DataObject, size: int, groups: int) -> None:
    planted = frozenset(data.draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=3)))
    needed = data.draw(st.dictionaries(st.integers(0, size - 1), st.integers(0, size - 1), max_size=3))

    def test(chosen: Items) -> Result:
        if any(item in chosen and other not in chosen for item, other in needed.items()):
            return Result.UNRESOLVED
        return Result.OTHER if planted <= chosen else Result.ORIGINAL

    found = search_of(size, groups, test).minimize()
    assert planted <= found
    assert test(found) is Result.OTHER
    assert all(test(found - {item}) is not Result.OTHER for item in found)


def test_what_is_known_at_an_interruption_is_kept() -> None:
    count = 0

    def test(chosen: Items) -> Result:
        nonlocal count
        count += 1
        if count > 4:
            raise TimeoutError
        return Result.OTHER if 3 in chosen else Result.ORIGINAL

    search = search_of(64, 4, test)
    with suppress(TimeoutError):
        search.minimize()
    assert 3 in search.current
    assert len(search.current) < 64
