"""Removes secrets from the ``direct_url.json`` files that installers write into an environment.

Installers leave out user and password (PEP 610) but keep the query of a URL.
"""

import base64
import hashlib
import os
from contextlib import suppress
from pathlib import Path

from runner.base.files import write_at
from runner.base.safe_paths import LinkError, open_file, open_tree
from runner.urls import has_credentials, without_credentials

NAME = "direct_url.json"


def clean_direct_urls(prefix: Path) -> None:
    """Rewrite the files of a new environment without credentials and update their digests in the RECORD files.

    The files are replaced, because they may be hard links; links that the build of a package made are not followed.
    """
    for file in prefix.glob(f"lib/**/site-packages/*.dist-info/{NAME}"):
        with suppress(LinkError, FileNotFoundError, NotADirectoryError), open_tree(prefix) as tree:
            folder, _ = tree.parent(os.fsencode(file.relative_to(prefix)))
            _clean(folder, file.parent.name)


def _clean(folder: int, package: str) -> None:
    with open_file(folder, NAME) as file:
        text = file.read().decode("utf-8", "replace")
    if not has_credentials(text):
        return
    clean = without_credentials(text).encode()
    write_at(folder, NAME, clean)
    digest = base64.urlsafe_b64encode(hashlib.sha256(clean).digest()).rstrip(b"=").decode()
    path = f"{package}/{NAME},"
    with open_file(folder, "RECORD") as record:
        lines = record.read().decode("utf-8", "surrogateescape").splitlines()
    entry = f"{path}sha256={digest},{len(clean)}"
    changed = "".join(f"{entry}\n" if one.startswith(path) else f"{one}\n" for one in lines)
    write_at(folder, "RECORD", changed.encode("utf-8", "surrogateescape"))
