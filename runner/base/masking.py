"""Detects secret values and masks them in everything that is recorded."""

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from msgspec import Struct, structs

from runner.base.files import write_at
from runner.base.safe_paths import LinkError, folder_at, open_file
from runner.base.secret_forms import SHORTEST, forms_of
from runner.model import Parameter, ParameterRecord, ValueSource

STARS = "***"
_IN_NAMES = "_secret_"
"""Replaces a secret in names, where three stars are not allowed."""
_STARS = STARS.encode()
_LONGEST = 16384
"""Maximum bytes that are held back because they may be the start of a credential."""
_LONG_FORM = 200
"""Minimum bytes of a secret that is searched for separately."""
_CONTEXT = len("https:")
_ORDINARY = frozenset({"true", "false", "none", "null", "default"})


class _Pattern(Struct, frozen=True):
    """A kind of credential: the patterns of its start, of all of it, and of the end of an incomplete one.

    The expressions are compiled when a start was seen, which is almost never.
    """

    start: str
    whole: str
    unfinished: str
    starts_word: bool = True


def _token(start: str, whole: str, body: str) -> _Pattern:
    """Describe a token by its fixed start, its rest, and the class of its characters; other characters end it."""
    # The literal comes before the lookbehind, because an expression that starts with a literal is fast.
    word = f"{re.escape(start)}(?<![A-Za-z0-9]{re.escape(start)})"
    return _Pattern(start, f"{word}(?:{whole})(?!{body})", f"{word}{body}{{0,{_LONGEST}}}\\Z")


_WORD = "[A-Za-z0-9]"
_DASHED = "[A-Za-z0-9_-]"
_MIXED = f"(?={_DASHED}*[0-9])(?={_DASHED}*[A-Z]){_DASHED}"
_HEADER = "[A-Za-z0-9._~+/=-]"
_NAMED = "[^\\s/?#@:\"'<>]"
_KEY = "[A-Z0-9 ]{0,40}PRIVATE KEY-----"


@cache
def _patterns() -> dict[bytes, _Pattern]:
    patterns = (
        *(_token(start, f"{_WORD}{{16}}", _WORD) for start in ("AKIA", "ASIA")),
        _token("gh", f"[pousr]_{_WORD}{{30,}}", "[A-Za-z0-9_]"),
        _token("github_pat_", "[A-Za-z0-9_]{22,}", "[A-Za-z0-9_]"),
        _token("glpat-", f"{_DASHED}{{20,}}", _DASHED),
        *(_token(start, f"{_MIXED}{{20,}}", _DASHED) for start in ("sk-", "sk_", "rk_")),
        _token("xox", f"[abprs]-(?={_DASHED}*[0-9]){_DASHED}{{10,}}", _DASHED),
        _token("hf_", f"{_WORD}{{30,}}", _WORD),
        _token("AIza", f"{_DASHED}{{35}}", _DASHED),
        _token("npm_", f"{_WORD}{{36}}", _WORD),
        _token("pypi-", f"{_MIXED}{{50,}}", _DASHED),
        _token("dapi", "[0-9a-f]{32}", _WORD),
        _token("eyJ", f"{_DASHED}{{10,}}\\.eyJ{_DASHED}{{8,}}\\.{_DASHED}{{10,}}", "[A-Za-z0-9_.-]"),
        *(_token(start, f"(?={_HEADER}*[0-9]){_HEADER}{{16,}}", _HEADER) for start in ("Bearer ", "bearer ")),
        *(_token(f"{start}: Basic ", f"{_HEADER}{{8,}}", _HEADER) for start in ("Authorization", "authorization")),
        # The userinfo of a URL; a user without a password counts only in http and https URLs, where it is a token.
        _Pattern(
            "//",
            f"//(?<=://)(?:({_NAMED}*:[^\\s/?#\"'<>]+)|(?<=http://)({_NAMED}+)|(?<=https://)({_NAMED}+))@",
            f"//(?<=://)[^\\s/?#\"'<>]{{0,{_LONGEST}}}\\Z",
            starts_word=False,
        ),
        _Pattern(
            "-----BEGIN ",
            f"(?s)-----BEGIN {_KEY}.{{0,{_LONGEST}}}?-----END {_KEY}",
            f"(?s)-----BEGIN (?:[A-Z0-9 -]{{0,60}}|{_KEY}(?:(?!-----END {_KEY}).){{0,{_LONGEST}}})\\Z",
            starts_word=False,
        ),
    )
    return {pattern.start.encode(): pattern for pattern in patterns}


_TELLING_NAME = (
    r"(?i)(?:.*[-_.])?(?:pass(?:word|wd|phrase)|secret|(?:api|access|secret|private|auth)[-_.]?key)|token"
    r"|(?:.*[-_.])?(?:auth|access|api|bearer|refresh|github|gitlab|hf|huggingface|slack|wandb|secret|personal)[-_.]?token"
)
_TELLING_PARTS = ("pass", "secret", "key", "token")
"""Each name of a secret contains one of these; the expressions are compiled only for text with one of them."""
_ASSIGNED = (
    r"(?P<name>(?<![\w.-])(?:--?)?[A-Za-z_][\w.-]*)(?P<by>=|[ \t]+)"
    r"""(?P<value>(?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s'"\\;|&])+)"""
)


def is_secret_name(name: str) -> bool:
    """Return whether a name is that of a credential: ``--password``, ``HF_TOKEN``, ``api-key``."""
    return _may_tell(name) and re.fullmatch(_TELLING_NAME, name.lstrip("-")) is not None


def _may_tell(text: str) -> bool:
    folded = text.casefold()
    return any(part in folded for part in _TELLING_PARTS)


def is_credential(value: str) -> bool:
    """Return whether a value contains a credential: a token, a URL with userinfo, or a private key."""
    return _mask_whole(value.encode("utf-8", "surrogateescape"), None)[1]


def is_secret(parameter: Parameter) -> bool:
    """Return whether the value of a parameter must not be recorded."""
    if parameter.secret or is_credential(parameter.value):
        return True
    return is_secret_name(parameter.name) and not is_ordinary(parameter.value)


def secret_values(parameters: Iterable[Parameter]) -> tuple[str, ...]:
    """Return the secret values to search for in recorded text.

    Of parameters that the manifest declares as secret these are all values, except a default such as ``none``, which
    stands for no value; of those that only have the name of a secret, values that are no ordinary words.
    """
    return tuple(parameter.value for parameter in parameters if parameter.value and _is_searched(parameter))


def _is_searched(parameter: Parameter) -> bool:
    if parameter.secret:
        return parameter.source is not ValueSource.DEFAULT or parameter.value.lower() not in _ORDINARY
    return is_secret(parameter)


def short_secret_notices(parameters: Iterable[Parameter]) -> tuple[str, ...]:
    """Return a warning about secrets that are too short to be masked, or None."""
    short = (one.name for one in parameters if one.secret and one.value and len(one.value) < SHORTEST)
    return tuple(
        f"the secret '{name}' has fewer than {SHORTEST} characters: where the code itself writes it, it is not masked"
        for name in short
    )


def load_key(path: Path) -> bytes:
    """Return the key of the digests; create its file, readable only by the owner, if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Written to another file and linked, so that two concurrent commands use the same complete key.
        own = path.with_name(f"{path.name}.{os.urandom(8).hex()}")
        with os.fdopen(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(os.urandom(32))
        with contextlib.suppress(FileExistsError):
            os.link(own, path)
        own.unlink()
    return path.read_bytes()


class Masker:
    """Replaces secrets by three stars."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values = frozenset(values) - {""}
        self.masks = tuple(sorted({form for value in self._values for form in forms_of(value)}))
        """The forms of the secrets in output, as byte strings."""
        self._known = _known(self.masks)
        self._numbers = frozenset(float(value) for value in self._values if len(value) >= SHORTEST and is_number(value))

    def also(self, values: Iterable[str]) -> "Masker":
        """Return a masker that masks more values."""
        return Masker((*self._values, *values))

    def text(self, text: str) -> str:
        """Mask the secrets in a text, and everything that looks like a credential."""
        if text in self._values and not _is_word(text):
            return STARS
        masked, found = _mask_whole(text.encode("utf-8", "surrogateescape"), self._known)
        return masked.decode("utf-8", "surrogateescape") if found else text

    def name(self, name: str) -> str:
        """Mask the secrets in a name; names of metrics, parameters and files can't contain three stars."""
        masked = self.text(name)
        return name if masked == name else masked.replace(STARS, _IN_NAMES)

    def command(self, command: str) -> str:
        """Mask the secrets in a command line; values after names like ``--password`` are secrets too."""
        return self.text(re.sub(_ASSIGNED, _mask_assigned, command) if _may_tell(command) else command)

    def arguments(self, argv: Sequence[str]) -> tuple[str, ...]:
        """Mask the secrets in the arguments of a command; values after names like ``--password`` are secrets too."""
        masked: list[str] = []
        previous = ""
        for word in argv:
            name, equals, value = word.partition("=")
            if previous.startswith("-") and is_secret_name(previous) and not is_ordinary(word):
                masked.append(STARS)
            elif equals and is_secret_name(name) and not is_ordinary(value):
                masked.append(f"{name}={STARS}")
            else:
                masked.append(self.command(word))
            previous = word
        return tuple(masked)

    def value(self, parameter: Parameter) -> str:
        """Return the value of a parameter for the record."""
        return STARS if is_secret(parameter) else self.shown(parameter.value)

    def stored(self, parameters: Iterable[Parameter]) -> tuple[Parameter, ...]:
        """Return parameters for the store: secret ones are marked, secrets inside others are masked."""
        return tuple(
            structs.replace(each, secret=True) if is_secret(each) else structs.replace(each, value=self.value(each))
            for each in parameters
        )

    def records(self, parameters: Iterable[Parameter]) -> tuple[ParameterRecord, ...]:
        """Return parameters for the record."""
        return tuple(
            ParameterRecord(name=each.name, value=self.value(each), type=each.type, source=each.source.value)
            for each in parameters
        )

    def shown(self, value: str) -> str:
        """Mask the secrets in a value that is not secret itself; a number that equals a secret number stays."""
        return value if _is_word(value) else self.text(value)

    def is_number(self, value: float) -> bool:
        """Return whether a number is the value of a secret."""
        return value in self._numbers

    def file(self, path: Path) -> None:
        """Mask secrets in a regular file of a run, which may be absent; what a link leads to is not changed.

        The folder of the run, and each below it, may be a link that the run made.

        Raises:
            OSError: the file can't be read or written.
        """
        if not self.masks:
            return
        with contextlib.suppress(LinkError, FileNotFoundError, NotADirectoryError), folder_at(path.parent) as folder:
            with open_file(folder, path.name) as file:
                masked, found = _mask_whole(file.read(), self._known)
            if found:
                write_at(folder, path.name, masked)


def keyed_digest(key: bytes, value: str) -> str:
    """Return a keyed digest: equal for equal secrets, and of no other use without the key."""
    import hmac

    return f"hmac-sha256:{hmac.new(key, value.encode('utf-8', 'surrogateescape'), 'sha256').hexdigest()}"


class StreamMasker:
    """Masks bytes that arrive in pieces: a secret that is split between two pieces is masked too.

    What may be the beginning of a secret is held back until more comes or the stream ends; all else passes at once.
    The result does not depend on where the pieces end.
    """

    def __init__(self, masks: Iterable[bytes] = ()) -> None:
        self._masks = tuple(mask for mask in masks if mask)
        self._known = _known(self._masks)
        self._held = b""
        self._before = b""

    def feed(self, data: bytes) -> bytes:
        """Mask the next piece, and return the part that is complete."""
        return self._mask(data, is_end=False)

    def end(self) -> bytes:
        """Return the masked rest of the stream."""
        return self._mask(b"", is_end=True)

    def _mask(self, data: bytes, *, is_end: bool) -> bytes:
        # Part of the previous data is kept, because the start of a token depends on the characters before it.
        buffer = self._before + self._held + data
        position = len(self._before)
        patterns = _seen_in(buffer)
        open_at = len(buffer) if is_end else self._open_at(buffer, position, patterns)
        shown: list[bytes] = []
        for start, end in _secrets(buffer, self._known, patterns, position):
            if start >= open_at:
                break
            if start < position:
                continue
            shown += (buffer[position:start], _STARS)
            position = end
            if end > open_at:
                open_at = self._open_at(buffer, position, patterns)
        shown.append(buffer[position:open_at])
        self._held = buffer[open_at:]
        self._before = buffer[max(0, open_at - _CONTEXT) : open_at]
        return b"".join(shown)

    def _open_at(self, buffer: bytes, position: int, patterns: Iterable[_Pattern]) -> int:
        """Return the start of the first secret that continues after the end of the buffer."""
        first = len(buffer)
        for mask in self._masks:
            first = min(first, _tail(buffer, mask, position, starts_word=False))
        for start, pattern in _patterns().items():
            first = min(first, _tail(buffer, start, position, starts_word=pattern.starts_word))
        since = max(position, len(buffer) - _LONGEST - 100)
        for pattern in patterns:
            found = re.compile(pattern.unfinished.encode()).search(buffer, since)
            first = min(first, found.start()) if found else first
        return first


def _tail(buffer: bytes, word: bytes, position: int, *, starts_word: bool) -> int:
    """Return the position of a beginning of the secret at the end of the buffer; without one, its length."""
    at = buffer.find(word[:1], max(position, len(buffer) - len(word) + 1))
    while at >= 0:
        if word.startswith(buffer[at:]) and not (starts_word and buffer[:at][-1:].isalnum()):
            return at
        at = buffer.find(word[:1], at + 1)
    return len(buffer)


def _seen_in(data: bytes) -> list[_Pattern]:
    """Return the patterns whose start occurs in the data."""
    return [pattern for start, pattern in _patterns().items() if start in data]


def _secrets(data: bytes, known: "_Known | None", patterns: Iterable[_Pattern], position: int) -> list[tuple[int, int]]:
    """Return start and end of each secret, in order of the start; longer ones before shorter ones."""
    expressions = [re.compile(pattern.whole.encode()) for pattern in patterns]
    if known is not None and known.short is not None:
        expressions.append(known.short)
    matches = (found for expression in expressions for found in expression.finditer(data, position))
    spans = [found.span(found.lastindex or 0) for found in matches]
    for mask in known.long if known is not None else ():
        at = data.find(mask, position)
        while at >= 0:
            spans.append((at, at + len(mask)))
            at = data.find(mask, at + 1)
    return sorted(spans, key=lambda span: (span[0], -span[1]))


def _mask_whole(data: bytes, known: "_Known | None") -> tuple[bytes, bool]:
    """Mask the secrets in data, and return it with whether there were any."""
    shown: list[bytes] = []
    position = 0
    for start, end in _secrets(data, known, _seen_in(data), 0):
        if start >= position:
            shown += (data[position:start], _STARS)
            position = end
    return b"".join((*shown, data[position:])), bool(shown)


class _Known(Struct, frozen=True):
    """The forms of declared secrets: short ones in one expression; compiling long ones would take seconds."""

    short: re.Pattern[bytes] | None
    long: tuple[bytes, ...]


def _known(masks: Iterable[bytes]) -> _Known | None:
    forms = sorted(masks, key=len, reverse=True)
    short = [re.escape(word) for word in forms if len(word) <= _LONG_FORM]
    long = tuple(word for word in forms if len(word) > _LONG_FORM)
    return _Known(re.compile(b"|".join(short)) if short else None, long) if forms else None


def _is_word(value: str) -> bool:
    """Return whether a value is a number, a truth value, or a word such as ``none``."""
    return value.lower() in _ORDINARY or is_number(value)


def is_number(text: str) -> bool:
    """Return whether a text is a number, infinity or NaN."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_ordinary(value: str) -> bool:
    """Return whether a value is empty, a number, a truth value or a special mark such as ``<pad>`` or ``[MASK]``."""
    text = value.strip().strip("'\"")
    if not text or text.lower() in _ORDINARY or text[0] + text[-1] in ("<>", "[]", "{}"):
        return True
    return text.startswith("$") or text == STARS or is_number(text)


def _mask_assigned(found: re.Match[str]) -> str:
    name, by, value = found.group("name", "by", "value")
    is_assignment = name.startswith("-") or by == "="
    if not is_assignment or not is_secret_name(name) or is_ordinary(value):
        return found.group()
    return f"{name}{by}{STARS}"
