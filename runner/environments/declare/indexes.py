"""Where packages come from: the user's own settings of uv, else those of pip; never recorded anywhere."""

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
    """Index settings as uv takes them: lines of a requirements file, words of the command, variables."""

    lines: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


def index_options(declared: Iterable[str], environ: Mapping[str, str]) -> IndexOptions:
    """Return what uv needs to find packages: the user's settings of pip where uv has none, then a project's options."""
    lines: list[str] = []
    words: list[str] = []
    for option in [*_user_options(environ), *map(expand, declared)]:
        name, _, value = re.sub(r"^(--?[a-z-]+)[=\s]+", r"\1\n", option).partition("\n")
        if name == "--pre":
            words += ["--prerelease", "allow"]
        elif name == "--trusted-host":
            words += ["--allow-insecure-host", value.strip()]
        elif name in ("--only-binary", "--no-binary"):
            lines.append(f"{name} {value.strip()}")
        else:
            lines.append(f"{name} {value.strip()}".strip())
    if any(line.startswith(("--extra-index-url", "-i", "--index-url")) for line in lines):
        # As pip does: the best version of all indexes, not the first index that has the name.
        words += ["--index-strategy", "unsafe-best-match"]
    return IndexOptions(lines=tuple(dict.fromkeys(lines)), words=tuple(words))


def expand(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """Replace ``${NAME}`` as pip does in requirements files; unknown names stay."""
    return VARIABLE.sub(lambda match: environ.get(match[1], match[0]), text)


def _user_options(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield pip's options for indexes, unless the user has told uv where to look."""
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
    return any(re.search(r"(?m)^\s*(\[\[index\]\]|\[?\[?(pip\.)?(extra-)?index(-url)?\b|find-links)", t) for t in texts)


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
    if sys.platform == "win32":
        files = [Path(environ.get(name, home)) / "pip/pip.ini" for name in ("PROGRAMDATA", "APPDATA")]
    return [file for file in [*files, *([Path(named)] if named else [])] if file.is_file()]
