"""Maps exceptions to the error responses that MLflow clients expect; the only place that builds an error body."""

import errno
from enum import Enum

import msgspec
from msgspec import Struct

from runner.errors import AlreadyExistsError, InvalidValueError, NotFoundError, ProjError, StoreError


class ErrorCode(str, Enum):
    """The error codes of MLflow; each has one HTTP status.

    Clients of MLflow 1 fail on an unknown code, so only codes that MLflow 1.30 knows are used;
    ``NOT_IMPLEMENTED`` is returned by endpoints that only newer clients call.
    """

    BAD_REQUEST = "BAD_REQUEST"
    INVALID_PARAMETER_VALUE = "INVALID_PARAMETER_VALUE"
    RESOURCE_ALREADY_EXISTS = "RESOURCE_ALREADY_EXISTS"
    CUSTOMER_UNAUTHORIZED = "CUSTOMER_UNAUTHORIZED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_DOES_NOT_EXIST = "RESOURCE_DOES_NOT_EXIST"
    ENDPOINT_NOT_FOUND = "ENDPOINT_NOT_FOUND"
    RESOURCE_LIMIT_EXCEEDED = "RESOURCE_LIMIT_EXCEEDED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
    IO_ERROR = "IO_ERROR"
    TEMPORARILY_UNAVAILABLE = "TEMPORARILY_UNAVAILABLE"

    @property
    def http_status(self) -> int:
        """The HTTP status of the code."""
        return _STATUS[self]


_STATUS = {
    ErrorCode.BAD_REQUEST: 400,
    ErrorCode.INVALID_PARAMETER_VALUE: 400,
    ErrorCode.RESOURCE_ALREADY_EXISTS: 400,
    ErrorCode.CUSTOMER_UNAUTHORIZED: 401,
    ErrorCode.PERMISSION_DENIED: 403,
    ErrorCode.RESOURCE_DOES_NOT_EXIST: 404,
    ErrorCode.ENDPOINT_NOT_FOUND: 404,
    ErrorCode.RESOURCE_LIMIT_EXCEEDED: 413,
    ErrorCode.INTERNAL_ERROR: 500,
    ErrorCode.NOT_IMPLEMENTED: 501,
    # Clients do not retry this status for minutes: a full disk rarely recovers without help.
    ErrorCode.IO_ERROR: 507,
    # Clients retry this status, which helps when the database is locked.
    ErrorCode.TEMPORARILY_UNAVAILABLE: 503,
}


class RefusedError(ProjError):
    """A request that gets an error response of the protocol."""

    reference = "protocol"

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Response(Struct, frozen=True):
    """The response to a client: an HTTP status and a JSON body."""

    status: int
    body: bytes


class ErrorBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of every error response."""

    error_code: str
    message: str


def error_response(code: ErrorCode, message: str) -> Response:
    """Build an error response; no error body is built anywhere else."""
    return Response(code.http_status, msgspec.json.encode(ErrorBody(error_code=code.value, message=message)))


def response_for(error: Exception, home: str = "") -> Response:
    """Build the error response for an exception; an unexpected exception is an internal error.

    The path of ``home`` is removed from the message, because clients must not learn folders of the server.
    """
    code, message = _code_and_message(error)
    return error_response(code, message.replace(home, "…") if home else message)


def _code_and_message(error: Exception) -> tuple[ErrorCode, str]:
    for kind, code in _CODES:
        if isinstance(error, kind):
            is_busy = code is ErrorCode.IO_ERROR and "is locked" in str(error.__cause__)
            return ErrorCode.TEMPORARILY_UNAVAILABLE if is_busy else code, _message(error)
    if isinstance(error, RefusedError):
        return error.code, error.message
    if isinstance(error, RecursionError):
        return ErrorCode.BAD_REQUEST, "The JSON is nested too deeply."
    if isinstance(error, OSError) and error.errno in _FULL:
        return ErrorCode.IO_ERROR, "The disk of the server is full."
    if isinstance(error, ProjError):
        return ErrorCode.INTERNAL_ERROR, f"proj failed to answer: {error.message}"
    return ErrorCode.INTERNAL_ERROR, f"proj failed to answer: {type(error).__name__}; the server's log says more."


_FULL = (errno.ENOSPC, errno.EDQUOT)

# The first match applies, so a subclass stands above its base class.
_CODES: tuple[tuple[type[Exception], ErrorCode], ...] = (
    (NotFoundError, ErrorCode.RESOURCE_DOES_NOT_EXIST),
    (AlreadyExistsError, ErrorCode.RESOURCE_ALREADY_EXISTS),
    (InvalidValueError, ErrorCode.INVALID_PARAMETER_VALUE),
    # The other errors of the store are faults of the disk or of a file.
    (StoreError, ErrorCode.IO_ERROR),
    (msgspec.ValidationError, ErrorCode.INVALID_PARAMETER_VALUE),
    (msgspec.DecodeError, ErrorCode.BAD_REQUEST),
)


_OF_CLIENTS = (NotFoundError, AlreadyExistsError, InvalidValueError)


def _message(error: Exception) -> str:
    if isinstance(error, StoreError) and not isinstance(error, _OF_CLIENTS):
        return error.message  # context and hint name files and are meant for the operator of the server
    if isinstance(error, ProjError):
        return " ".join(part for part in (error.message, error.context, error.hint) if part)
    return str(error)
