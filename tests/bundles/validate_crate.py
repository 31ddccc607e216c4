"""Validates a crate with roc-validator, without a network: ``python validate_crate.py FOLDER``.

It runs in an environment of its own, with roc-validator and rocrate. The terms of RO-Crate come from the package
rocrate, whose file is of a later version of the same context.
"""

import json
import sys
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import rdflib.plugins.shared.jsonld.context as contexts
import requests
from rocrate_validator import models, services
from rocrate_validator.utils.http import HttpRequester

URL = "https://w3id.org/ro/crate/1.1/context"
TERMS = (files("rocrate") / "data" / "ro-crate.jsonld").read_bytes()

_load = contexts.source_to_json


def load(source: Any, *words: Any, **more: Any) -> Any:
    return (json.loads(TERMS), None) if str(source).startswith(URL) else _load(source, *words, **more)


def get(_self: HttpRequester, url: str, **_more: Mapping[str, str]) -> requests.Response:
    answer = requests.Response()
    answer.status_code = 200 if url == URL else 404
    answer.url, answer._content = url, TERMS
    answer.headers["Content-Type"] = "application/ld+json"
    return answer


contexts.source_to_json = load
HttpRequester.get = get
settings = services.ValidationSettings(
    rocrate_uri=sys.argv[1],
    profile_identifier="process-run-crate-0.5",
    requirement_severity=models.Severity.RECOMMENDED,
)
for issue in services.validate(settings).get_issues():
    print(f"{issue.severity.name} {issue.check.identifier} {issue.check.name}: {issue.message}")
print("validated")
