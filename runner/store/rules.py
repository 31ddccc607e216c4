"""Validates names and values by MLflow's rules, so that stored values can be sent to MLflow servers.

The limits are from https://mlflow.org/docs/latest/rest-api.html. Values may be longer here: MLflow truncates them,
which loses data.
"""

import posixpath
import re

from runner.errors import InvalidValueError
from runner.store.entities import Metric

MAX_NAME = 250
"""Maximum number of characters of the name of a parameter, metric or tag."""
MAX_EXPERIMENT_NAME = 500
MAX_MODEL_NAME = 256
MAX_VALUE = 65_536
"""Maximum number of characters of the value of a parameter or tag."""
MAX_BATCH = {"metrics": 1000, "params": 100, "tags": 100}
"""Maximum number of entries of one log-batch request."""
MAX_BATCH_TOTAL = 1000

_NAME = re.compile(r"[/\w.\- :]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_INT64 = 2**63


def check_name(what: str, name: object) -> str:
    """Return the name of a parameter, metric or tag after checking it.

    Raises:
        InvalidValueError: the name is empty, too long, has invalid characters, or is not a normalized path.
    """
    if not isinstance(name, str) or not name:
        raise InvalidValueError(f"The name of the {what} is empty")
    if len(name) > MAX_NAME:
        raise InvalidValueError(
            f"The name of a {what} has {len(name)} characters; the limit is {MAX_NAME}", context=f"{name[:60]}…"
        )
    if not _NAME.fullmatch(name):
        raise InvalidValueError(
            f"Invalid name of a {what}: '{_shown(name)}'",
            hint="Names may have letters, digits, underscores, dashes, periods, spaces, colons and slashes.",
        )
    if posixpath.normpath(name) != name or name == "." or name.startswith(("..", "/")):
        raise InvalidValueError(
            f"Invalid name of a {what}: '{name}'", hint="A name must be a normalized relative path."
        )
    return name


def check_value(what: str, key: str, value: object) -> str:
    """Return the text of a parameter or tag after checking it.

    Raises:
        InvalidValueError: the value is not text or is too long.
    """
    if not isinstance(value, str):
        raise InvalidValueError(f"The value of {what} '{key}' is not text")
    if len(value) > MAX_VALUE:
        raise InvalidValueError(
            f"The value of {what} '{key}' has {len(value)} characters; the limit is {MAX_VALUE}",
            hint="Write it to a file and log that as an artifact.",
        )
    return value


def check_experiment_name(name: object) -> str:
    """Return the name of an experiment after checking it.

    Raises:
        InvalidValueError: the name is empty, too long or has control characters.
    """
    if not isinstance(name, str) or not name.strip():
        raise InvalidValueError("The name of the experiment is empty")
    if len(name) > MAX_EXPERIMENT_NAME:
        raise InvalidValueError(
            f"The name of the experiment has {len(name)} characters; the limit is {MAX_EXPERIMENT_NAME}"
        )
    if _CONTROL.search(name):
        raise InvalidValueError(f"Invalid name of an experiment: '{_shown(name)}'")
    return name


def check_model_name(name: object) -> str:
    """Return the name of a registered model after checking it; names become part of URIs.

    Raises:
        InvalidValueError: the name is empty, too long, has ``/``, ``:`` or control characters, or is not normalized.
    """
    if not isinstance(name, str) or not name.strip():
        raise InvalidValueError("Missing value for required parameter 'name'.")
    if len(name) > MAX_MODEL_NAME:
        raise InvalidValueError(
            f"The name of the registered model has {len(name)} characters; the limit is {MAX_MODEL_NAME}"
        )
    if any(letter in name for letter in "/:") or _CONTROL.search(name) or name in (".", ".."):
        raise InvalidValueError(
            f"Invalid model name: '{_shown(name)}'", hint="Names cannot contain '/', ':' or control characters."
        )
    return name


def check_metric(metric: Metric) -> Metric:
    """Return a metric after checking name, value, time and step; the value may be NaN or infinite.

    Raises:
        InvalidValueError: one of them is invalid.
    """
    check_name("metric", metric.key)
    if isinstance(metric.value, bool) or not isinstance(metric.value, float | int):
        raise InvalidValueError(f"The value of metric '{metric.key}' is not a number")
    for what, number in (("timestamp", metric.timestamp), ("step", metric.step)):
        check_integer(f"The {what} of metric '{metric.key}'", number)
    return metric


def check_integer(what: str, number: object) -> int:
    """Return an integer after checking that it fits 64 bits.

    Raises:
        InvalidValueError: the number does not fit or is not an integer.
    """
    if isinstance(number, bool) or not isinstance(number, int) or not -_INT64 <= number < _INT64:
        raise InvalidValueError(f"{what} is not a 64-bit integer")
    return number


def check_batch(*, metrics: int, params: int, tags: int) -> None:
    """Refuse a batch with more entries than MLflow accepts.

    Raises:
        InvalidValueError: there are too many entries of one kind, or in total.
    """
    for what, count in (("metrics", metrics), ("params", params), ("tags", tags)):
        if count > MAX_BATCH[what]:
            raise InvalidValueError(f"A batch can have {MAX_BATCH[what]} {what}; got {count}")
    if metrics + params + tags > MAX_BATCH_TOTAL:
        raise InvalidValueError(f"A batch can have {MAX_BATCH_TOTAL} entries; got {metrics + params + tags}")


def _shown(name: str) -> str:
    return _CONTROL.sub("?", name[:80])
