"""The answers that callers read: amounts as decimal strings, times in UTC, each with the version and position it is true at."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from api.ports import AccountOnFile, StoredEvent
from domain.account.estimating import Estimate
from domain.account.events import (
    CreditsCharged,
    HoldCaptured,
    LotLine,
    UsageWaived,
)
from domain.account.state import TeamAccount, in_force
from domain.amounts import format_credits
from domain.ledger import Answer
from domain.ledger import DenialAnswer as Denial
from domain.pricing import RateCard
from domain.times import instant_text
from projections.balance import Balance, LotBalance
from projections.statement import StatementRow

Micros = Annotated[
    int,
    PlainSerializer(format_credits, return_type=str),
    Field(json_schema_extra={"examples": ["12.5"], "description": "Credits, a decimal string."}),
]
Instant = Annotated[
    datetime,
    PlainSerializer(instant_text, return_type=str),
    Field(json_schema_extra={"format": "date-time"}),
]


class Told(BaseModel):
    """An answer; nothing in it changes."""

    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)


class Place(Told):
    """What an answer knows: the account's version, the position of its shard, and the instant it is computed for."""

    version: int
    position: int
    as_of: Instant


class AccountAnswer(Place):
    """A team's account and its terms."""

    team_id: str
    status: str
    zone: str
    anchor_day: int
    card_id: str
    plan_id: str | None
    opened_at: Instant

    @classmethod
    def at(cls, place: dict[str, Any], account: TeamAccount, at: datetime) -> AccountAnswer:
        """The answer for an account at an instant."""
        return cls(
            **place,
            status=account.status,
            zone=in_force(account.zones, at),
            anchor_day=account.anchor_day,
            card_id=in_force(account.cards, at),
            plan_id=account.plan.plan_id if account.plan else None,
            opened_at=account.opened_at,
        )


class ExpiryAnswer(Told):
    """The next instant at which credit lapses, and how much."""

    at: Instant
    amount: Micros


class BalanceAnswer(Place):
    """settled = available + held + lapsed + withheld + upcoming; debt stands beside it."""

    team_id: str
    status: str
    settled: Micros
    available: Micros
    unscoped: Annotated[Micros, Field(description="The part of available that pays for any use.")]
    held: Micros
    lapsed: Micros
    withheld: Micros
    upcoming: Micros
    debt: Micros
    next_expiry: ExpiryAnswer | None

    @classmethod
    def of(cls, balance: Balance) -> BalanceAnswer:
        """The answer for a balance."""
        soon = balance.next_expiry
        return cls(
            version=balance.version,
            position=balance.position,
            as_of=balance.at,
            team_id=balance.team_id,
            status=balance.status,
            settled=balance.settled_micros,
            available=balance.available_micros,
            unscoped=balance.unscoped_micros,
            held=balance.held_micros,
            lapsed=balance.lapsed_micros,
            withheld=balance.withheld_micros,
            upcoming=balance.upcoming_micros,
            debt=balance.debt_micros,
            next_expiry=ExpiryAnswer(at=soon.at, amount=soon.amount_micros) if soon else None,
        )


class CostBasisAnswer(Told):
    """What a lot was bought for."""

    price_minor: int
    currency: str
    tax_minor: int


class LotAnswer(Told):
    """One lot: its terms, and what is left of it."""

    lot_id: str
    source: str
    state: str
    remaining: Micros
    held: Micros
    withheld: Micros
    priority: int
    action: str | None
    project: str | None
    granted_at: Instant
    effective_at: Instant
    expires_at: Instant | None
    origin_lot_id: str
    cost_basis: CostBasisAnswer | None

    @classmethod
    def of(cls, lot: LotBalance) -> LotAnswer:
        """The answer for a lot."""
        paid = lot.cost_basis
        return cls(
            lot_id=lot.lot_id,
            source=lot.source,
            state=lot.state,
            remaining=lot.remaining_micros,
            held=lot.held_micros,
            withheld=lot.withheld_micros,
            priority=lot.priority,
            action=lot.action,
            project=lot.project,
            granted_at=lot.granted_at,
            effective_at=lot.effective_at,
            expires_at=lot.expires_at,
            origin_lot_id=lot.origin_lot_id,
            cost_basis=CostBasisAnswer(
                price_minor=paid.price_minor, currency=paid.currency, tax_minor=paid.tax_minor
            )
            if paid
            else None,
        )


class LotsAnswer(Place):
    """Every lot with a remainder, in the order in which they burn."""

    team_id: str
    data: list[LotAnswer]

    @classmethod
    def of(cls, balance: Balance) -> LotsAnswer:
        """The answer for the lots of a balance."""
        return cls(
            version=balance.version,
            position=balance.position,
            as_of=balance.at,
            team_id=balance.team_id,
            data=[LotAnswer.of(lot) for lot in balance.lots],
        )


class StatementLine(Told):
    """One event that moved credits, or usage that was waived, with the sums after it."""

    version: int
    kind: Annotated[str, Field(description="The event's name; it gives the amount its direction.")]
    recorded_at: Instant
    occurred_at: Instant
    amount: Micros
    settled_after: Micros
    debt_after: Micros
    held_after: Micros
    charge_id: str | None
    lot_id: str | None
    hold_id: str | None
    action: str | None
    member: str | None
    project: str | None
    work: str | None
    step: str | None
    actor: str
    role: str
    reason: str | None

    @classmethod
    def of(cls, row: StatementRow) -> StatementLine:
        """The answer for a row."""
        return cls(
            version=row.version,
            kind=row.kind,
            recorded_at=row.recorded_at,
            occurred_at=row.occurred_at,
            amount=row.amount_micros,
            settled_after=row.settled_after_micros,
            debt_after=row.debt_after_micros,
            held_after=row.held_after_micros,
            charge_id=row.charge_id,
            lot_id=row.lot_id,
            hold_id=row.hold_id,
            action=row.action,
            member=row.member,
            project=row.project,
            work=row.work,
            step=row.step,
            actor=row.actor_id,
            role=row.actor_role,
            reason=row.reason,
        )


class StatementAnswer(Place):
    """A page of the statement; ``next`` continues it, null on the last page."""

    team_id: str
    data: list[StatementLine]
    next: str | None


class HistoryEntry(Told):
    """One event as recorded.

    ``state`` is the stored text, byte for byte, amounts in micro-credits:
    ``hash`` = SHA-256(previous hash, account id, version as 8 bytes, topic and state each after its length as 4 bytes).
    """

    version: int
    position: int
    topic: str
    state: str
    previous_hash: str
    hash: str

    @classmethod
    def of(cls, stored: StoredEvent) -> HistoryEntry:
        """The answer for a stored event."""
        return cls(
            version=stored.version,
            position=stored.position,
            topic=stored.topic,
            state=stored.state.decode(),
            previous_hash=stored.previous_hash.hex(),
            hash=stored.hash.hex(),
        )


class HistoryAnswer(Place):
    """A page of a team's events; ``next`` continues it, null on the last page."""

    team_id: str
    account_id: str
    data: list[HistoryEntry]
    next: str | None


class LineAnswer(Told):
    """Credits drawn from one lot."""

    lot_id: str
    amount: Micros


class CardAnswer(Told):
    """A version of a rate card, pinned by its digest."""

    card_id: str
    version: int
    digest: str


class OriginAnswer(Told):
    """Where on the stream a record came from."""

    topic: str
    partition: int
    offset: int


class ChargeAnswer(Place):
    """What became of a usage record: charged, with its lines and price; or waived, with the reason. A capture by request, too.

    ``version`` is the account's version now; ``charged_version`` the one at which the record was decided.
    """

    team_id: str
    charge_id: str
    outcome: str
    charged_version: int
    source: Annotated[str | None, Field(description="The record's source; null for a capture by request.")]
    id: Annotated[str | None, Field(description="The record's id; null for a capture by request.")]
    action: str
    meters: dict[str, str]
    dimensions: dict[str, str]
    member: str | None
    project: str | None
    work: str | None
    step: str | None
    occurred_at: Instant
    recorded_at: Instant
    amount: Micros
    refunded: Micros
    lines: list[LineAnswer]
    debt: Annotated[Micros, Field(description="What no lot covered when the record was charged.")]
    hold_id: Annotated[str | None, Field(description="The hold that the record named, or that was captured.")]
    from_hold: Annotated[
        list[LineAnswer], Field(description="The part of the lines that the hold had set aside.")
    ]
    limits_passed: Annotated[
        list[str], Field(description="Hard limits whose window is beyond its cap with it.")
    ]
    quote_id: Annotated[str | None, Field(description="The quote whose price it has.")]
    card: CardAnswer | None
    computation: Annotated[
        dict[str, Any] | None, Field(description="All it takes to compute the amount by hand.")
    ]
    waiver: str | None
    origin: OriginAnswer | None

    @classmethod
    def of(cls, found: AccountOnFile, stored: StoredEvent, refunded_micros: int) -> ChargeAnswer:
        """The answer for a charge, or for usage that was waived."""
        event = stored.event
        assert isinstance(event, CreditsCharged | UsageWaived | HoldCaptured), f"{stored.topic} is no charge"
        charge = None if isinstance(event, UsageWaived) else event
        priced = event if isinstance(event, CreditsCharged) else None
        usage = None if isinstance(event, HoldCaptured) else event
        origin = usage.origin if usage else None
        return cls(
            version=found.account.version,
            position=found.position,
            as_of=found.now,
            team_id=found.account.team_id,
            charge_id=event.charge_id,
            outcome="charged" if charge else "waived",
            charged_version=stored.version,
            source=usage.source if usage else None,
            id=usage.id if usage else None,
            action=event.action,
            meters=usage.meters if usage else {},
            dimensions=usage.dimensions if usage else {},
            member=event.member,
            project=event.project,
            work=event.work,
            step=event.step,
            occurred_at=event.occurred_at,
            recorded_at=event.recorded_at,
            amount=charge.amount_micros if charge else 0,
            refunded=refunded_micros,
            lines=_lines(charge.lines) if charge else [],
            debt=charge.debt_micros if charge else 0,
            hold_id=event.hold_id,
            from_hold=_lines(charge.hold_lines) if charge else [],
            limits_passed=charge.limits_passed if charge else [],
            quote_id=priced.quote_id if priced else None,
            card=CardAnswer(
                card_id=priced.card.card_id, version=priced.card.version, digest=priced.card.digest
            )
            if priced
            else None,
            computation=msgspec.json.decode(priced.computation, type=dict[str, Any]) if priced else None,
            waiver=event.waiver if isinstance(event, UsageWaived) else None,
            origin=OriginAnswer(topic=origin.topic, partition=origin.partition, offset=origin.offset)
            if origin
            else None,
        )


class ChargesAnswer(Place):
    """The charges that were asked for: one, or none."""

    team_id: str
    data: list[ChargeAnswer]


class EstimateAnswer(Place):
    """What the use would cost if it occurred now, and which lots would pay."""

    team_id: str
    action: str
    priced: Annotated[
        bool, Field(description="False when there is nothing to price; the use would be waived.")
    ]
    amount: Micros
    lines: list[LineAnswer]
    debt: Annotated[Micros, Field(description="What no lot would cover.")]
    card: CardAnswer | None
    computation: dict[str, Any] | None

    @classmethod
    def of(cls, found: AccountOnFile, action: str, estimate: Estimate) -> EstimateAnswer:
        """The answer for an estimate."""
        priced = estimate.priced
        card = priced.card if priced else None
        return cls(
            version=estimate.version,
            position=found.position,
            as_of=found.now,
            team_id=found.account.team_id,
            action=action,
            priced=priced is not None,
            amount=estimate.amount_micros,
            lines=_lines(estimate.lines),
            debt=estimate.debt_micros,
            card=CardAnswer(card_id=card.card_id, version=card.version, digest=card.digest) if card else None,
            computation=msgspec.json.decode(priced.price.computation, type=dict[str, Any])
            if priced
            else None,
        )


class RateCardAnswer(Told):
    """One published version of a rate card."""

    card_id: str
    version: int
    digest: str
    effective_at: Instant
    publisher: str
    published_at: Instant
    actions: list[str]

    @classmethod
    def of(cls, card: RateCard) -> RateCardAnswer:
        """The answer for a rate card, without its lines."""
        return cls(
            card_id=card.card_id,
            version=card.version,
            digest=card.digest,
            effective_at=card.effective_at,
            publisher=card.publisher,
            published_at=card.published_at,
            actions=card.actions(),
        )


class RateCardDocument(RateCardAnswer):
    """One published version of a rate card, with the document whose canonical JSON has the digest."""

    document: dict[str, Any]

    @classmethod
    def whole(cls, card: RateCard) -> RateCardDocument:
        """The answer for a rate card, with its lines."""
        told = RateCardAnswer.of(card)
        return cls(document=msgspec.json.decode(card.document, type=dict[str, Any]), **dict(told))


class RateCardsAnswer(Told):
    """Every published rate card, by id and version."""

    data: list[RateCardAnswer]


class DenialAnswer(Told):
    """Why a hold was denied: the rule that left least room, with its numbers."""

    version: Annotated[
        int, Field(description="Where the denial, or an equal one of the last minute, is on file.")
    ]
    rule: Annotated[str, Field(description="available: the credits themselves; limit: a hard limit")]
    limit_id: str | None
    window_start: Instant | None
    window_end: Instant | None
    used: Micros
    held: Micros
    limit: Micros
    requested: Micros

    @classmethod
    def of(cls, denial: Denial) -> DenialAnswer:
        """The answer for a denial."""
        return cls(
            version=denial.version,
            rule=denial.rule,
            limit_id=denial.limit_id,
            window_start=denial.window_start,
            window_end=denial.window_end,
            used=denial.used_micros,
            held=denial.held_micros,
            limit=denial.limit_micros,
            requested=denial.requested_micros,
        )


class CommandAnswer(Told):
    """What a command did: the version it made, the sums after it, and the ids it gave; the same each time it is repeated."""

    team_id: str
    version: int
    recorded_at: Instant
    settled: Micros
    debt: Micros
    amount: Micros | None
    lot_id: str | None
    charge_id: str | None
    refund_id: str | None
    outcome: Annotated[
        str | None,
        Field(
            description="Of a hold: held or denied. Of an adjustment: applied. Of a check: passed or failed. Of what takes a"
            " second person: proposed."
        ),
    ]
    hold_id: str | None
    hold_expires_at: Instant | None
    denial: DenialAnswer | None
    limit_id: str | None
    dispute_id: str | None
    adjustment_id: str | None
    act_id: Annotated[str | None, Field(description="What waits for a second person, or was approved.")]
    key_id: str | None
    payment_reference: str | None
    plan_id: str | None
    invoice: Annotated[
        str | None, Field(description="The number of the document that the command issued or changed.")
    ]
    period_start: Annotated[Instant | None, Field(description="The start of the period that was closed.")]
    period_end: Annotated[Instant | None, Field(description="The end of the period that was closed.")]
    team_version: Annotated[
        int | None, Field(description="The version of the team's people and paperwork, where they changed.")
    ]
    effective_at: Annotated[Instant | None, Field(description="From when a plan or a zone counts.")]
    work_id: str | None
    work_version: Annotated[int | None, Field(description="The version of the work, where it changed.")]
    step: str | None
    revision: Annotated[int | None, Field(description="How often the step was saved by now.")]

    @classmethod
    def of(cls, answer: Answer) -> CommandAnswer:
        """The answer for a command."""
        return cls(
            team_id=answer.team_id,
            version=answer.version,
            recorded_at=answer.recorded_at,
            settled=answer.settled_micros,
            debt=answer.debt_micros,
            amount=answer.amount_micros,
            lot_id=answer.lot_id,
            charge_id=answer.charge_id,
            refund_id=answer.refund_id,
            outcome=answer.outcome,
            hold_id=answer.hold_id,
            hold_expires_at=answer.hold_expires_at,
            denial=DenialAnswer.of(answer.denial) if answer.denial else None,
            limit_id=answer.limit_id,
            dispute_id=answer.dispute_id,
            adjustment_id=answer.adjustment_id,
            act_id=answer.act_id,
            key_id=answer.key_id,
            payment_reference=answer.payment_reference,
            plan_id=answer.plan_id,
            invoice=answer.invoice,
            period_start=answer.period_start,
            period_end=answer.period_end,
            team_version=answer.team_version,
            effective_at=answer.effective_at,
            work_id=answer.work_id,
            work_version=answer.work_version,
            step=answer.step,
            revision=answer.revision,
        )


class Health(Told):
    """The process is up."""

    status: str = "ok"


def _lines(lines: list[LotLine]) -> list[LineAnswer]:
    return [LineAnswer(lot_id=line.lot_id, amount=line.amount_micros) for line in lines]
