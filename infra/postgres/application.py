"""The library's applications over our tables: one per shard for accounts, a stock one for the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, cast
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    Mapper,
)
from eventsourcing.postgres import PostgresFactory
from eventsourcing.utils import Environment, EnvType
from typing_extensions import override

from domain.account.decision import account_id
from domain.account.state import TeamAccount
from domain.catalogue import CATALOGUE_ID, Catalogue, CatalogueEvent, fold
from domain.team.state import Team, team_stream_id
from infra.postgres.mapper import CatalogueEventOnFile, CatalogueMapper, LedgerMapper
from infra.postgres.recorder import HeadRecorder, ShardRecorder
from infra.postgres.shards import LedgerDatastore, ShardMap
from infra.settings import refuse_forbidden


class SharedFactory(PostgresFactory):
    """The library's factory on a datastore that others use too, so closing an application leaves the pool open."""

    def __init__(self, env: Environment | EnvType | None, datastore: LedgerDatastore) -> None:
        # Not PostgresFactory.__init__: it would open a pool of its own from the environment.
        InfrastructureFactory.__init__(self, env)
        refuse_forbidden(self.env)
        self.datastore = datastore

    @override
    def env_create_table(self) -> bool:
        return False

    @override
    def __enter__(self) -> Self:
        self._is_entered = True
        return self

    @override
    def __exit__(self, *_: object) -> None:
        self._is_entered = False

    @override
    def close(self) -> None:
        """Nothing: the pool belongs to the shard map."""


class ShardFactory(SharedFactory):
    """Makes the recorders of one shard."""

    def __init__(self, env: Environment | EnvType | None, shards: ShardMap, shard: int) -> None:
        super().__init__(env, shards.datastore_for(shard))
        self._ledger_datastore = shards.datastore_for(shard)
        self._shard = shard
        self._shards = shards.count

    @override
    def application_recorder(self) -> ApplicationRecorder:
        return ShardRecorder(self._ledger_datastore, self._shard, self._shards)

    @override
    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        assert purpose == "snapshots", f"a shard keeps no {purpose!r} apart from its events and heads"
        return HeadRecorder(self._ledger_datastore, self._shard)


class LedgerApplication(Application[UUID]):
    """The accounts and teams of one shard as a library application: its repository, log and subscriptions are stock."""

    name = "ledger"
    is_snapshotting_enabled = True
    # One section of the log may be as long as one read of a projection.
    log_section_size = 5_000

    def __init__(self, shards: ShardMap, shard: int, env: EnvType | None = None) -> None:
        self._shards = shards
        self.shard = shard
        super().__init__(env)
        # Tracking names are application names; positions are by shard.
        self.name = f"ledger_{shard}"

    @override
    def construct_factory(self, env: Environment) -> InfrastructureFactory[Any]:
        return ShardFactory(env, self._shards, self.shard)

    @override
    def construct_mapper(self) -> Mapper[UUID]:
        return LedgerMapper()

    def account(self, team_id: str, version: int | None = None) -> TeamAccount:
        """The team's account, at its newest version or an earlier one.

        Raises: eventsourcing.application.AggregateNotFoundError.
        """
        found: Any = self.repository.get(account_id(team_id), version=version)
        return cast("TeamAccount", found)

    def team(self, team_id: str, version: int | None = None) -> Team:
        """The team's people and paperwork, at the newest version or an earlier one.

        Raises: eventsourcing.application.AggregateNotFoundError when there were none.
        """
        found: Any = self.repository.get(team_stream_id(team_id), version=version)
        return cast("Team", found)


class CatalogueApplication(Application[UUID]):
    """What is sold: few events, so the library's own recorder serves as it is, in a table of its own."""

    name = "catalogue"

    def __init__(self, shards: ShardMap, env: EnvType | None = None) -> None:
        self._shards = shards
        super().__init__(env)

    @override
    def construct_factory(self, env: Environment) -> InfrastructureFactory[Any]:
        # The catalogue is one log for all shards; it lives in the first database, wherever they move.
        return SharedFactory(env, self._shards.first_datastore)

    @override
    def construct_mapper(self) -> Mapper[UUID]:
        return CatalogueMapper()

    def catalogue(self) -> Catalogue:
        """The catalogue as it stands, folded from all its events."""
        return fold(self._event(each) for each in self.events.get(CATALOGUE_ID))

    def record(self, catalogue: Catalogue, events: Sequence[CatalogueEvent]) -> None:
        """The events follow the version that ``catalogue`` was decided on.

        Raises: eventsourcing.persistence.IntegrityError when somebody else changed the catalogue meanwhile.
        """
        self.save(
            *(
                CatalogueEventOnFile(CATALOGUE_ID, version, event)
                for version, event in enumerate(events, catalogue.version + 1)
            )
        )

    @staticmethod
    def _event(on_file: object) -> CatalogueEvent:
        assert isinstance(on_file, CatalogueEventOnFile)
        return on_file.event
