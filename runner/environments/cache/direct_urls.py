"""Removes secrets from the ``direct_url.json`` files that installers write into an environment.

Installers leave out user and password (PEP 610) but keep the query of a URL.
"""

import base64
import hashlib
from pathlib import Path

from runner.urls import has_credentials, without_credentials

NAME = "direct_url.json"


def clean_direct_urls(prefix: Path) -> None:
    """Rewrite the files of a new environment without credentials and update their digests in the RECORD files."""
    for file in prefix.glob(f"lib/**/site-packages/*.dist-info/{NAME}"):
        text = file.read_text("utf-8", "replace")
        if not has_credentials(text):
            continue
        clean = without_credentials(text).encode()
        file.unlink()  # it may be a hard link
        file.write_bytes(clean)
        digest = base64.urlsafe_b64encode(hashlib.sha256(clean).digest()).rstrip(b"=").decode()
        _replace_in_record(file, f"sha256={digest},{len(clean)}")


def _replace_in_record(file: Path, entry: str) -> None:
    record = file.with_name("RECORD")
    path = f"{file.parent.name}/{file.name},"
    lines = record.read_text("utf-8", "surrogateescape").splitlines() if record.is_file() else []
    if lines:
        record.unlink()
        record.write_text(
            "".join(f"{path}{entry}\n" if one.startswith(path) else f"{one}\n" for one in lines),
            "utf-8",
            "surrogateescape",
        )
