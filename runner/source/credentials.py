"""Splits credentials from addresses and passes them to git through environment variables."""

from urllib.parse import quote, unquote, urlsplit, urlunsplit

from msgspec import Struct

from runner.urls import without_credentials

_HELPER = (
    r"""!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$PROJ_GIT_USER" "$PROJ_GIT_PASSWORD"; }; f"""
)


class Credentials(Struct, frozen=True):
    """User name and password for one host. The text form hides them."""

    origin: str
    user: str
    password: str

    def __repr__(self) -> str:
        return "Credentials(…)"

    def settings(self) -> tuple[tuple[str, str], ...]:
        """Return git settings that use these credentials for this host only.

        git calls a credential helper when the host asks for credentials, so a redirect to another host does not receive
        them. The first, empty, helper disables the user's helpers, which would store the secret. The secret is in
        environment variables, which only the same user can read; the command line of ``git-remote-https``, which
        every user can read, has the bare address.
        """
        name = f"credential.{self.origin}.helper"
        return ((name, ""), (name, _HELPER))

    def redact(self, text: str) -> str:
        """Return a text with this user name and password masked, in plain and URL-quoted form."""
        for secret in (self.password, quote(self.password, safe=""), self.user, quote(self.user, safe="")):
            if len(secret) > 2:  # noqa: PLR2004  # shorter texts occur inside ordinary words
                text = text.replace(secret, "***")
        return without_credentials(text)

    def variables(self) -> dict[str, str]:
        """Return the environment variables that the credential helper reads."""
        return {"PROJ_GIT_USER": self.user, "PROJ_GIT_PASSWORD": self.password}


def split_credentials(url: str) -> tuple[str, Credentials | None]:
    """Split a URL into the URL without credentials and the credentials. The user of an ssh URL stays in the URL."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url, None
    user_info, _, host = parts.netloc.rpartition("@")
    user, _, password = user_info.partition(":")
    if parts.scheme == "ssh":
        return urlunsplit(parts._replace(netloc=f"{user}@{host}" if user else host)), None
    credentials = Credentials(f"{parts.scheme}://{host}", unquote(user), unquote(password))
    return urlunsplit(parts._replace(netloc=host)), credentials


def address_without_credentials(address: str) -> str:
    """Return an address without credentials; this includes the ssh form ``user:password@host:path``."""
    if "://" in address:
        return without_credentials(address)
    user, at, rest = address.partition("@")
    return f"{user.partition(':')[0]}@{rest}" if at and ":" in user and "/" not in user else address
