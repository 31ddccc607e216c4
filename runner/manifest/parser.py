"""Parses the manifest of a project; accepts all that MLflow accepts."""

from collections.abc import Mapping
from shlex import quote

from msgspec import Struct

from runner.errors import ManifestError
from runner.manifest.document import Field, Kind, Node, load_document, text_of
from runner.manifest.entries import read_entry_points
from runner.manifest.environment import KEYS, declare_environment, discover_environment
from runner.manifest.faults import Faults, quoted, raise_errors
from runner.manifest.files import folders_with
from runner.manifest.own_keys import read_primary_metric, read_tolerances
from runner.model import Manifest, ProjectFiles

EXACT = "MLproject"
WITH_EXTENSION = ("mlproject.yaml", "mlproject.yml")


class Reading(Struct, frozen=True, kw_only=True):
    """A manifest with the document that it was read from; faults of the top level are in ``faults``."""

    manifest: Manifest
    document: Node | None
    faults: Faults


def read_manifest(files: ProjectFiles, *, needs_environment: bool = True) -> Manifest:
    """Return the manifest of a project; without one, a manifest without entry points.

    Where the environment is not needed as declared, an absent environment file is tolerated.

    Faults of an entry point are kept with it and do not keep others from being run.

    Raises:
        ManifestError: the file can't be read, or its top level makes no sense.
    """
    reading = parse_manifest(files, needs_environment=needs_environment)
    raise_errors(reading.faults.found)
    return reading.manifest


def find_manifest(files: ProjectFiles) -> str | None:
    """Return the name of the manifest in a project folder: ``MLproject`` in any letter case, without extension.

    Raises:
        ManifestError: several spellings are there, and none is the exact one.
    """
    names = [name for name in files.names() if name.lower() == EXACT.lower()]
    if EXACT in names or not names:
        return EXACT if names else None
    if len(names) > 1:
        raise ManifestError(
            f"{quoted(names)} are both manifests, and neither is spelled '{EXACT}'", hint="keep one, or rename one"
        )
    return names[0]


def explain_absence(files: ProjectFiles) -> str | None:
    """Return a hint that names the file that is probably meant to be the manifest, or None."""
    names = files.names()
    found = next((name for name in names if name.lower() in WITH_EXTENSION), None)
    if found:
        return f"'{found}' is not read: a manifest has no extension; rename it to '{EXACT}'"
    below = folders_with(EXACT.lower(), files)
    if not below:
        return None
    first, is_one = quote(below[0]), len(below) == 1
    where = f"the manifest is in the folder '{below[0]}'" if is_one else f"manifests are in {quoted(below[:5])}"
    return f"{where}: `proj run {first}`, or with a git address ADDRESS#{first}"


def parse_manifest(files: ProjectFiles, *, needs_environment: bool = True) -> Reading:
    """Return the manifest with all its faults; faults are returned, not raised.

    Raises:
        ManifestError: there are several manifests, or the file is not YAML.
    """
    file = find_manifest(files)
    faults = Faults(file or EXACT, needs_environment=needs_environment)
    content = None if file is None else files.read(file)
    document = None if file is None or content is None else load_document(file, content)
    if document is None or document.kind is not Kind.MAPPING:
        if document is not None and not document.is_null:
            faults.error(document.position, f"'{file}' must be a mapping of keys to values")
        manifest = Manifest(path=file, environment=discover_environment(files), faults=tuple(faults.found))
        return Reading(manifest=manifest, document=None, faults=faults)
    return Reading(manifest=_read_top(document, files, faults), document=document, faults=faults)


def _read_top(document: Node, files: ProjectFiles, faults: Faults) -> Manifest:
    entries = document.field("entry_points")
    if entries is not None and entries.kind is not Kind.MAPPING:
        faults.error(entries.position, "'entry_points' must be a mapping of names to entry points")
        entries = None
    name = document.field("name")
    _refuse_databricks(document.fields, faults)
    environment = declare_environment(document.fields, files, faults)
    experiment = _read_experiment(document.field("experiment"), faults)
    tolerance = read_tolerances(document.field("tolerance"), faults)
    metric, goal = read_primary_metric(document.field("metric"), faults)
    return Manifest(
        path=faults.file,
        name=None if name is None else text_of(name),
        entry_points=read_entry_points(entries, files, faults.file),
        environment=environment,
        experiment=experiment,
        tolerance=tolerance,
        metric=metric,
        goal=goal,
        faults=tuple(faults.found),
    )


def _read_experiment(node: Node | None, faults: Faults) -> str | None:
    if node is not None and (node.kind is not Kind.SCALAR or not text_of(node)):
        faults.warning(node.position, "'experiment' is not a name, so it is not used")
        return None
    return None if node is None else text_of(node)


def _refuse_databricks(fields: Mapping[str, Field], faults: Faults) -> None:
    """Report the faults of a Databricks job in MLflow's order; the last one is that it can't run here."""
    job = fields.get("databricks_spark_job")
    if job is None or job.value.is_null:
        return
    position = job.key.position
    script = job.value.field("python_file")
    entries = fields["entry_points"].value if "entry_points" in fields else None
    keys = sorted(set(KEYS) & set(fields))
    if script is not None and entries is not None:
        faults.error(position, "'python_file' of 'databricks_spark_job' and 'entry_points' exclude each other")
    elif script is None and entries is None:
        faults.error(position, "'databricks_spark_job' needs a 'python_file', or the manifest 'entry_points'")
    elif keys:
        faults.error(position, f"'databricks_spark_job' excludes {quoted(keys)}")
    else:
        for name in _path_parameters(entries):
            faults.error(position, f"'databricks_spark_job' takes no parameter of type path, and '{name}' is one")
        faults.error(position, "a 'databricks_spark_job' can't be run here", "take it out to run the project locally")


def _path_parameters(entries: Node | None) -> list[str]:
    found = []
    for entry in entries.fields.values() if entries is not None else ():
        parameters = entry.value.field("parameters")
        for name, field in parameters.fields.items() if parameters is not None else ():
            kind = field.value.field("type") or field.value
            if kind.source == "path":
                found.append(name)
    return found
