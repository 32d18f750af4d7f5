"""Deferred revenue rolled forward: what was sold but not yet used, period by period, exact to the minor unit.

    opening + sold - used - breakage - refunded = closing

A lot that was bought carries its cost basis; its successors share it with their origin. Of so many credits used, the revenue is
the price times them by all that were bought, rounded down, cumulatively: the last credit brings what the roundings left. So
every figure of a lot follows from how much of it was used and broken by the end of a period, never from the order of events, and
anybody can work it out from a balance. Amounts are minor units without tax.

Used is what charges and repaid debt drew, less what refunds gave back. Breakage is what expired, or was lowered by hand. A
chargeback that was lost takes the whole price back: it is refunded, and what had been used or broken of the lot is no revenue
any more; what was used is owed, and whoever repays it brings the revenue. An event counts in the period on whose invoice it is,
a use never before the sale of its lot. Plan fees are revenue of their period and are not deferred.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from domain.account import events as e
from domain.invoices.assigning import RunningBooks, served_at
from projections.replay import EventSource


class Flow(NamedTuple):
    """What changed in a period, in minor units."""

    sold_minor: int = 0
    used_minor: int = 0
    breakage_minor: int = 0
    refunded_minor: int = 0

    @property
    def deferred_minor(self) -> int:
        """By how much deferred revenue grew, or (negative) shrank."""
        return self.sold_minor - self.used_minor - self.breakage_minor - self.refunded_minor

    def plus(self, other: Flow) -> Flow:
        """Both together."""
        return Flow(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def less(self, before: Flow) -> Flow:
        """What changed since then."""
        return Flow(*(mine - theirs for mine, theirs in zip(self, before, strict=True)))


NOTHING = Flow()


class TeamFlow(NamedTuple):
    """What changed for one team in one of its periods and one currency; ``label`` is the period's name."""

    team_id: str
    issuer_id: str
    currency: str
    start: datetime
    label: str
    flow: Flow


class RollForward(msgspec.Struct, frozen=True, kw_only=True):
    """Deferred revenue of one issuer and currency over the periods of one name, of all teams whose flows were given."""

    issuer_id: str
    currency: str
    label: str
    opening_minor: int
    sold_minor: int
    used_minor: int
    breakage_minor: int
    refunded_minor: int
    closing_minor: int


def team_flows(source: EventSource, team_id: str, until: int | None = None) -> Iterator[TeamFlow]:
    """What changed in each period of the team in which anything did, oldest first; nothing for a team without an account.

    Only for refunds the history is read again, as far as the last charge that they name. Memory grows with the lots that were
    bought, the periods in which each was used, and the refunds.
    """
    fold: Deferred | None = None
    last = 0
    for recorded in source.events(team_id, until=until):
        last = recorded.originator_version
        if fold is None:
            assert isinstance(recorded.event, e.AccountOpened), "the first event opens the account"
            fold = Deferred(recorded.event)
        fold.take(recorded)
    if fold is None:
        return
    wanted = fold.refunded
    if wanted:
        for recorded in source.events(team_id, until=last):
            event = recorded.event
            if isinstance(event, e.CHARGES) and event.charge_id in wanted:
                fold.know(event)
                wanted.discard(event.charge_id)
                if not wanted:
                    break
    yield from fold.flows()


def rolled_forward(flows: Iterable[TeamFlow]) -> list[RollForward]:
    """The roll-forward by issuer, currency and name of the period, in that order; each opens as the one before closed.

    Names are those of the teams' own periods, which begin on a day of that month. Memory grows with the rows that it gives.
    """
    sums: dict[tuple[str, str, str], Flow] = defaultdict(Flow)
    for each in flows:
        key = (each.issuer_id, each.currency, each.label)
        sums[key] = sums[key].plus(each.flow)
    rows: list[RollForward] = []
    for (issuer_id, currency, label), flow in sorted(sums.items()):
        before = rows[-1] if rows else None
        is_same = before is not None and (before.issuer_id, before.currency) == (issuer_id, currency)
        opening = before.closing_minor if before is not None and is_same else 0
        rows.append(_row(issuer_id, currency, label, opening, flow))
    return rows


def _row(issuer_id: str, currency: str, label: str, opening_minor: int, flow: Flow) -> RollForward:
    return RollForward(
        issuer_id=issuer_id,
        currency=currency,
        label=label,
        opening_minor=opening_minor,
        sold_minor=flow.sold_minor,
        used_minor=flow.used_minor,
        breakage_minor=flow.breakage_minor,
        refunded_minor=flow.refunded_minor,
        closing_minor=opening_minor + flow.deferred_minor,
    )


class _Line:
    """One lot that was bought, with its successors: its price, and how much of it went, by the start of a period."""

    __slots__ = ("amount_micros", "basis", "broken", "lost", "sold", "used")

    def __init__(self, amount_micros: int, basis: e.CostBasis, sold: datetime) -> None:
        self.amount_micros, self.basis, self.sold = amount_micros, basis, sold
        self.used: dict[datetime, int] = defaultdict(int)
        self.broken: dict[datetime, int] = defaultdict(int)
        self.lost: datetime | None = None

    def flows(self) -> Iterator[tuple[datetime, Flow]]:
        """What changed in each period in which anything did; together they are the lot's figures as they stand."""
        starts = {self.sold, *self.used, *self.broken} | ({self.lost} if self.lost else set())
        used = broken = 0
        before = NOTHING
        for start in sorted(starts):
            used += self.used.get(start, 0)
            broken += self.broken.get(start, 0)
            standing = self._standing(used, broken, is_lost=self.lost is not None and self.lost <= start)
            if standing != before:
                yield start, standing.less(before)
            before = standing

    def _standing(self, used_micros: int, broken_micros: int, *, is_lost: bool) -> Flow:
        """The lot's figures since it was sold, by what of it was used and broken."""
        price = self.basis.price_minor
        if is_lost:
            return Flow(sold_minor=price, refunded_minor=price)
        used = self._revenue(used_micros)
        return Flow(price, used, self._revenue(used_micros + broken_micros) - used)

    def _revenue(self, micros: int) -> int:
        """The price of so many of its credits, rounded down. A refund may be on an earlier invoice than what it gives back to."""
        return self.basis.price_minor * min(max(micros, 0), self.amount_micros) // self.amount_micros


class _GivenBack(NamedTuple):
    """What a refund gave back to bought lots, and the bounds of the oldest open period when it did."""

    charge_id: str
    open_start: datetime
    open_end: datetime
    lines: list[tuple[_Line, int]]


class Deferred:
    """Folds one team's events, in order and from the first, into what was sold, used, broken and refunded.

    A refund counts where its charge does: the charges that ``refunded`` names must be known before the flows are asked for.
    """

    def __init__(self, opened: e.AccountOpened) -> None:
        self._team_id, self._issuer_id = opened.team_id, opened.issuer_id
        self._running = RunningBooks(opened)
        self._lines: dict[str, _Line] = {}
        self._origins: dict[str, str] = {}
        self._given_back: list[_GivenBack] = []
        self._occurred: dict[str, datetime] = {}

    def take(self, recorded: e.RecordedEvent) -> None:
        """The event is in the figures."""
        event = recorded.event
        self._running.learn(recorded)
        move = _MOVE.get(type(event))
        if move is not None:
            move(self, event)

    @property
    def refunded(self) -> set[str]:
        """The charges of which something came back to bought lots."""
        return {each.charge_id for each in self._given_back}

    def know(self, charge: e.Charge) -> None:
        """A charge that was refunded is known."""
        self._occurred[charge.charge_id] = charge.occurred_at

    def flows(self) -> Iterator[TeamFlow]:
        """What changed in each period and currency in which anything did, oldest first."""
        self._give_back()
        sums: dict[tuple[datetime, str], Flow] = defaultdict(Flow)
        for line in self._lines.values():
            for start, flow in line.flows():
                key = (start, line.basis.currency)
                sums[key] = sums[key].plus(flow)
        books = self._running.books
        for (start, currency), flow in sorted(sums.items()):
            if flow != NOTHING:
                label = books.period_of(start).label
                yield TeamFlow(self._team_id, self._issuer_id, currency, start, label, flow)

    def _give_back(self) -> None:
        for charge_id, open_start, open_end, lines in self._given_back:
            at = self._occurred[charge_id]
            start = open_start if at < open_end else self._running.books.period_of(at).start
            for line, micros in lines:
                line.used[max(start, line.sold)] -= micros
        self._given_back = []

    def _line(self, lot_id: str) -> _Line | None:
        """The lot's line, if it was bought and no chargeback of it was lost."""
        origin = self._origins.get(lot_id)
        line = None if origin is None else self._lines[origin]
        return None if line is None or line.lost is not None else line

    def _start(self, event: e.AccountEvent) -> datetime:
        return self._running.start_for(served_at(event))

    # --- what moves ---

    def sold(self, event: e.CreditsToppedUp) -> None:
        """A lot was bought."""
        lot = event.lot
        assert lot.cost_basis is not None, "what is bought has a price"
        self._lines[lot.lot_id] = _Line(event.amount_micros, lot.cost_basis, self._start(event))
        self._origins[lot.lot_id] = lot.lot_id

    def used(self, event: e.Charge | e.DebtRepaid) -> None:
        """Lots were drawn."""
        for lot_line in event.lines:
            line = self._line(lot_line.lot_id)
            if line is not None:
                line.used[max(self._start(event), line.sold)] += lot_line.amount_micros

    def given_back(self, event: e.ChargeRefunded) -> None:
        """What was drawn is back in its lot, or in one that succeeds it."""
        self._succeeded(event.lots)
        lines = [
            (line, each.amount_micros)
            for each in event.lines
            if (line := self._line(each.lot_id)) is not None
        ]
        if lines:
            account = self._running.account
            self._given_back.append(
                _GivenBack(event.charge_id, account.books_start, account.books_end, lines)
            )

    def rolled(self, event: e.CreditsRolledOver) -> None:
        """Credit moved on to a successor; none of it is used."""
        self._succeeded(event.lots)

    def expired(self, event: e.CreditsExpired) -> None:
        """What was left of a lot is breakage."""
        line = self._line(event.lot_id)
        if line is not None:
            line.broken[max(self._start(event), line.sold)] += event.amount_micros

    def lowered(self, event: e.BalanceLowered | e.GrantVoided) -> None:
        """Credit was taken away, unused."""
        for lot_line in event.lines:
            line = self._line(lot_line.lot_id)
            if line is not None:
                line.broken[max(self._start(event), line.sold)] += lot_line.amount_micros

    def lost(self, event: e.ChargebackLost) -> None:
        """The bank has taken the whole price back."""
        line = self._line(event.origin_lot_id)
        if line is not None:
            line.lost = max(self._start(event), line.sold)

    def _succeeded(self, lots: Iterable[e.LotTerms]) -> None:
        for terms in lots:
            if terms.origin_lot_id in self._lines:
                self._origins[terms.lot_id] = terms.origin_lot_id


_MOVE: dict[type[e.AccountEvent], Callable[[Deferred, Any], None]] = {
    e.CreditsToppedUp: Deferred.sold,
    e.CreditsCharged: Deferred.used,
    e.HoldCaptured: Deferred.used,
    e.DebtRepaid: Deferred.used,
    e.ChargeRefunded: Deferred.given_back,
    e.CreditsRolledOver: Deferred.rolled,
    e.CreditsExpired: Deferred.expired,
    e.BalanceLowered: Deferred.lowered,
    e.GrantVoided: Deferred.lowered,
    e.ChargebackLost: Deferred.lost,
}
