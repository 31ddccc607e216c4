"""``proj models``: lists and changes registered models, their versions, stages and aliases."""

import click
import msgspec

from runner.cli import completions
from runner.cli.groups import CommandGroup
from runner.cli.options import reads_runs
from runner.cli.output import local_time, open_store, read_store
from runner.cli.run_source import open_server
from runner.cli.tables import print_table
from runner.cli.text import print_lines, print_message, printable
from runner.errors import AlreadyExistsError, UsageError
from runner.settings import Home
from runner.store import registry, versions
from runner.store.artifacts import list_artifacts
from runner.store.database import Database
from runner.store.entities import ModelStage, ModelVersion, NewVersion, Page, RegisteredModel
from runner.store.records import format_time
from runner.store.registry_search import RegistryQuery, search_models, search_versions
from runner.store.run_selection import resolve
from runner.sync import registry_client

_STAGES = [stage.value for stage in ModelStage]


@click.group("models", cls=CommandGroup)
def models() -> None:
    """List and change registered models. VERSION is a number or an alias."""


@models.command("list")
@click.option("--filter", "condition", default="", metavar="TEXT", help="As in MLflow: name LIKE 'churn%'.")
@click.option("--limit", type=click.IntRange(1, 50_000), default=100, show_default=True, help="Maximal number.")
@reads_runs
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_models(condition: str, limit: int, tracking_uri: str | None, local: bool, as_json: bool) -> None:
    """List registered models, by name.

    \b
    Examples:
      proj models list
    """  # noqa: D301  # click reads the control character
    with open_server(tracking_uri, local=local) as server:
        page = (
            _search(RegistryQuery(filter=condition, limit=limit))
            if server is None
            else registry_client.search_models(server, condition, limit)
        )
    if as_json:
        _print_json([_model_row(model) for model in page.items])
        return
    if not page.items:
        print_message("no models")
        return
    print_table(
        ("name", "latest versions", "aliases", "changed"),
        [
            (
                model.name,
                ", ".join(f"{one.version} {one.stage.value}" for one in model.latest),
                ", ".join(f"{alias}={version}" for alias, version in model.aliases.items()),
                local_time(format_time(model.updated_at)),
            )
            for model in page.items
        ],
    )
    if page.next_page_token:
        print_message(f"more models: --limit {limit * 5}")


@models.command("show")
@click.argument("name", metavar="NAME", shell_complete=completions.models)
@reads_runs
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, tracking_uri: str | None, local: bool, as_json: bool) -> None:
    """Show a registered model with all its versions.

    \b
    Examples:
      proj models show churn
    """  # noqa: D301  # click reads the control character
    with open_server(tracking_uri, local=local) as server:
        if server is None:
            model, found = _read(name)
        else:
            model = registry_client.registered_model(server, name)
            found = registry_client.versions_of_model(server, name)
    if as_json:
        _print_json({**_model_row(model), "versions": [_version_row(version) for version in found]})
        return
    print_lines(f"{printable(model.name)}  {printable(model.description or '')}".rstrip())
    for key, value in model.tags.items():
        print_lines(f"  {printable(key)} = {printable(value)}")
    print_table(
        ("version", "stage", "aliases", "run", "created", "files"),
        [
            (
                str(one.version),
                one.stage.value,
                ", ".join(one.aliases),
                (one.run_id or "")[:8],
                local_time(format_time(one.created_at)),
                one.location,
            )
            for one in found
        ],
    )


@models.command("register")
@click.argument("name", metavar="NAME", shell_complete=completions.models)
@click.argument("run", metavar="RUN", shell_complete=completions.runs)
@click.argument("path", default="model")
@click.option("--description", help="Description of the version.")
def register(name: str, run: str, path: str, description: str | None) -> None:
    """Register the artifact PATH of RUN as the next version of NAME and print its number.

    The registered model NAME is created if it does not exist.

    \b
    Examples:
      proj models register churn latest model
    """  # noqa: D301  # click reads the control character
    with open_store() as (database, home):
        run_id = resolve(database, run, print_message)
        source = _source(database, home, run_id, path)
        with database.transaction():
            try:
                registry.create(database, name)
            except AlreadyExistsError:
                print_message(f"'{printable(name)}' gets another version")
            made = versions.create(
                database, NewVersion(name=name, source=source, run_id=run_id, description=description)
            )
    print_message(f"version {made.version} of {printable(name)}")
    click.echo(str(made.version))


@models.command("stage")
@click.argument("name", metavar="NAME", shell_complete=completions.models)
@click.argument("version", metavar="VERSION")
@click.argument("stage", type=click.Choice(_STAGES, case_sensitive=False))
@click.option("--archive-existing", is_flag=True, help="Archive the versions that have this stage now.")
def set_stage(name: str, version: str, stage: str, archive_existing: bool) -> None:
    """Set the stage of a version.

    \b
    Examples:
      proj models stage churn 3 production
    """  # noqa: D301  # click reads the control character
    with open_store() as (database, _):
        number = _number(database, name, version)
        versions.set_stage(database, name, number, stage, archive_existing=archive_existing)


@models.command("alias")
@click.argument("name", metavar="NAME", shell_complete=completions.models)
@click.argument("alias", metavar="ALIAS")
@click.argument("version", metavar="VERSION", required=False)
@click.option("--remove", is_flag=True, help="Remove the alias.")
def set_alias(name: str, alias: str, version: str | None, remove: bool) -> None:
    """Set ALIAS to a version: `models:/NAME@ALIAS` loads it.

    \b
    Examples:
      proj models alias churn champion 3
      proj models alias churn champion 3 --remove
    """  # noqa: D301  # click reads the control character
    if remove is (version is not None):
        raise UsageError("Give either VERSION or --remove")
    with open_store() as (database, _):
        if version is None:
            registry.delete_alias(database, name, alias)
        else:
            registry.set_alias(database, name, alias, _number(database, name, version))


@models.command("delete")
@click.argument("name", metavar="NAME", shell_complete=completions.models)
@click.argument("version", metavar="VERSION", required=False)
@click.option("--all", "whole", is_flag=True, help="Delete the registered model with all its versions.")
def delete(name: str, version: str | None, whole: bool) -> None:
    """Delete a version from the registry; its files stay with their run.

    \b
    Examples:
      proj models delete churn 2
    """  # noqa: D301  # click reads the control character
    if whole is (version is not None):
        raise UsageError("Give either VERSION or --all")
    with open_store() as (database, _):
        if version is None:
            registry.delete(database, name)
        else:
            versions.delete(database, name, _number(database, name, version))


def _search(query: RegistryQuery) -> Page[RegisteredModel]:
    with read_store() as (database, _):
        return search_models(database, query)


def _read(name: str) -> tuple[RegisteredModel, tuple[ModelVersion, ...]]:
    """Return a registered model of the local store with all its versions, newest first."""
    with read_store() as (database, _):
        query = RegistryQuery(filter=f"name = '{_quoted(name)}'", order_by=("version_number DESC",), limit=50_000)
        return registry.get(database, name), search_versions(database, query).items


def _source(database: Database, home: Home, run_id: str, path: str) -> str:
    """Return the source URI of a model: an artifact of the run, or a model that the run logged."""
    if list_artifacts(home.artifacts(run_id), path):
        return f"runs:/{run_id}/{path}"
    named = "SELECT model_id FROM models WHERE source_run_id = ? AND name = ? ORDER BY created_at DESC LIMIT 1"
    rows = database.query(named, run_id, path)
    if not rows:
        raise UsageError(
            f"The run {run_id[:8]} has no artifact '{printable(path)}'", hint=f"See `proj get {run_id[:8]}`."
        )
    return f"models:/{rows[0]['model_id']}"


def _number(database: Database, name: str, version_or_alias: str) -> int:
    if version_or_alias.isdecimal():
        return int(version_or_alias)
    return registry.get_by_alias(database, name, version_or_alias).version


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _model_row(model: RegisteredModel) -> dict[str, object]:
    return {
        "name": model.name,
        "description": model.description,
        "created_at": format_time(model.created_at),
        "updated_at": format_time(model.updated_at),
        "tags": model.tags,
        "aliases": model.aliases,
        "latest_versions": [_version_row(version) for version in model.latest],
    }


def _version_row(version: ModelVersion) -> dict[str, object]:
    return {
        "name": version.name,
        "version": version.version,
        "stage": version.stage.value,
        "aliases": version.aliases,
        "run_id": version.run_id,
        "source": version.source,
        "location": version.location,
        "description": version.description,
        "created_at": format_time(version.created_at),
        "updated_at": format_time(version.updated_at),
        "tags": version.tags,
    }


def _print_json(value: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))
