"""Keyed digests of secret values: they can be compared within one home, and tell nothing outside it."""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

_KEY_FILE = "digest.key"


def digest(root: Path, value: str) -> str:
    """Return the keyed digest of a value, in hex; the key is made in proj's home at the first use."""
    return hmac.new(_key(root / _KEY_FILE), value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def _key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        pass
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(32))
    try:
        # Of two processes that make a key at once, the first one's stays.
        os.link(partial, path)
    except FileExistsError:
        pass
    finally:
        partial.unlink()
    return path.read_bytes()
