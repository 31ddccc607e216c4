"""Describes the keys of a manifest for `proj check`, and as JSON Schema for editors."""

from typing import Any

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCALAR = ["string", "number", "boolean", "null"]

TYPES = {
    "string": "Any text.",
    "int": "An integer.",
    "float": "A number.",
    "bool": "true or false.",
    "flag": "true or false; {NAME} in the command becomes --NAME or nothing.",
    "path": "A file or folder, looked up in the caller's folder and then in the project; https URLs are fetched.",
    "uri": "Anything with a scheme, passed on as it is.",
}
OTHER_NAMES = ("str", "integer", "number", "boolean")
"""Further names of types; every other name means text, as in MLflow."""


def _text(description: str) -> Schema:
    return {"description": description, "type": ["string", "null"]}


def _file(description: str) -> Schema:
    return {"description": description, "type": ["string", "null"], "examples": ["python_env.yaml"]}


def _texts(description: str) -> Schema:
    return {"description": description, "type": ["string", "array", "null"], "items": {"type": "string"}}


def _number(description: str, **rules: float) -> Schema:
    return {"description": description, "type": ["number", "null"], **rules}


def _mapping(description: str, properties: Schema, **rules: object) -> Schema:
    return {"description": description, "type": ["object", "null"], "properties": properties, **rules}


TOLERANCE = "By how much numbers may differ and still count as the same when a run is reproduced."

BUILD = {
    "context": {
        "description": "Folder that the build sees; of it, the files that git does not ignore.",
        "type": "string",
    },
    "dockerfile": {"description": "The Dockerfile or Containerfile, relative to the context.", "type": "string"},
    "args": {
        "description": "Arguments of the build.",
        "type": ["object", "null"],
        "additionalProperties": {"type": SCALAR},
    },
    "target": {"description": "The stage to build.", "type": "string"},
}

DOCKER = {
    "image": {"description": "Name of the image.", "type": "string", "minLength": 1},
    "build": {
        "description": "Have the image built from the project: the folder of a Dockerfile, or a mapping.",
        "type": ["string", "object", "null"],
        "properties": BUILD,
    },
    "devcontainer": {"description": "A devcontainer.json that names the image or its Dockerfile.", "type": "string"},
    "gpus": {"description": "GPUs as docker's --gpus names them: all, a number, device=0,1.", "type": SCALAR},
    "volumes": {
        "description": "Folders to mount, as docker's --volume takes them; relative ones are those of the project.",
        "type": ["array", "null"],
        "items": {"type": "string"},
    },
    "environment": {
        "description": "Variables: a name is copied from the caller, a [name, value] pair is set.",
        "type": ["array", "null"],
        "items": {"type": ["string", "array"], "items": {"type": SCALAR}, "minItems": 2, "maxItems": 2},
    },
}

ENVIRONMENTS = {
    "python_env": _file("Path of a python_env file: python, build_dependencies, dependencies."),
    "conda_env": _file("Path of a conda environment file."),
    "docker_env": _mapping(
        "A container image to run in.",
        DOCKER,
        anyOf=[{"required": ["image"]}, {"required": ["build"]}, {"required": ["devcontainer"]}],
    ),
}

PARAMETER = {
    "type": {
        "description": "The type, checked where a user gives a value: " + ", ".join([*TYPES, *OTHER_NAMES]) + ".",
        "examples": list(TYPES),
    },
    "default": {"description": "The value when none is given. Without it, or with null, the parameter is required."},
    "description": _text("What the parameter is for."),
    "choices": {
        "description": "The only values that a user may give.",
        "type": ["array", "null"],
        "items": {"type": SCALAR},
    },
    "min": _number("The least number that a user may give."),
    "max": _number("The largest number that a user may give."),
    "secret": {"description": "Keep the value out of records and logs.", "type": ["boolean", "null"]},
}

METRICS_FILE = {
    "path": {"description": "The file.", "type": "string"},
    "tolerance": _number(TOLERANCE, minimum=0),
}

ENTRY_POINT = {
    "command": {
        "description": "Command line for bash. {NAME} is replaced by the quoted value of a parameter; "
        "${NAME} is left to the shell unless it names a parameter; {{ and }} are braces.",
        "type": "string",
    },
    "parameters": _mapping(
        "Parameters by name. Others that a user gives are added to the command as --NAME VALUE.",
        {},
        additionalProperties={
            "description": "A type, or a declaration.",
            "type": ["string", "object", "null"],
            "properties": PARAMETER,
        },
    ),
    "description": _text("What the entry point does."),
    "inputs": {
        "description": "Files, folders or patterns that the command reads; their digests are recorded. "
        "With a mapping, 'copy' gives each run a copy that it may change.",
        "type": ["string", "array", "object", "null"],
        "items": {"type": "string"},
        "additionalProperties": {"enum": ["copy", "link", None]},
    },
    "outputs": _texts("Files or folders that the command writes."),
    "metrics": {
        "description": "Files of numbers that the command writes: JSON, or name=value lines.",
        "type": ["string", "array", "object", "null"],
        "properties": METRICS_FILE,
        "items": {"type": ["string", "object"], "properties": METRICS_FILE, "required": ["path"]},
    },
    "env": {
        "description": "Environment variables for the command: names and values, or a list in which a name alone takes "
        "the caller's value, which is masked.",
        "type": ["object", "array", "null"],
        "additionalProperties": {"type": SCALAR},
        "items": {"type": ["string", "object"], "additionalProperties": {"type": SCALAR}},
    },
    "env_file": _texts("Files of variables in the project folder, such as .env; their values are masked."),
    "timeout": {
        "description": "Time after which the command is stopped: seconds, or a text like 90s, 10m, 1h30m.",
        "type": ["number", "string", "null"],
        "exclusiveMinimum": 0,
    },
    "environment": {
        "description": "An environment of its own: the path of a file, or one of the environment keys.",
        "type": ["string", "object", "null"],
        "properties": ENVIRONMENTS,
    },
    "ignore": {
        "description": "Regular expressions for texts that a reproduction does not compare, by output.",
        "type": ["object", "null"],
        "additionalProperties": {"type": ["string", "array"], "items": {"type": "string"}},
    },
    "needs": _texts("Entry points that run before this one."),
    "promote": _mapping("When and as what the model of a run is registered.", {}),
}

METRIC = {
    "name": {"description": "Name of the metric.", "type": "string", "minLength": 1},
    "goal": {"description": "Which value is the best.", "enum": ["max", "min", None]},
}

TOP = {
    "name": {"description": "Name of the project.", "type": SCALAR},
    **ENVIRONMENTS,
    "databricks_spark_job": _mapping("A job for Databricks; it can't be run by proj.", {}),
    "entry_points": _mapping(
        "What can be run, by name; main is run by default.",
        {},
        additionalProperties={
            "description": "A command with its parameters.",
            "type": "object",
            "properties": ENTRY_POINT,
            "required": ["command"],
        },
    ),
    "experiment": _text("Experiment that runs are recorded in unless the user names one."),
    "tolerance": {
        "description": f"{TOLERANCE} One number, or one for each metric.",
        "type": ["number", "object", "null"],
        "minimum": 0,
        "additionalProperties": {"type": "number", "minimum": 0},
    },
    "metric": {
        "description": "The primary metric, which lists show first: its name, or name and goal.",
        "type": ["string", "object", "null"],
        "properties": METRIC,
        "required": ["name"],
    },
}


def json_schema() -> Schema:
    """Return the JSON Schema 2020-12 of manifests; like MLflow it tolerates keys that it does not know."""
    return {
        "$schema": DIALECT,
        "title": "MLproject",
        "description": "A project for proj and MLflow, in a file called MLproject.",
        "type": ["object", "null"],
        "properties": TOP,
    }
