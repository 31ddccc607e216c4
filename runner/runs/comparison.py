"""Compares runs by parameters, metrics, code, environment, inputs, outputs and machine."""

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct, structs

from runner.model import RunRecord

SOURCES = "parameter sources"
"""The section with the sources of the parameters: the default, a file, the command line."""
OUTPUTS = "outputs"

Values = Mapping[str, str | float | None]


class Line(Struct, frozen=True, kw_only=True):
    """A compared item; ``values`` has one entry per run, in order, and None where a run has no value."""

    section: str
    name: str
    values: tuple[str | float | None, ...]

    @property
    def differs(self) -> bool:
        """Whether the values differ between the runs; NaN equals NaN."""
        return len({str(value) if value is not None else None for value in self.values}) > 1


def compare_runs(records: Iterable[RunRecord], *, everything: bool = False) -> tuple[Line, ...]:
    """Return the items that differ between runs, or all compared items, grouped by section."""
    found = tuple(records)
    if all(record.template for record in found):
        # Paths and values are put in for each run; the values are compared as parameters.
        found = tuple(structs.replace(record, command=record.template) for record in found)
    lines: list[Line] = []
    for section, facts in _SECTIONS.items():
        each = [facts(record) for record in found]
        for name in dict.fromkeys(name for values in each for name in values):
            line = Line(section=section, name=name, values=tuple(values.get(name) for values in each))
            if section == SOURCES and None in line.values:
                continue  # a run without the parameter is among the parameters
            if everything or line.differs:
                lines.append(line)
    return tuple(lines)


def _run(record: RunRecord) -> Values:
    exit_code = None if record.exit_code is None else str(record.exit_code)
    return {
        "experiment": record.experiment,
        "project": record.project,
        "entry point": record.entry_point,
        "command": record.command,
        "status": record.status,
        "exit code": exit_code,
    }


def _parameters(record: RunRecord) -> Values:
    return {parameter.name: parameter.value for parameter in sorted(record.parameters, key=lambda one: one.name)}


def _code(record: RunRecord) -> Values:
    code = record.code
    if code is None:
        return {}
    return {
        "commit": code.commit,
        "tree": code.tree,
        "state": "dirty" if code.dirty else "clean",
        "branch": code.branch,
        "remote": code.remote,
        "subdirectory": code.subdirectory or None,
    }


def _environment(record: RunRecord) -> Values:
    environment = record.environment
    if environment is None:
        return {}
    return {
        "manager": environment.manager,
        "python": environment.python,
        "platform": environment.platform,
        "digest": environment.digest,
        "image": environment.image_digest or environment.image,
    }


def _packages(record: RunRecord) -> Values:
    return dict(sorted(record.environment.packages)) if record.environment else {}


def _inputs(record: RunRecord) -> Values:
    return {file.path: f"sha256 {file.sha256}" for file in record.inputs}


def _outputs(record: RunRecord) -> Values:
    return {file.path: f"sha256 {file.sha256}" for file in record.outputs}


def _machine(record: RunRecord) -> Values:
    machine = record.machine
    if machine is None:
        return {}
    return {
        "host": machine.host,
        "platform": machine.platform,
        "processor": machine.processor,
        "processors": str(machine.cpu_count),
        "memory": None if machine.memory is None else str(machine.memory),
        "gpus": ", ".join(machine.gpus) or None,
    }


def _sources(record: RunRecord) -> Values:
    return {parameter.name: parameter.source for parameter in sorted(record.parameters, key=lambda one: one.name)}


_SECTIONS: Mapping[str, Callable[[RunRecord], Values]] = {
    "run": _run,
    "parameters": _parameters,
    SOURCES: _sources,
    "metrics": lambda record: record.metrics,
    "code": _code,
    "environment": _environment,
    "packages": _packages,
    "inputs": _inputs,
    OUTPUTS: _outputs,
    "machine": _machine,
    "variables": lambda record: dict(record.machine.variables) if record.machine else {},
}
