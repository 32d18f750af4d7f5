"""What a team has at an instant: settled credits split exactly into their parts, debt, and every lot with its terms."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from domain.account.estimating import account_at
from domain.account.events import CostBasis, LotSource
from domain.account.index import AccountIndex
from domain.account.lots import is_open_at
from domain.account.state import Lot, TeamAccount

LotState = Literal["open", "lapsed", "upcoming", "withheld"]


class LotBalance(msgspec.Struct, frozen=True, kw_only=True):
    """One lot at an instant: its terms, what is left of it, and how much of that may be spent.

    ``held_micros`` is set aside in open holds, whatever the lot's state. The rest is what ``state`` says: "withheld" while a
    chargeback is open on it, "upcoming" before ``effective_at``, "lapsed" from ``expires_at`` until its breakage is booked, else
    "open", and then all of it is available.
    """

    lot_id: str
    origin_lot_id: str
    source: LotSource
    state: LotState
    remaining_micros: int
    held_micros: int
    available_micros: int
    withheld_micros: int
    lapsed_micros: int
    upcoming_micros: int
    priority: int
    action: str | None
    project: str | None
    granted_at: datetime
    effective_at: datetime
    expires_at: datetime | None
    cost_basis: CostBasis | None


class NextExpiry(msgspec.Struct, frozen=True):
    """The next instant at which available credit lapses if it is not used before, and how much of it."""

    at: datetime
    amount_micros: int


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """A team's credits at the instant ``at``, as known at ``version`` of the account and ``position`` of its shard.

    ``settled_micros`` = available + held + lapsed + withheld + upcoming, always. ``lots`` are in burn order.
    ``available_micros`` counts every lot open at ``at``, also those with a scope; ``unscoped_micros`` is the part of it that
    pays for anything.
    """

    team_id: str
    status: Literal["open", "suspended", "closed"]
    at: datetime
    position: int
    version: int
    settled_micros: int
    available_micros: int
    unscoped_micros: int
    held_micros: int
    lapsed_micros: int
    withheld_micros: int
    upcoming_micros: int
    debt_micros: int
    next_expiry: NextExpiry | None
    lots: list[LotBalance]


def balance_of(
    account: TeamAccount, at: datetime, position: int, version: int, index: AccountIndex | None = None
) -> Balance:
    """The balance at ``at``, with everything booked that is due by then, whether or not the ledger has written it yet.

    ``position`` and ``version`` say what the answer knows; the account is not changed. An instant before the account's last
    event is answered for the instant of that event.
    Source: design, "Words" (settled and its parts) and "Time passes first".
    """
    at = max(at, account.recorded_at)
    return balance_as_booked(account_at(account, at, index), at, position, version)


def balance_as_booked(account: TeamAccount, at: datetime, position: int, version: int) -> Balance:
    """The balance at ``at`` of an account on which everything due by then is booked."""
    lots = [_lot(lot, at) for lot in account.lots]
    available, held, lapsed, withheld, upcoming = (
        sum(getattr(lot, part) for lot in lots)
        for part in ("available_micros", "held_micros", "lapsed_micros", "withheld_micros", "upcoming_micros")
    )
    assert account.settled_micros == available + held + lapsed + withheld + upcoming, (
        "the parts are not the settled credits"
    )
    return Balance(
        team_id=account.team_id,
        status=account.status,
        at=at,
        position=position,
        version=version,
        settled_micros=account.settled_micros,
        available_micros=available,
        unscoped_micros=sum(lot.available_micros for lot in lots if not (lot.action or lot.project)),
        held_micros=held,
        lapsed_micros=lapsed,
        withheld_micros=withheld,
        upcoming_micros=upcoming,
        debt_micros=account.debt_micros,
        next_expiry=_next_expiry(lots),
        lots=lots,
    )


def available_micros(account: TeamAccount, at: datetime) -> int:
    """What may be spent at ``at`` of an account on which everything due by then is booked."""
    return sum([lot.free_micros for lot in account.lots if is_open_at(lot.terms, at)])


def lot_state(lot: Lot, at: datetime) -> LotState:
    """What the part of a lot is, at the instant, that no hold sets aside."""
    if lot.withheld_since is not None:
        return "withheld"
    if is_open_at(lot.terms, at):
        return "open"
    return "upcoming" if at < lot.terms.effective_at else "lapsed"


def _lot(lot: Lot, at: datetime) -> LotBalance:
    terms, state = lot.terms, lot_state(lot, at)
    rest = lot.remaining_micros - lot.held_micros
    return LotBalance(
        lot_id=terms.lot_id,
        origin_lot_id=terms.origin_lot_id,
        source=terms.source,
        state=state,
        remaining_micros=lot.remaining_micros,
        held_micros=lot.held_micros,
        available_micros=rest if state == "open" else 0,
        withheld_micros=rest if state == "withheld" else 0,
        lapsed_micros=rest if state == "lapsed" else 0,
        upcoming_micros=rest if state == "upcoming" else 0,
        priority=terms.priority,
        action=terms.action,
        project=terms.project,
        granted_at=terms.granted_at,
        effective_at=terms.effective_at,
        expires_at=terms.expires_at,
        cost_basis=terms.cost_basis,
    )


def _next_expiry(lots: list[LotBalance]) -> NextExpiry | None:
    ending = [
        (lot.expires_at, lot.available_micros) for lot in lots if lot.available_micros and lot.expires_at
    ]
    if not ending:
        return None
    first = min(at for at, _ in ending)
    return NextExpiry(first, sum(micros for at, micros in ending if at == first))
