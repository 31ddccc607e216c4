"""Lists the forms of a secret in output: plain, escaped, quoted or encoded."""

from collections.abc import Iterator

SHORTEST = 4
"""Minimum characters of a secret that is searched for; shorter ones can't be distinguished from ordinary text."""
_SHORTEST_LINE = 8
"""Minimum characters of a line of a secret that is masked separately; shorter ones are often ordinary words."""
_LINE_WIDTHS = (76, 64)
"""Columns at which MIME and PEM break lines of base64."""
_LONGEST_QUOTED = 4096
"""Characters from which a value is treated as a file: each line and the base64 are searched for."""
_SHELL_MARKS = "\\ \t'\"`$&|;<>(){}[]*?!~#"


def forms_of(value: str) -> frozenset[bytes]:
    """Return the forms of a value in output; none for values that are too short to be searched for."""
    if len(value) < SHORTEST:
        return frozenset()
    data = value.encode("utf-8", "surrogateescape")
    texts = _texts(value) if len(value) <= _LONGEST_QUOTED else (value, *_lines(value))
    found = {text.encode("utf-8", "surrogateescape") for text in texts}
    found.update(_base64_forms(data))
    if not value.isascii():
        found.update(value.encode(encoding, "ignore") for encoding in ("latin-1", "cp1252"))
    return frozenset(form for form in found if len(form) >= SHORTEST)


def _texts(value: str) -> Iterator[str]:
    import json
    from urllib.parse import quote, quote_plus

    yield value
    yield value.replace("\n", "\r\n")
    yield from _lines(value)
    for quoted in (
        quote(value, safe="", errors="surrogateescape"),
        quote(value, errors="surrogateescape"),
        quote_plus(value, errors="surrogateescape"),
    ):
        yield quoted
        yield _lower_escapes(quoted)
    for in_json in (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]):
        yield in_json
        yield in_json.replace("/", "\\/")
        yield json.dumps(in_json)[1:-1]
    yield repr(value)[1:-1]
    yield ascii(value)[1:-1]
    yield value.replace("\\", "\\\\")
    yield value.replace("'", "'\"'\"'")
    yield value.replace("'", "'\\''")
    yield "".join(f"\\{mark}" if mark in _SHELL_MARKS else mark for mark in value)
    yield from (_escaped(value, marks) for marks in ('"\\$`', "'\\", '"\\'))


def _lines(value: str) -> Iterator[str]:
    return (line.strip() for line in value.splitlines() if len(line.strip()) >= _SHORTEST_LINE)


def _escaped(value: str, marks: str) -> str:
    return "".join(f"\\{mark}" if mark in marks else mark for mark in value)


def _lower_escapes(quoted: str) -> str:
    first, *rest = quoted.split("%")
    return "%".join([first, *(part[:2].lower() + part[2:] for part in rest)])


def _base64_forms(data: bytes) -> Iterator[bytes]:
    """Yield the part of the base64 that depends only on the secret, for each alignment of its start."""
    import base64

    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + data).rstrip(b"=")
        # A character encodes six bits: the first ones also encode the text before, the last one the text after.
        core = encoded[(8 * shift + 5) // 6 : 8 * (shift + len(data)) // 6]
        yield from (core, core.replace(b"+", b"-").replace(b"/", b"_"))
        if shift == 0:
            for width in _LINE_WIDTHS:
                lines = [core[at : at + width] for at in range(0, len(core), width)]
                yield from (line for line in lines if len(line) >= 2 * _SHORTEST_LINE)
