"""Reads package index settings: the user's uv settings, else the user's pip settings. They are never recorded."""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

UV_NAMES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX")
PIP_KEYS = ("index-url", "extra-index-url", "find-links", "no-index", "trusted-host")
VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
TRUE = ("1", "true", "yes", "on")


class IndexOptions(Struct, frozen=True, kw_only=True):
    """Index settings for uv: lines for a requirements file and command-line arguments."""

    lines: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


def index_options(declared: Iterable[str], environ: Mapping[str, str]) -> IndexOptions:
    """Return the index settings for uv: the user's pip settings if uv has none, then the project's options."""
    lines: list[str] = []
    arguments: list[str] = []
    for option in [*_user_options(environ), *map(expand, declared)]:
        name, _, value = re.sub(r"^(--?[a-z-]+)[=\s]+", r"\1\n", option).partition("\n")
        if name == "--pre":
            arguments += ["--prerelease", "allow"]
        elif name == "--trusted-host":
            arguments += ["--allow-insecure-host", value.strip()]
        elif name in ("--only-binary", "--no-binary"):
            lines.append(f"{name} {value.strip()}")
        else:
            lines.append(f"{name} {value.strip()}".strip())
    if any(line.startswith(("--extra-index-url", "-i", "--index-url")) for line in lines):
        # pip takes the best version from all indexes; uv by default stops at the first index that has the package.
        arguments += ["--index-strategy", "unsafe-best-match"]
    return IndexOptions(lines=tuple(dict.fromkeys(lines)), arguments=tuple(arguments))


def expand(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """Replace ``${NAME}`` with the variable's value, as pip does in requirements files. Unknown names stay."""
    return VARIABLE.sub(lambda match: environ.get(match[1], match[0]), text)


def _user_options(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the index options from pip's settings, or nothing when the user configured an index for uv."""
    if any(environ.get(name) for name in UV_NAMES) or _uv_config_names_index(environ):
        return
    settings = _pip_settings(environ)
    for key in PIP_KEYS:
        value = environ.get(f"PIP_{key.upper().replace('-', '_')}") or settings.get(key, "")
        if key == "no-index":
            yield from ["--no-index"] if value.strip().lower() in TRUE else []
        elif key == "index-url":
            yield from [f"--{key} {value.strip()}"] if value.strip() else []
        else:
            yield from (f"--{key} {word}" for word in value.split())


def _uv_config_names_index(environ: Mapping[str, str]) -> bool:
    folder = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111
    files = [environ.get("UV_CONFIG_FILE") or f"{folder}/uv/uv.toml", "/etc/uv/uv.toml"]
    texts = [Path(file).read_text("utf-8", "replace") for file in files if Path(file).is_file()]
    return any(
        re.search(r"(?m)^[ \t]*(\[\[index\]\]|\[?\[?(pip\.)?(extra-)?index(-url)?\b|find-links)", t) for t in texts
    )


def _pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Read pip's configuration files: https://pip.pypa.io/en/stable/topics/configuration/#location."""
    from configparser import Error, RawConfigParser

    settings: dict[str, str] = {}
    for file in _pip_files(environ):
        parser = RawConfigParser(strict=False)
        try:
            parser.read_string(file.read_text("utf-8", "replace"))
        except Error:
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                settings |= {key.replace("_", "-"): value or "" for key, value in parser.items(section)}
    return settings


def _pip_files(environ: Mapping[str, str]) -> list[Path]:
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    home = Path("~").expanduser()
    config = environ.get("XDG_CONFIG_HOME") or home / ".config"
    files = [
        Path("/etc/xdg/pip/pip.conf"),
        Path("/etc/pip.conf"),
        home / ".pip/pip.conf",
        Path(config) / "pip/pip.conf",
    ]
    if sys.platform == "darwin":
        files.append(home / "Library/Application Support/pip/pip.conf")
    return [file for file in [*files, *([Path(named)] if named else [])] if file.is_file()]
