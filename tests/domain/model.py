"""The account's rules once more, in plain dicts, sharing no code with the product: whole, slow and obvious.

Nothing is dropped: every lot, hold and charge is kept, and what limits count is summed anew from all charges. Times are naive
UTC, amounts micro-credits, prices fractions of a credit.
"""

# mypy: disable-error-code="assignment, has-type"

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from functools import cache, partial
from math import ceil
from typing import Any
from zoneinfo import ZoneInfo

MINUTE, STEP, PAUSE, DAY, GRACE = (timedelta(minutes=n) for n in (1, 15, 10, 1_440, 1_440))
LONG_AGO, EPOCH, FAR = datetime(1, 1, 1), datetime(1970, 1, 1), datetime(5000, 1, 1)  # noqa: DTZ001
SPENDING = {"place_hold", "extend_hold", "assign_plan", "request_top_up", "quote"}
SCOPE, CAP_OF_ONE_PERSON, PERCENTS = ("member", "project", "action"), 1_000_000_000, {*range(1, 1_001)}
AnyDict: Any = dict  # for the type checker: any name may be there


class Thing(AnyDict):  # type: ignore[misc]
    """A plain dict whose values also read and write as ``lot.left``; what nobody has set is None."""

    __getattr__, __missing__, __setattr__ = dict.get, dict.get, dict.__setitem__


class ModelRefusal(Exception):
    """The model says no, with the code that the product must give."""


def no(**reasons: Any) -> None:
    """None of these is so: the first that is, is the refusal's code."""
    if codes := [code for code, is_so in reasons.items() if is_so]:
        raise ModelRefusal(codes[0])


def order(lot: Any) -> tuple[Any, ...]:
    """The lot that burns first is the least."""
    scope, bought = 3 - 2 * (lot.action is not None) - (lot.project is not None), lot.source == "purchased"
    return lot.priority, scope, lot.exp, bought, lot.eff, lot.granted, lot.number, lot.name


def fits(terms: Any, use: Any) -> bool:
    return all(terms[name] is None or terms[name] == use[name] for name in SCOPE)


def returned(lines: list[Any], amount: int) -> Any:
    """What each line gives back of the amount, the last line first."""
    for line in reversed(lines):
        n = min(amount, line.left)
        line.left, amount = line.left - n, amount - n
        yield line.lot, n


def tiered(tiers: Any, units: Fraction) -> Any:
    tops = [0, *(units if top is None else min(units, top) for top, _ in tiers)]
    return ceil(sum((tops[n + 1] - tops[n]) * price for n, (_, price) in enumerate(tiers)) * 1_000_000)


def shown(t: datetime, zone: str) -> datetime:
    return t.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def first_instant(day: date, zone: str) -> datetime:
    """When a clock in the zone first shows the day, or, where it skips the day, a later one."""
    t = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC).replace(tzinfo=None)
    # Where midnight does not exist, this is beyond the jump: back to it.
    return next(m for n in range(2_000) if shown((m := t - n * MINUTE) - MINUTE, zone).date() < day)


@cache
def starts(kind: str, month: date, zone: str, anchor: int) -> list[datetime]:
    """Where the days, weeks, months or periods about a month begin: these on their day, or the month's last before it."""
    days, on = [month + DAY * n for n in range(-40, 75)], {"month": 1, "period": anchor}.get(kind, 0)
    firsts = [d for d in days if d.day == on or (d.day < on and (d + DAY).day == 1)]
    mondays = [d for d in days if d.weekday() == 0]
    return [first_instant(d, zone) for d in {"day": days, "week": mondays}.get(kind, firsts)]


def bounds(kind: str, t: datetime, zone: str, anchor: int) -> tuple[datetime, datetime]:
    known = starts(kind, t.date().replace(day=1), zone, anchor)
    if kind == "hour":  # of one clock: where clocks change, on a quarter, an hour ends and another begins
        quarter = t.replace(minute=t.minute // 15 * 15, second=0, microsecond=0)
        near = [(m, shown(m, zone)) for m in [quarter + n * STEP for n in range(-4, 5)]]
        known = [m for m, wall in near if wall.minute == 0 or shown(m - STEP, zone) != wall - STEP]
    return max(x for x in known if x <= t), min(x for x in known if x > t)


class Model(Thing):
    """One team's account as of ``t``, up to when time has passed: a method a command, all that it knows in its own dict."""

    def __init__(self, now: datetime, zone: str, anchor: int, cards: list[Any]) -> None:
        tables = "lots holds open_holds charges records limits quotes disputes denials payments proposals units gone"
        super().__init__({name: {} for name in tables.split()}, anchor=anchor, cards=cards, awaited=set())
        self.update(t=now, status="open", debt=0, issues=0, auto=Thing(window="month", price=0, spent=0))
        self.card_ids, self.zones, self.repayments = [(LONG_AGO, "standard")], [(LONG_AGO, zone)], list[Any]()
        self.plan = Thing(allowance=0, rollover_cap=0, overdraft_cap=0, captures={})

    def do(self, t: datetime, command: str, *given: Any, **named: Any) -> dict[str, Any]:
        """Time has passed and the command has happened, or ModelRefusal said no and only time has passed."""
        self.pass_to(t)
        no(account_closed=self.status == "closed" and command not in ("use", "erase"))
        no(account_suspended=self.status == "suspended" and command in SPENDING)
        return {"outcome": "done"} | (getattr(self, command)(*given, **named) or {})

    def look(self, t: datetime) -> Any:
        """All that is known at an instant, with the lots that have something left and the parts of what is settled."""
        self.pass_to(t)
        told = Thing(self, lots=[], settled=0, held=0, withheld=0, upcoming=0, lapsed=0, available=0)
        for x in self.pays():
            held, late = self.held(x), "lapsed" if x.exp <= t else "available"
            told["withheld" if x.since else "upcoming" if t < x.eff else late] += x.left - held
            told.settled, told.held = told.settled + x.left, told.held + held
            told.lots += [Thing(x, held=held, withheld=bool(x.since), exp=x.exp if x.exp < FAR else None)]
        return told

    def facts(self) -> Any:
        """All that is due one day as things are: its instant, its rank at one instant, and what it does."""
        facts: Any = [(h.expires, 0, partial(self.release_hold, h.name)) for h in self.open_holds.values()]
        for x in [x for x in self.lots.values() if x.left and not x.since and not self.held(x)]:
            burn = partial(x.update, broken=x.broken + x.left, left=0)
            facts.append((max(x.exp, x.held_until) + GRACE, 1, burn))
        facts += [(x.eff, 3, self.repay) for x in self.lots.values() if x.eff > self.t]
        turn = self["period_end"] or (self["pending"] and self.pending[0])
        return facts + [(turn, 2, self.turn)] * bool(turn and self.status != "closed")

    def pass_to(self, t: datetime) -> None:
        """What is due happens, each as of its instant; until then a lot was held where a hold is on it."""
        rank = 0
        while rank < 9:
            self.t, rank, happens = min([*self.facts(), (t, 9, self.repay)], key=lambda fact: fact[:2])
            for name in [name for hold in self.open_holds.values() for name in +hold.pins]:
                self.lots[name].held_until = self.t
            happens()

    def window(self, kind: str, t: datetime) -> tuple[datetime, datetime, str]:
        """The window around an instant, clipped where the team's zone changes, and the zone."""
        (since, zone), later = max(z for z in self.zones if z[0] <= t), [z[0] for z in self.zones if z[0] > t]
        if kind == "lifetime":
            return EPOCH, FAR, zone
        # A zone's first period starts where the last one ended.
        first = bounds("period", since + 2 * DAY - MINUTE, zone, self.anchor)[1] if since > EPOCH else since
        start, end = bounds(kind, t, zone, self.anchor) if kind != "period" or t >= first else (since, first)
        return max(start, since), min([end, *later]), zone

    def turn(self) -> None:
        """What moves on, held credit first, oldest hold first, of the rest what burns last; then the next period is."""
        self.period_end, room = self.window("period", self.t)[1], self.plan.rollover_cap
        ending = [x for x in self.pays() if x.rolls and x.exp == self.t]
        parts = [(x, hold, hold.pins[x.name]) for hold in self.open_holds.values() for x in ending]
        for lot, hold, part in parts + [(x, Thing(pins=Counter()), self.free(x)) for x in reversed(ending)]:
            n, heir = min(room, part), self.heir("~", lot, exp=self.period_end)
            heir.left, lot.left, room = heir.left + n, lot.left - n, room - n
            hold.pins.update({lot.name: -n, heir.name: n})
        if self.pending:
            self.install(self.pending[1])
        self.add_lot("", self.plan.allowance, "included", exp=self.period_end, rolls=True)

    def become(self, status: str) -> None:
        no(account_not_suspended=status == self.status == "open", account_suspended=status == self.status)
        self.status = status

    def schedule_zone(self, zone: str) -> None:
        no(zone_change_refused=self.zones[-1][0] > self.t or self.zones[-1][1] == zone)
        self.zones.append((self.window("period", self.t)[1], zone))

    def assign_plan(self, plan: dict[str, Any], takes: str = "now") -> Any:
        new, old, (start, end, zone) = Thing(plan), self.plan, self.window("period", self.t)
        same, extra = (new.plan_id, new.version) == (old.plan_id, old.version), new.allowance - old.allowance
        no(plan_change_refused=(same or extra < 0) if takes == "now" else (same and not self.pending))
        if takes == "turn":
            self.pending = end, new
            return {}
        if old.plan_id:
            first, today, last = (shown(t, zone).date() for t in (start, self.t, end))
            extra = extra * (last - today).days // (last - first).days
        self.period_end = end
        self.install(new)
        self.add_lot("", extra, "included", exp=end, rolls=True)
        return {"amount": extra}

    def install(self, plan: Any) -> None:
        kept = [limit["limit_id"] for limit in plan.limits]
        self.limits = {x: limit for x, limit in self.limits.items() if not limit.by_plan or x in kept}
        self.plan, self.pending = plan, None
        self.card_ids.append((self.t, plan.card_id))
        for limit in plan.limits:
            self.set_limit(limit, by_plan=True)

    def held(self, lot: Any) -> int:
        return sum(hold.pins.get(lot.name, 0) for hold in self.open_holds.values())

    def free(self, lot: Any) -> int:
        return 0 if lot.since else lot.left - self.held(lot)

    def pays(self, use: Any = None) -> list[Any]:
        """Whatever has something left for the use, or for any, in burn order."""
        return sorted([x for x in self.lots.values() if x.left and (use is None or fits(x, use))], key=order)

    def open_at(self, t: datetime, use: Any = None) -> list[Any]:
        return [(x, self.free(x)) for x in self.pays(use or Thing()) if x.eff <= t < x.exp]

    def available(self, **use: Any) -> int:
        return sum(n for _, n in self.open_at(self.t, Thing(use)))

    def take(self, amount: int, parts: list[Any], lines: list[Any]) -> int:
        """Draws what each part has, a line a lot; returns what they do not cover."""
        for lot, part in parts:
            n = min(amount, part)
            lot.left, amount = lot.left - n, amount - n
            lines += [Thing(lot=lot, left=n)] if n else []
        return amount

    def repay(self) -> None:
        self.debt = self.take(self.debt, self.open_at(self.t), self.repayments)

    def add_lot(self, name: str, amount: int, source: str, **terms: Any) -> None:
        self.issues += 1
        name = name or f"allowance#{self.issues}"
        lot = Thing(name=name, origin=name, number=self.issues, source=source, left=amount, broken=0, exp=FAR)
        lot.update({"priority": 20, "granted": self.t, "eff": self.t, "held_until": LONG_AGO} | terms)
        self.lots |= {name: lot} if amount else {}
        self.repay()

    def heir(self, sign: str, lot: Any, **terms: Any) -> Any:
        """The lot that succeeds this one at this instant, one for each instant."""
        name, fresh = f"{lot.name}{sign}{self.t.isoformat()}", Thing(lot, left=0, broken=0, rolls=False)
        fresh.update(terms, name=name, granted=self.t, since=lot.since and self.t, held_until=LONG_AGO)
        return self.lots.setdefault(name, fresh)

    def give_back(self, charge: Any, amount: int) -> dict[str, Any]:
        """What was debt, or drawn from a lot that is lost, lowers debt, then returns to what repaid debt, the latest first.

        Each part goes back to its lot, to its successor where that has expired, to nothing where its grant was voided.
        """
        charge.left -= amount
        for lot, n in returned(charge.lines, amount):
            was_debt = not lot or self.gone.get(lot.origin) == "lost"
            lowered = min(n, self.debt) * was_debt
            self.debt -= lowered
            repaid = [line for line in self.repayments if self.gone.get(line.lot.origin) != "lost"]
            back = returned(repaid, n - lowered) if was_debt else [(lot, n)]
            for x, part in [(x, part) for x, part in back if part and x.origin not in self.gone]:
                has_expired = x.exp <= (x.since or self.t)
                (self.heir("@", x, eff=self.t, exp=self.t + 7 * DAY) if has_expired else x).left += part
                self.repay()
        return {"amount": amount}

    def void(self, origin: str, how: str) -> int:
        """How much was left of a lot and its successors, also where holds set it aside; nothing is now."""
        self.gone[origin], gone = how, 0
        for lot in [x for x in self.lots.values() if x.origin == origin]:
            gone, lot.left = gone + lot.left, 0
            for hold in self.open_holds.values():
                del hold.pins[lot.name]
        return gone

    def grant(self, name: str, amount: int, source: str = "promotional", **terms: Any) -> None:
        eff, exp = terms.pop("effective", None) or self.t, terms.pop("expires", None) or FAR
        no(lot_terms_refused=eff < self.t or exp <= eff, amount_out_of_range=amount <= 0)
        self.add_lot(name, amount, source, eff=eff, exp=exp, **terms)

    def void_grant(self, name: str) -> Any:
        lot = self.lots.get(name, Thing())
        no(unknown_lot=not lot, nothing_to_void=lot.source == "purchased" or lot.origin in self.gone)
        return {"amount": self.void(lot.origin, "voided")}

    def adjust(self, name: str, direction: str, amount: int, reason: Any, by: str, second: Any = None) -> Any:
        lowers = direction == "lower"
        no(adjustment_refused=not reason or (amount <= 0 and lowers), amount_out_of_range=amount <= 0)
        if amount > CAP_OF_ONE_PERSON and not second:
            self.proposals[name] = partial(self.adjust, name, direction, amount, reason, by)
            return {"outcome": "proposed"}
        no(second_person_needed=by == second, adjustment_refused=lowers and amount > self.available())
        self.add_lot(name, amount * (not lowers), "raised")
        self.take(amount * lowers, self.open_at(self.t), [])
        return {}

    def approve(self, name: str, by: str) -> None:
        no(unknown_adjustment=name not in self.proposals)
        self.proposals[name](by)
        del self.proposals[name]

    def request_top_up(self, ref: str, amount: int, cost: Any) -> None:
        no(payment_reference_used=ref in self.payments, amount_out_of_range=amount <= 0)
        self.payments[ref] = Thing(status="requested", terms=(amount, cost))

    def top_up(self, ref: str, amount: int, cost: Any, **terms: Any) -> None:
        payment = self.payments.get(ref, Thing())
        no(payment_reference_used=payment.status == "settled")
        no(payment_refused=payment.status == "requested" and payment.terms != (amount, cost))
        self.grant(ref, amount, "purchased", **terms)
        self.payments[ref] = Thing(status="settled", terms=(amount, cost))
        self.auto.update({"flight": None, "failures": 0} if self.auto.flight == ref else {})

    def fail_top_up(self, ref: str) -> None:
        payment, auto = self.payments.get(ref, Thing()), self.auto
        no(unknown_payment=not payment, payment_refused=payment.status != "requested")
        payment.status = "failed"
        if auto.flight == ref:
            auto.update(flight=None, failures=auto.failures + 1, retry=self.t + PAUSE * 2**auto.failures)

    def chargeback(self, ref: str, becomes: str) -> Any:
        payment, line = self.payments.get(ref, Thing()), [x for x in self.lots.values() if x.origin == ref]
        no(unknown_payment=not payment, payment_not_settled=becomes == "open" and payment.status != "settled")
        no(chargeback_refused=payment.chargeback != (None if becomes == "open" else "open"))
        payment.chargeback, drawn = becomes, 0
        if becomes == "lost":
            drawn = payment.terms[0] - sum(lot.broken for lot in line) - self.void(ref, "lost")
        for lot in line:
            late, lot.since = self.t - (lot.since or self.t), self.t if becomes == "open" else None
            lot.exp, lot.held_until = min(lot.exp + late, FAR), min(lot.held_until + late, self.t)
        self.debt += drawn
        self.repay()
        return {"amount": drawn}

    def configure_auto(self, enabled: bool, window: str = "month", **terms: Any) -> None:
        """A request in flight and what the window has spent outlive new terms, but another kind of window begins anew."""
        auto = Thing(terms, window=window, enabled=enabled, failures=0, retry=LONG_AGO)
        if enabled:
            auto.price = auto.cost[0] + auto.cost[2]
            least = min(auto.threshold, auto.amount, auto.failures_max, auto.price)
            no(auto_top_up_refused=least <= 0 or auto.money_cap < auto.price)
        self.auto.update(auto, spent=self.auto.spent if window == self.auto.window else 0)

    def look_at_auto(self) -> Any:
        auto, start = self.auto, self.window(self.auto.window, self.t)[0]
        spent = auto.price + (auto.spent if auto.spent_in == start else 0)
        is_on = self.status == "open" and auto.enabled and not auto.flight and self.t >= auto.retry
        may_buy = is_on and auto.failures < auto.failures_max and spent <= auto.money_cap
        if may_buy and self.available() - self.debt < auto.threshold:
            auto.update(flight=f"auto{len(self.payments)}", spent_in=start, spent=spent)
            self.request_top_up(auto.flight, auto.amount, auto.cost)
            return auto.flight
        return None

    def card_at(self, t: datetime) -> Any:
        ahead = [(self.pending[0], self.pending[1].card_id)] if self["pending"] else []
        card_id = [card_id for since, card_id in [*self.card_ids, *ahead] if since <= t][-1]
        fitting = [card for card in self.cards if card["card_id"] == card_id and card["effective"] <= t]
        return max(fitting, key=lambda card: card["effective"], default={"rates": {}})

    def price(self, card: Any, action: str, meters: Any, t: datetime, moves: bool = True) -> Any:
        no(unknown_action=action not in card["rates"])
        kind, meter, price = card["rates"][action]
        units = Fraction(1 if kind == "flat" else meters.get(meter, 0))
        if kind != "graduated" or not units:
            return ceil(units * price * 1_000_000) if units else None
        key = card["card_id"], card["version"], action, self.window("period", t)[0]
        before = self.units.get(key, Fraction(0))
        self.units[key] = before + units * moves
        return tiered(price, before + units) - tiered(price, before)

    def quote(self, name: str, action: str, meters: Any, lasts: timedelta, project: str | None = None) -> Any:
        card, quote = self.card_at(self.t), Thing(action=action, meters=meters, project=project)
        quote.total = self.price(card, action, meters, self.t, moves=False)
        no(malformed=quote.total is None)
        self.quotes[name] = Thing(quote, card=card, expires=self.t + lasts)
        return {"amount": quote.total}

    def withdraw_quote(self, name: str) -> None:
        quote = self.quotes.setdefault(name, Thing())
        no(quote_withdrawn=quote.withdrawn, quote_used=quote.used)
        quote.withdrawn = True

    def erase(self) -> None:
        """What members wrote is no part of the model; time passes."""

    def set_limit(self, limit: dict[str, Any], by_plan: bool = False) -> None:
        marks, old = limit["thresholds"], self.limits.get(limit["limit_id"])
        moved = old and any(old[name] != limit[name] for name in ("window", *SCOPE))
        no(malformed=limit["cap"] < 0, limit_terms_refused=moved or sorted({*marks} & PERCENTS) != marks)
        fresh = {"since": self.window(limit["window"], self.t)[0], "reached": set(), "by_plan": by_plan}
        self.limits[limit["limit_id"]] = Thing((old or fresh) | limit)

    def remove_limit(self, limit_id: str) -> None:
        no(unknown_limit=self.limits.pop(limit_id, None) is None)

    def counted(self, limit: Any, t: datetime) -> tuple[datetime, datetime, int, int]:
        """The window around an instant, what was used in it, and what holds set aside now."""
        start, end, _ = self.window(limit.window, t)
        used = sum(c.left for c in self.charges.values() if start <= c.occurred < end and fits(limit, c))
        return start, end, used, sum(h.pins.total() for h in self.open_holds.values() if fits(limit, h))

    def limits_on(self, use: Any, t: datetime) -> list[Any]:
        """The limits that the use falls under around an instant: id, limit, and what is counted."""
        counted = [(x, limit, *self.counted(limit, t)) for x, limit in sorted(self.limits.items())]
        return [told for told in counted if fits(told[1], use) and told[2] >= told[1].since]

    def place_hold(self, name: str, action: str, amount: int | None = None, **terms: Any) -> Any:
        hold = Thing({"lasts": 3_600} | terms, name=name, action=action, made=self.t, pins=Counter())
        quote = self.quotes[hold.quote] if hold.quote else Thing(hold, total=amount, expires=FAR)
        no(hold_terms_refused=not 1 <= hold.lasts <= 86_400)
        no(malformed=(amount is None) == (hold.quote is None) or (amount is not None and amount <= 0))
        no(quote_not_ours=(quote.action, quote.project) != (action, hold.project))
        no(quote_withdrawn=quote.withdrawn, quote_used=quote.used, quote_expired=self.t >= quote.expires)
        rules = [(x.cap - u - h, i, u, h) for i, x, _, _, u, h in self.limits_on(hold, self.t) if x.hard]
        free, beside = sum(n for _, n in self.open_at(self.t, hold)), sum(map(self.held, self.pays(hold)))
        room, limit_id, used, held = min([(free, "", 0, beside), *rules])
        if room < quote.total:
            key = limit_id, quote.total, action, hold.member, hold.project, hold.work
            first = self.denials.get(key, LONG_AGO)
            self.denials[key] = first if self.t - first < MINUTE else self.t
            rule, cap = ("limit", room + used + held) if limit_id else ("available", room)
            told = Thing(rule=rule, limit_id=limit_id, used=used, held=held, limit=cap, requested=quote.total)
            return Thing(told, outcome="denied", repeated=self.t - first < MINUTE, auto=self.look_at_auto())
        for lot, n in self.open_at(self.t, hold):
            hold.pins[lot.name] = min(quote.total - hold.pins.total(), n)
        self.holds[name] = self.open_holds[name] = hold
        hold.expires, quote.used = self.t + timedelta(seconds=hold.lasts), True
        return {"outcome": "held", "amount": quote.total, "auto": self.look_at_auto()}

    def open_hold(self, name: str) -> Any:
        no(unknown_hold=name not in self.holds, hold_not_open=name not in self.open_holds)
        return self.holds[name]

    def extend_hold(self, name: str, lasts: int) -> None:
        hold, longer = self.open_hold(name), self.t + timedelta(seconds=lasts)
        no(hold_terms_refused=not 1 <= lasts <= 86_400 or longer > hold.made + 7 * DAY)
        hold.expires = max(hold.expires, longer)

    def release_hold(self, name: str) -> None:
        self.open_hold(name).ended = self.t
        del self.open_holds[name]
        self.repay()

    def capture_hold(self, name: str, charge: str, amount: int, occurred: datetime | None = None) -> Any:
        hold, occurred = self.open_hold(name), occurred or self.t
        no(malformed=amount <= 0 or not hold.made <= occurred <= self.t)
        more, policy = amount - hold.pins.total(), self.plan.captures.get(hold.action, "if_available")
        no(capture_exceeds_hold=more > 0 and policy == "reject")
        for _, limit, start, end, used, held in self.limits_on(hold, occurred) if more > 0 else []:
            needed = used + (held + more if start <= self.t < end else amount)
            no(limit_exceeded=limit.hard and needed > limit.cap)
        short = more - sum({x.name: n for t in (occurred, self.t) for x, n in self.open_at(t, hold)}.values())
        no(insufficient_credits=short > max((policy == "overdraft") * self.plan.overdraft_cap - self.debt, 0))
        return self.settle(charge, amount, occurred, hold, hold)

    def settle(self, name: str, amount: int, occurred: datetime, use: Any, hold: Any) -> Any:
        """A charge: first what the hold gives, then what was free when it occurred, then what is free now, then debt."""
        charge = self.charges[name] = Thing(use, amount=amount, left=amount, occurred=occurred, lines=[])
        has = [(x, min(hold.pins[x.name], self.free(x) if hold.ended else x.left)) for x in self.pays()]
        debt = self.take(amount, has, charge.lines)
        hold.pins.subtract({line.lot.name: line.left for line in charge.lines})
        for t in (occurred, self.t):
            debt = self.take(debt, self.open_at(t, use), charge.lines)
        if not hold.ended and not hold.pins.total():
            self.release_hold(hold.name)
        self.debt += debt
        told = Thing(outcome="charged", amount=amount, debt=debt, passed=[], thresholds=[])
        told.lines, charge.lines = [line.left for line in charge.lines], [*charge.lines, Thing(left=debt)]
        for limit_id, limit, start, _, used, _ in self.limits_on(charge, occurred):
            told.passed += [limit_id] * (limit.hard and used > limit.cap)
            over = {(n, start) for n in limit.thresholds if used and used * 100 >= n * limit.cap}
            told.thresholds += [(limit_id, *mark) for mark in over - limit.reached]
            limit.reached |= over
        return told | {"auto": self.look_at_auto()}

    def use(self, rid: str, action: str, meters: Any, at: datetime, **more: Any) -> Any:
        use = Thing({"status": "succeeded"} | more, action=action, meters=meters, occurred=at)
        if rid in self.records:
            return {"outcome": "duplicate" if self.records[rid] == use else "conflict"}
        no(account_closed=self.status == "closed")
        none = Thing(made=FAR, ended=LONG_AGO, pins=Counter())
        hold = self.holds.get(use.hold, none)
        if rid in self.awaited or use.status != "succeeded":
            return self.waive(rid, use, hold)
        is_within = hold.made <= at < (hold.ended or FAR)
        quote = self.quotes[hold.quote] if hold.quote and is_within else Thing()
        is_quoted = quote and not quote.charged and (quote.action, quote.meters) == (action, meters)
        amount = quote.total if is_quoted else self.price(quote.card or self.card_at(at), action, meters, at)
        self.records[rid], quote.charged = use, quote.charged or is_quoted
        if amount is None:
            return {"outcome": "nothing_to_price"}
        serves = not hold.ended or (is_within and self.t < hold.ended + GRACE)
        return self.settle(rid, amount, at, use, hold if serves else none)

    def waive(self, rid: str, use: Any, hold: Any) -> Any:
        self.records[rid], named = use, use.corrects if use.status != "succeeded" else None
        if not hold.ended:
            self.release_hold(hold.name)
        if named in self.charges:
            self.give_back(self.charges[named], self.charges[named].left)
        self.awaited |= {named} - {None, *self.charges, *self.records}
        return {"outcome": "corrected" if use.status == "succeeded" else "failed"}

    def charge(self, name: str) -> Any:
        no(unknown_charge=name not in self.charges | self.records, nothing_to_refund=name not in self.charges)
        return self.charges[name]

    def refund(self, name: str, amount: int | None = None) -> Any:
        charge = self.charge(name)
        no(refund_exceeds_charge=max(amount or 0, 1) > charge.left)
        no(malformed=amount is not None and amount <= 0)
        return self.give_back(charge, amount or charge.left)

    def open_dispute(self, name: str, charges: list[str], evidence: str) -> None:
        no(malformed=not charges or not 1 <= len(evidence) <= 4_000)
        for c in charges:
            no(dispute_refused=self.charge(c) and any(c in others for others in self.disputes.values()))
        self.disputes[name] = charges

    def decide_dispute(self, name: str, how: str) -> None:
        no(unknown_dispute=name not in self.disputes, dispute_refused=not self.disputes.get(name))
        for charge in [self.charges[c] for c in self.disputes[name]] if how == "upheld" else []:
            self.give_back(charge, charge.left)
        self.disputes[name] = []
