"""Builds the part of a record that follows from the plan: tags, declared environment, the record of a dry run."""

import os

from msgspec import structs

from runner.base.tags import (
    BRANCH_TAG,
    COMMIT_TAG,
    DIRTY_TAG,
    ENTRY_POINT_TAG,
    GOAL_TAG,
    METRIC_TAG,
    PARENT_TAG,
    REF_TAG,
    REMOTE_TAG,
    REPAIR_TAG,
    RERUNS_TAG,
    RESUMES_TAG,
    SOURCE_NAME_TAG,
    SOURCE_TYPE_TAG,
    SUBDIRECTORY_TAG,
    SWHID_TAG,
    TREE_TAG,
    USER_TAG,
)
from runner.manifest import shell_argv
from runner.model import EnvironmentKind, EnvironmentRecord, Parameter, ParameterRecord, RunRecord
from runner.plan import Plan
from runner.settings import user_name

_MLFLOW_NAMES = {"local": None, "container": "docker"}
"""MLflow's names for the environment managers that it names differently; None: it has no name for them."""


def parameter_records(plan: Plan) -> tuple[ParameterRecord, ...]:
    """Return the parameters for the record, with one spelling of equal numbers and the text of the command."""
    spelled, raw = plan.masker.records(plan.recorded_parameters), plan.masker.records(plan.parameters)
    pairs = zip(spelled, raw, strict=True)
    return tuple(one if one == as_given else structs.replace(one, raw=as_given.value) for one, as_given in pairs)


def tags_of(plan: Plan) -> dict[str, str]:
    """Return the tags of a new run: those that MLflow defines, and those of proj."""
    code, masker = plan.code, plan.masker
    given = {name: masker.value(Parameter(name=name, value=text)) for name, text in plan.request.tags.items()}
    tags = {
        USER_TAG: user_name(),
        SOURCE_NAME_TAG: plan.source.name,
        SOURCE_TYPE_TAG: "PROJECT",
        COMMIT_TAG: code.commit,
        REMOTE_TAG: code.remote,
        BRANCH_TAG: code.branch,
        ENTRY_POINT_TAG: plan.entry_point.name,
        "mlflow.project.env": _MLFLOW_NAMES.get(plan.backend.name, plan.backend.name),
        "mlflow.project.backend": "local",
        PARENT_TAG: os.environ.get("PROJ_RUN_ID"),
        TREE_TAG: code.tree,
        SWHID_TAG: code.swhid,
        DIRTY_TAG: str(code.dirty).lower(),
        REF_TAG: code.ref,
        RERUNS_TAG: plan.request.reruns,
        RESUMES_TAG: plan.request.resumes,
        SUBDIRECTORY_TAG: code.subdirectory or None,
        METRIC_TAG: plan.manifest.metric,
        GOAL_TAG: plan.manifest.goal,
        REPAIR_TAG: None if plan.request.repair else "false",
        **plan.tags,
    }
    return {**given, **{name: value for name, value in tags.items() if value}}


def declared_record(plan: Plan, record: EnvironmentRecord) -> EnvironmentRecord:
    """Return the record of an environment with its declaration and the masked options of the container engine."""
    declaration = plan.entry_point.environment or plan.manifest.environment
    container = plan.spec.container if plan.executor.capabilities.runs_images else None
    key = "docker_env" if declaration.kind is EnvironmentKind.DOCKER_ENV else container and container.devcontainer
    given = [(name, value) for name, value in plan.request.container_options if container]
    gpus = [("gpus", container.gpus)] if container and container.gpus and "gpus" not in dict(given) else []
    # In `env=NAME=VALUE` the inner name decides whether the value is masked as a secret.
    inner = [(name, value if value is None else plan.masker.arguments((value,))[0]) for name, value in (*gpus, *given)]
    assignments = tuple(name if value is None else f"{name}={value}" for name, value in inner)
    return structs.replace(
        record,
        declared=declaration.path or key,
        engine_options=plan.masker.arguments(assignments),
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
        parameters=parameter_records(plan),
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
        template=plan.masker.command(plan.entry_point.command),
    )
