"""Usage becomes a charge, or is waived: it is a fact, so nothing about the account can refuse it."""

from __future__ import annotations

from datetime import datetime

import msgspec

from domain.account import lots
from domain.account.applying import counter_key
from domain.account.decision import Decision
from domain.account.due import pass_time
from domain.account.events import (
    CardPin,
    CorrectionAwaited,
    CounterMove,
    CreditsCharged,
    UsageWaived,
)
from domain.account.index import AccountIndex
from domain.account.opening import require_open
from domain.account.refunding import give_back, refunded_micros, require_room
from domain.account.state import CORRECTIONS_AWAITED_MAX, TeamAccount
from domain.amounts import AMOUNT_MAX
from domain.catalogue import Catalogue
from domain.errors import AmountOutOfRange, TooManyCorrectionsAwaited, UnknownAction
from domain.periods import period_bounds, period_text
from domain.pricing import Price, RateCard, price_usage
from domain.times import instant_text
from domain.usage import UsageRecord


class PricedUsage(msgspec.Struct, frozen=True, gc=False):
    """The card that was in force, the price by it, and the tier counters it moves; the same for a charge and an estimate."""

    card: RateCard
    price: Price
    counters: list[CounterMove]


def price_for(
    account: TeamAccount,
    catalogue: Catalogue,
    index: AccountIndex,
    action: str,
    meters: dict[str, str],
    dimensions: dict[str, str],
    at: datetime,
) -> PricedUsage | None:
    """The price of one use by this team at ``at``, by the card then in force; None when there is nothing to price.

    Raises: UnknownAction, UnknownPrice, PriceOutOfRange. Nothing is changed.
    """
    card = catalogue.card_in_force(account.card_id, at)
    if card is None:
        raise UnknownAction(
            f"action {action!r}: no version of rate card {account.card_id!r} is in force at {instant_text(at)}",
            action=action,
        )
    period: list[datetime] = []

    def position_of(key: str) -> int:
        if not period:
            period.append(period_bounds(at, account.zone, account.anchor_day)[0])
        return counter_position(account, index, period[0], key)

    price = price_usage(card, action, meters, dimensions, position_of)
    if price is None:
        return None
    moves = [CounterMove(key, period[0], after) for key, after in price.counters] if price.counters else []
    return PricedUsage(card, price, moves)


def counter_position(account: TeamAccount, index: AccountIndex, period_start: datetime, key: str) -> int:
    """Where a tier counter stands: in the state for the two latest periods used, in the index before them, else 0."""
    period = period_text(period_start)
    kept = account.counters
    positions = kept.get(period)
    if positions is not None:
        return positions.get(key, 0)
    if len(kept) == 2 and period < min(kept):
        entry = index.entry("counter", counter_key(period, key))
        return int(entry) if entry else 0
    return 0


def charge_usage(
    decision: Decision, record: UsageRecord, catalogue: Catalogue, context_digest: str | None = None
) -> None:
    """The record is charged or waived, once time has passed; one event holds its claim.

    Raises, before anything is recorded: UnknownAction, UnknownPrice, PriceOutOfRange, AmountOutOfRange, AccountClosed,
    TooManyCorrectionsAwaited, TooManyLots. The caller has made sure that the claim is new.
    """
    account = decision.account
    require_open(account)
    charge_id = record.usage_key()
    if record.status != "succeeded":
        _failed(decision, record, charge_id, context_digest)
        return
    corrected_by = account.corrections_awaited.get(charge_id)
    priced = None
    if corrected_by is None:
        priced = price_for(
            account,
            catalogue,
            decision.index,
            record.action,
            record.meters,
            record.dimensions,
            record.occurred_at,
        )
    if priced is None:
        pass_time(decision)
        _waive(decision, record, charge_id, context_digest, corrected_by=corrected_by)
        return
    _require_room(account, priced.price.amount_micros)
    pass_time(decision)
    _charge(decision, record, charge_id, priced, context_digest)


def _require_room(account: TeamAccount, amount_micros: int) -> None:
    if amount_micros + account.debt_micros > AMOUNT_MAX:
        raise AmountOutOfRange(
            "the charge would take the account's debt beyond 2^62 micro-credits", team_id=account.team_id
        )


def _charge(
    decision: Decision, record: UsageRecord, charge_id: str, priced: PricedUsage, context_digest: str | None
) -> None:
    account, price, card = decision.account, priced.price, priced.card
    amount = price.amount_micros
    occurred_at, action, project = record.occurred_at, record.action, record.project
    lines = lots.draw(account, amount, (occurred_at, decision.at), action, project)
    drawn = 0
    for line in lines:
        drawn += line.amount_micros
    decision.record(
        # In the order of the fields: so named, they are found fastest.
        CreditsCharged(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            settled_after_micros=account.settled_micros - drawn,
            debt_after_micros=account.debt_micros + amount - drawn,
            charge_id=charge_id,
            source=record.source,
            id=record.id,
            occurred_at=occurred_at,
            action=action,
            meters=record.meters,
            dimensions=record.dimensions,
            member=record.member,
            project=project,
            work=record.work,
            step=record.step,
            content_digest=record.content_digest(),
            context_digest=context_digest,
            origin=record.origin,
            card=CardPin(card.card_id, card.version, card.digest),
            computation=msgspec.Raw(price.computation),
            amount_micros=amount,
            lines=lines,
            debt_micros=amount - drawn,
            counters=priced.counters,
        )
    )


def _failed(decision: Decision, record: UsageRecord, charge_id: str, context_digest: str | None) -> None:
    """Failed or cancelled work costs nothing; the record it corrects is refunded, or will be waived when it arrives."""
    if record.corrects is None:
        pass_time(decision)
        _waive(decision, record, charge_id, context_digest)
        return
    corrected = record.corrected_key()
    on_file = decision.index.usage(corrected)
    awaited = decision.account.corrections_awaited
    if on_file is None and corrected not in awaited and len(awaited) >= CORRECTIONS_AWAITED_MAX:
        raise TooManyCorrectionsAwaited(
            f"team {decision.account.team_id!r} awaits {CORRECTIONS_AWAITED_MAX} records that corrections named: "
            "the records themselves must come first"
        )
    charge = on_file.event if on_file is not None and isinstance(on_file.event, CreditsCharged) else None
    left = 0
    if charge is not None:
        left = charge.amount_micros - refunded_micros(decision.index, charge.charge_id)
        require_room(decision, charge, left)
    pass_time(decision)
    if on_file is None:
        _await(decision, corrected, record.id)
    refund_id = _refund_rest(decision, charge, left, record, charge_id) if charge and left else None
    _waive(decision, record, charge_id, context_digest, refund_id=refund_id)


def _await(decision: Decision, corrected: str, corrected_by: str) -> None:
    if corrected in decision.account.corrections_awaited:
        return
    decision.record(
        CorrectionAwaited(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            charge_id=corrected,
            corrected_by=corrected_by,
        )
    )


def _refund_rest(
    decision: Decision, charge: CreditsCharged, left_micros: int, record: UsageRecord, refund_id: str
) -> str:
    """All that is left of the corrected charge is given back; the refund bears the correction's own id."""
    decision.reason, before = f"corrected by usage record {record.id}", decision.reason
    give_back(decision, charge, left_micros, refund_id)
    decision.reason = before
    return refund_id


def _waive(
    decision: Decision,
    record: UsageRecord,
    charge_id: str,
    context_digest: str | None,
    refund_id: str | None = None,
    corrected_by: str | None = None,
) -> None:
    failed = record.status != "succeeded"
    decision.record(
        UsageWaived(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            charge_id=charge_id,
            source=record.source,
            id=record.id,
            occurred_at=record.occurred_at,
            action=record.action,
            status=record.status,
            waiver="failed" if failed else "corrected" if corrected_by else "nothing_to_price",
            meters=record.meters,
            dimensions=record.dimensions,
            member=record.member,
            project=record.project,
            work=record.work,
            step=record.step,
            content_digest=record.content_digest(),
            context_digest=context_digest,
            origin=record.origin,
            corrects_charge_id=record.corrected_key() if record.corrects else None,
            refund_id=refund_id,
            corrected_by=corrected_by,
        )
    )
