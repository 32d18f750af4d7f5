"""Limits beyond the worked cases: scopes, edits, refunds, late usage, limits of plans."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.account.events import CreditsCharged, LimitSet, LimitTerms
from domain.commands import RemoveLimit, ScheduleZoneChange, SetLimit
from domain.errors import LimitTermsRefused, Malformed, UnknownLimit
from tests.builders import AnAccount, a_catalogue, a_plan, micros, unit_card, when

NOON = "2026-11-10 12:00"


def limited(team: AnAccount, limit_id: str, cap: int, at: str = "2026-11-01 00:00", **terms: Any) -> None:
    """The team has the limit from that instant; a day's, unless said."""
    limit = LimitTerms(limit_id=limit_id, cap_micros=micros(cap), **({"window": "day"} | terms))
    team.asked(at, SetLimit(team_id="acme", limit=limit))


def a_team() -> AnAccount:
    team = AnAccount()
    team.bought("A", 10_000, "2026-11-01 00:00")
    return team


def test_a_limit_counts_what_its_scope_says_and_nothing_else() -> None:
    team = a_team()
    scopes: dict[str, dict[str, str]] = {
        "team": {},
        "mira": {"member": "mira"},
        "p1": {"project": "p1"},
        "video": {"action": "video.generate"},
        "mira in p1": {"member": "mira", "project": "p1"},
    }
    for limit_id, scope in scopes.items():
        limited(team, limit_id, 1_000, **scope)

    team.used("1", 1, occurred=NOON, member="mira", project="p1")
    team.used("2", 10, occurred=NOON, member="mira", action="video.generate")
    team.used("3", 100, occurred=NOON, member="ada", project="p1")

    used = {limit_id: team.window(limit_id, NOON) for limit_id in scopes}
    assert used == {"team": "111", "mira": "11", "p1": "101", "video": "10", "mira in p1": "1"}


def test_usage_is_charged_beyond_a_hard_limit_and_says_which() -> None:
    team = a_team()
    limited(team, "hard", 100)
    limited(team, "soft", 50, hard=False)

    charge = team.used("u", 150, occurred=NOON)

    assert isinstance(charge, CreditsCharged)
    assert (charge.amount_micros, charge.limits_passed) == (micros(150), ["hard"])


SCOPES: list[dict[str, str]] = [
    {},
    {"member": "mira"},
    {"member": "ada"},
    {"action": "image.generate"},
    {"action": "video.generate"},
    {"member": "mira", "action": "image.generate"},
]


@settings(max_examples=80, deadline=None)
@given(
    limits=st.lists(
        st.tuples(st.sampled_from(SCOPES), st.sampled_from(["hour", "day"]), st.integers(1, 60)), max_size=5
    ),
    uses=st.lists(
        st.tuples(
            # Around midnight, so around the edges of hours and days.
            st.sampled_from([-61, -60, -1, 0, 1, 59, 60]),
            st.integers(1, 20),
            st.sampled_from(["mira", "ada"]),
            st.sampled_from(["image.generate", "video.generate"]),
        ),
        max_size=6,
    ),
    asked=st.integers(1, 60),
    minutes=st.sampled_from([60, 61, 119]),
)
def test_h6_of_all_limits_that_count_a_request_the_tightest_decides_and_is_named_with_its_window(
    limits: list[tuple[dict[str, str], str, int]],
    uses: list[tuple[int, int, str, str]],
    asked: int,
    minutes: int,
) -> None:
    midnight = when("2026-11-10 00:00")
    team = AnAccount()
    team.bought("A", 150, "2026-11-01 00:00")
    for n, (scope, window, cap) in enumerate(limits):
        limited(team, f"limit-{n}", cap, window=window, **scope)
    for n, (offset, units, member, action) in enumerate(uses):
        occurred = midnight + timedelta(minutes=offset)
        team.used(f"u{n}", units, occurred=f"{occurred:%Y-%m-%d %H:%M}", member=member, action=action)
    now = midnight + timedelta(minutes=minutes)

    # What the rules leave, counted from the uses alone: credit first, then each limit by its id.
    rooms: list[tuple[int, str, datetime | None]] = [(150 - sum(use[1] for use in uses), "", None)]
    for n, (scope, window, cap) in enumerate(limits):
        start = midnight if window == "day" else now.replace(minute=0)
        used = sum(
            units
            for offset, units, member, action in uses
            if start <= midnight + timedelta(minutes=offset)
            and scope.get("member", member) == member
            and scope.get("action", action) == action
        )
        if scope.get("member", "mira") == "mira" and scope.get("action") != "video.generate":
            rooms.append((cap - used, f"limit-{n}", start))
    room, limit_id, window_start = min(rooms, key=lambda each: each[:2])

    text = f"{now:%Y-%m-%d %H:%M}"
    if asked <= room:
        assert team.held(asked, text)
        return
    denial = team.denied(asked, text)
    assert (denial.limit_id or "", denial.window_start) == (limit_id, window_start)
    assert denial.limit_micros - denial.used_micros == room * micros(1)


def test_a_limit_set_within_a_window_counts_that_window_from_its_start() -> None:
    team = a_team()
    team.used("yesterday", 5, occurred="2026-11-09 12:00")
    team.used("today", 70, occurred="2026-11-10 09:00")
    team.refunded("today", 10, "2026-11-10 10:00")

    limited(team, "day", 100, at=NOON)

    [limit_set] = team.events_of(LimitSet)
    assert (limit_set.used_micros, limit_set.window_start) == (micros(60), when("2026-11-10 00:00"))
    assert team.denied(41, NOON).used_micros == micros(60)


def test_editing_a_limit_never_resets_what_was_used() -> None:
    team = a_team()
    limited(team, "day", 100, thresholds=[50])
    team.used("u", 60, occurred=NOON)

    limited(team, "day", 200, at=NOON, thresholds=[25, 50])

    assert team.window("day", NOON) == "60"
    team.used("v", 50, occurred=NOON)
    reached = [event.threshold_percent for event in team.events if hasattr(event, "threshold_percent")]
    assert reached == [50, 25]


def test_a_limit_keeps_its_scope_and_window_for_life() -> None:
    team = a_team()
    limited(team, "day", 100)

    with pytest.raises(LimitTermsRefused, match="keeps"):
        limited(team, "day", 100, at=NOON, window="hour")
    with pytest.raises(LimitTermsRefused, match="keeps"):
        limited(team, "day", 100, at=NOON, member="mira")


def test_a_limit_that_is_taken_away_and_set_again_counts_from_history() -> None:
    team = a_team()
    limited(team, "day", 100)
    team.used("u", 60, occurred=NOON)
    team.asked(NOON, RemoveLimit(team_id="acme", limit_id="day"))
    team.used("v", 15, occurred=NOON)

    limited(team, "day", 100, at="2026-11-10 13:00")

    assert team.window("day", NOON) == "75"
    with pytest.raises(UnknownLimit):
        team.asked(NOON, RemoveLimit(team_id="acme", limit_id="never"))


def test_late_usage_counts_in_its_own_window_and_never_before_the_limit() -> None:
    team = a_team()
    limited(team, "day", 100, at="2026-11-05 12:00")
    for day in range(5, 11):
        team.used(f"u{day}", day, occurred=f"2026-11-{day:02} 15:00")

    team.used("late", 1, occurred="2026-11-06 15:00", recorded=NOON)
    team.used("before", 50, occurred="2026-11-04 15:00", recorded=NOON)

    assert team.window("day", "2026-11-06 00:00") == "7"
    assert team.window("day", "2026-11-04 00:00") == "0"
    assert team.window("day", "2026-11-10 00:00") == "10"


def test_windows_follow_the_teams_zone_and_its_change_at_the_turn() -> None:
    team = AnAccount(zone="America/New_York")
    team.bought("A", 1_000, "2026-11-01 00:00")
    limited(team, "day", 100, at="2026-11-01 12:00")
    team.asked("2026-11-10 00:00", ScheduleZoneChange(team_id="acme", zone="Asia/Kathmandu"))

    team.used("old", 10, occurred="2026-11-20 04:30")
    team.used("new", 20, occurred="2026-12-10 18:30")

    # New York's 19 November ends at 05:00Z; Kathmandu's 11 December begins at 18:15Z of the 10th.
    assert team.window("day", "2026-11-19 12:00") == "10"
    assert team.window("day", "2026-12-11 12:00") == "20"
    assert team.window("day", "2026-12-10 12:00") == "0"


def test_the_limits_of_a_plan_come_and_go_with_it() -> None:
    limit = {"limit_id": "plan-day", "window": "day", "cap": "50", "hard": True}
    plans = [a_plan("small", 100, limits=[limit]), a_plan("large", 200)]
    team = AnAccount(catalogue=a_catalogue(unit_card(), plans=plans))
    team.planned("small", "2026-11-01 00:00")
    limited(team, "own", 70)
    assert team.denied(60, NOON).limit_id == "plan-day"

    team.planned("large", NOON)

    assert [each.terms.limit_id for each in team.account.limits] == ["own"]


@pytest.mark.parametrize("thresholds", [[80, 50], [50, 50], [0], [1_001]])
def test_thresholds_rise_from_one_to_a_thousand_percent(thresholds: list[int]) -> None:
    with pytest.raises(LimitTermsRefused, match="thresholds"):
        limited(a_team(), "day", 100, thresholds=thresholds)


def test_a_cap_is_not_negative() -> None:
    with pytest.raises(Malformed, match="cap"):
        a_team().asked(
            NOON, SetLimit(team_id="acme", limit=LimitTerms(limit_id="x", window="day", cap_micros=-1))
        )
