"""Secrets in addresses: taken off before anything is shown or kept, and given to git where nobody else can see them."""

from urllib.parse import quote, unquote, urlsplit, urlunsplit

from msgspec import Struct

from runner.urls import without_credentials

_HELPER = (
    r"""!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$PROJ_GIT_USER" "$PROJ_GIT_PASSWORD"; }; f"""
)


class Credentials(Struct, frozen=True):
    """Who to be at one host. Its text shows nothing."""

    origin: str
    user: str
    password: str

    def __repr__(self) -> str:
        return "Credentials(…)"

    def settings(self) -> tuple[tuple[str, str], ...]:
        """Return git settings that answer for this host only.

        A credential helper is asked after the host demands it, so a redirect elsewhere does not carry the secret, and
        the first, empty, helper keeps git from handing it to the user's own for storing. The secret itself is in
        variables of git's process, which only the same user can read; the words of ``git-remote-https``, which
        everybody can, hold the bare address.
        """
        name = f"credential.{self.origin}.helper"
        return ((name, ""), (name, _HELPER))

    def hidden_in(self, text: str) -> str:
        """Return text of others without this secret, however it is written there."""
        for secret in (self.password, quote(self.password, safe=""), self.user, quote(self.user, safe="")):
            if len(secret) > 2:  # noqa: PLR2004  # shorter ones are in every word
                text = text.replace(secret, "***")
        return without_credentials(text)

    def variables(self) -> dict[str, str]:
        """Return the variables that the helper reads."""
        return {"PROJ_GIT_USER": self.user, "PROJ_GIT_PASSWORD": self.password}


def split_credentials(url: str) -> tuple[str, Credentials | None]:
    """Return a URL without what a secret could be, and the secret. The user of an ssh address stays: it is a name."""
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
    """Return an address as it may be shown and kept; ``user:password@host:path``, as ssh takes it, is one as well."""
    if "://" in address:
        return without_credentials(address)
    user, at, rest = address.partition("@")
    return f"{user.partition(':')[0]}@{rest}" if at and ":" in user and "/" not in user else address
