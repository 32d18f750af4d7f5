"""Usage becomes a charge, or is waived: it is a fact, so nothing about the account can refuse it."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import msgspec

from domain.account import lots
from domain.account.applying import counter_key, open_hold
from domain.account.auto_top_up import look_at_top_up
from domain.account.calendar import card_id_at, period_at
from domain.account.decision import Decision
from domain.account.due import LATE_GRACE, pass_time
from domain.account.events import (
    CHARGES,
    CardPin,
    Charge,
    CorrectionAwaited,
    CounterMove,
    CreditsCharged,
    HoldLeft,
    LotLine,
    QuotePin,
    UsageWaived,
    WindowMove,
)
from domain.account.holding import release_hold
from domain.account.index import AccountIndex, EndedHold
from domain.account.limiting import passed, reach_thresholds, refunded_micros, window_moves
from domain.account.opening import require_open
from domain.account.refunding import give_back, require_room
from domain.account.state import CORRECTIONS_AWAITED_MAX, TeamAccount
from domain.amounts import AMOUNT_MAX
from domain.catalogue import Catalogue
from domain.errors import AmountOutOfRange, TooManyCorrectionsAwaited, UnknownAction
from domain.periods import period_text
from domain.pricing import Price, RateCard, price_usage
from domain.times import instant_text
from domain.usage import UsageRecord

_NO_MOVES: list[CounterMove] = []
_NO_LINES: list[LotLine] = []


class PricedUsage(msgspec.Struct, frozen=True, gc=False):
    """The card that prices a use, the price by it, and the tier counters it moves; the same for a charge and an estimate.

    ``quote_id`` is set where the price is the total of a quote.
    """

    card: CardPin
    price: Price
    counters: list[CounterMove]
    quote_id: str | None = None


class _OwnHold(msgspec.Struct, frozen=True):
    """What a record finds of the hold it names: its quote, and, where it has ended, what it may still give."""

    quote: QuotePin | None = None
    is_quote_charged: bool = False
    left: list[LotLine] | None = None


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
    card_id = card_id_at(account, index, at)
    card = catalogue.card_in_force(card_id, at)
    if card is None:
        raise UnknownAction(
            f"action {action!r}: no version of rate card {card_id!r} is in force at {instant_text(at)}",
            action=action,
        )
    return price_by(card, account, index, action, meters, dimensions, at)


def price_by(
    card: RateCard,
    account: TeamAccount,
    index: AccountIndex,
    action: str,
    meters: dict[str, str],
    dimensions: dict[str, str],
    at: datetime,
) -> PricedUsage | None:
    """As ``price_for``, by this version of a card."""
    if not card.is_graduated(action):
        price = price_usage(card, action, meters, dimensions, _no_position)
        return None if price is None else PricedUsage(card.pin, price, _NO_MOVES)
    period: list[datetime] = []

    def position_of(key: str) -> int:
        if not period:
            period.append(period_at(account, index, at)[0])
        return counter_position(account, index, period[0], key)

    price = price_usage(card, action, meters, dimensions, position_of)
    if price is None:
        return None
    moves = [CounterMove(key, period[0], after) for key, after in price.counters] if price.counters else []
    return PricedUsage(card.pin, price, moves)


def _no_position(key: str) -> int:
    raise AssertionError(f"{key}: a rate without tiers asks for no counter")


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
    if corrected_by is not None:
        pass_time(decision)
        _release(decision, record, charge_id)
        _waive(decision, record, charge_id, context_digest, corrected_by=corrected_by)
        return
    own = None if record.hold_id is None else _own_hold(decision, record, record.hold_id)
    priced = _price(decision, record, catalogue, own)
    if priced is None:
        pass_time(decision)
        _waive(decision, record, charge_id, context_digest)
        return
    _require_room(account, priced.price.amount_micros)
    pass_time(decision)
    if own is not None and record.hold_id is not None:
        # A turn may have moved what the hold sets aside, and the hold may have ended.
        own = _own_hold(decision, record, record.hold_id)
    moves = _charge(decision, record, charge_id, priced, own, context_digest)
    if moves:
        reach_thresholds(decision, moves)
    if account.auto_top_up is not None:
        look_at_top_up(decision)


def charge_priced(decision: Decision, record: UsageRecord, priced: PricedUsage) -> None:
    """The record, which names no hold, is charged at a price found before: what plans do that charge many equal uses at once.

    Raises: AmountOutOfRange; AccountClosed.
    """
    require_open(decision.account)
    _require_room(decision.account, priced.price.amount_micros)
    pass_time(decision)
    moves = _charge(decision, record, record.usage_key(), priced, None, None)
    if moves:
        reach_thresholds(decision, moves)


def _price(
    decision: Decision, record: UsageRecord, catalogue: Catalogue, own: _OwnHold | None
) -> PricedUsage | None:
    """The price by the card in force; of work that ran under a quote the quoted total, once, else by the quoted card."""
    account, index, at = decision.account, decision.index, record.occurred_at
    quote = None if own is None else own.quote
    if own is None or quote is None:
        return price_for(account, catalogue, index, record.action, record.meters, record.dimensions, at)
    as_quoted = (record.meters, record.dimensions) == (quote.meters, quote.dimensions)
    if as_quoted and record.action == quote.action and not own.is_quote_charged:
        price = Price(quote.total_micros, bytes(quote.computation))
        return PricedUsage(quote.card, price, [], quote.quote_id)
    card = catalogue.card(quote.card.card_id, quote.card.version)
    assert card is not None, (
        f"a quote pins {quote.card.card_id} version {quote.card.version}, which is not published"
    )
    return price_by(card, account, index, record.action, record.meters, record.dimensions, at)


def _own_hold(decision: Decision, record: UsageRecord, hold_id: str) -> _OwnHold | None:
    """What the record's own hold is to it, as it will be once time has passed; None when it is none of this team's.

    A quote binds work that occurred while its hold was open, however late it is recorded; the credit of a hold that has ended
    serves such work until late grace after its end.
    """
    at, occurred = decision.at, record.occurred_at
    hold = open_hold(decision.account, hold_id)
    if hold is not None:
        has_ended = hold.expires_at <= at
        is_bound = hold.made_at <= occurred and (not has_ended or occurred < hold.expires_at)
        if has_ended and not is_bound:
            return None
        serves = has_ended and at < hold.expires_at + LATE_GRACE
        return _OwnHold(
            hold.quote if is_bound else None, hold.is_quote_charged, hold.lines if serves else None
        )
    entry = decision.index.entry("hold", hold_id)
    if entry is None:
        return None
    ended = msgspec.json.decode(entry, type=EndedHold)
    if not ended.made_at <= occurred < ended.ended_at:
        return None
    left = HoldLeft(ended.lines, ended.is_quote_charged)
    if late := decision.index.entry("hold_left", hold_id):
        left = msgspec.json.decode(late, type=HoldLeft)
    return _OwnHold(
        ended.quote, left.is_quote_charged, left.lines if at < ended.ended_at + LATE_GRACE else []
    )


def _require_room(account: TeamAccount, amount_micros: int) -> None:
    if amount_micros + account.debt_micros > AMOUNT_MAX:
        raise AmountOutOfRange(
            "the charge would take the account's debt beyond 2^62 micro-credits", team_id=account.team_id
        )


class _Drawn(NamedTuple):
    """Which lots pay: all lines in the order drawn, those of the record's own hold among them, and what an ended one has left."""

    lines: list[LotLine]
    hold_lines: list[LotLine]
    hold_left: HoldLeft | None


def _draw_held(decision: Decision, record: UsageRecord, priced: PricedUsage, own: _OwnHold) -> _Drawn:
    """The record's own hold gives first, then free credit in two passes."""
    account, amount = decision.account, priced.price.amount_micros
    instants = (record.occurred_at, decision.at)
    assert record.hold_id is not None, "what a record finds of its hold, it finds by its id"
    hold = open_hold(account, record.hold_id)
    before: list[LotLine] = []
    left = None
    if hold is not None:
        held = lots.from_lines(account, hold.lines, amount)
    else:
        given = own.left or []
        held = before = lots.from_lines(account, _still_free(account, given), amount)
        is_charged = own.is_quote_charged or priced.quote_id is not None
        left = HoldLeft(lots.less(given, held), is_charged)
    rest = amount - lots.total(held)
    drawn = lots.draw(account, rest, instants, record.action, record.project, before)
    return _Drawn([*held, *drawn], held, left)


def _still_free(account: TeamAccount, lines: list[LotLine]) -> list[LotLine]:
    """What of an ended hold's lines nobody has drawn or set aside since."""
    free = {lot.terms.lot_id: lot.free_micros for lot in account.lots}
    return [LotLine(line.lot_id, min(line.amount_micros, free.get(line.lot_id, 0))) for line in lines]


def _charge(
    decision: Decision,
    record: UsageRecord,
    charge_id: str,
    priced: PricedUsage,
    own: _OwnHold | None,
    context_digest: str | None,
) -> list[WindowMove]:
    account, price = decision.account, priced.price
    amount, at = price.amount_micros, decision.at
    occurred_at, action, member, project = record.occurred_at, record.action, record.member, record.project
    if own is None:
        lines = lots.draw(account, amount, (occurred_at, at), action, project)
        hold_lines, hold_left = _NO_LINES, None
    else:
        lines, hold_lines, hold_left = _draw_held(decision, record, priced, own)
    drawn = 0
    for line in lines:
        drawn += line.amount_micros
    moves: list[WindowMove] = []
    if account.limits:
        moves = window_moves(account, decision.index, occurred_at, amount, member, project, action)
    decision.record(
        # In the order of the fields: so named, they are found fastest.
        CreditsCharged(
            recorded_at=at,
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
            member=member,
            project=project,
            work=record.work,
            step=record.step,
            content_digest=record.content_digest(),
            context_digest=context_digest,
            origin=record.origin,
            card=priced.card,
            computation=msgspec.Raw(price.computation),
            amount_micros=amount,
            lines=lines,
            debt_micros=amount - drawn,
            counters=priced.counters,
            hold_id=record.hold_id,
            hold_lines=hold_lines,
            hold_left=hold_left,
            quote_id=priced.quote_id,
            windows=moves,
            limits_passed=passed(account, moves) if moves else [],
        )
    )
    return moves


def _failed(decision: Decision, record: UsageRecord, charge_id: str, context_digest: str | None) -> None:
    """Failed or cancelled work costs nothing; the record it corrects is refunded, or will be waived when it arrives."""
    if record.corrects is None:
        pass_time(decision)
        _release(decision, record, charge_id)
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
    charge = on_file.event if on_file is not None and isinstance(on_file.event, CHARGES) else None
    left = 0
    if charge is not None:
        left = charge.amount_micros - refunded_micros(decision.index, charge.charge_id)
        require_room(decision, charge, left)
    pass_time(decision)
    _release(decision, record, charge_id)
    if on_file is None:
        _await(decision, corrected, record.id)
    refund_id = _refund_rest(decision, charge, left, record, charge_id) if charge and left else None
    _waive(decision, record, charge_id, context_digest, refund_id=refund_id)


def _release(decision: Decision, record: UsageRecord, charge_id: str) -> None:
    """Work that costs nothing needs its hold no more; one that has ended already stays as it is."""
    if record.hold_id is not None and open_hold(decision.account, record.hold_id) is not None:
        release_hold(decision, record.hold_id, charge_id)


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
    decision: Decision, charge: Charge, left_micros: int, record: UsageRecord, refund_id: str
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
            hold_id=record.hold_id,
        )
    )
