"""What is sold in one process: the catalogue of a ledger in memory, changed by the rules of the real one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from domain.actors import Actor
from domain.catalogue import Catalogue, CatalogueEvent, PublicationKind, apply, register_source
from domain.publishing import approve, change, propose
from tests.memory_store import MemoryLedger


class MemoryCatalogue:
    """Changes the catalogue of the ledger, by its clock."""

    def __init__(self, memory: MemoryLedger) -> None:
        self._memory = memory

    def current(self) -> Catalogue:
        """The catalogue as it stands."""
        return self._memory.current()

    def now(self) -> datetime:
        """The ledger's clock."""
        return self._memory.now

    def change(
        self,
        operation: PublicationKind,
        document: Mapping[str, object],
        actor: Actor,
        reason: str | None = None,
    ) -> Catalogue:
        """What is sold is changed."""
        return self._take(change(self.current(), operation, document, self.now(), actor, reason))

    def propose(
        self,
        operation: PublicationKind,
        document: Mapping[str, object],
        actor: Actor,
        reason: str | None = None,
    ) -> Catalogue:
        """The change waits."""
        return self._take(propose(self.current(), operation, document, self.now(), actor, reason))

    def approve(self, publication_id: str, actor: Actor, reason: str | None = None) -> Catalogue:
        """What was proposed is published."""
        return self._take(approve(self.current(), publication_id, self.now(), actor, reason))

    def register_source(
        self, source: str, historic: bool, actor: Actor, reason: str | None = None
    ) -> Catalogue:
        """The source is registered."""
        return self._take(register_source(self.current(), source, historic, self.now(), actor, reason))

    def _take(self, events: list[CatalogueEvent]) -> Catalogue:
        for event in events:
            apply(self.current(), event)
        return self.current()
