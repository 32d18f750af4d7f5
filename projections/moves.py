"""What one event moves, told by the event alone: credits in and out of each lot, and credits set aside in holds.

An account folded from the events must have the same sums; that they agree is what explanations and ``verify`` rely on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from domain.account.events import (
    AccountEvent,
    AllowanceGranted,
    BalanceLowered,
    BalanceRaised,
    ChargebackLost,
    ChargeRefunded,
    CreditsCharged,
    CreditsExpired,
    CreditsGranted,
    CreditsHeld,
    CreditsRolledOver,
    CreditsToppedUp,
    DebtRepaid,
    GrantVoided,
    HoldCaptured,
    HoldExpired,
    HoldLeft,
    HoldLine,
    HoldReleased,
    LotLine,
    MovingEvent,
)
from domain.account.state import TeamAccount


class Sums(NamedTuple):
    """A team's settled credits, its debt, and how much of the settled is set aside in holds."""

    settled_micros: int
    debt_micros: int
    held_micros: int = 0

    def less(self, before: Sums) -> Sums:
        """What changed since then; each may be negative."""
        return Sums(
            self.settled_micros - before.settled_micros,
            self.debt_micros - before.debt_micros,
            self.held_micros - before.held_micros,
        )

    def plus(self, change: Sums) -> Sums:
        """The sums after a change."""
        return Sums(
            self.settled_micros + change.settled_micros,
            self.debt_micros + change.debt_micros,
            self.held_micros + change.held_micros,
        )


NOTHING = Sums(0, 0, 0)


class LotMove(NamedTuple):
    """Micro-credits that came into a lot, or (negative) left it."""

    lot_id: str
    change_micros: int


def sums_of(account: TeamAccount) -> Sums:
    """The sums of an account as it stands."""
    return Sums(account.settled_micros, account.debt_micros, sum(lot.held_micros for lot in account.lots))


def sums_after(event: AccountEvent, before: Sums) -> Sums:
    """The team's sums once the event is applied: settled and debt as it says, held by what it sets aside or no longer does."""
    held_micros = before.held_micros + held_change(event)
    if isinstance(event, MovingEvent):
        return Sums(event.settled_after_micros, event.debt_after_micros, held_micros)
    return Sums(before.settled_micros, before.debt_micros, held_micros)


def lot_moves(event: AccountEvent) -> Iterable[LotMove]:
    """What came into each lot and what left it; nothing for an event that moves no credits."""
    told = _LOTS.get(type(event))
    return () if told is None else told(event)


def held_change(event: AccountEvent) -> int:
    """By how much the credits set aside in open holds grow or (negative) shrink."""
    told = _HELD.get(type(event))
    return 0 if told is None else told(event)


def _issued(event: CreditsGranted | CreditsToppedUp | BalanceRaised) -> Iterator[LotMove]:
    yield LotMove(event.lot.lot_id, event.amount_micros)


def _allowed(event: AllowanceGranted) -> Iterator[LotMove]:
    if event.lot is not None:
        yield LotMove(event.lot.lot_id, event.amount_micros)


def _taken(
    event: CreditsCharged | HoldCaptured | DebtRepaid | BalanceLowered | GrantVoided | ChargebackLost,
) -> Iterator[LotMove]:
    return (LotMove(line.lot_id, -line.amount_micros) for line in event.lines)


def _expired(event: CreditsExpired) -> Iterator[LotMove]:
    yield LotMove(event.lot_id, -event.amount_micros)


def _refunded(event: ChargeRefunded) -> Iterator[LotMove]:
    return (
        LotMove(line.lot_id, line.amount_micros)
        for line in event.lines
        if line.target in ("lot", "repayment")
    )


def _rolled(event: CreditsRolledOver) -> Iterator[LotMove]:
    for line in event.lines:
        yield LotMove(line.lot_id, -line.amount_micros)
        yield LotMove(line.to_lot_id, line.amount_micros)


_LOTS: dict[type[AccountEvent], Callable[[Any], Iterable[LotMove]]] = {
    CreditsGranted: _issued,
    CreditsToppedUp: _issued,
    BalanceRaised: _issued,
    AllowanceGranted: _allowed,
    CreditsCharged: _taken,
    HoldCaptured: _taken,
    DebtRepaid: _taken,
    BalanceLowered: _taken,
    GrantVoided: _taken,
    ChargebackLost: _taken,
    CreditsExpired: _expired,
    ChargeRefunded: _refunded,
    CreditsRolledOver: _rolled,
}


class TakesFromHold(Protocol):
    """A charge, whole or in part, as far as it says what it takes from a hold."""

    @property
    def hold_lines(self) -> list[LotLine]:
        """What its own hold had set aside."""
        ...

    @property
    def hold_left(self) -> HoldLeft | None:
        """What an ended hold may still give."""
        ...


def held_change_of_charge(event: TakesFromHold) -> int:
    """As ``held_change``, of a charge that may have been read in part."""
    # What an ended hold still gives to late usage is set aside no more.
    return 0 if event.hold_left is not None else -_sum(event.hold_lines)


def _cut(event: GrantVoided | ChargebackLost) -> int:
    return -_sum(event.holds)


def _sum(lines: Iterable[LotLine | HoldLine]) -> int:
    return sum(line.amount_micros for line in lines)


def _set_aside(event: CreditsHeld) -> int:
    return event.amount_micros


def _given_back(event: HoldReleased | HoldExpired) -> int:
    return -event.amount_micros


def _captured(event: HoldCaptured) -> int:
    return -_sum(event.hold_lines)


_HELD: dict[type[AccountEvent], Callable[[Any], int]] = {
    CreditsHeld: _set_aside,
    HoldReleased: _given_back,
    HoldExpired: _given_back,
    HoldCaptured: _captured,
    CreditsCharged: held_change_of_charge,
    GrantVoided: _cut,
    ChargebackLost: _cut,
}
