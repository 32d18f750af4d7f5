"""Spending by day: in the team's zone, refunds on the day of their charge, and sums that agree with the account."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from domain.account.events import ChargeRefunded, CreditsCharged, HoldCaptured, UsageWaived
from domain.amounts import format_credits
from domain.commands import ScheduleZoneChange
from projections.spending import SpendingRow, spending_of
from tests.builders import AnAccount
from tests.projections.lives import a_life


def spent(team: AnAccount) -> list[SpendingRow]:
    return spending_of(enumerate(team.events, start=1), 3, "acme")


def told(rows: list[SpendingRow], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(getattr(row, name) for name in names) for row in rows]


def test_a_use_counts_on_the_day_that_the_teams_clocks_show() -> None:
    team = AnAccount("2026-11-01 00:00", zone="Asia/Tokyo")
    team.used("1", 2, occurred="2026-11-03 14:59")
    team.used("2", 3, occurred="2026-11-03 15:00", project="film", work="w1")

    assert told(spent(team), "day", "action", "member", "project", "work", "uses", "charged_micros") == [
        (date(2026, 11, 3), "image.generate", "mira", "", "", 1, 2_000_000),
        (date(2026, 11, 4), "image.generate", "mira", "film", "w1", 1, 3_000_000),
    ]


def test_a_refund_counts_on_the_day_of_its_charge_in_a_column_of_its_own() -> None:
    team = AnAccount()
    team.used("1", 5, occurred="2026-11-02 12:00")
    team.used("2", 7, occurred="2026-11-20 12:00")
    team.refunded("1", 2, "2026-11-20 13:00")

    rows = spent(team)

    assert [
        (row.day.day, format_credits(row.charged_micros), format_credits(row.refunded_micros)) for row in rows
    ] == [
        (2, "5", "2"),
        (20, "7", "0"),
    ]
    assert format_credits(rows[0].net_micros) == "3"


def test_failed_work_is_counted_and_costs_nothing() -> None:
    team = AnAccount()
    team.used("1", 5, occurred="2026-11-02 12:00", status="failed")

    assert told(spent(team), "uses", "waived", "charged_micros") == [(0, 1, 0)]


def test_a_change_of_zone_counts_from_its_turn_and_only_for_what_was_recorded_after_it_was_known() -> None:
    team = AnAccount("2026-11-01 00:00", zone="UTC")
    team.asked("2026-11-10 00:00", ScheduleZoneChange(team_id="acme", zone="Asia/Tokyo"))
    team.used("1", 1, occurred="2026-11-20 20:00")
    team.used("2", 1, occurred="2026-12-02 20:00")

    assert told(spent(team), "day") == [(date(2026, 11, 20),), (date(2026, 12, 3),)]


@pytest.mark.parametrize("seed", range(12))
def test_i7_the_sums_of_all_days_are_those_of_the_accounts_events(seed: int) -> None:
    team = a_life(seed, 150)
    rows = spent(team)

    charged = [*team.events_of(CreditsCharged), *team.events_of(HoldCaptured)]
    assert sum(row.charged_micros for row in rows) == sum(event.amount_micros for event in charged)
    assert sum(row.uses for row in rows) == len(charged)
    assert sum(row.refunded_micros for row in rows) == sum(
        event.amount_micros for event in team.events_of(ChargeRefunded)
    )
    assert sum(row.waived for row in rows) == len(team.events_of(UsageWaived))
    assert all(row.net_micros >= 0 for row in rows)
