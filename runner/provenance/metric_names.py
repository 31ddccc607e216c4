"""Converts metric names that the store refuses to valid names."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from runner.errors import InvalidValueError
from runner.store.rules import MAX_NAME, check_name

_WORDS = {"@": "_at_", "%": "_percent_"}
_REFUSED = re.compile(r"[^/\w.\- :]+")
_DIGEST = 8
"""Hexadecimal digits of the name's SHA-256 that distinguish it from others of the same spelling."""


def is_name(name: str) -> bool:
    """Return whether the store accepts a metric name unchanged."""
    try:
        check_name("metric", name)
    except InvalidValueError:
        return False
    return True


def spell_names(names: Iterable[str], taken: Collection[str] = ()) -> Mapping[str, str]:
    """Return the spelling of each name that the store refuses: ``precision@5`` becomes ``precision_at_5``.

    The spelling follows from the name alone, unless it is that of another name of these, or one of ``taken``: then a
    part of the name's SHA-256 is added, whatever the order of the names. An empty name has no spelling.
    """
    known = dict.fromkeys(names)
    refused = [name for name in known if name and not is_name(name)]
    spelled = {name: _spell(name) for name in refused}
    counts = Counter(spelled.values())
    others = {*taken, *(name for name in known if name not in spelled)}
    return {
        name: spelling if is_name(spelling) and counts[spelling] == 1 and spelling not in others else _mark(name)
        for name, spelling in spelled.items()
    }


def _spell(name: str) -> str:
    """Replace invalid characters by words or underscores; the result may be empty or too long."""
    text = unicodedata.normalize("NFC", name)
    text = re.sub("[@%]", lambda found: _WORDS[found[0]], text)
    text = re.sub(r"_+", "_", _REFUSED.sub("_", text)) if text != name or _REFUSED.search(text) else text
    # The store refuses names that begin like the path of a parent folder.
    parts = (part.strip("_ ").lstrip(".") for part in re.sub(r"_? _?", " ", text).split("/"))
    return "/".join(part for part in parts if part)


def _mark(name: str) -> str:
    """Return a valid name that no other metric has."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    start = _spell(name)[: MAX_NAME - _DIGEST - 1].rstrip("/") or "metric"
    return f"{start}-{digest}"
