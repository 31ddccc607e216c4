"""Writes HTML and SVG: every text and every attribute is escaped, whatever is in it."""

from collections.abc import Iterable
from html import escape

Value = str | int | float | bool | None
_VOID = frozenset({"br", "img", "meta"})
_LAYOUT = "\n\t"


class Html(str):
    """A text that is HTML; any other text is escaped when it becomes a part of a page."""

    __slots__ = ()


Part = Html | str | None
Parts = Part | Iterable["Part"]


def visible(text: str) -> str:
    """Escape the characters that HTML forbids or that reverse the direction of text."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in _LAYOUT else repr(letter)[1:-1] for letter in text)


def element(tag: str, /, *parts: Parts, **attributes: Value) -> Html:
    """Return an element with its content.

    Attributes that are None or False are left out, True is an attribute without a value. A final underscore of an
    attribute's name is dropped, other underscores become dashes.
    """
    pairs = "".join(_attribute(key, value) for key, value in attributes.items())
    if tag in _VOID:
        return Html(f"<{tag}{pairs}>")
    return Html(f"<{tag}{pairs}>{join(*parts)}</{tag}>")


def join(*parts: Parts) -> Html:
    """Return parts one after the other; texts are escaped."""
    return Html("".join(_part(part) for part in parts))


def _part(part: Parts) -> str:
    if part is None:
        return ""
    if isinstance(part, Html):
        return str(part)
    if isinstance(part, str):
        return escape(visible(part))
    return "".join(_part(one) for one in part)


def _attribute(key: str, value: Value) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(visible(str(value)))}"'
