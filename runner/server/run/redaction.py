"""Removes secrets from the requests that a command sends to the server of its run."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from runner.base.masking import Masker

_IDS = frozenset({
    *("run_id", "run_uuid", "run_ids", "source_run_id", "experiment_id", "experiment_ids", "model_id", "model_ids"),
    *("artifact_location", "artifact_uri", "page_token", "run_link", "source", "storage_location", "upload_id"),
    *("dataset_digest", "digest", "status", "version"),
})  # fmt: skip
"""Fields that refer to existing objects; they can contain the digits of a secret by chance."""
_NAMES = frozenset({"key", "name", "new_name", "metric_key"})


def redact_request(body: bytes, masker: Masker, public: Mapping[str, str]) -> bytes:
    """Return the JSON body of a request without secrets; a metric whose value is a secret becomes NaN.

    ``public`` are the parameters of the run that are not secret; logging one of them again changes nothing.
    """
    try:
        fields = msgspec.json.decode(body or b"{}")
        return msgspec.json.encode(_Redaction(masker, public).value(fields))
    except (msgspec.DecodeError, RecursionError):
        return body  # the endpoint reports the invalid JSON


class _Redaction:
    def __init__(self, masker: Masker, public: Mapping[str, str]) -> None:
        self._masker = masker
        self._public = public

    def value(self, value: Any) -> Any:  # noqa: ANN401  JSON is of any type
        """Return a value without secrets."""
        if isinstance(value, str):
            return self._masker.text(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        return self._object(value) if isinstance(value, dict) else value

    def _object(self, fields: dict[str, Any]) -> dict[str, Any]:
        key, value = fields.get("key"), fields.get("value")
        if isinstance(value, str) and isinstance(key, str) and self._public.get(key) == value:
            return fields
        found = {name: self._field(name, one) for name, one in fields.items()}
        if key is not None and self._is_secret_number(value):
            found["value"] = "NaN"
        return found

    def _field(self, name: str, value: Any) -> Any:  # noqa: ANN401  JSON is of any type
        if name in _IDS:
            return value
        return self._masker.name(value) if name in _NAMES and isinstance(value, str) else self.value(value)

    def _is_secret_number(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return not (isinstance(value, float) and math.isnan(value)) and self._masker.is_number(value)
