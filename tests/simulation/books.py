"""One team's books, kept from its stored events alone: every credit of every lot is accounted for, whatever the account says.

Nothing here asks the product's rules: an event says what moved, the books add it up and object to what cannot be.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from domain.account import events as e

GRACE = timedelta(hours=24)


class Wrong(AssertionError):
    """Something that must always hold did not; the message begins with its code."""


def require(is_so: bool, code: str, what: str, *facts: object) -> None:
    """What must hold, holds. Raises: Wrong, with its code and the facts."""
    if not is_so:
        raise Wrong(f"{code}: {what}: {', '.join(map(str, facts))}")


class BookedLot(msgspec.Struct):
    """What became of one issue of credits: left, used, broken, voided, lowered, moved out and in, and what of it is held."""

    terms: e.LotTerms
    expires_at: datetime | None
    issued: int = 0
    left: int = 0
    used: int = 0
    broken: int = 0
    voided: int = 0
    lowered: int = 0
    moved: int = 0
    held: int = 0
    held_until: datetime | None = None


class BookedHold(msgspec.Struct):
    """What a hold still sets aside, by lot, and how it ended."""

    made_at: datetime
    expires_at: datetime
    pins: dict[str, int]
    ended: str | None = None


class BookedCharge(msgspec.Struct):
    """A charge, and what was given back of it."""

    amount: int
    refunded: int = 0


class Books:
    """The books of one team after the events taken so far."""

    def __init__(self) -> None:
        self.version = 0
        self.recorded_at: datetime | None = None
        self.settled = self.debt = 0
        self.lots: dict[str, BookedLot] = {}
        self.holds: dict[str, BookedHold] = {}
        self.charges: dict[str, BookedCharge] = {}
        self.claims: set[str] = set()
        self.dues: set[str] = set()
        self.payments: set[str] = set()
        self.requested: dict[str, int] = {}
        self.period_end: datetime | None = None
        self.lost: set[str] = set()
        self.contested: set[str] = set()
        self.reached: set[tuple[str, datetime, int]] = set()

    def take(self, event: e.AccountEvent) -> None:
        """The event is in the books. Raises: Wrong."""
        self.version += 1
        require(
            self.recorded_at is None or self.recorded_at <= event.recorded_at,
            "I20",
            "recorded_at decreased",
            self.version,
        )
        self.recorded_at = event.recorded_at
        enter = _ENTER.get(type(event))
        if enter is not None:
            enter(self, event)
        if isinstance(event, e.MovingEvent):
            require(
                (self.settled, self.debt) == (event.settled_after_micros, event.debt_after_micros),
                "I6",
                "settled and debt are not what the events add up to",
                self.version,
                (self.settled, self.debt),
                (event.settled_after_micros, event.debt_after_micros),
            )
            if isinstance(event, e.DueEvent) and event.due_id is not None:
                require(event.due_id not in self.dues, "I19", "a due fact was booked twice", self.version)
                require(
                    event.effective_at <= event.recorded_at, "I20", "a due fact of the future", self.version
                )
                self.dues.add(event.due_id)

    def balance(self) -> None:
        """Conservation, lot by lot and line by line. Raises: Wrong."""
        lines: dict[str, int] = {}
        for lot_id, lot in self.lots.items():
            parts = (lot.left, lot.used, lot.broken, lot.voided, lot.lowered, lot.held)
            require(all(part >= 0 for part in parts), "I2", "a part of a lot is negative", lot_id, parts)
            require(lot.held <= lot.left, "I2", "more is held than is left", lot_id, lot.held, lot.left)
            line = lot.terms.origin_lot_id
            known = lot.left + lot.used + lot.broken + lot.voided + lot.lowered + lot.moved
            lines[line] = lines.get(line, 0) + lot.issued - known
        for line, difference in lines.items():
            require(difference == 0, "I1", "a line of lots does not add up", line, difference)
        pinned: dict[str, int] = {}
        for hold in self.holds.values():
            for lot_id, amount in hold.pins.items():
                pinned[lot_id] = pinned.get(lot_id, 0) + amount
        held = {lot_id: lot.held for lot_id, lot in self.lots.items() if lot.held}
        require(
            held == {k: v for k, v in pinned.items() if v}, "I12", "holds and lots disagree", held, pinned
        )
        require(self.settled == sum(lot.left for lot in self.lots.values()), "I6", "settled is not the sum")

    # --- lots ---

    def issue(self, terms: e.LotTerms, amount: int) -> None:
        """A lot is new."""
        require(terms.lot_id not in self.lots, "I1", "a lot was issued twice", terms.lot_id)
        self.lots[terms.lot_id] = BookedLot(terms, terms.expires_at, issued=amount, left=amount)
        self.settled += amount

    def reopen(self, terms: e.LotTerms) -> BookedLot:
        """The lot, new with nothing in it where it is a successor not seen before."""
        lot = self.lots.get(terms.lot_id)
        if lot is None:
            lot = self.lots[terms.lot_id] = BookedLot(terms, terms.expires_at)
        return lot

    def draw(self, lines: list[e.LotLine]) -> int:
        """Credits leave lots for a charge or a debt."""
        total = 0
        for lot_id, amount in _pairs(lines):
            require(amount > 0, "I2", "a line moves nothing", self.version)
            lot = self.lots[lot_id]
            lot.left -= amount
            lot.used += amount
            total += amount
        self.settled -= total
        return total

    def unpin(self, hold_id: str, lines: list[e.LotLine], at: datetime) -> None:
        """An open hold sets that much less aside."""
        hold = self.holds[hold_id]
        for lot_id, amount in _pairs(lines):
            hold.pins[lot_id] = hold.pins.get(lot_id, 0) - amount
            require(hold.pins[lot_id] >= 0, "I12", "more was taken from a hold than it set aside", hold_id)
            self.lots[lot_id].held -= amount
            self.lots[lot_id].held_until = at

    def end(self, hold_id: str, how: str, amount: int, at: datetime) -> None:
        """A hold resolves, once, and gives back all that it set aside."""
        hold = self.holds[hold_id]
        require(hold.ended is None, "I12", "a hold resolved twice", hold_id, hold.ended, how)
        require(amount == sum(hold.pins.values()), "I12", "a hold gave back another amount", hold_id)
        for lot_id, pinned in hold.pins.items():
            self.lots[lot_id].held -= pinned
            self.lots[lot_id].held_until = at
        hold.pins, hold.ended = {}, how

    # --- what came in ---

    def granted(self, event: e.CreditsGranted | e.BalanceRaised) -> None:
        """A grant or a raise."""
        require(event.lot.effective_at >= event.recorded_at, "I19", "a lot starts in the past", self.version)
        self.issue(event.lot, event.amount_micros)

    def topped_up(self, event: e.CreditsToppedUp) -> None:
        """A payment buys once."""
        require(event.payment_reference not in self.payments, "I4", "a payment bought twice", self.version)
        self.payments.add(event.payment_reference)
        self.issue(event.lot, event.amount_micros)

    def allowed(self, event: e.AllowanceGranted) -> None:
        """An allowance; the periods tile."""
        if event.due_id is not None and self.period_end is not None:
            require(event.period_start == self.period_end, "I21", "periods do not tile", self.version)
        require(event.period_start < event.period_end, "I21", "a period is empty", self.version)
        self.period_end = event.period_end
        if event.lot is not None:
            self.issue(event.lot, event.amount_micros)

    # --- charges and refunds ---

    def charged(self, event: e.CreditsCharged) -> None:
        """A usage record is charged."""
        self.claim(event.charge_id)
        self.charge(event, event.charge_id)
        hold = None if event.hold_id is None else self.holds.get(event.hold_id)
        if event.hold_id is not None and hold is not None and hold.ended is None:
            self.unpin(event.hold_id, event.hold_lines, event.recorded_at)
            if not sum(hold.pins.values()):
                hold.ended = "captured"

    def captured(self, event: e.HoldCaptured) -> None:
        """A hold is captured."""
        require(self.holds[event.hold_id].ended is None, "I12", "a capture of an ended hold", self.version)
        self.claim(event.charge_id)
        self.charge(event, event.charge_id)
        self.unpin(event.hold_id, event.hold_lines, event.recorded_at)
        if not sum(self.holds[event.hold_id].pins.values()):
            self.holds[event.hold_id].ended = "captured"

    def charge(self, event: e.Charge, charge_id: str) -> None:
        """What any charge does."""
        lines = list(_pairs(event.lines))
        held = list(_pairs(event.hold_lines))
        require(lines[: len(held)] == held, "I12", "a hold's lines do not come first", self.version)
        drawn = self.draw(event.lines)
        require(drawn + event.debt_micros == event.amount_micros, "I1", "lines do not add up", self.version)
        self.debt += event.debt_micros
        self.charges[charge_id] = BookedCharge(event.amount_micros)
        for lot_id, _ in lines[len(held) :]:
            self.require_open(event, lot_id)

    def require_open(self, event: e.Charge, lot_id: str) -> None:
        """I19: what no hold had set aside was open when the work occurred, or when it was recorded; and its scope fits."""
        lot = self.lots[lot_id]
        terms = lot.terms
        is_open = any(
            terms.effective_at <= at and (lot.expires_at is None or at < lot.expires_at)
            for at in (event.occurred_at, event.recorded_at)
        )
        require(is_open, "I19", "a lot was drawn that was not open", self.version, lot_id)
        fits = terms.action in (None, event.action) and terms.project in (None, event.project)
        require(fits, "I19", "a lot was drawn outside its scope", self.version, lot_id)

    def claim(self, charge_id: str) -> None:
        """I4: a record has one outcome, for ever."""
        require(charge_id not in self.claims, "I4", "a record was claimed twice", self.version, charge_id)
        self.claims.add(charge_id)

    def refunded(self, event: e.ChargeRefunded) -> None:
        """A charge is given back, never more than it was."""
        charge = self.charges[event.charge_id]
        charge.refunded += event.amount_micros
        require(
            charge.refunded == event.refunded_after_micros <= charge.amount,
            "I13",
            "more was refunded than charged, or the count is wrong",
            self.version,
        )
        require(
            sum(line.amount_micros for line in event.lines) == event.amount_micros,
            "I13",
            "a refund's lines do not add up",
            self.version,
        )
        for terms in event.lots:
            self.reopen(terms)
        for line in event.lines:
            self.refund_line(line, event.recorded_at)

    def refund_line(self, line: e.RefundLine, at: datetime) -> None:
        """One line comes back where it says."""
        amount = line.amount_micros
        if line.target == "debt":
            self.debt -= amount
            return
        if line.target == "voided":
            return
        lot, drawn = self.lots[line.lot_id], self.lots[line.drawn_lot_id]
        require(
            lot.terms.origin_lot_id == drawn.terms.origin_lot_id,
            "I13",
            "a refund left its line",
            self.version,
        )
        require(drawn.terms.origin_lot_id not in self.lost, "I13", "a refund to a lost line", self.version)
        lot.left += amount
        drawn.used -= amount
        self.settled += amount

    def repaid(self, event: e.DebtRepaid) -> None:
        """Unscoped credit repays debt."""
        for lot_id, _ in _pairs(event.lines):
            lot = self.lots[lot_id]
            require(
                lot.terms.action is None and lot.terms.project is None,
                "I27",
                "a scoped lot repaid debt",
                self.version,
            )
            require(
                lot.terms.effective_at <= event.effective_at
                and (lot.expires_at is None or event.effective_at < lot.expires_at),
                "I19",
                "a lot repaid debt that was not open",
                self.version,
            )
        require(self.draw(event.lines) == event.amount_micros, "I1", "lines do not add up", self.version)
        self.debt -= event.amount_micros

    # --- what goes ---

    def expired(self, event: e.CreditsExpired) -> None:
        """Breakage, once, late grace after the later of expiry and the end of the last hold."""
        lot = self.lots[event.lot_id]
        require(lot.left == event.amount_micros, "I19", "breakage is not what was left", self.version)
        require(not lot.held, "I19", "breakage of a lot with credit held", self.version)
        require(lot.expires_at is not None, "I19", "breakage of a lot that never expires", self.version)
        if lot.expires_at is not None:
            require(
                event.effective_at >= lot.expires_at + GRACE, "I19", "breakage before its time", self.version
            )
        lot.left = 0
        lot.broken += event.amount_micros
        self.settled -= event.amount_micros

    def rolled(self, event: e.CreditsRolledOver) -> None:
        """What is left of allowances moves on, holds and all."""
        for terms in event.lots:
            self.reopen(terms)
        total = 0
        for line in event.lines:
            old, new, amount = self.lots[line.lot_id], self.lots[line.to_lot_id], line.amount_micros
            require(
                old.terms.origin_lot_id == new.terms.origin_lot_id, "I1", "credit left its line", self.version
            )
            old.left -= amount
            new.left += amount
            total += amount
            if line.hold_id:
                pins = self.holds[line.hold_id].pins
                pins[line.lot_id] -= amount
                pins[line.to_lot_id] = pins.get(line.to_lot_id, 0) + amount
                old.held -= amount
                new.held += amount
        require(total == event.amount_micros, "I1", "a rollover does not add up", self.version)

    def void(self, lines: list[e.LotLine], holds: list[e.HoldLine]) -> int:
        """Credits are gone, and holds are cut."""
        total = 0
        for cut in holds:
            self.holds[cut.hold_id].pins[cut.lot_id] -= cut.amount_micros
            self.lots[cut.lot_id].held -= cut.amount_micros
        for lot_id, amount in _pairs(lines):
            lot = self.lots[lot_id]
            lot.left -= amount
            lot.voided += amount
            total += amount
        self.settled -= total
        return total

    def grant_voided(self, event: e.GrantVoided) -> None:
        """A grant is taken back."""
        total = self.void(event.lines, event.holds)
        require(total == event.amount_micros, "I1", "a void does not add up", self.version)
        self.require_empty(event.origin_lot_id)

    def chargeback_opened(self, event: e.ChargebackOpened) -> None:
        """A payment is contested once, for ever."""
        require(event.payment_reference not in self.contested, "I4", "a second chargeback", self.version)
        self.contested.add(event.payment_reference)

    def chargeback_lost(self, event: e.ChargebackLost) -> None:
        """A top-up is gone; what had been drawn from it is debt."""
        total = self.void(event.lines, event.holds)
        require(total == event.voided_micros, "I1", "a lost chargeback does not add up", self.version)
        self.require_empty(event.origin_lot_id)
        line = [lot for lot in self.lots.values() if lot.terms.origin_lot_id == event.origin_lot_id]
        drawn = sum(lot.used + lot.lowered for lot in line)
        require(drawn == event.drawn_micros, "I1", "another amount had been drawn", self.version, drawn)
        self.debt += event.drawn_micros
        self.lost.add(event.origin_lot_id)

    def require_empty(self, origin: str) -> None:
        """Nothing is left of the line."""
        left = {k: lot.left for k, lot in self.lots.items() if lot.terms.origin_lot_id == origin and lot.left}
        require(not left, "I1", "something is left of a voided line", self.version, left)

    def chargeback_won(self, event: e.ChargebackWon) -> None:
        """Expiries move by the time withheld."""
        for lot_id, expires_at in event.expiries.items():
            self.lots[lot_id].expires_at = expires_at
        for terms in event.closed_lots:
            self.lots[terms.lot_id].expires_at = terms.expires_at

    def lowered(self, event: e.BalanceLowered) -> None:
        """Credit is taken away by hand."""
        for lot_id, amount in _pairs(event.lines):
            self.lots[lot_id].left -= amount
            self.lots[lot_id].lowered += amount
            self.settled -= amount

    # --- holds ---

    def held(self, event: e.CreditsHeld) -> None:
        """Credits are set aside."""
        require(event.hold_id not in self.holds, "I12", "a hold was made twice", event.hold_id)
        require(
            sum(line.amount_micros for line in event.lines) == event.amount_micros,
            "I12",
            "a hold's lines do not add up",
            self.version,
        )
        require(
            timedelta(0) < event.expires_at - event.recorded_at <= timedelta(hours=24),
            "I12",
            "a hold lasts too long",
            self.version,
        )
        pins = dict(_pairs(event.lines))
        self.holds[event.hold_id] = BookedHold(event.recorded_at, event.expires_at, pins)
        for lot_id, amount in pins.items():
            lot = self.lots[lot_id]
            lot.held += amount
            require(lot.held <= lot.left, "I2", "more is held than is left", self.version, lot_id)

    def extended(self, event: e.HoldExtended) -> None:
        """A hold lasts longer, never shorter, and seven days at most."""
        hold = self.holds[event.hold_id]
        require(hold.ended is None, "I12", "an ended hold was extended", self.version)
        require(event.expires_at >= hold.expires_at, "I12", "an extension shortened", self.version)
        require(
            event.expires_at <= hold.made_at + timedelta(days=7), "I12", "beyond seven days", self.version
        )
        hold.expires_at = event.expires_at

    def released(self, event: e.HoldReleased) -> None:
        """A hold is given back."""
        self.end(event.hold_id, "released", event.amount_micros, event.recorded_at)

    def hold_expired(self, event: e.HoldExpired) -> None:
        """A hold ends by itself, when it was to."""
        require(
            event.effective_at == self.holds[event.hold_id].expires_at,
            "I12",
            "a hold expired at another time",
            self.version,
        )
        self.end(event.hold_id, "expired", event.amount_micros, event.effective_at)

    def waived(self, event: e.UsageWaived) -> None:
        """A record costs nothing, once."""
        self.claim(event.charge_id)

    def threshold(self, event: e.LimitThresholdReached) -> None:
        """An alert is right about its own numbers."""
        require(
            event.used_micros * 100 >= event.cap_micros * event.threshold_percent,
            "I26",
            "a threshold was not reached",
            self.version,
        )


def _pairs(lines: list[e.LotLine]) -> list[tuple[str, int]]:
    return [(line.lot_id, line.amount_micros) for line in lines]


_ENTER: dict[type[e.AccountEvent], Callable[[Books, Any], None]] = {
    e.CreditsGranted: Books.granted,
    e.BalanceRaised: Books.granted,
    e.CreditsToppedUp: Books.topped_up,
    e.AllowanceGranted: Books.allowed,
    e.CreditsCharged: Books.charged,
    e.HoldCaptured: Books.captured,
    e.ChargeRefunded: Books.refunded,
    e.DebtRepaid: Books.repaid,
    e.CreditsExpired: Books.expired,
    e.CreditsRolledOver: Books.rolled,
    e.GrantVoided: Books.grant_voided,
    e.ChargebackOpened: Books.chargeback_opened,
    e.ChargebackLost: Books.chargeback_lost,
    e.ChargebackWon: Books.chargeback_won,
    e.BalanceLowered: Books.lowered,
    e.CreditsHeld: Books.held,
    e.HoldExtended: Books.extended,
    e.HoldReleased: Books.released,
    e.HoldExpired: Books.hold_expired,
    e.UsageWaived: Books.waived,
    e.LimitThresholdReached: Books.threshold,
}
