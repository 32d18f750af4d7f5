"""The account's rules once more, in plain dicts and lists, sharing no code with the product: slow, whole, obvious.

Nothing is ever dropped here: every lot, hold, charge and repayment is kept for ever, every use of a limit is summed anew from
all charges, and every look walks through all due instants. Times are naive UTC, amounts micro-credits, prices of a credit.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from functools import cache
from math import ceil
from typing import Any
from zoneinfo import ZoneInfo

GRACE, DAY, LONG_AGO, FAR = timedelta(hours=24), timedelta(days=1), datetime(1, 1, 1), datetime(9999, 1, 1)  # noqa: DTZ001
CAP_OF_ONE_PERSON = 1_000_000_000
SPENDING = {"place_hold", "extend_hold", "assign_plan", "request_top_up", "quote"}
Thing = dict[str, Any]


class ModelRefusal(Exception):
    """The model says no, with the code that the product must give."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def no(when: object, code: str) -> None:
    if when:
        raise ModelRefusal(code)


def shown(t: datetime, zone: str) -> datetime:
    return t.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None)


@cache
def bounds(kind: str, t: datetime, zone: str, anchor: int) -> tuple[datetime, datetime]:
    """The day, week, month or period around an instant, each begun at the first instant that shows its first day."""
    near = [shown(t, zone).date() + DAY * n for n in (range(-3, 4) if kind == "day" else range(-40, 41))]
    starts = [first_instant(day, zone) for day in near if begins(kind, day, anchor)]
    return max(start for start in starts if start <= t), min(start for start in starts if start > t)


def begins(kind: str, day: date, anchor: int) -> bool:
    of_month = {"month": 1, "period": min(anchor, monthrange(day.year, day.month)[1])}
    return day.weekday() == 0 if kind == "week" else day.day == of_month.get(kind, day.day)


@cache
def first_instant(day: date, zone: str) -> datetime:
    wall = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - a wall time
    t = wall.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC).replace(tzinfo=None)
    while shown(t - timedelta(minutes=1), zone) >= wall:  # midnight does not exist: back to the jump
        t -= timedelta(minutes=1)
    return t


def fits(limit: Thing, use: Thing) -> bool:
    return all(limit[name] in (None, use[name]) for name in ("member", "project", "action"))


class Model:
    """One team's account, opened at ``now``; ``t`` is the instant up to which time has passed."""

    def __init__(self, now: datetime, zone: str, anchor: int, cards: list[Thing]) -> None:
        self.t, self.anchor, self.cards, self.status = now, anchor, cards, "open"
        self.zones, self.card_ids = [(LONG_AGO, zone)], [(LONG_AGO, "standard")]
        self.lots: list[Thing] = []
        self.repayments: list[Any] = []
        self.holds: dict[str, Thing] = {}
        self.charges: dict[str, Thing] = {}
        self.limits: dict[str, Thing] = {}
        self.payments: dict[str, Thing] = {}
        self.disputes: dict[str, Thing] = {}
        self.quotes: dict[str, Thing] = {}
        self.proposals: dict[str, Any] = {}
        self.records: dict[str, Any] = {}
        self.awaited: dict[str, str] = {}
        self.gone: dict[str, str] = {}  # "voided" or "lost", by the first lot of the line
        self.units: dict[Any, Fraction] = {}
        self.denials: dict[Any, datetime] = {}
        self.keys: dict[Any, Any] = {}
        self.plan: Thing | None = None
        self.pending: tuple[datetime, Thing] | None = None
        self.period_end: datetime | None = None
        self.auto: Thing = {"enabled": False, "flight": None, "window": None, "spent": 0}
        self.debt = self.issues = 0

    def do(self, t: datetime, command: str, *given: Any, **named: Any) -> Thing:
        """Time has passed and the command has happened, or ModelRefusal said no and only time has passed."""
        self.pass_to(t)
        no(self.status == "closed" and command != "use", "account_closed")
        no(self.status == "suspended" and command in SPENDING, "account_suspended")
        return {"outcome": "done"} | (getattr(self, command)(*given, **named) or {})

    def once(self, key: Any, body: Any, call: Callable[[], Thing]) -> Thing:
        if key in self.keys:
            no(self.keys[key][0] != body, "idempotency_key_reused")
        else:
            self.keys[key] = body, call()
        return self.keys[key][1]

    # Windows, periods, prices.

    def window(self, kind: str, t: datetime) -> tuple[datetime, datetime]:
        if kind == "lifetime":
            return datetime(1970, 1, 1), FAR  # noqa: DTZ001
        since, zone = max(each for each in self.zones if each[0] <= t)
        until = min((each[0] for each in self.zones if each[0] > t), default=FAR)
        if kind == "hour":  # of one clock: where clocks change, an hour ends and another begins
            minute, wall = timedelta(minutes=1), shown(t, zone)
            start = t - (wall - wall.replace(minute=0, second=0, microsecond=0))
            end = start + 60 * minute
            while shown(start, zone) - start != wall - t:
                start += minute
            while shown(end - minute, zone) - (end - minute) != wall - t:
                end -= minute
        else:
            start, end = bounds(kind, t, zone, self.anchor)
        if (
            kind == "period" and since > LONG_AGO
        ):  # the first period of a zone starts where the last one ended
            first_end = bounds(kind, since, zone, self.anchor)[1]
            if first_end - since < 2 * DAY:
                first_end = bounds(kind, first_end, zone, self.anchor)[1]
            start, end = (since, first_end) if t < first_end else (start, end)
        return max(start, since), min(end, until)

    def card_at(self, t: datetime) -> Thing:
        card_id = [card_id for since, card_id in self.card_ids if since <= t][-1]
        fitting = [card for card in self.cards if card["card_id"] == card_id and card["effective"] <= t]
        no(not fitting, "unknown_action")
        return max(fitting, key=lambda card: card["effective"])  # type: ignore[no-any-return]

    def price(self, card: Thing, action: str, meters: Thing, t: datetime, moves: bool) -> int | None:
        no(action not in card["rates"], "unknown_action")
        kind, meter, price = card["rates"][action]
        units = Fraction(meters.get(meter, 0))
        if kind == "flat" or not units:
            return ceil(price * 1_000_000) if kind == "flat" else None
        key = (card["card_id"], card["version"], action, self.window("period", t)[0])
        before = self.units.get(key, Fraction(0)) if kind == "graduated" else Fraction(0)
        if moves:
            self.units[key] = before + units
        tiers = price if kind == "graduated" else [(None, price)]
        return self.tiered(tiers, before + units) - self.tiered(tiers, before)

    def tiered(self, tiers: Any, units: Fraction) -> int:
        total, floor = Fraction(0), Fraction(0)
        for up_to, price in tiers:
            top = units if up_to is None else min(units, Fraction(up_to))
            total, floor = total + max(top - floor, Fraction(0)) * price, max(top, floor)
        return ceil(total * 1_000_000)

    # What can be drawn, and in which order.

    def order(self, lot: Thing) -> tuple[Any, ...]:
        scope = 3 - 2 * (lot["action"] is not None) - (lot["project"] is not None)
        bought, first = lot["source"] == "purchased", (lot["priority"], scope, lot["exp"] or FAR)
        return *first, bought, lot["eff"], lot["granted"], lot["number"], lot["name"]

    def open_holds(self) -> list[Thing]:
        return [hold for hold in self.holds.values() if hold["ended"] is None]

    def held(self, lot: Thing) -> int:
        return sum(hold["pins"].get(lot["name"], 0) for hold in self.open_holds())

    def free(self, lot: Thing) -> int:
        return 0 if lot["since"] else lot["left"] - self.held(lot)

    def open_at(self, t: datetime, action: str | None = None, project: str | None = None) -> list[Thing]:
        lots = [x for x in self.lots if x["eff"] <= t and (x["exp"] is None or t < x["exp"])]
        fit = [x for x in lots if x["action"] in (None, action) and x["project"] in (None, project)]
        return sorted(fit, key=self.order)

    def available(self, action: str | None = None, project: str | None = None) -> int:
        return sum(self.free(lot) for lot in self.open_at(self.t, action, project))

    def take(self, amount: int, lots: Iterable[Thing], lines: list[Any], hold: Thing | None = None) -> int:
        """Draws from free credit, or from what the hold sets aside or set aside; returns what that does not cover."""
        for lot in lots:
            room = lot["left"] if hold and not hold["ended"] else self.free(lot)
            n = min(amount, room if hold is None else min(room, hold["pins"].get(lot["name"], 0)))
            if n > 0:
                self.unpin(hold, lot, n)
                lot["left"], amount = lot["left"] - n, amount - n
                lines.append((lot, n))
        return amount

    def unpin(self, hold: Thing | None, lot: Thing, n: int) -> None:
        if hold is not None and n:
            hold["pins"][lot["name"]] -= n
            lot["held_until"] = lot["held_until"] if hold["ended"] else self.t

    def end_hold(self, hold: Thing, how: str = "released") -> None:
        for lot in self.lots:
            lot["held_until"] = self.t if hold["pins"].get(lot["name"]) else lot["held_until"]
        hold |= {"ended": self.t, "how": how}
        self.repay()

    def repay(self) -> None:
        lines: list[Any] = []
        self.debt = self.take(self.debt, self.open_at(self.t), lines)
        self.repayments += [{"lot": lot, "left": n} for lot, n in lines]

    def add_lot(self, name: str, amount: int, source: str, **terms: Any) -> None:
        self.issues += 1
        lot = {
            "name": name,
            "origin": name,
            "number": self.issues,
            "source": source,
            "left": amount,
            "broken": 0,
        }
        lot |= {
            "priority": 20,
            "action": None,
            "project": None,
            "granted": self.t,
            "eff": self.t,
            "exp": None,
        }
        lot |= {"rolls": False, "since": None, "held_until": None}
        self.lots += [lot | terms] if amount else []
        self.repay()

    def add_heir(self, sign: str, lot: Thing, n: int, **terms: Any) -> Thing:
        """The lot that succeeds this one at this instant, one for each instant, has so much more."""
        name, fresh = (
            f"{lot['name']}{sign}{self.t.isoformat()}",
            {"left": 0, "broken": 0, "rolls": False, "held_until": None},
        )
        if name not in [x["name"] for x in self.lots]:
            since = self.t if lot["since"] else None
            self.lots.append(lot | fresh | {"name": name, "granted": self.t, "since": since} | terms)
        heir = next(x for x in self.lots if x["name"] == name)
        heir["left"] += n
        return heir

    # Time.

    def facts(self) -> list[tuple[Any, ...]]:
        """All that is due one day as things are: its instant, its rank at one instant, and what it does."""
        facts: list[Any] = [(h["expires"], 0, h["made"], "end_hold", h, "expired") for h in self.open_holds()]
        for x in self.lots:
            if x["exp"] and x["left"] and not x["since"] and not self.held(x):
                late = max(x["exp"], x["held_until"] or x["exp"]) + GRACE
                facts.append((late, 1, x["number"], "expire", x))
        facts += [(x["eff"], 3, 0, "repay") for x in self.lots if x["eff"] > self.t]
        turn = self.period_end or (self.pending and self.pending[0])
        return facts + ([(turn, 2, 0, "turn")] if turn and self.status != "closed" else [])

    def pass_to(self, t: datetime) -> None:
        while (fact := min(self.facts(), key=lambda f: f[:2], default=(FAR,)))[0] <= t:
            self.t = fact[0]
            getattr(self, fact[3])(*fact[4:])
            self.repay()
        self.t = t

    def expire(self, lot: Thing) -> None:
        lot["broken"], lot["left"] = lot["broken"] + lot["left"], 0

    def turn(self) -> None:
        end = self.window("period", self.t)[1]
        if self.plan:
            self.roll(end, self.plan["rollover_cap"])
        self.period_end = end
        if self.pending:
            self.install(self.pending[1])
        assert self.plan is not None
        self.allow(self.plan["allowance"])

    def allow(self, amount: int) -> None:
        self.add_lot(f"allowance#{self.issues + 1}", amount, "included", exp=self.period_end, rolls=True)

    def install(self, plan: Thing) -> None:
        kept = [limit["limit_id"] for limit in plan["limits"]]
        self.limits = {x: limit for x, limit in self.limits.items() if not limit["by_plan"] or x in kept}
        self.plan, self.pending = plan, None
        self.card_ids.append((self.t, plan["card_id"]))
        for limit in plan["limits"]:
            self.set_limit(limit, by_plan=True)

    def roll(self, end: datetime, room: int) -> None:
        ending = [x for x in sorted(self.lots, key=self.order) if x["rolls"] and x["exp"] == self.t]
        for hold in [*sorted(self.open_holds(), key=lambda hold: hold["made"]), None]:
            for lot in ending if hold else reversed(ending):
                n = min(room, hold["pins"].get(lot["name"], 0) if hold else self.free(lot))
                if n:
                    heir = self.add_heir("~", lot, n, exp=end)
                    self.unpin(hold, lot, n)
                    lot["left"], room = lot["left"] - n, room - n
                    if hold:
                        hold["pins"][heir["name"]] = hold["pins"].get(heir["name"], 0) + n

    # The account and its plan.

    def suspend(self) -> None:
        no(self.status == "suspended", "account_suspended")
        self.status = "suspended"

    def resume(self) -> None:
        no(self.status != "suspended", "account_not_suspended")
        self.status = "open"

    def close(self) -> None:
        self.status = "closed"

    def schedule_zone(self, zone: str) -> None:
        no(self.zones[-1][0] > self.t or self.zones[-1][1] == zone, "zone_change_refused")
        self.zones.append((self.window("period", self.t)[1], zone))

    def assign_plan(self, plan: Thing, takes: str = "now") -> Thing:
        start, end = self.window("period", self.t)
        same = self.plan and (self.plan["plan_id"], self.plan["version"]) == (
            plan["plan_id"],
            plan["version"],
        )
        extra = plan["allowance"] - (self.plan["allowance"] if self.plan else 0)
        replaces = takes == "turn" and self.pending
        no((same and not replaces) or (takes == "now" and extra < 0), "plan_change_refused")
        if takes == "turn":
            self.pending = end, plan
            return {}
        if self.plan:
            zone = max(each for each in self.zones if each[0] <= self.t)[1]
            first, today, last = (shown(t, zone).date() for t in (start, self.t, end))
            extra = extra * (last - today).days // (last - first).days
        self.period_end = end
        self.install(plan)
        self.allow(extra)
        return {"amount": extra}

    # Credits that come and go.

    def issue(self, name: str, amount: int, source: str, terms: Thing) -> None:
        eff, exp = terms.pop("effective", None) or self.t, terms.pop("expires", None)
        no(eff < self.t or (exp is not None and exp <= eff), "lot_terms_refused")
        no(amount <= 0, "amount_out_of_range")
        self.add_lot(name, amount, source, eff=eff, exp=exp, **terms)

    def grant(self, name: str, amount: int, source: str = "promotional", **terms: Any) -> None:
        self.issue(name, amount, source, terms)

    def void_line(self, origin: str, how: str) -> int:
        """How much was left of the line, also where holds set it aside; nothing is now."""
        self.gone[origin], gone = how, 0
        for lot in (x for x in self.lots if x["origin"] == origin):
            for hold in self.open_holds():
                self.unpin(hold, lot, hold["pins"].get(lot["name"], 0))
            gone, lot["left"] = gone + lot["left"], 0
        return gone

    def void_grant(self, name: str) -> Thing:
        lot = next((x for x in self.lots if x["name"] == name), None)
        no(lot is None, "unknown_lot")
        assert lot is not None
        no(lot["source"] == "purchased" or lot["origin"] in self.gone, "nothing_to_void")
        return {"amount": self.void_line(lot["origin"], "voided")}

    def request_top_up(self, ref: str, amount: int, cost: Any) -> None:
        no(ref in self.payments, "payment_reference_used")
        no(amount <= 0, "amount_out_of_range")
        self.payments[ref] = {"status": "requested", "terms": (amount, cost), "chargeback": None}

    def top_up(self, ref: str, amount: int, cost: Any, **terms: Any) -> None:
        payment = self.payments.get(ref, {"terms": (amount, cost), "status": "", "chargeback": None})
        no(payment["status"] == "settled", "payment_reference_used")
        no(payment["status"] == "requested" and payment["terms"] != (amount, cost), "payment_refused")
        self.issue(ref, amount, "purchased", terms)
        self.payments[ref] = payment | {"status": "settled", "terms": (amount, cost)}
        self.auto |= {"flight": None, "failures": 0} if self.auto["flight"] == ref else {}

    def fail_top_up(self, ref: str) -> None:
        no(ref not in self.payments, "unknown_payment")
        no(self.payments[ref]["status"] != "requested", "payment_refused")
        self.payments[ref]["status"] = "failed"
        if self.auto["flight"] == ref:
            failures = self.auto["failures"] + 1
            retry = self.t + timedelta(minutes=10) * 2 ** (failures - 1)
            self.auto |= {"flight": None, "failures": failures, "retry": retry}

    def configure_auto(self, enabled: bool, **terms: Any) -> None:
        auto = {
            "threshold": 0,
            "amount": 0,
            "cost": None,
            "money_cap": 0,
            "window": "month",
            "failures_max": 3,
        } | terms
        bad = auto["threshold"] <= 0 or auto["amount"] <= 0 or auto["failures_max"] < 1 or not auto["cost"]
        bad = bad or auto["cost"][0] + auto["cost"][2] <= 0
        no(enabled and (bad or auto["money_cap"] < auto["cost"][0] + auto["cost"][2]), "auto_top_up_refused")
        self.auto |= auto | {
            "enabled": enabled,
            "failures": 0,
            "retry": LONG_AGO,
            "kind": auto["window"],
            "window": None,
        }

    def look_at_auto(self) -> str | None:
        auto = self.auto
        if (
            not auto["enabled"]
            or auto["flight"]
            or auto["failures"] >= auto["failures_max"]
            or self.t < auto["retry"]
        ):
            return None
        window, price = self.window(auto["kind"], self.t)[0], auto["cost"][0] + auto["cost"][2]
        spent = price + (auto["spent"] if auto["window"] == window else 0)
        is_low = self.available() - self.debt < auto["threshold"]
        if self.status != "open" or not is_low or spent > auto["money_cap"]:
            return None
        ref = f"auto{len(self.payments)}"
        self.request_top_up(ref, auto["amount"], auto["cost"])
        auto |= {"flight": ref, "window": window, "spent": spent}
        return ref

    def chargeback(self, ref: str, becomes: str) -> Thing:
        no(ref not in self.payments, "unknown_payment")
        no(becomes == "open" and self.payments[ref]["status"] != "settled", "payment_not_settled")
        no(self.payments[ref]["chargeback"] != (None if becomes == "open" else "open"), "chargeback_refused")
        self.payments[ref]["chargeback"] = becomes
        line, drawn = [lot for lot in self.lots if lot["origin"] == ref], 0
        if becomes == "lost":
            drawn = self.payments[ref]["terms"][0] - sum(lot["broken"] + lot["left"] for lot in line)
            self.void_line(ref, "lost")
        for lot in line:
            late, until = self.t - (lot["since"] or self.t), lot["held_until"]
            lot |= {
                "exp": lot["exp"] and lot["exp"] + late,
                "held_until": until and min(until + late, self.t),
            }
            lot["since"] = self.t if becomes == "open" else None
        self.debt += drawn
        self.repay()
        return {"amount": drawn}

    def adjust(self, name: str, direction: str, amount: int, reason: str | None, by: str) -> Thing:
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

    def move_balance(self, name: str, direction: str, amount: int) -> Thing:
        if direction == "raise":
            self.add_lot(name, amount, "raised")
        else:
            no(amount > self.available(), "adjustment_refused")
            self.take(amount, self.open_at(self.t), [])
        return {}

    # Refunds and disputes.

    def refund(self, charge: str, amount: int | None = None) -> Thing:
        no(charge not in self.charges and charge not in self.records, "unknown_charge")
        no(charge not in self.charges, "nothing_to_refund")
        left = self.charges[charge]["amount"] - self.charges[charge]["refunded"]
        no(not left or (amount or 0) > left, "refund_exceeds_charge")
        no(amount is not None and amount <= 0, "malformed")
        self.give_back(self.charges[charge], amount or left)
        return {"amount": amount or left}

    def give_back(self, charge: Thing, amount: int) -> None:
        passed, start, end = 0, charge["refunded"], charge["refunded"] + amount
        charge["refunded"] = end
        for lot, n in reversed(charge["lines"]):
            part, passed = min(end, passed + n) - max(start, passed), passed + n
            if part > 0 and (lot is None or self.gone.get(lot["origin"]) == "lost"):
                lowered = min(part, self.debt)
                self.debt -= lowered
                self.return_to_repayers(part - lowered)
            elif part > 0:
                self.put(lot, part)

    def return_to_repayers(self, amount: int) -> None:
        for repayment in reversed(self.repayments):
            n = min(amount, repayment["left"])
            if n and self.gone.get(repayment["lot"]["origin"]) != "lost":
                repayment["left"], amount = repayment["left"] - n, amount - n
                self.put(repayment["lot"], n)
        assert not amount, "a debt line was never repaid"

    def put(self, lot: Thing, n: int) -> None:
        """Back to the lot, to its successor where it has expired, to nothing where its grant was voided."""
        if lot["origin"] in self.gone:
            return
        if lot["exp"] is not None and lot["exp"] <= (lot["since"] or self.t):
            self.add_heir("@", lot, n, eff=self.t, exp=self.t + 7 * DAY)
        else:
            lot["left"] += n
        self.repay()

    def open_dispute(self, name: str, charges: list[str], evidence: str) -> None:
        no(not charges or not 1 <= len(evidence) <= 4_000, "malformed")
        contested = [c for d in self.disputes.values() if d["status"] == "open" for c in d["charges"]]
        for charge in charges:
            no(charge not in self.charges and charge not in self.records, "unknown_charge")
            no(charge not in self.charges, "nothing_to_refund")
            no(charge in contested, "dispute_refused")
        self.disputes[name] = {"charges": charges, "status": "open"}

    def decide_dispute(self, name: str, how: str) -> None:
        no(name not in self.disputes, "unknown_dispute")
        no(self.disputes[name]["status"] != "open", "dispute_refused")
        self.disputes[name]["status"] = how
        for charge in [self.charges[c] for c in self.disputes[name]["charges"]] if how == "upheld" else []:
            self.give_back(charge, charge["amount"] - charge["refunded"])

    # Limits.

    def set_limit(self, limit: Thing, by_plan: bool = False) -> None:
        cap, reached, old = limit["cap"], limit["thresholds"], self.limits.get(limit["limit_id"])
        fixed = ("window", "member", "project", "action")
        bad = sorted(set(reached)) != reached or not all(1 <= n <= 1_000 for n in reached)
        no(cap < 0, "malformed")
        no(bad or (old and any(old[name] != limit[name] for name in fixed)), "limit_terms_refused")
        fresh = {"since": self.window(limit["window"], self.t)[0], "reached": {}, "by_plan": by_plan}
        self.limits[limit["limit_id"]] = (old or fresh) | limit

    def remove_limit(self, limit_id: str) -> None:
        no(limit_id not in self.limits, "unknown_limit")
        del self.limits[limit_id]

    def counted(self, limit: Thing, t: datetime) -> tuple[datetime, datetime, int, int]:
        """The window around an instant, what was used in it, and what holds set aside now."""
        start, end = self.window(limit["window"], t)
        charges = [c for c in self.charges.values() if fits(limit, c) and start <= c["occurred"] < end]
        held = sum(sum(hold["pins"].values()) for hold in self.open_holds() if fits(limit, hold))
        return start, end, sum(c["amount"] - c["refunded"] for c in charges), held

    def charged(self, name: str, amount: int, lines: list[Any], debt: int, use: Thing) -> Thing:
        """The charge stands; what it did to limits, and to automatic top-up."""
        self.debt += debt
        self.charges[name] = use | {"amount": amount, "refunded": 0, "lines": [*lines, (None, debt)]}
        passed, alerts = [], []
        for limit_id, limit in sorted(self.limits.items()):
            start, _, used, _ = self.counted(limit, use["occurred"])
            if fits(limit, use) and start >= limit["since"]:
                passed += [limit_id] if limit["hard"] and used > limit["cap"] else []
                reached = limit["reached"].setdefault(start, [])
                due = [
                    n
                    for n in limit["thresholds"]
                    if used and used * 100 >= n * limit["cap"] and n not in reached
                ]
                reached += due
                alerts += [(limit_id, n, start) for n in due]
        drawn = [(lot["name"], n) for lot, n in lines]
        told = {"amount": amount, "lines": drawn, "debt": debt, "passed": passed, "thresholds": alerts}
        return told | {"auto": self.look_at_auto()}

    # Holds and quotes.

    def quote(
        self, name: str, action: str, meters: Thing, lasts: timedelta, project: str | None = None
    ) -> Thing:
        card = self.card_at(self.t)
        quote = {
            "action": action,
            "meters": meters,
            "project": project,
            "card": card,
            "expires": self.t + lasts,
        }
        quote |= {"total": self.price(card, action, meters, self.t, False), "used": False, "withdrawn": False}
        no(quote["total"] is None, "malformed")
        self.quotes[name] = quote | {"charged": False}
        return {"amount": quote["total"]}

    def withdraw_quote(self, name: str) -> None:
        quote = self.quotes.setdefault(name, {"used": False, "withdrawn": False})
        no(quote["withdrawn"], "quote_withdrawn")
        no(quote["used"], "quote_used")
        quote["withdrawn"] = True

    def place_hold(self, name: str, action: str, amount: int | None = None, **terms: Any) -> Thing:
        hold = {"member": None, "project": None, "work": None, "quote": None, "lasts": 3_600} | terms
        hold |= {
            "action": action,
            "made": self.t,
            "ended": None,
            "expires": self.t + timedelta(seconds=hold["lasts"]),
        }
        no(not 1 <= hold["lasts"] <= 86_400, "hold_terms_refused")
        no((amount is None) == (hold["quote"] is None) or (amount is not None and amount <= 0), "malformed")
        needed = self.quoted(hold) if amount is None else amount
        lots = self.open_at(self.t, action, hold["project"])
        available = {
            "rule": "available",
            "limit_id": "",
            "used": 0,
            "held": sum(self.held(lot) for lot in lots),
        }
        rules: list[Any] = [(self.available(action, hold["project"]), "", available)]
        for limit_id, limit in self.limits.items():
            _, _, used, held = self.counted(limit, self.t)
            told = {"rule": "limit", "limit_id": limit_id, "used": used, "held": held}
            rules += (
                [(limit["cap"] - used - held, limit_id, told)] if limit["hard"] and fits(limit, hold) else []
            )
        room, limit_id, told = min(rules, key=lambda rule: rule[:2])
        if room < needed:
            key = (limit_id, needed, action, hold["member"], hold["project"], hold["work"])
            repeated = self.t - self.denials.get(key, LONG_AGO) < timedelta(seconds=60)
            self.denials[key] = self.denials[key] if repeated else self.t
            told |= {"outcome": "denied", "limit": room + told["used"] + (limit_id != "") * told["held"]}
            return told | {"requested": needed, "repeated": repeated, "auto": self.look_at_auto()}
        hold["pins"] = {}
        for lot in lots:
            hold["pins"][lot["name"]] = min(needed - sum(hold["pins"].values()), self.free(lot))
        self.holds[name] = hold
        if hold["quote"]:
            self.quotes[hold["quote"]]["used"] = True
        return {"outcome": "held", "amount": needed, "auto": self.look_at_auto()}

    def quoted(self, hold: Thing) -> int:
        quote = self.quotes[hold["quote"]]
        no((quote["action"], quote["project"]) != (hold["action"], hold["project"]), "quote_not_ours")
        no(quote["withdrawn"], "quote_withdrawn")
        no(quote["used"], "quote_used")
        no(self.t >= quote["expires"], "quote_expired")
        return quote["total"]  # type: ignore[no-any-return]

    def open_hold(self, name: str) -> Thing:
        no(name not in self.holds, "unknown_hold")
        no(self.holds[name]["ended"], "hold_not_open")
        return self.holds[name]

    def extend_hold(self, name: str, lasts: int) -> None:
        hold, longer = self.open_hold(name), self.t + timedelta(seconds=lasts)
        no(not 1 <= lasts <= 86_400 or longer > hold["made"] + 7 * DAY, "hold_terms_refused")
        hold["expires"] = max(hold["expires"], longer)

    def release_hold(self, name: str) -> None:
        self.end_hold(self.open_hold(name))

    def capture_hold(self, name: str, charge: str, amount: int, occurred: datetime | None = None) -> Thing:
        hold, occurred = self.open_hold(name), occurred or self.t
        no(amount <= 0 or not hold["made"] <= occurred <= self.t, "malformed")
        more = amount - sum(hold["pins"].values())
        policy = (self.plan or {"captures": {}})["captures"].get(hold["action"], "if_available")
        no(more > 0 and policy == "reject", "capture_exceeds_hold")
        for limit in self.limits.values() if more > 0 else []:
            start, end, used, held = self.counted(limit, occurred)
            needed = used + (held + more if start <= self.t < end else amount)
            is_counted = limit["hard"] and fits(limit, hold) and start >= limit["since"]
            no(is_counted and needed > limit["cap"], "limit_exceeded")
        free = {x["name"]: self.free(x) for t in (occurred, self.t) for x in self.eligible(t, hold)}
        debt = max(more - sum(free.values()), 0)
        allowed = (self.plan or {"overdraft_cap": 0})["overdraft_cap"] if policy == "overdraft" else 0
        no(debt and self.debt + debt > allowed, "insufficient_credits")
        return self.settle(charge, amount, occurred, hold, hold)

    def eligible(self, t: datetime, use: Thing) -> list[Thing]:
        return self.open_at(t, use["action"], use["project"])

    def settle(self, name: str, amount: int, occurred: datetime, use: Thing, hold: Thing | None) -> Thing:
        """A charge: first what the hold gives, then what was free when it occurred, then what is free now, then debt."""
        lines: list[Any] = []
        left = self.take(amount, sorted(self.lots, key=self.order), lines, hold) if hold else amount
        for t in (occurred, self.t):
            left = self.take(left, self.eligible(t, use), lines)
        if hold and not hold["ended"] and not any(hold["pins"].values()):
            self.end_hold(hold, "captured")
        scope = {each: use[each] for each in ("member", "project", "action")}
        return self.charged(name, amount, lines, left, scope | {"occurred": occurred}) | {
            "outcome": "charged"
        }

    # Usage.

    def use(self, rid: str, action: str, meters: Thing, occurred: datetime, **more: Any) -> Thing:
        use = {
            "status": "succeeded",
            "member": None,
            "project": None,
            "work": None,
            "hold": None,
            "corrects": None,
        }
        use |= more | {"action": action, "meters": meters, "occurred": occurred}
        if rid in self.records:
            return {"outcome": "duplicate" if self.records[rid] == use else "conflict"}
        no(self.status == "closed", "account_closed")
        hold, corrected = self.holds.get(use["hold"]), rid in self.awaited
        if corrected or use["status"] != "succeeded":
            return self.waive(rid, use, hold)
        amount = self.priced(use, hold)
        self.records[rid] = use
        if amount is None:
            return {"outcome": "nothing_to_price"}
        if hold and hold["ended"]:
            was_open = hold["made"] <= occurred < hold["ended"] and self.t < hold["ended"] + GRACE
            hold = hold if was_open else None
        return self.settle(rid, amount, occurred, use, hold)

    def waive(self, rid: str, use: Thing, hold: Thing | None) -> Thing:
        self.records[rid], named = use, use["corrects"]
        self.awaited.pop(rid, None)
        if hold and not hold["ended"]:
            self.end_hold(hold)
        if use["status"] == "succeeded":
            return {"outcome": "corrected"}
        if named and named in self.charges:
            self.give_back(
                self.charges[named], self.charges[named]["amount"] - self.charges[named]["refunded"]
            )
        elif named and named not in self.records:
            self.awaited.setdefault(named, rid)
        return {"outcome": "failed"}

    def priced(self, use: Thing, hold: Thing | None) -> int | None:
        if hold and hold["quote"] and hold["made"] <= use["occurred"] < (hold["ended"] or FAR):
            quote = self.quotes[hold["quote"]]
            if not quote["charged"] and (quote["action"], quote["meters"]) == (use["action"], use["meters"]):
                quote["charged"] = True
                return quote["total"]  # type: ignore[no-any-return]
            return self.price(quote["card"], use["action"], use["meters"], use["occurred"], True)
        return self.price(self.card_at(use["occurred"]), use["action"], use["meters"], use["occurred"], True)

    # What there is to compare.

    def look(self, t: datetime) -> Thing:
        self.pass_to(t)
        lots = [lot for lot in sorted(self.lots, key=self.order) if lot["left"]]
        parts = dict.fromkeys(("settled", "held", "withheld", "upcoming", "lapsed", "available"), 0)
        for lot in lots:
            late = "lapsed" if lot["exp"] and lot["exp"] <= t else "available"
            part = "withheld" if lot["since"] else "upcoming" if t < lot["eff"] else late
            parts["held"] += self.held(lot)
            parts[part] += lot["left"] - self.held(lot)
            parts["settled"] += lot["left"]
        limits = {
            x: dict(zip(("start", "end", "used", "held"), self.counted(self.limits[x], t), strict=True))
            for x in self.limits
        }
        for x, limit in limits.items():
            limit |= {
                "cap": self.limits[x]["cap"],
                "reached": self.limits[x]["reached"].get(limit["start"], []),
            }
        seen = ("name", "left", "source", "exp", "eff", "priority", "action", "project")
        told = {"debt": self.debt, "status": self.status, "limits": limits, "period_end": self.period_end}
        told["lots"] = [
            {k: lot[k] for k in seen} | {"held": self.held(lot), "withheld": bool(lot["since"])}
            for lot in lots
        ]
        told["holds"] = {name: hold for name, hold in self.holds.items() if hold["ended"] is None}
        told |= {"plan": self.plan, "pending": self.pending, "auto": self.auto["flight"]}
        return parts | told | {"next_due": min((fact[0] for fact in self.facts()), default=None)}
