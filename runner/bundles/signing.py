"""Signs manifests of bundles with the user's SSH or GPG key, as git does, and checks such signatures.

https://man.openbsd.org/ssh-keygen.1 (-Y) and https://github.com/gpg/gnupg/blob/master/doc/DETAILS (status lines).
"""

import re
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct

from runner.bundles.layout import GPG_SIGNATURE, LARGEST_SIGNATURE, SSH_SIGNATURE
from runner.errors import BundleError, ExecutionError
from runner.process import Completed, capture
from runner.source.gitcommand import git_environment

NAMESPACE = "proj-bundle"
"""The purpose that an SSH signature is valid for, so that none can be used for something else."""
_STATUS = "[GNUPG:] "
_PATIENCE = 300.0
"""Seconds for a signing program, which may ask for a passphrase."""
_SSH_KEY = re.compile(r"with (?P<kind>\S+) key (?P<key>SHA256:\S+)")


class SignatureState(str, Enum):
    """What a signature says."""

    NONE = "not signed"
    GOOD = "good"
    """Made by a key that the user has named as that of a signer."""
    UNKNOWN_SIGNER = "unknown signer"
    """Made by the named key, of which the user has not said whose it is."""
    BAD = "bad"
    """It does not belong to this bundle, or can't be read."""


class Signature(Struct, frozen=True, kw_only=True):
    """The result of checking a signature; ``signer`` and ``key`` are None if they are unknown."""

    state: SignatureState
    signer: str | None = None
    key: str | None = None
    detail: str | None = None


def sign(manifest: bytes, key: str | None) -> tuple[str, bytes]:
    """Return the name of the file with the signature, and the signature.

    ``key`` is the file of an SSH key; without it git's settings decide: ``gpg.format`` and ``user.signingKey``.

    Raises:
        BundleError: there is no key, or signing failed.
    """
    chosen = key or _setting("user.signingkey")
    if key is None and (_setting("gpg.format") or "openpgp") != "ssh":
        return GPG_SIGNATURE, _sign_with_gpg(manifest, chosen)
    if chosen is None:
        hint = "Give --key FILE, or set git's user.signingKey."
        raise BundleError("There is no key to sign with", hint=hint)
    return SSH_SIGNATURE, _sign_with_ssh(manifest, chosen)


def _sign_with_ssh(manifest: bytes, key: str) -> bytes:
    with TemporaryDirectory(prefix="proj-") as folder:
        file = Path(key).expanduser()
        if key.startswith(("key::", "ssh-", "ecdsa-", "sk-")):  # the public key itself; the agent has the private one
            file = Path(folder) / "key.pub"
            file.write_text(f"{key.removeprefix('key::')}\n", encoding="utf-8")
        program = _setting("gpg.ssh.program") or "ssh-keygen"
        done = _run([program, "-Y", "sign", "-n", NAMESPACE, "-f", file], manifest)
    if done.exit_code or b"BEGIN SSH SIGNATURE" not in done.stdout:
        raise BundleError(f"The bundle can't be signed with the key {key}", context=done.error_text)
    return done.stdout


def _sign_with_gpg(manifest: bytes, key: str | None) -> bytes:
    program = _setting("gpg.openpgp.program") or _setting("gpg.program") or "gpg"
    user = ("--local-user", key) if key else ()
    done = _run([program, "--armor", "--detach-sign", *user], manifest)
    if done.exit_code:
        hint = "`git config --global gpg.format ssh` and user.signingKey sign with an SSH key, also --key FILE."
        raise BundleError("The bundle can't be signed with GPG", context=done.error_text, hint=hint)
    return done.stdout


def check_signature(manifest: bytes, name: str | None, signature: bytes, signers: Path | None = None) -> Signature:
    """Check the signature of a manifest; ``name`` is that of its file, None for a bundle without one.

    ``signers`` is a file of allowed signers (ssh-keygen(1)), by default git's ``gpg.ssh.allowedSignersFile``.

    Raises:
        BundleError: the program that checks signatures is missing.
    """
    if name is None:
        return Signature(state=SignatureState.NONE)
    if len(signature) > LARGEST_SIGNATURE:
        return Signature(state=SignatureState.BAD, detail="it is too large")
    with TemporaryDirectory(prefix="proj-") as folder:
        file = Path(folder) / "signature"
        file.write_bytes(signature)
        if name == GPG_SIGNATURE:
            return _check_gpg(manifest, file)
        listed = _setting("gpg.ssh.allowedSignersFile")
        known = signers or (Path(listed).expanduser() if listed else None)
        return _check_ssh(manifest, file, known if known is not None and known.is_file() else None)


def _check_ssh(manifest: bytes, signature: Path, signers: Path | None) -> Signature:
    program = _setting("gpg.ssh.program") or "ssh-keygen"
    done = _run([program, "-Y", "check-novalidate", "-n", NAMESPACE, "-s", signature], manifest)
    found = _SSH_KEY.search(done.text) or _SSH_KEY.search(done.error_text)
    if done.exit_code or found is None:
        return Signature(state=SignatureState.BAD, detail=done.error_text or done.text)
    unknown = Signature(state=SignatureState.UNKNOWN_SIGNER, key=found["key"])
    if signers is None:
        return unknown
    done = _run([program, "-Y", "find-principals", "-f", signers, "-s", signature], b"")
    for principal in done.text.split("\n") if not done.exit_code else ():
        identity = ("-f", signers, "-I", principal)
        if not _run((program, "-Y", "verify", *identity, "-n", NAMESPACE, "-s", signature), manifest).exit_code:
            return Signature(state=SignatureState.GOOD, signer=principal, key=found["key"])
    return unknown


def _check_gpg(manifest: bytes, signature: Path) -> Signature:
    program = _setting("gpg.openpgp.program") or _setting("gpg.program") or "gpg"
    done = _run([program, "--batch", "--no-tty", "--status-fd", "1", "--verify", signature, "-"], manifest)
    lines = [line.removeprefix(_STATUS).split(" ") for line in done.text.split("\n") if line.startswith(_STATUS)]
    status = {words[0]: words[1:] for words in lines}
    if "GOODSIG" in status and "VALIDSIG" in status and not done.exit_code:
        key, *name = status["GOODSIG"]
        trusted = any(f"TRUST_{word}" in status for word in ("FULLY", "ULTIMATE"))
        state = SignatureState.GOOD if trusted else SignatureState.UNKNOWN_SIGNER
        return Signature(state=state, signer=" ".join(name) or None, key=status["VALIDSIG"][0] or key)
    if "NO_PUBKEY" in status:
        detail = "the public key is not here, so nothing is known about the signature"
        return Signature(state=SignatureState.UNKNOWN_SIGNER, key=status["NO_PUBKEY"][0], detail=detail)
    return Signature(state=SignatureState.BAD, detail=done.error_text)


def _setting(name: str) -> str | None:
    """Return one of the user's own settings of git; those of a repository are not asked, it may be a stranger's."""
    done = _run(["git", "config", "--global", "--includes", "--get", name], b"")
    return done.text.strip() or None if not done.exit_code else None


def _run(argv: Sequence[str | Path], stdin: bytes) -> Completed:
    try:
        return capture(argv, env=git_environment(), stdin=stdin, timeout=_PATIENCE)
    except ExecutionError as error:
        raise BundleError(error.message, context=error.context, hint="Install it, or leave signatures out.") from error
