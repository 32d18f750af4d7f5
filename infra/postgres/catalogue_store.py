"""The catalogue as it stands, and the commands that change it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from threading import Lock

import psycopg
from eventsourcing.persistence import IntegrityError, PersistenceError
from psycopg.rows import tuple_row

from domain.actors import Actor
from domain.catalogue import (
    CATALOGUE_ID,
    Catalogue,
    CatalogueEvent,
    PublicationKind,
    apply,
    publish_plan,
    publish_rate_card,
    register_source,
    withdraw_rate_card,
)
from domain.errors import Busy
from domain.publishing import approve, change, propose
from infra.postgres.application import CatalogueApplication
from infra.postgres.ledger_store import Clock, database_clock
from infra.postgres.shards import ShardMap

ATTEMPTS_MAX = 3
_Decide = Callable[[Catalogue, datetime], list[CatalogueEvent]]


class PostgresCatalogue:
    """Reads and changes the catalogue; told no other clock, the database's dates it.

    Raises, everywhere: Busy when the database is away.
    """

    def __init__(self, shards: ShardMap, *, clock: Clock | None = None) -> None:
        self._shards = shards
        self._clock = clock or database_clock
        self._application = CatalogueApplication(shards)
        self._lock = Lock()
        self._read: Catalogue | None = None

    def current(self) -> Catalogue:
        """The catalogue as it is by now. It is folded anew only when something was published; who has one keeps it whole."""
        with self._lock:
            try:
                if self._read is None or self._moved(self._read.version):
                    self._read = self._application.catalogue()
                return self._read
            except (PersistenceError, psycopg.Error) as error:
                raise Busy(f"the catalogue could not be read: {error}") from error

    def publish(self, document: Mapping[str, object], actor: Actor, reason: str | None = None) -> Catalogue:
        """The document stands as a version of its card; the very one that stands already changes nothing.

        Raises: RateCardRefused.
        """
        return self._change(lambda catalogue, at: publish_rate_card(catalogue, document, at, actor, reason))

    def publish_plan(
        self, document: Mapping[str, object], actor: Actor, reason: str | None = None
    ) -> Catalogue:
        """The document stands as the newest version of its plan; the very one that is the newest already changes nothing.

        Raises: PlanRefused.
        """
        return self._change(lambda catalogue, at: publish_plan(catalogue, document, at, actor, reason))

    def withdraw(self, card_id: str, version: int, actor: Actor, reason: str | None = None) -> Catalogue:
        """A version that is not yet effective will never be. Raises: Unknown, RateCardRefused."""
        return self._change(
            lambda catalogue, at: withdraw_rate_card(catalogue, card_id, version, at, actor, reason)
        )

    def change(
        self,
        operation: PublicationKind,
        document: Mapping[str, object],
        actor: Actor,
        reason: str | None = None,
    ) -> Catalogue:
        """What is sold is changed at once. Raises: RateCardRefused, PlanRefused, Unknown."""
        return self._change(lambda catalogue, at: change(catalogue, operation, document, at, actor, reason))

    def propose(
        self,
        operation: PublicationKind,
        document: Mapping[str, object],
        actor: Actor,
        reason: str | None = None,
    ) -> Catalogue:
        """The change waits for a second person. Raises: what the change itself does; ActRefused."""
        return self._change(lambda catalogue, at: propose(catalogue, operation, document, at, actor, reason))

    def approve(self, publication_id: str, actor: Actor, reason: str | None = None) -> Catalogue:
        """What another person proposed is published. Raises: UnknownAct, SecondPersonNeeded, ActRefused, what the change does."""
        return self._change(lambda catalogue, at: approve(catalogue, publication_id, at, actor, reason))

    def now(self) -> datetime:
        """The clock by which the catalogue is dated. Raises: Busy."""
        try:
            return self._now()
        except psycopg.Error as error:
            raise Busy(f"the clock could not be read: {error}") from error

    def register_source(
        self, source: str, historic: bool, actor: Actor, reason: str | None = None
    ) -> Catalogue:
        """The source is registered, as historic or not. Raises: Malformed."""
        return self._change(
            lambda catalogue, at: register_source(catalogue, source, historic, at, actor, reason)
        )

    def close(self) -> None:
        """The application is closed; the connections belong to the shard map."""
        self._application.close()

    def _change(self, decide: _Decide) -> Catalogue:
        try:
            return self._decided(decide)
        except (PersistenceError, psycopg.Error) as error:
            # Whoever tries again finds it unchanged, if it was written and only the answer was lost.
            raise Busy(f"the catalogue could not be changed: {error}") from error

    def _decided(self, decide: _Decide) -> Catalogue:
        for _ in range(ATTEMPTS_MAX):
            catalogue = self._application.catalogue()
            events = decide(catalogue, self._now())
            if self._recorded(catalogue, events):
                for event in events:
                    apply(catalogue, event)
                return catalogue
        raise Busy("the catalogue was changed by others each time this was tried")

    def _recorded(self, catalogue: Catalogue, events: Sequence[CatalogueEvent]) -> bool:
        try:
            if events:
                self._application.record(catalogue, events)
        except IntegrityError:
            # Somebody published in between: decide again on what stands now.
            return False
        return True

    def _moved(self, version: int) -> bool:
        return any(True for _ in self._application.events.get(CATALOGUE_ID, gt=version, limit=1))

    def _now(self) -> datetime:
        with self._shards.first_connection() as connection:
            return self._clock(connection.cursor(row_factory=tuple_row))
