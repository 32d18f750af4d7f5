"""What is due at an instant of the past is booked with the index of that instant, charges included."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from api.moments import Moment, Moments
from domain.account.charging import charge_usage
from domain.account.decision import Decision, account_id, copy_of
from domain.account.due import pass_time
from domain.account.events import LimitTerms, PlanTerms, RecordedEvent
from domain.account.funding import grant_credits
from domain.account.index import IndexOverlay
from domain.account.opening import open_account
from domain.account.planning import assign_plan
from domain.account.state import Limit, TeamAccount
from projections.replay import account_as_of
from tests.builders import TESTER, a_catalogue, a_usage_record, micros, unit_card, when
from tests.memory_store import MemoryLedger

START = when("2026-11-10 09:00")
AFTER_THE_TURN = when("2026-12-01 09:00")
LATER = when("2026-12-20 09:00")

PLAIN = PlanTerms(plan_id="plain", version=1, digest="0" * 64, card_id="standard", allowance_micros=0)
LIMITED = PlanTerms(
    plan_id="limited",
    version=1,
    digest="1" * 64,
    card_id="standard",
    allowance_micros=0,
    limits=[LimitTerms(limit_id="ever", window="lifetime", cap_micros=micros(1_000))],
)


class _Source:
    """One team's stream in the memory store."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger

    def events(self, team_id: str, after: int = 0, until: int | None = None) -> Iterator[RecordedEvent]:
        for stored in self._ledger.teams[team_id].events:
            if after < stored.version and (until is None or stored.version <= until):
                yield RecordedEvent(account_id(team_id), stored.version, stored.event)


def a_story() -> MemoryLedger:
    """7 credits used in November; a plan with a limit that counts for ever follows in December; 2 more used on the 20th."""
    ledger = MemoryLedger(START)

    def decide(at: datetime, rule: Callable[[Decision], object]) -> None:
        team = ledger.teams.get("acme")
        decision = Decision(
            copy_of(team.account) if team else None, at, TESTER, IndexOverlay(team.index) if team else None
        )
        rule(decision)
        ledger.write("acme", decision)
        ledger.now = at

    catalogue = a_catalogue(unit_card())
    decide(START, lambda d: open_account(d, "acme", "UTC", 1, "standard"))
    decide(START, lambda d: grant_credits(d, micros(100)))
    decide(START, lambda d: assign_plan(d, PLAIN, "now"))
    record = a_usage_record("u1", 7, occurred="2026-11-12 09:00")
    decide(when("2026-11-12 09:00"), lambda d: charge_usage(d, record, catalogue))
    decide(when("2026-11-13 09:00"), lambda d: assign_plan(d, LIMITED, "turn"))
    late = a_usage_record("u2", 2, occurred="2026-12-20 09:00")
    decide(LATER, lambda d: charge_usage(d, late, catalogue))
    decide(LATER + timedelta(days=1), pass_time)
    return ledger


def used(account: TeamAccount | None) -> list[int]:
    """What the account's one limit has counted."""
    assert account is not None
    (limit,) = account.limits
    assert isinstance(limit, Limit)
    return [window.used_micros for window in limit.windows.values()]


def test_a_limit_that_a_due_turn_brings_counts_the_charges_of_before_i7() -> None:
    ledger = a_story()

    assert used(account_as_of(_Source(ledger), "acme", AFTER_THE_TURN)) == [micros(7)]
    assert used(account_as_of(_Source(ledger), "acme", LATER)) == [micros(9)]
    assert used(ledger.teams["acme"].account) == [micros(9)]


def test_the_api_tells_the_same_of_the_past_i7() -> None:
    ledger = a_story()

    async def told() -> list[int]:
        moments = Moments(ledger, 1.0)
        standing = await moments.standing("acme", Moment(as_of=AFTER_THE_TURN))
        return await moments.booked(standing, lambda account, _: used(account))

    assert asyncio.run(told()) == [micros(7)]
