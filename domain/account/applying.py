"""How each event changes the account: applying never refuses, it asserts what deciding promised."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from domain.account import lots
from domain.account.events import (
    AccountClosed,
    AccountEvent,
    AccountOpened,
    ChargeRefunded,
    CorrectionAwaited,
    CounterMove,
    CreditsCharged,
    CreditsExpired,
    CreditsGranted,
    CreditsToppedUp,
    DebtRepaid,
    LotLine,
    LotTerms,
    MovingEvent,
    UsageWaived,
)
from domain.account.index import IndexChange, RefundsOfCharge, Repayment
from domain.account.state import TeamAccount, published_terms
from domain.periods import period_text

_encode = msgspec.json.encode
_NOTHING: list[IndexChange] = []


def opened(event: AccountOpened) -> TeamAccount:
    """The account that the first event opens, at version 1."""
    return TeamAccount(
        team_id=event.team_id,
        zone=event.zone,
        anchor_day=event.anchor_day,
        card_id=event.card_id,
        opened_at=event.recorded_at,
        recorded_at=event.recorded_at,
        passed_at=event.recorded_at,
        version=1,
    )


def apply(account: TeamAccount, event: AccountEvent) -> list[IndexChange]:
    """The account is as the event says, one version on; returns the index entries that changed."""
    account.version += 1
    recorded_at = event.recorded_at
    assert recorded_at >= account.recorded_at, "recorded_at never decreases within a team"
    account.recorded_at = account.passed_at = recorded_at
    changes = _APPLY[type(event)](account, event)
    if isinstance(event, MovingEvent):
        assert account.settled_micros == event.settled_after_micros, (
            "settled credits are not what the event says"
        )
        assert account.debt_micros == event.debt_after_micros, "debt is not what the event says"
    return changes


def fold(
    account: TeamAccount | None, events: Iterable[AccountEvent]
) -> tuple[TeamAccount | None, list[IndexChange]]:
    """The account after the events, and every index change they made, in order."""
    changes: list[IndexChange] = []
    for event in events:
        if account is None:
            assert isinstance(event, AccountOpened), "the first event opens the account"
            account = opened(event)
        else:
            changes += apply(account, event)
    return account, changes


def _closed(account: TeamAccount, event: AccountClosed) -> list[IndexChange]:
    account.status = "closed"
    return _NOTHING


def _issued(account: TeamAccount, event: CreditsGranted | CreditsToppedUp) -> list[IndexChange]:
    lots.issue(account, event.lot, event.amount_micros)
    return _NOTHING


def _charged(account: TeamAccount, event: CreditsCharged) -> list[IndexChange]:
    account.debt_micros += event.debt_micros
    if not event.counters:
        return _taken(account, event.lines)
    return _taken(account, event.lines) + _counted(account, event.counters)


def _taken(account: TeamAccount, lines: list[LotLine]) -> list[IndexChange]:
    closed = lots.take(account, lines)
    return [_lot_entry(terms) for terms in closed] if closed else _NOTHING


def _lot_entry(terms: LotTerms) -> IndexChange:
    return IndexChange("lot", terms.lot_id, _encode(published_terms(terms)))


def _counted(account: TeamAccount, moves: list[CounterMove]) -> list[IndexChange]:
    """Counters of the two latest periods used stay in the state; older ones go to the index."""
    changes: list[IndexChange] = []
    for move in moves:
        period = period_text(move.period_start)
        kept = account.counters
        if period not in kept and len(kept) == 2 and period < min(kept):
            changes.append(counter_entry(period, move.key, move.position_after))
            continue
        kept.setdefault(period, {})[move.key] = move.position_after
        if len(kept) > 2:
            oldest = min(kept)
            changes += [counter_entry(oldest, key, position) for key, position in kept.pop(oldest).items()]
    return changes


def counter_key(period: str, key: str) -> str:
    """The index key of an old counter: its period's start, then its own key."""
    return f"{period} {key}"


def counter_entry(period: str, key: str, position: int) -> IndexChange:
    """The index entry of an old counter: its position as decimal digits."""
    return IndexChange("counter", counter_key(period, key), str(position).encode())


def _waived(account: TeamAccount, event: UsageWaived) -> list[IndexChange]:
    account.corrections_awaited.pop(event.charge_id, None)
    return _NOTHING


def _awaited(account: TeamAccount, event: CorrectionAwaited) -> list[IndexChange]:
    account.corrections_awaited[event.charge_id] = event.corrected_by
    return _NOTHING


def _refunded(account: TeamAccount, event: ChargeRefunded) -> list[IndexChange]:
    changes = [IndexChange("refund", event.charge_id, _encode(RefundsOfCharge(event.refunded_after_micros)))]
    for terms in event.lots:
        lots.issue(account, terms, 0)
    for line in event.lines:
        if line.target == "debt":
            account.debt_micros -= line.amount_micros
            assert account.debt_micros >= 0, "debt would be below zero"
            continue
        lot = lots.find(account, line.lot_id)
        assert lot is not None, f"{line.lot_id} is not open"
        lot.remaining_micros += line.amount_micros
        account.settled_micros += line.amount_micros
        if line.target == "repayment":
            left = line.repayment_left_micros
            entry = _encode(Repayment(line.drawn_lot_id, left)) if left else None
            changes.append(IndexChange("repayment", line.repayment_key, entry))
    return changes


def _repaid(account: TeamAccount, event: DebtRepaid) -> list[IndexChange]:
    account.passed_at = event.effective_at
    account.debt_micros -= event.amount_micros
    assert account.debt_micros >= 0, "debt would be below zero"
    changes = [
        IndexChange(
            "repayment",
            f"{account.version:012d}.{place:04d}",
            _encode(Repayment(line.lot_id, line.amount_micros)),
        )
        for place, line in enumerate(event.lines)
    ]
    return changes + _taken(account, event.lines)


def _expired(account: TeamAccount, event: CreditsExpired) -> list[IndexChange]:
    account.passed_at = event.effective_at
    return _taken(account, [LotLine(event.lot_id, event.amount_micros)])


_APPLY: dict[type[AccountEvent], Callable[[TeamAccount, Any], list[IndexChange]]] = {
    AccountClosed: _closed,
    CreditsGranted: _issued,
    CreditsToppedUp: _issued,
    CreditsCharged: _charged,
    UsageWaived: _waived,
    CorrectionAwaited: _awaited,
    ChargeRefunded: _refunded,
    DebtRepaid: _repaid,
    CreditsExpired: _expired,
}
