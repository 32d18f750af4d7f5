"""The account lives through arbitrary commands and agrees with the model after each.

Every command of the account, usage, ticks, lost processes, dropped snapshots, retries; after each step I1, I2, I3, I6, I9, I12,
I13, I14, I15, I19, I20, I21, I22 and I27 hold, and the product has said yes exactly where the model did, no with the same code.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any, TypeVar
from zoneinfo import available_timezones

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from domain import commands as c
from domain.account.applying import fold
from domain.account.decision import Decision, copy_of
from domain.account.due import next_due_at, pass_time
from domain.account.events import (
    ACCOUNT_EVENTS,
    AutoTopUpRequested,
    CostBasis,
    CreditsCharged,
    HoldCaptured,
    LimitTerms,
    LimitThresholdReached,
    UsageWaived,
)
from domain.account.index import IndexOverlay
from domain.account.quoting import quote_usage
from domain.account.state import TeamAccount
from domain.catalogue import apply, publish_plan
from domain.errors import LedgerError
from domain.ledger import Answer, Caller, Ledger
from domain.quotes import sign_quote
from domain.ticking import tick
from domain.times import instant_text
from domain.usage import UsageRecord, usage_key
from tests.builders import SOURCE, TESTER
from tests.domain.machine_books import Books, has_float
from tests.domain.model import Model, ModelRefusal, shown
from tests.memory_store import MemoryLedger

T = TypeVar("T")
Thing = dict[str, Any]
TEAM, KEY = "acme", b"k" * 32
CALLERS = [Caller("ann", "owner"), Caller("bob", "operator")]
TYPES = {topic: kind for kind in ACCOUNT_EVENTS for topic in (kind.TOPIC, *kind.OLD_TOPICS)}
ZONES = sorted(
    zone for zone in available_timezones() if "/" in zone and not zone.startswith(("posix", "right", "Etc/"))
)
TIERS = [(100, Fraction(1)), (None, Fraction(1, 2))]
SEEN = ("left", "held", "withheld", "source", "exp", "eff", "priority", "action", "project")

actions = st.sampled_from(["image.generate", "image.generate", "video.generate", "upscale"])
scopes = st.sampled_from([None, None, None, "image.generate", "video.generate"])
projects = st.sampled_from([None, None, "p1", "p2"])
members = st.sampled_from([None, "mira", "noor"])
amounts = st.one_of(
    st.integers(1, 120_000_000),
    st.integers(1, 12).map(lambda tens: tens * 10_000_000),
    st.sampled_from([1, 1_500_000_000]),
)
doubtful_amounts = st.one_of(amounts, amounts, amounts, st.integers(-1, 3))
quantities = st.one_of(
    st.integers(0, 120).map(str), st.sampled_from(["0.000000001", "33.3333333", "0.5", "150"])
)
moments = st.one_of(
    st.sampled_from(
        [
            timedelta(0),
            timedelta(microseconds=1),
            timedelta(minutes=1),
            timedelta(hours=1),
            timedelta(hours=24),
        ]
    ),
    st.sampled_from([timedelta(days=7), timedelta(days=31)]),
    st.integers(0, 3 * 86_400).map(lambda seconds: timedelta(seconds=seconds)),
    st.integers(0, 90).map(lambda minutes: timedelta(minutes=minutes)),
)
spans = st.one_of(st.none(), st.none(), moments, st.integers(-3, 40).map(lambda days: timedelta(days=days)))
lasts = st.one_of(st.integers(0, 86_401), st.integers(60, 7_200))
windows = st.sampled_from(["hour", "day", "week", "month", "period", "lifetime"])
costs = st.builds(
    lambda price, tax: (price, "EUR", tax), st.integers(0, 9_000), st.sampled_from([0, 0, 19, 500])
)
rarely = st.integers(0, 24).map(lambda n: n == 0)


def plain(at: datetime | None) -> datetime | None:
    """UTC without its zone, as the model keeps time."""
    return at and at.replace(tzinfo=None)


def aware(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC)


def credits_of(micros: int) -> str:
    return f"{micros // 1_000_000}.{micros % 1_000_000:06d}"


def refused_or(call: Callable[[], T]) -> tuple[T | None, LedgerError | None]:
    """What the call gives, or the no that it met."""
    try:
        return call(), None
    except LedgerError as error:
        return None, error


def code_of(error: LedgerError | None) -> str:
    return error.code if error else ""


class AccountMachine(RuleBasedStateMachine):
    """Free arguments, clock jumps to every bound that matters, and the model beside the product."""

    @initialize(
        zone=st.one_of(st.just("UTC"), st.just("Europe/Berlin"), st.sampled_from(ZONES)),
        anchor=st.integers(1, 31),
        start=st.integers(0, 500 * 24 * 60).map(
            lambda m: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=m)
        ),
        lots=st.lists(st.tuples(amounts, st.integers(0, 40)), max_size=3),
    )
    def opened(self, zone: str, anchor: int, start: datetime, lots: list[tuple[int, int]]) -> None:
        self.store = MemoryLedger(start)
        self.ledger = Ledger(self.store, self.store.current, [KEY])
        self.zone, self.count = zone, 0
        self.ids: dict[str, str] = {}
        self.tokens: dict[str, str] = {}
        self.plans: list[Thing] = []
        self.done: list[tuple[c.Command, Caller, str, Answer]] = []
        self.books = Books()
        self.model = Model(plain(start) or start, zone, anchor, [])
        for card_id in ("standard", "dear"):
            self.publish_card(card_id, 1 if card_id == "standard" else 2, datetime(2020, 1, 1, tzinfo=UTC))
        opening = c.OpenAccount(team_id=TEAM, zone=zone, anchor_day=anchor)
        self.done.append((opening, CALLERS[0], "open", self.ledger.execute(opening, CALLERS[0], "open")))
        for amount, days in lots:
            self.a_lot_is_bought(amount, days)

    def a_lot_is_bought(self, amount: int, days: int) -> None:
        name, expires = self.a_name("pay"), self.store.now + timedelta(days=days) if days else None
        basis = CostBasis(1_000, "EUR", 0)
        command = c.TopUpCredits(
            team_id=TEAM, amount_micros=amount, payment_reference=name, cost_basis=basis, expires_at=expires
        )
        self.both(command, "top_up", name, amount, (1_000, "EUR", 0), expires=plain(expires))

    # --- what it stands on ---

    @property
    def kept(self) -> Any:
        return self.store.teams[TEAM]

    @property
    def account(self) -> TeamAccount:
        account: TeamAccount = self.kept.account
        return account

    @property
    def now(self) -> datetime:
        """The clock, as the model keeps time."""
        return self.store.now.replace(tzinfo=None)

    def a_name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def id_of(self, name: str) -> str:
        return self.ids.get(name, name)

    def publish_card(self, card_id: str, price: int, effective: datetime) -> None:
        unit = {"model": "unit", "meters": ["units"], "price": str(price)}
        tiers = [{"up_to": "100", "price": str(price)}, {"price": credits_of(price * 500_000)}]
        rates = {
            "image.generate": [unit],
            "video.generate": [{"model": "graduated", "meters": ["units"], "tiers": tiers}],
            "upscale": [{"model": "flat", "price": str(price)}],
        }
        before = self.store.catalogue.versions_published(card_id)
        self.store.publish(
            {
                "card_id": card_id,
                "effective_at": instant_text(effective),
                "meters": {"units": "unit"},
                "rates": [{"action": action, "terms": terms} for action, terms in rates.items()],
            }
        )
        if self.store.catalogue.versions_published(card_id) > before:
            graduated = [(up_to, each * price) for up_to, each in TIERS]
            terms = {
                "image.generate": ("unit", "units", Fraction(price)),
                "video.generate": ("graduated", "units", graduated),
                "upscale": ("flat", None, Fraction(price)),
            }
            version = {
                "card_id": card_id,
                "version": before + 1,
                "effective": plain(effective),
                "rates": terms,
            }
            self.model.cards.append(version)

    def both(
        self, command: c.Command, name: str, *given: Any, caller: Caller = CALLERS[0], **named: Any
    ) -> tuple[Answer, Thing] | None:
        """Product and model say yes, or no with the same code; a no changes nothing (I15)."""
        expected: Thing | str
        try:
            expected = self.model.do(self.now, name, *given, **named)
        except ModelRefusal as refusal:
            expected = str(refusal)
        before, key, events = self.all_state(), self.a_name("key"), len(self.kept.events)
        answer, error = refused_or(lambda: self.ledger.execute(command, caller, key))
        if answer is None:
            assert self.all_state() == before, "I15: a refusal changes nothing"
            # Where a quote is bad and the request, too, either may be told.
            is_either = isinstance(command, c.PlaceHold) and command.quote and isinstance(expected, str)
            assert is_either or code_of(error) == expected, (
                f"the product: {code_of(error)}: {error}; the model {expected}"
            )
            return None
        assert not isinstance(expected, str), f"the model says {expected}, the product {answer}"
        self.done.append((command, caller, key, answer))
        self.compare_effects(expected, events)
        return answer, expected

    def compare_effects(self, expected: Thing, since: int) -> None:
        """What else the decision led to: thresholds, passed limits, a top-up asked for."""
        new = [stored.event for stored in self.kept.events[since:]]
        alerts = [
            (e.limit_id, e.threshold_percent, plain(e.window_start))
            for e in new
            if isinstance(e, LimitThresholdReached)
        ]
        assert sorted(alerts) == sorted(expected.get("thresholds", []))
        autos = [e.payment_reference for e in new if isinstance(e, AutoTopUpRequested)]
        assert len(autos) == bool(expected.get("auto")), (autos, expected)
        for auto in autos:
            self.ids[expected["auto"]] = auto
        for charge in new:
            if isinstance(charge, CreditsCharged | HoldCaptured):
                assert charge.amount_micros == expected["amount"]
                assert charge.debt_micros == expected["debt"]
                assert sorted(charge.limits_passed) == expected["passed"]

    def all_state(self) -> bytes:
        kept = self.kept
        told = [kept.account, kept.paperwork, [e.hash for e in kept.events], len(kept.paperwork_events)]
        entries = [
            sorted((key, entry) for key, entry in kind.items()) for kind in kept.index.entries.values()
        ]
        return msgspec.msgpack.encode([told, entries, len(kept.answers), sorted(kept.index.usages)])

    # --- time ---

    @rule(step=moments)
    def time_goes_on(self, step: timedelta) -> None:
        self.store.now += step

    @rule(data=st.data())
    def time_jumps_to_a_bound(self, data: st.DataObject) -> None:
        model, now = self.model, self.now
        bounds = [fact[0] for fact in model.facts()]
        for lot in model.lots.values():
            bounds += [lot["eff"], lot["exp"], lot["exp"] + timedelta(hours=24)]
        bounds += [h.ended + timedelta(hours=24) for h in model.holds.values() if h.ended]
        bounds += [model.auto.retry] if model.auto.retry else []
        kinds = ("hour", "day", "week", "month", "period")
        bounds += [model.window(kind, now)[1] for kind in kinds]
        bounds += [quote["expires"] for quote in model.quotes.values() if "expires" in quote]
        bounds += [made + timedelta(seconds=60) for made in model.denials.values()]
        ahead = sorted({bound for bound in bounds if now < bound < now + timedelta(days=70)})
        if ahead:
            back = data.draw(st.sampled_from([timedelta(0), timedelta(0), timedelta(microseconds=1)]))
            self.store.now = max(self.store.now, aware(data.draw(st.sampled_from(ahead))) - back)

    @rule(aside=st.integers(-7_200, 7_200))
    def time_jumps_to_where_clocks_change(self, aside: int) -> None:
        zone, at = self.model.zones[-1][1], self.now

        def offset(t: datetime) -> timedelta:
            return shown(t, zone) - t

        for _ in range(250):
            at += timedelta(days=1)
            if offset(at) != offset(at - timedelta(days=1)):
                low, high = at - timedelta(days=1), at
                while high - low > timedelta(minutes=1):
                    middle = low + (high - low) / 2
                    low, high = (middle, high) if offset(middle) == offset(low) else (low, middle)
                self.store.now = max(
                    self.store.now, aware(high.replace(second=0, microsecond=0)) + timedelta(seconds=aside)
                )
                return

    @rule()
    def idle_teams_are_ticked(self) -> None:
        self.model.look(self.now)
        tick(self.store, TEAM)
        assert tick(self.store, TEAM) == 0, "I18: a second tick finds nothing"

    @rule(sure=rarely)
    def an_ended_period_is_closed_by_hand(self, sure: bool) -> None:
        """The model knows nothing of it: it moves no credits."""
        start = self.account.books_start if sure else None
        command, key = c.ClosePeriod(team_id=TEAM, period_start=start), self.a_name("key")
        answer, error = refused_or(lambda: self.ledger.execute(command, CALLERS[1], key))
        assert code_of(error) in {"", "period_refused"}
        if answer is not None:
            assert answer.period_end is not None
            assert answer.period_end <= self.store.now
            self.done.append((command, CALLERS[1], key, answer))

    @rule()
    def the_process_dies(self) -> None:
        """Nothing but stored bytes survives: the head is read back from them."""
        self.kept.account = msgspec.json.decode(msgspec.json.encode(self.account), type=TeamAccount)
        self.ledger = Ledger(self.store, self.store.current, [KEY])

    @rule()
    def snapshots_are_dropped(self) -> None:
        """The head is discarded, and folded again from the stored bytes."""
        events = [msgspec.json.decode(stored.state, type=TYPES[stored.topic]) for stored in self.kept.events]
        self.kept.account, _ = fold(None, events)

    # --- retries ---

    @precondition(lambda self: self.done)
    @rule(data=st.data(), other=st.booleans())
    def i14_a_command_is_sent_again(self, data: st.DataObject, other: bool) -> None:
        command, caller, key, answer = data.draw(st.sampled_from(self.done))
        before = self.all_state()
        if other:
            another = data.draw(st.sampled_from([each[0] for each in self.done]))
            changed = msgspec.structs.replace(command, reason=f"{command.reason} indeed")
            other_body = changed if another == command else another
            taken, error = refused_or(lambda: self.ledger.execute(other_body, caller, key))
            assert taken is None, "I14: a key was taken for another body"
            assert code_of(error) == "idempotency_key_reused"
        else:
            again = self.ledger.execute(command, caller, key)
            assert again == msgspec.structs.replace(answer, is_replayed=True)
        assert self.all_state() == before, "I14: a retry changes nothing"

    # --- the account and its plan ---

    @rule(how=st.sampled_from(["suspend", "close", "resume"]), sure=rarely)
    def the_account_is_suspended_or_closed(self, how: str, sure: bool) -> None:
        if sure:
            kinds = {"suspend": c.SuspendAccount, "resume": c.ResumeAccount, "close": c.CloseAccount}
            status = {"suspend": "suspended", "resume": "open", "close": "closed"}[how]
            self.both(kinds[how](team_id=TEAM), "become", status)

    @precondition(lambda self: self.model.status == "suspended")
    @rule()
    def the_account_is_resumed(self) -> None:
        self.both(c.ResumeAccount(team_id=TEAM), "become", "open")

    @rule(
        zone=st.one_of(st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Auckland"]), st.sampled_from(ZONES))
    )
    def a_zone_change_is_scheduled(self, zone: str) -> None:
        self.both(c.ScheduleZoneChange(team_id=TEAM, zone=zone), "schedule_zone", zone)

    @rule(
        number=st.integers(0, 2),
        card_id=st.sampled_from(["standard", "dear"]),
        allowance=st.one_of(st.integers(0, 200).map(lambda n: n * 1_000_000), amounts),
        caps=st.tuples(amounts, amounts),
        policies=st.dictionaries(actions, st.sampled_from(["reject", "if_available", "overdraft"])),
        limits=st.lists(
            st.tuples(st.integers(0, 2), windows, amounts, st.booleans(), scopes),
            max_size=2,
            unique_by=lambda limit: limit[0],
        ),
    )
    def a_plan_is_published(
        self,
        number: int,
        card_id: str,
        allowance: int,
        caps: tuple[int, int],
        policies: dict[str, Any],
        limits: list[Any],
    ) -> None:
        # The scope and window of a limit go with its id, so that a plan after another never contradicts it.
        lines = [
            {
                "limit_id": f"plan-{n}-{window}-{action or 'any'}".replace(".", "-"),
                "window": window,
                "cap": credits_of(cap),
                "hard": hard,
                "thresholds": [50, 100],
            }
            | ({"action": action} if action else {})
            for n, window, cap, hard, action in limits
        ]
        document = {
            "plan_id": f"plan{number}",
            "card_id": card_id,
            "allowance": credits_of(allowance),
            "price": {"price_minor": 100, "currency": "EUR"},
            "rollover_cap": credits_of(caps[0]),
            "overdraft_cap": credits_of(caps[1]),
            "captures": policies,
            "limits": lines,
        }
        for event in publish_plan(self.store.catalogue, document, self.store.now, TESTER):
            apply(self.store.catalogue, event)
        terms = self.store.catalogue.plan(f"plan{number}")
        assert terms is not None
        fixed: Thing = {"member": None, "project": None}
        told = [
            fixed
            | {"action": x.get("action"), "cap": cap, "limit_id": x["limit_id"], "window": x["window"]}
            | {"hard": x["hard"], "thresholds": x["thresholds"]}
            for x, (_, _, cap, _, _) in zip(lines, limits, strict=True)
        ]
        plan: Thing = {
            "plan_id": f"plan{number}",
            "version": terms.version,
            "card_id": card_id,
            "limits": told,
        }
        plan |= {
            "allowance": allowance,
            "rollover_cap": caps[0],
            "overdraft_cap": caps[1],
            "captures": policies,
        }
        self.plans.append(plan)

    @precondition(lambda self: self.plans)
    @rule(data=st.data(), takes=st.sampled_from(["now", "turn"]))
    def a_plan_is_assigned(self, data: st.DataObject, takes: Any) -> None:
        plan_id = data.draw(st.sampled_from(sorted({plan["plan_id"] for plan in self.plans})))
        newest = [plan for plan in self.plans if plan["plan_id"] == plan_id][-1]
        command = c.AssignPlan(team_id=TEAM, plan_id=plan_id, takes_effect=takes)
        self.both(command, "assign_plan", newest, takes)

    @rule(
        card_id=st.sampled_from(["standard", "dear"]),
        price=st.integers(1, 4),
        ahead=st.integers(0, 72).map(lambda hours: timedelta(hours=hours)),
    )
    def a_card_is_published(self, card_id: str, price: int, ahead: timedelta) -> None:
        latest = self.store.catalogue.latest(card_id)
        effective = (self.store.now + ahead).replace(microsecond=0) + timedelta(seconds=1)
        if latest is None or effective > latest.effective_at:
            self.publish_card(card_id, price, effective)

    # --- credits that come and go ---

    @rule(
        amount=doubtful_amounts,
        wait=spans,
        life=spans,
        priority=st.sampled_from([10, 20, 20]),
        action=scopes,
        project=projects,
        bought=st.booleans(),
        source=st.sampled_from(["promotional", "included"]),
        data=st.data(),
    )
    def credits_come_in(
        self,
        amount: int,
        wait: timedelta | None,
        life: timedelta | None,
        priority: int,
        action: str | None,
        project: str | None,
        bought: bool,
        source: Any,
        data: st.DataObject,
    ) -> None:
        effective = None if wait is None else self.store.now + wait
        expires = None if life is None else (effective or self.store.now) + life
        shared: dict[str, Any] = {"priority": priority, "action": action, "project": project}
        dates: Thing = {"effective": plain(effective), "expires": plain(expires)}
        asked: dict[str, Any] = {"amount_micros": amount, "effective_at": effective, "expires_at": expires}
        if not bought:
            name = self.a_name("grant")
            command = c.GrantCredits(team_id=TEAM, source=source, **asked, **shared)
            happened = self.both(command, "grant", name, amount, source, **dates, **shared)
        else:
            name, cost = self.a_payment(data), data.draw(costs)
            if name in self.model.payments and data.draw(st.booleans()):
                amount, cost = self.model.payments[name]["terms"]
            basis = CostBasis(*cost)
            bought_as = c.TopUpCredits(
                team_id=TEAM,
                payment_reference=self.id_of(name),
                cost_basis=basis,
                **asked | {"amount_micros": amount},
                **shared,
            )
            happened = self.both(bought_as, "top_up", name, amount, cost, **dates, **shared)
        if happened and happened[0].lot_id:
            # A lot bought under a reference keeps that reference, not the lot's id, as its payment's name.
            self.ids.setdefault(name, happened[0].lot_id) if not bought else None

    def a_payment(self, data: st.DataObject) -> str:
        known: list[str] = sorted(self.model.payments)
        return data.draw(
            st.sampled_from([*known, self.a_name("pay")]) if known else st.just(self.a_name("pay"))
        )

    @rule(data=st.data(), amount=doubtful_amounts, cost=costs)
    def a_top_up_is_requested(self, data: st.DataObject, amount: int, cost: Any) -> None:
        name = self.a_payment(data)
        command = c.RequestTopUp(
            team_id=TEAM,
            amount_micros=amount,
            payment_reference=self.id_of(name),
            cost_basis=CostBasis(*cost),
        )
        self.both(command, "request_top_up", name, amount, cost)

    @precondition(lambda self: "requested" in [payment["status"] for payment in self.model.payments.values()])
    @rule(data=st.data())
    def a_payment_fails(self, data: st.DataObject) -> None:
        name = self.a_payment(data)
        command = c.FailTopUp(team_id=TEAM, payment_reference=self.id_of(name), failure="declined")
        self.both(command, "fail_top_up", name)

    @precondition(lambda self: self.model.auto.flight)
    @rule(settles=st.booleans())
    def an_automatic_top_up_is_answered(self, settles: bool) -> None:
        name = self.model.auto.flight
        amount, cost = self.model.payments[name]["terms"]
        if settles:
            command: c.Command = c.TopUpCredits(
                team_id=TEAM,
                amount_micros=amount,
                payment_reference=self.id_of(name),
                cost_basis=CostBasis(*cost),
            )
            self.both(command, "top_up", name, amount, cost)
        else:
            command = c.FailTopUp(team_id=TEAM, payment_reference=self.id_of(name), failure="declined")
            self.both(command, "fail_top_up", name)

    @rule(
        enabled=st.sampled_from([True, True, True, False]),
        threshold=doubtful_amounts,
        amount=doubtful_amounts,
        cost=costs,
        requests=st.integers(0, 4),
        window=windows,
        failures_max=st.integers(1, 3),
    )
    def auto_top_up_is_configured(
        self,
        enabled: bool,
        threshold: int,
        amount: int,
        cost: Any,
        requests: int,
        window: Any,
        failures_max: int,
    ) -> None:
        terms: dict[str, Any] = {"window": window, "failures_max": failures_max}
        cap = requests * (cost[0] + cost[2])
        command = c.ConfigureAutoTopUp(
            team_id=TEAM,
            enabled=enabled,
            threshold_micros=max(threshold, 0),
            amount_micros=max(amount, 0),
            cost_basis=CostBasis(*cost),
            money_cap_minor=cap,
            **terms,
        )
        named = {"threshold": max(threshold, 0), "amount": max(amount, 0), "cost": cost, "money_cap": cap}
        self.both(command, "configure_auto", enabled, **named, **terms)

    @precondition(lambda self: "settled" in [payment["status"] for payment in self.model.payments.values()])
    @rule(data=st.data(), becomes=st.sampled_from(["open", "won", "lost"]))
    def a_bank_asks_a_top_up_back(self, data: st.DataObject, becomes: str) -> None:
        settled = [name for name, payment in self.model.payments.items() if payment["status"] == "settled"]
        contested = [name for name in settled if self.model.payments[name].chargeback == "open"]
        name = data.draw(st.sampled_from([*settled, *contested, *contested, self.a_payment(data)]))
        kinds = {"open": c.OpenChargeback, "won": c.WinChargeback, "lost": c.LoseChargeback}
        command = kinds[becomes](team_id=TEAM, payment_reference=self.id_of(name))
        self.both(command, "chargeback", name, becomes)

    @precondition(lambda self: self.model.lots)
    @rule(data=st.data())
    def a_grant_is_voided(self, data: st.DataObject) -> None:
        names = [name for name in self.model.lots if self.lot_id(name)]
        name = data.draw(st.sampled_from(["nothing", *names]))
        command = c.VoidGrant(team_id=TEAM, lot_id=self.lot_id(name) or name)
        self.both(command, "void_grant", name)

    def lot_id(self, name: str) -> str | None:
        return self.ids.get(f"lot {name}")

    @rule(
        direction=st.sampled_from(["raise", "lower"]),
        amount=doubtful_amounts,
        reason=st.sampled_from(["counted wrong", "counted wrong", None]),
        caller=st.sampled_from(CALLERS),
    )
    def the_balance_is_adjusted(
        self, direction: Any, amount: int, reason: str | None, caller: Caller
    ) -> None:
        name = self.a_name("adjust")
        command = c.AdjustBalance(team_id=TEAM, direction=direction, amount_micros=amount, reason=reason)
        happened = self.both(
            command, "adjust", name, direction, amount, reason, caller.principal, caller=caller
        )
        if happened and happened[0].adjustment_id:
            self.ids[name] = happened[0].adjustment_id

    @precondition(lambda self: self.model.proposals)
    @rule(data=st.data(), caller=st.sampled_from(CALLERS))
    def an_adjustment_is_approved(self, data: st.DataObject, caller: Caller) -> None:
        name = data.draw(st.sampled_from(["nothing", *sorted(self.model.proposals)]))
        command = c.ApproveAdjustment(team_id=TEAM, adjustment_id=self.id_of(name))
        self.both(command, "approve", name, caller.principal, caller=caller)

    # --- charges ---

    @rule(
        data=st.data(),
        rid=st.integers(0, 30).map(str),
        units=quantities,
        late=st.one_of(
            st.just(timedelta(0)), moments, st.integers(-4, 200).map(lambda m: timedelta(minutes=m))
        ),
        status=st.sampled_from(["succeeded", "succeeded", "succeeded", "failed", "cancelled"]),
        corrects=st.one_of(st.none(), st.integers(0, 30).map(str)),
        action=st.one_of(actions, actions, actions, st.just("unlisted")),
        project=projects,
        member=members,
    )
    def usage_arrives(
        self,
        data: st.DataObject,
        rid: str,
        units: str,
        late: timedelta,
        status: Any,
        corrects: str | None,
        action: str,
        project: str | None,
        member: str | None,
    ) -> None:
        hold = data.draw(st.one_of(st.none(), self.some_hold()))
        occurred = self.store.now - late
        if hold in self.model.holds and data.draw(st.booleans()):
            held = self.model.holds[hold]
            occurred = aware(
                data.draw(st.sampled_from([held["made"], held["expires"], held.ended or self.now]))
            )
            occurred = min(occurred, self.store.now)
            action, project = held["action"], held["project"]
            if held.quote and data.draw(st.booleans()):
                units = self.model.quotes[held.quote]["meters"]["units"]
        corrects = None if status == "succeeded" or corrects == rid else corrects
        record = UsageRecord(
            team_id=TEAM,
            source=SOURCE,
            id=rid,
            occurred_at=occurred,
            arrived_at=self.store.now,
            action=action,
            status=status,
            meters={"units": units},
            dimensions={},
            project=project,
            member=member,
            hold_id=self.id_of(hold) if hold else None,
            corrects=corrects,
        )
        more: dict[str, Any] = {"status": status, "project": project, "member": member, "hold": hold}
        self.take_record(record, {"corrects": corrects} | more)

    def take_record(self, record: UsageRecord, more: Thing) -> None:
        expected: Thing | str
        occurred = plain(record.occurred_at)
        try:
            expected = self.model.do(
                self.now, "use", record.id, record.action, record.meters, occurred, **more
            )
        except ModelRefusal as refusal:
            expected = str(refusal)
        if not isinstance(expected, str) and expected["outcome"] in ("duplicate", "conflict"):
            on_file = self.kept.index.usage(record.usage_key())
            same = on_file.event.content_digest == record.content_digest()
            assert ("duplicate" if same else "conflict") == expected["outcome"]
            return
        before, events = self.all_state(), len(self.kept.events)
        _, error = refused_or(lambda: self.store.use(record))
        if error is not None:
            assert code_of(error) == expected, f"the product parks it: {error}; the model {expected}"
            assert self.all_state() == before, "I15: a parked record changes nothing"
            return
        assert not isinstance(expected, str), f"the model parks it: {expected}"
        event = self.kept.index.usage(record.usage_key()).event
        outcome = event.waiver if isinstance(event, UsageWaived) else "charged"
        assert outcome == expected["outcome"]
        self.ids[record.id] = record.usage_key()
        self.compare_effects(expected, events)

    @rule(
        data=st.data(),
        share=st.integers(1, 4),
        more=st.integers(0, 30),
        action=st.sampled_from(["image.generate", "video.generate"]),
        late=st.one_of(st.just(timedelta(0)), moments),
    )
    def usage_is_charged(
        self, data: st.DataObject, share: int, more: int, action: str, late: timedelta
    ) -> None:
        hold = data.draw(st.one_of(st.none(), self.some_hold()))
        self.charge(share, more, action, late, hold)

    def charge(self, share: int, more: int, action: str, late: timedelta, hold: str | None = None) -> str:
        """Usage of about a part of what is there, or of more than all of it; the name of its record."""
        self.model.look(self.now)
        occurred, rid = self.store.now - late, self.a_name("u")
        if hold in self.model.holds:
            occurred = max(occurred, aware(self.model.holds[hold]["made"]))
        units = min(self.model.available(action=action) // 1_000_000, 3_000) // share + more
        record = UsageRecord(
            team_id=TEAM,
            source=SOURCE,
            id=rid,
            occurred_at=occurred,
            arrived_at=self.store.now,
            action=action,
            status="succeeded",
            meters={"units": str(units)},
            dimensions={},
            hold_id=self.id_of(hold) if hold else None,
        )
        self.take_record(record, {"hold": hold})
        return rid

    # --- short stories, so that what needs several steps is met often ---

    @rule(
        data=st.data(),
        lots=st.lists(st.tuples(st.integers(1, 90), st.integers(0, 3)), max_size=2),
        charges=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 30)), min_size=1, max_size=3),
        late=st.one_of(st.just(timedelta(0)), moments),
        pause=moments,
        parts=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    )
    def charges_are_given_back(
        self, data: st.DataObject, lots: Any, charges: Any, late: timedelta, pause: timedelta, parts: Any
    ) -> None:
        for bought, days in lots:
            self.a_lot_is_bought(bought * 1_000_000, days)
        names = [self.charge(share, more, "image.generate", late) for share, more in charges]
        self.i12_i19_lots_debt_and_holds_are_the_models()
        if lots and data.draw(st.booleans()):
            self.a_lot_is_bought(lots[0][0] * 1_000_000, 0)
        self.store.now += pause
        for part in parts:
            name = data.draw(st.sampled_from(names))
            charged = self.model.charges.get(name)
            amount = charged and charged["left"] // part
            command = c.RefundCharge(team_id=TEAM, charge_id=self.id_of(name), amount_micros=amount or None)
            self.both(command, "refund", name, amount or None)
            self.i12_i19_lots_debt_and_holds_are_the_models()

    @rule(
        data=st.data(),
        share=st.integers(1, 3),
        lasting=st.integers(60, 86_400),
        pauses=st.tuples(moments, moments),
        ways=st.lists(
            st.sampled_from(["capture", "use", "fail", "release", "extend"]), min_size=1, max_size=3
        ),
        part=st.integers(1, 3),
        extra=st.sampled_from([0, 0, 5_000_000]),
    )
    def a_hold_serves(
        self,
        data: st.DataObject,
        share: int,
        lasting: int,
        pauses: Any,
        ways: Any,
        part: int,
        extra: int,
    ) -> None:
        self.model.look(self.now)
        name, action = self.a_name("hold"), "image.generate"
        amount = self.model.available(action=action) // share or 1
        command = c.PlaceHold(team_id=TEAM, action=action, amount_micros=amount, lasts_seconds=lasting)
        self.place(command, name, None, {"member": None, "project": None, "work": None})
        if name not in self.model.holds:
            return
        for way, pause in zip(ways, (*pauses, timedelta(hours=1)), strict=False):
            self.store.now += pause
            self.model.look(self.now)
            rest = sum(self.model.holds[name]["pins"].values()) // part + extra
            self.serve(way, name, rest, data.draw(st.one_of(st.just(timedelta(0)), moments)), lasting)
            self.i12_i19_lots_debt_and_holds_are_the_models()

    def serve(self, way: str, name: str, amount: int, back: timedelta, lasting: int) -> None:
        hold_id = self.id_of(name)
        if way == "capture":
            charge = self.a_name("capture")
            capture = c.CaptureHold(team_id=TEAM, hold_id=hold_id, amount_micros=amount)
            happened = self.both(capture, "capture_hold", name, charge, amount)
            self.ids[charge] = (happened and happened[0].charge_id) or ""
        elif way == "use":
            self.charge(2, 3, "image.generate", back, name)
        elif way == "fail":
            failed = UsageRecord(
                team_id=TEAM,
                source=SOURCE,
                id=self.a_name("u"),
                occurred_at=self.store.now,
                arrived_at=self.store.now,
                action="image.generate",
                status="failed",
                meters={},
                dimensions={},
                hold_id=hold_id,
            )
            self.take_record(failed, {"hold": name, "status": "failed"})
        elif way == "release":
            self.both(c.ReleaseHold(team_id=TEAM, hold_id=hold_id), "release_hold", name)
        else:
            extend = c.ExtendHold(team_id=TEAM, hold_id=hold_id, lasts_seconds=lasting)
            self.both(extend, "extend_hold", name, lasting)

    @rule(
        bought=st.integers(1, 90),
        days=st.integers(0, 3),
        used=st.booleans(),
        held=st.booleans(),
        pauses=st.tuples(moments, moments, moments),
        ends=st.sampled_from(["won", "lost"]),
        back=st.booleans(),
    )
    def a_bank_takes_a_top_up_back(
        self, bought: int, days: int, used: bool, held: bool, pauses: Any, ends: str, back: bool
    ) -> None:
        self.a_lot_is_bought(bought * 1_000_000, days)
        name, hold, rid = list(self.model.payments)[-1], self.a_name("hold"), None
        if used:
            rid = self.charge(2, 1, "image.generate", timedelta(0))
        if held:
            command = c.PlaceHold(team_id=TEAM, action="image.generate", amount_micros=bought * 300_000)
            self.place(command, hold, None, {"member": None, "project": None, "work": None})
        kinds = {"open": c.OpenChargeback, "won": c.WinChargeback, "lost": c.LoseChargeback}
        for becomes, pause in zip(("open", ends), pauses, strict=False):
            self.store.now += pause
            self.both(
                kinds[becomes](team_id=TEAM, payment_reference=self.id_of(name)), "chargeback", name, becomes
            )
            self.i12_i19_lots_debt_and_holds_are_the_models()
            if rid and back == (becomes == "open"):
                self.store.now += pauses[2]
                refund = c.RefundCharge(team_id=TEAM, charge_id=self.id_of(rid))
                self.both(refund, "refund", rid, None)

    @precondition(lambda self: self.model["period_end"] or self.model.pending)
    @rule(data=st.data(), share=st.integers(2, 3), holds=st.integers(0, 2), late=moments)
    def the_period_turns(self, data: st.DataObject, share: int, holds: int, late: timedelta) -> None:
        end = self.model["period_end"] or self.model.pending[0]
        if end - self.now > timedelta(hours=12):
            self.store.now = aware(end) - data.draw(
                st.sampled_from([timedelta(hours=12), timedelta(minutes=30)])
            )
        for _ in range(holds):
            self.model.look(self.now)
            amount = self.model.available(action="image.generate") // share or 1
            command = c.PlaceHold(
                team_id=TEAM, action="image.generate", amount_micros=amount, lasts_seconds=86_400
            )
            none: Thing = {"member": None, "project": None, "work": None}
            self.place(command, self.a_name("hold"), None, none)
        self.store.now = max(self.store.now, aware(end) + late)
        self.i12_i19_lots_debt_and_holds_are_the_models()
        self.charge(share, 1, "image.generate", late + timedelta(minutes=30))

    def some_charge(self) -> st.SearchStrategy[str]:
        return st.sampled_from(["nothing", *sorted(self.model.charges), *sorted(self.model.charges)])

    @precondition(lambda self: self.model.records)
    @rule(data=st.data(), amount=st.one_of(st.none(), st.none(), doubtful_amounts), part=st.integers(1, 4))
    def a_refund_is_asked(self, data: st.DataObject, amount: int | None, part: int) -> None:
        name = data.draw(st.one_of(self.some_charge(), st.sampled_from(["0", *sorted(self.model.records)])))
        if amount is not None and name in self.model.charges and part > 1:
            amount = max(self.model.charges[name]["amount"] // part, 1)
        charge_id = self.id_of(name) if name in self.ids else usage_key(TEAM, SOURCE, name)
        command = c.RefundCharge(team_id=TEAM, charge_id=charge_id, amount_micros=amount)
        happened = self.both(command, "refund", name, amount)
        assert happened is None or happened[0].amount_micros == happened[1]["amount"]

    @precondition(lambda self: self.model.charges)
    @rule(data=st.data(), evidence=st.one_of(st.text(max_size=4), st.text(min_size=1, max_size=9)))
    def a_dispute_is_opened(self, data: st.DataObject, evidence: str) -> None:
        charges = data.draw(st.lists(self.some_charge(), max_size=3, unique=True))
        name = self.a_name("dispute")
        ids = [self.id_of(charge) for charge in charges]
        command = c.OpenChargeDispute(team_id=TEAM, charge_ids=ids, evidence=evidence)
        happened = self.both(command, "open_dispute", name, charges, evidence)
        if happened:
            self.ids[name] = happened[0].dispute_id or ""

    @precondition(lambda self: self.model.disputes)
    @rule(data=st.data(), how=st.sampled_from(["upheld", "rejected"]))
    def a_dispute_is_decided(self, data: st.DataObject, how: str) -> None:
        name = data.draw(st.sampled_from(["nothing", *sorted(self.model.disputes)]))
        kind = c.UpholdChargeDispute if how == "upheld" else c.RejectChargeDispute
        command = kind(team_id=TEAM, dispute_id=self.id_of(name), reason="because")
        self.both(command, "decide_dispute", name, how)

    # --- holds, quotes, limits ---

    def some_hold(self) -> st.SearchStrategy[str]:
        open_ones = sorted(self.model.open_holds)
        return st.sampled_from(["hold-0", *sorted(self.model.holds), *open_ones, *open_ones])

    @rule(
        data=st.data(),
        action=actions,
        amount=doubtful_amounts,
        lasting=lasts,
        project=projects,
        member=members,
        work=st.sampled_from([None, "w"]),
        again=st.booleans(),
        share=st.integers(0, 4),
    )
    def a_hold_is_asked(
        self,
        data: st.DataObject,
        action: str,
        amount: int | None,
        lasting: int,
        project: str | None,
        member: str | None,
        work: str | None,
        again: bool,
        share: int,
    ) -> None:
        name = self.a_name("hold")
        self.model.look(self.now)
        if share and amount:  # a part of what is there, or a little more than all of it
            available = self.model.available(action=action, project=project)
            amount = available // share + max(amount, 0) * (share == 4) or amount
        quotes = sorted(self.tokens)
        quote = data.draw(st.sampled_from([None, None, *quotes])) if quotes else None
        if quote:
            amount, given = None, self.model.quotes[quote]
            action, project = data.draw(
                st.sampled_from([(given["action"], given["project"])] * 4 + [(action, project)])
            )
        terms: dict[str, Any] = {"member": member, "project": project, "work": work}
        token = self.tokens[quote] if quote else None
        command = c.PlaceHold(
            team_id=TEAM, action=action, amount_micros=amount, quote=token, lasts_seconds=lasting, **terms
        )
        for _ in range(2 if again else 1):  # a denial met again at once is counted, not appended
            self.place(command, name, quote, terms)
            name = self.a_name("hold")

    def place(self, command: c.PlaceHold, name: str, quote: str | None, terms: Thing) -> None:
        version = self.account.version
        more: Thing = {
            "amount": command.amount_micros,
            "quote": quote,
            "lasts": command.lasts_seconds,
        } | terms
        happened = self.both(command, "place_hold", name, command.action, **more)
        if happened is None:
            return
        answer, expected = happened
        assert answer.outcome == expected["outcome"], (answer, expected)
        if answer.outcome == "held":
            self.ids[name] = answer.hold_id or ""
            return
        denial = answer.denial
        assert denial is not None
        told = (denial.rule, denial.limit_id or "", denial.used_micros, denial.held_micros)
        theirs = tuple(expected[x] for x in ("rule", "limit_id", "used", "held"))
        assert told == theirs, f"denied {told}, the model {theirs}"
        assert (denial.limit_micros, denial.requested_micros) == (expected["limit"], expected["requested"])
        assert (denial.version > version) == (not expected["repeated"]), "an equal denial is counted"

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data(), lasting=lasts)
    def a_hold_is_extended(self, data: st.DataObject, lasting: int) -> None:
        name = data.draw(self.some_hold())
        command = c.ExtendHold(team_id=TEAM, hold_id=self.id_of(name), lasts_seconds=lasting)
        self.both(command, "extend_hold", name, lasting)

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data(), amount=doubtful_amounts, part=st.integers(0, 3), back=st.one_of(st.none(), moments))
    def a_hold_is_captured(self, data: st.DataObject, amount: int, part: int, back: timedelta | None) -> None:
        name, charge = data.draw(self.some_hold()), self.a_name("capture")
        if part and name in self.model.holds:
            amount = sum(self.model.holds[name]["pins"].values()) // part
        occurred = None if back is None else self.store.now - back
        if occurred and part and name in self.model.holds:
            occurred = max(occurred, aware(self.model.holds[name]["made"]))
        command = c.CaptureHold(
            team_id=TEAM, hold_id=self.id_of(name), amount_micros=amount, occurred_at=occurred
        )
        happened = self.both(command, "capture_hold", name, charge, amount, plain(occurred))
        if happened:
            self.ids[charge] = happened[0].charge_id or ""

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data())
    def a_hold_is_released(self, data: st.DataObject) -> None:
        name = data.draw(self.some_hold())
        self.both(c.ReleaseHold(team_id=TEAM, hold_id=self.id_of(name)), "release_hold", name)

    @rule(action=actions, units=quantities, project=projects, lasting=st.integers(60, 86_400))
    def a_quote_is_given(self, action: str, units: str, project: str | None, lasting: int) -> None:
        name, meters = self.a_name("quote"), {"units": units}
        expected: Thing | str
        try:
            given = (name, action, meters, timedelta(seconds=lasting), project)
            expected = self.model.do(self.now, "quote", *given)
        except ModelRefusal as refusal:
            expected = str(refusal)
        seen = self.looked_at()
        quote, error = refused_or(
            lambda: quote_usage(
                seen.account,
                self.store.catalogue,
                seen.index,
                self.store.now,
                name,
                action=action,
                meters=meters,
                dimensions={},
                project=project,
                lasts_seconds=lasting,
            )
        )
        if quote is None:
            assert code_of(error) == expected
            return
        assert not isinstance(expected, str), expected
        assert quote.total_micros == expected["amount"]
        self.tokens[name] = sign_quote(quote, KEY)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def a_quote_is_withdrawn(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([self.a_name("other"), *sorted(self.tokens)]))
        self.both(c.WithdrawQuote(team_id=TEAM, quote_id=name), "withdraw_quote", name)

    @rule(
        number=st.integers(0, 3),
        window=windows,
        cap=st.one_of(amounts, st.integers(-1, 1)),
        hard=st.booleans(),
        member=members,
        project=projects,
        action=scopes,
        thresholds=st.lists(st.integers(0, 120), max_size=3).map(sorted),
        keeps=st.booleans(),
    )
    def a_limit_is_set(
        self,
        number: int,
        window: Any,
        cap: int,
        hard: bool,
        member: str | None,
        project: str | None,
        action: str | None,
        thresholds: list[int],
        keeps: bool,
    ) -> None:
        limit: Thing = {"limit_id": f"limit{number}", "window": window, "cap": cap, "hard": hard}
        limit |= {"member": member, "project": project, "action": action, "thresholds": thresholds}
        if keeps and limit["limit_id"] in self.model.limits:
            old = self.model.limits[limit["limit_id"]]
            limit |= {each: old[each] for each in ("window", "member", "project", "action")}
        asked = {key: value for key, value in limit.items() if key != "cap"}
        command = c.SetLimit(team_id=TEAM, limit=LimitTerms(cap_micros=cap, **asked))
        self.both(command, "set_limit", limit)

    @precondition(lambda self: self.model.limits)
    @rule(data=st.data())
    def a_limit_is_removed(self, data: st.DataObject) -> None:
        limit_id = data.draw(st.sampled_from(["limit9", *sorted(self.model.limits)]))
        self.both(c.RemoveLimit(team_id=TEAM, limit_id=limit_id), "remove_limit", limit_id)

    # --- what holds after each step ---

    def looked_at(self) -> Decision:
        """The account as it reads now, nothing kept."""
        decision = Decision(copy_of(self.account), self.store.now, TESTER, IndexOverlay(self.kept.index))
        pass_time(decision)
        return decision

    @invariant()
    def i12_i19_lots_debt_and_holds_are_the_models(self) -> None:
        seen, model = self.looked_at().account, self.model.look(self.now)
        ours = [
            (
                lot.remaining_micros,
                lot.held_micros,
                lot.withheld_since is not None,
                lot.terms.source,
                plain(lot.terms.expires_at),
                plain(lot.terms.effective_at),
                lot.terms.priority,
                lot.terms.action,
                lot.terms.project,
            )
            for lot in seen.lots
        ]
        theirs = [tuple(lot[name] for name in SEEN) for lot in model["lots"]]
        assert ours == theirs, f"{set(ours) - set(theirs)}, the model {set(theirs) - set(ours)}"
        assert seen.debt_micros == model["debt"]
        assert seen.settled_micros == model["settled"]
        for lot, told in zip(seen.lots, model["lots"], strict=True):
            self.ids[f"lot {told['name']}"] = lot.terms.lot_id
        holds = {
            self.id_of(name): (
                hold["expires"],
                {self.lot_id(lot): n for lot, n in hold["pins"].items() if n},
            )
            for name, hold in model.open_holds.items()
        }
        assert holds == {
            hold.hold_id: (
                plain(hold.expires_at),
                {x.lot_id: x.amount_micros for x in hold.lines if x.amount_micros},
            )
            for hold in seen.holds
        }
        due = next_due_at(seen)
        assert due is None or due > self.store.now

    @invariant()
    def i21_limits_plan_and_period_are_the_models(self) -> None:
        decision, model = self.looked_at(), self.model.look(self.now)
        seen = decision.account
        assert seen.status == model["status"]
        plan = model.plan.plan_id and model.plan
        assert (seen.plan and (seen.plan.plan_id, seen.plan.version)) == (
            plan and (plan["plan_id"], plan["version"])
        )
        pending = model["pending"]
        assert (
            seen.pending_plan and (plain(seen.pending_plan.effective_at), seen.pending_plan.plan.plan_id)
        ) == (pending and (pending[0], pending[1]["plan_id"]))
        if seen.plan and seen.status != "closed":
            assert plain(seen.period_end) == model["period_end"]
        if seen.status != "closed":
            books = plain(seen.books_start), plain(seen.books_end)
            assert books[0] is not None
            assert books[1] is not None
            assert self.model.window("period", books[0])[:2] == books
            assert self.now < books[1] + timedelta(hours=24)
        in_flight = seen.auto_top_up.in_flight if seen.auto_top_up else None
        assert in_flight == (model.auto.flight and self.id_of(model.auto.flight))
        assert {limit.terms.limit_id for limit in seen.limits} == set(model["limits"])
        for limit in seen.limits:
            told = model.limits[limit.terms.limit_id]
            began, _, used, _ = self.model.counted(told, self.now)
            start = instant_text(aware(began))
            use = limit.windows.get(start)
            stored = decision.index.entry("window", f"{limit.terms.limit_id} {start}")
            assert limit.terms.cap_micros == told.cap
            if use is not None:
                assert use.used_micros == used, (limit.terms.limit_id, start)
                assert sorted(use.reached) == sorted(n for n, since in told.reached if since == began)
            elif stored is None:
                assert used == 0, (limit.terms, start, told)

    @invariant()
    def i1_i2_i3_i6_i13_i14_i19_i20_i22_the_books_balance(self) -> None:
        for stored in self.kept.events[self.books.version :]:
            self.books.post(stored)
        account = self.account
        assert account.version == self.books.version == len(self.kept.events)
        left = {lot_id: lot["left"] for lot_id, lot in self.books.lots.items() if lot["left"]}
        assert left == {lot.terms.lot_id: lot.remaining_micros for lot in account.lots}
        assert (account.settled_micros, account.debt_micros) == (self.books.settled(), self.books.debt)
        self.books.check_conservation()
        assert not has_float(msgspec.json.decode(msgspec.json.encode(account)))
        refunded = {
            self.id_of(name): charge["amount"] - charge["left"] for name, charge in self.model.charges.items()
        }
        assert {key: n for key, n in refunded.items() if n} == {
            k: n for k, n in self.books.refunded.items() if n
        }

    @invariant()
    def i9_the_fold_of_the_stored_bytes_is_the_head_and_the_index(self) -> None:
        events = [msgspec.json.decode(stored.state, type=TYPES[stored.topic]) for stored in self.kept.events]
        folded, changes = fold(None, events)
        assert folded == self.account
        rebuilt = {(change.kind, change.key): change.entry for change in changes}
        entries = self.kept.index.entries
        kept = {(kind, key): entry for kind in entries for key, entry in entries[kind].items()}
        assert {k: e for k, e in rebuilt.items() if e} == {k: e for k, e in kept.items() if e}

    @invariant()
    def i2_i12_held_is_what_open_holds_set_aside(self) -> None:
        pinned: dict[str, int] = {}
        for hold in self.account.holds:
            for line in hold.lines:
                pinned[line.lot_id] = pinned.get(line.lot_id, 0) + line.amount_micros
        for lot in self.account.lots:
            assert pinned.pop(lot.terms.lot_id, 0) == lot.held_micros
            assert 0 <= lot.held_micros <= lot.remaining_micros
            assert lot.remaining_micros > 0
        assert not any(pinned.values())
        assert self.account.debt_micros >= 0

    @invariant()
    def i27_no_idle_credit_beside_debt(self) -> None:
        seen = self.looked_at().account
        if seen.debt_micros:
            for lot in seen.lots:
                terms = lot.terms
                is_open = terms.effective_at <= self.store.now and (
                    terms.expires_at is None or self.store.now < terms.expires_at
                )
                is_unscoped = terms.action is None and terms.project is None
                assert not (is_open and is_unscoped and lot.free_micros)


AccountMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("COFFER_MACHINE_EXAMPLES", "300")),
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
test_the_account_agrees_with_the_model = AccountMachine.TestCase
