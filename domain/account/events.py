"""Every event of a team's account, with its stable topic: what happened, in the past tense.

Amounts are micro-credits and never negative; the name of the event gives the direction. An event carries all that applying it
needs, so that folding a stream asks nobody. ``settled_after_micros`` and ``debt_after_micros`` are the account's sums once
the event is applied; applying asserts them.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

import msgspec

from domain.actors import Actor
from domain.usage import Origin, UsageStatus

LotSource = Literal["included", "promotional", "purchased", "raised"]
RefundTarget = Literal["lot", "debt", "repayment"]


class CostBasis(msgspec.Struct, frozen=True, gc=False):
    """What a lot was bought for: minor units of an ISO 4217 currency, tax apart."""

    price_minor: int
    currency: str
    tax_minor: int = 0


class LotTerms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The terms of one issue of credits; they never change once issued.

    ``origin_lot_id`` names the first lot of a line of successors, itself for a lot that succeeds none; ``number`` is the
    version at which that first lot was issued, and the burn order's last tie-break before the lot id.
    """

    lot_id: str
    number: int
    source: LotSource
    origin_lot_id: str
    granted_at: datetime
    effective_at: datetime
    expires_at: datetime | None = None
    priority: int = 20
    action: str | None = None
    project: str | None = None
    cost_basis: CostBasis | None = None


class LotLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Micro-credits drawn from one lot."""

    lot_id: str
    amount_micros: int


class RefundLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Micro-credits given back by a refund.

    ``target`` "lot": back to the lot that the charge drew. "debt": lowers today's debt; the lot ids are empty.
    "repayment": back to a lot that once repaid debt; ``repayment_key`` names that repayment and ``repayment_left_micros``
    what of it may still come back afterwards. ``lot_id`` is the lot that receives: ``drawn_lot_id``, or its successor where
    that has expired.
    """

    target: RefundTarget
    amount_micros: int
    lot_id: str = ""
    drawn_lot_id: str = ""
    repayment_key: str = ""
    repayment_left_micros: int = 0


class CounterMove(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A tier counter after a charge: its key, the start of its period, its position in the term's own unit."""

    key: str
    period_start: datetime
    position_after: int


class CardPin(msgspec.Struct, frozen=True, gc=False):
    """The rate card that priced a charge: id, version, and the digest of its published bytes."""

    card_id: str
    version: int
    digest: str


class AccountEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What every event of an account carries: when the ledger wrote it, who caused it, why, and on whose behalf."""

    TOPIC: ClassVar[str] = ""

    recorded_at: datetime
    actor: Actor
    correlation_id: str | None = None
    reason: str | None = None


class MovingEvent(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """An event that moves credits, with the account's sums after it."""

    settled_after_micros: int
    debt_after_micros: int


class AccountOpened(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The team has an account; periods are monthly from ``anchor_day`` in ``zone``; ``card_id`` names its rate card."""

    TOPIC: ClassVar[str] = "AccountOpened.1"

    team_id: str
    zone: str
    anchor_day: int
    card_id: str


class AccountClosed(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The account takes no further command and no usage."""

    TOPIC: ClassVar[str] = "AccountClosed.1"


class CreditsGranted(MovingEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Credits were given: a new lot."""

    TOPIC: ClassVar[str] = "CreditsGranted.1"

    lot: LotTerms
    amount_micros: int


class CreditsToppedUp(MovingEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Credits were bought: a new lot with its cost basis, under a payment reference unique in the team."""

    TOPIC: ClassVar[str] = "CreditsToppedUp.1"

    lot: LotTerms
    amount_micros: int
    payment_reference: str


class CreditsCharged(MovingEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A usage record was charged: lot lines in the order they were drawn, the rest became debt.

    ``computation`` is the stored price computation (see ``domain.pricing``); ``lines`` and ``debt_micros`` sum to
    ``amount_micros``. ``context_digest`` is the salted digest of the erasable context.
    """

    TOPIC: ClassVar[str] = "CreditsCharged.1"

    charge_id: str
    source: str
    id: str
    occurred_at: datetime
    action: str
    meters: dict[str, str]
    dimensions: dict[str, str] = {}
    member: str | None = None
    project: str | None = None
    work: str | None = None
    step: str | None = None
    content_digest: str
    context_digest: str | None = None
    origin: Origin | None = None
    card: CardPin
    computation: msgspec.Raw
    amount_micros: int
    lines: list[LotLine] = []
    debt_micros: int = 0
    counters: list[CounterMove] = []


class UsageWaived(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A usage record costs nothing: failed or cancelled work, work that a correction names, or nothing to price.

    ``corrects_charge_id`` names the record this one corrects; ``refund_id`` the refund it caused, if any;
    ``corrected_by`` the id of the correction that had come first.
    """

    TOPIC: ClassVar[str] = "UsageWaived.1"

    charge_id: str
    source: str
    id: str
    occurred_at: datetime
    action: str
    status: UsageStatus
    waiver: Literal["failed", "corrected", "nothing_to_price"]
    meters: dict[str, str] = {}
    dimensions: dict[str, str] = {}
    member: str | None = None
    project: str | None = None
    work: str | None = None
    step: str | None = None
    content_digest: str
    context_digest: str | None = None
    origin: Origin | None = None
    corrects_charge_id: str | None = None
    refund_id: str | None = None
    corrected_by: str | None = None


class CorrectionAwaited(AccountEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A correction named a record not seen yet; that record will be waived when it arrives."""

    TOPIC: ClassVar[str] = "CorrectionAwaited.1"

    charge_id: str
    corrected_by: str


class ChargeRefunded(MovingEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Part or all of a charge was given back, in reverse order of its lines.

    ``lots`` holds the terms of every lot that the refund opens again or newly opens (successors of expired lots).
    One refund may leave several of these events, with one ``refund_id``, where debt is repaid between its lines.
    ``refunded_after_micros`` is all that was ever refunded of the charge.
    """

    TOPIC: ClassVar[str] = "ChargeRefunded.1"

    refund_id: str
    charge_id: str
    amount_micros: int
    lines: list[RefundLine]
    lots: list[LotTerms] = []
    refunded_after_micros: int


class DebtRepaid(MovingEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Unscoped credit repaid debt as of ``effective_at``; the lines name the lots, in burn order."""

    TOPIC: ClassVar[str] = "DebtRepaid.1"

    effective_at: datetime
    amount_micros: int
    lines: list[LotLine]


class CreditsExpired(MovingEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Breakage: what was left of an expired lot was booked as of ``effective_at``; ``due_id`` makes it once for ever."""

    TOPIC: ClassVar[str] = "CreditsExpired.1"

    due_id: str
    effective_at: datetime
    lot_id: str
    amount_micros: int


ACCOUNT_EVENTS: tuple[type[AccountEvent], ...] = (
    AccountOpened,
    AccountClosed,
    CreditsGranted,
    CreditsToppedUp,
    CreditsCharged,
    UsageWaived,
    CorrectionAwaited,
    ChargeRefunded,
    DebtRepaid,
    CreditsExpired,
)
"""Every shape an account's stream may hold, current version; the allow-list of stored topics."""


class RecordedEvent(msgspec.Struct, frozen=True):
    """An account event at its place: the account's id and the version the event made."""

    originator_id: object
    originator_version: int
    event: AccountEvent
