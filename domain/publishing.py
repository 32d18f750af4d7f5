"""What is sold changes by two persons: one proposes a document, another approves it, and only then it is published."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from domain.actors import Actor
from domain.catalogue import (
    Catalogue,
    CatalogueEvent,
    PublicationApproved,
    PublicationKind,
    PublicationProposed,
    publish_plan,
    publish_rate_card,
    withdraw_rate_card,
)
from domain.documents import canonical_json, document_digest
from domain.errors import ActRefused, Malformed, SecondPersonNeeded, UnknownAct
from domain.rate_cards import canonical_document

PUBLICATION_LASTS = timedelta(days=7)
"""As long as an act on an account may wait."""

PUBLICATIONS_MAX = 100


def change(
    catalogue: Catalogue,
    operation: PublicationKind,
    document: Mapping[str, object],
    at: datetime,
    actor: Actor,
    reason: str | None = None,
) -> list[CatalogueEvent]:
    """What is sold is changed at once; what stands already changes nothing.

    Raises: RateCardRefused, PlanRefused, Unknown, Malformed.
    """
    if operation == "publish_rate_card":
        return publish_rate_card(catalogue, document, at, actor, reason)
    if operation == "publish_plan":
        return publish_plan(catalogue, document, at, actor, reason)
    card_id, version = document.get("card_id"), document.get("version")
    if not isinstance(card_id, str) or not isinstance(version, int):
        raise Malformed("card_id and version: say which version of which rate card", field="version")
    return withdraw_rate_card(catalogue, card_id, version, at, actor, reason)


def propose(
    catalogue: Catalogue,
    operation: PublicationKind,
    document: Mapping[str, object],
    at: datetime,
    actor: Actor,
    reason: str | None = None,
) -> list[CatalogueEvent]:
    """The change waits for a second person. What stands, or waits already, changes nothing.

    Raises: what ``change`` raises, so that nothing is proposed that could not be published now; ActRefused without a reason, or
    when too many wait.
    """
    if not change(catalogue, operation, document, at, actor, reason):
        return []
    if not (reason or "").strip():
        raise ActRefused("reason is missing: say why, for the person who is to approve it", field="reason")
    canonical = canonical_of(operation, document)
    digest = document_digest(canonical)
    if waiting_as(catalogue, operation, digest, at) is not None:
        return []
    if len(waiting_at(catalogue, at)) >= PUBLICATIONS_MAX:
        raise ActRefused(f"{PUBLICATIONS_MAX} publications wait for approval, which is the most")
    proposed = PublicationProposed(
        recorded_at=at,
        actor=actor,
        reason=reason,
        publication_id=f"publication-{catalogue.version + 1}",
        operation=operation,
        digest=digest,
        document=msgspec.Raw(canonical),
    )
    return [proposed]


def approve(
    catalogue: Catalogue, publication_id: str, at: datetime, actor: Actor, reason: str | None = None
) -> list[CatalogueEvent]:
    """What another person proposed is published, by whoever approves and for the reason of whoever proposed.

    Raises: UnknownAct for one that does not wait; SecondPersonNeeded for whoever proposed it; ActRefused for one that is too old;
    what ``change`` raises when the catalogue has moved on since.
    """
    proposed = waiting_of(catalogue, publication_id)
    if proposed.actor.id == actor.id:
        raise SecondPersonNeeded(
            f"{publication_id} was proposed by {actor.id!r}, who may not approve it: ask another person",
            publication_id=publication_id,
        )
    if _is_late(proposed, at):
        raise ActRefused(
            f"{publication_id} was proposed more than {PUBLICATION_LASTS.days} days ago: propose it again"
        )
    approved = PublicationApproved(
        recorded_at=at,
        actor=actor,
        reason=reason,
        publication_id=publication_id,
        operation=proposed.operation,
        proposed_by=proposed.actor,
    )
    document = msgspec.json.decode(proposed.document, type=dict[str, Any])
    return [approved, *change(catalogue, proposed.operation, document, at, actor, proposed.reason)]


def canonical_of(operation: PublicationKind, document: Mapping[str, object]) -> bytes:
    """The document as it would be published, whose SHA-256 is the digest."""
    return (canonical_document if operation == "publish_rate_card" else canonical_json)(document)


def waiting_at(catalogue: Catalogue, at: datetime) -> list[PublicationProposed]:
    """What waits for a second person and is not too old, in the order of proposal."""
    return [each for each in catalogue.waiting() if not _is_late(each, at)]


def waiting_as(
    catalogue: Catalogue, operation: PublicationKind, digest: str, at: datetime
) -> PublicationProposed | None:
    """The proposal of this very change that waits, if one does."""
    return next(
        (each for each in waiting_at(catalogue, at) if (each.operation, each.digest) == (operation, digest)),
        None,
    )


def waiting_of(catalogue: Catalogue, publication_id: str) -> PublicationProposed:
    """The proposal that waits under this id, too old or not. Raises: UnknownAct."""
    for each in catalogue.waiting():
        if each.publication_id == publication_id:
            return each
    raise UnknownAct(
        f"no publication {publication_id[:80]!r} waits for approval: list those that do at /v1/publications",
        publication_id=publication_id[:80],
    )


def _is_late(proposed: PublicationProposed, at: datetime) -> bool:
    return at - proposed.recorded_at > PUBLICATION_LASTS
