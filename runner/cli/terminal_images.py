"""Shows images inside terminals that can: iTerm2's protocol, and that of kitty.

Sources: https://iterm2.com/documentation-images.html, https://sw.kovidgoyal.net/kitty/graphics-protocol/.
"""

import base64
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

_LARGEST = 20_000_000
"""Bytes of the largest image that is sent to a terminal."""
_PIECE = 4096
"""Base64 characters of one message of kitty's protocol."""
_ITERM = ("iTerm.app", "WezTerm", "mintty")
_KITTY = ("ghostty", "kitty")

Encode = Callable[[bytes, str], Iterator[str]]
"""A function that yields the texts which show an image; the arguments are its content and its name."""


def show_inline(path: Path, environ: Mapping[str, str] = os.environ) -> bool:
    """Show an image in the terminal, and return whether the terminal and the format allow it."""
    encode = _protocol(path.suffix.lower(), environ) if sys.stdout.isatty() else None
    if encode is None or path.stat().st_size > _LARGEST:
        return False
    for text in encode(path.read_bytes(), path.name):
        sys.stdout.write(text)
    sys.stdout.write("\n")
    sys.stdout.flush()
    return True


def _protocol(suffix: str, environ: Mapping[str, str]) -> Encode | None:
    program = environ.get("TERM_PROGRAM", "")
    if environ.get("TMUX") or environ.get("STY"):  # terminal multiplexers swallow images
        return None
    is_kitty = "KITTY_WINDOW_ID" in environ or "kitty" in environ.get("TERM", "") or program in _KITTY
    if is_kitty and suffix == ".png":
        return _kitty
    is_iterm = program in _ITERM or environ.get("LC_TERMINAL") == "iTerm2"
    return _iterm if is_iterm and suffix in (".png", ".jpg", ".jpeg", ".gif") else None


def _iterm(content: bytes, name: str) -> Iterator[str]:
    shown = base64.b64encode(os.fsencode(name)).decode()
    yield f"\x1b]1337;File=name={shown};size={len(content)};inline=1:{base64.b64encode(content).decode()}\x07"


def _kitty(content: bytes, _name: str) -> Iterator[str]:
    text = base64.b64encode(content).decode()
    pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
    for number, piece in enumerate(pieces):
        head = "a=T,f=100," if number == 0 else ""
        yield f"\x1b_G{head}m={int(number < len(pieces) - 1)};{piece}\x1b\\"
