"""Binds parameters for a run and repairs null defaults and paths of other machines."""

from collections.abc import Mapping

from msgspec import Struct

from runner.manifest.foreign_paths import with_own_files
from runner.manifest.null_defaults import omit_null_defaults
from runner.manifest.parameters import bind_parameters
from runner.model import EntryPoint, Parameter, ProjectFiles


class Binding(Struct, frozen=True, kw_only=True):
    """An entry point with the values of its parameters, and a text for each repair."""

    entry_point: EntryPoint
    parameters: tuple[Parameter, ...]
    repairs: tuple[str, ...] = ()


def bind_for_run(
    entry_point: EntryPoint,
    given: Mapping[str, str],
    from_file: Mapping[str, str],
    files: ProjectFiles,
    *,
    repair: bool,
) -> Binding:
    """Bind the values of an entry point.

    Raises:
        ParameterError: a value is missing or invalid; the error lists all faults.
    """
    if not repair:
        return Binding(entry_point=entry_point, parameters=bind_parameters(entry_point, given, from_file))
    omission = omit_null_defaults(entry_point, {*given, *from_file})
    bound = bind_parameters(omission.entry_point, given, from_file)
    parameters, of_paths = with_own_files(bound, files)
    return Binding(entry_point=omission.entry_point, parameters=parameters, repairs=(*omission.repairs, *of_paths))
