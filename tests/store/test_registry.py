"""Tests registered models and versions: names, numbers, stages, aliases, tags, search."""

import time

import pytest

from runner.errors import AlreadyExistsError, InvalidValueError, NotFoundError
from runner.settings import Home
from runner.store import models, registry, runs, versions
from runner.store.database import Database
from runner.store.entities import ModelStage, NewModel, NewRun, NewVersion
from runner.store.registry_search import RegistryQuery, search_models, search_versions


def register(db: Database, name: str = "churn", source: str = "s3://bucket/model", **fields: str) -> int:
    return versions.create(db, NewVersion(name=name, source=source, **fields)).version  # type: ignore[arg-type]


def test_a_number_is_given_once(db: Database) -> None:
    registry.create(db, "churn")
    assert [register(db) for _ in range(3)] == [1, 2, 3]
    versions.delete(db, "churn", 3)
    with pytest.raises(NotFoundError):
        versions.get(db, "churn", "3")
    assert register(db) == 4
    registry.delete(db, "churn")
    registry.create(db, "churn")
    assert register(db) == 1


@pytest.mark.parametrize("name", ["", " ", "a/b", "a:b", "x\n", ".", "..", "x" * 257])
def test_names_that_can_not_be_part_of_a_uri_are_refused(db: Database, name: str) -> None:
    with pytest.raises(InvalidValueError):
        registry.create(db, name)


def test_names_are_taken_once(db: Database) -> None:
    for name in ("one", "naïve name, 100 %", "ONE"):
        registry.create(db, name)
    with pytest.raises(AlreadyExistsError):
        registry.create(db, "one")
    with pytest.raises(AlreadyExistsError):
        registry.rename(db, "ONE", "one")
    with pytest.raises(NotFoundError):
        registry.rename(db, "two", "three")


def test_renaming_keeps_versions_aliases_and_tags(db: Database) -> None:
    registry.create(db, "old", "words", {"k": "v"})
    register(db, "old")
    versions.set_tag(db, "old", 1, "t", "1")
    registry.set_alias(db, "old", "champion", 1)
    registry.rename(db, "old", "new")
    model = registry.get(db, "new")
    assert (model.description, model.tags, model.aliases) == ("words", {"k": "v"}, {"champion": 1})
    version = registry.get_by_alias(db, "new", "champion")
    assert (version.name, version.version, version.tags, version.aliases) == ("new", 1, {"t": "1"}, ("champion",))
    with pytest.raises(NotFoundError):
        registry.get(db, "old")


def test_stages(db: Database) -> None:
    registry.create(db, "churn")
    for _ in range(4):
        register(db)
    versions.set_stage(db, "churn", 1, "production")
    versions.set_stage(db, "churn", 2, "Production")
    assert registry.latest_versions(db, "churn", ["PRODUCTION"])[0].version == 2
    moved = versions.set_stage(db, "churn", 3, "Production", archive_existing=True)
    assert (moved.version, moved.stage) == (3, ModelStage.PRODUCTION)
    latest = {version.stage.value: version.version for version in registry.latest_versions(db, "churn")}
    assert latest == {"None": 4, "Production": 3, "Archived": 2}
    assert registry.latest_versions(db, "churn", ["staging"]) == ()
    for stage, archive in (("Live", False), ("Archived", True), ("None", True)):
        with pytest.raises(InvalidValueError):
            versions.set_stage(db, "churn", 1, stage, archive_existing=archive)


def test_aliases(db: Database) -> None:
    registry.create(db, "churn")
    register(db), register(db)
    registry.set_alias(db, "churn", "champion", 1)
    registry.set_alias(db, "churn", "champion", 2)
    assert registry.get(db, "churn").aliases == {"champion": 2}
    assert registry.get_by_alias(db, "churn", "Latest").version == 2
    versions.delete(db, "churn", 2)
    assert registry.get(db, "churn").aliases == {}
    registry.delete_alias(db, "churn", "champion")
    for alias in ("latest", "LATEST", "v1", "V22", "", "a b", "é/", "x" * 256):
        with pytest.raises(InvalidValueError):
            registry.set_alias(db, "churn", alias, 1)
    with pytest.raises(InvalidValueError, match="not found"):
        registry.get_by_alias(db, "churn", "champion")
    with pytest.raises(NotFoundError):
        registry.set_alias(db, "churn", "champion", 2)


@pytest.mark.parametrize("version", ["0", "-1", "x", "", "1.0", "01", "9" * 30, " 1"])
def test_wrong_numbers_of_versions(db: Database, version: str) -> None:
    registry.create(db, "churn")
    with pytest.raises(InvalidValueError):
        versions.get(db, "churn", version)


def test_sources_lead_to_files(db: Database, home: Home) -> None:
    registry.create(db, "churn")
    run = runs.create(db, NewRun())
    model = models.create(db, NewModel(source_run_id=run.run_id))
    of_model = versions.create(db, NewVersion(name="churn", source=f"models:/{model.model_id}"))
    assert (of_model.location, of_model.run_id) == (model.artifact_uri, run.run_id)
    of_run = versions.create(db, NewVersion(name="churn", source=f"runs:/{run.run_id}/my model"))
    assert of_run.location == (home.artifacts(run.run_id) / "my model").as_uri()
    copied = versions.create(db, NewVersion(name="churn", source="models:/churn/1"))
    assert (copied.location, copied.run_id) == (model.artifact_uri, run.run_id)
    for source, error in (
        ("models:/churn/9", NotFoundError),
        ("models:/m-" + "0" * 32, NotFoundError),
        ("runs:/" + "0" * 32 + "/m", NotFoundError),
        ("models:/churn/Production", InvalidValueError),
        ("runs:/x", InvalidValueError),
        ("", InvalidValueError),
    ):
        with pytest.raises(error):
            versions.create(db, NewVersion(name="churn", source=source))
    assert register(db) == 4


def names(db: Database, words: str = "", *order_by: str) -> list[str]:
    return [model.name for model in search_models(db, RegistryQuery(filter=words, order_by=order_by)).items]


def test_searching_models(db: Database) -> None:
    for name, tags in (("b", {"k": "1"}), ("a", {"k": "2", "two words": "x"}), ("A", {}), ("c_1", {"k": "1"})):
        registry.create(db, name, tags=tags)
    registry.create(db, "prompt", tags={"mlflow.prompt.is_prompt": "true"})
    assert names(db) == ["A", "a", "b", "c_1"]
    assert names(db, "name = 'a'") == ["a"]
    assert names(db, "name LIKE 'c%'") == ["c_1"]
    assert names(db, "name ILIKE 'A'") == ["A", "a"]
    assert names(db, "tags.k = '1' AND name != 'b'") == ["c_1"]
    assert names(db, "tag.`two words` = 'x'") == ["a"]
    assert names(db, "tags.\"k\" != '1'") == ["a"]
    assert names(db, "", "name DESC") == ["c_1", "b", "a", "A"]
    time.sleep(0.002)
    registry.describe(db, "b", "changed last")
    assert names(db, "", "last_updated_timestamp DESC", "name")[0] == "b"
    assert names(db, "", "timestamp ASC")[-1] == "b"
    with pytest.raises(InvalidValueError, match="unknown attribute"):
        names(db, "colour = 'red'")


def test_prompts_are_found_only_by_a_filter_on_their_tag(db: Database) -> None:
    """The newest clients send ``tag.`mlflow.prompt.is_prompt` != 'true'`` with every search."""
    registry.create(db, "model")
    registry.create(db, "prompt", tags={"mlflow.prompt.is_prompt": "true"})
    assert names(db, "tag.`mlflow.prompt.is_prompt` != 'true'") == ["model"]
    assert names(db, "tag.`mlflow.prompt.is_prompt` = 'false' AND name LIKE 'm%'") == ["model"]
    assert names(db, "tags.`mlflow.prompt.is_prompt` = 'true'") == ["prompt"]


def test_pages_of_models_follow_each_other(db: Database) -> None:
    for number in range(25):
        registry.create(db, f"m{number:02}")
    seen: list[str] = []
    token = None
    while True:
        page = search_models(db, RegistryQuery(limit=10, page_token=token, order_by=("name DESC",)))
        seen += [model.name for model in page.items]
        token = page.next_page_token
        if token is None:
            break
    assert seen == [f"m{number:02}" for number in reversed(range(25))]


def test_searching_versions(db: Database) -> None:
    run = runs.create(db, NewRun()).run_id
    for name in ("a", "b"):
        registry.create(db, name)
        register(db, name, run_id=run)
        register(db, name, source=f"s3://x/{name}")
    versions.set_tag(db, "b", 2, "k", "v")

    def found(words: str = "", *order_by: str) -> list[tuple[str, int]]:
        page = search_versions(db, RegistryQuery(filter=words, order_by=order_by))
        return [(version.name, version.version) for version in page.items]

    assert sorted(found()) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert found("name='a'", "version_number DESC") == [("a", 2), ("a", 1)]
    assert found(f"run_id = '{run}'", "name") == [("a", 1), ("b", 1)]
    assert found("run_id IN ('x', 'y')") == []
    assert found("source_path LIKE '%/b'") == [("b", 2)]
    assert found("tags.k = 'v'") == [("b", 2)]
    assert found("version_number > 1", "name") == [("a", 2), ("b", 2)]
    assert found("name = 'b' AND version_number = 2 AND tag.k LIKE 'v%'") == [("b", 2)]
    registry.rename(db, "a", "c")
    assert found("", "name DESC", "version_number ASC") == [("c", 1), ("c", 2), ("b", 1), ("b", 2)]
    assert found("run_id IS NULL", "name") == [("b", 2), ("c", 2)]
