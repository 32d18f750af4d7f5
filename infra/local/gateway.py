"""Four teams whose own gateways work live, beside the made-up day: holds before work, usage that names them after it.

The teams ask the ledger itself for holds and send what was used to the stream, as a team's gateway would: nothing is done
when a hold is denied. Every command has a key and every record an id made of the day, so streaming a day again asks for
nothing and charges nothing a second time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from consumers.usage_encoding import encode_usage
from domain.account.events import CostBasis, LimitTerms
from domain.amounts import MICROS_PER_CREDIT
from domain.commands import (
    AssignPlan,
    Command,
    ConfigureAutoTopUp,
    OpenAccount,
    PlaceHold,
    SetLimit,
    TopUpCredits,
)
from domain.ledger import Caller, Ledger
from domain.usage import OutcomeKind, UsageRecord, UsageStatus
from infra.local.producing import Sent
from infra.local.streams import CARD_ID

STUDIO, WON, LOST, STOPPED = "gateway-aurora", "gateway-boreal", "gateway-cirrus", "gateway-dune"
TEAMS = (STUDIO, WON, LOST, STOPPED)

OPERATOR = Caller("local-stack", "operator")
GATEWAY = Caller("demo-gateway", "ingest")
SOURCE = "urn:coffer:demo:gateway"
HOLD_SECONDS = 300
ACTION = "image.generate"
DIMENSIONS = {"model": "flux-2-pro", "loras": "0"}
PROVIDER_ARGUMENTS = (
    *("--fail-team", STOPPED),
    *("--chargeback", f"{WON}=won"),
    *("--chargeback", f"{LOST}=lost"),
)
"""How the demo's payment provider treats these teams."""

BASIS = CostBasis(2_000, "EUR", 380)
"""What 100 credits cost, tax apart."""

_TRAINEE = LimitTerms(
    limit_id="trainee-day",
    window="day",
    cap_micros=10 * MICROS_PER_CREDIT,
    member="trainee",
    thresholds=[50, 80, 100],
)


class Task(NamedTuple):
    """A piece of work: ``images`` of 30 steps, of which a credit each is held first; ``used`` images come of it.

    ``holds`` False: it runs without a hold. ``is_denied``: what is expected of its hold in a ledger new to the session.
    """

    team_id: str
    member: str
    images: int
    used: int
    status: UsageStatus = "succeeded"
    holds: bool = True
    is_denied: bool = False


def tasks() -> list[Task]:
    """All work of a session, in order."""
    studio = [
        Task(STUDIO, "kim", 4, 4),
        Task(STUDIO, "kim", 4, 4),
        Task(STUDIO, "kim", 6, 4),
        Task(STUDIO, "noa", 8, 0, "failed"),
        Task(STUDIO, "noa", 8, 8),
        Task(STUDIO, "noa", 2, 0, "cancelled"),
        *[Task(STUDIO, "trainee", 4, 4)] * 2,
        # Beyond the trainee's ten credits a day; and what nobody could pay.
        *[Task(STUDIO, "trainee", 4, 4, is_denied=True)] * 3,
        Task(STUDIO, "kim", 100_000, 100_000, is_denied=True),
    ]
    low = [Task(team, "sam", 4, 4) for team in (WON, LOST, STOPPED) for _ in range(4)]
    # So much that bought credits are drawn: when the bank takes them back, what was drawn becomes debt.
    return [*studio, *low, Task(LOST, "sam", 80, 80, holds=False)]


def expected_outcomes() -> list[tuple[str, str]]:
    """What becomes of the records of a session in a ledger that has not seen them: outcome and reason of each."""
    return [
        ("charged", "") if task.status == "succeeded" else ("waived", "failed")
        for task in tasks()
        if not task.is_denied
    ]


class GatewaySession:
    """One session of the day called ``name``."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        self._ledger = ledger
        self._name = name
        self._worked_at: datetime | None = None
        self.denied = 0
        """How many holds were denied."""

    def open(self) -> None:
        """The teams have their accounts, a plan, a limit, credits and automatic top-up, once for ever."""
        for team_id in TEAMS:
            self._set_up(OpenAccount(team_id=team_id, zone="Europe/Berlin", card_id=CARD_ID), "open")
        self._set_up(AssignPlan(team_id=STUDIO, plan_id="studio"), "plan")
        self._set_up(SetLimit(team_id=STUDIO, limit=_TRAINEE), "limit")
        for team_id in (WON, LOST, STOPPED):
            self._set_up(
                TopUpCredits(
                    team_id=team_id,
                    amount_micros=30 * MICROS_PER_CREDIT,
                    payment_reference="first-top-up",
                    cost_basis=CostBasis(600, "EUR", 114),
                ),
                "top-up",
            )
            self._set_up(_auto_top_up(team_id), "auto-top-up")

    def records(self) -> Iterator[Sent]:
        """The usage of all work that was done, each after its hold was made."""
        for number, task in enumerate(tasks()):
            sent = self._work(number, task)
            if sent is not None:
                yield sent

    def _set_up(self, command: Command, what: str) -> None:
        self._ledger.execute(command, OPERATOR, f"gateway-set-up-{what}")

    def _work(self, number: int, task: Task) -> Sent | None:
        """The record of the work; None where it was not done because its hold was denied."""
        hold_id: str | None = None
        if task.holds:
            answer = self._ledger.execute(self._hold(number, task), GATEWAY, f"{self._name}-{number}")
            if answer.outcome == "denied":
                self.denied += 1
                return None
            hold_id, self._worked_at = answer.hold_id, answer.recorded_at + timedelta(milliseconds=1)
        assert self._worked_at is not None, "the first work of a session holds"
        usage = UsageRecord(
            team_id=task.team_id,
            source=SOURCE,
            id=f"{self._name}/{number:03d}",
            occurred_at=self._worked_at,
            arrived_at=self._worked_at,
            action=ACTION,
            status=task.status,
            meters=_meters(task.used),
            dimensions=DIMENSIONS,
            member=task.member,
            project="live",
            work=f"live-{number:03d}",
            step="draft-1",
            hold_id=hold_id,
        )
        encoded = encode_usage(usage)
        outcome: OutcomeKind = "charged" if task.status == "succeeded" else "waived"
        reason = "" if task.status == "succeeded" else "failed"
        return Sent(encoded.key, encoded.value, encoded.headers, outcome, reason, usage)

    def _hold(self, number: int, task: Task) -> PlaceHold:
        return PlaceHold(
            team_id=task.team_id,
            action=ACTION,
            amount_micros=task.images * MICROS_PER_CREDIT,
            lasts_seconds=HOLD_SECONDS,
            member=task.member,
            project="live",
            work=f"live-{number:03d}",
            step="draft-1",
        )


def _meters(images: int) -> dict[str, str]:
    """An image of 30 steps costs one credit on the demo card."""
    return {"images": str(images), "steps": "30"}


def _auto_top_up(team_id: str) -> ConfigureAutoTopUp:
    return ConfigureAutoTopUp(
        team_id=team_id,
        enabled=True,
        threshold_micros=20 * MICROS_PER_CREDIT,
        amount_micros=100 * MICROS_PER_CREDIT,
        cost_basis=BASIS,
        money_cap_minor=10_000,
        failures_max=1,
    )
