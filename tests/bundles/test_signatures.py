"""A bundle can be signed as git signs commits, and `proj verify` names the signer."""

import shutil
import subprocess
from pathlib import Path

import pytest

from runner.bundles.layout import GPG_SIGNATURE
from runner.bundles.signing import SignatureState, check_signature, sign
from tests.bundles.conftest import Exported
from tests.bundles.forging import MANIFEST, read_files, write_files
from tests.conftest import RunProj, unavailable

pytestmark = pytest.mark.slow


@pytest.fixture
def key(tmp_path: Path) -> Path:
    if shutil.which("ssh-keygen") is None:
        raise unavailable("ssh-keygen")
    file = tmp_path / "id_ed25519"
    words = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(file))
    subprocess.run(words, check=True)
    return file


@pytest.fixture
def signers(key: Path, tmp_path: Path) -> Path:
    kind, public, _ = key.with_suffix(".pub").read_text().split()
    file = tmp_path / "signers"
    file.write_text(f'ada@example.org namespaces="proj-bundle" {kind} {public}\n')
    return file


def test_a_signature_names_its_signer_and_fails_for_anything_else(
    proj: RunProj, exported: Exported, key: Path, signers: Path, tmp_path: Path
) -> None:
    signed = tmp_path / "signed.zip"
    words = ("export", exported.run_id, "-o", str(signed), "--include-inputs", "1M", "--key", str(key))
    assert proj(*words).code == 0
    first = signed.read_bytes()
    assert proj(*words, "--force").code == 0
    assert signed.read_bytes() == first
    assert "you have not named" in proj("verify", str(signed)).out
    known = proj("verify", str(signed), "--allowed-signers", str(signers), "--signed", "--json")
    assert (known.json["signature"]["state"], known.json["signature"]["signer"]) == ("good", "ada@example.org")
    for words in (("verify", "--signed"), ("import", "--signed"), ("reproduce", "--yes", "--signed")):
        there = {"PROJ_HOME": str(tmp_path / "there")}
        assert proj(words[0], str(signed), *words[1:], **there).code == 1
        assert proj(words[0], str(exported.bundle), *words[1:], **there).code == 1
    files = read_files(signed)
    files["log.txt"] = b"other\n"
    forged = write_files(tmp_path / "forged.zip", files)  # a manifest that fits, and the old signature
    refused = proj("verify", str(forged))
    assert (refused.code, "signature is bad" in refused.err) == (1, True)


def test_git_settings_choose_the_key(key: Path, signers: Path, clean_room: Path) -> None:
    words = '[user]\n\tsigningKey = {}\n[gpg]\n\tformat = ssh\n[gpg "ssh"]\n\tallowedSignersFile = {}\n'
    (clean_room / "gitconfig").write_text(words.format(key, signers))
    name, signature = sign(b"manifest", None)
    found = check_signature(b"manifest", name, signature)
    assert (found.state, found.signer) == (SignatureState.GOOD, "ada@example.org")
    assert check_signature(b"another", name, signature).state is SignatureState.BAD
    assert check_signature(b"manifest", name, b"-----BEGIN SSH SIGNATURE-----\n").state is SignatureState.BAD
    assert check_signature(b"manifest", name, bytes(1 << 20)).state is SignatureState.BAD
    assert check_signature(b"manifest", None, b"").state is SignatureState.NONE


def test_a_signature_for_another_purpose_does_not_count(key: Path, signers: Path) -> None:
    words = ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", str(key)]
    signature = subprocess.run(words, input=b"manifest", capture_output=True, check=True).stdout
    found = check_signature(b"manifest", f"{MANIFEST}.sig", signature, signers)
    assert found.state is SignatureState.BAD


def test_gpg_signs_by_default_as_in_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if shutil.which("gpg") is None:
        raise unavailable("gpg")
    # The agent's socket has to fit into the 108 bytes of a socket's path.
    folder = Path(subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True).stdout.strip())
    monkeypatch.setenv("GNUPGHOME", str(folder))
    try:
        plain = ("gpg", "--batch", "--quiet", "--passphrase", "")
        subprocess.run([*plain, "--quick-generate-key", "Ada <ada@example.org>", "ed25519", "sign"], check=True)
        name, signature = sign(b"manifest", None)
        assert name == GPG_SIGNATURE
        found = check_signature(b"manifest", name, signature)
        assert (found.state, found.signer) == (SignatureState.GOOD, "Ada <ada@example.org>")
        assert check_signature(b"another", name, signature).state is SignatureState.BAD
        empty = tmp_path / "empty"
        empty.mkdir(mode=0o700)
        monkeypatch.setenv("GNUPGHOME", str(empty))
        assert check_signature(b"manifest", name, signature).state is SignatureState.UNKNOWN_SIGNER
    finally:
        subprocess.run(["gpgconf", "--homedir", str(folder), "--kill", "gpg-agent"], check=False)
        shutil.rmtree(folder, ignore_errors=True)
