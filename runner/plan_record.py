"""Builds the part of a record that follows from the plan: tags, declared environment, the record of a dry run."""

import os

from msgspec import structs

from runner.manifest import shell_argv
from runner.model import EnvironmentKind, EnvironmentRecord, RunRecord
from runner.plan import Plan
from runner.settings import user_name

_MLFLOW_NAMES = {"local": None, "container": "docker"}
"""MLflow's names for the environment managers that it names differently; None: it has no name for them."""


def tags_of(plan: Plan) -> dict[str, str]:
    """Return the tags of a new run: those that MLflow defines, and those of proj."""
    code = plan.code
    tags = {
        "mlflow.user": user_name(),
        "mlflow.source.name": plan.source.name,
        "mlflow.source.type": "PROJECT",
        "mlflow.source.git.commit": code.commit,
        "mlflow.source.git.repoURL": code.remote,
        "mlflow.source.git.branch": code.branch,
        "mlflow.project.entryPoint": plan.entry_point.name,
        "mlflow.project.env": _MLFLOW_NAMES.get(plan.backend.name, plan.backend.name),
        "mlflow.project.backend": "local",
        "mlflow.parentRunId": os.environ.get("PROJ_RUN_ID"),
        "proj.tree": code.tree,
        "proj.swhid": code.swhid,
        "proj.dirty": str(code.dirty).lower(),
        "proj.ref": code.ref,
        "proj.subdirectory": code.subdirectory or None,
        "proj.metric": plan.manifest.metric,
        "proj.goal": plan.manifest.goal,
    }
    return {name: value for name, value in tags.items() if value}


def declared_record(plan: Plan, record: EnvironmentRecord) -> EnvironmentRecord:
    """Return the record of an environment with its declaration and the masked options of the container engine."""
    declaration = plan.entry_point.environment or plan.manifest.environment
    container = plan.spec.container if plan.executor.capabilities.runs_images else None
    key = "docker_env" if declaration.kind is EnvironmentKind.DOCKER_ENV else container and container.devcontainer
    given = [(name, value) for name, value in plan.request.container_options if container]
    gpus = [("gpus", container.gpus)] if container and container.gpus and "gpus" not in dict(given) else []
    # In `env=NAME=VALUE` the inner name decides whether the value is masked as a secret.
    inner = [(name, value if value is None else plan.masker.words((value,))[0]) for name, value in (*gpus, *given)]
    words = tuple(name if value is None else f"{name}={value}" for name, value in inner)
    return structs.replace(
        record,
        declared=declaration.path or key,
        engine_options=plan.masker.words(words),
    )


def describe_plan(plan: Plan) -> RunRecord:
    """Return the record of a plan; the fields that only a run can know are None."""
    project = plan.source.project
    is_named = bool(plan.experiment or plan.request.experiment_id)
    return RunRecord(
        run_id=None,
        run_name=plan.recorded_name,
        experiment=plan.experiment if is_named else plan.default_experiment,
        status=None,
        exit_code=None,
        started_at=None,
        ended_at=None,
        project=plan.source.name,
        entry_point=plan.entry_point.name,
        command=plan.recorded_command,
        argv=shell_argv(plan.recorded_command),
        cwd=str(project) if project else None,
        parameters=plan.masker.records(plan.parameters),
        metrics={},
        tags=tags_of(plan),
        code=plan.code,
        environment=structs.replace(
            declared_record(plan, plan.backend.plan(plan.environment_request())), repairs=plan.spec.repairs
        ),
        inputs=(),
        outputs=(),
        resources=None,
        machine=None,
        folder=None,
        log=None,
        repairs=plan.repairs,
        notices=plan.notices,
        template=plan.masker.text(plan.entry_point.command),
    )
