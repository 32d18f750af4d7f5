"""Lots, holds on them and what time does to them, in plain dicts: the part of the independent model that keeps the credits.

Nothing is ever dropped: every lot and every repayment is kept, and every look walks through all due instants.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from tests.domain.model_calendar import DAY, FAR, LONG_AGO, MINUTE, window

GRACE, CAP_OF_ONE_PERSON = timedelta(hours=24), 1_000_000_000


class Thing(dict[str, Any]):
    """A plain dict whose values also read and write as ``lot.left``."""

    def __getattr__(self, name: str) -> Any:
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:  # type: ignore[explicit-override]
        self[name] = value


class ModelRefusal(Exception):
    """The model says no, with the code that the product must give."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def no(when: object, code: str) -> None:
    if when:
        raise ModelRefusal(code)


def order(lot: Thing) -> tuple[Any, ...]:
    scope, bought = 3 - 2 * (lot.action is not None) - (lot.project is not None), lot.source == "purchased"
    return lot.priority, scope, lot.exp or FAR, bought, lot.eff, lot.granted, lot.number, lot.name


class Lots:
    """A team's lots at ``t``, the instant up to which time has passed."""

    plan: Any = None
    pending: Any = None
    period_end: Any = None
    turn: Any  # what the period's turn does

    def __init__(self, now: datetime, zone: str, anchor: int) -> None:
        self.t, self.anchor, self.status, self.debt, self.issues = now, anchor, "open", 0, 0
        self.zones: list[tuple[datetime, str]] = [(LONG_AGO, zone)]
        self.lots: list[Any] = []
        self.repayments: list[Any] = []
        self.holds: dict[str, Any] = {}
        self.payments: dict[str, Any] = {}
        self.proposals: dict[str, Any] = {}
        self.auto = Thing(enabled=False, flight=None, window=None, spent=0)
        self.gone: dict[str, str] = {}  # lines of lots that were "voided" or "lost", by their first lot

    def zone(self, t: datetime) -> tuple[datetime, str]:
        return max(each for each in self.zones if each[0] <= t)

    def window(self, kind: str, t: datetime) -> tuple[datetime, datetime]:
        return window(kind, t, self.zones, self.anchor)

    def open_holds(self) -> list[Any]:
        return [hold for hold in self.holds.values() if hold.ended is None]

    def held(self, lot: Thing) -> int:
        return sum(hold.pins.get(lot.name, 0) for hold in self.open_holds())

    def free(self, lot: Thing) -> int:
        return 0 if lot.since else lot.left - self.held(lot)

    def pays(self, action: str | None, project: str | None) -> list[Any]:
        fit = [x for x in self.lots if x.action in (None, action) and x.project in (None, project)]
        return sorted(fit, key=order)

    def open_at(self, t: datetime, action: str | None = None, project: str | None = None) -> list[Any]:
        return [x for x in self.pays(action, project) if x.eff <= t and (x.exp is None or t < x.exp)]

    def available(self, action: str | None = None, project: str | None = None) -> int:
        return sum(self.free(lot) for lot in self.open_at(self.t, action, project))

    def take(self, amount: int, lots: list[Any], lines: list[Any], hold: Any = None) -> int:
        """Draws from free credit, or from what the hold sets aside or set aside; returns what that does not cover."""
        for lot in lots:
            room = lot.left if hold and not hold.ended else self.free(lot)
            n = min(amount, room, hold.pins.get(lot.name, 0) if hold else room)
            if n > 0:
                self.unpin(hold, lot, n)
                lot.left, amount = lot.left - n, amount - n
                lines.append((lot, n))
        return amount

    def unpin(self, hold: Any, lot: Thing, n: int) -> None:
        if hold and n:
            hold.pins[lot.name] -= n
            lot.held_until = lot.held_until if hold.ended else self.t

    def end_hold(self, hold: Thing) -> None:
        for lot in self.lots:
            lot.held_until = self.t if hold.pins.get(lot.name) else lot.held_until
        hold.ended = self.t
        self.repay()

    def repay(self) -> None:
        lines: list[Any] = []
        self.debt = self.take(self.debt, self.open_at(self.t), lines)
        self.repayments += [Thing(lot=lot, left=n) for lot, n in lines]

    def add_lot(self, name: str, amount: int, source: str, **terms: Any) -> None:
        self.issues += 1
        lot = Thing(
            name=name, origin=name, number=self.issues, source=source, left=amount, broken=0, since=None
        )
        lot |= {
            "priority": 20,
            "action": None,
            "project": None,
            "exp": None,
            "rolls": False,
            "held_until": None,
        }
        self.lots += [Thing(lot | {"granted": self.t, "eff": self.t} | terms)] if amount else []
        self.repay()

    def add_heir(self, sign: str, lot: Thing, n: int, **terms: Any) -> Any:
        """The lot that succeeds this one at this instant, one for each instant, has so much more."""
        name = f"{lot.name}{sign}{self.t.isoformat()}"
        fresh: dict[str, Any] = {"left": 0, "broken": 0, "held_until": None}
        if name not in [x.name for x in self.lots]:
            fresh |= {"name": name, "granted": self.t, "since": lot.since and self.t, "rolls": False}
            self.lots.append(Thing(lot | fresh | terms))
        [heir] = [x for x in self.lots if x.name == name]
        heir.left += n
        return heir

    def facts(self) -> list[Any]:
        """All that is due one day as things are: its instant, its rank at one instant, and what it does."""
        facts: list[Any] = [(h.expires, 0, h.made, partial(self.end_hold, h)) for h in self.open_holds()]
        for x in self.lots:
            if x.exp and x.left and not x.since and not self.held(x):
                late = max(x.exp, x.held_until or x.exp) + GRACE
                facts.append((late, 1, x.number, partial(x.update, broken=x.broken + x.left, left=0)))
        facts += [(x.eff, 3, 0, self.repay) for x in self.lots if x.eff > self.t]
        turn = self.period_end or (self.pending and self.pending[0])
        return facts + ([(turn, 2, 0, self.turn)] if turn and self.status != "closed" else [])

    def pass_to(self, t: datetime) -> None:
        while facts := [fact for fact in self.facts() if fact[0] <= t]:
            fact = min(facts, key=lambda fact: fact[:2])
            self.t = fact[0]
            fact[3]()
            self.repay()
        self.t = t

    def roll(self, room: int) -> None:
        """At the turn: what moves on, held credit first, oldest hold first; of the rest what burns last."""
        ending = [x for x in self.pays(None, None) if x.rolls and x.exp == self.t]
        for hold in [*sorted(self.open_holds(), key=lambda hold: hold.made), None]:
            for lot in ending if hold else reversed(ending):
                n = min(room, hold.pins.get(lot.name, 0) if hold else self.free(lot))
                if n:
                    heir = self.add_heir("~", lot, n, exp=self.period_end)
                    self.unpin(hold, lot, n)
                    lot.left, room = lot.left - n, room - n
                    if hold:
                        hold.pins[heir.name] = hold.pins.get(heir.name, 0) + n

    def void_line(self, origin: str, how: str) -> int:
        """How much was left of the line, also where holds set it aside; nothing is now."""
        self.gone[origin], gone = how, 0
        for lot in (x for x in self.lots if x.origin == origin):
            for hold in self.open_holds():
                self.unpin(hold, lot, hold.pins.get(lot.name, 0))
            gone, lot.left = gone + lot.left, 0
        return gone

    def chargeback(self, ref: str, becomes: str) -> Any:
        no(ref not in self.payments, "unknown_payment")
        no(becomes == "open" and self.payments[ref].status != "settled", "payment_not_settled")
        no(self.payments[ref].chargeback != (None if becomes == "open" else "open"), "chargeback_refused")
        self.payments[ref].chargeback = becomes
        line, drawn = [lot for lot in self.lots if lot.origin == ref], 0
        if becomes == "lost":
            drawn = self.payments[ref].terms[0] - sum(lot.broken + lot.left for lot in line)
            self.void_line(ref, "lost")
        for lot in line:
            late = self.t - (lot.since or self.t)
            lot.exp, lot.held_until = (
                lot.exp and lot.exp + late,
                lot.held_until and min(lot.held_until + late, self.t),
            )
            lot.since = self.t if becomes == "open" else None
        self.debt += drawn
        self.repay()
        return {"amount": drawn}

    def give_back(self, charge: Thing, amount: int) -> None:
        passed, start, end = 0, charge.refunded, charge.refunded + amount
        charge.refunded = end
        for lot, n in reversed(charge.lines):
            part, passed = min(end, passed + n) - max(start, passed), passed + n
            if part > 0 and (lot is None or self.gone.get(lot.origin) == "lost"):
                lowered = min(part, self.debt)
                self.debt -= lowered
                self.return_to_repayers(part - lowered)
            elif part > 0:
                self.put(lot, part)

    def return_to_repayers(self, amount: int) -> None:
        for repayment in reversed(self.repayments):
            n = min(amount, repayment.left)
            if n and self.gone.get(repayment.lot.origin) != "lost":
                repayment.left, amount = repayment.left - n, amount - n
                self.put(repayment.lot, n)
        assert not amount, "a debt line was never repaid"

    def put(self, lot: Any, n: int) -> None:
        """Back to the lot, to its successor where it has expired, to nothing where its grant was voided."""
        if lot.origin in self.gone:
            return
        if lot.exp is not None and lot.exp <= (lot.since or self.t):
            self.add_heir("@", lot, n, eff=self.t, exp=self.t + 7 * DAY)
        else:
            lot.left += n
        self.repay()

    def grant(self, name: str, amount: int, source: str = "promotional", **terms: Any) -> None:
        eff, exp = terms.pop("effective", None) or self.t, terms.pop("expires", None)
        no(eff < self.t or (exp is not None and exp <= eff), "lot_terms_refused")
        no(amount <= 0, "amount_out_of_range")
        self.add_lot(name, amount, source, eff=eff, exp=exp, **terms)

    def void_grant(self, name: str) -> Any:
        named = [x for x in self.lots if x.name == name]
        no(not named, "unknown_lot")
        no(named[0].source == "purchased" or named[0].origin in self.gone, "nothing_to_void")
        return {"amount": self.void_line(named[0].origin, "voided")}

    def request_top_up(self, ref: str, amount: int, cost: Any) -> None:
        no(ref in self.payments, "payment_reference_used")
        no(amount <= 0, "amount_out_of_range")
        self.payments[ref] = Thing(status="requested", terms=(amount, cost), chargeback=None)

    def top_up(self, ref: str, amount: int, cost: Any, **terms: Any) -> None:
        payment = self.payments.get(ref, Thing(status=""))
        no(payment.status == "settled", "payment_reference_used")
        no(payment.status == "requested" and payment.terms != (amount, cost), "payment_refused")
        self.grant(ref, amount, "purchased", **terms)
        self.payments[ref] = Thing(status="settled", terms=(amount, cost), chargeback=None)
        self.auto |= {"flight": None, "failures": 0} if self.auto.flight == ref else {}

    def fail_top_up(self, ref: str) -> None:
        no(ref not in self.payments, "unknown_payment")
        no(self.payments[ref].status != "requested", "payment_refused")
        self.payments[ref].status = "failed"
        if self.auto.flight == ref:
            retry = self.t + 10 * MINUTE * 2**self.auto.failures
            self.auto |= {"flight": None, "failures": self.auto.failures + 1, "retry": retry}

    def configure_auto(self, enabled: bool, **given: Any) -> None:
        auto = Thing(threshold=0, amount=0, cost=(0, "", 0), money_cap=0, window="month", failures_max=3)
        auto = Thing(auto | given)
        price = auto.cost[0] + auto.cost[2]
        bad = min(auto.threshold, auto.amount, auto.failures_max, price) <= 0 or auto.money_cap < price
        no(enabled and bad, "auto_top_up_refused")
        fresh = {"enabled": enabled, "failures": 0, "retry": LONG_AGO, "kind": auto.pop("window")}
        self.auto |= auto | fresh

    def look_at_auto(self) -> str | None:
        auto = self.auto
        if not auto.enabled or auto.flight or auto.failures >= auto.failures_max or self.t < auto.retry:
            return None
        window, price = (auto.kind, self.window(auto.kind, self.t)[0]), auto.cost[0] + auto.cost[2]
        spent = price + (auto.spent if auto.window == window else 0)
        is_low = self.available() - self.debt < auto.threshold
        if self.status != "open" or not is_low or spent > auto.money_cap:
            return None
        ref = f"auto{len(self.payments)}"
        self.request_top_up(ref, auto.amount, auto.cost)
        auto |= {"flight": ref, "window": window, "spent": spent}
        return ref

    def adjust(self, name: str, direction: str, amount: int, reason: str | None, by: str) -> Any:
        no(not reason or (amount <= 0 and direction == "lower"), "adjustment_refused")
        no(amount <= 0, "amount_out_of_range")
        if amount > CAP_OF_ONE_PERSON:
            self.proposals[name] = direction, amount, by
            return {"outcome": "proposed"}
        return self.move_balance(name, direction, amount)

    def approve(self, name: str, by: str) -> None:
        no(name not in self.proposals, "unknown_adjustment")
        no(self.proposals[name][2] == by, "second_person_needed")
        self.move_balance(name, *self.proposals[name][:2])
        del self.proposals[name]

    def move_balance(self, name: str, direction: str, amount: int) -> None:
        no(direction == "lower" and amount > self.available(), "adjustment_refused")
        if direction == "lower":
            self.take(amount, self.open_at(self.t), [])
        else:
            self.add_lot(name, amount, "raised")
