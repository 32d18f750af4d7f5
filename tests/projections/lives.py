"""Whole lives of one account in memory, drawn from a seed: every command, usage of every kind, time that passes."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from domain import commands as c
from domain.account.events import ChargebackOpened, CostBasis, CreditsHeld, LimitTerms
from domain.account.state import TeamAccount
from domain.amounts import MICROS_PER_CREDIT
from domain.errors import LedgerError
from tests.builders import AnAccount, a_catalogue, a_plan, unit_card

ACTIONS = ("image.generate", "image.generate", "video.generate")
MEMBERS = ("mira", "noor", None)
PROJECTS = ("film", "poster", None)
PLANS = (
    a_plan("starter", 40, 15),
    a_plan(
        "studio",
        90,
        200,
        overdraft_cap="50",
        captures={"video.generate": "overdraft"},
        limits=[
            {"limit_id": "from-plan", "window": "week", "hard": True, "cap": "60", "thresholds": [50, 100]}
        ],
    ),
)


class Life:
    """Draws what happens next; a command that is refused leaves no trace, as everywhere."""

    def __init__(self, seed: int, make: Callable[..., AnAccount] = AnAccount) -> None:
        self.draw = random.Random(f"life {seed}")
        self.at = datetime(2026, 9, 27, 8, tzinfo=UTC)
        catalogue = a_catalogue(unit_card(), plans=PLANS)
        zone = self.draw.choice(["UTC", "Europe/Berlin", "Australia/Lord_Howe"])
        self.account = make(
            self._text(), catalogue=catalogue, zone=zone, anchor_day=self.draw.choice([1, 15, 31])
        )
        self._number = 0
        self._steps: list[tuple[int, Callable[[], object]]] = [
            (14, self._use),
            (3, self._grant),
            (2, self._buy),
            (6, self._hold),
            (5, self._capture),
            (2, self._release),
            (1, self._extend),
            (3, self._refund),
            (2, self._plan),
            (3, self._limit),
            (1, self._void),
            (2, self._charge_back),
            (2, self._decide_chargeback),
            (2, self._adjust),
            (1, self._dispute),
            (1, self._decide_dispute),
            (1, self._zone),
            (2, lambda: self.account.ticked(self._text())),
        ]

    def live(self, steps: int) -> AnAccount:
        """So many more steps, with hours or days between."""
        for _ in range(steps):
            self.at += timedelta(seconds=self.draw.choice([0, 1, 600, 3_000, 9_000, 40_000, 200_000]))
            self._number += 1
            weights = [weight for weight, _ in self._steps]
            (_, step) = self.draw.choices(self._steps, weights)[0]
            try:
                step()
            except LedgerError:
                continue
        return self.account

    @property
    def _state(self) -> TeamAccount:
        return self.account.account

    def _text(self) -> str:
        return self.at.replace(tzinfo=None).isoformat(sep=" ")

    def _ask(self, command: c.Command) -> None:
        self.account.asked(self._text(), command)

    def _micros(self, most: int = 50) -> int:
        return self.draw.randint(1, most * 4) * MICROS_PER_CREDIT // 4

    def _use(self) -> None:
        late = timedelta(hours=self.draw.choice([0, 0, 0, 1, 20, 60]))
        fields = {
            "action": self.draw.choice(ACTIONS),
            "member": self.draw.choice(MEMBERS),
            "project": self.draw.choice(PROJECTS),
            "status": self.draw.choice(["succeeded"] * 6 + ["failed"]),
            "hold_id": self._some_hold() if self.draw.random() < 0.4 else None,
        }
        if fields["status"] == "failed" and self.draw.random() < 0.5:
            fields["corrects"] = f"r{self.draw.randint(1, self._number + 2)}"
        occurred = (self.at - late).replace(tzinfo=None).isoformat(sep=" ")
        units = self.draw.choice([0, 1, 3, 7, 25])
        self.account.used(f"r{self._number}", units, occurred=occurred, recorded=self._text(), **fields)

    def _grant(self) -> None:
        effective = self.at + timedelta(hours=self.draw.choice([0, 0, 5, 100]))
        ends = self.draw.choice([None, timedelta(hours=3), timedelta(days=2), timedelta(days=30)])
        self._ask(
            c.GrantCredits(
                team_id="acme",
                amount_micros=self._micros(),
                effective_at=effective,
                expires_at=effective + ends if ends else None,
                action=self.draw.choice([None, None, "video.generate"]),
                project=self.draw.choice([None, None, "film"]),
                priority=self.draw.choice([10, 20, 20]),
            )
        )

    def _buy(self) -> None:
        self._ask(
            c.TopUpCredits(
                team_id="acme",
                amount_micros=self._micros(),
                payment_reference=f"pay-{self._number}",
                cost_basis=CostBasis(100, "EUR"),
                expires_at=self.at + timedelta(days=20) if self.draw.random() < 0.4 else None,
            )
        )

    def _hold(self) -> None:
        self._ask(
            c.PlaceHold(
                team_id="acme",
                action=self.draw.choice(ACTIONS),
                member=self.draw.choice(MEMBERS),
                project=self.draw.choice(PROJECTS),
                amount_micros=self._micros(20),
                lasts_seconds=self.draw.choice([60, 3_600, 80_000]),
            )
        )

    def _some_hold(self) -> str | None:
        made = [event.hold_id for event in self.account.events_of(CreditsHeld)]
        open_ = [hold.hold_id for hold in self._state.holds]
        pool = open_ if open_ and self.draw.random() < 0.7 else made
        return self.draw.choice(pool) if pool else None

    def _capture(self) -> None:
        hold_id = self._some_hold()
        if hold_id:
            self._ask(c.CaptureHold(team_id="acme", hold_id=hold_id, amount_micros=self._micros(12)))

    def _release(self) -> None:
        hold_id = self._some_hold()
        if hold_id:
            self._ask(c.ReleaseHold(team_id="acme", hold_id=hold_id))

    def _extend(self) -> None:
        hold_id = self._some_hold()
        if hold_id:
            self._ask(c.ExtendHold(team_id="acme", hold_id=hold_id, lasts_seconds=7_000))

    def _charges(self) -> list[str]:
        kinds = ("CreditsCharged", "HoldCaptured")
        return [e.charge_id for e in self.account.events if type(e).__name__ in kinds]  # type: ignore[attr-defined]

    def _refund(self) -> None:
        charges = self._charges()
        if charges:
            amount = self.draw.choice([None, MICROS_PER_CREDIT])
            self._ask(
                c.RefundCharge(team_id="acme", charge_id=self.draw.choice(charges), amount_micros=amount)
            )

    def _plan(self) -> None:
        plan = self.draw.choice(["starter", "studio"])
        self._ask(c.AssignPlan(team_id="acme", plan_id=plan, takes_effect=self.draw.choice(["now", "turn"])))

    def _limit(self) -> None:
        limit_id = self.draw.choice(["daily", "mira's", "ever"])
        if self.draw.random() < 0.15:
            self._ask(c.RemoveLimit(team_id="acme", limit_id=limit_id))
            return
        window, member = {"daily": ("day", None), "mira's": ("week", "mira"), "ever": ("lifetime", None)}[
            limit_id
        ]
        terms = LimitTerms(
            limit_id=limit_id,
            window=window,  # type: ignore[arg-type]
            member=member,
            cap_micros=self._micros(60 if limit_id != "ever" else 400),
            hard=self.draw.random() < 0.8,
            thresholds=[50, 80, 100],
        )
        self._ask(c.SetLimit(team_id="acme", limit=terms))

    def _void(self) -> None:
        granted = [lot.terms.lot_id for lot in self._state.lots if lot.terms.source == "promotional"]
        if granted:
            self._ask(c.VoidGrant(team_id="acme", lot_id=self.draw.choice(granted)))

    def _charge_back(self) -> None:
        number = self.draw.randint(1, self._number)
        self._ask(c.OpenChargeback(team_id="acme", payment_reference=f"pay-{number}"))

    def _decide_chargeback(self) -> None:
        opened = [event.payment_reference for event in self.account.events_of(ChargebackOpened)]
        if opened:
            decided = self.draw.choice([c.WinChargeback, c.LoseChargeback])
            self._ask(decided(team_id="acme", payment_reference=self.draw.choice(opened)))

    def _adjust(self) -> None:
        direction = self.draw.choice(["raise", "lower"])
        self._ask(
            c.AdjustBalance(
                team_id="acme",
                direction=direction,  # type: ignore[arg-type]
                amount_micros=self._micros(8),
                reason="counted again",
            )
        )

    def _dispute(self) -> None:
        charges = self._charges()
        if charges:
            chosen = sorted({self.draw.choice(charges) for _ in range(2)})
            self._ask(c.OpenChargeDispute(team_id="acme", charge_ids=chosen, evidence="never delivered"))

    def _decide_dispute(self) -> None:
        if self._state.disputes:
            dispute_id = self.draw.choice(sorted(self._state.disputes))
            decided = self.draw.choice([c.UpholdChargeDispute, c.RejectChargeDispute])
            self._ask(decided(team_id="acme", dispute_id=dispute_id, reason="looked into"))

    def _zone(self) -> None:
        zone = self.draw.choice(["UTC", "Europe/Berlin", "America/New_York"])
        self._ask(c.ScheduleZoneChange(team_id="acme", zone=zone))


def a_life(seed: int, steps: int = 150, make: Callable[..., AnAccount] = AnAccount) -> AnAccount:
    """The account after so many steps, made by ``make``."""
    return Life(seed, make).live(steps)
