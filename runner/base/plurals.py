"""Formats numbers of things: ``1 run``, ``2 runs``, ``1,000 entries``."""

_ENDINGS = ("s", "x", "z", "ch", "sh")


def counted(number: int, noun: str) -> str:
    """Format a number of things; ``noun`` is their name in the singular, the last word of which gets its plural."""
    return f"{number:,} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """Return the regular plural of an English noun."""
    if noun.endswith("y") and noun[-2:-1] not in tuple("aeiou"):
        return f"{noun[:-1]}ies"
    return f"{noun}{'es' if noun.endswith(_ENDINGS) else 's'}"
