"""Sends HTTP requests to one server: pooled connections, few retries, errors for the user.

Only idempotent requests are retried, and requests that were certainly not processed: the connection failed, or the
server reported overload.
"""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, BinaryIO

import msgspec
from msgspec import Struct

from runner.errors import RemoteError, UnreachableError
from runner.sync import response_limits
from runner.sync.access import Access

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager, Retry

PIECE = 1 << 20
"""Size in bytes of a piece of a file in memory."""

_TOO_MANY = 429
_TRANSIENT = (_TOO_MANY, 500, 502, 503, 504)
_SLOWEST = 10_000_000
"""Minimum rate in bytes per second at which a server stores a file."""
_UNAUTHORIZED = 401
_FORBIDDEN = 403
_NOT_FOUND = 404
_OK = range(200, 300)
_REDIRECTS = range(300, 400)
_MAX_ERROR = 64 * 1024
_MAX_RESPONSE = 64 << 20
_MAX_FILE = 100 << 30
"""Maximum size in bytes of a file of unknown size."""
_GROWTH = 64 << 20
"""Permitted growth of a file in bytes since it was listed, in addition to twice its size."""
_CONNECTION = re.compile(r"^<?[\w.]*HTTPS?Connection(?:Pool)?(?:\([^)]*\)| object at 0x[0-9a-f]+>?): ")
"""The prefix of urllib3's messages about a connection."""


class Patience(Struct, frozen=True, kw_only=True):
    """The waiting limits for a server: connect time and read silence in seconds, number of retries."""

    connect: float = 10.0
    read: float = 120.0
    retries: int = 2


PATIENT = Patience()
"""For commands that somebody waits for anyway."""


class _Fault(Struct, frozen=True):
    """The error in a server's response."""

    error_code: str = ""
    message: str = ""


class Transport:
    """Sends requests to one server; any thread may use it."""

    def __init__(self, access: Access, patience: Patience = PATIENT) -> None:
        self.access = access
        self._patience = _apply_environment(access.environ, patience)
        self._masker = access.masker
        self._pool: PoolManager | None = None

    def close(self) -> None:
        """Close the connections."""
        if self._pool is not None:
            self._pool.clear()

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        idempotent: bool | None = None,
    ) -> bytes:
        """Send a request of the protocol and return the JSON of the response.

        Args:
            method: the HTTP method.
            path: below the address of the server.
            query: fields of the URL; a list repeats a field, None omits it.
            body: the JSON content of the request.
            idempotent: whether the request may be sent again without a response; with None only GET is.

        Raises:
            UnreachableError: there is no response.
            RemoteError: the server refuses, or is not a tracking server.
        """
        response = self._send(
            method,
            path + _query(query),
            body=None if body is None else msgspec.json.encode(body),
            headers={"Content-Type": "application/json"} if body is not None else {},
            idempotent=method == "GET" if idempotent is None else idempotent,
        )
        content = self._read(response, _MAX_RESPONSE)
        if content.lstrip()[:1] not in (b"{", b"["):
            raise self._stranger(path, content)
        return content

    def text(self, path: str) -> str:
        """Return a short plain-text response."""
        return self._read(self._send("GET", path, idempotent=True), _MAX_ERROR).decode("utf-8", "replace")

    def send_file(self, path: str, file: BinaryIO, size: int) -> None:
        """Send a file in pieces.

        Raises:
            RemoteError: as for `ask`.
        """
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        # A server that forwards the file responds only after that.
        seconds = self._patience.read + size / _SLOWEST
        response = self._send("PUT", path, body=file, headers=headers, idempotent=False, seconds=seconds)
        self._read(response, _MAX_ERROR)

    def pieces(self, path: str, size: int | None = None) -> Iterator[bytes]:
        """Yield the content of a file in pieces; ``size`` is its listed size.

        Raises:
            RemoteError: as for `ask`, also if the connection ends early, or far more data arrives than was listed.
        """
        # A compressed file must be received unchanged.
        response = self._send("GET", path, headers={"Accept-Encoding": "identity"}, idempotent=True)
        most = _MAX_FILE if size is None else 2 * size + _GROWTH
        is_whole = False
        try:
            yield from self._limited(response, most, f"more than {most:,} bytes of one file")
            is_whole = True
        finally:
            response.release_conn() if is_whole else response.close()

    def _send(
        self,
        method: str,
        path: str,
        *,
        body: bytes | BinaryIO | None = None,
        headers: Mapping[str, str] | None = None,
        idempotent: bool = False,
        seconds: float | None = None,
    ) -> "BaseHTTPResponse":
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError, LocationParseError

        try:
            response = self._pool_of().urlopen(
                method,
                self.access.url + path,
                body=body,
                headers={**self._headers(), **(headers or {})},
                retries=self._retries(idempotent=idempotent, whole=body is None or isinstance(body, bytes)),
                preload_content=False,
                redirect=False,
                timeout=Timeout(connect=self._patience.connect, read=seconds or self._patience.read),
                assert_same_host=False,
            )
        except LocationParseError as error:
            raise RemoteError(
                "The address of the server can't be used", context=self._masker.text(str(error))
            ) from error
        except (HTTPError, OSError) as error:
            raise self._unreachable(error) from error
        if response.status in _OK:
            return response
        try:
            raise self._refusal(response, path)
        finally:
            response.release_conn()

    def _read(self, response: "BaseHTTPResponse", limit: int) -> bytes:
        try:
            content = b"".join(self._limited(response, limit, f"more than {limit >> 10:,} kB"))
        except BaseException:
            response.close()
            raise
        response.release_conn()
        return content

    def _limited(self, response: "BaseHTTPResponse", limit: int, excess: str) -> Iterator[bytes]:
        """Yield a response up to a size limit; ``excess`` describes a response over the limit in the error message."""
        from urllib3.exceptions import HTTPError

        left = limit
        try:
            for piece in response_limits.pieces(response, self._patience.read):
                left -= len(piece)
                if left < 0:
                    raise RemoteError(f"{self.access.url} answers with {excess}", status=response.status)
                yield piece
        except (HTTPError, OSError) as error:
            raise self._unreachable(error) from error
        except response_limits.TooSlowError as error:
            raise UnreachableError(
                f"{self.access.url} responds too slowly", hint="the server is overloaded or malicious"
            ) from error
        except response_limits.UnknownEncodingError as error:
            message = f"{self.access.url} sends a response that can't be decoded"
            raise RemoteError(message, context=str(error)) from error

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": "proj", "Accept": "application/json, */*;q=0.5", "Accept-Encoding": "gzip"}
        if self.access.authorization:
            headers["Authorization"] = self.access.authorization
        return headers

    def _retries(self, *, idempotent: bool, whole: bool) -> "Retry":
        """Return the retry policy: all failures, or only those without effect; a ``whole`` body can be sent again."""
        from urllib3 import Retry

        tries = self._patience.retries if whole else 0
        return Retry(
            total=tries,
            connect=tries,
            read=tries if idempotent else 0,
            other=tries if idempotent else 0,
            redirect=0,
            status_forcelist=_TRANSIENT if idempotent else (_TOO_MANY,),
            allowed_methods=None,
            backoff_factor=0.3,
            raise_on_status=False,
            raise_on_redirect=False,
            respect_retry_after_header=False,
        )

    def _pool_of(self) -> "PoolManager":
        if self._pool is None:
            self._pool = _make_pool(self.access)
        return self._pool

    def _unreachable(self, error: Exception) -> RemoteError:
        from urllib3.exceptions import ReadTimeoutError

        cause = getattr(error, "reason", None) or error
        words = self._masker.text(_CONNECTION.sub("", str(cause).partition("(Caused by")[0]))[:500]
        if isinstance(cause, ReadTimeoutError):
            return UnreachableError(
                f"{self.access.url} does not respond in time",
                context=words,
                hint="it accepts connections, but hangs or is overloaded: try again later",
            )
        if "certificate" in words.lower() or "ssl" in type(cause).__name__.lower():
            return UnreachableError(
                f"The certificate of {self.access.url} is not accepted",
                context=words,
                hint="set MLFLOW_TRACKING_SERVER_CERT_PATH to its certificate authority",
            )
        return UnreachableError(
            f"{self.access.url} can't be reached",
            context=words,
            hint="check the address, and that the server is running",
        )

    def _refusal(self, response: "BaseHTTPResponse", path: str) -> RemoteError:
        status = response.status
        content = self._read(response, _MAX_ERROR)
        try:
            fault = msgspec.json.decode(content, type=_Fault)
        except msgspec.MsgspecError:
            fault = _Fault()
        said = self._masker.text(fault.message)[:2000]
        where = self.access.url
        if status == _UNAUTHORIZED:
            hint = "set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            return RemoteError(
                f"{where} requires valid credentials", status=status, code=fault.error_code, context=said, hint=hint
            )
        if status == _FORBIDDEN:
            hint = "ask its administrator for permission"
            return RemoteError(
                f"{where} denies permission", status=status, code=fault.error_code, context=said, hint=hint
            )
        if status in _REDIRECTS:
            uri = self._masker.text(response.headers.get("location", "elsewhere"))[:200]
            return RemoteError(f"{where} redirects to {uri}", status=status, hint="use that address, if you trust it")
        if fault.error_code or said:
            return RemoteError(
                f"{where} refuses the request: {said or fault.error_code}", status=status, code=fault.error_code
            )
        if status in _TRANSIENT:
            return RemoteError(f"{where} fails with HTTP {status}", status=status, hint="try again later")
        return self._stranger(path, content, status)

    def _stranger(self, path: str, content: bytes, status: int = 200) -> RemoteError:
        shown = self._masker.text(" ".join(content[:200].decode("utf-8", "replace").split()))
        shown = "".join(letter for letter in shown if letter.isprintable())
        what = "has no such endpoint" if status == _NOT_FOUND else "does not respond like a tracking server"
        return RemoteError(
            f"{self.access.url} {what}",
            status=status,
            context=f"{path.partition('?')[0]}: HTTP {status}: {shown}",
            hint="check the address: it may belong to another service, a login page or a proxy",
        )


def _apply_environment(environ: Mapping[str, str], patience: Patience) -> Patience:
    """Apply MLflow's own variables if they lower the limits."""
    seconds = environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT", "")
    tries = environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "")
    return Patience(
        connect=min(patience.connect, float(seconds)) if seconds.isdecimal() and int(seconds) else patience.connect,
        read=min(patience.read, float(seconds)) if seconds.isdecimal() and int(seconds) else patience.read,
        retries=min(patience.retries, int(tries)) if tries.isdecimal() else patience.retries,
    )


def _make_pool(access: Access) -> "PoolManager":
    from urllib.request import getproxies, proxy_bypass

    import urllib3

    certificates = access.server_certificates
    if access.insecure:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    parts = urllib3.util.parse_url(access.url)
    proxy = getproxies().get(parts.scheme or "", "") if not proxy_bypass(parts.host or "") else ""
    is_folder = certificates is not None and _is_folder(certificates)
    options: dict[str, object] = {
        "maxsize": 8,
        "blocksize": PIECE,
        "cert_reqs": "CERT_NONE" if access.insecure else "CERT_REQUIRED",
        "ca_certs": None if is_folder else certificates,
        "ca_cert_dir": certificates if is_folder else None,
        "cert_file": access.client_certificate,
    }
    if proxy:
        url = urllib3.util.parse_url(proxy)
        headers = urllib3.make_headers(proxy_basic_auth=url.auth) if url.auth else None
        pool: PoolManager = urllib3.ProxyManager(proxy, proxy_headers=headers, **options)  # type: ignore[arg-type]
    else:
        pool = urllib3.PoolManager(**options)  # type: ignore[arg-type]
    pool.pool_classes_by_scheme = response_limits.pool_classes()
    return pool


def _is_folder(path: str) -> bool:
    from pathlib import Path

    return Path(path).is_dir()


def _query(fields: Mapping[str, object] | None) -> str:
    from urllib.parse import urlencode

    kept = {name: value for name, value in (fields or {}).items() if value is not None}
    return f"?{urlencode(kept, doseq=True)}" if kept else ""
