"""Suggests known words for a misspelt one."""

from collections.abc import Iterable


def near_words(word: str, known: Iterable[str], *, most: int = 3, cutoff: float = 0.6) -> list[str]:
    """Return the known words that are closest to ``word``, the closest first; case does not count."""
    from difflib import get_close_matches

    by_lower = {other.lower(): other for other in known}
    return [by_lower[close] for close in get_close_matches(word.lower(), by_lower, n=most, cutoff=cutoff)]


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is closest to ``word``, or None; a single suggestion must be closer than several."""
    return next(iter(near_words(word, known, most=1, cutoff=0.7)), None)


def suggestion(word: str, known: Iterable[str]) -> str | None:
    """Return a hint with the closest known word, or None."""
    near = nearest(word, known)
    return f"did you mean '{near}'?" if near is not None else None
