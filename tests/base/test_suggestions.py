"""Suggestions for misspelt words."""

import pytest

from runner.base.suggestions import near_words, nearest, suggestion

KNOWN = ("alpha", "Alphabet", "beta")


@pytest.mark.parametrize(
    ("word", "near"), [("alhpa", "alpha"), ("ALPHA", "alpha"), ("alphabett", "Alphabet"), ("gamma", None), ("", None)]
)
def test_the_nearest_word_is_found_whatever_its_case(word: str, near: str | None) -> None:
    assert nearest(word, KNOWN) == near
    assert suggestion(word, KNOWN) == (f"did you mean '{near}'?" if near else None)


def test_several_words_come_closest_first() -> None:
    assert near_words("alphab", KNOWN, most=3) == ["alpha", "Alphabet"]
