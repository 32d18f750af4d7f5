"""The state stays small: after 100 000 events on one team its head is as small, and a decision as fast as near its start."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random
from statistics import median
from time import perf_counter

import msgspec
import pytest

from domain.account.charging import charge_usage
from domain.account.decision import Decision, copy_of
from domain.account.due import pass_time
from domain.account.events import CostBasis, LimitTerms
from domain.account.funding import AskedLot, grant_credits, top_up_credits
from domain.account.holding import Denied, Use, capture_hold, extend_hold, place_hold, release_hold
from domain.account.index import IndexOverlay
from domain.account.limit_terms import set_limit
from domain.account.opening import open_account
from domain.account.planning import assign_plan
from domain.account.refunding import refund_charge
from domain.account.state import TeamAccount
from domain.catalogue import Catalogue
from domain.usage import UsageRecord
from tests.builders import SOURCE, TESTER, a_catalogue, unit_card, when

EVENTS = 100_000
EARLY = 100
HEAD_BYTES_MAX = 16 * 1024
CREDIT = 1_000_000
ACTIONS = ["image.generate", "video.generate"]
MEMBERS = ["mira", "noor", "teo"]
CARD = unit_card(
    rates=[
        {"action": "image.generate", "terms": [{"model": "unit", "meters": ["units"], "price": "1"}]},
        {
            "action": "video.generate",
            "terms": [
                {
                    "model": "graduated",
                    "meters": ["units"],
                    "tiers": [{"up_to": "100", "price": "1"}, {"price": "0.5"}],
                }
            ],
        },
    ]
)
PLAN = {
    "plan_id": "busy",
    "card_id": "standard",
    "allowance": "500",
    "rollover_cap": "200",
    "price": {"price_minor": 9_900, "currency": "EUR"},
    "captures": {"image.generate": "overdraft"},
    "overdraft_cap": "50",
    "limits": [
        {"limit_id": "day", "window": "day", "cap": "900", "hard": True, "thresholds": [50, 80, 100]},
        {"limit_id": "video", "window": "hour", "cap": "90", "hard": False, "action": "video.generate"},
    ],
}


class BusyTeam:
    """One team that does everything, all day, for years."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.rng, self.catalogue, self.index = Random(7), catalogue, IndexOverlay()
        self.at, self.used, self.bought, self.steps = when("2026-03-01 00:00"), 0, 0, 0
        self.charges: list[str] = []
        opening = Decision(None, self.at, TESTER, self.index)
        open_account(opening, "acme", "Europe/Berlin", 31)
        self.account: TeamAccount = opening.account
        plan = catalogue.plan("busy")
        assert plan is not None
        assign_plan(self.decision(), plan, "now")
        for member in MEMBERS:
            terms = LimitTerms(limit_id=member, window="week", cap_micros=2_000 * CREDIT, member=member)
            set_limit(self.decision(), terms)

    def decision(self) -> Decision:
        """A decision now, in place, once time has passed."""
        decision = Decision(self.account, self.at, TESTER, self.index)
        pass_time(decision)
        return decision

    def record(self, record_id: str, at: datetime, hold_id: str | None = None) -> UsageRecord:
        """A use of a few units, a little late."""
        return UsageRecord(
            team_id="acme",
            source=SOURCE,
            id=record_id,
            occurred_at=at - timedelta(seconds=self.rng.choice([0, 5, 3_000])),
            arrived_at=at,
            action=self.rng.choice(ACTIONS),
            status="succeeded" if self.rng.random() < 0.97 else "failed",
            meters={"units": str(self.rng.randint(1, 9))},
            dimensions={},
            member=self.rng.choice(MEMBERS),
            project="atlas",
            hold_id=hold_id,
        )

    def work(self) -> None:
        """One thing more, twenty minutes later."""
        self.at += timedelta(minutes=self.rng.randint(1, 40))
        self.steps += 1
        dice = self.rng.random()
        if self.account.settled_micros < 60 * CREDIT:
            self.buy()
        elif dice < 0.35:
            self.hold()
        elif dice < 0.38 and self.charges:
            charge_id = self.charges.pop(self.rng.randrange(len(self.charges)))
            refund_charge(self.decision(), charge_id, None, f"refund {charge_id}")
        elif dice < 0.383:
            cap = self.rng.choice([500, 1_000, 2_000]) * CREDIT
            terms = LimitTerms(limit_id="mira", window="week", cap_micros=cap, member="mira")
            set_limit(self.decision(), terms)
        else:
            self.use()

    def use(self, hold_id: str | None = None) -> None:
        """A record arrives."""
        self.used += 1
        record = self.record(f"r{self.used}", self.at, hold_id)
        charge_usage(self.decision(), record, self.catalogue)
        if record.status == "succeeded":
            self.charges = [*self.charges[-20:], record.usage_key()]

    def buy(self) -> None:
        """Credits for the next while, some of which expire."""
        self.bought += 1
        expires_at = self.at + timedelta(days=20) if self.bought % 3 == 0 else None
        asked = AskedLot(expires_at=expires_at)
        if self.bought % 5 == 0:
            grant_credits(self.decision(), 40 * CREDIT, "promotional", asked)
            return
        basis = CostBasis(1_900, "EUR", 361)
        reference = f"pay-{self.bought}"
        top_up_credits(
            self.decision(), 150 * CREDIT, payment_reference=reference, cost_basis=basis, asked=asked
        )

    def hold(self) -> None:
        """Credits are set aside and captured, used, released, or left to expire."""
        amount = self.rng.choice([2, 5, 10, 10_000]) * CREDIT
        use = Use(self.rng.choice(ACTIONS), self.rng.choice(MEMBERS), "atlas")
        held = place_hold(self.decision(), amount, use, self.rng.choice([600, 3_600, 20_000]))
        if isinstance(held, Denied):
            return
        self.at += timedelta(seconds=300)
        dice = self.rng.random()
        if dice < 0.3:
            self.use(held)
        elif dice < 0.6:
            capture_hold(self.decision(), held, amount // 2, None, f"{self.steps:032x}")
        elif dice < 0.8:
            extend_hold(self.decision(), held, 7_200)
        if dice < 0.7 and any(hold.hold_id == held for hold in self.account.holds):
            release_hold(self.decision(), held)

    def median_micros(self, tries: int = 400) -> float:
        """The median time of deciding a charge as the ledger does it, on a copy of the head; nothing of it stays."""
        seconds = []
        for number in range(tries):
            record = self.record(f"tried {number}", self.at)
            began = perf_counter()
            decision = Decision(copy_of(self.account), self.at, TESTER, IndexOverlay(self.index))
            charge_usage(decision, record, self.catalogue)
            seconds.append(perf_counter() - began)
        return median(seconds) * 1e6


def test_i24_after_100_000_events_the_head_is_small_and_a_decision_as_fast(
    capsys: pytest.CaptureFixture[str],
) -> None:
    catalogue = a_catalogue(CARD, plans=[PLAN])
    team = BusyTeam(catalogue)
    while team.account.version < EARLY:
        team.work()
    early, small = team.median_micros(), len(msgspec.json.encode(team.account))

    largest = 0
    while team.account.version < EVENTS:
        team.work()
        if team.steps % 500 == 0:
            largest = max(largest, len(msgspec.json.encode(team.account)))
    late, size = team.median_micros(), len(msgspec.json.encode(team.account))

    with capsys.disabled():
        print(
            f"\nhead: {small:,} bytes at {EARLY} events, {size:,} at {EVENTS:,} (never more than {max(largest, size):,}); "
            f"a decision: {early:.0f} and {late:.0f} microseconds, ratio {late / early:.2f}"
        )
    assert max(largest, size) < HEAD_BYTES_MAX
