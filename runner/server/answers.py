"""Errors as MLflow's clients expect them; every error body is made here."""

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


def answer_for(error: Exception) -> Answer:
    """Say in the protocol's words what an exception means; one that nobody foresaw is an internal error."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return error_answer(code, _words(error))
    if isinstance(error, RefusedError):
        return error_answer(error.code, error.message)
    return error_answer(ErrorCode.INTERNAL_ERROR, f"proj failed to answer: {type(error).__name__}: {error}")


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


def _words(error: Exception) -> str:
    if isinstance(error, ProjError):
        return " ".join(part for part in (error.message, error.context, error.hint) if part)
    return str(error)
