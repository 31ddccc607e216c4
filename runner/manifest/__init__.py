"""Reads MLproject files: parses the manifest, selects the entry point, binds parameters and renders the command."""

from runner.manifest.binding import bind_for_run
from runner.manifest.command import render_command, secret_texts, shell_argv
from runner.manifest.entrypoints import find_entry_point
from runner.manifest.files import FolderFiles
from runner.manifest.foreign_paths import PathReplacement, find_replacements
from runner.manifest.inputs import declaring_line, find_inputs
from runner.manifest.own_command import (
    command_again,
    entry_point_of,
    recorded_arguments,
    require_own_files,
    shell_operator,
)
from runner.manifest.parameters import bind_parameters, read_parameters_file, spell_numbers
from runner.manifest.paths import Download, InputParameter, PathRules, find_downloads, find_path_inputs, find_paths
from runner.manifest.preflight import PlannedCommand, preflight, serve_hint, served_address
from runner.manifest.variables import PassedVariables, read_variables

__all__ = [
    "Download",
    "FolderFiles",
    "InputParameter",
    "PassedVariables",
    "PathReplacement",
    "PathRules",
    "PlannedCommand",
    "bind_for_run",
    "bind_parameters",
    "command_again",
    "declaring_line",
    "entry_point_of",
    "find_downloads",
    "find_entry_point",
    "find_inputs",
    "find_path_inputs",
    "find_paths",
    "find_replacements",
    "preflight",
    "read_parameters_file",
    "read_variables",
    "recorded_arguments",
    "render_command",
    "require_own_files",
    "secret_texts",
    "serve_hint",
    "served_address",
    "shell_argv",
    "shell_operator",
    "spell_numbers",
]
