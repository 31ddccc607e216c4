"""Credentials in URLs, however they are written: taken out of every text, and put back where they are needed."""

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.errors import ProjError
from runner.urls import has_credentials, with_credentials, without_channel_tokens, without_credentials

SECRET = "s3cr3t"
CHARACTERS = "abZ09-._~!$&()*+,;=@:%/?#[]ü "
ODD = st.text(alphabet=CHARACTERS, max_size=6).map(lambda text: quote(f"{text}{SECRET}{text}", safe=""))
BARE = st.text(alphabet="abZ09-._~!$&()*+,;=@:", max_size=6).map(lambda text: f"{text}{SECRET}{text}")
PASSWORDS = ODD | BARE | st.just(f"{SECRET}/with/slashes@and-signs") | st.just(f"p#{SECRET}") | st.just(f"p?{SECRET}")
HOSTS = st.sampled_from(["host.invalid", "host.invalid:8080", "127.0.0.1:80", "[::1]", "[fe80::1]:8443"])
WHEEL = "/x-1.0-py3-none-any.whl#sha256=00"
PATHS = st.sampled_from(["/", "", "/simple", "/a/b.git", "/a/b.git@v1.0", WHEEL, "/p@q/r"])
SCHEMES = st.sampled_from(["https", "http", "git+https", "git+http", "hg+https", "svn+https", "ftp", "HTTPS"])
BEFORE = st.sampled_from(["", "--index-url ", "--extra-index-url=", "-f ", "x @ ", "x[y] @ ", "-e ", "'", "error: "])
AFTER = st.sampled_from(["", " ; python_version > '3'", " --hash=sha256:00", "\nnext line"])


@given(BEFORE, SCHEMES, PASSWORDS, HOSTS, PATHS)
def test_no_password_stays(before: str, scheme: str, password: str, host: str, path: str) -> None:
    line = f"{before}{scheme}://me:{password}@{host}{path}"
    clean = without_credentials(line)
    assert SECRET not in clean
    assert clean.startswith(f"{before}{scheme}://")
    assert host in clean
    assert has_credentials(line)
    assert not has_credentials(clean)
    assert without_credentials(clean) == clean


@given(BEFORE, SCHEMES, ODD, HOSTS, PATHS, AFTER)
def test_a_token_alone_is_a_credential(before: str, scheme: str, token: str, host: str, path: str, after: str) -> None:
    line = f"{before}{scheme}://{token}@{host}{path}{after}"
    assert without_credentials(line) == f"{before}{scheme}://{host}{path}{after}"
    assert has_credentials(line)


@given(ODD, HOSTS, PATHS)
def test_of_ssh_the_user_stays_and_the_password_does_not(password: str, host: str, path: str) -> None:
    for scheme in ("ssh", "git+ssh", "svn+ssh"):
        assert without_credentials(f"{scheme}://git:{password}@{host}{path}") == f"{scheme}://git@{host}{path}"
        plain = f"{scheme}://git@{host}{path}"
        assert without_credentials(plain) == plain
        assert not has_credentials(plain)


NAMES = ("token", "access_token", "private-token", "api_key", "apikey", "sig", "X-Amz-Signature", "password", "AUTH")


@given(st.sampled_from(NAMES), ODD, HOSTS, st.sampled_from(["", "#sha256=00", "&page=2", "&page=2#egg=x"]))
def test_a_secret_in_the_query(name: str, value: str, host: str, rest: str) -> None:
    clean = without_credentials(f"https://{host}/x.whl?first=1&{name}={value}{rest} ; x")
    assert clean == f"https://{host}/x.whl?first=1{rest} ; x"
    assert SECRET not in without_credentials(f"https://{host}/x.whl?{name}={value}{rest}")
    assert has_credentials(f"https://{host}/x.whl?{name}={value}")


@pytest.mark.parametrize(
    "text",
    [
        "https://host.invalid/simple",
        "https://host.invalid:8080/x@v1",
        "git+https://[::1]:80/team/x@main#egg=x",
        "git@host.invalid:team/x.git",
        "C:/me:x@y/z",
        "mail:/me@home and file:/a@b",
        "git:/a/b@c https:/a/b@c",
        "file:///a/b@c",
        "sqlite:///me@home.db",
        "https://host.invalid/?monkey=1&tokens=2&keyword=3",
        "me@host.invalid and 3:4@5",
        "https://${USER}/x",
        "",
    ],
)
def test_what_holds_no_secret_stays(text: str) -> None:
    assert without_credentials(text) == text
    assert not has_credentials(text)


def test_a_folder_that_may_be_a_token_is_shown_and_not_kept() -> None:
    url = "https://host.invalid/t/topic/x"
    assert without_credentials(url) == url
    assert without_channel_tokens(url) == "https://host.invalid/x"
    assert has_credentials(url)


def test_a_reference_to_a_variable_is_no_secret_and_a_password_beside_it_is() -> None:
    assert not has_credentials("https://${USER}:${PASSWORD}@host.invalid/simple?token=${TOKEN}")
    assert has_credentials("https://${USER}:pw@host.invalid/simple")
    assert has_credentials("https://conda.invalid/t/abc-def/channel")


@given(ODD, HOSTS, st.sampled_from(["/x.git", "/a/x-1.0-py3-none-any.whl", "/a/x.zip"]))
def test_credentials_are_put_back(password: str, host: str, path: str) -> None:
    scheme = "git+https" if path.endswith(".git") else "https"
    requested = [
        f"x @ {scheme}://me:{password}@{host}{path}@main#egg=x" if "git" in path else f"https://t@{host}{path}#sha256=0"
    ]
    requested.append(f"y @ https://{host}/y.whl?token={password}&a=1#sha256=0")
    lock = f"x @ {scheme}://{host}{path}@{'a' * 40}\nz @ {scheme}://{host}{path}2\n"
    lock += f"y @ https://{host}/y.whl?a=1 --hash=sha256:0\n"
    whole = with_credentials(lock, requested)
    assert without_credentials(whole) == lock
    assert whole.count("@") == lock.count("@") + 1
    assert f"token={password}&a=1" in whole
    assert f"{host}{path}2" in whole
    assert with_credentials(lock, ["six", "x @ https://other.invalid/x"]) == lock


LONG = ("a1" * 300_000, "https://" * 30_000, "a://b:c" * 30_000, f"a://{'x:' * 100_000}", f"http://h/?{'a=' * 100_000}")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
def test_a_long_text_is_read_to_its_end(text: str) -> None:
    assert has_credentials(f"{text} https://me:{SECRET}@host.invalid")
    assert SECRET not in without_credentials(f"{text} https://me:{SECRET}@host.invalid")


def test_errors_never_show_them() -> None:
    url = f"https://me:{SECRET}@host.invalid/x"
    error = ProjError(f"'{url}' can't be had", context=url, hint=f"try {url}?token={SECRET}")
    assert SECRET not in f"{error} {error.message} {error.context} {error.hint}"
    assert "host.invalid/x" in error.message


@given(BEFORE, st.sampled_from(["https:/", "git+http:/", "HTTP:/", "ssh:/"]), ODD, HOSTS)
def test_a_url_that_became_a_path_shows_no_password(before: str, scheme: str, password: str, host: str) -> None:
    for user_info in (f"me:{SECRET}{password}", f"{SECRET}{password}"):
        text = f"{before} '{scheme}{user_info}@{host}/x' does not exist"
        assert SECRET not in without_credentials(text)
        assert host in without_credentials(text)
        assert has_credentials(text)
    assert SECRET not in without_credentials(f"{before} {scheme}{host}/x?token={SECRET}")


@given(st.text(alphabet="ab:/@?#&=[].+ '\"%$-", max_size=60))
@example("@=::?@")
def test_any_text_is_cleaned_once_and_for_all(text: str) -> None:
    clean = without_credentials(f"x://{text}")
    assert without_credentials(clean) == clean
