"""The account's rules once more, in plain dicts and lists, sharing no code with the product: slow, whole, obvious.

Nothing is ever dropped: every hold and charge is kept, and every use of a limit is summed anew from all charges. Times are naive
UTC, amounts micro-credits, prices fractions of a credit.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from fractions import Fraction
from math import ceil
from typing import Any

from tests.domain.model_calendar import DAY, FAR, LONG_AGO, MINUTE, shown
from tests.domain.model_lots import GRACE, Lots, ModelRefusal, Thing, no, order

__all__ = ["Model", "ModelRefusal", "Thing", "no", "shown"]

SPENDING = {"place_hold", "extend_hold", "assign_plan", "request_top_up", "quote", "suspend"}
NOBODYS: dict[str, Any] = dict.fromkeys(("member", "project", "work", "quote", "hold", "corrects"))


def tiered(tiers: Any, units: Fraction) -> int:
    tops = [units if top is None else min(units, top) for top, _ in tiers]
    parts = zip([0, *tops], tops, [price for _, price in tiers], strict=False)
    total: Fraction = sum(((top - low) * price for low, top, price in parts), Fraction(0))
    return ceil(total * 1_000_000)


def fits(limit: Thing, use: Thing) -> bool:
    return all(limit[name] in (None, use[name]) for name in ("member", "project", "action"))


def left_of(charge: Thing) -> Any:
    return charge.amount - charge.refunded


class Model(Lots):
    """One team's account, opened at ``now``: a method a command."""

    def __init__(self, now: datetime, zone: str, anchor: int, cards: list[Any]) -> None:
        super().__init__(now, zone, anchor)
        self.cards, self.card_ids = cards, [(LONG_AGO, "standard")]
        tables: list[dict[Any, Any]] = [{} for _ in range(8)]
        self.charges, self.records, self.awaited, self.limits, self.disputes = tables[:5]
        self.quotes, self.units, self.denials = tables[5:]
        self.keys: dict[Any, Any] = {}

    def do(self, t: datetime, command: str, *given: Any, **named: Any) -> dict[str, Any]:
        """Time has passed and the command has happened, or ModelRefusal said no and only time has passed."""
        self.pass_to(t)
        no(self.status == "closed" and command != "use", "account_closed")
        no(self.status == "suspended" and command in SPENDING, "account_suspended")
        return {"outcome": "done"} | (getattr(self, command)(*given, **named) or {})

    def once(self, key: Any, body: Any, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        no(key in self.keys and self.keys[key][0] != body, "idempotency_key_reused")
        if key not in self.keys:
            self.keys[key] = body, call()
        first: dict[str, Any] = self.keys[key][1]
        return first

    def card_at(self, t: datetime) -> Any:
        card_id = [card_id for since, card_id in self.card_ids if since <= t][-1]
        if self.pending and self.pending[0] <= t:
            card_id = self.pending[1].card_id
        fitting = [card for card in self.cards if card["card_id"] == card_id and card["effective"] <= t]
        no(not fitting, "unknown_action")
        return max(fitting, key=lambda card: card["effective"])

    def price(self, card: Any, action: str, meters: Any, t: datetime, moves: bool = True) -> int | None:
        no(action not in card["rates"], "unknown_action")
        kind, meter, price = card["rates"][action]
        units = Fraction(meters.get(meter, 0))
        if kind != "graduated":
            return (
                ceil((1 if kind == "flat" else units) * price * 1_000_000)
                if kind == "flat" or units
                else None
            )
        key = (card["card_id"], card["version"], action, self.window("period", t)[0])
        before = self.units.get(key, Fraction(0))
        self.units[key] = before + units * moves
        return tiered(price, before + units) - tiered(price, before) if units else None

    def turn(self) -> None:  # type: ignore[explicit-override]
        self.period_end = self.window("period", self.t)[1]
        self.roll(self.plan.rollover_cap if self.plan else 0)
        if self.pending:
            self.install(self.pending[1])
        self.allow(self.plan.allowance)

    def allow(self, amount: int) -> None:
        self.add_lot(f"allowance#{self.issues + 1}", amount, "included", exp=self.period_end, rolls=True)

    def install(self, plan: Any) -> None:
        kept = [limit["limit_id"] for limit in plan.limits]
        self.limits = {x: limit for x, limit in self.limits.items() if not limit.by_plan or x in kept}
        self.plan, self.pending = plan, None
        self.card_ids.append((self.t, plan.card_id))
        for limit in plan.limits:
            self.set_limit(limit, by_plan=True)

    def suspend(self) -> None:
        self.status = "suspended"

    def resume(self) -> None:
        no(self.status != "suspended", "account_not_suspended")
        self.status = "open"

    def close(self) -> None:
        self.status = "closed"

    def schedule_zone(self, zone: str) -> None:
        no(self.zones[-1][0] > self.t or self.zones[-1][1] == zone, "zone_change_refused")
        self.zones.append((self.window("period", self.t)[1], zone))

    def assign_plan(self, plan: dict[str, Any], takes: str = "now") -> Any:
        new, old, (start, end) = Thing(plan), self.plan, self.window("period", self.t)
        same = old and (old.plan_id, old.version) == (new.plan_id, new.version)
        extra = new.allowance - (old.allowance if old else 0)
        no(
            (same and not (takes == "turn" and self.pending)) or (takes == "now" and extra < 0),
            "plan_change_refused",
        )
        if takes == "turn":
            self.pending = end, new
            return {}
        if old:
            first, today, last = (shown(t, self.zone(self.t)[1]).date() for t in (start, self.t, end))
            extra = extra * (last - today).days // (last - first).days
        self.period_end = end
        self.install(new)
        self.allow(extra)
        return {"amount": extra}

    def charge(self, name: str) -> Any:
        no(name not in self.charges and name not in self.records, "unknown_charge")
        no(name not in self.charges, "nothing_to_refund")
        return self.charges[name]

    def refund(self, name: str, amount: int | None = None) -> Any:
        charge, left = self.charge(name), left_of(self.charge(name))
        no(not left or (amount or 0) > left, "refund_exceeds_charge")
        no(amount is not None and amount <= 0, "malformed")
        self.give_back(charge, amount or left)
        return {"amount": amount or left}

    def open_dispute(self, name: str, charges: list[str], evidence: str) -> None:
        no(not charges or not 1 <= len(evidence) <= 4_000, "malformed")
        contested = [c for dispute in self.disputes.values() if dispute.is_open for c in dispute.charges]
        for charge in charges:
            no(self.charge(charge) and charge in contested, "dispute_refused")
        self.disputes[name] = Thing(charges=charges, is_open=True)

    def decide_dispute(self, name: str, how: str) -> None:
        no(name not in self.disputes, "unknown_dispute")
        no(not self.disputes[name].is_open, "dispute_refused")
        self.disputes[name].is_open = False
        for charge in [self.charges[c] for c in self.disputes[name].charges] if how == "upheld" else []:
            self.give_back(charge, left_of(charge))

    def set_limit(self, limit: dict[str, Any], by_plan: bool = False) -> None:
        marks, old = limit["thresholds"], self.limits.get(limit["limit_id"])
        moved = old and any(old[name] != limit[name] for name in ("window", "member", "project", "action"))
        no(limit["cap"] < 0, "malformed")
        no(moved or sorted({*marks}) != marks or not {*marks} <= {*range(1, 1_001)}, "limit_terms_refused")
        fresh = {"since": self.window(limit["window"], self.t)[0], "reached": {}, "by_plan": by_plan}
        self.limits[limit["limit_id"]] = Thing((old or fresh) | limit)

    def remove_limit(self, limit_id: str) -> None:
        no(limit_id not in self.limits, "unknown_limit")
        del self.limits[limit_id]

    def counted(self, limit: Thing, t: datetime) -> tuple[datetime, datetime, int, int]:
        """The window around an instant, what was used in it, and what holds set aside now."""
        start, end = self.window(limit.window, t)
        used = sum(left_of(c) for c in self.charges.values() if fits(limit, c) and start <= c.occurred < end)
        return (
            start,
            end,
            used,
            sum(sum(hold.pins.values()) for hold in self.open_holds() if fits(limit, hold)),
        )

    def charged(self, name: str, amount: int, lines: list[Any], debt: int, use: Thing) -> Any:
        """The charge stands; what it did to limits, and to automatic top-up."""
        self.debt += debt
        self.charges[name] = Thing(use | {"amount": amount, "refunded": 0, "lines": [*lines, (None, debt)]})
        passed, alerts = [], []
        for limit_id, limit in sorted(self.limits.items()):
            start, _, used, _ = self.counted(limit, use.occurred)
            if fits(limit, use) and start >= limit.since:
                passed += [limit_id] if limit.hard and used > limit.cap else []
                reached = limit.reached.setdefault(start, [])
                due = [
                    n for n in limit.thresholds if used and used * 100 >= n * limit.cap and n not in reached
                ]
                reached += due
                alerts += [(limit_id, n, start) for n in due]
        told = {
            "outcome": "charged",
            "amount": amount,
            "lines": [(lot.name, n) for lot, n in lines],
            "debt": debt,
        }
        return told | {"passed": passed, "thresholds": alerts, "auto": self.look_at_auto()}

    def quote(self, name: str, action: str, meters: Any, lasts: timedelta, project: str | None = None) -> Any:
        card = self.card_at(self.t)
        total = self.price(card, action, meters, self.t, moves=False)
        no(total is None, "malformed")
        quote = Thing(action=action, meters=meters, project=project, card=card, expires=self.t + lasts)
        self.quotes[name] = Thing(quote, total=total, used=False, withdrawn=False, charged=False)
        return {"amount": total}

    def withdraw_quote(self, name: str) -> None:
        quote = self.quotes.setdefault(name, Thing(used=False, withdrawn=False))
        no(quote.withdrawn, "quote_withdrawn")
        no(quote.used, "quote_used")
        quote.withdrawn = True

    def quoted(self, hold: Thing) -> Any:
        quote = self.quotes[hold.quote]
        no((quote.action, quote.project) != (hold.action, hold.project), "quote_not_ours")
        no(quote.withdrawn, "quote_withdrawn")
        no(quote.used, "quote_used")
        no(self.t >= quote.expires, "quote_expired")
        return quote.total

    def place_hold(self, name: str, action: str, amount: int | None = None, **terms: Any) -> Any:
        hold = Thing(
            NOBODYS | {"lasts": 3_600} | terms | {"action": action, "made": self.t, "ended": None, "pins": {}}
        )
        no(not 1 <= hold.lasts <= 86_400, "hold_terms_refused")
        no((amount is None) == (hold.quote is None) or (amount is not None and amount <= 0), "malformed")
        needed = self.quoted(hold) if amount is None else amount
        beside = sum(self.held(lot) for lot in self.pays(action, hold.project))
        rules: list[Any] = [(self.available(action, hold.project), "", 0, beside)]
        for limit_id, limit in self.limits.items():
            _, _, used, held = self.counted(limit, self.t)
            rules += (
                [(limit.cap - used - held, limit_id, used, held)] if limit.hard and fits(limit, hold) else []
            )
        room, limit_id, used, held = min(rules)
        if room < needed:
            key = (limit_id, needed, action, hold.member, hold.project, hold.work)
            repeated = self.t - self.denials.get(key, LONG_AGO) < MINUTE
            self.denials[key] = self.denials[key] if repeated else self.t
            told = {
                "rule": "limit" if limit_id else "available",
                "limit_id": limit_id,
                "used": used,
                "held": held,
            }
            told |= {
                "requested": needed,
                "limit": room + used + held if limit_id else room,
                "repeated": repeated,
            }
            return told | {"outcome": "denied", "auto": self.look_at_auto()}
        for lot in self.open_at(self.t, action, hold.project):
            hold.pins[lot.name] = min(needed - sum(hold.pins.values()), self.free(lot))
        self.holds[name], hold.expires = hold, self.t + timedelta(seconds=hold.lasts)
        if hold.quote:
            self.quotes[hold.quote].used = True
        return {"outcome": "held", "amount": needed, "auto": self.look_at_auto()}

    def open_hold(self, name: str) -> Any:
        no(name not in self.holds, "unknown_hold")
        no(self.holds[name].ended, "hold_not_open")
        return self.holds[name]

    def extend_hold(self, name: str, lasts: int) -> None:
        hold, longer = self.open_hold(name), self.t + timedelta(seconds=lasts)
        no(not 1 <= lasts <= 86_400 or longer > hold.made + 7 * DAY, "hold_terms_refused")
        hold.expires = max(hold.expires, longer)

    def release_hold(self, name: str) -> None:
        self.end_hold(self.open_hold(name))

    def capture_hold(self, name: str, charge: str, amount: int, occurred: datetime | None = None) -> Any:
        hold, occurred = self.open_hold(name), occurred or self.t
        no(amount <= 0 or not hold.made <= occurred <= self.t, "malformed")
        plan, more = self.plan or Thing(captures={}, overdraft_cap=0), amount - sum(hold.pins.values())
        policy = plan.captures.get(hold.action, "if_available")
        no(more > 0 and policy == "reject", "capture_exceeds_hold")
        for limit in self.limits.values() if more > 0 else []:
            start, end, used, held = self.counted(limit, occurred)
            needed = used + (held + more if start <= self.t < end else amount)
            is_counted = limit.hard and fits(limit, hold) and start >= limit.since
            no(is_counted and needed > limit.cap, "limit_exceeded")
        lots = [x for t in (occurred, self.t) for x in self.open_at(t, hold.action, hold.project)]
        debt = max(more - sum({x.name: self.free(x) for x in lots}.values()), 0)
        no(debt and self.debt + debt > (policy == "overdraft") * plan.overdraft_cap, "insufficient_credits")
        return self.settle(charge, amount, occurred, hold, hold)

    def settle(self, name: str, amount: int, occurred: datetime, use: Thing, hold: Any) -> Any:
        """A charge: first what the hold gives, then what was free when it occurred, then what is free now, then debt."""
        lines: list[Any] = []
        left = self.take(amount, sorted(self.lots, key=order), lines, hold) if hold else amount
        for t in (occurred, self.t):
            left = self.take(left, self.open_at(t, use.action, use.project), lines)
        if hold and not hold.ended and not any(hold.pins.values()):
            self.end_hold(hold)
        scope = Thing(member=use.member, project=use.project, action=use.action, occurred=occurred)
        return self.charged(name, amount, lines, left, scope)

    def use(self, rid: str, action: str, meters: Any, occurred: datetime, **more: Any) -> Any:
        use = Thing(NOBODYS | {"status": "succeeded"} | more, action=action, meters=meters, occurred=occurred)
        if rid in self.records:
            return {"outcome": "duplicate" if self.records[rid] == use else "conflict"}
        no(self.status == "closed", "account_closed")
        hold = self.holds.get(use.hold)
        if rid in self.awaited or use.status != "succeeded":
            return self.waive(rid, use, hold)
        amount = self.priced(use, hold)
        self.records[rid] = use
        if amount is None:
            return {"outcome": "nothing_to_price"}
        if hold and hold.ended and not (hold.made <= occurred < hold.ended and self.t < hold.ended + GRACE):
            hold = None
        return self.settle(rid, amount, occurred, use, hold)

    def waive(self, rid: str, use: Thing, hold: Any) -> Any:
        self.records[rid], named = use, use.corrects
        self.awaited.pop(rid, None)
        if hold and not hold.ended:
            self.end_hold(hold)
        if use.status == "succeeded":
            return {"outcome": "corrected"}
        if named in self.charges:
            self.give_back(self.charges[named], left_of(self.charges[named]))
        elif named and named not in self.records:
            self.awaited.setdefault(named, rid)
        return {"outcome": "failed"}

    def priced(self, use: Thing, hold: Any) -> int | None:
        if not (hold and hold.quote and hold.made <= use.occurred < (hold.ended or FAR)):
            return self.price(self.card_at(use.occurred), use.action, use.meters, use.occurred)
        quote = self.quotes[hold.quote]
        if quote.charged or (quote.action, quote.meters) != (use.action, use.meters):
            return self.price(quote.card, use.action, use.meters, use.occurred)
        quote.charged = True
        return quote.total  # type: ignore[no-any-return]

    def look(self, t: datetime) -> Any:
        self.pass_to(t)
        parts = dict.fromkeys(("settled", "held", "withheld", "upcoming", "lapsed", "available"), 0)
        lots = [
            lot | {"held": self.held(lot), "withheld": bool(lot.since)}
            for lot in sorted(self.lots, key=order)
        ]
        lots = [Thing(lot) for lot in lots if lot["left"]]
        for lot in lots:
            late = "lapsed" if lot.exp and lot.exp <= t else "available"
            parts["withheld" if lot.since else "upcoming" if t < lot.eff else late] += lot.left - lot.held
            parts |= {"settled": parts["settled"] + lot.left, "held": parts["held"] + lot.held}
        limits = {}
        for limit_id, limit in self.limits.items():
            start, end, used, held = self.counted(limit, t)
            told = {"start": start, "end": end, "used": used, "held": held, "cap": limit.cap}
            limits[limit_id] = told | {"reached": limit.reached.get(start, [])}
        told = {"debt": self.debt, "status": self.status, "limits": limits, "period_end": self.period_end}
        told |= {"lots": lots, "holds": {name: hold for name, hold in self.holds.items() if not hold.ended}}
        told |= {"plan": self.plan, "pending": self.pending, "auto": self.auto.flight}
        return parts | told | {"next_due": min((fact[0] for fact in self.facts()), default=None)}
