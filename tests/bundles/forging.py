"""Makes bundles that proj would not write."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MANIFEST = "proj-bundle.json"


def read_files(bundle: Path) -> dict[str, bytes]:
    """Return the files of a bundle by their names."""
    with zipfile.ZipFile(bundle) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_files(target: Path, files: Mapping[str, bytes], manifest: Mapping[str, Any] | None = None) -> Path:
    """Write a bundle; the digests of its manifest fit unless ``manifest`` changes them."""
    described = json.loads(files[MANIFEST])
    others = {name: content for name, content in files.items() if not name.startswith(MANIFEST)}
    described["files"] = [
        {"path": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(others.items())
    ]
    described |= manifest or {}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**files, MANIFEST: json.dumps(described).encode()}.items():
            archive.writestr(name, content)
    return target
