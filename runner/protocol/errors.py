"""Errors as MLflow's clients expect them; every error body is made here."""

import errno
from enum import Enum

import msgspec
from msgspec import Struct

from runner.errors import AlreadyExistsError, InvalidValueError, NotFoundError, ProjError, StoreError


class ErrorCode(str, Enum):
    """MLflow's words for what went wrong; each has one HTTP status.

    Clients of MLflow 1 fail on a word that they don't know, so there are only such that 1.30 knows;
    ``NOT_IMPLEMENTED`` is for questions that only newer clients ask.
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
        """The HTTP status that goes with the code."""
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
    # Not a status that clients try again for minutes: a full disk rarely gets better by itself.
    ErrorCode.IO_ERROR: 507,
    # Clients try this one again, which helps.
    ErrorCode.TEMPORARILY_UNAVAILABLE: 503,
}


class RefusedError(ProjError):
    """A request that is answered with an error of the protocol."""

    reference = "protocol"

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Answer(Struct, frozen=True):
    """What goes back to a client: a status and a JSON body."""

    status: int
    body: bytes


class ErrorBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of every answer that says what went wrong."""

    error_code: str
    message: str


def error_answer(code: ErrorCode, message: str) -> Answer:
    """Make the answer that says what went wrong; no error body is made anywhere else."""
    return Answer(code.http_status, msgspec.json.encode(ErrorBody(error_code=code.value, message=message)))


def answer_for(error: Exception, home: str = "") -> Answer:
    """Say in the protocol's words what an exception means; one that nobody foresaw is an internal error.

    Clients are told of no folder of the server: ``home`` is cut out of what is said.
    """
    code, words = _meaning(error)
    return error_answer(code, words.replace(home, "…") if home else words)


def _meaning(error: Exception) -> tuple[ErrorCode, str]:
    for kind, code in _CODES:
        if isinstance(error, kind):
            is_busy = code is ErrorCode.IO_ERROR and "is locked" in str(error.__cause__)
            return ErrorCode.TEMPORARILY_UNAVAILABLE if is_busy else code, _words(error)
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

# The first match wins, so a class stands above those that it derives from.
_CODES: tuple[tuple[type[Exception], ErrorCode], ...] = (
    (NotFoundError, ErrorCode.RESOURCE_DOES_NOT_EXIST),
    (AlreadyExistsError, ErrorCode.RESOURCE_ALREADY_EXISTS),
    (InvalidValueError, ErrorCode.INVALID_PARAMETER_VALUE),
    # What is left of the store's errors are those of the disk and the file.
    (StoreError, ErrorCode.IO_ERROR),
    (msgspec.ValidationError, ErrorCode.INVALID_PARAMETER_VALUE),
    (msgspec.DecodeError, ErrorCode.BAD_REQUEST),
)


_OF_CLIENTS = (NotFoundError, AlreadyExistsError, InvalidValueError)


def _words(error: Exception) -> str:
    if isinstance(error, StoreError) and not isinstance(error, _OF_CLIENTS):
        return error.message  # the rest names files, and what whoever runs the server can do
    if isinstance(error, ProjError):
        return " ".join(part for part in (error.message, error.context, error.hint) if part)
    return str(error)
