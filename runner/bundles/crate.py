"""Describes a bundle as a research object: RO-Crate 1.1 with the profile Process Run Crate 0.5.

https://www.researchobject.org/ro-crate/specification/1.1/ and https://www.researchobject.org/workflow-run-crate/profiles/
"""

import mimetypes
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote

from runner.base.tags import USER_TAG
from runner.bundles import layout
from runner.bundles.content import Content
from runner.bundles.layout import BundledInput, BundleFile
from runner.model import RunRecord, RunStatus

CRATE_VERSION = "https://w3id.org/ro/crate/1.1"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_ACTION, _AGENT, _LICENSE = "#run", "#agent", "#license"
_DIGEST = {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}
_DESCRIPTIONS = {
    layout.RECORD: "The record of the run: code, environment, parameters, inputs, outputs, machine, resources",
    layout.HISTORY: "All points of all metrics: name, step, time in milliseconds since 1970, value",
    layout.CODE: "The code of the run as a git bundle",
    layout.LOG: "What the command printed",
    layout.LOGGED: "What MLflow clients logged besides: datasets and models",
    layout.VERDICTS: "The reproductions of the run and their verdicts",
    layout.README: "What this bundle is, and how to use it",
}

Entity = dict[str, object]


def describe_crate(content: Content, files: Iterable[BundleFile]) -> Mapping[str, object]:
    """Return the JSON-LD document that describes the files of a bundle and the run that made them."""
    record = content.record
    listed = list(files)
    described = [_file_entity(one) for one in listed]
    parameters = list(_parameters(record))
    elsewhere = [_absent_input(one) for one in content.inputs if not one.included]
    graph: list[Entity] = [
        _descriptor(),
        _root(record, listed),
        {
            "@id": PROFILE,
            "@type": "CreativeWork",
            "name": "Process Run Crate",
            "version": "0.5",
        },
        _action(content, listed, parameters, elsewhere),
        {
            "@id": _LICENSE,
            "@type": "CreativeWork",
            "name": "Terms of the project",
            "description": f"The terms that the project itself names apply; its files are in {layout.CODE}.",
        },
        {"@id": _AGENT, "@type": "Person", "name": record.tags.get(USER_TAG) or "unknown"},
        _program(record),
        _environment(record),
        *described,
        *parameters,
        *elsewhere,
    ]
    return {"@context": [f"{CRATE_VERSION}/context", _DIGEST], "@graph": graph}


def _descriptor() -> Entity:
    about = {"@id": "./"}
    return {"@id": layout.CRATE, "@type": "CreativeWork", "about": about, "conformsTo": {"@id": CRATE_VERSION}}


def _root(record: RunRecord, files: Iterable[BundleFile]) -> Entity:
    title = f"{_project(record)}: run {record.run_name or ''} ({(record.run_id or '')[:8]})"
    return {
        "@id": "./",
        "@type": "Dataset",
        "name": title,
        "description": f"One recorded run of {_project(record)} with all that is needed to derive its results again.",
        "datePublished": record.ended_at or record.started_at or "1970-01-01",
        "license": {"@id": _LICENSE},
        "author": {"@id": _AGENT},
        "conformsTo": {"@id": PROFILE},
        "hasPart": [_reference(one.path) for one in files],
        "mentions": {"@id": _ACTION},
    }


def _action(
    content: Content, files: Iterable[BundleFile], parameters: Iterable[Entity], elsewhere: Iterable[Entity]
) -> Entity:
    record = content.record
    read = [_reference(one.path) for one in files if one.path.startswith(f"{layout.INPUTS}/")]
    made = (layout.OUTPUTS, layout.MODELS, layout.HISTORY, layout.LOG)
    entity: Entity = {
        "@id": _ACTION,
        "@type": "CreateAction",
        "name": f"Run {record.run_id} of {record.entry_point}",
        "description": record.command or "",
        "instrument": {"@id": _program_id(record)},
        "agent": {"@id": _AGENT},
        "object": [*read, *({"@id": one["@id"]} for one in (*parameters, *elsewhere))],
        "result": [_reference(one.path) for one in files if one.path.split("/")[0] in made],
        "actionStatus": _status(record),
    }
    for key, moment in (("startTime", record.started_at), ("endTime", record.ended_at)):
        if moment:
            entity[key] = moment.replace("Z", "+00:00")
    if record.reason and record.status != RunStatus.FINISHED.value:
        entity["error"] = record.reason
    return entity


def _status(record: RunRecord) -> str:
    word = "CompletedActionStatus" if record.status == RunStatus.FINISHED.value else "FailedActionStatus"
    return f"http://schema.org/{word}"


def _program(record: RunRecord) -> Entity:
    code = record.code
    entity: Entity = {
        "@id": _program_id(record),
        "@type": "SoftwareApplication",
        "name": f"{_project(record)}, entry point {record.entry_point}",
        "softwareVersion": (code.commit or code.tree) if code else "unknown",
        "identifier": code.swhid if code else "",
        "softwareRequirements": {"@id": _environment_id(record)},
        "url": code.remote if code and code.remote and "://" in code.remote else _program_id(record),
    }
    return entity


def _program_id(record: RunRecord) -> str:
    return f"urn:{record.code.swhid}" if record.code else "urn:proj:unknown"


def _environment_id(record: RunRecord) -> str:
    environment = record.environment
    return f"urn:proj:environment:{(environment.digest if environment else None) or 'none'}"


def _environment(record: RunRecord) -> Entity:
    environment = record.environment
    packages = ", ".join(f"{name} {version}" for name, version in environment.packages) if environment else ""
    return {
        "@id": _environment_id(record),
        "@type": "SoftwareApplication",
        "name": f"Python {environment.python}" if environment and environment.python else "environment",
        "softwareVersion": (environment.python if environment else None) or "unknown",
        "description": packages or "no packages",
        "url": _environment_id(record),
    }


def _parameters(record: RunRecord) -> Iterator[Entity]:
    for number, one in enumerate(record.parameters):
        yield {"@id": f"#parameter-{number}", "@type": "PropertyValue", "name": one.name, "value": one.value}


def _absent_input(one: BundledInput) -> Entity:
    """Describe an input that the bundle only has the digest of."""
    return {
        "@id": f"#input-{one.sha256}",
        "@type": "CreativeWork",
        "name": one.path,
        "sha256": one.sha256,
        "description": f"{one.size} bytes, not included",
    }


def _file_entity(one: BundleFile) -> Entity:
    kind = "text/markdown" if one.path.endswith(".md") else mimetypes.guess_type(one.path)[0]
    return {
        **_reference(one.path),
        "@type": "File",
        "name": one.path,
        "description": _DESCRIPTIONS.get(one.path, one.path.split("/")[0]),
        "contentSize": str(one.size),
        "encodingFormat": kind or "application/octet-stream",
        "sha256": one.sha256,
    }


def _reference(path: str) -> Entity:
    return {"@id": quote(path)}


def _project(record: RunRecord) -> str:
    return (record.project or "a project").rstrip("/").rpartition("/")[2] or "a project"
