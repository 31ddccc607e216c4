"""Secrets are kept out of what is written down, and ordinary values are left alone."""

import base64
import json
import os
import random
import shlex
import stat
import string
import threading
import time
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.base.masking import (
    STARS,
    Masker,
    StreamMasker,
    is_credential,
    is_secret,
    is_secret_name,
    keyed_digest,
    load_key,
    secret_values,
)
from runner.manifest import PathRules, render_command
from runner.model import EntryPoint, Parameter, ParameterSpec, ValueSource


def made_up(length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    """Return a token that is nobody's, with all kinds of characters."""
    chosen = random.Random(length)
    return "aA1" + "".join(chosen.choice(alphabet) for _ in range(length - 3))


UPPER = string.ascii_uppercase + string.digits
KEY = "-----BEGIN {0}PRIVATE KEY-----\n" + "\n".join([made_up(64)] * 20) + "\n-----END {0}PRIVATE KEY-----"
CREDENTIALS = [
    "AKIA" + made_up(16, UPPER).upper(),
    "ASIA" + made_up(16, UPPER).upper(),
    "ghp_" + made_up(36),
    "gho_" + made_up(36),
    "ghs_" + made_up(36),
    "github_pat_" + made_up(22) + "_" + made_up(59),
    "glpat-" + made_up(20),
    "sk-" + made_up(48),
    "sk-proj-" + made_up(60),
    "sk-ant-api03-" + made_up(90),
    "sk_live_" + made_up(24),
    "xoxb-123456789012-" + made_up(24),
    "hf_" + made_up(34),
    "AIza" + made_up(35),
    "npm_" + made_up(36),
    "pypi-" + made_up(120),
    "dapi" + "0123456789abcdef" * 2,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0." + made_up(43),
    "Authorization: Bearer " + made_up(40),
    "authorization: Basic " + made_up(20),
    "https://user:hunter2@host.example/repo.git",
    "https://" + made_up(40) + "@host.example/repo.git",
    "postgresql://me:p%40ss,w0rd@db:5432/x",
    "redis://:hunter2@localhost",
    KEY.format(""),
    KEY.format("RSA "),
]
ORDINARY = [
    *("0.5", "1e-5", "-3", "007", "true", "None", "", " ", "a b", "alpha", "main", "rbf", "l1_ratio=0.1", "x=1,y=2"),
    *(
        "/home/user/data/train.csv",
        "C:\\data\\x.csv",
        "../data",
        "s3://bucket/key/part-0001",
        "file:///data/x",
        "a@b.example",
    ),
    *("https://host.example/path?email=a@b.example", "http://localhost:5000/#/x@y", "https://host.example/@user/x"),
    *(
        "ssh://git@host.example/repo.git",
        "git@host.example:team/repo.git",
        "postgres://localhost:5432/x",
        "http://[::1]:80/",
    ),
    *(
        "d41d8cd98f00b204e9800998ecf8427e",
        "3fa2b1c",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ),
    *(
        "swh:1:dir:d198bc9d7a6bcf6db04f476d29314f157507d505",
        "123e4567-e89b-12d3-a456-426614174000",
        "sha256:" + "0f" * 32,
    ),
    *(
        "2024-01-31T12:00:00+00:00",
        "12:30",
        "10.0.0.1:8080",
        "v1.2.3-rc.1+build5",
        "sk-learn-contrib-random-forest-classifier",
    ),
    *(
        "scikit-learn",
        "task-based-scheduling-of-the-2nd-Kind-of-jobs",
        "hf_model",
        "ghp_short",
        "npm_config_cache",
        "pypi-server",
    ),
    *(
        "bearer of good news",
        "Bearer internationalization-of-things",
        "the eyJ prefix",
        "AKIAN",
        "dapi",
        "xoxo",
        "ghost",
        "gh_pages",
    ),
    *("max_tokens=512", "--num-tokens 40", "tokenizer=bert-base-uncased", "--pad-token '<pad>'", "--mask_token=[MASK]"),
    *(
        "passwords.txt",
        "--password-file x.txt",
        "the password is wrong",
        "token: 5",
        "secret santa",
        "author=me",
        "keys=a,b",
    ),
    *(
        "--token=5",
        "api_key=none",
        "PASSWORD=$DB_PASSWORD",
        "import secrets; secrets.token_hex()",
        "-----BEGIN CERTIFICATE-----",
    ),
    *(
        "☃ snö",
        "\udcff",
        "x" * 10_000,
        "{'a': [1, 2]}",
        "lambda x: x // 2",
        "// comment",
        "50%|█████     | 5/10 [00:01<00:01]",
    ),
    *(
        "epoch 12/100 - loss: 0.1234 - accuracy: 0.9876",
        "sk_classifier_with_a_rather_long_name_v2",
        "base64:" + "QUJD" * 10,
    ),
]


@pytest.mark.parametrize("text", CREDENTIALS, ids=lambda text: text[:14].strip())
@pytest.mark.parametrize("frame", ["{}", "log: {} end", "x='{}'", "a\n{}\nb"])
def test_what_looks_like_a_credential_is_masked(text: str, frame: str) -> None:
    masked = Masker().text(frame.format(text))
    assert STARS in masked
    assert is_credential(text)
    for piece in text.replace("@", " ").replace(":", " ").split():
        if any(mark in piece for mark in ("aA1", "AA1", "hunter2", "w0rd", "0123")):
            assert piece not in masked


@pytest.mark.parametrize("text", ORDINARY, ids=lambda text: repr(text[:24]))
def test_what_is_ordinary_is_left_alone(text: str) -> None:
    masker = Masker(["a-secret-that-is-not-there"])
    assert masker.text(text) == text
    assert masker.command(f"python train.py {text}") == f"python train.py {text}"
    assert masker.arguments(["python", "train.py", text, f"--x={text}"]) == ("python", "train.py", text, f"--x={text}")
    assert not is_secret(Parameter(name="alpha", value=text))
    stream = StreamMasker([b"a-secret-that-is-not-there"])
    data = text.encode("utf-8", "surrogateescape")
    assert stream.feed(data) + stream.end() == data


def test_the_parts_of_a_url_that_are_no_secret_stay() -> None:
    text = "cloning https://me:hunter2@host.example:8443/team/repo.git#main."
    assert Masker().text(text) == "cloning https://***@host.example:8443/team/repo.git#main."


@pytest.mark.parametrize(
    "name",
    [
        *("password", "--password", "db_password", "token", "HF_TOKEN", "api-key", "apikey", "OPENAI_API_KEY"),
        *("auth.token", "PA\N{LATIN SMALL LETTER LONG S}\N{LATIN SMALL LETTER LONG S}WORD", "api_\N{KELVIN SIGN}ey"),
    ],
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "tokens",
        "max_tokens",
        "pad_token",
        "tokenizer",
        "key",
        "keys",
        "monkey",
        "secretary",
        "password_file",
        "author",
        "alpha",
    ],
)
def test_names_of_other_things_are_known_too(name: str) -> None:
    assert not is_secret_name(name)


def test_values_after_telling_names_are_masked_in_commands() -> None:
    masker = Masker()
    command = "API_KEY='a b'c python x.py --password hunter2 --alpha 0.5 --token=\"t 1\" --api-key k1 && echo $PASSWORD"
    assert masker.command(command) == (
        "API_KEY=*** python x.py --password *** --alpha 0.5 --token=*** --api-key *** && echo $PASSWORD"
    )
    words = ["python", "x.py", "--password", "hunter2", "--alpha", "0.5", "--token=t 1", "--api-key", "k1"]
    assert masker.arguments(words) == (
        "python",
        "x.py",
        "--password",
        "***",
        "--alpha",
        "0.5",
        "--token=***",
        "--api-key",
        "***",
    )


def test_a_secret_parameter_is_masked_wherever_and_however_it_appears() -> None:
    value = "it's s3cret/& more\nsecond-line"
    parameters = [
        Parameter(name="key", value=value, secret=True),
        Parameter(name="pin", value="12", secret=True),
        Parameter(name="flag", value="none", secret=True, source=ValueSource.DEFAULT),
        Parameter(name="alpha", value="0.5"),
        Parameter(name="url", value="https://u:hunter2@host.example/x"),
        Parameter(name="password", value="hunter3"),
    ]
    values = secret_values(parameters)
    assert values == (value, "12", "https://u:hunter2@host.example/x", "hunter3")
    masker = Masker(values)
    assert [masker.value(parameter) for parameter in parameters] == [STARS, STARS, STARS, "0.5", STARS, STARS]
    assert "s3cret" not in masker.command(f"python x.py {shlex.quote(value)}")
    assert "s3cret" not in masker.text(f"{value!r} {value}")
    assert "s3cret" not in masker.text("it%27s%20s3cret%2F%26%20more%0Asecond-line")
    assert "second-line" not in masker.text("only the second-line of it")
    assert masker.arguments([value, "12", "--pin=12"]) == (STARS, "12", "--pin=12")
    assert masker.text("12 is none") == "12 is none", "what is too short, or stands for nothing, is not searched for"
    assert b"hunter3" in masker.masks


def test_digests_compare_secrets_and_tell_nothing_else(tmp_path: Path) -> None:
    key = load_key(tmp_path / "home" / "mask.key")
    assert load_key(tmp_path / "home" / "mask.key") == key
    assert len(key) == 32
    assert stat.S_IMODE((tmp_path / "home" / "mask.key").stat().st_mode) == 0o600
    assert keyed_digest(key, "a") == keyed_digest(key, "a") != keyed_digest(key, "b")
    assert keyed_digest(load_key(tmp_path / "other.key"), "a") != keyed_digest(key, "a")


def test_commands_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    keys: list[bytes] = []
    threads = [threading.Thread(target=lambda: keys.append(load_key(tmp_path / "mask.key"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mask.key"]


def in_pieces(masker: StreamMasker, data: bytes, cuts: list[int]) -> bytes:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    pieces = [data[start:end] for start, end in pairwise(places)]
    return b"".join([*map(masker.feed, pieces), masker.end()])


PIECES = ["abc", "abcabd", "aab", "ba", "a", "b", "x", "g", "gh", "h", "t", "p", "1", "A", "_", ".", ":", "/", "@"]
PIECES += [" ", "\n", "https://", "sk-", "AKIA", "-----BEGIN ", "PRIVATE KEY-----"]
WORDS = st.sampled_from([piece.encode() for piece in (*CREDENTIALS, *PIECES)])


@settings(max_examples=400, deadline=None)
@given(words=st.lists(WORDS, max_size=12), cuts=st.lists(st.integers(0, 2000), max_size=12))
def test_it_does_not_matter_where_a_stream_is_cut(words: list[bytes], cuts: list[int]) -> None:
    masks = [b"abcabd", b"abc", b"aab", b"ba" * 2]
    data = b"".join(words)
    whole = StreamMasker(masks)
    assert in_pieces(StreamMasker(masks), data, cuts) == whole.feed(data) + whole.end()


@pytest.mark.parametrize("text", CREDENTIALS, ids=lambda text: text[:14].strip())
def test_a_credential_that_arrives_byte_by_byte_is_masked(text: str) -> None:
    data = f"before {text} after".encode()
    masked = in_pieces(StreamMasker(), data, list(range(len(data))))
    assert masked == Masker().text(data.decode()).encode()
    assert STARS.encode() in masked


@pytest.mark.parametrize(
    "prompt", ["Password:", "name? ", ">>> ", "Continue [y/n]", "12%|█▏", "press a key to go", "yes"]
)
def test_a_prompt_is_shown_at_once(prompt: str) -> None:
    assert StreamMasker([b"hunter2-and-more"]).feed(prompt.encode()) == prompt.encode()


def test_what_never_ends_is_not_held_back_for_ever() -> None:
    masker = StreamMasker()
    shown = sum(len(masker.feed(b"https://" + b"x" * 60_000)) for _ in range(20))
    assert shown > 1_000_000
    masker = StreamMasker()
    shown = sum(len(masker.feed(b"-----BEGIN PRIVATE KEY-----" * (not turn) + b"x\n" * 5_000)) for turn in range(20))
    assert shown > 150_000


VALUES = [
    *("123456", "-1.5e-3", "true", "None", "[abc]", "{k: v}", "$HOME/x", "<tok>", "***!", "a'b\"c`d", "back\\slash\\n"),
    *(
        "line one\nline two\n",
        "käse-☃",
        "a.*b+c?",
        "(?i)x|y",
        "50%|x",
        "a b\tc",
        "/a/b?c=d&e",
        "password",
        "\udcff\udcfeab",
    ),
]
"""Secrets that look like numbers, words, code, expressions and what shells, URLs and JSON escape."""


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("before", ["", "x", "xy", "é="])
def test_no_form_of_a_declared_secret_is_shown(value: str, before: str) -> None:
    masker = Masker(secret_values([Parameter(name="key", value=value, secret=True)]))
    data = value.encode("utf-8", "surrogateescape")
    coded = base64.b64encode(before.encode() + data + b"after").decode()
    forms = {
        "plain": value,
        "url": quote(value, errors="surrogateescape"),
        "all": quote(value, safe="", errors="surrogateescape"),
        "plus": quote_plus(value, errors="surrogateescape"),
        "json": json.dumps(value)[1:-1],
        "shell": shlex.quote(value),
        "python": repr(value)[1:-1],
    }
    for name, form in forms.items():
        text = f"{before}{form}after"
        assert form not in masker.text(text), name
        stream = StreamMasker(masker.masks)
        parts = [stream.feed(bytes([byte])) for byte in text.encode("utf-8", "surrogateescape")]
        assert b"".join([*parts, stream.end()]).decode("utf-8", "surrogateescape") == masker.text(text)
    safe = coded.replace("+", "-").replace("/", "_")
    for text in (coded, safe):
        shown = masker.text(f"<{text}>")
        assert STARS in shown
        assert len(shown) <= len(text) + len("<***>") - (8 * len(data) - 10) // 6


@settings(deadline=None)
@given(
    value=st.text(st.characters(codec="utf-8"), min_size=4, max_size=40),
    shift=st.binary(max_size=4),
    rest=st.binary(max_size=4),
)
def test_base64_of_a_secret_is_masked_at_every_alignment(value: str, shift: bytes, rest: bytes) -> None:
    coded = base64.b64encode(shift + value.encode() + rest).decode()
    shown = Masker([value]).text(coded)
    assert STARS in shown
    left = base64.b64decode("".join(part + "A" * (-len(part) % 4) for part in shown.split(STARS)[:1]))
    assert value.encode() not in left


def test_a_recorded_command_is_rendered_and_not_searched() -> None:
    entry = EntryPoint(
        name="main",
        command="python x.py --epochs 1000 {pin} {alpha} {key} '{note}'",
        parameters=tuple(ParameterSpec(name=name) for name in ("pin", "alpha", "key", "note")),
    )
    given = {"pin": ("1000", True), "alpha": ("1000", False), "key": ("1", True), "note": ("at tok-en1", False)}
    parameters = tuple(Parameter(name=n, value=value, secret=secret) for n, (value, secret) in given.items())
    extra = Parameter(name="more", value="tok-en1", secret=True, declared=False)
    rules = PathRules(caller=Path(), mapped=Path(), storage=Path())
    masker = Masker(secret_values([*parameters, extra]))
    assert render_command(entry, (*parameters, extra), rules, masker) == (
        "python x.py --epochs 1000 *** 1000 *** ''at ***'' --more ***"
    )
    assert [one.value for one in masker.records((*parameters, extra))] == [STARS, "1000", STARS, "at ***", STARS]


def test_time_to_mask_grows_with_the_length_of_the_text() -> None:
    """Counts the work of the expressions by the time at n and 16 n, with room for a machine that has other work."""
    masker = Masker(["a-secret-value"])

    def seconds(text: str) -> float:
        started = time.process_time()
        masker.command(text)
        return time.process_time() - started

    for piece in (
        "a.",
        "a-",
        "--a",
        "password ",
        "token=",
        "a='",
        'a="\\',
        "key   ",
        "https://a:",
        "sk-1A",
        "eyJ.",
        "//",
    ):
        assert seconds(piece * 32_000) < 64 * max(seconds(piece * 2_000), 0.01), piece


@pytest.mark.parametrize("kind", ["file", "link", "pipe", "folder", "nothing"])
def test_only_a_regular_file_is_masked(tmp_path: Path, kind: str) -> None:
    """A command may link the user's file, in which the secret has to stay, to the place of its metrics file."""
    theirs, path = tmp_path / "theirs.env", tmp_path / "metrics.txt"
    theirs.write_text("TOKEN=a-secret-value\n")
    if kind == "file":
        path.write_text("a-secret-value=1\n")
    elif kind == "link":
        path.symlink_to(theirs)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    Masker(["a-secret-value"]).file(path)
    assert theirs.read_text() == "TOKEN=a-secret-value\n"
    if kind == "file":
        assert path.read_text() == "***=1\n"
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(
        {"theirs.env", *(() if kind == "nothing" else ("metrics.txt",))}
    )
