"""Reads a conda environment file for the `conda` backend, which installs it without mapping."""

import hashlib
import re
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from runner.base.yaml_document import Kind
from runner.environments.declare.conda.files import select_lines
from runner.environments.declare.conda.mapping import read_pip
from runner.environments.declare.positions import Document, parse
from runner.environments.declare.requirements import RequirementReader
from runner.environments.declare.source_trees import metadata_digest
from runner.environments.specs import CondaFile, PythonSpec, collect, specify
from runner.errors import EnvironmentSetupError
from runner.model import EnvironmentKind, ProjectFiles
from runner.urls import without_channel_credentials, without_credentials

FORMAT = 1
PYTHON = re.compile(r"(?:[^\s:]+::)?python(?=$|[\s=<>!~\[])[\s=]*(?P<version>[\d.]+)?")


class CondaSpec(Struct, frozen=True, kw_only=True):
    """The content of a conda file for one platform.

    ``channels`` are as declared and may hold credentials; ``specs`` are conda's match specifications; ``pip`` is the
    part under ``pip:``; ``variables`` are environment variables that the environment sets.
    """

    file: str
    channels: tuple[str, ...]
    specs: tuple[str, ...]
    pip: PythonSpec
    variables: Mapping[str, str] = {}
    platforms: tuple[str, ...] = ()
    """The platforms to lock for; conda-lock reads the same key."""

    @property
    def python(self) -> str | None:
        """The version of Python that the file pins, or None."""
        found = (PYTHON.match(spec) for spec in self.specs)
        return next((match["version"] for match in found if match), None)

    def digest(self, platform: str, files: ProjectFiles | None) -> str:
        """Return a digest of everything that determines the lock for a platform."""
        pip = self.pip
        value = (
            FORMAT,
            platform,
            [without_channel_credentials(channel) for channel in self.channels],
            sorted(self.specs),
            [without_credentials(line) for line in (*pip.requirements, "", *pip.constraints)],
            [option for option in pip.options if "binary" in option or "--pre" in option],
            [(package.text, metadata_digest(files, package.path)) for package in pip.local_packages],
        )
        return hashlib.sha256(msgspec.json.encode(value)).hexdigest()


def read_conda_spec(file: CondaFile, files: ProjectFiles | None, platform: str) -> CondaSpec:
    """Return the content of a conda file for a platform.

    Raises:
        EnvironmentSetupError: the file can't be read; the message lists all faults.
    """
    document = parse(file.path, select_lines(file.text, platform).encode())
    faults: list[str] = []
    items = document.items("dependencies", faults)
    channels = document.items("channels", faults)
    platforms = document.items("platforms", faults)
    if faults:
        raise EnvironmentSetupError(f"{file.path} can't be used: {'; '.join(faults)}", context=file.path)
    lines = collect()
    for item in items:
        if item.is_nested:
            if files is None:
                raise EnvironmentSetupError("the pip part of a conda file needs the project's files")
            read_pip(document, item, RequirementReader(files, lines))
    return CondaSpec(
        file=file.path,
        channels=tuple(channel.text for channel in channels),
        specs=tuple(item.text.strip("'\" ") for item in items if not item.is_nested),
        pip=specify(EnvironmentKind.CONDA_ENV, file.path, lines),
        variables=_variables(document),
        platforms=tuple(item.text for item in platforms),
    )


def _variables(document: Document) -> dict[str, str]:
    found = document.values.get("variables")
    fields = found.value.fields if found is not None else {}
    return {name: field.value.source for name, field in fields.items() if field.value.kind is Kind.SCALAR}
