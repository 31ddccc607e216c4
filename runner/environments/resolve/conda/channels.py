"""Resolves the names of conda channels to URLs with the user's conda settings; credentials are kept separate."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.base.foreign_text import SMALL, ForeignTextError, parse_yaml, read_limited
from runner.environments.resolve.conda.protocol import Channel
from runner.urls import without_channel_credentials

VARIABLE = re.compile(r"\$\{?(\w+)\}?")
USUAL = "conda-forge"
DEFAULTS = ("main", "r")
"""The channels that ``defaults`` stands for."""
OF_DEFAULTS = (*DEFAULTS, "msys2")


def channels_of(declared: Iterable[str], environ: Mapping[str, str]) -> tuple[Channel, ...]:
    """Return the channels that a file declares, else those in the user's settings."""
    settings = _settings(environ)
    names = [name for name in declared if name != "nodefaults"] or _listed(settings, "channels") or [USUAL]
    found: dict[str, Channel] = {}
    for name in names:
        for channel in _channels(name, settings, environ):
            found.setdefault(channel.name, channel)
    return tuple(found.values())


def _channels(name: str, settings: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[Channel]:
    if name == "defaults":
        for usual in _listed(settings, "default_channels") or DEFAULTS:
            for channel in _channels(usual, {**settings, "default_channels": ()}, environ) if usual != name else ():
                # The recorded name is that of the channel, not that of a mirror.
                last = channel.name.rpartition("/")[2]
                yield Channel(name=last if last in OF_DEFAULTS else channel.name, address=channel.address)
        return
    address = VARIABLE.sub(lambda match: environ.get(match[1], match[0]), name).rstrip("/")
    if "://" in address:
        yield Channel(name=without_channel_credentials(address + "/").rstrip("/"), address=address)
        return
    own = settings.get("custom_channels") or {}
    first = name.split("/", maxsplit=1)[0]
    base = own.get(name) or own.get(first) or settings.get("channel_alias") if isinstance(own, dict) else None
    yield Channel(name=name, address=f"{str(base).rstrip('/')}/{name}" if base else name)


def _listed(settings: Mapping[str, Any], key: str) -> list[str]:
    value = settings.get(key) or ()
    return [str(item) for item in ([value] if isinstance(value, str) else value)]


def _settings(environ: Mapping[str, str]) -> dict[str, Any]:
    """Read conda's settings for channels: https://docs.conda.io/projects/conda/en/stable/configuration.html."""
    settings: dict[str, Any] = {}
    for file in _files(environ):
        try:
            read = parse_yaml(read_limited(file, SMALL))
        except (OSError, ForeignTextError):
            continue
        settings |= read if isinstance(read, dict) else {}
    if alias := environ.get("CONDA_CHANNEL_ALIAS"):
        settings["channel_alias"] = alias
    for key in ("channels", "default_channels"):
        if value := environ.get(f"CONDA_{key.upper()}"):
            settings[key] = [item.strip() for item in value.split(",")]
    return settings


def _files(environ: Mapping[str, str]) -> list[Path]:
    home = Path(environ.get("HOME") or os.path.expanduser("~"))  # noqa: PTH111
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [Path("/etc/conda/.condarc"), config / "conda/.condarc", home / ".conda/.condarc", home / ".condarc"]
    return [file for file in [*files, *([Path(environ["CONDARC"])] if "CONDARC" in environ else [])] if file.is_file()]
