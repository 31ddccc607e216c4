"""Decodes the registry responses of a remote tracking server into values of the store; missing fields get defaults."""

from msgspec import Struct

from runner.protocol.client_responses import Pair, mapping
from runner.store import entities


class VersionResponse(Struct, frozen=True):
    """A model version."""

    name: str
    version: int
    creation_timestamp: int = 0
    last_updated_timestamp: int = 0
    current_stage: str = ""
    description: str | None = None
    source: str = ""
    run_id: str | None = None
    run_link: str | None = None
    model_id: str | None = None
    tags: tuple[Pair, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def model_version(self) -> entities.ModelVersion:
        """The version as an entity of the store; its files are at its source."""
        known = {stage.value for stage in entities.ModelStage}
        return entities.ModelVersion(
            name=self.name,
            version=self.version,
            stage=entities.ModelStage(self.current_stage) if self.current_stage in known else entities.ModelStage.NONE,
            description=self.description or None,
            source=self.source,
            location=self.source,
            run_id=self.run_id or None,
            run_link=self.run_link or None,
            model_id=self.model_id or None,
            created_at=self.creation_timestamp,
            updated_at=self.last_updated_timestamp,
            tags=mapping(self.tags),
            aliases=self.aliases,
        )


class AliasResponse(Struct, frozen=True):
    """An alias of a registered model."""

    alias: str
    version: int


class RegisteredResponse(Struct, frozen=True):
    """A registered model."""

    name: str
    creation_timestamp: int = 0
    last_updated_timestamp: int = 0
    description: str | None = None
    latest_versions: tuple[VersionResponse, ...] = ()
    tags: tuple[Pair, ...] = ()
    aliases: tuple[AliasResponse, ...] = ()

    @property
    def registered_model(self) -> entities.RegisteredModel:
        """The registered model as an entity of the store."""
        return entities.RegisteredModel(
            name=self.name,
            description=self.description or None,
            created_at=self.creation_timestamp,
            updated_at=self.last_updated_timestamp,
            tags=mapping(self.tags),
            aliases={one.alias: one.version for one in self.aliases},
            latest=tuple(one.model_version for one in self.latest_versions),
        )


class OneRegistered(Struct, frozen=True):
    """A response with one registered model."""

    registered_model: RegisteredResponse


class RegisteredModels(Struct, frozen=True):
    """A page of registered models."""

    registered_models: tuple[RegisteredResponse, ...] = ()
    next_page_token: str | None = None


class ModelVersions(Struct, frozen=True):
    """A page of model versions."""

    model_versions: tuple[VersionResponse, ...] = ()
    next_page_token: str | None = None
