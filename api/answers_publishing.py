"""Answers about what is sold: what became of a document, what waits for a second person, known sources of usage."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field

from api.answers import Instant, RateCardAnswer, Told
from api.answers_plans import PlanTermsAnswer
from domain.catalogue import PublicationKind, PublicationProposed


class PublishedAnswer(Told):
    """What became of a change of what is sold."""

    outcome: Annotated[
        Literal["published", "withdrawn", "unchanged", "proposed"],
        Field(description="`proposed`: it waits for a second person; `unchanged`: it stands already."),
    ]
    publication_id: Annotated[
        str | None, Field(description="Where it was proposed: what the second person approves.")
    ] = None
    rate_card: RateCardAnswer | None = None
    plan: PlanTermsAnswer | None = None


class PublicationAnswer(Told):
    """A change of what is sold that waits for a second person."""

    publication_id: str
    operation: PublicationKind
    named: Annotated[str, Field(description="The card or plan that it is about.")]
    digest: str
    proposed_by: str
    proposed_at: Instant
    reason: str | None

    @classmethod
    def of(cls, proposed: PublicationProposed) -> PublicationAnswer:
        """The answer without the document."""
        return cls(**_head(proposed))


class PublicationDocument(PublicationAnswer):
    """The same with the document whose canonical JSON has the digest."""

    document: dict[str, Any]

    @classmethod
    def whole(cls, proposed: PublicationProposed) -> PublicationDocument:
        """The answer with the document."""
        return cls(**_head(proposed), document=_document(proposed))


class PublicationsAnswer(Told):
    """What waits for a second person and is not too old, in the order of proposal."""

    data: list[PublicationAnswer]


class SourceAnswer(Told):
    """A registered source of usage."""

    source: str
    historic: bool


class SourcesAnswer(Told):
    """Every registered source, by name."""

    data: list[SourceAnswer]


def _document(proposed: PublicationProposed) -> dict[str, Any]:
    return msgspec.json.decode(proposed.document, type=dict[str, Any])


def _head(proposed: PublicationProposed) -> dict[str, Any]:
    document = _document(proposed)
    return {
        "publication_id": proposed.publication_id,
        "operation": proposed.operation,
        "named": str(document.get("plan_id") or document.get("card_id")),
        "digest": proposed.digest,
        "proposed_by": proposed.actor.id,
        "proposed_at": proposed.recorded_at,
        "reason": proposed.reason,
    }
