"""Answers about credits set aside for running work, and about the quotes that holds may name."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from api.answers import CardAnswer, Instant, LineAnswer, Micros, Place, Told
from domain.account.events import QuotePin
from projections.holds import HoldBalance


class QuotePinAnswer(Told):
    """The quote that a hold named."""

    quote_id: str
    total: Micros
    card: CardAnswer

    @classmethod
    def of(cls, quote: QuotePin) -> QuotePinAnswer:
        """The answer for a quote that a hold keeps."""
        return cls(
            quote_id=quote.quote_id,
            total=quote.total_micros,
            card=CardAnswer(card_id=quote.card.card_id, version=quote.card.version, digest=quote.card.digest),
        )


class OneHold(Told):
    """A hold: what it set aside when it was made, and what it still does."""

    hold_id: str
    state: Annotated[str, Field(description="open, captured, released or expired")]
    amount: Annotated[
        Micros | None, Field(description="What it set aside when it was made; one hold alone says so.")
    ]
    held: Annotated[Micros, Field(description="What it sets aside now.")]
    lines: Annotated[
        list[LineAnswer],
        Field(description="Where. Of an ended hold: what late usage that names it may still draw."),
    ]
    made_at: Instant
    expires_at: Annotated[Instant | None, Field(description="Until when at the latest; null once it ended.")]
    ended_at: Instant | None
    action: str
    member: str | None
    project: str | None
    work: str | None
    step: str | None
    quote: QuotePinAnswer | None

    @classmethod
    def of(cls, hold: HoldBalance) -> OneHold:
        """The answer for a hold."""
        return cls(**_told(hold))


class HoldsAnswer(Place):
    """The open holds, in the order in which they were made."""

    team_id: str
    data: list[OneHold]


class HoldAnswer(Place, OneHold):
    """One hold, open or ended."""

    team_id: str

    @classmethod
    def at(cls, place: dict[str, Any], hold: HoldBalance) -> HoldAnswer:
        """The answer for one hold, at its place."""
        return cls(**place, **_told(hold))


class QuoteAnswer(Place):
    """A price that the ledger honours until it expires, for one hold that sends the token along.

    It binds the card and the total, not availability: the hold may still be denied. Nothing is changed by it.
    """

    team_id: str
    quote_id: str
    token: Annotated[str, Field(description="To be sent as `quote` with a hold, exactly as it is.")]
    action: str
    meters: dict[str, str]
    dimensions: dict[str, str]
    project: str | None
    total: Micros
    card: CardAnswer
    computation: dict[str, Any]
    expires_at: Instant


def _told(hold: HoldBalance) -> dict[str, Any]:
    return {
        "hold_id": hold.hold_id,
        "state": hold.state,
        "amount": hold.amount_micros,
        "held": hold.held_micros,
        "lines": [LineAnswer(lot_id=line.lot_id, amount=line.amount_micros) for line in hold.lines],
        "made_at": hold.made_at,
        "expires_at": hold.expires_at,
        "ended_at": hold.ended_at,
        "action": hold.action,
        "member": hold.member,
        "project": hold.project,
        "work": hold.work,
        "step": hold.step,
        "quote": QuotePinAnswer.of(hold.quote) if hold.quote else None,
    }
